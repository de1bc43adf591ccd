"""From the resources of a Snakemake job to the parameters of `submitit.AutoExecutor`."""

CLUSTERS = ("auto", "slurm", "local")
MINUTES = 60  # where a job says no runtime


def parameters(name: str, resources: dict, threads: int, cluster: str) -> dict:
    """Resources `nodes`, `gpus` (of each node), `mem_mb` (of each node), `runtime` (minutes) and `slurm_*`.

    Locally there is one node, and what only SLURM knows is left out.
    """
    slurm = cluster == "slurm"
    chosen = {
        "name": name,
        "nodes": resources.get("nodes", 1) if slurm else 1,
        "tasks_per_node": 1,
        "cpus_per_task": max(1, threads),
        "gpus_per_node": resources.get("gpus", 0),
        "timeout_min": resources.get("runtime", MINUTES),
    }
    if resources.get("mem_mb"):
        chosen["mem_gb"] = resources["mem_mb"] / 1000
    if slurm:
        chosen |= {key: str(value) for key, value in resources.items() if key.startswith("slurm_")}
    return chosen
