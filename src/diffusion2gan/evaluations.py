"""Counting network evaluations (NFE), the compute of Table 6: one is one picture through one network once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

MILLION = 1e6


def of_a_pair(solver: str, steps: int, guidance: float) -> int:
    """The teacher's evaluations for one pair: Heun's two a step but the last's, DDIM's one, or two with guidance."""
    if solver == "heun":
        return 2 * steps - 1
    return steps * (2 if guidance > 1 else 1)


@dataclass(frozen=True)
class Evaluations:
    """What a run has spent: of the teacher for its pairs, and in training of teacher, student and target network.

    `target_forward` is of the averaged student that gives Consistency Distillation its target.
    """

    pairs_forward: int = 0
    teacher_forward: int = 0
    student_forward: int = 0
    student_backward: int = 0
    target_forward: int = 0

    @property
    def metrics(self) -> dict[str, float]:
        """In millions: `nfe_million` as the paper counts, `nfe_forward_million` of every network, backward passes.

        The paper's column is 35 a pair and one an example for regression, and two an example for Consistency
        Distillation (819.2 M = 800,000 × 512 × 2), which evaluates four: we take student and target for      # ours
        those two, and leave out the two of the teacher's Heun step.
        """
        forward = self.pairs_forward + self.student_forward + self.target_forward
        return {
            "nfe_million": forward / MILLION,
            "nfe_forward_million": (forward + self.teacher_forward) / MILLION,
            "nfe_backward_million": self.student_backward / MILLION,
        }

    def times(self, steps: int) -> "Evaluations":
        """Those of several steps that spend these each."""
        return Evaluations(**{name: steps * count for name, count in asdict(self).items()})


def together(trainings: Sequence[Evaluations]) -> Evaluations:
    """Those of a training and of what it started from, whose pairs are the same and were solved once."""
    counts = Counter()
    for each in trainings:
        counts.update(asdict(each))
    return Evaluations(**counts | {"pairs_forward": max(each.pairs_forward for each in trainings)})
