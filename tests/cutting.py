"""Real runs in real processes that are killed, stopped and starved: what the tests of resume and faults and the soak
share.

Importing torch and transformers takes seconds, so a fork server does it once, and each run is a fork of it that calls
the command line: a process of its own, which SIGKILL ends as it would any other.
"""

import gc
import hashlib
import json
import multiprocessing
import os
import pkgutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import free_port

PRELOAD = [
    "distilnb.cli.training",
    "distilnb.cli.tasks",
    "distilnb.cli.studies",
    "distilnb.cli.showing",
    "distilnb.machine.hosts",
    "accelerate.commands.launch",
    "torch.distributed.launcher.api",
    "transformers.models.distilbert.modeling_distilbert",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
]
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}  # read when torch is imported
SYNC = "distilnb.distillation.checkpoints.sync"  # a file of a checkpoint, or a folder, is forced to the disk
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOAD)


@dataclass(frozen=True)
class Fault:
    """What happens instead of call number `call` of the function at `path`, in process `rank`."""

    path: str
    call: int
    action: str = "kill"
    rank: int = 0


@dataclass(frozen=True)
class Job:
    """One `distilnb distil`, or another command: where it writes,
    its flags, how many processes it has, what goes wrong in them."""

    out: Path
    flags: tuple[str, ...]
    processes: int = 1
    faults: tuple[Fault, ...] = ()
    patches: dict[str, Any] = field(default_factory=dict)
    command: str = "distil"

    def said(self, rank: int = 0) -> str:
        """What a process of it has printed, in all sittings."""
        return Path(f"{self.out}.{rank}.log").read_text()


def flags(teacher: Path, text: Path, updates: int = 8, **settings: Any) -> tuple[str, ...]:
    """Flags of a run of `updates` updates of 8 sequences of 32 tokens, with a checkpoint after every second one."""
    given = {
        "teacher": teacher,
        "text": text,
        "tokens": updates * 8 * 32,
        "seq_length": 32,
        "batch_size": 8,
        "micro_batch_size": 8,
        "learning_rate": 2e-3,
        "evaluate_every": 3,
        "checkpoint_every": 2,
        "init": "random",
        "precision": "no",
    } | settings
    return ("--cpu", *(text for key, value in given.items() for text in (f"--{key}", str(value))))


def start(job: Job) -> list[multiprocessing.Process]:
    """Start the processes of a run."""
    return start_together(job.processes, live, job)


def start_together(count: int, function: Callable, *arguments: Any) -> list[multiprocessing.Process]:
    """Start processes that call a function with these arguments, their rank and, to meet at, a port."""
    port = free_port() if count > 1 else 0
    made = [CONTEXT.Process(target=function, args=(*arguments, rank, port)) for rank in range(count)]
    for process in made:
        process.start()
    return made


def end(processes: list[multiprocessing.Process], seconds: float = 60) -> list[int | None]:
    """Wait for them; their exit statuses (-9 for a killed one), None for one that had to be killed after `seconds`."""
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0, until - time.monotonic()))
    statuses = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return statuses


def run(job: Job, seconds: float = 60) -> list[int | None]:
    """Start a run and wait for it."""
    return end(start(job), seconds)


def outcome(out: Path) -> dict[str, Any]:
    """What must be equal to the bit: weights, optimizer, curve and evaluations of the newest checkpoint."""
    newest = out / "checkpoints" / (out / "checkpoints" / "latest").read_text()
    state = json.loads((newest / "state.json").read_text())
    files = {
        name: hashlib.sha256((newest / f"{name}.safetensors").read_bytes()).hexdigest()
        for name in ("model", "optimizer")
    }
    curve = {name: column for name, column in state["curve"].items() if name != "tokens_per_second"}
    return {"checkpoint": newest.name, "curve": curve, "evaluations": state["evaluations"], **files}


def live(job: Job, rank: int, port: int) -> None:
    """The whole life of one process."""
    job.out.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(f"{job.out}.{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    gc.freeze()  # what all runs share is no garbage: collecting it would copy every page
    os.setpgrp()  # so that a signal can be sent to it with its loader workers, as a terminal does
    multiprocessing.set_start_method("fork", force=True)  # of those workers: as in a process that was not forked
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if job.processes > 1:
        meet(rank, job.processes, port)
    import torch

    from distilnb.cli import main

    torch.set_num_threads(1)
    for path, value in job.patches.items():
        owner, name = path.rsplit(".", 1)
        setattr(pkgutil.resolve_name(owner), name, value)
    for fault in job.faults:
        if fault.rank == rank:
            _inject(fault)
    name = ("--name", job.out.name) if job.command == "distil" else ()
    sys.exit(main.main([job.command, *job.flags, "--out", str(job.out), *name]))


def meet(rank: int, processes: int, port: int) -> None:
    """Tell this process of the others, as a launcher does."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in place.items()}


def hang(*_: Any, **__: Any) -> None:
    """A call that does not return."""
    time.sleep(600)


def _inject(fault: Fault) -> None:
    owner, name = fault.path.rsplit(".", 1)
    owner = pkgutil.resolve_name(owner)
    real, calls = getattr(owner, name), []

    def faulty(*arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == fault.call:
            return ACTIONS[fault.action](real, arguments, keywords)
        return real(*arguments, **keywords)

    setattr(owner, name, faulty)


def _signal(number: int, group: bool = False) -> Callable:
    def send(real: Callable, arguments: tuple, keywords: dict) -> Any:
        if group:
            os.killpg(0, number)
        else:
            os.kill(os.getpid(), number)
        return real(*arguments, **keywords)

    return send


def _nan_gradient(real: Callable, arguments: tuple, keywords: dict) -> Any:
    """Of `Distillation.forward`: the loss is what it was, its gradient is not."""
    loss, terms = real(*arguments, **keywords)
    loss.register_hook(lambda gradient: gradient * float("nan"))
    return loss, terms


def _nan_loss(real: Callable, arguments: tuple, keywords: dict) -> Any:
    loss, terms = real(*arguments, **keywords)
    return loss * float("nan"), terms * float("nan")


def _no_memory(real: Callable, arguments: tuple, keywords: dict) -> Any:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def _other_libraries(real: Callable, arguments: tuple, keywords: dict) -> dict[str, str]:
    """Of `versions`: what it says of a machine with an old transformers."""
    return real(*arguments, **keywords) | {"transformers": "0.0.1"}


ACTIONS = {
    "other libraries": _other_libraries,
    "kill": _signal(signal.SIGKILL),
    "freeze": _signal(signal.SIGSTOP),
    "term": _signal(signal.SIGTERM),
    "int": _signal(signal.SIGINT),
    "int to the group": _signal(signal.SIGINT, group=True),
    "term to the group": _signal(signal.SIGTERM, group=True),
    "nan gradient": _nan_gradient,
    "nan loss": _nan_loss,
    "no memory": _no_memory,
}
