"""The parameters of `submitit.AutoExecutor` from the resources of a Snakemake job."""

import difflib
import shlex
from collections.abc import Container

from snakemake_interface_common.exceptions import ApiError  # shown as one line, without a traceback

CLUSTERS = ("auto", "slurm", "local")
MINUTES = 60  # the default runtime
NAMED = "account comment constraint exclude mail_type mail_user nodelist partition qos".split()  # slurm_*, to sbatch
LEAST = {"nodes": 1, "gpus": 0, "mem_mb": 0, "runtime": 1, "requeues": 0}  # whole numbers
KNOWN = [*LEAST, *(f"slurm_{name}" for name in NAMED), "slurm_extra"]
# what Snakemake itself and rules/distill.smk set
OTHERS = {"_cores", "_nodes", "tmpdir", "mem", "mem_mib", "disk", "disk_mb", "disk_mib", "fitting"}
# names in other executors and profiles, and what to do here
ELSEWHERE = {name: f"write slurm_{name}" for name in NAMED} | {
    each: hint
    for names, hint in {
        "gpu ngpus num_gpus gpus_per_node gres gpu_model": "write gpus, the GPUs of each node",
        "mem mem_gb memory mem_mb_per_cpu mem_per_cpu mem_mb_per_gpu": "write mem_mb, of each node",
        "time walltime time_min time_limit": "write runtime, in minutes",
        "cpus cores cpus_per_task cpus_per_gpu threads": "write --set-threads RULE=NUMBER",
        "tasks ntasks tasks_per_node ntasks_per_node tasks_per_gpu mpi": "leave it out, launch.py starts the processes",
        "queue": "write slurm_partition",
        "cluster clusters": "write slurm_extra='--clusters=NAME'",
        "reservation": "write slurm_extra='--reservation=NAME'",
    }.items()
    for each in names.split()
}
# options of sbatch that this executor sets itself
OURS = set("array error job-name ntasks ntasks-per-gpu ntasks-per-node output wrap".split())
OURS |= set("comment cpus-per-task gpus gpus-per-node mem nodes requeue signal time".split())


def check_resources(name: str, resources: dict, limited: Container[str] = ()) -> None:
    """Raise ApiError for a resource that this executor does not know, or whose value is of the wrong kind.

    Names in `limited`, those of `--resources`, are Snakemake's own affair. Values that are not known yet pass.
    """
    for key, value in resources.items():
        if key in LEAST and str(value) != "<TBD>":
            _check_number(name, key, value)
        if key in (*KNOWN, *OTHERS) or key in limited:
            continue
        hint = f"use one of {', '.join(KNOWN)}, or limit it with --resources {key}=NUMBER"
        plain = key.removeprefix("slurm_")
        if key in ELSEWHERE:
            hint = ELSEWHERE[key]
        elif near := difflib.get_close_matches(key.lower(), KNOWN, n=1, cutoff=0.8):
            hint = f"did you mean '{near[0]}'?"
        elif key != plain and (option := plain.replace("_", "-")) in OURS:
            hint = ELSEWHERE.get(plain, "leave it out")
        elif key != plain:
            hint = f"write slurm_extra='--{option}={value}'"
        raise ApiError(f"{name}: resource {key} is not known: {hint}")


def _check_number(name: str, key: str, value: object) -> None:
    if type(value) is not int or value < LEAST[key]:
        raise ApiError(f"{name}: resource {key} is {value!r}, it must be a whole number of at least {LEAST[key]}")


def parameters(name: str, resources: dict, threads: int, cluster: str, signal_delay: int = 120) -> dict:
    """Resources `nodes`, `gpus` (of each node), `mem_mb` (of each node), `runtime` (minutes), `requeues`, `slurm_*`.

    With `requeues`, a job is warned `signal_delay` seconds before its time limit, saves, and is queued again.
    Without SLURM there is one node, and resources that only SLURM knows are ignored.
    They have passed `check_resources`. Raises ApiError for a runtime that is too short for the warning, and for wrong
    `slurm_extra`.
    """
    slurm = cluster == "slurm"
    cpus = max(1, threads)
    chosen = {
        "name": name,
        "nodes": resources.get("nodes", 1) if slurm else 1,
        "tasks_per_node": 1,
        "cpus_per_task": cpus,
        "timeout_min": resources.get("runtime", MINUTES),
    }
    if resources.get("gpus"):
        chosen["gpus_per_node"] = resources["gpus"]
    if not slurm:
        return chosen
    for key, value in resources.items():
        if key.removeprefix("slurm_") in NAMED and key not in NAMED and value is not None:
            chosen[key] = str(value)
    # since SLURM 22.05 a step gets one CPU unless it asks for more
    chosen["slurm_srun_args"] = [f"--cpus-per-task={cpus}"]
    if chosen["nodes"] > 1:
        chosen["slurm_srun_args"] += [
            "--nodes=1",
            "--ntasks=1",
        ]  # one Snakemake; launch.py reaches the other nodes
    extra = _options(name, str(resources.get("slurm_extra") or ""))
    if resources.get("mem_mb"):
        extra["mem"] = f"{resources['mem_mb']}M"
    # submitit's default, 90 s, would kill a job that is warned before it has begun
    chosen["slurm_signal_delay_s"] = signal_delay if resources.get("requeues") else 0
    if resources.get("requeues"):
        extra["requeue"] = True
        if 60 * (chosen["timeout_min"] - 1) < signal_delay:
            raise ApiError(
                f"{name}: runtime={chosen['timeout_min']} minutes leaves no time before the warning, {signal_delay} s "
                "ahead of its end: give it more, or choose a smaller --submitit-signal-delay"
            )
    if extra:
        chosen["slurm_additional_parameters"] = extra
    return chosen


def _options(name: str, line: str) -> dict[str, str | bool]:
    """`--exclusive --mail-type=END` as {"exclusive": True, "mail-type": "END"}."""
    options = {}
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ApiError(f"{name}: slurm_extra is {line!r}: {str(error).lower()}") from error
    for word in words:
        option, given, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not option:
            raise ApiError(f"{name}: slurm_extra takes options like --exclusive or --mail-type=END, not '{word}'")
        if option in OURS:
            hint = ELSEWHERE.get(option.replace("-", "_"), "leave it out")
            raise ApiError(f"{name}: slurm_extra takes no --{option}, which this executor sets: {hint}")
        options[option] = value if given else True
    return options
