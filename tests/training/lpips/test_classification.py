"""The classifier learns, its batches are correct, and so is the accuracy."""

from contextlib import nullcontext
from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion2gan.data.imagenet import LabelledImages
from diffusion2gan.errors import UserError
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import VGGSettings
from diffusion2gan.training.loop import Schedule, train
from diffusion2gan.training.lpips.classification import (
    ImageBatches,
    LatentBatches,
    VGGTraining,
    accuracy,
    held_out_images,
)


def coloured_latents(count):
    """Latents whose class is the channel that stands out."""
    labels = torch.arange(count) % 4
    latents = torch.randn(count, 4, 8, 8)
    latents[torch.arange(count), labels] += 1.5
    return latents.half(), labels


def test_learns_and_ends_in_the_same_weights_when_cut_in_two(tmp_path):
    torch.manual_seed(0)
    latents, labels = coloured_latents(256)

    def run(folder, iterations):
        torch.manual_seed(1)
        batches = LatentBatches(latents, labels, 16, seed=0)
        settings = {"classes": 4, "iterations": 30, "batch_size": 16, "learning_rate": 0.03, "label_smoothing": 0.1}
        training = VGGTraining(VGG("latent", 4, 4, width=0.125), batches, VGGSettings(**settings))
        stopped = Schedule(30, decay="linear")
        if iterations < 30:
            training.step, whole = (lambda step: whole(step) if step < iterations else 1 / 0), training.step
        train(training, stopped, folder, {}, seed=0, checkpoint_minutes=0 if iterations < 30 else 15)
        return training.modules["vgg"]

    network = run(tmp_path / "whole", 30)
    try:
        run(tmp_path / "cut", 12)
    except ZeroDivisionError:
        resumed = run(tmp_path / "cut", 30)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), resumed.parameters(), strict=True))
    test_latents, test_labels = coloured_latents(100)
    assert accuracy(network, [(test_latents.float(), test_labels)])["top1"] > 0.9


def one_step(labels=(0, 1, 2, 3), rate=1e-30, **changes):
    """A training on four latents after one step, its network before, the latents, and the step's numbers."""
    torch.manual_seed(0)
    network, x = VGG("latent", 4, 4, width=0.125), torch.randn(4, 4, 8, 8)
    before, settings = deepcopy(network), {"classes": 4, "iterations": 1, "batch_size": 4, "label_smoothing": 0.1}
    settings = VGGSettings(**settings | {"learning_rate": rate} | changes)
    training = VGGTraining(network, lambda step: (-x if step else x, torch.tensor(labels)), settings)
    return training, before, x, training.step(0)


def test_the_loss_is_the_cross_entropy_of_smoothed_labels():
    _, before, x, numbers = one_step(label_smoothing=0.2)
    surprise = -before(x).double().log_softmax(1)
    expected = (0.8 * surprise.diagonal() + 0.2 * surprise.mean(1)).mean().item()
    assert numbers["loss"] == pytest.approx(expected, rel=1e-4)
    assert abs(expected - surprise.diagonal().mean().item()) > 1e-3
    likeliest = before(x).argmax(1).tolist()
    assert one_step(labels=likeliest)[-1]["batch_top1"] == 1
    assert one_step(labels=[(label + 1) % 4 for label in likeliest[:1]] + likeliest[1:])[-1]["batch_top1"] == 0.75


