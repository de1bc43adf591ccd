"""The doctor: what is missing, damaged or too small is found before the first job, and says what to do."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from study.conftest import ROOT, study

from diffusion2gan.metrics import dreamsim, features
from diffusion2gan.study import doctor
from diffusion2gan.study.doctor.finding import FETCHABLE, MISSING, SOUND, UNKNOWN, WRONG, Finding, findings, markdown

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder, and a machine that has downloaded nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(dreamsim, "CACHE", tmp_path / "dreamsim")
    monkeypatch.setattr(features, "INCEPTION", tmp_path / "inception.pt")
    return tmp_path


def found(subject: str, scale: str = "paper", **changes) -> tuple[str, str]:
    """The state that the doctor finds for a subject, and its message."""
    wanted = study(scale, **changes)
    (check,) = [check for check in doctor.checks(wanted, 0, ROOT) if check[0] == subject]
    (finding,) = findings([check])
    return finding.state, finding.said


def test_a_machine_without_anything_is_told_what_to_fetch_and_from_where(empty):
    paper = study("paper")
    everything = list(findings(doctor.checks(paper, 10**15, empty / "work")))
    assert all("\n" not in each.said for each in everything)
    missing = {each.subject: each.said for each in everything if each.state == MISSING}
    assert f"`hf download {SD15}` (4.3 GB of it are read, CreativeML Open RAIL-M)" in missing["teacher sd15"]
    assert "https://image-net.org" in missing["labelled images, train"] and "150 GB" in missing["labelled images, val"]
    assert "PerceptualSimilarity" in missing["judgements, val"]
    assert "val2014.zip (6 GB)" in missing["benchmark coco2014"]
    assert "set `prompts.laion-aesthetics-6.0` in scales/paper.yaml" in missing["prompts laion-aesthetics-6.0"]
    assert "vgg16-397923af.pth, 528 MB" in missing["LPIPS pixel"]
    assert "hf download laion/CLIP-ViT-g-14" in missing["CLIP"] and "ensemble_lora" in missing["DreamSim"]
    assert {"model pixart-alpha", "model instaflow-published", "model sdxl-turbo-published"} <= missing.keys()
    fetched = {each.place for each in everything if each.state == FETCHABLE}
    assert {"data/cifar-10-python.tar.gz", "data/edm-cifar10-32x32-uncond-ve.pkl", "inception"} <= fetched
    (space,) = [each for each in everything if each.state == WRONG]
    assert space.subject == "disk space" and "needs 1,000,000.0 GB" in space.said
    assert not (empty / "hub").exists()  # nothing was fetched


def test_the_small_world_has_all_that_it_needs(monkeypatch):
    monkeypatch.chdir(ROOT)
    for scale in ("smoke", "toy", "demo"):
        wrong = [each for each in findings(doctor.checks(study(scale), 0, ROOT)) if each.state != SOUND]
        assert not wrong


# Pipelines


@pytest.fixture
def cached(empty, teacher_folder):
    """The snapshot of a small Stable Diffusion in the hub's cache."""
    repository = empty / "hub" / f"models--{SD15.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    shutil.copytree(teacher_folder, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    return snapshot


def fits(snapshot) -> dict:
    """The entry of a teacher as the snapshot has it."""
    config = json.loads((snapshot / "unet/config.json").read_text())
    (file,) = (snapshot / "unet").glob("*.safetensors")
    count = sum(np.prod(shape, dtype=int) for shape in shapes(file).values())
    side = config["sample_size"]
    return {"sd15": {"latent": [config["in_channels"], side, side], "weights": {"unet": int(count), "others": 0}}}


def shapes(file) -> dict[str, list[int]]:
    """The shapes in a safetensors file, read by hand: eight bytes of length, then JSON."""
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {name: each["shape"] for name, each in header.items() if name != "__metadata__"}


def test_a_whole_snapshot_of_the_hub_is_sound(cached):
    state, said = found("teacher sd15", teachers=fits(cached))
    total = sum(np.prod(shape, dtype=int) for file in cached.glob("*/*.safetensors") for shape in shapes(file).values())
    assert state == SOUND and said.startswith(f"{total:,} weights in ")


def test_a_teacher_of_another_size_than_stated_looks_wrong(cached):
    right = fits(cached)["sd15"]
    state, said = found("teacher sd15", teachers={"sd15": right | {"latent": [4, 99, 99]}})
    assert state == WRONG and "scales/paper.yaml states [4, 99, 99]" in said
    state, said = found("teacher sd15", teachers={"sd15": right | {"weights": {"unet": 7, "others": 0}}})
    assert state == WRONG and said.endswith("scales/paper.yaml states 7")


