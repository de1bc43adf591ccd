"""Run a script in a process that has already imported the libraries, on the machine where Snakemake runs.

    python -m diffusion2gan.prefork src/scripts/evaluate/score.py --images …

Most of a short job's time would be the import of torch and diffusers. A server, `--serve LISTENER PARENT SCRIPTS`,
imports them once. For each job it forks a keeper, which forks the process of the job, passes signals on to it and
waits for it. This program is the client: it asks the server for such a process and waits. The process has the
client's arguments, environment, folder and streams, and the client ends with its exit status. Without a server
(PREFORK is empty, or nobody listens there) the script runs in the usual way.

The server keeps the libraries but not this project's own modules, so a job runs the code as it is when it starts.
No script may use CUDA as it is imported, because CUDA does not survive a fork.
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
import warnings
from contextlib import suppress
from pathlib import Path

OURS = "diffusion2gan", "scripts"
PASSED_ON = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2
LENGTH = struct.Struct("!I")
STATUS = struct.Struct("!i")
STREAMS = 0, 1, 2
PR_SET_PDEATHSIG = 1
LONGEST = 90  # of the folder: a socket has at most 107 bytes


def main(words: list[str]) -> None:
    if words[:1] == ["--serve"]:
        run(**serve(socket.socket(fileno=int(words[1])), int(words[2]), Path(words[3])))
    elif (status := ask(os.environ.get("PREFORK"), words)) is None:
        os.execv(sys.executable, [sys.executable, *words])
    elif os.WIFSIGNALED(status):
        if (number := os.WTERMSIG(status)) != signal.SIGKILL:  # which has no handler to reset
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    else:
        sys.exit(os.WEXITSTATUS(status))


def ask(path: str | None, words: list[str]) -> int | None:
    """The wait status of the script, run by the server at `path`; None if there is no server or its imports failed."""
    # the libraries read the number of threads as they are imported: the server's is 1
    if not path or os.environ.get("OMP_NUM_THREADS") != "1" or not words or not words[0].endswith(".py"):
        return None
    job = json.dumps({"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as server:
        if server.fileno() in STREAMS:  # this program's own stream is closed, and the socket has its number
            return None
        # signals wait until they can be passed on
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        try:
            server.connect(path)
            socket.send_fds(server, [LENGTH.pack(len(job))], STREAMS)
            server.sendall(job)
            if not server.recv(1):  # a process has the job
                return None
            # Python's C handler writes the number of a signal into this socket at once. A handler in Python would run
            # only after `select`, which does not notice a signal that came just before it.
            server.setblocking(False)
            signal.set_wakeup_fd(server.fileno(), warn_on_full_buffer=False)
            for number in PASSED_ON:
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, lambda *_: None)
        except OSError:
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        select.select([server], [], [])
        signal.set_wakeup_fd(-1)
        try:
            status = server.recv(STATUS.size)
        except ConnectionResetError:  # the keeper was killed before it had read a signal
            status = b""
    if not status:
        sys.exit("error: the server that ran this job was killed: run Snakemake again")
    return STATUS.unpack(status)[0]


def serve(listener: socket.socket, parent: int, scripts: Path) -> dict:
    """Serve until the parent, Snakemake, ends. Only the forked processes return, each with the job that it runs."""

    def leave(*_):
        shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    end_with_parent(parent, signal.SIGTERM)
    # diffusers looks for GPUs when it is imported. A process that asks CUDA itself leaves its forks without CUDA
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    before = dict(os.environ)
    try:
        os.close(os.pidfd_open(os.getpid()))  # Linux 5.3
        import_libraries(scripts)
    except Exception as error:
        print(f"note: every job imports its libraries itself: {error}", file=sys.stderr)
        leave()
    added = {name: value for name, value in os.environ.items() if name not in before}  # by the libraries
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)  # pyarrow's allocator has a thread, made for forks
    while True:
        connection, _ = listener.accept()
        server = os.getpid()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            listener.close()
            job = keep(connection, server)
            return job | {"environment": added | job["environment"]}
        connection.close()


def keep(connection: socket.socket, server: int) -> dict:
    """Fork the process of a job and wait for it. Only that process returns, with the job; the keeper ends here.

    The job is killed if its client or the server has ended.
    """
    end_with_parent(server, signal.SIGKILL)
    try:
        length, streams, _, _ = socket.recv_fds(connection, LENGTH.size, len(STREAMS))
        job = json.loads(connection.makefile("rb").read(LENGTH.unpack(length)[0]))
        connection.send(b"+")
    except (OSError, ValueError, struct.error):  # the client ended before it had sent the job
        os._exit(0)
    keeper = os.getpid()
    process = os.fork()
    if process == 0:
        end_with_parent(keeper, signal.SIGKILL)
        connection.close()
        return job | {"streams": streams}
    ended, number = os.pidfd_open(process), b"-"
    while number:
        ready, _, _ = select.select([ended, connection], [], [])
        if ended in ready:
            break
        number = connection.recv(1)
        os.kill(process, number[0] if number else signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    with suppress(OSError):  # the client has ended
        connection.send(STATUS.pack(status))
    os._exit(0)


def run(words: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    """Run a script as Python would: with these arguments, folder, environment and streams."""
    for stream, own in zip(streams, STREAMS, strict=True):
        os.dup2(stream, own)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    run_script(words)


def run_script(words: list[str]) -> None:
    """Run a script with its arguments in this process, as the main program."""
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent.resolve())
    runpy.run_path(words[0], run_name="__main__")


def import_libraries(scripts: Path) -> None:
    """Import what the scripts import, and forget this project's own modules."""
    source = str(scripts.parent)
    sys.path.insert(1, source)
    for file in sorted(scripts.glob("*/*.py")):
        __import__(".".join(file.relative_to(source).with_suffix("").parts))
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.path.remove(source)
    gc.freeze()  # shared with all jobs


def end_with_parent(parent: int, number: int) -> None:
    """Send this process a signal when its parent ends, or now if it has ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def outlive_parent() -> None:
    """Undo `end_with_parent`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0)


def start(scripts: Path) -> bool:
    """Start a server for the jobs of this process, which run scripts of the folder `scripts`, and set PREFORK to it.

    Does nothing and returns False if PREFORK is set and empty, and, with a note, if TMPDIR takes no socket.
    """
    if os.environ.get("PREFORK") == "":
        return False
    try:
        listener = _listener()
    except OSError as error:
        print(f"note: every job imports its libraries itself: no socket in TMPDIR ({error})", file=sys.stderr)
        return False
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    server = [sys.executable, "-m", "diffusion2gan.prefork", "--serve", str(listener.fileno())]
    with listener:
        subprocess.Popen(
            [*server, str(os.getpid()), str(scripts)], env=os.environ | threads, pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    return True


def _listener() -> socket.socket:
    """The socket of a server, in a new folder, with PREFORK set to it. Raises OSError if a disk takes none."""
    folder = tempfile.mkdtemp(prefix="prefork-")
    if len(folder) > LONGEST:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="prefork-", dir="/tmp")
    path = f"{folder}/socket"
    listener = socket.socket(socket.AF_UNIX)  # here, so that a job that starts before the server waits for it
    listener.bind(path)
    listener.listen(128)
    os.environ["PREFORK"] = path
    return listener


if __name__ == "__main__":
    main(sys.argv[1:])
