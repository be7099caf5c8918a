"""Several processes that share the runs of one command (`evidence.cells`) on a CPU: it and its helpers."""

import os
import site
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator

from .. import paths
from . import files
from .processes import die_with_the_parent

HELPED = "DISTILNB_HELPED"  # in a helper's environment, the number of the process that it helps
command: list[str] = []  # the words of the command that this process does
_helpers: list[subprocess.Popen] = []


def check(jobs: int, accelerator: Accelerator) -> None:
    """Raise ValueError where `jobs` processes cannot share the runs of a command."""
    if jobs == 1:
        return
    if jobs < 1:
        raise ValueError(f"--jobs is {jobs}; it is a number of processes, at least 1")
    if accelerator.device.type != "cpu" or accelerator.num_processes > 1:
        raise ValueError("--jobs shares out the cores of one processor; leave it out on a GPU and under `launch`")
    if jobs > (os.cpu_count() or 1):
        raise ValueError(f"--jobs is {jobs}; this machine has {os.cpu_count()} cores")


@contextmanager
def helped(jobs: int, log: Path) -> Iterator[None]:
    """For the time inside, let `jobs` processes do this command: this one and helpers, each on its part of the cores.

    Helpers write what they say to `log`. Those that are left at the end are stopped by SIGTERM, so that a training
    saves its state, and waited for.
    """
    threads = torch.get_num_threads()
    try:
        if jobs > 1 and not is_helper():
            torch.set_num_threads(max(1, threads // jobs))
            log.parent.mkdir(parents=True, exist_ok=True)
            whom = {HELPED: str(os.getpid())}
            _helpers.extend(start(command, log, torch.get_num_threads(), **whom) for _ in range(jobs - 1))
        yield
    finally:
        torch.set_num_threads(threads)
        for helper in _helpers:
            if helper.poll():
                warnings.warn(f"a helper ended with status {helper.returncode}; what it said is in {log}", stacklevel=3)
            helper.terminate()
        for helper in _helpers:
            helper.wait()
        _helpers.clear()


def start(words: Sequence[str], log: Path, threads: int = 0, **environment: str) -> subprocess.Popen:
    """The process of a command of distilnb, begun: by this process's code wherever it stands, on so many threads (0:
    all), with what it says added to `log`; in a session of its own, because we pass on a Ctrl-C."""
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    if paths.PACKAGE.parent not in map(Path, site.getsitepackages()):
        before = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{paths.PACKAGE.parent}{os.pathsep + before if before else ''}"
    with open(log, "a") as said:
        return subprocess.Popen(
            [sys.executable, "-u", "-P", "-m", "distilnb", *words],  # unbuffered, so that an error is the last line
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def in_turn(folder: Path) -> AbstractContextManager[object]:
    """A context in which only one of this process and its helpers is at a time, so that one fills a cache in `folder`
    and the others find it filled."""
    return files.claim(folder, "preparing", patient=True) if _helpers or is_helper() else nullcontext()


def is_helper() -> bool:
    """Whether this process helps another one, which alone says and writes what is made of all runs."""
    return HELPED in os.environ


def follow() -> None:
    """End this helper with the process that it helps, however that ends."""
    die_with_the_parent()
    if os.getppid() != int(os.environ[HELPED]):  # it has ended already
        os._exit(1)


def speaks(accelerator: Accelerator) -> bool:
    """Whether this is the one process, of those that train together or help, that says what comes of it."""
    return accelerator.is_main_process and not is_helper()
