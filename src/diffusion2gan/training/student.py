"""Shared by every training of a student: networks, the batches of a step, and sample grids."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torchvision.utils import save_image

from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.io import atomic
from diffusion2gan.losses import BatchPart, Loss
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.seeds import batch_indices, mix
from diffusion2gan.settings import DistillationSettings, Fitting
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distributed
from diffusion2gan.training.read_ahead import ReadAhead
from diffusion2gan.training.text_cache import TextEmbeddings

MAX_NORM = 1.0  # gradients are clipped to this norm                                                  # ours
AHEAD = 4  # steps whose pairs are read before they are needed                                        # ours
GRID_COLUMNS = 8  # pairs in a sample grid                                                            # ours

Losses = dict[str, tuple[float, torch.Tensor]]  # scalars by name, each with its weight


@dataclass
class MicroBatch:
    """Rows of a step's batch: noise z and target latents x (N, C, h, w), captions, and the conditions of G and D.

    `part` says which rows of the batch they are.
    """

    z: torch.Tensor
    x: torch.Tensor
    captions: list[str]
    conditions: dict[str, torch.Tensor]
    part: BatchPart


class StudentTraining:
    """Base of the trainings of a student, on pairs or on real images.

    `loss` is d(x0, x1, part) of Eq. 1, a scalar, or None if the student learns from other losses alone. Raises
    UserError when the pairs do not have the student's latent shape, or when the batch does not divide among processes
    and micro-batches.
    """

    averaged = "student"

    def __init__(
        self,
        student: Generator,
        teacher: Teacher,
        pairs: PairDataset,
        loss: Loss | None,
        settings: DistillationSettings,
        fitting: Fitting | None = None,
    ):
        self.teacher, self.pairs, self.loss, self.device = teacher, pairs, loss, teacher.device
        self.settings, self.fitting = settings, fitting or Fitting()
        self.parts = distributed.parts(settings.batch_size, self.fitting.accumulation)
        _check_shapes(student, pairs)
        self.reader = ReadAhead(pairs, pin=self.device.type == "cuda")
        self.text = TextEmbeddings(teacher, pairs.captions)
        self.precision = partial(torch.autocast, self.device.type, torch.bfloat16, enabled=settings.autocast)
        # for targets: bfloat16 would be magnified 15-fold where the teacher predicts ε
        self.full_precision = partial(torch.autocast, self.device.type, enabled=False)
        if self.fitting.gradient_checkpointing and hasattr(teacher, "vae"):
            teacher.vae.enable_gradient_checkpointing()
        self.modules = {}
        self.student = self.add("student", student)
        self.optimizers = {"student": adamw(student, settings.learning_rate)}

    def add(self, name: str, module: nn.Module, whole: bool = False) -> nn.Module:
        """Add a network to train; returns it wrapped for all processes. Create its optimizer afterwards.

        A network that is `whole` is not sharded.
        """
        if self.fitting.gradient_checkpointing and hasattr(module, "unet"):
            module.unet.enable_gradient_checkpointing()
        if self.fitting.compile and name == "student":  # not D: R1 needs second derivatives, which compiling removes
            module.unet.compile()
        # cuDNN's layout in half precision; FSDP needs contiguous weights
        fast = self.device.type == "cuda" and not self.fitting.shard
        layout = torch.channels_last if fast else torch.contiguous_format
        self.modules[name] = module.to(self.device, memory_format=layout).train()
        return distributed.wrap(module, self.fitting.shard and not whole, half=self.settings.autocast)

    def frozen(self, module: nn.Module) -> nn.Module:
        """A network of the training that it does not train, on its device and in the faster layout."""
        layout = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        return module.to(self.device, memory_format=layout).requires_grad_(False).eval()

    def improve(
        self,
        name: str,
        network: nn.Module,
        batches: Sequence[MicroBatch],
        losses_of: Callable[[MicroBatch], Losses],
        clip: bool = True,
    ) -> dict[str, torch.Tensor]:
        """Make one step of the optimizer `name` on the weighted sum of the losses, averaged over the micro-batches.

        `network` is what `add` returned, and `losses_of` computes the losses of a micro-batch. Returns the mean of
        each, for the student that of the sum as `loss`, and the norm of the gradient before it is clipped.
        """
        optimizer, means = self.optimizers[name], Counter()

        optimizer.zero_grad()
        for batch in batches:
            with distributed.no_sync(network, batch is not batches[-1]):
                losses = losses_of(batch)
                total = sum(weight * loss for weight, loss in losses.values())
                (total / len(batches)).backward()
            shown = {each: loss for each, (_, loss) in losses.items()}
            if name == "student":
                shown = {"loss": total} | shown
            means.update({each: loss.detach() / len(batches) for each, loss in shown.items()})
        if clip:
            means[f"{name}_gradient_norm"] = clip_gradients(network)
        optimizer.step()
        return dict(means)

    @contextmanager
    def fixed(self, name: str) -> Iterator[nn.Module]:
        """A network whose weights get no gradient meanwhile. It is not wrapped: there is nothing to average."""
        network = self.modules[name].requires_grad_(False)
        yield network
        network.requires_grad_(True)

    @torch.no_grad()
    def average_target(self) -> None:
        """Move the target network of a consistency distillation: θ⁻ ← μ θ⁻ + (1 - μ) θ, μ = `settings.target_decay`."""
        target, student = (list(self.modules[name].parameters()) for name in ("target", "student"))
        torch._foreach_lerp_(target, student, 1 - self.settings.target_decay)

    def generate(self, batch: MicroBatch) -> torch.Tensor:
        """G(z, c): latents (N, C, h, w)."""
        with self.precision():
            return self.student(batch.z, **batch.conditions)

    def indices(self, step: int) -> torch.Tensor:
        """The pairs of a step in all processes (batch_size,)."""
        return batch_indices(step, self.settings.batch_size, len(self.pairs), self.settings.seed)

    @property
    def batch_count(self) -> int:
        """The batches of the whole training, one in a step."""
        return self.settings.iterations

    def batches(self, step: int) -> list[MicroBatch]:
        """The micro-batches of a step that this process computes. The pairs of the next steps are read meanwhile."""
        for coming in range(step, min(step + 1 + AHEAD, self.batch_count)):
            self.reader.prepare(self.indices(coming)[rows] for rows in self.parts)
        indices, seed = self.indices(step), mix(self.settings.seed, step, 1)
        return [self.read(indices[rows], BatchPart(rows, self.settings.batch_size, seed)) for rows in self.parts]

    def read(self, indices: torch.Tensor, part: BatchPart) -> MicroBatch:
        """The pairs at `indices`, on the device of the training."""
        pairs = self.reader.batch(indices)
        z, x = (latents.to(self.device, non_blocking=True) for latents in (pairs.z, pairs.x))
        return MicroBatch(z, x, pairs.captions, self.text(pairs.captions), part)

    def speed(self, step: int, start: float) -> dict[str, float]:
        """Images per second of this step, and all evaluations of G so far, over all processes."""
        return {
            "images_per_second": self.settings.batch_size / (time.perf_counter() - start),
            "generator_evaluations": (step + 1) * self.evaluations.student_forward,
        }

    def errors(self) -> dict[str, float]:
        """G's error on the held-out pairs, and on as many pairs that it is trained on; {} if none are held out.

        `variance` is that of G's latents on the held-out pairs. Every process computes all, because sharded networks
        communicate in each pass.
        """
        held_out = self.pairs.held_out
        if not held_out:
            return {}
        own = range(min(len(held_out), len(self.pairs)))
        (train_error, _), (held_out_error, variance) = self.error(own), self.error(held_out)
        return {"train_error": train_error, "held_out_error": held_out_error, "variance": variance}

    @torch.no_grad()
    def error(self, indices: Sequence[int]) -> tuple[float, float]:
        """Squared error of G(z, c), and its variance, each divided by the variance of the latents x of these pairs.

        The mean of the latents has an error of 1 and no variance.
        """
        rows = self.parts[0].stop - self.parts[0].start  # no more than in a micro-batch of the training
        generated, targets = [], []
        for chosen in torch.tensor(indices).split(rows):
            batch = self.read(chosen, BatchPart(slice(0, len(chosen)), len(chosen), 0))
            generated.append(self.generate(batch).double().cpu())
            targets.append(batch.x.double().cpu())
        x0, x1 = torch.cat(generated), torch.cat(targets)
        variance = (x1 - x1.mean(0)).square().sum()
        return ((x0 - x1).square().sum() / variance).item(), ((x0 - x0.mean(0)).square().sum() / variance).item()

    @torch.no_grad()
    def save_samples(self, path: Path) -> None:
        """Write a grid of the first pairs: the teacher's images above, the student's of the same noise below."""
        count = min(GRID_COLUMNS, len(self.pairs))
        batch = self.read(torch.arange(count), BatchPart(slice(count), count, 0))
        images = [self.teacher.decode(latents) for latents in (batch.x, self.generate(batch))]
        if distributed.is_main():
            with atomic(path) as temporary:
                save_image(torch.cat(images), temporary, "png", nrow=count, normalize=True, value_range=(-1, 1))


def only_shown(numbers: dict[str, torch.Tensor]) -> Losses:
    """Numbers for the history that no network learns from."""
    return {name: (0.0, number) for name, number in numbers.items()}


def clip_gradients(network: nn.Module) -> torch.Tensor:
    """Clip the gradients of a network to MAX_NORM; returns their norm before, a scalar, whole in every process."""
    norm = nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def adamw(module: nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """The optimizer of student and discriminator. The paper does not state its own."""
    options = {"betas": (0.9, 0.999), "weight_decay": 0.01, "fused": True}  # ours; one kernel for all weights
    return torch.optim.AdamW(module.parameters(), learning_rate, **options)


def _check_shapes(student: Generator, pairs: PairDataset) -> None:
    """Raise UserError unless the pairs' latents have the shape that the student makes."""
    config, (channels, *sides) = student.unet.config, pairs.batch(torch.tensor([0])).x.shape[1:]
    if [channels, *sides] != [config.in_channels, config.sample_size, config.sample_size]:
        raise UserError(
            f"the pairs are latents of {channels} × {' × '.join(map(str, sides))}, the student makes "
            f"{config.in_channels} × {config.sample_size} × {config.sample_size}: use pairs of its own teacher"
        )
