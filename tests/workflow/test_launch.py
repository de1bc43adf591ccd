"""The launcher: which command it becomes, that its exit code is the program's, and that signals arrive."""

import io
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import launch

LAUNCH = Path(launch.__file__)
SLURM = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "gpu[07-09,12]"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@pytest.mark.parametrize("gpus", ["0", "1"])
def test_one_process_runs_the_script_itself(gpus, tmp_path, started, monkeypatch, capsys):
    """With its arguments, its folder first in the path, and as the main program."""
    (tmp_path / "neighbour.py").write_text("SAYS = 'here'")
    script = tmp_path / "train.py"
    script.write_text("import neighbour, sys; print(__name__, neighbour.SAYS, sys.argv)")
    monkeypatch.delitem(sys.modules, "neighbour", raising=False)
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written := io.BytesIO()))
    launch.main(["--gpus", gpus, str(script), "--a", "1"])
    del sys.modules["neighbour"]
    assert written.getvalue().decode() == f"__main__ here {[str(script), '--a', '1']}\n" and not started
    assert capsys.readouterr().err == f"{sys.executable} {script} --a 1\n"


def test_several_gpus_are_torchrun():
    expected = [*TORCHRUN, "--nproc-per-node", "8", "--standalone", "train.py"]
    assert launch.command(1, 8, ["train.py"], {}) == expected


def test_several_nodes_are_torchrun_on_each_of_them():
    line = launch.command(2, 8, ["train.py", "--seed", "1"], SLURM)
    assert line[: line.index(sys.executable)] == [
        "srun", "--overlap", "--mem=0", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1",
        *launch.SHIELDED,
    ]  # fmt: skip
    assert line[line.index(sys.executable) :] == [
        *TORCHRUN, "--nproc-per-node", "8", "--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-id", "4711",
        "--rdzv-endpoint", "gpu07:24711", "train.py", "--seed", "1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "first"),
    [
        ("gpu[07-09,12]", "gpu07"),
        ("gpu3", "gpu3"),
        ("a1,b2", "a1"),
        ("r1n[3,5]-ib,r2n7", "r1n3-ib"),
        ("n1,g[1-2]", "n1"),
    ],
)
def test_the_first_node_is_where_they_meet(listed, first):
    endpoint = launch.command(2, 1, ["x.py"], SLURM | {"SLURM_JOB_NODELIST": listed})[-2]
    assert endpoint.split(":")[0] == first


def test_nodes_without_slurm_are_errors():
    with pytest.raises(SystemExit, match="error: 2 nodes need a SLURM job"):
        launch.command(2, 8, ["train.py"], {})


def test_the_exit_code_and_the_output_are_the_programs(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("import sys; print('told', *sys.argv[1:]); sys.exit(7)")
    ran = subprocess.run([sys.executable, LAUNCH, script, "--gpus", "8"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (7, "told --gpus 8\n")
    assert ran.stderr.strip().endswith(f"{script} --gpus 8")


def test_signals_reach_the_program(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, LAUNCH, script], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "ready\n"
        os.kill(program.pid, signal.SIGTERM)
        assert program.wait(10) == 143


def test_srun_gets_a_process_for_each_node(tmp_path):
    """With a stand-in for srun that runs its command once."""
    (tmp_path / "srun").write_text(
        '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nshift 4\necho "on a node: $*"\nexit 3\n'
    )
    (tmp_path / "srun").chmod(0o755)
    environment = os.environ | SLURM | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, LAUNCH, "--nodes", "2", "--gpus", "4", "train.py"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 3
    assert ran.stdout.startswith(f"on a node: {sys.executable} -m torch.distributed.run --nproc-per-node 4 --nnodes 2")


@pytest.fixture
def started(monkeypatch):
    """What would take the place of the process."""
    lines = []
    monkeypatch.setattr(os, "execvp", lambda *given: lines.append(given))
    return lines


def test_the_command_line_is_shown_and_takes_the_place_of_the_process(started, capsys, monkeypatch):
    monkeypatch.setattr(os, "environ", SLURM)
    launch.main(["--nodes", "2", "--gpus", "4", "train.py", "--out", "a b"])
    launch.main(["--gpus", "4", "train.py"])
    lines = [launch.command(2, 4, ["train.py", "--out", "a b"], SLURM), launch.command(1, 4, ["train.py"], {})]
    assert started == [(line[0], line) for line in lines]
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.splitlines() == [shlex.join(line) for line in lines]


@pytest.mark.parametrize("words", [["--nodes", "0", "x.py"], ["--gpus", "-1", "x.py"], ["--gpus", "1"], []])
def test_impossible_numbers_are_errors(started, capsys, words):
    with pytest.raises(SystemExit) as left:
        launch.main(words)
    assert left.value.code == 2 and not started
    said = "give at least one node, no fewer than 0 GPUs, and a script"
    assert capsys.readouterr().err.endswith(f"error: {said}\n")


def test_a_program_that_cannot_be_started_is_one_line(monkeypatch):
    def fail(*_):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "execvp", fail)
    with pytest.raises(SystemExit) as left:
        launch.main(["--gpus", "2", "x.py"])
    assert left.value.code == f"error: {sys.executable} cannot be run: No such file or directory"


def test_the_help_says_what_each_option_is(capsys):
    with pytest.raises(SystemExit):
        launch.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for said in (
        "--nodes NODES how many machines", "command the script and its options",
        "--gpus GPUS GPUs of each, one process per GPU; 0 or 1: one process",
    ):  # fmt: skip
        assert said in shown
    assert launch.__doc__.strip().splitlines()[2].strip() in shown  # the example, on a line of its own


def test_the_port_and_the_place_follow_the_job_and_its_first_node():
    for job, port in (("4711", 24711), ("10000", 20000), ("29999", 29999), ("55_3", 20553)):
        line = launch.command(2, 1, ["x.py"], SLURM | {"SLURM_JOB_ID": job})
        assert line[line.index("--rdzv-id") + 1] == job and line[-2].endswith(f":{port}")
    alone = {"SLURM_JOB_ID": "1"}
    assert launch.command(2, 1, ["x.py"], alone)[-2] == "localhost:20001"
    with pytest.raises(SystemExit) as left:
        launch.command(2, 1, ["x.py"], {})
    assert left.value.code == "error: 2 nodes need a SLURM job, and this process is in none: use --nodes 1"


@pytest.mark.parametrize(("gpus", "processes"), [(0, "1"), (1, "1"), (2, "2"), (8, "8")])
def test_a_node_has_a_process_for_each_gpu_and_at_least_one(gpus, processes):
    line = launch.command(2, gpus, ["x.py"], SLURM)
    assert line[line.index("--nproc-per-node") + 1] == processes
