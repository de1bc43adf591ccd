"""The choices that both the losses and the settings name.

They have a module of their own because the losses are imported without pydantic, and the settings without torch.
"""

from typing import Literal

# The transforms of E-LatentLPIPS. b: flips, quarter turns, shifts by whole pixels. g: scaling, rotation, stretching and
# shift. c: colour. o: cutout.
Preset = Literal["b", "bg", "bgc", "bgco"]
# How pixels are resampled. wavelet: at twice the resolution, between two wavelet filters, as in the authors' package.
Resampling = Literal["wavelet", "bicubic", "bilinear"]
PRESET: Preset = "bgco"  # the defaults                                                                         # ours
RESAMPLING: Resampling = "wavelet"
