"""LatentLPIPS (Sec. 3.2): a VGG trained to classify latents, then calibrated on judgements of similarity.

A trunk is `pixel` or `latent-{teacher}`, because every VAE has its own latent space. If the scale names weights of a
trunk, they are only calibrated. If it names a metric that others calibrated, that metric is used unchanged.

Needs: labelled images or their latents, judgements. Makes: work/{scale}/latentlpips/{trunk}/
"""


rule train_vgg:
    """Train the VGG to classify labelled images, in pixels or latents."""
    input:
        train=lambda w: PATHS.latents(w.trunk, "train"),
        val=lambda w: PATHS.latents(w.trunk, "val"),
    output:
        weights=f"{WORK}/latentlpips/{{trunk}}/vgg.safetensors",
        metrics=f"{WORK}/latentlpips/{{trunk}}/vgg.json",
    log:
        f"{WORK}/logs/train_vgg/{{trunk}}.log",
    benchmark:
        f"{WORK}/timings/train_vgg/{{trunk}}.tsv"
    conda:
        "../envs/diffusion2gan.yaml"
    resources:
        nodes=1,
        gpus=0,
    params:
        space=lambda w: w.trunk.split("-")[0],
        data=lambda w, input: input.get("train") or LATENTLPIPS.images,
        validation=lambda w, input: input.get("val") or LATENTLPIPS.images,
        options=arguments(options.vgg(STUDY)),
        checkpoints=f"{WORK}/latentlpips/{{trunk}}/checkpoints-vgg",
    shell:
        training(
            "python src/scripts/launch.py --nodes {resources.nodes} --gpus {resources.gpus} src/scripts/latentlpips/train_vgg.py "
            "--space {params.space} --data {params.data:q} --validation {params.validation:q} {params.options} "
            "--checkpoints {params.checkpoints} --out {output.weights} --metrics {output.metrics}"
        )


rule calibrate_lpips:
    """Learn weights of the VGG's features from judgements of similarity (Zhang et al. 2018)."""
    input:
        trunk=lambda w: LATENTLPIPS.weights.get(w.trunk, f"{WORK}/latentlpips/{w.trunk}/vgg.safetensors"),
        teacher=lambda w: ([] if w.trunk == "pixel" else PATHS.teacher(w.trunk.removeprefix("latent-"))),
    output:
        weights=f"{WORK}/latentlpips/{{trunk}}/lpips.safetensors",
        metrics=f"{WORK}/latentlpips/{{trunk}}/lpips.json",
    log:
        f"{WORK}/logs/calibrate_lpips/{{trunk}}.log",
    benchmark:
        f"{WORK}/timings/calibrate_lpips/{{trunk}}.tsv"
    priority: 1
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=lambda w: arguments(options.calibration(STUDY, w.trunk)),
        checkpoints=f"{WORK}/latentlpips/{{trunk}}/checkpoints-lpips",
    shell:
        training(
            "python src/scripts/latentlpips/calibrate_lpips.py --trunk {input.trunk} {params.options} "
            "--checkpoints {params.checkpoints} --out {output.weights} --metrics {output.metrics}"
        )


if LATENTLPIPS.metrics:

    ruleorder: adopt_lpips > calibrate_lpips

    rule adopt_lpips:
        """Use a metric that others calibrated."""
        input:
            lambda w: files(LATENTLPIPS.metrics[w.trunk]),
        output:
            f"{WORK}/latentlpips/{{trunk}}/lpips.safetensors",
        log:
            f"{WORK}/logs/adopt_lpips/{{trunk}}.log",
        benchmark:
            f"{WORK}/timings/adopt_lpips/{{trunk}}.tsv"
        wildcard_constraints:
            trunk="|".join(LATENTLPIPS.metrics),
        conda:
            "../envs/diffusion2gan.yaml"
        params:
            metric=lambda w: LATENTLPIPS.metrics[w.trunk],
        shell:
            logged(
                "python src/scripts/latentlpips/adopt_lpips.py --metric {params.metric:q} --space {wildcards.trunk} --out {output}"
            )
