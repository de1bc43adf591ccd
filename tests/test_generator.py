"""The student is the teacher's U-Net at one timestep, and plain diffusers samples with it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from layouts import SD15, SDXL
from transformers import CLIPConfig, CLIPImageProcessor

from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator, x0
from diffusion2gan.sampling.sampler import teacher_sampler
from diffusion2gan.seeds import noise
from diffusion2gan.teacher import Teacher

SRC = Path(__file__).parents[1] / "src"
PROMPTS = ["a red apple on a blue background", "a fox on a gray background"]


@pytest.fixture(params=["v_prediction", "epsilon"])
def teacher_of_either_kind(request, teacher_folder, tmp_path):
    """The toy pipeline, once with a U-Net that predicts v and once with one that predicts ε."""
    folder = shutil.copytree(teacher_folder, tmp_path / "teacher")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": request.param}))
    return folder


def test_x0_inverts_the_forward_process():
    x, noise = torch.randn(2, 3, 4, 16, 16, dtype=torch.float64)
    alpha, sigma = 0.0683, (1 - 0.0683**2) ** 0.5
    z, v = alpha * x + sigma * noise, alpha * noise - sigma * x
    torch.testing.assert_close(x0(noise, z, alpha**2, "epsilon"), x)
    torch.testing.assert_close(x0(v, z, alpha**2, "v_prediction"), x)


@pytest.mark.parametrize("timestep", [None, 399])
def test_plain_diffusers_samples_what_the_generator_computes(teacher_of_either_kind, tmp_path, timestep):
    teacher = teacher_of_either_kind
    generator = Generator.from_teacher(teacher, timestep)
    with torch.no_grad():  # unlike the teacher's, so that the test sees whose weights were saved
        for weight in generator.unet.parameters():
            weight.mul_(1.01)
    generator.save(tmp_path / "student", teacher)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "student")
    timesteps = []
    pipeline.unet.register_forward_pre_hook(lambda module, inputs: timesteps.append(int(inputs[1])))

    z = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    options = {"latents": z, "num_inference_steps": 1, "guidance_scale": 0}
    drawn = pipeline(PROMPTS, output_type="latent", **options).images
    pictures = pipeline(PROMPTS, output_type="pt", **options).images
    text = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)[0]
    with torch.no_grad():
        x = generator(z, text)
        decoded = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample

    assert timesteps == [timestep or 999] * 2
    torch.testing.assert_close(drawn, x, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(pictures, (decoded / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)
    assert Generator.from_teacher(tmp_path / "student").timestep == (timestep or 999)


def test_stable_diffusion_s_scheduler_gives_its_own_noise_level():
    """SD 1.5's scheduler_config.json: leading steps, PNDM, no prediction type."""
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    scheduler = DDIMScheduler.from_config(settings | {"set_alpha_to_one": False, "skip_prk_steps": True})
    generator = Generator(torch.nn.Identity(), scheduler)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    assert generator.alpha_bar == pytest.approx((1 - betas).prod().item(), rel=1e-5)
    assert (generator.timestep, generator.prediction_type) == (999, "epsilon")


def test_an_earlier_timestep_has_the_noise_level_that_the_teacher_has_there():
    """Also that of a schedule without a signal in the end (Lin et al. 2024), which is not to be rescaled again."""
    for rescaled in (False, True):
        scheduler = DDIMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=rescaled)
        generator = Generator(torch.nn.Identity(), scheduler, timestep=399)
        assert generator.alpha_bar == pytest.approx(scheduler.alphas_cumprod[399].item(), rel=1e-4)


