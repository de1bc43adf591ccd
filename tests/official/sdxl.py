"""SDXL, SDXL-Turbo and the file of SDXL-Lightning, which share its networks."""

from pathlib import Path

from layouts import SDXL
from safetensors.torch import save_file

from official import parts

NARROW = SDXL | {
    "sample_size": 16, "block_out_channels": (32, 32, 64), "attention_head_dim": (2, 2, 4), "cross_attention_dim": 80,
    "transformer_layers_per_block": (1, 1, 2), "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 48, "act_fn": "silu", "addition_embed_type_num_heads": 64,
    "center_input_sample": False, "class_embed_type": None, "downsample_padding": 1, "dual_cross_attention": False,
    "encoder_hid_dim": None, "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
    "mid_block_scale_factor": 1, "mid_block_type": "UNetMidBlock2DCrossAttn", "norm_eps": 1e-05, "norm_num_groups": 32,
    "only_cross_attention": False, "out_channels": 4, "resnet_time_scale_shift": "default", "time_cond_proj_dim": None,
    "time_embedding_type": "positional", "upcast_attention": None,
}  # fmt: skip
EULER = {
    "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False, "interpolation_type": "linear",
    "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "leading", "trained_betas": None,
    "use_karras_sigmas": False,
}  # fmt: skip
ANCESTRAL = {
    "_class_name": "EulerAncestralDiscreteScheduler", "_diffusers_version": "0.24.0.dev0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False, "interpolation_type": "linear",
    "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "trailing", "trained_betas": None,
}  # fmt: skip


def pipeline(
    folder: Path, seed: int = 100, scheduler: dict = EULER, version: str = "0.19.0.dev0", side: int = 16
) -> Path:
    """stabilityai/stable-diffusion-xl-base-1.0, with its `fp16` variants."""
    index = {
        "_class_name": "StableDiffusionXLPipeline", "_diffusers_version": version,
        "force_zeros_for_empty_prompt": True, "add_watermarker": None,
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }  # fmt: skip
    parts.text(folder / "model_index.json", index)
    parts.text(folder / "scheduler" / "scheduler_config.json", scheduler)
    tokens = parts.tokenizer(folder / "tokenizer")
    parts.tokenizer(folder / "tokenizer_2", pad="!")
    second = {"hidden_act": "gelu", "hidden_size": 48, "projection_dim": 48}
    parts.text_encoder(folder / "text_encoder", tokens, seed + 1, half=True)
    parts.text_encoder(folder / "text_encoder_2", tokens, seed + 2, projection=True, half=True, **second)
    parts.unet(folder / "unet", version, NARROW | {"sample_size": side}, seed + 3, half=True)
    more = {"force_upcast": True, "sample_size": 8 * side, "scaling_factor": 0.13025}
    parts.vae(folder / "vae", version, seed + 4, half=True, **more)
    return folder


def turbo(folder: Path) -> Path:
    """stabilityai/sdxl-turbo: other weights and scheduler, and latents of half the side."""
    return pipeline(folder, 110, ANCESTRAL, "0.24.0.dev0", side=8)


def lightning(path: Path) -> Path:
    """The U-Net of SDXL-Lightning in half precision; it predicts x₀."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half() for name, tensor in parts.unet_state(NARROW, 120).items()}, path)
    return path
