"""The resources of a job as parameters of submitit."""

from snakemake_executor_plugin_submitit.params import parameters

TRAINING = {"nodes": 8, "gpus": 8, "mem_mb": 800000, "runtime": 2880, "slurm_partition": "gpu", "tmpdir": "/tmp"}


def test_a_training_on_slurm():
    assert parameters("train_gan", TRAINING, 64, "slurm") == {
        "name": "train_gan",
        "nodes": 8,
        "tasks_per_node": 1,
        "cpus_per_task": 64,
        "gpus_per_node": 8,
        "mem_gb": 800,
        "timeout_min": 2880,
        "slurm_partition": "gpu",
    }


def test_here_there_is_one_node_and_no_partition():
    local = parameters("train_gan", TRAINING, 2, "local")
    assert local["nodes"] == 1 and "slurm_partition" not in local


def test_a_job_that_asks_for_nothing():
    asked = parameters("make_table", {}, 0, "slurm")
    assert (asked["gpus_per_node"], asked["cpus_per_task"], asked["timeout_min"]) == (0, 1, 60)
    assert "mem_gb" not in asked


def test_submitit_takes_them(tmp_path):
    from submitit import AutoExecutor

    executor = AutoExecutor(tmp_path, cluster="local")
    executor.update_parameters(**parameters("train_gan", TRAINING, 2, "local"))
    assert executor.parameters["timeout_min"] == 2880
