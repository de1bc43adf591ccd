"""Training of the VGG inside the perceptual losses, as a classifier (Sec. 3.2)."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count

import torch
from kornia.augmentation import RandomCrop
from torch.nn import functional as F
from torch.utils.data import DataLoader

from diffusion2gan.data.imagenet import LabelledImages
from diffusion2gan.finite import check_finite
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.seeds import batch_indices
from diffusion2gan.settings import VGGSettings
from diffusion2gan.training import distributed

LabelledBatch = tuple[torch.Tensor, torch.Tensor]  # inputs (N, C, h, w) and labels (N)


class VGGTraining:
    """Fit a VGG to labelled batches, `batches(step)`, by cross-entropy and gradient descent with momentum.

    The paper says only that the network is trained on ImageNet. Momentum 0.9 and a learning rate that is divided by 10
    in steps are those of torchvision's reference training.                                                     # ours
    Batch norm uses the statistics of each process's own rows, not of the whole batch.
    """

    averaged = "vgg"

    def __init__(self, network: VGG, batches: Callable[[int], LabelledBatch], settings: VGGSettings):
        self.batches, self.settings = batches, settings
        self.modules = {"vgg": network.train()}
        self.network = distributed.wrap(network)
        weights, decay = network.parameters(), settings.weight_decay
        self.optimizers = {"vgg": torch.optim.SGD(weights, settings.learning_rate, momentum=0.9, weight_decay=decay)}

    def step(self, step: int) -> dict[str, float]:
        optimizer = self.optimizers["vgg"]
        inputs, labels = _on_device_of(self.modules["vgg"], *self.batches(step))
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.settings.autocast):
            logits = self.network(inputs).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), "batch_top1": (logits.argmax(1) == labels).float().mean().item()}


class LatentBatches:
    """Batches of encoded images, each latent shifted by at most an eighth of its side.

    `latents` (M, C, h, w) and `labels` (M,). Flips and colour changes must happen before encoding, so the
    latents already include them. A border that a shift uncovers is filled by reflection. Returns the `rows` of a batch.
    """

    def __init__(
        self, latents: torch.Tensor, labels: torch.Tensor, batch_size: int, seed: int, rows: slice = slice(None)
    ):
        self.rows = rows
        self.latents, self.labels, self.batch_size, self.seed = latents, labels, batch_size, seed
        reach = max(1, latents.shape[-1] // 8)
        self.shift = RandomCrop(latents.shape[2:], padding=reach, padding_mode="reflect", cropping_mode="slice")

    def __call__(self, step: int) -> LabelledBatch:
        chosen = batch_indices(step, self.batch_size, len(self.latents), self.seed)
        return self.shift(self.latents[chosen].float())[self.rows], self.labels[chosen][self.rows]


class ImageBatches:
    """Batches of labelled images (N, 3, size, size) in [-1, 1], read and cropped by worker processes.

    Images and crops depend on the step alone; a folder is shuffled anew every epoch. Returns the `rows` of a batch.
    """

    def __init__(self, pictures: LabelledImages, batch_size: int, seed: int, workers: int, rows: slice = slice(None)):
        self.rows = rows
        self.pictures, self.batch_size, self.seed, self.workers = pictures, batch_size, seed, workers
        self.next_step, self.loader = -1, iter(())

    def __call__(self, step: int) -> LabelledBatch:
        if step != self.next_step:
            self.loader = self._from(step)
        self.next_step = step + 1
        pictures, labels = next(self.loader)
        return _scaled(pictures), labels

    def _from(self, first: int) -> Iterator[LabelledBatch]:
        own = torch.Generator()  # the loader draws a seed, which must not come from the step's global generator
        steps = (picture_indices(self.pictures, step, self.batch_size, self.seed)[self.rows] for step in count(first))
        return iter(DataLoader(self.pictures, batch_sampler=steps, num_workers=self.workers, generator=own))


def picture_indices(pictures: LabelledImages, step: int, batch_size: int, seed: int) -> list[int]:
    """The images of a step. A folder is shuffled; generated scenes are already random and never end."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    if pictures.count is None:
        return list(positions)
    size = pictures.count
    shuffled = batch_indices(step, batch_size, size, seed).tolist()
    return [position // size * size + index for position, index in zip(positions, shuffled, strict=True)]


def held_out_images(
    pictures: LabelledImages, number: int, batch_size: int, seed: int, workers: int
) -> Iterator[LabelledBatch]:
    """The same `number` labelled images every time (at most the whole folder), in batches for `accuracy`."""
    number = number if pictures.count is None else min(number, pictures.count)
    chosen = picture_indices(pictures, 0, number, seed)
    for images, labels in DataLoader(pictures, batch_size, sampler=chosen, num_workers=workers):
        yield _scaled(images), labels


@torch.no_grad()
def accuracy(network: VGG, batches: Iterable[LabelledBatch]) -> dict[str, float]:
    """Top-1 and top-5 accuracy in [0, 1], and the `count` of the inputs."""
    network.eval()
    ranks = []
    for batch in batches:
        inputs, labels = _on_device_of(network, *batch)
        logits = check_finite(network(inputs), "the vector of scores of input")  # NaN would be ranked first
        ranks.append((logits > logits.gather(1, labels[:, None])).sum(1))
    rank = torch.cat(ranks)
    return {"top1": (rank < 1).float().mean().item(), "top5": (rank < 5).float().mean().item(), "count": len(rank)}


def _scaled(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def _on_device_of(network: VGG, *tensors: torch.Tensor) -> list[torch.Tensor]:
    device = next(network.parameters()).device
    return [tensor.to(device) for tensor in tensors]
