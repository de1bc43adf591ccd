"""Training of the toy teacher, a text-conditional latent diffusion model."""

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel

from diffusion2gan.images import to_tensor
from diffusion2gan.progress import track
from diffusion2gan.seeds import batch_indices
from diffusion2gan.teacher import scale
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.openmoji import Scenes
from diffusion2gan.toy.rendering import render
from diffusion2gan.training import distributed

BATCH = 256  # scenes encoded at once


@torch.no_grad()
def encode_scenes(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, scenes: Scenes, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled latents (count, 4, h, w) of scenes and the tokens of their captions (count, CONTEXT)."""
    images = render(scenes.image, count)
    batches = (to_tensor(images[first : first + BATCH]).to(vae.device) for first in range(0, count, BATCH))
    latents = [vae.encode(batch).latent_dist.mode() for batch in track(batches, "encoding scenes", -(-count // BATCH))]
    captions = [scenes.prompt(i).caption for i in range(count)]
    return scale(torch.cat(latents), vae), toy.tokenize(tokenizer, captions)


class DenoisingTraining:
    """Train the U-Net and its text encoders on scaled latents x (N, 4, h, w) and the tokens of their captions.

    `parts` holds `unet` and `text_encoder`, for SDXL also `text_encoder_2`; `empty` (1, CONTEXT) are the tokens of the
    empty caption. The loss is the squared error of v (Salimans & Ho 2022). A caption is dropped with probability 0.1
    for classifier-free guidance (Ho & Salimans 2021). On a GPU, a CUDA graph runs the U-Net.
    """

    averaged = "teacher"
    caption_dropout = 0.1

    def __init__(
        self, latents: torch.Tensor, tokens: torch.Tensor, empty: torch.Tensor, parts: torch.nn.ModuleDict,
        batch_size: int, learning_rate: float, seed: int,
    ):  # fmt: skip
        self.device = distributed.device()
        self.latents, self.tokens, self.empty = (each.to(self.device) for each in (latents, tokens, empty))
        self.batch_size, self.seed = batch_size, seed
        self.modules = {"teacher": parts.to(self.device)}
        self.optimizers = {"teacher": torch.optim.AdamW(parts.parameters(), learning_rate, betas=(0.9, 0.99))}
        self.scheduler = toy.scheduler()
        self.predict = self._prediction()
        if self.device.type == "cuda":  # the small kernels take less time than their launches
            torch.set_float32_matmul_precision("high")  # as in the loop: a graph keeps the kernels that it is made with
            x, tokens = self.latents[:1].float(), self.tokens[:1].repeat(batch_size, 1)
            t = torch.zeros(batch_size, dtype=torch.long, device=self.device)
            text = [each.detach().requires_grad_(each.requires_grad) for each in self._text(tokens)]
            self.predict = torch.cuda.make_graphed_callables(self.predict, (x.repeat(batch_size, 1, 1, 1), t, *text))

    def step(self, step: int) -> dict[str, float]:
        optimizer = self.optimizers["teacher"]
        chosen = batch_indices(step, self.batch_size, len(self.latents), self.seed).to(self.device)
        x = self.latents[chosen].float()
        dropped = torch.rand(len(x), device=self.device) < self.caption_dropout
        tokens = torch.where(dropped[:, None], self.empty, self.tokens[chosen])
        noise = torch.randn_like(x)
        t = torch.randint(0, self.scheduler.config.num_train_timesteps, (len(x),), device=self.device)
        predicted = self.predict(self.scheduler.add_noise(x, noise, t), t, *self._text(tokens))
        loss = F.mse_loss(predicted, self.scheduler.get_velocity(x, noise, t))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules["teacher"].parameters(), 1.0)  # ours
        optimizer.step()
        return {"loss": loss.item()}

    def _prediction(self) -> torch.nn.Module:
        """The network that predicts v."""
        return _Prediction(self.modules["teacher"]["unet"])

    def _text(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """The U-Net's conditions for tokens (N, CONTEXT), as `Teacher.encode_text` makes them.

        The encoded text (N, CONTEXT, d), and for SDXL the pooled text (N, d) and the sizes (N, 6).
        """
        parts = self.modules["teacher"]
        encoder: CLIPTextModel = parts["text_encoder"]
        if "text_encoder_2" not in parts:
            return [encoder(tokens).last_hidden_state]
        first, second = (each(tokens, output_hidden_states=True) for each in (encoder, parts["text_encoder_2"]))
        text = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return [text, second.text_embeds, toy.time_ids(len(tokens)).to(self.device)]


class PixArtTraining(DenoisingTraining):
    """The same training of PixArt-α's transformer with a T5 encoder: `parts` holds `transformer` and `text_encoder`."""

    def _prediction(self) -> torch.nn.Module:
        return _PixArtPrediction(self.modules["teacher"]["transformer"])

    def _text(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """The encoded text (N, CONTEXT, d), and its mask (N, CONTEXT), as `PixArtAlphaPipeline` makes them.

        Padding repeats the end of the text, and the mask is 1 up to the first end.
        """
        encoder: T5EncoderModel = self.modules["teacher"]["text_encoder"]
        mask = ((tokens == self.empty[0, -1]).cumsum(1) <= 1).float()
        return [encoder(tokens, attention_mask=mask).last_hidden_state, mask]


class _Prediction(torch.nn.Module):
    """A U-Net whose inputs and output are only tensors, as CUDA graphs require."""

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        self.unet = unet

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, text: torch.Tensor, *added: torch.Tensor) -> torch.Tensor:
        conditions = dict(zip(("text_embeds", "time_ids"), added, strict=False))
        return self.unet(noisy, t, text, added_cond_kwargs=conditions).sample


class _PixArtPrediction(torch.nn.Module):
    """PixArt-α's transformer, likewise."""

    def __init__(self, transformer: PixArtTransformer2DModel):
        super().__init__()
        self.transformer = transformer

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        unused = {"resolution": None, "aspect_ratio": None}
        return self.transformer(noisy, text, t, unused, encoder_attention_mask=mask).sample
