"""The states of many jobs, from fake sacct, squeue and scontrol."""

import pytest

from snakemake_executor_plugin_submitit.states import GONE, State, ask, in_words

HEADER = "JobID|State|ExitCode|NodeList\n"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Set what sacct, squeue and scontrol print; None makes a program fail. Returns the calls so far."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    calls = tmp_path / "calls"
    calls.touch()

    def says(**answers: str | None):
        for program in ("sacct", "squeue", "scontrol"):
            answer = answers.get(program)
            (tmp_path / f"{program}.txt").write_text(answer or "")
            script = tmp_path / program
            end = "exit 1" if answer is None else f"cat {tmp_path}/{program}.txt"
            script.write_text(f'#!/bin/sh\necho "{program} $@" >> {calls}\n{end}\n')
            script.chmod(0o755)
        return lambda: [line.split()[0] for line in calls.read_text().splitlines()]

    return says


def test_one_sacct_for_all_jobs_and_tasks(slurm):
    lines = ["7|RUNNING|0:0|node1", "8_0|COMPLETED|0:0|node1", "8_[1-3%2]|PENDING|0:0|None assigned"]
    calls = slurm(sacct=HEADER + "\n".join(lines))
    states = ask(["7", "8_0", "8_1", "8_3"])
    assert {job: state.name for job, state in states.items()} == {
        "7": "RUNNING",
        "8_0": "COMPLETED",
        "8_1": "PENDING",
        "8_3": "PENDING",
    }
    assert calls() == ["sacct"]


def test_the_queue_is_asked_where_there_is_no_accounting(slurm):
    calls = slurm(
        sacct=None, squeue="7|RUNNING|node1\n8_0|FAILED|node2\n", scontrol="JobId=8 JobState=FAILED ExitCode=3:0 X=y\n"
    )
    assert ask(["7", "8_0", "9"]) == {
        "7": State("RUNNING", nodes="node1"),
        "8_0": State("FAILED", "3:0", "node2"),
        "9": State(GONE),
    }
    assert calls() == ["sacct", "squeue", "scontrol"]


def test_a_job_that_is_queued_again_has_not_failed(slurm):
    slurm(sacct=HEADER + "7|NODE_FAIL|1:0|node1\n8|FAILED|1:0|node1\n", squeue="7|PENDING|\n")
    states = ask(["7", "8"])
    assert states["7"].alive and states["8"] == State("FAILED", "1:0", "node1")


def test_nothing_is_concluded_while_slurm_is_silent(slurm):
    slurm()
    assert ask(["7"]) == {}
    slurm(sacct=HEADER + "7|FAILED|1:0|node1\n")
    assert ask(["7"]) == {}, "without the queue it is not known whether it starts again"


def test_nothing_is_concluded_from_an_answer_that_was_cut_short(slurm):
    slurm(sacct=HEADER + "7|RUNNING|0:0|node1\n8|\n9|FAI", squeue="7|RUNNING|node1\n8|RUN")
    assert ask(["7", "8", "9"]) == {"7": State("RUNNING", "0:0", "node1")}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State("OUT_OF_MEMORY", "0:125", "node1"), "ran out of memory on node1: it had mem_mb=900 a node"),
        (State("TIMEOUT", "0:0"), "reached its time limit: it had runtime=30 minutes"),
        (State("NODE_FAIL", "1:0", "node2"), "lost its node on node2"),
        (State("CANCELLED"), "was cancelled"),
        (State("FAILED", "3:0", "node1"), "ended with exit code 3 on node1"),
        (State("FAILED", "0:9"), "was killed by SIGKILL"),
        (State("FAILED", "137:0"), "was killed by SIGKILL"),
        (State("FAILED", "9:0"), "was killed by SIGKILL"),
        (State("FAILED", "0:53"), "could not write its log"),
        (State("FAILED"), "failed"),
        (State(GONE), "is no longer known to SLURM and left no result"),
    ],
)
def test_why_a_job_ended(state, words):
    assert in_words(state, {"mem_mb": 900, "runtime": 30}) == words
