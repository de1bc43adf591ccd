"""The paper's figures, one rule each, and figures made from tables, as PNG and PDF.

Needs: samples, tables; Figures 4 and 5 need only the settings of a teacher.
Makes: results/figures/, results/figure2.csv, results/figure3.csv
"""

FIGURE1 = STUDY.figures["figure1"]
FIGURE1_BENCHMARK = STUDY.benchmark(FIGURE1.benchmark).name


rule make_figure1:
    """Figure 1: images of each model from the same prompts and the same noise."""
    input:
        "src/scripts/report/make_figure1.py",
        prompts=f"{WORK}/benchmarks/{FIGURE1_BENCHMARK}/prompts.parquet",
        samples=[PATHS.samples(row, FIGURE1_BENCHMARK) for row in FIGURE1.columns],
    output:
        png="results/figures/figure1.png",
        pdf="results/figures/figure1.pdf",
    log:
        f"{WORK}/logs/make_figure1.log",
    benchmark:
        f"{WORK}/timings/make_figure1.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        models=[f"{title}={folder_of(PATHS.samples(row, FIGURE1_BENCHMARK))}" for row, title in FIGURE1.columns.items()],
        number=FIGURE1.pictures,
        scale=SCALE,
    shell:
        logged(
            "python src/scripts/report/make_figure1.py --prompts {input.prompts} --models {params.models:q} --count {params.number} "
            "--out {output.png}"
        )


rule time_losses:
    """Measure the cost of one step of each perceptual loss."""
    input:
        teacher=PATHS.teacher("sd15"),
    output:
        costs=f"{WORK}/figures/loss_costs.csv",
        hardware=f"{WORK}/figures/loss_costs.json",
    log:
        f"{WORK}/logs/time_losses.log",
    benchmark:
        f"{WORK}/timings/time_losses.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        teacher=lambda w: STUDY.teachers["sd15"].path,
        options=arguments({"width": LATENTLPIPS.vgg.width} | LATENTLPIPS.cost.used()),
    shell:
        logged(
            "python src/scripts/latentlpips/time_losses.py --teacher {params.teacher} {params.options} "
            "--out {output.costs} --hardware {output.hardware}"
        )


rule make_figure2:
    """Figure 2: the cost of LPIPS, LatentLPIPS and E-LatentLPIPS."""
    input:
        "src/scripts/report/make_figure2.py",
        costs=rules.time_losses.output.costs,
        hardware=rules.time_losses.output.hardware,
    output:
        png="results/figures/figure2.png",
        pdf="results/figures/figure2.pdf",
        table="results/figure2.csv",
    log:
        f"{WORK}/logs/make_figure2.log",
    benchmark:
        f"{WORK}/timings/make_figure2.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        scale=SCALE,
    shell:
        logged(
            "python src/scripts/report/make_figure2.py --costs {input.costs} --hardware {input.hardware} --out {output.png} "
            "--table {output.table}"
        )


# Figure 3: the losses that a latent is optimised with.
RECONSTRUCTIONS = {
    "lpips": {"loss": "lpips"},
    "latent-lpips": {"loss": "latent_lpips"},
    "e-latent-lpips-b": {"loss": "e_latent_lpips", "ensemble": "b"},
    "e-latent-lpips-bg": {"loss": "e_latent_lpips", "ensemble": "bg"},
    "e-latent-lpips-bgc": {"loss": "e_latent_lpips", "ensemble": "bgc"},
    "e-latent-lpips-bgco": {"loss": "e_latent_lpips", "ensemble": "bgco"},
    "e-latent-lpips-bg-bilinear": {"loss": "e_latent_lpips", "ensemble": "bg", "resampling": "bilinear"},
    "e-latent-lpips-bgco-4-draws": {"loss": "e_latent_lpips", "ensemble": "bgco", "draws": 4},
}


rule reconstruct:
    """Optimise latents from noise with one loss."""
    input:
        teacher=PATHS.teacher("sd15"),
        latent=PATHS.metric("latent-sd15"),
        pixel=lambda w: PATHS.metric("pixel") if w.loss == "lpips" else [],
    output:
        curves=f"{WORK}/figures/reconstruction/{{loss}}.csv",
        pictures=f"{WORK}/figures/reconstruction/{{loss}}.safetensors",
    log:
        f"{WORK}/logs/reconstruct/{{loss}}.log",
    benchmark:
        f"{WORK}/timings/reconstruct/{{loss}}.tsv"
    wildcard_constraints:
        loss="|".join(RECONSTRUCTIONS),
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        teacher=lambda w: STUDY.teachers["sd15"].path,
        images=LATENTLPIPS.images,
        options=lambda w, input: arguments(
            RECONSTRUCTIONS[w.loss]
            | LATENTLPIPS.reconstruction.used()
            | ({"pixel_metric": input.pixel} if input.pixel else {})
            | {"seed": SEED}
        ),
    shell:
        logged(
            "python src/scripts/latentlpips/reconstruct.py --teacher {params.teacher} --images {params.images:q} {params.options} "
            "--latent_metric {input.latent} --curves {output.curves} --pictures_out {output.pictures}"
        )


