"""The memory at full size of the jobs on one GPU that train no student: solving, sampling, encoding, the metric."""

from dataclasses import dataclass
from typing import Protocol

import open_clip
import timm
import torch

from diffusion2gan.losses import regression_loss
from diffusion2gan.memory.count import counting, fake
from diffusion2gan.memory.fakes import FAKES
from diffusion2gan.memory.networks import Source
from diffusion2gan.metrics.clip_score import BATCH as CLIP_BATCH
from diffusion2gan.metrics.features import BATCH as FEATURES_BATCH
from diffusion2gan.metrics.features import DINOV2, SIDES
from diffusion2gan.metrics.kid import resampled_kid
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.sampling.sampler import sampling_precision, teacher_sampler
from diffusion2gan.settings import ENCODED, CalibrationSettings, LossSettings, SamplingSettings, VGGSettings
from diffusion2gan.training.lpips.calibration import CalibrationTraining, Triplets
from diffusion2gan.training.lpips.classification import VGGTraining

GPU = torch.device("cuda")
FEATURES = 2048  # of Inception
STEPS = 2  # of a solver; the others need the same memory


class Job(Protocol):
    """A job. Equal jobs need the same memory."""

    def count(self) -> int:
        """Peak bytes on its GPU."""


@dataclass(frozen=True)
class Solving:
    """The teacher's ODE for a batch of pairs (generate_pairs)."""

    source: Source
    batch_size: int
    guided: bool

    def count(self) -> int:
        with counting() as memory:
            teacher = self.source.teacher(torch.float16)
            z, captions = torch.zeros(self.batch_size, *self.source.shape), _captions(self.batch_size)
            if self.source.path:
                teacher.solve(z, captions, STEPS, 2.0 if self.guided else 1.0)
            else:
                teacher.solve(z, captions, STEPS)
        return memory.peak


@dataclass(frozen=True)
class Sampling:
    """A batch of images of a teacher or of a student (sample, sample_diversity)."""

    source: Source
    batch_size: int
    settings: SamplingSettings

    def count(self) -> int:
        settings = self.settings
        with counting() as memory:
            teacher = self.source.teacher(sampling_precision(settings, GPU))
            sample = teacher_sampler(teacher, settings.steps, settings.guidance, settings.scheduler, settings.spacing)
            sample(list(range(self.batch_size)), _captions(self.batch_size))
        return memory.peak


@dataclass(frozen=True)
class Encoding:
    """A batch of images through the teacher's VAE (encode_latents)."""

    source: Source
    size: int
    batch_size: int = ENCODED

    def count(self) -> int:
        with counting() as memory:
            teacher = self.source.teacher(idle=True)
            teacher.encode_images(_fakes(self.batch_size, 3, self.size, self.size))
        return memory.peak


@dataclass(frozen=True)
class Classification:
    """A step of the VGG's training (train_vgg), in latents of a shape or in pixels."""

    space: str
    shape: tuple[int, int, int]
    settings: VGGSettings

    def count(self) -> int:
        settings = self.settings
        with counting() as memory:
            network = fake(lambda: VGG(self.space, self.shape[0], settings.classes, settings.width))
            labels = torch.zeros(settings.batch_size, dtype=torch.long)
            inputs = _fakes(settings.batch_size, *self.shape)
            VGGTraining(network, lambda step: (inputs, labels), settings).step(0)
        return memory.peak


@dataclass(frozen=True)
class Calibration:
    """Encoding the judged patches, and a step of the calibration (calibrate_lpips); `source` is None in pixels."""

    source: Source | None
    side: int
    settings: CalibrationSettings

    def count(self) -> int:
        settings, encoding, shape = self.settings, 0, (3, self.side, self.side)
        if self.source:
            encoding = Encoding(self.source, self.side, 3 * ENCODED).count()
            side = self.side // self.source.teacher(idle=True).downsampling
            shape = (self.source.shape[0], side, side)
        with counting() as memory, FAKES:
            trunk = fake(lambda: VGG("latent" if self.source else "pixel", shape[0], 0, batch_norm=False))
            patches = _fakes(settings.batch_size, 3, *shape)
            triplets = Triplets(patches, torch.zeros(settings.batch_size), [])
            training = CalibrationTraining(trunk, triplets, settings, 0)
            for optimizer in training.optimizers.values():
                optimizer.step = lambda: None  # its states for a few thousand weights do not matter
            training.step(0)
        return max(encoding, memory.peak)


@dataclass(frozen=True)
class Descent:
    """A step of a loss and its gradient, for Figure 2 (time_losses) or Figure 3 (reconstruct)."""

    source: Source
    loss: str
    batch_size: int
    autocast: bool = False

    def count(self) -> int:
        with counting() as memory:
            teacher = self.source.teacher()
            metric = self.source.metric("pixel" if self.loss == "lpips" else "latent")
            loss = regression_loss(LossSettings(loss=self.loss), metric, teacher.decode)
            x = _fakes(self.batch_size, *self.source.shape).requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                value = loss(x, torch.zeros_like(x))
            value.backward()
        return memory.peak


@dataclass(frozen=True)
class Scoring:
    """The largest networks of the metrics on a batch, and KID (score)."""

    clip: str
    pictures: int
    resamples: int

    def count(self) -> int:
        with counting() as clip, torch.no_grad():
            network = fake(lambda: open_clip.CLIP(**open_clip.get_model_config(self.clip)))
            network.encode_image(_fakes(CLIP_BATCH, 3, 224, 224))
        with counting() as dinov2, torch.no_grad():
            network = fake(lambda: timm.create_model(DINOV2, num_classes=0, img_size=SIDES["dinov2"]))
            network(_fakes(FEATURES_BATCH, 3, SIDES["dinov2"], SIDES["dinov2"]))
        with counting() as kid:
            features = _fakes(self.pictures, FEATURES)
            resampled_kid(features, torch.empty_like(features), _fakes(self.resamples, self.pictures))
        return max(clip.peak, dinov2.peak, kid.peak)


def _captions(count: int) -> list[str]:
    return [f"caption {number}" for number in range(count)]


def _fakes(*shape: int) -> torch.Tensor:
    with FAKES:
        return torch.empty(shape)
