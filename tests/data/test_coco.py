"""COCO's official layout, in miniature: 40 images, five captions each."""

import errno
import json
from pathlib import Path

import pandas as pd
import pytest
from official import coco as official

from diffusion2gan.data import coco
from diffusion2gan.errors import UserError
from diffusion2gan.io import file_sha256
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling.folder import image_paths
from scripts.data import make_benchmark


@pytest.fixture
def val2014(tmp_path):
    """The folder val2014 of a COCO that this test makes."""
    return official.write(tmp_path / "coco", "val2014")


def test_the_prompts_are_fixed_one_per_image_and_independent_of_the_files_order(val2014):
    images, captions = coco.read_coco(val2014)
    assert len(images) == 40 and len(captions) == 200
    chosen = coco.choose_prompts(captions, 30, seed=0)
    assert list(chosen["prompt_id"]) == list(range(30)) and chosen["image_id"].is_unique
    assert chosen["caption"].tolist() == [
        f"Caption {caption_id % 10} of {image_id}."
        for caption_id, image_id in zip(chosen["caption_id"], chosen["image_id"], strict=True)
    ]
    assert chosen.equals(coco.choose_prompts(captions.sample(frac=1, random_state=3), 30, seed=0))
    assert chosen.equals(coco.choose_prompts(captions, 40, seed=0).head(30))  # more prompts begin with the same
    assert set(chosen["caption_id"] % 10) == set(range(5))
    assert not chosen.equals(coco.choose_prompts(captions, 30, seed=1))


def test_the_choice_of_prompts_never_changes(val2014):
    """Numbers are only comparable on the same prompts: whoever changes the choice must see this fail."""
    chosen = coco.choose_prompts(coco.read_coco(val2014)[1], 30, seed=0)
    assert json_sha256(chosen["caption"].tolist())[:16] == "905c9217f29795ae"


def test_a_benchmark_is_linked_not_copied(val2014, tmp_path):
    out = tmp_path / "benchmark"
    make_benchmark.main(make_benchmark.Arguments(str(val2014), 30, 256, out, seed=3))
    prompts = pd.read_parquet(out / "prompts.parquet")
    chosen = coco.choose_prompts(coco.read_coco(val2014)[1], 30, seed=3)
    assert prompts["caption"].tolist() == chosen["caption"].tolist()
    files = image_paths(out / "images")
    assert len(files) == 40 and all(file.resolve().parent == val2014 for file in files)  # all, not only the prompts'
    said = json.loads((out / "benchmark.json").read_text())
    assert said["captions_sha256"] == json_sha256(prompts["caption"].tolist())
    assert (said["prompts"], said["pictures"]) == (30, 40)
    assert said["annotations_sha256"] == file_sha256(tmp_path / "coco/annotations/captions_val2014.json")
    make_benchmark.main(make_benchmark.Arguments(str(val2014), 20, 256, out))  # again, over what is there
    assert len(image_paths(out / "images")) == 40


def test_a_disk_without_links_has_copies(val2014, tmp_path, monkeypatch):
    def lacking(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", lacking)
    make_benchmark.main(make_benchmark.Arguments(str(val2014), 30, 256, tmp_path / "benchmark"))
    files = image_paths(tmp_path / "benchmark/images")
    assert len(files) == 40 and all(file.read_bytes() == (val2014 / file.name).read_bytes() for file in files)


def edited(folder, edit):
    """Change the content of a captions file."""
    file = coco.annotations(folder)
    content = json.loads(file.read_text())
    edit(content["images"], content["annotations"])
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda images, captions: captions[3].update(caption=None), r"\(annotations.3.caption: Input should be"),
        (lambda images, captions: captions[3].update(caption=7), r"\(annotations.3.caption: Input should be"),
        (lambda images, captions: captions[3].pop("caption"), r"\(annotations.3.caption: Field required\)"),
        (lambda images, captions: captions[3].update(image_id="9"), r"\(annotations.3.image_id: Input should be"),
        (lambda images, captions: images[0].update(id=True), r"\(images.0.id: Input should be"),
        (lambda images, captions: images[0].update(file_name=None), r"\(images.0.file_name: Input should be"),
        (lambda images, captions: images.append(None), r"\(images.40: Input should be"),
        (lambda images, captions: images.append(images[0]), "has the id 1000 twice"),
        (lambda images, captions: images.append(images[0] | {"id": 1}), "has the file_name COCO.*1000.jpg twice"),
        (lambda images, captions: captions.append(captions[0]), "has the id 10000 twice"),
        (lambda images, captions: images.pop(0), "has captions of images that it does not list, the first is 1000"),
        (lambda images, captions: images[0].update(file_name="../x.jpg"), "lacks 1 of the 40 .* ../x.jpg: unpack"),
        (lambda images, captions: [each.update(file_name=f"{each['id']}.jpg") for each in images],
         "lacks 40 of the 40 images .* or the captions if they are of other images"),
    ],
)  # fmt: skip
def test_captions_that_are_not_what_they_should_be_are_a_one_line_error(val2014, tmp_path, edit, message):
    edited(val2014, edit)
    with pytest.raises(UserError, match=message) as error:
        make_benchmark.main(make_benchmark.Arguments(str(val2014), 30, 256, tmp_path / "out"))
    assert "\n" not in str(error.value) and "captions_val2014.json" in str(error.value)
    assert not (tmp_path / "out/prompts.parquet").exists()


