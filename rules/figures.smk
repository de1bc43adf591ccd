"""Figures of the paper, one rule each.

Needs: samples. Makes: results/figures/, results/figure2.csv, results/figure3.csv
"""

FIGURE1 = STUDY.figures["figure1"]
FIGURE1_BENCHMARK = STUDY.benchmark(FIGURE1.benchmark).name


rule make_figure1:
    """Figure 1: the same prompts and the same noise, drawn by each model."""
    input:
        "src/make_figure1.py",
        prompts=f"{WORK}/benchmarks/{FIGURE1_BENCHMARK}/prompts.parquet",
        samples=[f"{WORK}/runs/{row}/samples/{FIGURE1_BENCHMARK}" for row in FIGURE1.columns],
    output:
        "results/figures/figure1.png",
    log:
        f"{WORK}/logs/make_figure1.log",
    benchmark:
        f"{WORK}/timings/make_figure1.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        models=lambda w, input: [f"{title}={folder}" for title, folder in zip(FIGURE1.columns.values(), input.samples)],
        number=FIGURE1.pictures,
        scale=SCALE,
    shell:
        logged(
            "python src/make_figure1.py --prompts {input.prompts} --models {params.models:q} --count {params.number} "
            "--out {output}"
        )


rule time_losses:
    """Measure what a step of each perceptual loss costs."""
    input:
        teacher=teacher_files("sd15"),
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
        options=arguments({"width": LATENTLPIPS["vgg"]["width"]} | LATENTLPIPS["cost"]),
    shell:
        logged(
            "python src/time_losses.py --teacher {params.teacher} {params.options} "
            "--out {output.costs} --hardware {output.hardware}"
        )


rule make_figure2:
    """Figure 2: the cost of LPIPS, LatentLPIPS and E-LatentLPIPS."""
    input:
        "src/make_figure2.py",
        costs=rules.time_losses.output.costs,
        hardware=rules.time_losses.output.hardware,
    output:
        figure="results/figures/figure2.png",
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
            "python src/make_figure2.py --costs {input.costs} --hardware {input.hardware} --out {output.figure} "
            "--table {output.table}"
        )


# Figure 3: the losses under which a latent is found again.
RECONSTRUCTIONS = {
    "lpips": {"loss": "lpips"},
    "latent-lpips": {"loss": "latent_lpips"},
    "e-latent-lpips-b": {"loss": "e_latent_lpips", "preset": "b"},
    "e-latent-lpips-bg": {"loss": "e_latent_lpips", "preset": "bg"},
    "e-latent-lpips-bgc": {"loss": "e_latent_lpips", "preset": "bgc"},
    "e-latent-lpips-bgco": {"loss": "e_latent_lpips", "preset": "bgco"},
}


rule reconstruct:
    """Find latents again from noise under one loss."""
    input:
        teacher=teacher_files("sd15"),
        latent=metric("latent-sd15"),
        pixel=lambda w: metric("pixel") if w.loss == "lpips" else [],
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
        images=LATENTLPIPS["images"],
        options=lambda w, input: arguments(
            RECONSTRUCTIONS[w.loss]
            | LATENTLPIPS["reconstruction"]
            | ({"pixel_metric": input.pixel} if input.pixel else {})
            | {"seed": SEED}
        ),
    shell:
        logged(
            "python src/reconstruct.py --teacher {params.teacher} --images {params.images:q} {params.options} "
            "--latent_metric {input.latent} --curves {output.curves} --pictures_out {output.pictures}"
        )


rule make_figure3:
    """Figure 3: LatentLPIPS alone against the ensemble, and where each ends."""
    input:
        "src/make_figure3.py",
        curves=expand(rules.reconstruct.output.curves, loss=RECONSTRUCTIONS),
        pictures=expand(rules.reconstruct.output.pictures, loss=RECONSTRUCTIONS),
    output:
        figure="results/figures/figure3.png",
        table="results/figure3.csv",
    log:
        f"{WORK}/logs/make_figure3.log",
    benchmark:
        f"{WORK}/timings/make_figure3.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        losses=list(RECONSTRUCTIONS),
        images=LATENTLPIPS["images"],
        scale=SCALE,
    shell:
        logged(
            "python src/make_figure3.py --losses {params.losses} --curves {input.curves} --pictures {input.pictures} "
            "--images {params.images:q} --out {output.figure} --table {output.table}"
        )


rule make_figure_nfe:
    """Table 6 as a figure: FID against evaluations, for regression and for Consistency Distillation."""
    input:
        "src/make_figure_nfe.py",
        table="results/table6.csv",
    output:
        "results/figures/nfe.png",
    log:
        f"{WORK}/logs/make_figure_nfe.log",
    benchmark:
        f"{WORK}/timings/make_figure_nfe.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        scale=SCALE,
    shell:
        logged("python src/make_figure_nfe.py --table {input.table} --out {output}")
