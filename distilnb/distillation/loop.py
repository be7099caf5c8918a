"""Distillation pre-training (paper section 3): the loop, on `accelerate`.

One update takes `batch_size` sequences, however many processes and micro-batches share them. Each term is summed
and divided by the tokens of the whole update, so a short micro-batch does not weigh more than a long one. Order,
masks and dropout are pure functions of (seed, step): a run that is cut and resumed is the run that was not.
Gradients travel once per update, after all processes have agreed that none ran out of memory: DDP, which sends in the
middle of a backward pass, would leave the others waiting for one that cannot end it.

The same loop pre-trains a teacher: no teacher above it, weights ce = cos = 0.
"""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from ..evidence.records import Stopwatch, new_record
from ..machine.device import memory
from ..machine.processes import agree, alone_in, on_main, together
from ..machine.progress import Progress
from ..machine.signals import SIGNALS, Interrupts, Stopped, leave_signals_to_the_main_process
from ..text.corpus import Corpus
from ..text.masking import IGNORE, Masker
from ..text.randomness import seed_dropout
from . import backup, checkpoints
from .batches import MaskedRows, MicroBatches, collate
from .estimate import estimate_run
from .evaluation import evaluate
from .recipe import MAY_CHANGE, PretrainingConfig
from .step import Distillation


