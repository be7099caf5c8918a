"""What goes wrong around a run: numbers, memory, disks, a second run in the same folder, a machine that vanishes."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import make_teacher, until, weights_of
from cutting import ACTIONS, CONTEXT, SYNC, Fault, Job, end, flags, hang, live, outcome, run, start

from distilnb.cli import main
from distilnb.distillation import backup, checkpoints, evaluation, training
from distilnb.distillation.loop import pretrain
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.distillation.step import Distillation
from distilnb.evidence.records import save_record
from distilnb.machine import files
from distilnb.models.student import build_student

pytestmark = pytest.mark.usefixtures("one_thread")
FORWARD = "distilnb.distillation.step.Distillation.forward"


@pytest.fixture
def distil(packed, masker, accelerator, tokenizer):
    """Train a fresh student for `updates` updates; (its weights, the record)."""

    def train(
        updates: int = 6,
        dropout: float = 0.1,
        out: Path | None = None,
        stop: int | None = None,
        quiet: bool = True,
        **more,
    ):
        teacher = make_teacher(len(tokenizer), hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
        student = build_student(teacher, init="random")
        shape = {
            "seq_length": 32,
            "batch_size": 8,
            "micro_batch_size": 8,
            "learning_rate": 2e-3,
            "tokens": updates * 256,
            "checkpoint_minutes": 1e9,
            "evaluate_every": 1000,
        }
        record = pretrain(
            student,
            packed,
            masker,
            accelerator,
            PretrainingConfig(**(shape | more)),
            teacher=teacher,
            out=out,
            stop_after=stop,
            quiet=quiet,
        )
        return weights_of(student), record

    return train


def at_calls(monkeypatch, action: str, *numbers: int) -> None:
    """Let this happen in these calls of the forward pass."""
    forward, calls = Distillation.forward, []

    def faulty(*arguments):
        calls.append(1)
        return ACTIONS[action](forward, arguments, {}) if len(calls) in numbers else forward(*arguments)

    monkeypatch.setattr(Distillation, "forward", faulty)


def equal(one: dict, other: dict) -> bool:
    """To the last bit."""
    return all(torch.equal(one[name], other[name]) for name in one)


# numbers


@pytest.mark.parametrize("action", ["nan loss", "nan gradient"])
def test_an_update_without_finite_numbers_is_left_out_and_counted(distil, monkeypatch, tmp_path, action):
    """The weights after it are those before it, and the run goes on."""
    at_calls(monkeypatch, action, 3, 5)
    weights, record = distil(6, checkpoint_every=1, keep=9, out=tmp_path)
    assert (record["skipped"], record["skipped_steps"]) == (2, [3, 5])
    assert record["curve"]["step"] == [1, 2, 4, 6] and record["steps"] == 6
    assert np.isfinite(record["curve"]["loss"]).all() and np.isfinite(record["curve"]["norm"]).all()
    saved = {
        step: checkpoints.read_checkpoint(tmp_path / "checkpoints" / f"step-0000000{step}", _identity(tmp_path)).tensors
        for step in range(1, 7)
    }
    for step, made in ((2, True), (3, False), (4, True), (5, False), (6, True)):
        for group in ("model", "optimizer"):
            assert equal(saved[step][group], saved[step - 1][group]) != made, (step, group)
    assert save_record(record, tmp_path)


def _identity(out: Path) -> dict:
    return checkpoints.identity(out / "checkpoints")


def test_skips_in_a_row_stop_a_run_that_is_saved_and_can_go_on(distil, monkeypatch, tmp_path):
    """Alternating faults do not; the same command goes on from where it stopped."""
    at_calls(monkeypatch, "nan loss", 1, 3, 4, 5)
    said = "3 updates in a row .* from update 3 on .loss nan, gradient norm nan.; the weights of update 2 are saved in"
    with pytest.raises(FloatingPointError, match=said):
        distil(8, max_skipped=3, out=tmp_path)
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step-00000005"
    _, record = distil(8, max_skipped=3, out=tmp_path)
    assert record["skipped_steps"] == [1, 3, 4, 5] and record["curve"]["step"] == [2, 6, 7, 8]


def test_a_short_run_without_one_finite_update_is_an_error_too(distil, monkeypatch):
    at_calls(monkeypatch, "nan loss", 1, 2)
    with pytest.raises(FloatingPointError, match="updates"):
        distil(2)


def test_a_sitting_without_one_finite_update_has_a_record_and_goes_on(distil, monkeypatch, tmp_path):
    at_calls(monkeypatch, "nan loss", 1)
    _, record = distil(3, out=tmp_path, stop=1)
    assert (record["tokens"], record["steps"], record["skipped_steps"]) == (0, 1, [1])
    _, record = distil(3, out=tmp_path)
    assert record["tokens"] == 2 * 256 and record["curve"]["step"] == [2, 3]


@pytest.mark.parametrize(
    "steps, last, count", [([], 4, 0), ([4], 4, 1), ([2, 3, 4], 4, 3), ([1, 3, 4], 4, 2), ([1, 2], 4, 0)]
)
def test_in_a_row(steps, last, count):
    assert training.in_a_row(steps, last) == count


@pytest.fixture
def fp16(accelerator, monkeypatch) -> torch.amp.GradScaler:
    """fp16's scaler on a CPU, where accelerate offers none: the accelerator's own steps with it."""
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1000)
    accelerator.native_amp = True
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    return accelerator.scaler


def test_the_scalers_own_skips_are_its_business(distil, monkeypatch, fp16):
    """An overflow halves the scale and is counted apart; at a scale of 1 it is no overflow but a fault."""
    at_calls(monkeypatch, "nan gradient", 2, 3, 5)
    _, record = distil(6)
    assert (record["overflows"], record["skipped_steps"]) == (2, [5])
    assert record["curve"]["step"] == [1, 4, 6]
    assert fp16.get_scale() == 0.5


def test_a_run_begins_with_fp16s_own_scale_whatever_ran_before(distil, fp16, tmp_path):
    """The scaler is one for all runs of a process; a run that is taken up has the scale that it had."""
    first, _ = distil(3)
    fp16.load_state_dict(fp16.state_dict() | {"scale": 2.0, "_growth_tracker": 7})
    again, _ = distil(3)
    assert equal(first, again) and fp16.get_scale() == 4
    distil(3, out=tmp_path / "run", stop=2)
    path = tmp_path / "run" / "checkpoints"
    saved = checkpoints.load(path, checkpoints.identity(path))
    saved.state["scaler"] |= {"scale": 32.0}
    checkpoints.save(path, saved, checkpoints.identity(path))
    distil(3, out=tmp_path / "run")
    assert fp16.get_scale() == 32


@pytest.mark.parametrize("out", [True, False])
def test_a_run_whose_every_update_overflowed_has_learned_nothing_and_says_so(distil, monkeypatch, fp16, tmp_path, out):
    """Also when it is started again, after its last checkpoint."""
    at_calls(monkeypatch, "nan gradient", 1, 2)
    for _ in range(1 + out):
        with pytest.raises(FloatingPointError, match="left out 2"):
            distil(2, **({"out": tmp_path / "run"} if out else {}))


def test_one_process_with_a_bad_number_makes_both_skip(teacher_folder, text_file, tmp_path):
    job = Job(
        tmp_path / "nan",
        flags(teacher_folder, text_file, micro_batch_size=4),
        2,
        (Fault(FORWARD, 3, "nan gradient", rank=1),),
    )
    assert run(job) == [0, 0], job.said(1)
    newest = job.out / "checkpoints" / outcome(job.out)["checkpoint"]
    assert [step for step, *_ in json.loads((newest / "state.json").read_text())["skipped"]] == [3]


# memory


def limit(monkeypatch, rows: int) -> None:
    """Memory for `rows` sequences in a forward pass, no more."""
    forward = Distillation.forward

    def limited(self, batch, *arguments):
        if len(batch["input_ids"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(self, batch, *arguments)

    monkeypatch.setattr(Distillation, "forward", limited)


def test_without_memory_for_a_micro_batch_halves_train_the_same(distil, monkeypatch):
    """8 → 4 → 2 rows. Tolerance 5e-6 as for micro-batches; key biases have no gradient but rounding noise."""
    weights, _ = distil(3, dropout=0.0)
    limit(monkeypatch, 3)
    halved, record = distil(3, dropout=0.0)
    assert record["out_of_memory"] == [{"step": 1, "micro_batch_size": 4}, {"step": 1, "micro_batch_size": 2}]
    assert record["tokens"] == 3 * 8 * 32
    names = [name for name in weights if not name.endswith("k_lin.bias")]
    assert max((weights[name] - halved[name]).abs().max().item() for name in names) < 5e-6


def test_memory_that_runs_out_in_the_middle_of_an_update(distil, monkeypatch):
    """Gradients of the micro-batches before it are dropped, not counted twice."""
    weights, _ = distil(3, dropout=0.0, micro_batch_size=4)
    at_calls(monkeypatch, "no memory", 4)
    halved, record = distil(3, dropout=0.0, micro_batch_size=4)
    assert record["out_of_memory"] == [{"step": 2, "micro_batch_size": 2}]
    names = [name for name in weights if not name.endswith("k_lin.bias")]
    assert max((weights[name] - halved[name]).abs().max().item() for name in names) < 5e-6


def test_a_halved_run_is_resumed_exactly(distil, monkeypatch, tmp_path):
    """With dropout, whose draws depend on the rows of a forward pass."""
    at_calls(monkeypatch, "no memory", 2)
    whole, _ = distil(4)
    monkeypatch.undo()
    at_calls(monkeypatch, "no memory", 2)
    distil(4, out=tmp_path, stop=3)
    resumed, record = distil(4, out=tmp_path)
    assert record["out_of_memory"] == [{"step": 2, "micro_batch_size": 4}]
    assert equal(whole, resumed)


def test_not_even_one_sequence(distil, monkeypatch):
    limit(monkeypatch, 0)
    with pytest.raises(RuntimeError, match="sequence"):
        distil(1)


def test_memory_that_runs_out_in_the_estimate_leaves_no_gradients(distil, monkeypatch):
    """They would be added to those of the first update."""
    whole, _ = distil(2)
    backward, calls = torch.Tensor.backward, []

    def lacking(loss: torch.Tensor, *arguments, **more) -> None:
        backward(loss, *arguments, **more)
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "backward", lacking)
    told, _ = distil(2, quiet=False)
    assert len(calls) == 3 and equal(whole, told)


def test_an_evaluation_without_memory_for_its_rows_reads_fewer(distil, monkeypatch, capsys):
    """The first follows the estimate, which had none either; also of the teacher, which guesses once."""
    _, whole = distil(2)
    limit(monkeypatch, 3)
    real, read = evaluation.hidden_states, []

    def limited(model, batch):
        if len(batch["input_ids"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        read.append(len(batch["input_ids"]))
        return real(model, batch)

    monkeypatch.setattr(evaluation, "hidden_states", limited)
    _, record = distil(2, quiet=False)
    assert "no estimate: 8 sequences at once do not fit" in capsys.readouterr().out and max(read) == 2
    assert [record["evaluations"][key][0] for key in ("mlm_loss", "accuracy", "agreement")] == pytest.approx(
        [whole["evaluations"][key][0] for key in ("mlm_loss", "accuracy", "agreement")], rel=1e-5
    )


def test_other_errors_are_no_lack_of_memory(distil, monkeypatch):
    def broken(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Distillation, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        distil(1)


def test_memory_of_the_machine_counts_too():
    with pytest.raises((RuntimeError, MemoryError)) as error:
        torch.empty(2**50)
    assert training.is_out_of_memory(error.value)
    assert training.is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9.1 GB)"))


def test_one_process_without_memory_makes_both_halve(teacher_folder, text_file, tmp_path):
    given = flags(teacher_folder, text_file, micro_batch_size=4)
    job = Job(tmp_path / "oom", given, 2, (Fault(FORWARD, 3, "no memory", rank=1),))
    assert run(job) == [0, 0], job.said(1)
    newest = job.out / "checkpoints" / outcome(job.out)["checkpoint"]
    assert json.loads((newest / "state.json").read_text())["halved"] == [[3, 2]]


# disks


@pytest.fixture
def small_disk(tmp_path) -> Path:
    """A file system of its own with room for two checkpoints, not for three."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", folder]).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def command(teacher_folder: Path, text_file: Path, out: Path, **more) -> list[str]:
    """`distilnb distil` on the small teacher."""
    return ["distil", *flags(teacher_folder, text_file, **more), "--out", str(out), "--name", "disk"]


