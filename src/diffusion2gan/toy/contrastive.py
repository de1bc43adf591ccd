"""Training of the small CLIP of the toy scale."""

import torch
from open_clip import CLIP
from open_clip.loss import ClipLoss

from diffusion2gan.images import to_tensor
from diffusion2gan.toy import networks as toy
from diffusion2gan.toy.openmoji import Scenes
from diffusion2gan.training import distributed


class ContrastiveTraining:
    """Train image and text tower with CLIP's contrastive loss (Radford et al. 2021) on new scenes in every step."""

    averaged = "clip"

    def __init__(self, clip: CLIP, tokenizer, scenes: Scenes, batch_size: int, learning_rate: float):
        self.tokenizer, self.scenes, self.batch_size = tokenizer, scenes, batch_size
        self.device = distributed.device()
        self.modules = {"clip": clip.to(self.device)}
        self.optimizers = {"clip": torch.optim.AdamW(clip.parameters(), learning_rate, betas=(0.9, 0.98))}
        self.loss = ClipLoss()

    def step(self, step: int) -> dict[str, float]:
        optimizer = self.optimizers["clip"]
        first = step * self.batch_size
        scenes = [self.scenes[first + i] for i in range(self.batch_size)]
        images = to_tensor([scene.image for scene in scenes]).to(self.device)
        tokens = toy.tokenize(self.tokenizer, [scene.prompt.caption for scene in scenes]).to(self.device)
        image_features, text_features, scale = self.modules["clip"](images, tokens)
        loss = self.loss(image_features, text_features, scale)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules["clip"].parameters(), 1.0)  # ours
        optimizer.step()
        nearest = (image_features @ text_features.T).argmax(dim=1)
        return {
            "loss": loss.item(),
            "batch_top1": (nearest == torch.arange(len(nearest), device=self.device)).float().mean().item(),
        }
