"""Networks and losses run where their inputs are, in the precision of their inputs. `meta` stands for a GPU: an
operation on it and on the CPU fails."""

from contextlib import nullcontext

import pytest
import torch

from diffusion2gan.losses import LPIPS, ELatentLPIPS, Ensemble, PixelLPIPS, mse, pseudo_huber, regression_loss
from diffusion2gan.losses.ensemble import PRESETS
from diffusion2gan.metrics.features import efficientnet_lite0
from diffusion2gan.metrics.speed import parameters
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.pixel.edm import EDM
from diffusion2gan.pixel.heun import heun, heun_step
from diffusion2gan.pixel.model import PixelGenerator
from diffusion2gan.settings import LossSettings

SMALL = {"model_channels": 8, "channel_mult": (1, 2), "num_blocks": 1, "attn_resolutions": ()}


def metric(space, channels, device="meta"):
    trunk = VGG(space, channels, 0, width=0.125)
    return LPIPS(trunk, [torch.rand(width) for width in trunk.widths]).to(device)


def ensembled():
    loss = ELatentLPIPS(metric("latent", 4), Ensemble("bgco"), add_l1=True)
    loss.looked = True  # at the deviation of the latents, which have none
    return loss


def decode(x):
    return x[:, :3].repeat_interleave(4, 2).repeat_interleave(4, 3)


def network():
    return EDM(16, **SMALL).to("meta")


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    """Autocast does not know `meta`."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


LATENT_LPIPS = LossSettings(loss="latent_lpips")
X = torch.empty(3, 4, 8, 8, device="meta")
IMAGES = torch.empty(3, 3, 16, 16, device="meta")


@pytest.mark.parametrize(
    ("compute", "shape"),
    [
        (lambda: Ensemble("bgco")(X, X)[1], X.shape),
        (lambda: Ensemble("bgco").draw(6, 8)[2:5](X), X.shape),
        (lambda: metric("latent", 4)(X, X), (3,)),
        (lambda: ensembled()(X, X, batch=4, rows=slice(3)), (3,)),
        (lambda: PixelLPIPS(metric("pixel", 3), decode, 24)(X, X), (3,)),
        (lambda: mse(X, X) + pseudo_huber(X, X), ()),
        (lambda: regression_loss(LATENT_LPIPS, metric("latent", 4, "cpu"), None, "meta")(X, X), ()),
        (lambda: efficientnet_lite0(torch.device("meta"))(torch.empty(2, 3, 64, 64, device="meta")), (2, 1280)),
        (lambda: network()(IMAGES, 1.5), IMAGES.shape),
        (lambda: network()(IMAGES, torch.rand(3)), IMAGES.shape),
        (lambda: PixelGenerator(network())(IMAGES), IMAGES.shape),
        (lambda: heun(lambda x, sigma: x, IMAGES, 3), IMAGES.shape),
        (lambda: heun_step(lambda x, sigma: x, IMAGES, torch.ones(3), torch.full((3,), 0.5)), IMAGES.shape),
    ],
)
def test_nothing_stays_on_the_cpu(compute, shape):
    computed = compute()
    assert computed.device.type == "meta" and computed.shape == shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("preset", PRESETS)
def test_transforms_keep_the_precision_of_the_latents(preset, dtype):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 8, 8).to(dtype)
    assert all(each.dtype == dtype for each in Ensemble(preset)(x, x))


def test_weights_are_counted_on_any_device():
    assert parameters(network()) == parameters(EDM(16, **SMALL))
