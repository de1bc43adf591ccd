"""What Snakemake does: a change reruns only what depends on it, and a failure is one line."""

from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.xdist_group("run")  # one made study for all tests

SMOKE = ("--cores", "2", "--config", "scale=smoke")
TARGETS = ("--", "results/table1.csv", "results/table2.csv", "results/figures/figure1.png")


def replan(workflow, *changes):
    """The jobs that would run again after a change of the configuration."""
    return workflow.plan("--config", "scale=smoke", *changes, *TARGETS)


@contextmanager
def written(path, text):
    """Inside the block, the file has another content."""
    before = path.read_text()
    path.write_text(text)
    yield
    path.write_text(before)


def test_a_change_reruns_what_it_touches(made):
    assert replan(made) == {}
    after_gan_z = {"train_gan": 1, "sample": 1, "score": 1, "measure_cost": 1, "make_table": 1}
    assert replan(made, "runs={gan-diffusion-z: {seed: 1}}") == after_gan_z
    after_mse = {"train_regression": 1, "sample": 1, "score": 1, "measure_cost": 1, "make_table": 1}
    assert replan(made, "runs={regression-mse: {seed: 1}}") == after_mse
    others = {"sample": 4, "score": 3, "make_table": 1, "make_figure1": 1}
    assert replan(made, "base={r1_every: 8}") == {"train_gan": 4, "measure_cost": 3} | others
    assert replan(made, "evaluation={feature_side: 96}") == {"score": 15, "make_table": 2}


def test_a_change_of_hardware_or_one_more_ablation_reruns_nothing(made):
    more = "runs={gan-2: {stage: gan, init: regression-mse, discriminator: gigagan}}"
    assert replan(made, "gan={batch: {base: {nodes: 2, gpus: 2}}}", more) == {}
    assert replan(made, "regression={batch: {large: {nodes: 2, gpus: 2, accumulation: 2}}}") == {}


def test_another_scale_rebuilds_the_tables(made):
    jobs = made.plan("--config", "scale=toy", *TARGETS)
    assert jobs["make_table"] == 2 and jobs["train_gan"] == 7


def test_a_comment_in_a_script_reruns_only_what_is_cheap(made):
    scripts = made.folder / "src/scripts"
    with (
        written(scripts / "distill/train_gan.py", "# a comment"),
        written(scripts / "pairs/generate_pairs.py", "# a comment"),
    ):
        assert replan(made) == {}
    with written(scripts / "report/make_table.py", "# a comment"):
        assert replan(made) == {"make_table": 2}


def test_weights_that_change_are_noticed(made):
    with written(made.folder / "assets/toy/vgg-latent.safetensors", "other weights"):
        jobs = replan(made)
    assert jobs["calibrate_lpips"] == 1 and jobs["train_gan"] == 7 and jobs["train_regression"] == 4
    assert "generate_pairs" not in jobs


def test_the_demo_trains_one_student_and_its_starting_point(workflow):
    jobs = workflow.plan("--config", "scale=demo", "--", "demo")
    assert jobs == {
        "prepare_prompts": 1, "generate_pairs": 2, "index_pairs": 1, "calibrate_lpips": 1, "train_regression": 1,
        "train_gan": 1, "make_benchmark": 1, "sample": 3, "score": 3, "make_figure1": 1, "demo": 1,
    }  # fmt: skip


def test_the_options_of_the_scripts(made):
    runs = made.folder / "work/smoke/runs"
    told = (runs / "gan-diffusion-z/student/made.txt").read_text()
    assert "--init work/smoke/runs/regression-elatentlpips-large-batch/student" in told
    assert "--z_conditioning true" in told and "--r1 false" in told and "--discriminator diffusion" in told
    assert "--lpips work/smoke/latentlpips/latent-sd15/lpips.safetensors" in told
    assert "--lpips" not in (runs / "regression-mse/student/made.txt").read_text()
    drawn = (runs / "teacher-sd15/samples/openmoji/shard-00000-of-00001.json").read_text()
    assert "--model assets/toy/teacher" in drawn
    assert "--scheduler ddim --steps 4 --spacing trailing --guidance 3" in drawn
    scored = (runs / "teacher-sd15/metrics/openmoji.json").read_text()
    assert "--metrics fid clip_score precision recall" in scored and "--time true" in scored
    assert "--images work/smoke/runs/teacher-sd15/samples/openmoji " in scored
    assert "--time false" in (runs / "gan-gigagan/metrics/openmoji.json").read_text()


def test_a_failed_training_keeps_its_checkpoints_and_says_why(workflow):
    target = "work/smoke/runs/regression-mse/student"
    checkpoints = workflow.folder / "work/smoke/runs/regression-mse/checkpoints"
    (workflow.folder / "FAIL").write_text("src/scripts/distill/train_regression.py")
    ran = workflow.run(*SMOKE, "--", target)
    assert ran.returncode == 1
    assert "error: train_regression fails, as it should" in ran.stdout.splitlines()
    assert "working" not in ran.stdout.splitlines()
    assert checkpoints.exists()

    (workflow.folder / "FAIL").unlink()
    assert workflow.run(*SMOKE, "--", target).returncode == 0
    assert not checkpoints.exists()


def test_what_the_scale_lacks_fails_in_a_line(workflow):
    scale = workflow.folder / "scales/smoke.yaml"
    scale.write_text(scale.read_text() + "\nprompts: {laion-aesthetics-6.0: null}\n")
    ran = workflow.run(*SMOKE, "--", "work/smoke/pairs/sd-cfg-8/prompts.parquet")
    assert ran.returncode == 1
    message = "error: scale smoke has no laion-aesthetics-6.0: set it under `prompts` in scales/smoke.yaml"
    assert message in ran.stdout.splitlines()


def test_a_job_through_submitit(workflow):
    """On this machine, as it would go to SLURM: one job that ends well and one that fails."""
    submitit = (
        "--executor",
        "submitit",
        "--submitit-cluster",
        "local",
        "--jobs",
        "2",
        "--seconds-between-status-checks",
        "1",
    )
    prompts = "work/smoke/pairs/sd-cfg-3/prompts.parquet"
    ran = workflow.run(*submitit, "--config", "scale=smoke", "--", prompts)
    assert ran.returncode == 0, ran.stdout
    assert (workflow.folder / prompts).exists()

    (workflow.folder / "FAIL").write_text("src/scripts/data/make_benchmark.py")
    ran = workflow.run(*submitit, "--config", "scale=smoke", "--", "work/smoke/benchmarks/openmoji/prompts.parquet")
    assert ran.returncode == 1
    assert "_log.err" in ran.stdout
    logs = workflow.folder.glob(".snakemake/submitit/*/make_benchmark/*_log.err")
    assert any("error: make_benchmark fails, as it should" in log.read_text() for log in logs)
