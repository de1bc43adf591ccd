"""Capture the training that a script builds, before its first step, and read its parts."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch

from diffusion2gan.discriminators.mix_and_match import Fractions
from diffusion2gan.io import file_sha256
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.pairs.dataset import Pairs
from diffusion2gan.pairs.shards import index_shards, pair_seeds, write_shard
from diffusion2gan.seeds import noise
from diffusion2gan.training import distillation, loop

CAPTIONS = ["a red apple on a blue background", "a fox on a gray background", "a tree on a white background"]


class _Caught(Exception):
    """Stops a script where its training would begin."""


@dataclass
class Built:
    """A training and the arguments of its loop. Tests read internals only through this class."""

    training: object
    loop: dict

    @property
    def schedule(self) -> loop.Schedule:
        return self.loop["schedule"]

    @property
    def ema_decay(self) -> float:
        return self.loop["ema_decay"]

    @property
    def seeds(self) -> set[int]:
        """The seeds of the data order and of the loop."""
        return {self.training.settings.seed, self.loop["seed"]}

    @property
    def batch_size(self) -> int:
        return self.training.settings.batch_size

    @property
    def micro_batches(self) -> int:
        return len(self.training.parts)

    @property
    def shard(self) -> bool:
        return self.training.fitting.shard

    @property
    def autocast(self) -> bool:
        with self.training.precision():
            return torch.is_autocast_enabled(self.training.device.type)

    @property
    def gradient_checkpointing(self) -> set[bool]:
        """Whether gradient checkpointing is on for each trained U-Net, and for the VAE that a loss may decode with."""
        unets = [module.unet for module in self.training.modules.values() if hasattr(module, "unet")]
        codec = [self.training.teacher.vae] if hasattr(self.training.teacher, "vae") else []
        return {module.is_gradient_checkpointing for module in [*unets, *codec]}

    @property
    def pairs(self):
        return self.training.pairs

    @property
    def student(self) -> torch.nn.Module:
        return self.training.modules["student"]

    @property
    def discriminator(self) -> torch.nn.Module:
        return self.training.modules["discriminator"]

    @property
    def learning_rates(self) -> dict[str, float]:
        return {name: each.param_groups[0]["lr"] for name, each in self.training.optimizers.items()}

    @property
    def lambda_gan(self) -> float:
        return self.training.settings.lambda_gan

    @property
    def r1(self) -> tuple[float, int] | None:
        """γ and the interval of R1."""
        settings = self.training.settings
        return (settings.r1_gamma, settings.r1_every) if settings.r1 else None

    @property
    def fractions(self) -> Fractions | None:
        """The fractions of mix-and-match."""
        return self.training.fractions

    @property
    def matching_aware(self) -> bool:
        return self.training.matching_aware

    @property
    def levels(self) -> int:
        """Noise levels of Consistency Distillation."""
        return len(self.training.levels)

    @property
    def target_decay(self) -> float:
        return self.training.settings.target_decay

    @property
    def random_flip(self) -> bool:
        return self.training.settings.random_flip

    def logits(self, noise_seed: int = 0) -> list[torch.Tensor]:
        """D's logits for a fixed x and text and the noise of a seed, after all its weights are made non-zero."""
        kept = {name: value.clone() for name, value in self.discriminator.state_dict().items()}
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for weight in self.discriminator.parameters():
                weight += 0.02 * torch.randn(weight.shape, generator=generator)
            x = torch.randn(1, *self.training.teacher.latent_shape, generator=generator)
            z = torch.randn(x.shape, generator=torch.Generator().manual_seed(noise_seed))
            logits = self.discriminator(x, z, **self.training.teacher.encode_text(["a fox"]))
        self.discriminator.load_state_dict(kept)
        return logits

    @property
    def sees_z(self) -> bool:
        """Whether D's logits depend on the noise."""
        return not all(torch.equal(one, other) for one, other in zip(self.logits(0), self.logits(1), strict=True))

    @property
    def heads(self) -> int:
        """The number of logit maps of D."""
        return len(self.logits())

    def loss_of(self, x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
        return self.training.loss(x0, x1)


def built(main: Callable, options) -> Built:
    """The training that `main(options)` of a script builds."""
    caught = []

    def catch(*args, **kwargs):
        given = inspect.signature(loop.train).bind(*args, **kwargs)
        given.apply_defaults()
        caught.append(Built(given.arguments["training"], given.arguments))
        raise _Caught

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "train", catch)
        with pytest.raises(_Caught):
            main(options)
    return caught[0]