def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_is_whole(
    teacher_folder, text_file, small_disk, tmp_path, capsys
):
    assert main.main(command(teacher_folder, text_file, small_disk / "run", keep=9)) == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith("distilnb: the checkpoint of update 6 could not be written to ") and "No space left" in said
    assert "step-00000004, the last one before, is whole: make room there" in said
    assert {path.name for path in (small_disk / "run" / "checkpoints").iterdir()} == {
        ".lock",
        "latest",
        "step-00000002",
        "step-00000004",
    }
    shutil.copytree(small_disk / "run", tmp_path / "roomy")
    assert main.main(command(teacher_folder, text_file, tmp_path / "roomy", keep=9)) == 0
    assert "going on from update 4" in capsys.readouterr().out


def test_a_read_only_disk_is_a_sentence_before_any_work(teacher_folder, text_file, small_disk, capsys):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert main.main(command(teacher_folder, text_file, small_disk / "run")) == 1
    printed = capsys.readouterr()
    assert "cannot be written to (Read-only file system); choose another output folder" in printed.err
    assert "estimate" not in printed.out


def test_a_process_whose_main_one_dies_as_they_meet_stops(teacher_folder, text_file, tmp_path):
    """A stand-in for the main process accepts every connection and closes it, as the system does for a dead one."""
    patches = {"distilnb.machine.processes.PATIENCE": 2.0}
    job = Job(tmp_path / "run", flags(teacher_folder, text_file), 2, patches=patches)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_hang_up, args=(server,), daemon=True).start()
        alone = CONTEXT.Process(target=live, args=(job, 1, server.getsockname()[1]))
        alone.start()
        assert end([alone], 60) == [1]
    assert "process 1 of 2 stops, because another one has died or not answered for 2 s" in job.said(1)


