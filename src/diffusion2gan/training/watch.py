"""What can be seen of a training while it runs: its history, a tracker, and warnings of a collapse."""

import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker
from accelerate.utils import is_tensorboard_available, is_wandb_available

from diffusion2gan.errors import UserError
from diffusion2gan.images import load_image
from diffusion2gan.io import atomic
from diffusion2gan.settings import Tracker

WRITE_SECONDS = 10  # between two versions of the history on the disk                                   # ours
RECENT = 10  # rows of the history in which D has to win for a warning                                  # ours
WON = 0.99  # accuracy of a discriminator that has won                                                  # ours
FALLEN = 0.5  # of the largest variance so far                                                          # ours
GROWN = 2.0  # times the teacher's variance                                                             # ours
AVAILABLE = {"none": lambda: True, "tensorboard": is_tensorboard_available, "wandb": is_wandb_available}

Row = dict[str, float]  # numbers of a step by name, with `step` and `seconds`


class Watch:
    """Writes the history of a training while it grows, sends it to a tracker, and warns of signs of a collapse, once.

    `settings` are shown beside the numbers. The tracker of `tensorboard` writes to a folder of this name beside the
    history. Raises UserError if the tracker's package is not installed.
    """

    def __init__(self, history: Path, iterations: int, report_to: Tracker = "none", settings: dict | None = None):
        self.history, self.iterations = history, iterations
        self.tracker = start_tracker(report_to, history.parent, settings or {})
        self.written, self.warned = -WRITE_SECONDS, set()

    def __call__(self, rows: Sequence[Row], more: Row | None = None) -> None:
        """Take note of the newest of the rows; the tracker also gets the numbers in `more`."""
        newest = rows[-1]
        if time.monotonic() - self.written >= WRITE_SECONDS or newest["step"] + 1 == self.iterations:
            with atomic(self.history) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False)
            self.written = time.monotonic()
        if self.tracker:
            left = (self.iterations - newest["step"] - 1) * newest["seconds"] / (newest["step"] + 1)
            self.tracker.log({**newest, "hours_left": left / 3600, **(more or {})}, step=newest["step"])
        for sign, words in signs_of_collapse(rows).items():
            if sign not in self.warned:
                print(f"warning: step {newest['step']}: {words}", flush=True)
                self.warned.add(sign)

    def show(self, image: Path, step: int) -> None:
        """Send the file of an image to the tracker."""
        if self.tracker:
            layout = {"dataformats": "NHWC"} if self.tracker.name == "tensorboard" else {}
            self.tracker.log_images({"samples": load_image(image)[None]}, step=step, **layout)

    def finish(self) -> None:
        """Close the tracker."""
        if self.tracker:
            self.tracker.finish()


def signs_of_collapse(rows: Sequence[Row]) -> dict[str, str]:
    """Early signs of a collapse in a history, by name, each in words."""
    signs, recent = {}, rows[-RECENT:]
    won = [min(row.get("real_accuracy", 0.0), row.get("fake_accuracy", 0.0)) >= WON for row in recent]
    if len(won) == RECENT and all(won):
        signs["discriminator"] = (
            f"the discriminator has told all real latents from all generated ones for {RECENT} rows of the history, so "
            "the student learns nothing from it: lower d_learning_rate, or raise r1_gamma"
        )
    variances = [row["variance"] for row in rows if "variance" in row]
    has_discriminator = "real_accuracy" in rows[-1]  # the variance of a regression alone is smaller than the teacher's
    if has_discriminator and variances and variances[-1] < FALLEN * max(variances):
        signs["variance"] = (
            f"the variance of the student's latents has fallen from {max(variances):.2f} to {variances[-1]:.2f} of the "
            "teacher's, so its images become alike: look at the sample grids, and lower the learning rates"
        )
    if variances and variances[-1] > GROWN:
        signs["growth"] = (
            f"the variance of the student's latents is {variances[-1]:.1f} times the teacher's, so the training "
            "diverges: lower the learning rates, or give the regression loss more weight"
        )
    return signs


def check_tracker(report_to: Tracker) -> None:
    """Raise UserError if the package of a tracker is not installed."""
    if not AVAILABLE[report_to]():
        raise UserError(f"report_to: {report_to} needs a package: pip install {report_to}, or set report_to: none")


def start_tracker(report_to: Tracker, folder: Path, settings: dict) -> GeneralTracker | None:
    """A tracker that writes below `folder`, where a run's files are; None for `none`."""
    check_tracker(report_to)
    if report_to == "none":
        return None
    if report_to == "tensorboard":
        tracker = TensorBoardTracker("tensorboard", folder)
    else:
        tracker = WandBTracker("diffusion2gan", name=folder.name, dir=str(folder))
    tracker.start()
    tracker.store_init_configuration({name: str(value) for name, value in settings.items()})
    return tracker
