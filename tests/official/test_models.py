"""Every published model of the paper's scale loads offline from its official files, and samples by its entry."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from diffusion2gan import images
from diffusion2gan.pipelines import load_pipeline
from diffusion2gan.sampling.baselines import PIPELINES, Baseline
from diffusion2gan.sampling.folder import image_paths
from diffusion2gan.study import cli, options
from diffusion2gan.study.paths import Paths
from diffusion2gan.teacher import Teacher
from official import hub, paper, parts
from official.worker import run

CAPTIONS = ["a red fox", "an apple on a blue owl"]
MODELS = [name for name, model in paper.study().models.items() if model.measured]
KIND = {"XCLiu/instaflow_0_9B_from_sd_1_5": "StableDiffusionPipeline"}
WEIGHTS = {
    "text_encoder": "model", "text_encoder_2": "model", "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model", "transformer": "diffusion_pytorch_model",
}  # fmt: skip
BUFFERS = r"position_ids|y_embedding|embed_tokens"  # published beside the weights, or computed, or an alias


def snapshot(repository: str) -> Path:
    return next(Path("hub", f"models--{repository.replace('/', '--')}", "snapshots").iterdir())


def published_weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a part's whole files, in float32."""
    files = [file for file in folder.glob(f"{name}*.safetensors") if not re.search("fp16|non_ema", file.name)]
    return {key: tensor for file in files for key, tensor in load_file(file).items()}


def renamed(weights: dict[str, torch.Tensor], own: set[str]) -> dict[str, torch.Tensor]:
    """Published weights under the names that the installed libraries give them, without what is no weight."""
    found = {}
    for name, tensor in weights.items():
        for new, old in parts.OLD_ATTENTION.items():
            name = name.replace(f"attentions.0.{old}.", f"attentions.0.{new}.")
        name = name if name in own else name.removeprefix("text_model.")
        if not re.search(BUFFERS, name):
            found[name] = tensor
    return found


@pytest.mark.parametrize("repository", hub.PIPELINES)
def test_every_part_of_a_pipeline_has_its_published_weights(published, repository):
    """And none is left at its random initialisation because its name has changed since."""
    pipeline, compared = load_pipeline(repository, torch.float32, PIPELINES, KIND.get(repository)), 0
    for name, file in WEIGHTS.items():
        if part := pipeline.components.get(name):
            own = {key: tensor for key, tensor in part.state_dict().items() if not re.search(BUFFERS, key)}
            torch.testing.assert_close(own, renamed(published_weights(snapshot(repository) / name, file), set(own)))
            compared += 1
    assert compared == (4 if hasattr(pipeline, "text_encoder_2") else 3)
    assert pipeline.components.get("safety_checker") is None


def test_the_files_of_a_unet_are_loaded_into_it(published, study):
    for name in ("sdxl-lightning-published", "dmd2-published"):
        entry = study.models[name]
        baseline = Baseline(entry.pipeline, unet=entry.unet, steps=1, guidance=0)
        owner, repository, file = entry.unet.split("/", 2)
        path = snapshot(f"{owner}/{repository}") / file
        read = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        torch.testing.assert_close(dict(baseline.denoiser.state_dict()), {k: x.float() for k, x in read.items()})


@pytest.mark.parametrize("row", MODELS)
def test_a_model_samples_by_its_entry(published, study, tmp_path, row):
    prompts = tmp_path / "prompts.parquet"
    pd.DataFrame({"prompt_id": range(2), "caption": CAPTIONS}).to_parquet(prompts)
    asked = options.sampling(study, Paths(study), row, len(CAPTIONS)) | {"prompts": prompts, "out": tmp_path / row}
    run("evaluate/sample", *shlex.split(cli.arguments(asked)))
    one, other = (images.load_image(path) for path in image_paths(tmp_path / row))
    side = {"teacher-sdxl": 128}.get(row, study.models[row].resolution or 64)
    assert one.shape == other.shape == (side, side, 3)
    assert one.std() > 5 and abs(one.astype(int) - other).max() > 5


@pytest.mark.parametrize("teacher", ["sd15", "sdxl"])
def test_a_published_tokenizer_pads_as_its_files_say(published, study, teacher):
    loaded = Teacher(study.teachers[teacher].path)
    ends = []
    for tokenizer, _ in loaded._text_encoders:
        ids = tokenizer(CAPTIONS[0], padding="max_length", max_length=77, truncation=True).input_ids
        assert len(ids) == 77 and tokenizer.convert_ids_to_tokens(ids[:5]) == [
            parts.BOS, "a</w>", "red</w>", "fox</w>", parts.EOS,
        ]  # fmt: skip
        ends.append(tokenizer.convert_ids_to_tokens(ids[-1]))
    assert ends == ([parts.EOS] if teacher == "sd15" else [parts.EOS, "!"])
