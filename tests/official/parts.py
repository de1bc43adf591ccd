"""Parts of diffusers pipelines: configuration files as published, and weights under their published names."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORDS = "a the red green blue fox apple owl cat dog on in of photo".split()
VAE = {
    "act_fn": "silu",
    "block_out_channels": (32, 32, 32, 32),  # published: 128, 256, 512, 512
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
FEATURE_EXTRACTOR = {
    "crop_size": 224, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224,
}  # fmt: skip


def text(path: Path, content: dict | str) -> None:
    """Write JSON, or plain text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2) + "\n", encoding="utf-8")


def weights(path: Path, state: dict[str, torch.Tensor], half: bool = False) -> None:
    """Write weights as safetensors, and with `half` their `fp16` variant beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(state, path.with_name(f"{path.name}.safetensors"), {"format": "pt"})
    if half:
        halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        save_file(halved, path.with_name(f"{path.name}.fp16.safetensors"), {"format": "pt"})


def unet_state(config: dict, seed: int) -> dict[str, torch.Tensor]:
    """Random weights of a U-Net."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(**config).state_dict()


def unet(folder: Path, version: str, config: dict, seed: int, half: bool = False) -> None:
    text(folder / "config.json", {"_class_name": "UNet2DConditionModel", "_diffusers_version": version, **config})
    weights(folder / "diffusion_pytorch_model", unet_state(config, seed), half)


def vae(folder: Path, version: str, seed: int, old_names: bool = False, half: bool = False, **more) -> None:
    """A VAE; with `old_names` its attention has the names from before diffusers 0.12, like Stable Diffusion 1.5's."""
    torch.manual_seed(seed)
    state = AutoencoderKL(**VAE).state_dict()
    if old_names:
        for new, old in OLD_ATTENTION.items():
            state = {name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): x for name, x in state.items()}
    text(folder / "config.json", {"_class_name": "AutoencoderKL", "_diffusers_version": version, **VAE, **more})
    weights(folder / "diffusion_pytorch_model", state, half)


def tokenizer(folder: Path, pad: str = EOS) -> int:
    """CLIP's tokenizer without `tokenizer.json`, as in 2022, for a few words; returns the number of tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    merges, vocabulary = [], [*letters, *(f"{letter}</w>" for letter in letters)]
    for word in WORDS:
        left = word[0]
        for number, letter in enumerate(word[1:], 2):
            right = letter + ("</w>" if number == len(word) else "")
            if f"{left} {right}" not in merges:
                merges.append(f"{left} {right}")
                vocabulary.append(left + right)
            left += right
    vocabulary += [BOS, EOS]
    token = {"__type": "AddedToken", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS}
    special = {name: {**token, "content": content} for name, content in special.items()}
    described = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77}
    described |= {"pad_token": pad, "tokenizer_class": "CLIPTokenizer", **special}
    plain = {name: {key: x for key, x in each.items() if key != "__type"} for name, each in special.items()}
    text(folder / "vocab.json", {each: number for number, each in enumerate(vocabulary)})
    text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    text(folder / "special_tokens_map.json", {**plain, "pad_token": pad})
    text(folder / "tokenizer_config.json", described)
    return len(vocabulary)


def text_encoder(folder: Path, tokens: int, seed: int, projection: bool = False, half: bool = False, **more) -> None:
    """CLIP's text transformer, with the end-of-text id 2 of the published files, which is not the tokenizer's.

    Its weights are below `text_model`, also without the projection, and the positions are among them.
    """
    config = {
        "attention_dropout": 0.0, "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2, "hidden_act": "quick_gelu",
        "hidden_size": 32, "initializer_factor": 1.0, "initializer_range": 0.02, "intermediate_size": 64,
        "layer_norm_eps": 1e-05, "max_position_embeddings": 77, "model_type": "clip_text_model",
        "num_attention_heads": 4, "num_hidden_layers": 3, "pad_token_id": 1, "projection_dim": 32,
        "torch_dtype": "float32", "transformers_version": "4.22.0.dev0", "vocab_size": tokens,
    } | more  # fmt: skip
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    torch.manual_seed(seed)
    state = kind(CLIPTextConfig(**config)).state_dict()
    state = {name if name.startswith("text_") else f"text_model.{name}": each for name, each in state.items()}
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    text(folder / "config.json", {"architectures": [kind.__name__], **config})
    weights(folder / "model", state, half)


def safety_checker(folder: Path, seed: int) -> None:
    """The classifier of unsafe images, which this project never loads."""
    config = {
        "_name_or_path": "CompVis/stable-diffusion-safety-checker", "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592, "model_type": "clip", "projection_dim": 32,
        "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1},
        "vision_config": {
            "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1,
            "patch_size": 56,
        },
    }  # fmt: skip
    torch.manual_seed(seed)
    state = StableDiffusionSafetyChecker(CLIPConfig(**config)).state_dict()
    old = "vision_model.vision_model."
    state = {name if name.startswith(old) else name.replace("vision_model.", old): x for name, x in state.items()}
    text(folder / "config.json", {"architectures": ["StableDiffusionSafetyChecker"], **config})
    weights(folder / "model", state)
