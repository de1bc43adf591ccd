"""Train the small networks that the toy scale starts from: `snakemake --cores all -- assets`.

They are shipped in assets/toy, so the study does not depend on these rules. They take less than an hour on a GPU, and
days on a laptop.

Needs: OpenMoji. Makes: work/assets/, then assets/toy/
"""

ASSETS = f"{CONFIG.work}/assets"


rule train_vae:
    """Train the VAE, which encodes 64 × 64 images as 4 × 16 × 16 latents."""
    output:
        directory(f"{ASSETS}/vae"),
    log:
        f"{ASSETS}/logs/train_vae.log",
    benchmark:
        f"{ASSETS}/timings/train_vae.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=arguments({"seed": SEED} | CONFIG.assets.vae.said()),
        checkpoints=f"{ASSETS}/checkpoints/vae",
    shell:
        training(
            "python src/scripts/toy/train_vae.py {params.options} --checkpoints {params.checkpoints} --out {output}"
        )


rule train_teacher:
    """Train the toy teacher on the VAE's latents."""
    input:
        vae=rules.train_vae.output,
    output:
        directory(f"{ASSETS}/teacher-begun"),
    log:
        f"{ASSETS}/logs/train_teacher.log",
    benchmark:
        f"{ASSETS}/timings/train_teacher.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=arguments({"seed": SEED} | CONFIG.assets.teacher.said()),
        checkpoints=f"{ASSETS}/checkpoints/teacher",
    shell:
        training(
            "python src/scripts/toy/train_teacher.py --vae {input.vae} {params.options} --checkpoints {params.checkpoints} "
            "--out {output}"
        )


use rule train_teacher as continue_teacher with:
    input:
        vae=rules.train_vae.output,
        begun=rules.train_teacher.output,
    output:
        directory(f"{ASSETS}/teacher"),
    log:
        f"{ASSETS}/logs/continue_teacher.log",
    benchmark:
        f"{ASSETS}/timings/continue_teacher.tsv"
    params:
        options=arguments(CONFIG.assets.teacher_again.said() | {"init": f"{ASSETS}/teacher-begun"}),
        checkpoints=f"{ASSETS}/checkpoints/teacher-again",


use rule train_teacher as train_teacher_xl with:
    output:
        directory(f"{ASSETS}/teacher-xl-begun"),
    log:
        f"{ASSETS}/logs/train_teacher_xl.log",
    benchmark:
        f"{ASSETS}/timings/train_teacher_xl.tsv"
    params:
        options=arguments({"xl": True, "seed": SEED} | CONFIG.assets.teacher_xl.said()),
        checkpoints=f"{ASSETS}/checkpoints/teacher-xl",


use rule train_teacher as continue_teacher_xl with:
    input:
        vae=rules.train_vae.output,
        begun=rules.train_teacher_xl.output,
    output:
        directory(f"{ASSETS}/teacher-xl"),
    log:
        f"{ASSETS}/logs/continue_teacher_xl.log",
    benchmark:
        f"{ASSETS}/timings/continue_teacher_xl.tsv"
    params:
        options=arguments(CONFIG.assets.teacher_xl_again.said() | {"init": f"{ASSETS}/teacher-xl-begun"}),
        checkpoints=f"{ASSETS}/checkpoints/teacher-xl-again",


rule train_pixart:
    """Train a small PixArt-α on the same latents, with a T5 encoder."""
    input:
        vae=rules.train_vae.output,
    output:
        directory(f"{ASSETS}/pixart"),
    log:
        f"{ASSETS}/logs/train_pixart.log",
    benchmark:
        f"{ASSETS}/timings/train_pixart.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=arguments({"seed": SEED} | CONFIG.assets.pixart.said()),
        checkpoints=f"{ASSETS}/checkpoints/pixart",
    shell:
        training(
            "python src/scripts/toy/train_pixart.py --vae {input.vae} {params.options} --checkpoints {params.checkpoints} "
            "--out {output}"
        )


rule train_asset_edm:
    """Train the toy teacher of Table 6, in pixels."""
    output:
        directory(f"{ASSETS}/edm"),
    log:
        f"{ASSETS}/logs/train_asset_edm.log",
    benchmark:
        f"{ASSETS}/timings/train_asset_edm.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=arguments(CONFIG.assets.edm.said()),
        checkpoints=f"{ASSETS}/checkpoints/edm",
    shell:
        training(
            "python src/scripts/toy/train_edm.py {params.options} --checkpoints {params.checkpoints} --out {output}"
        )


