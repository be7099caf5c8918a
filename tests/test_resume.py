"""Cut runs: killed, interrupted or robbed of a process, and taken up again as if nothing had happened, to the last bit.

Every run here is a process of its own (see `cutting`); `soak.py` does the same at random moments and counts.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import make_teacher
from cutting import SYNC, Fault, Job, end, flags, outcome, run, start

from distilnb.distillation import checkpoints
from distilnb.distillation.batches import MaskedRows, MicroBatches
from distilnb.distillation.loop import Run, pretrain
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.models.student import build_student
from distilnb.text.masking import Masker

UPDATE, FORWARD = "distilnb.distillation.loop.Run.update", "distilnb.distillation.step.Distillation.forward"
ESTIMATE = 3  # forward passes of the estimate: a warm-up and two trials


@pytest.fixture(scope="module")
def job(teacher_folder, text_file, tmp_path_factory):
    """Make the job of a setting: `job(name, processes, workers, accumulation, *faults)`."""
    root = tmp_path_factory.mktemp("runs")

    def make(name: str, processes: int = 1, workers: int = 0, accumulation: int = 1, *faults: Fault, **patches) -> Job:
        micro = 8 // processes // accumulation
        given = flags(teacher_folder, text_file, workers=workers, micro_batch_size=micro)
        patches = {f"distilnb.{key}": value for key, value in patches.items()}
        return Job(root / f"{name}-{processes}-{workers}-{accumulation}", given, processes, faults, patches)

    return make


@pytest.fixture(scope="module")
def whole(job):
    """What the run that was not cut came to."""

    @cache
    def outcome_of(processes: int, accumulation: int) -> dict:
        uncut = job("whole", processes, 0, accumulation)
        assert run(uncut) == [0] * processes, uncut.said()
        return outcome(uncut.out)

    return outcome_of


def cuts(processes: int) -> list[Fault]:
    """Before the first checkpoint; in the middle of an update, of the last process; inside a save, half written."""
    estimated = 3 if processes == 1 else 0  # forward passes of the main process before its first update
    return [Fault(UPDATE, 2), Fault(FORWARD, estimated + 5, rank=processes - 1), Fault(SYNC, 11)]


@pytest.mark.parametrize("processes, workers, accumulation", [(1, 0, 1), (1, 2, 2), (2, 0, 2), (2, 2, 1)])
def test_killed_three_times_a_run_ends_as_the_one_that_was_not(job, whole, processes, workers, accumulation):
    """Weights, optimizer, curve and evaluations, to the bit. The process that is left says why it stops.

    Each two of the settings meet once; `soak.py` draws from all of them.
    """
    for fault in cuts(processes):
        cut = job("cut", processes, workers, accumulation, fault)
        statuses = run(cut)
        assert statuses.pop(fault.rank) == -9, cut.said(fault.rank)
        assert statuses in ([], [1])
        if statuses:
            said = cut.said(1 - fault.rank).splitlines()[-1]
            assert said.startswith(f"distilnb: process {1 - fault.rank} of 2 stops, because another one has died"), said
    assert list((cut.out / "checkpoints").glob(".step-*.writing")), "the last kill should hit a save"
    last = job("cut", processes, workers, accumulation)
    assert run(last) == [0] * processes, last.said()
    assert "going on from update" in last.said()
    assert outcome(last.out) == whole(processes, accumulation)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_order_and_masks_do_not_depend_on_the_number_of_processes(packed, masker, processes):
    """Whoever reads a sample masks it alike."""
    config = PretrainingConfig(seq_length=32, batch_size=8, micro_batch_size=2)

    def update(count: int, step: int) -> list:
        keys = [
            key
            for rank in range(count)
            for batch in MicroBatches(packed, config, step, step + 1, rank, count)
            for key in batch
        ]
        rows = [MaskedRows(packed.train, masker).__getitems__([key])[0] for key in keys]
        return sorted((key, *(row[name].tolist() for name in row)) for key, row in zip(keys, rows, strict=True))

    assert all(update(processes, step) == update(1, step) for step in (0, 1, 95))


def test_a_run_goes_on_with_more_or_fewer_processes(job, whole):
    """2, then 4, then 1: each update reads the same samples and the record says who made it. Dropout differs."""
    steps = [job("elastic", processes, 0, 1, Fault(UPDATE, 4)) for processes in (2, 4)] + [job("elastic")]
    (root,) = {step.out.parent for step in steps}
    steps = [replace(step, out=root / "elastic", flags=steps[0].flags) for step in steps]
    assert [run(step, 120).count(0) for step in steps] == [0, 0, 1], steps[0].said()
    record = json.loads((root / "elastic" / "model" / "record.json").read_text())
    assert [(world["step"], world["processes"]) for world in record["worlds"]] == [(0, 2), (2, 4), (4, 1)]
    assert [sum(world["hosts"].values()) for world in record["worlds"]] == [2, 4, 1]
    curve = outcome(root / "elastic")["curve"]
    assert curve["tokens"] == whole(1, 1)["curve"]["tokens"]
    assert np.abs(np.array(curve["loss"]) / whole(1, 1)["curve"]["loss"] - 1).max() < 0.1  # the same batches in order


def test_a_checkpoint_of_before_is_still_read(packed, masker, accelerator, tokenizer, tmp_path):
    """When curves were lists of rows, and the number of processes was part of what a run is."""
    teacher = make_teacher(len(tokenizer))
    config = PretrainingConfig(seq_length=32, batch_size=8, micro_batch_size=8, tokens=1000, checkpoint_every=1)
    arguments = (packed, masker, accelerator, config)
    whole = pretrain(build_student(teacher), *arguments, teacher=teacher, out=tmp_path / "new", quiet=True)
    saved = checkpoints.read_checkpoint(
        tmp_path / "new" / "checkpoints" / "step-00000003", identity := _identity(tmp_path / "new")
    )
    state = {key: value for key, value in saved.state.items() if key not in ("worlds", "arithmetic")}
    state["curve"] = [list(row) for row in zip(*state["curve"].values(), strict=True)]
    checkpoints.save(tmp_path / "old" / "checkpoints", saved._replace(state=state), identity | {"processes": 8})
    record = pretrain(build_student(teacher), *arguments, teacher=teacher, out=tmp_path / "old", quiet=True)
    assert record["curve"]["loss"] == whole["curve"]["loss"] and record["scores"] == whole["scores"]
    assert [(world["step"], world["processes"]) for world in record["worlds"]] == [(0, 8), (3, 1)]


def _identity(out: Path) -> dict:
    return checkpoints.identity(out / "checkpoints")


# signals


@pytest.mark.parametrize("action, status", [("int", 130), ("term", 143)])
def test_a_signal_ends_the_update_saves_and_leaves_with_its_status(job, whole, action, status):
    """In update 5, which is no checkpoint of its own; the run that goes on is the one that was not stopped."""
    stopped = job(action, 1, 0, 1, Fault(FORWARD, ESTIMATE + 5, action))
    assert run(stopped) == [status], stopped.said()
    assert (stopped.out / "checkpoints" / "latest").read_text() == "step-00000005"
    said = stopped.said()
    assert "stopping after this update, which is saved; once more to stop at once" in said
    assert "distilnb: stopped after update 5 of 8; its state is saved" in said
    again = job(action, 1, 0, 1)
    assert run(again) == [0]
    assert outcome(again.out) == whole(1, 1)


@pytest.mark.parametrize("action, status", [("int to the group", 130), ("term to the group", 143)])
def test_a_signal_to_all_leaves_the_loader_workers_alone(job, action, status):
    """A terminal sends Ctrl-C to the workers too, whose batches are needed to end the update."""
    stopped = job(action.replace(" ", "-"), 1, 2, 2, Fault(FORWARD, ESTIMATE + 9, action))
    assert run(stopped) == [status], stopped.said()
    assert (stopped.out / "checkpoints" / "latest").read_text() == "step-00000005"
    assert "Traceback" not in stopped.said()


@pytest.mark.parametrize("action, status", [("int", 130), ("term", -15)])
def test_a_second_signal_stops_at_once(job, action, status):
    """In the same update: nothing is saved any more. SIGTERM then kills even what hangs."""
    stopped = job(f"twice-{action}", 1, 0, 1, Fault(UPDATE, 5, action), Fault(FORWARD, ESTIMATE + 5, action))
    assert run(stopped) == [status], stopped.said()
    assert (stopped.out / "checkpoints" / "latest").read_text() == "step-00000004"


def test_a_signal_to_one_process_stops_all(job, whole):
    stopped = job("one", 2, 0, 1, Fault(UPDATE, 5, "term", rank=1))
    assert run(stopped) == [143, 143], stopped.said()
    assert (stopped.out / "checkpoints" / "latest").read_text() == "step-00000005"
    again = job("one", 2, 0, 1)
    assert run(again) == [0, 0]
    assert outcome(again.out) == whole(2, 1)


# processes that fail


def test_a_process_that_does_not_answer_is_waited_for_a_bounded_time(job):
    """Frozen, it is not dead: its connections stay open, and only a time limit ends the wait."""
    frozen = job("frozen", 2, 0, 1, Fault(UPDATE, 5, "freeze", rank=1), **{"machine.processes.PATIENCE": 8.0})
    processes = start(frozen)
    processes[0].join(60)
    assert processes[0].exitcode == 1
    assert "another one has died or not answered for 8 s" in frozen.said()
    assert end(processes, 0) == [1, None]
    assert (frozen.out / "checkpoints" / "latest").read_text() == "step-00000004"


def test_what_fails_on_the_main_process_ends_all_of_them(job):
    """Another run's folder, say: no process is left waiting."""
    first = job("taken", 2, 0, 1)
    other = Job(first.out, (*first.flags, "--seed", "1"), 2)
    assert run(first) == [0, 0]
    assert run(other) == [2, 2]
    for rank in (0, 1):
        assert "holds another run" in other.said(rank).splitlines()[-1]


@pytest.mark.parametrize(
    "changed, message",
    [({"vocabulary": "other"}, "word pieces"), ({"data": "other"}, "--text"), ({"temperature": 3.0}, "--temperature")],
)
def test_the_difference_to_another_run_is_spelled_out(
    packed, tokenizer, accelerator, tmp_path, changed, message, monkeypatch
):
    teacher, masker = make_teacher(len(tokenizer)), Masker.of(tokenizer, packed.token_counts)
    config = PretrainingConfig(seq_length=32, batch_size=8, micro_batch_size=8, tokens=200)
    arguments = (packed, masker, accelerator, config)
    pretrain(build_student(teacher), *arguments, teacher=teacher, out=tmp_path, quiet=True)
    identity = Run.identity.fget
    monkeypatch.setattr(Run, "identity", property(lambda run: identity(run) | changed))
    with pytest.raises(ValueError, match=message):
        pretrain(build_student(teacher), *arguments, teacher=teacher, out=tmp_path, quiet=True)
