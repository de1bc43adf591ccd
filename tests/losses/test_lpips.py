"""LPIPS against the published packages, and the properties a distance must have."""

import pytest
import torch
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.losses.ensemble import Ensemble
from diffusion2gan.losses.lpips import LPIPS, ELatentLPIPS, PixelLPIPS
from diffusion2gan.networks.vgg import VGG


def metric(space="latent", channels=4, seed=0) -> LPIPS:
    torch.manual_seed(seed)
    trunk = VGG(space, channels, 0, width=0.125)
    return LPIPS(trunk, [torch.rand(width) for width in trunk.widths])


def adopt(network: VGG, modules: list[nn.Module]) -> VGG:
    """The network with the weights of convolutions and norms given in its order."""
    values = [value for module in modules for value in module.state_dict().values()]
    network.load_state_dict(dict(zip(network.state_dict(), values, strict=True)))
    return network


def trained(theirs: nn.Module) -> list[nn.Module]:
    """The trunk's convolutions and norms, statistics and heads made random (heads positive)."""
    for name, parameter in theirs.named_parameters():
        if name.startswith("lin"):
            parameter.data.uniform_(0, 1)
    modules = [m for m in theirs.net.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    for norm in (m for m in modules if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 1.5)
    return modules


@torch.no_grad()
def test_agrees_with_the_authors_latent_package(tmp_path, monkeypatch):
    elatentlpips = pytest.importorskip("elatentlpips", reason="pip install elatentlpips to compare with it")
    from elatentlpips.vgg16 import LatentVGG16BN

    torch.manual_seed(0)
    for initialise in ("kaiming_normal_", "normal_", "constant_"):  # 138 million weights, drawn twice
        monkeypatch.setattr(nn.init, initialise, lambda *_, **__: None)
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda _: None)
    # it would fetch a checkpoint into ./ckpt; one of random weights takes its place
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "sd15_latent_vgg16.pth.tar").touch()
    checkpoint = {"state_dict": LatentVGG16BN(4).state_dict(), "best_acc1": 0}
    monkeypatch.setattr(torch, "load", lambda *_, **__: checkpoint)
    theirs = elatentlpips.ELatentLPIPS(pretrained=False, encoder="sd15", augment=None, verbose=False)

    trunk = adopt(VGG("latent", 4, 0), trained(theirs))
    ours = LPIPS(trunk, [lin.model[-1].weight.flatten() for lin in theirs.lins])
    x0, x1 = torch.randn(2, 3, 4, 16, 16)
    expected = theirs(x0, x1, ensembling=False, add_l1_loss=False).flatten()
    assert expected.min() > 1e-2
    torch.testing.assert_close(ours(x0, x1), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_agrees_with_lpips_in_pixels(monkeypatch):
    lpips = pytest.importorskip("lpips", reason="pip install lpips to compare with it")
    torch.manual_seed(0)
    for initialise in ("kaiming_normal_", "normal_", "constant_"):
        monkeypatch.setattr(nn.init, initialise, lambda *_, **__: None)
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda _: None)
    theirs = lpips.LPIPS(pretrained=False, net="vgg", pnet_rand=True, verbose=False)

    trunk = adopt(VGG("pixel", 3, 0, batch_norm=False), trained(theirs))
    ours = LPIPS(trunk, [lin.model[-1].weight.flatten() for lin in theirs.lins])
    x0, x1 = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    expected = theirs(x0, x1).flatten()
    assert expected.min() > 1e-3
    scaled = theirs.scaling_layer(x0), theirs.scaling_layer(x1)  # ours leaves this to the first batch norm
    torch.testing.assert_close(ours(*scaled), expected, rtol=1e-4, atol=1e-5)


def test_is_zero_at_home_positive_elsewhere_and_symmetric():
    d = metric()
    x0, x1 = torch.randn(2, 4, 4, 8, 8)
    assert (d(x0, x0) == 0).all()
    assert (d(x0, x1) > 0).all()
    torch.testing.assert_close(d(x0, x1), d(x1, x0))


def test_a_sample_is_judged_alone():
    d = metric()
    x0, x1 = torch.randn(2, 4, 4, 8, 8)
    torch.testing.assert_close(d(x0, x1)[2:3], d(x0[2:3], x1[2:3]))


def test_the_gradient_is_that_of_finite_differences():
    d = metric().double()
    x0, x1 = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    x0.requires_grad_()
    (slope,) = torch.autograd.grad(d(x0, x1).sum(), x0)
    for seed in range(3):
        direction = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            step = 1e-7  # no ReLU changes its side within it
            expected = (d(x0 + step * direction, x1) - d(x0 - step * direction, x1)).item() / (2 * step)
        assert (slope * direction).sum().item() == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_the_gradient_is_finite_where_all_features_are_zero():
    d = metric()
    for bias in (p for name, p in d.named_parameters() if name.endswith("bias")):
        bias.fill_(-100.0)
    x0 = torch.randn(1, 4, 8, 8, requires_grad=True)
    d(x0, torch.randn(1, 4, 8, 8)).sum().backward()
    assert x0.grad.isfinite().all()


def test_is_frozen_and_the_same_in_training_mode():
    torch.manual_seed(0)
    trunk = VGG("latent", 4, 5, width=0.125)
    trunk.train()(torch.randn(8, 4, 8, 8))
    d = LPIPS(trunk, [torch.rand(width) for width in trunk.widths])
    x0, x1 = torch.randn(2, 4, 4, 8, 8)
    before = d.eval()(x0, x1)
    assert torch.equal(nn.Sequential(d).train()[0](x0, x1), before)
    assert torch.equal(d(x0, x1), before)
    assert not any(parameter.requires_grad for parameter in d.parameters())
    assert trunk.training and all(parameter.requires_grad for parameter in trunk.parameters())


def test_heads_must_not_be_negative():
    trunk = VGG("latent", 4, 0, width=0.125)
    with pytest.raises(ValueError, match="negative"):
        LPIPS(trunk, [torch.full((width,), -0.1) for width in trunk.widths])


def test_a_saved_metric_comes_back_the_same(tmp_path):
    d = metric()
    d.save(tmp_path / "lpips.safetensors")
    again = LPIPS.load(tmp_path / "lpips.safetensors")
    x0, x1 = torch.randn(2, 2, 4, 8, 8)
    assert torch.equal(again(x0, x1), d(x0, x1)) and again.space == "latent"
    with pytest.raises(UserError, match="calibrate_lpips.py"):
        LPIPS.load(tmp_path / "missing.safetensors")


def test_pixel_lpips_compares_what_is_decoded():
    d = metric("pixel", 3)
    decoder = nn.ConvTranspose2d(4, 3, 8, stride=8)
    x0, x1 = torch.randn(2, 2, 4, 4, 4)
    x0.requires_grad_()
    distance = PixelLPIPS(d, decoder)(x0, x1)
    torch.testing.assert_close(distance, d(decoder(x0), decoder(x1)))
    distance.sum().backward()
    assert x0.grad.abs().sum() > 0


def test_the_ensemble_transforms_both_alike():
    d = metric()
    ensemble = Ensemble("bgco")
    e = ELatentLPIPS(d, ensemble)
    x0, x1 = torch.randn(2, 4, 4, 8, 8)
    assert (e(x0, x0) == 0).all()
    value = e(x0, x1, torch.Generator().manual_seed(3))
    assert torch.equal(value, e(x0, x1, torch.Generator().manual_seed(3)))
    assert not torch.equal(value, e(x0, x1, torch.Generator().manual_seed(4)))
    torch.testing.assert_close(value, d(*ensemble(x0, x1, torch.Generator().manual_seed(3))))
