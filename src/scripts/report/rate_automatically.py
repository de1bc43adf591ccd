"""Answer the human preference study with CLIP, an automatic rater, to test the study without people.

For alignment it prefers the image with the higher CLIP score. For realism it prefers the image with the higher
realism score among the benchmark's images in CLIP's feature space (Kynkäänniemi et al. 2019).
"""

from pathlib import Path

import pandas as pd
import torch
from torch.nn import functional as F

from diffusion2gan.human_study import preferences
from diffusion2gan.metrics.clip_score import CLIP, cosines
from diffusion2gan.metrics.features import cached
from diffusion2gan.metrics.precision_recall import realism
from diffusion2gan.report.tables import write_csv
from diffusion2gan.sampling.folder import ImageFiles, image_paths, model_folders
from diffusion2gan.settings import CLIPSettings, Resizing
from diffusion2gan.study import cli

RATER = f"{preferences.AUTOMATIC}clip"


class Arguments(CLIPSettings, Resizing):
    key: Path
    models: list[str]
    benchmark: Path
    out: Path


def main(args: Arguments):
    key = preferences.read_key(args.key)
    captions = key.set_index("picture")["caption"].to_dict()
    clip = CLIP(args.clip, torch.device("cuda" if torch.cuda.is_available() else "cpu"), args.clip_prefix)
    texts = clip.captions(list(captions.values()))
    reference = ImageFiles(image_paths(args.benchmark / "images"), args.resolution, args.resize_filter)
    kept = args.benchmark.with_name(f"{args.benchmark.name}.features")
    real = cached(clip.embed, reference, kept, "clip", {"clip": clip.spec})

    scores = {}
    for row, folder in model_folders(args.models).items():
        files = image_paths(folder)
        fake = clip.embed(ImageFiles([files[i] for i in captions], args.resolution, args.resize_filter))
        values = {"realism": realism(fake, real), "alignment": cosines(F.normalize(fake), texts)}
        scores[row] = pd.DataFrame({name: value.numpy() for name, value in values.items()}, index=list(captions))
    choices = [choose(trial, scores) for trial in key.itertuples()]
    answers = key.assign(rater=RATER, choice=choices, seconds=0)
    write_csv(answers[preferences.HEADER], args.out)


def choose(trial, scores: dict[str, pd.DataFrame]) -> str:
    """The side with the higher score."""
    left, right = (scores[row].at[trial.picture, trial.question] for row in (trial.left, trial.right))
    return "tie" if left == right else "left" if left > right else "right"


if __name__ == "__main__":
    cli.run(main)
