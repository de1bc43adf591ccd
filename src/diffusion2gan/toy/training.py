"""The training loop that all toy networks share."""

from collections.abc import Sequence

from diffusion2gan.study import cli
from diffusion2gan.training.loop import Schedule, train


def fit(training, args, compared: Sequence[str] = ()) -> None:
    """Train with warmup, cosine decay and an average of the weights, and write `history.csv` to the folder `args.out`.

    `args` are `ToySettings` with the folders `checkpoints` and `out`. `compared` names the settings that must be equal
    on resume, besides batch size and learning rate.
    """
    settings = cli.settings_of(args, [*compared, "batch_size", "learning_rate"])
    schedule = Schedule(args.iterations, warmup=200, decay="cosine")
    history = train(training, schedule, args.checkpoints, settings, args.seed, ema_decay=0.999)
    args.out.mkdir(parents=True, exist_ok=True)
    history.to_csv(args.out / "history.csv", index=False)
