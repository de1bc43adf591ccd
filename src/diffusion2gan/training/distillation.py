"""What the stages of distillation share: their settings, what a training starts from, and what it leaves."""

import json
import resource
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from diffusion2gan import provenance
from diffusion2gan.errors import UserError
from diffusion2gan.generator import load_student
from diffusion2gan.io import atomic
from diffusion2gan.losses import regression_loss
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.pairs.shards import shard_recipe
from diffusion2gan.pixel.consistency import ImageDataset
from diffusion2gan.pixel.model import PixelTeacher
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distributed
from diffusion2gan.training.distributed import Fitting
from diffusion2gan.training.loop import Schedule, train
from diffusion2gan.training.regression import RegressionTraining

SHOWN = 10  # sample grids in a training                                                          # ours


@dataclass(kw_only=True)
class Settings:
    """The options of every stage. `batch_size` is that of all processes and micro-batches together."""

    teacher: str
    loss: str
    iterations: int
    batch_size: int
    checkpoints: Path
    out: Path
    history: Path
    metrics: Path
    samples: Path | None = None
    lpips: Path | None = None
    lpips_side: int = 0  # pixels that pictures are resized to before LPIPS; 0: as they are
    learning_rate: float = 1e-5  # ours
    warmup: int = 0
    ema_decay: float = 0.999  # ours
    ensemble: str = "bgco"
    autocast: bool = False
    accumulation: int = 1
    gradient_checkpointing: bool = False
    shard: bool = False
    seed: int = 0


@dataclass(kw_only=True)
class Arguments(Settings):
    """The options of the stages that train on pairs."""

    pairs: Path
    first: int = 0  # how many of them are used, from the first on; 0: all


# what a checkpoint need not remember: the loop remembers its own, files and machines may change under a training
FORGOTTEN = {"iterations", "warmup", "ema_decay", "seed", "checkpoints", "out", "history", "metrics", "samples"}
FORGOTTEN |= {"accumulation", "gradient_checkpointing", "shard"}


def start(args: Arguments, teacher: Teacher | PixelTeacher, init: str | Path) -> dict:
    """The arguments of a RegressionTraining on pairs whose student has the weights of a pipeline, `init`."""
    _check_origin(args.pairs, args.teacher)
    return common(args, teacher, load_student(init), PairDataset(args.pairs, args.first))


def common(
    args: Settings, teacher: Teacher | PixelTeacher, student: nn.Module, pairs: PairDataset | ImageDataset
) -> dict:
    """The arguments that any training of a student has."""
    return {
        "student": student,
        "teacher": teacher,
        "pairs": pairs,
        "loss": regression_loss(args.loss, args.lpips, teacher.decode, args.ensemble, teacher.device, args.lpips_side),
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "seed": args.seed,
        "autocast": args.autocast,
        "fitting": Fitting(args.accumulation, args.gradient_checkpointing, args.shard),
    }


def finish(training: RegressionTraining, args: Settings) -> None:
    """Train to the end; write the student, the history, and what a step cost."""
    settings = cli.settings_of(args, sorted(vars(args).keys() - FORGOTTEN))
    schedule = Schedule(args.iterations, args.warmup)
    show = args.samples and (lambda step: training.draw(args.samples / f"{step:06d}.png"))
    every = max(1, args.iterations // SHOWN)
    history = train(
        training, schedule, args.checkpoints, settings, args.seed, args.ema_decay, show=show, show_every=every
    )
    memory = max(distributed.everyones([_peak_memory(training.device)]))
    if not distributed.is_main():
        return

    training.modules["student"].save(args.out, args.teacher)
    history.to_csv(args.history, index=False)
    spent = replace(training.evaluations.times(args.iterations), pairs_forward=training.pairs.evaluations)
    result = {
        "metrics": {
            "images_per_second": history["images_per_second"].median(),
            "batch_size": args.batch_size,
            "peak_memory_gib": memory,
        },
        "evaluations": asdict(spent),
        "seed": args.seed,
        "processes": distributed.count(),
        "seconds": history["seconds"].iloc[-1],
        **provenance.record({**settings, "iterations": args.iterations, "seed": args.seed}, training.device),
    }
    with atomic(args.metrics) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _check_origin(pairs: Path, teacher: str) -> None:
    """Raise UserError when the pairs say that they are another teacher's."""
    shard = next(iter(sorted(pairs.glob("shard-*.safetensors"))), None)
    if shard is None:
        return  # PairDataset tells what is missing
    origin = shard_recipe(shard)["teacher"]
    if origin != teacher and Path(origin).resolve() != Path(teacher).resolve():
        raise UserError(f"the pairs in {pairs} were made by the teacher '{origin}', not by '{teacher}': take its own")


def _peak_memory(device: torch.device) -> float:
    """The most memory that this process has held, in GiB: of the GPU where it has one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
