"""The options with which the workflow calls its scripts. `cli.arguments` turns them into a command line."""

from diffusion2gan.settings import METRICS, SPEED, FeatureSettings
from diffusion2gan.study.paths import Paths, folder_of
from diffusion2gan.study.study import Study


def prompts(study: Study, dataset: str) -> dict:
    """Where the prompts of a dataset come from, and which of them are used."""
    data = study.datasets[dataset]
    entry = study.prompts[data.prompts]
    given = entry.said() if entry else {"path": None}
    return {"source": given.pop("path")} | given | {"count": data.made, "seed": study.config.seed}


def solving(study: Study, dataset: str) -> dict:
    """How the ODE of a dataset is solved."""
    data = study.datasets[dataset]
    teacher = study.teachers[data.teacher]
    return {
        "teacher": teacher.path,
        "steps": study.steps(teacher.name, teacher.solver),
        "solver": teacher.solver,
        "spacing": teacher.spacing,
        "guidance": data.guidance,
        "count": data.made,
        "shards": data.shards,
        "batch_size": study.config.solving.batch_size,
        "seed": study.config.seed,
    }


def vgg(study: Study) -> dict:
    """How the VGG of LatentLPIPS is trained."""
    return study.config.latentlpips.vgg.used() | {"seed": study.config.seed}


def calibration(study: Study, trunk: str) -> dict:
    """How LPIPS with a trunk is calibrated. The teacher's VAE encodes the judged patches for a trunk in latents."""
    space, _, teacher = trunk.partition("-")
    settings = study.config.latentlpips.calibration.used()
    options = {"space": space, "judgements": study.config.latentlpips.judgements, "seed": study.config.seed}
    options |= settings | {"size": settings["size"][space]}
    return options | ({"teacher": study.teachers[teacher].path} if teacher else {})


def training(study: Study, paths: Paths, run: str) -> dict:
    """The data, the initial weights and the settings with which a student is trained."""
    entry, teacher = study.runs[run], study.teacher_of(run)
    options = {"teacher": teacher.path}
    if entry.dataset:
        data = study.datasets[entry.dataset]
        held_out = study.datasets[study.dataset_of(run)].held_out
        options |= {"pairs": paths.pairs(run)} | ({"first": data.pairs} if data.part_of else {})
        options |= {"held_out": held_out} if held_out else {}
    else:
        options |= {"images": paths.real_pictures(run)}
    options |= {"init": paths.student(entry.init)} if entry.init else {}
    if study.trunk_of(run):
        options |= {"lpips": paths.metric_of(run)}
        options |= {"lpips_side": teacher.lpips_side} if teacher.lpips_side and entry.settings.loss == "lpips" else {}
    return options | entry.settings.used()


def sampling(study: Study, paths: Paths, row: str, count: int, repeats: int = 1) -> dict:
    """How images of a row are sampled: `repeats` images for each of the first `count` prompts."""
    options = {"model": paths.model(row)} | study.sampling(row) | {"count": count}
    options |= {"repeats": repeats} if repeats > 1 else {}
    return options | {"batch_size": study.config.evaluation.batch_size, "seed": study.seed_of(row)}


def scoring(study: Study, paths: Paths, row: str, benchmark: str) -> dict:
    """Which metrics of a row are measured on a benchmark, and how."""
    wanted, reference = study.metrics_of(row)[benchmark], study.benchmarks[benchmark]
    evaluation = study.config.evaluation
    return {
        "run": study.origins[row][0],
        "scale": study.scale,
        "metrics": [metric for metric in wanted if metric in METRICS],
        "resolution": reference.resolution,
        "resize_filter": reference.resize_filter,
        "time": bool(set(wanted) & set(SPEED)),
        **{name: getattr(evaluation, name) for name in FeatureSettings.model_fields},
        "features": reference.features or evaluation.features,
        **{option: folder_of(made) for option, made in paths.compared_pictures(row, benchmark).items()},
        "seed": study.seed_of(row),
    }
