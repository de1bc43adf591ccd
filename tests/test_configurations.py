"""A teacher is what its configuration says, or it is refused: its scheduler, its U-Net, its VAE, its texts."""

import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline

from diffusion2gan.configurations import fetch_teacher, noise_schedule
from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.seeds import noise
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import networks as toy

SCHEDULER, UNET, VAE = "scheduler/scheduler_config.json", "unet/config.json", "vae/config.json"
MEAN, DEVIATION = [-1.6, 2.5, 0.4, -3.4], [8.4, 5.9, 5.8, 2.1]  # about Playground 2.5's


@pytest.fixture
def change(request, tmp_path):
    """Change settings in a copy of a teacher, without its weights; None removes none but is written as null."""

    def changed(kind: str, file: str, **settings) -> Path:
        source, folder = request.getfixturevalue(f"{kind}_folder"), tmp_path / "teacher"
        if not folder.exists():
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        kept = json.loads((source / file).read_text())
        (folder / file).write_text(json.dumps(kept | settings))
        return folder

    return changed


def complaint(folder: Path) -> str:
    """The same for a teacher and for a student, and before any weight is read."""
    with pytest.raises(UserError) as said:
        Teacher(str(folder))
    with pytest.raises(UserError, match="") as again:
        Generator.from_teacher(folder)
    assert str(said.value) == str(again.value) and "\n" not in str(said.value)
    return str(said.value)


def scheduler_of(change, name: str, kind: str = "small_teacher", **settings) -> Path:
    change(kind, "model_index.json", scheduler=["diffusers", name])
    return change(kind, SCHEDULER, _class_name=name, **settings)


@pytest.mark.parametrize(
    "name",
    [
        "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler", "LCMScheduler",
        "TCDScheduler", "CMStochasticIterativeScheduler", "DDIMInverseScheduler", "NoScheduler",
    ],
)  # fmt: skip
def test_a_scheduler_with_another_ode_is_refused(change, name):
    assert f"has the scheduler {name}, whose ODE is not solved here" in complaint(scheduler_of(change, name))


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
        "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler",
        "UniPCMultistepScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler", "SASolverScheduler",
    ],
)  # fmt: skip
def test_the_noise_levels_are_those_of_the_scheduler_s_class(change, name):
    """Also where the file lacks them: Heun's default is another than DDIM's."""
    folder = scheduler_of(change, name)
    (folder / SCHEDULER).write_text(json.dumps({"beta_schedule": "scaled_linear"}))
    levels = getattr(diffusers, name)(beta_schedule="scaled_linear").alphas_cumprod
    torch.testing.assert_close(noise_schedule(folder).alphas_cumprod, levels)


@pytest.mark.parametrize(
    "settings",
    [
        {"prediction_type": "sample"}, {"prediction_type": "flow_prediction"}, {"timestep_spacing": "karras"},
        {"thresholding": True},
    ],
)  # fmt: skip
def test_settings_that_change_the_solution_are_refused(change, settings):
    ((name, value),) = settings.items()
    assert f"has {name}: {value}, which is not understood" in complaint(change("small_teacher", SCHEDULER, **settings))


def test_settings_of_one_scheduler_that_change_its_process_are_refused(change):
    folder = scheduler_of(change, "EulerDiscreteScheduler", timestep_type="continuous")
    assert "has timestep_type: continuous" in complaint(folder)
    folder = scheduler_of(change, "UniPCMultistepScheduler", use_flow_sigmas=True)
    assert "has use_flow_sigmas: True" in complaint(folder)
    folder = scheduler_of(change, "DDPMScheduler", beta_schedule="sigmoid")
    assert "a scheduler with unknown noise levels: sigmoid is not implemented" in complaint(folder)
    folder = scheduler_of(change, "PNDMScheduler", rescale_betas_zero_snr=True)  # which PNDM does not read
    assert "has a PNDMScheduler with other noise levels than DDIMScheduler" in complaint(folder)


def test_latents_of_sdxl_are_not_clipped(change):
    assert "has clip_sample: True" in complaint(change("xl", SCHEDULER, clip_sample=True))


