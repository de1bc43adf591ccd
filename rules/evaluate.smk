"""Draw a benchmark's prompts with a student or a teacher, then measure the pictures.

Needs: students, teachers, peers, benchmarks. Makes: work/{scale}/runs/{run}/samples/, diversity/,
metrics/{benchmark}.json, metrics/cost.json
"""


rule sample:
    """Draw a picture for each prompt of a benchmark."""
    input:
        model=lambda w: model_files(w.run),
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
        model=lambda w: drawn_with(w.run),
        options=lambda w: arguments(STUDY.drawing(w.run)),
        number=lambda w: STUDY.benchmarks[w.benchmark].pictures,
        batch_size=EVALUATION["batch_size"],
        seed=lambda w: seed_of(w.run),
    shell:
        logged(
            "python src/scripts/evaluate/sample.py --model {params.model:q} --prompts {input.prompts} --count {params.number} "
            "{params.options} --seed {params.seed} --batch_size {params.batch_size} --out {output}"
        )


use rule sample as sample_diversity with:
    output:
        directory(f"{WORK}/runs/{{run}}/diversity/{{benchmark}}"),
    log:
        f"{WORK}/logs/sample_diversity/{{run}}-{{benchmark}}.log",
    benchmark:
        f"{WORK}/timings/sample_diversity/{{run}}-{{benchmark}}.tsv"
    params:
        model=lambda w: drawn_with(w.run),
        options=lambda w: arguments(STUDY.drawing(w.run) | {"repeats": EVALUATION["diversity"]["repeats"]}),
        number=EVALUATION["diversity"]["prompts"],
        batch_size=EVALUATION["batch_size"],
        seed=lambda w: seed_of(w.run),


rule score:
    """Measure the pictures against the benchmark's."""
    input:
        "src/scripts/evaluate/score.py",
        samples=f"{WORK}/runs/{{run}}/samples/{{benchmark}}",
        prompts=f"{WORK}/benchmarks/{{benchmark}}/prompts.parquet",
        images=f"{WORK}/benchmarks/{{benchmark}}/images",
        clip=files(EVALUATION["clip"]),
        compared=lambda w: list(compared_pictures(w.run, w.benchmark).values()),
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
        options=lambda w: arguments(scoring(w.run, w.benchmark) | compared_pictures(w.run, w.benchmark)),
        scale=SCALE,
        row=lambda w: STUDY.origins[w.run][0],
        seed=lambda w: seed_of(w.run),
    shell:
        logged(
            "python src/scripts/evaluate/score.py --run {params.row} --scale {params.scale} --images {input.samples} "
            "--benchmark {params.folder} {params.options} --seed {params.seed} --out {output}"
        )


rule measure_cost:
    """Add up what a run took, from its pairs on (Table 7)."""
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
        run="|".join(map(re.escape, STUDY.runs)),
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        timings=lambda w: upstream(w.run),
        scale=SCALE,
        row=lambda w: STUDY.origins[w.run][0],
        seed=lambda w: seed_of(w.run),
    shell:
        logged(
            "python src/scripts/evaluate/measure_cost.py --run {params.row} --scale {params.scale} --seed {params.seed} --trainings {input.trainings} "
            "--timings {params.timings} --out {output}"
        )