def test_half_precision_ends_at_the_conversion(teacher_folder):
    generator = Generator.from_teacher(teacher_folder)
    generator.prediction_type = "epsilon"
    z, text = torch.randn(2, 4, 16, 16), torch.randn(2, 16, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        predicted = generator.unet(z, 999, text).sample
        x = generator(z, text)
    assert (predicted.dtype, x.dtype) == (torch.bfloat16, torch.float32)
    exact = x0(predicted.double(), z.double(), generator.alpha_bar, "epsilon")
    torch.testing.assert_close(x.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("config", "weights"), [(SD15, 859_520_964), (SDXL, 2_567_463_684)], ids=["sd15", "sdxl"])
def test_at_the_size_of_the_paper_s_teachers(config, weights):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    generator = Generator(unet, DDIMScheduler())
    side, width = config["sample_size"], config["cross_attention_dim"]
    with torch.device("meta"):
        added = {"text_embeds": torch.empty(2, 1280), "time_ids": torch.empty(2, 6)} if side == 128 else {}
        x = generator(torch.empty(2, 4, side, side), torch.empty(2, 77, width), **added)
        x.mean().backward()
    assert x.shape == (2, 4, side, side)
    assert sum(weight.numel() for weight in generator.parameters()) == weights
    assert [name for name, weight in generator.named_parameters() if weight.grad is None] == []


def test_plain_diffusers_samples_with_a_student_of_sdxl_s_kind(tmp_path, xl_folder):
    generator = Generator.from_teacher(xl_folder)
    with torch.no_grad():
        for weight in generator.unet.parameters():
            weight.mul_(1.01)
    generator.save(tmp_path / "student", xl_folder)

    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "student", add_watermarker=False)
    assert isinstance(pipeline, StableDiffusionXLPipeline)
    z = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    options = {"latents": z, "num_inference_steps": 1, "guidance_scale": 0, "output_type": "latent"}
    drawn = pipeline(PROMPTS, **options).images
    text, _, pooled, _ = pipeline.encode_prompt(PROMPTS, device="cpu", do_classifier_free_guidance=False)
    sizes = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).repeat(2, 1)
    with torch.no_grad():
        x = generator(z, text, text_embeds=pooled, time_ids=sizes)
    torch.testing.assert_close(drawn, x, rtol=1e-6, atol=1e-4)


def test_a_student_of_a_teacher_in_half_precision_is_in_one_precision(small_teacher_folder, tmp_path):
    StableDiffusionPipeline.from_pretrained(small_teacher_folder, dtype=torch.float16).save_pretrained(
        tmp_path / "half"
    )
    Generator.from_teacher(tmp_path / "half").save(tmp_path / "student", tmp_path / "half")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "student")
    parts = (pipeline.text_encoder, pipeline.unet, pipeline.vae)
    assert {weight.dtype for part in parts for weight in part.parameters()} == {torch.float32}
    pipeline(PROMPTS[0], num_inference_steps=1, guidance_scale=0)


@pytest.fixture
def teacher_with_a_safety_checker(small_teacher_folder, tmp_path):
    """A pipeline with the parts of Stable Diffusion 1.5, whose safety checker finds something in every image."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(projection_dim=8, text_config=sizes, vision_config={**sizes, "image_size": 32, "patch_size": 16})
    )
    checker.concept_embeds_weights.data.fill_(-10)
    parts = StableDiffusionPipeline.from_pretrained(small_teacher_folder).components
    size = {"height": 32, "width": 32}
    parts |= {"safety_checker": checker, "feature_extractor": CLIPImageProcessor(size=size, crop_size=size)}
    folder = tmp_path / "teacher"
    StableDiffusionPipeline(**parts, requires_safety_checker=True).save_pretrained(folder)
    return folder


def test_a_student_has_no_safety_checker_as_its_teacher_has_none_here(teacher_with_a_safety_checker, tmp_path):
    teacher = teacher_with_a_safety_checker
    options = {"num_inference_steps": 1, "guidance_scale": 0, "output_type": "np"}
    z = noise([3], (4, 16, 16))
    assert StableDiffusionPipeline.from_pretrained(teacher)(PROMPTS[0], latents=z, **options).images.max() == 0

    Generator.from_teacher(teacher).save(tmp_path / "student", teacher)
    assert json.loads((tmp_path / "student" / "model_index.json").read_text())["safety_checker"] == [None, None]
    assert not (tmp_path / "student" / "safety_checker").exists()
    ours = teacher_sampler(Teacher(str(tmp_path / "student")), 1, 0, "student")([3], PROMPTS[:1])
    theirs = StableDiffusionPipeline.from_pretrained(tmp_path / "student")(PROMPTS[0], latents=z, **options).images
    assert theirs.max() > 0
    torch.testing.assert_close(torch.from_numpy(theirs), (ours.clamp(-1, 1) / 2 + 0.5).movedim(1, 3), rtol=0, atol=1e-4)


OFFLINE = """
import sys
import diffusion2gan
from diffusion2gan.generator import Generator
from diffusion2gan.teacher import Teacher

