"""train_teacher.py: both kinds of toy teacher, and what they are trained to say."""

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from diffusion2gan.seeds import noise
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.denoising import DenoisingTraining, encode_scenes
from diffusion2gan.toy.openmoji import Scenes, prompts
from scripts.toy import train_teacher


@pytest.mark.parametrize("xl", [False, True])
def test_a_trained_teacher_is_a_teacher(teacher_folder, tmp_path, xl):
    arguments = {"scenes": 4, "iterations": 2, "batch_size": 2, "learning_rate": 1e-3, "xl": xl}
    train_teacher.main(
        train_teacher.Arguments(
            vae=teacher_folder / "vae", checkpoints=tmp_path / "checkpoints", out=tmp_path / "teacher", **arguments
        )
    )
    teacher = Teacher(str(tmp_path / "teacher"))
    assert teacher.is_xl == xl and teacher.image_size == toy.IMAGE_SIZE and teacher.latent_shape == (4, 16, 16)
    x = teacher.solve(noise([1, 2], teacher.latent_shape), ["a fox on a red background", ""], 2, 3.0)
    assert x.shape == (2, 4, 16, 16) and x.isfinite().all()


def test_it_is_trained_on_the_conditions_that_it_is_asked_with(teacher_folder):
    """What the U-Net of the small SDXL sees in training is what `Teacher.encode_text` gives it afterwards."""
    torch.manual_seed(0)
    tokenizer, vae = toy.tokenizer([prompt.caption for prompt in prompts("all")]), toy.load_vae(teacher_folder / "vae")
    parts = torch.nn.ModuleDict(
        {
            "unet": toy.xl_unet(),
            "text_encoder": toy.text_encoder(tokenizer),
            "text_encoder_2": toy.second_text_encoder(tokenizer),
        }
    ).eval()
    latents, tokens = encode_scenes(vae, tokenizer, Scenes("all", 0, toy.IMAGE_SIZE), 2)
    training = DenoisingTraining(latents, tokens, toy.tokenize(tokenizer, [""]), parts, 2, 1e-3, 0)
    text, pooled, times = training._text(toy.tokenize(tokenizer, ["a fox on a red background", ""]))

    encoders = (parts["text_encoder"], parts["text_encoder_2"])
    pipeline: StableDiffusionXLPipeline = toy.xl_pipeline(vae, tokenizer, encoders, parts["unet"])
    wanted, unconditional, wanted_pooled, unconditional_pooled = pipeline.encode_prompt(
        "a fox on a red background", negative_prompt="", do_classifier_free_guidance=True
    )
    assert torch.allclose(text, torch.cat([wanted, unconditional]), atol=1e-5)
    assert torch.allclose(pooled, torch.cat([wanted_pooled, unconditional_pooled]), atol=1e-5)
    wanted_times = pipeline._get_add_time_ids((64, 64), (0, 0), (64, 64), torch.float32, pooled.shape[-1])
    assert torch.equal(times, wanted_times.repeat(2, 1))

    asked = []
    training.predict.unet.register_forward_pre_hook(
        lambda _, given, named: asked.append((given[2], named)), with_kwargs=True
    )
    training.step(0)
    ((given, named),) = asked
    assert given.shape == text.shape and set(named["added_cond_kwargs"]) == {"text_embeds", "time_ids"}
    assert named["added_cond_kwargs"]["text_embeds"].shape == pooled.shape
    assert torch.equal(named["added_cond_kwargs"]["time_ids"], times)
