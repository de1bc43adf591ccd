"""Diffusion2GAN: the whole study, from the teacher to Tables 1–7.

    snakemake --cores all                                       # every table and figure, on a laptop
    snakemake --profile slurm results/table2.csv                # Table 2 of the paper, on a cluster
    snakemake --profile slurm results/runs/gan-diffusion-z.csv  # one ablation alone

config.yaml says what is studied, scales/ how large. Heavy files go to work/{scale}/, what a person
reads to results/, at the scale that ran last.
"""

import sys

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


if CONFIG.assets:

    include: "rules/toy.smk"


onstart:
    from diffusion2gan.study import (
        preflight,
    )  # here: it imports torch and pandas, for which other jobs need not wait

    planned = [(job.rule.name, job.wildcards_dict) for job in workflow.dag.needrun_jobs()]
    try:
        preflight.check(STUDY, Path(WORK), planned, FETCHED)
    except UserError as error:
        raise WorkflowError(str(error)) from error
    for name, target in (STUDY.tables | STUDY.figures | {"figure6": STUDY.human_study}).items():
        if STUDY.lacks(target):
            print(
                f"note: scale {SCALE} has no {STUDY.lacks(target)}, so {name} is not made unless you ask for it",
                file=sys.stderr,
            )
