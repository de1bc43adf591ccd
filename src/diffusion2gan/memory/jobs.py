"""Peak bytes of every training and of every job on a GPU, at full size.

A training runs one real step of its class on fake networks: with R1, with the optimizer's states and the EMA. What
other processes would add is computed: DDP's buckets, and what FSDP gathers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from diffusion2gan.losses import PERCEPTUAL, regression_loss
from diffusion2gan.memory import networks
from diffusion2gan.memory.count import Count, fake
from diffusion2gan.memory.cuda import cuda_autocast
from diffusion2gan.pairs.dataset import Pairs
from diffusion2gan.pixel.consistency import ConsistencyTraining
from diffusion2gan.settings import ConsistencySettings, DistillationSettings, Fitting, GANSettings
from diffusion2gan.training.adversarial import AdversarialTraining, discriminator_of
from diffusion2gan.training.regression import RegressionTraining
from diffusion2gan.training.student import GRID_COLUMNS, StudentTraining

FLOAT32, BFLOAT16 = 4, 2
GATHERED = 2  # blocks of weights that FSDP holds at once: the one that runs, and the next


class RandomPairs:
    """Pairs of a shape, whose values do not matter."""

    captions = [f"caption {number}" for number in range(5000)]  # too many for a table of embeddings
    evaluations = 0

    def __init__(self, shape: tuple[int, int, int]):
        self.shape = shape

    def __len__(self) -> int:
        return len(self.captions)

    def batch(self, indices) -> Pairs:
        zeros = torch.zeros(len(indices), *self.shape)
        return Pairs(zeros, [self.captions[int(index)] for index in indices], zeros)


class Whole(nn.Module):
    """A network sharded by FSDP that runs on whole float32 weights, as `distributed.Replicated` gathers them."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.run = [module]  # not registered, so that its weights are not listed twice

    def forward(self, *args, **kwargs):
        (module,) = self.run
        whole = {name: weight.float().clone() for name, weight in module.named_parameters()}
        return torch.func.functional_call(module, whole, args, kwargs)


@dataclass(frozen=True)
class Machines:
    """The GPUs of a training: how many in all, and over how many of them FSDP shards the weights."""

    gpus: int = 1
    sharded_over: int = 1


@contextmanager
def counting() -> Iterator[Count]:
    """Count the bytes of fake tensors under CUDA's autocast."""
    with cuda_autocast(), patch.object(nn.Module, "_apply", _replace), Count() as memory:
        yield memory


