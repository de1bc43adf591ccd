import numpy as np
import pytest
from PIL import Image

from diffusion2gan.errors import UserError
from diffusion2gan.pairs.shards import pair_seeds
from diffusion2gan.sampling.folder import ImageFiles, image_paths, noise_seeds, prepare_folder, read_recipe


def draw(folder, count, side=8):
    for i in range(count):
        Image.new("RGB", (side, side), (i, 0, 0)).save(folder / f"{i:05d}.png")


def test_noise_depends_on_seed_and_picture_alone():
    assert noise_seeds(7, [5, 2]) == [noise_seeds(7, [i])[0] for i in (5, 2)]
    assert len(set(noise_seeds(0, range(1000)) + noise_seeds(1, range(1000)))) == 2000


def test_no_picture_is_scored_on_the_noise_of_a_pair():
    assert not set(noise_seeds(0, range(1000))) & set(pair_seeds(range(1000), 0))


def test_a_folder_comes_back_with_its_recipe(tmp_path):
    prepare_folder(tmp_path / "s", {"count": 3, "seed": 1})
    draw(tmp_path / "s", 3)
    assert read_recipe(tmp_path / "s") == {"count": 3, "seed": 1}
    assert [path.name for path in image_paths(tmp_path / "s")] == ["00000.png", "00001.png", "00002.png"]


def test_a_drawing_that_was_cut_short_is_refused_and_can_be_repeated(tmp_path):
    prepare_folder(tmp_path, {"count": 3})
    draw(tmp_path, 2)
    with pytest.raises(UserError, match="2 of 3 images"):
        image_paths(tmp_path)
    prepare_folder(tmp_path, {"count": 1})
    assert not list(tmp_path.glob("*.png"))


def test_the_pictures_of_others_are_never_removed(tmp_path):
    draw(tmp_path, 2)
    with pytest.raises(UserError, match="not empty"):
        prepare_folder(tmp_path, {"count": 2})
    assert len(image_paths(tmp_path)) == 2
    assert read_recipe(tmp_path) is None


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
