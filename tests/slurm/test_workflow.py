"""The whole workflow through SLURM, with scripts that only write their outputs."""

import subprocess

import pytest
from workflow.conftest import pretend

pytestmark = pytest.mark.xdist_group("slurm")


ROWS = "tables={table2: {rows: [regression-elatentlpips-large-batch, gan-diffusion, teacher-sd15]}}"


def test_table_2_with_the_gpus_that_were_asked_for(head):
    """Of three rows: a job takes seconds, most of them to start."""
    pretend(head.folder)
    asked = ["--set-resources", "train_gan:gpus=2", "train_gan:nodes=2", "generate_pairs:gpus=1", "score:gpus=1"]
    code, said = head.run("--config", "scale=smoke", ROWS, *asked, "--", "results/table2.csv")
    assert code == 0, said
    assert (head.folder / "results/table2.csv").exists()
    command = ["sacct", "-X", "-n", "-P", "-S", "now-1hour", "-o", "JobName,State,AllocTRES"]
    lines = [line.split("|") for line in subprocess.check_output(command, text=True).splitlines()]
    gpus = {"train_gan": "gres/gpu=4,", "generate_pairs": "gres/gpu=1,", "score": "gres/gpu=1,"}
    for rule, wanted in gpus.items():
        jobs = [(state, given) for name, state, given in lines if name == rule]
        ran = said.count(f"\nrule {rule}:")
        assert len(jobs) == ran > 0
        assert all(state == "COMPLETED" and wanted in f"{given}," for state, given in jobs), jobs