def test_noise_levels_without_a_signal_need_v(change):
    folder = change("small_teacher", SCHEDULER, rescale_betas_zero_snr=True)
    assert noise_schedule(folder).alphas_cumprod[-1] == 0  # the toy teacher predicts v
    folder = change("small_teacher", SCHEDULER, rescale_betas_zero_snr=True, prediction_type="epsilon")
    assert "predicts epsilon where its scheduler leaves no signal" in complaint(folder)


def test_betas_may_be_listed(change):
    betas = torch.linspace(0.001, 0.01, 100).tolist()
    schedule = noise_schedule(change("small_teacher", SCHEDULER, trained_betas=betas, num_train_timesteps=100))
    torch.testing.assert_close(schedule.alphas_cumprod, (1 - torch.tensor(betas)).cumprod(0))
    folder = change("small_teacher", SCHEDULER, trained_betas="many")
    with pytest.raises(UserError, match="of its scheduler|unknown noise levels"):
        noise_schedule(folder)


def test_a_student_keeps_none_of_the_settings_of_its_teacher_s_solver(small_teacher_folder):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="sde-dpmsolver++", use_karras_sigmas=True, thresholding=True, beta_schedule="scaled_linear"
    )
    student = Generator(torch.nn.Identity(), scheduler)
    plain = DDIMScheduler(beta_schedule="scaled_linear")
    torch.testing.assert_close(student.scheduler.alphas_cumprod, plain.alphas_cumprod)
    assert student.scheduler.config.keys() == plain.config.keys() and not student.scheduler.config.thresholding


def test_steps_that_only_the_pipeline_s_own_scheduler_has_need_another_spacing(small_teacher_folder, monkeypatch):
    teacher = Teacher(str(small_teacher_folder))
    z, config = noise([1], teacher.latent_shape), teacher.scheduler.config
    expected = [teacher.solve(z, ["a fox"], 3, 1.0, solver, "trailing") for solver in ("ddim", "dpm-solver")]
    for name in ("use_karras_sigmas", "use_exponential_sigmas"):
        own = diffusers.DPMSolverMultistepScheduler.from_config(
            config, algorithm_type="sde-dpmsolver++", **{name: True}
        )
        monkeypatch.setattr(teacher, "scheduler", own)
        with pytest.raises(UserError, match=f"spaces its steps by {name}.*set the spacing to leading, linspace or"):
            teacher.solve(z, ["a fox"], 3, 1.0)
        found = [teacher.solve(z, ["a fox"], 3, 1.0, solver, "trailing") for solver in ("ddim", "dpm-solver")]
        torch.testing.assert_close(found, expected, rtol=0, atol=0)  # nor is the solver that of an SDE


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"time_cond_proj_dim": 256}, "time_cond_proj_dim: 256"),  # a distilled U-Net that takes the guidance
        ({"class_embed_type": "timestep"}, "class_embed_type: timestep"),
        ({"num_class_embeds": 10}, "num_class_embeds: 10"),
        ({"addition_embed_type": "text"}, "addition_embed_type: text"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type: text_time"),  # without SDXL's encoders
        ({"encoder_hid_dim_type": "ip_image_proj"}, "encoder_hid_dim_type: ip_image_proj"),
        ({"center_input_sample": True}, "center_input_sample: True"),
        ({"dual_cross_attention": True}, "dual_cross_attention: True"),
        ({"attention_type": "gated"}, "attention_type: gated"),
        ({"time_embedding_act_fn": "silu"}, "time_embedding_act_fn: silu"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type: fourier"),
        ({"in_channels": 9}, "in_channels: 9, where 4 is needed"),  # inpainting
        ({"out_channels": 8}, "out_channels: 8, where 4 is needed"),  # with a variance
        ({"cross_attention_dim": 96}, "cross_attention_dim: 96, where 64 is needed"),
        ({"sample_size": [16, 24]}, "sample_size: [16, 24], where the side of a square latent is needed"),
        ({"sample_size": None}, "sample_size: None, where the side of a square latent is needed"),
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "mid_block_type: UNetMidBlock2DSimpleCrossAttn"),
        ({"down_block_types": ["DownBlock2D", "KDownBlock2D", "DownBlock2D"]}, "down_block_types: "),
    ],
)
def test_a_unet_with_other_inputs_or_outputs_is_refused(change, settings, what):
    folder = change("small_teacher", UNET, **settings)
    assert f"the unet of '{folder}' has {what}" in complaint(folder)


