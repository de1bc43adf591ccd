"""The small networks of the toy scale, ordinary diffusers, transformers and open_clip models.

They form a small `StableDiffusionPipeline`, so the toy teacher uses the same code as Stable Diffusion, and a CLIP to
evaluate it. All sizes are ours.
"""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from open_clip import CLIP
from tokenizers import Tokenizer, models, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from diffusion2gan import pipelines
from diffusion2gan.pixel.edm import EDM

IMAGE_SIZE, LATENT_SIZE = 64, 16  # sides of an image in pixels and of its latent
CONTEXT = 16  # tokens of a caption, including start and end
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def vae() -> AutoencoderKL:
    """The VAE of latent diffusion (Rombach et al. 2022): 4× downsampling, 4 channels, 0.7 M parameters."""
    widths = (16, 32, 64)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
    )


def load_vae(folder: Path) -> AutoencoderKL:
    """Load a VAE from a folder."""
    return pipelines.load_network(AutoencoderKL, folder, torch.float32)


def tokenizer(captions: list[str]) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer, trained so that each word of the captions is one token; the same in every process."""
    rules = CLIPTokenizer(vocab={BOS: 0, EOS: 1}, merges=[])._tokenizer
    words = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    words.normalizer, words.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
    # otherwise letters at the end of a word get their ids in the order of a hash that differs between processes, and
    # merges of equal count follow the ids
    pieces = words.pre_tokenizer.pre_tokenize_str(words.normalizer.normalize_str(" ".join(captions)))
    letters = sorted({letter for piece, _ in pieces for letter in piece})
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        end_of_word_suffix="</w>",
        min_frequency=1,
        show_progress=False,
        special_tokens=letters + [f"{letter}</w>" for letter in letters],
    )
    words.train_from_iterator(captions, trainer)
    learnt = json.loads(words.to_str())["model"]
    # the end of text must have the largest id, because CLIP pools the features at the largest id
    vocabulary = learnt["vocab"] | {BOS: len(learnt["vocab"]), EOS: len(learnt["vocab"]) + 1}
    merges = [tuple(merge) for merge in learnt["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def tokenize(tokens: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids (N, CONTEXT)."""
    options = {"padding": "max_length", "max_length": CONTEXT, "truncation": True, "return_tensors": "pt"}
    return tokens(captions, **options).input_ids


def text_encoder(tokens: CLIPTokenizer) -> CLIPTextModel:
    """A two-layer CLIP text transformer of width 64."""
    return CLIPTextModel(_text_config(tokens))


def second_text_encoder(tokens: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """The same with SDXL's projection of the pooled text."""
    return CLIPTextModelWithProjection(_text_config(tokens))


def _text_config(tokens: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=256,
        projection_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )


def unet() -> UNet2DConditionModel:
    """Stable Diffusion's U-Net with three levels, 16 × 16 to 4 × 4; 3.1 M parameters."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def xl_unet() -> UNet2DConditionModel:
    """SDXL's U-Net with three levels: no attention at the first, added conditions in the time embedding."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=128,
        norm_num_groups=16,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=6 * 16 + 64,
    )


def transformer() -> PixArtTransformer2DModel:
    """PixArt-α's transformer (Chen et al. 2024) with six blocks of width 192 on 8 × 8 patches; 3.9 M parameters."""
    heads, width = 6, 32
    return PixArtTransformer2DModel(
        sample_size=LATENT_SIZE,
        patch_size=2,
        in_channels=4,
        out_channels=4,  # v alone; theirs predicts the variance, too
        num_layers=6,
        num_attention_heads=heads,
        attention_head_dim=width,
        cross_attention_dim=heads * width,
        caption_channels=64,
        use_additional_conditions=False,
    )


def t5_encoder(tokens: CLIPTokenizer) -> T5EncoderModel:
    """T5 v1.1's encoder with two layers of width 64, for the tokens of the other teachers."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokens),
            d_model=64,
            d_kv=16,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=tokens.pad_token_id,
            eos_token_id=tokens.eos_token_id,
        )
    )


def time_ids(count: int) -> torch.Tensor:
    """SDXL's (count, 6) original size, crop and target size (Podell et al. 2023, Sec. 2.2) of a whole toy image."""
    return torch.tensor([[IMAGE_SIZE, IMAGE_SIZE, 0, 0, IMAGE_SIZE, IMAGE_SIZE]], dtype=torch.float32).repeat(count, 1)


def edm() -> EDM:
    """The toy teacher of Table 6 for 32 × 32 images: three levels, with most channels at the lowest resolution."""
    denoiser = EDM(model_channels=32, channel_mult=(1, 1, 2), num_blocks=1, attn_resolutions=(8,))
    return denoiser.to(memory_format=torch.channels_last)  # 10 % faster on a CPU


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise levels; v-prediction (Salimans & Ho 2022), trailing steps (Lin et al. 2024).

    At t = 999 the error of a noise-predicting network is amplified 14.6-fold in the latent, too much for a small
    network in one step; v is almost -x there. Trailing steps start at t = 999, the student's timestep.      # ours
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )


def pipeline(
    codec: AutoencoderKL, tokens: CLIPTokenizer, encoder: CLIPTextModel, denoiser: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """Assemble a `StableDiffusionPipeline`."""
    return StableDiffusionPipeline(
        vae=codec,
        text_encoder=encoder,
        tokenizer=tokens,
        unet=denoiser,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def xl_pipeline(
    codec: AutoencoderKL, tokens: CLIPTokenizer, encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection],
    denoiser: UNet2DConditionModel,
) -> StableDiffusionXLPipeline:  # fmt: skip
    """Assemble a `StableDiffusionXLPipeline`; its unconditional text is the empty caption, as in the training."""
    return StableDiffusionXLPipeline(
        vae=codec,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=tokens,
        tokenizer_2=tokens,
        unet=denoiser,
        scheduler=scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def pixart_pipeline(
    codec: AutoencoderKL, tokens: CLIPTokenizer, encoder: T5EncoderModel, denoiser: PixArtTransformer2DModel
) -> PixArtAlphaPipeline:
    """Assemble a `PixArtAlphaPipeline`, which samples with DPM-Solver at the noise levels of the training."""
    return PixArtAlphaPipeline(
        vae=codec,
        text_encoder=encoder,
        tokenizer=tokens,
        transformer=denoiser,
        scheduler=DPMSolverMultistepScheduler.from_config(scheduler().config),
    )


def load_pipeline(folder: Path) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """Load a teacher from a folder, in float32."""
    return pipelines.load_pipeline(str(folder), torch.float32, pipelines.KINDS)


def clip(folder: Path, tokens: CLIPTokenizer) -> CLIP:
    """CLIP's ResNet with one block per stage and a two-layer text tower, 1.1 M parameters.

    Writes everything but the weights to `folder`, which open_clip loads as `local-dir:FOLDER`.
    """
    settings = {
        "embed_dim": 96,
        "vision_cfg": {"image_size": IMAGE_SIZE, "width": 12, "layers": [1, 1, 1, 1]},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": len(tokens), "width": 64, "heads": 4, "layers": 2},
    }
    folder.mkdir(parents=True, exist_ok=True)
    tokens.save_pretrained(folder)
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    beside_the_weights = settings["text_cfg"] | {"hf_tokenizer_name": "."}
    described = {"model_cfg": settings | {"text_cfg": beside_the_weights}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described, indent=2))
    return CLIP(**settings)
