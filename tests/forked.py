"""Several processes that train together, forked from this one: they need not import torch again."""

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable

import torch
from accelerate import PartialState

from diffusion2gan.training import distributed


def in_processes(run: Callable[[], None], gpus: int, nodes: int = 1) -> None:
    """Call `run` in `nodes` × `gpus` processes with the environment variables that torchrun sets. All must succeed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = []
    for rank in range(nodes * gpus):
        place = {"RANK": rank, "WORLD_SIZE": nodes * gpus, "LOCAL_RANK": rank % gpus, "LOCAL_WORLD_SIZE": gpus}
        if (process := os.fork()) == 0:
            _end(run, meeting | {name: str(value) for name, value in place.items()})
        processes.append(process)
    while processes:
        time.sleep(0.05)
        for process in list(processes):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                processes.remove(process)
            if status:
                for other in processes:  # it would wait for the one that failed
                    os.kill(other, signal.SIGKILL)
                    os.waitpid(other, 0)
                raise AssertionError(f"a process ended with status {os.waitstatus_to_exitcode(status)}")


def _end(run: Callable[[], None], environment: dict[str, str]) -> None:
    status = 1
    try:
        os.environ.update(environment)
        PartialState._reset_state()
        distributed.mesh.cache_clear()
        run()
        torch.distributed.destroy_process_group()
        status = 0
    except BaseException:  # whatever it is, this process must not go on as a second run of the tests
        traceback.print_exc()
    finally:
        os._exit(status)
