"""Cost of training: each regression loss relative to MSE (Table 1), each part of D relative to the first (Table 2), R1.

    python speed/distill.py                          # the toy teacher's size
    python speed/distill.py --size sd15 --batch 8    # Stable Diffusion 1.5's, random weights: needs a GPU

Pairs are random and in memory. On a CPU the time is processor time of one thread, so that other processes do not
affect it. The paper's images per second relative to MSE's, on A100: LPIPS 0.29, pseudo-Huber 1.04, LatentLPIPS 1.01,
E-LatentLPIPS 0.92.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.r1 import single_sample_r1
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.generator import Generator
from diffusion2gan.losses import PERCEPTUAL, POINTWISE, regression_loss
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.pairs.dataset import Pairs
from diffusion2gan.settings import GANSettings, LossSettings, RegressionSettings
from diffusion2gan.toy import networks as toy
from diffusion2gan.training import distributed
from diffusion2gan.training.adversarial import AdversarialTraining
from diffusion2gan.training.regression import RegressionTraining

TINY = 1e-12  # a learning rate that leaves the weights where they are
PAPER = {"lpips": 0.29, "pseudo_huber": 1.04, "latent_lpips": 1.01, "e_latent_lpips": 0.92}


class RandomTeacher:
    """A teacher with random weights and the methods that a training calls."""

    def __init__(self, size: str, device: torch.device):
        self.device = device
        self.vae, self.unet, (tokens, width) = NETWORKS[size]()
        for module in (self.vae, self.unet):
            module.requires_grad_(False).eval().to(device)
        self.text = torch.randn(1, tokens, width, device=device)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        side = self.unet.config.sample_size
        return self.unet.config.in_channels, side, side

    def encode_text(self, captions: list[str]) -> dict[str, torch.Tensor]:
        return {"text_embeddings": self.text.expand(len(captions), -1, -1)}

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample


class RandomPairs:
    """Pairs of random tensors, all in memory, each with its own caption."""

    def __init__(self, count: int, shape: tuple[int, int, int]):
        self.z, self.x = torch.randn(2, count, *shape)
        self.captions = [f"caption {i}" for i in range(count)]

    def __len__(self) -> int:
        return len(self.z)

    def batch(self, indices: torch.Tensor) -> Pairs:
        return Pairs(self.z[indices], [self.captions[i] for i in indices.tolist()], self.x[indices])


def toy_networks():
    return toy.vae(), toy.unet(), (toy.CONTEXT, 64)


def sd15_networks():
    from diffusers import AutoencoderKL, UNet2DConditionModel

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )
    unet = UNet2DConditionModel(sample_size=64, attention_head_dim=8, cross_attention_dim=768)
    return vae, unet, (77, 768)


NETWORKS = {"toy": toy_networks, "sd15": sd15_networks}


def main(size: str, batch: int, repeats: int, autocast: bool) -> None:
    torch.manual_seed(0)
    device = distributed.device()
    teacher = RandomTeacher(size, device)
    pairs = RandomPairs(4 * batch, teacher.latent_shape)
    common = {"iterations": 1, "batch_size": batch, "learning_rate": TINY, "autocast": autocast}
    print(f"{size}, batches of {batch}, {repeats} steps each, {'bfloat16' if autocast else 'float32'}, {device}")
    with tempfile.TemporaryDirectory() as folder:
        losses = {name: loss_of(name, size, Path(folder), teacher) for name in [*POINTWISE, *PERCEPTUAL]}

    print("\na step of regression: images/s relative to MSE (the paper's), peak GiB")
    trainings = {
        name: lambda name=name, loss=loss: RegressionTraining(
            student(teacher), teacher, pairs, loss, RegressionSettings(loss=name, **common)
        )
        for name, loss in losses.items()
    }
    compare(trainings, batch, repeats, device, PAPER)

    print("\na step of the GAN, R1 each time: images/s as ratio to the first, peak GiB")
    common |= {"loss": "e_latent_lpips", "d_learning_rate": TINY, "r1_every": 1}
    trainings = {
        name: lambda row=row: AdversarialTraining(
            student(teacher), teacher, pairs, losses["e_latent_lpips"],
            discriminator(settings := GANSettings(**common | row), teacher), settings,
        )
        for name, row in ROWS.items()
    }  # fmt: skip
    compare(trainings, batch, repeats, device)

    print("\nR1, forward and both backward passes: time as ratio to the single sample, peak GiB")
    full = DiffusionDiscriminator.from_teacher(teacher.unet, z_conditioning=True, multi_scale=True).to(device)
    x, z = (torch.randn(batch, *teacher.latent_shape, device=device) for _ in range(2))
    text = teacher.text.expand(batch, -1, -1)
    seconds = {}
    for name, penalty in {"single sample": single_sample_r1, "whole batch": whole_batch_r1}.items():
        compute = lambda penalty=penalty: penalty(full, x, z, text, gamma=1.0, every=16).backward()  # noqa: E731
        seconds[name], memory = measure(compute, repeats, device)
        print(f"  {name:<24}{seconds[name] / seconds['single sample']:8.2f}{memory:9.2f}")


def student(teacher: RandomTeacher) -> Generator:
    return Generator(copy.deepcopy(teacher.unet).requires_grad_(True), toy.scheduler())


def loss_of(name: str, size: str, folder: Path, teacher: RandomTeacher):
    """The loss with a random metric: VGG16 at full width, or at a quarter of its width for the toy size."""
    if name in POINTWISE:
        return regression_loss(LossSettings(loss=name))
    space = PERCEPTUAL[name]
    trunk = VGG(space, 3 if space == "pixel" else 4, 0, 0.25 if size == "toy" else 1.0)
    path = folder / f"{space}.safetensors"
    LPIPS(trunk, [torch.rand(width) for width in trunk.widths]).save(path)
    return regression_loss(LossSettings(loss=name), path, teacher.decode, device=teacher.device)


def discriminator(settings: GANSettings, teacher: RandomTeacher):
    """The D of a row of Table 2, as in `train_gan.py`, but GigaGAN's is as wide as the teacher."""
    if settings.discriminator == "diffusion":
        return DiffusionDiscriminator.from_teacher(teacher.unet, settings.z_conditioning, settings.multi_scale)
    unet = teacher.unet.config
    return GigaGANDiscriminator(teacher.latent_shape, unet.cross_attention_dim, min(128, unet.block_out_channels[0]))


