"""LPIPS against the published packages, and the properties a distance must have."""

import warnings

import pytest
import torch
from official import vgg as official
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.losses.ensemble import PRESETS, Ensemble
from diffusion2gan.losses.lpips import LPIPS, VAES, ELatentLPIPS, PixelLPIPS, scaled
from diffusion2gan.networks.vgg import VGG


def metric(space="latent", channels=4, seed=0) -> LPIPS:
    torch.manual_seed(seed)
    trunk = VGG(space, channels, 0, width=0.125)
    return LPIPS(trunk, [torch.rand(width) for width in trunk.widths])


@pytest.fixture
def quick(monkeypatch):
    """Skip initialisation: the packages would initialise 138 million weights at every start."""
    for initialise in ("kaiming_normal_", "normal_", "constant_"):
        monkeypatch.setattr(nn.init, initialise, lambda *_, **__: None)
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda _: None)


@torch.no_grad()
@pytest.mark.parametrize("encoder, channels, side", [("sd15", 4, 64), ("flux", 16, 32)])
def test_agrees_with_the_authors_latent_package(encoder, channels, side, tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    theirs, tuned = official.authors_metric(tmp_path, encoder, channels)
    ours = LPIPS.load(tuned)
    x0, x1 = torch.randn(2, 1, channels, side, side)
    expected = theirs(x0, x1, ensembling=False, add_l1_loss=False).flatten()
    assert expected.min() > 1e-2
    torch.testing.assert_close(ours(x0, x1), expected, rtol=1e-5, atol=0)

    raw = x0 / 3, x1 / 3
    theirs = theirs(*raw, ensembling=False, add_l1_loss=True, normalize=True).flatten()
    x0, x1 = (scaled(x, encoder) for x in raw)
    torch.testing.assert_close(ours(x0, x1) + (x0 - x1).abs().mean((1, 2, 3)), theirs, rtol=1e-5, atol=0)


@torch.no_grad()
def test_agrees_with_lpips_in_pixels(tmp_path, quick):
    import lpips

    network = official.torchvision_vgg16(tmp_path / "vgg16-397923af.pth")

    theirs = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)  # its heads, from inside the package
    mine = [weight for name, weight in network.state_dict().items() if name.startswith("features")]
    theirs.net.load_state_dict(dict(zip(theirs.net.state_dict(), mine, strict=True)))
    x0, x1 = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    expected = theirs(x0, x1).flatten()
    assert expected.min() > 1e-3
    torch.testing.assert_close(LPIPS.load(tmp_path / "vgg16-397923af.pth")(x0, x1), expected, rtol=1e-5, atol=0)


def test_the_gradient_flows_to_x0_alone():
    """The second argument is the target, so nothing is kept for a backward pass through it."""
    decoder = nn.ConvTranspose2d(4, 3, 8, stride=8).requires_grad_(False)
    with_graph = []

    def decode(x):
        with_graph.append(torch.is_grad_enabled())
        return decoder(x)

    for loss in (metric(), ELatentLPIPS(metric(), Ensemble("bgco")), PixelLPIPS(metric("pixel", 3), decode)):
        x0, x1 = (x.requires_grad_() for x in torch.randn(2, 2, 4, 4, 4).unbind())
        loss(x0, x1).sum().backward()
        assert x0.grad.abs().sum() > 0 and x1.grad is None
    assert sorted(with_graph) == [False, True]


@pytest.mark.parametrize(
    "weights", [{}, {"conv.weight": torch.zeros(2)}, {"features.0.weight": torch.zeros(64, 4, 3, 3)}]
)
def test_weights_of_another_layout_are_an_error(weights, tmp_path):
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(UserError, match="another layout"):
        LPIPS.load(tmp_path / "other.pth")


@pytest.mark.parametrize("draws", [0, -1, 1.5])
def test_a_wrong_number_of_draws_is_an_error(draws):
    with pytest.raises(UserError, match=f"draws={draws}: average over 1, 2, 3"):
        ELatentLPIPS(metric(), Ensemble("b"), draws=draws)


def test_a_misspelt_metric_is_an_error_that_lists_the_names():
    with pytest.raises(UserError, match="no metric 'sd4': use one of sd15, sd21, sdxl, sd3, flux, or a file"):
        ELatentLPIPS.from_pretrained("sd4")


def test_a_vgg_that_was_never_calibrated_is_an_error(tmp_path):
    VGG("latent", 4, 3, width=0.125).save(tmp_path / "vgg.safetensors")
    with pytest.raises(UserError, match="without the weights of its features: calibrate it"):
        ELatentLPIPS.from_pretrained(tmp_path / "vgg.safetensors")


def test_the_error_for_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(UserError, match="no .*vgg16.pth': .*download.pytorch.org"):
        LPIPS.load(tmp_path / "vgg16.pth")


def test_nothing_but_tensors_is_unpickled(tmp_path):
    class Code:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"net.slice1.0.weight": Code()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="holds no tensors"):
        LPIPS.load(tmp_path / "evil.pth")


def test_is_zero_for_equal_inputs_positive_otherwise_and_symmetric():
    d = metric()
    x0, x1 = torch.randn(2, 4, 4, 8, 8)
    assert (d(x0, x0) == 0).all()
    assert (d(x0, x1) > 0).all()
    torch.testing.assert_close(d(x0, x1), d(x1, x0))


