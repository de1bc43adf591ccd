"""The automatic rater, with a CLIP that sees the mean colour of an image and the colour a caption names."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from diffusion2gan.images import save_png
from diffusion2gan.metrics.precision_recall import realism
from diffusion2gan.sampling.folder import ImageFiles, image_paths
from scripts.report import rate_automatically

COLOURS = {"red": (1.0, 0.2, 0.1), "green": (0.1, 1.0, 0.3), "blue": (0.2, 0.1, 1.0)}


class Clip:
    """Stands for `CLIP`; keeps what it was asked for."""

    made = []

    def __init__(self, spec, device, prefix):
        self.spec, self.read = spec, []
        self.made.append((spec, device, prefix, self))

    def embed(self, images):
        self.read.append((images.resolution, images.resize_filter))
        return torch.tensor(np.stack([image.mean((0, 1)) for image in images]) / 255, dtype=torch.float32)

    def captions(self, captions):
        return F.normalize(torch.tensor([COLOURS[caption] for caption in captions]))


def folder(path, colours):
    path.mkdir(parents=True)
    for number, colour in enumerate(colours):
        save_png((np.ones((8, 8, 1)) * np.array(colour) * 255).astype(np.uint8), path / f"{number:05d}.png")
    return path


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The rater's options, for two rows of five images and a benchmark; the key asks for two of the images."""
    monkeypatch.setattr(rate_automatically, "CLIP", Clip)
    Clip.made.clear()
    random = np.random.default_rng(0)
    shown = {name: random.uniform(0, 1, (5, 3)) for name in ("ours", "theirs")}
    folders = {name: folder(tmp_path / name, colours) for name, colours in shown.items()}
    folder(tmp_path / "bench" / "images", random.uniform(0, 1, (9, 3)))
    lines = [
        {"trial": f"t{number}", "question": question, "row": "ours", "against": "theirs", "picture": picture,
         "left": ("ours", "theirs")[swap], "right": ("theirs", "ours")[swap], "caption": caption}
        for number, (question, picture, caption, swap) in enumerate(
            [(asked, *shown) for asked in ("realism", "alignment") for shown in ((3, "blue", 0), (1, "red", 1))]
        )
    ]  # fmt: skip
    pd.DataFrame(lines).to_csv(tmp_path / "key.csv", index=False)
    args = rate_automatically.Arguments(
        key=tmp_path / "key.csv", models=[f"{name}={path}" for name, path in folders.items()],
        benchmark=tmp_path / "bench", out=tmp_path / "new" / "answers.csv",
        clip="toy-clip", clip_prefix="a ", resolution=4, resize_filter="box",
    )  # fmt: skip
    return args, folders, lines


def test_each_answer_is_the_side_that_clip_scores_higher(study, tmp_path):
    args, folders, lines = study
    rate_automatically.main(args)
    ((spec, device, prefix, clip),) = Clip.made
    assert (spec, device, prefix) == ("toy-clip", torch.device("cpu"), "a ")
    assert set(clip.read) == {(4, "box")} and len(clip.read) == 3
    found = pd.read_csv(args.out)
    assert list(found) == ["rater", "question", "trial", "choice", "seconds"]
    assert set(found["rater"]) == {"automatic-clip"} and set(found["seconds"]) == {0}
    assert found["trial"].tolist() == [line["trial"] for line in lines]
    assert found["question"].tolist() == [line["question"] for line in lines]

    embed = Clip("", None, "").embed
    real = embed(ImageFiles(image_paths(tmp_path / "bench" / "images"), 4, "box"))
    for line, choice in zip(lines, found["choice"], strict=True):
        scores = {}
        for side in ("left", "right"):
            files = image_paths(folders[line[side]])
            fake = embed(ImageFiles([files[line["picture"]]], 4, "box"))
            if line["question"] == "realism":
                scores[side] = realism(fake, real).item()
            else:
                scores[side] = F.cosine_similarity(fake, torch.tensor([COLOURS[line["caption"]]])).item()
        assert choice == max(scores, key=scores.get), line


def test_the_benchmark_is_embedded_once_for_a_clip(study, tmp_path):
    args, *_ = study
    for _ in range(2):
        rate_automatically.main(args)
    assert [len(clip.read) for *_, clip in Clip.made] == [3, 2]
    (kept,) = (tmp_path / "bench.features").iterdir()
    assert kept.name.startswith("clip-")
    with safe_open(kept, "pt") as file:
        assert '"clip": "toy-clip"' in file.metadata()["recipe"]
