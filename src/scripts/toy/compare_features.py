"""Which feature space of FID sees what people see: FID of real scenes that are degraded in known ways.

Every degradation has degrees from weak to strong. A feature space is useful if its FID rises with each, and if even the
weak ones stand out from the spread of FID between sets of real scenes. It is chosen before any student is looked at.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from diffusion2gan.metrics.clip_score import CLIP
from diffusion2gan.metrics.features import Features
from diffusion2gan.metrics.fid import Reference, fid
from diffusion2gan.report.tables import write_csv
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy.degradations import degraded, real

SIDES = 64, 128, 224  # of the images that EfficientNet sees
FLOORS = 4  # sets of real scenes: their FIDs show how much chance alone changes it


@dataclass
class Arguments:
    teacher: Path
    clip: Path
    out: Path
    count: int = 1000


def main(args: Arguments):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spaces = {f"efficientnet-lite0 at {side}": Features("efficientnet-lite0", device, side) for side in SIDES}
    spaces["clip"] = CLIP(f"local-dir:{args.clip}", device).images
    reference, *others = (real(number, args.count) for number in range(1 + FLOORS))
    changed = degraded(Teacher(str(args.teacher)), 1 + FLOORS, args.count)

    lines = []
    for space, features in spaces.items():
        known = Reference(features(reference))
        floors = [fid(features(images), known) for images in others]
        lines.append((space, "none", 0, statistics.mean(floors), 1.0, 0.0))
        for (kind, degree), images in changed.items():
            found = fid(features(images), known)
            apart = (found - statistics.mean(floors)) / statistics.stdev(floors)
            lines.append((space, kind, degree, found, found / statistics.mean(floors), apart))
            print(*lines[-1], flush=True)
    columns = ["features", "degradation", "degree", "fid", "ratio", "deviations"]
    write_csv(pd.DataFrame(lines, columns=columns), args.out)


if __name__ == "__main__":
    cli.run(main)
