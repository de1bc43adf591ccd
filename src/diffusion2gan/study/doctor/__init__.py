"""What a study needs from elsewhere: what is there and sound, what is missing, what looks wrong.

Everything that a scale names is looked at in a minute, without a GPU and without a network.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from diffusion2gan.study.doctor import data, disk, networks, pipelines
from diffusion2gan.study.doctor.finding import Check
from diffusion2gan.study.study import Study


def checks(study: Study, needed: int, folder: Path) -> Iterator[Check]:
    """The checks of all that the scale of a study names, and of the disk of `folder`, which gets `needed` bytes."""
    yield from _teachers(study)
    yield from _prompts(study)
    yield from _metrics(study)
    for name, entry in study.benchmarks.items():
        place = entry.source or f"benchmarks.{name}"
        yield f"benchmark {name}", place, partial(data.benchmark, study, entry)
    for name, entry in study.models.items():
        if entry.pipeline:
            yield f"model {name}", entry.pipeline, partial(pipelines.model, study, entry)
    yield from _evaluation(study)
    yield "disk space", str(folder), partial(disk.space, folder, needed)
    yield "disk", str(folder), partial(disk.files, folder)


def _teachers(study: Study) -> Iterator[Check]:
    for name, entry in study.teachers.items():
        if entry.pickle:
            key = f"teachers.{name}.pickle"
            yield f"teacher {name}", entry.pickle, partial(data.public_file, study, entry.pickle, key)
        elif entry.path and not entry.made:
            yield f"teacher {name}", entry.path, partial(pipelines.teacher, study, entry)


def _prompts(study: Study) -> Iterator[Check]:
    for name, entry in study.prompts.items():
        pairs = [each.made for each in study.datasets.values() if each.prompts == name and not each.part_of]
        if pairs:
            place = entry.path if entry else f"prompts.{name}"
            yield f"prompts {name}", place, partial(data.captions, study, name, entry, max(pairs))


def _metrics(study: Study) -> Iterator[Check]:
    """The weights of the metrics of the regression losses, and what is needed for those that are made here."""
    config, trunks = study.config.latentlpips, {study.trunk_of(run) for run in study.runs} - {None}
    for key, named in {"weights": config.weights, "metrics": config.metrics}.items():
        for trunk, path in named.items():
            yield f"LPIPS {trunk}", path, partial(networks.lpips, study, path, f"latentlpips.{key}.{trunk}")
    calibrated = trunks - config.metrics.keys()
    for split in ("train", "val") if calibrated - config.weights.keys() else ():
        yield f"labelled images, {split}", config.images, partial(data.labelled, study, split)
    counts = {"train": config.calibration.count, "val": config.calibration.held_out}
    for split, count in counts.items() if calibrated else ():
        yield f"judgements, {split}", config.judgements, partial(data.judgements, study, split, count)


def _evaluation(study: Study) -> Iterator[Check]:
    """The networks that measure."""
    config = study.config.evaluation
    yield "CLIP", config.clip, partial(networks.clip, study, config.clip)
    of_benchmarks = [each.features for each in study.benchmarks.values() if each.features]
    for network in sorted({config.features, config.second_features, *of_benchmarks} - {"clip"}):
        yield "feature network", network, partial(networks.feature_network, study, network)
    if any({"dreamsim", "dreamdiv"} & set(table.metrics) for table in study.tables.values()):
        yield "DreamSim", config.dreamsim, partial(networks.dreamsim, study, config.dreamsim)
