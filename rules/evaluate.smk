"""Sample images for a benchmark's prompts with a student or a teacher, then measure them.

The images of a slow model are sampled by several jobs (`shard` in the scale). Only a manifest is declared as output,
because Snakemake deletes the outputs of a job before it starts the job again, and a killed job must be able to resume.

Needs: students, teachers, baselines, benchmarks. Makes: work/{scale}/runs/{run}/samples/, diversity/,
metrics/{benchmark}.json, metrics/cost.json
"""


rule sample:
    """Sample an image for each prompt of a benchmark."""
    input:
        model=lambda w: PATHS.model_files(w.run),
        prompts=f"{WORK}/benchmarks/{{benchmark}}/prompts.parquet",
    output:
        f"{WORK}/runs/{{run}}/samples/{{benchmark}}/shard-{{shard}}-of-{{shards}}.json",
    log:
        f"{WORK}/logs/sample/{{run}}-{{benchmark}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{WORK}/timings/sample/{{run}}-{{benchmark}}-{{shard}}-of-{{shards}}.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=lambda w: arguments(options.sampling(STUDY, PATHS, w.run, STUDY.benchmarks[w.benchmark].pictures)),
        folder=lambda w, output: folder_of(output),
    shell:
        logged(
            "python src/scripts/evaluate/sample.py --prompts {input.prompts} {params.options} "
            "--shard {wildcards.shard} --shards {wildcards.shards} --out {params.folder}"
        )


use rule sample as sample_diversity with:
    output:
        f"{WORK}/runs/{{run}}/diversity/{{benchmark}}/shard-{{shard}}-of-{{shards}}.json",
    log:
        f"{WORK}/logs/sample_diversity/{{run}}-{{benchmark}}-{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{WORK}/timings/sample_diversity/{{run}}-{{benchmark}}-{{shard}}-of-{{shards}}.tsv"
    params:
        options=lambda w: arguments(
            options.sampling(STUDY, PATHS, w.run, EVALUATION.diversity.prompts, EVALUATION.diversity.repeats)
        ),
        folder=lambda w, output: folder_of(output),


rule score:
    """Score the images against those of the benchmark."""
    input:
        "src/scripts/evaluate/score.py",
        samples=lambda w: PATHS.samples(w.run, w.benchmark),
        prompts=f"{WORK}/benchmarks/{{benchmark}}/prompts.parquet",
        images=f"{WORK}/benchmarks/{{benchmark}}/images",
        recipe=f"{WORK}/benchmarks/{{benchmark}}/benchmark.json",
        clip=files(EVALUATION.clip),
        compared=lambda w: sum(PATHS.compared_pictures(w.run, w.benchmark).values(), []),
    output:
        f"{WORK}/runs/{{run}}/metrics/{{benchmark}}.json",
    log:
        f"{WORK}/logs/score/{{run}}-{{benchmark}}.log",
    benchmark:
        f"{WORK}/timings/score/{{run}}-{{benchmark}}.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        samples=lambda w: folder_of(PATHS.samples(w.run, w.benchmark)),
        folder=lambda w, input: os.path.dirname(input.prompts),
        options=lambda w: arguments(options.scoring(STUDY, PATHS, w.run, w.benchmark)),
    shell:
        logged(
            "python src/scripts/evaluate/score.py --images {params.samples} --benchmark {params.folder} {params.options} "
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
