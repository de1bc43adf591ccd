"""Every triple that mix-and-match makes has exactly one mismatched part."""

import pytest
import torch

from diffusion2gan.discriminators.mix_and_match import Fractions, mix_and_match, other_caption
from diffusion2gan.errors import UserError

CAPTIONS = ["apple", "fox", "apple", "tree", "fox", "apple", "sun", "moon"]
OWN = torch.arange(len(CAPTIONS))


def draws(fractions, captions=CAPTIONS, count=500):
    torch.manual_seed(0)
    return [mix_and_match(captions, fractions) for _ in range(count)]


def test_a_mismatched_triple_is_a_target_latent_with_one_thing_of_another_caption_or_noise():
    for mix in draws(Fractions(0.3, 0.3, 0.3), count=10_000 // len(CAPTIONS)):
        for i in range(len(CAPTIONS)):
            latent, noise, text = int(mix.latent[i]), int(mix.noise[i]), int(mix.text[i])
            wrong = (latent != i) + (noise != i) + (text != i)
            assert wrong == int(mix.target[i])
            if latent != i:
                assert CAPTIONS[latent] != CAPTIONS[i]
            if text != i:
                assert CAPTIONS[text] != CAPTIONS[i]


def test_fractions_are_kept():
    mixes = draws(Fractions(latent=0.5, text=0.2, noise=0.1), count=2000)
    for name, fraction in {"latent": 0.5, "text": 0.2, "noise": 0.1}.items():
        share = torch.stack([getattr(mix, name) != OWN for mix in mixes]).float().mean().item()
        assert share == pytest.approx(fraction, abs=0.02), name
    share = torch.stack([mix.target for mix in mixes]).float().mean().item()
    assert share == pytest.approx(0.8, abs=0.02)


def test_partners_are_uniform_over_the_other_captions():
    partners = torch.stack([other_caption(CAPTIONS) for _ in range(6000)])
    for i, caption in enumerate(CAPTIONS):
        others = [j for j, other in enumerate(CAPTIONS) if other != caption]
        counts = torch.bincount(partners[:, i], minlength=len(CAPTIONS))
        assert counts.nonzero().flatten().tolist() == others
        torch.testing.assert_close(
            counts[others] / 6000, torch.full((len(others),), 1 / len(others)), atol=0.03, rtol=0
        )


def test_mismatched_noise_may_come_from_any_other_row_even_with_the_same_caption():
    noises = torch.stack([mix.noise for mix in draws(Fractions(0.0, 0.0, 1.0), count=6000)])
    for i in range(len(CAPTIONS)):
        shares = torch.bincount(noises[:, i], minlength=len(CAPTIONS)) / 6000
        assert shares[i] == 0
        torch.testing.assert_close(shares[i != OWN], torch.full((len(CAPTIONS) - 1,), 1 / 7), atol=0.03, rtol=0)


def test_rows_become_mismatched_independently():
    """Otherwise whole batches would be mismatched, or always the same rows."""
    targets = torch.stack([mix.target for mix in draws(Fractions(0.2, 0.2, 0.1), count=4000)]).double()
    assert targets.mean(0).sub(0.5).abs().max() < 0.04
    assert targets.T.corrcoef().fill_diagonal_(0).abs().max() < 0.08


def test_a_row_without_a_partner_stays_generated():
    (mix,) = draws(Fractions(0.5, 0.5, 0.0), captions=["apple"] * 4, count=1)
    assert not mix.target.any()
    (mix,) = draws(Fractions(0.0, 0.0, 1.0), captions=["apple"] * 4, count=1)
    assert mix.target.all()  # other noise exists nonetheless
    (mix,) = draws(Fractions(0.0, 0.0, 1.0), captions=["apple"], count=1)
    assert not mix.target.any()


def test_impossible_fractions_are_an_error():
    for given in ((0.5, 0.5, 0.1), (-0.1, 0.5, 0.1), (0.5, -0.1, 0.1), (0.5, 0.1, -0.1)):
        with pytest.raises(UserError) as error:
            Fractions(*given)
        assert str(error.value) == (
            "mix-and-match was given the fractions latent {}, text {}, noise {}: choose fractions that are not "
            "negative and sum to at most 1".format(*given)
        )
