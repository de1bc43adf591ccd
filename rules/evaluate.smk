"""Sample images for a benchmark's prompts with a student or a teacher, then measure them.

Needs: students, teachers, baselines, benchmarks. Makes: work/{scale}/runs/{run}/samples/, diversity/,
metrics/{benchmark}.json, metrics/cost.json
"""


rule sample:
    """Sample an image for each prompt of a benchmark."""
    input:
        model=lambda w: PATHS.model_files(w.run),
        prompts=f"{WORK}/benchmarks/{{benchmark}}/prompts.parquet",
    output:
        directory(f"{WORK}/runs/{{run}}/samples/{{benchmark}}"),
    log:
        f"{WORK}/logs/sample/{{run}}-{{benchmark}}.log",
    benchmark:
        f"{WORK}/timings/sample/{{run}}-{{benchmark}}.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=lambda w: arguments(options.sampling(STUDY, PATHS, w.run, STUDY.benchmarks[w.benchmark].pictures)),
    shell:
        logged("python src/scripts/evaluate/sample.py --prompts {input.prompts} {params.options} --out {output}")


use rule sample as sample_diversity with:
    output:
        directory(f"{WORK}/runs/{{run}}/diversity/{{benchmark}}"),
    log:
        f"{WORK}/logs/sample_diversity/{{run}}-{{benchmark}}.log",
    benchmark:
        f"{WORK}/timings/sample_diversity/{{run}}-{{benchmark}}.tsv"
    params:
        options=lambda w: arguments(
            options.sampling(STUDY, PATHS, w.run, EVALUATION.diversity.prompts, EVALUATION.diversity.repeats)
        ),


rule score:
    """Score the images against those of the benchmark."""
    input:
        "src/scripts/evaluate/score.py",
        samples=f"{WORK}/runs/{{run}}/samples/{{benchmark}}",
        prompts=f"{WORK}/benchmarks/{{benchmark}}/prompts.parquet",
        images=f"{WORK}/benchmarks/{{benchmark}}/images",
        recipe=f"{WORK}/benchmarks/{{benchmark}}/benchmark.json",
        clip=files(EVALUATION.clip),
        compared=lambda w: list(PATHS.compared_pictures(w.run, w.benchmark).values()),
    output:
        f"{WORK}/runs/{{run}}/metrics/{{benchmark}}.json",
    log:
        f"{WORK}/logs/score/{{run}}-{{benchmark}}.log",
    benchmark:
        f"{WORK}/timings/score/{{run}}-{{benchmark}}.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        folder=lambda w, input: os.path.dirname(input.prompts),
        options=lambda w: arguments(options.scoring(STUDY, PATHS, w.run, w.benchmark)),
    shell:
        logged(
            "python src/scripts/evaluate/score.py --images {input.samples} --benchmark {params.folder} {params.options} "
            "--out {output}"
        )


rule measure_cost:
    """Add up the cost of a run, including that of its pairs (Table 7)."""
    input:
        "src/scripts/evaluate/measure_cost.py",
        trainings=lambda w: [f"{WORK}/runs/{run}/metrics/training.json" for run in STUDY.lineage(w.run)],
    output:
        f"{WORK}/runs/{{run}}/metrics/cost.json",
    log:
        f"{WORK}/logs/measure_cost/{{run}}.log",
    benchmark:
        f"{WORK}/timings/measure_cost/{{run}}.tsv"
    wildcard_constraints:
        run=one_of(STUDY.runs),
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        timings=lambda w: PATHS.timings(w.run),
        scale=SCALE,
        row=lambda w: STUDY.origins[w.run][0],
        seed=lambda w: STUDY.seed_of(w.run),
    shell:
        logged(
            "python src/scripts/evaluate/measure_cost.py --run {params.row} --scale {params.scale} --seed {params.seed} --trainings {input.trainings} "
            "--timings {params.timings} --out {output}"
        )