def test_weights_decay():
    """The decay adds the weight, times itself, to the gradient."""
    few, more = (one_step(rate=0.01, weight_decay=decay)[0].modules["vgg"] for decay in (0.0, 0.5))
    before = one_step()[1]
    for a, b, weight in zip(few.parameters(), more.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(a - b, 0.01 * 0.5 * weight, atol=1e-6, rtol=1e-3)


def test_two_steps_go_down_the_gradients_with_a_momentum_of_nine_tenths():
    rate = 1e-3
    training, before, x, _ = one_step(rate=rate, weight_decay=0)
    training.step(1)
    velocity = [torch.zeros_like(weight) for weight in before.parameters()]
    for batch in (x, -x):
        before.zero_grad()
        torch.nn.functional.cross_entropy(before(batch), torch.arange(4), label_smoothing=0.1).backward()
        velocity = [0.9 * last + weight.grad for last, weight in zip(velocity, before.parameters(), strict=True)]
        with torch.no_grad():
            for weight, speed in zip(before.parameters(), velocity, strict=True):
                weight -= rate * speed
    for weight, expected in zip(training.modules["vgg"].parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("autocast", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_autocast_is_switched_by_its_name(autocast, dtype):
    training, *_ = one_step(autocast=autocast)
    seen = []
    training.modules["vgg"].classifier.register_forward_hook(lambda module, given, logits: seen.append(logits.dtype))
    training.step(1)
    assert seen == [dtype]


def test_accuracy_is_that_of_the_running_statistics():
    torch.manual_seed(0)
    network, x = VGG("latent", 4, 10, width=0.125), torch.randn(64, 4, 8, 8)
    network.train()(3 * x + 1)
    named = network.eval()(x).argmax(1)
    assert (network.train()(x).argmax(1) != named).any()
    assert accuracy(network, [(x, named)])["top1"] == 1


def test_what_a_shift_uncovers_is_mirrored():
    latents = torch.randn(1, 2, 8, 8)
    mirrored = np.pad(latents[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    crops = [mirrored[:, down : down + 8, right : right + 8] for down in range(3) for right in range(3)]
    torch.manual_seed(0)
    x, _ = LatentBatches(latents.expand(60, -1, -1, -1), torch.zeros(60), batch_size=60, seed=0)(0)
    found = [[bool((each.numpy() == crop).all()) for crop in crops] for each in x]
    assert all(sum(row) == 1 for row in found) and all(any(column) for column in zip(*found, strict=True))


def test_latents_are_shifted_by_at_most_an_eighth():
    torch.manual_seed(0)
    latents = torch.arange(64.0).reshape(1, 1, 8, 8).expand(50, 2, 8, 8)
    batches = LatentBatches(latents, torch.arange(50), batch_size=50, seed=0)
    x, labels = batches(0)
    assert sorted(labels.tolist()) == list(range(50))
    inner = x[:, 0, 1:7, 1:7] - latents[0, 0, 1:7, 1:7]  # a shift adds a constant to this ramp
    assert (inner == inner[:, :1, :1]).all() and (x[:, 0] == x[:, 1]).all()
    assert set(inner[:, 0, 0].tolist()) == {8.0 * down + right for down in (-1, 0, 1) for right in (-1, 0, 1)}


def test_images_of_a_step_do_not_depend_on_where_training_began(tmp_path):
    for label, grey in enumerate((0, 100, 200)):
        (tmp_path / "train" / str(label)).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.full((24, 24, 3), grey + number, np.uint8)).save(
                tmp_path / "train" / str(label) / f"{number}.png"
            )
    for source in (str(tmp_path), "openmoji"):
        pictures = LabelledImages(source, "train", 16, seed=0)
        torch.manual_seed(0)
        whole, resumed = ImageBatches(pictures, 4, 0, workers=0), ImageBatches(pictures, 4, 0, workers=0)
        before = torch.get_rng_state()
        steps = [whole(step) for step in range(4)]
        images, labels = resumed(3)
        assert torch.equal(before, torch.get_rng_state())
        assert torch.equal(images, steps[3][0]) and torch.equal(labels, steps[3][1])
        assert images.shape == (4, 3, 16, 16) and images.min() >= -1 and images.max() <= 1
    folder = LabelledImages(str(tmp_path), "train", 16, seed=0)
    labels = [label for step in range(9) for label in ImageBatches(folder, 1, 0, workers=0)(step)[1].tolist()]
    for x, label in (ImageBatches(folder, 1, 0, workers=0)(step) for step in range(9)):
        assert ((x + 1) * 127.5 - 100 * label.item()).round().unique().item() in (0, 1, 2)
    assert sorted(labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2] and labels != sorted(labels)
    assert sum(len(y) for _, y in held_out_images(folder, 100, 4, 0, workers=0)) == 9


def test_processes_share_a_batch():
    latents, labels = coloured_latents(12)
    pictures = LabelledImages("openmoji", "train", 16, seed=0)
    for kind, given in ((LatentBatches, (latents, labels, 4, 0)), (ImageBatches, (pictures, 4, 0, 0))):
        torch.manual_seed(3)
        inputs, named = kind(*given)(2)
        for rows in (slice(0, 2), slice(2, 4)):
            torch.manual_seed(3)
            mine, my_labels = kind(*given, rows=rows)(2)
            assert torch.equal(mine, inputs[rows]) and torch.equal(my_labels, named[rows])


def test_accuracy_counts_ranks():
    class Fixed(VGG):
        def forward(self, x):
            return x.flatten(1)

    logits = torch.arange(10.0).repeat(4, 1).reshape(4, 10, 1, 1)  # class 9 is the likeliest, then 8, 7, …
    scores = accuracy(
        Fixed("latent", 4, 10, 0.125), [(logits[:2], torch.tensor([9, 5])), (logits[2:], torch.tensor([8, 0]))]
    )
    assert scores == {"top1": 0.25, "top5": 0.75, "count": 4}
    logits[3, 0] = torch.nan  # no class has a larger score than NaN, so its rank would be the first
    with pytest.raises(UserError, match="the vector of scores of input 1 has values that are NaN"):
        accuracy(Fixed("latent", 4, 10, 0.125), [(logits[2:], torch.tensor([8, 0]))])


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_bfloat16_whatever_the_default_of_a_device(monkeypatch, autocast):
    """On a GPU the default would be float16."""
    training, *_ = one_step(autocast=autocast)
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda *given, **how: asked.append((given, how)) or nullcontext())
    training.step(1)
    assert asked == [(("cpu", torch.bfloat16), {"enabled": autocast})]
