"""Several processes that run as one: they agree, they fail together, and none waits for ever for one that is gone."""

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import distributed

from . import files

PATIENCE = 600.0  # seconds that processes wait for one that does not answer; a dead one is noticed at once
PREPARING = 12 * 3600.0  # seconds, while one prepares the text for all


def agree(accelerator: Accelerator, *wishes: bool) -> list[bool]:
    """For each wish whether any process has it: clocks and faults differ, and what one does all must do."""
    wanted = torch.tensor(wishes, dtype=torch.float32, device=accelerator.device)
    return accelerator.reduce(wanted, "sum").bool().tolist()


def on_main(accelerator: Accelerator, act: Callable[[], object]) -> None:
    """Let the main process act while the others wait; when it fails there (OSError, ValueError), all raise."""
    failure = None
    if accelerator.is_main_process:
        try:
            act()
        except (OSError, ValueError) as error:
            failure = error
    if any(agree(accelerator, failure is not None)):
        raise failure or OSError("the main process could not go on, for the reason that it gives")


@contextmanager
def alone_in(folder: Path | None, accelerator: Accelerator) -> Iterator[None]:
    """Hold the lock of `folder` for all processes of this run, and keep those of another one out."""
    with ExitStack() as held:
        if folder:
            on_main(accelerator, lambda: held.enter_context(files.hold(folder)))
        yield


class ProcessLost(RuntimeError):
    """Another process of a run has died or does not answer."""


@contextmanager
def explained() -> Iterator[None]:
    """Say in a sentence what a broken connection between processes means."""
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, distributed.DistError) or "gloo" in str(error).lower()
        if isinstance(error, ProcessLost) or not broken:
            raise
        raise ProcessLost(_lost(str(error).strip().splitlines()[0].rpartition("] ")[2][:100])) from error


def _lost(reason: str) -> str:
    return (
        f"process {os.environ.get('RANK', 0)} of {os.environ.get('WORLD_SIZE', 1)} stops, because another one has "
        f"died or not answered for {PATIENCE:.0f} s ({reason}); start all of them again, and the run goes on from "
        "its last checkpoint"
    )


@contextmanager
def meeting() -> Iterator[None]:
    """For the time inside, in which processes find each other: one that waits longer than `PATIENCE` ends itself.

    torch itself waits as long, then a random part of a minute more, and then tries once again.
    """

    def leave_alone() -> None:
        print(f"distilnb: {_lost('they did not meet')}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(PATIENCE + 5, leave_alone)
    timer.daemon = True
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def together() -> Iterator[None]:
    """For the time inside, processes wait `PATIENCE` for each other instead of `PREPARING`."""
    with explained():
        wait_at_most(PATIENCE)
        yield
        wait_at_most(PREPARING)


def wait_at_most(seconds: float) -> None:
    """How long the processes of this run, if it has several, wait for each other from now on."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds))


def finish(accelerator: Accelerator) -> None:
    """Leave a run of several processes cleanly: gloo can hang when collectives are still referenced."""
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    gc.collect()
    accelerator.end_training()


def leave(status: int) -> int:
    """`status`, to be exited with. One of several processes exits here: its group, left in the middle, could hang."""
    if distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
