import diffusion2gan._torchvision  # noqa: F401  (modules of this room import torchvision, most through diffusers)
