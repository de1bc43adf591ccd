"""The hub's cache as `hf download` leaves it on a machine that loses its network afterwards."""

from collections.abc import Callable
from pathlib import Path

from official import pixart, sd15, sdxl

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIPELINES: dict[str, Callable[[Path], Path]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": sd15.pipeline,
    "stabilityai/stable-diffusion-xl-base-1.0": sdxl.pipeline,
    "XCLiu/instaflow_0_9B_from_sd_1_5": sd15.instaflow,
    "stabilityai/sdxl-turbo": sdxl.turbo,
    "PixArt-alpha/PixArt-XL-2-512x512": pixart.pipeline,
}
FILES: dict[str, dict[str, Callable[[Path], Path]]] = {
    "ByteDance/SDXL-Lightning": {"sdxl_lightning_1step_unet_x0.safetensors": sdxl.lightning},
    "tianweiy/DMD2": {
        "model/sdv1.5/laion6.25_sd_baseline_8node_guidance1.75_lr5e-7_seed10_dfake10_diffusion1000_gan1e-3_resume_"
        "fid8.35_checkpoint_model_041000/pytorch_model.bin": sd15.dmd2
    },
}


def cache(folder: Path) -> Path:
    """A cache that holds every repository of the paper's scale."""
    for repository, write in PIPELINES.items():
        write(_snapshot(folder, repository))
    for repository, files in FILES.items():
        snapshot = _snapshot(folder, repository)
        for name, write in files.items():
            write(snapshot / name)
    return folder


def _snapshot(folder: Path, repository: str) -> Path:
    """The empty folder in which a repository's files are written."""
    repository_folder = folder / f"models--{repository.replace('/', '--')}"
    (repository_folder / "refs").mkdir(parents=True)
    (repository_folder / "refs" / "main").write_text(COMMIT)
    files = repository_folder / "snapshots" / COMMIT
    files.mkdir(parents=True)
    return files
