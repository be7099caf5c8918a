"""Distillation pre-training (paper section 3): the loop, on `accelerate` (notebooks 03 and 10).

One update takes `batch_size` sequences, for any number of processes and micro-batches. Each term is summed and divided
by the tokens of the whole update, so that a short micro-batch does not weigh more than a long one. Order, masks and
dropout are pure functions of (seed, step), so that a resumed run equals an uninterrupted one. `training` handles lack
of memory, bad numbers and kills.

The same loop pre-trains a teacher, without a teacher of its own and with weights ce = cos = 0.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from ..evidence.names import MASKED, OBJECTIVES
from ..evidence.records import new_record
from ..machine.device import memory_use
from ..machine.processes import alone_in, explained, summed
from ..machine.signals import leave_signals_to_the_main_process
from ..models import families, half
from ..text.corpus import Corpus
from ..text.masking import IGNORE, Masker, NextWord
from . import checkpoints
from .batches import MaskedRows, MicroBatches, collate
from .estimate import STATE, Estimate, estimate_run
from .evaluation import HELD_OUT_ROWS, HeldOut
from .recipe import PretrainingConfig
from .step import Distillation, add_projection, drop_projection
from .training import Training, is_out_of_memory


class Run(Training):
    """One pre-training run in progress, which `pretrain` steps through, saves and resumes."""

    def __init__(
        self,
        student: PreTrainedModel,
        corpus: Corpus,
        masker: Masker | NextWord,
        accelerator: Accelerator,
        config: PretrainingConfig,
        teacher: PreTrainedModel | None,
        out: Path | None,
    ):
        check_run(config, corpus, teacher, accelerator.num_processes)
        add_projection(student, teacher, config)
        folder = out / "checkpoints" if out else None
        super().__init__(student, accelerator, config, config, config.steps(corpus), folder)
        self.student, self.corpus, self.masker, self.teacher = student, corpus, masker, teacher
        self.objective = OBJECTIVES[families.of(student).objective]
        self.one_row, self.to_shrink = f"sequence of {config.seq_length} tokens", "--seq-length"
        self.backup = Path(config.backup, out.name) if out and config.backup else None
        self.largest = config.rows(accelerator.num_processes)
        self.micro_batches = config.batch_size // (self.largest * accelerator.num_processes)
        self.teacher_fingerprint = None if teacher is None else checkpoints.fingerprint(teacher)
        self.estimate: dict[str, float] = {}  # made when this sitting began
        if teacher is not None:
            teacher.to(accelerator.device).eval().requires_grad_(False)
        optimizer = torch.optim.AdamW(
            student.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=config.weight_decay,
            fused=True,
        )
        student.to(accelerator.device)
        self.start(Distillation(student, teacher, config), optimizer)
        for columns in (self.curve, *self.evaluations):  # older checkpoints call the next-word loss mlm
            for old in {MASKED.term, MASKED.loss} & columns.keys() if self.objective is not MASKED else ():
                columns[old.replace(MASKED.term, self.objective.term)] = columns.pop(old)

    @property
    def identity(self) -> dict[str, Any]:
        """The facts that must not change when a run is resumed: settings, data, model shape, but not the processes."""
        return self.config.binding | {
            "data": self.corpus.info["fingerprint"],
            "vocabulary": self.corpus.info["tokenizer"],
            "parameters": sum(p.numel() for p in self.names),
            "precision": self.accelerator.mixed_precision,
            "teacher": self.teacher_fingerprint,
            "student": getattr(self.student.config, "initialized_from", None),
        }

    def evaluate(self) -> None:
        """Append the present held-out scores to `evaluations`."""
        tokens = sum(self.curve.get("tokens", []))
        self.evaluations.append({"step": self.step, "tokens": tokens, **self.heldout.scores(self.student)})

    @cached_property
    def heldout(self) -> HeldOut:
        """The held-out rows; the teacher reads them once a sitting."""
        pad_id, at_once = self.student.config.pad_token_id or 0, self.largest
        return HeldOut(self.corpus, self.masker, self.accelerator, pad_id, self.teacher, batch_size=at_once)

    @property
    def every(self) -> int:
        """The number of updates between held-out evaluations."""
        return self.config.evaluate_every or max(1, self.steps // 10)

    def cost(self) -> Estimate:
        """The expected cost of the rest of the run, measured on its next rows; no other process is waited for."""
        config, updates = self.config, self.steps - self.step
        keys = next(iter(self.loader(self.steps).batch_sampler))[: self.rows]
        batch = self.to_device(collate(MaskedRows(self.corpus.train, self.masker).__getitems__(keys)))
        expected = estimate_run(
            self.accelerator.unwrap_model(self.module),
            batch,
            self.accelerator,
            config,
            tokens=config.tokens * updates // self.steps,
            updates=updates,
            evaluations=updates // self.every + 1,
            heldout_rows=min(HELD_OUT_ROWS, len(self.corpus.heldout)),
            folder=self.folder,
        )
        held = STATE * sum(p.numel() for p in self.student.parameters()) if self.optimizer.state else 0
        return replace(expected, memory_bytes=expected.memory_bytes - held)  # a resumed run has its state already

    def loader(self, stop: int) -> DataLoader:
        """The micro-batches of this process up to update `stop`, prepared by `workers` processes."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        keys = MicroBatches(self.corpus, self.config, self.step, stop, rank, processes)
        # a separate generator, because the loader must not draw from the stream that dropout uses
        return DataLoader(
            MaskedRows(self.corpus.train, self.masker),
            batch_sampler=keys,
            collate_fn=partial(collate, pad_id=self.student.config.pad_token_id or 0),
            num_workers=self.config.workers,
            generator=torch.Generator(),
            worker_init_fn=leave_signals_to_the_main_process,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def update(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, float]:
        """Take one optimizer step over all micro-batches and processes; return its losses, tokens and gradient norm.

        If loss or gradient is not finite, weights and optimizer stay as they are, and the step joins `skipped`.
        """
        config, accelerator, began = self.config, self.accelerator, time.perf_counter()
        micro = [self.to_device(next(batches)) for _ in range(self.micro_batches)]
        counts = sum(torch.stack([b["attention_mask"].sum(), (b["labels"] != IGNORE).sum()]) for b in micro)
        tokens, masked = summed(accelerator, counts).tolist()
        terms = self.gradients(micro, float(tokens), float(max(masked, 1)))
        ce, hard, cos = summed(accelerator, terms).tolist()
        loss = config.ce * ce + config.mlm * hard + config.cos * cos
        norm, made = self.apply(loss)
        shown = {"step": self.step, "tokens": tokens, "loss": loss, "ce": ce, self.objective.term: hard, "cos": cos}
        shown["norm"] = norm
        shown["tokens_per_second"] = tokens / (time.perf_counter() - began)
        if made:
            self.note(shown)
        return shown

    def after_update(self) -> None:
        """Evaluate about ten times in a run, and at its end."""
        if self.step % self.every == 0 or self.step == self.steps:
            self.evaluate()

    def shown(self, terms: dict[str, float]) -> dict[str, str]:
        """The loss, the terms with a weight, and the speed, for the progress line."""
        weights = {"ce": self.config.ce, self.objective.term: self.config.mlm, "cos": self.config.cos}
        names = [name for name, weight in weights.items() if weight]
        shown = super().shown(terms) | {n: f"{terms[n]:.3f}" for n in names if len(names) > 1}
        return shown | {"tokens/s": f"{terms['tokens_per_second']:,.0f}"}


def check_shares(config: PretrainingConfig, processes: int) -> None:
    """Raise ValueError when an update cannot be shared out evenly among the processes."""
    if config.batch_size % (config.rows(processes) * processes):
        raise ValueError(
            f"batch_size {config.batch_size} is no multiple of micro_batch_size {config.rows(processes)} × "
            f"{processes} process{'es' * (processes > 1)}: every update must share out evenly"
        )


def check_run(config: PretrainingConfig, corpus: Corpus, teacher: PreTrainedModel | None, processes: int) -> None:
    """Raise ValueError for settings that do not fit each other, before any long work."""
    if teacher is None and (config.ce or config.cos):
        raise ValueError("without a teacher only L_mlm is defined: set the weights ce and cos to 0")
    check_shares(config, processes)
    if corpus.info["seq_length"] != config.seq_length:
        raise ValueError(
            f"the corpus has blocks of {corpus.info['seq_length']} tokens, the configuration says "
            f"{config.seq_length}; build the corpus again"
        )


def check_positions(config: PretrainingConfig, model: PreTrainedModel) -> None:
    """Raise ValueError when blocks are longer than the model can read."""
    if config.seq_length > families.longest(model.config):
        raise ValueError(
            f"seq_length is {config.seq_length}, but the model reads {families.longest(model.config)} tokens at most; "
            "use a smaller --seq-length"
        )


def check_output(out: Path, config: PretrainingConfig) -> None:
    """Raise ValueError when folder `out` holds something other than an unfinished or finished run of `config`."""
    if not out.exists() or not any(out.iterdir()):
        return
    saved = checkpoints.identity(out / "checkpoints")
    if saved is None and {path.name for path in out.iterdir()} == {"checkpoints"}:
        return  # the run was stopped before its first checkpoint
    if saved is None:
        raise ValueError(f"the output folder {out} is not empty and holds no run; choose another --out or --name")
    settings = config.binding
    checkpoints.check_identity(out / "checkpoints", {k: v for k, v in saved.items() if k in settings}, settings)


def pretrain(
    student: PreTrainedModel,
    corpus: Corpus,
    masker: Masker | NextWord,
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
    """Train `student` in place and return the run's record, with its curve and its held-out `evaluations`.

    With `out`, checkpoints go to `out/checkpoints`, and a run found there is resumed. After update `stop_after`
    this sitting ends, and the same call without it goes on from there. Further keywords are added to the record.

    A first SIGTERM or Ctrl-C ends the run after its update and a checkpoint, with `Stopped`; a second ends it at once.

    Raises ValueError before any work when settings do not fit or `out` holds another run or one in progress, and
    FloatingPointError when `max_skipped` updates in a row had no finite loss and gradient.
    """
    check_run(config, corpus, teacher, accelerator.num_processes)
    quiet = quiet or not accelerator.is_main_process
    with explained(), alone_in(out / "checkpoints" if out else None, accelerator):
        run = Run(student, corpus, masker, accelerator, config, teacher, out)
        stop = min(run.steps, stop_after or run.steps)
        if run.step < stop and not quiet:
            print(_announce(run, name), flush=True)
        if run.step == 0:
            run.evaluate()
        student.train()
        run.advance(stop, iter(run.loader(stop)), name, quiet)
        record = _record(run, name, **provenance)
    drop_projection(student)
    return record


def _announce(run: Run, name: str) -> str:
    config, resumed = run.config, f", going on from update {run.step:,}" if run.step else ""
    try:
        cost = run.cost()
        run.estimate = {"from_step": run.step, "seconds": cost.seconds, "memory_bytes": cost.memory_bytes}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        cost = f"no estimate: {run.rows} sequences at once do not fit into memory, fewer will be tried"
    updates = f"{run.steps:,} update{'s' * (run.steps > 1)}"
    return f"{name}: {updates} of {config.batch_size} sequences of {config.seq_length} tokens{resumed}\n{cost}"


def _record(run: Run, name: str, **provenance: Any) -> dict[str, Any]:
    read = run.curve.get("tokens", [])  # empty where no update was made before `stop_after`
    curve = run.curve | {"tokens": np.cumsum(read).tolist()}
    last = run.evaluations[-1]
    estimate = run.estimate and {key: round(value) for key, value in run.estimate.items()} | {
        "took_seconds": round(run.stopwatch.read()["wall_seconds"]),
        "peak_memory_bytes": memory_use(run.accelerator.device)[1],
    }
    values = {
        "seed": run.config.seed,
        "scores": {k: v for k, v in last.items() if k not in ("step", "tokens")},
        "tokens": sum(read),
        "steps": run.step,
        "curve": curve,
        "config": asdict(run.config) | {"backup": Path(run.config.backup).name},
        "data": run.corpus.provenance(),
        "evaluations": {key: [row[key] for row in run.evaluations] for key in last},
        "processes": run.accelerator.num_processes,
        "worlds": run.worlds,
        "exchange": {key: round(value, 3) for key, value in run.exchange.items()},  # between processes, last sitting
        "precision": run.accelerator.mixed_precision,
        "norm_gradients": half.NORM_GRADIENTS,
        **run.faults(),
        "compiled_head": run.accelerator.unwrap_model(run.module).compiled,
        "estimate": estimate,  # of the last sitting, with its actual cost
    }
    kind = "teacher" if run.teacher is None else "distillation"
    distilled = run.config.ce or run.config.cos
    model = "teacher" if run.teacher is None else "student" if distilled else "undistilled"
    values = {"scale": "toy", "model": model} | values | run.time_spent() | provenance
    return new_record(kind, name, stopwatch=run.stopwatch, **values)
