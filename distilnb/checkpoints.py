"""Checkpoints that survive a kill at any moment: written aside, synced, checksummed, renamed, then pointed to.

    folder/step-00000200/  model.safetensors  optimizer.safetensors  state.json  manifest.json
    folder/latest          the name of the newest whole checkpoint

Tensors are safetensors, everything else JSON: nothing that is loaded can run code. No random state is stored,
because order, masks and dropout are pure functions of (seed, step).
"""

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file


class Checkpoint(NamedTuple):
    """What a run needs to go on: the step it had finished, its tensors by group and name, its plain state."""

    step: int
    tensors: dict[str, dict[str, torch.Tensor]]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, identity: dict[str, Any], keep: int = 2) -> Path:
    """Write a checkpoint and move `latest` to it; older ones beyond `keep` go after that.

    `identity` is what a resumed run must share (configuration, data, vocabulary, processes). Raises OSError when
    the disk is full or read-only; what was there before stays whole.
    """
    final = folder / f"step-{checkpoint.step:08d}"
    aside = folder / f".{final.name}.{os.getpid()}.writing"
    for killed in folder.glob(".*.writing"):  # what a save that was killed has left
        shutil.rmtree(killed, ignore_errors=True)
    aside.mkdir(parents=True)
    for group, tensors in checkpoint.tensors.items():
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, aside / f"{group}.safetensors")
    (aside / "state.json").write_text(json.dumps(checkpoint.state))
    sums = {path.name: _sync(path) for path in sorted(aside.iterdir())}
    manifest = {"step": checkpoint.step, "identity": identity, "sha256": sums}
    (aside / "manifest.json").write_text(json.dumps(manifest | {"own_sha256": _hash(manifest)}))
    _sync(aside / "manifest.json")
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    pointer = folder / f".latest.{os.getpid()}"
    pointer.write_text(final.name)
    _sync(pointer)
    pointer.rename(folder / "latest")
    _sync_folder(folder)
    for old in _whole(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _hash(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def fingerprint(model: torch.nn.Module) -> str:
    """A hash of all tensors of a model: what a run started from or learned from."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def _sync(path: Path) -> str:
    """Force a file to the disk; its SHA-256."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _whole(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first (a rename makes them whole at once)."""
    return sorted(folder.glob("step-*"), reverse=True)


def load(folder: Path, identity: dict[str, Any]) -> Checkpoint | None:
    """The newest checkpoint that passes its checksums, or None when there is none.

    A damaged one is named in a warning and the one before it is taken. Raises ValueError when the run in this
    folder is another one, spelling out the difference, and when every checkpoint is damaged.
    """
    found = _whole(folder)
    for path in found:
        try:
            return _read(path, identity)
        except _Damaged as damage:
            warnings.warn(f"checkpoint {path} is damaged ({damage}); going back to the one before it", stacklevel=2)
    if found:
        raise ValueError(f"every checkpoint in {folder} is damaged; delete the folder to start again")
    return None


class _Damaged(Exception):
    pass


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        own = manifest.pop("own_sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _Damaged("its manifest cannot be read") from error
    if own != _hash(manifest):
        raise _Damaged("its manifest was changed")
    return manifest


def _read(path: Path, identity: dict[str, Any]) -> Checkpoint:
    manifest = _manifest(path)
    for name, expected in manifest["sha256"].items():
        if not (path / name).is_file() or _sync(path / name) != expected:
            raise _Damaged(f"{name} is missing or was changed")
    check_identity(path.parent, manifest["identity"], identity)
    groups = [name for name in manifest["sha256"] if name.endswith(".safetensors")]
    tensors = {Path(name).stem: load_file(path / name) for name in groups}
    return Checkpoint(manifest["step"], tensors, json.loads((path / "state.json").read_text()))


def identity(folder: Path) -> dict[str, Any] | None:
    """The identity of the run whose checkpoints are in `folder`; None when there is no readable one."""
    for path in _whole(folder):
        try:
            return _manifest(path)["identity"]
        except _Damaged:
            continue
    return None


def check_identity(folder: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ValueError that spells out each key in which two run identities differ."""
    wanted = json.loads(json.dumps(wanted))
    keys = sorted(key for key in saved.keys() | wanted.keys() if saved.get(key) != wanted.get(key))
    if keys:
        difference = ", ".join(f"{key} {saved.get(key)} there, {wanted.get(key)} now" for key in keys)
        raise ValueError(f"{folder} holds another run ({difference}); choose another output folder or name, or give "
                         "the same settings to go on with that run")


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[torch.Tensor, str]) -> dict[str, torch.Tensor]:
    """The state of an optimizer by parameter name: "layer.weight/exp_avg" and so on; no pickle needed."""
    return {
        f"{names[p]}/{key}": torch.as_tensor(value)
        for p, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: dict[torch.Tensor, str], tensors: dict[str, torch.Tensor]
) -> None:
    """Put tensors of `optimizer_tensors` back; the counter of steps stays where the optimizer keeps it (the CPU)."""
    by_name = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        name, kind = key.rsplit("/", 1)
        parameter = by_name[name]
        fused = optimizer.defaults.get("fused")
        device = parameter.device if kind != "step" or fused else "cpu"
        optimizer.state[parameter][kind] = value.to(device)
