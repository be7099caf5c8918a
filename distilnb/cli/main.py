"""DistilBERT, rebuilt step by step: each command is the few lines that a notebook writes out. Start with `run`.

distilnb run                       every notebook, offline, at toy scale
distilnb distil --scale toy        a teacher into a student by the triple loss
distilnb teacher --scale toy       pre-train a teacher from nothing
distilnb finetune --task sst2 ...  models on tasks, several seeds
distilnb glue --scale toy          Table 1: the nine tasks of GLUE
distilnb ablate --scale toy        one loss off at a time, seeds in pairs (Table 4)
distilnb ceilings                  what the data itself allows: scores beside which others are read
distilnb benchmark                 size and speed of teacher and student, in several formats
distilnb export --model FOLDER     a model as ONNX, in float32 and int8
distilnb publish --dry-run         a model with its card, ready for the Hub
distilnb launch ... -- distil ...  a command in several processes, on one machine or more
distilnb book                      notebooks and documents as pages to read without running
distilnb figures                   redraw the figures from the records
distilnb report                    the scorecard: paper, measured, verdict
"""

import sys
import traceback
import warnings
from argparse import ArgumentParser, RawDescriptionHelpFormatter

import datasets
from transformers.utils import logging as transformers_logging

from .. import __version__
from ..machine import hosts, processes
from .showing import draw, links, make_book, run, scores, share
from .studies import ablate, export_model, make_evidence, time_models
from .tasks import ceilings, finetune, glue
from .training import distil, teacher


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status.

    0 when it worked, 2 for input that cannot be used, 1 for a run that failed, 130 for Ctrl-C and 143 for SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = ArgumentParser(
        prog="distilnb",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog="distilnb COMMAND --help explains a command; --traceback shows where an error arose.\n\n"
        "exit status: 0 done, 1 failed, 2 input that cannot be used, 130 stopped by Ctrl-C, 143 by SIGTERM.\n"
        "Training that is stopped ends its update and saves first; a second signal stops it at once.",
    )
    parser.add_argument("--version", action="version", version=f"distilnb {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    flags = [a for a in argv if a != "--traceback"]
    if not flags:
        parser.print_help()
        return 2
    command = parser.parse_args(flags[:1]).command
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.formatwarning = lambda message, *_, **__: f"distilnb: {message}\n"
    try:
        with processes.explained():
            COMMANDS[command](flags[1:])
        return 0
    except KeyboardInterrupt as stop:
        print(f"\ndistilnb: {stop or 'stopped'}; the same command goes on from the last checkpoint", file=sys.stderr)
        return processes.leave(getattr(stop, "status", 130))
    except ModuleNotFoundError as error:
        print(f'distilnb: {error.name} is not installed: pip install "distilnb[notebooks]"', file=sys.stderr)
        return 2
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
        if "--traceback" in argv:
            traceback.print_exc()
        print(f"distilnb: {error}", file=sys.stderr)
        return processes.leave(2 if isinstance(error, ValueError) else 1)


COMMANDS = {
    "run": run,
    "distil": distil,
    "teacher": teacher,
    "finetune": finetune,
    "glue": glue,
    "ablate": ablate,
    "ceilings": ceilings,
    "benchmark": time_models,
    "evidence": make_evidence,
    "export": export_model,
    "publish": share,
    "figures": draw,
    "report": scores,
    "book": make_book,
    "launch": hosts.main,
    "links": links,
}
