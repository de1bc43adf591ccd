"""A training whose processes all wait for SLURM's warning in the second step: `warned.py TEACHER METRIC FOLDER`.

Started again, it goes on from what it saved and writes its outcome to FOLDER/outcome.pt.
"""

import signal
import sys
import time
from pathlib import Path

import torch

from diffusion2gan.settings import Fitting
from diffusion2gan.training import distributed
from diffusion2gan.training.loop import Schedule, train

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import worker  # noqa: E402


def main(teacher: str, metric: str, folder: Path) -> None:
    torch.set_default_dtype(torch.float64)
    training = worker.training_of("gan", teacher, metric, Fitting())
    step = training.step

    def warned_once(number: int) -> dict[str, float]:
        if number == 1:  # which is over when the training is resumed
            wait_for_warning(folder / f"waits-{distributed.processes().process_index}")
        return step(number)

    training.step = warned_once
    history = train(training, Schedule(worker.STEPS), folder, {}, 0, 0.5, log_every=1)
    if distributed.is_main():
        weights = {name: dict(module.state_dict()) for name, module in training.modules.items()}
        losses = history.filter(regex="loss").to_dict("list")
        torch.save({"weights": weights, "losses": losses, "processes": distributed.count()}, folder / "outcome.pt")


def wait_for_warning(waits: Path) -> None:
    warned, saves = [], signal.getsignal(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, lambda *given: (warned.append(True), saves(*given)))
    waits.touch()
    while not warned:
        time.sleep(0.1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:3], Path(sys.argv[3]))
