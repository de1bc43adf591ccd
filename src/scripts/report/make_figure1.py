"""Figure 1: images of each model from the same prompts and the same noise, the teacher first."""

from dataclasses import dataclass
from pathlib import Path

from diffusion2gan import images
from diffusion2gan.data.sources import attribution
from diffusion2gan.errors import UserError
from diffusion2gan.pairs.prompts import read_captions
from diffusion2gan.report import figures
from diffusion2gan.sampling.folder import image_paths, model_folders, read_recipe
from diffusion2gan.study import cli


@dataclass
class Arguments:
    prompts: Path
    models: list[str]
    out: Path
    count: int


def main(args: Arguments):
    folders = dict(sorted(model_folders(args.models).items(), key=lambda item: "teacher" not in item[0].lower()))
    noises = {(each.get("seed"), each.get("captions_sha256")) for each in map(read_recipe, folders.values()) if each}
    if len(noises) > 1:
        raise UserError(
            "the models were sampled from different noise or prompts: sample all with the same --seed and --prompts"
        )

    captions = read_captions(args.prompts)[: args.count]
    columns = {}
    for name, folder in folders.items():
        files = image_paths(folder)[: len(captions)]
        if len(files) < len(captions):
            raise UserError(f"{folder} holds {len(files)} images, the figure shows {len(captions)} prompts")
        columns[name] = [images.load_image(file) for file in files]
    credit = attribution(captions)
    figure = figures.grid(columns, captions, credit)
    description = f"Columns, from the same noise: {', '.join(columns)}. Rows: {'; '.join(captions)}."
    figures.save(figure, args.out, description, credit)


if __name__ == "__main__":
    cli.run(main)
