"""Figure 3: each latent descends by itself, however many are decoded at once."""

import pandas as pd
import pytest
import torch

from diffusion2gan.errors import UserError
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.teacher import Teacher
from scripts.latentlpips import reconstruct


@pytest.fixture
def metrics(tmp_path):
    """Metrics of random weights for latents and pixels."""
    torch.manual_seed(0)
    files = {}
    for space, channels in (("latent", 4), ("pixel", 3)):
        trunk = VGG(space, channels, 0, width=0.125)
        files[f"{space}_metric"] = tmp_path / f"{space}.safetensors"
        LPIPS(trunk, [torch.rand(width) for width in trunk.widths]).save(files[f"{space}_metric"])
    return files


def curves(folder, teacher, **settings):
    defaults = {"images": "openmoji", "pictures": 2, "seeds": 2, "iterations": 3, "learning_rate": 0.1, "log_every": 1}
    files = {"curves": folder / "curves.csv", "pictures_out": folder / "pictures.safetensors"}
    reconstruct.main(reconstruct.Arguments(teacher=str(teacher), **defaults | files | settings))
    return pd.read_csv(files["curves"])


def test_under_lpips_a_few_latents_are_decoded_at_once(tmp_path, small_teacher_folder, metrics, monkeypatch):
    decode, sizes = Teacher.decode, []

    def recorded(self, latents):
        if latents.requires_grad and torch.is_grad_enabled():
            sizes.append(len(latents))
        return decode(self, latents)

    monkeypatch.setattr(Teacher, "decode", recorded)
    together = curves(tmp_path, small_teacher_folder, loss="lpips", **metrics)
    assert set(sizes) == {4}
    sizes.clear()
    apart = curves(tmp_path, small_teacher_folder, loss="lpips", decoded=3, **metrics)
    assert sizes == [3, 1] * 4
    assert together["metric"].iloc[-4:].mean() != together["metric"].iloc[:4].mean()
    pd.testing.assert_frame_equal(apart, together, rtol=1e-3)


def test_a_descent_that_diverges_leaves_no_curve(tmp_path, small_teacher_folder, metrics):
    """Its curve would end in empty cells."""
    with pytest.raises(UserError, match=r"step \d of mse: the distance of start 0 has values that are NaN or infinite"):
        curves(tmp_path, small_teacher_folder, loss="mse", learning_rate=1e30, **metrics)
    assert not list(tmp_path.glob("curves*"))


def test_losses_in_latents_take_all_latents_at_once(tmp_path, small_teacher_folder, metrics):
    """So that the random transforms of E-LatentLPIPS do not depend on memory."""
    runs = [curves(tmp_path, small_teacher_folder, loss="e_latent_lpips", decoded=n, **metrics) for n in (1, 4)]
    pd.testing.assert_frame_equal(*runs, rtol=0)
