"""The teacher's ODE is the one that diffusers solves."""

import hashlib
from types import SimpleNamespace

import pytest
import torch

from diffusion2gan.errors import UserError
from diffusion2gan.teacher import Teacher, noise

CAPTIONS = ["a red apple on a blue background", "a fox on a gray background"]


@pytest.fixture(scope="module")
def teacher(teacher_folder):
    return Teacher(str(teacher_folder))


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
def test_solve_equals_the_pipeline_of_diffusers(teacher, guidance):
    z = noise([1, 2], teacher.latent_shape)
    expected = teacher.pipeline(
        CAPTIONS, latents=z, num_inference_steps=5, guidance_scale=guidance, eta=0.0, output_type="latent"
    ).images
    torch.testing.assert_close(teacher.solve(z, CAPTIONS, 5, guidance), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", ["ddim", "dpm-solver"])
def test_solvers_converge_to_the_closed_form_of_gaussian_data(teacher, monkeypatch, solver):
    """For data N(0, s²) the score is known and the ODE only rescales: x_t / sqrt(α²s² + σ²) is constant.

    Both are of first order in the end: their last step goes to the data in one jump.
    """
    alphas, s = teacher.scheduler.alphas_cumprod.double(), 0.3

    def velocity(x, t, text):
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


def test_a_repeated_caption_has_the_embedding_of_a_single_one(teacher):
    embeddings = teacher.encode_text([CAPTIONS[0], CAPTIONS[1], CAPTIONS[0]])
    torch.testing.assert_close(embeddings[2], teacher.encode_text(CAPTIONS[:1])[0])
    assert not torch.allclose(embeddings[0], embeddings[1])


def test_latents_are_scaled_on_the_way_in_and_out(teacher):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = teacher.encode_images(images)
    raw = teacher.vae.encode(images).latent_dist.mode()
    torch.testing.assert_close(latents, raw * teacher.vae.config.scaling_factor)
    torch.testing.assert_close(teacher.decode(latents), teacher.vae.decode(raw).sample, rtol=1e-4, atol=1e-4)


def test_a_missing_pipeline_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match="is not the hub id, or folder") as raised:
        Teacher(str(tmp_path / "nowhere"))
    assert "\n" not in str(raised.value)
