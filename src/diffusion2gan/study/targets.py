"""The targets that a person types after `snakemake`."""

import difflib
from collections.abc import Iterable

from diffusion2gan.errors import UserError
from diffusion2gan.study.paths import Paths


def refuse(target: str, paths: Paths, rules: Iterable[str], outputs: Iterable[str]) -> None:
    """Raise UserError for a target that no rule makes. The message names the nearest one.

    That is a rule, one of their `outputs` without wildcards, a table, the table of a run, or a student.
    """
    study = paths.study
    known = [*rules, *(output for output in outputs if "{" not in output)]
    known += [f"results/{table}.csv" for table in study.tables]
    known += [f"results/runs/{run}.csv" for run in study.measured]
    known += [str(paths.student(run)) for run in study.runs]
    near = difflib.get_close_matches(target, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "the README lists what can be made"
    raise UserError(f"no rule makes {target}: {hint}")
