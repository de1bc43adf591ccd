"""Scripts that fetch, encode and adopt: their outputs against their inputs."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from built import metric
from safetensors.torch import load_file

from diffusion2gan.errors import UserError
from diffusion2gan.images import load_image, save_png, to_tensor
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.provenance import json_sha256
from diffusion2gan.seeds import mix
from diffusion2gan.teacher import Teacher
from diffusion2gan.toy.collages import Collages
from diffusion2gan.toy.openmoji import ATTRIBUTION, Scenes
from diffusion2gan.toy.source import OpenMoji
from scripts.data import encode_latents, fetch, make_benchmark
from scripts.latentlpips import adopt_lpips


def test_the_shards_are_the_latents_of_the_images_in_turn(small_teacher_folder, tmp_path, capsys):
    shards = []
    for shard in range(2):
        out = tmp_path / "new" / f"{shard}.safetensors"
        encode_latents.main(
            encode_latents.Arguments(
                str(small_teacher_folder), "openmoji", "val", 5, 32, out, shard=shard, shards=2, seed=3, batch_size=2
            )
        )
        shards.append(load_file(out))
    assert "\nencoding latents: 2/2, " in "\n" + capsys.readouterr().err  # batches of the second shard, of three images
    latents, labels = (torch.cat([shard[name] for shard in shards]) for name in ("latents", "labels"))
    collages = Collages(mix(3, 2), 32)  # the split `val`
    wanted = [collages[i] for i in range(5)]
    assert labels.tolist() == [label for _, label in wanted]
    vae = Teacher(str(small_teacher_folder)).vae
    with torch.no_grad():
        mean, log_variance = vae.quant_conv(vae.encoder(to_tensor([image for image, _ in wanted]))).chunk(2, dim=1)
    seeds = [mix(mix(3, 2), number) for number in range(5)]
    drawn = np.stack([np.random.default_rng(seed).standard_normal((4, 8, 8), np.float32) for seed in seeds])
    sampled = (mean + (log_variance / 2).exp() * torch.from_numpy(drawn)) * vae.config.scaling_factor
    assert latents.dtype == torch.float16 and (latents - mean * vae.config.scaling_factor).abs().max() > 0.01
    torch.testing.assert_close(latents.float(), sampled, rtol=2e-3, atol=2e-3)


def test_a_file_is_fetched_if_its_md5_is_right(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
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


def test_a_download_gives_up_after_minutes_of_silence(tmp_path, monkeypatch):
    waits = []

    def urlopen(request, timeout=None):
        waits.append(timeout)
        raise OSError("silence")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setattr("time.sleep", waits.append)
    with pytest.raises(UserError, match="silence"):
        fetch.main(fetch.Arguments("https://example.org/file", tmp_path / "file"))
    assert waits == [60, 1, 60, 2, 60, 4, 60, 8, 60]


@pytest.fixture
def site(monkeypatch):
    """A server of CONTENT whose connections break after `bytes_each`; `asked` are the ranges that it was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            served.asked.append(wanted := self.headers.get("Range"))
            content = served.content
            start = int(wanted[6:-1]) if wanted and served.resumes and self.headers["If-Range"] == '"1"' else 0
            self.send_response(206 if start else served.status)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(content[start:][: served.bytes_each])

        def log_message(self, *_):
            pass

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = SimpleNamespace(
        asked=[],
        content=CONTENT,
        resumes=True,
        bytes_each=400,
        status=200,
        url=f"http://127.0.0.1:{server.server_port}/f",
    )
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield served
    server.shutdown()
    server.server_close()


CONTENT = bytes(range(250)) * 4


def test_a_connection_that_breaks_is_resumed(site, tmp_path):
    fetch.main(fetch.Arguments(site.url, tmp_path / "file", hashlib.md5(CONTENT).hexdigest()))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert site.asked == [None, "bytes=400-", "bytes=800-"]


def test_a_file_that_is_cut_short_is_not_kept(site, tmp_path):
    site.resumes = False
    with pytest.raises(UserError, match="the connection broke after 400 of 1000 bytes.*: fetch it elsewhere as"):
        fetch.main(fetch.Arguments(site.url, tmp_path / "file"))
    assert len(site.asked) == 5 and not list(tmp_path.iterdir())
    site.bytes_each, site.status = 1000, 404
    with pytest.raises(UserError, match="HTTP Error 404"):
        fetch.main(fetch.Arguments(site.url, tmp_path / "file"))
    assert len(site.asked) == 6