def test_settings_that_are_off_may_be_null_or_false(change):
    off = {"dual_cross_attention": None, "center_input_sample": None, "class_embeddings_concat": None}
    fetch_teacher(change("small_teacher", UNET, **off, num_class_embeds=0))


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        (UNET, {"down_block_types": {"a": 1}}), 
        ("text_encoder/config.json", {"hidden_size": "a"}), (SCHEDULER, {"num_train_timesteps": 0}),
        ("model_index.json", {"scheduler": 7}), (VAE, {"scaling_factor": True}),
    ],
)  # fmt: skip
def test_settings_of_another_type_are_one_line(change, file, settings):
    complaint(change("small_teacher", file, **settings))


def test_sdxl_s_refiner_and_its_sizes_are_refused(change):
    assert "is SDXL's refiner" in complaint(change("xl", "model_index.json", requires_aesthetics_score=True))
    change("xl", "model_index.json")
    folder = change("xl", UNET, projection_class_embeddings_input_dim=5 * 16 + 64)
    assert "has projection_class_embeddings_input_dim: 144, where 160 is needed" in complaint(folder)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("small_teacher", {"shift_factor": 0.1}),
        ("small_teacher", {"latents_mean": MEAN, "latents_std": DEVIATION}),  # which its pipeline does not read
        ("xl", {"latents_mean": MEAN}),
        ("xl", {"latents_mean": MEAN, "latents_std": [0.0] * 4}),
        ("xl", {"latents_mean": ["a"] * 4, "latents_std": DEVIATION}),
        ("xl", {"latents_mean": MEAN[:3], "latents_std": DEVIATION[:3]}),
        ("small_teacher", {"scaling_factor": 0}),
        ("small_teacher", {"scaling_factor": None}),
        ("small_teacher", {"out_channels": 1}),
    ],
)
def test_a_vae_that_diffusers_would_decode_otherwise_is_refused(change, kind, settings):
    name, value = next(iter(settings.items()))
    folder = change(kind, VAE, **settings)
    assert f"the vae of '{folder}' has {name}: {value}" in complaint(folder)


def test_latents_with_statistics_are_decoded_as_diffusers_decodes_them(xl_folder, tmp_path):
    folder = shutil.copytree(xl_folder, tmp_path / "teacher")
    settings = json.loads((folder / VAE).read_text())
    (folder / VAE).write_text(json.dumps(settings | {"latents_mean": MEAN, "latents_std": DEVIATION}))
    teacher = Teacher(str(folder))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    raw = teacher.vae.encode(images).latent_dist.mode()
    latents = teacher.encode_images(images)
    columns = [torch.tensor(each).view(1, 4, 1, 1) for each in (MEAN, DEVIATION)]
    torch.testing.assert_close(latents, (raw - columns[0]) * 0.18215 / columns[1])
    torch.testing.assert_close(teacher.decode(latents), teacher.vae.decode(raw).sample, rtol=1e-4, atol=1e-4)

    Generator.from_teacher(folder).save(tmp_path / "student", folder)
    plain = StableDiffusionXLPipeline.from_pretrained(tmp_path / "student", add_watermarker=False)
    z = noise([1, 2], teacher.latent_shape)
    captions = ["a fox", "an owl"]
    expected = plain(captions, latents=z, num_inference_steps=1, guidance_scale=0, output_type="pt").images
    student = Teacher(str(tmp_path / "student"))
    made = student.decode(student.solve(z, captions, 1, 0.0, "student"))
    torch.testing.assert_close((made / 2 + 0.5).clamp(0, 1), expected, rtol=0, atol=1e-4)


def test_toy_latents_are_scaled_as_the_teacher_scales_them():
    """A VAE with statistics would be scaled by them in both."""
    from diffusion2gan.teacher import scale, unscale

    vae, raw = toy.vae(), torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(scale(raw, vae), raw * vae.config.scaling_factor, rtol=0, atol=0)
    torch.testing.assert_close(unscale(raw, vae), raw / vae.config.scaling_factor, rtol=0, atol=0)
