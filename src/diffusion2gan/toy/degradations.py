"""Real scenes that are degraded in known ways, from weak to strong: a feature space of FID should see each degree."""

import numpy as np

from diffusion2gan.teacher import Teacher
from diffusion2gan.toy.distortions import distort
from diffusion2gan.toy.openmoji import EMOJI
from diffusion2gan.toy.quality import ImageList, reconstruct, scenes

SEED = 0x52554C45  # the scenes of this and the following seeds are in no training and no table


def real(number: int, count: int) -> ImageList:
    """The images of `count` scenes; they depend on `number`."""
    return ImageList(scene.image for scene in scenes(SEED + number, count))


def degraded(teacher: Teacher, number: int, count: int) -> dict[tuple[str, float], ImageList]:
    """The images of `real(number, count)`, degraded, by kind and degree."""
    images = real(number, count)
    once = reconstruct(teacher, images)
    found = {
        (f"{kind}, severity", severity): distorted(images, kind, severity)
        for kind in ("blur", "noise")
        for severity in (0.0, 0.2, 0.4, 0.7)
    }
    found |= {("red and blue swapped, share", share): recoloured(images, share) for share in (0.1, 0.25, 0.5)}
    found |= {("emoji left out, share", share): without(number, count, share) for share in (0.25, 0.5, 0.75)}
    found |= {("images repeated, times", times): repeated(images, times) for times in (2, 4, 16)}
    return found | {
        ("autoencoder, passes", 1): ImageList(once),
        ("autoencoder, passes", 2): ImageList(reconstruct(teacher, once)),
    }


def distorted(images: ImageList, kind: str, severity: float) -> ImageList:
    """The images with one of the distortions of the synthetic judgements."""
    randoms = [np.random.default_rng([SEED, i]) for i in range(len(images))]
    return ImageList(
        distort(image / 255, kind, severity, random) for image, random in zip(images, randoms, strict=True)
    )


def recoloured(images: ImageList, share: float) -> ImageList:
    """The images; in a share of them, red and blue are swapped."""
    return ImageList(image[..., ::-1].copy() if i < share * len(images) else image for i, image in enumerate(images))


def without(number: int, count: int, share: float) -> ImageList:
    """Images of scenes that never show a share of all emoji."""
    kept = round((1 - share) * len(EMOJI))
    drawn = scenes(SEED + number, round(2 * count / (1 - share)) + 100)  # enough that `count` are left
    chosen = [scene.image for scene in drawn if scene.prompt.emoji < kept]
    return ImageList(chosen[:count])


def repeated(images: ImageList, times: int) -> ImageList:
    """As many images, but only the first of them, each `times` times."""
    return ImageList(images[i // times] for i in range(len(images)))
