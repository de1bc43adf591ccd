"""Measure the samples of a run against a benchmark."""

import time
from pathlib import Path

from diffusion2gan import provenance
from diffusion2gan.io import write_json
from diffusion2gan.metrics.samples import ScoredImages
from diffusion2gan.metrics.scores import Scores
from diffusion2gan.study import cli


class Arguments(ScoredImages):
    run: str
    scale: str
    out: Path


def main(args: Arguments):
    start = time.monotonic()
    scores = Scores(args).measure()
    result = {
        **cli.settings_of(args, ["run", "scale", "seed", "features"]),
        "benchmark": args.benchmark.name,
        "metrics": scores.values,
        "intervals": scores.intervals,
        "count": len(scores.images),
        "recipe": scores.recipe,
        "sample": scores.sample,
        "speed": scores.speed,
        "resamples": args.resamples,
        **provenance.record(
            {"recipe": scores.recipe, "sample": scores.sample, "metrics": sorted(scores.values)}, scores.device
        ),
        "seconds": round(time.monotonic() - start, 3),
        "parts": scores.parts,
    }
    write_json(args.out, result)


if __name__ == "__main__":
    cli.run(main)
