"""The training of every toy network: the options of its script, and one loop for all."""

from pathlib import Path

from diffusion2gan.io import atomic
from diffusion2gan.settings import ToySettings
from diffusion2gan.study import cli
from diffusion2gan.training.loop import Schedule, train


class TrainingArguments(ToySettings):
    """The options that all scripts share."""

    checkpoints: Path
    out: Path


def fit(training, args: TrainingArguments, compared: list[str]) -> None:
    """Train with warmup, cosine decay and an average of the weights, and write `history.csv`.

    `compared` names the options, besides batch size and learning rate, that must be equal on resume.
    """
    settings = cli.settings_of(args, [*compared, "batch_size", "learning_rate"])
    schedule = Schedule(args.iterations, args.warmup, decay="cosine")
    history = train(training, schedule, args.checkpoints, settings, args.seed, args.ema_decay)
    with atomic(args.out / "history.csv") as temporary:
        history.to_csv(temporary, index=False)
