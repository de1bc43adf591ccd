"""OpenMoji scenes as a data source of the study (registered in `data.sources`)."""

from collections.abc import Iterator, Sequence

import numpy as np

from diffusion2gan.toy import openmoji
from diffusion2gan.toy.collages import Collages
from diffusion2gan.toy.openmoji import EMOJI, GROUNDS, Prompt, Scenes
from diffusion2gan.toy.rendering import render


class OpenMoji:
    """Everything that the study takes from OpenMoji scenes; see `data.sources.Source`."""

    attribution = openmoji.ATTRIBUTION
    synthetic_judgements = True
    benchmark_split = "benchmark"

    def captions(self) -> set[str]:
        """The captions of all scenes."""
        return {prompt.caption for prompt in openmoji.prompts("all")}

    def prompts(self) -> list[str]:
        """The captions of the split `pairs`."""
        return [prompt.caption for prompt in openmoji.prompts("pairs")]

    def benchmark(self, count: int, size: int, seed: int) -> Iterator[tuple[np.ndarray, dict]]:
        """`count` scenes of the split of the benchmark, each with `caption`, `emoji` and `ground`."""
        scenes = Scenes(self.benchmark_split, seed, size)
        for i in range(count):
            scene = scenes[i]
            yield scene.image, {"caption": scene.prompt.caption, **vars(scene.prompt)}

    def classes(self) -> dict[str, list[list[str]]]:
        """The captions of each emoji, over all grounds, and of each ground, over all emoji."""
        emoji, grounds = range(len(EMOJI)), range(len(GROUNDS))
        return {
            "emoji": [[Prompt(e, g).caption for g in grounds] for e in emoji],
            "ground": [[Prompt(e, g).caption for e in emoji] for g in grounds],
        }

    def labelled_images(self, size: int, seed: int) -> Collages:
        """Collages of every OpenMoji drawing, labelled with the drawing."""
        return Collages(seed, size)

    def judgements(self, split: str, size: int, seed: int) -> Sequence:
        """Distorted scenes; the milder distortion is preferred."""
        from diffusion2gan.toy.distortions import SyntheticJudgements  # here: it imports torch, which the rest does not

        return SyntheticJudgements(split, seed, size)

    def unconditional_images(self, count: int, size: int, seed: int) -> np.ndarray:
        """The first `count` scenes, uint8 (count, size, size, 3)."""
        return render(Scenes("all", seed, size).image, count)


class OpenMojiSweep(OpenMoji):
    """The same with a benchmark of the pairs' captions, on which settings are chosen. No table of the paper is."""

    benchmark_split = "pairs"
