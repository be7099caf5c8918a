"""Checkpoints: what was saved comes back, damage is seen, and an interrupted save costs nothing."""

import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distilnb.distillation import checkpoints
from distilnb.distillation.checkpoints import Checkpoint
from distilnb.machine import files

IDENTITY = {"seed": 1, "learning_rate": 5e-4, "data": "abc", "layers": (0, 2)}


def checkpoint(step: int) -> Checkpoint:
    """Tensors and state that tell their step: every number in them is `step`."""
    model = {"weight": torch.full((3, 2), float(step)), "half": torch.full((2,), step, dtype=torch.bfloat16)}
    optimizer = {"weight/exp_avg": torch.full((3, 2), step / 10), "weight/step": torch.tensor(float(step))}
    state = {"curve": [[step, 0.1]], "spent": {"seconds": step}}
    return Checkpoint(step, {"model": model, "optimizer": optimizer}, state)


def save(folder: Path, *steps: int, **more) -> list[Path]:
    """A checkpoint after each of these steps."""
    return [checkpoints.save(folder, checkpoint(step), IDENTITY, **more) for step in steps]


def assert_is(loaded: Checkpoint | None, step: int) -> None:
    """The checkpoint of `step`, tensors to the bit."""
    expected = checkpoint(step)
    assert loaded is not None and loaded.step == step and loaded.state == expected.state
    assert loaded.tensors.keys() == expected.tensors.keys()
    for group, tensors in expected.tensors.items():
        assert loaded.tensors[group].keys() == tensors.keys()
        for name, tensor in tensors.items():
            found = loaded.tensors[group][name]
            assert found.dtype == tensor.dtype and torch.equal(found, tensor)


def load_quietly(folder: Path) -> Checkpoint | None:
    """Load where no warning is allowed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return checkpoints.load(folder, IDENTITY)


def test_what_was_saved_comes_back(tmp_path):
    (path,) = save(tmp_path, 7)
    assert path == tmp_path / "step-00000007"
    assert_is(load_quietly(tmp_path), 7)


def test_nothing_saved_is_none(tmp_path):
    assert checkpoints.load(tmp_path, IDENTITY) is None
    assert checkpoints.load(tmp_path / "absent", IDENTITY) is None
    assert checkpoints.identity(tmp_path) is None


def test_the_newest_is_loaded_and_two_are_kept(tmp_path):
    save(tmp_path, 5, 10, 100)
    assert_is(load_quietly(tmp_path), 100)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000010", "step-00000100"]
    assert (tmp_path / "latest").read_text() == "step-00000100"


@pytest.mark.parametrize("keep", [1, 3])
def test_keep_says_how_many(tmp_path, keep):
    save(tmp_path, 1, 2, 3, 4, keep=keep)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == [f"step-0000000{i}" for i in range(5 - keep, 5)]


def test_a_step_can_be_saved_again(tmp_path):
    save(tmp_path, 3)
    again = checkpoint(3)
    again.tensors["model"]["weight"].fill_(9)
    checkpoints.save(tmp_path, again, IDENTITY)
    assert load_quietly(tmp_path).tensors["model"]["weight"].eq(9).all()


def test_saving_does_not_depend_on_strides_or_gradients(tmp_path):
    tensor = torch.arange(6.0).reshape(2, 3).T.requires_grad_()
    checkpoints.save(tmp_path, Checkpoint(1, {"model": {"w": tensor}}, {}), IDENTITY)
    assert torch.equal(load_quietly(tmp_path).tensors["model"]["w"], tensor)


def test_no_file_can_run_code(tmp_path, monkeypatch):
    """Only safetensors, JSON and a name; and nothing is unpickled on the way back."""
    save(tmp_path, 1, 2)
    for file in (f for f in tmp_path.rglob("*") if f.is_file()):
        if file.suffix == ".safetensors":
            assert load_file(file)
        elif file.suffix == ".json":
            assert json.loads(file.read_text())
        else:
            assert (file.name, file.read_text()) == ("latest", "step-00000002")

    def refuse(*_, **__):
        raise AssertionError("something was unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    assert_is(load_quietly(tmp_path), 2)


# damage

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


def flip_a_bit(path: Path) -> None:
    """In the middle of the file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0b100
    path.write_bytes(data)


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "one bit flipped": flip_a_bit,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_the_one_before_is_taken(tmp_path, name, damage):
    _, last = save(tmp_path, 10, 20)
    DAMAGE[damage](last / name)
    what = ".*" if name == "manifest.json" else name  # a flipped bit there may be in another file's checksum
    with pytest.warns(UserWarning, match=f"step-00000020.*{what}"):
        assert_is(checkpoints.load(tmp_path, IDENTITY), 10)


