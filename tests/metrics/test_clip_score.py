import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTokenizer

from diffusion2gan.errors import UserError
from diffusion2gan.metrics.clip_score import CLIP, clip_score
from diffusion2gan.metrics.zero_shot import ZeroShot, class_vectors
from diffusion2gan.sampling.folder import ImageFiles
from diffusion2gan.toy import openmoji
from diffusion2gan.toy.source import OpenMoji

CPU = torch.device("cpu")
WORDS = ["a</w>", "red</w>", "blue</w>", "fox</w>", "owl</w>"]
CAPTIONS = ["a red fox", "a blue owl", "a owl"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A random CLIP of two tiny towers in an open_clip folder, whose tokenizer knows five words."""
    folder = tmp_path_factory.mktemp("clip")
    letters = sorted(set("".join(WORDS)) - set("</>")) + [f"{letter}</w>" for letter in "adelwx"]
    merges = [("r", "e"), ("re", "d</w>"), ("b", "l"), ("bl", "u"), ("blu", "e</w>"), ("f", "o"), ("fo", "x</w>")]
    merges += [("o", "w"), ("ow", "l</w>")]
    tokens = dict.fromkeys([*letters, *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"])
    vocabulary = {token: i for i, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=8).save_pretrained(folder)
    text = {"context_length": 8, "vocab_size": len(vocabulary), "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
    model_cfg = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text | {"hf_tokenizer_name": "."}}
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess}))
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture
def files(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{i:05d}.png")
    return sorted(tmp_path.iterdir())


def test_equals_the_cosines_computed_by_hand(spec, files):
    model = open_clip.create_model(spec).eval()
    tokenizer = open_clip.get_tokenizer(spec)
    cosines = []
    for file, caption in zip(files, CAPTIONS, strict=True):
        small = np.asarray(Image.open(file).resize((16, 16), Image.Resampling.BICUBIC), dtype=np.float32)
        pixels = torch.from_numpy((small / 255 - 0.5) / 0.25).permute(2, 0, 1)[None]
        with torch.no_grad():
            u, v = model.encode_image(pixels)[0].numpy(), model.encode_text(tokenizer(["an " + caption]))[0].numpy()
        cosines.append(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))
    clip = CLIP(spec, CPU, prefix="an ")
    assert clip_score(clip.images(ImageFiles(files, 24)), clip.captions(CAPTIONS)) == pytest.approx(
        np.mean(cosines), abs=1e-6
    )
    assert max(cosines) - min(cosines) > 0.01  # so that a caption at the wrong picture would show


def test_vectors_that_are_not_finite_are_refused(spec, files):
    clip = CLIP(spec, torch.device("cpu"))
    for parameter in clip.model.parameters():
        parameter.fill_(torch.nan)
    with pytest.raises(UserError, match="the vector of image 0 has values that are NaN or infinite"):
        clip.embed(ImageFiles(files, 24))
    with pytest.raises(UserError, match="the vector of caption 0 has values that are NaN or infinite"):
        clip.captions(["a fox"])


def test_more_than_a_batch_comes_back_whole_and_in_order(spec, files, capsys):
    clip = CLIP(spec, CPU)
    vectors = clip.captions(CAPTIONS * 40), clip.images(ImageFiles(files * 20, 24))
    assert capsys.readouterr().err.startswith("CLIP of the images: 2/2, ")
    once = clip.captions(CAPTIONS), clip.images(ImageFiles(files, 24))
    for found, few in zip(vectors, once, strict=True):
        torch.testing.assert_close(found, few.repeat(len(found) // 3, 1), atol=1e-5, rtol=0)
    assert [len(each) for each in vectors] == [120, 60]


def test_the_tokenizer_is_the_folders_own(spec):
    tokens = CLIP(spec, CPU).tokenizer(["a red fox"])
    assert (tokens != tokens[0, -1]).sum() == 4  # start and three words, then the end and padding


def test_a_class_is_the_mean_of_its_captions():
    vectors = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    means = [vectors[[0, 3]].numpy().mean(axis=0), vectors[[1, 2, 4]].numpy().mean(axis=0)]
    expected = np.stack([mean / np.linalg.norm(mean) for mean in means])
    np.testing.assert_allclose(class_vectors(vectors, [0, 1, 1, 0, 1]), expected, atol=1e-6)


class Oracle(CLIP):
    """A CLIP that reads: caption → its emoji and its ground, each as one axis of the vector."""

    def __init__(self):
        self.scenes = {prompt.caption: prompt for prompt in openmoji.prompts("all")}

    def captions(self, captions):
        vectors = torch.zeros(len(captions), len(openmoji.EMOJI) + len(openmoji.GROUNDS))
        for row, caption in enumerate(captions):
            scene = self.scenes[caption]
            vectors[row, scene.emoji] = vectors[row, len(openmoji.EMOJI) + scene.ground] = 0.5**0.5
        return vectors


def test_each_label_has_its_own_accuracy():
    shown = [prompt.caption for prompt in openmoji.prompts("benchmark")[:8]]
    said = [prompt.caption for prompt in openmoji.prompts("all") if prompt.emoji == 0 and prompt.ground < 4]
    said += shown[4:]
    clip, scenes = Oracle(), Oracle().scenes
    labels = {label: [getattr(scenes[caption], label) for caption in said] for label in ("emoji", "ground")}
    top1 = ZeroShot(clip, OpenMoji().classes()).top1(clip.captions(shown), labels)
    pairs = [(scenes[a], scenes[b]) for a, b in zip(shown, said, strict=True)]
    assert top1["emoji_top1"] == np.mean([a.emoji == b.emoji for a, b in pairs])
    assert top1["ground_top1"] == np.mean([a.ground == b.ground for a, b in pairs])
    assert top1["emoji_top1"] != top1["ground_top1"]


def test_a_class_of_zero_shot_is_the_mean_of_its_own_captions(spec):
    """Two labels share the captions, in another order: every caption counts for its class of each."""
    clip = CLIP(spec, CPU)
    classes = {"animal": [["a red fox", "a blue fox"], ["a red owl", "a blue owl"]]}
    classes["colour"] = [["a blue owl", "a blue fox"], ["a red fox", "a red owl"]]
    found = ZeroShot(clip, classes).vectors
    for label, of_label in classes.items():
        means = np.stack([clip.captions(captions).numpy().mean(axis=0) for captions in of_label])
        expected = means / np.linalg.norm(means, axis=1, keepdims=True)
        np.testing.assert_allclose(found[label], expected, atol=1e-6)


@pytest.mark.parametrize("spec", ["local-dir:nowhere", "ViT-B-32", "ViT-B-32/nonesuch", "NoSuchModel/openai"])
def test_what_cannot_be_loaded_is_named(spec):
    with pytest.raises(UserError, match=f"^the CLIP '{spec}' cannot be loaded ") as error:
        CLIP(spec, CPU)
    assert str(error.value).endswith(
        "): use local-dir:FOLDER or MODEL/PRETRAINED, for example ViT-g-14/laion2b_s12b_b42k"
    )


def test_a_folder_without_weights_is_not_drawn_at_random(spec, tmp_path):
    from shutil import copytree, ignore_patterns

    copytree(spec.removeprefix("local-dir:"), tmp_path / "clip", ignore=ignore_patterns("*.safetensors"))
    (tmp_path / "clip" / "open_clip_model.safetensors").unlink(missing_ok=True)
    with pytest.raises(UserError, match="could not be loaded|cannot be loaded"):
        CLIP(f"local-dir:{tmp_path / 'clip'}", CPU)


def test_the_weights_of_a_model_may_be_a_file_in_folders(monkeypatch):
    asked = []

    def create(name, pretrained, device):
        asked.append((name, pretrained, device))
        return torch.nn.Linear(1, 1), None

    monkeypatch.setattr("open_clip.create_model_from_pretrained", create)
    monkeypatch.setattr("open_clip.get_tokenizer", lambda name: name)
    made = CLIP("ViT-B-32/weights/of/mine.pt", CPU)
    assert asked == [("ViT-B-32", "weights/of/mine.pt", CPU)] and made.tokenizer == "ViT-B-32"
    assert CLIP("local-dir:a/b", CPU).tokenizer == "local-dir:a/b"
    assert asked[1][:2] == ("local-dir:a/b", None)
