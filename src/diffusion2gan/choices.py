"""The choices that both the losses and the settings name.

They stand apart because the losses are imported without pydantic, and the settings without torch.
"""

from typing import Literal

# The transforms of E-LatentLPIPS. b: flips, quarter turns, shifts by whole pixels. g: any scale, turn and shift.
# c: colour. o: cutout.
Preset = Literal["b", "bg", "bgc", "bgco"]
# How pixels move: between two wavelet filters at twice the resolution, as in the authors' package, or at once.
Resampling = Literal["wavelet", "bicubic", "bilinear"]
PRESET: Preset = "bgco"  # the defaults                                                                         # ours
RESAMPLING: Resampling = "wavelet"
