"""A job that the server runs is what it would be alone, but for the imports, and it ends with its client."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from workflow.conftest import pretend

from diffusion2gan import prefork

SCRIPT = """
import os, signal, sys, time
import diffusion2gan, library

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, lambda number, _: sys.exit(100 + number))
    print(sys.argv, sys.path[0], os.getcwd(), os.environ["TOLD"], os.environ["ADDED"])
    print(diffusion2gan.SAYS, library.process == os.getpid(), library.threads if len(sys.argv) < 3 else "")
    print("a problem", os.getpid(), file=sys.stderr, flush=True)
    sys.stdout.flush()
    what = sys.argv[1]
    while what == "wait":
        time.sleep(0.1)  # a signal that comes just before a sleep does not end it
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise ValueError("wrong")
    sys.exit(int(what) if what.isdigit() else what)
"""
PARENT = """
import os, pathlib, time
from diffusion2gan import prefork
prefork.start(pathlib.Path("src/scripts").resolve())
print(os.environ["PREFORK"], flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    """A copy of the program beside a script that imports a library and a module of this project."""
    scripts = tmp_path / "src/scripts"
    (scripts / "kind").mkdir(parents=True)
    (package := tmp_path / "src/diffusion2gan").mkdir()
    shutil.copy(prefork.__file__, package)
    (package / "__init__.py").write_text("SAYS = 'before'\n")
    (scripts / "kind/script.py").write_text(SCRIPT)
    library = "import os\nprocess, threads = os.getpid(), os.environ['OMP_NUM_THREADS']\nos.environ['ADDED'] = 'more'\n"
    library += "asked = os.environ.get('PYTORCH_NVML_BASED_CUDA_CHECK')\n"
    (tmp_path / "library.py").write_text(library)
    return tmp_path


def environment(folder, **more):
    given = {name: value for name, value in os.environ.items() if name != "PREFORK"}
    return given | {"PYTHONPATH": f"{folder}:{folder}/src", "OMP_NUM_THREADS": "1", "TOLD": "this"} | more


def client(folder, *words, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "diffusion2gan.prefork", *words], cwd=folder, env=environment(folder, **more),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def serving(folder):
    """The socket of a server, and the process that stands for Snakemake."""
    command, threads = [sys.executable, "-c", PARENT], environment(folder, OMP_NUM_THREADS="4")
    with subprocess.Popen(command, cwd=folder, env=threads, stdout=subprocess.PIPE, text=True) as snakemake:
        path = snakemake.stdout.readline().strip()
        try:
            until(lambda: Path(path).exists())
            yield path, snakemake
        finally:
            snakemake.kill()
    until(lambda: not Path(path).parent.exists())


def until(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def job_of(program) -> int:
    """The process that runs the job: it says so."""
    return int(program.stderr.readline().split()[-1])


def told(folder, words, says="before", alone=False, threads=1):
    called = f"{['src/scripts/kind/script.py', *words]} {folder}/src/scripts/kind {folder} this more\n"
    return called + f"{says} {alone} {threads}\n"


@pytest.mark.parametrize(
    ("word", "status", "last"),
    [
        ("0", 0, "a problem"),
        ("7", 7, "a problem"),
        ("error: a mistake", 1, "error: a mistake"),
        ("raise", 1, "ValueError: wrong"),
        ("die", -signal.SIGKILL, "a problem"),
    ],
)
def test_a_job_has_its_arguments_folder_environment_and_status(folder, word, status, last):
    with serving(folder) as (path, _):
        for more in ({"PREFORK": path}, {}, {"PREFORK": path, "OMP_NUM_THREADS": "2"}, {"PREFORK": f"{path}.gone"}):
            program = client(folder, "src/scripts/kind/script.py", word, **more)
            out, problems = program.communicate(timeout=20)
            expected = told(folder, [word], alone=more != {"PREFORK": path}, threads=more.get("OMP_NUM_THREADS", 1))
            assert (out, program.returncode) == (expected, status)
            assert problems.splitlines()[-1].startswith(last)


def test_what_is_no_script_runs_alone(folder):
    with serving(folder) as (path, _):
        program = client(folder, "-c", "import sys; print('library' in sys.modules)", PREFORK=path)
        assert program.communicate(timeout=20)[0] == "False\n"


def test_a_job_with_a_closed_stream_runs_alone(folder):
    """Otherwise it would write into the socket, which has the number of the closed stream."""
    with serving(folder) as (path, _):
        program = ["-m", "diffusion2gan.prefork", "src/scripts/kind/script.py", "7"]
        ran = subprocess.run(
            ["bash", "-c", 'exec "$@" 2>&-', "bash", sys.executable, *program],
            cwd=folder, env=environment(folder, PREFORK=path), stdout=subprocess.PIPE, text=True, timeout=20,
        )  # fmt: skip
        assert ran.returncode == 7 and told(folder, ["7"], alone=True) in ran.stdout


def test_a_job_runs_the_code_as_it_is_when_it_starts(folder):
    with serving(folder) as (path, _):
        assert client(folder, "src/scripts/kind/script.py", "0", PREFORK=path).communicate(timeout=20)
        (folder / "src/diffusion2gan/__init__.py").write_text("SAYS = 'afterwards'\n")
        out, _ = client(folder, "src/scripts/kind/script.py", "0", PREFORK=path).communicate(timeout=20)
        assert out == told(folder, ["0"], says="afterwards")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_signals_reach_the_job(folder, number):
    with serving(folder) as (path, _):
        program = client(folder, "src/scripts/kind/script.py", "wait", PREFORK=path)
        job = job_of(program)
        program.send_signal(number)
        assert program.wait(20) == 100 + number and not alive(job)


def test_a_job_ends_with_its_client(folder):
    with serving(folder) as (path, _):
        program = client(folder, "src/scripts/kind/script.py", "wait", PREFORK=path)
        job = job_of(program)
        assert alive(job)
        program.kill()
        until(lambda: not alive(job))


def test_nothing_outlives_snakemake(folder):
    with serving(folder) as (path, snakemake):
        program = client(folder, "src/scripts/kind/script.py", "wait", PREFORK=path)
        job = job_of(program)
        snakemake.kill()
        until(lambda: not alive(job))
        assert program.wait(20) == 1
        assert program.stderr.read() == "error: the server that ran this job was killed: run Snakemake again\n"


def test_libraries_that_cannot_be_imported_are_imported_by_the_job_itself(folder):
    (folder / "library.py").write_text("raise ImportError('no library')\n")
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as snakemake:
        path = snakemake.stdout.readline().strip()
        until(lambda: not Path(path).parent.exists())
        program = client(folder, "src/scripts/kind/script.py", "0", PREFORK=path)
        assert program.communicate(timeout=20)[1].endswith("ImportError: no library\n") and program.returncode == 1
        snakemake.kill()
        assert snakemake.stderr.read() == "note: every job imports its libraries itself: no library\n"


def test_a_long_path_of_temporary_files_is_no_obstacle(folder, monkeypatch):
    (deep := folder / ("deep" * 25)).mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    with serving(folder) as (path, _):
        program = client(folder, "src/scripts/kind/script.py", "0", PREFORK=path)
        assert program.communicate(timeout=20)[0] == told(folder, ["0"]) and not list(deep.iterdir())


def test_a_server_is_started_unless_it_is_not_wanted(monkeypatch):
    started = []

    def popen(command, pass_fds, **_):
        (listener,) = pass_fds
        with socket.socket(fileno=os.dup(listener)) as listening:
            assert (command.pop(4), listening.getsockname()) == (str(listener), os.environ["PREFORK"])
        started.append(command)

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setenv("PREFORK", "")
    assert not prefork.start(Path("scripts")) and not started and not os.environ["PREFORK"]
    for outer in ("of another Snakemake", None):
        monkeypatch.setenv("PREFORK", outer) if outer else monkeypatch.delenv("PREFORK")
        assert prefork.start(Path("scripts"))
        serve = [sys.executable, "-m", "diffusion2gan.prefork", "--serve"]
        assert started.pop() == [*serve, str(os.getpid()), "scripts"]
        Path(os.environ["PREFORK"]).unlink()
        Path(os.environ["PREFORK"]).parent.rmdir()


def test_a_disk_without_sockets_is_no_mistake(monkeypatch, tmp_path, capsys):
    def lacking(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(prefork, "socket", SimpleNamespace(socket=lambda *_: SimpleNamespace(bind=lacking), AF_UNIX=1))
    monkeypatch.delenv("PREFORK", raising=False)
    assert not prefork.start(Path("scripts")) and "PREFORK" not in os.environ
    assert "no socket in TMPDIR ([Errno 1] Operation not permitted)" in capsys.readouterr().err


def test_snakemake_runs_its_jobs_in_the_server(tmp_path):
    """In a folder whose name the shell would take apart."""
    (folder := tmp_path / "it's one of\"these").mkdir()
    workflow = replace(pretend(folder), as_typed=True)
    script = folder / "src/scripts/data/make_benchmark.py"
    before = "import sys\nimported = 'torch' in sys.modules\nimport torch\n"
    script.write_text(f"{before}{script.read_text()}\nif __name__ == '__main__': print(imported)")
    ran = workflow.run(
        "--cores", "1", "--config", "scale=smoke", "--", "work/smoke/benchmarks/openmoji/prompts.parquet"
    )
    assert ran.returncode == 0, ran.stdout
    (log,) = (folder / "work/smoke/logs").rglob("make_benchmark/*.log")
    assert log.read_text() == "True\n"


def test_libraries_may_ask_for_gpus_before_the_fork(folder):
    """A process that has asked CUDA itself would leave its forks without CUDA."""
    with serving(folder) as (path, _):
        (folder / "src/scripts/kind/asks.py").write_text(
            "import library, os\nprint(library.asked, os.environ.get('X'))\n"
        )
        program = client(folder, "src/scripts/kind/asks.py", PREFORK=path, X="y")
        assert program.communicate(timeout=20)[0] == "1 y\n"
