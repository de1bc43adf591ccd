"""E-LatentLPIPS and the authors' package with the same weights and latents: ratios of time and memory.

    python speed/elatentlpips.py [--side 32] [--batch 8] [--rounds 5] [--compile]

A step computes the distance of a batch and its gradient with respect to the student's latents, in float32, and on a
GPU also under bfloat16 autocast. Weights are random, since speed does not depend on them. `--compile` compiles our
backbone. Where the CUDA filters of the package cannot be built, its filters in PyTorch take their place. Needs
`pip install -e ".[dev]"`.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch

from diffusion2gan.losses.lpips import ELatentLPIPS
from diffusion2gan.metrics.speed import extra_memory, seconds


def packages_metric(folder: Path):
    """The package's metric with random weights; it reads its checkpoints only from ./ckpt."""
    sys.path.pop(0)  # the folder of this script, whose name is the package's
    import elatentlpips
    from elatentlpips.style_ops import upfirdn2d
    from elatentlpips.vgg16 import LatentVGG16BN

    if torch.cuda.is_available():
        try:
            upfirdn2d._init()
        except (ImportError, RuntimeError) as error:
            print(f"the package's CUDA filters cannot be built ({str(error).splitlines()[0]})")
            upfirdn2d._init = lambda: False

    (folder / "ckpt").mkdir()
    trunk = {"state_dict": LatentVGG16BN(4).state_dict(), "best_acc1": 0}
    torch.save(trunk, folder / "ckpt" / "sd15_latent_vgg16.pth.tar")
    metric = elatentlpips.ELatentLPIPS(pretrained=False, encoder="sd15", augment="bgco", verbose=False)
    for name, parameter in metric.named_parameters():
        if name.startswith("lin"):
            parameter.data.uniform_(0, 1)
    return metric.requires_grad_(False)


def main(side: int, batch: int, rounds: int, compile: bool) -> None:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        home = os.getcwd()
        os.chdir(folder)
        theirs = packages_metric(Path(folder)).to(device)
        os.chdir(home)
        tuned = Path(folder, "sd15_latest_vgg16_tuned.pth")
        torch.save(theirs.state_dict(), tuned)
        ours = ELatentLPIPS.from_pretrained(tuned, ensemble="bgco").to(device)
    if compile:
        trunk = ours.metric.trunk
        trunk.features = torch.compile(trunk.features)

    target = torch.randn(batch, 4, side, side, device=device)
    student = torch.randn_like(target).requires_grad_()
    losses = {
        "package": lambda: theirs(student, target, add_l1_loss=False).mean(),
        "ours": lambda: ours(student, target).mean(),
    }
    print(f"batch {batch}, latents 4 × {side} × {side}, on {device.type}, {torch.get_num_threads()} threads")
    slowest = None
    for autocast in (False, True) if device.type == "cuda" else (False,):

        def step(loss, autocast=autocast):
            student.grad = None
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                value = loss()
            value.backward()

        # in turns, so that other load on the machine affects both
        times = {name: [] for name in losses}
        for number in range(rounds + 1):
            for name, loss in losses.items():
                timing = seconds(lambda loss=loss: step(loss), warmup=0, repeats=2).median
                if number:
                    times[name].append(timing)
        memory = {name: extra_memory(lambda loss=loss: step(loss), device) for name, loss in losses.items()}
        time = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
        print("bfloat16" if autocast else "float32")
        for name in losses:
            print(f"  {name:8} {time[name] * 1e3:9.1f} ms {memory[name] / 2**20:9.0f} MiB")
        print(f"  package / ours: time {time['package'] / time['ours']:.2f}, ", end="")
        print(f"memory {memory['package'] / memory['ours']:.2f}")
        slowest = slowest or time["package"]
    if device.type == "cuda":
        print(f"package in float32 / ours in bfloat16: time {slowest / time['ours']:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    main(**vars(parser.parse_args()))
