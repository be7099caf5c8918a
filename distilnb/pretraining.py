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
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from . import backup, checkpoints, machine
from .corpus import Corpus, epoch_order
from .faults import in_a_row, is_out_of_memory, split
from .interrupts import SIGNALS, Interrupts, Stopped, leave_signals_to_the_main_process
from .losses import (
    IGNORE,
    LossWeights,
    check_temperature,
    cosine_loss,
    faster_head,
    vocabulary_losses,
    whole_vocabulary_losses,
)
from .masking import Masker, generator
from .processes import agree, alone_in, on_main, together
from .progress import Progress, duration
from .results import Stopwatch, new_record
from .scales import setting

# between two sittings of one run
MAY_CHANGE = ("workers", "checkpoint_every", "checkpoint_minutes", "keep", "backup", "max_skipped", "watts",
              "kwh_price")  # fmt: skip
EVALUATION_EPOCH = 2**31 - 1  # held-out masks are drawn for an epoch that training never reaches


@dataclass(frozen=True)
class PretrainingConfig:
    """How to train. Defaults are the original code's single-GPU recipe where it has one."""

    tokens: int = setting(1_000_000, "token budget: tokens seen by the student, padding not counted")
    seq_length: int = setting(128, "tokens per block (the original: 512)")
    batch_size: int = setting(64, "sequences per update, over all processes (the paper: up to 4K)")
    micro_batch_size: int = setting(16, "sequences per forward pass and process; the rest is accumulated")
    learning_rate: float = setting(5e-4, "peak learning rate of AdamW")
    warmup: float = setting(0.05, "share of the updates in which the rate climbs; then it falls to 0")
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay")
    clip: float = setting(5.0, "gradient norm above which gradients are scaled down")
    temperature: float = setting(2.0, "softens both distributions in L_ce")
    ce: float = setting(5.0, "weight of L_ce, the soft targets")
    mlm: float = setting(2.0, "weight of L_mlm, masked language modelling")
    cos: float = setting(1.0, "weight of L_cos, the direction of hidden states")
    positions: str = setting("all", "what L_ce covers: all tokens, or masked ones only", choices=["all", "masked"])
    mask_probability: float = setting(0.15, "share of tokens chosen for masking")
    smoothing: float = setting(0.7, "exponent that favours rare words in masking; 0 is uniform")
    layout: str = setting("packed", "packed blocks, or documents grouped by length", choices=["packed", "grouped"])
    seed: int = setting(56, "fixes order, masks and dropout (56 in the original)")
    workers: int = setting(0, "processes that prepare batches; the result does not depend on it")
    watts: float = setting(0.0, "power the machine draws, for the estimate (0: 65 W, with a GPU 300 W, an assumption)")
    kwh_price: float = setting(0.3, "price of a kWh, for the estimate (an assumption, in your currency)")
    evaluate_every: int = setting(0, "updates between held-out evaluations; 0 is about ten in a run")
    checkpoint_every: int = setting(0, "updates between checkpoints; 0 is by minutes only")
    checkpoint_minutes: float = setting(10.0, "minutes between checkpoints")
    keep: int = setting(2, "checkpoints that are kept")
    backup: str = setting("", "folder, such as a mounted Drive, that each checkpoint is copied to as one file; a run "
                              "whose own folder is lost goes on from there")  # fmt: skip
    max_skipped: int = setting(10, "updates in a row without a finite loss and gradient after which the run stops")

    def __post_init__(self) -> None:
        LossWeights(self.ce, self.mlm, self.cos)
        check_temperature(self.temperature)
        for name in ("tokens", "seq_length", "batch_size", "micro_batch_size", "learning_rate", "clip", "keep",
                     "max_skipped"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.positions not in ("all", "masked"):
            raise ValueError(f"positions is '{self.positions}'; use 'all' or 'masked'")

    @property
    def weights(self) -> LossWeights:
        """The three loss weights."""
        return LossWeights(self.ce, self.mlm, self.cos)

    def steps(self, corpus: Corpus) -> int:
        """Number of updates in which the token budget is seen, for this corpus's mean length."""
        return max(1, math.ceil(self.tokens / (self.batch_size * float(corpus.train_lengths.mean()))))

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Linear climb over the first `warmup` share of the updates, then a linear fall to zero."""
        climb = max(1, round(self.warmup * steps))
        return self.learning_rate * min((step + 1) / climb, (steps - step) / max(1, steps - climb))


class MaskedRows:
    """Rows of a corpus as masked samples; an item is asked for as (epoch, sample id)."""

    def __init__(self, rows: Any, masker: Masker):
        self.rows, self.masker = rows, masker

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict[str, np.ndarray]]:
        ids = self.rows[[int(i) for _, i in keys]]["input_ids"]
        masked = [self.masker(np.asarray(row), epoch, int(i)) for row, (epoch, i) in zip(ids, keys, strict=True)]
        return [{"input_ids": m, "labels": labels} for m, labels in masked]


class MicroBatches:
    """The keys of every micro-batch of one process, from update `start` to `stop`.

    Updates cut one endless stream of samples into stretches of `batch_size`; epochs follow each other without a
    gap, so no incomplete batch is dropped or carried over. Processes and micro-batches share a stretch out.
    """

    def __init__(
        self, corpus: Corpus, config: PretrainingConfig, start: int, stop: int, rank: int = 0, processes: int = 1
    ):
        self.corpus, self.config, self.start, self.stop = corpus, config, start, stop
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return (self.stop - self.start) * (self.config.batch_size // (self.config.micro_batch_size * self.processes))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        lengths, batch, micro = self.corpus.train_lengths, self.config.batch_size, self.config.micro_batch_size

        @lru_cache(2)
        def order(epoch: int) -> np.ndarray:
            return epoch_order(lengths, batch, self.config.seed, epoch, group=self.corpus.padded)

        for step in range(self.start, self.stop):
            stretch = [divmod(i, len(lengths)) for i in range(step * batch, (step + 1) * batch)]
            for first in range(self.rank * micro, batch, micro * self.processes):
                yield [(epoch, int(order(epoch)[place])) for epoch, place in stretch[first : first + micro]]


def collate(samples: list[dict[str, np.ndarray]], pad_id: int = 0) -> dict[str, Tensor]:
    """Stack samples, padded to the longest: input_ids, labels, attention_mask, each (batch, seq)."""
    longest = max(len(s["input_ids"]) for s in samples)
    ids = np.full((len(samples), longest), pad_id, dtype=np.int64)
    labels = np.full((len(samples), longest), IGNORE, dtype=np.int64)
    for i, sample in enumerate(samples):
        ids[i, : len(sample["input_ids"])] = sample["input_ids"]
        labels[i, : len(sample["labels"])] = sample["labels"]
    lengths = np.array([[len(s["input_ids"])] for s in samples])
    attention = (np.arange(longest)[None] < lengths).astype(np.int64)
    return {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "attention_mask": torch.from_numpy(attention),
    }


def hidden_states(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Last hidden states (batch, seq, dim) of a BERT or DistilBERT masked language model."""
    full = bool(batch["attention_mask"].all())  # no mask at all lets the faster attention kernel run
    return model.base_model(batch["input_ids"], attention_mask=None if full else batch["attention_mask"])[0]


def head_input(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """What the decoder multiplies: the MLM head's dense layer, activation and LayerNorm, (..., dim)."""
    if model.config.model_type == "bert":
        return model.cls.predictions.transform(hidden)
    return model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))