teacher = Teacher("somebody/stable-diffusion")
Generator.from_teacher(teacher.path).save(sys.argv[1], teacher.path)
"""


def test_a_student_is_saved_without_a_network_where_the_safety_checker_was_never_fetched(
    teacher_with_a_safety_checker, tmp_path
):
    """The hub's cache as it is after `Teacher` fetched a pipeline: all of it but the safety checker."""
    shutil.rmtree(teacher_with_a_safety_checker / "safety_checker")
    repository = tmp_path / "hub" / "models--somebody--stable-diffusion"
    shutil.copytree(teacher_with_a_safety_checker, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub"), "PYTHONPATH": str(SRC)}
    command = [sys.executable, "-c", OFFLINE, str(tmp_path / "student")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    StableDiffusionPipeline.from_pretrained(tmp_path / "student")(PROMPTS[0], num_inference_steps=1, guidance_scale=0)


def test_a_failed_save_leaves_the_old_student(teacher_folder, tmp_path, monkeypatch):
    generator = Generator.from_teacher(teacher_folder)
    generator.save(tmp_path / "student", teacher_folder)
    before = sorted((path.name, path.stat().st_size) for path in (tmp_path / "student").rglob("*"))

    def fail(pipeline, folder):
        folder.mkdir()
        (folder / "half").write_text("written")
        raise OSError("disk full")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk full"):
        patched.setattr(StableDiffusionPipeline, "save_pretrained", fail)
        generator.save(tmp_path / "student", teacher_folder)
    assert sorted((path.name, path.stat().st_size) for path in (tmp_path / "student").rglob("*")) == before
    generator.save(tmp_path / "student", teacher_folder)  # and a good one takes its place
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_mistakes_are_errors(tmp_path):
    with pytest.raises(UserError, match="nowhere' is neither a folder nor a pipeline") as raised:
        Generator.from_teacher(tmp_path / "nowhere")
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError) as raised:
        Generator(torch.nn.Identity(), DDIMScheduler(prediction_type="sample"))
    assert str(raised.value) == (
        "the teacher's scheduler has prediction_type 'sample': choose a teacher that predicts 'epsilon' or "
        "'v_prediction'"
    )
    with pytest.raises(UserError, match="0 to 999"):
        Generator(torch.nn.Identity(), DDIMScheduler(), timestep=1000)


def test_the_student_s_scheduler_is_one_unclipped_step_to_x0():
    clipped = DDIMScheduler(clip_sample=True, thresholding=True, set_alpha_to_one=False, beta_schedule="scaled_linear")
    for timestep, count in ((None, 1000), (999, 1000), (399, 400), (0, 1)):
        made = Generator(torch.nn.Identity(), clipped, timestep).scheduler
        wanted = {
            "timestep_spacing": "trailing", "set_alpha_to_one": True, "clip_sample": False, "thresholding": False,
            "steps_offset": 1, "num_train_timesteps": count, "beta_schedule": "scaled_linear",
        }  # fmt: skip
        assert {name: made.config[name] for name in wanted} == wanted
        made.set_timesteps(1)
        assert made.timesteps.tolist() == [count - 1] and made.final_alpha_cumprod == 1


def test_a_timestep_outside_the_teacher_s_is_an_error():
    for timestep in (-1, 1000):
        with pytest.raises(UserError) as said:
            Generator(torch.nn.Identity(), DDIMScheduler(), timestep)
        assert str(said.value) == f"the student's timestep is {timestep}: choose one of the teacher's, 0 to 999"


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_estimate_at_any_timestep_is_that_of_ddim(small_teacher_folder, prediction_type):
    student = Generator.from_teacher(small_teacher_folder)
    scheduler = DDIMScheduler.from_config(
        student.scheduler.config, prediction_type=prediction_type, timestep_spacing="leading"
    )
    scheduler.set_timesteps(1000)
    x, text, timesteps = torch.randn(3, 4, 16, 16), torch.randn(3, 16, 64), torch.tensor([0, 400, 999])
    with torch.no_grad():
        found = Generator(student.unet, scheduler)(x, text, timesteps)
        for i, t in enumerate(timesteps):
            prediction = student.unet(x[i : i + 1], t, text[i : i + 1]).sample
            expected = scheduler.step(prediction, t, x[i : i + 1]).pred_original_sample
            torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-4, atol=1e-4)
