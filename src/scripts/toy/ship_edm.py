"""Write the trained toy EDM teacher to the folder that the small scales load, in half precision, with its card."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan.evaluations import evaluations_per_pair
from diffusion2gan.metrics.features import Features
from diffusion2gan.metrics.speed import parameters
from diffusion2gan.pixel.model import PixelTeacher, load_edm
from diffusion2gan.report.figures import save
from diffusion2gan.study import cli
from diffusion2gan.toy import quality
from diffusion2gan.toy.card import EDM, write_card
from diffusion2gan.toy.figures import losses_figure, sheet
from diffusion2gan.toy.openmoji import ATTRIBUTION


@dataclass
class Arguments:
    edm: Path
    out: Path
    steps: int = 18
    count: int = 1000


def main(args: Arguments):
    load_edm(args.edm).half().save_pretrained(args.out)
    teacher, history = PixelTeacher(args.out), pd.read_csv(args.edm / "history.csv")
    samples = quality.sample(teacher, [""] * args.count, args.steps, 1.0, "heun")
    numbers = {
        "weights": parameters(teacher.unet),
        "training_iterations": int(history["step"].iloc[-1]) + 1,
        "training_loss": float(history["loss"].tail(50).mean()),
        "heun_steps": args.steps,
        "evaluations": evaluations_per_pair("heun", args.steps, 1),
        **quality.measure_pixels(samples, Features("efficientnet-lite0", teacher.device, quality.PIXEL_FEATURES)),
    }
    images = "![samples](samples.png)\n\n![training loss](losses.png)"
    write_card(args.out / "README.md", EDM, numbers, images)
    description = "Samples of the toy EDM teacher"
    save(sheet(samples[:128], 8, 16), args.out / "samples.png", description, ATTRIBUTION, vector=False)
    save(
        losses_figure({"edm": history}),
        args.out / "losses.png",
        "Training loss of the toy EDM teacher",
        vector=False,
    )


if __name__ == "__main__":
    cli.run(main)
