"""Shared by the scripts of all distillation stages: their arguments, the pairs, the loss, and the whole training."""

import resource
from dataclasses import asdict, replace
from pathlib import Path

import torch
from pydantic import Field, NonNegativeInt

from diffusion2gan import provenance
from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic, write_json, write_text
from diffusion2gan.losses import Loss, regression_loss
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.pairs.shards import shard_recipe
from diffusion2gan.pixel.model import PixelTeacher
from diffusion2gan.settings import DistillationSettings, Fitting, HeldOut, LPIPSSide, Watching
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distributed
from diffusion2gan.training.loop import Schedule, restore, train
from diffusion2gan.training.student import StudentTraining
from diffusion2gan.training.watch import Row, Watch

SHOWN = 10  # at most so many sample grids and measurements of the error before those at the end        # ours
PASSES = 3  # over the pairs; a student that sees them more often may learn them by heart                # ours


class Arguments(DistillationSettings, Fitting, Watching):
    """The arguments of every stage: its settings, and the files that it reads and writes."""

    teacher: str = Field(description="pipeline of the teacher: a folder or a hub id")
    lpips: Path | None = Field(None, description="calibrated metric of a perceptual loss")
    lpips_side: LPIPSSide = 0
    checkpoints: Path = Field(description="folder of the checkpoints; a killed training resumes from it")
    out: Path = Field(description="folder of the trained student")
    history: Path = Field(description="CSV of losses and speed")
    metrics: Path = Field(description="JSON of speed, memory and network evaluations")
    samples: Path | None = Field(None, description="folder of sample grids during training")
    export_step: NonNegativeInt = Field(
        0, description="do not train, but write the student after so many steps, if that checkpoint is kept; 0: train"
    )


class PairArguments(Arguments):
    """The arguments of the stages that train on pairs."""

    pairs: Path = Field(description="folder of the pairs")
    first: int = Field(0, ge=0, description="number of pairs to use, from the first; 0: all")
    held_out: HeldOut = Field(0, description="number of pairs, the last ones, that only measure the error; 0: none")


# Settings not compared on resume: the loop compares its own; files and machines may change
NOT_COMPARED = {"iterations", "warmup", "decay", "ema_decay", "seed"}
NOT_COMPARED |= {"checkpoints", "out", "history", "metrics", "samples", "export_step"}
NOT_COMPARED |= {*Fitting.model_fields, *Watching.model_fields}


def open_pairs(args: PairArguments) -> PairDataset:
    """The pairs of a training. Raises UserError when they were made by another teacher."""
    shard = next(iter(sorted(args.pairs.glob("shard-*.safetensors"))), None)  # PairDataset says if there is none
    origin = shard_recipe(shard)["teacher"] if shard else args.teacher
    if origin != args.teacher and Path(origin).resolve() != Path(args.teacher).resolve():
        raise UserError(
            f"the pairs in {args.pairs} were made by the teacher '{origin}', not by '{args.teacher}': use its own"
        )
    return PairDataset(args.pairs, args.first, args.held_out)


def loss_of(args: Arguments, teacher: Teacher | PixelTeacher) -> Loss | None:
    """The regression loss of a training, on the teacher's device; None if it has none."""
    if args.loss == "none":
        return None
    return regression_loss(args, args.lpips, teacher.decode, teacher.device, args.lpips_side)


def run(training: StudentTraining, args: Arguments) -> None:
    """Train to the end, from the last checkpoint if there is one. Writes the student, the history, and the metrics.

    With `export_step`, only writes the student of a kept checkpoint. If pairs are held out, warns if the training
    passes over the others more than `PASSES` times.
    """
    compared = {name: value for name, value in args.used().items() if name not in NOT_COMPARED}
    schedule = Schedule(args.iterations, args.warmup, args.decay)

    if args.export_step:
        restore(training, schedule, args.checkpoints, compared, args.seed, args.export_step, args.ema_decay)
        training.modules["student"].save(args.out, args.teacher)
        return
    passes = training.batch_count * args.batch_size / len(training.pairs)
    if training.pairs.held_out and passes > PASSES and distributed.is_main():
        print(
            f"warning: each pair is seen {passes:.1f} times: compare train_error and held_out_error in {args.history}"
        )
    watch = None
    if distributed.is_main():
        write_text(args.history.with_name("README.md"), readme(args, compared))
        watch = Watch(args.history, args.iterations, args.report_to, compared)

    def show(step: int) -> dict[str, float]:
        if args.samples:
            grid = args.samples / f"{step:06d}.png"
            training.save_samples(grid)
            if watch:
                watch.show(grid, step)
        return training.errors()

    def note(rows: list[Row]) -> None:
        watch(rows, {"peak_memory_gib": _peak_memory(training.device)})

    every = -(-args.iterations // SHOWN)
    history = train(
        training, schedule, args.checkpoints, compared, args.seed, args.ema_decay, args.checkpoint_minutes,
        show=show, show_every=every, watch=note,
    )  # fmt: skip
    memory = max(distributed.gather([_peak_memory(training.device)]))
    if not distributed.is_main():
        return

    watch.finish()
    training.modules["student"].save(args.out, args.teacher)
    with atomic(args.history) as temporary:
        history.to_csv(temporary, index=False)
    spent = replace(training.evaluations.times(args.iterations), pairs_forward=training.pairs.evaluations)
    result = {
        "metrics": {
            "images_per_second": history["images_per_second"].median(),
            "batch_size": args.batch_size,
            "peak_memory_gib": memory,
            "passes": passes,
            **{name: history[name].iloc[-1] for name in ("train_error", "held_out_error") if name in history},
        },
        "evaluations": asdict(spent),
        "seed": args.seed,
        "processes": distributed.count(),
        "seconds": history["seconds"].iloc[-1],
        **provenance.record({**compared, "iterations": args.iterations, "seed": args.seed}, training.device),
    }
    write_json(args.metrics, result)


def readme(args: Arguments, settings: dict) -> str:
    """What is in the folder of a run, in Markdown."""
    return f"""# {args.history.parent.name}

A one-step student of `{args.teacher}`: {args.iterations:,} steps in batches of {args.batch_size:,}, seed {args.seed}.

| | |
|---|---|
| `{args.out}` | the student, a diffusers pipeline: `num_inference_steps=1, guidance_scale=0` |
| `{args.history}` | losses, speed and errors, a row every few steps; it grows while the run trains |
| `{args.metrics}` | speed, memory and network evaluations of the training |
| `{args.checkpoints}` | while it trains: the newest checkpoints and the one with the smallest held-out error |

Settings: {", ".join(f"{name} {value}" for name, value in settings.items())}.
"""


def _peak_memory(device: torch.device) -> float:
    """The peak memory of this process in GiB: of the GPU if it has one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