class Run:
    """One pre-training run in progress: what `pretrain` steps through, saves and takes up again."""

    def __init__(
        self,
        student: PreTrainedModel,
        corpus: Corpus,
        masker: Masker,
        accelerator: Accelerator,
        config: PretrainingConfig,
        teacher: PreTrainedModel | None,
        out: Path | None,
    ):
        check_run(config, corpus, teacher, accelerator.num_processes)
        self.student, self.corpus, self.masker, self.accelerator = student, corpus, masker, accelerator
        self.config, self.teacher = config, teacher
        self.steps, self.folder = config.steps(corpus), out / "checkpoints" if out else None
        self.backup = Path(config.backup, out.name) if out and config.backup else None
        self.micro_batches = config.batch_size // (config.micro_batch_size * accelerator.num_processes)
        self.teacher_fingerprint = None if teacher is None else checkpoints.fingerprint(teacher)
        if teacher is not None:
            teacher.to(accelerator.device).eval().requires_grad_(False)
        self.names = {parameter: name for name, parameter in student.named_parameters()}
        optimizer = torch.optim.AdamW(
            student.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.step, self.curve, self.evaluations, self.spent = 0, [], [], {"wall_seconds": 0.0, "cpu_seconds": 0.0}
        self.skipped: list[list] = []  # [step, loss, norm] of the updates that were not made
        self.halved: list[list[int]] = []  # [step, rows of a forward pass from then on]
        self.overflows = 0  # updates that fp16's scaler left out
        self.estimate: dict[str, float] = {}  # of this sitting, when it began
        self.stopwatch = Stopwatch()
        student.to(accelerator.device)
        self._resume(optimizer)
        broadcast([parameter.data for parameter in self.names])
        module = Distillation(student, teacher, config)
        self.module = accelerator.prepare_model(module, evaluation_mode=True)  # without DDP: see above
        self.optimizer = accelerator.prepare(optimizer)

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same when a run is resumed: settings, data, model shape, number of processes."""
        settings = {k: v for k, v in asdict(self.config).items() if k not in MAY_CHANGE}
        return settings | {
            "data": self.corpus.info["fingerprint"],
            "vocabulary": self.corpus.info["tokenizer"],
            "parameters": sum(p.numel() for p in self.names),
            "processes": self.accelerator.num_processes,
            "precision": self.accelerator.mixed_precision,
            "teacher": self.teacher_fingerprint,
            "student": getattr(self.student.config, "initialized_from", None),
        }

    def _resume(self, optimizer: torch.optim.Optimizer) -> None:
        if self.backup:
            on_main(self.accelerator, lambda: backup.restore(self.folder, self.backup, self.identity))
        saved = checkpoints.load(self.folder, self.identity) if self.folder else None
        self.step = saved.step if saved else 0
        steps = self.accelerator.reduce(torch.tensor(self.step, device=self.accelerator.device), "sum")
        if steps != self.step * self.accelerator.num_processes:
            raise ValueError(f"the processes see different checkpoints in {self.folder}; give a folder that all share")
        if saved is None:
            return
        checkpoints.load_parameters(self.names, saved.tensors["model"])
        checkpoints.load_optimizer(optimizer, self.names, saved.tensors["optimizer"])
        self.curve, self.evaluations, self.spent = (saved.state[key] for key in ("curve", "evaluations", "spent"))
        self.skipped, self.halved = saved.state.get("skipped", []), saved.state.get("halved", [])
        self.overflows = saved.state.get("overflows", 0)
        if self.accelerator.scaler and saved.state["scaler"]:
            self.accelerator.scaler.load_state_dict(saved.state["scaler"])

    def time_spent(self) -> dict[str, float]:
        """Wall and CPU seconds over all sittings of the run."""
        now = self.stopwatch.read()
        return {key: round(self.spent[key] + now[key], 2) for key in self.spent}

    def checkpoint(self) -> None:
        """Save on the main process what the run needs to go on from here; the others wait."""
        if self.folder:
            on_main(self.accelerator, self._save)

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
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,  # of fp16
        }
        checkpoint = checkpoints.Checkpoint(self.step, tensors, state)
        path = checkpoints.save(self.folder, checkpoint, self.identity, self.config.keep)
        if self.backup:
            try:
                backup.save(path, self.backup, self.config.keep)
            except OSError as error:
                warnings.warn(
                    f"no backup of update {self.step} ({error}); {path} is whole, and the run goes on", stacklevel=2
                )

    def evaluate(self) -> None:
        """Append the held-out scores of this moment to `evaluations`."""
        tokens = sum(row[1] for row in self.curve)
        scores = evaluate(self.student, self.corpus, self.masker, self.accelerator, self.teacher)
        self.evaluations.append({"step": self.step, "tokens": tokens, **scores})

    def loader(self, stop: int) -> DataLoader:
        """Micro-batches of this process from here to update `stop`, prepared by `workers` processes."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        keys = MicroBatches(self.corpus, self.config, self.step, stop, rank, processes)
        # a generator of its own: the loader must not draw from the stream that dropout uses
        return DataLoader(
            MaskedRows(self.corpus.train, self.masker),
            batch_sampler=keys,
            collate_fn=collate,
            num_workers=self.config.workers,
            generator=torch.Generator(),
            worker_init_fn=leave_signals_to_the_main_process,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def to_device(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch on this process's device."""
        return {key: value.to(self.accelerator.device, non_blocking=True) for key, value in batch.items()}

    def update(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, float]:
        """One optimizer step over all micro-batches and processes; its loss terms, tokens and gradient norm.

        Where loss or gradient is not finite, weights and optimizer stay as they are, and the step joins `skipped`.
        """
        config, accelerator, began = self.config, self.accelerator, time.perf_counter()
        micro = [self.to_device(next(batches)) for _ in range(self.micro_batches)]
        counts = sum(torch.stack([b["attention_mask"].sum(), (b["labels"] != IGNORE).sum()]) for b in micro)
        tokens, masked = accelerator.reduce(counts, "sum").tolist()
        ce, mlm, cos = accelerator.reduce(self.gradients(micro, tokens, masked), "sum").tolist()
        loss = config.ce * ce + config.mlm * mlm + config.cos * cos
        norm = float(accelerator.clip_grad_norm_(self.student.parameters(), config.clip))
        self.step += 1
        terms = {"step": self.step, "tokens": tokens, "loss": loss, "ce": ce, "mlm": mlm, "cos": cos, "norm": norm}
        terms["tokens_per_second"] = tokens / (time.perf_counter() - began)
        if self._apply(loss, norm):
            self.curve.append(list(terms.values()))
        self.optimizer.zero_grad()
        return terms

    def gradients(self, micro: list[dict[str, Tensor]], tokens: float, masked: float) -> Tensor:
        """Leave the gradients of an update, of all processes, in the student; this process's terms, (3,).

        Where one runs out of memory, all begin the update anew with half as many rows in each forward pass.
        """
        while (terms := self._accumulate(micro, tokens, masked)) is None:
            if self.rows == 1:
                raise RuntimeError(
                    f"a single sequence of {self.config.seq_length} tokens does not fit into memory; "
                    "use a smaller --seq_length or model"
                )
            self.halved.append([self.step + 1, self.rows // 2])
        own = [parameter.grad for parameter in self.names if parameter.grad is not None]
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(torch.cat([gradient.flatten() for gradient in own]), "sum")
            for gradient, part in zip(own, total.split([g.numel() for g in own]), strict=True):
                gradient.copy_(part.view_as(gradient))
        return terms

    @property
    def rows(self) -> int:
        """Sequences in one forward pass: a micro-batch, or what is left of it after memory ran out."""
        return self.halved[-1][1] if self.halved else self.config.micro_batch_size

    def _accumulate(self, micro: list[dict[str, Tensor]], tokens: float, masked: float) -> Tensor | None:
        """Forward and backward passes of this process; None, without gradients, when any process lacks memory."""
        terms, lacking = torch.zeros(3, device=self.accelerator.device), False
        seed_dropout(self.config.seed, self.step, self.accelerator.process_index)
        try:
            for batch in (part for whole in micro for part in split(whole, self.rows)):
                loss, part = self.module(batch, float(tokens), float(max(masked, 1)))
                self.accelerator.backward(loss)
                terms += part
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            lacking = True
        if not any(agree(self.accelerator, lacking)):
            return terms
        self.module.zero_grad()
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _apply(self, loss: float, norm: float) -> bool:
        """Make the step if its numbers are finite; processes decide alike, because they have the same numbers.

        In fp16 a gradient that overflows is the scaler's business: it leaves the step out itself and scales less.
        """
        scaler, finite = self.accelerator.scaler, math.isfinite(loss) and math.isfinite(norm)
        overflow = bool(scaler) and math.isfinite(loss) and not finite and scaler.get_scale() > 1
        if finite or overflow:
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.learning_rate_at(self.step - 1, self.steps)
            self.optimizer.step()
            self.overflows += overflow
        else:
            self.skipped.append([self.step, str(loss), str(norm)])
            if scaler:
                scaler.update()
        return finite

    def hopeless(self) -> str:
        """A sentence when too many updates in a row had no finite numbers, else nothing."""
        count = in_a_row([step for step, *_ in self.skipped], self.step)
        if count < min(self.config.max_skipped, self.steps):
            return ""
        (first, loss, norm), where = self.skipped[-count], f" in {self.folder}" if self.folder else ""
        return (
            f"{count} updates in a row had no finite loss and gradient, from update {first} on (loss {loss}, gradient "
            f"norm {norm}); the weights of update {first - 1} are saved{where}: start again in another folder with a "
            "smaller learning rate"
        )


def check_run(config: PretrainingConfig, corpus: Corpus, teacher: PreTrainedModel | None, processes: int) -> None:
    """Raise ValueError for settings that do not fit each other, before any long work."""
    if teacher is None and (config.ce or config.cos):
        raise ValueError("without a teacher only L_mlm is defined: set the weights ce and cos to 0")
    share = config.micro_batch_size * processes
    if config.batch_size % share:
        raise ValueError(
            f"batch_size {config.batch_size} is no multiple of micro_batch_size {config.micro_batch_size} × "
            f"{processes} process{'es' * (processes > 1)}: every update must share out evenly"
        )
    if corpus.info["seq_length"] != config.seq_length:
        raise ValueError(
            f"the corpus has blocks of {corpus.info['seq_length']} tokens, the configuration says "
            f"{config.seq_length}; build the corpus again"
        )


def check_output(out: Path, config: PretrainingConfig) -> None:
    """Raise ValueError when folder `out` holds something other than an unfinished or finished run of `config`."""
    if not out.exists() or not any(out.iterdir()):
        return
    saved = checkpoints.identity(out / "checkpoints")
    if saved is None and {path.name for path in out.iterdir()} == {"checkpoints"}:
        return  # of a run that was stopped before its first checkpoint
    if saved is None:
        raise ValueError(f"the output folder {out} is not empty and holds no run; choose another --out or --name")
    settings = {k: v for k, v in asdict(config).items() if k not in MAY_CHANGE}
    checkpoints.check_identity(out / "checkpoints", {k: v for k, v in saved.items() if k in settings}, settings)


def pretrain(
    student: PreTrainedModel,
    corpus: Corpus,
    masker: Masker,
    accelerator: Accelerator,
    config: PretrainingConfig,
    *,
    teacher: PreTrainedModel | None = None,
    out: Path | None = None,
    name: str = "distillation",
    stop_after: int | None = None,
    quiet: bool = False,
    **provenance: Any,
) -> dict[str, Any]:
    """Train `student` in place; the record of the run, with its curve and its held-out `evaluations`.

    With `out`, checkpoints go to `out/checkpoints`, and a run found there is taken up where it stopped.
    `stop_after` ends this sitting after that many updates of the run. `provenance` is added to the record.

    A first SIGTERM or Ctrl-C ends it after the update and a checkpoint, with `Stopped`; a second one at once.

    Raises ValueError before any work when settings do not fit, `out` holds another run or one that is in progress,
    and FloatingPointError when `max_skipped` updates in a row had no finite loss and gradient.
    """
    check_run(config, corpus, teacher, accelerator.num_processes)
    quiet = quiet or not accelerator.is_main_process
    with together(), alone_in(out / "checkpoints" if out else None, accelerator):
        run = Run(student, corpus, masker, accelerator, config, teacher, out)
        stop, every = min(run.steps, stop_after or run.steps), config.evaluate_every or max(1, run.steps // 10)
        if run.step < stop and not quiet:
            print(_announce(run, name), flush=True)
        if run.step == 0:
            run.evaluate()
        student.train()
        batches, saved = iter(run.loader(stop)), time.monotonic()
        with Interrupts(quiet) as signals, Progress(run.steps, name, run.step, quiet=quiet) as progress:
            while run.step < stop:
                progress.step(**_shown(run.update(batches), run))
                if run.step % every == 0 or run.step == run.steps:
                    run.evaluate()
                overdue = time.monotonic() - saved > 60 * config.checkpoint_minutes
                overdue, *asked = agree(accelerator, overdue, *signals.flags)
                due = run.step == stop or (config.checkpoint_every and run.step % config.checkpoint_every == 0)
                if due or overdue or any(asked) or run.hopeless():
                    run.checkpoint()
                    saved = time.monotonic()
                if run.hopeless():
                    raise FloatingPointError(run.hopeless())
                if any(asked):
                    raise Stopped(SIGNALS[asked.index(True)], f"stopped after update {run.step:,} of {run.steps:,}")
        return _record(run, name, **provenance)


def _announce(run: Run, name: str) -> str:
    config = run.config
    rows = MaskedRows(run.corpus.train, run.masker)
    batch = run.to_device(collate(rows.__getitems__(next(iter(run.loader(run.steps).batch_sampler))[: run.rows])))
    left = config.tokens * (run.steps - run.step) // run.steps
    resumed = f", going on from update {run.step:,}" if run.step else ""
    try:
        cost = estimate_run(run, batch, left)
        run.estimate = {"from_step": run.step, "seconds": cost.seconds, "memory_bytes": cost.memory_bytes}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        cost = f"no estimate: {run.rows} sequences at once do not fit into memory, fewer will be tried"
    return (
        f"{name}: {run.steps:,} updates of {config.batch_size} sequences of {config.seq_length} tokens{resumed}\n{cost}"
    )


def _shown(terms: dict[str, float], run: Run) -> dict[str, str]:
    names = [n for n in ("ce", "mlm", "cos") if getattr(run.config, n)]
    shown = {"loss": f"{terms['loss']:.3f}"} | {n: f"{terms[n]:.3f}" for n in names if len(names) > 1}
    left_out = {"skipped": str(len(run.skipped))} if run.skipped else {}
    return shown | left_out | {"tokens/s": f"{terms['tokens_per_second']:,.0f}"}


def _record(run: Run, name: str, **provenance: Any) -> dict[str, Any]:
    columns = ("step", "tokens", "loss", "ce", "mlm", "cos", "norm", "tokens_per_second")
    curve = dict(zip(columns, map(list, zip(*run.curve, strict=True)), strict=True))
    curve["tokens"] = np.cumsum(curve["tokens"]).tolist()
    last = run.evaluations[-1]
    estimate = run.estimate and {key: round(value) for key, value in run.estimate.items()} | {
        "took_seconds": round(run.stopwatch.read()["wall_seconds"]),
        "peak_memory_bytes": memory(run.accelerator.device)[1],
    }
    values = {
        "seed": run.config.seed,
        "scores": {k: v for k, v in last.items() if k not in ("step", "tokens")},
        "tokens": curve["tokens"][-1],
        "steps": run.step,
        "curve": curve,
        "config": asdict(run.config),
        "data": run.corpus.provenance(),
        "evaluations": {key: [row[key] for row in run.evaluations] for key in last},
        "processes": run.accelerator.num_processes,
        "precision": run.accelerator.mixed_precision,
        "skipped": len(run.skipped),
        "skipped_steps": [step for step, *_ in run.skipped[:100]],
        "overflows": run.overflows,
        "compiled_head": run.accelerator.unwrap_model(run.module).compiled,
        "estimate": estimate,  # of the last sitting, beside what it took
        "out_of_memory": [{"step": step, "micro_batch_size": rows} for step, rows in run.halved],
    }
    kind = "teacher" if run.teacher is None else "distillation"
    distilled = run.config.ce or run.config.cos
    model = "teacher" if run.teacher is None else "student" if distilled else "undistilled"
    values = {"scale": "toy", "model": model} | values | run.time_spent() | provenance
    return new_record(kind, name, stopwatch=run.stopwatch, **values)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of a GPU or of the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def split(batch: dict[str, Tensor], rows: int) -> Iterator[dict[str, Tensor]]:
    """The batch in parts of at most `rows` rows."""
    for first in range(0, len(batch["input_ids"]), rows):
        yield {key: value[first : first + rows] for key, value in batch.items()}


def in_a_row(steps: Sequence[int], last: int) -> int:
    """How many of the rising `steps` follow each other up to `last`."""
    count = 0
    while count < len(steps) and steps[-1 - count] == last - count:
        count += 1
    return count
