"""What Snakemake plans: job counts at each scale, and no more than a target needs."""

import resource
from collections import Counter
from dataclasses import replace
from importlib.metadata import version

import pytest
from snakemake import cli
from snakemake.api import WorkflowApi
from snakemake.dag import DAG
from snakemake.jobs import Job
from snakemake.workflow import Workflow

from diffusion2gan.report.workflow import rule_graph

TABLE2 = {
    "prepare_prompts": 1,
    "index_pairs": 1,
    "calibrate_lpips": 1,
    "train_regression": 1,
    "train_gan": 6,
    "make_benchmark": 1,
    "sample": 8,
    "score": 8,
    "measure_cost": 7,
    "make_table": 1,
}
# the teacher samples its 30,000 images in three jobs
PAPER = {"generate_pairs": 500, "encode_latents": 105, "train_vgg": 1, "sample": TABLE2["sample"] + 2}
TABLES = [f"results/table{number}.csv" for number in range(1, 8)]


@pytest.mark.parametrize(
    ("scale", "more"),
    [
        ("smoke", {"generate_pairs": 2}),
        ("toy", {"generate_pairs": 20}),
        ("paper", PAPER),
    ],
)
def test_table2_at_each_scale(workflow, scale, more):
    assert workflow.plan("--config", f"scale={scale}", "--", "results/table2.csv") == TABLE2 | more


def test_the_profile_of_a_cluster_plans_the_papers_table2(workflow):
    jobs = workflow.plan("--profile", "slurm", "results/table2.csv")
    assert jobs == TABLE2 | PAPER


def planned_in(workflow, *arguments) -> tuple[Counter, float]:
    """The jobs of a plan, and its CPU time as a multiple of that of a plan of one job."""

    def timed(*arguments):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        jobs = replace(workflow, as_typed=True).plan(*arguments)
        return jobs, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime

    jobs, spent = timed(*arguments)
    one, start = timed("--config", "scale=paper", "--", "work/paper/pairs/sd-cfg-8/prompts.parquet")
    assert one.total() == 1
    return jobs, spent / start


def test_planning_all_seven_tables_of_the_paper_takes_little_more_than_starting(workflow):
    jobs, ratio = planned_in(workflow, "--config", "scale=paper", "--", *TABLES)
    assert ratio < 5
    assert jobs["make_table"] == 7
    assert jobs["train_regression"] + jobs["train_gan"] == 23
    assert jobs["generate_pairs"] == 500 + 500 + 20  # of sd-cfg-3, sdxl-cfg-7 and all of CIFAR-10


def test_planning_twelve_million_pairs_takes_little_more_than_starting(workflow):
    jobs, ratio = planned_in(workflow, "--config", "scale=paper", "--", "work/paper/pairs/sd-cfg-8/index.parquet")
    assert ratio < 5
    assert jobs == {"prepare_prompts": 1, "generate_pairs": 500, "index_pairs": 1}


def test_what_does_not_fit_the_disk_is_refused_before_the_first_job(workflow):
    target = ("datasets={sd-cfg-3: {pairs: 1000000000000}}", "--", "work/smoke/pairs/sd-cfg-3/index.parquet")
    assert workflow.plan("--config", "scale=smoke", *target).total() == 4
    ran = workflow.run("--cores", "1", "--config", "scale=smoke", *target)
    assert ran.returncode == 1
    assert (
        "GB left and the planned output (`snakemake" in ran.stdout
        and "needs 2,064,000.0 GB: free some" in ran.stdout
        and "Traceback" not in ran.stdout
    )
    assert not (workflow.folder / "work/smoke/pairs").exists()


def test_table5_trains_the_teacher_that_it_distils_if_none_is_given(workflow):
    training = "{scenes: 64, iterations: 4, batch_size: 8, learning_rate: 1.0e-3}"
    given = ("--config", "scale=smoke", f"teachers={{sdxl: {{path: null, training: {training}}}}}", "--")
    jobs = workflow.plan(*given, "results/table5.csv")
    assert (jobs["train_small_teacher"], jobs["sample"], jobs["sample_diversity"], jobs["score"]) == (1, 4, 4, 4)
    assert "train_small_teacher" not in workflow.plan(*given, "results/table4.csv")
    assert "train_small_teacher" not in workflow.plan("--config", "scale=smoke", "--", "results/table5.csv")


