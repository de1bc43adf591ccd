"""What happens to jobs on a real SLURM, and to the process that watches them."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from slurm.cluster import until, works

from diffusion2gan.study.cost import Job
from diffusion2gan.study.doctor.finding import SOUND, WRONG, findings
from scripts.report import make_doctor
from snakemake_executor_plugin_submitit import ExecutorSettings

pytestmark = pytest.mark.xdist_group("slurm")
FAULTS = Path(__file__).with_name("faults.smk")


def slurm_says(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def faults(head):
    shutil.copy(FAULTS, head.folder / "Snakefile")
    return head


@pytest.mark.usefixtures("overtime")  # its job runs meanwhile
def test_faults_of_jobs_nodes_and_daemons(faults, slurm):
    """All at once: each job ends as it should, and the rest of the workflow goes on."""
    targets = "killed.txt exits.txt cancelled.txt lost.txt saves.txt".split()
    arrayed = [f"array/{i}.txt" for i in range(3)]
    running = faults.start("--keep-going", *targets, *arrayed)
    for name in ("cancelled.runs", "lost.runs", "saves.runs", *arrayed):
        faults.made(name)
    jobs = dict(line.split()[::-1] for line in slurm_says("squeue", "-h", "-o", "%i %j").splitlines())

    slurm.stop("slurmdbd")  # from here on only the queue can be asked
    slurm_says("scancel", jobs["cancelled"])
    slurm_says("scancel", "--signal=USR2", jobs["saves"])  # as a preemption does
    slurm_says("scontrol", "update", "nodename=node2", "state=down", "reason=test")
    until(lambda: "saves PENDING" in slurm_says("squeue", "-h", "-o", "%j %T"))
    slurm.stop("slurmctld")
    slurm.start("slurmctld")
    slurm.start("slurmdbd")
    (faults.folder / "go").touch()
    until(lambda: works("sinfo"))
    works("scontrol update nodename=node2 state=resume")  # refused if the restart has already done it

    assert running.wait(600) == 1
    said = faults.log.read_text()
    reasons = dict(re.findall(r"Error in rule (\w+):.*?message: Job \d+ (.*?)\. ", said, re.DOTALL))
    assert reasons.keys() == {"killed", "exits", "cancelled"}, said
    assert "SIGKILL" in reasons["killed"]
    assert "exit code 1" in reasons["exits"]
    assert "was cancelled" in reasons["cancelled"]
    assert "_log.err" in said and "logs/exits.log" in said
    assert (faults.folder / "saves.txt").read_text() == "step 5\n" and (faults.folder / "resumed").exists()
    assert (faults.folder / "lost.txt").exists()
    assert (faults.folder / "lost.starts").read_text().split()[-1] == "1", "it was started anew by SLURM"
    assert {(faults.folder / name).read_text().split(":")[0] for name in arrayed} == {"0", "1", "2"}


def test_a_killed_head_finds_its_jobs_and_ctrl_c_cancels_them(faults):
    files = ["waits/1.txt", "waits/2.txt", "waits/3.txt"]
    first = faults.start("--nolock", *files)
    for number in "123":
        faults.made(f"starts-{number}")
    first.send_signal(signal.SIGKILL)
    first.wait()
    (faults.folder / "go-1").touch()  # ends while no head watches
    faults.made("waits/1.txt")

    second = faults.start("--nolock", *files)
    (faults.folder / "go-2").touch()
    faults.made("waits/2.txt")
    assert all((faults.folder / f"starts-{number}").read_text() == "start\n" for number in "123"), "none twice"

    until(lambda: "found job" in faults.log.read_text())
    second.send_signal(signal.SIGINT)
    assert second.wait(120) == 1
    until(lambda: "waits" not in slurm_says("squeue", "-h", "-t", "running,pending", "-o", "%j"))


def test_a_full_disk_loses_no_success(faults):
    """The submission folder's disk fills up while a job runs: the job succeeds, and the next is not submitted."""
    folder = faults.folder / "full"
    folder.mkdir()
    if not works(f"mount -t tmpfs -o size=64k tmpfs {folder}"):
        pytest.skip("nothing can be mounted here")
    try:
        running = faults.start("--jobs", "1", "--submitit-folder", "full", "waits/1.txt", "exits.txt")
        faults.made("starts-1")
        with pytest.raises(OSError, match="No space left"):
            (folder / "filler").write_bytes(bytes(2**16))
        (faults.folder / "go-1").touch()
        assert running.wait(120) == 1
        assert (faults.folder / "waits/1.txt").exists(), faults.log.read_text()
        assert "submitit cannot submit exits to slurm: [Errno 28] No space left on device" in faults.log.read_text()
        code, said = faults.run("--submitit-folder", "full", "waits/2.txt")
        assert code == 1 and "free some space, or choose another --submitit-folder" in said
    finally:
        works(f"umount --lazy {folder}")


def test_a_folder_that_a_node_does_not_see_is_an_error(faults, slurm):
    plain = slurm.commands["node2"]
    hidden = f"mount -t tmpfs tmpfs {faults.folder} && exec {' '.join(plain)}"
    slurm.stop("node2")
    slurm.commands["node2"] = ["unshare", "--mount", "sh", "-c", hidden]
    slurm.start("node2")
    try:
        code, said = faults.run("lost.txt")
        assert code == 1
        reason = (
            r"Job \d+ could not write its log on node2. It left nothing in .*: is that folder shared between the nodes"
        )
        assert re.search(reason, said), said
    finally:
        slurm.stop("node2")
        slurm.commands["node2"] = plain
        slurm.start("node2")
        until(lambda: slurm_says("sinfo", "-h", "-n", "node2", "-o", "%T").strip() == "idle")


def test_without_slurm_the_start_is_refused_in_one_line(faults, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    code, said = faults.run("array/1.txt")
    assert code == 1 and "no sbatch on the PATH: start on a login node" in said


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("slurm_partition=nowhere", r"SLURM will not run array with .*slurm_partition=nowhere.*[Pp]artition"),
        ("slurm_account=nobody", r"SLURM will not run array with .*slurm_account=nobody.*[Aa]ccount"),
        ("gpus=3", r"SLURM will not run array with .*gpus=3.*no node has more than 2 GPUs"),
    ],
)
def test_what_slurm_would_never_run_is_one_line_at_the_start(faults, setting, message):
    code, said = faults.run("array/1.txt", "--set-resources", f"array:{setting}")
    assert code == 1
    assert any(re.search(message, line) for line in said.splitlines()), said
    assert not (faults.folder / ".snakemake/submitit/array").exists()


def test_the_doctor_says_which_jobs_slurm_would_take(faults):
    settings = ExecutorSettings(folder=faults.folder / "submitit")
    kinds = {"small": {"runtime": 5}, "large": {"runtime": 5, "gpus": 3}}
    jobs = [Job(rule, {}, None, resources) for rule, resources in kinds.items() for _ in range(2)]
    found = {each.subject: each for each in findings(make_doctor.of_slurm(jobs, settings))}
    states = {subject: each.state for subject, each in found.items()}
    assert states == {"SLURM": SOUND, "jobs of small": SOUND, "jobs of large": WRONG}
    assert "no node has more than 2 GPUs" in found["jobs of large"].said


def test_a_time_limit_is_told_in_words(overtime):
    assert overtime.process.wait(180) == 1
    assert re.search(r"Job \d+ reached its time limit on node\d: it had runtime=1 minutes", overtime.log.read_text())
