"""Pairs per second, made and read, measured in one process.

    python speed/pairs.py --teacher assets/toy/teacher --batch_size 100 --steps 16

Making: the loop of generate_pairs.py, which writes a shard, alternates with the diffusers pipeline at the same batch
size, steps and guidance, which writes nothing. Reading: shards in the page cache, in the order of a training. Waiting:
how long a training waits for its pairs when its step takes twice as long as reading them, read ahead or not.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from diffusion2gan.io import file_sha256
from diffusion2gan.pairs.dataset import PairDataset
from diffusion2gan.pairs.shards import index_shards, pair_seeds, unfinished, write_shard
from diffusion2gan.pairs.sizes import shard_range
from diffusion2gan.provenance import describe
from diffusion2gan.seeds import batch_indices, noise
from diffusion2gan.study import cli
from diffusion2gan.teacher import Teacher
from diffusion2gan.training.read_ahead import ReadAhead
from diffusion2gan.training.student import AHEAD


@dataclass
class Arguments:
    teacher: str
    batch_size: int = 16
    steps: int = 16
    guidance: float = 3.0
    repeats: int = 5
    pairs_in_memory_test: int = 1_000_000


def main(args: Arguments):
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    print(f"on {describe(device)}")
    with tempfile.TemporaryDirectory() as folder:
        making(args, Teacher(args.teacher, device, torch.float16 if cuda else torch.float32), Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        dataset = synthetic(Path(folder), 10_000, (4, 64, 64), shards=5)
        reading(dataset, "4×64×64")
        waiting(dataset)
    with tempfile.TemporaryDirectory() as folder:
        dataset = synthetic(Path(folder), args.pairs_in_memory_test, (4, 8, 8), shards=20)
        memory(dataset)


def making(args: Arguments, teacher: Teacher, folder: Path) -> None:
    """Print pairs per second of ours and of the pipeline, and our share of time outside the U-Net."""
    captions = [f"picture {i}" for i in range(args.batch_size)]
    seeds = pair_seeds(range(args.batch_size), 0)
    teacher.pipeline.scheduler = teacher._solver("ddim", "own")
    teacher.pipeline.set_progress_bar_config(disable=True)
    in_unet = Stopwatch(teacher.unet, teacher.device)

    def ours():
        with unfinished(folder / "shard.safetensors", {}, [args.batch_size], teacher.latent_shape) as work:
            z = noise(seeds, teacher.latent_shape)
            work.append(teacher.solve(z, captions, args.steps, args.guidance))
            ids = list(range(args.batch_size))
            write_shard(folder / "shard.safetensors", torch.cat(work.batches), seeds, ids, 0, {})

    def theirs():
        z = noise(seeds, teacher.latent_shape).to(teacher.device, teacher.unet.dtype)
        options = {"num_inference_steps": args.steps, "guidance_scale": args.guidance, "eta": 0.0}
        return teacher.pipeline(captions, latents=z, output_type="latent", **options).images.cpu()

    ours(), theirs()
    mine, unet, pipeline = [], [], []
    for _ in range(args.repeats):
        in_unet.seconds = 0.0
        mine.append(timed(ours, teacher.device))
        unet.append(in_unet.seconds)
        pipeline.append(timed(theirs, teacher.device))
    outside = statistics.median(1 - part / whole for part, whole in zip(unet, mine, strict=True))
    ratio = statistics.median(other / own for own, other in zip(mine, pipeline, strict=True))
    for name, seconds in (("ours", mine), ("diffusers", pipeline)):
        print(f"making, {name}: {args.batch_size / statistics.median(seconds):.2f} pairs/s")
    print(f"making, ours / diffusers: {ratio:.3f} (median of {args.repeats} turns)")
    print(f"making, ours outside the U-Net: {outside:.2%} of the time")


class Stopwatch:
    """Seconds spent within a module."""

    def __init__(self, module: torch.nn.Module, device: torch.device):
        self.seconds, self.device = 0.0, device
        module.register_forward_pre_hook(self.start)
        module.register_forward_hook(self.stop)

    def start(self, *_):
        wait(self.device)
        self.began = time.perf_counter()

    def stop(self, *_):
        wait(self.device)
        self.seconds += time.perf_counter() - self.began


def reading(dataset: PairDataset, shape: str) -> None:
    """Print pairs per second from the page cache: the shards' content alone, and with noise and captions."""
    order = [batch_indices(step, 256, len(dataset), 0) for step in range(len(dataset) // 256)]
    for name, read in (
        ("latents, seeds, prompt ids", dataset.read_shards),
        ("and the noise sampled anew", dataset.batch),
    ):
        rates = []
        for _ in range(3):
            start = time.perf_counter()
            for indices in order:
                read(indices)
            rates.append(len(order) * 256 / (time.perf_counter() - start))
        print(f"reading {shape}, {name}: {statistics.median(rates):,.0f} pairs/s")


def waiting(dataset: PairDataset, steps: int = 50, batch_size: int = 32) -> None:
    """Print the seconds per step that a training waits for its pairs. Its step sleeps, as a CPU does beside a GPU."""
    order = [batch_indices(step, batch_size, len(dataset), 1) for step in range(2 * steps)]
    start = time.perf_counter()
    for indices in order[steps:]:
        dataset.batch(indices)
    pause, waited = 2 * (time.perf_counter() - start) / steps, {}
    for ahead in (0, AHEAD):
        reader, seconds = ReadAhead(dataset), 0.0
        for step in range(steps):
            reader.prepare(order[step + 1 : step + 1 + ahead])
            start = time.perf_counter()
            reader.batch(order[step])
            seconds += time.perf_counter() - start
            time.sleep(pause)
        waited[ahead] = seconds / steps
    print(
        f"waiting for {batch_size} pairs beside a step of {1000 * pause:.1f} ms: {1000 * waited[0]:.2f} ms, "
        f"read ahead {1000 * waited[AHEAD]:.2f} ms, ratio {waited[AHEAD] / waited[0]:.3f}"
    )


def memory(dataset: PairDataset) -> None:
    """Print the memory of this process, without the page cache, while it reads every pair once."""
    steps, used = len(dataset) // 1000, []
    for step in range(steps):
        dataset.read_shards(batch_indices(step, 1000, len(dataset), 0))
        if step % (steps // 10) == 0:
            used.append(anonymous_mebibytes())
    print(f"reading {len(dataset):,} pairs, MiB at each tenth: {', '.join(f'{each:.0f}' for each in used)}")


def synthetic(folder: Path, count: int, shape: tuple[int, ...], shards: int) -> PairDataset:
    """Pairs of random latents."""
    prompts = folder / "prompts.parquet"
    captions = pd.Series(range(count)).map("synthetic prompt number {}".format)
    pd.DataFrame({"prompt_id": range(count), "caption": captions}).to_parquet(prompts, index=False)
    recipe, paths = {"prompts_sha256": file_sha256(prompts)}, []
    for shard in range(shards):
        pairs = shard_range(shard, shards, count)
        paths.append(folder / f"shard-{shard:05d}.safetensors")
        latents = torch.randn(len(pairs), *shape).half()
        write_shard(paths[-1], latents, pair_seeds(pairs, 0), list(pairs), pairs.start, recipe)
    index_shards(paths, prompts).to_parquet(folder / "index.parquet")
    return PairDataset(folder)


def anonymous_mebibytes() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def timed(work, device: torch.device) -> float:
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    cli.run(main)
