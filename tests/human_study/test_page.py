"""The page of the human study: blind, balanced, self-contained, and the same for the same seed."""

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import prepare_folder
from diffusion2gan.toy.openmoji import ATTRIBUTION
from scripts.report import make_human_study

ROWS = ("diffusion2gan", "teacher-sd15", "instaflow")
PAIRS = [f"{ROWS[0]}={against}" for against in ROWS[1:]]
CAPTIONS = ["a fox </script><b>", 'a "red" apple & more', "a snail", "an owl", "a cat", "a boat"]


@pytest.fixture
def drawn(tmp_path):
    """The images of each row have one colour, and the row's name in their metadata."""
    pd.DataFrame({"prompt_id": range(6), "caption": CAPTIONS}).to_parquet(tmp_path / "prompts.parquet")
    for place, row in enumerate(ROWS):
        prepare_folder(tmp_path / row, {"count": 6, "captions_sha256": json_sha256(CAPTIONS)})
        for number in range(6):
            picture = Image.fromarray(np.full((12, 16, 3), (80 * place, 40 * number, 7), np.uint8))
            picture.info["Software"] = row
            picture.save(tmp_path / row / f"{number:05d}.png")
    return tmp_path


def make(folder, **settings):
    models = [f"{row}={folder / row}" for row in ROWS]
    defaults = {"pairs": PAIRS, "count": 4, "resolution": 8, "seed": 0}
    out, key = folder / "study/index.html", folder / "study/key.csv"
    make_human_study.main(
        make_human_study.Arguments(
            prompts=folder / "prompts.parquet", models=models, out=out, key=key, **defaults | settings
        )
    )
    return out.read_text(encoding="utf-8"), pd.read_csv(key, dtype={"trial": str})


def data(page):
    return json.loads(re.search(r'id="study">(.*)</script>\n<script>', page)[1])


def shown(study, number):
    content = study["pictures"][number].removeprefix("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_the_page_shows_what_the_key_says(drawn):
    page, key = make(drawn)
    study = data(page)
    assert [trial["id"] for trial in study["trials"]] == key["trial"].tolist()
    for trial, line in zip(study["trials"], key.itertuples(), strict=True):
        for side in ("left", "right"):
            picture = shown(study, trial[side])
            assert picture.shape == (8, 8, 3)
            assert (picture == (80 * ROWS.index(getattr(line, side)), 40 * line.picture, 7)).all()
        assert {line.left, line.right} == {line.row, line.against}
        assert trial.get("caption") == (line.caption if line.question == "alignment" else None)


def test_questions_come_in_blocks_about_the_same_images_with_balanced_sides(drawn):
    _, key = make(drawn)
    assert key["question"].tolist() == ["realism"] * 8 + ["alignment"] * 8
    asked = {pair: set(group["picture"]) for pair, group in key.groupby(["question", "against"])}
    assert len(asked) == 4 and all(pictures == asked["realism", "instaflow"] for pictures in asked.values())
    for _, group in key.groupby(["question", "against"]):
        assert len(group) == 4 and (group["left"] == group["row"]).sum() == 2


def test_the_page_is_blind_and_needs_nothing_else(drawn):
    page, key = make(drawn)
    assert not any(row in page for row in ROWS)
    assert set(data(page)["trials"][0]) == {"id", "question", "left", "right"}
    assert all(re.fullmatch("[0-9a-f]{12}", trial) for trial in key["trial"]) and key["trial"].is_unique
    assert not re.search(r"https?://|src=\"|@import|url\(", page)
    assert page.count("</script>") == 2 and "default-src 'none'" in page


def test_ids_do_not_reveal_sides(drawn):
    """Another seed gives an id to another trial, and sorting by id does not sort by side."""
    _, key = make(drawn, count=6)
    sides = (key.sort_values("trial")["left"] == key["row"][0]).tolist()
    assert sides != sorted(sides) and sides != sorted(sides, reverse=True)
    _, other = make(drawn, count=6, seed=1)
    assert not set(key["trial"]) & set(other["trial"])


def test_the_same_seed_makes_the_same_page(drawn):
    first, again, (other, key) = make(drawn), make(drawn), make(drawn, seed=1)
    assert first[0] == again[0] and first[1].equals(again[1])
    columns = ["question", "against", "left", "picture"]
    assert other != first[0] and not key[columns].equals(first[1][columns])


def test_other_images_have_other_ids(drawn):
    _, key = make(drawn)
    for number in range(6):
        Image.new("RGB", (12, 12), "white").save(drawn / "instaflow" / f"{number:05d}.png")
    assert not set(key["trial"]) & set(make(drawn)[1]["trial"])


def test_openmoji_is_attributed(drawn):
    assert data(make(drawn)[0])["attribution"] == ""
    captions = ["a fox on an orange background", *CAPTIONS[1:]]
    pd.DataFrame({"prompt_id": range(6), "caption": captions}).to_parquet(drawn / "prompts.parquet")
    for row in ROWS:
        (drawn / row / "sample.json").write_text(json.dumps({"count": 6, "captions_sha256": json_sha256(captions)}))
    assert data(make(drawn)[0])["attribution"] == ATTRIBUTION


def test_mistakes_are_named(drawn):
    def complaint(**settings):
        with pytest.raises(UserError) as error:
            make(drawn, **settings)
        assert "\n" not in str(error.value) and not (drawn / "study").exists()
        return str(error.value)

    assert "asks for 7 prompts, the benchmark has 6" in complaint(count=7)
    assert "there is no 'teacher'" in complaint(pairs=["diffusion2gan=teacher"])
    (drawn / "instaflow/sample.json").write_text(json.dumps({"count": 6, "captions_sha256": "another"}))
    assert "instaflow does not show the 6 prompts" in complaint()
