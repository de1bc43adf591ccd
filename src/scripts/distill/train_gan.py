"""Train a regressed student further as a conditional GAN (Sec. 3.3, Table 2), or a GAN from scratch (Table 3)."""

import diffusion2gan._torchvision  # noqa: F401 - before diffusers

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from pydantic import Field, model_validator

from diffusion2gan.generator import Generator, load_student
from diffusion2gan.methods.gigagan import GigaGANTraining
from diffusion2gan.settings import GANSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training import distillation, distributed
from diffusion2gan.training.adversarial import AdversarialTraining, discriminator_of


class Arguments(GANSettings, distillation.PairArguments):
    init: Path | None = Field(None, description="folder of the student to start from; none: from_scratch")

    @model_validator(mode="after")
    def _check_start(self) -> "Arguments":
        if (self.init is None) != self.from_scratch:
            raise ValueError("a GAN starts from a student or from scratch: give either init or from_scratch: true")
        return self


def main(args: Arguments):
    torch.manual_seed(args.seed)
    teacher = Teacher(args.teacher, distributed.device())
    student = load_student(args.init) if args.init else untrained(teacher)
    pairs, loss = distillation.open_pairs(args), distillation.loss_of(args, teacher)
    discriminator = discriminator_of(args, teacher)
    teacher.drop_unet()  # student and discriminator have their own
    kind = GigaGANTraining if args.from_scratch else AdversarialTraining
    training = kind(student, teacher, pairs, loss, discriminator, settings=args, fitting=args)
    distillation.run(training, args)


def untrained(teacher: Teacher) -> Generator:
    """A student with the architecture of a teacher and random weights, in float32.

    It predicts v: an estimate from a random ε would be divided by √ᾱ, 0.07 for Stable Diffusion.            # ours
    """
    scheduler = DDIMScheduler.from_config(teacher.scheduler.config, prediction_type="v_prediction")
    return Generator(UNet2DConditionModel.from_config(teacher.unet.config), scheduler)


if __name__ == "__main__":
    cli.run(main)
