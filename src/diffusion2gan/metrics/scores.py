"""All metrics of one folder of pictures: every picture goes through a network once, whatever looks at its features."""

import json
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from pydantic import Field

from diffusion2gan.errors import UserError
from diffusion2gan.metrics import bootstrap
from diffusion2gan.metrics.clip_score import CLIP, cosines, scene_top1
from diffusion2gan.metrics.dreamsim import DreamSim, distances, diversities
from diffusion2gan.metrics.features import Features, cached
from diffusion2gan.metrics.fid import Reference, resampled_fid
from diffusion2gan.metrics.kid import resampled_kid
from diffusion2gan.metrics.precision_recall import on_manifolds
from diffusion2gan.metrics.speed import parameters, seconds
from diffusion2gan.provenance import sha256
from diffusion2gan.sampling import folder as samples
from diffusion2gan.sampling.folder import Pictures
from diffusion2gan.settings import SamplingSettings, ScoringSettings


class Scored(ScoringSettings):
    """What is measured of which pictures, against which benchmark: folders."""

    images: Path
    benchmark: Path
    teacher_images: Path | None = Field(None, description="of the same prompts and noise, for dreamsim")
    diversity: Path | None = Field(None, description="several of each prompt, for dreamdiv")


class Scores:
    """The metrics asked for, with half of their 95 % intervals over the pictures, what they depend on, and the
    seconds of each part. Raises UserError for pictures that are not what was declared.
    """

    def __init__(self, settings: Scored):
        self.settings, self.wanted = settings, set(settings.metrics)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.values, self.intervals, self.parts, self.speed = {}, {}, {}, None
        self.pictures = self._pictures(settings.images)
        self.pictures.check_sizes()
        self.sample = samples.recipe(settings.images)
        self.captions = self._captions()
        self.kept = settings.benchmark.with_name(f"{settings.benchmark.name}.features")
        self.recipe = {
            **self.pictures.recipe,
            "count": len(self.pictures),
            "captions_sha256": sha256(self.captions),
        }
        if self.wanted & {"fid", "kid", "precision", "recall", "fid_second", "kid_second"}:
            self.real = self._reference()
            self.recipe["reference_count"] = len(self.real)

    def measure(self) -> "Scores":
        """Compute everything that was asked for."""
        self.of_features()
        self.of_clip()
        self.of_dreamsim()
        self.of_model()
        return self

    def of_features(self) -> None:
        """FID, KID, precision and recall in the first feature space; FID and KID in the second, if it is not CLIP's."""
        if self.wanted & {"fid", "kid", "precision", "recall"}:
            drawn, real = self._through(self.settings.features)
            self._distances(drawn, real, "")
            self._manifolds(drawn, real)
        if self.settings.second_features != "clip" and self.wanted & {"fid_second", "kid_second"}:
            self._distances(*self._through(self.settings.second_features, "second_"), "_second")

    def of_clip(self) -> None:
        """The CLIP score; FID and KID among CLIP's vectors, if those are the second feature space."""
        second = self.settings.second_features == "clip" and self.wanted & {"fid_second", "kid_second"}
        if not (second or "clip_score" in self.wanted):
            return
        with self._part("clip"):
            clip = CLIP(self.settings.clip, self.device, self.settings.clip_prefix)
            drawn = clip.embed(self.pictures)
        self.recipe |= clip.recipe
        if second:
            with self._part("reference"):
                real = cached(clip.embed, self.real, self.kept, "clip", {"clip": clip.spec})
            self.recipe["second_network"] = clip.spec
            self._distances(drawn, real, "_second")
        if "clip_score" in self.wanted:
            vectors = torch.nn.functional.normalize(drawn)
            self._mean("clip_score", cosines(vectors, clip.captions(self.captions)))
            for name, share in scene_top1(clip, vectors, self.captions).items():
                self.values[name] = share
                self.intervals[name] = bootstrap.Z * (share * (1 - share) / len(vectors)) ** 0.5

    def of_dreamsim(self) -> None:
        """DreamSim-5k, against the teacher from the same noise; DreamDiv-5k, among the pictures of one prompt."""
        if not self.wanted & {"dreamsim", "dreamdiv"}:
            return
        with self._part("dreamsim"):
            network = DreamSim(self.settings.dreamsim, self.device)
            self.recipe |= network.recipe
            if "dreamsim" in self.wanted:
                teachers = self._same_noise(self.settings.teacher_images)
                self._mean("dreamsim", distances(network(self.pictures), network(teachers)))
            if "dreamdiv" in self.wanted:
                several, repeats = self._several(self.settings.diversity)
                self.recipe |= {"diversity_count": len(several), "diversity_repeats": repeats}
                self._mean("dreamdiv", diversities(network(several), repeats))

    def of_model(self) -> None:
        """Weights, steps, and seconds of one picture: text encoding and decoding included, drawn as all were."""
        if not self.settings.time:
            return
        if self.sample is None:
            raise UserError(
                f"{self.settings.images} has no sample.json that says how to time it: draw it with sample.py"
            )
        with self._part("time"):
            from diffusion2gan.sampling import sampler  # diffusers starts slowly, and most rows do without

            names = self.sample.keys() & SamplingSettings.model_fields
            settings = SamplingSettings(**{name: self.sample[name] for name in names})
            draw, denoiser = sampler.load(settings, self.device)
            seed = samples.noise_seeds(self.settings.seed, [0])
            timing = seconds(lambda: draw(seed, self.captions[:1]).cpu(), self.device)
        self.speed = asdict(timing)
        self.values |= {"params_billion": parameters(denoiser) / 1e9, "steps": settings.steps}
        self.values["inference_seconds"] = timing.median
        self.intervals["inference_seconds"] = timing.half_width

    @contextmanager
    def _part(self, name: str):
        start = time.monotonic()
        yield
        self.parts[name] = round(self.parts.get(name, 0.0) + time.monotonic() - start, 3)

    def _pictures(self, folder: Path) -> Pictures:
        return Pictures(samples.paths(folder), self.settings.resolution, self.settings.resize_filter)

    def _captions(self) -> list[str]:
        """The captions of the pictures; those of another list are refused."""
        path, count = self.settings.benchmark / "prompts.parquet", len(self.pictures)
        captions = pd.read_parquet(path)["caption"].tolist()[:count]
        if len(captions) < count:
            raise UserError(f"{self.settings.images} holds {count} pictures, {path} only {len(captions)} prompts")
        drawn = (self.sample or {}).get("captions_sha256")
        if drawn and drawn != sha256(captions):
            raise UserError(f"{self.settings.images} was drawn for other prompts than {path} holds: draw it again")
        return captions

    def _reference(self) -> Pictures:
        """The benchmark's pictures, all that were declared."""
        real, file = self._pictures(self.settings.benchmark / "images"), self.settings.benchmark / "benchmark.json"
        declared = json.loads(file.read_text(encoding="utf-8"))["pictures"] if file.exists() else len(real)
        if declared != len(real):
            raise UserError(
                f"{self.settings.benchmark}/images holds {len(real)} of {declared} pictures: make it again with "
                "make_benchmark.py"
            )
        return real

    def _through(self, network: str, prefix: str = "") -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the drawn and the real pictures."""
        with self._part("features"):
            features = Features(network, self.device, self.settings.feature_side)
            drawn = features(self.pictures)
        with self._part("reference"):
            real = features.cached(self.real, self.kept)
        self.recipe |= {f"{prefix}{name}": value for name, value in features.recipe.items()}
        return drawn, real

    def _distances(self, drawn: torch.Tensor, real: torch.Tensor, suffix: str) -> None:
        """FID and KID: the first of the weightings takes every picture once, the others resample."""
        resamples = bootstrap.weights(len(drawn), self.settings.resamples, self.settings.seed)
        weights = torch.cat([torch.ones(1, len(drawn), dtype=resamples.dtype), resamples])
        if (name := f"fid{suffix}") in self.wanted:
            with self._part("fid"):
                self._resampled(name, resampled_fid(drawn, Reference(real, self.device), weights))
        if (name := f"kid{suffix}") in self.wanted:
            with self._part("kid"):
                self._resampled(name, resampled_kid(drawn, real, weights, self.device))

    def _manifolds(self, drawn: torch.Tensor, real: torch.Tensor) -> None:
        if not self.wanted & {"precision", "recall"}:
            return
        with self._part("precision_recall"):
            shares = dict(zip(("precision", "recall"), on_manifolds(drawn, real, device=self.device), strict=True))
        for name in self.wanted & shares.keys():
            self._mean(name, shares[name])

    def _resampled(self, name: str, found: torch.Tensor) -> None:
        self.values[name], self.intervals[name] = found[0].item(), bootstrap.half_width(found[1:])

    def _mean(self, name: str, values: torch.Tensor) -> None:
        self.values[name] = values.double().mean().item()
        self.intervals[name] = bootstrap.of_mean(values, self.settings.resamples, self.settings.seed)

    def _same_noise(self, folder: Path | None) -> Pictures:
        """The teacher's pictures of the same prompts from the same noise."""
        if folder is None:
            raise UserError("dreamsim compares with the teacher: name the folder of its pictures as --teacher_images")
        theirs, ours = samples.recipe(folder) or {}, self.sample or {}
        same = ("seed", "captions_sha256", "count")
        if any(theirs.get(name) != ours.get(name) for name in same):
            raise UserError(
                f"{folder} and {self.settings.images} are not of the same noise and prompts: draw them alike"
            )
        return self._pictures(folder)

    def _several(self, folder: Path | None) -> tuple[Pictures, int]:
        """Several pictures of each prompt, and how many."""
        drawn = samples.recipe(folder) if folder else None
        if drawn is None or drawn.get("repeats", 1) < 2:
            raise UserError(
                "dreamdiv compares pictures of one prompt: draw them with sample.py --repeats 8 and name their folder "
                "as --diversity"
            )
        return self._pictures(folder), drawn["repeats"]
