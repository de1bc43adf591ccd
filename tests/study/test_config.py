"""What a user can get wrong in the configuration: each is one line that says what, where and what to do."""

import copy
from pathlib import Path

import pytest
import yaml

from diffusion2gan.errors import UserError
from diffusion2gan.study.config import load, merge
from diffusion2gan.study.study import Study

ROOT = Path(__file__).parents[2]
SCALES = ("smoke", "toy", "paper")


CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def configured(changes: dict | None = None) -> dict:
    return merge(CONFIG, changes or {})


def complaint(changes: dict) -> str:
    with pytest.raises(UserError) as error:
        Study(load(configured(changes), ROOT))
    message = str(error.value)
    assert "\n" not in message
    return message


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


def test_a_new_dataset_without_a_size_names_both_files():
    message = complaint({"datasets": {"sd-cfg-5": {"teacher": "sd15", "guidance": 5, "prompts": "unconditional"}}})
    assert message == "config.yaml or scales/toy.yaml: datasets.sd-cfg-5 lacks 'pairs'"


def test_a_mistake_in_a_scale_names_its_file(tmp_path):
    (tmp_path / "schemas").symlink_to(ROOT / "schemas")
    (tmp_path / "scales").mkdir()
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
    assert merged["gan"]["lambda_gan"] == 7.5
    assert merged["gan"]["r1_gamma"] == yaml.safe_load((ROOT / "scales/toy.yaml").read_text())["gan"]["r1_gamma"]
    assert config == before


def test_merge_replaces_lists_and_merges_mappings():
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(below, {"a": {"y": [3]}, "c": 2}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}
    assert below == {"a": {"x": 1, "y": [1, 2]}, "b": 1}
