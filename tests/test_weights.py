"""Weights are complete, of the right shapes and finite, or an error names the file and the key."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.losses import published
from diffusion2gan.losses.lpips import LPIPS
from diffusion2gan.networks.vgg import VGG, read, write
from diffusion2gan.pixel.edm import EDM
from diffusion2gan.pixel.model import PixelTeacher
from diffusion2gan.sampling import baselines
from diffusion2gan.weights import POINTER, fill, read_tensors


def complaint(call, *arguments) -> str:
    with pytest.raises(UserError) as said:
        call(*arguments)
    assert "\n" not in str(said.value)
    return str(said.value)


def test_fill_loads_all_weights_and_no_other():
    network, whole = nn.Linear(2, 3), {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    fill(network, whole, "a.pth")
    assert network.weight.eq(1).all()
    end = ": use the complete weights of this network"
    assert complaint(fill, network, {"bias": whole["bias"]}, "a.pth") == f"'a.pth' lacks weight{end}"
    assert complaint(fill, network, {}, "a.pth") == f"'a.pth' lacks bias and 1 more{end}"
    more = whole | {"scale": torch.ones(1)}
    assert complaint(fill, network, more, "a.pth") == f"'a.pth' has the unknown weight scale{end}"
    other = whole | {"bias": torch.zeros(4)}
    assert complaint(fill, network, other, "a.pth") == f"'a.pth' has another shape of bias{end}"
    for value in (float("nan"), float("inf")):
        broken = whole | {"bias": torch.tensor([0, value, 0])}
        assert complaint(fill, network, broken, "a.pth").startswith("'a.pth' has a value in bias that is not finite")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_file_that_is_no_dictionary_of_tensors_is_an_error(tmp_path, name):
    file = tmp_path / name
    assert complaint(read_tensors, file).startswith(f"'{file}' holds no tensors: ")
    pointer = POINTER + b".com/spec/v1\noid sha256:0\nsize 5\n"
    for content in (b"", b"text", b"PK\x03\x04", bytes(200), pointer):
        file.write_bytes(content)
        said = complaint(read_tensors, file)
        assert str(file) in said and ("git lfs pull" in said) == (content == pointer)
    if name == "a.pth":
        for content in ([1, 2], {"state_dict": {"weight": torch.ones(1)}}, torch.ones(2)):
            torch.save(content, file)
            assert complaint(read_tensors, file).startswith(f"'{file}' is not a dictionary of tensors")
    else:
        save_file({"weight": torch.ones(100)}, file)
        file.write_bytes(file.read_bytes()[:-50])
        assert complaint(read_tensors, file).startswith(f"'{file}' holds no tensors: ")


def changed(path, **weights):
    """A file of `vgg.write` with other weights; None removes one."""
    found, settings = read(path, "")
    kept = {name: tensor for name, tensor in (found | weights).items() if tensor is not None}
    write(path, kept, settings)


def test_a_metric_or_its_trunk_without_a_weight_is_an_error(tmp_path):
    trunk = VGG("latent", 4, 0, width=0.125)
    for name, network, load in (("vgg", trunk, VGG.load), ("lpips", _metric(trunk), LPIPS.load)):
        path = tmp_path / f"{name}.safetensors"
        lost = next(reversed(dict(network.named_parameters())))
        broken = network.state_dict()[lost] * float("nan")
        mistakes = {"lacks": None, "has another shape of": torch.ones(1, 1, 1), "has a value in": broken}
        for what, value in mistakes.items():
            network.save(path)
            changed(path, **{lost: value})
            assert complaint(load, path).startswith(f"'{path}' {what} {lost}")


def _metric(trunk):
    return LPIPS(trunk, [torch.ones(width) for width in trunk.widths])


def test_published_heads_are_complete(tmp_path):
    weights = {f"lin{tap}.model.1.weight": torch.ones(1, 2, 1, 1) for tap in (0, 1, 2, 4)}
    assert complaint(published._heads, weights, "a.pth").startswith("'a.pth' lacks lin3.model.1.weight")


def test_the_weights_of_a_baseline_s_unet_are_complete(tmp_path):
    save_file({"weight": torch.ones(1, 2)}, tmp_path / "unet.safetensors")
    said = complaint(baselines._load_weights, nn.Linear(2, 1), str(tmp_path / "unet.safetensors"))
    assert said.startswith(f"'{tmp_path / 'unet.safetensors'}' lacks bias")


def test_quantized_weights_are_refused():
    network = torch.nn.BatchNorm1d(2)
    whole = network.state_dict()
    fill(network, whole, "file")  # its count of batches is an integer
    with pytest.raises(UserError, match="'file' has bias as torch.int8: use weights of 16 or 32 bits"):
        fill(network, whole | {"bias": torch.zeros(2, dtype=torch.int8)}, "file")


def test_a_teacher_in_pixels_is_complete(tmp_path):
    EDM(model_channels=8, channel_mult=(1, 1), num_blocks=1, attn_resolutions=()).save_pretrained(tmp_path)
    PixelTeacher(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    weights, metadata = read_tensors(file)
    lost = sorted(weights)[3]
    save_file({name: each for name, each in weights.items() if name != lost}, file, metadata)
    assert complaint(PixelTeacher, tmp_path).startswith(f"'{tmp_path}' lacks {lost}")
    (tmp_path / "config.json").write_text("{")
    assert "config.json cannot be read as JSON" in complaint(PixelTeacher, tmp_path)
