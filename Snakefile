"""Diffusion2GAN: the whole study, from the teacher to Tables 1–7.

    snakemake --cores all                                       # every table and figure, on a laptop
    snakemake --profile slurm results/table2.csv                # Table 2 of the paper, on a cluster
    snakemake --profile slurm results/runs/gan-diffusion-z.csv  # one ablation alone
    snakemake --cores all --config scale=demo -- demo           # one student beside its teacher, in minutes

config.yaml lists what is studied, scales/ the sizes. Large files go to work/{scale}/. Tables, figures and
pages go to results/, which holds the scale that ran last.
"""

import io
import os
import sys
from contextlib import redirect_stderr

from snakemake.cli import parse_args
from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "rules/common.smk"


localrules:
    all,
    unavailable,
    make_run,
    make_table,
    check_claims,
    demo,
    make_figure1,
    make_figure2,
    make_figure3,
    make_figure4,
    make_figure5,
    make_figure_fid,
    make_human_study,
    aggregate_human_study,
    make_figure6,
    list_jobs,
    make_report,
    report,
    fetch,
    make_plan,
    make_doctor,
    measure_cost,


rule all:
    """Every table and figure that this scale has the data for, and the page that shows them."""
    input:
        expand("results/{table}.csv", table=STUDY.possible(STUDY.tables)),
        expand("results/figures/{figure}.{kind}", figure=possible_figures(), kind=["png", "pdf"]),
        "results/claims.csv",
        "results/report.html",


include: "rules/data.smk"
include: "rules/latentlpips.smk"
include: "rules/pairs.smk"
include: "rules/distill.smk"
include: "rules/evaluate.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/human_study.smk"
include: "rules/report.smk"
include: "rules/plan.smk"


rule demo:
    """One student with every ingredient beside its teacher: Figure 1, its scores, and how to load it (`make demo`)."""
    input:
        "src/scripts/report/make_demo.py",
        student=PATHS.student("diffusion2gan"),
        metrics=[f"{WORK}/runs/{row}/metrics/{FIGURE1_BENCHMARK}.json" for row in FIGURE1.columns],
        figure=rules.make_figure1.output.png,
    output:
        "results/demo.txt",
    log:
        f"{WORK}/logs/demo.log",
    conda:
        "envs/diffusion2gan.yaml"
    params:
        labels=list(FIGURE1.columns.values()),
    shell:
        logged(
            "python src/scripts/report/make_demo.py --metrics {input.metrics} --labels {params.labels:q} "
            "--figure {input.figure} --student {input.student} --out {output}"
        )


if CONFIG.assets:

    include: "rules/toy.smk"


# Snakemake's own message for a mistyped target is twenty lines and does not name the nearest one
if Path(sys.argv[0].removesuffix("__main__.py")).name == "snakemake":
    with redirect_stderr(io.StringIO()):  # Snakemake has printed the name of the profile already
        _, typed = parse_args(sys.argv[1:])
    for target in filter(None, typed.targets or []):
        file = target if Path(target).is_absolute() else os.path.relpath(target)
        if workflow.is_rule(target) or any(rule.is_producer(file) for rule in workflow.rules):
            continue
        single = [rule.name for rule in workflow.rules if not rule.has_wildcards()]
        outputs = [str(output) for rule in workflow.rules for output in rule.output]
        try:
            targets.refuse(target, PATHS, single, outputs)
        except UserError as error:
            sys.exit(f"error: {error}")


onstart:
    from diffusion2gan.study import (
        preflight,
    )  # imported here, because it imports torch and pandas, which are slow to import

    planned = [(job.rule.name, job.wildcards_dict) for job in workflow.dag.needrun_jobs()]
    try:
        preflight.check(STUDY, Path(WORK), planned, FETCHED)
    except UserError as error:
        raise WorkflowError(str(error)) from error
    alone = not workflow.local_exec or workflow.deployment_settings.deployment_method
    if not alone and prefork.start(Path(workflow.basedir, "src/scripts")):
        # replaces Snakemake's default prefix, `set -euo pipefail`
        shell.prefix('set -euo pipefail; python() {{ command python -m diffusion2gan.prefork "$@"; }}; ')
    for name, target in (STUDY.tables | STUDY.figures | {"figure6": STUDY.human_study}).items():
        if STUDY.lacks(target):
            print(
                f"note: scale {SCALE} has no {STUDY.lacks(target)}, so {name} is not made unless you ask for it",
                file=sys.stderr,
            )
