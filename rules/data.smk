"""Images, prompts and latents, and the teachers that a small scale trains itself.

Needs: the teacher's VAE, and the labelled images, lists of prompts and benchmark images that the scale names.
Makes: work/{scale}/teachers/, latents/, pairs/{dataset}/prompts.parquet, benchmarks/{benchmark}/
"""


rule unavailable:
    """Fail and say what the scale lacks. Jobs that depend on it can be planned but not run."""
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


from diffusion2gan.data.sources import FETCHED


rule fetch:
    """Download a public file, if the network allows it."""
    output:
        "data/{file}",
    log:
        f"{WORK}/logs/fetch/{{file}}.log",
    benchmark:
        f"{WORK}/timings/fetch/{{file}}.tsv"
    wildcard_constraints:
        file=one_of(path.removeprefix("data/") for path in FETCHED),
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        source=lambda w, output: arguments(FETCHED[output[0]]),
    shell:
        logged("python src/scripts/data/fetch.py {params.source} --out {output}")


rule adopt_edm:
    """Convert an official EDM checkpoint to a teacher, without executing any code in it."""
    input:
        lambda w: STUDY.teachers[w.teacher].pickle,
    output:
        directory(f"{WORK}/teachers/{{teacher}}"),
    log:
        f"{WORK}/logs/adopt_edm/{{teacher}}.log",
    benchmark:
        f"{WORK}/timings/adopt_edm/{{teacher}}.tsv"
    wildcard_constraints:
        teacher=one_of(name for name, teacher in STUDY.teachers.items() if teacher.pickle),
    conda:
        "../envs/diffusion2gan.yaml"
    shell:
        logged("python src/scripts/data/adopt_edm.py --pickle {input} --out {output}")


rule train_edm:
    """Train a teacher in pixels if the scale has no weights for it."""
    output:
        directory(f"{WORK}/teachers/{{teacher}}"),
    log:
        f"{WORK}/logs/train_edm/{{teacher}}.log",
    benchmark:
        f"{WORK}/timings/train_edm/{{teacher}}.tsv"
    wildcard_constraints:
        teacher=trained("pixel"),
    priority: 1
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=lambda w: arguments({"seed": SEED} | STUDY.teachers[w.teacher].training.said()),
        checkpoints=f"{WORK}/teachers/checkpoints-{{teacher}}",
    shell:
        training(
            "python src/scripts/toy/train_edm.py {params.options} --checkpoints {params.checkpoints} --out {output}"
        )


rule train_small_teacher:
    """Train a teacher if a small scale has no weights for it: a small SDXL on the toy teacher's VAE."""
    input:
        PATHS.teacher("sd15"),
    output:
        directory(f"{WORK}/teachers/{{teacher}}"),
    log:
        f"{WORK}/logs/train_small_teacher/{{teacher}}.log",
    benchmark:
        f"{WORK}/timings/train_small_teacher/{{teacher}}.tsv"
    wildcard_constraints:
        teacher=trained("latent"),
    priority: 1
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        vae=lambda w: f"{STUDY.teachers['sd15'].path}/vae",
        options=lambda w: arguments({"xl": True, "seed": SEED} | STUDY.teachers[w.teacher].training.said()),
        checkpoints=f"{WORK}/teachers/checkpoints-{{teacher}}",
    shell:
        training(
            "python src/scripts/toy/train_teacher.py --vae {params.vae} {params.options} --checkpoints {params.checkpoints} "
            "--out {output}"
        )


rule encode_latents:
    """Encode a shard of labelled images with the teacher's VAE, for the VGG of LatentLPIPS."""
    input:
        teacher=lambda w: PATHS.teacher(w.teacher),
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
        images=LATENTLPIPS.images,
        number=lambda w: getattr(LATENTLPIPS.latents, w.split),
        size=LATENTLPIPS.latents.size,
        shards=lambda w: STUDY.latent_shards(w.split),
        seed=SEED,
    shell:
        logged(
            "python src/scripts/data/encode_latents.py --teacher {params.teacher:q} --images {params.images:q} "
            "--split {wildcards.split} --count {params.number} --shards {params.shards} --shard {wildcards.shard} "
            "--size {params.size} --seed {params.seed} --out {output}"
        )


rule prepare_prompts:
    """Choose the prompts of a dataset of pairs."""
    input:
        lambda w: PATHS.prompts(w.dataset),
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
        options=lambda w: arguments(options.prompts(STUDY, w.dataset)),
    shell:
        logged("python src/scripts/pairs/prepare_prompts.py {params.options} --out {output}")


rule make_benchmark:
    """Prepare the prompts and reference images that students are measured on."""
    input:
        lambda w: (
            PATHS.unavailable("benchmarks", w.benchmark)
            if STUDY.benchmarks[w.benchmark].source is None
            else [path for path in FETCHED if path == STUDY.benchmarks[w.benchmark].source]
        ),
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
        references=lambda w: STUDY.benchmarks[w.benchmark].references or 0,
        folder=lambda w, output: os.path.dirname(output.prompts),
        seed=SEED,
    shell:
        logged(
            "python src/scripts/data/make_benchmark.py --source {params.source:q} --count {params.number} "
            "--resolution {params.resolution} --references {params.references} --seed {params.seed} --out {params.folder}"
        )