def test_a_distance_does_not_depend_on_the_other_samples():
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
            step = 1e-7  # small enough that no ReLU changes sign
            expected = (d(x0 + step * direction, x1) - d(x0 - step * direction, x1)).item() / (2 * step)
        assert (slope * direction).sum().item() == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_the_gradient_is_finite_where_all_features_are_zero():
    d = metric()
    for bias in (p for name, p in d.named_parameters() if name.endswith("bias")):
        bias.fill_(-100.0)
    x0 = torch.randn(1, 4, 8, 8, requires_grad=True)
    distance = d(x0, torch.randn(1, 4, 8, 8))
    assert distance.tolist() == [0]
    distance.sum().backward()
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
    with pytest.raises(ValueError, match="^the heads of LPIPS must not be negative$"):
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
    halved = [nn.functional.avg_pool2d(decoder(x), 2) for x in (x0, x1)]  # equals bilinear resizing to half the side
    torch.testing.assert_close(PixelLPIPS(d, decoder, side=16)(x0, x1), d(*halved))


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


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("autocast", [False, True])
def test_the_ensembled_distance_is_a_distance_whatever_the_transform(preset, autocast):
    """Zero for equal inputs, positive otherwise, symmetric, the same for the same generator, differentiable."""
    loss = ELatentLPIPS(metric(), Ensemble(preset))
    torch.manual_seed(1)
    x0, x1 = torch.randn(2, 3, 4, 8, 8)

    def d(a, b, seed=5):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return loss(a, b, torch.Generator().manual_seed(seed))

    there = d(x0, x1)
    assert there.dtype == torch.float32
    assert (there > 0).all()
    assert torch.equal(d(x0, x0), torch.zeros(3))
    torch.testing.assert_close(d(x1, x0), there, rtol=1e-6, atol=0)
    assert torch.equal(d(x0, x1), there)
    assert not torch.equal(d(x0, x1, seed=6), there)
    x0.requires_grad_()
    d(x0, x1).sum().backward()
    assert x0.grad.isfinite().all() and x0.grad.abs().sum() > 0


@pytest.mark.parametrize("preset", PRESETS)
def test_the_ensembled_gradient_is_that_of_finite_differences(preset):
    loss = ELatentLPIPS(metric().double(), Ensemble(preset))
    torch.manual_seed(1)
    x0, x1 = torch.randn(2, 1, 4, 4, 4, dtype=torch.float64)
    x0.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: loss(x, x1, torch.Generator().manual_seed(3)), x0, eps=1e-6, atol=1e-6, rtol=1e-4
    )


def test_the_public_loss_loads_in_one_line(tmp_path):
    metric().save(tmp_path / "lpips.safetensors")
    torch.manual_seed(1)
    x0, x1 = torch.randn(2, 2, 4, 8, 8)

    def d(a, b, **options):
        loss = ELatentLPIPS.from_pretrained(tmp_path / "lpips.safetensors", **options)
        return loss(a, b, torch.Generator().manual_seed(0))

    torch.testing.assert_close(d(x0, x1, add_l1=True), d(x0, x1) + (x0 - x1).abs().mean((1, 2, 3)))
    assert not torch.equal(d(x0, x1, ensemble="bg"), d(x0, x1))
    shift, factor = VAES["sd3"]
    torch.testing.assert_close(
        d(x0 / factor + shift, x1 / factor + shift, vae="sd3", add_l1=True), d(x0, x1, add_l1=True)
    )


def test_unscaled_latents_are_warned_of_once():
    loss, x = ELatentLPIPS(metric(), Ensemble("b")), torch.randn(1, 4, 8, 8)
    with pytest.warns(UserWarning, match="look unscaled"):
        loss(x / 0.18215, x / 0.18215)
    with warnings.catch_warnings(action="error"):
        loss(x / 0.18215, x / 0.18215)
        ELatentLPIPS(metric(), Ensemble("b"))(x, x)
        ELatentLPIPS(metric(), Ensemble("b"), vae="sd15")(x / 0.18215, x / 0.18215)


@pytest.mark.parametrize(
    "space, shapes, told",
    [
        ("latent", [(1, 3, 8, 8)] * 2, "this metric takes latents .*: use the metric of the VAE that made them$"),
        ("latent", [(2, 4, 8)] * 2, r"\(N, 4, h, w\), not \(2, 4, 8\): use the metric"),
        ("latent", [(1, 4, 3, 8)] * 2, "at least 4"),
        ("pixel", [(1, 4, 8, 8)] * 2, "at least 16"),
        ("latent", [(1, 4, 8, 8), (2, 4, 8, 8)], "inputs of the same shape"),
    ],
)
def test_latents_of_a_wrong_shape_are_an_error(space, shapes, told):
    with pytest.raises(UserError, match=told):
        metric(space)(*(torch.zeros(shape) for shape in shapes))


def test_unknown_names_are_an_error(tmp_path):
    with pytest.raises(UserError, match="no autoencoder 'sd4': use one of sd15, sd21, sdxl, sd3, flux, or scale"):
        ELatentLPIPS(metric(), Ensemble("b"), vae="sd4")
    with pytest.raises(UserError, match="is not a calibrated metric"):
        ELatentLPIPS.from_pretrained(tmp_path / "nowhere.safetensors")
