"""The scripts of the toy networks: what each trains, with which options, and what is written and shipped."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusion2gan.images import to_tensor
from diffusion2gan.metrics.clip_score import CLIP
from diffusion2gan.pixel.edm import EDM
from diffusion2gan.toy import card, quality
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.denoising import encode_scenes
from diffusion2gan.toy.openmoji import ATTRIBUTION, Scenes, prompts
from scripts.toy import ship_assets, ship_edm, train_clip, train_edm, train_teacher, train_vae

ASSETS = Path(__file__).parents[2] / "assets" / "toy"
RATE, BATCH, SEED = 3e-4, 2, 5


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Runs a script up to its training: returns the training, the options compared on resume, and the output folder."""

    def run(script, kind, **options):
        given = {"iterations": 3, "batch_size": BATCH, "learning_rate": RATE, "seed": SEED} | options
        args = kind(checkpoints=tmp_path / "checkpoints", out=tmp_path / "out", **given)
        caught = []
        monkeypatch.setattr(
            script, "fit", lambda training, fitted, compared: caught.append((training, fitted, compared))
        )
        torch.manual_seed(99)
        script.main(args)
        ((training, fitted, compared),) = caught
        assert fitted is args and training.batch_size == BATCH
        (optimizer,) = training.optimizers.values()
        assert optimizer.param_groups[0]["lr"] == RATE
        return training, compared, args.out

    return run


def same(ours, theirs):
    """Whether two state dicts are equal, also in their precision."""
    alike = (torch.equal(each, theirs[name]) and each.dtype == theirs[name].dtype for name, each in ours.items())
    return ours.keys() == theirs.keys() and all(alike)


def scenes_of(training, count):
    """The first images of a training's scenes, and whether they are those of all scenes of its seed."""
    images = [training.scenes[i].image for i in range(count)]
    wanted = Scenes("all", SEED, toy.IMAGE_SIZE)
    assert len(training.scenes.prompts) == len(prompts("all"))
    assert all(np.array_equal(image, wanted[i].image) for i, image in enumerate(images))
    return images


def seeded(make):
    """What a network is when it is the first thing made with the seed."""
    torch.manual_seed(SEED)
    return make().state_dict()


@pytest.mark.parametrize("autocast", [False, True])
def test_the_vae_is_saved_with_the_factor_that_gives_its_latents_unit_variance(trained, monkeypatch, autocast):
    monkeypatch.setattr(train_vae, "SCENES_FOR_SCALE", 6)
    training, compared, out = trained(train_vae, train_vae.Arguments, autocast=autocast)
    assert compared == ["autocast"] and training.autocast == autocast
    vae = AutoencoderKL.from_pretrained(out)
    assert same(vae.state_dict(), seeded(toy.vae))
    with torch.no_grad():
        latents = vae.encode(to_tensor(scenes_of(training, 6))).latent_dist.mode()
    assert vae.config.scaling_factor == pytest.approx(1 / latents.std().item(), abs=1.1e-5)
    assert vae.config.scaling_factor == round(vae.config.scaling_factor, 5)


def test_the_clip_is_saved_as_open_clip_loads_it(trained):
    training, compared, out = trained(train_clip, train_clip.TrainingArguments)
    assert compared == []
    scenes_of(training, 1)
    clip = CLIP(f"local-dir:{out}", torch.device("cpu"))
    assert same(clip.model.state_dict(), training.modules["clip"].state_dict())
    caption = prompts("all")[0].caption
    assert toy.tokenize(training.tokenizer, [caption]).tolist() == clip.tokenizer([caption]).tolist()
    words = training.tokenizer.tokenize("violin purple")
    assert words == ["violin</w>", "purple</w>"]  # every word of the captions is one token


def test_the_edm_teacher_learns_from_the_images_of_its_options(trained):
    training, compared, out = trained(train_edm, train_edm.Arguments, images="openmoji", scenes=3)
    assert compared == ["images", "scenes"] and training.seed == SEED
    wanted = to_tensor([Scenes("all", SEED, 32)[i].image for i in range(3)])
    assert training.images.dtype == torch.float16 and torch.equal(training.images, wanted.half())
    assert same(EDM.from_pretrained(out).state_dict(), seeded(toy.edm))


def encoded(folder, count):
    tokenizer = toy.tokenizer([prompt.caption for prompt in prompts("all")])
    vae = toy.load_vae(folder)
    return tokenizer, *encode_scenes(vae, tokenizer, Scenes("all", SEED, toy.IMAGE_SIZE), count)


