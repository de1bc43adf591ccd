"""Run a training script in one process, or in one process per GPU, on this machine or on several.

    python src/scripts/launch.py --nodes 2 --gpus 8 src/scripts/distill/train_gan.py --teacher …

Runs the script in this process, or replaces this process by `torchrun --standalone` or, within a SLURM allocation of
the nodes, by `srun … torchrun`, so that signals reach the program and its exit code is returned.

SLURM warns every process of a job with SIGUSR2 before the job's time limit or preemption. A training then saves
and exits. torchrun would be killed by the signal, so it is started with the signal ignored.
"""

import argparse
import os
import re
import shlex
import sys

from diffusion2gan import prefork

SHIELDED = ["sh", "-c", "trap '' USR2; exec \"$@\"", "sh"]
PORTS = range(20000, 30000)  # where the processes of several nodes meet                          # ours


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1, help="how many machines")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of each, one process per GPU; 0 or 1: one process")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the script and its options")
    asked = parser.parse_args(arguments)
    if asked.nodes < 1 or asked.gpus < 0 or not asked.command:
        parser.error("give at least one node, no fewer than 0 GPUs, and a script")
    if asked.nodes == 1 and asked.gpus <= 1:
        print(shlex.join([sys.executable, *asked.command]), file=sys.stderr, flush=True)
        sys.stdout.reconfigure(line_buffering=True)
        prefork.run_script(asked.command)
        return
    line = command(asked.nodes, asked.gpus, asked.command, os.environ)
    print(shlex.join(line), file=sys.stderr, flush=True)
    prefork.outlive_parent()  # a killed torchrun could not stop its processes
    try:
        os.execvp(line[0], line)
    except OSError as error:
        sys.exit(f"error: {line[0]} cannot be run: {error.strerror}")


def command(nodes: int, gpus: int, program: list[str], environment: dict[str, str]) -> list[str]:
    """The command line that runs a script with its options, one process per GPU of each node."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(max(1, gpus))]
    if nodes > 1:
        if "SLURM_JOB_ID" not in environment:
            sys.exit(f"error: {nodes} nodes need a SLURM job, and this process is in none: use --nodes 1")
        job = environment["SLURM_JOB_ID"]
        port = PORTS[int(re.sub(r"\D", "", job)) % len(PORTS)]
        meeting = ["--rdzv-backend", "c10d", "--rdzv-id", job, "--rdzv-endpoint", f"{_first_node(environment)}:{port}"]
        # the job's first step holds all its resources; with these two options this step may use them too
        srun = [
            "srun",
            "--overlap",
            "--mem=0",
            f"--nodes={nodes}",
            f"--ntasks={nodes}",
            "--ntasks-per-node=1",
            "--kill-on-bad-exit=1",
        ]
        return [*srun, *SHIELDED, *torchrun, "--nnodes", str(nodes), *meeting, *program]
    return [*torchrun, "--standalone", *program]


def _first_node(environment: dict[str, str]) -> str:
    """The first name in SLURM's list of nodes: gpu07 of `gpu[07-09,12]`."""
    listed = environment.get("SLURM_JOB_NODELIST", "")
    return re.sub(r"^([^,\[]*)\[([^,\-\]]+)[^\]]*\]([^,]*).*$", r"\1\2\3", listed).split(",")[0] or "localhost"


if __name__ == "__main__":
    main(sys.argv[1:])