def test_a_teacher_with_another_process_looks_wrong(cached):
    index = cached / "model_index.json"
    content = json.loads(index.read_text()) | {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}
    index.write_text(json.dumps(content))
    state, said = found("teacher sd15", teachers=fits(cached))
    assert state == WRONG and "has the scheduler FlowMatchEulerDiscreteScheduler" in said


def test_half_of_a_file_looks_wrong_and_is_named(cached):
    file = next((cached / "vae").glob("*.safetensors"))
    content = file.read_bytes()
    for damaged in (content[: len(content) // 2], b"version https://git-lfs.github.com/spec/v1\n", b""):
        file.write_bytes(damaged)
        state, said = found("teacher sd15", teachers=fits(cached))
        assert state == WRONG and said.startswith(f"{file} is damaged")


def test_a_network_without_weights_is_missing_and_pickled_ones_are_not_read(cached):
    (cached / "vae/diffusion_pytorch_model.safetensors").unlink()
    state, said = found("teacher sd15", teachers=fits(cached))
    assert state == MISSING and "vae has no .safetensors" in said
    (cached / "vae/diffusion_pytorch_model.bin").write_bytes(b"")
    assert found("teacher sd15", teachers=fits(cached))[0] == UNKNOWN


def test_a_clip_that_open_clip_does_not_know_looks_wrong(empty):
    state, said = found("CLIP", evaluation={"clip": "ViT-g-14/laion2b_s12b_b42"})
    assert state == WRONG and said.endswith("did you mean 'ViT-g-14/laion2b_s12b_b42k'?")


@pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_that_was_not_fetched_is_missing(cached, part):
    shutil.rmtree(cached / part)
    state, said = found("teacher sd15", teachers=fits(cached))
    assert state == MISSING and said.endswith(f"has no {part}: fetch it again")


def test_weights_of_a_u_net_from_elsewhere_are_looked_for(cached):
    assert found("model dmd2-published")[1].startswith("`hf download tianweiy/DMD2 model/sdv1.5/laion6.25")
    model = {"dmd2-published": {"unet": str(cached / "unet/diffusion_pytorch_model.safetensors")}}
    assert found("model dmd2-published", models=model)[0] == SOUND


# Data


def laion(folder, bad: int | None = None) -> None:
    """Five files of three captions each, one of them damaged."""
    folder.mkdir(parents=True)
    for part in range(5):
        file = folder / f"part-{part}.parquet"
        captions = [f"caption {part}.{row}" for row in range(3)]
        pd.DataFrame({"TEXT": captions, "AESTHETIC_SCORE": 7.0}).to_parquet(file)
        if part == bad:
            file.write_bytes(file.read_bytes()[:100])


def prompts(path) -> tuple[str, str]:
    return found("prompts laion-aesthetics-6.25", prompts={"laion-aesthetics-6.25": {"path": str(path)}})


def test_prompts_are_counted_and_some_are_shown(empty):
    laion(empty / "laion")
    state, said = prompts(empty / "laion")
    assert state == SOUND and said.startswith("15 captions before they are filtered, fewer than the 3,001,000 pairs")
    assert said.endswith("some are 'caption 0.0', 'caption 2.0', 'caption 4.0'")
    (empty / "empty.txt").write_text("\n")
    assert prompts(empty / "empty.txt")[0] == WRONG
    (empty / "list.txt").write_text("a fox\n\na dog\n")
    assert "2 captions" in prompts(empty / "list.txt")[1]


@pytest.mark.parametrize("bad", range(5))
def test_a_damaged_part_of_the_prompts_is_named(empty, bad):
    laion(empty / "laion", bad)
    state, said = prompts(empty / "laion")
    assert state == WRONG and f"part-{bad}.parquet cannot be read" in said


def picture(path, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(path)


def test_labelled_images_need_every_class_and_whole_images(empty):
    few = {"latentlpips": {"images": "imagenet", "vgg": {"classes": 3}}}
    assert found("labelled images, train", **few)[0] == MISSING
    for name in ("n01", "n02", "n03"):
        picture(empty / f"imagenet/train/{name}/a.jpg")
    (empty / "imagenet/train/.ipynb_checkpoints").mkdir()
    state, said = found("labelled images, train", **few)
    assert state == SOUND and said == "3 classes; a.jpg 8 × 8, a.jpg 8 × 8, a.jpg 8 × 8"
    whole = (empty / "imagenet/train/n03/a.jpg").read_bytes()
    (empty / "imagenet/train/n03/a.jpg").write_bytes(whole[: len(whole) // 2])
    state, said = found("labelled images, train", **few)
    assert state == WRONG and "n03/a.jpg" in said
    shutil.rmtree(empty / "imagenet/train/n03")
    state, said = found("labelled images, train", **few)
    assert state == WRONG and said.endswith("has 2 folders of classes, `vgg.classes` is 3")


def test_judgements_are_counted(empty):
    for role in ("ref", "p0", "p1"):
        picture(empty / f"2afc/val/cnn/{role}/000000.png", 64)
    (empty / "2afc/val/cnn/judge").mkdir()
    np.save(empty / "2afc/val/cnn/judge/000000.npy", np.float32([0.5]))
    changes = {"judgements": "2afc", "calibration": {"held_out": 1}}
    state, said = found("judgements, val", latentlpips=changes)
    assert state == SOUND and "1 judgements, the first of cnn" in said
    state, said = found("judgements, val", latentlpips=changes | {"calibration": {"held_out": 2}})
    assert state == WRONG and said == "1 judgements, `calibration` takes 2"


def test_a_benchmark_has_its_images_and_enough_captions(empty):
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(3)]
    captions = [{"id": i, "image_id": i, "caption": "a fox"} for i in range(3)]
    (empty / "coco/annotations").mkdir(parents=True)
    file = empty / "coco/annotations/captions_val2014.json"
    file.write_text(json.dumps({"images": images, "annotations": captions}))
    for each in images:
        picture(empty / "coco/val2014" / each["file_name"])

    def coco(pictures: int) -> tuple[str, str]:
        return found("benchmark coco2014", benchmarks={"coco2014": {"source": "coco/val2014", "pictures": pictures}})

    assert coco(3) == (SOUND, "3 images; 0.jpg 8 × 8, 1.jpg 8 × 8, 2.jpg 8 × 8")
    assert coco(4) == (WRONG, "only 3 images have captions, 4 prompts were requested: request fewer")
    (empty / "coco/val2014/2.jpg").unlink()
    assert coco(3)[0] == WRONG and "lacks 1 of the 3 images" in coco(3)[1]


def test_a_public_file_that_is_there_has_its_checksum(empty):
    (empty / "data").mkdir()
    (empty / "data/cifar-10-python.tar.gz").write_bytes(b"a page that says: log in")
    state, said = found("benchmark cifar10")
    assert state == WRONG and "is not the official archive" in said
    (empty / "data/edm-cifar10-32x32-uncond-ve.pkl").touch()
    assert found("teacher edm-cifar10") == (WRONG, "the file is empty: delete it")


def test_weights_named_after_their_checksum_are_compared_with_it(empty):
    torch.save({"weight": torch.zeros(2, 3)}, empty / "weights.pth")
    content = (empty / "weights.pth").read_bytes()
    for digits, state in {sha256(content).hexdigest()[:8]: SOUND, "01234567": WRONG}.items():
        (empty / f"vgg16-{digits}.pth").write_bytes(content)
        assert found("LPIPS pixel", latentlpips={"metrics": {"pixel": f"vgg16-{digits}.pth"}})[0] == state
    (empty / "page.pth").write_text("<html>log in</html>")
    assert found("LPIPS pixel", latentlpips={"metrics": {"pixel": "page.pth"}})[0] == WRONG
    save_file({"weight": torch.zeros(2, 3)}, empty / "vgg.safetensors")
    metrics = {"latentlpips": {"metrics": {"pixel": "vgg.safetensors"}}}
    assert found("LPIPS pixel", **metrics) == (SOUND, "6 weights")


def test_what_a_scale_has_not_is_missing_only_where_a_dataset_needs_it(empty):
    without = {"laion-aesthetics-6.0": None, "unused": None}
    state, said = found("prompts laion-aesthetics-6.0", prompts=without)
    assert state == MISSING and "set `prompts.laion-aesthetics-6.0` in scales/paper.yaml" in said
    subjects = [check[0] for check in doctor.checks(study("paper", prompts=without), 0, empty)]
    assert "prompts unused" not in subjects


def test_a_disk_that_cannot_be_written_looks_wrong(empty):
    (empty / "file").touch()
    (check,) = [each for each in doctor.checks(study("smoke"), 0, empty / "file/work") if each[0] == "disk"]
    (finding,) = findings([check])
    assert finding.state == WRONG and "set `work` in config.yaml" in finding.said


def test_the_page_shows_the_worst_first_and_one_row_for_each_finding():
    rows = [Finding(SOUND, "b", "there", "two | lines\nof it"), Finding(MISSING, "a", "here", "fetch it")]
    page = markdown(study("smoke"), rows)
    assert page.startswith("# What scale smoke needs\n\n**1 missing, 0 looking wrong.**")
    assert page.index("## Missing") < page.index("| a | `here` | fetch it |") < page.index("## Sound")
    assert r"| b | `there` | two \| lines of it |" in page and "## Not checked" not in page
    assert "Nothing is missing, and nothing looks wrong." in markdown(study("smoke"), rows[:1])