@pytest.mark.parametrize("kind", ["sd", "xl", "init"])
def test_a_teacher_is_trained_on_its_scenes_and_saved_with_its_vae(trained, teacher_folder, kind):
    options = {"xl": kind == "xl", "init": teacher_folder if kind == "init" else None}
    training, compared, out = trained(
        train_teacher, train_teacher.Arguments, vae=ASSETS / "teacher/vae", scenes=4, **options
    )
    assert compared == ["scenes", "init", "xl"] and training.seed == SEED
    tokenizer, latents, tokens = encoded(ASSETS / "teacher/vae", 4)
    assert torch.equal(training.latents, latents) and torch.equal(training.tokens, tokens)
    assert torch.equal(training.empty, toy.tokenize(tokenizer, [""]))
    parts = training.modules["teacher"]
    saved = StableDiffusionXLPipeline.from_pretrained(out) if kind == "xl" else toy.load_pipeline(out)
    assert set(parts) == {"unet", "text_encoder"} | ({"text_encoder_2"} if kind == "xl" else set())
    for name, part in parts.items():
        assert type(getattr(saved, name)) is type(part) and not part.training
        assert same(getattr(saved, name).state_dict(), part.state_dict())
    assert same(saved.vae.state_dict(), toy.load_vae(ASSETS / "teacher/vae").state_dict())
    begun = toy.load_pipeline(teacher_folder).unet.state_dict()
    assert (kind == "init") == same(parts["unet"].state_dict(), begun)
    assert saved.tokenizer(["a fox"]).input_ids == tokenizer(["a fox"]).input_ids
    if kind == "xl":
        assert saved.tokenizer_2(["a fox"]).input_ids == tokenizer(["a fox"]).input_ids
    if kind == "sd":

        def make():
            encoder, unet = toy.text_encoder(tokenizer), toy.unet()
            return torch.nn.ModuleDict({"unet": unet, "text_encoder": encoder})

        assert same(parts.state_dict(), seeded(make))


def with_history(folder, copied=None):
    """A folder of a trained network, with its history."""
    if copied:
        shutil.copytree(copied, folder)
    folder.mkdir(exist_ok=True)
    steps = pd.DataFrame({"step": range(60), "loss": [100.0] * 10 + [0.25] * 50})
    steps.to_csv(folder / "history.csv", index=False)
    return folder


def halved(source, target):
    """Whether a file holds the tensors of another, floats in half precision, and the same metadata."""
    with safe_open(source, "pt") as one, safe_open(target, "pt") as other:
        assert one.metadata() == other.metadata()
    ours = {name: t.half() if t.is_floating_point() else t for name, t in load_file(source).items()}
    return same(ours, load_file(target))


def described(path):
    """The texts in a picture's metadata."""
    with Image.open(path) as png:
        return png.text


def test_the_assets_are_shipped_in_half_precision_with_the_numbers_that_were_measured_on_them(tmp_path, monkeypatch):
    clip = with_history(tmp_path / "clip", ASSETS / "clip")
    whole = {"weight": torch.linspace(0, 1, 7), "count": torch.arange(3)}
    for space in ("latent", "pixel"):
        save_file(whole, tmp_path / f"vgg-{space}.safetensors", metadata={"settings": space})
        accuracy = {"top1": {"latent": 0.5, "pixel": 0.75}[space]}
        (tmp_path / f"vgg-{space}.json").write_text(json.dumps({"metrics": accuracy}))
    asked = {}

    def measure(teacher, clip, features, count, steps, guidance):
        asked["measure"] = (teacher.path, teacher.unet.dtype, clip.spec, features.network, count, steps, guidance)
        return {"scenes": count, "teacher_fid": 12.34567}

    def recognised(teacher, clip, steps, guidance):
        asked["recognised"] = (teacher.path, clip.spec, steps, guidance)
        return {"emoji_recognised": "7 of 128"}

    def one_of_each(teacher, steps, guidance, count):
        asked["one_of_each"] = (teacher.path, steps, guidance, count)
        return np.zeros((count, 4, 4, 3), np.uint8)

    for function in (measure, recognised, one_of_each):
        monkeypatch.setattr(quality, function.__name__, function)
    figures, drawn = [], ship_assets.losses_figure
    monkeypatch.setattr(ship_assets, "losses_figure", lambda histories: figures.append(histories) or drawn(histories))
    shapes, sheet = [], ship_assets.sheet
    monkeypatch.setattr(ship_assets, "sheet", lambda *given: shapes.append(given[1:]) or sheet(*given))
    out = tmp_path / "deep" / "toy"
    args = {f"vgg_{space}": tmp_path / f"vgg-{space}.safetensors" for space in ("latent", "pixel")}
    args |= {f"vgg_{space}_metrics": tmp_path / f"vgg-{space}.json" for space in ("latent", "pixel")}
    vae, teacher = with_history(tmp_path / "vae"), with_history(tmp_path / "teacher", ASSETS / "teacher")
    for _ in range(2):  # again over what is there
        ship_assets.main(
            ship_assets.Arguments(vae=vae, teacher=teacher, clip=clip, out=out, count=9, steps=3, guidance=2.5, **args)
        )

    for file in ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
        assert halved(ASSETS / "teacher" / file, out / "teacher" / file)
        assert {t.dtype for t in load_file(out / "teacher" / file).values()} == {torch.float16}
    name = "open_clip_model.safetensors"
    assert halved(clip / name, out / "clip" / name)
    assert {p.name for p in (out / "clip").iterdir()} == {p.name for p in (ASSETS / "clip").iterdir()}
    for space in ("latent", "pixel"):
        assert halved(args[f"vgg_{space}"], out / f"vgg-{space}.safetensors")

    shipped, spec = str(out / "teacher"), f"local-dir:{out / 'clip'}"
    assert asked["measure"] == (shipped, torch.float32, spec, "efficientnet-lite0", 9, 3, 2.5)
    assert asked["recognised"] == (shipped, spec, 3, 2.5) and asked["one_of_each"] == (shipped, 3, 2.5, 128)
    numbers = {
        "scenes": 9, "teacher_fid": 12.34567, "emoji_recognised": "7 of 128", "vgg_latent_top1": 0.5,
        "vgg_pixel_top1": 0.75,
    }  # fmt: skip
    assert json.loads((out / "README.json").read_text()) == numbers
    text = (out / "README.md").read_text()
    assert text.startswith(card.ASSETS) and "| teacher_fid | 12.35 |" in text
    assert text.endswith("![one sample of each emoji](samples.png)\n\n![training losses](losses.png)\n")
    assert described(out / "samples.png")["Copyright"] == ATTRIBUTION and shapes[-1] == (8, 16)
    assert described(out / "samples.png")["Description"] == "One sample of each emoji by the toy teacher"
    assert described(out / "losses.png")["Description"] == "Training losses of the toy assets"
    assert list(figures[-1]) == ["vae", "teacher", "clip"] and all(len(each) == 60 for each in figures[-1].values())
    assert not list(out.rglob("*.pdf")) and not list(out.rglob("*.csv"))


