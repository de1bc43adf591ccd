"""Linear calibration of LPIPS on two-alternative forced choices (Zhang et al. 2018)."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from torch import nn
from torch.nn import functional as F

from diffusion2gan.data.bapps import BAPPS, Judgement
from diffusion2gan.finite import check_finite
from diffusion2gan.images import to_tensor
from diffusion2gan.losses.lpips import LPIPS, distance
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.progress import track
from diffusion2gan.seeds import batch_indices
from diffusion2gan.settings import ENCODED, CalibrationSettings


@dataclass
class Triplets:
    """Encoded judgements: `patches` fp16 (M, 3, C, h, w) are ref, p0, p1; `judge` (M,) is the share that prefers p1."""

    patches: torch.Tensor
    judge: torch.Tensor
    subsets: Sequence[str]

    def __len__(self) -> int:
        return len(self.judge)


def encode(
    judgements: Sequence[Judgement], count: int, seed: int, to_space: Callable[[torch.Tensor], torch.Tensor],
    batch_size: int = ENCODED,
) -> Triplets:  # fmt: skip
    """Encode `count` judgements (at most all of BAPPS); `to_space` maps images in [-1, 1] to the metric's input."""
    chosen = list(range(count))
    if isinstance(judgements, BAPPS):  # sorted by subset
        count = min(count, len(judgements))
        chosen = batch_indices(0, count, len(judgements), seed).tolist()
    patches, judge, subsets = [], [], []
    for first in track(range(0, count, batch_size), "encoding judgements"):
        batch = [judgements[i] for i in chosen[first : first + batch_size]]
        images = to_tensor([picture for j in batch for picture in (j.ref, j.p0, j.p1)])
        encoded = to_space(images).half().cpu().unflatten(0, (-1, 3))
        patches.append(check_finite(encoded, "in half precision, a patch of judgement", chosen[first:]))
        judge += [j.judge for j in batch]
        subsets += [j.subset for j in batch]
    return Triplets(torch.cat(patches), torch.tensor(judge), subsets)


class Ranking(nn.Module):
    """Maps distances d0 and d1 (N,) to the logit (N,) that p1 is preferred: an MLP with two layers of 32 units."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1)
        )

    def forward(self, d0: torch.Tensor, d1: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.stack([d0, d1, d0 - d1, d0 / (d1 + 0.1), d1 / (d0 + 0.1)], 1))[:, 0]


class CalibrationTraining:
    """Fit the heads of LPIPS on a frozen trunk, and the ranking network on top of its distances.

    As Zhang et al.: binary cross-entropy against the share of people who prefer p1, Adam with their betas, dropout
    of one half before the heads, and heads clamped to ≥ 0 after each step.
    """

    averaged = "heads"
    initial = 0.1  # weight of every channel at the start                                       # ours

    def __init__(self, trunk: VGG, triplets: Triplets, settings: CalibrationSettings, seed: int):
        self.triplets, self.batch_size, self.seed = triplets, settings.batch_size, seed
        self.device = next(trunk.parameters()).device
        self.trunk = trunk.folded().requires_grad_(False)
        heads = nn.ParameterList(torch.full((width,), self.initial) for width in trunk.widths)
        self.modules = {"heads": heads.to(self.device), "ranking": Ranking().to(self.device)}
        parameters = [parameter for module in self.modules.values() for parameter in module.parameters()]
        self.optimizers = {"heads": torch.optim.Adam(parameters, settings.learning_rate, betas=(0.5, 0.999))}

    def step(self, step: int) -> dict[str, float]:
        optimizer = self.optimizers["heads"]
        chosen = batch_indices(step, self.batch_size, len(self.triplets), self.seed)
        ref, p0, p1 = self.triplets.patches[chosen].to(self.device).float().unbind(1)
        judge = self.triplets.judge[chosen].to(self.device)
        target, *distorted = (self.trunk.features(patch) for patch in (ref, p0, p1))
        d0, d1 = (distance(features, target, self.modules["heads"], dropout=0.5) for features in distorted)
        logit = self.modules["ranking"](d0, d1)
        loss = F.binary_cross_entropy_with_logits(logit, judge)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for head in self.modules["heads"]:
                head.clamp_(min=0)
        return {"loss": loss.item(), "2afc": agreement(d0, d1, judge).mean().item()}

    def metric(self) -> LPIPS:
        """The calibrated metric."""
        return LPIPS(self.trunk, list(self.modules["heads"]))


def agreement(d0: torch.Tensor, d1: torch.Tensor, judge: torch.Tensor) -> torch.Tensor:
    """2AFC agreement (N,): the share of people who prefer the patch that is nearer, 1/2 for a tie."""
    return (d0 < d1) * (1 - judge) + (d1 < d0) * judge + 0.5 * (d0 == d1)


@torch.no_grad()
def two_afc(
    metric: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], triplets: Triplets,
    device: torch.device | str = "cpu", batch_size: int = 64,
) -> dict[str, float]:  # fmt: skip
    """2AFC scores in [0, 1] of a metric, for each subset and for all.

    `2afc` is the mean of the subsets, as LPIPS reports it; `2afc_pooled` is the mean of all judgements; `2afc_human`
    is the ceiling: two people agree with probability p² + (1 - p)² for a share p (Zhang et al. 2018), averaged like
    `2afc`.
    """
    agreed, human = defaultdict(list), defaultdict(list)
    for first in range(0, len(triplets), batch_size):
        rows = slice(first, first + batch_size)
        ref, p0, p1 = triplets.patches[rows].to(device).float().unbind(1)
        judge = triplets.judge[rows]
        numbers = range(len(triplets))[rows]
        d0, d1 = (check_finite(metric(ref, patch), "the distance of judgement", numbers) for patch in (p0, p1))
        scores = agreement(d0, d1, judge.to(device)).tolist()
        for subset, score, ceiling in zip(
            triplets.subsets[rows], scores, (judge**2 + (1 - judge) ** 2).tolist(), strict=True
        ):
            agreed[subset].append(score)
            human[subset].append(ceiling)
    by_subset = {subset: mean(scores) for subset, scores in sorted(agreed.items())}
    return {
        "2afc": mean(by_subset.values()),
        "2afc_pooled": mean(score for scores in agreed.values() for score in scores),
        "2afc_human": mean(mean(ceilings) for ceilings in human.values()),
        **{f"2afc_{subset}": score for subset, score in by_subset.items()},
    }
