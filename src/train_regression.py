"""Distil a teacher into a one-step student with a regression loss alone (Sec. 3.1 and 3.2, Table 1)."""

from dataclasses import dataclass
from pathlib import Path

import torch

from diffusion2gan import cli
from diffusion2gan.generator import Generator
from diffusion2gan.losses import regression_loss
from diffusion2gan.pairs import PairDataset
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.loop import Schedule, train
from diffusion2gan.training.regression import RegressionTraining


@dataclass
class Arguments:
    teacher: str
    pairs: Path
    loss: str
    iterations: int
    batch_size: int
    checkpoints: Path
    out: Path
    history: Path
    lpips: Path | None = None
    learning_rate: float = 1e-5  # ours
    warmup: int = 0
    ema_decay: float = 0.999  # ours
    ensemble: str = "bgco"
    autocast: bool = False
    seed: int = 0


def main(args: Arguments):
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher = Teacher(args.teacher, device)
    training = RegressionTraining(
        student=Generator.from_teacher(args.teacher),
        teacher=teacher,
        pairs=PairDataset(args.pairs),
        loss=regression_loss(args.loss, args.lpips, teacher.decode, args.ensemble, device),
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        seed=args.seed,
        autocast=args.autocast,
    )
    of_the_loop = {"iterations", "warmup", "ema_decay", "seed", "checkpoints", "out", "history"}
    settings = cli.settings_of(args, sorted(vars(args).keys() - of_the_loop))
    schedule = Schedule(args.iterations, args.warmup)
    history = train(training, schedule, args.checkpoints, settings, args.seed, args.ema_decay)

    training.student.save(args.out, args.teacher)
    history.to_csv(args.history, index=False)


if __name__ == "__main__":
    cli.run(main)
