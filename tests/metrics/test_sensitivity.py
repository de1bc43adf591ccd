"""What the metrics say of pictures that are spoilt in a known way, with the networks of the small scales."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from diffusion2gan.metrics.clip_score import CLIP, clip_score
from diffusion2gan.metrics.dreamsim import DreamSim, diversities
from diffusion2gan.metrics.features import Features
from diffusion2gan.metrics.fid import fid
from diffusion2gan.metrics.kid import kid
from diffusion2gan.metrics.precision_recall import precision_recall
from diffusion2gan.toy.openmoji import Scenes
from diffusion2gan.toy.quality import ImageList

CPU = torch.device("cpu")
ASSET = f"local-dir:{Path(__file__).parents[2] / 'assets/toy/clip'}"
COUNT = 100


@pytest.fixture(scope="module")
def drawn():
    scenes = Scenes("benchmark", 5, 64)
    return [scenes[i] for i in range(COUNT)]


@pytest.fixture(scope="module")
def measure(drawn):
    """FID and KID of a change of the pictures, against other scenes."""
    network, others = Features("efficientnet-lite0", CPU, 64), Scenes("benchmark", 6, 64)
    reference = network(ImageList([others[i].image for i in range(COUNT)]))

    def of(change):
        changed = network(ImageList([change(scene.image) for scene in drawn]))
        return fid(changed, reference), kid(changed, reference)

    return of


def blur(radius):
    return lambda picture: np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def noise(deviation):
    random = np.random.default_rng(0)
    return lambda picture: (picture + random.normal(0, deviation, picture.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("spoil", [blur, noise])
def test_fid_and_kid_grow_with_blur_and_noise(measure, spoil):
    amounts = (0.7, 2.0) if spoil is blur else (10, 40)
    series = [measure(lambda picture: picture), *(measure(spoil(amount)) for amount in amounts)]
    for name in zip(*series, strict=True):
        assert list(name) == sorted(name)


def test_dropping_modes_costs_fid_and_recall_but_no_precision():
    """Two clusters: of the drawn, all are in one."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(600, 8, generator=generator)
    real[300:, 0] += 12
    both = torch.randn(600, 8, generator=generator)
    both[300:, 0] += 12
    one = torch.cat([both[:300], torch.randn(300, 8, generator=generator)])
    precision, recall = precision_recall(both, real)
    precision_of_one, recall_of_one = precision_recall(one, real)
    assert recall_of_one == pytest.approx(recall / 2, abs=0.05)
    assert precision_of_one == pytest.approx(precision, abs=0.05)
    assert fid(one, real) > 10 * fid(both, real) and kid(one, real) > 10 * abs(kid(both, real))


def test_shuffled_captions_cost_clip_score(drawn):
    clip = CLIP(ASSET, CPU)
    pictures = clip.images(ImageList([scene.image for scene in drawn]))
    captions = clip.captions([scene.prompt.caption for scene in drawn])
    assert clip_score(pictures, captions) > clip_score(pictures, captions.roll(1, dims=0)) + 0.3


def test_one_picture_over_and_over_has_no_diversity(drawn):
    network = DreamSim(ASSET, CPU)
    again = network(ImageList([drawn[0].image] * 8))
    other = network(ImageList([scene.image for scene in drawn[:8]]))
    assert diversities(again, 8).item() == pytest.approx(0, abs=1e-6) and diversities(other, 8).item() > 0.1
