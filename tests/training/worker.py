"""Trainings of a tiny student in double precision, in as many processes as there are: `worker.py TEACHER METRIC OUT`.

In double precision, because Adam makes whole steps of gradients that are nothing but rounding.
"""

import sys
from pathlib import Path

import torch

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.generator import Generator
from diffusion2gan.losses import regression_loss
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.pairs.dataset import Pairs
from diffusion2gan.seeds import noise
from diffusion2gan.settings import Fitting, GANSettings, LossSettings, RegressionSettings, VGGSettings
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distributed
from diffusion2gan.training.adversarial import AdversarialTraining
from diffusion2gan.training.loop import Schedule, train
from diffusion2gan.training.lpips.classification import LatentBatches, VGGTraining
from diffusion2gan.training.regression import RegressionTraining

CAPTIONS = ["a red apple on a blue background", "a fox on a gray background", "a tree on a white background"]
STEPS = 3
PAIRS = 20


class Memory:
    """Pairs in memory, as PairDataset would give them."""

    def __init__(self):
        self.captions = CAPTIONS
        self.x = torch.randn(PAIRS, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return PAIRS

    def batch(self, indices):
        captions = [CAPTIONS[i % 3] for i in indices.tolist()]
        return Pairs(noise(indices.tolist(), (4, 8, 8)).to(self.x), captions, self.x[indices])


def training_of(kind: str, teacher_folder: str, metric: str, fitting: Fitting) -> RegressionTraining | VGGTraining:
    """A regression, or a GAN with either discriminator, or a VGG without batch statistics, on batches of 8."""
    torch.manual_seed(0)
    if kind == "vgg":
        batches = LatentBatches(torch.randn(20, 4, 8, 8), torch.arange(20) % 3, 8, 0, *distributed.parts(8))
        network = VGG("latent", 4, 3, width=0.125, batch_norm=False).float()
        settings = {"classes": 3, "iterations": STEPS, "batch_size": 8, "learning_rate": 1e-3, "label_smoothing": 0.1}
        return VGGTraining(network, batches, VGGSettings(**settings))
    teacher = Teacher(teacher_folder, "cpu", torch.float64)
    common = {
        "student": Generator.from_teacher(teacher_folder).double(), "teacher": teacher, "pairs": Memory(),
        "loss": regression_loss(LossSettings(loss="e_latent_lpips"), Path(metric)), "fitting": fitting,
    }  # fmt: skip
    settings = {"loss": "e_latent_lpips", "iterations": STEPS, "batch_size": 8, "learning_rate": 1e-3, "seed": 5}
    if kind == "regression":
        return RegressionTraining(**common, settings=RegressionSettings(**settings))
    settings |= {"d_learning_rate": 1e-3, "lambda_gan": 0.5}
    if kind == "gigagan":
        discriminator = GigaGANDiscriminator(teacher.latent_shape, 64, width=8, max_width=16)
        settings |= {"discriminator": "gigagan"}
    else:
        discriminator = DiffusionDiscriminator.from_teacher(
            teacher.unet, z_conditioning=True, multi_scale=True
        ).double()
        settings |= dict.fromkeys(("z_conditioning", "multi_scale", "r1", "mix_and_match"), True)
        settings |= {"r1_gamma": 100.0, "r1_every": 2}
    return AdversarialTraining(**common, discriminator=discriminator, settings=GANSettings(**settings))


def outcome(kind: str, teacher: str, metric: str, folder: Path, fitting: Fitting, cut_at: int | None = None) -> dict:
    """Weights and history of a training, which is interrupted at a step and resumed where `cut_at` says so."""
    torch.set_default_dtype(torch.float64)
    try:
        while True:
            training = training_of(kind, teacher, metric, fitting)
            step = training.step

            def until_cut(number, step=step, cut_at=cut_at):
                if number == cut_at:
                    raise KeyboardInterrupt
                return step(number)

            training.step = until_cut
            try:
                history = train(training, Schedule(STEPS), folder, {}, 0, 0.5, checkpoint_every=1, log_every=1)
            except KeyboardInterrupt:
                cut_at = None
                continue
            weights = {name: dict(module.state_dict()) for name, module in training.modules.items()}
            kept = [name for name in history if name not in ("seconds", "images_per_second")]
            return {"weights": weights, "history": history[kept].to_dict("list"), "processes": distributed.count()}
    finally:
        torch.set_default_dtype(torch.float32)


def main(teacher: str, metric: str, out: str) -> None:
    fittings = {"ddp": Fitting(), "accumulated": Fitting(accumulation=2), "fsdp": Fitting(shard=True)}
    for name, fitting in fittings.items():
        for kind in ("regression", "gan", "gigagan"):
            cut_at = 2 if name == "fsdp" else None
            result = outcome(kind, teacher, metric, Path(out) / f"{name}-{kind}", fitting, cut_at)
            if distributed.is_main():
                torch.save(result, Path(out) / f"{name}-{kind}.pt")
    result = outcome("vgg", teacher, metric, Path(out) / "ddp-vgg", Fitting())
    if distributed.is_main():
        torch.save(result, Path(out) / "ddp-vgg.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
