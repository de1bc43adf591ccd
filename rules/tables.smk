"""Tables 1–8 and single runs: measured numbers beside the paper's.

`results/` holds the scale that ran last. The scale is a parameter, so another scale rebuilds the tables.

Needs: metrics. Makes: results/table1.csv … table8.csv, results/seeds/ (the same seed by seed), results/runs/{run}.csv,
results/claims.csv, results/pages/ (tables and claims in Markdown)
"""

REPORTED = "src/diffusion2gan/report/reported.csv"


rule make_run:
    """Make a table of the metrics of one run."""
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
    """Make one table of the paper."""
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
    log:
        f"{WORK}/logs/make_table/{{table}}.log",
    benchmark:
        f"{WORK}/timings/make_table/{{table}}.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        rows=lambda w: STUDY.rows(w.table),
        columns=lambda w: STUDY.tables[w.table].metrics,
        reimplemented=lambda w: STUDY.reimplemented(STUDY.rows(w.table)),
        scale=SCALE,
    shell:
        logged(
            "python src/scripts/report/make_table.py --table {wildcards.table} --rows {params.rows} --metrics {input.metrics} "
            "--reported {input.reported} --scale {params.scale} --columns {params.columns} "
            "--reimplemented {params.reimplemented} --out {output.csv} --seeds {output.seeds} --markdown {output.markdown}"
        )


rule check_claims:
    """Check whether each claim of the paper holds here."""
    input:
        "src/scripts/report/check_claims.py",
        claims="claims.yaml",
        tables=claimed_tables(claims.read_claims(Path("claims.yaml"))),
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
