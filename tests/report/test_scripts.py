"""The scripts of Figure 3, of FID against cost, of the plan and of the demo: from their files to what they show."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import save_file
from snakemake_interface_common.exceptions import ApiError

from diffusion2gan.data.imagenet import LabelledImages
from diffusion2gan.images import to_tensor, to_uint8
from diffusion2gan.losses.ensemble import PRESETS, Ensemble
from diffusion2gan.report import figures
from diffusion2gan.study.config import load
from diffusion2gan.study.cost import Job
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy.openmoji import ATTRIBUTION
from scripts.report import make_demo, make_doctor, make_figure3, make_figure_fid, make_plan, make_transforms

ROOT = Path(__file__).parents[2]


def described(path):
    """The texts in a picture's metadata; the figure is also a PDF."""
    assert path.with_suffix(".pdf").exists()
    with Image.open(path) as png:
        return png.text


def test_the_transforms_are_shown_beside_the_original_with_the_same_random_numbers_in_every_row(
    teacher_folder, tmp_path, monkeypatch
):
    drawn, draw = [], figures.grid
    monkeypatch.setattr(figures, "grid", lambda *given: drawn.append(given) or draw(*given))
    options = {"teacher": str(teacher_folder), "images": "openmoji", "draws": 2, "seed": 3}
    make_transforms.main(make_transforms.Arguments(**options, out=tmp_path / "new/transforms.png"))
    ((columns, rows, credit),) = drawn
    assert list(columns) == ["original", "1", "2"] and rows == PRESETS and credit == ATTRIBUTION
    assert described(tmp_path / "new/transforms.png")["Copyright"] == ATTRIBUTION

    teacher = Teacher(str(teacher_folder))
    latent = teacher.encode_images(to_tensor([LabelledImages("openmoji", "val", 64, 3)[0][0]]))

    def assert_shown(picture, latent):
        decoded = to_uint8(teacher.decode(latent))[0].astype(int)
        assert abs(picture - decoded).max() <= 1  # another size of batch rounds differently

    for row, preset in enumerate(PRESETS):
        transform = Ensemble(preset).draw(2, 16, torch.Generator().manual_seed(3))
        assert_shown(columns["original"][row], latent)
        for number in range(2):
            assert_shown(columns[str(number + 1)][row], transform[number : number + 1](latent))


@pytest.mark.parametrize("images", ["openmoji", "data/imagenet"])
def test_figure_3_shows_each_loss_its_own_curve_and_images(tmp_path, monkeypatch, images):
    losses, drawn, draw = ["mse", "lpips"], [], figures.reconstructions
    monkeypatch.setattr(figures, "reconstructions", lambda *given: drawn.append(given) or draw(*given))
    files = {"curves": [], "pictures": []}
    for number, loss in enumerate(losses, 1):
        rows = [
            {"step": step, "seed": seed, "picture": picture, "metric": number * (100 - step + seed) + picture}
            for step in (0, 50) for seed in (0, 1) for picture in (0, 1)
        ]  # fmt: skip
        table = pd.DataFrame(rows)
        table.assign(pixel_mse=table["metric"] / 10).to_csv(tmp_path / f"{loss}.csv", index=False)
        pixels = {
            name: np.full((2, 4, 4, 3), shade + number, np.uint8) for name, shade in (("target", 10), ("found", 90))
        }
        save_file(pixels, tmp_path / f"{loss}.safetensors")
        files["curves"].append(tmp_path / f"{loss}.csv")
        files["pictures"].append(tmp_path / f"{loss}.safetensors")
    out, table = tmp_path / "new" / "figure3.png", tmp_path / "new" / "figure3.csv"
    make_figure3.main(make_figure3.Arguments(losses, **files, images=images, out=out, table=table))

    ends = pd.read_csv(table)
    assert ends["row"].tolist() == ["mse", "mse", "lpips", "lpips"] and ends["seed"].tolist() == [0, 1, 0, 1]
    assert ends["metric"].tolist() == [50.5, 51.5, 100.5, 102.5]  # at the last step, the mean of the images
    assert ends["pixel_mse"].tolist() == pytest.approx([5.05, 5.15, 10.05, 10.25])
    ((curves, target, found, credit),) = drawn
    assert list(curves) == list(found) == losses and (target == 11).all()
    assert (found["mse"] == 91).all() and (found["lpips"] == 92).all()
    assert all(curves[loss].equals(pd.read_csv(tmp_path / f"{loss}.csv")) for loss in losses)
    said = described(out)
    assert said["Description"] == "Latents optimised from noise under: mse, lpips."
    assert credit == (ATTRIBUTION if images == "openmoji" else "") and said.get("Copyright", "") == credit


