"""sample.py: its images depend on the model, the prompts and the seed, and on nothing else."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline

from diffusion2gan import images
from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.provenance import json_sha256
from diffusion2gan.sampling import sampler
from diffusion2gan.sampling.folder import image_paths, noise_seeds, read_recipe
from diffusion2gan.seeds import noise
from diffusion2gan.settings import SamplingSettings
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from scripts.evaluate import sample
from scripts.evaluate.sample import Arguments, main

CAPTIONS = ["a red apple on a blue background", "a fox on a green background", "an owl on a red background"]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.parquet"
    pd.DataFrame({"prompt_id": range(3), "caption": CAPTIONS}).to_parquet(path)
    return path


def drawn(folder):
    return np.stack([images.load_image(path) for path in image_paths(folder)])


def test_an_image_depends_on_its_prompt_and_noise_alone(teacher_folder, prompts, tmp_path):
    def draw(name, **settings):
        settings = {"steps": 2, "guidance": 3.0, "scheduler": "ddim", **settings}
        main(Arguments(model=str(teacher_folder), prompts=prompts, out=tmp_path / name, **settings))
        return drawn(tmp_path / name).astype(int)

    three, two, other = draw("a", count=3), draw("b", count=2, batch_size=1), draw("c", count=2, seed=1)
    assert three.shape == (3, 64, 64, 3)
    assert abs(three[:2] - two).max() <= 1  # a batch of another size rounds otherwise
    assert abs(two - other).max() > 10
    recipe = read_recipe(tmp_path / "a")
    assert [recipe[name] for name in ("steps", "guidance", "scheduler", "seed", "count")] == [2, 3.0, "ddim", 0, 3]
    assert recipe["captions_sha256"] != read_recipe(tmp_path / "b")["captions_sha256"]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pixels_are_contiguous_in_every_layout(layout):
    x = torch.rand(2, 3, 4, 5).to(memory_format=layout)
    pixels = images.to_uint8(2 * x - 1)
    assert pixels.flags["C_CONTIGUOUS"] and (pixels[1, 3, 2] == (x[1, :, 3, 2] * 255).round().numpy()).all()


def test_a_student_samples_what_its_generator_says(teacher_folder, prompts, tmp_path):
    generator = Generator.from_teacher(teacher_folder)
    generator.save(tmp_path / "student", teacher_folder)
    main(Arguments(model=str(tmp_path / "student"), prompts=prompts, count=3, out=tmp_path / "drawn"))
    teacher = Teacher(str(teacher_folder))
    z = noise(noise_seeds(0, range(3)), teacher.latent_shape)
    with torch.no_grad():
        expected = images.to_uint8(teacher.decode(generator.eval()(z, **teacher.encode_text(CAPTIONS))))
    assert abs(drawn(tmp_path / "drawn").astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_plain_diffusers_samples_the_same_image(teacher_folder, tmp_path, prediction):
    """The same prompts and noise: pixel for pixel."""
    teacher = shutil.copytree(teacher_folder, tmp_path / "teacher")
    settings = teacher / "scheduler/scheduler_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"prediction_type": prediction}))
    Generator.from_teacher(teacher).save(tmp_path / "student", teacher)
    main(Arguments(model=str(tmp_path / "student"), prompt=CAPTIONS, out=tmp_path / "drawn", seed=5))

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "student")
    z = noise(noise_seeds(5, range(3)), (4, 16, 16))
    plain = pipeline(CAPTIONS, latents=z, num_inference_steps=1, guidance_scale=0, output_type="np").images
    np.testing.assert_array_equal(drawn(tmp_path / "drawn"), (255 * plain).round())


def test_prompts_typed_on_the_command_line(teacher_folder, tmp_path, monkeypatch):
    """One prompt into a file, several into a folder, whose first image is the same."""

    def command(*words):
        monkeypatch.setattr("sys.argv", ["sample.py", "--model", str(teacher_folder), *words])
        cli.run(main)

    command("--prompt", CAPTIONS[0], "--out", str(tmp_path / "new/fox.png"))
    command("--prompt", *CAPTIONS, "--out", str(tmp_path / "drawn"), "--batch-size", "1")
    one = images.load_image(tmp_path / "new/fox.png")
    assert len(drawn(tmp_path / "drawn")) == 3 and [p.name for p in (tmp_path / "new").iterdir()] == ["fox.png"]
    np.testing.assert_array_equal(one, drawn(tmp_path / "drawn")[0])
    with pytest.raises(SystemExit, match="fox.png holds one image, but 2 are sampled: give --out a folder"):
        command("--prompt", *CAPTIONS[:2], "--out", str(tmp_path / "fox.png"))
    with pytest.raises(SystemExit, match="type --prompt TEXT, or give --prompts FILE"):
        command("--out", str(tmp_path / "fox.png"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_an_error_and_no_black_image(value):
    def broken(seeds, captions):
        pictures = torch.zeros(len(seeds), 3, 4, 4)
        pictures[[seed == 7 for seed in seeds], 2, 1, 3] = value
        return pictures

    sampled = sampler.sample_images(broken, [5, 6, 7, 8], [""] * 4, [range(2), range(2, 4)], "sampling with broken")
    assert [next(sampled)[0], next(sampled)[0]] == [0, 1]
    with pytest.raises(UserError, match="sampling with broken: image 2 has values that are NaN or infinite"):
        next(sampled)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_caller_turns_a_broken_image_into_a_black_one(value):
    pictures = torch.zeros(3, 3, 4, 4, dtype=torch.half)
    pictures[1, 2, 1, 3] = value
    with pytest.raises(UserError, match="^image 1 has values that are NaN or infinite: the weights are broken"):
        images.to_uint8(pictures)
    with pytest.raises(UserError, match="^the decoded pair 70 has"):
        images.to_uint8(pictures, "the decoded pair", [60, 70, 80])


@pytest.mark.parametrize("name", ["fox.jpg", "fox.JPEG", "fox.webp", "fox.PNG", "fox.gif"])
def test_an_image_of_another_format_is_refused_and_no_folder_is_made(teacher_folder, tmp_path, name):
    with pytest.raises(UserError, match=f"{name}: an image is written as .png"):
        main(Arguments(model=str(teacher_folder), prompt=CAPTIONS[:1], out=tmp_path / name))
    assert not (tmp_path / name).exists()


def test_too_few_prompts_are_an_error(teacher_folder, prompts, tmp_path):
    with pytest.raises(UserError, match="holds 3 prompts, 4 were requested"):
        main(Arguments(model=str(teacher_folder), prompts=prompts, count=4, out=tmp_path / "drawn"))
    main(Arguments(model=str(teacher_folder), prompts=prompts, out=tmp_path / "all"))
    assert len(image_paths(tmp_path / "all")) == 3


def test_several_images_of_each_prompt(teacher_folder, prompts, tmp_path):
    arguments = {"model": str(teacher_folder), "prompts": prompts, "count": 2, "repeats": 3, "batch_size": 4}
    main(Arguments(**arguments, out=tmp_path / "several"))
    several = drawn(tmp_path / "several").astype(int)
    recipe = read_recipe(tmp_path / "several")
    assert len(several) == recipe["count"] == 6 and recipe["repeats"] == 3
    assert abs(several[0] - several[1]).max() > 10  # other noise
    teacher = Teacher(str(teacher_folder))
    z = noise(noise_seeds(0, range(6)), teacher.latent_shape)
    texts = [CAPTIONS[0]] * 3 + [CAPTIONS[1]] * 3
    expected = images.to_uint8(teacher.decode(teacher.solve(z, texts, 1, 0, "student")).detach())
    assert abs(several - expected.astype(int)).max() <= 1


@pytest.fixture
def draw(prompts, tmp_path, monkeypatch):
    """Sample nine images in batches of two with a model that is quick; returns how many batches it sampled.

    `stop` interrupts it in that batch and leaves the image before half written, as a killed job does.
    """
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").touch()

    def draw(name, stop=None, **settings):
        batches = []

        def sampled(seeds, captions):
            batches.append(seeds)
            if len(batches) == stop:
                raise KeyboardInterrupt
            return noise(seeds, (3, 8, 8)) / 4 + len(captions) / 4  # a batch of another size has other images

        monkeypatch.setattr(sample, "load_sampler", lambda *settings: (sampled, None))
        settings = {"repeats": 3, "batch_size": 2, "model": str(tmp_path / "model"), "prompts": prompts} | settings
        try:
            main(Arguments(out=tmp_path / name, **settings))
        except KeyboardInterrupt:
            last = max(tmp_path.glob(f"{name}/*.png"))
            last.write_bytes(last.read_bytes()[:-30])
        return len(batches)

    return draw


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_the_images_of_several_jobs_are_those_of_one(draw, tmp_path):
    assert draw("one") == 5
    assert [draw("three", shard=shard, shards=3) for shard in (2, 0, 1)] == [2, 1, 2]
    assert contents(tmp_path / "three") == contents(tmp_path / "one") and len(image_paths(tmp_path / "three")) == 9
    assert read_recipe(tmp_path / "three") == read_recipe(tmp_path / "one")
    made = {path.name for path in (tmp_path / "three").iterdir() if path.suffix != ".png"}
    assert made == {"sample.json", *(f"shard-{shard:05d}-of-00003.json" for shard in range(3))}
    manifest = json.loads((tmp_path / "three/shard-00002-of-00003.json").read_text())
    assert manifest == {"images": 3, "recipe": read_recipe(tmp_path / "one")}  # the last two of five batches
    with pytest.raises(UserError, match="there is no shard 3 of 3"):
        draw("three", shard=3, shards=3)


def test_a_killed_job_resumes_from_its_last_whole_batch(draw, tmp_path):
    draw("whole")
    draw("killed", stop=4)
    assert len(contents(tmp_path / "killed")) == 6 and not list((tmp_path / "killed").glob("shard-*"))
    with pytest.raises(UserError, match="holds 6 of 9 images"):
        image_paths(tmp_path / "killed")
    assert draw("killed") == 3  # the batch that was half written, and the two that were missing
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "killed").glob("*shard-*")] == ["shard-00000-of-00001.json"]


def test_images_of_other_settings_or_of_another_model_are_sampled_again(draw, tmp_path):
    draw("killed", stop=4)
    draw("killed", stop=4, seed=1)
    assert draw("killed", seed=1) == 3
    draw("other", seed=1)
    assert contents(tmp_path / "killed") == contents(tmp_path / "other")
    assert draw("killed", seed=1) == 5  # a finished job that is asked again
    draw("killed", stop=4)
    os.utime(tmp_path / "model/weights", (1, 1))
    assert draw("killed") == 5


def test_jobs_of_another_split_leave_nothing_behind(draw, tmp_path):
    for shard in range(3):
        draw("folder", shard=shard, shards=3, seed=1)
    draw("folder", stop=2, shard=1, shards=3)
    draw("folder")
    draw("one")
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {
        path.name for path in (tmp_path / "one").iterdir()
    }
    assert contents(tmp_path / "folder") == contents(tmp_path / "one")
    assert draw("folder", count=1) == 2 and len(image_paths(tmp_path / "folder")) == 3


def test_the_recipe_of_samples_is_whole(teacher_folder, prompts, tmp_path, capsys):
    settings = {"scheduler": "ddim", "steps": 2, "guidance": 3.0, "seed": 4, "repeats": 2, "batch_size": 3}
    main(Arguments(model=str(teacher_folder), prompts=prompts, count=2, out=tmp_path / "drawn", **settings))
    assert read_recipe(tmp_path / "drawn") == settings | {
        "model": str(teacher_folder), "spacing": "own", "timesteps": [], "prediction": "own", "unet": "",
        "resolution": 0, "count": 4, "precision": "float32", "captions_sha256": json_sha256(CAPTIONS[:2]),
    }  # fmt: skip
    assert [path.name for path in image_paths(tmp_path / "drawn")] == [f"{i:05d}.png" for i in range(4)]
    assert capsys.readouterr().err.startswith(f"sampling with {teacher_folder}: 2/2, ")


def test_both_kinds_of_prompts_at_once_are_an_error(teacher_folder, prompts, tmp_path):
    for both in ({"prompt": ["a fox"], "prompts": prompts}, {}):
        with pytest.raises(UserError) as said:
            main(Arguments(model=str(teacher_folder), out=tmp_path / "drawn", **both))
        assert str(said.value) == "no prompts, or two kinds: type --prompt TEXT, or give --prompts FILE"


@pytest.mark.parametrize(
    ("scheduler", "steps", "half"),
    [("ddim", 50, True), ("own", 2, True), ("student", 1, False), ("euler", 1, False), ("heun", 18, False)],
)
def test_on_a_gpu_several_steps_are_sampled_in_half_precision(monkeypatch, scheduler, steps, half):
    """A single step magnifies rounding errors, and EDM's last noise levels are too small."""
    loaded = []

    class Model:
        unet = denoiser = "the network"

        def __init__(self, path, device, dtype, **how):
            loaded.append((path, device, dtype))

        def sample(self, seeds, captions):
            return None

    monkeypatch.setattr(sampler, "load_teacher", Model)
    monkeypatch.setattr(sampler, "Baseline", Model)
    settings = SamplingSettings(model="toy", scheduler=scheduler, steps=steps)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    for device, dtype in ((gpu, None), (cpu, None), (cpu, torch.float16)):
        assert sampler.load_sampler(settings, device, dtype)[1] == "the network"
    wanted = torch.float16 if half else torch.float32
    assert loaded == [("toy", gpu, wanted), ("toy", cpu, torch.float32), ("toy", cpu, torch.float16)]


def test_a_teacher_samples_as_its_settings_say(monkeypatch):
    class Solved:
        unet, latent_shape = None, (4, 2, 2)

        def solve(self, *given):
            return given

        def decode(self, given):
            return given

    monkeypatch.setattr(sampler, "load_teacher", lambda *_: Solved())
    how = {"scheduler": "dpm-solver", "steps": 7, "guidance": 2.5, "spacing": "trailing"}
    sample_with, _ = sampler.load_sampler(SamplingSettings(model="toy", **how), torch.device("cpu"))
    z, *rest = sample_with([3, 4], CAPTIONS[:2])
    assert torch.equal(z, noise([3, 4], (4, 2, 2))) and rest == [CAPTIONS[:2], 7, 2.5, "dpm-solver", "trailing"]
