"""train_gan.py: each switch of Table 2 turns on its own part, and each number of it arrives."""

import functools

import pandas as pd
import pytest
import torch
from built import built, pairs

from diffusion2gan.discriminators.gigagan import GigaGANDiscriminator
from diffusion2gan.discriminators.mix_and_match import Fractions
from diffusion2gan.discriminators.unet import DiffusionDiscriminator
from diffusion2gan.errors import UserError
from diffusion2gan.training import distillation
from diffusion2gan.training.loop import train
from scripts.distill import train_gan


@pytest.fixture(scope="module")
def told(small_teacher_folder, tmp_path_factory):
    """The script's arguments, with the given changes."""
    folder, teacher = tmp_path_factory.mktemp("gan"), str(small_teacher_folder)
    x = torch.randn(16, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    base = {"teacher": teacher, "init": teacher, "pairs": pairs(folder / "pairs", teacher, x), "loss": "mse"}
    base |= {"iterations": 4, "batch_size": 4, "learning_rate": 1e-3}

    def arguments(out=folder, **changes):
        files = {"checkpoints": out / "checkpoints", "out": out / "student"}
        files |= {"history": out / "history.csv", "metrics": out / "training.json"}
        return train_gan.Arguments(**base | files | changes)

    return arguments


@pytest.mark.parametrize("switch", ["none", "z_conditioning", "r1", "multi_scale", "mix_and_match"])
def test_each_switch_alone_turns_on_its_own_part(told, switch):
    on = {} if switch == "none" else {switch: True}
    training = built(train_gan.main, told(mix_fraction_noise=0.0, **on))
    assert type(training.discriminator) is DiffusionDiscriminator and not training.matching_aware
    scales = len(training.discriminator.unet.up_blocks)
    assert training.heads in (1, 3 * scales)
    found = {
        "z_conditioning": training.sees_z,
        "r1": training.r1 is not None,
        "multi_scale": training.heads == 3 * scales,
        "mix_and_match": training.fractions is not None,
    }
    assert found == dict.fromkeys(found, False) | on


def test_gigagan_never_sees_the_noise_and_has_a_matching_aware_loss(told):
    training = built(train_gan.main, told(discriminator="gigagan"))
    assert type(training.discriminator) is GigaGANDiscriminator and training.matching_aware and not training.sees_z
    for switch in ("z_conditioning", "multi_scale"):
        with pytest.raises(UserError, match="never sees z and is always multi-scale"):
            train_gan.main(told(discriminator="gigagan", **{switch: True}))


def test_a_gan_starts_from_a_student_or_from_scratch(told):
    scratch = {"discriminator": "gigagan", "loss": "none", "from_scratch": True}
    for wrong in (scratch, {"init": None}):
        with pytest.raises(UserError, match="give either init or from_scratch: true"):
            told(**wrong)
    one, same, other = (
        built(train_gan.main, told(**scratch, init=None, seed=seed)).student.state_dict() for seed in (0, 0, 1)
    )
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.allclose(one["unet.conv_in.weight"], other["unet.conv_in.weight"])


def test_each_number_arrives(told):
    numbers = {"lambda_gan": 0.7, "r1_gamma": 3.0, "r1_every": 5, "d_learning_rate": 6e-4}
    numbers |= {"mix_fraction_latent": 0.1, "mix_fraction_text": 0.2, "mix_fraction_noise": 0.3}
    training = built(train_gan.main, told(r1=True, mix_and_match=True, z_conditioning=True, **numbers))
    assert (training.lambda_gan, training.r1) == (0.7, (3.0, 5))
    assert training.fractions == Fractions(latent=0.1, text=0.2, noise=0.3)
    assert training.learning_rates == {"student": 1e-3, "discriminator": 6e-4}


def test_the_history_shows_r1_and_the_effect_of_lambda_gan(told, tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "train", functools.partial(train, log_every=1))

    def history(name, **changes):
        train_gan.main(told(tmp_path / name, **changes))
        return pd.read_csv(tmp_path / name / "history.csv")

    assert "r1" not in history("off", iterations=1)
    one, other = history("one", r1=True, r1_gamma=2.0, r1_every=2), history("other", r1=True, r1_gamma=5.0, r1_every=3)
    assert one["r1"].notna().tolist() == [True, False, True, False]
    assert other["r1"].notna().tolist() == [True, False, False, True]
    assert one["r1"][0] > 0 and other["r1"][0] == pytest.approx(one["r1"][0] * (5 * 3) / (2 * 2), rel=1e-4)
    much = history("much", lambda_gan=4.0, iterations=2)
    assert (much["loss"] - much["regression_loss"]).tolist() == pytest.approx(
        (4.0 * much["gan_loss"]).tolist(), rel=1e-4
    )