class _Network(nn.Module):
    """A masked language model up to its decoder, so that all its weights can be exchanged at once."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor], rows: Tensor | None) -> tuple[Tensor, Any]:
        hidden = hidden_states(self.model, batch).flatten(0, 1)
        if rows is None:
            return hidden, None
        decoder = self.model.get_output_embeddings()
        few = hidden if len(rows) == len(hidden) else hidden.index_select(0, rows)
        return hidden, (head_input(self.model, few), decoder.weight, decoder.bias)


def network(
    model: PreTrainedModel, batch: dict[str, Tensor], rows: Tensor | None, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Any]:
    """Hidden states (tokens, dim), and what the decoder multiplies at `rows` with its weight and bias (None: no rows).

    In `dtype` from the embeddings on, on copies of the float32 weights. The embeddings themselves stay in float32:
    the gradient of a frequent word is a sum of many, too many for 8 bits.
    """
    if model.dtype == dtype:
        return _Network(model)(batch, rows)
    weights = {f"model.{name}": parameter if "embeddings" in name else parameter.to(dtype)
               for name, parameter in model.named_parameters()}  # fmt: skip
    hook = model.base_model.embeddings.register_forward_hook(lambda *found: found[-1].to(dtype))
    try:
        return functional_call(_Network(model), weights, (batch, rows))
    finally:
        hook.remove()


class Distillation(nn.Module):
    """Student and frozen teacher in one forward pass that returns the loss: what `accelerate` wraps.

    Under bf16 autocast both run in bf16 from the embeddings on, so that nothing is cast between one operation and the
    next; weights, their gradients and the loss stay in float32.
    """

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel | None, config: PretrainingConfig):
        super().__init__()
        self.student, self.config = student, config
        self._teacher = [teacher]  # in a list, so that it is no submodule: not trained, not saved, not synchronized
        self._copies: dict[torch.dtype, PreTrainedModel] = {}
        self._head: Callable | None = None

    def _teacher_in(self, dtype: torch.dtype) -> PreTrainedModel:
        """The teacher in the precision we compute in; a copy, made once."""
        if self._teacher[0].dtype == dtype:
            return self._teacher[0]
        if dtype not in self._copies:
            self._copies[dtype] = deepcopy(self._teacher[0]).to(dtype)
        return self._copies[dtype]

    def forward(self, batch: dict[str, Tensor], tokens: float, masked: float) -> tuple[Tensor, Tensor]:
        """(loss, terms): the share of this micro-batch in an update of `tokens` tokens and `masked` masked words.

        terms is (3,): its shares of the mean L_ce, L_mlm and L_cos.
        """
        kind = batch["input_ids"].device.type
        if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16:
            with torch.autocast(kind, enabled=False):
                return self._losses(batch, tokens, masked, torch.bfloat16)
        return self._losses(batch, tokens, masked, torch.float32)

    def _losses(
        self, batch: dict[str, Tensor], tokens: float, masked: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        config, labels = self.config, batch["labels"].flatten()
        real = batch["attention_mask"].flatten().nonzero()[:, 0]
        everywhere = config.ce and config.positions == "all"
        rows = real if everywhere else (labels != IGNORE).nonzero()[:, 0] if config.ce or config.mlm else None
        hidden, part = network(self.student, batch, rows, dtype)
        if config.ce or config.cos:
            with torch.inference_mode():
                t_hidden, t_part = network(self._teacher_in(dtype), batch, rows if config.ce else None, dtype)
        loss = ce = mlm = cos = hidden.new_zeros((), dtype=torch.float32)
        count = tokens if everywhere else masked
        if rows is not None:
            # scales are kept near 1 (and the count divided out at the end) so that half precision loses nothing
            loss, ce, mlm = self._vocabulary_losses(
                _computing(part[0]), *part[1:], labels[rows], temperature=config.temperature, ce_scale=config.ce,
                mlm_scale=config.mlm * count / masked,
                teacher=(_computing(t_part[0]), _computing(t_part[1]), t_part[2]) if config.ce else None,
            )  # fmt: skip
        loss = loss / count
        if config.cos:
            at = slice(None) if len(real) == len(hidden) else real
            cos = cosine_loss(hidden[at], t_hidden.clone()[at], torch.ones_like(real), count=tokens)
            loss = loss + config.cos * cos
        return loss, torch.stack([ce / count, mlm / masked, cos.detach()])

    def _vocabulary_losses(self, hidden: Tensor, *args: Any, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The head in chunks; on a GPU, `torch.compile` of the plain one where that is faster on the first batch."""
        if not _on_gpu(hidden) or not torch.is_grad_enabled():
            return vocabulary_losses(hidden, *args, **settings)
        if self._head is None:
            heads = vocabulary_losses, torch.compile(whole_vocabulary_losses, dynamic=True)
            apart = [x.detach().requires_grad_(x.requires_grad) for x in args]
            self._head = faster_head(heads, hidden, *apart, **settings)
        return self._head(hidden, *args, **settings)


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _computing(tensor: Tensor) -> Tensor:
    """The tensor in the precision that autocast computes matrix products in."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


@torch.no_grad()
def evaluate(
    student: PreTrainedModel, corpus: Corpus, masker: Masker, accelerator: Accelerator,
    teacher: PreTrainedModel | None = None, rows: int = 256, batch_size: int = 32,
) -> dict[str, float]:  # fmt: skip
    """Held-out MLM loss and accuracy (uniform 15 % masks, always the same), and agreement with the teacher.

    Agreement is the share of masked words for which student and teacher guess the same piece first.
    """
    uniform = replace(masker, weights=(masker.weights > 0).astype(float), probability=0.15, seed=0)
    data = MaskedRows(corpus.heldout, uniform)
    rows = min(rows, len(corpus.heldout))
    sums = torch.zeros(4, dtype=torch.float64, device=accelerator.device)
    training = student.training
    student.eval()
    for first in range(accelerator.process_index * batch_size, rows, batch_size * accelerator.num_processes):
        keys = [(EVALUATION_EPOCH, i) for i in range(first, min(first + batch_size, rows))]
        batch = {k: v.to(accelerator.device) for k, v in collate(data.__getitems__(keys)).items()}
        chosen = batch["labels"] != IGNORE
        truth = batch["labels"][chosen]
        with accelerator.autocast():
            logits = student.get_output_embeddings()(head_input(student, hidden_states(student, batch)[chosen])).float()
            guess, agree = logits.argmax(-1), 0.0
            if teacher is not None:
                theirs = teacher.get_output_embeddings()(head_input(teacher, hidden_states(teacher, batch)[chosen]))
                agree = (guess == theirs.argmax(-1)).sum()
        loss = nn.functional.cross_entropy(logits, truth, reduction="sum")
        sums += torch.stack([torch.as_tensor(x, dtype=torch.float64, device=sums.device)
                             for x in (loss, (guess == truth).sum(), agree, len(truth))])  # fmt: skip
    student.train(training)
    loss, correct, agree, count = (accelerator.reduce(sums) if accelerator.num_processes > 1 else sums).tolist()
    scores = {"mlm_loss": loss / count, "accuracy": correct / count}
    return scores | ({"agreement": agree / count} if teacher is not None else {})


@dataclass(frozen=True)
class Estimate:
    """What a run will take, measured on this machine before it starts. Power and price are the settings' word."""

    seconds: float
    memory_bytes: float
    disk_bytes: float
    tokens_per_second: float
    watts: float = 0.0
    kwh_price: float = 0.0

    @property
    def kwh(self) -> float:
        """Energy, at constant power."""
        return self.watts * self.seconds / 3.6e6

    def __str__(self) -> str:
        said = (
            f"estimate: about {duration(self.seconds)} at {self.tokens_per_second:,.0f} tokens/s, "
            f"{self.memory_bytes / 2**30:.1f} GiB of memory, {self.disk_bytes / 2**20:.0f} MiB of checkpoints"
        )
        energy = f", {self.kwh:.2g} kWh for {self.kwh * self.kwh_price:.2g} (assumed: {self.watts:.0f} W, " \
                 f"{self.kwh_price:g} a kWh)"  # fmt: skip
        return said + (energy if self.watts else "")


