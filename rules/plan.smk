"""Before the first job: what is there, what is missing, and what the jobs that Snakemake plans cost.

Needs: nothing. Makes: results/doctor.md, results/plan.csv, results/plan.md
"""

import time

# The configuration, for scripts that ask Snakemake itself. It is no output: if it were, Snakemake would not notice that
# the page in results/ is another scale's, because it compares settings only where it knows every output.
PLANNED = f"{WORK}/plan/config.json"
WRITTEN = f'mkdir -p {WORK}/plan && echo "$STUDY_CONFIG" > {PLANNED}'


rule make_doctor:
    """Look at every path of the scale, at the disk and at SLURM: what is sound, what is missing, what looks wrong."""
    input:
        "src/scripts/report/make_doctor.py",
    output:
        "results/doctor.md",
    log:
        f"{WORK}/logs/make_doctor.log",
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        config=CONFIG_JSON,
        options=arguments({"config": PLANNED} | ({"targets": CONFIG.plan} if CONFIG.plan else {})),
        asked=time.time(),  # what it looks at is no input: look again whenever it is asked for
    shell:
        logged(f"({WRITTEN} && python src/scripts/report/make_doctor.py {{params.options}} --out {{output}})")


rule make_plan:
    """Estimate the cost of making the targets under `plan` in config.yaml from nothing."""
    input:
        "src/scripts/report/make_plan.py",
    output:
        csv="results/plan.csv",
        readable="results/plan.md",
    log:
        f"{WORK}/logs/make_plan.log",
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        config=CONFIG_JSON,
        options=arguments({"config": PLANNED} | ({"targets": CONFIG.plan} if CONFIG.plan else {})),
        asked=time.time(),  # jobs may have run since, whose times count
    shell:
        logged(
            f"({WRITTEN} && python src/scripts/report/make_plan.py {{params.options}} "
            "--out {output.csv} --readable {output.readable})"
        )
