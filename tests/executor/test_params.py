"""The parameters of submitit follow from the resources of a job."""

import pytest
from snakemake_interface_common.exceptions import ApiError
from submitit import AutoExecutor
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from snakemake_executor_plugin_submitit.params import ELSEWHERE, check_resources, parameters

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
        ({"requeues": 3, "runtime": 2}, "score: runtime=2 minutes leaves no time before the warning, 120 s ahead"),
        ({"slurm_extra": "-x node1"}, "score: slurm_extra takes options.*not '-x'"),
        ({"slurm_extra": "--comment='mine"}, 'score: slurm_extra is "--comment=\'mine": no closing quotation'),
        ({"slurm_extra": "--ntasks=4"}, "score: slurm_extra takes no --ntasks, which this executor sets"),
    ],
)
def test_a_resource_that_does_not_fit_is_a_one_line_error(resources, message):
    with pytest.raises(ApiError, match=message):
        parameters("score", resources, 1, "slurm")


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("gpu", 1, "is not known: write gpus, the GPUs of each node"),
        ("gres", "gpu:a100:2", "is not known: write gpus, the GPUs of each node"),
        ("constraint", "a100", "is not known: write slurm_constraint"),
        ("tasks", 4, "is not known: leave it out, launch.py starts the processes"),
        ("cpus_per_task", 8, "is not known: write --set-threads RULE=NUMBER"),
        ("mem_mb_per_cpu", 4000, "is not known: write mem_mb, of each node"),
        ("qos", "high", "is not known: write slurm_qos"),
        ("walltime", 60, "is not known: write runtime, in minutes"),
        ("slurm_partiton", "gpu", "is not known: did you mean 'slurm_partition'?"),
        ("requeue", 1, "is not known: did you mean 'requeues'?"),
        ("slurm_reservation", "mine", "is not known: write slurm_extra='--reservation=mine'"),
        ("licenses", 1, "is not known: use one of nodes, gpus, .*, or limit it with --resources licenses=NUMBER"),
        ("slurm_mem", "4G", "is not known: write mem_mb, of each node"),
        ("slurm_time", 60, "is not known: write runtime, in minutes"),
        ("GPUs", 2, "is not known: did you mean 'gpus'?"),
        ("gpus", "2 GPUs", "is '2 GPUs', it must be a whole number of at least 0"),
        ("gpus", True, "is True, it must be a whole number"),
        ("mem_mb", "8G", "is '8G', it must be a whole number"),
        ("nodes", 0, "is 0, it must be a whole number of at least 1"),
        ("runtime", -5, "is -5, it must be a whole number of at least 1"),
    ],
)
def test_a_resource_is_known_or_refused(key, value, hint):
    with pytest.raises(ApiError, match=f"^score: resource {key} {hint}") as raised:
        check_resources("score", {key: value})
    assert "\n" not in str(raised.value)


def test_what_this_executor_and_snakemake_set_is_not_refused():
    snakemakes = {"_cores": 1, "_nodes": 1, "mem": "8 GB", "disk_mb": 1, "fitting": "--shard true"}
    check_resources("train_gan", TRAINING | snakemakes | {"mem_mb": "<TBD>", "licenses": 1}, {"licenses": 4})
    assert not ELSEWHERE.keys() & TRAINING.keys()


def test_submitit_accepts_the_parameters(tmp_path):
    executor = AutoExecutor(tmp_path, cluster="local")
    executor.update_parameters(**parameters("train_gan", TRAINING, 2, "local"))
    assert executor.parameters["timeout_min"] == 2880