def a_table(**columns):
    frame = pd.DataFrame({"row": columns.pop("row"), "label": columns.pop("label")})
    shown = {"scale": "smoke", "benchmark": "coco2014", "seeds": "0 1", "fid": 600.0, "fid_paper": 9.0}
    return frame.assign(**shown | columns)


def test_fid_against_seconds_has_a_point_for_each_row(tmp_path, monkeypatch):
    drawn, draw = [], figures.against
    monkeypatch.setattr(figures, "against", lambda series, cost: drawn.append((series, cost)) or draw(series, cost))
    table = a_table(row=["b", "a"], label=["Ours", "Another"], inference_seconds=[0.1, 0.2])
    table.to_csv(tmp_path / "table2.csv", index=False)
    out = tmp_path / "new" / "fid_seconds.png"
    make_figure_fid.main(make_figure_fid.Arguments(tmp_path / "table2.csv", "inference_seconds", out))
    ((series, cost),) = drawn
    assert cost == "inference_seconds"
    assert [(name, rows["row"].tolist()) for name, rows in series] == [("Ours", ["b"]), ("Another", ["a"])]
    assert described(out)["Description"] == (
        "FID against seconds per image; scale: smoke; benchmark: coco2014; seeds: 0 1"
    )


def test_fid_against_evaluations_has_a_line_for_each_method():
    rows = [
        "regression-lpips-50k",
        "consistency-distillation",
        "regression-lpips-100k",
        "consistency-distillation-equal",
    ]
    table = a_table(row=rows, label=rows, nfe_million=[1.0, 2.0, 3.0, 4.0])
    series = make_figure_fid.series(table, "nfe_million")
    assert [(name, each["nfe_million"].tolist()) for name, each in series] == [
        ("ODE distillation (LPIPS)", [1, 3]), ("Consistency Distillation", [2, 4]),
    ]  # fmt: skip


def test_a_single_seed_stays_a_word(tmp_path, monkeypatch):
    """Seeds are words: 0 must not become 0.0 beside an empty cell."""
    table = a_table(row=["b", "a"], label=["Ours", "Another"], inference_seconds=[0.1, None])
    table.assign(seeds=["0", None]).to_csv(tmp_path / "table2.csv", index=False)
    out = tmp_path / "fid_seconds.png"
    make_figure_fid.main(make_figure_fid.Arguments(tmp_path / "table2.csv", "inference_seconds", out))
    assert described(out)["Description"].endswith("seeds: 0")


def test_the_demo_prints_the_scores_where_its_images_are_and_how_to_load_the_student(tmp_path):
    for name, steps, fid, score in (("teacher", 16, 12.34, 0.25), ("student", 1, 23.45, 0.5)):
        record = {"run": name, "benchmark": "b", "scale": "demo", "seed": 0, "sample": {"steps": steps}}
        record |= {"metrics": {"fid": fid, "clip_score": score}}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    out, student = tmp_path / "new" / "demo.txt", Path("work/demo/student")
    metrics = [tmp_path / "teacher.json", tmp_path / "student.json"]
    make_demo.main(make_demo.Arguments(metrics, ["Teacher", "Ours"], Path("figure1.png"), student, out))
    lines = out.read_text().splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["steps", "FID", "CLIP", "score"], ["Teacher", "16", "12.3", "0.250"], ["Ours", "1", "23.4", "0.500"],
    ]  # fmt: skip
    assert lines[3:7] == ["", "Images: figure1.png", f"To sample from the student, type in {sys.executable}:", ""]
    snippet = "\n".join(lines[7:]) + "\n"
    assert snippet == make_demo.SNIPPET.replace("{student}", "work/demo/student")
    with pytest.raises(ValueError, match="zip"):
        make_demo.scores(make_demo.Arguments([tmp_path / "teacher.json"], ["A", "B"], out, out, out))


