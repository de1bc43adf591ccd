"""The cost of a run: images per second (Table 1), device-days (Table 7), evaluations (Table 6), pairs included.

Images per second are converted to 8 GPUs, as Table 1 seems to do: it has 127.5 for the batch that was trained on 8 GPUs
and 128.0 for the one on 64.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from diffusion2gan.errors import UserError
from diffusion2gan.evaluations import Evaluations, combined
from diffusion2gan.io import write_json
from diffusion2gan.report.inputs import read_metrics
from diffusion2gan.study import cli
from diffusion2gan.study.cost import took

DAY = 24 * 3600
GPUS = 8  # images per second are converted to this number, as in Table 1


@dataclass
class Arguments:
    run: str
    scale: str
    out: Path
    trainings: list[Path]  # of the run, then of the trainings that it starts from
    timings: list[Path] = field(default_factory=list)  # of one device each
    seed: int = 0


def main(args: Arguments):
    trainings = read_metrics(args.trainings, {"metrics", "device", "seconds", "processes", "evaluations"})
    devices = {record["device"] for record in trainings}
    if len(devices) > 1:
        raise UserError(
            f"{args.run} was trained on {' and '.join(sorted(devices))}: days on different devices cannot be added; "
            "train its stages on one kind"
        )
    (device,) = devices
    days = {"training": sum(record["seconds"] * record["processes"] for record in trainings) / DAY}
    for path in args.timings:
        days[path.parent.name] = days.get(path.parent.name, 0.0) + seconds(path) / DAY
    spent = combined([Evaluations(**record["evaluations"]) for record in trainings])
    a100 = "A100" in device
    metrics, gpus = trainings[0]["metrics"], 0 if device.startswith("cpu") else trainings[0]["processes"]
    if gpus:
        metrics |= {"images_per_second": metrics["images_per_second"] * GPUS / gpus}
    result = {
        "run": args.run,
        "benchmark": None,
        "scale": args.scale,
        "seed": args.seed,
        "metrics": metrics
        | {"device_days": sum(days.values())}
        | ({"a100_days": sum(days.values())} if a100 else {})
        | spent.metrics,
        "evaluations": asdict(spent),
        "days": days,
        "trainings": list(map(str, args.trainings)),
        "gpus": gpus,
        "device": device,
        "conversion": f"one device day is one day of one {device}"
        + ("" if a100 else "; there is no conversion to days of an A100, which the paper counts"),
    }
    write_json(args.out, result)


def seconds(path: Path) -> float:
    """The seconds of a job, as recorded by Snakemake."""
    if not path.is_file():
        raise UserError(f"the time of {path.parent.name} is unknown, because {path} is missing: make its output again")
    return took(path)


if __name__ == "__main__":
    cli.run(main)
