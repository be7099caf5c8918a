"""Training of any kind, with updates that survive a lack of memory, bad numbers, signals and kills.

`loop.Run` distils and `finetuning.TaskRun` fine-tunes with it. Each defines the loss of a forward pass (`loss`), the
parts of an update (`update`) and the facts that must agree before it is resumed (`identity`). Order, masks and dropout
are pure functions of (seed, step), so that a resumed run equals an uninterrupted one.

Gradients are exchanged once per update, after all processes have agreed that none ran out of memory, because DDP,
which sends during a backward pass, would leave the others waiting for a process that cannot finish it.
"""

import math
import socket
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from ..evidence.comparing import differences, plain
from ..evidence.records import Stopwatch, versions
from ..machine.device import describe_device, now
from ..machine.processes import agree, first_on_disk, gathered, jointly, on_main, summed
from ..machine.progress import Progress
from ..machine.signals import SIGNALS, Interrupts, Stopped
from ..text.randomness import seed_dropout
from . import backup, checkpoints

# fp16's scaler → its state before the first run: it is one for all runs of a process, none of which shall begin with
# the scale of another
_fresh: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that a GPU or the machine ran out of memory."""
    told = "can't allocate memory", "MPS backend out of memory"
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in told)


def split(batch: dict[str, Tensor], rows: int) -> Iterator[dict[str, Tensor]]:
    """The batch in parts of at most `rows` rows."""
    for first in range(0, len(batch["input_ids"]), rows):
        yield {key: value[first : first + rows] for key, value in batch.items()}


def in_halves(read: Callable[[dict[str, Tensor]], Tensor], batch: dict[str, Tensor]) -> list[Tensor]:
    """What `read` returns for a batch, or for its halves, their halves and so on, where it does not fit into memory.

    No other process is asked, so that nothing that `read` does may wait for one.
    """
    rows = len(batch["input_ids"])
    try:
        return [read(batch)]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or rows == 1:
            raise
    return [result for part in split(batch, (rows + 1) // 2) for result in in_halves(read, part)]


def in_a_row(steps: Sequence[int], last: int) -> int:
    """The length of the run of consecutive numbers in the ascending `steps` that ends at `last`."""
    count = 0
    while count < len(steps) and steps[-1 - count] == last - count:
        count += 1
    return count


def check_hosts(accelerator: Accelerator, facts: dict[str, Any]) -> dict[str, int]:
    """The number of processes per host; ValueError when hosts differ in libraries or `facts` (settings, data)."""
    own = (socket.gethostname(), plain({"versions": versions(), **facts}))
    (first, wanted), *others = everywhere = gathered(accelerator, own)
    for host, theirs in others:
        if differing := differences(wanted, theirs):
            raise ValueError(
                f"{host} is not as {first} is ({'; '.join(differing[:3])}): give all the same libraries, "
                "data and command"
            )
    return dict(Counter(host for host, _ in everywhere))


Batch = dict[str, Tensor]


def columns_of(rows: list[list]) -> dict[str, list]:
    """The columns of a curve that an older checkpoint holds as a list of rows."""
    names = ("step", "tokens", "loss", "ce", "mlm", "cos", "norm", "tokens_per_second")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=False)}


class Training:
    """A model, its optimizer and the updates made so far; `advance` makes further ones, `checkpoint` keeps them.

    `config` says what is learned, of which `seed`, `clip` and `learning_rate_at` are read here; `safety` has the size
    of micro-batches, the checkpoints and the limit of skipped updates. Pre-training has all in one.
    """

    one_row, to_shrink = "row", "--max-length"  # for the message when not even one row fits into memory

    def __init__(
        self, model: nn.Module, accelerator: Accelerator, config: Any, safety: Any, steps: int, folder: Path | None
    ) -> None:
        self.model, self.accelerator, self.config, self.safety = model, accelerator, config, safety
        self.steps, self.folder = steps, folder
        self.backup: Path | None = None
        self.step, self.evaluations, self.spent = 0, [], {"wall_seconds": 0.0, "cpu_seconds": 0.0}
        self.curve: dict[str, list] = {}  # column → a value for each update made
        self.largest = safety.micro_batch_size  # rows of a forward pass, as long as memory suffices
        self.exchange = {"waiting_seconds": 0.0, "seconds": 0.0, "gradient_bytes": 0}  # of this sitting
        self.worlds: list[dict[str, Any]] = []  # the processes and hosts, and the update from which they took part
        self.skipped: list[list] = []  # [step, loss, norm] of each skipped update
        self.halved: list[list[int]] = []  # [step, rows of a forward pass from then on]
        self.arithmetic: dict[str, str] = {}  # the processor on which the run began, and its float32 setting
        self.overflows = 0  # updates that fp16's scaler left out
        self.stopwatch = Stopwatch()

    @property
    def identity(self) -> dict[str, Any]:
        """The facts that must not change when the run is resumed: settings, data, model, processes."""
        raise NotImplementedError

    def loss(self, batch: Batch, *totals: float) -> tuple[Tensor, Tensor]:
        """The loss of a part of an update, to be differentiated, and the terms to be summed for the curve.

        Sums are divided by `totals`, counts over the whole update, so that a short part does not weigh more.
        """
        return self.module(batch, *totals)

    def update(self, batches: Iterator[Any]) -> dict[str, float]:
        """Take one optimizer step over all micro-batches and processes; return its values for curve and progress."""
        raise NotImplementedError

    def after_update(self) -> None:
        """Do what is due after an update, such as an evaluation."""

    def shown(self, terms: dict[str, float]) -> dict[str, str]:
        """The values that the progress line shows for an update."""
        return {"loss": f"{terms['loss']:.3f}"}

    def start(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Load the newest checkpoint, if there is one, and pass `module` (the model with its loss) to accelerate."""
        self.names = {parameter: name for name, parameter in self.model.named_parameters()}
        hosts = check_hosts(self.accelerator, self.identity)
        self.first = self.folder is not None and first_on_disk(self.folder, self.accelerator)
        if scaler := self.accelerator.scaler:
            scaler.load_state_dict(_fresh.setdefault(scaler, scaler.state_dict()))
        self._resume(optimizer)
        self._compute_alike()
        world = {"processes": self.accelerator.num_processes, "hosts": hosts}
        if not self.worlds or world != {key: self.worlds[-1].get(key) for key in world}:
            self.worlds.append({"step": self.step, **world})
        broadcast([parameter.data for parameter in self.names])
        self.module = self.accelerator.prepare_model(module, evaluation_mode=True)  # without DDP, as explained above
        self.optimizer = self.accelerator.prepare(optimizer)

    def _compute_alike(self) -> None:
        """Set the float32 matrix products to the run's first setting, where the processor is the same.

        The setting was probed by the clock, so another process or sitting might choose another and change last bits.
        """
        own = {"processor": describe_device()["processor"], "float32": torch.get_float32_matmul_precision()}
        self.arithmetic = self.arithmetic or gathered(self.accelerator, own)[0]
        if self.arithmetic["processor"] == own["processor"]:
            torch.set_float32_matmul_precision(self.arithmetic["float32"])

    def _resume(self, optimizer: torch.optim.Optimizer) -> None:
        saved = self._newest() if self.folder else None
        if saved is None:
            return
        self.step = saved.step
        checkpoints.load_parameters(self.names, saved.tensors["model"])
        checkpoints.load_optimizer(optimizer, self.names, saved.tensors["optimizer"])
        state = saved.state
        self.evaluations, self.spent = state["evaluations"], state["spent"]
        self.curve = state["curve"] if isinstance(state["curve"], dict) else columns_of(state["curve"])
        self.skipped, self.halved = state.get("skipped", []), state.get("halved", [])
        self.overflows, self.worlds = state.get("overflows", 0), state.get("worlds", [])
        self.arithmetic = state.get("arithmetic", {})
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _newest(self) -> checkpoints.Checkpoint | None:
        """The newest checkpoint on any disk, read by the first process at its disk and sent to all others."""
        if self.backup:
            on_main(self.accelerator, lambda: backup.restore(self.folder, self.backup, self.identity))
        saved = jointly(self.accelerator, lambda: checkpoints.load(self.folder, self.identity), self.first)
        steps = gathered(self.accelerator, saved.step if saved else -1)
        return checkpoints.send(saved, steps.index(max(steps)), self.accelerator) if max(steps) >= 0 else None

    def note(self, terms: dict[str, float]) -> None:
        """Add an update to the curve."""
        for column, value in terms.items():
            self.curve.setdefault(column, []).append(value)

    def time_spent(self) -> dict[str, float]:
        """The wall and CPU seconds over all sittings of the run."""
        now = self.stopwatch.read()
        return {key: round(self.spent[key] + now[key], 2) for key in self.spent}

    def checkpoint(self) -> None:
        """Save a checkpoint once on every disk; all processes wait until it is saved."""
        if self.folder:
            jointly(self.accelerator, self._save, self.first)

    def _save(self) -> None:
        tensors = {
            "model": {name: parameter for parameter, name in self.names.items()},
            "optimizer": checkpoints.optimizer_tensors(self.optimizer.optimizer, self.names),
        }
        state = {
            "curve": self.curve,
            "evaluations": self.evaluations,
            "spent": self.time_spent(),
            "skipped": self.skipped,
            "halved": self.halved,
            "overflows": self.overflows,
            "worlds": self.worlds,
            "arithmetic": self.arithmetic,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,  # of fp16
        }
        checkpoint = checkpoints.Checkpoint(self.step, tensors, state)
        path = checkpoints.save(self.folder, checkpoint, self.identity, self.safety.keep)
        if self.backup and self.accelerator.is_main_process:
            try:
                backup.save(path, self.backup, self.safety.keep)
            except OSError as error:
                warnings.warn(
                    f"no backup of update {self.step} ({error}); {path} is whole, and the run goes on", stacklevel=2
                )

    def advance(self, stop: int, batches: Iterator[Any], name: str, quiet: bool, save_last: bool = True) -> None:
        """Make the updates up to `stop`, show progress, and save checkpoints when they are due or asked for.

        `save_last` also saves after update `stop`; without it, so does a run that is so long that it has saved before,
        because what comes next may take long as well. A first SIGTERM or Ctrl-C ends the run after its update and a
        checkpoint, with `Stopped`. Raises FloatingPointError when `max_skipped` updates in a row were not finite, and
        at the end of a run of which no update was made.
        """
        safety, saved, save_last = self.safety, time.monotonic(), save_last or self.step > 0
        with (
            Interrupts(quiet or not self.folder) as signals,
            Progress(self.steps, name, self.step, quiet=quiet) as progress,
        ):
            while self.step < stop:
                terms = self.update(batches)
                left_out = {"skipped": str(len(self.skipped))} if self.skipped else {}
                progress.step(**self.shown(terms) | left_out)
                self.after_update()
                overdue = time.monotonic() - saved > 60 * safety.checkpoint_minutes
                overdue, *asked = agree(self.accelerator, overdue, *signals.flags)
                counted = safety.checkpoint_every and self.step % safety.checkpoint_every == 0
                hopeless = self.hopeless()
                if (save_last and self.step == stop) or counted or overdue or any(asked) or hopeless:
                    self.checkpoint()
                    saved, save_last = time.monotonic(), True
                if hopeless:
                    raise FloatingPointError(hopeless)
                if any(asked):
                    what = f"stopped after update {self.step:,} of {self.steps:,}"
                    raise Stopped(SIGNALS[asked.index(True)], what, saved=bool(self.folder))
        if self.step == self.steps and not self.curve:
            where = " in another folder" if self.folder else ""
            raise FloatingPointError(
                f"nothing was learned: none of the {self.steps:,} updates had finite gradients, and fp16 left out "
                f"{self.overflows:,} while it sought its scale; start again{where} with more updates or --precision no"
            )

    def to_device(self, batch: Batch) -> Batch:
        """The batch on this process's device."""
        return {key: value.to(self.accelerator.device, non_blocking=True) for key, value in batch.items()}

    def gradients(self, micro: list[Batch], *totals: float) -> Tensor:
        """Compute all processes' gradients of an update in the model, and return this process's sum of loss terms.

        If one process runs out of memory, all begin the update anew with half as many rows in each forward pass.
        """
        while (terms := self._accumulate(micro, totals)) is None:
            if self.rows == 1:
                raise RuntimeError(
                    f"a single {self.one_row} does not fit into memory; use a smaller {self.to_shrink} or model"
                )
            self.halved.append([self.step + 1, self.rows // 2])
        if self.accelerator.num_processes > 1:
            own = [parameter.grad for parameter in self.names if parameter.grad is not None]
            began = now(self.accelerator.device)
            total = summed(self.accelerator, torch.cat([gradient.flatten() for gradient in own]))
            self.exchange["seconds"] += now(self.accelerator.device) - began
            self.exchange["gradient_bytes"] = total.nbytes
            for gradient, part in zip(own, total.split([g.numel() for g in own]), strict=True):
                gradient.copy_(part.view_as(gradient))
        return terms

    @property
    def rows(self) -> int:
        """The rows in one forward pass: a micro-batch, or fewer after memory ran out."""
        return min(self.largest, self.halved[-1][1]) if self.halved else self.largest

    def _accumulate(self, micro: list[Batch], totals: tuple[float, ...]) -> Tensor | None:
        """The sum of loss terms after this process's forward and backward passes; None, without gradients, when any
        process lacks memory."""
        terms, lacking = torch.zeros((), device=self.accelerator.device), False
        seed_dropout(self.config.seed, self.step, self.accelerator.process_index)
        try:
            for batch in (part for whole in micro for part in split(whole, self.rows)):
                loss, part = self.loss(batch, *totals)
                self.accelerator.backward(loss)
                terms = terms + part
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            lacking = True
        began = now(self.accelerator.device)
        stop = any(agree(self.accelerator, lacking))
        self.exchange["waiting_seconds"] += now(self.accelerator.device) - began
        if not stop:
            return terms
        self.module.zero_grad()
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def apply(self, loss: float) -> tuple[float, bool]:
        """End an update, and return the gradient norm before clipping and whether the step was made.

        If loss or gradient is not finite, weights and optimizer stay as they are, and the step joins `skipped`; all
        processes decide alike, because they have the same numbers. In fp16 the scaler handles an overflowing gradient:
        it leaves out the step and lowers the scale.
        """
        norm = float(self.accelerator.clip_grad_norm_(list(self.names), self.config.clip))
        self.step += 1
        scaler, finite = self.accelerator.scaler, math.isfinite(loss) and math.isfinite(norm)
        optimizer = self.optimizer if scaler else self.optimizer.optimizer  # accelerate's searches for a package
        overflow = bool(scaler) and math.isfinite(loss) and not finite and scaler.get_scale() > 1
        if finite or overflow:
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate_at(self.step - 1, self.steps)
            optimizer.step()
            self.overflows += overflow
        else:
            self.skipped.append([self.step, str(loss), str(norm)])
            if scaler:
                scaler.update()
        optimizer.zero_grad()
        return norm, finite

    def hopeless(self) -> str:
        """The sentence for too many updates in a row without finite numbers; "" as long as there are fewer."""
        count = in_a_row([step for step, *_ in self.skipped], self.step)
        if count < min(self.safety.max_skipped, self.steps):
            return ""
        first, loss, norm = self.skipped[-count]
        told = (
            f"{count} updates in a row had no finite loss and gradient, from update {first} on (loss {loss}, gradient "
            f"norm {norm}); "
        )
        if not self.folder:
            return told + "use a smaller learning rate"
        return told + (
            f"the weights of update {first - 1} are saved in {self.folder}: start again in another folder with a "
            "smaller learning rate"
        )

    def faults(self) -> dict[str, Any]:
        """The record's entries about skipped updates and lack of memory."""
        return {
            "skipped": len(self.skipped),
            "skipped_steps": [step for step, *_ in self.skipped[:100]],
            "overflows": self.overflows,
            "out_of_memory": [{"step": step, "micro_batch_size": rows} for step, rows in self.halved],
        }
