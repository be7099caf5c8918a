"""Several processes that run as one: they agree, they fail together, and none waits for ever for one that is gone."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import distributed

from . import lock

PATIENCE = 600.0  # seconds that processes wait for one that does not answer; a dead one is noticed at once


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
            on_main(accelerator, lambda: held.enter_context(lock.hold(folder)))
        yield


@contextmanager
def together(accelerator: Accelerator) -> Iterator[None]:
    """Let the processes of a run wait `PATIENCE` for each other inside, and say so when one of them is gone."""
    if accelerator.num_processes == 1:
        yield
        return
    distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=PATIENCE))
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error).lower():
            raise
        raise RuntimeError(
            f"process {accelerator.process_index} of {accelerator.num_processes} stops: another one has died or has "
            f"not answered for {PATIENCE:.0f} s ({str(error).strip().splitlines()[0][:200]}); when all have ended, the "
            "same command goes on from the last checkpoint"
        ) from error


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
