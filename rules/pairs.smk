"""Solve the teacher's ODE from noise to latent (Sec. 3.1), one job per shard.

Needs: the teacher, prompts. Makes: work/{scale}/pairs/{dataset}/shard-*.safetensors, index.parquet
"""


rule generate_pairs:
    """Solve the ODE for one shard of pairs."""
    input:
        teacher=lambda w: PATHS.teacher(STUDY.datasets[w.dataset].teacher),
        prompts=f"{WORK}/pairs/{{dataset}}/prompts.parquet",
    output:
        f"{WORK}/pairs/{{dataset}}/shard-{{shard}}.safetensors",
    log:
        f"{WORK}/logs/generate_pairs/{{dataset}}-{{shard}}.log",
    benchmark:
        f"{WORK}/timings/generate_pairs/{{dataset}}-{{shard}}.tsv"
    priority: 1  # every run waits for it
    conda:
        "../envs/diffusion2gan.yaml"
    params:
        options=lambda w: arguments(options.solving(STUDY, w.dataset)),
        number=lambda w: int(w.shard),
    shell:
        logged(
            "python src/scripts/pairs/generate_pairs.py {params.options} --shard {params.number} --prompts {input.prompts} "
            "--out {output}"
        )


rule index_pairs:
    """Verify every shard and write their checksums."""
    input:
        prompts=f"{WORK}/pairs/{{dataset}}/prompts.parquet",
        shards=lambda w: PATHS.shards(w.dataset),
    output:
        f"{WORK}/pairs/{{dataset}}/index.parquet",
    log:
        f"{WORK}/logs/index_pairs/{{dataset}}.log",
    benchmark:
        f"{WORK}/timings/index_pairs/{{dataset}}.tsv"
    priority: 1
    conda:
        "../envs/diffusion2gan.yaml"
    shell:
        logged(
            "python src/scripts/pairs/index_pairs.py --prompts {input.prompts} --shards {input.shards} --out {output}"
        )
