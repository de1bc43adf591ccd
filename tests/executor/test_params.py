"""The parameters of submitit follow from the resources of a job."""

import pytest
from snakemake_interface_common.exceptions import ApiError
from submitit import AutoExecutor
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from snakemake_executor_plugin_submitit.params import parameters

TRAINING = {
    "nodes": 8,
    "gpus": 8,
    "mem_mb": 800000,
    "runtime": 2880,
    "requeues": 20,
    "slurm_partition": "gpu",
    "slurm_extra": "--exclusive --mail-type=END",
    "tmpdir": "/tmp",
}


def script(chosen: dict) -> list[str]:
    """The lines of the script that submitit passes to sbatch."""
    names = SlurmExecutor._equivalence_dict()
    options = {names.get(key, key.removeprefix("slurm_")): value for key, value in chosen.items()}
    assert options.keys() <= SlurmExecutor._valid_parameters()
    return _make_sbatch_string("python run.py", "folder", **options).splitlines()


def test_a_training_on_slurm():
    lines = script(parameters("train_gan", TRAINING, 64, "slurm", signal_delay=300))
    asked = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert asked >= {
        "job-name=train_gan",
        "nodes=8",
        "ntasks-per-node=1",
        "cpus-per-task=64",
        "gpus-per-node=8",
        "mem=800000M",
        "time=2880",
        "signal=USR2@300",
        "requeue",
        "partition=gpu",
        "exclusive",
        "mail-type=END",
    }


def test_the_command_of_several_nodes_runs_on_one_of_them_with_all_its_cpus():
    lines = script(parameters("train_gan", TRAINING, 64, "slurm"))
    assert any(line.startswith("srun ") and "--cpus-per-task=64 --nodes=1 --ntasks=1 " in line for line in lines)


def test_without_slurm_there_is_one_node_and_no_partition():
    local = parameters("train_gan", TRAINING, 2, "local")
    assert local["nodes"] == 1 and not any(key.startswith("slurm_") for key in local)


def test_a_job_without_resources_gets_the_defaults():
    asked = parameters("make_table", {}, 0, "slurm")
    assert (asked["cpus_per_task"], asked["timeout_min"]) == (1, 60)
    assert "gpus_per_node" not in asked and not any("mem" in line for line in script(asked))


def test_a_job_that_cannot_resume_is_not_queued_again():
    lines = script(parameters("score", {"requeues": 0}, 1, "slurm"))
    assert "#SBATCH --requeue" not in lines and "#SBATCH --signal=USR2@0" in lines, "and is not warned"


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"slurm_reservation": "mine"}, "score: resource slurm_reservation is not known.*--reservation=mine"),
        ({"requeues": 3, "runtime": 2}, "score: runtime=2 minutes leaves no time before the warning, 120 s ahead"),
        ({"slurm_extra": "-x node1"}, "score: slurm_extra takes options.*not '-x'"),
    ],
)
def test_an_unknown_resource_is_a_one_line_error(resources, message):
    with pytest.raises(ApiError, match=message):
        parameters("score", resources, 1, "slurm")


def test_submitit_accepts_the_parameters(tmp_path):
    executor = AutoExecutor(tmp_path, cluster="local")
    executor.update_parameters(**parameters("train_gan", TRAINING, 2, "local"))
    assert executor.parameters["timeout_min"] == 2880
