"""The one-step student: regression on the pairs (Sec. 3.2), then a conditional GAN (Sec. 3.3); Consistency Distillation.

Checkpoints lie beside the student and are no output, since Snakemake deletes the outputs of a job
that it starts again: a killed training goes on where it stopped.

Sample grids go to samples/training/ as the training proceeds, and are no output for the same reason.

Needs: pairs, the calibrated metric, the teacher. Makes: work/{scale}/runs/{run}/student/, history.csv, the
speed and memory of the training
"""

STAGES = {
    stage: [name for name, run in STUDY.runs.items() if run.stage == stage]
    for stage in ("regression", "gan", "consistency")
}


rule train_regression:
    """Distil the teacher with a regression loss alone (Table 1)."""
    input:
        teacher=lambda w: teacher_files(STUDY.teacher_of(w.run).name),
        pairs=lambda w: f"{pairs_folder(w.run)}/index.parquet",
        lpips=lambda w: metric_of(w.run),
    output:
        student=directory(f"{WORK}/runs/{{run}}/student"),
        history=f"{WORK}/runs/{{run}}/history.csv",
        metrics=f"{WORK}/runs/{{run}}/metrics/training.json",
    log:
        f"{WORK}/logs/train_regression/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_regression/{{run}}.tsv"
    wildcard_constraints:
        run="|".join(map(re.escape, STAGES["regression"])) or "none",
    priority: 1  # every GAN waits for one
    conda:
        "../envs/diffusion2gan.yaml"
    resources:
        nodes=lambda w: STUDY.runs[w.run].batch.nodes,
        gpus=lambda w: STUDY.runs[w.run].batch.gpus,
        fitting=lambda w: arguments(STUDY.runs[w.run].batch.fitting),
    params:
        teacher=lambda w: STUDY.teacher_of(w.run).path,
        pairs=lambda w: pairs_of(w.run),
        lpips=lambda w, input: arguments(seeing(w.run, input.get("lpips"))),
        options=lambda w: arguments(STUDY.runs[w.run].options),
        checkpoints=f"{WORK}/runs/{{run}}/checkpoints",
        samples=f"{WORK}/runs/{{run}}/samples/training",
    shell:
        training(
            "python src/scripts/launch.py --nodes {resources.nodes} --gpus {resources.gpus} src/scripts/distill/train_regression.py "
            "--teacher {params.teacher:q} --pairs {params.pairs} {params.lpips} {params.options} {resources.fitting} "
            "--checkpoints {params.checkpoints} --samples {params.samples} "
            "--out {output.student} --history {output.history} --metrics {output.metrics}"
        )


rule train_gan:
    """Train a regressed student further against a discriminator (Table 2)."""
    input:
        teacher=lambda w: teacher_files(STUDY.teacher_of(w.run).name),
        pairs=lambda w: f"{pairs_folder(w.run)}/index.parquet",
        lpips=lambda w: metric_of(w.run),
        init=lambda w: student(STUDY.runs[w.run].init),
    output:
        student=directory(f"{WORK}/runs/{{run}}/student"),
        history=f"{WORK}/runs/{{run}}/history.csv",
        metrics=f"{WORK}/runs/{{run}}/metrics/training.json",
    log:
        f"{WORK}/logs/train_gan/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_gan/{{run}}.tsv"
    wildcard_constraints:
        run="|".join(map(re.escape, STAGES["gan"])) or "none",
    conda:
        "../envs/diffusion2gan.yaml"
    resources:
        nodes=lambda w: STUDY.runs[w.run].batch.nodes,
        gpus=lambda w: STUDY.runs[w.run].batch.gpus,
        fitting=lambda w: arguments(STUDY.runs[w.run].batch.fitting),
    params:
        teacher=lambda w: STUDY.teacher_of(w.run).path,
        pairs=lambda w: pairs_of(w.run),
        lpips=lambda w, input: arguments(seeing(w.run, input.get("lpips"))),
        options=lambda w: arguments(STUDY.runs[w.run].options),
        checkpoints=f"{WORK}/runs/{{run}}/checkpoints",
        samples=f"{WORK}/runs/{{run}}/samples/training",
    shell:
        training(
            "python src/scripts/launch.py --nodes {resources.nodes} --gpus {resources.gpus} src/scripts/distill/train_gan.py "
            "--teacher {params.teacher:q} --pairs {params.pairs} {params.lpips} --init {input.init} "
            "{params.options} {resources.fitting} "
            "--checkpoints {params.checkpoints} --samples {params.samples} "
            "--out {output.student} --history {output.history} --metrics {output.metrics}"
        )


rule train_consistency:
    """Distil the teacher by Consistency Distillation, without pairs (Table 6)."""
    input:
        teacher=lambda w: teacher_files(STUDY.teacher_of(w.run).name),
        images=lambda w: real_pictures(w.run),
        lpips=lambda w: metric_of(w.run),
    output:
        student=directory(f"{WORK}/runs/{{run}}/student"),
        history=f"{WORK}/runs/{{run}}/history.csv",
        metrics=f"{WORK}/runs/{{run}}/metrics/training.json",
    log:
        f"{WORK}/logs/train_consistency/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_consistency/{{run}}.tsv"
    wildcard_constraints:
        run="|".join(map(re.escape, STAGES["consistency"])) or "none",
    conda:
        "../envs/diffusion2gan.yaml"
    resources:
        nodes=lambda w: STUDY.runs[w.run].batch.nodes,
        gpus=lambda w: STUDY.runs[w.run].batch.gpus,
        fitting=lambda w: arguments(STUDY.runs[w.run].batch.fitting),
    params:
        teacher=lambda w: STUDY.teacher_of(w.run).path,
        lpips=lambda w, input: arguments(seeing(w.run, input.get("lpips"))),
        options=lambda w: arguments(STUDY.runs[w.run].options),
        checkpoints=f"{WORK}/runs/{{run}}/checkpoints",
        samples=f"{WORK}/runs/{{run}}/samples/training",
    shell:
        training(
            "python src/scripts/launch.py --nodes {resources.nodes} --gpus {resources.gpus} src/scripts/distill/train_consistency.py "
            "--teacher {params.teacher:q} --images {input.images} {params.lpips} {params.options} {resources.fitting} "
            "--checkpoints {params.checkpoints} --samples {params.samples} "
            "--out {output.student} --history {output.history} --metrics {output.metrics}"
        )