def test_a_web_page_in_place_of_a_file_is_refused(site, tmp_path):
    site.content = b"\n<!DOCTYPE HTML><html>Log in</html>"
    with pytest.raises(UserError, match="came as a web page, as from a proxy that wants a login: fetch it elsewhere"):
        fetch.main(fetch.Arguments(site.url, tmp_path / "file"))
    with pytest.raises(UserError, match="unknown url type"):
        fetch.main(fetch.Arguments("nowhere", tmp_path / "file"))
    assert not list(tmp_path.iterdir())


def test_a_published_metric_is_adopted_for_its_own_space(tmp_path):
    file, out = metric(tmp_path / "metric.safetensors", "latent"), tmp_path / "new" / "lpips.safetensors"
    adopt_lpips.main(adopt_lpips.Arguments(file, "latent-sd15", out))
    ours, theirs = LPIPS.load(out).state_dict(), LPIPS.load(file).state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(UserError, match=f"{file} compares latents, but `metrics` lists it for pixel"):
        adopt_lpips.main(adopt_lpips.Arguments(file, "pixel", out))


def test_a_benchmark_of_scenes_says_how_it_was_made(tmp_path, capsys):
    out = tmp_path / "new" / "benchmark"
    make_benchmark.main(make_benchmark.Arguments("openmoji", 5, 48, out, seed=3))
    assert capsys.readouterr().err.startswith("writing the benchmark: 5/5, ")
    scenes = [Scenes("benchmark", 3, 48)[i] for i in range(5)]
    captions = [scene.prompt.caption for scene in scenes]
    assert json.loads((out / "benchmark.json").read_text()) == {
        "attribution": ATTRIBUTION, "classes": OpenMoji().classes(), "source": "openmoji", "seed": 3, "prompts": 5,
        "pictures": 5, "captions_sha256": json_sha256(captions),
    }  # fmt: skip
    table = pd.read_parquet(out / "prompts.parquet")
    assert table["prompt_id"].tolist() == [0, 1, 2, 3, 4] and table["caption"].tolist() == captions
    assert sorted(path.name for path in (out / "images").iterdir()) == [f"{i:05d}.png" for i in range(5)]
    assert all(np.array_equal(load_image(out / f"images/{i:05d}.png"), scene.image) for i, scene in enumerate(scenes))


@pytest.mark.parametrize("source", ["openmoji", "folder"])
def test_references_are_a_seeded_choice_of_images_in_their_order(tmp_path, source, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(9):
        save_png(np.full((32, 32, 3), number, np.uint8), folder / f"{number}.png")
    out, name = tmp_path / "benchmark", "openmoji" if source == "openmoji" else str(folder)
    make_benchmark.main(make_benchmark.Arguments(name, 4, 32, out, references=6, seed=1))
    first = "rendering: 6/6, " if source == "openmoji" else "reading images: 9/9, "
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith(first) and shown[1].startswith("writing the benchmark: 6/6, ") and len(shown) == 2
    if source == "openmoji":
        found = np.stack([Scenes("all", 1, 32)[i].image for i in range(6)])
    else:
        found = np.stack([load_image(folder / f"{number}.png") for number in range(9)])
    images = np.stack([load_image(out / f"images/{i:05d}.png") for i in range(6)])
    assert len(list((out / "images").iterdir())) == 6
    if source == "openmoji":
        assert np.array_equal(images, found)
    else:
        chosen = images[:, 0, 0, 0].tolist()
        assert chosen == sorted(set(chosen)) and chosen != [0, 1, 2, 3, 4, 5]
        again, other = tmp_path / "again", tmp_path / "other"
        for seed, where in ((1, again), (2, other)):
            make_benchmark.main(make_benchmark.Arguments(name, 4, 32, where, references=6, seed=seed))
        assert [load_image(again / f"images/{i:05d}.png")[0, 0, 0] for i in range(6)] == chosen
        assert [load_image(other / f"images/{i:05d}.png")[0, 0, 0] for i in range(6)] != chosen
        with pytest.raises(UserError) as said:
            make_benchmark.main(make_benchmark.Arguments(name, 4, 32, out, references=10))
        assert str(said.value) == f"{folder} holds 9 images, fewer than the 10 `references`: request fewer"
    recipe = {
        "pictures_sha256": hashlib.sha256(found.tobytes()).hexdigest(), "source": name, "seed": 1, "prompts": 4,
        "pictures": 6, "captions_sha256": json_sha256([""] * 4),
    }  # fmt: skip
    recipe |= {"attribution": ATTRIBUTION} if source == "openmoji" else {}
    assert json.loads((out / "benchmark.json").read_text()) == recipe
    table = pd.read_parquet(out / "prompts.parquet")
    assert table.to_dict("list") == {"prompt_id": [0, 1, 2, 3], "caption": [""] * 4}
