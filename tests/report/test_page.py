"""The report shows the numbers of its files, links each to its records, loads nothing, and says what is missing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.report import page as report
from diffusion2gan.study.config import load
from diffusion2gan.study.study import Study
from scripts.report import make_report, make_table

ROOT = Path(__file__).parents[2]
ROWS = ["gan-gigagan", "gan-diffusion"]
TWICE = "2 * fid(gan-diffusion) < fid(gan-diffusion)"
DOT = """
\t0[label = "score", color = "0.02 0.6 0.85"];
\t1[label = "train\\nrun: a", color = "0.33 0.6 0.85"];
\t2[label = "train\\nrun: b", color = "0.33 0.6 0.85"];
\t1 -> 0
\t2 -> 0
"""


class Page(HTMLParser):
    """The ids, links, and rows of cells of a page."""

    def __init__(self, html):
        super().__init__()
        self.ids, self.links, self.loaded, self.rows, self.text, self.in_cell = [], [], [], [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        said = dict(attributes)
        self.ids += [said["id"]] if "id" in said else []
        if tag == "a":
            self.links.append(said["href"])
        else:
            self.loaded += [said[name] for name in ("src", "href", "data") if name in said]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def config():
    config = load(yaml.safe_load((ROOT / "config.yaml").read_text()) | {"scale": "smoke", "seeds": 2}, ROOT)
    table2, table5 = config.tables["table2"], config.tables["table5"]
    return config.model_copy(update={"tables": {"table2": table2.model_copy(update={"rows": ROWS}), "table5": table5}})


@pytest.fixture
def folder(tmp_path, config, monkeypatch):
    """One measured row of two seeds and one that is only reported, one claim and one figure."""
    monkeypatch.chdir(tmp_path)
    files = []
    for end, seed, fid in (("", 0, 31.25), ("-seed1", 1, 33.75)):
        files.append(tmp_path / f"work/smoke/runs/gan-diffusion{end}/metrics/openmoji.json")
        files[-1].parent.mkdir(parents=True)
        record = {
            "run": "gan-diffusion", "benchmark": "openmoji", "scale": "smoke", "seed": seed, "metrics": {"fid": fid},
            "settings": {"recipe": {"resize_filter": "<box>"}}, "git_commit": "abc123-dirty", "device": "an abacus",
            "utc": f"2026-01-0{seed + 1}T10:00:00+00:00", "seconds": 2.5,
        }  # fmt: skip
        files[-1].write_text(json.dumps(record))
    (tmp_path / "timings").mkdir()
    (tmp_path / "timings/train.tsv").write_text("s\tmax_rss\tcpu_time\n7200.0\t1024.0\t3600.0\n")
    (tmp_path / "config.json").write_text(config.model_dump_json(exclude_unset=True))
    (tmp_path / "jobs.dot").write_text(DOT)
    claims = [
        {"claim": "helps", "section": "3.3", "says": "It helps", "verdict": verdict, "check": check, "left": left}
        | more
        for verdict, check, left, more in (
            ("holds", "2 * fid(gan-diffusion) < fid(gan-diffusion)", 32.5, {"table": "table2"}),
            ("fails", "fid(gan-diffusion) < fid(gan-gigagan)", 7, {"table": "table2", "surprise": "new"}),
            ("not measured", "fid(gan-diffusion) < fid(gan-gigagan)", None, {"table": "table2", "claim": "other"}),
        )
    ]
    pd.DataFrame(claims).to_csv("claims.csv", index=False)
    checks = [["fid", 2, "gan-diffusion", "<", "gan-diffusion"], ["fid", "gan-diffusion", "<", "gan-gigagan"]]
    stated = {"section": "3.3", "says": "It helps", "table": "table2", "checks": checks}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"helps": stated}))
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save("figure2.png")
    outputs = {"out": tmp_path / "table2.csv", "seeds": tmp_path / "seeds.csv"}
    make_table.main(make_table.Arguments("table2", ROWS, "smoke", metrics=files, **outputs))
    return tmp_path


def made(folder, **changes):
    arguments = {
        "config": folder / "config.json", "jobs": folder / "jobs.dot", "timings": folder / "timings",
        "captions": ROOT / "captions.yaml", "claims": folder / "claims.csv", "tables": [folder / "table2.csv"],
        "seeds": [folder / "seeds.csv"], "figures": [folder / "figure2.png"], "out": folder / "report.html",
        "stated": folder / "claims.yaml",
    }  # fmt: skip
    make_report.main(make_report.Arguments(**arguments | changes))
    return (folder / "report.html").read_text()


def cells(page, first):
    """The row of a page whose first cell is this."""
    (row,) = (row for row in page.rows if row and row[0].strip() == first)
    return [" ".join(cell.split()) for cell in row]


def test_the_page_loads_nothing(folder):
    html = made(folder)
    page = Page(html)
    assert page.loaded and all(source.startswith("data:") for source in page.loaded)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", html)


def test_every_link_within_the_page_has_its_target(folder):
    page = Page(made(folder))
    targets = [link[1:] for link in page.links if link.startswith("#")]
    assert len(page.ids) == len(set(page.ids)) and set(targets) <= set(page.ids)


def test_a_measured_number_is_that_of_the_table_and_leads_to_all_behind_it(folder):
    html = made(folder)
    page = Page(html)
    head, row = cells(page, "model"), cells(page, "+ Diffusion D")
    mean, half_width = pd.read_csv("table2.csv").set_index("row").loc["gan-diffusion", ["fid", "fid_interval"]]
    assert dict(zip(head, row, strict=True))["fid"] == f"{mean:.4g} ± {half_width:.2g}" == "32.5 ± 16"
    assert '<a href="#gan-diffusion-openmoji" title="fid = 32.5">32.5 ± 16</a>' in html
    assert cells(page, "fid")[1:] == ["31.25", "33.75"] and cells(page, "seed")[1:] == ["0", "1"]
    assert cells(page, "recipe.resize filter")[1:] == ["<box>", "<box>"]
    for name in ("git commit", "device", "seconds", "utc"):
        assert len(cells(page, name)) == 3


def test_a_reported_number_is_no_link(folder):
    page = Page(made(folder))
    assert dict(zip(cells(page, "model"), cells(page, "+ GigaGAN D"), strict=True))["fid (paper)"] == "13.97"
    assert "#gan-gigagan-openmoji" not in page.links


def test_the_head_says_when_on_what_and_that_small_numbers_are_no_results(folder):
    text = " ".join(Page(made(folder)).text.split())
    assert "2026-01-01 10:00 UTC to 2026-01-02 10:00 UTC" in text and "an abacus" in text and "abc123-dirty" in text
    assert "judgements that calibrate the perceptual metric are synthetic" in text
    assert "only with each other, never with published numbers" in text and "its numbers mean nothing" in text


def test_nothing_stands_in_at_the_papers_scale():
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert report.stand_ins(Study(load(config | {"scale": "paper"}, ROOT))) == []


def test_a_claim_is_as_good_as_its_worst_comparison(folder):
    page = Page(made(folder))
    assert "✓ 0 hold, ? 0 undecided, ✗ 1 fail, – 1 not measured" in " ".join(page.text.split())
    head, first, second = (
        cells(page, "verdict"),
        cells(page, "✗ fails"),
        cells(page, "✗ fid(gan-diffusion) < fid(gan-gigagan)"),
    )
    row = dict(zip(head, first, strict=True))
    assert (row["section"], row["check"], row["left"]) == (
        "3.3",
        "✓ 2 * fid(gan-diffusion) < fid(gan-diffusion)",
        "32.5",
    )
    assert dict(zip(head[-len(second) :], second, strict=True))["surprise"] == "new"


def test_the_terms_of_a_claim_lead_to_the_numbers(folder):
    page = Page(made(folder))
    assert page.links.count("#gan-diffusion-openmoji") == 5, "one in the table, four in the checks"
    row = dict(zip(cells(page, "verdict"), cells(page, "– not measured"), strict=True))
    assert row["check"] == "fid(gan-diffusion) < fid(gan-gigagan)"
    assert page.links.count("#table2") == 4, "two of the claims, one of the contents, one of the records"


def test_what_is_not_there_is_said(folder):
    text = " ".join(
        Page(made(folder, tables=[], seeds=[], claims=None, figures=[], timings=folder / "none")).text.split()
    )
    assert "The claims were not checked." in text and "Nothing was measured." in text and "No job was timed." in text
    assert text.count("This figure was not made at the scale smoke.") == len(captions()["figures"])
    assert "Table 2 was not made: it was not asked for." in text


def test_why_a_table_cannot_be_made_is_said(folder, config):
    sdxl = config.teachers["sdxl"].model_copy(update={"path": None})
    changed = config.model_copy(update={"teachers": config.teachers | {"sdxl": sdxl}})
    (folder / "config.json").write_text(changed.model_dump_json(exclude_unset=True))
    assert "Table 5 was not made: the scale smoke has no teacher sdxl." in made(folder)


def test_a_number_without_a_file_is_refused(folder):
    for file in map(Path, pd.read_csv("seeds.csv")["files"]):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"metrics": {}}))
    with pytest.raises(UserError, match="no metrics file holds the fid of gan-diffusion"):
        made(folder)


def test_a_figure_without_a_caption_is_refused(folder):
    (folder / "figure2.png").rename(folder / "figure99.png")
    with pytest.raises(UserError, match="captions.yaml has no caption for the figure 'figure99'"):
        made(folder, figures=[folder / "figure99.png"])


def test_the_same_inputs_make_the_same_page(folder):
    assert made(folder) == made(folder)


def test_what_jobs_took_is_added_up(folder):
    page = Page(made(folder))
    text = " ".join(page.text.split())
    assert "All jobs one after the other took 2.0 hours, as Snakemake measured them" in text
    train, score = cells(page, "train"), cells(page, "score")
    assert train[1:4] == ["2", "2.0 h", "100.0 %"], "the graph has the number of jobs"
    assert score[1:] == ["1", "—", "", "train"] and page.links.count("#rule-train") == 1


def test_every_table_of_the_study_has_a_caption_and_every_metric_a_meaning():
    config = load(yaml.safe_load((ROOT / "config.yaml").read_text()), ROOT)
    assert captions()["tables"].keys() == config.tables.keys()
    metrics = {metric for table in config.tables.values() for metric in table.metrics}
    assert metrics <= captions()["columns"].keys()


def captions():
    return yaml.safe_load((ROOT / "captions.yaml").read_text())


def test_a_table_without_its_seeds_is_an_error(folder):
    with pytest.raises(ValueError, match="zip"):
        made(folder, seeds=[])
