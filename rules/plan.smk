"""Estimate the cost of the jobs that Snakemake plans: hours, disk space and files.

Needs: nothing. Makes: results/plan.csv, results/plan.md
"""


rule make_plan:
    """Estimate the cost of making the targets under `plan` in config.yaml from nothing."""
    input:
        "src/scripts/report/make_plan.py",
    output:
        csv="results/plan.csv",
        readable="results/plan.md",
        config=f"{WORK}/plan/config.json",
    log:
        f"{WORK}/logs/make_plan.log",
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        config=CONFIG_JSON,
        options=arguments({"targets": CONFIG.plan} if CONFIG.plan else {}),
    shell:
        logged(
            "(echo {params.config:q} > {output.config} "
            "&& python src/scripts/report/make_plan.py --config {output.config} {params.options} "
            "--out {output.csv} --readable {output.readable})"
        )
