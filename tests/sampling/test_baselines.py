"""Every kind of pipeline in the tables, with random weights, samples what the authors' own call samples."""

import json
import shutil

import pytest
import torch
from diffusers import EDMEulerScheduler, PixArtAlphaPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from huggingface_hub import constants
from safetensors.torch import save_file

from diffusion2gan import pipelines
from diffusion2gan.errors import UserError
from diffusion2gan.sampling import baselines
from diffusion2gan.sampling.baselines import Baseline, RectifiedFlow
from diffusion2gan.seeds import noise

CAPTIONS = ["a red apple on a blue background", "a fox on a green background"]
SEEDS = [11, 12]


def test_instaflow_is_one_euler_step_along_the_velocity(small_teacher_folder):
    baseline = Baseline(str(small_teacher_folder), steps=1, guidance=0, scheduler="rectified-flow")
    z = noise(SEEDS, baseline.latent_shape)
    pipeline = baseline.pipeline
    with torch.no_grad():
        text, _ = pipeline.encode_prompt(CAPTIONS, "cpu", 1, False)
        x = z + pipeline.unet(z, 1000, text).sample
        expected = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample.clamp(-1, 1)
    assert torch.allclose(baseline.sample(SEEDS, CAPTIONS), expected, atol=1e-4)


def test_a_baseline_decodes_one_image_at_a_time(small_teacher_folder, capsys):
    baseline = Baseline(str(small_teacher_folder), steps=1, guidance=0)
    seen = []
    baseline.pipeline.vae.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    baseline.sample(SEEDS, CAPTIONS)
    assert seen == [1, 1] and capsys.readouterr().err == ""  # sample.py shows the progress


def test_rectified_flow_in_several_steps_goes_from_1000_down():
    scheduler = RectifiedFlow()
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [1000, 750, 500, 250]
    assert scheduler.step(torch.ones(1), 1000, torch.zeros(1)).prev_sample.item() == 0.25


def test_sdxl_lightning_takes_the_x0_that_its_unet_predicts(xl_folder, tmp_path):
    pipeline = StableDiffusionXLPipeline.from_pretrained(xl_folder, add_watermarker=False)
    torch.manual_seed(5)
    other = UNet2DConditionModel.from_config(pipeline.unet.config).eval()
    save_file(other.state_dict(), tmp_path / "unet_x0.safetensors")
    how = {"scheduler": "euler", "spacing": "trailing", "prediction": "sample"}
    baseline = Baseline(str(xl_folder), steps=1, guidance=0, unet=str(tmp_path / "unet_x0.safetensors"), **how)
    text, _, pooled, _ = pipeline.encode_prompt(CAPTIONS, do_classifier_free_guidance=False)
    times = torch.tensor([[64, 64, 0, 0, 64, 64]]).repeat(2, 1)
    z = noise(SEEDS, baseline.latent_shape)
    with torch.no_grad():  # Euler hands the network z in unit variance again
        sigma = baseline.pipeline.scheduler.init_noise_sigma
        inputs = z * sigma / (baseline.pipeline.scheduler.sigmas[0] ** 2 + 1) ** 0.5
        x = other(inputs, 999, text, added_cond_kwargs={"text_embeds": pooled, "time_ids": times}).sample
        expected = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample.clamp(-1, 1)
    assert torch.allclose(baseline.sample(SEEDS, CAPTIONS), expected, atol=2e-3)


def test_dmd2_starts_at_the_timestep_of_its_config_entry(xl_folder):
    baseline = Baseline(str(xl_folder), steps=1, guidance=0, scheduler="lcm", timesteps=[399])
    seen = []
    hook = baseline.denoiser.register_forward_pre_hook(lambda module, inputs: seen.append(int(inputs[1])))
    baseline.sample(SEEDS, CAPTIONS)
    hook.remove()
    assert seen == [399]


def test_sdxl_turbo_has_its_own_noise(xl_folder):
    baseline = Baseline(str(xl_folder), steps=1, guidance=0, scheduler="own", spacing="trailing", resolution=32)
    assert baseline.latent_shape == (4, 8, 8)
    assert baseline.sample(SEEDS, CAPTIONS).shape == (2, 3, 32, 32)


