"""Published weights: where they are fetched from, and the error for a file that holds something else."""

import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.losses import published
from diffusion2gan.losses.lpips import LPIPS, VAES, ELatentLPIPS
from diffusion2gan.networks.vgg import VGG


@pytest.fixture
def quick(monkeypatch):
    """Skip initialisation of the 15 million weights of a whole VGG16."""
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda weight, *_, **__: weight)


def latent_file(path, channels=4, **changed):
    """A file of the authors' layout; tensors of the trunk count up, so that two that change places show."""
    trunk = VGG("latent", channels, 0).state_dict()
    weights = {}
    for number, (name, tensor) in enumerate(trunk.items()):
        _, place, layer, kind = name.split(".")
        weights[f"net.slice{int(place) + 1}.{layer}.{kind}"] = torch.full_like(tensor, number)
    for tap, width in enumerate((64, 128, 256, 512, 512)):
        weights[f"lin{tap}.model.1.weight"] = torch.arange(1.0, width + 1).view(1, width, 1, 1) + tap
    torch.save(weights | changed, path)
    return path


def test_the_authors_metric_is_fetched_for_each_autoencoder_they_published(tmp_path, monkeypatch):
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        return str(tmp_path / "found.pth")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    for vae in VAES:
        assert published.fetch(vae) == tmp_path / "found.pth"
    repository = "Mingguksky/elatentlpips"
    assert asked == [(repository, f"elatentlpips_ckpt/{vae}_latest_vgg16_tuned.pth") for vae in VAES]


@pytest.mark.parametrize(
    "error", [HfHubHTTPError.__new__(HfHubHTTPError), LocalEntryNotFoundError("offline"), OSError("no disk")]
)
def test_what_cannot_be_fetched_is_one_line(monkeypatch, error):
    def download(repository, name):
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(UserError) as said:
        ELatentLPIPS.from_pretrained("sdxl")
    assert str(said.value) == (
        "elatentlpips_ckpt/sdxl_latest_vgg16_tuned.pth of the hub's Mingguksky/elatentlpips cannot be fetched: "
        f"give the path of a copy ({type(error).__name__})"
    )
    assert said.value.__cause__ is error


def test_the_name_of_an_autoencoder_loads_the_authors_weights(tmp_path, monkeypatch, quick):
    file = latent_file(tmp_path / "sd15_latest_vgg16_tuned.pth")
    monkeypatch.setattr(published, "fetch", lambda vae: {"sd15": file}[vae])
    loaded = []
    monkeypatch.setattr(VGG, "folded", lambda trunk: loaded.append(trunk) or trunk)
    heads = ELatentLPIPS.from_pretrained("sd15").metric.heads
    ((trunk,), settings) = loaded, loaded[0].settings
    assert (settings["space"], settings["channels"], settings["classes"], settings["width"]) == ("latent", 4, 0, 1.0)
    numbers = [tensor.flatten()[0].item() for tensor in trunk.state_dict().values()]
    assert numbers == list(range(len(numbers)))
    assert [head[0].item() for head in heads] == [1, 2, 3, 4, 5] and [len(h) for h in heads] == trunk.widths


def test_the_trunk_takes_the_channels_of_the_file(tmp_path, quick):
    trunk, _ = published.read(latent_file(tmp_path / "flux_latest_vgg16_tuned.pth", channels=16))
    assert trunk.channels == 16


def test_a_file_with_other_tensors_under_the_right_names_is_an_error(tmp_path, quick):
    changed = {"net.slice1.0.weight": torch.zeros(64, 4, 5, 5)}
    for more in (changed, {"net.slice9.0.weight": torch.zeros(1)}):
        file = latent_file(tmp_path / "wrong.pth", **more)
        with pytest.raises(UserError) as said:
            LPIPS.load(file)
        assert str(said.value) == (
            f"'{file}' has the names of a VGG16, but tensors of other shapes: use the published file"
        )


def test_a_file_that_torch_cannot_read_is_an_error(tmp_path):
    for content in (b"", b"not a pickle", b"PK\x03\x04 an archive cut short"):
        (tmp_path / "broken.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"broken.pth' holds no tensors: \w+$"):
            LPIPS.load(tmp_path / "broken.pth")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(UserError, match="holds no tensors: .*Is a directory"):
        LPIPS.load(tmp_path / "folder.pt")


def test_images_need_the_package_with_their_heads(tmp_path, monkeypatch, quick):
    assert published._pixel_heads().is_file()
    asked = []
    monkeypatch.setattr(published, "find_spec", lambda name: asked.append(name))
    features = VGG("pixel", 3, 0, batch_norm=False).state_dict()
    torch.save({f"features.{i}.weight": tensor for i, tensor in enumerate(features.values())}, tmp_path / "vgg16.pth")
    with pytest.raises(
        UserError, match="^the heads of LPIPS in pixels come with the package `lpips`: pip install lpips$"
    ):
        LPIPS.load(tmp_path / "vgg16.pth")
    assert asked == ["lpips"]


def test_messages_say_which_files_there_are(tmp_path):
    with pytest.raises(UserError) as said:
        LPIPS.load(tmp_path / "vgg16.pth")
    assert str(said.value) == (
        f"there is no '{tmp_path / 'vgg16.pth'}': torchvision's VGG16 is "
        "https://download.pytorch.org/models/vgg16-397923af.pth (528 MB), the authors' metrics are in "
        "https://huggingface.co/Mingguksky/elatentlpips"
    )
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError) as said:
        LPIPS.load(tmp_path / "other.pth")
    assert str(said.value) == (
        f"'{tmp_path / 'other.pth'}' has another layout: give a calibrated latent metric (*_latest_vgg16_tuned.pth), "
        "torchvision's vgg16-397923af.pth, or a .safetensors of calibrate_lpips.py"
    )
