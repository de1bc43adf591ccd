"""Images of any format are read as RGB, or refused with their name."""

import io

import numpy as np
import pytest
from fuzzed import damaged, fuzzed, read
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffusion2gan import images
from diffusion2gan.errors import UserError

RED = (200, 0, 0)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.ppm", "a.webp", "a.gif", "a.tiff"])
def test_every_format_is_the_same_image(tmp_path, name):
    Image.new("RGB", (6, 4), RED).save(tmp_path / name, **{"lossless": True} if name == "a.webp" else {})
    assert np.array_equal(images.load_image(tmp_path / name), np.full((4, 6, 3), RED))


@pytest.mark.parametrize(
    ("mode", "colour", "shown"),
    [
        ("1", 1, (255, 255, 255)), ("L", 7, (7, 7, 7)), ("LA", (7, 255), (7, 7, 7)), ("LA", (7, 0), (255, 255, 255)),
        ("RGBA", (*RED, 255), RED), ("RGBA", (*RED, 0), (255, 255, 255)), ("P", 0, (0, 0, 0)),
    ],
)  # fmt: skip
def test_every_mode_is_shown_as_a_viewer_shows_it(tmp_path, mode, colour, shown):
    """What lies below transparent pixels is not part of an image."""
    Image.new(mode, (6, 4), colour).save(tmp_path / "a.png")
    assert np.array_equal(images.load_image(tmp_path / "a.png"), np.full((4, 6, 3), shown))


def test_a_transparent_colour_of_a_palette_is_white(tmp_path):
    image = Image.new("P", (6, 4), 3)
    image.putpalette([*RED] * 4)
    image.save(tmp_path / "a.png", transparency=3)
    assert images.load_image(tmp_path / "a.png").min() == 255


def test_the_first_frame_counts_and_exif_does_not_turn(tmp_path):
    frames = [Image.new("RGB", (6, 4), colour) for colour in (RED, (0, 0, 200))]
    for name in ("a.gif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert abs(images.load_image(tmp_path / name).astype(int) - RED).max() < 5
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    frames[0].save(tmp_path / "a.jpg", exif=exif)
    assert images.load_image(tmp_path / "a.jpg").shape == (4, 6, 3)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_pixels_of_more_than_8_bits_are_refused_and_not_white(tmp_path, kind):
    path = tmp_path / "a.tiff"
    Image.fromarray(np.full((4, 6), 300, kind)).save(path)
    with pytest.raises(UserError, match=f"{path} has pixels of more than 8 bits"):
        images.load_image(path)


def encoded(form):
    Image.new("RGB", (60, 40), RED).save(buffer := io.BytesIO(), form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n\x1a\n", b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", None]
    + [encoded(form)[:-40] for form in ("png", "jpeg", "webp", "bmp", "gif")],
    ids=lambda content: str(content)[:12],
)
def test_a_damaged_image_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    path.mkdir() if content is None else path.write_bytes(content)
    for reader in (images.load_image, images.open_image):
        with pytest.raises(UserError, match=f"the image {path} cannot be read .*: make or fetch it again") as error:
            reader(path)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="b.png cannot be read"):
        images.load_image(tmp_path / "b.png")


def test_an_image_that_would_fill_the_memory_is_named(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="a.png cannot be read .*decompression bomb"):
        images.load_image(tmp_path / "a.png")


def noise(form):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer := io.BytesIO(), form)
    return buffer.getvalue()


FORMS = [damaged(noise(form)) for form in ("png", "jpeg", "webp", "bmp", "gif", "tiff", "ppm")]


@fuzzed
@given(content=st.one_of(*FORMS, st.binary(max_size=60)))
def test_any_file_is_an_image_or_one_line(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    image = read(images.load_image, path)
    assert image is None or (image.dtype == np.uint8 and image.shape[2:] == (3,))