def test_pixart_samples_what_its_own_call_samples(pixart_folder):
    baseline = Baseline(str(pixart_folder), steps=2, guidance=4.5)
    pipeline = PixArtAlphaPipeline.from_pretrained(pixart_folder)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        CAPTIONS, num_inference_steps=2, guidance_scale=4.5, latents=noise(SEEDS, (4, 8, 8)), output_type="pt",
        clean_caption=False, use_resolution_binning=False,
    ).images  # fmt: skip
    assert torch.allclose((baseline.sample(SEEDS, CAPTIONS) + 1) / 2, expected, atol=1e-5)


def test_a_package_that_pixart_s_tokenizer_needs_is_named(pixart_folder, monkeypatch):
    monkeypatch.setattr(pipelines, "_installed", lambda package: package != "protobuf")
    with pytest.raises(UserError, match="tokenizer of '.*pixart' needs protobuf: pip install protobuf"):
        Baseline(str(pixart_folder), steps=1, guidance=0)


def test_an_image_depends_on_its_seed_and_caption_alone_where_noise_is_added_on_the_way(lcm_folder):
    baseline = Baseline(str(lcm_folder), steps=3, guidance=8.5)
    both = baseline.sample(SEEDS, CAPTIONS)
    assert torch.allclose(both, baseline.sample(SEEDS, CAPTIONS), atol=1e-5)
    assert torch.allclose(both[1:], baseline.sample(SEEDS[1:], CAPTIONS[1:]), atol=1e-3)
    assert (both[:1] - baseline.sample([99], CAPTIONS[:1])).abs().max() > 0.01


def test_what_does_not_load_is_one_line(xl_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def complaint(path, **how):
        with pytest.raises(UserError) as error:
            Baseline(str(path), **({"steps": 1, "guidance": 0} | how))
        assert "\n" not in str(error.value)
        return str(error.value)

    said = f"no scheduler 'heun' for {xl_folder}: use one of own, euler, lcm, rectified-flow"
    assert complaint(xl_folder, scheduler="heun") == said
    said = "the RectifiedFlow of {} has no timestep_spacing"
    assert said.format(xl_folder) in complaint(xl_folder, scheduler="rectified-flow", spacing="trailing")
    assert "`hf download nobody/nothing`" in complaint("nobody/nothing")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    said = complaint(xl_folder, unet=str(tmp_path / "other.safetensors"))
    assert "other.safetensors' lacks add_embedding.linear_1.bias and 327 more" in said
    assert "give a file, or REPOSITORY/FILE" in complaint(xl_folder, unet="nowhere.safetensors")


def test_a_scheduler_takes_the_place_of_one_with_the_same_noise_levels(xl_folder, tmp_path):
    folder = shutil.copytree(xl_folder, tmp_path / "edm")
    EDMEulerScheduler().save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", "EDMEulerScheduler"]}))
    assert Baseline(str(folder), steps=2, guidance=0).sample(SEEDS, CAPTIONS).shape == (2, 3, 64, 64)
    for scheduler in ("euler", "lcm"):
        with pytest.raises(UserError, match="trained for the noise levels of its EDMEulerScheduler, which"):
            Baseline(str(folder), steps=1, guidance=0, scheduler=scheduler)
    with pytest.raises(UserError, match="EDMEulerScheduler of .* has no timestep_spacing"):
        Baseline(str(folder), steps=1, guidance=0, spacing="trailing")


def test_a_gated_model_is_said_to_be_gated(monkeypatch):
    def gated(path, **options):
        raise OSError("401 Client Error. Cannot access gated repo for url")

    monkeypatch.setattr("diffusers.DiffusionPipeline.load_config", gated)
    with pytest.raises(UserError, match="is gated: accept its terms at https://huggingface.co/a/b"):
        Baseline("a/b", steps=1, guidance=0)


def test_other_weights_may_be_a_file_of_a_repository_or_a_pickle_of_tensors_alone(tmp_path, monkeypatch):
    asked, weights = [], torch.nn.Linear(2, 1).state_dict()
    torch.save(weights, tmp_path / "unet.pth")

    def download(repository, file):
        asked.append((repository, file))
        return str(tmp_path / "unet.pth")

    monkeypatch.setattr(baselines, "hf_hub_download", download)
    for source in ("somebody/model/one-step/unet.pth", str(tmp_path / "unet.pth")):
        module = torch.nn.Linear(2, 1)
        baselines._load_weights(module, source)
        assert all(torch.equal(each, weights[name]) for name, each in module.state_dict().items())
    assert asked == [("somebody/model", "one-step/unet.pth")]

    class Code:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"weight": Code()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="evil.pth' holds no tensors: UnpicklingError$"):
        baselines._load_weights(torch.nn.Linear(2, 1), str(tmp_path / "evil.pth"))
