"""The pixel-space teacher and student through the scripts of every other: pairs, regression, CD, sampling."""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from diffusion2gan import images
from diffusion2gan.errors import UserError
from diffusion2gan.images import to_uint8
from diffusion2gan.pairs.shards import pair_seeds
from diffusion2gan.pixel.consistency import ImageDataset
from diffusion2gan.pixel.edm import EDM, SIGMA_MAX, SIGMA_MIN
from diffusion2gan.pixel.heun import heun
from diffusion2gan.pixel.model import PixelGenerator, PixelTeacher
from diffusion2gan.sampling.folder import noise_seeds
from diffusion2gan.seeds import noise
from diffusion2gan.teacher import load_teacher
from scripts.data import make_benchmark
from scripts.distill import train_consistency, train_regression
from scripts.evaluate import measure_cost, sample
from scripts.pairs import generate_pairs, index_pairs, prepare_prompts

STEPS, PAIRS = 3, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random EDM teacher and its pairs, made by the scripts."""
    folder = tmp_path_factory.mktemp("pixels")
    torch.manual_seed(0)
    teacher = EDM(32, model_channels=8, channel_mult=(1, 2), num_blocks=1, attn_resolutions=())
    for weight in teacher.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    teacher.save_pretrained(folder / "teacher")
    prompts = folder / "pairs" / "prompts.parquet"
    prepare_prompts.main(prepare_prompts.Arguments(source="unconditional", count=PAIRS, out=prompts))
    shard = folder / "pairs" / "shard-00000.safetensors"
    how = {"solver": "heun", "steps": STEPS, "guidance": 1.0, "batch_size": 4, "seed": 5}
    where = {"teacher": str(folder / "teacher"), "prompts": prompts, "count": PAIRS, "shards": 1, "shard": 0}
    generate_pairs.main(generate_pairs.Arguments(**where, **how, out=shard))
    index_pairs.main(index_pairs.Arguments(prompts, [shard], folder / "pairs" / "index.parquet"))
    make_benchmark.main(make_benchmark.Arguments("openmoji", 3, 32, folder / "benchmark", references=6, seed=1))
    return folder


def common(folder, out, **more):
    names = {"checkpoints": "checkpoints", "out": "student", "history": "history.csv", "metrics": "training.json"}
    options = {"teacher": str(folder / "teacher"), "loss": "mse", "iterations": 4, "batch_size": 4, "seed": 3}
    return options | {name: out / file for name, file in names.items()} | {"learning_rate": 1e-3} | more


def test_pairs_are_the_solutions_of_their_noise(folder):
    shard = load_file(folder / "pairs" / "shard-00000.safetensors")
    seeds = pair_seeds(range(PAIRS), 5)
    assert shard["seeds"].tolist() == seeds and shard["latents"].shape == (PAIRS, 3, 32, 32)
    with torch.no_grad():
        x = heun(EDM.from_pretrained(folder / "teacher"), noise(seeds, (3, 32, 32)), STEPS)
    torch.testing.assert_close(shard["latents"].double(), x, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", ["regression", "consistency"])
def test_a_student_is_trained_counted_and_sampled_with(kind, folder, tmp_path):
    if kind == "regression":
        train_regression.main(
            train_regression.Arguments(**common(folder, tmp_path, pairs=folder / "pairs", samples=tmp_path / "grids"))
        )
    else:
        train_consistency.main(
            train_consistency.Arguments(**common(folder, tmp_path, images=folder / "benchmark" / "images"))
        )
    network = EDM.from_pretrained(tmp_path / "student")  # one line, with plain diffusers underneath
    assert network.config.boundary == (0.0 if kind == "regression" else SIGMA_MIN)

    measure_cost.main(measure_cost.Arguments("run", "smoke", tmp_path / "cost.json", [tmp_path / "training.json"]))
    cost = json.loads((tmp_path / "cost.json").read_text())
    pairs = PAIRS * (2 * STEPS - 1)
    wanted = {"regression": (pairs + 16, pairs + 16, 16), "consistency": (32, 64, 16)}[kind]
    names = ("nfe_million", "nfe_forward_million", "nfe_backward_million")
    assert tuple(round(cost["metrics"][name] * 1e6) for name in names) == wanted

    options = {"prompts": folder / "benchmark" / "prompts.parquet", "count": 3, "out": tmp_path / "drawn", "seed": 7}
    sample.main(sample.Arguments(model=str(tmp_path / "student"), **options))
    z = noise(noise_seeds(7, range(3)), (3, 32, 32))
    with torch.no_grad():
        drawn = to_uint8(network(SIGMA_MAX * z, SIGMA_MAX))
    for i in range(3):
        assert (images.load_image(tmp_path / "drawn" / f"{i:05d}.png") == drawn[i]).all()


def test_a_teacher_samples_with_heun(folder, tmp_path):
    options = {"prompts": folder / "benchmark" / "prompts.parquet", "count": 2, "out": tmp_path / "drawn"}
    how = {"scheduler": "heun", "steps": STEPS, "guidance": 1.0}
    sample.main(sample.Arguments(model=str(folder / "teacher"), **options, **how))
    teacher = load_teacher(str(folder / "teacher"))
    x = teacher.solve(noise(noise_seeds(0, [1]), (3, 32, 32)), [""], STEPS)
    assert abs(images.load_image(tmp_path / "drawn" / "00001.png").astype(int) - to_uint8(x)[0]).max() <= 1


def test_the_benchmark_without_captions(folder):
    pictures = ImageDataset(folder / "benchmark" / "images")
    assert (
        len(pictures) == 6 and pd.read_parquet(folder / "benchmark" / "prompts.parquet")["caption"].tolist() == [""] * 3
    )
    x = pictures.batch([2, 4]).x
    assert x.shape == (2, 3, 32, 32) and (to_uint8(x)[1] == pictures.images[4]).all()


def test_mistakes_are_one_line_errors(folder, tmp_path):
    teacher = PixelTeacher(folder / "teacher")
    with pytest.raises(UserError, match="solve it with heun and no guidance, not with 'ddim' and 1"):
        teacher.solve(torch.zeros(1, 3, 32, 32), [""], 2, 1.0, "ddim")
    with pytest.raises(UserError, match="not with 'heun' and 3"):
        teacher.solve(torch.zeros(1, 3, 32, 32), [""], 2, 3.0, "heun")
    with pytest.raises(UserError, match="is not the folder of an EDM network"):
        PixelGenerator.from_teacher(tmp_path)


def test_real_images_have_no_noise(folder):
    assert ImageDataset(folder / "benchmark" / "images").batch([0, 1]).z.shape == (2, 0)
