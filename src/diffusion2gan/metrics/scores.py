"""All metrics of one folder of samples; every image goes through each network only once."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch

from diffusion2gan.errors import UserError
from diffusion2gan.metrics import bootstrap
from diffusion2gan.metrics.clip_score import CLIP, cosines
from diffusion2gan.metrics.dreamsim import DreamSim, distances, diversities
from diffusion2gan.metrics.features import Features, cached
from diffusion2gan.metrics.fid import Reference, resampled_fid
from diffusion2gan.metrics.kid import resampled_kid
from diffusion2gan.metrics.precision_recall import inside_manifolds
from diffusion2gan.metrics.samples import Samples, ScoredImages
from diffusion2gan.metrics.speed import parameters, seconds
from diffusion2gan.metrics.zero_shot import ZeroShot
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import noise_seeds
from diffusion2gan.settings import SamplingSettings


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
        self.samples = Samples(settings)
        self.images, self.captions, self.sample = self.samples.images, self.samples.captions, self.samples.recipe
        self.cache = settings.benchmark.with_name(f"{settings.benchmark.name}.features")
        self.recipe = {
            **self.images.recipe,
            "count": len(self.images),
            "captions_sha256": json_sha256(self.captions),
        }
        if self.wanted & {"fid", "kid", "precision", "recall", "fid_second", "kid_second"}:
            self.real = self.samples.reference()
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
            if classes := self.samples.classes():
                for name, share in ZeroShot(clip, classes).top1(vectors, self.samples.prompts).items():
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
                teachers = self.samples.of_the_teacher()
                self._mean("dreamsim", distances(network(self.images), network(teachers)))
            if "dreamdiv" in self.wanted:
                several, repeats = self.samples.several()
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
        self.values[name], width = found[0].item(), bootstrap.half_width(found[1:])
        if math.isfinite(width):  # a resample of few images may take only one of them, whose KID is undefined
            self.intervals[name] = width

    def _mean(self, name: str, values: torch.Tensor) -> None:
        self.values[name] = values.double().mean().item()
        self.intervals[name] = bootstrap.mean_half_width(values, self.settings.resamples, self.settings.seed)
