"""Which images are preferred (Figure 6): a page for people, an automatic rater, and the answers of both.

`results/` holds the scale that ran last. Give raters the page but not its key.
docs/human_study.md explains how to ask people.

Needs: samples; people's answers if there are any. Makes: results/human_study/, results/human_study.csv,
results/figures/figure6.png
"""

HUMAN_STUDY = STUDY.human_study
HUMAN_BENCHMARK = STUDY.benchmark(HUMAN_STUDY.benchmark)
COMPARED = {row: PATHS.samples(row, HUMAN_BENCHMARK.name) for row in HUMAN_STUDY.rows}
SHOWN = {
    "models": [f"{row}={folder_of(manifests)}" for row, manifests in COMPARED.items()],
    "resolution": HUMAN_BENCHMARK.resolution,
    "resize_filter": HUMAN_BENCHMARK.resize_filter,
}


rule make_human_study:
    """Make the page for raters, and the key that says which model made each image."""
    input:
        "src/scripts/report/make_human_study.py",
        prompts=f"{WORK}/benchmarks/{HUMAN_BENCHMARK.name}/prompts.parquet",
        samples=list(COMPARED.values()),
    output:
        page="results/human_study/index.html",
        key="results/human_study/key.csv",
    log:
        f"{WORK}/logs/make_human_study.log",
    benchmark:
        f"{WORK}/timings/make_human_study.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=arguments(
            SHOWN
            | {
                "pairs": [f"{row}={against}" for row, against in HUMAN_STUDY.pairs],
                "count": HUMAN_STUDY.prompts,
                "seed": SEED,
            }
        ),
    shell:
        logged(
            "python src/scripts/report/make_human_study.py --prompts {input.prompts} {params.options} --key {output.key} "
            "--out {output.page}"
        )


rule rate_automatically:
    """Answer the study with CLIP, an automatic rater."""
    input:
        "src/scripts/report/rate_automatically.py",
        key=rules.make_human_study.output.key,
        samples=list(COMPARED.values()),
        images=f"{WORK}/benchmarks/{HUMAN_BENCHMARK.name}/images",
        clip=files(EVALUATION.clip),
    output:
        "results/human_study/automatic-clip.csv",
    log:
        f"{WORK}/logs/rate_automatically.log",
    benchmark:
        f"{WORK}/timings/rate_automatically.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        folder=lambda w, input: os.path.dirname(input.images),
        options=arguments(SHOWN | {name: getattr(EVALUATION, name) for name in ("clip", "clip_prefix")}),
    shell:
        logged(
            "python src/scripts/report/rate_automatically.py --key {input.key} --benchmark {params.folder} {params.options} "
            "--out {output}"
        )


rule aggregate_human_study:
    """Count what people and the automatic rater preferred, separately."""
    input:
        "src/scripts/report/aggregate_human_study.py",
        key=rules.make_human_study.output.key,
        automatic=rules.rate_automatically.output,
        people=sorted(map(str, Path(HUMAN_STUDY.answers).glob("*.csv"))),
    output:
        rates="results/human_study.csv",
        raters="results/human_study/raters.csv",
    log:
        f"{WORK}/logs/aggregate_human_study.log",
    benchmark:
        f"{WORK}/timings/aggregate_human_study.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        people=lambda w, input: arguments({"people": list(input.people)} if input.people else {}),
        scale=SCALE,
    shell:
        logged(
            "python src/scripts/report/aggregate_human_study.py --key {input.key} --automatic {input.automatic} {params.people} "
            "--scale {params.scale} --raters {output.raters} --out {output.rates}"
        )


rule make_figure6:
    """Figure 6: preferences of people, of the automatic rater, and as reported by the paper."""
    input:
        "src/scripts/report/make_figure6.py",
        preferences=rules.aggregate_human_study.output.rates,
        reported="src/diffusion2gan/human_study/reported_preferences.csv",
    output:
        png="results/figures/figure6.png",
        pdf="results/figures/figure6.pdf",
    log:
        f"{WORK}/logs/make_figure6.log",
    benchmark:
        f"{WORK}/timings/make_figure6.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        scale=SCALE,
    shell:
        logged(
            "python src/scripts/report/make_figure6.py --preferences {input.preferences} --reported {input.reported} "
            "--out {output.png}"
        )