Z, R1, SCALES = {"z_conditioning": True}, {"r1": True}, {"multi_scale": True}
ROWS = {
    "GigaGAN D": {"discriminator": "gigagan"},
    "diffusion D": {},
    "+ z": Z,
    "+ single-sample R1": Z | R1,
    "+ multi-scale": Z | R1 | SCALES,
    "+ mix-and-match": Z | R1 | SCALES | {"mix_and_match": True},
}


def whole_batch_r1(discriminator, x, z, text, gamma: float, every: int) -> torch.Tensor:
    """The usual R1: the mean over the batch, computed in one pass."""
    samples = torch.arange(len(x))
    x = x.clone().requires_grad_()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        logits = sum(head.flatten(1).sum(1) for head in discriminator(x, z, text))
        (gradient,) = torch.autograd.grad(logits[samples].sum(), x, create_graph=True)
    return every * gamma / 2 * gradient.square().flatten(1).sum(1).mean()


def compare(
    trainings: dict[str, Callable],
    batch: int,
    repeats: int,
    device: torch.device,
    paper: dict[str, float] | None = None,
) -> None:
    """Print the speed of each training relative to the first."""
    first = None
    for name, make in trainings.items():
        training = make()
        steps = iter(range(10**6))
        seconds, memory = measure(lambda training=training, steps=steps: training.step(next(steps)), repeats, device)
        first = first or seconds
        reported = f" ({paper[name]:.2f})" if paper and name in paper else ""
        print(
            f"  {name:<24}{first / seconds:8.2f}{reported:<8}{memory:9.2f}   {batch / seconds:8.1f} images/s",
            flush=True,
        )
        del training


def measure(compute: Callable[[], object], repeats: int, device: torch.device) -> tuple[float, float]:
    """Median seconds of a call, after two warm-up calls; peak GiB on a GPU, or on a CPU the GiB kept for backward."""
    cuda, seconds = device.type == "cuda", []
    clock = time.perf_counter if cuda else time.process_time
    for _ in range(2):
        compute()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(repeats):
        start = clock()
        compute()
        if cuda:
            torch.cuda.synchronize(device)
        seconds.append(clock() - start)
    memory = torch.cuda.max_memory_allocated(device) if cuda else kept_for_backward(compute)
    return statistics.median(seconds), memory / 2**30


def kept_for_backward(compute: Callable[[], object]) -> int:
    """Bytes of the activations that a call keeps for its backward passes; weights do not count."""
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not (tensor.is_leaf and tensor.requires_grad):
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(kept.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=NETWORKS, default="toy")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--autocast", action="store_true", help="networks in bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    main(options.size, options.batch, options.repeats, options.autocast)
