"""A pickle laid out as EDM's official ones is read as data; whatever else is in it is refused by name."""

import os
import pickle
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.pixel.edm import EDM
from diffusion2gan.pixel.edm_pickle import load_edm_pickle
from scripts.data import adopt_edm

SMALL = {"sample_size": 16, "model_channels": 16, "channel_mult": (1, 2), "num_blocks": 2, "attn_resolutions": (8,)}


class Persistent(nn.Module):
    """Pickled as EDM's modules are: a call with the fields, the class's name and its source code."""

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "class_name": "SongUNet", "state": self.__dict__}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta | {"module_src": "1 / 0"},)


@pytest.fixture(autouse=True)
def official_modules(monkeypatch):
    """What the official code defines, where pickle looks for the names it writes down."""
    for name, member in (("torch_utils.persistence", "_reconstruct_persistent_obj"), ("dnnlib.util", "EasyDict")):
        module = ModuleType(name)
        made = type(member, (dict,), {}) if member == "EasyDict" else lambda meta: None
        made.__module__, made.__qualname__, made.__name__ = name, member, member
        setattr(module, member, made)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, name.split(".")[0], ModuleType(name.split(".")[0]))


def laid_out(module: nn.Module) -> nn.Module:
    """A module of ours as one of theirs: the filters are buffers, and the noise embedding is a module."""
    children = {name: laid_out(child) for name, child in module.named_children()}
    if isinstance(module, nn.ModuleDict):
        return nn.ModuleDict(children)
    theirs = Persistent()
    for name, weight in module.named_parameters(recurse=False):
        theirs.register_parameter(name, weight)
    if getattr(module, "resample", None):
        for child in ("conv0", "skip"):
            children[child].register_buffer("resample_filter", torch.full((1, 1, 2, 2), 0.25))
    for name, child in children.items():
        theirs.add_module(name, child)
    theirs._init_kwargs, theirs.skip_scale, theirs.sigma_max = {"resample_filter": [1, 1]}, 0.5**0.5, float("inf")
    return theirs


def write(path, network: nn.Module, **more):
    with open(path, "wb") as file:
        options = sys.modules["dnnlib.util"].EasyDict(path="cifar10-32x32.zip")
        pickle.dump({"ema": network, "dataset_kwargs": options} | more, file)
    return path


@pytest.fixture
def ours():
    torch.manual_seed(0)
    return EDM(**SMALL)


def test_an_official_pickle_is_read_and_saved(ours, tmp_path):
    path = write(tmp_path / "edm.pkl", laid_out(ours))
    adopt_edm.main(adopt_edm.Arguments(path, tmp_path / "out"))
    read = EDM.from_pretrained(tmp_path / "out")
    assert {name: read.config[name] for name in SMALL} == {
        name: list(v) if isinstance(v, tuple) else v for name, v in SMALL.items()
    }
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(read(x, 1.5), ours(x, 1.5))


def test_code_in_a_pickle_is_refused_by_name(ours, tmp_path):
    class Planted:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = write(tmp_path / "edm.pkl", laid_out(ours), loss_fn=Planted())
    with pytest.raises(UserError, match=rf"asks for {os.system.__module__}\.system, .* refused"):
        load_edm_pickle(path)
    (tmp_path / "raw.pkl").write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path / "ran") + b"'\ntR.")
    with pytest.raises(UserError, match=r"asks for os\.system"):
        load_edm_pickle(tmp_path / "raw.pkl")
    assert not (tmp_path / "ran").exists()


def test_code_within_a_tensors_storage_is_refused(ours, tmp_path):
    class Planted:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (pickle.dumps(Planted(), protocol=2),)

    with pytest.raises(UserError, match="is not a valid pickle"):
        load_edm_pickle(write(tmp_path / "edm.pkl", laid_out(ours), loss_fn=Storage()))
    assert not (tmp_path / "ran").exists()


def test_a_network_other_than_an_unconditional_ddpmpp_is_refused(ours, tmp_path):
    theirs = laid_out(ours)
    theirs.model.map_label = Persistent()
    theirs.model.map_label.weight = nn.Parameter(torch.zeros(16, 10))
    with pytest.raises(UserError, match="class-conditional"):
        load_edm_pickle(write(tmp_path / "edm.pkl", theirs))
    theirs = laid_out(ours)
    theirs.model.enc["8x8_down"].conv0.resample_filter = torch.tensor([[[[0.1, 0.4], [0.4, 0.1]]]])
    with pytest.raises(UserError, match="another filter"):
        load_edm_pickle(write(tmp_path / "edm.pkl", theirs))
    theirs = laid_out(ours)
    del theirs.model.dec["8x8_in1"]
    with pytest.raises(UserError, match=r"not a DDPM\+\+ network"):
        load_edm_pickle(write(tmp_path / "edm.pkl", theirs))
    with pytest.raises(UserError, match="no network named ema"):
        load_edm_pickle(write(tmp_path / "edm.pkl", 3))
    with pytest.raises(UserError, match=r"there is no .* fetch https"):
        load_edm_pickle(tmp_path / "nowhere.pkl")
