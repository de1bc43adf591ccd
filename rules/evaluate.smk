"""Draw a benchmark's prompts with a student or a teacher, then measure the pictures.

Needs: students, teachers, benchmarks. Makes: work/{scale}/runs/{run}/samples/, metrics/{benchmark}.json
"""


rule sample:
    """Draw a picture for each prompt of a benchmark."""
    input:
        model=lambda w: (student(w.run) if w.run in STUDY.runs else teacher_files(STUDY.teacher_of(w.run).name)),
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
        options=lambda w: arguments(drawing(w.run)),
        number=lambda w: STUDY.benchmarks[w.benchmark].pictures,
        batch_size=EVALUATION["batch_size"],
        seed=SEED,
    shell:
        logged(
            "python src/sample.py --model {params.model:q} --prompts {input.prompts} --count {params.number} "
            "{params.options} --seed {params.seed} --batch_size {params.batch_size} --out {output}"
        )


rule score:
    """Measure the pictures against the benchmark's."""
    input:
        "src/score.py",
        samples=f"{WORK}/runs/{{run}}/samples/{{benchmark}}",
        prompts=f"{WORK}/benchmarks/{{benchmark}}/prompts.parquet",
        images=f"{WORK}/benchmarks/{{benchmark}}/images",
        clip=files(EVALUATION["clip"]),
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
        options=lambda w: arguments(scoring(w.run, w.benchmark)),
        scale=SCALE,
        seed=SEED,
    shell:
        logged(
            "python src/score.py --run {wildcards.run} --scale {params.scale} --images {input.samples} "
            "--benchmark {params.folder} {params.options} --seed {params.seed} --out {output}"
        )
