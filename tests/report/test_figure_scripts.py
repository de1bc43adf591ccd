"""What the scripts of the figures draw, write and say: the drawing and the saving only look on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diffusion2gan.errors import UserError
from diffusion2gan.images import save_png
from diffusion2gan.report import diagrams, figures, tracing
from diffusion2gan.sampling.folder import prepare_folder
from diffusion2gan.toy.openmoji import ATTRIBUTION
from scripts.report import make_figure1, make_figure2, make_figure4, make_figure5, make_figure6, plot_history

OUT = Path("figures/figure.png")


@pytest.fixture
def saved(monkeypatch):
    """The arguments of every figure that is saved."""
    kept = []
    monkeypatch.setattr(figures, "save", lambda *given: kept.append(given))
    return kept


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of every function that draws; it draws its own name."""
    kept = {}
    for module, name in (
        (figures, "grid"), (figures, "costs"), (figures, "preferences"), (diagrams, "draw_overview"),
        (diagrams, "draw_discriminator"), (tracing, "trace_overview"), (tracing, "trace_teacher_discriminator"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *given, name=name: kept.setdefault(name, given) and name)
    return kept


CAPTIONS = ["a red apple on a blue background", "a fox on a green background", "an owl on a red background"]


@pytest.mark.parametrize("captions", [CAPTIONS, ["a cat", "a dog", "a cow"]])
def test_figure_1_has_the_teacher_first_and_as_many_rows_as_asked(saved, drawn, tmp_path, captions):
    pd.DataFrame({"prompt_id": range(3), "caption": captions}).to_parquet(tmp_path / "prompts.parquet")
    models = []
    for shade, name in enumerate(("Ours", "Teacher, 16 steps", "Another"), 1):
        prepare_folder(tmp_path / name, {"count": 3, "seed": 4, "captions_sha256": "same"})
        for number in range(3):
            save_png(np.full((4, 4, 3), 10 * shade + number, np.uint8), tmp_path / name / f"{number:05d}.png")
        models.append(f"{name}={tmp_path / name}")
    arguments = make_figure1.Arguments(tmp_path / "prompts.parquet", models, OUT, count=2)
    make_figure1.main(arguments)
    columns, shown, credit = drawn["grid"]
    assert list(columns) == ["Teacher, 16 steps", "Ours", "Another"] and shown == captions[:2]
    assert [[image[0, 0, 0] for image in each] for each in columns.values()] == [[20, 21], [10, 11], [30, 31]]
    assert credit == (ATTRIBUTION if captions is CAPTIONS else "")
    said = "Columns, from the same noise: Teacher, 16 steps, Ours, Another. Rows: {}; {}.".format(*captions)
    assert saved == [("grid", OUT, said, credit)]

    (tmp_path / "Ours/00001.png").unlink()
    with pytest.raises(UserError) as error:
        make_figure1.main(arguments)
    assert str(error.value) == f"{tmp_path / 'Ours'} holds 2 images, the figure shows 3 prompts" or (
        "holds 2 of 3 images" in str(error.value)
    )
    prepare_folder(tmp_path / "Ours", {"count": 3, "seed": 5, "captions_sha256": "same"})
    with pytest.raises(UserError) as error:
        make_figure1.main(arguments)
    assert str(error.value) == (
        "the models were sampled from different noise or prompts: sample all with the same --seed and --prompts"
    )


@pytest.mark.parametrize("autocast", [False, True])
def test_figure_2_says_on_what_it_was_measured_and_how_much_less_it_takes(saved, drawn, tmp_path, capsys, autocast):
    lines = [
        ("LPIPS", "total", 117.0, 15000.0), ("LPIPS", "decode", 79.0, None), ("LatentLPIPS", "total", 9.0, 500.0),
        ("E-LatentLPIPS", "total", 12.0, 600.0), ("E-LatentLPIPS", "augmentation", 4.0, None),
    ]  # fmt: skip
    costs = pd.DataFrame(lines, columns=["loss", "part", "milliseconds", "mebibytes"])
    costs.to_csv(tmp_path / "costs.csv", index=False)
    (tmp_path / "hardware.json").write_text(json.dumps({"batch_size": 4, "autocast": autocast, "device": "an abacus"}))
    table = tmp_path / "new" / "figure2.csv"
    make_figure2.main(make_figure2.Arguments(tmp_path / "costs.csv", tmp_path / "hardware.json", OUT, table))
    hardware = (
        f"batch 4, {'bfloat16' if autocast else 'float32'}, an abacus; LPIPS ÷ E-LatentLPIPS: time 9.8, memory 25.0 "
        "(paper, A100: 9.7 and 25)"
    )
    shown, words = drawn["costs"]
    pd.testing.assert_frame_equal(shown, costs)
    assert words == hardware and capsys.readouterr().out == hardware + "\n"
    assert saved == [("costs", OUT, f"Cost of one step of each perceptual loss: {hardware}")]
    rows = pd.read_csv(table)
    assert list(rows) == ["row", "seed", "milliseconds", "mebibytes"] and set(rows["seed"]) == {0}
    named = ["LPIPS", "LPIPS-decode", "LatentLPIPS", "E-LatentLPIPS", "E-LatentLPIPS-augmentation"]
    assert rows["row"].tolist() == named and rows["milliseconds"].tolist() == costs["milliseconds"].tolist()


def test_figure_4_is_of_the_teacher_and_the_settings_of_its_options(saved, drawn):
    options = {"teacher": "toy", "ensemble": "bgc", "trunk_width": 0.25, "z_conditioning": True, "multi_scale": False}
    make_figure4.main(
        make_figure4.Arguments(**options, count=3_000_000, solver="dpm-solver", steps=50, guidance=3.0, out=OUT)
    )
    assert drawn["trace_overview"] == ("toy", "bgc", 0.25, True, False)
    solving = ["DPMSolverMultistepScheduler, 50 steps", "guidance 3; 3,000,000 pairs"]
    assert drawn["draw_overview"] == ("trace_overview", solving, "toy")
    assert saved == [("draw_overview", OUT, "A student of toy, the pairs it learns from, and its two losses.")]


def test_figure_5_is_of_the_discriminator_of_its_options(saved, drawn, monkeypatch):
    monkeypatch.setattr(tracing, "readouts", lambda graph: {"trace_teacher_discriminator": [1, 2, 3]}[graph])
    make_figure5.main(make_figure5.Arguments("toy", True, False, OUT))
    assert drawn["trace_teacher_discriminator"] == ("toy", True, False)
    assert drawn["draw_discriminator"] == ("trace_teacher_discriminator", "toy")
    assert saved == [("draw_discriminator", OUT, "The discriminator that starts as toy, with 3 readouts.")]


@pytest.mark.parametrize("raters", [["people", "automatic"], ["automatic"]])
def test_figure_6_says_who_answered(saved, drawn, tmp_path, raters):
    pair = {"question": "realism", "row": "a", "against": "b"}
    measured = pd.DataFrame([pair | {"raters": rater, "win_rate": 0.75, "scale": "toy"} for rater in raters])
    measured.to_csv(tmp_path / "measured.csv", index=False)
    reported = pd.DataFrame([pair | {"win_percent": 60.0, "plus_minus": each} for each in (1.5, 2.5)])
    reported.to_csv(tmp_path / "reported.csv", index=False)
    make_figure6.main(make_figure6.Arguments(tmp_path / "measured.csv", OUT, tmp_path / "reported.csv"))
    (sources,) = drawn["preferences"]
    names = {
        "people": "people\nmeasured at scale toy",
        "automatic": "automatic rater (CLIP), not a person\nmeasured at scale toy",
    }
    paper = "people\nreported by the paper, read off its figure, ± 2.5"
    assert list(sources) == [*(names[rater] for rater in raters), paper]
    assert all(set(sources[names[rater]]["raters"]) == {rater} for rater in raters)
    assert sources[paper]["win_rate"].tolist() == [0.6, 0.6]
    described = "; ".join(name.replace("\n", ", ") for name in sources)
    assert saved == [("preferences", OUT, f"How often one row is preferred to another: {described}.")]


def test_histories_are_drawn_in_the_panels_that_they_have_numbers_for(tmp_path):
    gan = pd.DataFrame({"step": [0, 20, 40], "loss": [3.0, 2.0, 1.0], "variance": [None, 0.5, None]})
    gan["real_accuracy"], gan["fake_accuracy"] = [0.5, 0.6, 0.7], [0.4, 0.5, 0.6]
    plain = pd.DataFrame({"step": [0, 20], "loss": [1.0, 0.5]})
    figure = figures.curves({"gan": gan, "plain": plain})
    drawn = {axes.get_title(): axes for axes in figure.axes if axes.axison}
    assert list(drawn) == ["loss", "D's accuracy: real, fake (dashed)", "variance"]
    assert [line.get_ydata().tolist() for line in drawn["loss"].lines] == [[3, 2, 1], [1, 0.5]]
    solid, dashed = drawn["D's accuracy: real, fake (dashed)"].lines
    assert solid.get_ydata().tolist() == [0.5, 0.6, 0.7] and dashed.get_linestyle() == "--"
    assert drawn["variance"].lines[0].get_xydata().tolist() == [[20, 0.5]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gan", "plain"]
    for name, history in {"a": gan, "b": plain}.items():
        (tmp_path / name).mkdir()
        history.to_csv(tmp_path / name / "history.csv", index=False)
    out = tmp_path / "new" / "curves.png"
    plot_history.main(plot_history.Arguments([tmp_path / "a/history.csv", tmp_path / "b/history.csv"], out))
    assert out.exists() and not out.with_suffix(".pdf").exists()
    (tmp_path / "b/history.csv").write_text("x\n1\n")
    with pytest.raises(UserError, match="b/history.csv is no history of a training, it lacks loss, step"):
        plot_history.main(plot_history.Arguments([tmp_path / "b/history.csv"], out))
