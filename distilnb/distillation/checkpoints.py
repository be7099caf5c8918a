"""Checkpoints that survive a kill at any moment: written aside, synced, checksummed, renamed, then pointed to.

    folder/step-00000200/  model.safetensors  optimizer.safetensors  state.json  manifest.json
    folder/latest          the name of the newest whole checkpoint

Tensors are safetensors and everything else is JSON, so that nothing loaded can run code. No random state is stored,
because order, masks and dropout are pure functions of (seed, step). Notebook 03 cuts a run and resumes it.
"""

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..machine.files import digest, sync

FORMERLY = "processes"  # a key of older identities, from before the number of processes could change


class Checkpoint(NamedTuple):
    """All that a run needs to go on: its last finished step, its tensors by group and name, and its plain state."""

    step: int
    tensors: dict[str, dict[str, torch.Tensor]]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, identity: dict[str, Any], keep: int = 2) -> Path:
    """Write a checkpoint, move `latest` to it, delete all but the `keep` newest, and return the new folder.

    `identity` is what a resumed run must share (configuration, data, vocabulary). Raises OSError when the disk is full
    or read-only; the earlier checkpoints then stay whole.
    """
    aside = folder / f".step-{checkpoint.step:08d}.{os.getpid()}.writing"
    try:
        for killed in folder.glob(".*.writing"):  # the remains of a save that was killed
            shutil.rmtree(killed, ignore_errors=True)
        aside.mkdir(parents=True)
        _write(aside, checkpoint, identity)
        return publish(aside, keep)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        kept = next((f"; {path.name}, the last one before, is whole" for path in _whole(folder)), "")
        raise OSError(
            f"the checkpoint of update {checkpoint.step} could not be written to {folder} ({error}){kept}: "
            "make room there, and the same command goes on from the last whole one"
        ) from error


def _write(aside: Path, checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    for group, tensors in checkpoint.tensors.items():
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, aside / f"{group}.safetensors")
    (aside / "state.json").write_text(json.dumps(checkpoint.state))
    files = sorted(aside.iterdir())
    for path in files:
        sync(path)
    sums = {path.name: digest(path) for path in files}
    manifest = {"step": checkpoint.step, "identity": identity, "sha256": sums}
    (aside / "manifest.json").write_text(json.dumps(manifest | {"own_sha256": manifest_hash(manifest)}))
    sync(aside / "manifest.json")


def publish(aside: Path, keep: int = 2) -> Path:
    """Rename a whole checkpoint from ".step-N.….writing", move `latest` to it, clean up, and return its folder.

    The `keep` - 1 checkpoints before it stay. Later ones are deleted, because they can only be damaged: this run did
    not start from them.
    """
    folder, final = aside.parent, aside.with_name(aside.name.split(".")[1])
    sync(aside)
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    sync(folder)
    pointer = folder / ".latest.writing"
    pointer.write_text(final.name)
    sync(pointer)
    pointer.rename(folder / "latest")
    sync(folder)
    older = [path for path in _whole(folder) if path < final]
    for path in _whole(folder):
        if path > final or path in older[keep - 1 :]:
            shutil.rmtree(path, ignore_errors=True)
    return final


def manifest_hash(manifest: dict[str, Any]) -> str:
    """The SHA-256 of a manifest without its own."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def fingerprint(model: torch.nn.Module) -> str:
    """A hash of all tensors of a model, which identifies the start or the teacher of a run."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def _whole(folder: Path) -> list[Path]:
    """The checkpoint folders, newest first; all are whole, because they get their names last."""
    return sorted(folder.glob("step-*"), reverse=True)


def load(folder: Path, identity: dict[str, Any]) -> Checkpoint | None:
    """The newest checkpoint that passes its checksums, or None when there is no checkpoint.

    A damaged checkpoint is named in a warning and the one before it is used. Raises ValueError, with the differences,
    when the folder belongs to another run, and when every checkpoint is damaged.
    """
    candidates = _whole(folder)
    for path in candidates:
        try:
            return read_checkpoint(path, identity)
        except Damaged as damage:
            warnings.warn(f"checkpoint {path} is damaged ({damage}); going back to the one before it", stacklevel=2)
    if candidates:
        raise ValueError(f"every checkpoint in {folder} is damaged; delete the folder to start again")
    return None


class Damaged(Exception):
    """A checkpoint differs from what was written; the message is a part of a sentence."""


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        own, kinds = manifest.pop("own_sha256"), {"step": int, "identity": dict, "sha256": dict}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise Damaged("its manifest.json cannot be read") from error
    if own != manifest_hash(manifest) or any(type(manifest.get(key)) is not kind for key, kind in kinds.items()):
        raise Damaged("its manifest.json was changed")
    return manifest


