"""The number of function evaluations (NFE), the compute of Table 6: one image through one network is one evaluation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

MILLION = 1e6


def evaluations_per_pair(solver: str, steps: int, guidance: float) -> int:
    """Teacher evaluations for one pair: Heun takes two per step and one in the last; DDIM one, or two with guidance."""
    if solver == "heun":
        return 2 * steps - 1
    return steps * (2 if guidance > 1 else 1)


@dataclass(frozen=True)
class Evaluations:
    """Evaluations in a run: the teacher's for the pairs, and those of each network in training.

    The target network is the averaged student of a consistency distillation, the fake denoiser DMD's.
    """

    pairs_forward: int = 0
    teacher_forward: int = 0
    student_forward: int = 0
    student_backward: int = 0
    target_forward: int = 0
    fake_forward: int = 0
    fake_backward: int = 0
    discriminator_forward: int = 0
    discriminator_backward: int = 0

    @property
    def metrics(self) -> dict[str, float]:
        """Millions of evaluations: `nfe_million` as the paper counts them, all forward passes, all backward passes.

        The paper counts 35 per pair and one per example for regression, and two per example for Consistency
        Distillation (819.2 M = 800,000 × 512 × 2). Consistency Distillation evaluates four networks per example; we
        count student and target, and leave out the two teacher evaluations of Heun's step.                  # ours
        `nfe_total_million` counts all forward passes, and each backward pass as two of them.                # ours
        """
        trained = self.student_forward + self.fake_forward + self.discriminator_forward
        forward = self.pairs_forward + trained + self.target_forward
        backward = self.student_backward + self.fake_backward + self.discriminator_backward
        return {
            "nfe_million": forward / MILLION,
            "nfe_forward_million": (forward + self.teacher_forward) / MILLION,
            "nfe_backward_million": backward / MILLION,
            "nfe_total_million": (forward + self.teacher_forward + 2 * backward) / MILLION,
        }

    def times(self, steps: int) -> "Evaluations":
        """The evaluations of `steps` such steps."""
        return Evaluations(**{name: steps * count for name, count in asdict(self).items()})


def combined(trainings: Sequence[Evaluations]) -> Evaluations:
    """The sum over a training and the trainings that it started from; their shared pairs count once."""
    counts = Counter()
    for each in trainings:
        counts.update(asdict(each))
    return Evaluations(**counts | {"pairs_forward": max(each.pairs_forward for each in trainings)})
