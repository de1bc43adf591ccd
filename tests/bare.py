"""Run by `make test-bare` in an environment of `pip install .` alone: the losses and the discriminators work there."""

import sys
import time
from importlib.metadata import version
from importlib.util import find_spec

import torch

start = time.process_time()
from diffusion2gan.losses import LPIPS, ELatentLPIPS  # noqa: E402 - torch's own time is not counted

seconds = time.process_time() - start
assert seconds < 1, f"importing the losses took {seconds:.1f} s"
absent = [name for name in ("snakemake", "pandas", "transformers", "torchvision", "pydantic") if find_spec(name)]
assert not absent, f"{absent} are installed, so this is not the bare environment"
assert "diffusers" not in sys.modules, "the losses import diffusers"

from diffusion2gan.networks.vgg import VGG  # noqa: E402

trunk = VGG("latent", 4, 0, width=0.125)
LPIPS(trunk, [torch.rand(width) for width in trunk.widths]).save("lpips.safetensors")
loss = ELatentLPIPS.from_pretrained("lpips.safetensors")
x0, x1 = torch.randn(2, 2, 4, 8, 8)
loss(x0.requires_grad_(), x1).sum().backward()
assert x0.grad.abs().sum() > 0

from diffusers import DDIMScheduler, UNet2DConditionModel  # noqa: E402

from diffusion2gan.discriminators.unet import DiffusionDiscriminator  # noqa: E402
from diffusion2gan.generator import Generator  # noqa: E402

unet = UNet2DConditionModel(
    sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=8, attention_head_dim=4,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)  # fmt: skip
x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 8)
logits = DiffusionDiscriminator.from_teacher(unet, True, True)(x, x, text)
assert len(logits) == 6
Generator(unet, DDIMScheduler(prediction_type="v_prediction"))
print(f"beside numpy {version('numpy')} the losses import in {seconds:.2f} s and work")