def estimate(
    step: Distillation, batch: dict[str, Tensor], accelerator: Accelerator, tokens: int, trials: int = 2
) -> Estimate:
    """Time and memory of forward and backward passes of one micro-batch (after one to warm up); nothing is updated.

    Memory is the most that this process will have held (on a GPU: that the GPU will have), with the optimizer's state
    and, on a CPU, the copy that saving makes of it.
    """
    seen, device = int(batch["attention_mask"].sum()), accelerator.device
    for trial in range(trials + 1):
        if trial == 1:
            began = machine.now(device)
        with accelerator.autocast():
            loss, _ = step(batch, seen, max(1, int((batch["labels"] != IGNORE).sum())))
        loss.backward()
        step.zero_grad()
    rate = accelerator.num_processes * seen * trials / (machine.now(device) - began)
    own = sum(p.numel() for p in step.student.parameters())
    held, peak = machine.memory(device)
    saving = 8 * own if device.type == "cpu" else 0
    return Estimate(tokens / rate, max(peak, held + saving) + 8 * own, 2 * 12 * own, rate)


def estimate_run(run: "Run", batch: dict[str, Tensor], tokens: int) -> Estimate:
    """What is left of a run, `tokens` tokens: passes, optimizer, held-out evaluations and checkpoints.

    Nothing in it waits for other processes, so that one alone may ask.
    """
    config, device, step = run.config, run.accelerator.device, run.accelerator.unwrap_model(run.module)
    passes = estimate(step, batch, run.accelerator, tokens)
    updates, own = run.steps - run.step, sum(p.numel() for p in run.names)
    training = passes.seconds + updates * _optimizer_seconds(own, device)
    began = machine.now(device)
    with torch.no_grad(), run.accelerator.autocast():
        step(batch, 1.0, 1.0)
    share = min(256, len(run.corpus.heldout)) / len(batch["input_ids"]) / run.accelerator.num_processes
    every = config.evaluate_every or max(1, run.steps // 10)
    judging = (updates // every + 1) * share * (machine.now(device) - began)
    saves = 1 + training / 60 / config.checkpoint_minutes
    saves += updates // config.checkpoint_every if config.checkpoint_every else 0
    kept, saving = min(int(saves), config.keep), 0.0
    if run.folder:
        saving = saves * 12 * own / machine.write_rate(run.folder, min(2**23, 12 * own))
    watts = config.watts or (300.0 if device.type == "cuda" else 65.0)
    return Estimate(training + judging + saving, passes.memory_bytes, kept * 12 * own if run.folder else 0,
                    tokens / training, watts, config.kwh_price)  # fmt: skip


def _optimizer_seconds(parameters: int, device: torch.device, tried: int = 2**20) -> float:
    """Seconds of clipping and of an AdamW step, judged by one on a million parameters."""
    made = nn.Parameter(torch.zeros(tried, device=device))
    made.grad = torch.zeros_like(made)
    optimizer = torch.optim.AdamW([made], fused=True)
    for _ in range(2):  # the first makes the optimizer's state
        began = machine.now(device)
        nn.utils.clip_grad_norm_([made], 1.0)
        optimizer.step()
    return (machine.now(device) - began) * parameters / tried


class Run:
    """One pre-training run in progress: what `pretrain` steps through, saves and takes up again."""

    def __init__(
        self, student: PreTrainedModel, corpus: Corpus, masker: Masker, accelerator: Accelerator,
        config: PretrainingConfig, teacher: PreTrainedModel | None, out: Path | None,
    ):  # fmt: skip
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
        optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), eps=1e-6,
                                      weight_decay=config.weight_decay, fused=True)  # fmt: skip
        self.step, self.curve, self.evaluations, self.spent = 0, [], [], {"wall_seconds": 0.0, "cpu_seconds": 0.0}
        self.skipped: list[list] = []  # [step, loss, norm] of the updates that were not made
        self.halved: list[list[int]] = []  # [step, rows of a forward pass from then on]
        self.overflows = 0  # updates that fp16's scaler left out
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
            "data": self.corpus.info["fingerprint"], "vocabulary": self.corpus.info["tokenizer"],
            "parameters": sum(p.numel() for p in self.names), "processes": self.accelerator.num_processes,
            "precision": self.accelerator.mixed_precision, "teacher": self.teacher_fingerprint,
            "student": getattr(self.student.config, "initialized_from", None),
        }  # fmt: skip

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
        checkpoints.load_model(self.names, saved.tensors["model"])
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
            "curve": self.curve, "evaluations": self.evaluations, "spent": self.time_spent(),
            "skipped": self.skipped, "halved": self.halved, "overflows": self.overflows,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,  # of fp16
        }  # fmt: skip
        checkpoint = checkpoints.Checkpoint(self.step, tensors, state)
        path = checkpoints.save(self.folder, checkpoint, self.identity, self.config.keep)
        if self.backup:
            try:
                backup.save(path, self.backup, self.config.keep)
            except OSError as error:
                warnings.warn(f"no backup of update {self.step} ({error}); {path} is whole, and the run goes on",
                              stacklevel=2)  # fmt: skip

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
        return DataLoader(MaskedRows(self.corpus.train, self.masker), batch_sampler=keys, collate_fn=collate,
                          num_workers=self.config.workers, generator=torch.Generator(),
                          worker_init_fn=leave_signals_to_the_main_process,
                          pin_memory=self.accelerator.device.type == "cuda")  # fmt: skip

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
                raise RuntimeError(f"a single sequence of {self.config.seq_length} tokens does not fit into memory; "
                                   "use a smaller --seq_length or model")  # fmt: skip
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


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Dropout as a pure function of (seed, step, process): nothing random has to be saved or restored."""
    torch.manual_seed(int(generator(seed, step, rank).integers(2**62)))


def pretrain(
    student: PreTrainedModel, corpus: Corpus, masker: Masker, accelerator: Accelerator, config: PretrainingConfig,
    *, teacher: PreTrainedModel | None = None, out: Path | None = None, name: str = "distillation",
    stop_after: int | None = None, quiet: bool = False, **provenance: Any,
) -> dict[str, Any]:  # fmt: skip
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
    values = {
        "seed": run.config.seed, "scores": {k: v for k, v in last.items() if k not in ("step", "tokens")},
        "tokens": curve["tokens"][-1], "steps": run.step, "curve": curve, "config": asdict(run.config),
        "data": run.corpus.provenance(),
        "evaluations": {key: [row[key] for row in run.evaluations] for key in last},
        "processes": run.accelerator.num_processes, "precision": run.accelerator.mixed_precision,
        "skipped": len(run.skipped), "skipped_steps": [step for step, *_ in run.skipped[:100]],
        "overflows": run.overflows,
        "out_of_memory": [{"step": step, "micro_batch_size": rows} for step, rows in run.halved],
    }  # fmt: skip
    kind = "teacher" if run.teacher is None else "distillation"
    distilled = run.config.ce or run.config.cos
    model = "teacher" if run.teacher is None else "student" if distilled else "undistilled"
    values = {"scale": "toy", "model": model} | values | run.time_spent() | provenance
    return new_record(kind, name, stopwatch=run.stopwatch, **values)
