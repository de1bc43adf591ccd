"""The training loop of docs/e-latentlpips.md runs with every autoencoder of its table, scaled by the numbers there."""

import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from diffusion2gan.losses import LPIPS, ELatentLPIPS, published
from diffusion2gan.losses.ensemble import PRESETS
from diffusion2gan.losses.lpips import VAES
from diffusion2gan.networks.vgg import VGG

PAGE = (Path(__file__).parents[2] / "docs/e-latentlpips.md").read_text(encoding="utf-8")
LOOP = re.search(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[1]
ROWS = re.findall(r"^\| [^|]+ \| `(\S+/\S+)` \| (\d+) \| (.*?raw.*?) \| `(\w+)` \|$", PAGE, re.MULTILINE)


def as_the_page_scales(raw, words):
    """`raw × 0.5` or `(raw − 0.25) × 0.5`, as the page writes it."""
    shift, factor = re.fullmatch(r"(?:raw|\(raw − ([\d.]+)\)) × ([\d.]+)", words).groups()
    return (raw - float(shift or 0)) * float(factor)


def test_every_autoencoder_and_every_preset_has_its_row():
    assert [name for *_, name in ROWS] == list(VAES)
    assert re.findall(r"^\| `(bg?c?o?)`", PAGE, re.MULTILINE) == list(PRESETS)


@pytest.mark.parametrize("hub, channels, scaled, name", ROWS, ids=[name for *_, name in ROWS])
def test_the_loop_runs_with_each_autoencoder(monkeypatch, tmp_path, hub, channels, scaled, name):
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    vae = AutoencoderKL(block_out_channels=[8] * 4, norm_num_groups=4, latent_channels=int(channels), **blocks)
    trunk = VGG("latent", int(channels), 0, width=0.125)
    LPIPS(trunk, [torch.rand(width) for width in trunk.widths]).save(tmp_path / "lpips.safetensors")
    asked = []
    monkeypatch.setattr(AutoencoderKL, "from_pretrained", lambda *given, **how: asked.append((given, how)) or vae)
    monkeypatch.setattr(published, "fetch", lambda name: asked.append(name) or tmp_path / "lpips.safetensors")

    network = nn.Conv2d(int(channels), int(channels), 3, padding=1)
    inputs, images = torch.randn(2, int(channels), 8, 8), torch.rand(2, 3, 64, 64) * 2 - 1
    names = {"network": network, "loader": [(images, inputs)]}
    exec(LOOP.replace(ROWS[0][0], hub).replace('"sd15"', f'"{name}"'), names)
    names["loss"].backward()
    assert asked == [((hub,), {"subfolder": "vae"}), name]
    assert network.weight.grad.abs().sum() > 0 and all(each.grad is None for each in vae.parameters())

    raw = network(inputs).detach(), names["target"]
    by_hand = [as_the_page_scales(each, scaled) for each in raw]
    of_scaled = ELatentLPIPS.from_pretrained(tmp_path / "lpips.safetensors")
    torch.testing.assert_close(
        names["perceptual"](*raw, torch.Generator().manual_seed(1)),
        of_scaled(*by_hand, torch.Generator().manual_seed(1)),
    )
