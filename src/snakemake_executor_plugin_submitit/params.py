"""The parameters of `submitit.AutoExecutor` from the resources of a Snakemake job."""

import shlex

from snakemake_interface_common.exceptions import ApiError  # shown as one line, without a traceback

CLUSTERS = ("auto", "slurm", "local")
MINUTES = 60  # the default runtime
NAMED = "account comment constraint exclude mail_type mail_user nodelist partition qos".split()  # slurm_*, to sbatch


def parameters(name: str, resources: dict, threads: int, cluster: str, signal_delay: int = 120) -> dict:
    """Resources `nodes`, `gpus` (of each node), `mem_mb` (of each node), `runtime` (minutes), `requeues`, `slurm_*`.

    With `requeues`, a job is warned `signal_delay` seconds before its time limit, saves, and is queued again.
    Without SLURM there is one node, and resources that only SLURM knows are ignored.
    Raises ApiError for an unknown `slurm_*`, and for a runtime that is too short for the warning.
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
        option = key.removeprefix("slurm_")
        if option in NAMED and option != key:
            chosen[key] = str(value)
        elif option != key and option != "extra":
            raise ApiError(f"{name}: resource {key} is not known: write slurm_extra='--{option}={value}'")
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
    for word in shlex.split(line):
        option, given, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not option:
            raise ApiError(f"{name}: slurm_extra takes options like --exclusive or --mail-type=END, not '{word}'")
        options[option] = value if given else True
    return options
