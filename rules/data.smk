"""Pictures, prompts and latents; the teachers that a small scale trains itself.

Needs: the teacher's VAE; labelled pictures, lists of prompts and benchmark pictures, as the scale says.
Makes: work/{scale}/teachers/, latents/, pairs/{dataset}/prompts.parquet, benchmarks/{benchmark}/
"""


rule unavailable:
    """Fail and say what the scale lacks: what depends on it can be planned, not run."""
    output:
        f"{WORK}/unavailable/{{kind}}/{{name}}",
    log:
        f"{WORK}/logs/unavailable/{{kind}}/{{name}}.log",
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        message=lambda w: f"error: scale {SCALE} has no {w.name}: set it under `{w.kind}` in scales/{SCALE}.yaml",
    shell:
        logged("(echo {params.message:q}; exit 1)")


rule train_small_teacher:
    """Train a teacher that a small scale has no weights of: an SDXL in miniature, on the toy teacher's codec."""
    input:
        teacher_files("sd15"),
    output:
        directory(f"{WORK}/teachers/{{teacher}}"),
    log:
        f"{WORK}/logs/train_small_teacher/{{teacher}}.log",
    benchmark:
        f"{WORK}/timings/train_small_teacher/{{teacher}}.tsv"
    wildcard_constraints:
        teacher="|".join(re.escape(name) for name, teacher in STUDY.teachers.items() if teacher.training) or "none",
    priority: 1
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        vae=f"{STUDY.teachers['sd15'].path}/vae",
        options=lambda w: arguments({"xl": True, "seed": SEED} | STUDY.teachers[w.teacher].training),
        checkpoints=f"{WORK}/teachers/checkpoints-{{teacher}}",
    shell:
        training(
            "python src/train_teacher.py --vae {params.vae} {params.options} --checkpoints {params.checkpoints} "
            "--out {output}"
        )


rule encode_latents:
    """Encode a shard of labelled pictures with the teacher's VAE, for the VGG of LatentLPIPS."""
    input:
        teacher=lambda w: teacher_files(w.teacher),
    output:
        f"{WORK}/latents/{{teacher}}/{{split}}-{{shard}}.safetensors",
    log:
        f"{WORK}/logs/encode_latents/{{teacher}}-{{split}}-{{shard}}.log",
    benchmark:
        f"{WORK}/timings/encode_latents/{{teacher}}-{{split}}-{{shard}}.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        teacher=lambda w: STUDY.teachers[w.teacher].path,
        images=LATENTLPIPS["images"],
        number=lambda w: LATENTLPIPS["latents"][w.split],
        shards=lambda w: STUDY.latent_shards(w.split),
        seed=SEED,
    shell:
        logged(
            "python src/encode_latents.py --teacher {params.teacher:q} --images {params.images:q} "
            "--split {wildcards.split} --count {params.number} --shards {params.shards} --shard {wildcards.shard} "
            "--seed {params.seed} --out {output}"
        )


rule prepare_prompts:
    """Choose the prompts of a data set of pairs."""
    input:
        lambda w: (
            unavailable("prompts", STUDY.datasets[w.dataset].prompts)
            if STUDY.prompts[STUDY.datasets[w.dataset].prompts] is None
            else []
        ),
    output:
        f"{WORK}/pairs/{{dataset}}/prompts.parquet",
    log:
        f"{WORK}/logs/prepare_prompts/{{dataset}}.log",
    benchmark:
        f"{WORK}/timings/prepare_prompts/{{dataset}}.tsv"
    priority: 1
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        source=lambda w: arguments(prompts_of(w.dataset)),
        number=lambda w: STUDY.datasets[w.dataset].pairs,
        seed=SEED,
    shell:
        logged(
            "python src/prepare_prompts.py {params.source} --count {params.number} --seed {params.seed} "
            "--out {output}"
        )


rule make_benchmark:
    """Prepare the prompts and reference pictures that students are measured on."""
    input:
        lambda w: (unavailable("benchmarks", w.benchmark) if STUDY.benchmarks[w.benchmark].source is None else []),
    output:
        prompts=f"{WORK}/benchmarks/{{benchmark}}/prompts.parquet",
        images=directory(f"{WORK}/benchmarks/{{benchmark}}/images"),
        recipe=f"{WORK}/benchmarks/{{benchmark}}/benchmark.json",
    log:
        f"{WORK}/logs/make_benchmark/{{benchmark}}.log",
    benchmark:
        f"{WORK}/timings/make_benchmark/{{benchmark}}.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        source=lambda w: STUDY.benchmarks[w.benchmark].source,
        number=lambda w: STUDY.benchmarks[w.benchmark].pictures,
        resolution=lambda w: STUDY.benchmarks[w.benchmark].resolution,
        folder=lambda w, output: os.path.dirname(output.prompts),
        seed=SEED,
    shell:
        logged(
            "python src/make_benchmark.py --source {params.source:q} --count {params.number} "
            "--resolution {params.resolution} --seed {params.seed} --out {params.folder}"
        )