def read_checkpoint(path: Path, identity: dict[str, Any]) -> Checkpoint:
    """The checkpoint in one folder; Damaged for one that is not whole, ValueError for one of another run.

    Because checksums detect accidents, not malice, the files are treated as mere data: names must stay inside the
    folder, tensors come from safetensors, all else from JSON.
    """
    manifest = _manifest(path)
    for name, expected in manifest["sha256"].items():
        if Path(name).name != name or not (name.endswith(".safetensors") or name == "state.json"):
            raise Damaged(f"its manifest.json names {name!r}, which no checkpoint holds")
        if not (path / name).is_file() or digest(path / name) != expected:
            raise Damaged(f"{name} is missing or was changed")
    check_identity(path.parent, manifest["identity"], identity)
    try:
        tensors = {Path(name).stem: load_file(path / name) for name in manifest["sha256"] if name != "state.json"}
        state = dict(json.loads((path / "state.json").read_text()))
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"its content cannot be read: {str(error)[:100]}") from error
    if FORMERLY in manifest["identity"]:
        state.setdefault("worlds", [{"step": 0, "processes": manifest["identity"][FORMERLY]}])
    return Checkpoint(manifest["step"], tensors, state)


def send(checkpoint: Checkpoint | None, owner: int, accelerator: Accelerator) -> Checkpoint:
    """The checkpoint that process `owner` has read, sent to every process, with its tensors on the device."""
    if accelerator.num_processes == 1:
        return checkpoint
    outline = checkpoint and {
        group: {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        for group, tensors in checkpoint.tensors.items()
    }
    sent = [outline, checkpoint and checkpoint.step, checkpoint and checkpoint.state]
    outline, step, state = broadcast_object_list(sent, from_process=owner)
    own, device = accelerator.process_index == owner, accelerator.device
    tensors: dict[str, dict[str, torch.Tensor]] = {group: {} for group in outline}
    for group, shapes in outline.items():
        for name, (shape, dtype) in shapes.items():
            tensor = checkpoint.tensors[group][name] if own else torch.empty(shape, dtype=dtype)
            tensors[group][name] = broadcast(tensor.to(device), from_process=owner)
    return Checkpoint(step, tensors, state)


def identity(folder: Path) -> dict[str, Any] | None:
    """The identity of the run whose checkpoints are in `folder`; None without a readable checkpoint."""
    for path in _whole(folder):
        try:
            return _manifest(path)["identity"]
        except Damaged:
            continue
    return None


HASHED = {  # of what only a hash is kept, which tells a reader nothing
    "data": "its text is another one (--text, or what is in it)",
    "vocabulary": "its tokenizer has other word pieces",
    "teacher": "its teacher has other weights (--teacher)",
}


def check_identity(folder: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ValueError, naming each flag that differs with its two values, when two run identities differ."""
    wanted = json.loads(json.dumps(wanted))
    differing = dict.fromkeys(_differences(saved, wanted))
    if differing:
        run = folder.parent if folder.name == "checkpoints" else folder
        raise ValueError(
            f"{run} holds another run ({', '.join(differing)}). A new run: --name NAME. That run, taken up again: its "
            "own settings. The new one in its place: remove the folder first"
        )


def _differences(saved: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """A few words for each fact in which two identities differ."""
    told = []
    for key in sorted((saved.keys() | wanted.keys()) - {FORMERLY}):
        there, now = saved.get(key), wanted.get(key)
        if there == now:
            continue
        if isinstance(there, dict) and isinstance(now, dict):  # how a student was made
            told += _differences(there, now)
        elif key == "parameters":
            told.append(f"{_plain(there)} weights there, {_plain(now)} now")
        else:
            told.append(HASHED.get(key, f"--{key.replace('_', '-')} {_plain(there)} there, {_plain(now)} now"))
    return told


def _plain(value: Any) -> str:
    """A setting as one types it on a command line, with commas in large numbers."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if value is None:
        return "not set"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[torch.Tensor, str]) -> dict[str, torch.Tensor]:
    """The tensors of an optimizer's state by parameter name, such as "layer.weight/exp_avg", to be saved unpickled."""
    return {
        f"{names[p]}/{key}": torch.as_tensor(value)
        for p, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_parameters(names: dict[torch.Tensor, str], tensors: dict[str, torch.Tensor]) -> None:
    """Copy saved tensors into the parameters of `names`; ValueError when they do not fit."""
    wanted = {name: parameter.shape for parameter, name in names.items()}
    differing = [
        name
        for name in wanted.keys() | tensors.keys()
        if name not in wanted or name not in tensors or wanted[name] != tensors[name].shape
    ]
    if differing:
        raise ValueError(f"the checkpoint is of another model: its tensor {min(differing)} does not fit; delete it")
    with torch.no_grad():
        for parameter, name in names.items():
            parameter.copy_(tensors[name])


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: dict[torch.Tensor, str], tensors: dict[str, torch.Tensor]
) -> None:
    """Put the tensors of `optimizer_tensors` back; the step counter stays on the CPU, where the optimizer keeps it.

    Raises ValueError for a tensor that AdamW does not have.
    """
    by_name = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        name, _, kind = key.rpartition("/")
        parameter = by_name.get(name)
        if parameter is None or kind not in ("step", "exp_avg", "exp_avg_sq"):
            raise ValueError(f"the checkpoint is of another optimizer: its tensor {key} is unknown; delete it")
        fused = optimizer.defaults.get("fused")
        device = parameter.device if kind != "step" or fused else "cpu"
        optimizer.state[parameter][kind] = value.to(device)
