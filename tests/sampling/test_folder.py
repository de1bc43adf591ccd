from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.pairs.shards import pair_seeds
from diffusion2gan.sampling import folder as folder_module
from diffusion2gan.sampling.folder import (
    ImageFiles,
    image_paths,
    model_folders,
    noise_seeds,
    prepare_folder,
    read_recipe,
)


def draw(folder, count, side=8):
    for i in range(count):
        Image.new("RGB", (side, side), (i, 0, 0)).save(folder / f"{i:05d}.png")


def test_noise_depends_on_seed_and_index_alone():
    assert noise_seeds(7, [5, 2]) == [noise_seeds(7, [i])[0] for i in (5, 2)]
    assert len(set(noise_seeds(0, range(1000)) + noise_seeds(1, range(1000)))) == 2000


def test_no_image_is_scored_on_the_noise_of_a_pair():
    assert not set(noise_seeds(0, range(1000))) & set(pair_seeds(range(1000), 0))


def test_a_folder_comes_back_with_its_recipe(tmp_path):
    prepare_folder(tmp_path / "s", {"count": 3, "seed": 1})
    draw(tmp_path / "s", 3)
    assert read_recipe(tmp_path / "s") == {"count": 3, "seed": 1}
    assert [path.name for path in image_paths(tmp_path / "s")] == ["00000.png", "00001.png", "00002.png"]


def test_more_than_a_hundred_thousand_images_keep_their_order(tmp_path):
    """Sorted as words, image 100000 would come before 99999 and every later image would show another caption."""
    for name in ("99999.png", "100000.png", "10001.png"):
        (tmp_path / name).touch()
    assert [path.name for path in image_paths(tmp_path)] == ["10001.png", "99999.png", "100000.png"]
    (tmp_path / "grid.png").touch()  # a stray image does not change the order of the others
    assert [path.stem for path in image_paths(tmp_path)] == ["10001", "99999", "100000", "grid"]


def test_numbers_within_names_are_numbers(tmp_path):
    for name in ("img_10.png", "img_9.png", "img_1.png", "a2b10.png", "a2b9.png"):
        (tmp_path / name).touch()
    assert [path.stem for path in image_paths(tmp_path)] == ["a2b9", "a2b10", "img_1", "img_9", "img_10"]


def test_a_folder_of_samples_that_was_cut_short_is_refused_and_can_be_repeated(tmp_path):
    prepare_folder(tmp_path, {"count": 3})
    draw(tmp_path, 2)
    with pytest.raises(UserError, match="2 of 3 images"):
        image_paths(tmp_path)
    prepare_folder(tmp_path, {"count": 1})
    assert not list(tmp_path.glob("*.png"))


def test_the_images_of_others_are_never_removed(tmp_path):
    draw(tmp_path, 2)
    with pytest.raises(UserError, match="not empty"):
        prepare_folder(tmp_path, {"count": 2})
    assert len(image_paths(tmp_path)) == 2
    assert read_recipe(tmp_path) is None


def test_what_is_hidden_is_no_image(tmp_path):
    draw(tmp_path, 2)
    (tmp_path / "._00000.png").write_bytes(b"\0\5\x16\7")  # macOS
    (tmp_path / ".00001.png").touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "00001.png").rename(tmp_path / "00001.PNG")
    assert [path.name for path in image_paths(tmp_path)] == ["00000.png", "00001.PNG"]


def test_an_empty_or_missing_folder_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=str(folder)):
            image_paths(folder)


def test_the_central_square_is_resized_by_the_filter_that_was_declared(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 17, 3), dtype=np.uint8)
    path = tmp_path / "00000.png"
    Image.fromarray(pixels).save(path)
    square = Image.fromarray(pixels[:, 4:14])  # torchvision's CenterCrop starts at round(3.5) = 4
    for name in ("lanczos", "box"):
        expected = square.resize((6, 6), getattr(Image.Resampling, name.upper()))
        assert np.array_equal(ImageFiles([path], 6, name)[0], expected)
    assert np.array_equal(ImageFiles([path], 10)[0], pixels[:, 4:14])


def test_batches_keep_the_order(tmp_path):
    draw(tmp_path, 5)
    pictures = ImageFiles(image_paths(tmp_path), 8)
    assert [[int(picture[0, 0, 0]) for picture in batch] for batch in pictures.batches(2)] == [[0, 1], [2, 3], [4]]
    assert pictures.recipe == {"crop": "center", "resolution": 8, "resize_filter": "lanczos"}


def test_a_new_folder_may_be_deep_and_hold_what_is_hidden(tmp_path):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / ".unfinished").touch()
    prepare_folder(folder, {"count": 1})
    prepare_folder(tmp_path / "other" / "new", {"count": 1})
    assert read_recipe(folder) == read_recipe(tmp_path / "other" / "new") == {"count": 1}
    assert {path.name for path in folder.iterdir()} == {".unfinished", "sample.json"}


def test_samples_that_are_kept_stay_and_other_files_too(tmp_path):
    prepare_folder(tmp_path, {"count": 3})
    draw(tmp_path, 3)
    (tmp_path / "notes.png").touch()
    prepare_folder(tmp_path, {"count": 3, "seed": 1}, [tmp_path / "00001.png"])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["00001.png", "notes.png"]


def test_a_model_is_a_name_and_a_folder_whose_own_name_may_have_an_equals_sign():
    assert model_folders(["Ours=work/w=3", "b=c"]) == {"Ours": Path("work/w=3"), "b": Path("c")}
    with pytest.raises(UserError) as error:
        model_folders(["a=b", "work/c"])
    assert str(error.value) == "--models work/c: write NAME=FOLDER_OF_IMAGES"


@pytest.mark.parametrize(("size", "starts"), [((10, 17), (0, 4)), ((17, 10), (4, 0)), ((11, 17), (0, 3))])
def test_the_square_is_central_in_both_directions(tmp_path, size, starts):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "00000.png")
    left, top, side = *starts, min(size)
    assert np.array_equal(ImageFiles([tmp_path / "00000.png"], side)[0], pixels[top : top + side, left : left + side])


def test_a_batch_is_read_with_as_many_threads_as_torch_has(tmp_path, monkeypatch):
    asked, pool = [], ThreadPoolExecutor
    monkeypatch.setattr(folder_module, "ThreadPoolExecutor", lambda count: asked.append(count) or pool(count))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    draw(tmp_path, 2)
    assert [len(batch) for batch in ImageFiles(image_paths(tmp_path), 8).batches(8)] == [2] and asked == [3]
