"""Run a script without waiting for its imports, on the machine where Snakemake runs.

    python src/scripts/prefork.py src/scripts/evaluate/score.py --images …

Most of a short job's time would be the import of torch and diffusers. A server, `prefork.py --serve SOCKET`, imports
them once; for each job it forks a process, which runs the script. This program asks the server for such a process and
stands for it: the process has its arguments, environment, folder and output, receives its signals, and its exit status
is returned. Without a server (PREFORK is not set, or nobody listens there) the script runs in the usual way.

The server knows the libraries and not this project's own code, so that a job runs the code as it is when it starts.
"""

import ctypes
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPTS = Path(__file__).parent
OURS = "diffusion2gan", "scripts"
PASSED_ON = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2
LENGTH = struct.Struct("!I")
STATUS = struct.Struct("!i")
STREAMS = 0, 1, 2
PR_SET_PDEATHSIG = 1


def main(words: list[str]) -> None:
    if words[:1] == ["--serve"]:
        run(**serve(words[1]))
    elif (status := ask(os.environ.get("PREFORK"), words)) is None:
        os.execv(sys.executable, [sys.executable, *words])
    elif os.WIFSIGNALED(status):
        if (number := os.WTERMSIG(status)) != signal.SIGKILL:  # which has no handler to reset
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    else:
        sys.exit(os.WEXITSTATUS(status))


def ask(path: str | None, words: list[str]) -> int | None:
    """The wait status of the script, run by the server at `path`; None if there is none or it imported in vain."""
    # the libraries read the number of threads as they are imported: the server's is 1
    if not path or os.environ.get("OMP_NUM_THREADS") != "1" or not words[0].endswith(".py"):
        return None
    job = json.dumps({"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(path)
            socket.send_fds(server, [LENGTH.pack(len(job))], STREAMS)
            server.sendall(job)
            if not server.recv(1):  # a process has the job
                return None
        except OSError:
            return None
        for number in PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: server.send(bytes([number])))
        status = server.recv(STATUS.size)
    if not status:
        sys.exit("error: the server that ran this job was killed: run Snakemake again")
    return STATUS.unpack(status)[0]


def serve(path: str) -> dict:
    """Serve until Snakemake ends. Returns in every process that is to run a job, with the job."""
    end_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: (shutil.rmtree(Path(path).parent, ignore_errors=True), os._exit(0)))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    import_libraries()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            listener.close()
            return keep(connection)
        connection.close()


def keep(connection: socket.socket) -> dict:
    """Fork the process of a job and wait for it. Returns in that process; the one that waits ends here.

    The job is killed if the program that asked for it is gone.
    """
    end_with_parent(signal.SIGKILL)
    length, streams, _, _ = socket.recv_fds(connection, LENGTH.size, len(STREAMS))
    job = json.loads(connection.makefile("rb").read(LENGTH.unpack(length)[0]))
    process = os.fork()
    if process == 0:
        end_with_parent(signal.SIGKILL)
        connection.close()
        return job | {"streams": streams}
    connection.send(b"+")
    ended = os.pidfd_open(process)
    while True:
        ready, _, _ = select.select([ended, connection], [], [])
        if ended in ready:
            connection.send(STATUS.pack(os.waitpid(process, 0)[1]))
            os._exit(0)
        number = connection.recv(1)
        os.kill(process, number[0] if number else signal.SIGKILL)


def run(words: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    """Run a script as Python would: with these arguments, folder, environment and streams."""
    for stream, own in zip(streams, STREAMS, strict=True):
        os.dup2(stream, own)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent.resolve())
    runpy.run_path(words[0], run_name="__main__")


def import_libraries() -> None:
    """Import what the scripts import, and forget this project's own modules."""
    sys.path.insert(1, str(SCRIPTS.parent))
    for file in sorted(SCRIPTS.glob("*/*.py")):
        __import__(".".join(file.relative_to(SCRIPTS.parent).with_suffix("").parts))
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    del sys.path[1]
    gc.freeze()  # shared with all jobs


def end_with_parent(number: int) -> None:
    """Send this process a signal when the process that started it has ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def start() -> None:
    """Start a server for the jobs of this process, unless PREFORK is set, even to nothing."""
    if "PREFORK" in os.environ:
        return
    os.environ["PREFORK"] = path = str(Path(tempfile.mkdtemp(prefix="prefork-"), "socket"))
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    command = [sys.executable, __file__, "--serve", path]
    subprocess.Popen(command, env=os.environ | threads, stdin=subprocess.DEVNULL, start_new_session=True)


if __name__ == "__main__":
    main(sys.argv[1:])