@pytest.mark.parametrize("change", [("step", 30), ("identity", {"seed": 2}), ("sha256", {})], ids=str)
def test_a_changed_manifest_is_damage_too(tmp_path, change):
    """Still readable JSON, but the step, the identity or the list of files is not what was written."""
    _, last = save(tmp_path, 10, 20)
    manifest = json.loads((last / "manifest.json").read_text())
    (last / "manifest.json").write_text(json.dumps(manifest | dict([change])))
    with pytest.warns(UserWarning, match="damaged"):
        assert_is(checkpoints.load(tmp_path, IDENTITY), 10)


@pytest.mark.parametrize("name", FILES)
def test_a_file_from_another_run_is_damage(tmp_path, name):
    """Whole in itself, but not the one that was written here."""
    _, last = save(tmp_path / "run", 10, 20)
    other = checkpoint(21)
    checkpoints.save(tmp_path / "other", other, IDENTITY | {"seed": 2})
    (tmp_path / "other" / "step-00000021" / name).replace(last / name)
    with pytest.warns(UserWarning, match="damaged"):
        assert_is(checkpoints.load(tmp_path / "run", IDENTITY), 10)


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_pointer_is_for_readers_only(tmp_path, damage):
    """What `latest` says does not matter when a run is taken up."""
    save(tmp_path, 10, 20)
    DAMAGE[damage](tmp_path / "latest")
    assert_is(load_quietly(tmp_path), 20)


def test_all_damaged_is_an_error(tmp_path):
    for path in save(tmp_path, 10, 20):
        flip_a_bit(path / "model.safetensors")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="checkpoint"):
        checkpoints.load(tmp_path, IDENTITY)


def test_a_run_goes_on_from_the_one_before_the_damage(tmp_path):
    """Resumed at 10 because 20 is damaged, the run saves 15 and then 20 again: always a whole one is found."""
    _, last = save(tmp_path, 10, 20)
    flip_a_bit(last / "state.json")
    save(tmp_path, 15)
    assert_is(load_quietly(tmp_path), 15)
    save(tmp_path, 20)
    assert_is(load_quietly(tmp_path), 20)


def test_the_damaged_one_is_not_kept_instead_of_a_whole_one(tmp_path):
    """With one to keep, and the damaged one later than the one just saved."""
    _, last = save(tmp_path, 10, 20)
    flip_a_bit(last / "state.json")
    save(tmp_path, 15, keep=1)
    assert_is(load_quietly(tmp_path), 15)
    assert [p.name for p in tmp_path.glob("step-*")] == ["step-00000015"]


# another run


def test_another_identity_spells_out_the_difference(tmp_path):
    save(tmp_path, 10)
    other = IDENTITY | {"seed": 2, "learning_rate": 1e-3}
    difference = r"\(--learning-rate 0.0005 there, 0.001 now, --seed 1 there, 2 now\)"
    with pytest.raises(ValueError, match=difference):
        checkpoints.load(tmp_path, other)


@pytest.mark.parametrize("other, message", [({"new": 3}, "--new"), ({"data": None}, "text")])
def test_a_key_more_or_less_is_a_difference(tmp_path, other, message):
    save(tmp_path, 10)
    with pytest.raises(ValueError, match=message):
        checkpoints.load(tmp_path, IDENTITY | other)


def test_identity_of_a_folder_is_that_of_its_newest_readable_checkpoint(tmp_path):
    _, last = save(tmp_path, 10, 20)
    expected = json.loads(json.dumps(IDENTITY))
    assert checkpoints.identity(tmp_path) == expected
    (last / "manifest.json").write_text("{")
    assert checkpoints.identity(tmp_path) == expected


# interrupted saves


class Interrupted(BaseException):
    """The process stops here: nothing may catch it."""


def count_calls(monkeypatch, owner, name: str, stop_at: int | None = None) -> list:
    """Let `owner.name` be interrupted before its call number `stop_at`; the calls so far."""
    real, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(args)
        if len(calls) == stop_at:
            raise Interrupted
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


POINTS = (
    (Path, "mkdir"),
    (checkpoints, "save_file"),
    (Path, "write_text"),
    (os, "fsync"),
    (Path, "rename"),
    (shutil, "rmtree"),
)


def test_interruption_at_any_point_leaves_a_checkpoint(tmp_path, monkeypatch):
    """Every call that touches the disk, in turn, is the one that never happens.

    What is found afterwards is whole, without a warning, and is the new checkpoint or the one before it.
    """
    stopped = []
    for owner, name in POINTS:
        call = 0
        while True:
            call += 1
            folder = tmp_path / f"{name}-{call}"
            save(folder, 10, 20)
            with monkeypatch.context() as patch:
                count_calls(patch, owner, name, call)
                try:
                    save(folder, 30)
                    break
                except Interrupted:
                    pass
            found = load_quietly(folder)
            assert found is not None and found.step in (20, 30), (name, call)
            assert_is(found, found.step)
            save(folder, 30)  # the resumed run is not in the way of itself
            assert_is(load_quietly(folder), 30)
            stopped.append((name, call, found.step))
    assert {name for name, _, _ in stopped} == {name for _, name in POINTS}
    assert {step for _, _, step in stopped} == {20, 30} and len(stopped) >= 12


