"""`distilnb COMMAND`: the list of commands and the treatment of their errors; each imports only what it needs."""

import difflib
import gc
import importlib
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .. import __version__
from ..machine.signals import heard

# name: place of its function, words of the command, purpose
COMMANDS = {
    "run": ("cli.showing.run", "run", "every notebook, offline, at toy scale"),
    "distil": ("cli.training.distil", "distil --scale toy", "a teacher into a student by the triple loss"),
    "teacher": ("cli.training.teacher", "teacher --scale toy", "pre-train a teacher, or give an encoder a head"),
    "finetune": ("cli.tasks.finetune", "finetune --task sst2 ...", "models on tasks, several seeds"),
    "glue": ("cli.tasks.glue", "glue --scale toy", "Table 1: the nine tasks of GLUE"),
    "ablate": ("cli.studies.ablate", "ablate --scale toy", "one loss off at a time, seeds in pairs (Table 4)"),
    "ceilings": ("cli.tasks.ceilings", "ceilings", "what the data itself allows, beside which scores are read"),
    "benchmark": ("cli.studies.time_models", "benchmark", "size and speed of teacher and student, in several formats"),
    "evidence": (
        "cli.studies.make_evidence",
        "evidence --scale mini",
        "every record of a scale; goes on where it stopped",
    ),
    "export": ("cli.studies.export_model", "export --model FOLDER", "a model as ONNX, in float32 and int8"),
    "demo": ("cli.studies.make_demo", "demo", "a page on which any phone races student and teacher"),
    "publish": ("cli.showing.share", "publish --dry-run", "a model with its card, ready for the Hub"),
    "figures": ("cli.showing.draw", "figures", "redraw the figures from the records"),
    "report": ("cli.showing.scores", "report", "the scorecard: paper, measured, verdict"),
    "launch": (
        "machine.hosts.main",
        "launch ... -- distil ...",
        "a command in several processes, on one or more hosts",
    ),
    "notebooks": ("cli.showing.unpack", "notebooks --to FOLDER", "the notebooks, unpacked to work in"),
    "links": ("cli.showing.links", "links --repo owner/name", "badges, set-up cells and tables written anew"),
}
HELP = """distilnb COMMAND [OPTIONS]

DistilBERT, rebuilt step by step: each command is the few lines that a notebook writes out. Start with `run`.

{commands}

distilnb COMMAND --help explains a command; --traceback shows where an error arose; --version tells the version.
--convert lets weights that are there as pytorch_model.bin alone be converted to safetensors.

exit status: 0 done, 1 failed, 2 input that cannot be used, 130 stopped by Ctrl-C, 143 by SIGTERM.
Training that is stopped ends its update and saves first; a second signal stops it at once."""


def main(argv: list[str] | None = None) -> int:
    """Run one command, and return its exit status, as `HELP` lists them."""
    words = list(sys.argv[1:] if argv is None else argv)
    flags = [word for word in words if word not in ("--traceback", "--convert")]
    if not flags or flags[0] in ("-h", "--help"):
        lines = (f"  distilnb {typed:<26}{what}" for _, typed, what in COMMANDS.values())
        print(HELP.format(commands="\n".join(lines)))
        return 0 if flags else 2
    if flags[0] == "--version":
        print(f"distilnb {__version__}")
        return 0
    if flags[0] not in COMMANDS:
        close = difflib.get_close_matches(flags[0], COMMANDS, 1)
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(COMMANDS)}"
        print(f"distilnb: there is no command '{flags[0]}'; {hint}", file=sys.stderr)
        return 2
    with heard():
        return _call(flags[0], flags[1:], "--traceback" in words, "--convert" in words)


def command_function(name: str) -> Callable[..., None]:
    """The function of a command, whose parameters are the dataclasses that its flags fill."""
    module, _, function = COMMANDS[name][0].rpartition(".")
    return getattr(importlib.import_module(f"distilnb.{module}"), function)


@contextmanager
def uncollected() -> Iterator[None]:
    """Leave what is made in the `with` block out of garbage collections, in the block and after it.

    The libraries' many objects stay until the end of a command. To search them again and again while they are
    imported, and later wherever a library collects, is a good part of the time of a short command.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _call(name: str, flags: list[str], show_traceback: bool, convert: bool) -> int:
    try:
        with uncollected():
            from ..machine import hub, processes, sharing  # takes seconds, in which a signal may come
            from . import parsing
        if sharing.is_helper():
            sharing.follow()
    except KeyboardInterrupt as stop:
        return _stopped(name, stop)
    try:
        with processes.explained():
            _quieten()
            hub.converting, sharing.command = convert, [name, *flags, *["--convert"] * convert]
            with uncollected():
                function = command_function(name)
            parsing.run_command(function, flags, name)
        return 0
    except KeyboardInterrupt as stop:
        return processes.leave(_stopped(name, stop))
    except ModuleNotFoundError as error:
        print(f'distilnb: {error.name} is not installed: pip install "distilnb[notebooks]"', file=sys.stderr)
        return 2
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
        if show_traceback:
            traceback.print_exc()
        print(f"distilnb: {error}", file=sys.stderr)
        return processes.leave(2 if isinstance(error, ValueError) else 1)


def _stopped(name: str, stop: KeyboardInterrupt) -> int:
    """Say that a signal has ended a command and what is kept, and return the exit status."""
    print(f"\ndistilnb: {str(stop) or 'stopped'}; {what_is_kept(name, stop)}", file=sys.stderr, flush=True)
    return getattr(stop, "status", 130)


def _quieten() -> None:
    """Silence the libraries' progress bars, and print warnings in one line."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.formatwarning = lambda message, *_, **__: f"distilnb: {message}\n"


TRAINING = "what came after the last checkpoint is lost; the same command goes on from there"
GRID = "runs that have ended are recorded, of the one under way its last checkpoint is kept; the same command goes on"
LEFT_BY = {  # command → what it leaves after Ctrl-C
    **dict.fromkeys(("distil", "teacher", "launch"), TRAINING),
    **dict.fromkeys(("finetune", "glue", "ablate", "evidence"), GRID),
    "run": "notebooks that have ended are kept, the one under way is lost",
    "benchmark": "no record was made and nothing of it is kept",
    "publish": "an upload that was not announced as done did not take place; the folder is written anew each time",
}


def what_is_kept(command: str, stop: KeyboardInterrupt) -> str:
    """The sentence about what is kept and what is lost after a signal has ended a command."""
    if getattr(stop, "saved", False):
        return "its state is saved, nothing is lost; the same command goes on from there"
    if "kept" in str(stop):
        return "the same command goes on from there"
    return LEFT_BY.get(command, "files that were announced are whole; the same command writes all of them again")