def test_a_process_that_waits_for_the_others_without_end_stops(teacher_folder, text_file, tmp_path):
    """torch has a limit of its own, but after it waits a random part of a minute more, and tries again."""
    patches = {"distilnb.machine.processes.PATIENCE": -3.0, "distilnb.machine.device.Accelerator": hang}
    job = Job(tmp_path / "run", flags(teacher_folder, text_file), 2, patches=patches)
    one, other = start(job)
    assert end([other, one], 60) == [1, 1]
    assert "process 1 of 2 stops, because another one has died or not answered" in job.said(1)
    assert "(they did not meet)" in job.said(1)


def _hang_up(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()


# two runs in one folder


def test_a_second_run_in_the_folder_is_refused_until_the_first_is_dead(teacher_folder, text_file, tmp_path, capsys):
    """Frozen, it still holds the folder; killed, it does not, though its loader workers live a little longer."""
    job = Job(
        tmp_path / "run",
        flags(teacher_folder, text_file, workers=2),
        1,
        (Fault("distilnb.distillation.loop.Run.update", 4, "freeze"),),
    )
    processes = start(job)
    until(lambda: _state(processes[0].pid) == "T")
    before = outcome(job.out)
    assert main.main(command(teacher_folder, text_file, job.out)) == 2
    assert f"is in use by process {processes[0].pid} on " in capsys.readouterr().err
    assert outcome(job.out) == before
    os.kill(processes[0].pid, signal.SIGKILL)
    assert end(processes) == [-9]
    assert main.main(command(teacher_folder, text_file, job.out)) == 0
    assert "going on from update 2" in capsys.readouterr().out


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]


