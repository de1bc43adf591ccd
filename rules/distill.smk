"""The one-step student: regression on the pairs (Sec. 3.2), then a conditional GAN (Sec. 3.3).

Also the baselines that are trained here: DMD, UFOGen, ADD, InstaFlow and progressive distillation of Tables 3 and 4,
DMD2, a latent consistency model, SDXL-Turbo and SDXL-Lightning of Table 5, GigaGAN from scratch, and Consistency
Distillation of Table 6.

Checkpoints are written beside the student. They are not declared as output, because Snakemake deletes the outputs of a
job before it starts the job again, and a killed training must be able to resume.

During the training, sample grids go to samples/training/. They are not declared as output for the same reason.

`student@STEP` is the student after so many steps, if that checkpoint is kept.

Needs: pairs, the calibrated metric, the teacher. Makes: work/{scale}/runs/{run}/student/, history.csv, the
speed and memory of the training
"""


rule train_regression:
    """Distil the teacher with a regression loss alone (Table 1)."""
    input:
        teacher=lambda w: PATHS.teacher(STUDY.teacher_of(w.run).name),
        pairs=lambda w: f"{PATHS.pairs(w.run)}/index.parquet",
        lpips=lambda w: PATHS.metric_of(w.run),
    output:
        student=directory(f"{WORK}/runs/{{run}}/student"),
        history=f"{WORK}/runs/{{run}}/history.csv",
        metrics=f"{WORK}/runs/{{run}}/metrics/training.json",
    log:
        f"{WORK}/logs/train_regression/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_regression/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("regression"),
    priority: 1  # every GAN waits for a regression
    conda:
        "../envs/diffusion2gan.yaml"
    resources:
        nodes=lambda w: STUDY.runs[w.run].batch.nodes,
        gpus=lambda w: STUDY.runs[w.run].batch.gpus,
        fitting=lambda w: arguments(STUDY.runs[w.run].batch.fitting | WATCHING),
    params:
        stage=lambda w: STUDY.runs[w.run].stage,
        options=lambda w: arguments(options.training(STUDY, PATHS, w.run)),
        checkpoints=f"{WORK}/runs/{{run}}/checkpoints",
        samples=f"{WORK}/runs/{{run}}/samples/training",
    shell:
        training(
            "python src/scripts/launch.py --nodes {resources.nodes} --gpus {resources.gpus} "
            "src/scripts/distill/train_{params.stage}.py {params.options} {resources.fitting} "
            "--checkpoints {params.checkpoints} --samples {params.samples} "
            "--out {output.student} --history {output.history} --metrics {output.metrics}"
        )


use rule train_regression as train_gan with:
    # continue a student of the regression with a discriminator (Table 2), or train a GAN from scratch
    input:
        teacher=lambda w: PATHS.teacher(STUDY.teacher_of(w.run).name),
        pairs=lambda w: f"{PATHS.pairs(w.run)}/index.parquet",
        lpips=lambda w: PATHS.metric_of(w.run),
        init=lambda w: PATHS.student(STUDY.runs[w.run].init) if STUDY.runs[w.run].init else [],
    log:
        f"{WORK}/logs/train_gan/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_gan/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("gan"),
    priority: 0


use rule train_regression as train_dmd with:
    # Distribution Matching Distillation (Table 3)
    log:
        f"{WORK}/logs/train_dmd/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_dmd/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("dmd"),
    priority: 0


use rule train_regression as train_dmd2 with:
    # DMD2, beyond the paper
    log:
        f"{WORK}/logs/train_dmd2/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_dmd2/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("dmd2"),
    priority: 0


use rule train_regression as train_progressive with:
    # progressive distillation (Table 4)
    input:
        teacher=lambda w: PATHS.teacher(STUDY.teacher_of(w.run).name),
        pairs=lambda w: f"{PATHS.pairs(w.run)}/index.parquet",
        lpips=lambda w: PATHS.metric_of(w.run),
        init=lambda w: PATHS.student(STUDY.runs[w.run].init) if STUDY.runs[w.run].init else [],
    log:
        f"{WORK}/logs/train_progressive/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_progressive/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("progressive"),
    priority: 0


use rule train_regression as train_ufogen with:
    # UFOGen (Tables 3 and 4)
    log:
        f"{WORK}/logs/train_ufogen/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_ufogen/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("ufogen"),
    priority: 0


use rule train_regression as train_lcm with:
    # a latent consistency model, beyond the paper
    log:
        f"{WORK}/logs/train_lcm/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_lcm/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("lcm"),
    priority: 0


use rule train_regression as train_add with:
    # Adversarial Diffusion Distillation, ADD-M (Table 4)
    log:
        f"{WORK}/logs/train_add/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_add/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("add"),
    priority: 0


use rule train_gan as train_lightning with:
    # SDXL-Lightning, which continues a progressive student (Table 5)
    log:
        f"{WORK}/logs/train_lightning/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_lightning/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("lightning"),


use rule train_regression as train_reflow with:
    # ReFlow, the first half of InstaFlow
    log:
        f"{WORK}/logs/train_reflow/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_reflow/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("reflow"),
    priority: 0


use rule train_gan as train_instaflow with:
    # InstaFlow, which distils the rectified flow (Tables 3, 4 and 7)
    log:
        f"{WORK}/logs/train_instaflow/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_instaflow/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("instaflow"),


use rule train_regression as train_consistency with:
    # Consistency Distillation, without pairs (Table 6)
    input:
        teacher=lambda w: PATHS.teacher(STUDY.teacher_of(w.run).name),
        images=lambda w: PATHS.real_pictures(w.run),
        lpips=lambda w: PATHS.metric_of(w.run),
    log:
        f"{WORK}/logs/train_consistency/{{run}}.log",
    benchmark:
        f"{WORK}/timings/train_consistency/{{run}}.tsv"
    wildcard_constraints:
        run=runs_of("consistency"),
    priority: 0


rule export_student:
    """Write the student of a kept checkpoint: `work/{scale}/runs/{run}/student@500` is the one after 500 steps."""
    input:
        teacher=lambda w: PATHS.teacher(STUDY.teacher_of(w.run).name),
        data=lambda w: (
            f"{PATHS.pairs(w.run)}/index.parquet" if STUDY.runs[w.run].dataset else PATHS.real_pictures(w.run)
        ),
        lpips=lambda w: PATHS.metric_of(w.run),
        init=lambda w: PATHS.student(STUDY.runs[w.run].init) if STUDY.runs[w.run].init else [],
    output:
        directory(f"{WORK}/runs/{{run}}/student@{{step}}"),
    log:
        f"{WORK}/logs/export_student/{{run}}-{{step}}.log",
    wildcard_constraints:
        run=one_of(STUDY.runs),
        step=r"[1-9]\d*",
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        stage=lambda w: STUDY.runs[w.run].stage,
        options=lambda w: arguments(options.training(STUDY, PATHS, w.run)),
        folder=f"{WORK}/runs/{{run}}",
    shell:
        logged(
            "python src/scripts/distill/train_{params.stage}.py {params.options} --export_step {wildcards.step} "
            "--checkpoints {params.folder}/checkpoints --history {params.folder}/history.csv "
            "--metrics {params.folder}/metrics/training.json --out {output}"
        )
