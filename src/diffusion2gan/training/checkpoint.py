"""Checkpoints on disk: every process writes its own part of a folder, which gets its final name when all are written.

torch.distributed.checkpoint writes and reads the tensors. Each process writes the shards that it holds, and processes
with the same tensors share the writing. A tensor is read back whole or sharded in any way, so the number of processes
and FSDP may change on resume. The history and the settings are JSON.
"""

import json
import os
import shutil
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint.api import CheckpointException

from diffusion2gan.errors import UserError
from diffusion2gan.io import fsync, load_pickle, write_json
from diffusion2gan.training import distributed

FORMAT = {"checkpoint_format": 3}  # compared like a setting, so that a checkpoint of another format is refused
KEPT = 2  # newest checkpoints of a training that stay, beside the best one; while one is written, one more  # ours
SCORE = "held_out_error"  # the best checkpoint has the smallest                                         # ours
RECORD = "record.json"
STEPS = "step-" + 8 * "[0-9]"
STATE = "optimizer."  # prefix of the names of optimizer states


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: its folder, the number of finished steps, and the history until then."""

    folder: Path
    step: int
    history: list[dict[str, float]]


def save(
    folder: Path,
    step: int,
    history: list[dict[str, float]],
    modules: nn.ModuleDict,
    optimizers: list[torch.optim.Optimizer],
    settings: dict,
) -> Checkpoint:
    """Write the checkpoint of a training after `step` steps, in all processes at once. Only the last two are kept.

    Raises UserError when it cannot be written.
    """
    path = folder / f"step-{step:08d}"
    unfinished = folder / f".{path.name}.unfinished"
    if distributed.is_main():
        for left in folder.glob(".*.unfinished"):
            shutil.rmtree(left, ignore_errors=True)  # NFS keeps files that are open elsewhere
    distributed.wait()
    try:
        with _no_warning():
            writer = dcp.FileSystemWriter(unfinished, sync_files=False)  # torch's own fsync fails where there is none
            dcp.save(_tensors(modules, optimizers), storage_writer=writer)
        for own in unfinished.glob(f"__{distributed.processes().process_index}_*"):
            with open(own, "rb") as file:
                fsync(file)
    except (CheckpointException, OSError) as error:
        raise UserError(f"the checkpoint {path} cannot be written ({_reason(error)}): run again to resume") from error
    if distributed.is_main():
        write_json(unfinished / RECORD, {"step": step, "history": history, "settings": settings | FORMAT})
        os.replace(unfinished, path)
        _remove_others(folder)
    distributed.wait()
    return Checkpoint(path, step, history)


def _remove_others(folder: Path) -> None:
    """Remove all checkpoints but the newest and the one with the best score, if they have scores."""
    paths = sorted(folder.glob(STEPS))
    scores = {path: score for path in paths if (score := _score(path)) is not None}
    best = [min(scores, key=scores.get)] if scores else []
    for path in paths:
        if path not in (*paths[-KEPT:], *best):
            shutil.rmtree(path, ignore_errors=True)  # what NFS keeps goes with the next one


def _score(path: Path) -> float | None:
    """The last score in the history of a checkpoint; None if there is none, or the checkpoint is damaged."""
    try:
        history = json.loads((path / RECORD).read_text(encoding="utf-8"))["history"]
        return next((row[SCORE] for row in reversed(history) if SCORE in row), None)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find(folder: Path, settings: dict, step: int | None = None) -> Checkpoint | None:
    """The newest checkpoint in the folder of a training, or None if there is none; with `step`, the one after it.

    Raises UserError when it cannot be read, when there is none after `step` steps, or, naming the differences, when it
    was made under other settings or by an earlier version.
    """
    if (folder / "state.pt").exists():
        raise UserError(f"{folder / 'state.pt'} is the checkpoint of an earlier version: delete {folder} to start anew")
    kept = sorted(distributed.gather([list(folder.glob(STEPS))])[0])  # all processes take the same
    if step is not None and (wanted := folder / f"step-{step:08d}") not in kept:
        steps = ", ".join(path.name.removeprefix("step-").lstrip("0") for path in kept)
        raise UserError(f"{folder} keeps no checkpoint of step {step}: choose one of {steps or '(there are none)'}")
    if not kept:
        return None
    path = kept[-1] if step is None else wanted
    with _readable(path):
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        before, saved = dict(record["settings"]), Checkpoint(path, int(record["step"]), list(record["history"]))
    now = json.loads(json.dumps(settings | FORMAT))
    changed = [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise UserError(
            f"the checkpoint {path} was made under other settings ({'; '.join(changed)}): "
            f"delete {folder} to start anew, or restore the settings"
        )
    return saved


def load(saved: Checkpoint, modules: nn.ModuleDict, optimizers: list[torch.optim.Optimizer]) -> None:
    """Read a checkpoint into the modules and the optimizers of a training that has not stepped yet.

    Raises UserError when it cannot be read.
    """
    reader = TensorReader(saved.folder)
    with _readable(saved.folder), _no_warning():
        _add_states(reader.read_metadata(), modules, optimizers)
        dcp.load(_tensors(modules, optimizers), storage_reader=reader)


def load_weights(saved: Checkpoint, modules: nn.ModuleDict) -> None:
    """Read the weights of a checkpoint into modules, without the states of optimizers.

    Raises UserError when it cannot be read.
    """
    with _readable(saved.folder), _no_warning():
        dcp.load(modules.state_dict(), storage_reader=TensorReader(saved.folder))


@contextmanager
def _readable(folder: Path):
    """Name a checkpoint that is cut short or damaged."""
    try:
        yield
    except (CheckpointException, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the checkpoint {folder} cannot be read ({_reason(error)}): delete it to resume from the one before"
        ) from error


def _tensors(modules: nn.ModuleDict, optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Weights, buffers and optimizer states by name, not copied."""
    names = {weight: name for name, weight in modules.named_parameters()}
    states = {
        f"{STATE}{names[weight]}.{key}": value
        for optimizer in optimizers
        for weight, state in optimizer.state.items()
        for key, value in state.items()
    }
    return modules.state_dict() | states


