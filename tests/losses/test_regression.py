"""The point-wise losses in closed form, and the names of all of them."""

import math

import pytest
import torch

from diffusion2gan.errors import UserError
from diffusion2gan.losses import BatchPart, regression_loss
from diffusion2gan.losses.ensemble import PRESETS, Ensemble
from diffusion2gan.losses.lpips import LPIPS, ELatentLPIPS
from diffusion2gan.losses.regression import l1, mse, pseudo_huber
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import LossSettings


def test_mse_is_the_mean_square():
    assert mse(torch.full((2, 4, 8, 8), 3.0), torch.ones(2, 4, 8, 8)) == 4


def test_l1_is_the_mean_absolute_difference():
    x0, x1 = torch.zeros(2, 4, 8, 8), torch.zeros(2, 4, 8, 8)
    x0[0, 0, 0, 0], x1[1, 3, 7, 7] = -128.0, 384.0
    assert l1(x0, x1) == 1 and l1(x1, x0) == 1


def test_pseudo_huber_in_closed_form():
    x0 = torch.zeros(2, 4, 8, 8)
    x1 = torch.zeros(2, 4, 8, 8)
    x1[0, 0, 0, 0], x1[1, 1, 2, 3], x1[1, 3, 7, 7] = 2.0, 3.0, 4.0  # norms 2 and 5
    c = 0.00054 * 16  # √256
    expected = (math.sqrt(4 + c**2) + math.sqrt(25 + c**2)) / 2 - c
    torch.testing.assert_close(pseudo_huber(x0, x1), torch.tensor(expected))
    torch.testing.assert_close(pseudo_huber(x0, x1, c=12.0), torch.tensor((math.sqrt(148) + 13) / 2 - 12))


def test_pseudo_huber_has_a_gradient_where_the_two_are_equal():
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    pseudo_huber(x, x.detach().clone()).backward()
    assert (x.grad == 0).all()


@pytest.fixture(scope="module")
def metric_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    for space, channels in (("latent", 4), ("pixel", 3)):
        trunk = VGG(space, channels, 0, width=0.125)
        LPIPS(trunk, [torch.rand(width) for width in trunk.widths]).save(folder / f"{space}.safetensors")
    return folder


def test_the_names_give_the_losses(metric_files):
    x0, x1 = torch.randn(2, 3, 4, 8, 8)
    latent, pixel = metric_files / "latent.safetensors", metric_files / "pixel.safetensors"

    def decode(x):
        return x[:, :3].repeat_interleave(4, 2).repeat_interleave(4, 3)

    assert regression_loss(LossSettings(loss="l1"))(x0, x1) == (x0 - x1).abs().mean()
    assert regression_loss(LossSettings(loss="mse"))(x0, x1) == mse(x0, x1)
    assert regression_loss(LossSettings(loss="pseudo_huber"))(x0, x1) == pseudo_huber(x0, x1)
    torch.testing.assert_close(
        regression_loss(LossSettings(loss="latent_lpips"), latent)(x0, x1), LPIPS.load(latent)(x0, x1).mean()
    )
    in_pixels = LPIPS.load(pixel)(decode(x0), decode(x1)).mean()
    torch.testing.assert_close(regression_loss(LossSettings(loss="lpips"), pixel, decode)(x0, x1), in_pixels)
    halved = [torch.nn.functional.avg_pool2d(decode(x), 2) for x in (x0, x1)]
    torch.testing.assert_close(
        regression_loss(LossSettings(loss="lpips"), pixel, decode, side=16)(x0, x1), LPIPS.load(pixel)(*halved).mean()
    )
    ensembled = regression_loss(LossSettings(loss="e_latent_lpips", ensemble="bg"), latent)
    assert ensembled(x0, x1).ndim == 0 and ensembled(x0, x1) != ensembled(x0, x1)


@pytest.mark.parametrize("name", ["lpips", "latent_lpips", "e_latent_lpips"])
def test_the_second_latent_is_the_target(metric_files, name):
    file = metric_files / ("pixel.safetensors" if name == "lpips" else "latent.safetensors")
    loss = regression_loss(
        LossSettings(loss=name), file, lambda x: x[:, :3].repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    x0, x1 = (x.requires_grad_() for x in torch.randn(2, 2, 4, 8, 8).unbind())
    loss(x0, x1).backward()
    assert x0.grad.abs().sum() > 0 and x1.grad is None


@pytest.mark.parametrize("preset", PRESETS)
def test_the_ensemble_has_the_parts_of_its_preset(metric_files, preset):
    loss = regression_loss(LossSettings(loss="e_latent_lpips", ensemble=preset), metric_files / "latent.safetensors")
    x0, x1 = torch.randn(2, 3, 4, 8, 8)
    transformed = Ensemble(preset)(x0, x1, torch.Generator().manual_seed(3))
    expected = LPIPS.load(metric_files / "latent.safetensors")(*transformed).mean()
    torch.testing.assert_close(loss(x0, x1, BatchPart(slice(0, 3), 3, seed=3)), expected)


def test_the_ensemble_has_its_resampling_and_averages_over_its_draws(metric_files):
    settings = LossSettings(loss="e_latent_lpips", ensemble="bg", resampling="bilinear", draws=3)
    x0, x1 = torch.randn(2, 3, 4, 8, 8)
    ensemble, generator = Ensemble("bg", "bilinear"), torch.Generator().manual_seed(3)
    metric = LPIPS.load(metric_files / "latent.safetensors")
    expected = torch.stack([metric(*ensemble(x0, x1, generator)).mean() for _ in range(3)]).mean()
    loss = regression_loss(settings, metric_files / "latent.safetensors")
    torch.testing.assert_close(loss(x0, x1, BatchPart(slice(0, 3), 3, seed=3)), expected)
    pretrained = ELatentLPIPS.from_pretrained(metric_files / "latent.safetensors", "bg", resampling="bilinear", draws=3)
    given = pretrained(x0, x1, torch.Generator().manual_seed(3)).mean()
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("preset", ["b", "bgco"])
def test_the_ensemble_of_a_batch_does_not_depend_on_how_it_is_split(metric_files, preset):
    loss = regression_loss(LossSettings(loss="e_latent_lpips", ensemble=preset), metric_files / "latent.safetensors")
    x0, x1 = torch.randn(2, 6, 4, 8, 8)
    whole = loss(x0, x1, BatchPart(slice(0, 6), 6, seed=3))
    cut = [loss(x0[rows], x1[rows], BatchPart(rows, 6, seed=3)) for rows in (slice(0, 2), slice(2, 4), slice(4, 6))]
    torch.testing.assert_close(sum(cut) / 3, whole)
    assert loss(x0, x1, BatchPart(slice(0, 6), 6, seed=4)) != whole
    same = loss(x0[:1].expand(6, -1, -1, -1)[:2], x1[:2], BatchPart(slice(0, 2), 6, seed=3))
    assert same != loss(x0[:1].expand(6, -1, -1, -1)[:2], x1[:2], BatchPart(slice(2, 4), 6, seed=3))


def test_mistakes_are_errors(metric_files):
    with pytest.raises(UserError, match="loss is 'mea', did you mean 'mse'"):
        LossSettings(loss="mea")
    with pytest.raises(UserError, match="--lpips"):
        regression_loss(LossSettings(loss="latent_lpips"))
    with pytest.raises(UserError, match="compares latents"):
        regression_loss(LossSettings(loss="e_latent_lpips"), metric_files / "pixel.safetensors")
    with pytest.raises(UserError, match="no ensemble 'bx'"):
        Ensemble("bx")
