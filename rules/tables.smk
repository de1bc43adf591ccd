"""Tables 1–7 and single runs: measured numbers beside the reported ones.

`results/` holds the scale that ran last; the scale is a parameter, so that another one rebuilds them.

Needs: metrics. Makes: results/table1.csv … table7.csv, each as a page under results/pages/ and seed by seed under
results/seeds/, results/runs/{run}.csv, results/claims.csv with a page
"""

REPORTED = "src/diffusion2gan/report/reported.csv"


rule make_run:
    """Gather the metrics of one run."""
    input:
        "src/scripts/report/make_run.py",
        reported=REPORTED,
        metrics=lambda w: PATHS.metrics([w.run]),
    output:
        "results/runs/{run}.csv",
    log:
        f"{WORK}/logs/make_run/{{run}}.log",
    benchmark:
        f"{WORK}/timings/make_run/{{run}}.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        scale=SCALE,
    shell:
        logged(
            "python src/scripts/report/make_run.py --run {wildcards.run} --metrics {input.metrics} --reported {input.reported} "
            "--out {output}"
        )


rule make_table:
    """Gather one table of the paper."""
    input:
        "src/scripts/report/make_table.py",
        reported=REPORTED,
        metrics=lambda w: PATHS.metrics(
            STUDY.rows(w.table),
            STUDY.benchmark(STUDY.tables[w.table].benchmark).name,
            STUDY.tables[w.table].metrics,
        ),
    output:
        csv="results/{table}.csv",
        seeds="results/seeds/{table}.csv",
        markdown="results/pages/{table}.md",
        html="results/pages/{table}.html",
    log:
        f"{WORK}/logs/make_table/{{table}}.log",
    benchmark:
        f"{WORK}/timings/make_table/{{table}}.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        rows=lambda w: STUDY.rows(w.table),
        columns=lambda w: STUDY.tables[w.table].metrics,
        scale=SCALE,
    shell:
        logged(
            "python src/scripts/report/make_table.py --table {wildcards.table} --rows {params.rows} --metrics {input.metrics} "
            "--reported {input.reported} --scale {params.scale} --columns {params.columns} --out {output.csv} "
            "--seeds {output.seeds} --markdown {output.markdown} --html {output.html}"
        )


rule check_claims:
    """Say of each claim of the paper whether it holds here."""
    input:
        "src/scripts/report/check_claims.py",
        claims="claims.yaml",
        tables=claimed_tables(claims.read(Path("claims.yaml"))),
    output:
        csv="results/claims.csv",
        markdown="results/pages/claims.md",
    log:
        f"{WORK}/logs/check_claims.log",
    benchmark:
        f"{WORK}/timings/check_claims.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        scale=SCALE,
    shell:
        logged(
            "python src/scripts/report/check_claims.py --claims {input.claims} --tables {input.tables} --scale {params.scale} "
            "--out {output.csv} --markdown {output.markdown}"
        )
