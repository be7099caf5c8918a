"""Runs that are not repeated: of the cells of a grid or an ablation, only those without a record are run.

Several processes may be given the same cells. Each takes those that no other has, and waits for the rest at the end.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from accelerate import Accelerator

from ..machine import device, files
from ..machine.progress import Progress
from .records import load_record


class Cell(Protocol):
    """One run of many, known by its name; `needs` names cells before it of whose records or weights it makes use."""

    name: str
    needs: Sequence[str]

    def differences(self, record: dict[str, Any]) -> list[str]:
        """The differences, in words, between `record` and the record of this run; [] when it is that record."""

    def run(self) -> dict[str, Any]:
        """Make the run, save its record and return it; FloatingPointError when the run diverges."""


class Outcome(NamedTuple):
    """The record of each cell (None where it diverged), and the reason of each divergence, by the cell's name."""

    records: list[dict[str, Any] | None]
    diverged: dict[str, str]


class OtherSettings(ValueError):
    """A record of the same name belongs to another run and must not be replaced."""


def recorded(cell: Cell, folder: Path, keep_others: bool = False) -> tuple[dict[str, Any] | None, str]:
    """The record of exactly this run in `folder`, or None and the reason why the file there is not that record.

    With `keep_others`, a record of other settings raises OtherSettings; an unreadable record never does.
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
    wait: bool = True,
) -> Outcome:
    """The record of every cell, after running those without one in `folder`; `announce` words what is about to run.

    A cell whose record has other settings is run again, and a printed line says why; with `keep_others` it raises
    OtherSettings before anything runs. One that diverges is named, and the others are still run. Without `wait`, what
    other processes are making has no record here.
    """
    quiet, together = quiet or not accelerator.is_main_process, accelerator.num_processes > 1
    if announce or keep_others:
        left = [cell for cell in cells if recorded(cell, folder, keep_others)[0] is None]
        if left and announce and (told := announce(left)) and not quiet:  # all processes measure together
            print(told, flush=True)
    known = {cell.name for cell in cells if (folder / f"{cell.name}.json").is_file()}
    records, diverged = {}, {}  # by name

    def take(cell: Cell, progress: Progress, patient: bool = False) -> bool:
        """Whether the cell's record is known now; False while another process makes it, or one that it needs."""
        if any(name not in records for name in cell.needs):
            return False
        with nullcontext(True) if together else files.claim(folder, cell.name, patient) as mine:
            if mine:
                record, why = recorded(cell, folder, keep_others)
                if record is None:
                    known.discard(cell.name)
                    record = _run(cell, why, diverged, accelerator, quiet)
                records[cell.name] = record
                _count(progress, cell.name, record, cell.name in known)
        return mine

    with _short_collections(), Progress(len(cells), what, lines=len(cells) or 1, quiet=quiet) as progress:
        while left := [cell for cell in cells if cell.name not in records]:
            if not any(take(cell, progress) for cell in left):
                if not wait:
                    break
                if not quiet:
                    print(f"{what}: waiting for {left[0].name}, which another process is making", flush=True)
                take(left[0], progress, patient=True)
    if known and not quiet:
        print(f"{what}: {len(known)} of {len(cells)} runs are recorded in {folder} already", flush=True)
    return Outcome([records.get(cell.name) for cell in cells], diverged)


@contextmanager
def _short_collections() -> Iterator[None]:
    """Leave what is there already out of garbage collections: each run ends with one, and to search all of torch and
    transformers for it takes a good part of a small run."""
    outermost = not gc.get_freeze_count()  # because an ablation holds grids
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if outermost:
            gc.unfreeze()


def _run(
    cell: Cell, why: str, diverged: dict[str, str], accelerator: Accelerator, quiet: bool
) -> dict[str, Any] | None:
    if why and not quiet:
        print(f"{cell.name} is run again: {why}", flush=True)
    record = None
    try:
        record = cell.run()
    except FloatingPointError as error:
        diverged[cell.name] = str(error)
        if not quiet:
            print(f"{cell.name}: {error}", flush=True)
    accelerator.free_memory()
    device.release_memory()
    accelerator.wait_for_everyone()
    return record


def _count(progress: Progress, name: str, record: dict[str, Any] | None, before: bool) -> None:
    """Count a run whose record was there before, or which this process or another has just made."""
    if before:
        return progress.skip()
    scores = record["scores"] if record else {}
    score = scores.get("main", scores.get("macro"))
    progress.step(run=name, score=f"{score:.3f}" if record else "diverged")
