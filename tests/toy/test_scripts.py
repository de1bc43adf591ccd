"""The scripts of the toy networks: what each trains, with which options, and what is written and shipped."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from diffusion2gan.images import to_tensor
from diffusion2gan.metrics.clip_score import CLIP
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.pixel.edm import EDM
from diffusion2gan.sampling.baselines import Baseline
from diffusion2gan.toy import card, quality
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.collages import Collages
from diffusion2gan.toy.denoising import encode_scenes
from diffusion2gan.toy.openmoji import ATTRIBUTION, Scenes, prompts
from scripts.toy import (
    ship_assets,
    ship_edm,
    ship_pixart,
    train_clip,
    train_edm,
    train_pixart,
    train_teacher,
    train_vae,
)

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


def seeded(make):
    """What a network is when it is the first thing made with the seed."""
    torch.manual_seed(SEED)
    return make().state_dict()


def test_the_vae_learns_scenes_and_collages_and_is_saved_with_the_factor_of_unit_variance(trained, monkeypatch):
    monkeypatch.setattr(train_vae, "SCENES_FOR_SCALE", 3)
    training, compared, out = trained(train_vae, train_vae.Arguments, scenes=8)
    assert compared == ["scenes"] and training.seed == SEED
    scenes = np.stack([Scenes("all", SEED, toy.IMAGE_SIZE)[i].image for i in range(4)])
    assert len(training.images) == 8 and np.array_equal(training.images[:4], scenes)
    assert np.array_equal(training.images[4:], [Collages(SEED, toy.IMAGE_SIZE).image(i) for i in range(4)])
    vae = AutoencoderKL.from_pretrained(out)
    assert same(vae.state_dict(), seeded(toy.vae))
    with torch.no_grad():
        latents = vae.encode(to_tensor(scenes[:3])).latent_dist.mode()
    assert vae.config.scaling_factor == pytest.approx(1 / latents.std().item(), abs=1.1e-5)
    assert vae.config.scaling_factor == round(vae.config.scaling_factor, 5)


def test_the_clip_is_saved_as_open_clip_loads_it(trained):
    training, compared, out = trained(train_clip, train_clip.TrainingArguments)
    assert compared == []
    assert np.array_equal(training.scenes[0].image, Scenes("all", SEED, toy.IMAGE_SIZE)[0].image)
    assert len(training.scenes.prompts) == len(prompts("all"))
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


@pytest.mark.parametrize("kind", ["sd", "xl", "init", "init-xl"])
def test_a_teacher_is_trained_on_its_scenes_and_saved_with_its_vae(trained, teacher_folder, kind):
    xl, begun = "xl" in kind, {"init": teacher_folder, "init-xl": ASSETS / "teacher-xl"}.get(kind)
    options = {"xl": xl, "init": begun}
    training, compared, out = trained(
        train_teacher, train_teacher.Arguments, vae=ASSETS / "teacher/vae", scenes=4, **options
    )
    assert compared == ["scenes", "init", "xl"] and training.seed == SEED
    tokenizer, latents, tokens = encoded(ASSETS / "teacher/vae", 4)
    assert torch.equal(training.latents, latents) and torch.equal(training.tokens, tokens)
    assert torch.equal(training.empty, toy.tokenize(tokenizer, [""]))
    parts = training.modules["teacher"]
    saved = toy.load_pipeline(out)
    assert isinstance(saved, StableDiffusionXLPipeline) == xl
    assert set(parts) == {"unet", "text_encoder"} | ({"text_encoder_2"} if xl else set())
    for name, part in parts.items():
        assert type(getattr(saved, name)) is type(part) and not part.training
        assert same(getattr(saved, name).state_dict(), part.state_dict())
    assert same(saved.vae.state_dict(), toy.load_vae(ASSETS / "teacher/vae").state_dict())
    if begun:
        pipeline = toy.load_pipeline(begun)
        assert all(same(part.state_dict(), getattr(pipeline, name).state_dict()) for name, part in parts.items())
    assert saved.tokenizer(["a fox"]).input_ids == tokenizer(["a fox"]).input_ids
    if xl:
        assert saved.tokenizer_2(["a fox"]).input_ids == tokenizer(["a fox"]).input_ids
    if kind == "sd":

        def make():
            return torch.nn.ModuleDict({"unet": toy.unet(), "text_encoder": toy.text_encoder(tokenizer)})

        assert same(parts.state_dict(), seeded(make))


def test_a_pixart_is_saved_as_the_baselines_load_it(trained):
    training, compared, out = trained(train_pixart, train_pixart.Arguments, vae=ASSETS / "teacher/vae", scenes=4)
    assert compared == ["scenes"] and training.seed == SEED
    tokenizer, latents, tokens = encoded(ASSETS / "teacher/vae", 4)
    assert torch.equal(training.latents, latents) and torch.equal(training.tokens, tokens)
    parts = training.modules["teacher"]

    def make():
        return torch.nn.ModuleDict({"transformer": toy.transformer(), "text_encoder": toy.t5_encoder(tokenizer)})

    assert same(parts.state_dict(), seeded(make))
    baseline = Baseline(str(out), steps=2, guidance=4.5)
    for name, part in parts.items():
        assert not part.training and same(getattr(baseline.pipeline, name).state_dict(), part.state_dict())
    assert same(baseline.pipeline.vae.state_dict(), toy.load_vae(ASSETS / "teacher/vae").state_dict())
    one, other = baseline.sample([1, 2], ["a fox", "a violin on a purple background"])
    assert one.shape == (3, toy.IMAGE_SIZE, toy.IMAGE_SIZE) and not torch.equal(one, other)


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
    teachers = {"teacher": ASSETS / "teacher", "teacher_xl": ASSETS / "teacher-xl"}
    for space, channels in (("latent", 4), ("pixel", 3)):
        torch.manual_seed(channels)
        VGG(space, channels, 7, width=0.05).save(tmp_path / f"vgg-{space}.safetensors")
        accuracy = {"top1": {"latent": 0.5, "pixel": 0.75}[space]}
        (tmp_path / f"vgg-{space}.json").write_text(json.dumps({"metrics": accuracy}))
    asked = []

    def measure(teachers, clip, spaces, count, steps):
        known = {name: (teacher.path, teacher.unet.dtype, guidance) for name, (teacher, guidance) in teachers.items()}
        asked.append(
            (known, clip.spec, spaces[""].network, spaces[""].side, spaces["second_"] == clip.images, count, steps)
        )
        image = np.zeros((4, 4, 3), np.uint8)
        return {"scenes": count, "teacher_fid": 12.34567}, {"teacher": [image] * 60, "teacher_xl": [image + 255] * 60}

    monkeypatch.setattr(quality, "measure", measure)
    sheets, sheet = [], ship_assets.sheet
    monkeypatch.setattr(ship_assets, "sheet", lambda *given: sheets.append(given) or sheet(*given))
    out = tmp_path / "deep" / "toy"
    args = {f"vgg_{space}": tmp_path / f"vgg-{space}.safetensors" for space in ("latent", "pixel")}
    args |= {f"vgg_{space}_metrics": tmp_path / f"vgg-{space}.json" for space in ("latent", "pixel")}
    args |= {"steps": 3, "guidance": 2.5, "guidance_xl": 6.5, "feature_side": 96, "clip": ASSETS / "clip", "count": 60}
    for _ in range(2):  # again over what is there
        ship_assets.main(ship_assets.Arguments(**teachers, out=out, **args))

    for name, folder in (("teacher", ASSETS / "teacher"), ("teacher-xl", ASSETS / "teacher-xl")):
        for file in ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
            assert halved(folder / file, out / name / file)
            assert {t.dtype for t in load_file(out / name / file).values()} == {torch.float16}
    assert (out / "teacher-xl" / "vae").readlink() == Path("../teacher/vae")
    name = "open_clip_model.safetensors"
    assert halved(ASSETS / "clip" / name, out / "clip" / name)
    assert {p.name for p in (out / "clip").iterdir()} == {p.name for p in (ASSETS / "clip").iterdir()}
    for space, channels in (("latent", 4), ("pixel", 3)):
        trained, shipped = (VGG.load(folder / f"vgg-{space}.safetensors") for folder in (tmp_path, out))
        x = torch.randn(2, channels, 16, 16)
        features = zip(trained.eval().features(x), shipped.features(x), strict=True)
        assert all(torch.allclose(ours, theirs, atol=0.02, rtol=0.01) for ours, theirs in features)
        assert shipped.classifier is None
        assert {t.dtype for t in load_file(out / f"vgg-{space}.safetensors").values()} == {torch.float16}

    guidances = {"teacher": ("teacher", 2.5), "teacher_xl": ("teacher-xl", 6.5)}
    known = {name: (str(out / folder), torch.float32, scale) for name, (folder, scale) in guidances.items()}
    assert asked[-1] == (known, f"local-dir:{out / 'clip'}", "efficientnet-lite0", 96, True, 60, 3)
    numbers = {"scenes": 60, "teacher_fid": 12.34567, "vgg_latent_top1": 0.5, "vgg_pixel_top1": 0.75}
    assert json.loads((out / "README.json").read_text()) == numbers
    text = (out / "README.md").read_text()
    assert text.startswith(card.ASSETS) and "| teacher_fid | 12.35 |" in text
    assert text.endswith("![samples of the toy teachers](samples.png)\n")
    assert described(out / "samples.png")["Copyright"] == ATTRIBUTION
    shown, *shape = sheets[-1]
    assert shape == [8, 12] and [image.max() for image in shown] == [0] * 48 + [255] * 48
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
    edm, out = ASSETS / "edm", tmp_path / "shipped"
    ship_edm.main(ship_edm.Arguments(edm=edm, out=out, steps=5, count=130))

    name = "diffusion_pytorch_model.safetensors"
    assert halved(edm / name, out / name) and {t.dtype for t in load_file(out / name).values()} == {torch.float16}
    assert asked["sample"] == (str(out), [""] * 130, 5, 1.0, "heun")
    assert asked["measure"] == (list(range(130)), "efficientnet-lite0", quality.PIXEL_FEATURES)
    weights = sum(weight.numel() for weight in EDM.from_pretrained(out).parameters())
    assert json.loads((out / "README.json").read_text()) == {
        "weights": weights, "heun_steps": 5, "evaluations": 9, "teacher_fid": 7.5
    }  # fmt: skip
    text = (out / "README.md").read_text()
    assert text.startswith(card.EDM) and text.endswith("![samples](samples.png)\n")
    assert described(out / "samples.png")["Copyright"] == ATTRIBUTION and sheets == [(96, 8, 12)]
    assert described(out / "samples.png")["Description"] == "Samples of the toy EDM teacher"


def test_the_pixart_is_shipped_with_the_numbers_of_its_shipped_weights(tmp_path, monkeypatch):
    tokenizer = toy.tokenizer([prompt.caption for prompt in prompts("all")])
    parts = toy.load_vae(ASSETS / "teacher/vae"), tokenizer, toy.t5_encoder(tokenizer), toy.transformer()
    toy.pixart_pipeline(*parts).save_pretrained(tmp_path / "trained")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/teacher").symlink_to(ASSETS / "teacher")
    asked = []

    def compare(images, clip, spaces):
        (samples,) = images.values()
        asked.append((len(samples), clip.spec, spaces[""].network, spaces[""].side, spaces["second_"] == clip.images))
        return {"pixart_fid": 7.5}

    monkeypatch.setattr(quality, "compare", compare)
    out, clip = tmp_path / "toy/pixart", ASSETS / "clip"
    args = {"pixart": tmp_path / "trained", "clip": clip, "steps": 2, "guidance": 4.5, "feature_side": 96, "count": 96}
    for _ in range(2):  # again over what is there
        ship_pixart.main(ship_pixart.Arguments(**args, out=out))
    name = "transformer/diffusion_pytorch_model.safetensors"
    assert halved(tmp_path / "trained" / name, out / name)
    assert (out / "vae").readlink() == Path("../teacher/vae")
    assert asked[-1] == (96, f"local-dir:{clip}", "efficientnet-lite0", 96, True)
    assert json.loads((out / "README.json").read_text()) == {
        "scenes": 96, "steps": 2, "guidance": 4.5, "pixart_fid": 7.5
    }  # fmt: skip
    assert (out / "README.md").read_text().startswith(card.PIXART)
    assert described(out / "samples.png")["Copyright"] == ATTRIBUTION
    one, other = Baseline(str(out), steps=2, guidance=4.5).sample([1, 2], quality.captions(2))
    assert not torch.equal(one, other)
