"""All that trains under autocast, forward and backward, under CUDA's autocast rules and without a GPU."""

from functools import partial

import pytest
import torch
from built import InMemory
from diffusers import UNet2DConditionModel
from torch.nn import functional as F

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.r1 import single_sample_r1
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.generator import Generator
from diffusion2gan.losses import LPIPS, PERCEPTUAL, POINTWISE, BatchPart, Ensemble, regression_loss
from diffusion2gan.losses.adversarial import discriminator_loss, generator_loss
from diffusion2gan.memory.cuda import cuda_autocast
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import GANSettings, LossSettings, VGGSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy import networks as toy
from diffusion2gan.training.adversarial import AdversarialTraining
from diffusion2gan.training.lpips.classification import LatentBatches, VGGTraining

CAPTIONS = ["a red apple on a blue background", "a fox on a gray background"]
PRECISIONS = [torch.float32, torch.bfloat16, torch.float16]
SMALL = {**toy.unet().config, "block_out_channels": (8, 16, 32), "norm_num_groups": 4}


@pytest.fixture(autouse=True)
def rules_of_cuda():
    with cuda_autocast():
        yield


@pytest.fixture(params=PRECISIONS, ids=str)
def precision(request):
    """The context of autocast in this type, none for float32."""
    return partial(torch.autocast, "cpu", request.param, enabled=request.param != torch.float32)


def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel.from_config(SMALL)


NETWORKS = {
    "generator": lambda: Generator(unet(), toy.scheduler()),
    "diffusion discriminator": lambda: DiffusionDiscriminator(unet(), z_conditioning=True, multi_scale=True),
    "gigagan discriminator": lambda: GigaGANDiscriminator((4, 8, 8), 64, width=16, max_width=32),
}


def samples(side=8):
    """Two latents, their noise and text."""
    torch.manual_seed(1)
    return torch.randn(2, 4, side, side), torch.randn(2, 4, side, side), torch.randn(2, 7, 64)


def score(network, x, z, text):
    """A scalar of what the network computes."""
    if isinstance(network, Generator):
        return network(z, text).square().mean()
    logits = network(x, z, text)
    return discriminator_loss(logits, logits) + generator_loss(logits)


def gradients(network, value):
    weights = list(network.parameters())
    found = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
    return torch.cat([each.flatten() for each in found])


def assert_close_to_float32(network, compute, precision, cosine=0.95, length=0.1):
    """The value, and the direction and length of its gradient, are those in float32."""
    exact = compute()
    wanted = gradients(network, exact)
    with precision():
        value = compute()
    got = gradients(network, value)
    assert value.dtype == torch.float32 and value.item() == pytest.approx(exact.item(), rel=0.03)
    assert F.cosine_similarity(got, wanted, dim=0) > cosine
    assert got.norm().item() == pytest.approx(wanted.norm().item(), rel=length)