rule make_figure3:
    """Figure 3: latents optimised with each loss."""
    input:
        "src/scripts/report/make_figure3.py",
        curves=expand(rules.reconstruct.output.curves, loss=RECONSTRUCTIONS),
        pictures=expand(rules.reconstruct.output.pictures, loss=RECONSTRUCTIONS),
    output:
        png="results/figures/figure3.png",
        pdf="results/figures/figure3.pdf",
        table="results/figure3.csv",
    log:
        f"{WORK}/logs/make_figure3.log",
    benchmark:
        f"{WORK}/timings/make_figure3.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        losses=list(RECONSTRUCTIONS),
        images=LATENTLPIPS.images,
        scale=SCALE,
    shell:
        logged(
            "python src/scripts/report/make_figure3.py --losses {params.losses} --curves {input.curves} --pictures {input.pictures} "
            "--images {params.images:q} --out {output.png} --table {output.table}"
        )


rule make_transforms:
    """One latent under the transforms of each preset of E-LatentLPIPS, decoded."""
    input:
        "src/scripts/report/make_transforms.py",
        teacher=PATHS.teacher("sd15"),
    output:
        png="results/figures/transforms.png",
        pdf="results/figures/transforms.pdf",
    log:
        f"{WORK}/logs/make_transforms.log",
    benchmark:
        f"{WORK}/timings/make_transforms.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        teacher=lambda w: STUDY.teachers["sd15"].path,
        images=LATENTLPIPS.images,
        seed=SEED,
    shell:
        logged(
            "python src/scripts/report/make_transforms.py --teacher {params.teacher} --images {params.images:q} "
            "--seed {params.seed} --out {output.png}"
        )


# Figures 4 and 5 show the run with all ingredients.
FULL = STUDY.runs["diffusion2gan"]
FULL_TEACHER = STUDY.teacher_of(FULL.name)
FULL_DISCRIMINATOR = {name: getattr(FULL.settings, name) for name in ("z_conditioning", "multi_scale")}


rule make_figure4:
    """Figure 4: the student, its pairs and its losses, drawn from the networks."""
    input:
        "src/scripts/report/make_figure4.py",
        teacher=PATHS.teacher(FULL_TEACHER.name),
    output:
        png="results/figures/figure4.png",
        pdf="results/figures/figure4.pdf",
    log:
        f"{WORK}/logs/make_figure4.log",
    benchmark:
        f"{WORK}/timings/make_figure4.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=arguments(
            {
                name: options.solving(STUDY, FULL.dataset)[name]
                for name in ("teacher", "solver", "steps", "guidance", "count")
            }
            | {"ensemble": FULL.settings.ensemble, "trunk_width": LATENTLPIPS.vgg.width}
            | FULL_DISCRIMINATOR
        ),
        scale=SCALE,
    shell:
        logged("python src/scripts/report/make_figure4.py {params.options} --out {output.png}")


rule make_figure5:
    """Figure 5: the multi-scale conditional discriminator, drawn from the network."""
    input:
        "src/scripts/report/make_figure5.py",
        teacher=PATHS.teacher(FULL_TEACHER.name),
    output:
        png="results/figures/figure5.png",
        pdf="results/figures/figure5.pdf",
    log:
        f"{WORK}/logs/make_figure5.log",
    benchmark:
        f"{WORK}/timings/make_figure5.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=arguments({"teacher": FULL_TEACHER.path} | FULL_DISCRIMINATOR),
        scale=SCALE,
    shell:
        logged("python src/scripts/report/make_figure5.py {params.options} --out {output.png}")


rule make_figure_fid:
    """Table 3, 6, 7 or 8 as a figure: FID against seconds per image, network evaluations, or days of training."""
    input:
        "src/scripts/report/make_figure_fid.py",
        table=lambda w: f"results/{FID_AGAINST[w.figure][0]}.csv",
    output:
        png="results/figures/{figure}.png",
        pdf="results/figures/{figure}.pdf",
    log:
        f"{WORK}/logs/make_figure_fid/{{figure}}.log",
    benchmark:
        f"{WORK}/timings/make_figure_fid/{{figure}}.tsv"
    wildcard_constraints:
        figure="|".join(FID_AGAINST),
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        cost=lambda w: FID_AGAINST[w.figure][1],
        scale=SCALE,
    shell:
        logged(
            "python src/scripts/report/make_figure_fid.py --table {input.table} --cost {params.cost} --out {output.png}"
        )
