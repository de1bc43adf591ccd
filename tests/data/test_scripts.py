"""Scripts that fetch, encode and adopt: their outputs against their inputs."""

import hashlib

import pytest
import torch
from built import metric
from safetensors.torch import load_file

from diffusion2gan.errors import UserError
from diffusion2gan.images import to_tensor
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.seeds import mix
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy.openmoji import Scenes
from scripts.data import encode_latents, fetch
from scripts.latentlpips import adopt_lpips


def test_the_shards_are_the_latents_of_the_images_in_turn(small_teacher_folder, tmp_path):
    shards = []
    for shard in range(2):
        out = tmp_path / "new" / f"{shard}.safetensors"
        encode_latents.main(
            encode_latents.Arguments(
                str(small_teacher_folder), "openmoji", "val", 5, out, shard=shard, shards=2, seed=3, batch_size=2
            )
        )
        shards.append(load_file(out))
    latents, labels = (torch.cat([shard[name] for shard in shards]) for name in ("latents", "labels"))
    scenes = Scenes("all", mix(3, 2), 64)  # the split `val`
    wanted = [scenes[i] for i in range(5)]
    assert labels.tolist() == [scene.prompt.emoji for scene in wanted]
    with torch.no_grad():
        encoded = Teacher(str(small_teacher_folder)).encode_images(to_tensor([scene.image for scene in wanted]))
    assert latents.dtype == torch.float16 and latents.shape == encoded.shape
    torch.testing.assert_close(latents.float(), encoded, rtol=2e-3, atol=2e-3)


def test_a_file_is_fetched_if_its_md5_is_right(tmp_path):
    source, out = tmp_path / "source", tmp_path / "new" / "file"
    source.write_bytes(b"what was published")
    fetch.main(fetch.Arguments(source.as_uri(), out))
    assert out.read_bytes() == b"what was published"
    out.unlink()
    right = hashlib.md5(b"what was published").hexdigest()
    with pytest.raises(UserError, match=f"{source.as_uri()} has the MD5 {right}, not 0123: fetch it again"):
        fetch.main(fetch.Arguments(source.as_uri(), out, "0123"))
    assert not list(out.parent.iterdir())
    fetch.main(fetch.Arguments(source.as_uri(), out, right))
    assert out.exists()
    with pytest.raises(UserError, match=f"missing cannot be fetched .*: fetch it elsewhere as {out}"):
        fetch.main(fetch.Arguments((tmp_path / "missing").as_uri(), out))


def test_a_download_gives_up_after_a_minute_of_silence(tmp_path, monkeypatch):
    waits = []

    def urlopen(url, timeout=None):
        waits.append(timeout)
        raise OSError("silence")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(UserError, match="silence"):
        fetch.main(fetch.Arguments("https://example.org/file", tmp_path / "file"))
    assert waits == [60]


def test_a_published_metric_is_adopted_for_its_own_space(tmp_path):
    file, out = metric(tmp_path / "metric.safetensors", "latent"), tmp_path / "new" / "lpips.safetensors"
    adopt_lpips.main(adopt_lpips.Arguments(file, "latent-sd15", out))
    ours, theirs = LPIPS.load(out).state_dict(), LPIPS.load(file).state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(UserError, match=f"{file} compares latents, but `metrics` lists it for pixel"):
        adopt_lpips.main(adopt_lpips.Arguments(file, "pixel", out))