def test_the_edm_teacher_is_shipped_with_the_numbers_of_its_shipped_weights(tmp_path, monkeypatch):
    asked = {}

    def sample(teacher, captions, steps, guidance, solver):
        asked["sample"] = (teacher.path, captions, steps, guidance, solver)
        return np.arange(len(captions), dtype=np.uint8)[:, None, None, None] + np.zeros((1, 32, 32, 3), np.uint8)

    def measure_pixels(images, features):
        asked["measure"] = (images[:, 0, 0, 0].tolist(), features.network, features.side)
        return {"teacher_fid": 7.5}

    monkeypatch.setattr(quality, "sample", sample)
    monkeypatch.setattr(quality, "measure_pixels", measure_pixels)
    sheets, sheet = [], ship_edm.sheet
    monkeypatch.setattr(ship_edm, "sheet", lambda *given: sheets.append((len(given[0]), *given[1:])) or sheet(*given))
    figures, drawn = [], ship_edm.losses_figure
    monkeypatch.setattr(ship_edm, "losses_figure", lambda histories: figures.append(histories) or drawn(histories))
    edm, out = with_history(tmp_path / "edm", ASSETS / "edm"), tmp_path / "shipped"
    ship_edm.main(ship_edm.Arguments(edm=edm, out=out, steps=5, count=130))

    name = "diffusion_pytorch_model.safetensors"
    assert halved(edm / name, out / name) and {t.dtype for t in load_file(out / name).values()} == {torch.float16}
    assert asked["sample"] == (str(out), [""] * 130, 5, 1.0, "heun")
    assert asked["measure"] == (list(range(130)), "efficientnet-lite0", quality.PIXEL_FEATURES)
    weights = sum(weight.numel() for weight in EDM.from_pretrained(out).parameters())
    assert json.loads((out / "README.json").read_text()) == {
        "weights": weights, "training_iterations": 60, "training_loss": 0.25, "heun_steps": 5, "evaluations": 9,
        "teacher_fid": 7.5,
    }  # fmt: skip
    text = (out / "README.md").read_text()
    assert text.startswith(card.EDM) and text.endswith("![samples](samples.png)\n\n![training loss](losses.png)\n")
    assert described(out / "samples.png")["Copyright"] == ATTRIBUTION and sheets == [(128, 8, 16)]
    assert described(out / "samples.png")["Description"] == "Samples of the toy EDM teacher"
    assert described(out / "losses.png")["Description"] == "Training loss of the toy EDM teacher"
    assert list(figures[-1]) == ["edm"] and len(figures[-1]["edm"]) == 60 and not list(out.rglob("*.pdf"))
