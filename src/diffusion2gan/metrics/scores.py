"""All metrics of one folder of samples; every image goes through each network only once."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from pydantic import Field

from diffusion2gan.errors import UserError
from diffusion2gan.metrics import bootstrap
from diffusion2gan.metrics.clip_score import CLIP, cosines
from diffusion2gan.metrics.dreamsim import DreamSim, distances, diversities
from diffusion2gan.metrics.features import Features, cached
from diffusion2gan.metrics.fid import Reference, resampled_fid
from diffusion2gan.metrics.kid import resampled_kid
from diffusion2gan.metrics.precision_recall import inside_manifolds
from diffusion2gan.metrics.speed import parameters, seconds
from diffusion2gan.metrics.zero_shot import ZeroShot
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import ImageFiles, image_paths, noise_seeds, read_recipe
from diffusion2gan.settings import SamplingSettings, ScoringSettings


class ScoredImages(ScoringSettings):
    """The folders of the images and of the benchmark that they are measured against."""

    images: Path
    benchmark: Path
    teacher_images: Path | None = Field(
        None, description="the teacher's samples of the same prompts and noise, for dreamsim"
    )
    diversity: Path | None = Field(None, description="several samples of each prompt, for dreamdiv")


class Scores:
    """The requested metrics of a folder of samples.

    `values` holds the metrics, `intervals` the half widths of their 95 % intervals over the images, `recipe` the
    settings that they depend on, `parts` the seconds of each part.
    Raises UserError if the images are not those that the folder or the benchmark declares.
    """

    def __init__(self, settings: ScoredImages):
        self.settings, self.wanted = settings, set(settings.metrics)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.values, self.intervals, self.parts, self.speed = {}, {}, {}, None
        self.images = self._images(settings.images)
        self.images.check_sizes()
        self.sample = read_recipe(settings.images)
        self.prompts = self._prompts()
        self.captions = self.prompts["caption"].tolist()
        self.cache = settings.benchmark.with_name(f"{settings.benchmark.name}.features")
        self.recipe = {
            **self.images.recipe,
            "count": len(self.images),
            "captions_sha256": json_sha256(self.captions),
        }
        if self.wanted & {"fid", "kid", "precision", "recall", "fid_second", "kid_second"}:
            self.real = self._reference()
            self.recipe["reference_count"] = len(self.real)

    def measure(self) -> "Scores":
        """Compute all requested metrics."""
        self._score_features()
        self._score_clip()
        self._score_dreamsim()
        self._time_model()
        return self

    def _score_features(self) -> None:
        """FID, KID, precision and recall in the first feature space; FID and KID in the second, unless it is CLIP's."""
        if self.wanted & {"fid", "kid", "precision", "recall"}:
            fake, real = self._features(self.settings.features)
            self._distances(fake, real, "")
            self._manifolds(fake, real)
        if self.settings.second_features != "clip" and self.wanted & {"fid_second", "kid_second"}:
            self._distances(*self._features(self.settings.second_features, "second_"), "_second")

    def _score_clip(self) -> None:
        """CLIP score and zero-shot accuracy; FID and KID in CLIP's feature space, if that is the second one.

        If the captions have a prefix, the score without it is `clip_score_no_prefix`.
        """
        second = self.settings.second_features == "clip" and self.wanted & {"fid_second", "kid_second"}
        if not (second or "clip_score" in self.wanted):
            return
        with self._part("clip"):
            clip = CLIP(self.settings.clip, self.device, self.settings.clip_prefix)
            fake = clip.embed(self.images)
        self.recipe |= clip.recipe
        if second:
            with self._part("reference"):
                real = cached(clip.embed, self.real, self.cache, "clip", {"clip": clip.spec})
            self.recipe["second_network"] = clip.spec
            self._distances(fake, real, "_second")
        if "clip_score" in self.wanted:
            vectors = torch.nn.functional.normalize(fake)
            self._mean("clip_score", cosines(vectors, clip.captions(self.captions)))
            if clip.prefix:
                self._mean("clip_score_no_prefix", cosines(vectors, clip.captions(self.captions, prefix="")))
            if classes := self._classes():
                for name, share in ZeroShot(clip, classes).top1(vectors, self.prompts).items():
                    self.values[name] = share
                    self.intervals[name] = bootstrap.Z * (share * (1 - share) / len(vectors)) ** 0.5

    def _score_dreamsim(self) -> None:
        """DreamSim-5k, to the teacher's samples from the same noise; DreamDiv-5k, between samples of one prompt."""
        if not self.wanted & {"dreamsim", "dreamdiv"}:
            return
        with self._part("dreamsim"):
            network = DreamSim(self.settings.dreamsim, self.device)
            self.recipe |= network.recipe
            if "dreamsim" in self.wanted:
                teachers = self._same_noise(self.settings.teacher_images)
                self._mean("dreamsim", distances(network(self.images), network(teachers)))
            if "dreamdiv" in self.wanted:
                several, repeats = self._several(self.settings.diversity)
                self.recipe |= {"diversity_count": len(several), "diversity_repeats": repeats}
                self._mean("dreamdiv", diversities(network(several), repeats))

    def _time_model(self) -> None:
        """Parameters, steps, and seconds per image, text encoding and decoding included.

        On a GPU every row is timed in half precision, even if its images were sampled in float32.
        """
        if not self.settings.time:
            return
        if self.sample is None:
            raise UserError(f"{self.settings.images} has no sample.json, which timing needs: sample it with sample.py")
        with self._part("time"):
            from diffusion2gan.sampling import sampler  # imports diffusers, which most rows do not need

            names = self.sample.keys() & SamplingSettings.model_fields
            sampling = SamplingSettings(**{name: self.sample[name] for name in names})
            sample, denoiser = sampler.load_sampler(sampling, self.device, sampler.timing_precision(self.device))
            seed = noise_seeds(self.settings.seed, [0])
            timing = seconds(lambda: sample(seed, self.captions[:1]).cpu())
        precision = str(next(denoiser.parameters()).dtype).removeprefix("torch.")
        self.speed = asdict(timing) | {"precision": precision}
        self.values |= {"params_billion": parameters(denoiser) / 1e9, "steps": sampling.steps}
        self.values["inference_seconds"] = timing.median
        self.intervals["inference_seconds"] = timing.half_width

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to a part."""
        start = time.monotonic()
        yield
        self.parts[name] = round(self.parts.get(name, 0.0) + time.monotonic() - start, 3)

    def _images(self, folder: Path) -> ImageFiles:
        return ImageFiles(image_paths(folder), self.settings.resolution, self.settings.resize_filter)

    def _prompts(self) -> pd.DataFrame:
        """The benchmark's prompts, a row for each image. Raises UserError if the images were sampled for others."""
        path, count = self.settings.benchmark / "prompts.parquet", len(self.images)
        prompts = pd.read_parquet(path)[:count]
        if len(prompts) < count:
            raise UserError(f"{self.settings.images} holds {count} images, {path} only {len(prompts)} prompts")
        sampled = (self.sample or {}).get("captions_sha256")
        if sampled and sampled != json_sha256(prompts["caption"].tolist()):
            raise UserError(f"{self.settings.images} was sampled for other prompts than {path} holds: sample it again")
        return prompts

    def _classes(self) -> dict[str, list[list[str]]] | None:
        """The captions of the classes that the benchmark's prompts are labelled with; None if they have no labels."""
        return self._declared().get("classes")

    def _declared(self) -> dict:
        """The content of `benchmark.json`; empty if a benchmark was put together by hand."""
        file = self.settings.benchmark / "benchmark.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def _reference(self) -> ImageFiles:
        """The benchmark's images. Raises UserError if there are not as many as its `benchmark.json` declares."""
        real = self._images(self.settings.benchmark / "images")
        declared = self._declared().get("pictures", len(real))
        if declared != len(real):
            raise UserError(
                f"{self.settings.benchmark}/images holds {len(real)} of {declared} images: make it again with "
                "make_benchmark.py"
            )
        return real

    def _features(self, network: str, prefix: str = "") -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the samples (N, D) and of the real images (M, D)."""
        with self._part("features"):
            features = Features(network, self.device, self.settings.feature_side)
            fake = features(self.images)
        with self._part("reference"):
            real = features.cached(self.real, self.cache)
        self.recipe |= {f"{prefix}{name}": value for name, value in features.recipe.items()}
        return fake, real

    def _distances(self, fake: torch.Tensor, real: torch.Tensor, suffix: str) -> None:
        """FID and KID; the first row of weights takes every image once, the others are resamples."""
        resamples = bootstrap.weights(len(fake), self.settings.resamples, self.settings.seed)
        weights = torch.cat([torch.ones(1, len(fake), dtype=resamples.dtype), resamples])
        if (name := f"fid{suffix}") in self.wanted:
            with self._part("fid"):
                self._resampled(name, resampled_fid(fake, Reference(real, self.device), weights))
        if (name := f"kid{suffix}") in self.wanted:
            with self._part("kid"):
                self._resampled(name, resampled_kid(fake, real, weights, self.device))

    def _manifolds(self, fake: torch.Tensor, real: torch.Tensor) -> None:
        if not self.wanted & {"precision", "recall"}:
            return
        with self._part("precision_recall"):
            shares = dict(zip(("precision", "recall"), inside_manifolds(fake, real, device=self.device), strict=True))
        for name in self.wanted & shares.keys():
            self._mean(name, shares[name])

    def _resampled(self, name: str, found: torch.Tensor) -> None:
        self.values[name], self.intervals[name] = found[0].item(), bootstrap.half_width(found[1:])

    def _mean(self, name: str, values: torch.Tensor) -> None:
        self.values[name] = values.double().mean().item()
        self.intervals[name] = bootstrap.mean_half_width(values, self.settings.resamples, self.settings.seed)

    def _same_noise(self, folder: Path | None) -> ImageFiles:
        """The teacher's samples of the same prompts from the same noise."""
        if folder is None:
            raise UserError("dreamsim compares with the teacher: give the folder of its samples as --teacher_images")
        theirs, ours = read_recipe(folder) or {}, self.sample or {}
        same = ("seed", "captions_sha256", "count")
        if any(theirs.get(name) != ours.get(name) for name in same):
            raise UserError(
                f"{folder} and {self.settings.images} do not have the same noise and prompts: sample them alike"
            )
        return self._images(folder)

    def _several(self, folder: Path | None) -> tuple[ImageFiles, int]:
        """Several samples of each prompt, and their number per prompt."""
        recipe = read_recipe(folder) if folder else None
        if recipe is None or recipe.get("repeats", 1) < 2:
            raise UserError(
                "dreamdiv compares samples of one prompt: make them with sample.py --repeats 8 and give their folder "
                "as --diversity"
            )
        return self._images(folder), recipe["repeats"]
