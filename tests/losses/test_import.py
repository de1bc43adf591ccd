"""The losses in someone else's training: what they import, and how long that takes."""

import subprocess
import sys
from importlib.metadata import packages_distributions, requires

from packaging.requirements import Requirement

ALONE = """
import sys, time
from importlib.abc import MetaPathFinder

class Bare(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ALLOWED:
            raise ModuleNotFoundError(f"{name} is not part of the bare environment", name=name)

sys.meta_path.insert(0, Bare())
import torch
start = time.process_time()
from diffusion2gan.losses import LPIPS, ELatentLPIPS, Ensemble
seconds = time.process_time() - start
assert seconds < 1, f"importing the losses took {seconds:.1f} s of CPU beyond torch"

from diffusion2gan.networks.vgg import VGG
trunk = VGG("latent", 4, 0, width=0.125)
LPIPS(trunk, [torch.rand(width) for width in trunk.widths]).save("lpips.safetensors")
loss = ELatentLPIPS.from_pretrained("lpips.safetensors")
x0, x1 = torch.randn(2, 2, 4, 8, 8)
loss(x0.requires_grad_(), x1).sum().backward()
assert x0.grad.abs().sum() > 0
import diffusion2gan.discriminators.gigagan, diffusion2gan.discriminators.mix_and_match, diffusion2gan.discriminators.r1
print("done")
"""


def installed_for(*names: str) -> set[str]:
    """The modules of some distributions and of all that they require."""
    wanted, waiting = set(), list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name not in wanted:
            wanted.add(name)
            required = map(Requirement, requires(name) or [])
            waiting += [each.name for each in required if not each.marker or each.marker.evaluate({"extra": ""})]
    return {
        module
        for module, distributions in packages_distributions().items()
        if any(each.lower().replace("_", "-") in wanted for each in distributions)
    }


def test_the_losses_need_torch_kornia_and_safetensors_alone(tmp_path):
    allowed = installed_for("torch", "kornia", "safetensors", "numpy") | {"diffusion2gan"}
    assert not allowed & {"diffusers", "transformers", "pandas", "pydantic", "torchvision", "snakemake"}
    script = f"ALLOWED = {sorted(allowed)}\n{ALONE}"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0 and run.stdout == "done\n", run.stderr
