"""What a user can get wrong in the configuration: each is one line that says what, where and what to do."""

import copy
import json
import shutil
from functools import reduce
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from fuzzed import damaged, fuzzed, mutated, read
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from diffusion2gan.errors import UserError
from diffusion2gan.study import config as config_module
from diffusion2gan.study.config import _typed, load, merge, read_scale, schema
from diffusion2gan.study.entries import STAGES, Configuration
from diffusion2gan.study.study import Study

ROOT = Path(__file__).parents[2]
SCALES = ("smoke", "demo", "toy", "paper")


CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def configured(changes: dict | None = None) -> dict:
    return merge(CONFIG, changes or {})


def complaint(changes: dict) -> str:
    with pytest.raises(UserError) as error:
        Study(load(configured(changes), ROOT))
    message = str(error.value)
    assert "\n" not in message
    return message


SMOKE = (ROOT / "scales/smoke.yaml").read_bytes()
LAYERS = read_scale("smoke", ROOT)


@fuzzed
@given(config=mutated(CONFIG | {"scale": "smoke"}))
def test_any_configuration_is_a_study_or_one_line(config):
    with patch.object(config_module, "read_scale", lambda *_: LAYERS):
        read(lambda: Study(load(config, ROOT)))


@fuzzed
@given(
    content=st.binary(max_size=40) | damaged(SMOKE) | st.sampled_from([b"", b"[]", b"? [a]\n: b", b"a: &a {b: *a}"])
    | mutated(yaml.safe_load(SMOKE)).map(lambda tree: yaml.safe_dump(tree).encode())
)  # fmt: skip
def test_any_scale_is_read_or_told_in_one_line(tmp_path, content):
    (tmp_path / "scales").mkdir(exist_ok=True)
    (tmp_path / "scales/smoke.yaml").write_bytes(content)
    below = {file: values for file, values in LAYERS.items() if "smoke" not in file}
    with patch.object(config_module, "SHARED", None):  # the scale alone, without reading those below it
        own = read(read_scale, "smoke", tmp_path)
    if own is not None:
        with patch.object(config_module, "read_scale", lambda *_: own | below):
            read(load, CONFIG | {"scale": "smoke"}, ROOT)


@pytest.mark.parametrize("word", ["x: y: z", "{", "@", "a\x0f", "!!int ''", "0b_", "- "])
def test_words_that_are_no_yaml_are_words(word):
    config = configured({"scale": "smoke", "models": {"teacher-sd15": {"says": word}}})
    with pytest.raises(UserError, match="unknown key 'says' in models.teacher-sd15"):
        load(config, ROOT)
    assert _typed({"a": [word, "2.0", "3", "true", "1e5"]}) == {"a": [word, 2.0, 3, True, "1e5"]}


def test_one_held_out_pair_is_too_few():
    message = complaint({"datasets": {"sd-cfg-3": {"held_out": 1}}})
    problem = "one held-out pair has no variance to compare the error with: hold out 0 or at least 2"
    assert message == f"config.yaml: datasets.sd-cfg-3.held_out is 1: {problem}"


def test_a_misspelt_key_names_the_nearest():
    message = complaint({"runs": {"regression-mse": {"lozz": "mse"}}})
    assert message == "config.yaml: unknown key 'lozz' in runs.regression-mse, did you mean 'loss'?"
    assert "did you mean 'tables'?" in complaint({"tabels": {}})


def test_an_unknown_key_of_nothing_near_lists_what_there_is():
    assert complaint({"solving": {"zzz": 1}}) == ("config.yaml: unknown key 'zzz' in solving, use one of batch_size")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runs": {"gan-diffusion": {"r1": "often"}}}, "runs.gan-diffusion.r1 is 'often', it must be true or false"),
        ({"datasets": {"sd-cfg-3": {"pairs": "many"}}}, "datasets.sd-cfg-3.pairs is 'many', it must be a whole number"),
        ({"tables": {"table1": {"rows": "all"}}}, "tables.table1.rows is 'all', it must be a list"),
        ({"runs": {"regression-mse": 3}}, "runs.regression-mse is 3, it must be a mapping"),
        (
            {"regression": {"learning_rate": "1e-5"}},
            "regression.learning_rate is '1e-5', it must be a number: write it with a decimal point, 1.0e-05",
        ),
        ({"runs": {"regression-mse": {"loss": "msee"}}}, "runs.regression-mse.loss is 'msee', did you mean 'mse'?"),
        ({"tables": {"table1": {"metrics": ["fdi"]}}}, "tables.table1.metrics.0 is 'fdi', did you mean 'fid'?"),
        ({"datasets": {"sd-cfg-3": {"shards": 501}}}, "datasets.sd-cfg-3.shards is 501"),
    ],
)
def test_a_wrong_value_says_what_would_be_right(changes, said):
    assert said in complaint(changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"work": "$SCRATCHH/work"}, "work is '$SCRATCHH/work': the environment variable SCRATCHH is not set: set it"),
        ({"work": "my work"}, "work is 'my work': this path may not contain ' ': choose another, or make a link"),
        ({"work": "~nobody-of-this-name/work"}, "this home folder is not known: write the path out"),
        ({"work": "s3://bucket"}, "work is 's3://bucket': this is no path of a file or folder: choose another"),
        ({"work": "-x"}, "work is '-x': this is no path of a file or folder"),
        ({"work": "{scale}"}, "a path may not contain '{'"),
        ({"teachers": {"sd15": {"path": "/my models/sd15"}}}, "teachers.sd15.path is '/my models/sd15': this path may"),
        ({"latentlpips": {"weights": {"pixel": "a;b.pth"}}}, "weights.pixel is 'a;b.pth': this path may not contain"),
        ({"latentlpips": {"images": "$NOWHERE"}}, "images is '$NOWHERE': the environment variable NOWHERE is not set"),
        ({"models": {"pixart-alpha": {"pipeline": "'quoted'"}}}, "pipeline is \"'quoted'\": a path may not contain"),
        ({"evaluation": {"clip": "local-dir:${NOWHERE}/clip"}}, "the environment variable NOWHERE is not set"),
    ],
)
def test_a_path_that_would_become_another_one_is_refused(changes, said):
    assert said in complaint(changes)


