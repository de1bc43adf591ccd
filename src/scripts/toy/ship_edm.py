"""Write the trained toy EDM teacher to the folder that the small scales load, in half precision, with its card."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.evaluations import evaluations_per_pair
from diffusion2gan.metrics.features import Features
from diffusion2gan.metrics.speed import parameters
from diffusion2gan.pixel.model import PixelTeacher, load_edm
from diffusion2gan.report.figures import save
from diffusion2gan.study import cli
from diffusion2gan.toy import quality
from diffusion2gan.toy.card import EDM, write_card
from diffusion2gan.toy.figures import sheet
from diffusion2gan.toy.openmoji import ATTRIBUTION


@dataclass
class Arguments:
    edm: Path
    out: Path
    steps: int = 18
    count: int = 1000


def main(args: Arguments):
    load_edm(args.edm).half().save_pretrained(args.out)
    teacher = PixelTeacher(args.out)
    samples = quality.sample(teacher, [""] * args.count, args.steps, 1.0, "heun")
    numbers = {
        "weights": parameters(teacher.unet),
        "heun_steps": args.steps,
        "evaluations": evaluations_per_pair("heun", args.steps, 1),
        **quality.measure_pixels(samples, Features("efficientnet-lite0", teacher.device, quality.PIXEL_FEATURES)),
    }
    write_card(args.out / "README.md", EDM, numbers, "![samples](samples.png)")
    description = "Samples of the toy EDM teacher"
    save(sheet(samples[:96], 8, 12), args.out / "samples.png", description, ATTRIBUTION, vector=False)


if __name__ == "__main__":
    cli.run(main)