def _replace(module: nn.Module, convert: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """`Module._apply`, for `to` and the like: torch's own swaps weights in place, which fake ones do not allow."""
    for each in module.modules():
        for name, weight in each._parameters.items():
            if weight is not None and (converted := convert(weight)) is not weight:
                each._parameters[name] = nn.Parameter(converted.detach(), weight.requires_grad)
        for name, buffer in each._buffers.items():
            each._buffers[name] = buffer if buffer is None else convert(buffer)
    return module


def training(
    settings: DistillationSettings, fitting: Fitting, machines: Machines, path: str, lpips_side: int = 0,
    pixels: networks.Pixels | None = None,
) -> int:  # fmt: skip
    """Peak bytes of one GPU in a training of the teacher at `path`, or of a teacher in pixels."""
    consistency, gan = isinstance(settings, ConsistencySettings), isinstance(settings, GANSettings)
    with counting() as memory:
        account = Account(memory, fitting, machines, settings.autocast)
        if pixels:
            teacher, student = networks.pixel_teacher(pixels, idle=not consistency), networks.pixel_student(pixels)
        else:
            teacher, student = networks.teacher(path, idle=True), networks.student(path)
        space = PERCEPTUAL.get(settings.loss)
        metric = networks.metric(space, 3 if space == "pixel" else teacher.latent_shape[0]) if space else None
        loss = regression_loss(settings.loss, metric, teacher.decode, settings.ensemble, side=lpips_side)
        # the second micro-batch of a step needs as much memory as all that follow
        micro_batches = min(fitting.accumulation, 2)
        rows = settings.batch_size // (machines.gpus * fitting.accumulation) * micro_batches
        arguments = {
            "student": account.sharded(student),
            "teacher": teacher,
            "pairs": RandomPairs(teacher.latent_shape),
            "loss": loss,
            "settings": settings.model_copy(update={"batch_size": rows, "iterations": 1}),
            "fitting": fitting.model_copy(update={"accumulation": micro_batches, "shard": False}),
        }
        if gan:
            discriminator = account.sharded(fake(lambda: discriminator_of(settings, teacher)))
            step = AdversarialTraining(**arguments, discriminator=discriminator)
            step.replicated_discriminator = account.whole(discriminator)
        else:
            step = (ConsistencyTraining if consistency else RegressionTraining)(**arguments)
        account.prepare(step, settings.ema_decay)
        step.step(0)
        with torch.no_grad():  # the sample grids
            teacher.decode(torch.zeros(GRID_COLUMNS, *teacher.latent_shape))
    return memory.peak + account.elsewhere


class Account:
    """What a training holds beside its tensors on one GPU, and what it holds only a shard of."""

    def __init__(self, memory: Count, fitting: Fitting, machines: Machines, autocast: bool):
        self.memory, self.machines = memory, machines
        self.shard = fitting.shard and machines.sharded_over > 1
        self.accumulates = fitting.accumulation > 1
        self.half = self.shard and autocast  # FSDP gathers the weights in bfloat16
        self.elsewhere = 0

    def sharded(self, module: nn.Module) -> nn.Module:
        """The module as one GPU sees it. With FSDP its weights are those that are gathered."""
        return module.bfloat16() if self.half else module

    def whole(self, module: nn.Module) -> nn.Module:
        """The module for R1."""
        return Whole(module) if self.shard else module

    def prepare(self, step: StudentTraining, ema_decay: float) -> None:
        """Create the optimizers' states and the EMA; hold shards and DDP's buckets."""
        trained = [module for module in step.modules.values() if _size(module)]
        held = [weight for module in trained for weight in module.parameters()]
        for optimizer in step.optimizers.values():
            for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
                moments = {name: torch.empty_like(weight) for name in ("exp_avg", "exp_avg_sq")}
                optimizer.state[weight] |= moments
                held += moments.values()
            # the fused kernel of a GPU needs no memory of its own
            optimizer.step = partial(self._reduce, optimizer.param_groups) if self.shard else lambda: None
        if ema_decay:
            self.averaged = EMAModel(list(step.modules[step.averaged].parameters()), ema_decay)
            held += self.averaged.shadow_params
        if self.shard:
            for tensor in held:
                self._hold_shard(tensor)
            for weight in (weight for module in trained for weight in module.parameters()):
                weight.register_post_accumulate_grad_hook(self._accumulate)
            self.elsewhere = max(_gathered(module, BFLOAT16 if self.half else FLOAT32) for module in trained)
        elif self.machines.gpus > 1:
            self.elsewhere = sum(_size(module) * FLOAT32 for module in trained)  # DDP's buckets
        self.memory.peak = self.memory.now

    def _accumulate(self, weight: nn.Parameter) -> None:
        """FSDP keeps whole float32 gradients until the last of several micro-batches, and a shard if there is one."""
        if self.accumulates:
            self.memory.hold(weight.grad, FLOAT32 / weight.element_size())
        else:
            self._hold_shard(weight.grad)

    def _reduce(self, groups: list[dict]) -> None:
        """Before an optimizer's update only shards of the gradients are left."""
        for weight in (weight for group in groups for weight in group["params"] if weight.grad is not None):
            self._hold_shard(weight.grad)

    def _hold_shard(self, tensor: torch.Tensor) -> None:
        self.memory.hold(tensor, FLOAT32 / tensor.element_size() / self.machines.sharded_over)


def _size(module: nn.Module) -> int:
    """The number of weights that are trained."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def _gathered(module: nn.Module, width: int) -> int:
    """Bytes that FSDP gathers: two blocks and the outermost weights, and the float32 gradients of a block."""
    unet = getattr(module, "unet", None)
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks] if unet else [module]
    sizes = [_size(block) for block in blocks]
    outermost = _size(module) - sum(sizes)
    return (GATHERED * max(sizes) + outermost) * width + max(sizes) * FLOAT32
