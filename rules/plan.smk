"""Cost before it is paid: what a dry run plans, counted in jobs, hours, disk and files.

Needs: nothing. Makes: results/plan.csv, results/plan.md
"""


rule make_plan:
    """Count what the targets under `plan` in config.yaml cost, from nothing."""
    input:
        "src/scripts/report/make_plan.py",
    output:
        csv="results/plan.csv",
        readable="results/plan.md",
        config=f"{WORK}/plan/config.json",
        dry_run=f"{WORK}/plan/dry-run.txt",
    log:
        f"{WORK}/logs/make_plan.log",
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        config=json.dumps(CONFIG),
        targets=CONFIG["plan"],
        options=arguments({"targets": CONFIG["plan"]} if CONFIG["plan"] else {}),
    shell:
        logged(
            "(echo {params.config:q} > {output.config} "
            "&& snakemake --dry-run --forceall --configfile {output.config} -- {params.targets:q} > {output.dry_run} "
            "&& python src/scripts/report/make_plan.py --config {output.config} --dry_run {output.dry_run} {params.options} "
            "--out {output.csv} --readable {output.readable})"
        )
