"""A pickle laid out as EDM's official ones is read as data; whatever else is in it is refused by name."""

import io
import json
import os
import pickle
from unittest.mock import patch

import pytest
import torch
from forked import in_processes
from fuzzed import damaged, fuzzed, mutated, read
from hypothesis import given
from hypothesis import strategies as st
from official.edm import FILTERS, Persistent, laid_out, write
from pixel import worker
from torch import nn

from diffusion2gan.errors import UserError
from diffusion2gan.pixel import edm_pickle
from diffusion2gan.pixel.edm import EDM
from diffusion2gan.pixel.edm_pickle import load_edm_pickle
from scripts.data import adopt_edm

SMALL = {"sample_size": 16, "model_channels": 16, "channel_mult": (1, 2), "num_blocks": 2, "attn_resolutions": (8,)}


def network(architecture: str = "ddpmpp") -> EDM:
    torch.manual_seed(0)
    return EDM(**SMALL, architecture=architecture)


@pytest.fixture
def ours():
    return network()


@pytest.mark.parametrize("architecture", FILTERS)
def test_an_official_pickle_is_read_and_saved(architecture, tmp_path):
    ours = network(architecture)
    path = write(tmp_path / "edm.pkl", laid_out(ours))
    adopt_edm.main(adopt_edm.Arguments(path, tmp_path / "out"))
    read = EDM.from_pretrained(tmp_path / "out")
    wanted = {name: list(v) if isinstance(v, tuple) else v for name, v in SMALL.items()}
    assert {name: read.config[name] for name in SMALL} == wanted and read.config.architecture == architecture
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(read(x, 1.5), ours(x, 1.5))


@pytest.mark.parametrize("architecture", FILTERS)
def test_every_weight_of_an_adopted_network_gets_a_gradient(architecture, tmp_path):
    """DDP stops at the second step of a network with a weight that forward does not use."""
    read = load_edm_pickle(write(tmp_path / "edm.pkl", laid_out(network(architecture))))
    read(torch.randn(2, 3, 16, 16), 1.5).square().mean().backward()
    assert not [name for name, weight in read.named_parameters() if weight.grad is None]


def test_adopted_networks_train_in_two_processes(tmp_path):
    """Three steps of regression and of Consistency Distillation; one process does the same."""
    for architecture in FILTERS:
        path = write(tmp_path / "edm.pkl", laid_out(network(architecture)))
        adopt_edm.main(adopt_edm.Arguments(path, tmp_path / architecture))
    in_processes(lambda: worker.train_each(tmp_path), gpus=2)
    together = json.loads((tmp_path / "losses.json").read_text())
    assert together.pop("processes") == 2 and len(together) == 4
    for name, found in together.items():
        assert found == pytest.approx(worker.losses(name, tmp_path, tmp_path / "alone"), rel=1e-3) and len(found) == 3


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


def test_a_network_other_than_the_two_unconditional_ones_is_refused(ours, tmp_path):
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
    with pytest.raises(UserError, match="lacks model.dec.8x8_in1.affine.bias and 9 more"):
        load_edm_pickle(write(tmp_path / "edm.pkl", theirs))
    with pytest.raises(UserError, match="no network named ema"):
        load_edm_pickle(write(tmp_path / "edm.pkl", 3))
    with pytest.raises(UserError, match=r"there is no .* fetch https"):
        load_edm_pickle(tmp_path / "nowhere.pkl")


def test_every_message_names_the_file(ours, tmp_path):
    missing, number, raw = (tmp_path / name for name in ("nowhere.pkl", "number.pkl", "raw.pkl"))
    write(number, 3)
    raw.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    for path in (missing, number, raw):
        with pytest.raises(UserError, match=f"'{path}'"):
            load_edm_pickle(path)


def test_the_reason_is_the_kind_of_an_error_without_words(ours, tmp_path):
    theirs = laid_out(ours)
    del theirs.model.enc["16x16_conv"]  # an error without words
    with pytest.raises(UserError, match=r"nor an NCSN\+\+ network \(StopIteration\): use https"):
        load_edm_pickle(write(tmp_path / "edm.pkl", theirs))


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    """The pickle of a network of one block, and its content."""
    small = {"sample_size": 8, "model_channels": 8, "channel_mult": (1,), "num_blocks": 1, "attn_resolutions": ()}
    path = write(tmp_path_factory.mktemp("edm") / "edm.pkl", laid_out(EDM(**small)))
    content = edm_pickle.load_pickle(io.BytesIO(path.read_bytes()), "edm.pkl", edm_pickle.ALLOWED)
    return path, path.read_bytes(), {"ema": content["ema"]}


@fuzzed
@given(data=st.data())
def test_any_pickle_is_a_network_or_one_line(smallest, data):
    path, whole, _ = smallest
    path.write_bytes(data.draw(damaged(whole) | st.binary(max_size=60)))
    assert isinstance(read(load_edm_pickle, path), EDM | None)


@fuzzed
@given(data=st.data())
def test_any_content_of_a_pickle_is_a_network_or_one_line(smallest, data):
    """Fields of the objects in it are lost, renamed or of another type."""
    path, _, content = smallest
    with patch.object(edm_pickle, "load_pickle", lambda *_: data.draw(mutated(content))):
        assert isinstance(read(load_edm_pickle, path), EDM | None)
