"""What the toy teacher is trained to say, and with which captions: a U-Net that knows the answer looks on."""

from types import SimpleNamespace

import pytest
import torch

from diffusion2gan.seeds import batch_indices
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.denoising import DenoisingTraining, PixArtTraining, encode_scenes
from diffusion2gan.toy.openmoji import Scenes, prompts

COUNT, EMPTY = 4000, torch.tensor([[7, 7, 0]])


class Knowing(torch.nn.Module):
    """Says v of latents x that it is shown, and keeps what it was asked."""

    def __init__(self, x):
        super().__init__()
        self.x, self.nothing = x, torch.nn.Parameter(torch.zeros(1))

    def forward(self, noisy, t, encoder_hidden_states, added_cond_kwargs):
        alpha_bar = toy.scheduler().alphas_cumprod[t].view(-1, 1, 1, 1)
        self.t, self.tokens = t, encoder_hidden_states.detach()
        self.noise = (noisy - alpha_bar.sqrt() * self.x) / (1 - alpha_bar).sqrt()
        v = alpha_bar.sqrt() * self.noise - (1 - alpha_bar).sqrt() * self.x
        return SimpleNamespace(sample=v + self.nothing)


class Passing(torch.nn.Module):
    """A text encoder that passes the tokens on."""

    def forward(self, tokens):
        return SimpleNamespace(last_hidden_state=tokens)


@pytest.fixture(scope="module")
def asked():
    """What the U-Net was asked in one step over all of 4000 examples, the loss, and the order of the examples."""
    torch.manual_seed(0)
    latents = torch.randn(COUNT, 4, 2, 2)
    tokens = torch.stack([torch.arange(COUNT), torch.arange(COUNT) % 5, torch.ones(COUNT, dtype=torch.long)], 1)
    chosen = batch_indices(0, COUNT, COUNT, seed=3)
    unet = Knowing(latents[chosen])
    parts = torch.nn.ModuleDict({"unet": unet, "text_encoder": Passing()})
    numbers = DenoisingTraining(latents, tokens, EMPTY, parts, COUNT, 1e-3, seed=3).step(0)
    return unet, numbers["loss"], tokens[chosen]


def test_it_is_trained_to_say_v(asked):
    unet, loss, _ = asked
    assert loss < 1e-6
    assert unet.noise.mean().abs() < 0.02 and unet.noise.std().item() == pytest.approx(1, abs=0.02)


def test_a_tenth_of_the_captions_is_dropped_and_the_others_are_the_latents_own(asked):
    unet, _, tokens = asked
    dropped = (unet.tokens == EMPTY).all(1)
    assert dropped.double().mean().item() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(unet.tokens[~dropped], tokens[~dropped])


def test_every_example_has_a_time_of_its_own_any_of_the_thousand(asked):
    shares = torch.histc(asked[0].t.double(), 10, 0, 1000) / COUNT
    assert shares.sub(0.1).abs().max() < 0.02
    assert asked[0].t.min() < 5 and asked[0].t.max() > 994


@pytest.fixture(scope="module")
def pixart():
    """A small PixArt's tokenizer, its training on captions of several lengths, and its pipeline."""
    torch.manual_seed(0)
    tokenizer = toy.tokenizer([prompt.caption for prompt in prompts("all")])
    parts = torch.nn.ModuleDict({"transformer": toy.transformer(), "text_encoder": toy.t5_encoder(tokenizer)})
    captions = ["", *(prompt.caption for prompt in prompts("all")[:3])]
    tokens, empty = toy.tokenize(tokenizer, captions), toy.tokenize(tokenizer, [""])
    training = PixArtTraining(torch.randn(4, 4, 16, 16), tokens, empty, parts, 4, 1e-3, seed=0)
    pipeline = toy.pixart_pipeline(toy.vae(), tokenizer, parts["text_encoder"], parts["transformer"])
    return captions, tokens, training, pipeline


@torch.no_grad()
def test_a_pixart_is_trained_on_what_its_pipeline_is_given(pixart):
    """The pipeline pads captions to 120 tokens, the training to 16: what is padded makes no difference."""
    captions, tokens, training, pipeline = pixart
    text, mask, *_ = pipeline.encode_prompt(captions, do_classifier_free_guidance=False, max_sequence_length=120)
    ours, kept = training._text(tokens)
    lengths = [len(pipeline.tokenizer(caption).input_ids) for caption in captions]
    assert kept.sum(1).tolist() == mask.sum(1).tolist() == lengths and len(set(lengths)) > 1
    for row, length in enumerate(lengths):
        torch.testing.assert_close(ours[row, :length], text[row, :length])
    noisy, t = torch.randn(4, 4, 16, 16), torch.tensor([1, 300, 600, 999])
    unused = {"resolution": None, "aspect_ratio": None}
    given = {"timestep": t, "added_cond_kwargs": unused, "encoder_attention_mask": mask, "encoder_hidden_states": text}
    torch.testing.assert_close(training.predict(noisy, t, ours, kept), pipeline.transformer(noisy, **given).sample)
    shuffled = training.predict(noisy, t, ours.roll(1, 0), kept.roll(1, 0))
    assert not torch.allclose(shuffled, training.predict(noisy, t, ours, kept))


def test_a_pixart_learns_v_and_its_pipeline_samples_with_the_same_noise_levels(pixart):
    *_, training, pipeline = pixart
    losses = [training.step(step)["loss"] for step in range(30)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    own = pipeline.scheduler.config
    assert (own.prediction_type, own.timestep_spacing) == ("v_prediction", "trailing")
    torch.testing.assert_close(pipeline.scheduler.alphas_cumprod, toy.scheduler().alphas_cumprod)


@torch.no_grad()
def test_scenes_are_encoded_as_scaled_latents_beside_their_captions():
    torch.manual_seed(0)
    vae, tokenizer = toy.vae().eval(), toy.tokenizer([prompt.caption for prompt in prompts("all")])
    vae.register_to_config(scaling_factor=0.3)
    scenes = Scenes("all", 0, toy.IMAGE_SIZE)
    latents, tokens = encode_scenes(vae, tokenizer, scenes, 3)
    for i in range(3):
        picture = torch.from_numpy(scenes[i].image.copy()).permute(2, 0, 1)[None] / 127.5 - 1
        torch.testing.assert_close(latents[i : i + 1], 0.3 * vae.encode(picture).latent_dist.mean, rtol=1e-3, atol=1e-4)
        assert torch.equal(tokens[i : i + 1], toy.tokenize(tokenizer, [scenes[i].prompt.caption]))
