"""Stable Diffusion 1.5, InstaFlow and the files of DMD2, which share its networks."""

from pathlib import Path

import torch
from layouts import SD15

from official import parts

NARROW = SD15 | {
    "sample_size": 8, "block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 32, "layers_per_block": 2,
    "act_fn": "silu", "center_input_sample": False, "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0,
    "in_channels": 4, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4,
}  # fmt: skip
PNDM = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "clip_sample": False, "num_train_timesteps": 1000, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
}  # fmt: skip


def pipeline(folder: Path, seed: int = 0, kind: str = "StableDiffusionPipeline", version: str = "0.6.0") -> Path:
    """stable-diffusion-v1-5/stable-diffusion-v1-5, with its `fp16` and `non_ema` variants."""
    index = {
        "_class_name": kind, "_diffusers_version": version,
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }  # fmt: skip
    parts.text(folder / "model_index.json", index)
    parts.text(folder / "feature_extractor" / "preprocessor_config.json", parts.FEATURE_EXTRACTOR)
    parts.safety_checker(folder / "safety_checker", seed)
    parts.text(folder / "scheduler" / "scheduler_config.json", PNDM)
    tokens = parts.tokenizer(folder / "tokenizer")
    parts.text_encoder(folder / "text_encoder", tokens, seed + 1, half=True)
    # published as 0.6.0: diffusers takes a side below 64 from before 0.9.0 for a mistake
    parts.unet(folder / "unet", "0.9.0", NARROW, seed + 2, half=True)
    parts.weights(folder / "unet" / "diffusion_pytorch_model.non_ema", parts.unet_state(NARROW, seed + 3))
    parts.vae(folder / "vae", version, seed + 4, old_names=True, half=True, sample_size=64)
    return folder


def instaflow(folder: Path, seed: int = 10) -> Path:
    """XCLiu/instaflow_0_9B_from_sd_1_5: its pipeline class is not one of diffusers.

    The class of its feature extractor is the older name, the harder one; the published one could not be looked up.
    """
    pipeline(folder, seed, "RectifiedFlowPipeline", "0.17.1")
    index = (folder / "model_index.json").read_text().replace("CLIPImageProcessor", "CLIPFeatureExtractor")
    (folder / "model_index.json").write_text(index.replace('"safety', '"requires_safety_checker": true,\n  "safety'))
    return folder


def dmd2(path: Path, seed: int = 20) -> Path:
    """The U-Net of DMD2's generator, a pickled dictionary of float32 tensors as accelerate writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(parts.unet_state(NARROW, seed), path)
    return path
