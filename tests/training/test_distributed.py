"""Two processes, micro-batches and sharded weights compute what one process computes on the whole batch."""

from functools import cache

import pytest
import torch
from forked import in_processes
from methods.made import METHODS
from training import worker

from diffusion2gan.errors import UserError
from diffusion2gan.generator import Generator
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import Fitting
from diffusion2gan.training import adversarial, distributed

pytestmark = pytest.mark.xdist_group("distributed")  # one start of the processes for all tests

KINDS = ("regression", "gan", "gigagan")


@pytest.fixture(scope="module")
def files(small_teacher_folder, tmp_path_factory):
    """The teacher, a metric, and a folder for what the trainings write."""
    folder = tmp_path_factory.mktemp("parallel")
    torch.manual_seed(0)
    trunk = VGG("latent", 4, 0, width=0.125)
    LPIPS(trunk, [torch.rand(width, dtype=torch.float64) for width in trunk.widths]).save(folder / "metric.safetensors")
    return str(small_teacher_folder), str(folder / "metric.safetensors"), folder


@pytest.fixture(scope="module")
def alone(files):
    """Each training in this process, its batch in one piece."""
    *given, folder = files
    return {kind: worker.outcome(kind, *given, folder / f"alone-{kind}", Fitting()) for kind in KINDS}


@pytest.fixture(scope="module")
def expected(files, alone):
    """What several processes should compute: the same, but R1 is a mean over the first rows of their parts.

    `expected(kind, first, last)` has `first` processes at step 0 and `last` at step 2, the two steps with R1.
    """

    @cache
    def of(kind, first, last):
        if kind != "gan":
            return alone[kind]
        *given, folder = files
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(adversarial, "single_sample_r1", worker.r1_in_parts(iter([first, last])))
            return worker.outcome("gan", *given, folder / f"parts-{first}-{last}", Fitting())

    return of


@pytest.fixture(scope="module")
def together(files):
    """The folder with the results of two processes."""
    *given, folder = files
    worker.outcome("gan", *given, folder / "moved-gan", Fitting(), cut_at=2, goes_on=False)
    in_processes(lambda: worker.two_processes(*files), gpus=2)
    return files[-1]


@pytest.fixture(scope="module")
def nodes(files):
    """The folder with the results of four processes: two nodes of two."""
    in_processes(lambda: worker.two_nodes(*files), gpus=2, nodes=2)
    return files[-1]


def check(result, expected, atol=1e-6):
    """Equal weights and numbers."""
    torch.testing.assert_close(result["weights"], expected["weights"], rtol=0, atol=atol)
    for term, values in expected["history"].items():
        assert result["history"][term] == pytest.approx(values, rel=1e-6, nan_ok=True), term