def test_a_written_configuration_that_is_cut_short_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"scale": "to')
    with pytest.raises(UserError, match="config.json cannot be read .*: delete it and run again"):
        config_module.read(tmp_path / "config.json")


def test_homes_and_variables_are_filled_in(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("HOME", "/home/me")
    paths = {"images": "~/image net", "weights": {"pixel": "./vgg.pth"}}
    changes = {"work": "$SCRATCH/work/", "latentlpips": paths, "evaluation": {"clip": "local-dir:~/clip"}}
    made = load(configured(changes), ROOT)
    assert (made.work, made.latentlpips.images) == ("/scratch/me/work", "/home/me/image net")
    assert (made.latentlpips.weights["pixel"], made.evaluation.clip) == ("vgg.pth", "local-dir:/home/me/clip")


def test_names_that_are_one_file_on_some_disks_are_refused():
    message = complaint({"runs": {"Regression-MSE": {"loss": "mse"}}})
    assert message == "config.yaml: runs: regression-mse and Regression-MSE are the same file on some disks: rename one"


def test_a_new_dataset_without_a_size_names_both_files():
    message = complaint({"datasets": {"sd-cfg-5": {"teacher": "sd15", "guidance": 5, "prompts": "unconditional"}}})
    assert message == "config.yaml or scales/toy.yaml: datasets.sd-cfg-5 lacks 'pairs'"


def test_a_mistake_in_a_scale_names_its_file(tmp_path):
    shutil.copytree(ROOT / "scales", tmp_path / "scales")
    sizes = yaml.safe_load((ROOT / "scales/toy.yaml").read_text())
    sizes["gan"]["lamda_gan"] = 1.0
    (tmp_path / "scales/toy.yaml").write_text(yaml.safe_dump(sizes))
    with pytest.raises(UserError, match="^scales/toy.yaml: unknown key 'lamda_gan' in gan, did you mean 'lambda_gan'?"):
        load(configured(), tmp_path)


def test_an_unknown_scale():
    assert complaint({"scale": "papre"}) == ("config.yaml: no scale 'papre', did you mean 'paper'?")


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_is_valid(scale):
    Study(load(configured({"scale": scale}), ROOT))


def test_the_configuration_wins_over_the_scale():
    config = configured({"gan": {"lambda_gan": 7.5}})
    before = copy.deepcopy(config)
    merged = load(config, ROOT)
    assert merged.gan.lambda_gan == 7.5
    assert merged.gan.learning_rate == yaml.safe_load((ROOT / "scales/toy.yaml").read_text())["gan"]["learning_rate"]
    assert config == before


def test_merge_replaces_lists_and_merges_mappings():
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(below, {"a": {"y": [3]}, "c": 2}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}
    assert below == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


def test_a_scale_is_over_another_and_all_are_over_the_shared_values(tmp_path):
    assert list(read_scale("smoke", ROOT)) == ["scales/smoke.yaml", "scales/toy.yaml", "scales/default.yaml"]
    smoke, toy, paper = (load(configured({"scale": scale}), ROOT) for scale in ("smoke", "toy", "paper"))
    shared = yaml.safe_load((ROOT / "scales/default.yaml").read_text())
    assert toy.evaluation.diversity.repeats == shared["evaluation"]["diversity"]["repeats"]
    assert paper.evaluation.diversity.repeats == toy.evaluation.diversity.repeats
    assert smoke.latentlpips.vgg.classes == toy.latentlpips.vgg.classes
    assert smoke.datasets["sd-cfg-3"].pairs != toy.datasets["sd-cfg-3"].pairs
    shutil.copytree(ROOT / "scales", tmp_path / "scales")
    (tmp_path / "scales/tiny.yaml").write_text("over: smoek")
    with pytest.raises(UserError, match="^scales/tiny.yaml: over: no scale 'smoek', did you mean 'smoke'?"):
        load(configured({"scale": "tiny"}), tmp_path)


def values(tree: dict, above: tuple = ()) -> list[tuple]:
    """The keys that lead to each value."""
    return [
        path
        for key, below in tree.items()
        for path in (values(below, (*above, key)) if isinstance(below, dict) and below else [(*above, key)])
    ]


def without(tree: dict, key: str, *below: str) -> dict:
    """A copy that lacks the value at the end of some keys."""
    return {each: without(tree[each], *below) if each == key else tree[each] for each in tree if each != key or below}


def meaning(layers: list[dict]) -> tuple | None:
    """What layers say, the uppermost first: the runs with all their settings, and the rest. None if it is invalid."""
    try:
        config = Configuration.model_validate(reduce(merge, reversed(layers)), strict=True)
        return Study(config).runs, config.model_dump(exclude={"base", "runs", *STAGES})
    except (UserError, ValidationError):
        return None


@pytest.mark.parametrize(
    ("scale", "file"), [*((scale, f"scales/{scale}.yaml") for scale in SCALES), ("toy", "scales/default.yaml")]
)
def test_a_scale_states_no_value_that_changes_nothing(scale, file):
    """Neither a default, nor what it has from another scale, nor a batch that no run names."""
    layers = {"config.yaml": CONFIG | {"scale": scale}, **read_scale(scale, ROOT)}
    whole = meaning(list(layers.values()))
    assert whole is not None
    needless = [
        ".".join(path)
        for path in values(layers[file])
        if meaning(list((layers | {file: without(layers[file], *path)}).values())) == whole
    ]
    assert needless == []


@pytest.mark.parametrize("scale", SCALES)
def test_the_schema_for_editors_takes_what_the_study_takes(scale):
    editor = Draft202012Validator(json.loads(json.dumps(schema())))
    sizes = yaml.safe_load((ROOT / f"scales/{scale}.yaml").read_text())
    for said in (CONFIG, sizes):
        assert [error.message for error in editor.iter_errors(said)] == []
    for wrong in ({"gan": {"lamda_gan": 0.1}}, {"gan": {"lambda_gan": -1}}, {"gan": {"lambda_gan": "much"}}):
        assert not editor.is_valid(merge(sizes, wrong)), wrong


TRAINING = {"scenes": 8, "iterations": 2, "batch_size": 4, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"datasets": {"x": {"teacher": "sd15", "pairs": 3}}}, "config.yaml: datasets.x needs teacher, guidance, "),
        (
            {"datasets": {"cifar10-50k": {"guidance": 3.0}}},
            "datasets.cifar10-50k needs teacher, guidance, ",
        ),
        (
            {"teachers": {"sdxl": {"path": None, "training": TRAINING | {"images": "openmoji"}}}},
            "config.yaml: teachers.sdxl is in latents: its training takes no `images`",
        ),
        ({"tables": {"table1": {"rows": ["a", "a"]}}}, "tables.table1.rows is ['a', 'a']: each may appear only once"),
        (
            {"teachers": {"sdxl": {"training": {"scnes": 3}}}},
            "config.yaml: unknown key 'scnes' in teachers.sdxl.training, did you mean 'scenes'?",
        ),
        (
            {"prompts": {"unconditional": {"pth": "x"}}},
            "unknown key 'pth' in prompts.unconditional, did you mean 'p",
        ),
        (
            {"runs": {"regression-mse": {"lambda_gan": 1.0}}},
            "is of the stage regression, which has no setting 'l",
        ),
        (
            {"runs": {"gan-gigagan": {"multi_scale": True}}},
            "config.yaml: runs.gan-gigagan: the gigagan discriminator never sees z",
        ),
        ({"gan": {"mix_fraction_text": 1.5}}, "config.yaml: gan.mix_fraction_text is 1.5"),
        ({"scale": "toy", "seed": True}, "config.yaml: seed is True, it must be a whole number"),
    ],
)
def test_a_mistake_that_only_a_model_can_see(changes, said):
    assert said in complaint(changes)


def test_a_key_that_stands_twice_in_a_scale_is_refused(tmp_path):
    (tmp_path / "scales").mkdir()
    (tmp_path / "scales/paper.yaml").write_text("gpu_memory: 80\nruns: {a: {}}\nseed: 0\nruns: {b: {}}\n")
    with pytest.raises(UserError) as said:
        read_scale("paper", tmp_path)
    assert str(said.value) == "scales/paper.yaml, line 4: the key 'runs' appears twice: keep one"


def test_every_loss_of_the_sweep_has_the_same_learning_rates():
    sweep = Study(load(configured(yaml.safe_load((ROOT / "docs/toy/sweeps.yaml").read_text())), ROOT))
    tried = {}
    for row in sweep.tables["sweep-losses"].rows:
        settings = sweep.runs[row].settings
        tried.setdefault(settings.loss, []).append(settings.learning_rate)
    assert len(tried) == 4 and len({tuple(rates) for rates in tried.values()}) == 1
    assert sweep.benchmark("sweep").source != sweep.benchmark("coco2014").source
