"""Calibration finds the channels that decide the judgements, keeps heads ≥ 0, and 2AFC is computed correctly."""

import json

import numpy as np
import pytest
import torch

from diffusion2gan.data.bapps import BAPPS, Judgement
from diffusion2gan.errors import UserError
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.networks.vgg import VGG
from diffusion2gan.settings import CalibrationSettings
from diffusion2gan.toy.distortions import SyntheticJudgements
from diffusion2gan.training.loop import Schedule, train
from diffusion2gan.training.lpips.calibration import CalibrationTraining, Ranking, Triplets, agreement, encode, two_afc
from scripts.latentlpips import calibrate_lpips


def judged_by(metric, count):
    """Triplets of noise, judged by a metric."""
    ref = torch.randn(count, 4, 8, 8)
    p0, p1 = (ref + torch.rand(count, 1, 1, 1) * torch.randn(count, 4, 8, 8) for _ in range(2))
    patches = torch.stack([ref, p0, p1], 1).half()
    ref, p0, p1 = patches.float().unbind(1)
    return Triplets(patches, (metric(ref, p1) < metric(ref, p0)).float(), ["noise"] * count)


def test_heads_move_towards_the_judges_and_stay_non_negative(tmp_path):
    torch.manual_seed(0)
    trunk = VGG("latent", 4, 0, width=0.125)
    picky = LPIPS(trunk, [torch.full((width,), float(tap == 4)) for tap, width in enumerate(trunk.widths)])
    triplets = judged_by(picky, 200)
    settings = CalibrationSettings(iterations=300, batch_size=20, learning_rate=1e-2)
    training = CalibrationTraining(trunk, triplets, settings, seed=0)
    lowest = []

    def step(number, whole=training.step):
        numbers = whole(number)
        lowest.append(min(head.min().item() for head in training.modules["heads"]))
        return numbers

    training.step = step
    before = two_afc(training.metric(), triplets)["2afc"]
    train(training, Schedule(60, decay="linear"), tmp_path, {}, seed=0)
    metric = training.metric()
    assert min(lowest) == 0  # some were clamped, none went below
    assert two_afc(metric, triplets)["2afc"] > before
    assert metric.heads[4].mean() > metric.heads[0].mean()


@pytest.fixture
def alike():
    """A training on 3000 judgements of the same three latents, with a learning rate of zero."""
    torch.manual_seed(0)
    patches = torch.randn(1, 3, 4, 4, 4).half().expand(3000, -1, -1, -1, -1)
    triplets = Triplets(patches, torch.ones(3000), ["noise"] * 3000)
    settings = CalibrationSettings(iterations=1, batch_size=3000, learning_rate=1e-30)
    return CalibrationTraining(VGG("latent", 4, 0, width=0.125), triplets, settings, seed=0)


def test_half_of_the_differences_are_dropped(alike):
    """If each term of Σ wᵢ is doubled or dropped, the mean is Σ wᵢ and the variance Σ wᵢ²."""
    given = []
    alike.modules["ranking"].register_forward_pre_hook(lambda module, distances: given.append(distances))
    alike.step(0)
    ref, *distorted = alike.triplets.patches[0].float().unbind(0)
    for found, patch in zip(given[0], distorted, strict=True):
        terms = []
        for f0, f1 in zip(*(alike.trunk.features(x[None]) for x in (patch, ref)), strict=True):
            unit = [f / f.norm(dim=1, keepdim=True).clamp_min(1e-8) for f in (f0, f1)]
            terms.append(0.1 * (unit[0] - unit[1]).square().flatten() / f0[0, 0].numel())
        terms = torch.cat(terms)
        assert found.mean().item() == pytest.approx(terms.sum().item(), rel=0.01)
        assert found.var().item() == pytest.approx(terms.square().sum().item(), rel=0.1)


def test_the_ranking_says_whether_p1_is_preferred(alike):
    """The loss is the surprise at the share of judges who prefer p1, here two in three."""
    alike.triplets.judge = torch.full((3000,), 2 / 3)
    logits = []
    alike.modules["ranking"].layers[-1].bias.data.fill_(0.7)
    alike.modules["ranking"].register_forward_hook(lambda module, given, logit: logits.append(logit.detach().double()))
    loss = alike.step(0)["loss"]
    for_p1 = 1 / (1 + (-logits[0]).exp())
    assert loss == pytest.approx(-(2 * for_p1.log() + (1 - for_p1).log()).mean().item() / 3, rel=1e-4)


def test_its_optimiser_is_zhangs(alike):
    """Adam with their betas, and no gradient is clipped."""
    with torch.no_grad():
        for weight in alike.modules["ranking"].parameters():
            weight.mul_(4)
        alike.modules["ranking"].layers[-1].bias.fill_(-3)
    alike.step(0)
    (group,) = alike.optimizers["heads"].param_groups
    assert group["betas"] == (0.5, 0.999) and type(alike.optimizers["heads"]) is torch.optim.Adam
    assert torch.cat([weight.grad.flatten() for weight in group["params"]]).norm() > 2
    trained = {id(weight) for module in alike.modules.values() for weight in module.parameters()}
    assert {id(weight) for weight in group["params"]} == trained


def test_the_ranking_sees_both_distances_their_difference_and_their_ratios():
    ranking, given = Ranking(), []
    ranking.layers.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    ranking(torch.tensor([0.3, 0.9]), torch.tensor([0.5, 0.1]))
    expected = [[0.3, 0.5, -0.2, 0.3 / 0.6, 0.5 / 0.4], [0.9, 0.1, 0.8, 0.9 / 0.2, 0.1 / 1.0]]
    torch.testing.assert_close(given[0], torch.tensor(expected))