def test_at_the_papers_scale_every_model_with_public_weights_is_measured(workflow):
    jobs = workflow.plan("--config", "scale=paper", "--", "results/table5.csv")
    assert jobs["score"] == 6
    assert (jobs["sample"], jobs["sample_diversity"]) == (5 + 3, 5 + 20)  # the teacher in several jobs
    assert workflow.plan("--config", "scale=paper", "--", "results/table3.csv")["score"] == 10


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (cli, ["parse_args"]),
        (WorkflowApi, ["_workflow"]),
        (Workflow, ["dag"]),
        (DAG, ["toposorted", "needrun_jobs"]),
        (Job, ["benchmark", "output", "rule", "wildcards_dict"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_snakemake_has_the_parts_without_a_public_interface_that_are_read(owner, names):
    gone = [name for name in names if not hasattr(owner, name)]
    assert not gone, f"snakemake {version('snakemake')}: {owner.__name__} has no {gone}: see make_plan.py, Snakefile"


def test_one_run_alone(workflow):
    jobs = workflow.plan("--profile", "local", "results/runs/regression-mse.csv")
    wanted = dict.fromkeys(TABLE2, 1) | {"generate_pairs": 20, "measure_cost": 1, "make_run": 1}
    for rule in ("calibrate_lpips", "train_gan", "make_table"):
        del wanted[rule]
    assert jobs == wanted


def test_the_default_is_every_table_and_figure_that_the_scale_can_make(workflow):
    jobs = workflow.plan()
    assert jobs["make_table"] == 9 and jobs["make_report"] == 1 and "unavailable" not in jobs
    figures = {rule: count for rule, count in jobs.items() if rule.startswith("make_figure")}
    assert figures == {f"make_figure{number}": 1 for number in range(1, 7)} | {
        "make_figure_fid": 4,
    }
    assert workflow.plan("--config", "scale=paper")["make_table"] == 9


def test_a_page_of_another_scale_is_made_again(workflow):
    pages = ["results/plan.md", "results/doctor.md"]
    made = workflow.run("--cores", "1", "--config", "scale=smoke", "--", *pages)
    assert made.returncode == 0, made.stdout
    for scale in ("toy", "smoke"):  # of the same scale too: files may have come, and times been measured
        assert workflow.plan("--config", f"scale={scale}", "--", *pages) == {"make_plan": 1, "make_doctor": 1}


def test_the_report_is_the_default_but_for_its_name(workflow):
    assert workflow.plan("--", "report") - workflow.plan() == {"report": 1}


def test_the_jobs_of_the_report_are_listed_as_they_are_planned(workflow):
    ran = workflow.run("--cores", "1", "--config", "scale=smoke", "--", "work/smoke/report/jobs.dot")
    assert ran.returncode == 0, ran.stdout
    graph = rule_graph((workflow.folder / "work/smoke/report/jobs.dot").read_text())
    planned = workflow.plan("--config", "scale=smoke", "--forceall", "results/report.html")
    assert dict(graph.nodes("jobs")) == planned and graph.has_edge("train_regression", "train_gan")


def test_what_the_scale_lacks_can_be_planned(workflow):
    assert workflow.plan("--", *TABLES)["make_table"] == 7


def test_the_toy_networks_can_be_made_from_nothing(workflow):
    for weights in (workflow.folder / "assets/toy").iterdir():
        weights.rename(workflow.folder / weights.name)
    assert workflow.plan("--", "assets") == {
        "train_vae": 1,
        "train_teacher": 1,
        "continue_teacher": 1,
        "train_teacher_xl": 1,
        "continue_teacher_xl": 1,
        "train_pixart": 1,
        "train_clip": 1,
        "train_asset_edm": 1,
        "encode_asset_latents": 14 + 1,
        "train_asset_vgg": 2,
        "assets": 1,
    }


def test_a_scale_without_shipped_trunks_trains_them(workflow):
    scale = workflow.folder / "scales/toy.yaml"
    lines = scale.read_text().splitlines()
    scale.write_text("\n".join("  weights: {}" if line.startswith("  weights:") else line for line in lines))
    runs = ["results/runs/regression-lpips.csv", "results/runs/regression-latentlpips.csv"]
    jobs = workflow.plan("--", *runs)
    assert (jobs["train_vgg"], jobs["encode_latents"], jobs["calibrate_lpips"]) == (2, 14 + 1, 2)


def test_a_mistake_in_the_configuration_is_one_line(workflow):
    ran = workflow.run("-n", "--config", "runs={regression-mse: {lozz: mse}}")
    assert ran.returncode == 1
    lines = [line for line in ran.stdout.splitlines() if "Config file" not in line]
    assert lines == ["error: config.yaml: unknown key 'lozz' in runs.regression-mse, did you mean 'loss'?"]


@pytest.mark.parametrize(
    ("mistyped", "hint"),
    [
        ("results/tabel2.csv", "did you mean 'results/table2.csv'?"),
        ("results/runs/gan-difusion-z.csv", "did you mean 'results/runs/gan-diffusion-z.csv'?"),
        ("results/figures/figure7.png", "did you mean 'results/figures/figure6.png'?"),
        ("work/toy/runs/difusion2gan/student", "did you mean 'work/toy/runs/diffusion2gan/student'?"),
        ("table2", "did you mean 'results/table2.csv'?"),
        ("dmeo", "did you mean 'demo'?"),
        ("config.yaml", "the README lists what can be made"),
    ],
)
def test_a_mistyped_target_is_one_line_with_the_nearest_one(workflow, mistyped, hint):
    ran = workflow.run("-n", "--", "results/table1.csv", mistyped)
    assert ran.returncode == 1
    lines = [line for line in ran.stdout.splitlines() if "Config file" not in line]
    assert lines == [f"error: no rule makes {mistyped}: {hint}"]


def test_a_deleted_asset_is_one_line(workflow):
    (workflow.folder / "assets/toy/vgg-latent.safetensors").unlink()
    ran = workflow.run("-n")
    assert ran.returncode == 1
    assert ran.stdout.strip() == (
        "error: assets/toy/vgg-latent.safetensors is missing: restore it with "
        "`git checkout -- assets/toy/vgg-latent.safetensors`, or train it again with `snakemake --cores all -- assets`"
    )
