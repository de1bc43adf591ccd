"""The configurations of the U-Nets of Stable Diffusion 1.5 and SDXL, as diffusers takes them; and small ones."""

SD15 = {
    "sample_size": 64,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
SDXL = {
    "sample_size": 128,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
NARROW = {"norm_num_groups": 4, "cross_attention_dim": 16, "attention_head_dim": 2, "sample_size": 16}
SMALL_SD15 = SD15 | NARROW | {"block_out_channels": (8, 16, 24, 24)}
# BK-SDM-Tiny (Kim et al. 2024), which has no middle block
SMALL_BK = SMALL_SD15 | {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "mid_block_type": None,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (8, 16, 24),
    "layers_per_block": 1,
}
SMALL_SDXL = {
    **SDXL,
    **NARROW,
    "block_out_channels": (8, 16, 24),
    "transformer_layers_per_block": (1, 1, 2),
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + 10,
}
