"""Diffusion2GAN: distil a text-to-image diffusion model into a one-step conditional GAN.

Kang et al., "Distilling Diffusion Models into Conditional GANs", ECCV 2024, arXiv:2405.05967.
"""

import diffusion2gan._nobody  # noqa: F401
import diffusion2gan._torchvision  # noqa: F401

__version__ = "0.1.0"
