"""Several processes share the runs of a grid: each run is made once, and none is lost with the process that had it."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import until

from distilnb.cli import main
from distilnb.evidence.cells import run_missing
from distilnb.evidence.records import Stopwatch, load_records, new_record, save_record
from distilnb.machine import files, sharing
from distilnb.tasks.glue import GLUE

FEW = ["--train_rows", "80", "--validation_rows", "12", "--epochs", "1", "--cpu", "--max_length", "64"]
HOLD = """
import sys
from pathlib import Path
from distilnb.machine.files import claim
with claim(Path(sys.argv[1]), sys.argv[2]) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


@contextmanager
def elsewhere(folder: Path, name: str):
    """Another process that has claimed `name`; it ends when its input does."""
    line = [sys.executable, "-c", HOLD, str(folder), name]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        yield other
        other.kill()


class Cell:
    """A run that notes its name and whom it finds at work."""

    def __init__(self, name: str, folder: Path, done: list[str], needs: tuple[str, ...] = (), then=lambda: None):
        self.name, self.folder, self.done, self.needs, self.then = name, folder, done, needs, then

    def differences(self, record: dict) -> list[str]:
        return []

    def run(self) -> dict:
        self.done.append(self.name)
        self.then()
        return self.record()

    def record(self) -> dict:
        made = new_record("finetuning", self.name, scale="toy", model="m", stopwatch=Stopwatch(), scores={"main": 1.0})
        save_record(made, self.folder)
        return made


def test_a_name_is_claimed_by_one_process_until_it_ends(tmp_path):
    with elsewhere(tmp_path / "new", "one") as other:
        with files.claim(tmp_path / "new", "one") as mine, files.claim(tmp_path / "new", "other") as free:
            assert (mine, free) == (False, True)
        other.kill()
        with files.claim(tmp_path / "new", "one", patient=True) as mine:
            assert mine
    assert not list((tmp_path / "new").iterdir()), "the last to leave takes all of it along"


def test_who_waits_for_a_name_has_it_although_the_file_of_claims_is_deleted(tmp_path):
    """The one who had it deletes the file when nobody else holds a part of it, which those who wait do not."""
    with elsewhere(tmp_path, "one") as other:
        with ThreadPoolExecutor() as pool:
            ended = pool.submit(lambda: (time.sleep(0.5), other.stdin.close(), other.wait()))
            with files.claim(tmp_path, "one", patient=True) as mine:
                assert mine and (tmp_path / ".claims").exists()
            ended.result()
    assert not list(tmp_path.iterdir())


def test_what_another_process_makes_is_left_to_it_and_waited_for(accelerator, tmp_path, capsys):
    """It ends only once all else is done, and its record counts; what needs its run is not begun before."""
    done = []
    with elsewhere(tmp_path, "busy") as other:
        busy = Cell("busy", tmp_path, done)

        def end() -> None:  # of the other process, in the last run that needs nothing
            busy.record()
            other.stdin.close()

        cells = [
            busy,
            Cell("pupil", tmp_path, done, needs=("busy",)),
            Cell("one", tmp_path, done),
            Cell("last", tmp_path, done, then=end),
        ]
        outcome = run_missing(cells, tmp_path, "runs", accelerator)
    assert done == ["one", "last", "pupil"]
    assert [record["name"] for record in outcome.records] == ["busy", "pupil", "one", "last"]
    told = capsys.readouterr().out
    assert "already" not in told and "runs 4/4" in told


def test_a_helper_leaves_when_no_run_is_free(accelerator, tmp_path):
    done = []
    with elsewhere(tmp_path, "busy"):
        cells = [Cell("busy", tmp_path, done), Cell("one", tmp_path, done)]
        outcome = run_missing(cells, tmp_path, "runs", accelerator, wait=False)
    assert done == ["one"] and [bool(record) for record in outcome.records] == [False, True]


def test_helpers_and_whom_they_help_prepare_data_in_turns(tmp_path, monkeypatch):
    """The first writes what the second then reads; a command without helpers waits for nobody."""
    done = []

    def prepare(act):
        with sharing.in_turn(tmp_path):
            return act()

    with elsewhere(tmp_path, "preparing"):
        assert prepare(lambda: "at once") == "at once"
    monkeypatch.setenv(sharing.HELPED, str(os.getppid()))
    with elsewhere(tmp_path, "preparing") as other, ThreadPoolExecutor() as pool:
        prepared = pool.submit(prepare, lambda: list(done))
        time.sleep(0.5)
        done.append("the other's")
        other.kill()
        assert prepared.result() == done