def test_images_without_captions_are_references_all_the_same(val2014, tmp_path):
    edited(val2014, lambda images, captions: [captions.pop() for _ in range(50)])  # of ten images
    with pytest.raises(UserError, match="only 30 images have captions, 31 prompts were requested"):
        make_benchmark.main(make_benchmark.Arguments(str(val2014), 31, 256, tmp_path / "out"))
    make_benchmark.main(make_benchmark.Arguments(str(val2014), 30, 256, tmp_path / "out"))
    assert len(image_paths(tmp_path / "out/images")) == 40


def test_a_benchmark_whose_images_were_removed_is_a_one_line_error(val2014, tmp_path):
    """Scratch disks remove files that nobody has read for long; the links to them stay."""
    images = tmp_path / "out/images"
    make_benchmark.main(make_benchmark.Arguments(str(val2014), 30, 256, tmp_path / "out"))
    (images / ".ipynb_checkpoints").mkdir()
    make_benchmark.main(make_benchmark.Arguments(str(val2014), 30, 256, tmp_path / "out"))
    first, second = image_paths(images)[:2]
    first.resolve().rename(val2014 / "elsewhere")
    with pytest.raises(UserError) as error:
        image_paths(images)
    assert str(error.value) == (
        f"{first} links to {val2014 / first.name}, which is gone: fetch that again, or delete and remake {images}"
    )
    (val2014 / first.name).symlink_to("nowhere")  # COCO itself may be links
    with pytest.raises(UserError, match=f"lacks 1 of the 40 images .* {first.name}: unpack"):
        make_benchmark.main(make_benchmark.Arguments(str(val2014), 30, 256, tmp_path / "out"))


def test_val2017_is_read_too(tmp_path):
    folder = official.write(tmp_path, "val2017", count=5)
    make_benchmark.main(make_benchmark.Arguments(str(folder), 5, 256, tmp_path / "out"))
    assert len(pd.read_parquet(tmp_path / "out/prompts.parquet")) == 5


def test_a_mistake_in_the_folder_is_a_one_line_error(val2014, tmp_path):
    def complaint(source, count=30):
        with pytest.raises(UserError) as error:
            make_benchmark.main(make_benchmark.Arguments(str(source), count, 256, tmp_path / "out"))
        assert "\n" not in str(error.value) and not (tmp_path / "out/prompts.parquet").exists()
        return str(error.value)

    said = complaint(tmp_path / "nowhere" / "val2017")
    assert "nowhere/val2017: unpack http://images.cocodataset.org/zips/val2017.zip (1 GB)" in said
    assert "only 40 images have captions, 41" in complaint(val2014, 41)
    first = sorted(val2014.iterdir())[0]
    first.unlink()
    assert "lacks 1 of the 40 images" in complaint(val2014) and first.name in complaint(val2014)
    file = coco.annotations(val2014)
    file.write_text('{"images": []}')
    assert "captions_val2014.json is not a file of COCO captions" in complaint(val2014)
    file.unlink()
    assert "annotations_trainval2014.zip (241 MB)" in complaint(val2014)