def test_these_tests_run_in_one_worker(request):
    """Otherwise the processes would be started once in each: xdist reads the name of the group in the id of a test."""
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@distributed")


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_are_the_batch(files, alone, kind):
    *given, folder = files
    fitting = Fitting(accumulation=4, gradient_checkpointing=True)
    check(worker.outcome(kind, *given, folder / f"micro-batches-{kind}", fitting), alone[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fitting", ["ddp", "accumulated", "fsdp"])
def test_two_processes_are_one(expected, together, fitting, kind):
    result = torch.load(together / f"{fitting}-{kind}.pt", weights_only=True)
    assert (result["processes"], expected(kind, 2, 2)["processes"]) == (2, 1)
    check(result, expected(kind, 2, 2))


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_of_a_method_are_one(method, files, together):
    *given, folder = files
    result = torch.load(together / f"method-{method}.pt", weights_only=True)
    assert result["processes"] == 2
    # losses of D are float32, and Adam magnifies the rounding of small gradients to a part of its steps of 1e-4
    check(result, worker.outcome(method, *given, folder / f"alone-{method}", Fitting()), atol=5e-5)


def test_two_nodes_shard_within_and_replicate_across(expected, nodes):
    result = torch.load(nodes / "hsdp.pt", weights_only=True)
    check(result, expected("gan", 4, 4))
    first, *others = expected("gan", 4, 4)["weights"]["student"]["unet.conv_in.weight"].shape
    assert (result["processes"], result["mesh"], result["here"]) == (4, [2, 2], [first // 2, *others])


def test_sharded_gradients_are_averaged_once_but_twice_in_the_blocks_of_the_discriminator(nodes):
    """Each network is seven blocks and the rest.

    D runs on real and on fake latents before its backward pass, and FSDP averages what earlier micro-batches left
    at the first of the two.
    """
    two, one = (torch.load(nodes / f"{name}.pt", weights_only=True)["sums"] for name in ("hsdp", "hsdp-left"))
    assert one == [16, 16] and two[:2] == [23, 23]


def test_sharded_weights_are_gathered_in_bfloat16_for_autocast(nodes):
    half = torch.load(nodes / "half.pt", weights_only=True)
    weight, z, x, kept, gradient = half["dtypes"]
    assert weight == torch.bfloat16
    assert {z, x, kept, gradient} == {torch.float32}
    error = (half["x"] - half["expected"]).norm() / half["expected"].norm()
    assert error < 0.02


def test_a_sharded_training_that_was_interrupted_ends_in_the_same_bits(nodes):
    whole, resumed = (torch.load(nodes / f"{name}.pt", weights_only=True) for name in ("hsdp-whole", "hsdp-cut"))
    torch.testing.assert_close(resumed["weights"], whole["weights"], rtol=0, atol=0)
    assert str(resumed["history"]) == str(whole["history"])  # in which nan is equal to nan


def test_a_training_goes_on_in_another_number_of_processes(files, expected, together, nodes):
    """From one process to two with sharded weights, and from four to one."""
    *given, folder = files
    assert sorted(path.name for path in (folder / "hsdp-left").iterdir()) == ["step-00000001", "step-00000002"]
    check(worker.outcome("gan", *given, folder / "hsdp-left", Fitting()), expected("gan", 4, 1))
    moved = torch.load(together / "moved-gan.pt", weights_only=True)
    assert moved["processes"] == 2
    check(moved, expected("gan", 1, 2))


def test_r1_takes_a_sample_of_each_process(alone, expected):
    """The samples above differ: the penalty of the first step, and weights after it."""
    ones, twos = alone["gan"], expected("gan", 2, 2)
    assert ones["history"]["r1"][0] != pytest.approx(twos["history"]["r1"][0], rel=1e-3)
    moved = [not torch.allclose(weight, twos["weights"]["discriminator"][name], rtol=0, atol=1e-5)
             for name, weight in ones["weights"]["discriminator"].items()]  # fmt: skip
    assert sum(moved) > 0.5 * len(moved)


def test_a_vgg_trains_in_two_processes(files, together):
    *given, folder = files
    expected = worker.outcome("vgg", *given, folder / "alone-vgg", Fitting())
    result = torch.load(together / "ddp-vgg.pt", weights_only=True)
    assert result["processes"] == 2
    torch.testing.assert_close(result["weights"], expected["weights"], rtol=0, atol=1e-4)  # in single precision
    assert result["history"]["loss"] == pytest.approx(expected["history"]["loss"], rel=1e-5)


def test_the_trainings_moved(alone, small_teacher_folder):
    """The weights compared above differ from the initial ones."""
    fresh = Generator.from_teacher(small_teacher_folder).state_dict()
    for kind in KINDS:
        moved = [not torch.allclose(alone[kind]["weights"]["student"][name].float(), fresh[name]) for name in fresh]
        assert sum(moved) > 0.9 * len(moved)


def test_rows_cover_the_batch_once(monkeypatch):
    class State:
        num_processes = 4

        def __init__(self, process_index):
            self.process_index = process_index

    rows = []
    for process in range(4):
        monkeypatch.setattr(distributed, "processes", lambda process=process: State(process))
        mine = distributed.parts(24, accumulation=2)
        assert len(mine) == 2
        rows += [row for part in mine for row in range(24)[part]]
    assert rows == list(range(24))


@pytest.mark.parametrize(("size", "accumulation"), [(9, 2), (2, 4)])
def test_a_batch_that_does_not_divide_is_an_error(size, accumulation):
    with pytest.raises(UserError, match=f"a batch of {size} does not divide among 1 process with {accumulation} micro"):
        distributed.parts(size, accumulation)
