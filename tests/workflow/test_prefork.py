"""A job that the server runs is what it would be alone, but for the imports; it does not outlive who asked for it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts import prefork

SCRIPT = """
import os, signal, sys, time
import diffusion2gan, library

if __name__ == "__main__":
    print(sys.argv, sys.path[0], os.getcwd(), os.environ["TOLD"], diffusion2gan.SAYS, library.process == os.getpid())
    print("a problem", os.getpid(), file=sys.stderr, flush=True)
    sys.stdout.flush()
    what = sys.argv[1]
    if what == "wait":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        time.sleep(60)
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise ValueError("wrong")
    sys.exit(int(what) if what.isdigit() else what)
"""
PARENT = """
import os, sys, time
sys.path[0] = "src/scripts"
import prefork
prefork.start()
print(os.environ["PREFORK"], flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    """A copy of the program beside a script that imports a library and a module of this project."""
    scripts = tmp_path / "src/scripts"
    (scripts / "kind").mkdir(parents=True)
    shutil.copy(prefork.__file__, scripts)
    (scripts / "kind/script.py").write_text(SCRIPT)
    (tmp_path / "library.py").write_text("import os\nprocess = os.getpid()\n")
    (tmp_path / "src/diffusion2gan.py").write_text("SAYS = 'before'\n")
    return tmp_path


def environment(folder, **more):
    given = {name: value for name, value in os.environ.items() if name != "PREFORK"}
    return given | {"PYTHONPATH": f"{folder}:{folder}/src", "OMP_NUM_THREADS": "1", "TOLD": "this"} | more


def client(folder, *words, **more):
    return subprocess.Popen(
        [sys.executable, "src/scripts/prefork.py", *words], cwd=folder, env=environment(folder, **more),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def serving(folder):
    """The socket of a server, and the process that stands for Snakemake."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True) as snakemake:
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


def told(folder, words, says="before", alone=False):
    return f"{['src/scripts/kind/script.py', *words]} {folder}/src/scripts/kind {folder} this {says} {alone}\n"


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
            alone = more != {"PREFORK": path}
            assert (out, program.returncode) == (told(folder, [word], alone=alone), status)
            assert problems.splitlines()[-1].startswith(last)


def test_what_is_no_script_runs_alone(folder):
    with serving(folder) as (path, _):
        program = client(folder, "-c", "import sys; print('library' in sys.modules)", PREFORK=path)
        assert program.communicate(timeout=20)[0] == "False\n"


def test_a_job_runs_the_code_as_it_is_when_it_starts(folder):
    with serving(folder) as (path, _):
        assert client(folder, "src/scripts/kind/script.py", "0", PREFORK=path).communicate(timeout=20)
        (folder / "src/diffusion2gan.py").write_text("SAYS = 'afterwards'\n")
        out, _ = client(folder, "src/scripts/kind/script.py", "0", PREFORK=path).communicate(timeout=20)
        assert out == told(folder, ["0"], says="afterwards")


def test_signals_reach_the_job(folder):
    with serving(folder) as (path, _):
        program = client(folder, "src/scripts/kind/script.py", "wait", PREFORK=path)
        job = job_of(program)
        program.terminate()
        assert program.wait(20) == 143 and not alive(job)


def test_a_job_does_not_outlive_who_asked_for_it(folder):
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
    with serving(folder) as (path, _):
        program = client(folder, "src/scripts/kind/script.py", "0", PREFORK=path)
        assert program.communicate(timeout=20)[1].endswith("ImportError: no library\n") and program.returncode == 1
        Path(path).unlink()
        Path(path).parent.rmdir()


def test_a_server_is_started_unless_it_is_not_wanted(monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    monkeypatch.setenv("PREFORK", "")
    prefork.start()
    assert not started and not os.environ["PREFORK"]
    monkeypatch.delenv("PREFORK")
    prefork.start()
    assert started == [[sys.executable, prefork.__file__, "--serve", os.environ["PREFORK"]]]
    Path(os.environ["PREFORK"]).parent.rmdir()