def pairs(folder: Path, teacher: str | Path, latents: torch.Tensor, captions: Sequence[str] = CAPTIONS) -> Path:
    """A folder of pairs of a teacher with these latents; captions are used in turn."""
    folder.mkdir()
    prompts = pd.DataFrame({"prompt_id": range(len(captions)), "caption": captions})
    prompts.to_parquet(folder / "prompts.parquet")
    recipe = {"teacher": str(teacher), "scheduler": "ddim, eta 0", "steps": 3, "guidance": 2.0}
    recipe |= {"prompts_sha256": file_sha256(folder / "prompts.parquet")}
    ids = [pair % len(captions) for pair in range(len(latents))]
    path = folder / "shard-00000.safetensors"
    write_shard(path, latents, pair_seeds(range(len(latents)), 0), ids, 0, recipe)
    index_shards([path], folder / "prompts.parquet").to_parquet(folder / "index.parquet")
    return folder


class InMemory:
    """Pairs in memory, as PairDataset would give them; captions are used in turn."""

    held_out = range(0)

    def __init__(self, captions: Sequence[str] = CAPTIONS, count: int = 8):
        self.captions = captions
        self.x = torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: torch.Tensor) -> Pairs:
        captions = [self.captions[i % len(self.captions)] for i in indices.tolist()]
        return Pairs(noise(indices.tolist(), self.x.shape[1:]).to(self.x), captions, self.x[indices])


def metric(path: Path, space: str) -> Path:
    """A file with a metric of random weights; `space` is `latent` or `pixel`."""
    torch.manual_seed(0)
    vgg = VGG(space, 4 if space == "latent" else 3, 0, width=0.125)
    LPIPS(vgg, [torch.rand(width) for width in vgg.widths]).save(path)
    return path


def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A list to which every later call of the perceptual metric appends its inputs (x0, x1)."""
    seen, forward = [], LPIPS.forward

    def watched(metric, x0, x1):
        seen.append((x0.detach().clone(), x1.detach().clone()))
        return forward(metric, x0, x1)

    monkeypatch.setattr(LPIPS, "forward", watched)
    return seen


def loss_name(training: Built, shape: tuple[int, int, int], side: int = 0) -> str:
    """The loss of Table 1 that a training uses, identified by its values and by the inputs of the metric.

    `shape` is the shape of a latent; for `lpips`, images must reach the metric at `side` pixels.
    """
    if training.training.loss is None:
        return "none"
    x0, x1 = torch.randn(2, 6, *shape, generator=torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        seen = compared(patch)
        value = training.loss_of(x0, x1)
        if not seen:
            c = 0.00054 * x0[0].numel() ** 0.5
            huber = ((x0 - x1).square().sum((1, 2, 3)) + c**2).sqrt().mean() - c
            values = {"l1": (x0 - x1).abs().mean(), "mse": (x0 - x1).square().mean(), "pseudo_huber": huber}
            return next(name for name, wanted in values.items() if torch.isclose(value, wanted))
        ((a, b),) = seen
    if a.shape[1] == 3:
        assert a.shape == b.shape == (6, 3, side, side)
        return "lpips"
    assert a.shape == b.shape == x0.shape
    if torch.equal(a, x0) and torch.equal(b, x1):
        return "latent_lpips"
    return f"e_latent_lpips {_ensemble(training, shape)}"


def _ensemble(training: Built, shape: tuple[int, int, int]) -> str:
    """The preset of an ensemble, and whether it is bilinear, identified by their effects on simple latents."""
    channels, side, _ = shape
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        seen = compared(patch)
        torch.manual_seed(0)
        flat = torch.full((16, channels, side, side), 2.0)
        training.loss_of(flat, flat)
        ramp = torch.linspace(1, 2, side).expand(16, channels, side, side) * 1.0
        training.loss_of(ramp, ramp)
        edge = (torch.arange(side) < side / 2).expand(16, channels, side, side) * 1.0
        training.loss_of(edge, edge)
    (flat, _), (ramp, _), (edge, _) = seen
    levels = edge[:, 0] - edge[:, 0].amin((1, 2), keepdim=True)
    levels = levels / levels.amax((1, 2), keepdim=True)
    extreme = ((levels < 0.01) | (levels > 0.99)).float().mean((1, 2)).median()  # filters overshoot beside an edge
    preset = _preset(flat, ramp, side)
    return f"{preset} bilinear" if "g" in preset and extreme > 0.6 else preset  # b moves whole pixels


def _preset(flat: torch.Tensor, ramp: torch.Tensor, side: int) -> str:
    hidden = (flat == 0).float().mean((1, 2, 3))  # by cutout
    colour = flat.amax((1, 2, 3)) - 2
    if (hidden > 0).all():
        return "bgco"
    if colour.abs().max() > 0.1:
        return "bgc"
    steps = torch.linspace(1, 2, side)
    whole = (ramp[..., None] - steps).abs().amin(-1).max() < 1e-4  # pixels were only moved
    return "b" if whole else "bg"