OPERATORS = {  # with the type that CUDA's autocast computes, read off tensors without data on a GPU that is not there
    "convolution": (lambda x, h: F.conv2d(x, x[:, :, :3, :3]), torch.bfloat16),
    "product": (lambda x, h: x @ x, torch.bfloat16),
    "attention": (lambda x, h: F.scaled_dot_product_attention(x, x, x), torch.bfloat16),
    "group norm": (lambda x, h: F.group_norm(h, 2), torch.float32),
    "softmax": (lambda x, h: h.softmax(-1), torch.float32),
    "softplus": (lambda x, h: F.softplus(h), torch.float32),
    "sum": (lambda x, h: h.sum(), torch.float32),
    "mean": (lambda x, h: h.mean(), torch.bfloat16),
    "square": (lambda x, h: h.square(), torch.float32),
    "root": (lambda x, h: h.rsqrt(), torch.float32),
    "concatenation": (lambda x, h: torch.cat([x, h]), torch.float32),
    "resized by area": (lambda x, h: F.interpolate(h, (4, 4), mode="area"), torch.bfloat16),
    "enlarged": (lambda x, h: F.interpolate(h, scale_factor=2), torch.float32),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_types_are_those_of_cuda_s_own_autocast(name):
    x = torch.ones(2, 4, 8, 8)
    compute, expected = OPERATORS[name]
    with torch.autocast("cpu", torch.bfloat16):
        assert compute(x, x.bfloat16()).dtype == expected


def test_what_only_the_cpu_converts_is_not_converted():
    """CUDA has no rule for the inverse of a matrix, and refuses one that an earlier product has rounded."""
    maps = torch.eye(3).expand(2, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError, match="Low precision dtypes not supported"):
            torch.linalg.inv(maps @ maps)
        with pytest.raises(RuntimeError, match="unsafe to autocast"):
            F.binary_cross_entropy(torch.rand(2), torch.rand(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_learn_the_same_in_every_precision(name, precision):
    network, inputs = NETWORKS[name](), samples()
    assert_close_to_float32(network, lambda: score(network, *inputs), precision)


@pytest.mark.parametrize("name", ["diffusion discriminator", "gigagan discriminator"])
def test_r1_is_exact_in_every_precision(name, precision):
    network, (x, z, text) = NETWORKS[name](), samples()
    exact = single_sample_r1(network, x, z, text, gamma=0.1, every=16)
    with precision():
        penalty = single_sample_r1(network, x, z, text, gamma=0.1, every=16)
    assert torch.equal(penalty, exact) and torch.equal(gradients(network, penalty), gradients(network, exact))


@pytest.mark.parametrize("name", [*POINTWISE, *PERCEPTUAL])
def test_losses_learn_the_same_in_every_precision(name, precision, tmp_path):
    torch.manual_seed(0)
    trunk = VGG(PERCEPTUAL.get(name, "latent"), 3 if name == "lpips" else 4, 0, width=0.125)
    LPIPS(trunk, [torch.rand(width) for width in trunk.widths]).save(tmp_path / "metric.safetensors")
    codec = toy.vae().requires_grad_(False)
    loss = regression_loss(LossSettings(loss=name), tmp_path / "metric.safetensors", lambda x: codec.decode(x).sample)
    network, (x, z, text) = NETWORKS["generator"](), samples()
    # a decoder with random weights amplifies what bfloat16 rounds; so does a backbone of high frequencies
    allowed = {"lpips": {"cosine": 0.5, "length": 0.3}, "e_latent_lpips": {"cosine": 0.9, "length": 0.2}}.get(name, {})
    compute = lambda: loss(network(z, text), x, BatchPart(slice(0, 2), 4, seed=3))  # noqa: E731
    assert_close_to_float32(network, compute, precision, **allowed)


@pytest.mark.parametrize("latents", PRECISIONS, ids=str)
@pytest.mark.parametrize("side", [8, 64])
def test_transforms_are_computed_in_float32(side, latents, precision):
    """Only the values of half-precision latents are rounded, once each, and never where they are read."""
    x = torch.randn(4, 4, side, side, generator=torch.Generator().manual_seed(0)).to(latents)
    exact, _ = Ensemble("bg")(x.float(), x.float(), torch.Generator().manual_seed(2))
    with precision():
        moved, _ = Ensemble("bg")(x, x, torch.Generator().manual_seed(2))
    assert moved.dtype == latents and torch.equal(moved, exact.to(latents))


@pytest.mark.parametrize("name", ["diffusion discriminator", "gigagan discriminator"])
def test_a_step_of_the_gan_with_everything_on(name, precision, small_teacher_folder, tmp_path):
    torch.manual_seed(0)
    trunk = VGG("latent", 4, 0, width=0.125)
    LPIPS(trunk, [torch.rand(width) for width in trunk.widths]).save(tmp_path / "metric.safetensors")
    kind = name.split()[0]
    on = dict.fromkeys(("z_conditioning", "multi_scale", "mix_and_match"), True) if kind == "diffusion" else {}
    settings = GANSettings(
        loss="e_latent_lpips", iterations=1, batch_size=4, learning_rate=1e-4, d_learning_rate=1e-4, r1=True,
        discriminator=kind, **on,
    )  # fmt: skip

    def step(precision):
        torch.manual_seed(0)
        teacher = Teacher(str(small_teacher_folder))
        training = AdversarialTraining(
            Generator.from_teacher(small_teacher_folder), teacher, InMemory(CAPTIONS),
            regression_loss(LossSettings(loss="e_latent_lpips"), tmp_path / "metric.safetensors"),
            NETWORKS[name](), settings,
        )  # fmt: skip
        training.precision = precision
        torch.manual_seed(0)
        return training.step(0)

    exact, numbers = step(partial(torch.autocast, "cpu", enabled=False)), step(precision)
    assert exact.keys() == numbers.keys() and exact["r1"] > 0
    for loss in ("loss", "regression_loss", "gan_loss", "discriminator_loss", "r1"):
        assert numbers[loss] == pytest.approx(exact[loss], rel=0.05), loss


def test_a_step_of_the_metric_s_backbone(precision, monkeypatch):
    torch.manual_seed(0)
    batches = LatentBatches(torch.randn(20, 4, 8, 8), torch.arange(20) % 3, 8, 0, slice(0, 8))
    settings = VGGSettings(classes=3, iterations=1, batch_size=8, learning_rate=1e-3, autocast=True)
    autocast = torch.autocast
    monkeypatch.setattr(
        torch, "autocast", lambda *_, enabled: precision() if enabled else autocast("cpu", enabled=False)
    )
    network = VGG("latent", 4, 3, width=0.125)
    numbers = VGGTraining(network, batches, settings).step(0)
    assert numbers["loss"] == pytest.approx(torch.log(torch.tensor(3.0)).item(), rel=0.5)
