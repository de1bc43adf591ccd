"""sample.py: what it draws depends on the model, the prompts and the seed, and on nothing else."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline

from diffusion2gan import images
from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.sampling.folder import image_paths, noise_seeds, read_recipe
from diffusion2gan.seeds import noise
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from scripts.evaluate.sample import Arguments, main

CAPTIONS = ["a red apple on a blue background", "a fox on a green background", "an owl on a red background"]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.parquet"
    pd.DataFrame({"prompt_id": range(3), "caption": CAPTIONS}).to_parquet(path)
    return path


def drawn(folder):
    return np.stack([images.load_image(path) for path in image_paths(folder)])


def test_a_picture_depends_on_its_prompt_and_noise_alone(teacher_folder, prompts, tmp_path):
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


def test_a_student_draws_what_its_generator_says(teacher_folder, prompts, tmp_path):
    generator = Generator.from_teacher(teacher_folder)
    generator.save(tmp_path / "student", teacher_folder)
    main(Arguments(model=str(tmp_path / "student"), prompts=prompts, count=3, out=tmp_path / "drawn"))
    teacher = Teacher(str(teacher_folder))
    z = noise(noise_seeds(0, range(3)), teacher.latent_shape)
    with torch.no_grad():
        expected = images.to_uint8(teacher.decode(generator.eval()(z, **teacher.encode_text(CAPTIONS))))
    assert abs(drawn(tmp_path / "drawn").astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_plain_diffusers_draws_the_same_picture(teacher_folder, tmp_path, prediction):
    """The same prompts and noise: pixel for pixel."""
    teacher = shutil.copytree(teacher_folder, tmp_path / "teacher")
    settings = teacher / "scheduler/scheduler_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"prediction_type": prediction}))
    Generator.from_teacher(teacher).save(tmp_path / "student", teacher)
    main(Arguments(model=str(tmp_path / "student"), prompt=CAPTIONS, out=tmp_path / "drawn", seed=5))

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "student")
    z = noise(noise_seeds(5, range(3)), (4, 8, 8))
    plain = pipeline(CAPTIONS, latents=z, num_inference_steps=1, guidance_scale=0, output_type="np").images
    np.testing.assert_array_equal(drawn(tmp_path / "drawn"), (255 * plain).round())


def test_prompts_typed_on_the_command_line(teacher_folder, tmp_path, monkeypatch):
    """One prompt into a file, several into a folder, whose first picture is the same."""

    def command(*words):
        monkeypatch.setattr("sys.argv", ["sample.py", "--model", str(teacher_folder), *words])
        cli.run(main)

    command("--prompt", CAPTIONS[0], "--out", str(tmp_path / "new/fox.png"))
    command("--prompt", *CAPTIONS, "--out", str(tmp_path / "drawn"), "--batch-size", "1")
    one = images.load_image(tmp_path / "new/fox.png")
    assert len(drawn(tmp_path / "drawn")) == 3 and [p.name for p in (tmp_path / "new").iterdir()] == ["fox.png"]
    np.testing.assert_array_equal(one, drawn(tmp_path / "drawn")[0])
    with pytest.raises(SystemExit, match="fox.png holds one image and there are 3: give --out a folder"):
        command("--prompt", *CAPTIONS, "--out", str(tmp_path / "fox.png"))
    with pytest.raises(SystemExit, match="type --prompt TEXT, or give --prompts FILE"):
        command("--out", str(tmp_path / "fox.png"))


def test_too_few_prompts_are_an_error(teacher_folder, prompts, tmp_path):
    with pytest.raises(UserError, match="holds 3 prompts, 4 were requested"):
        main(Arguments(model=str(teacher_folder), prompts=prompts, count=4, out=tmp_path / "drawn"))
    main(Arguments(model=str(teacher_folder), prompts=prompts, out=tmp_path / "all"))
    assert len(image_paths(tmp_path / "all")) == 3


def test_several_pictures_of_each_prompt(teacher_folder, prompts, tmp_path):
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
