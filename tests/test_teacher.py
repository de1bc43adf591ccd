"""The teacher's ODE is the one that diffusers solves."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
)
from huggingface_hub import constants

from diffusion2gan import teacher as teachers
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.seeds import noise
from diffusion2gan.teacher import Teacher

CAPTIONS = ["a red apple on a blue background", "a fox on a gray background"]


@pytest.fixture(scope="module")
def teacher(teacher_folder):
    return Teacher(str(teacher_folder))


@pytest.fixture(scope="module")
def xl(xl_folder):
    return Teacher(str(xl_folder))


@pytest.mark.parametrize("guidance", [1.0, 7.5])
@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", ["teacher", "xl"])
def test_solve_equals_the_pipeline_of_diffusers(request, monkeypatch, kind, predicts, guidance):
    teacher = request.getfixturevalue(kind)
    own = DDIMScheduler.from_config(teacher.scheduler.config, prediction_type=predicts, timestep_spacing="leading")
    monkeypatch.setattr(teacher, "scheduler", own)
    monkeypatch.setattr(teacher.pipeline, "scheduler", own)
    z = noise([1, 2], teacher.latent_shape)
    expected = teacher.pipeline(
        CAPTIONS, latents=z, num_inference_steps=5, guidance_scale=guidance, eta=0.0, output_type="latent"
    ).images
    # ε is divided by √ᾱ = 0.07 in the first steps, so latents of untrained weights grow large
    tolerance = 1e-5 * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(teacher.solve(z, CAPTIONS, 5, guidance), expected, rtol=0, atol=tolerance)


def test_dpm_solver_is_that_of_diffusers(teacher, monkeypatch):
    z = noise([1, 2], teacher.latent_shape)
    ddim, found = (teacher.solve(z, CAPTIONS, 5, 3.0, solver) for solver in ("ddim", "dpm-solver"))
    solver = DPMSolverMultistepScheduler.from_config(teacher.scheduler.config)
    monkeypatch.setattr(teacher.pipeline, "scheduler", solver)
    expected = teacher.pipeline(
        CAPTIONS, latents=z, num_inference_steps=5, guidance_scale=3.0, output_type="latent"
    ).images
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, expected.abs().max().item()))
    assert (found - ddim).abs().max() > 1e-3


def test_without_guidance_only_the_conditional_branch_is_evaluated(teacher):
    asked = []
    handle = teacher.unet.register_forward_pre_hook(lambda module, inputs: asked.append(len(inputs[0])))
    for guidance in (0.0, 1.0, 1.5):
        teacher.solve(noise([1, 2], teacher.latent_shape), CAPTIONS, 2, guidance)
    handle.remove()
    assert asked == [2, 2, 2, 2, 4, 4]


def test_sdxl_s_vae_stays_in_float32(xl_folder):
    half = Teacher(str(xl_folder), dtype=torch.float16)
    assert (half.unet.dtype, half.vae.dtype) == (torch.float16, torch.float32)


def test_a_student_takes_its_one_step(small_teacher_folder, tmp_path):
    Generator.from_teacher(small_teacher_folder).save(tmp_path / "student", small_teacher_folder)
    student = Teacher(str(tmp_path / "student"))
    z = noise([1, 2], student.latent_shape)
    with torch.no_grad():
        expected = Generator.from_teacher(tmp_path / "student")(z, **student.encode_text(CAPTIONS))
    tolerance = 1e-5 * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(student.solve(z, CAPTIONS, 1, 0.0, "student"), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("zeros", [True, False])
def test_the_unconditional_embedding_is_that_of_the_xl_pipeline(xl, monkeypatch, zeros):
    xl.pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    xl.__dict__.pop("unconditional", None)
    _, embeddings, _, pooled = xl.pipeline.encode_prompt("a fox", do_classifier_free_guidance=True)
    torch.testing.assert_close(xl.unconditional["text_embeddings"], embeddings)
    torch.testing.assert_close(xl.unconditional["text_embeds"], pooled)
    assert xl.unconditional["text_embeds"].any() == (not zeros)


@pytest.mark.parametrize("scheduler", [PNDMScheduler, EulerDiscreteScheduler])
def test_schedulers_that_cannot_clip_do_not_make_ddim_clip(teacher, monkeypatch, scheduler):
    other = scheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    assert "clip_sample" not in other.config
    monkeypatch.setattr(teacher, "scheduler", other)
    x = teacher.solve(4 * noise([1], teacher.latent_shape), CAPTIONS[:1], 3, 1.0)
    assert x.abs().max() > 2


def test_spacing_sets_where_the_solver_starts(teacher, monkeypatch):
    seen = []
    unet = teacher.unet

    def watched(inputs, t, *arguments, **conditions):
        seen.append(int(t))
        return unet(inputs, t, *arguments, **conditions)

    watched.dtype = unet.dtype
    monkeypatch.setattr(teacher, "unet", watched)
    monkeypatch.setattr(type(teacher), "latent_shape", (4, 16, 16))
    for spacing in ("leading", "trailing", "linspace", "own"):
        teacher.solve(noise([1], (4, 16, 16)), CAPTIONS[:1], 50, 1.0, spacing=spacing)
    assert seen[::50] == [981, 999, 999, 999]  # the toy teacher's own is trailing
    assert seen[49::50] == [1, 19, 0, 19]


def test_student_and_discriminator_take_the_conditions_of_both_kinds(teacher, xl):
    for each in (teacher, xl):
        conditions = each.encode_text(CAPTIONS)
        z = noise([1, 2], each.latent_shape)
        assert Generator.from_teacher(each.path)(z, **conditions).shape == z.shape
        judge = DiffusionDiscriminator.from_teacher(each.unet, z_conditioning=True, multi_scale=True)
        assert all(len(logits) == 2 for logits in judge(z, z, **conditions))
    assert conditions["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 2


@pytest.mark.parametrize("solver", ["ddim", "dpm-solver"])
def test_solvers_converge_to_the_closed_form_of_gaussian_data(teacher, monkeypatch, solver):
    """For data N(0, s²) the score is known and the ODE only rescales: x_t / sqrt(α²s² + σ²) is constant.

    Both are of first order in the end: their last step goes to the data in one jump.
    """
    alphas, s = teacher.scheduler.alphas_cumprod.double(), 0.3

    def velocity(x, t, text, added_cond_kwargs):
        alpha, sigma = alphas[t].sqrt(), (1 - alphas[t]).sqrt()
        variance = (alpha * s) ** 2 + sigma**2
        return SimpleNamespace(sample=(alpha * sigma - sigma * alpha * s**2) / variance * x)

    z = noise([3], teacher.latent_shape).double()
    velocity.dtype = torch.float64
    monkeypatch.setattr(teacher, "unet", velocity)
    deviation = ((alphas * s**2) + (1 - alphas)).sqrt()
    exact = z * deviation[0] / deviation[-1]
    errors = [(teacher.solve(z, CAPTIONS[:1], n, 0.0, solver) - exact).norm().item() for n in (25, 50, 100)]
    assert errors[0] > 1.7 * errors[1] > 1.7**2 * errors[2]
    assert errors[2] < 0.05 * exact.norm()


def test_noise_depends_on_its_seed_alone_and_never_changes():
    z = noise([5, 2**40 + 1], (4, 8, 8))
    torch.testing.assert_close(noise([2**40 + 1], (4, 8, 8))[0], z[1], rtol=0, atol=0)
    digest = hashlib.sha256(z.numpy().tobytes()).hexdigest()
    assert digest == "8c1e729dc52e76cddc2528318adb4d75ab59575b0267aa6897515c30d1ca8132"


@pytest.mark.parametrize("kind", ["teacher", "xl"])
def test_a_repeated_caption_is_encoded_once(request, monkeypatch, kind):
    teacher = request.getfixturevalue(kind)
    encode, encoded = teacher._encode, []
    monkeypatch.setattr(teacher, "_encode", lambda captions: encoded.append(captions) or encode(captions))
    conditions = teacher.encode_text([CAPTIONS[0], CAPTIONS[1], CAPTIONS[0]])
    assert encoded == [CAPTIONS]
    for name, each in teacher.encode_text(CAPTIONS[:1]).items():
        torch.testing.assert_close(conditions[name][2:], each)
    assert not torch.allclose(conditions["text_embeddings"][0], conditions["text_embeddings"][1])


def test_latents_are_scaled_on_the_way_in_and_out(teacher):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = teacher.encode_images(images)
    raw = teacher.vae.encode(images).latent_dist.mode()
    torch.testing.assert_close(latents, raw * teacher.vae.config.scaling_factor)
    torch.testing.assert_close(teacher.decode(latents), teacher.vae.decode(raw).sample, rtol=1e-4, atol=1e-4)


def test_a_large_batch_passes_through_the_vae_in_pieces(teacher, monkeypatch):
    images = torch.rand(7, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = teacher.encode_images(images)
    decoded = teacher.decode(latents)
    calls = []
    monkeypatch.setattr(teachers, "VAE_PIXELS", 3 * 64 * 64 + 1)
    for name in ("encode", "decode"):
        whole = getattr(teacher.vae, name)
        monkeypatch.setattr(
            teacher.vae, name, lambda x, name=name, whole=whole: (calls.append((name, len(x))), whole(x))[1]
        )
    torch.testing.assert_close(teacher.encode_images(images), latents, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(teacher.decode(latents), decoded, rtol=1e-4, atol=1e-4)
    assert calls == [("encode", 3), ("encode", 3), ("encode", 1), ("decode", 3), ("decode", 3), ("decode", 1)]
    calls.clear()
    monkeypatch.setattr(teachers, "VAE_PIXELS", 1)  # a single image is never cut
    teacher.decode(latents[:2])
    assert calls == [("decode", 1)] * 2


@pytest.mark.parametrize(("what", "count", "side"), [("encode", 192, 512), ("encode", 64, 512), ("decode", 16, 1024)])
def test_no_tensor_in_stable_diffusion_s_vae_exceeds_two_gibibytes(teacher, monkeypatch, what, count, side):
    """The batches of calibrate_lpips.py, encode_latents.py and sample.py, on tensors without memory."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    with torch.device("meta"):
        vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **blocks).eval()
    monkeypatch.setattr(teacher, "vae", vae)
    monkeypatch.setattr(teacher, "device", torch.device("meta"))
    sizes = []
    for module in vae.modules():
        module.register_forward_hook(
            lambda module, given, made: sizes.append(made.nbytes if torch.is_tensor(made) else 0)
        )
    if what == "encode":
        made = teacher.encode_images(torch.empty(count, 3, side, side, device="meta"))
    else:
        made = teacher.decode(torch.empty(count, 4, side // 8, side // 8, device="meta"))
    assert made.shape == ((count, 4, side // 8, side // 8) if what == "encode" else (count, 3, side, side))
    assert 2**29 < max(sizes) <= 2**31


def test_a_missing_pipeline_is_a_one_line_error(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for path in (str(tmp_path / "nowhere"), "nobody/nothing-of-this-name"):
        with pytest.raises(UserError, match="is neither a folder nor .*`hf download") as raised:
            Teacher(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="is not the folder of a diffusers pipeline"):
        Teacher(str(tmp_path))


def test_a_pipeline_of_another_kind_is_a_one_line_error(teacher_folder, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(teacher_folder, folder)

    def change(file, **settings):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    change("scheduler/scheduler_config.json", prediction_type="sample")
    with pytest.raises(UserError, match="has prediction_type: sample, which is not understood"):
        Teacher(str(folder))
    change("model_index.json", _class_name="FluxPipeline")
    with pytest.raises(UserError, match="is a FluxPipeline, it must be a StableDiffusionPipeline or a"):
        Teacher(str(folder))


def test_all_conditions_have_the_precision_of_the_text(teacher, xl):
    for each in (teacher, xl):
        conditions = each.encode_text(CAPTIONS)
        assert {condition.dtype for condition in conditions.values()} == {torch.float32}
        assert {len(condition) for condition in conditions.values()} == {len(CAPTIONS)}
