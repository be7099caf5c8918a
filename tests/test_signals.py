"""Ctrl-C and SIGTERM in every command that takes long: a sentence about what is kept, and the exit status."""

import os
import pkgutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from cutting import CONTEXT, end

from distilnb.machine import signals

BEGUN, SAVED = "last checkpoint", "nothing is lost"
GRID, ANNOUNCED = "runs that have ended are recorded", "files that were announced are whole"
ENDS = (signal.SIGINT, 130), (signal.SIGTERM, 143)
COMMANDS = {  # command: the function in which the signal comes, and what is said to be kept
    "distil": ("distilnb.text.portions.read_pieces", "of which nothing is kept; the same command"),
    "teacher": ("distilnb.cli.training.new_teacher", BEGUN),
    "finetune": ("distilnb.machine.progress.Progress.step", SAVED),
    "glue": ("distilnb.tasks.glue.load_data", GRID),
    "ablate": ("distilnb.cli.studies.ablation.run_grid", GRID),
    "evidence": ("distilnb.cli.studies.run_steps", GRID),
    "benchmark": ("distilnb.cli.studies.load_texts", "nothing of it is kept"),
    "export": ("distilnb.studies.formats.to_onnx", ANNOUNCED),
    "demo": ("distilnb.cli.studies.build", ANNOUNCED),
    "publish": ("distilnb.report.model_card.prepare", "an upload"),
    "run": ("distilnb.lessons.notebooks.execute", "notebooks that have ended"),
    "report": ("distilnb.cli.showing.scorecard", ANNOUNCED),
}


def live(words: list[str], place: str, number: int, log: Path) -> None:
    """The whole life of a process that runs a command and receives a signal in the function at `place`."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1), os.dup2(file, 2)
    os.environ |= {"DISTILNB_HOME": str(log.parent / "home"), "DISTILNB_CACHE": str(log.parent / "cache")}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    owner, name = place.rsplit(".", 1)
    owner = pkgutil.resolve_name(owner)
    real = getattr(owner, name)

    def struck(*arguments: Any, **keywords: Any) -> Any:
        os.kill(os.getpid(), number)
        return real(*arguments, **keywords)

    setattr(owner, name, struck)
    from distilnb.cli import main

    sys.exit(main.main(words))


@pytest.mark.parametrize("command, number, status", [(name, *ENDS[i % 2]) for i, name in enumerate(COMMANDS)])
def test_what_is_kept_is_said_and_the_status_is_the_signals(
    command, number, status, teacher_folder, text_file, tmp_path
):
    """One signal a command, in turns: the way of both is the same from there."""
    place, kept = COMMANDS[command]
    text = ["--text", str(text_file), "--cpu"]
    short = [*text, "--tokens", "2000", "--seq_length", "32"]
    words = {
        "distil": ["--teacher", str(teacher_folder), *short],
        "teacher": text,
        "finetune": ["--task", "sst2", "--model", f"m={teacher_folder}", "--train_rows", "64", "--max_length", "32"],
        "glue": ["--model", f"m={teacher_folder}"],
        "ablate": ["--teacher", str(teacher_folder), *text, "--task", "rte", "--rows", "20", "--validation_rows", "9"],
        "benchmark": ["--scored_rows", "0"],
        "export": ["--model", str(teacher_folder)],
        "publish": ["--dry-run"],
    }.get(command, [])
    process = CONTEXT.Process(target=live, args=([command, *words], place, number, tmp_path / "log"))
    process.start()
    assert end([process], 300) == [status], (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert kept in said.splitlines()[-1] and "Traceback" not in said, said


def test_a_forked_child_does_not_hear_sigterm_as_its_parent_does():
    """Pools end their workers by it, and those should not speak."""
    with signals.heard():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        if not (child := os.fork()):
            os._exit(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
