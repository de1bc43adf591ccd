"""Figures of the paper, one rule each.

Needs: samples. Makes: results/figures/
"""

FIGURE1 = STUDY.figures["figure1"]
FIGURE1_BENCHMARK = STUDY.benchmark(FIGURE1.benchmark).name


rule make_figure1:
    """Figure 1: the same prompts and the same noise, drawn by each model."""
    input:
        "src/make_figure1.py",
        prompts=f"{WORK}/benchmarks/{FIGURE1_BENCHMARK}/prompts.parquet",
        samples=[f"{WORK}/runs/{row}/samples/{FIGURE1_BENCHMARK}" for row in FIGURE1.columns],
    output:
        "results/figures/figure1.png",
    log:
        f"{WORK}/logs/make_figure1.log",
    benchmark:
        f"{WORK}/timings/make_figure1.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        models=lambda w, input: [f"{title}={folder}" for title, folder in zip(FIGURE1.columns.values(), input.samples)],
        number=FIGURE1.pictures,
        scale=SCALE,
    shell:
        logged(
            "python src/make_figure1.py --prompts {input.prompts} --models {params.models:q} --count {params.number} "
            "--out {output}"
        )
