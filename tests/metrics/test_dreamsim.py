import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.metrics import dreamsim
from diffusion2gan.metrics.dreamsim import DreamSim, distances, diversities
from diffusion2gan.sampling.folder import ImageFiles

CPU = torch.device("cpu")


@pytest.fixture
def files(tmp_path):
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / f"{i:05d}.png")
    return sorted(tmp_path.glob("*.png"))


@pytest.fixture
def package(monkeypatch):
    """The package's model class and its call, with a linear map where its transformers would be."""
    from dreamsim import model  # it starts slowly

    perceptual = model.PerceptualModel.__new__(model.PerceptualModel)
    torch.nn.Module.__init__(perceptual)
    torch.manual_seed(0)
    linear = torch.nn.Linear(3 * 8 * 8, 12).eval().requires_grad_(False)
    perceptual.extract_feats_list = [lambda x, extractor_index: linear(x.flatten(1))]
    perceptual.feat_type_list, perceptual.is_patch = ["cls"], False
    perceptual.normalize_embeds, perceptual.mlp = True, torch.nn.Identity()

    def preprocess(picture):
        small = np.asarray(picture.convert("RGB").resize((8, 8)), dtype=np.float32) / 255
        return torch.from_numpy(small).permute(2, 0, 1)[None]

    asked = []

    def call(**options):
        asked.append(options)
        return perceptual, preprocess

    monkeypatch.setitem(sys.modules, "dreamsim", SimpleNamespace(dreamsim=call))
    return SimpleNamespace(model=perceptual, preprocess=preprocess, asked=asked)


def test_equals_the_packages_own_call(files, package, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dreamsim, "CACHE", tmp_path / "new" / "cache")
    monkeypatch.setattr(dreamsim, "BATCH", 4)
    vectors = DreamSim("ensemble", CPU)(ImageFiles(files, 16))
    assert capsys.readouterr().err.startswith("DreamSim of the images: 2/2, ")
    wanted = {"pretrained": True, "device": "cpu", "dreamsim_type": "ensemble"}
    assert package.asked == [wanted | {"cache_dir": str(tmp_path / "new" / "cache")}]
    assert (tmp_path / "new" / "cache").is_dir()
    prepared = [package.preprocess(Image.open(file)) for file in files]
    for i in range(3):
        expected = package.model(prepared[i], prepared[i + 3]).item()
        assert distances(vectors[i : i + 1], vectors[i + 3 : i + 4]).item() == pytest.approx(expected, abs=1e-6)
    pairs = [package.model(prepared[i], prepared[j]).item() for i in range(3) for j in range(i)]
    assert diversities(vectors[:3], 3).item() == pytest.approx(sum(pairs) / 3, abs=1e-6)


def test_diversity_is_the_mean_over_pairs():
    vectors = torch.nn.functional.normalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)))
    found = diversities(vectors, 4)
    for prompt in range(3):
        group = vectors[4 * prompt : 4 * prompt + 4].double()
        pairs = [1 - float(group[i] @ group[j]) for i in range(4) for j in range(i)]
        assert found[prompt].item() == pytest.approx(sum(pairs) / 6, abs=1e-6)


def test_identical_images_have_no_diversity_and_no_distance():
    vectors = torch.nn.functional.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)))
    assert diversities(vectors.repeat_interleave(8, dim=0), 8) == pytest.approx([0, 0, 0], abs=1e-6)
    assert distances(vectors, vectors) == pytest.approx([0, 0, 0], abs=1e-6)


def test_what_is_missing_is_one_line(package, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="not 4 of each prompt"):
        diversities(torch.zeros(7, 2), 4)
    monkeypatch.setattr(dreamsim, "CACHE", tmp_path)

    def offline(**options):
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "dreamsim", SimpleNamespace(dreamsim=offline))
    with pytest.raises(UserError, match=f"no network.*'{tmp_path}'.*fetches its weights and, through torch.hub, DINO"):
        DreamSim("ensemble", CPU)
    with pytest.raises(UserError, match="no network.*dreamsim_type='clip_vitb32'.*fetches its weights; or name"):
        DreamSim("clip_vitb32", CPU)
    monkeypatch.setitem(sys.modules, "dreamsim", None)
    with pytest.raises(UserError) as error:
        DreamSim("ensemble", CPU)
    assert str(error.value) == (
        "the package dreamsim is not installed: pip install -e '.[paper]' in this project's folder"
    )