def test_the_learning_rate_falls_straight_in_the_second_half():
    factors = [Schedule(8, decay="linear")(step) for step in range(8)]
    assert factors == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_agreement_in_closed_form():
    d0, d1 = torch.tensor([1.0, 2.0, 3.0, 1.0]), torch.tensor([2.0, 1.0, 3.0, 2.0])
    judge = torch.tensor([0.2, 0.2, 0.9, 1.0])
    torch.testing.assert_close(agreement(d0, d1, judge), torch.tensor([0.8, 0.2, 0.5, 0.0]))


def test_two_afc_on_each_subset_and_on_all():
    patches = torch.zeros(3, 3, 1, 1, 1)
    patches[:, 1], patches[:, 2] = 1.0, 2.0  # p0 is always the nearer
    triplets = Triplets(patches, torch.tensor([0.0, 1.0, 0.25]), ["a", "b", "a"])
    scores = two_afc(lambda x0, x1: (x0 - x1).abs().flatten(1).sum(1), triplets, batch_size=2)
    human = ((1 + 0.25**2 + 0.75**2) / 2 + 1) / 2
    expected = {"2afc": 0.4375, "2afc_pooled": 1.75 / 3, "2afc_human": human, "2afc_a": 0.875, "2afc_b": 0.0}
    assert scores == pytest.approx(expected)
    patches[2, 1] = torch.nan  # NaN is neither nearer nor farther, and would count as a judgement that is wrong
    with pytest.raises(UserError, match="the distance of judgement 2 has values that are NaN"):
        two_afc(lambda x0, x1: (x0 - x1).abs().flatten(1).sum(1), triplets, batch_size=2)
    with pytest.raises(UserError, match="in half precision, a patch of judgement 0 has values that are NaN or inf"):
        encode(SyntheticJudgements("train", 0, 32), 1, 0, lambda images: images * 1e6)


def test_judgements_are_encoded_in_their_order(capsys):
    synthetic = SyntheticJudgements("train", 0, 32)
    triplets = encode(synthetic, 5, 0, torch.nn.Identity(), batch_size=2)
    assert capsys.readouterr().err.startswith("encoding judgements: 3/3, ")
    assert triplets.patches.shape == (5, 3, 3, 32, 32)
    for index in range(5):
        j = synthetic[index]
        for patch, picture in zip(triplets.patches[index], (j.ref, j.p0, j.p1), strict=True):
            expected = torch.from_numpy(picture.copy()).permute(2, 0, 1) / 127.5 - 1
            torch.testing.assert_close(patch.float(), expected, atol=1e-3, rtol=0)
        assert triplets.judge[index] == j.judge and triplets.subsets[index] == j.subset


def test_the_script_writes_a_metric_and_its_score(tmp_path, teacher_folder):
    VGG("latent", 4, 3, width=0.125).save(tmp_path / "vgg.safetensors")
    arguments = calibrate_lpips.Arguments(
        trunk=tmp_path / "vgg.safetensors",
        space="latent",
        judgements="openmoji",
        iterations=2,
        checkpoints=tmp_path / "checkpoints",
        out=tmp_path / "lpips.safetensors",
        metrics=tmp_path / "lpips.json",
        teacher=str(teacher_folder),
        count=8,
        held_out=6,
        batch_size=4,
    )
    calibrate_lpips.main(arguments)
    x = torch.randn(2, 4, 8, 8)
    assert LPIPS.load(arguments.out)(x, x).tolist() == [0, 0]
    result = json.loads(arguments.metrics.read_text())
    assert result["judgements"] == "synthetic" and result["count"] == 6 and 0 <= result["metrics"]["2afc"] <= 1
    with pytest.raises(UserError, match="trained on latents"):
        calibrate_lpips.main(arguments.model_copy(update={"space": "pixel"}))


class Folder(BAPPS):
    """Nine judgements in memory; the patches of judgement i have the value i."""

    def __init__(self):
        self.judges = list(range(9))

    def __getitem__(self, index):
        patches = [np.full((4, 4, 3), index, np.uint8)] * 3
        return Judgement(*patches, index / 10, "traditional" if index < 5 else "cnn")


@pytest.mark.parametrize("count", [4, 9, 20])
def test_of_a_folder_a_seeded_choice_is_encoded_without_repeats(count):
    def chosen(seed):
        triplets = encode(Folder(), count, seed, torch.nn.Identity(), batch_size=3)
        values = ((triplets.patches[:, 0, 0, 0, 0].float() + 1) * 127.5).round().int().tolist()
        assert triplets.judge.tolist() == pytest.approx([value / 10 for value in values])
        assert list(triplets.subsets) == ["traditional" if value < 5 else "cnn" for value in values]
        return values

    first, other = chosen(2), chosen(3)
    assert len(first) == len(set(first)) == min(count, 9) and first == chosen(2) != other
    assert first != sorted(first)  # not the first of a sorted folder


def test_two_afc_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    patches, judge = torch.randn(10, 3, 3, 4, 4).half(), torch.rand(10)
    triplets = Triplets(patches, judge, ["a", "b"] * 5)

    def metric(x0, x1):
        return (x0 - x1).square().sum((1, 2, 3))

    whole = two_afc(metric, triplets)
    assert two_afc(metric, triplets, batch_size=3) == pytest.approx(whole)
    assert two_afc(metric, triplets, batch_size=1) == pytest.approx(whole)