def test_a_run_that_was_killed_before_its_first_checkpoint_can_be_started_again(tmp_path, teacher_folder, text_file):
    """Its folder holds a lock and half a checkpoint, which are not somebody's thesis."""
    job = Job(tmp_path / "run", flags(teacher_folder, text_file), 1, (Fault(SYNC, 2),))
    assert run(job) == [-9]
    assert not (job.out / "checkpoints" / "latest").exists() and list((job.out / "checkpoints").iterdir())
    assert main.main(command(teacher_folder, text_file, job.out)) == 0


def test_where_a_file_system_has_no_locks_nothing_is_locked(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("distilnb.machine.files.fcntl.lockf", unsupported)
    with files.hold(tmp_path / "new"):
        assert (tmp_path / "new" / ".lock").exists()


# backups


def test_a_run_whose_folder_is_lost_goes_on_from_its_backup(distil, tmp_path):
    """One file for each checkpoint, as many as are kept; the run that goes on is the run in one go."""
    whole, _ = distil(6)
    place = tmp_path / "drive" / "run"
    distil(6, out=tmp_path / "run", checkpoint_every=1, backup=str(tmp_path / "drive"), stop=4)
    assert sorted(path.name for path in place.iterdir()) == ["step-00000003.tar", "step-00000004.tar"]
    shutil.rmtree(tmp_path / "run")
    resumed, record = distil(6, out=tmp_path / "run", backup=str(tmp_path / "drive"))
    assert record["config"]["backup"] == "drive", "a record names no folder of this machine"
    assert equal(whole, resumed) and record["steps"] == 6


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit flipped"])
def test_a_damaged_backup_is_named_and_the_one_before_is_taken(distil, tmp_path, damage):
    whole, _ = distil(4)
    options = {"out": tmp_path / "run", "backup": str(tmp_path / "drive"), "checkpoint_every": 1}
    distil(4, **options, stop=3)
    newest = tmp_path / "drive" / "run" / "step-00000003.tar"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    broken = {"truncated": data[: len(data) // 3], "empty": b"", "one bit flipped": data}
    newest.write_bytes(bytes(broken[damage]))
    shutil.rmtree(tmp_path / "run")
    with pytest.warns(UserWarning, match="damaged"):
        resumed, _ = distil(4, **options)
    assert equal(whole, resumed)


def test_the_backup_of_another_run_is_refused(distil, tmp_path):
    distil(2, out=tmp_path / "run", backup=str(tmp_path / "drive"))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(ValueError, match="another"):
        distil(2, out=tmp_path / "run", backup=str(tmp_path / "drive"), seed=1)
    assert not list((tmp_path / "run" / "checkpoints").glob("*step*"))


def test_a_backup_that_fails_is_told_and_the_run_goes_on(distil, tmp_path):
    (tmp_path / "drive").write_text("a file, no folder")
    with pytest.warns(UserWarning, match="backup"):
        _, record = distil(2, out=tmp_path / "run", backup=str(tmp_path / "drive"))
    assert record["steps"] == 2


def test_a_backup_is_seen_whole_or_not_at_all(tmp_path, monkeypatch):
    """A kill while it is copied leaves the ones before it, and nothing that looks like one."""
    tensors = {"model": {"w": torch.zeros(2)}, "optimizer": {}}
    path = checkpoints.save(tmp_path / "run", checkpoints.Checkpoint(1, tensors, {}), {})

    class Killed(BaseException):
        pass

    def killed(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:100])
        raise Killed

    monkeypatch.setattr(shutil, "copyfile", killed)
    with pytest.raises(Killed):
        backup.save(path, tmp_path / "drive")
    assert not list((tmp_path / "drive").glob("step-*"))


def test_what_killed_backups_left_does_not_pile_up(tmp_path):
    run, drive = tmp_path / "run", tmp_path / "drive"
    for folder, name in ((run, ".step-00000001.tar"), (drive, ".step-00000001.part")):
        folder.mkdir()
        (folder / name).write_bytes(b"half")
    path = checkpoints.save(run, checkpoints.Checkpoint(2, {"model": {"w": torch.zeros(2)}, "optimizer": {}}, {}), {})
    backup.save(path, drive)
    assert {each.name for each in drive.iterdir()} == {"step-00000002.tar"}
    assert {each.name for each in run.iterdir()} == {"latest", "step-00000002"}


def test_backups_of_a_run_that_went_back_replace_the_later_ones(tmp_path):
    """Those are of checkpoints from which it did not start, and must not crowd out its own."""
    run, drive = tmp_path / "run", tmp_path / "drive"
    tensors = {"model": {"w": torch.zeros(2)}, "optimizer": {}}
    for step in (100, 200, 110, 120):
        backup.save(checkpoints.save(run, checkpoints.Checkpoint(step, tensors, {}), {}), drive, keep=1)
        assert [path.name for path in drive.iterdir()] == [f"step-{step:08d}.tar"]


def test_a_backup_cannot_write_outside(tmp_path):
    """Members with a path, links and devices are not unpacked."""
    place, secret = tmp_path / "drive", tmp_path / "secret"
    place.mkdir()
    secret.write_text("kept")
    with tarfile.open(place / "step-00000001.tar", "w") as tar:
        for name in ("../../secret", "/tmp/secret-of-distilnb", "folder/manifest.json"):
            tar.add(secret, name)
        link = tarfile.TarInfo("manifest.json")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    secret.write_text("kept as it is now")
    with pytest.warns(UserWarning, match="damaged"):
        backup.restore(tmp_path / "run" / "checkpoints", place, {})
    assert secret.read_text() == "kept as it is now" and not Path("/tmp/secret-of-distilnb").exists()
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


# settings


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"max_skipped": 0}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="above"):
        PretrainingConfig(**wrong)


def test_settings_that_may_change_between_sittings(distil, tmp_path):
    distil(2, out=tmp_path, stop=1)
    distil(2, out=tmp_path, keep=3, max_skipped=5, backup=str(tmp_path / "drive"))


@pytest.mark.parametrize("other", [{"data": "other"}, {"versions": {"torch": "1.0"}}])
def test_hosts_that_differ_are_named_before_training(distil, monkeypatch, other):
    """What makes the second one another run, or compute with other libraries."""

    def second(_: Accelerator, value: Any) -> list:
        host, facts = value
        return [value, ("elsewhere", facts | other)]

    monkeypatch.setattr(training, "gathered", second)
    with pytest.raises(ValueError, match="elsewhere"):
        distil(2)
