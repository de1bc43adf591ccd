"""Trainings of a tiny student in as many processes as there are.

In double precision, because Adam makes whole steps of gradients that are nothing but rounding.
"""

import copy
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
from built import InMemory
from methods import made
from methods.made import METHODS
from torch import distributed as dist
from torch.distributed.tensor import DTensor
from weight_by_weight import weight_by_weight

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.r1 import single_sample_r1
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.generator import Generator
from diffusion2gan.losses import regression_loss
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import Fitting, GANSettings, LossSettings, RegressionSettings, VGGSettings
from diffusion2gan.training import distributed
from diffusion2gan.training.adversarial import AdversarialTraining
from diffusion2gan.training.loop import Schedule, train
from diffusion2gan.training.lpips.classification import LatentBatches, VGGTraining
from diffusion2gan.training.regression import RegressionTraining

STEPS = 3
PAIRS = 20


def training_of(kind: str, teacher_folder: str, metric: str, fitting: Fitting) -> RegressionTraining | VGGTraining:
    """A regression, a GAN with either discriminator, a method, or a VGG without batch statistics, on batches of 8."""
    torch.manual_seed(0)
    if kind == "vgg":
        batches = LatentBatches(torch.randn(20, 4, 16, 16), torch.arange(20) % 3, 8, 0, *distributed.parts(8))
        network = VGG("latent", 4, 3, width=0.125, batch_norm=False).float()
        settings = {"classes": 3, "iterations": STEPS, "batch_size": 8, "learning_rate": 1e-3, "label_smoothing": 0.1}
        return VGGTraining(network, batches, VGGSettings(**settings))
    if kind in METHODS:
        return made.training(kind, teacher_folder, fitting, batch_size=8, learning_rate=1e-3, seed=5)
    teacher, pairs = made.loaded(teacher_folder), InMemory(count=PAIRS)
    pairs.held_out = range(17, PAIRS)  # not a multiple of the rows of a process
    common = {
        "student": Generator(copy.deepcopy(teacher.unet).requires_grad_(True), teacher.scheduler),
        "teacher": teacher, "pairs": pairs,
        "loss": regression_loss(LossSettings(loss="e_latent_lpips"), Path(metric)), "fitting": fitting,
    }  # fmt: skip
    settings = {"loss": "e_latent_lpips", "iterations": STEPS, "batch_size": 8, "learning_rate": 1e-3, "seed": 5}
    if kind == "regression":
        return RegressionTraining(**common, settings=RegressionSettings(**settings))
    settings |= {"d_learning_rate": 1e-3, "lambda_gan": 0.5}
    if kind == "gigagan":
        discriminator = GigaGANDiscriminator(teacher.latent_shape, 64, width=8, max_width=16)
        settings |= {"discriminator": "gigagan"}
    else:
        discriminator = DiffusionDiscriminator.from_teacher(
            teacher.unet, z_conditioning=True, multi_scale=True
        ).double()
        settings |= dict.fromkeys(("z_conditioning", "multi_scale", "r1", "mix_and_match"), True)
        settings |= {"r1_gamma": 0.01, "r1_every": 2}
    return AdversarialTraining(**common, discriminator=discriminator, settings=GANSettings(**settings))


def outcome(
    kind: str,
    teacher: str,
    metric: str,
    folder: Path,
    fitting: Fitting,
    cut_at: int | None = None,
    goes_on: bool = True,
) -> dict | None:
    """Weights and history of a training, which is interrupted at a step if `cut_at` says so, and resumed if `goes_on`.

    For sharded weights also the mesh of the processes, the shape of the first weight here, and the numbers of
    reduce-scatters of a step. Of the sharded trainings only the regression steps as a GPU does, with one operation for
    all weights.
    """
    with ExitStack() as stack:
        torch.set_default_dtype(torch.float64)
        stack.callback(torch.set_default_dtype, torch.float32)
        if fitting.shard and kind != "regression":
            stack.enter_context(weight_by_weight())
        while True:
            training, sums = training_of(kind, teacher, metric, fitting), []
            step = training.step

            def until_cut(number, step=step, cut_at=cut_at, sums=sums):
                if number == cut_at:
                    raise KeyboardInterrupt
                with counted(sums):
                    return step(number)

            training.step = until_cut
            weight = next(iter(training.modules.values())).get_parameter(FIRST[kind])
            parts = {}
            if isinstance(weight, DTensor):
                parts = {"mesh": list(weight.device_mesh.shape), "here": list(weight.to_local().shape), "sums": sums}
            saving = {} if cut_at is None else {"checkpoint_minutes": 0}
            errors = getattr(training, "errors", dict)  # a VGG has none
            saving |= {"show": lambda _, errors=errors: errors(), "show_every": 2}
            try:
                history = train(training, Schedule(STEPS), folder, {}, 0, 0.5, **saving, log_every=1)
            except KeyboardInterrupt:
                if not goes_on:
                    return parts
                cut_at = None
                continue
            weights = {name: dict(module.state_dict()) for name, module in training.modules.items()}
            kept = [name for name in history if name not in ("seconds", "images_per_second")]
            result = {"weights": weights, "history": history[kept].to_dict("list"), "processes": distributed.count()}
            return result | parts


