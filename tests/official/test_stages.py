"""Every stage of the paper's scale runs on the official files; those that train on several GPUs, in two processes.

The settings are the paper's, and only sizes differ: pictures, batches, steps.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from diffusion2gan import images
from diffusion2gan.data.bapps import BAPPS
from diffusion2gan.generator import Generator
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.sampling.folder import image_paths
from diffusion2gan.study import cli, options
from diffusion2gan.study.paths import Paths
from official import paper
from official.worker import run

REGRESSION, GAN = "regression-elatentlpips-large-batch", "gan-diffusion-z-r1-multiscale-mixmatch"
XL_GAN = "sdxl-diffusion2gan"
# gigagan, dmd, ufogen and lcm meet no other files or networks than these
METHODS = ["dmd2", "sdxl-turbo", "reflow", "instaflow"]
LIGHTNING = ["sdxl-progressive-8", "sdxl-lightning-4"]
TRAINED = [REGRESSION, GAN, XL_GAN, *METHODS, *LIGHTNING, "consistency-distillation"]
WORKER = Path(__file__).with_name("worker.py")
pytestmark = pytest.mark.xdist_group("official")  # every stage runs once for all tests


def words(given: dict) -> list[str]:
    return shlex.split(cli.arguments(given))


@pytest.fixture
def paths(study):
    return Paths(study)


@pytest.fixture
def benchmarks(published, study, paths):
    """The folders of the benchmarks."""
    folder = Path(paths.work, "benchmarks")
    if not folder.exists():
        for name, each in study.benchmarks.items():
            given = {"source": each.source, "count": each.pictures, "resolution": each.resolution}
            given |= {"references": each.references or 0, "seed": 0, "out": folder / name}
            run("data/make_benchmark", *words(given))
    return folder


@pytest.fixture
def teacher(published, study, paths):
    """The folder of the adopted EDM."""
    adopted = study.teachers["edm-cifar10"]
    if not Path(adopted.path).exists():
        run("data/adopt_edm", *words({"pickle": adopted.pickle, "out": adopted.path}))
    return adopted.path


@pytest.fixture
def pairs(published, study, paths, teacher):
    """The folder of all pairs."""
    folder = Path(paths.work, "pairs")
    for name in ("sd-cfg-3", "sdxl-cfg-7", "cifar10-1000k"):
        if (folder / name / "index.parquet").exists():
            continue
        prompts, shards = folder / name / "prompts.parquet", paths.shards(name)
        run("pairs/prepare_prompts", *words(options.prompts(study, name) | {"out": prompts}))
        for number, shard in enumerate(shards):
            given = options.solving(study, name) | {"shard": number, "prompts": prompts, "out": shard}
            run("pairs/generate_pairs", *words(given))
        given = {"prompts": prompts, "shards": shards, "out": folder / name / "index.parquet"}
        run("pairs/index_pairs", *words(given))
    return folder


def vgg(study, paths, trunk: str, out: Path) -> list[str]:
    """The options of the training of a latent trunk."""
    given = {"space": "latent", "data": paths.latents(trunk, "train"), "validation": paths.latents(trunk, "val")}
    given |= options.vgg(study) | {"checkpoints": out / "checkpoints-vgg", "out": out / "vgg.safetensors"}
    return words(given | {"metrics": out / "vgg.json"})


@pytest.fixture
def metrics(published, study, paths):
    """The calibrated metrics, and the folders of labelled latents that their trunks are trained on."""
    for trunk in ("latent-sd15", "latent-sdxl"):
        metric = Path(paths.metric(trunk))
        if metric.exists():
            continue
        for split in ("train", "val"):
            files = paths.latents(trunk, split)
            given = {"teacher": study.teachers[trunk.removeprefix("latent-")].path, "seed": 0, "split": split}
            given |= {"images": study.config.latentlpips.images, "shards": len(files)}
            latents = study.config.latentlpips.latents
            given |= {"count": getattr(latents, split), "size": latents.size}
            for number, file in enumerate(files):
                run("data/encode_latents", *words(given | {"shard": number, "out": file}))
        run("latentlpips/train_vgg", *vgg(study, paths, trunk, metric.parent))
        given = {"trunk": metric.parent / "vgg.safetensors"} | options.calibration(study, trunk)
        given |= {"checkpoints": metric.parent / "checkpoints-lpips", "out": metric}
        run("latentlpips/calibrate_lpips", *words(given | {"metrics": metric.with_suffix(".json")}))
    pixel = Path(paths.metric("pixel"))
    if not pixel.exists():
        given = {"metric": study.config.latentlpips.metrics["pixel"], "space": "pixel", "out": pixel}
        run("latentlpips/adopt_lpips", *words(given))
    return paths


@pytest.fixture
def trained(published, study, paths, pairs, metrics, benchmarks):
    """The folder of the trained runs. All of them are trained by two processes, one run after the other."""
    folder = Path(paths.work, "runs")
    if folder.exists():
        return folder
    start = study.teachers["sdxl"].path  # takes the place of the students that the GAN and the halvings start from
    for name in (XL_GAN, LIGHTNING[0]):
        Generator.from_teacher(start).save(paths.student(study.runs[name].init), start)
    commands = [["latentlpips/train_vgg", *vgg(study, paths, "latent-sd15", Path("together"))]]
    for name in TRAINED:
        out = folder / name
        given = options.training(study, paths, name) | study.runs[name].batch.fitting
        given |= {"checkpoints": out / "checkpoints", "samples": out / "samples/training", "out": out / "student"}
        given |= {"history": out / "history.csv", "metrics": out / "metrics/training.json"}
        commands.append([f"distill/train_{study.runs[name].stage}", *words(given)])
    Path("commands.json").write_text(json.dumps(commands))
    where = {"PYTHONPATH": f"{paper.ROOT / 'src'}{os.pathsep}{paper.ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    where |= {"HF_HUB_CACHE": str(published / "hub"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    launch = [sys.executable, str(paper.ROOT / "src/scripts/launch.py"), "--gpus", "2", str(WORKER), "commands.json"]
    ran = subprocess.run(launch, env=os.environ | where, text=True, capture_output=True)
    if ran.returncode:
        folder.rename("failed")
    assert ran.returncode == 0, ran.stderr[-5000:]
    return folder


def test_prompts_come_from_laion(pairs):
    for name in ("sd-cfg-3", "sdxl-cfg-7"):
        chosen = pd.read_parquet(pairs / name / "prompts.parquet")["caption"]
        assert chosen.is_unique and chosen.str.fullmatch(r"a (red|green|blue) (fox|apple|owl|cat)").all()
    assert pd.read_parquet(pairs / "cifar10-1000k/prompts.parquet")["caption"].tolist() == [""]


def test_benchmarks_come_from_coco_and_cifar10(benchmarks):
    for name, pattern in (("coco2014", r"COCO_val2014_\d{12}\.jpg"), ("coco2017", r"\d{12}\.jpg")):
        files = pd.Series([path.name for path in image_paths(benchmarks / name / "images")])
        assert len(files) == 40 and files.str.fullmatch(pattern).all()
        assert len(pd.read_parquet(benchmarks / name / "prompts.parquet")) == 4
    cifar10 = [images.load_image(path) for path in image_paths(benchmarks / "cifar10/images")]
    assert len(cifar10) == 8 and all(image.shape == (32, 32, 3) for image in cifar10)


def test_a_trunk_is_trained_on_imagenet_and_calibrated_on_bapps(metrics, study):
    for trunk, channels in (("latent-sd15", 4), ("latent-sdxl", 4), ("pixel", 3)):
        metric = LPIPS.load(Path(metrics.metric(trunk)))
        x0, x1 = torch.randn(2, 1, channels, 32, 32)
        assert metric(x0, x1) > 0 and metric(x0, x0) == 0
    latents = [load_file(file) for file in metrics.latents("latent-sd15", "train")]
    assert [len(each["latents"]) for each in latents] == [4, 4]
    assert {int(label) for each in latents for label in each["labels"]} <= set(range(4))
    scores = json.loads(Path(metrics.metric("latent-sd15")).with_suffix(".json").read_text())
    assert scores["judgements"] == "bapps" and scores["count"] == 6
    judgements = study.config.latentlpips.judgements
    assert [len(BAPPS(Path(judgements), split, 64)) for split in ("train", "val")] == [6, 12]


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_trains_in_two_processes(trained, study, paths, name):
    report = json.loads((trained / name / "metrics/training.json").read_text())
    history = pd.read_csv(trained / name / "history.csv")
    assert report["processes"] == 2 and history.iloc[-1].drop("r1", errors="ignore").notna().all()
    if name in (GAN, XL_GAN):
        assert history["r1"].notna().any()
    asked = options.sampling(study, paths, name, 2)
    prompts = Path("two.parquet")
    pd.DataFrame({"prompt_id": range(2), "caption": ["a red fox", "a blue owl"]}).to_parquet(prompts)
    run("evaluate/sample", *words(asked | {"prompts": prompts, "out": f"samples/{name}"}))
    one, other = (images.load_image(path) for path in image_paths(Path("samples", name)))
    assert one.shape == {"sdxl": (128, 128, 3), "edm-cifar10": (32, 32, 3)}.get(
        study.teacher_of(name).name, (64, 64, 3)
    )
    assert (one != other).any()  # EDM's last layer begins near zero, so its images differ by a grey level or two


def test_a_trunk_is_trained_in_two_processes(trained):
    together = load_file("together/vgg.safetensors")
    assert all(tensor.isfinite().all() for tensor in together.values())
    assert json.loads(Path("together/vgg.json").read_text())["count"] == 4
