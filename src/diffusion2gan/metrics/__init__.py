"""How good are the pictures: FID, CLIP score, precision and recall, speed."""

import diffusion2gan._torchvision  # noqa: F401  (modules of this room import torchvision, most through diffusers)
