"""The VGG against torchvision's, its latent form against a hand-made one, and its way through a file."""

import pytest
import torch
from torch import nn
from torchvision.models import vgg16_bn

from diffusion2gan.errors import UserError
from diffusion2gan.networks.vgg import VGG


@pytest.fixture(scope="module")
def torchvision_layers():
    """Torchvision's VGG16-BN feature layers, with running statistics that are not those of a new network."""
    torch.manual_seed(0)
    with torch.device("meta"):
        layers = vgg16_bn(weights=None).features
    layers = layers.to_empty(device="cpu")
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return layers.eval()


def with_weights_of(layers: nn.Sequential, network: VGG) -> VGG:
    """The network with the layers' weights, which stand in the same order in both."""
    parts = [dict(layer.state_dict()) for layer in layers if list(layer.parameters())]
    values = [value for part in parts for value in part.values()]
    assert len(values) == len(network.blocks.state_dict())
    network.blocks.load_state_dict(dict(zip(network.blocks.state_dict(), values, strict=True)))
    return network.eval()


@torch.no_grad()
def test_pixel_taps_are_torchvisions_before_each_pool(torchvision_layers):
    network = with_weights_of(torchvision_layers, VGG("pixel", 3, 0))
    x = torch.randn(2, 3, 32, 32)
    expected, value = [], x
    for layer in torchvision_layers:
        if isinstance(layer, nn.MaxPool2d):
            expected.append(value)
        value = layer(value.clone())
    for tap, wanted in zip(network.features(x), expected, strict=True):
        torch.testing.assert_close(tap, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("space, channels", [("pixel", 3), ("latent", 4)])
def test_narrow_networks_classify_the_mean_of_the_last_pool(space, channels):
    network = VGG(space, channels, 5, width=0.125).eval()
    x = torch.randn(2, channels, 64, 64)
    last, linear = network.features(x)[-1], network.classifier[-1]
    if space == "pixel":  # the tap lies before the pool
        last = last.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
    torch.testing.assert_close(network(x), last.mean((2, 3)) @ linear.weight.T + linear.bias, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_latent_taps_are_the_slices_of_vgg_without_its_first_three_pools(torchvision_layers):
    latent = nn.Sequential(*torchvision_layers)
    latent[0] = nn.Conv2d(4, 64, 3, padding=1)
    for pool in (6, 13, 23):
        latent[pool] = nn.Identity()
    network = with_weights_of(latent, VGG("latent", 4, 0))
    x = torch.randn(2, 4, 16, 16)
    taps = network.features(x)
    assert [tap.shape[1:] for tap in taps] == [(64, 16, 16), (128, 16, 16), (256, 16, 16), (512, 8, 8), (512, 4, 4)]
    for tap, end in zip(taps, (7, 14, 24, 34, 44), strict=True):
        torch.testing.assert_close(tap, latent[:end](x.clone()), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("space, channels, side", [("latent", 4, 8), ("pixel", 3, 64)])
def test_folding_the_norms_changes_nothing_and_leaves_the_original_as_it_was(space, channels, side):
    torch.manual_seed(1)
    network = VGG(space, channels, 5, width=0.125)
    x = torch.randn(8, channels, side, side)
    network.train()(x)  # moves the running statistics
    folded = network.folded()
    assert network.training and not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    for tap, wanted in zip(folded.features(x), network.eval().features(x), strict=True):
        torch.testing.assert_close(tap, wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_saved_network_comes_back_the_same(tmp_path):
    network = VGG("latent", 4, 7, width=0.25)
    network.train()(torch.randn(4, 4, 8, 8))
    network.save(tmp_path / "vgg.safetensors")
    again = VGG.load(tmp_path / "vgg.safetensors")
    x = torch.randn(2, 4, 8, 8)
    assert again.settings == network.settings and again.widths == [16, 32, 64, 128, 128]
    assert torch.equal(again.eval()(x), network.eval()(x)) and again(x).shape == (2, 7)


def test_full_width_has_torchvisions_size():
    with torch.device("meta"):
        ours, theirs = VGG("pixel", 3, 1000), vgg16_bn(weights=None)
        latent = VGG("latent", 4, 1000)
    parameters = sum(p.numel() for p in theirs.parameters())
    assert sum(p.numel() for p in ours.parameters()) == parameters
    assert sum(p.numel() for p in latent.parameters()) == parameters + 64 * 9
    assert latent(torch.empty(1, 4, 64, 64, device="meta")).shape == (1, 1000)


def test_mistakes_are_errors(tmp_path):
    with pytest.raises(UserError, match="train_vgg.py"):
        VGG.load(tmp_path / "missing.safetensors")
    with pytest.raises(UserError, match="latent or pixel"):
        VGG("lab", 3, 2)
