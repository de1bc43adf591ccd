"""PixArt-α: T5 in two files with its SentencePiece tokenizer, and a transformer under diffusers' class of then."""

import re
from pathlib import Path

import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel

from official import parts

TRANSFORMER = {
    "activation_fn": "gelu-approximate", "attention_bias": True, "attention_head_dim": 8, "attention_type": "default",
    "caption_channels": 16, "cross_attention_dim": 16, "dropout": 0.0, "in_channels": 4,
    "norm_elementwise_affine": False, "norm_eps": 1e-06, "norm_num_groups": 32, "norm_type": "ada_norm_single",
    "num_attention_heads": 2, "num_embeds_ada_norm": 1000, "num_layers": 2, "out_channels": 8, "patch_size": 2,
    "sample_size": 8, "upcast_attention": False,
}  # fmt: skip
OF_THEN = dict.fromkeys(("double_self_attention", "only_cross_attention", "use_linear_projection"), False)
SCHEDULER = {
    "_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.22.0.dev0", "algorithm_type": "dpmsolver++",
    "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001, "dynamic_thresholding_ratio": 0.995,
    "euler_at_final": False, "lambda_min_clipped": float("-inf"), "lower_order_final": True,
    "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0, "solver_order": 2,
    "solver_type": "midpoint", "steps_offset": 0, "thresholding": False, "timestep_spacing": "linspace",
    "trained_betas": None, "use_karras_sigmas": False, "use_lu_lambdas": False, "variance_type": None,
}  # fmt: skip


def pipeline(folder: Path, seed: int = 200) -> Path:
    """PixArt-alpha/PixArt-XL-2-512x512."""
    version = "0.22.0.dev0"
    index = {
        "_class_name": "PixArtAlphaPipeline", "_diffusers_version": version,
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }  # fmt: skip
    parts.text(folder / "model_index.json", index)
    parts.text(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    tokens = tokenizer(folder / "tokenizer")
    text_encoder(folder / "text_encoder", tokens, seed)
    torch.manual_seed(seed + 1)
    state = PixArtTransformer2DModel(**TRANSFORMER, use_additional_conditions=False).state_dict()
    state["caption_projection.y_embedding"] = torch.randn(120, 16)  # a buffer of then
    config = {"_class_name": "Transformer2DModel", "_diffusers_version": version, **TRANSFORMER, **OF_THEN}
    parts.text(folder / "transformer" / "config.json", config | {"num_vector_embeds": None})
    parts.weights(folder / "transformer" / "diffusion_pytorch_model", state)
    parts.vae(folder / "vae", version, seed + 2, sample_size=64, scaling_factor=0.18215)
    return folder


def tokenizer(folder: Path) -> int:
    """T5's tokenizer as a SentencePiece model; returns the number of tokens, with T5's 100 sentinels."""
    from sentencepiece import sentencepiece_model_pb2 as protocol

    letters = [f"{start}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz" for start in ("", "▁")]
    pieces = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2), ("▁", -2.0, 1)]
    pieces += [(letter, -8.0, 1) for letter in letters] + [(f"▁{word}", -3.0, 1) for word in parts.WORDS[1:]]
    model = protocol.ModelProto()
    for piece, score, kind in pieces:
        model.pieces.add(piece=piece, score=score, type=kind)
    spec = model.trainer_spec
    spec.model_type, spec.pad_id, spec.eos_id, spec.unk_id, spec.bos_id = 1, 0, 1, 2, -1
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(model.SerializeToString())
    sentinels = [f"<extra_id_{number}>" for number in range(100)]
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    more = {"extra_ids": 100, "legacy": True, "model_max_length": 512, "tokenizer_class": "T5Tokenizer"}
    more |= {"additional_special_tokens": sentinels, "clean_up_tokenization_spaces": True}
    parts.text(folder / "added_tokens.json", {each: len(pieces) + 99 - i for i, each in enumerate(sentinels)})
    parts.text(folder / "special_tokens_map.json", {"additional_special_tokens": sentinels, **special})
    parts.text(folder / "tokenizer_config.json", more | special)
    return len(pieces) + 100


def text_encoder(folder: Path, tokens: int, seed: int) -> None:
    """The encoder of T5 v1.1, its weights in two files and an index."""
    config = {
        "d_ff": 32, "d_kv": 8, "d_model": 16, "decoder_start_token_id": 0, "dense_act_fn": "gelu_new",
        "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0,
        "is_encoder_decoder": True, "is_gated_act": True, "layer_norm_epsilon": 1e-06, "model_type": "t5",
        "num_decoder_layers": 2, "num_heads": 2, "num_layers": 2, "output_past": True, "pad_token_id": 0,
        "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "tie_word_embeddings": False,
        "torch_dtype": "float32", "transformers_version": "4.21.1", "use_cache": True, "vocab_size": tokens,
    }  # fmt: skip
    torch.manual_seed(seed)
    state = T5EncoderModel(T5Config(**config)).state_dict()
    state = {name: tensor.clone() for name, tensor in state.items() if name != "encoder.embed_tokens.weight"}
    files = {name: 1 + bool(re.search(r"block\.1\.|final", name)) for name in state}
    places = {name: f"model-{number:05d}-of-00002.safetensors" for name, number in files.items()}
    parts.text(folder / "config.json", {"architectures": ["T5EncoderModel"], **config})
    for file in sorted(set(places.values())):
        held = {name: tensor for name, tensor in state.items() if places[name] == file}
        save_file(held, folder / file, {"format": "pt"})
    size = sum(tensor.numel() * 4 for tensor in state.values())
    parts.text(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})
