"""The report: claims, tables, figures, the records behind every number, and the cost, on one self-contained page.

Needs: tables, claims, figures. Makes: results/report.html
"""


rule report:
    """Make results/report.html."""
    input:
        "results/report.html",


rule list_jobs:
    """List the jobs behind the report and which job needs which."""
    input:
        "Snakefile",
        "rules/common.smk",
    output:
        jobs=f"{WORK}/report/jobs.dot",
        config=f"{WORK}/report/config.json",
    log:
        f"{WORK}/logs/list_jobs.log",
    benchmark:
        f"{WORK}/timings/list_jobs.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        config=CONFIG_JSON,
    shell:
        logged(
            '(echo "$STUDY_CONFIG" > {output.config} '
            "&& snakemake --dag dot --configfile {output.config} -- results/report.html > {output.jobs})"
        )


rule make_report:
    """Make the page."""
    input:
        "src/scripts/report/make_report.py",
        captions="captions.yaml",
        stated="claims.yaml",
        config=rules.list_jobs.output.config,
        jobs=rules.list_jobs.output.jobs,
        claims="results/claims.csv",
        tables=expand("results/{table}.csv", table=STUDY.possible(STUDY.tables)),
        seeds=expand("results/seeds/{table}.csv", table=STUDY.possible(STUDY.tables)),
        figures=expand("results/figures/{figure}.png", figure=possible_figures()),
    output:
        "results/report.html",
    log:
        f"{WORK}/logs/make_report.log",
    benchmark:
        f"{WORK}/timings/make_report.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        timings=f"{WORK}/timings",
        tables=lambda w, input: arguments({"tables": input.tables, "seeds": input.seeds} if input.tables else {}),
    shell:
        logged(
            "python src/scripts/report/make_report.py --config {input.config} --jobs {input.jobs} --timings {params.timings} "
            "--captions {input.captions} --stated {input.stated} --claims {input.claims} {params.tables} "
            "--figures {input.figures} --out {output}"
        )
