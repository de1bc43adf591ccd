"""Every snippet of docs/student.md runs as it stands, but on a CPU, and with a folder in place of the hub."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from diffusion2gan.generator import Generator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/student.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```(python|sh)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def save_student(teacher, folder):
    Generator.from_teacher(teacher).save(folder, teacher)


@pytest.fixture
def ran(small_teacher_folder, xl_folder, tmp_path, monkeypatch):
    """The variables left by all snippets, run in order in a folder with the students."""
    save_student(small_teacher_folder, tmp_path / "work/demo/runs/diffusion2gan/student")
    save_student(xl_folder, tmp_path / "work/paper/runs/sdxl-diffusion2gan/student")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DiffusionPipeline, "push_to_hub", lambda self, name, private: self.save_pretrained(name))
    names = {}
    for language, snippet in SNIPPETS:
        if language == "python":
            exec(snippet.replace('"cuda"', '"cpu"'), names)
        else:
            python, script, *words = shlex.split(snippet)
            assert python == "python"
            monkeypatch.setattr("sys.argv", [script, *words])
            runpy.run_path(str(ROOT / script), run_name="__main__")
            names["by sample.py"] = Image.open(words[-1]).copy()
    return names


def test_every_snippet_runs(ran):
    assert len(SNIPPETS) == 8
    np.testing.assert_array_equal(np.asarray(ran["by sample.py"]), np.asarray(ran["fox"]))
    assert len(ran["pictures"]) == 4 and Image.open("fox-sdxl.png").size == (64, 64)
    assert Path("you/one-step-fox/model_index.json").exists()
    assert ran["student"].unet.dtype == torch.float32


@pytest.mark.parametrize(("dtype", "errors"), [(torch.float16, (0.008, 0.008)), (torch.bfloat16, (0.09, 0.09))])
def test_half_precision_costs_what_the_page_says(tmp_path, dtype, errors):
    """The shipped U-Net predicts v; its prediction is expressed as ε where it leaves the U-Net."""
    assert "| " + " | ".join([str(dtype).removeprefix("torch."), *(f"{100 * e:.2g} %" for e in errors)]) in PAGE
    Generator.from_teacher(ROOT / "assets/toy/teacher").save(tmp_path, ROOT / "assets/toy/teacher")
    z = torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": 1, "guidance_scale": 0, "output_type": "latent"}

    def draw(dtype):
        student = DiffusionPipeline.from_pretrained(tmp_path, dtype=dtype)
        student.scheduler.register_to_config(prediction_type="epsilon")
        signal = student.scheduler.alphas_cumprod[-1] ** 0.5

        def as_epsilon(unet, inputs, outputs):
            (v,) = outputs
            return ((signal * v.float() + (1 - signal**2) ** 0.5 * inputs[0].float()).to(v.dtype),)

        student.unet.register_forward_hook(as_epsilon)
        return student(["a fox on a blue background"] * 8, latents=z.to(dtype), **options).images.float()

    exact, half = draw(torch.float32), draw(dtype)
    with torch.autocast("cpu", dtype):
        autocast = draw(torch.float32)
    for drawn, error in zip((half, autocast), errors, strict=True):
        assert (drawn - exact).square().mean().sqrt() / exact.std() == pytest.approx(error, rel=0.3)


def test_each_image_of_a_batch_has_its_own_seed(ran):
    alone = ran["student"](
        ran["prompts"][2], generator=torch.Generator().manual_seed(2), num_inference_steps=1, guidance_scale=0
    ).images[0]
    difference = np.asarray(alone).astype(int) - np.asarray(ran["pictures"][2])
    assert abs(difference).max() <= 1
