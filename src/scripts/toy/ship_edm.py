"""Put a freshly trained EDM teacher where the small scales look for it, in half precision, with its card."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diffusion2gan import evaluations
from diffusion2gan.metrics.features import Features
from diffusion2gan.metrics.speed import parameters
from diffusion2gan.pixel.model import PixelTeacher, read
from diffusion2gan.report.figures import save
from diffusion2gan.study import cli
from diffusion2gan.toy import card
from diffusion2gan.toy.openmoji import ATTRIBUTION


@dataclass
class Arguments:
    edm: Path
    out: Path
    steps: int = 18
    count: int = 1000


def main(args: Arguments):
    read(args.edm).half().save_pretrained(args.out)
    teacher, history = PixelTeacher(args.out), pd.read_csv(args.edm / "history.csv")
    drawn = card.draw_pixels(teacher, args.count, args.steps)
    numbers = {
        "weights": parameters(teacher.unet),
        "training_iterations": int(history["step"].iloc[-1]) + 1,
        "training_loss": float(history["loss"].tail(50).mean()),
        "heun_steps": args.steps,
        "evaluations": evaluations.of_a_pair("heun", args.steps, 1),
        **card.measure_pixels(drawn, Features("efficientnet-lite0", teacher.device, card.PIXEL_FEATURES)),
    }
    pictures = "![samples](samples.png)\n\n![training loss](losses.png)"
    card.write(args.out / "README.md", card.EDM, numbers, pictures)
    description = "Samples of the toy EDM teacher"
    save(card.sheet(drawn[:128], 8, 16), args.out / "samples.png", description, ATTRIBUTION, vector=False)
    save(
        card.losses_figure({"edm": history}),
        args.out / "losses.png",
        "Training loss of the toy EDM teacher",
        vector=False,
    )


if __name__ == "__main__":
    cli.run(main)