def _add_states(saved: dcp_metadata.Metadata, modules: nn.ModuleDict, optimizers: list[torch.optim.Optimizer]) -> None:
    """Create the optimizer states that were saved, for `dcp.load` to fill. A weight that had no gradient has none."""
    weights = dict(modules.named_parameters())
    groups = {weight: (each, group) for each in optimizers for group in each.param_groups for weight in group["params"]}
    for name, tensor in saved.state_dict_metadata.items():
        if not name.startswith(STATE):
            continue
        weight_name, _, key = name.removeprefix(STATE).rpartition(".")
        weight = weights[weight_name]
        optimizer, group = groups[weight]
        if key == "step":  # a number, on the device only for the fused kernels
            device = weight.device if group.get("fused") or group.get("capturable") else "cpu"
            value = torch.zeros(tensor.size, dtype=tensor.properties.dtype, device=device)
        else:
            value = torch.zeros_like(weight)
        optimizer.state[weight][key] = value


# the classes that torch's description of the tensors may name when it is unpickled
ALLOWED = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (
    dcp_metadata.Metadata, dcp_metadata.MetadataIndex, dcp_metadata.TensorStorageMetadata,
    dcp_metadata.ChunkStorageMetadata, dcp_metadata.TensorProperties, dcp_metadata.StorageMeta,
    dcp_metadata._MEM_FORMAT_ENCODING, dcp.filesystem._StorageInfo, torch.serialization._get_layout,
)}  # fmt: skip
ALLOWED |= {"torch.Size": torch.Size, "pathlib.PosixPath": Path, "pathlib.WindowsPath": Path}
ALLOWED |= {f"torch.{name}": each for name, each in vars(torch).items() if isinstance(each, torch.dtype)}


class TensorReader(dcp.FileSystemReader):
    """torch's reader of checkpoints, but nothing except the description of tensors is unpickled."""

    def read_metadata(self) -> dcp_metadata.Metadata:
        """The names, sizes and places of all tensors. Raises UserError if their file holds anything else."""
        with open(self.path / ".metadata", "rb") as file:
            found = load_pickle(file, str(self.path / ".metadata"), ALLOWED)
        found.storage_meta.load_id = self.load_id
        return found


def _reason(error: BaseException) -> str:
    """The last line of an error's message; torch puts a traceback of each process before it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _no_warning() -> warnings.catch_warnings:
    """Silence torch's remark that a single process is not distributed."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)
