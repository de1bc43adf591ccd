"""A pipeline has all of its weights, from safetensors or from pickles of tensors alone."""

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.pipelines import load_network
from diffusion2gan.sampling.baselines import Baseline
from diffusion2gan.teacher import Teacher
from diffusion2gan.weights import POINTER

UNET, VAE, TEXT = "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"

EMBEDDINGS = "embeddings.token_embedding.weight"


@pytest.fixture
def folder(small_teacher_folder, tmp_path):
    """A teacher to break."""
    return shutil.copytree(small_teacher_folder, tmp_path / "teacher")


class Touches:
    """Makes a file when it is unpickled as Python's pickle does."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def complaint(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as said:
        call(*arguments, **options)
    assert "\n" not in str(said.value)
    return str(said.value)


def change(file, **weights):
    """Replace weights in a file; None removes one."""
    found = load_file(file) | weights
    save_file({name: each for name, each in found.items() if each is not None}, file, {"format": "pt"})


@pytest.mark.parametrize("name", [UNET, VAE, TEXT])
def test_a_network_with_a_missing_unknown_misshapen_or_infinite_weight_is_refused(folder, capfd, name):
    file = folder / f"{name}.safetensors"
    whole, key = file.read_bytes(), sorted(load_file(file))[5]
    infinite = torch.full_like(load_file(file)[key], float("inf"))
    mistakes = [
        ({key: None}, f"lacks {key}"),
        ({"more.weight": torch.ones(1)}, "has the unknown weight more.weight"),
        ({key: torch.ones(1, 1, 1)}, f"has another shape of {key}"),
        ({key: infinite}, f"has a value in {key} that is not finite"),
    ]
    for changed, what in mistakes:
        file.write_bytes(whole)
        change(file, **changed)
        assert complaint(Teacher, str(folder)).startswith(f"'{file.parent}' {what}")
    assert "more.weight" not in capfd.readouterr().err  # nor do the libraries report it on many lines
    if name == UNET:
        assert f"'{file.parent}' has a value in" in complaint(Generator.from_teacher, folder)
        change(file, **{key: None})
        assert f"'{file.parent}' lacks {key}" in complaint(Generator.from_teacher, folder)
        assert f"'{file.parent}' lacks {key}" in complaint(Baseline, str(folder), steps=1, guidance=0)


@pytest.mark.parametrize("name", [UNET, TEXT])
def test_a_file_that_is_cut_or_a_pointer_of_git_lfs_is_one_line(folder, name):
    file = folder / f"{name}.safetensors"
    whole = file.read_bytes()
    for content in (b"", whole[:100], whole[:-100]):
        file.write_bytes(content)
        assert str(file.parent) in complaint(Teacher, str(folder))
    file.write_bytes(POINTER + b".com/spec/v1\noid sha256:0\nsize 5\n")
    assert complaint(Teacher, str(folder)).startswith(f"'{file}' is a pointer of git-lfs")


def test_weights_of_one_variant_are_read(folder, small_teacher_folder):
    for name in (UNET, VAE, TEXT):
        (folder / f"{name}.safetensors").rename(folder / f"{name}.fp16.safetensors")
    found, expected = Teacher(str(folder)), Teacher(str(small_teacher_folder))
    for part in ("unet", "vae", "text_encoder"):
        own = getattr(found, part).state_dict()
        torch.testing.assert_close(own, getattr(expected, part).state_dict(), rtol=0, atol=0)
    shutil.copy(folder / f"{UNET}.fp16.safetensors", folder / f"{UNET}.non_ema.safetensors")
    said = complaint(Generator.from_teacher, folder)
    assert said == f"'{folder / 'unet'}' has its weights only as fp16 and non_ema: keep the files of one"


@pytest.mark.parametrize(("name", "pickled"), [(UNET, "diffusion_pytorch_model.bin"), (TEXT, "pytorch_model.bin")])
def test_of_pickles_only_tensors_are_read(folder, tmp_path, name, pickled):
    file = folder / f"{name}.safetensors"
    weights, own = load_file(file), Teacher(str(folder)).encode_text(["a fox"])["text_embeddings"]
    file.unlink()
    torch.save(weights, file.with_name(pickled))
    assert Teacher(str(folder)).encode_text(["a fox"])["text_embeddings"].equal(own)
    torch.save(weights | {"run": Touches(tmp_path / "executed")}, file.with_name(pickled))
    assert complaint(Teacher, str(folder)).startswith(f"'{file.parent}' is not the folder of a ")
    assert not (tmp_path / "executed").exists()
    torch.save(dict(list(weights.items())[1:]), file.with_name(pickled))
    assert complaint(Teacher, str(folder)).startswith(f"'{file.parent}' lacks {next(iter(weights))}")
    file.with_name(pickled).write_bytes(POINTER)
    assert "is a pointer of git-lfs" in complaint(Teacher, str(folder))
    file.with_name(pickled).unlink()
    assert f"'{file.parent}' has no weights" in complaint(Teacher, str(folder))


def test_weights_in_several_files_are_all_there(folder):
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    (folder / f"{UNET}.safetensors").unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="200KB")
    files = sorted((folder / "unet").glob("*.safetensors"))
    assert len(files) > 2
    again = load_network(UNet2DConditionModel, folder / "unet", torch.float32)
    torch.testing.assert_close(again.state_dict(), unet.state_dict(), rtol=0, atol=0)
    key = sorted(load_file(files[1]))[0]
    change(files[1], **{key: None})
    assert complaint(Teacher, str(folder)).startswith(f"'{files[1]}' lacks {key}")
    files[1].unlink()
    said = complaint(Teacher, str(folder))
    assert said == f"'{folder / 'unet'}' lacks {files[1].name}, a file of its weights: fetch it again"


def test_a_tokenizer_without_a_limit_has_its_encoder_s(folder, tmp_path):
    path = folder / "tokenizer" / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    for limit in ({"model_max_length": 512}, {"model_max_length": None}, {}):
        others = {name: value for name, value in settings.items() if name != "model_max_length"}
        path.write_text(json.dumps(others | limit))
        teacher = Teacher(str(folder))
        assert teacher.encode_text(["a fox"])["text_embeddings"].shape[1] == 16
    Generator.from_teacher(folder).save(tmp_path / "student", folder)
    student = StableDiffusionPipeline.from_pretrained(tmp_path / "student")
    assert student.tokenizer.model_max_length == 16
    student("a fox", num_inference_steps=1, guidance_scale=0)


def test_a_tokenizer_that_is_not_the_encoder_s_is_refused(folder):
    """Without its files transformers makes one that knows two tokens, and every caption is the same to it."""
    vocabulary = folder / "tokenizer" / "tokenizer.json"
    whole = vocabulary.read_bytes()
    vocabulary.unlink()
    assert complaint(Teacher, str(folder)).startswith(f"'{folder / 'tokenizer'}' has 2 tokens and its encoder has ")
    for broken in (b"", whole[:-100], POINTER):
        vocabulary.write_bytes(broken)
        assert complaint(Teacher, str(folder)).startswith(f"'{folder}' is not the folder of a diffusers pipeline: ")
    vocabulary.write_bytes(whole)
    settings = json.loads((folder / "text_encoder" / "config.json").read_text())
    change(folder / f"{TEXT}.safetensors", **{EMBEDDINGS: torch.zeros(50, 64)})
    (folder / "text_encoder" / "config.json").write_text(json.dumps(settings | {"vocab_size": 50}))
    assert "tokens and its encoder has 50: give the tokenizer of the encoder" in complaint(Teacher, str(folder))
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"tokenizer": [None, None]}))
    assert complaint(Teacher, str(folder)).startswith(f"'{folder}' is not the folder of a diffusers pipeline: ")


def test_a_part_of_another_class_is_refused(folder):
    index = folder / "model_index.json"
    settings = json.loads(index.read_text())
    for name, library, kind in (
        ("vae", "diffusers", "AutoencoderTiny"),
        ("text_encoder", "transformers", "BertModel"),
        ("text_encoder", "transformers", "T5EncoderModel"),
        ("unet", "diffusers", "UNet3DConditionModel"),
    ):
        index.write_text(json.dumps(settings | {name: [library, kind]}))
        assert f"has {kind} as its {name}" in complaint(Teacher, str(folder))
    index.write_text(json.dumps(settings | {"unet": [None, None]}))
    assert "has nothing as its unet" in complaint(Teacher, str(folder))


def test_positions_and_a_whole_clip_beside_a_text_encoder_do_no_harm(folder):
    more = {"text_model.embeddings.position_ids": torch.arange(16)[None], "logit_scale": torch.ones(())}
    more |= {"vision_model.embeddings.class_embedding": torch.ones(4), "visual_projection.weight": torch.ones(2, 2)}
    change(folder / f"{TEXT}.safetensors", **more)
    Teacher(str(folder))
