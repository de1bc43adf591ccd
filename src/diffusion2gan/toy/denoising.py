"""Training of the toy teacher, a text-conditional latent diffusion model."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from diffusion2gan.images import to_tensor
from diffusion2gan.progress import track
from diffusion2gan.seeds import batch_indices
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.openmoji import Scenes
from diffusion2gan.training import distributed


@torch.no_grad()
def encode_scenes(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, scenes: Scenes, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled latents (count, 4, h, w) of scenes and the tokens of their captions (count, CONTEXT)."""
    latents, captions = [], []
    for first in track(range(0, count, 64), "encoding scenes"):
        batch = [scenes[i] for i in range(first, min(first + 64, count))]
        images = to_tensor([scene.image for scene in batch]).to(vae.device)
        latents.append(vae.encode(images).latent_dist.mode() * vae.config.scaling_factor)
        captions += [scene.prompt.caption for scene in batch]
    return torch.cat(latents), toy.tokenize(tokenizer, captions)


class DenoisingTraining:
    """Train the U-Net and its text encoders on scaled latents x (N, 4, h, w) and the tokens of their captions.

    `parts` holds `unet` and `text_encoder`, for SDXL also `text_encoder_2`; `empty` (1, CONTEXT) are the tokens of the
    empty caption. The loss is the squared error of v (Salimans & Ho 2022). A caption is dropped with probability 0.1
    for classifier-free guidance (Ho & Salimans 2021).
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

    def step(self, step: int) -> dict[str, float]:
        optimizer = self.optimizers["teacher"]
        denoiser: UNet2DConditionModel = self.modules["teacher"]["unet"]
        chosen = batch_indices(step, self.batch_size, len(self.latents), self.seed)
        x = self.latents[chosen].float()
        dropped = torch.rand(len(x), device=self.device) < self.caption_dropout
        tokens = torch.where(dropped[:, None], self.empty, self.tokens[chosen])
        noise = torch.randn_like(x)
        t = torch.randint(0, self.scheduler.config.num_train_timesteps, (len(x),), device=self.device)
        predicted = denoiser(self.scheduler.add_noise(x, noise, t), t, **self._conditions(tokens)).sample
        loss = F.mse_loss(predicted, self.scheduler.get_velocity(x, noise, t))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules["teacher"].parameters(), 1.0)  # ours
        optimizer.step()
        return {"loss": loss.item()}

    def _conditions(self, tokens: torch.Tensor) -> dict:
        """The U-Net's arguments besides noisy latent and timestep, as `Teacher.encode_text` makes them."""
        parts = self.modules["teacher"]
        encoder: CLIPTextModel = parts["text_encoder"]
        if "text_encoder_2" not in parts:
            return {"encoder_hidden_states": encoder(tokens).last_hidden_state}
        first, second = (each(tokens, output_hidden_states=True) for each in (encoder, parts["text_encoder_2"]))
        text = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        added = {"text_embeds": second.text_embeds, "time_ids": toy.time_ids(len(tokens)).to(self.device)}
        return {"encoder_hidden_states": text, "added_cond_kwargs": added}