def test_the_plan_is_a_table_and_a_page(tmp_path, monkeypatch, capsys):
    config = load(yaml.safe_load((ROOT / "config.yaml").read_text()) | {"scale": "paper"}, ROOT)
    (tmp_path / "config.json").write_text(config.model_dump_json(exclude_unset=True))
    asked = []

    def planned(targets, config):
        asked.append((targets, config))
        return [Job("generate_pairs", {"dataset": "sd-cfg-3", "shard": f"{i:05d}"}, None) for i in range(500)]

    monkeypatch.setattr(make_plan, "planned", planned)
    usage = make_plan.shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(make_plan.shutil, "disk_usage", lambda folder: {tmp_path: usage}[Path(folder)])
    out, page = tmp_path / "new" / "plan.csv", tmp_path / "new" / "plan.md"
    targets = ["results/table2.csv"]
    make_plan.main(make_plan.Arguments(tmp_path / "config.json", out, page, targets))
    assert asked == [(targets, tmp_path / "config.json")]
    table = pd.read_csv(out)
    assert table["jobs"].item() == 500 and list(table)[0] != "Unnamed: 0"
    hours = table["gpu_hours"].item()
    assert hours == round(hours, 4) and hours / 24 == pytest.approx(89.9, abs=0.1)
    text = page.read_text()
    assert "For `results/table2.csv`, from nothing." in text and "not enough" in text
    assert capsys.readouterr().out == text + "\n"


def test_the_doctor_looks_at_files_and_asks_slurm_about_every_kind_of_job(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    config = load(yaml.safe_load((ROOT / "config.yaml").read_text()) | {"scale": "smoke", "work": str(tmp_path)}, ROOT)
    (tmp_path / "config.json").write_text(config.model_dump_json(exclude_unset=True))
    asked = []

    def try_job(wanted, folder):
        asked.append((wanted["name"], wanted["nodes"], wanted.get("gpus_per_node"), wanted["timeout_min"]))
        if wanted["name"] == "train_gan":
            raise ApiError("SLURM will not run train_gan")

    monkeypatch.setattr(make_doctor.shutil, "which", lambda program: program)
    monkeypatch.setattr(make_doctor, "check_cluster", lambda folder: None)
    monkeypatch.setattr(make_doctor, "check_parameters", try_job)
    out = tmp_path / "new" / "doctor.md"
    make_doctor.main(make_doctor.Arguments(tmp_path / "config.json", out, ["results/table2.csv"]))
    assert len(asked) == len(set(asked)) and ("sample", 1, 1, 1440) in asked  # of the profile, each once
    page, said = out.read_text(), capsys.readouterr().out
    assert "**0 missing, 1 looking wrong.**" in page and "| jobs of train_gan | `nodes=1, mem_mb=800000" in page
    assert "looks wrong: jobs of train_gan, nodes=1, mem_mb=800000, runtime=2880: SLURM will not run" in said
    monkeypatch.setattr(make_doctor.shutil, "which", lambda program: None)
    make_doctor.main(make_doctor.Arguments(tmp_path / "config.json", out, ["results/table2.csv"]))
    assert "## Not checked" in out.read_text() and "there is no sbatch" in out.read_text()


def test_nothing_planned_is_printed_on_the_way(capsys):
    """Snakemake's graph is read, not shown; rules that only collect files are no jobs."""
    config = ROOT / "config.yaml"
    jobs = make_plan.planned(["results/runs/regression-mse.csv"], config, ROOT / "Snakefile")
    assert capsys.readouterr().out == ""
    rules = [job.rule for job in jobs]
    assert {"make_run", "score", "train_regression", "generate_pairs", "index_pairs"} <= set(rules)
    assert rules.index("index_pairs") > max(i for i, rule in enumerate(rules) if rule == "generate_pairs")
    shards = [job.wildcards["shard"] for job in jobs if job.rule == "generate_pairs"]
    assert shards == sorted(shards)


@pytest.mark.parametrize("fewer", ["curves", "pictures"])
def test_a_loss_without_its_file_is_an_error(tmp_path, fewer):
    pd.DataFrame({"step": [0], "seed": [0], "picture": [0], "metric": [1.0], "pixel_mse": [1.0]}).to_csv(tmp_path / "c")
    save_file({name: np.zeros((1, 4, 4, 3), np.uint8) for name in ("target", "found")}, tmp_path / "p")
    files = {"curves": [tmp_path / "c"] * 2, "pictures": [tmp_path / "p"] * 2}
    files[fewer] = files[fewer][:1]
    with pytest.raises(ValueError, match="zip"):
        make_figure3.main(
            make_figure3.Arguments(["a", "b"], **files, images="openmoji", out=tmp_path / "o", table=tmp_path / "t")
        )
