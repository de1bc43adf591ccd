"""The study of config.yaml at a scale, with changes, and the line that refuses it."""

from pathlib import Path

import pytest
import yaml

from diffusion2gan.errors import UserError
from diffusion2gan.study.config import load, merge
from diffusion2gan.study.study import Study

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def study(scale: str = "toy", **changes) -> Study:
    return Study(load(merge(CONFIG, changes | {"scale": scale}), ROOT))


def complaint(**changes) -> str:
    with pytest.raises(UserError) as error:
        study(**changes)
    assert "\n" not in str(error.value)
    return str(error.value)
