"""A run that is recorded is not made again: of the cells of a grid or an ablation, only those missing are run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from accelerate import Accelerator

from ..machine.progress import Progress
from .records import load_record


class Cell(Protocol):
    """One run of many, known by its name."""

    name: str

    def differences(self, record: dict[str, Any]) -> list[str]:
        """In what, in words, `record` is not the record of this run; empty when it is."""

    def run(self) -> dict[str, Any]:
        """Make the run and save its record; FloatingPointError when it diverges."""


class Outcome(NamedTuple):
    """The record of every cell (None where it diverged), and why a cell diverged, by its name."""

    records: list[dict[str, Any] | None]
    diverged: dict[str, str]


class OtherSettings(ValueError):
    """A record of the same name is of another run, and is not to be replaced."""


def recorded(cell: Cell, folder: Path, keep_others: bool = False) -> tuple[dict[str, Any] | None, str]:
    """The record of this very run in `folder`, or None and the reason why what lies there is not it.

    With `keep_others` a record of other settings raises OtherSettings; one that cannot be read never does.
    """
    path = folder / f"{cell.name}.json"
    if not path.is_file():
        return None, ""
    try:
        record = load_record(path)
    except ValueError as error:
        return None, str(error)
    why = "; ".join(cell.differences(record))
    if why and keep_others:
        raise OtherSettings(
            f"record {path} is of other settings ({why}); choose another --name, or give the same settings"
        )
    return (None if why else record), why


def run_missing(
    cells: Sequence[Cell],
    folder: Path,
    what: str,
    accelerator: Accelerator,
    *,
    keep_others: bool = False,
    announce: Callable[[Sequence[Cell]], str] | None = None,
    quiet: bool = False,
) -> Outcome:
    """The record of every cell, run where `folder` has none; `announce` words what is about to be run.

    A cell whose record is of other settings is run again, and a line says why; `keep_others` raises OtherSettings
    instead, before anything runs. A cell that diverges is named, and the others are run.
    """
    quiet = quiet or not accelerator.is_main_process
    if announce or keep_others:
        left = [cell for cell in cells if recorded(cell, folder, keep_others)[0] is None]
        if left and announce and not quiet:
            print(announce(left), flush=True)
    outcome, known = Outcome([], {}), 0
    with Progress(len(cells), what, lines=len(cells), quiet=quiet) as progress:
        for cell in cells:  # looked up in its turn: what it depends on may be the record of a cell before it
            record, why = recorded(cell, folder, keep_others)
            if record:
                known += 1
                progress.skip()
            else:
                if why and not quiet:
                    print(f"{cell.name} is run again: {why}", flush=True)
                record = _run(cell, outcome.diverged, quiet)
                accelerator.free_memory()
                accelerator.wait_for_everyone()
                progress.step(run=cell.name, score=f"{_score(record):.3f}" if record else "diverged")
            outcome.records.append(record)
    if known and not quiet:
        print(f"{what}: {known} of {len(cells)} runs are recorded in {folder} already", flush=True)
    return outcome


def _run(cell: Cell, diverged: dict[str, str], quiet: bool) -> dict[str, Any] | None:
    try:
        return cell.run()
    except FloatingPointError as error:
        diverged[cell.name] = str(error)
        if not quiet:
            print(f"{cell.name}: {error}", flush=True)
        return None


def _score(record: dict[str, Any]) -> float:
    return record["scores"].get("main", record["scores"].get("macro"))