def r1_in_parts(counts):
    """R1 as several processes compute it: a mean over the first rows of their parts. `counts`: how many, by call."""

    def r1(discriminator, x, z, text_embeddings, **strength):
        count = next(counts)
        parts = [[tensor[row:] for tensor in (x, z, text_embeddings)] for row in range(0, len(x), len(x) // count)]
        return sum(single_sample_r1(discriminator, *part, **strength) for part in parts) / count

    return r1


FIRST = dict.fromkeys(("regression", "gan", "gigagan", *METHODS), "unet.conv_in.weight") | {"vgg": "blocks.0.0.weight"}


@contextmanager
def counted(sums: list[int]):
    """Append the number of reduce-scatters, whose name is another since torch 2.13."""
    count = []
    with pytest.MonkeyPatch.context() as patch:
        for name in {"reduce_scatter_tensor", "reduce_scatter_single"} & vars(dist).keys():
            call = getattr(dist, name)
            patch.setattr(dist, name, lambda *args, call=call, **kwargs: count.append(1) or call(*args, **kwargs))
        yield
    sums.append(len(count))


def in_half(teacher: str) -> dict:
    """A sharded student under autocast: its output beside that of the whole student, and the dtypes that it uses."""
    student = Generator.from_teacher(teacher)
    generator = torch.Generator().manual_seed(0)
    z, text = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 16, 64, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        expected = student(z, text).detach()
    network, seen = distributed.wrap(student, shard=True, half=True), []
    student.unet.conv_in.register_forward_pre_hook(lambda module, args: seen.extend([module.weight, args[0]]))
    with torch.autocast("cpu", torch.bfloat16):
        x = network(z, text)
    x.sum().backward()
    weight = student.unet.conv_in.weight
    dtypes = [tensor.dtype for tensor in (*seen, x, weight, weight.grad)]
    return {"x": x.detach(), "expected": expected, "dtypes": dtypes}


def two_processes(teacher: str, metric: str, out: Path) -> None:
    """Each kind of training with each way to fit it, then one that a single process began, and a VGG."""
    fittings = {"ddp": Fitting(), "accumulated": Fitting(accumulation=2), "fsdp": Fitting(shard=True)}
    for name, fitting in fittings.items():
        for kind in ("regression", "gan", "gigagan"):
            cut_at = 2 if fitting.shard and kind == "gan" else None
            folder = out / f"{name}-{kind}"
            keep(outcome(kind, teacher, metric, folder, fitting, cut_at), folder)
    for kind in METHODS:
        keep(outcome(kind, teacher, metric, out / f"method-{kind}", fittings["accumulated"]), out / f"method-{kind}")
    keep(outcome("gan", teacher, metric, out / "moved-gan", Fitting(shard=True)), out / "moved-gan")
    keep(outcome("vgg", teacher, metric, out / "ddp-vgg", Fitting()), out / "ddp-vgg")


def two_nodes(teacher: str, metric: str, out: Path) -> None:
    """Sharded trainings: whole, interrupted, left for another number of processes; and one pass in bfloat16."""
    accumulated = Fitting(shard=True, accumulation=2)
    keep(outcome("gan", teacher, metric, out / "hsdp", accumulated), out / "hsdp")
    for name, cut_at in (("hsdp-whole", None), ("hsdp-cut", 2)):
        keep(outcome("regression", teacher, metric, out / name, accumulated, cut_at), out / name)
    left = outcome("gan", teacher, metric, out / "hsdp-left", Fitting(shard=True), cut_at=2, goes_on=False)
    keep(left, out / "hsdp-left")
    keep(in_half(teacher), out / "half")


def keep(result: dict, path: Path) -> None:
    if distributed.is_main():
        torch.save(result, path.with_suffix(".pt"))
