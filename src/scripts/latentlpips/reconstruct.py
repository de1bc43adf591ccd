"""Figure 3: recover a latent from noise by gradient descent on one loss; write the curves and the final latent."""

from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file

from diffusion2gan.data.imagenet import LabelledImages
from diffusion2gan.finite import check_finite
from diffusion2gan.images import to_tensor, to_uint8
from diffusion2gan.io import atomic
from diffusion2gan.losses import regression_loss
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.progress import track
from diffusion2gan.seeds import mix, noise
from diffusion2gan.settings import LossSettings, ReconstructionSettings, Seeded
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher


class Arguments(ReconstructionSettings, LossSettings, Seeded):
    teacher: str
    images: str
    latent_metric: Path
    pixel_metric: Path | None = None
    curves: Path
    pictures_out: Path


def main(args: Arguments):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher = Teacher(args.teacher, device)
    metric = LPIPS.load(args.latent_metric).to(device)
    metric_file = args.pixel_metric if args.loss == "lpips" else args.latent_metric
    loss = regression_loss(args, metric_file, teacher.decode, device)
    source = LabelledImages(args.images, "val", teacher.image_size, args.seed)
    images = to_tensor([source[i][0] for i in range(args.pictures)]).to(device)
    target = teacher.encode_images(images).repeat(args.seeds, 1, 1, 1)
    seen = teacher.decode(target)

    starts = [mix(args.seed, seed, picture) for seed in range(args.seeds) for picture in range(args.pictures)]
    x = noise(starts, teacher.latent_shape).to(device).requires_grad_()
    optimizer = torch.optim.Adam([x], args.learning_rate)
    together = args.decoded if args.loss == "lpips" else len(x)  # LPIPS keeps 6 GiB for each decoded image of 512²
    torch.manual_seed(args.seed)
    rows = []
    for step in track(range(args.iterations + 1), f"reconstructing with {args.loss}"):
        if step % args.log_every == 0 or step == args.iterations:
            with torch.no_grad():
                distances = metric(x, target)
                check_finite(distances, f"step {step} of {args.loss}: the distance of start")
                errors = (teacher.decode(x) - seen).square().mean((1, 2, 3)).tolist()
            rows += [
                {"step": step, "seed": i // args.pictures, "picture": i % args.pictures, "metric": d, "pixel_mse": e}
                for i, (d, e) in enumerate(zip(distances.tolist(), errors, strict=True))
            ]
        optimizer.zero_grad()
        for part, goal in zip(x.split(together), target.split(together), strict=True):
            (loss(part, goal) * len(part)).backward()  # the sum, so that the gradient of each latent is its own loss's
        optimizer.step()

    with torch.no_grad():
        pictures = {"target": seen[: args.pictures], "found": teacher.decode(x)[: args.pictures]}
    pictures = {name: torch.from_numpy(to_uint8(shown, f"the {name} image")) for name, shown in pictures.items()}
    with atomic(args.curves) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    with atomic(args.pictures_out) as temporary:
        save_file(pictures, temporary)


if __name__ == "__main__":
    cli.run(main)