rule train_clip:
    """Train the small CLIP that computes the CLIP score at the toy scale."""
    output:
        directory(f"{ASSETS}/clip"),
    log:
        f"{ASSETS}/logs/train_clip.log",
    benchmark:
        f"{ASSETS}/timings/train_clip.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=arguments({"seed": SEED} | CONFIG.assets.clip.said()),
        checkpoints=f"{ASSETS}/checkpoints/clip",
    shell:
        training(
            "python src/scripts/toy/train_clip.py {params.options} --checkpoints {params.checkpoints} --out {output}"
        )


use rule encode_latents as encode_asset_latents with:
    input:
        teacher=rules.continue_teacher.output,
    output:
        f"{ASSETS}/latents/{{split}}-{{shard}}.safetensors",
    log:
        f"{ASSETS}/logs/encode_asset_latents/{{split}}-{{shard}}.log",
    benchmark:
        f"{ASSETS}/timings/encode_asset_latents/{{split}}-{{shard}}.tsv"
    params:
        teacher=rules.continue_teacher.output,


use rule train_vgg as train_asset_vgg with:
    input:
        train=lambda w: PATHS.latent_files(f"{ASSETS}/latents", "train") if w.space == "latent" else [],
        val=lambda w: PATHS.latent_files(f"{ASSETS}/latents", "val") if w.space == "latent" else [],
    output:
        weights=f"{ASSETS}/vgg-{{space}}/vgg.safetensors",
        metrics=f"{ASSETS}/vgg-{{space}}/vgg.json",
    log:
        f"{ASSETS}/logs/train_asset_vgg/{{space}}.log",
    benchmark:
        f"{ASSETS}/timings/train_asset_vgg/{{space}}.tsv"
    wildcard_constraints:
        space="latent|pixel",
    params:
        space=lambda w: w.space,
        options=lambda w: arguments(options.vgg(STUDY) | getattr(CONFIG.assets, f"vgg_{w.space}").said()),
        checkpoints=f"{ASSETS}/checkpoints/vgg-{{space}}",


rule assets:
    """Put the trained networks where the toy scale looks for them, with a card that says how good they are."""
    input:
        teacher=rules.continue_teacher.output,
        teacher_xl=rules.continue_teacher_xl.output,
        clip=rules.train_clip.output,
        edm=rules.train_asset_edm.output,
        pixart=rules.train_pixart.output,
        vgg=expand(f"{ASSETS}/vgg-{{space}}/vgg.safetensors", space=["latent", "pixel"]),
        metrics=expand(f"{ASSETS}/vgg-{{space}}/vgg.json", space=["latent", "pixel"]),
    log:
        f"{ASSETS}/logs/assets.log",
    benchmark:
        f"{ASSETS}/timings/assets.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        steps=STUDY.steps("sd15", "ddim"),
        guidance=STUDY.datasets["sd-cfg-3"].guidance,
        guidance_xl=STUDY.datasets["sdxl-cfg-7"].guidance,
        side=CONFIG.evaluation.feature_side,
        pixart=lambda w: arguments({each: STUDY.sampling("pixart-alpha")[each] for each in ("steps", "guidance")}),
    shell:
        logged("python src/scripts/toy/ship_edm.py --edm {input.edm} --out assets/toy/edm")
        + "\n"
        + logged(
            "python src/scripts/toy/ship_assets.py --teacher {input.teacher} --teacher_xl {input.teacher_xl} --clip {input.clip} "
            "--vgg_latent {input.vgg[0]} --vgg_pixel {input.vgg[1]} "
            "--vgg_latent_metrics {input.metrics[0]} --vgg_pixel_metrics {input.metrics[1]} "
            "--steps {params.steps} --guidance {params.guidance} --guidance_xl {params.guidance_xl} "
            "--feature_side {params.side} --out assets/toy"
        )
        + "\n"
        + logged(
            "python src/scripts/toy/ship_pixart.py --pixart {input.pixart} --clip assets/toy/clip {params.pixart} "
            "--feature_side {params.side} --out assets/toy/pixart"
        )


rule compare_features:
    """Measure how FID in several feature spaces sees known degradations of real scenes."""
    input:
        teacher="assets/toy/teacher",
        clip="assets/toy/clip",
    output:
        "results/feature_spaces.csv",
    log:
        f"{ASSETS}/logs/compare_features.log",
    benchmark:
        f"{ASSETS}/timings/compare_features.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    shell:
        logged(
            "python src/scripts/toy/compare_features.py --teacher {input.teacher} --clip {input.clip} --out {output}"
        )
