"""Real steps of a training at the paper's size, and their memory beside the account's.

    python speed/real_step.py --samples 1               # two on the CPU, in float32: 17 GiB of memory, some minutes
    python speed/real_step.py regression-elatentlpips diffusion2gan --steps 5                    # on a GPU

Networks and pairs are random. A run is a row of the paper's tables; it has the batch and the micro-batches of one of
its GPUs (scales/paper.yaml), or `--samples`. A GAN with R1 has it in the first and in the last step. There are no
other processes. The account is counted on tensors without data (`diffusion2gan.memory`).
"""

import diffusion2gan._torchvision  # noqa: F401 - before diffusers

import argparse
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from diffusers.training_utils import EMAModel
from torch import nn

from diffusion2gan.memory.count import GIB
from diffusion2gan.memory.networks import Source
from diffusion2gan.memory.training import RandomPairs, Training
from diffusion2gan.pairs.dataset import Pairs
from diffusion2gan.settings import DistillationSettings, GANSettings
from diffusion2gan.study.config import load
from diffusion2gan.study.memory import training as training_of
from diffusion2gan.study.study import Study
from diffusion2gan.training import distributed
from diffusion2gan.training.student import GRID_COLUMNS

ROOT = Path(__file__).parents[1]
WARM_UP = 2  # steps
DEVICE = distributed.device()


class RealSource(Source):
    """The teacher's networks with random weights."""

    def make(self, build: Callable[[], nn.Module], dtype: torch.dtype = torch.float32, device: str = "cpu"):
        with torch.device("meta" if device == "meta" else DEVICE):
            network = build().to(dtype)
        if device != "meta" and any(weight.is_meta for weight in network.parameters()):  # a copy of the idle teacher
            network = network.to_empty(device=DEVICE)
            for weight in network.parameters():
                nn.init.normal_(weight, std=weight[0].numel() ** -0.5) if weight.ndim > 1 else nn.init.ones_(weight)
        return network

    def teacher(self, dtype: torch.dtype = torch.float32, idle: bool = False):
        teacher = super().teacher(dtype, idle)
        teacher.device = DEVICE
        return teacher

    def metric(self, space: str):
        return super().metric(space).to(DEVICE)


class Noise(RandomPairs):
    """Pairs of noise: zeros would be faster than real latents."""

    def batch(self, indices) -> Pairs:
        z, x = torch.randn(2, len(indices), *self.shape)
        return Pairs(z, [self.captions[int(index)] for index in indices], x)


def main(runs: list[str], samples: int | None, steps: int, account: bool, compile: bool) -> None:
    study = Study(load(yaml.safe_load((ROOT / "config.yaml").read_text()) | {"scale": "paper"}, ROOT))
    if unknown := set(runs) - set(study.runs):
        sys.exit(f"error: no run {', '.join(unknown)} in config.yaml")
    if DEVICE.type == "cpu" and len(runs) > 1:
        sys.exit("error: on a CPU, give one run at a time: its highest memory cannot be reset")
    for name in runs:
        job, settings = training_of(study, study.runs[name]), study.runs[name].settings
        count, fitting = job.settings.batch_size, {"shard": False, "compile": compile}  # all weights on one GPU
        if samples:
            count, fitting = samples, fitting | {"accumulation": 1}
        job = replace(
            job,
            settings=job.settings.model_copy(update={"batch_size": count, "autocast": DEVICE.type != "cpu"}),
            fitting=job.fitting.model_copy(update=fitting),
            parallel=False,
            sharded_over=1,
        )
        print(f"{name}: {count} samples in {job.fitting.accumulation} micro-batches on {hardware()}", flush=True)
        if account:
            print(f"  account {job.count() / GIB:.1f} GiB, as if all ingredients of a GAN were on", flush=True)
        changes = {"batch_size": count, "iterations": 1000, "autocast": job.settings.autocast}
        if isinstance(settings, GANSettings):
            changes["r1_every"] = 1000
        measure(job, settings.model_copy(update=changes), steps)


def measure(job: Training, settings: DistillationSettings, steps: int) -> None:
    """Print the memory of a training and the seconds of its steps."""
    torch.manual_seed(0)
    before = start_of_memory()
    job = replace(job, source=RealSource(**vars(job.source)))
    training = job.build(settings, job.fitting)
    training.pairs = training.reader.pairs = Noise(job.source.shape)
    student = list(training.modules["student"].parameters())
    average = EMAModel(student) if settings.ema_decay else None

    seconds = []
    for step in [*range(steps if DEVICE.type == "cpu" else WARM_UP + steps), 0]:
        start = time.perf_counter()
        numbers = training.step(step)
        if average:
            average.step(student)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    with torch.no_grad():
        training.teacher.decode(torch.zeros(GRID_COLUMNS, *job.source.shape, device=DEVICE))
    *others, last = seconds
    speed = settings.batch_size / statistics.median(others[-steps:])
    print(f"  measured {highest_memory() - before:.1f} GiB, {speed:.2f} images/s, the last step {last:.2f} s")
    print("  seconds of the steps:", *(f"{each:.2f}" for each in seconds))
    print("  ", {name: round(number, 4) for name, number in numbers.items()}, flush=True)


def start_of_memory() -> float:
    """GiB in use; on a GPU the highest memory is counted from now on."""
    if DEVICE.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return highest_memory()


def highest_memory() -> float:
    """The highest memory so far in GiB: allocated by torch on a GPU, resident on a CPU."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def hardware() -> str:
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "the CPU"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", default=["regression-elatentlpips"], metavar="RUN")
    parser.add_argument("--samples", type=int, help="of one GPU in a step, as one micro-batch")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument(
        "--no-account", dest="account", action="store_false", help="skip the count, which takes minutes"
    )
    parser.add_argument("--compile", action="store_true", help="compile the student's U-Net")
    main(**vars(parser.parse_args()))