def test_a_run_is_taken_over_from_a_process_that_died(accelerator, tmp_path, capsys):
    done = []
    with elsewhere(tmp_path, "busy") as other:
        cells = [Cell("busy", tmp_path, done), Cell("one", tmp_path, done, then=other.kill)]
        run_missing(cells, tmp_path, "runs", accelerator)
    assert done == ["one", "busy"]


@pytest.fixture
def arguments(teacher_folder, tmp_path) -> list[str]:
    """A command of three runs, one of them with a second teacher, which tries two rates."""
    models = f"teacher={teacher_folder},student={teacher_folder}"
    flags = ["--task", "rte", "--model", models, "--task_teacher", "teacher", "--learning_rates", "3e-4,1e-4"]
    return ["finetune", *flags, "--out", str(tmp_path / "runs"), *FEW]


def test_a_helper_does_the_command_of_its_parent_alone_if_need_be(arguments, tmp_path, monkeypatch):
    """Here the parent only looks on; the helper's threads are its part of the cores, and it ends with its parent."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(sharing, "command", [*arguments, "--jobs", "2"])
    with sharing.helped(2, tmp_path / "helpers.log"):
        assert torch.get_num_threads() == max(1, threads // 2)
        until(lambda: len(list((tmp_path / "runs").glob("*.json"))) == 3, 120)
    assert torch.get_num_threads() == threads
    made = load_records(tmp_path / "runs")
    assert {record["device"]["threads"] for record in made} == {max(1, threads // 2)}
    assert "|" not in (tmp_path / "helpers.log").read_text(), "no table"


def test_helpers_are_stopped_with_what_they_do(arguments, tmp_path, monkeypatch):
    """A run of hours is given up within seconds, its state saved, when the parent is interrupted."""
    monkeypatch.setattr(sharing, "command", [*arguments, "--epochs", "100000"])
    unfinished = tmp_path / "runs" / "selection" / "unfinished"
    with pytest.raises(KeyboardInterrupt), sharing.helped(2, tmp_path / "helpers.log"):
        until(lambda: list((tmp_path / "runs").rglob("unfinished/*/.lock")), 120)
        time.sleep(1)
        raise KeyboardInterrupt
    assert "its state is saved" in (tmp_path / "helpers.log").read_text(), list(unfinished.rglob("*"))


def test_a_helper_that_fails_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "command", ["finetune", "--task", "nothing-of-the-kind"])
    with pytest.warns(UserWarning, match="status 2.*helpers.log"), sharing.helped(2, tmp_path / "helpers.log"):
        until((tmp_path / "helpers.log").read_text, 120)
        time.sleep(1)
    assert "nothing-of-the-kind" in (tmp_path / "helpers.log").read_text()


def test_a_helper_ends_where_nobody_is_helped(arguments, tmp_path):
    """As after a kill of its parent, which it may survive by a moment, and then do all runs unseen."""
    environment = os.environ | {sharing.HELPED: "1"}
    run = subprocess.run([sys.executable, "-m", "distilnb", *arguments], env=environment, capture_output=True)
    assert run.returncode == 1 and not list(tmp_path.rglob("*.json"))


def test_a_command_with_helpers_makes_what_it_makes_without(arguments, tmp_path, capsys):
    def table(*more: str) -> str:
        assert main.main([*arguments, *more]) == 0
        return capsys.readouterr().out.partition("\n\n")[2]

    def scores() -> dict[str, float]:
        return {record["name"]: pytest.approx(record["scores"]["main"]) for record in load_records(tmp_path / "runs")}

    shared, told = table("--jobs", "2"), scores()
    assert len(told) == 3 and table() == shared
    for record in (tmp_path / "runs").rglob("*.json"):
        record.unlink()
    assert table() == shared and scores() == told


def test_only_the_first_process_answers_glues_server_and_shows_the_table(teacher_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(sharing.HELPED, str(os.getppid()))
    monkeypatch.setattr(sharing, "die_with_the_parent", lambda: None)
    flags = ["--task", "rte", "--model", f"teacher={teacher_folder}", "--submission", str(tmp_path / "answers")]
    assert "rte" in GLUE and main.main(["glue", *flags, "--jobs", "2", "--out", str(tmp_path / "runs"), *FEW]) == 0
    assert len(load_records(tmp_path / "runs")) == 1
    assert not (tmp_path / "answers").exists() and "rte" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "jobs, kind, together, named",
    [(0, "cpu", 1, "--jobs is 0"), (2, "cuda", 1, "GPU"), (2, "cpu", 2, "launch"), (99, "cpu", 1, "cores")],
)
def test_helpers_are_refused_where_they_cannot_help(jobs, kind, together, named, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    sharing.check(1, SimpleNamespace(device=torch.device("cuda"), num_processes=2))
    with pytest.raises(ValueError, match=named):
        sharing.check(jobs, SimpleNamespace(device=torch.device(kind), num_processes=together))
