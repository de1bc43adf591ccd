"""The memory of a training at full size: one step of its class on fake networks, with R1, optimizer states and EMA.

The memory for communication with other processes is computed: DDP's buckets, and the weights that FSDP gathers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from diffusion2gan.discriminators.unet import DiffusionDiscriminator, EncoderDiscriminator, blocks
from diffusion2gan.losses import PERCEPTUAL, regression_loss
from diffusion2gan.memory.count import Count, counting
from diffusion2gan.memory.networks import Source
from diffusion2gan.methods.add import ADDTraining, FeatureHeads
from diffusion2gan.methods.dmd import DMDTraining
from diffusion2gan.methods.dmd2 import DMD2Training
from diffusion2gan.methods.gigagan import GigaGANTraining
from diffusion2gan.methods.lcm import LCMTraining
from diffusion2gan.methods.lightning import LightningTraining
from diffusion2gan.methods.progressive import ProgressiveTraining
from diffusion2gan.methods.reflow import InstaFlowTraining, ReflowTraining
from diffusion2gan.methods.ufogen import UFOGenTraining
from diffusion2gan.pairs.dataset import Pairs
from diffusion2gan.pixel.consistency import ConsistencyTraining
from diffusion2gan.settings import (
    ADDSettings,
    ConsistencySettings,
    DistillationSettings,
    DMD2Settings,
    DMDSettings,
    Fitting,
    GANSettings,
    InstaFlowSettings,
    LCMSettings,
    LightningSettings,
    ProgressiveSettings,
    ReflowSettings,
    UFOGenSettings,
)
from diffusion2gan.training.adversarial import AdversarialTraining, discriminator_of
from diffusion2gan.training.distributed import Replicated
from diffusion2gan.training.regression import RegressionTraining
from diffusion2gan.training.student import GRID_COLUMNS, StudentTraining

FLOAT32, BFLOAT16 = 4, 2
KINDS = {
    ConsistencySettings: ConsistencyTraining,
    DMD2Settings: DMD2Training,
    DMDSettings: DMDTraining,
    InstaFlowSettings: InstaFlowTraining,
    LCMSettings: LCMTraining,
    ProgressiveSettings: ProgressiveTraining,
    ReflowSettings: ReflowTraining,
}
USES_TEACHER = ADDSettings, ConsistencySettings, DMD2Settings, DMDSettings, LCMSettings
COPIES = InstaFlowSettings | LightningSettings | ProgressiveSettings  # of methods that keep the student they start from
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


class Whole(Replicated):
    """A network sharded by FSDP that runs on whole float32 weights; here a copy takes the place of gathering."""

    def whole(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.float().clone()


@dataclass(frozen=True)
class Training:
    """A training as one of its GPUs sees it: `settings.batch_size` are the samples of this GPU in a step.

    With `parallel`, DDP has buckets; with `fitting.shard`, weights are sharded over `sharded_over` GPUs.
    """

    settings: DistillationSettings
    fitting: Fitting
    source: Source
    lpips_side: int = 0
    parallel: bool = False
    sharded_over: int = 1

    def count(self) -> int:
        """Peak bytes of a step, with everything that is kept between steps."""
        micro_batch = {"batch_size": self.settings.batch_size // self.fitting.accumulation, "iterations": 1}
        settings = self.settings.model_copy(update=micro_batch)
        fitting = self.fitting.model_copy(update={"accumulation": 1, "shard": False, "compile": False})
        with counting() as memory:
            account = Account(memory, self)
            training = self.build(settings, fitting, account.sharded)
            if isinstance(settings, COPIES):
                account.sharded(training.modules["student"])  # now that there is a whole copy of it
            if isinstance(settings, GANSettings):
                training.replicated_discriminator = account.whole(training.discriminator)
            account.prepare(training)
            training.step(0)
            with torch.no_grad():  # the sample grids
                training.teacher.decode(torch.zeros(GRID_COLUMNS, *self.source.shape))
        return memory.peak + account.computed

    def build(
        self,
        settings: DistillationSettings,
        fitting: Fitting,
        sharded: Callable[[nn.Module], nn.Module] = lambda network: network,
    ) -> StudentTraining:
        """The training with networks of the source. `sharded` makes what one GPU sees of a network that it trains.

        The student of a method that keeps a whole copy of it is left whole here.
        """
        uses_teacher = isinstance(settings, USES_TEACHER)
        teacher, student = self.source.teacher(idle=not uses_teacher), self.source.student()
        if not isinstance(settings, COPIES):
            student = sharded(student)
        space = PERCEPTUAL.get(settings.loss)
        metric = self.source.metric(space) if space else None
        given = settings, metric, teacher.decode, teacher.device, self.lpips_side
        loss = None if settings.loss == "none" else regression_loss(*given)
        arguments = {
            "student": student,
            "teacher": teacher,
            "pairs": RandomPairs(self.source.shape),
            "loss": loss,
            "settings": settings,
            "fitting": fitting,
        }
        if isinstance(settings, GANSettings):
            discriminator = sharded(self.source.make(lambda: discriminator_of(settings, teacher)))
            kind = GigaGANTraining if settings.from_scratch else AdversarialTraining
            return kind(**arguments, discriminator=discriminator)
        if isinstance(settings, UFOGenSettings):
            wanted = {"z_conditioning": False, "multi_scale": False}
            make = partial(DiffusionDiscriminator.from_teacher, teacher.unet, **wanted)
            return UFOGenTraining(**arguments, discriminator=sharded(self.source.make(make)))
        if isinstance(settings, LightningSettings):
            discriminator = sharded(self.source.make(lambda: EncoderDiscriminator.from_teacher(teacher.unet)))
            return LightningTraining(**arguments, discriminator=discriminator)
        if isinstance(settings, ADDSettings):
            features = self.source.metric("latent").trunk
            width = teacher.unet.config.cross_attention_dim
            discriminator = self.source.make(lambda: FeatureHeads(features.widths, width))
            return ADDTraining(**arguments, features=features, discriminator=discriminator)
        return KINDS.get(type(settings), RegressionTraining)(**arguments)


class Account:
    """Adds what a step alone does not show: optimizer states, EMA, DDP's buckets, and FSDP's shards and gathering.

    `computed` are the bytes of DDP's buckets or FSDP's gathering, which no tensor here holds.
    """

    def __init__(self, memory: Count, training: Training):
        self.memory, self.training, self.computed = memory, training, 0
        self.shard = training.fitting.shard and training.sharded_over > 1
        self.half = self.shard and training.settings.autocast  # FSDP gathers the weights in bfloat16

    def sharded(self, module: nn.Module) -> nn.Module:
        """The module as one GPU sees it. With FSDP its weights are those that are gathered."""
        return module.bfloat16() if self.half else module

    def whole(self, module: nn.Module) -> nn.Module:
        """The module for R1."""
        return Whole(module) if self.shard else module

    def prepare(self, step: StudentTraining) -> None:
        """Create the optimizers' states and the EMA; hold shards, buckets and earlier gradients."""
        trained = [module for module in step.modules.values() if _size(module)]
        weights = [weight for module in trained for weight in module.parameters()]
        kept = list(weights)
        for optimizer in step.optimizers.values():
            for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
                moments = {name: torch.empty_like(weight) for name in ("exp_avg", "exp_avg_sq")}
                optimizer.state[weight] |= moments
                kept += moments.values()
            optimizer.step = lambda: None  # the fused kernel of a GPU needs no memory of its own
        if self.training.settings.ema_decay:
            self.average = EMAModel(list(step.modules[step.averaged].parameters()))
            kept += self.average.shadow_params
        if self.shard:
            for tensor in kept:
                self._hold_shard(tensor)
            self.computed = max(_gathered(module, BFLOAT16 if self.half else FLOAT32) for module in trained)
        elif self.training.parallel:
            self.computed = sum(_size(module) * FLOAT32 for module in trained)  # DDP's buckets
        if self.training.fitting.accumulation > 1:
            self._keep_gradients(weights, step.optimizers.values())
        elif self.shard:
            for weight in weights:
                weight.register_post_accumulate_grad_hook(lambda weight: self._hold_shard(weight.grad))
        self.memory.peak = self.memory.now

    def _keep_gradients(self, weights: Iterable[nn.Parameter], optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Begin with the gradients of earlier micro-batches. With FSDP too, they are whole and in float32."""
        for weight in weights:
            weight.grad = torch.empty_like(weight)
            self.memory.hold(weight.grad, FLOAT32 / weight.element_size())
        for optimizer in optimizers:
            optimizer.zero_grad = lambda: None

    def _hold_shard(self, tensor: torch.Tensor) -> None:
        self.memory.hold(tensor, FLOAT32 / tensor.element_size() / self.training.sharded_over)


def _size(module: nn.Module) -> int:
    """The number of weights that are trained."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def _gathered(module: nn.Module, width: int) -> int:
    """Bytes that FSDP gathers: two blocks and the outermost weights, and the float32 gradients of a block."""
    unet = getattr(module, "unet", None)
    sizes = [_size(block) for block in (blocks(unet) if unet else [module])]
    outermost = _size(module) - sum(sizes)
    return (GATHERED * max(sizes) + outermost) * width + max(sizes) * FLOAT32
