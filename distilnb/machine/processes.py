"""Several processes that run as one: they agree, they fail together, and none waits for ever for a dead one."""

import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, distributed

from . import files

# seconds that processes wait for a silent one; a dead one is noticed at once
PATIENCE = float(os.environ.get("DISTILNB_PATIENCE", 600))
PREPARING = 12 * 3600.0  # seconds that the others wait while one process prepares the text


def agree(accelerator: Accelerator, *wishes: bool) -> list[bool]:
    """For each wish, whether any process has it, because clocks and faults differ and all must do the same."""
    if accelerator.num_processes == 1:
        return list(wishes)
    return summed(accelerator, torch.tensor(wishes, dtype=torch.float32, device=accelerator.device)).bool().tolist()


def summed(accelerator: Accelerator, values: Tensor) -> Tensor:
    """The sum of the values of all processes."""
    return accelerator.reduce(values, "sum") if accelerator.num_processes > 1 else values


def gathered(accelerator: Accelerator, value: Any) -> list[Any]:
    """The values of all processes, in the order of their ranks."""
    return gather_object([value]) if accelerator.num_processes > 1 else [value]


def jointly(accelerator: Accelerator, act: Callable[[], Any], acting: bool = True) -> Any:
    """The result of `act` in this process (None where not `acting`), once all acting processes have finished.

    When `act` fails in one process (OSError, ValueError), all raise; the others name the host and the reason.
    """
    result = failure = None
    try:
        result = act() if acting else None
    except (OSError, ValueError) as error:
        failure = error
    if any(agree(accelerator, failure is not None)):
        reasons = gathered(accelerator, failure and (socket.gethostname(), str(failure), type(failure) is ValueError))
        host, reason, refused = next(reason for reason in reasons if reason)
        raise failure or (ValueError if refused else OSError)(f"{reason} (so says {host})")
    return result


def on_main(accelerator: Accelerator, act: Callable[[], object]) -> None:
    """Call `act` in the main process while the others wait; when it fails (OSError, ValueError), all raise."""
    jointly(accelerator, act, accelerator.is_main_process)


def first_on_disk(folder: Path, accelerator: Accelerator) -> bool:
    """Whether this process is the first of those that see the same `folder` (made if it is missing).

    Hosts may share a disk or have one each. The first process at each disk writes, locks and prepares what lies there.
    """
    if accelerator.num_processes == 1:
        return True
    (key,) = broadcast_object_list([uuid.uuid4().hex])
    own = folder / f".{key}-{accelerator.process_index:06d}"
    try:
        if accelerator.is_local_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            own.touch()
    except OSError:
        pass  # nobody can write here; the later attempt that matters raises
    accelerator.wait_for_everyone()
    seen = sorted(path.name for path in folder.glob(f".{key}-*"))
    accelerator.wait_for_everyone()
    own.unlink(missing_ok=True)
    return seen[0] == own.name if seen else accelerator.is_local_main_process


def check_shared_folder(folder: Path, accelerator: Accelerator) -> None:
    """Raise ValueError in all processes where they see several disks at `folder`: what one keeps there, others miss."""
    disks = summed(accelerator, torch.tensor(float(first_on_disk(folder, accelerator)), device=accelerator.device))
    if disks > 1:
        raise ValueError(f"{folder} is not the same folder on all hosts; choose one on a disk that they share")


def once_a_disk(folder: Path, accelerator: Accelerator, prepare: Callable[[], Any]) -> Any:
    """The result of `prepare`, called first by one process at each disk, which does the work, then by the others.

    The others wait up to `PREPARING` seconds, because a large text takes hours.
    """
    if accelerator.num_processes == 1:
        return prepare()
    patient = distributed.new_group(backend="gloo", timeout=timedelta(seconds=PREPARING))
    first = first_on_disk(folder, accelerator)

    def prepared() -> Any:
        try:
            return prepare() if first else None
        finally:
            distributed.barrier(group=patient)

    result = jointly(accelerator, prepared)
    return result if first else prepare()


@contextmanager
def alone_in(folder: Path | None, accelerator: Accelerator) -> Iterator[None]:
    """Lock `folder` for all processes of this run, so that processes of another run stay out."""
    with ExitStack() as held:
        if folder:
            first = first_on_disk(folder, accelerator)
            jointly(accelerator, lambda: held.enter_context(files.hold(folder)), first)
        yield


class ProcessLost(RuntimeError):
    """Another process of a run has died or does not answer."""


@contextmanager
def explained() -> Iterator[None]:
    """Turn the error of a broken connection between processes into a ProcessLost with a plain sentence."""
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, distributed.DistError) or "gloo" in str(error).lower()
        if isinstance(error, ProcessLost) or not broken:
            raise
        first = str(error).strip().splitlines()[0]
        reason = (first.partition("] ")[2] or first).partition(". ")[0]
        raise ProcessLost(_lost(reason[:100])) from error


def _lost(reason: str) -> str:
    return (
        f"process {os.environ.get('RANK', 0)} of {os.environ.get('WORLD_SIZE', 1)} stops, because another one has "
        f"died or not answered for {PATIENCE:.0f} s ({reason}); start all of them again, and the run goes on from "
        "its last checkpoint"
    )


def die_with_the_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (on Linux; elsewhere nothing is done).

    Otherwise the processes of a killed launcher would go on training and hold the folder of the run.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


_mortal: list[bool] = []  # not empty while children that are forked shall die with this process


@contextmanager
def mortal_children() -> Iterator[None]:
    """For the time inside, let the kernel kill whatever is forked when this process dies, however it does (Linux).

    Pools leave helpers behind when their owner is killed, which hold its files and pipes open for ever. What another
    thread forks is left alone: the kernel would kill it as soon as that thread ends.
    """
    _mortal.append(False)
    try:
        yield
    finally:
        _mortal.pop()


def _before_fork() -> None:
    if _mortal:
        _mortal[-1] = threading.current_thread() is threading.main_thread()


os.register_at_fork(
    before=_before_fork, after_in_child=lambda: die_with_the_parent() if _mortal and _mortal[-1] else None
)


def leftovers() -> str:
    """Why torch's launcher, which is to start lost processes again, will not bring them together; "" where it will.

    Its agents keep one store for all starts, with the addresses of those that died in it; a process that asks before
    the new ones have written theirs is refused, is started again, and so on until no start is left.
    """
    restarts, shared = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"), os.environ.get("TORCHELASTIC_USE_AGENT_STORE")
    if restarts == "0" or shared != "True":
        return ""
    return (
        "processes that torchrun starts again may ask for those that died, until no restart is left: set "
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 and --rdzv-backend c10d, as launch/torchrun.sh does, or use "
        "`distilnb launch`"
    )


@contextmanager
def meeting() -> Iterator[None]:
    """End this process when the `with` block, in which processes find each other, lasts longer than `PATIENCE`.

    The timer is needed because torch, after the same wait, adds a random part of a minute and tries once again.
    """

    def leave_alone() -> None:
        print(f"distilnb: {_lost('they did not meet')}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(PATIENCE + 5, leave_alone)
    timer.daemon = True
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_the_parent()
    if os.environ.get("RANK") == "0" and (trouble := leftovers()):
        warnings.warn(trouble, stacklevel=2)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def finish(accelerator: Accelerator) -> None:
    """End a run of several processes cleanly, because gloo can hang while collectives are still referenced."""
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    gc.collect()
    accelerator.end_training()


def leave(status: int) -> int:
    """Return `status` for `sys.exit`; in a run of several processes, exit here at once.

    The exit is immediate because tearing down a half-dead process group can hang.
    """
    if distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