SYSTEM_CALLS = ("os.mkdir", "os.open", "os.fsync", "os.rename", "os.unlink", "os.rmdir", "io.open", "os.scandir")


def _save_and_die(folder: Path, path: str, call: int) -> None:
    """In a child: save, and be killed in place of one call to the system; status 3 when there was no such call."""
    owner, name = path.split(".")
    owner, calls = {"os": os, "io": io}[owner], []
    real = getattr(owner, name)

    def deadly(*arguments, **keywords):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)

    setattr(owner, name, deadly)
    save(folder, 30)
    os._exit(3)


def test_a_kill_at_any_system_call_of_a_save_leaves_a_checkpoint(tmp_path):
    """SIGKILL for real, at each file that is opened, synced, renamed or removed, and so between any two of them."""
    killed, context = [], multiprocessing.get_context("fork")
    for path in SYSTEM_CALLS:
        call, status = 0, -signal.SIGKILL
        while status == -signal.SIGKILL:
            call += 1
            folder = tmp_path / f"{path}-{call}"
            save(folder, 10, 20)
            child = context.Process(target=_save_and_die, args=(folder, path, call))
            child.start()
            child.join()
            status = child.exitcode
            found = load_quietly(folder)
            assert found.step in (20, 30), (path, call)
            assert_is(found, found.step)
            save(folder, 30)
            assert_is(load_quietly(folder), 30)
            assert {p.name for p in folder.iterdir()} == {"latest", "step-00000020", "step-00000030"}
            killed += [(path, found.step)] * (status == -signal.SIGKILL)
        assert status == 3, (path, call, status)
    assert {step for _, step in killed} == {20, 30} and len(killed) >= 30, killed


def test_new_files_are_on_the_disk_before_the_rename_and_old_ones_go_last(tmp_path, monkeypatch):
    save(tmp_path, 10, 20)
    events = []
    sync, fsync, rename, remove = files.sync, os.fsync, Path.rename, shutil.rmtree
    monkeypatch.setattr(checkpoints, "sync", lambda p: events.append(("write", p.name)) or sync(p))
    monkeypatch.setattr(os, "fsync", lambda handle: events.append(("fsync", "")) or fsync(handle))
    monkeypatch.setattr(Path, "rename", lambda p, to: events.append(("rename", to.name)) or rename(p, to))
    monkeypatch.setattr(shutil, "rmtree", lambda p, **k: p.exists() and [events.append(("remove", p.name)), remove(p)])
    save(tmp_path, 30)
    names = [what for what, _ in events]
    pair = ["write", "fsync"]  # of the four files and their folder, of the folder above, of the pointer
    assert names == [*pair * 5, "rename", *pair * 2, "rename", *pair, "remove"]
    assert {name for _, name in events[:8:2]} == set(FILES) and events[6] == ("write", "manifest.json")
    assert events[10] == ("rename", "step-00000030") and events[15] == ("rename", "latest")
    assert events[-1] == ("remove", "step-00000010")


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    save(tmp_path, 10)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="space"):
        save(tmp_path, 20)
    assert_is(load_quietly(tmp_path), 10)


def test_leftovers_of_killed_saves_do_not_pile_up(tmp_path):
    """A kill inside a save leaves a folder as large as a checkpoint; the next save takes it away."""
    save(tmp_path, 10)
    left = tmp_path / ".step-00000015.99999999.writing"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    save(tmp_path, 20)
    assert not left.exists()


# optimizer


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_goes_on_as_it_was(tmp_path, fused):
    """Two updates, saved and put into a fresh optimizer, then two more: the same bits as four in one go."""

    def setup():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=fused)
        return layer, optimizer, {parameter: name for name, parameter in layer.named_parameters()}

    def updates(layer, optimizer, start: int, stop: int) -> None:
        for step in range(start, stop):
            optimizer.zero_grad()
            layer(torch.full((1, 3), float(step + 1))).pow(2).sum().backward()
            optimizer.step()

    whole, optimizer, _ = setup()
    updates(whole, optimizer, 0, 4)

    layer, optimizer, names = setup()
    updates(layer, optimizer, 0, 2)
    tensors = checkpoints.optimizer_tensors(optimizer, names)
    assert sorted(tensors) == sorted(f"{n}/{k}" for n in ("weight", "bias") for k in ("step", "exp_avg", "exp_avg_sq"))
    checkpoints.save(tmp_path, Checkpoint(2, {"model": dict(layer.named_parameters()), "optimizer": tensors}, {}), {})

    saved = checkpoints.load(tmp_path, {})
    resumed, optimizer, names = setup()
    resumed.load_state_dict(saved.tensors["model"])
    checkpoints.load_optimizer(optimizer, names, saved.tensors["optimizer"])
    updates(resumed, optimizer, 2, 4)
    assert torch.equal(whole.weight, resumed.weight) and torch.equal(whole.bias, resumed.bias)
