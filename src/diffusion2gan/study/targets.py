"""The targets that a person types after `snakemake`."""

from collections.abc import Iterable

from diffusion2gan.errors import UserError, nearest
from diffusion2gan.study.paths import Paths


def refuse(target: str, paths: Paths, rules: Iterable[str], outputs: Iterable[str]) -> None:
    """Raise UserError for a target that no rule makes. The message names the nearest one.

    The candidates are `rules`, their `outputs` without wildcards, all tables, the table and student of each run.
    """
    study = paths.study
    known = [*rules, *(output for output in outputs if "{" not in output)]
    known += [f"results/{table}.csv" for table in study.tables]
    known += [f"results/runs/{run}.csv" for run in study.measured]
    known += [str(paths.student(run)) for run in study.runs]
    raise UserError(f"no rule makes {target}: {nearest(target, known, 'the README lists what can be made')}")
