"""Fine-tuning on a task (paper section 4): one loop for classification and regression, BERT and DistilBERT.

Padding is the enemy: rows are padded to the longest of their batch only, and batches hold rows of like length.
Order, dropout and the new head are pure functions of the seed, and the result of an update does not depend on how
many processes share it. Every row of a validation split is scored, once, by whichever process it falls to: the
paper's early numbers are thought to have suffered from scoring only one process's share.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    BertForSequenceClassification,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from . import hub, metrics, paths, results
from .checkpoints import fingerprint
from .corpus import epoch_order
from .pretraining import PretrainingConfig, seed_dropout
from .progress import Progress
from .tasks import TRUNCATIONS, Task, TaskData
from .teacher import check_vocabulary

CLASSES = {"bert": BertForSequenceClassification, "distilbert": DistilBertForSequenceClassification}
HEADS = ("classifier.", "pre_classifier.", "bert.pooler.")  # what a masked language model has not got
LONG = 1000  # updates from which a run inside a grid shows its own progress


@dataclass(frozen=True)
class FinetuningConfig:
    """How to fine-tune. The paper states none of it; these are BERT's own settings (Devlin et al. 2019, A.3)."""

    epochs: float = field(default=3.0, metadata={"help": "passes over the training rows"})
    batch_size: int = field(default=32, metadata={"help": "rows per update, over all processes"})
    learning_rate: float = field(default=5e-5, metadata={"help": "peak learning rate of AdamW"})
    warmup: float = field(
        default=0.1, metadata={"help": "share of the updates in which the rate climbs; then it falls to 0"}
    )
    weight_decay: float = field(
        default=0.01, metadata={"help": "AdamW's decoupled weight decay; biases and LayerNorms have none"}
    )
    clip: float = field(default=1.0, metadata={"help": "gradient norm above which gradients are scaled down"})
    max_length: int = field(default=128, metadata={"help": "tokens of a row; longer ones are cut"})
    truncation: str = field(
        default="head",
        metadata={"help": "what a single text that is too long keeps; pairs: head", "choices": list(TRUNCATIONS)},
    )
    seed: int = field(default=42, metadata={"help": "fixes the new head, the order of rows and dropout"})

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "clip", "max_length"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}; it is a share of the updates, from 0 to below 1")

    learning_rate_at = PretrainingConfig.learning_rate_at  # the same climb and fall

    def steps(self, rows: int) -> int:
        """Number of updates for this many training rows; the last batch of an epoch may be short."""
        return max(1, round(self.epochs * math.ceil(rows / self.batch_size)))


def classifier(
    source: PreTrainedModel | str | Path, num_labels: int, seed: int = 0, revision: str | None = None
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """A classifier (num_labels = 1: a regressor) with the encoder of `source`, and the names of its new tensors.

    `source` is a masked language model already built (it is copied, not changed), a folder or a Hub repository.
    New are always the last layer and, for DistilBERT, the layer before it. BERT's pooler is new as well unless the
    checkpoint brings one: a masked language model has none. New tensors are drawn from `seed`.

    Raises ValueError for a model that is no BERT or DistilBERT, or that lacks a tensor of its encoder.
    """
    if isinstance(source, PreTrainedModel):
        model, missing = _around(source, num_labels)
        what = f"this {type(source).__name__}"
    else:
        model, missing = _read(str(source), num_labels, revision)
        what = f"model '{source}'"
    lost = [name for name in missing if not name.startswith(HEADS)]
    if lost:
        raise ValueError(f"{what} lacks {len(lost)} tensors of its encoder, first {lost[0]}: nothing to fine-tune")
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in missing:
            tensor = model.get_parameter(name)
            if name.endswith(".bias"):
                tensor.zero_()
            else:
                tensor.normal_(0, model.config.initializer_range, generator=draw)
    return model.eval(), tuple(missing)


def _class_for(kind: str, what: str) -> type[PreTrainedModel]:
    if kind not in CLASSES:
        raise ValueError(f"{what} is a {kind} model; {' or '.join(CLASSES)} is needed")
    return CLASSES[kind]


def _around(source: PreTrainedModel, num_labels: int) -> tuple[PreTrainedModel, list[str]]:
    """A classifier with the tensors of a model in memory, and the names of those that it did not have."""
    config = copy.deepcopy(source.config)
    config.num_labels = num_labels
    with torch.random.fork_rng(devices=[]):
        model = _class_for(config.model_type, f"this {type(source).__name__}")(config)
    wanted, theirs = model.state_dict(), source.state_dict()
    known = {name: theirs[name] for name, tensor in wanted.items()
             if name in theirs and theirs[name].shape == tensor.shape}  # fmt: skip
    model.load_state_dict(known, strict=False)
    return model, [name for name in wanted if name not in known]


def _read(path: str, num_labels: int, revision: str | None) -> tuple[PreTrainedModel, list[str]]:
    """The same from safetensors in a folder or on the Hub."""
    where = {"revision": revision, "trust_remote_code": False} | hub.reach(path, "model", f"model '{path}'")
    try:
        config = AutoConfig.from_pretrained(path, num_labels=num_labels, **where)
    except (OSError, ValueError) as error:
        raise ValueError(f"model '{path}' has no readable config.json; {hub.ADVICE}") from error
    kind = _class_for(config.model_type, f"model '{path}'")
    try:
        with torch.random.fork_rng(devices=[]), _no_report():
            model, report = kind.from_pretrained(
                path, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **where
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"model '{path}' has a configuration, but weights (model.safetensors) that fit it and a head of "
            f"{num_labels} cannot be read; {hub.ADVICE}"
        ) from error
    missing = set(report["missing_keys"])
    return model, [name for name in model.state_dict() if name in missing]


@contextmanager
def _no_report() -> Iterator[None]:
    """Without the table of missing tensors that `transformers` prints: `classifier` judges them itself."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def batch_order(lengths: np.ndarray, config: FinetuningConfig) -> Iterator[np.ndarray]:
    """The row numbers of each update: rows of like length together, a pure function of (seed, epoch)."""
    left, epoch = config.steps(len(lengths)), 0
    while left:
        order = epoch_order(lengths, config.batch_size, config.seed, epoch, group=True)
        batches = [order[i : i + config.batch_size] for i in range(0, len(order), config.batch_size)][:left]
        yield from batches
        left, epoch = left - len(batches), epoch + 1


def collate(rows: Dataset, chosen: Sequence[int], pad_id: int = 0) -> dict[str, Tensor]:
    """These rows, padded to the longest of them: input_ids, token_type_ids, attention_mask (batch, seq), labels."""
    rows = rows[[int(i) for i in chosen]]
    longest = int(rows["length"].max())
    attention = torch.arange(longest)[None] < torch.as_tensor(rows["length"])[:, None]
    batch = {"attention_mask": attention.long(), "labels": torch.as_tensor(rows["labels"])}
    for key, filler in (("input_ids", pad_id), ("token_type_ids", 0)):
        padded = np.full((len(chosen), longest), filler, dtype=np.int64)
        for i, ids in enumerate(rows[key]):
            padded[i, : len(ids)] = ids
        batch[key] = torch.from_numpy(padded)
    return batch


def forward(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Logits (batch, num_labels) in float32; BERT is told which text of a pair a token is of, DistilBERT cannot be."""
    inputs = {"input_ids": batch["input_ids"]}
    if not batch["attention_mask"].all():  # no mask at all lets the faster attention kernel run
        inputs["attention_mask"] = batch["attention_mask"]
    if model.config.model_type == "bert":
        inputs["token_type_ids"] = batch["token_type_ids"]
    return model(**inputs).logits.float()


class Finetuning(nn.Module):
    """A classifier and its loss in one forward pass: what `accelerate` wraps."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of each row, (batch,): cross-entropy, or the squared error of a regression."""
        logits, labels = forward(self.model, batch), batch["labels"]
        if self.model.config.num_labels == 1:
            return (logits.squeeze(-1) - labels) ** 2
        return nn.functional.cross_entropy(logits, labels, reduction="none")


@torch.no_grad()
def predict(
    model: PreTrainedModel, rows: Dataset, accelerator: Accelerator, pad_id: int = 0, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """(logits, labels) of all rows, in their order: (rows, num_labels) and (rows,). Processes share the work."""
    logits = torch.zeros(len(rows), model.config.num_labels, device=accelerator.device)
    order = np.argsort(-rows["length"][:], kind="stable")  # the longest first: too little memory shows at once
    step, training = batch_size * accelerator.num_processes, model.training
    model.eval()
    for first in range(batch_size * accelerator.process_index, len(order), step):
        chosen = order[first : first + batch_size]
        batch = {key: value.to(accelerator.device) for key, value in collate(rows, chosen, pad_id).items()}
        with accelerator.autocast():
            logits[chosen] = forward(model, batch)
    model.train(training)
    if accelerator.num_processes > 1:
        logits = accelerator.reduce(logits, "sum")  # each row was filled by one process
    return logits.cpu().numpy(), rows["labels"][:]


def evaluate(
    model: PreTrainedModel, data: TaskData, encoded: tuple[Dataset, dict[str, Dataset]], accelerator: Accelerator,
    pad_id: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Scores of every validation split, with the majority baseline and a 95 % bootstrap `interval` of the main score.

    The first split's metrics have their plain names, another's its name in front ("validation_mismatched_accuracy").
    """
    task, (train, validations) = data.task, encoded
    scores: dict[str, float] = {}
    for split, rows in validations.items():
        logits, labels = predict(model, rows, accelerator, pad_id)
        if not np.isfinite(logits).all():
            raise FloatingPointError("the model's answers are no finite numbers; use a smaller learning rate")
        answers = logits[:, 0] if task.regression else logits.argmax(-1)
        found = metrics.score(task.metrics, answers, labels)
        if scores:
            scores |= {f"{split}_{name}": value for name, value in found.items()}
            continue
        baseline = metrics.score(task.metrics, metrics.majority(train["labels"][:], len(labels)), labels)
        scores = {"main": metrics.main_score(task.main, found), **found,
                  "majority": metrics.main_score(task.main, baseline)}  # fmt: skip
        interval = metrics.bootstrap(task.main, answers, labels)
    return {"scores": scores, "interval": [round(bound, 5) for bound in interval]}


def check_run(model: PreTrainedModel, task: Task, tokenizer: PreTrainedTokenizerBase, config: FinetuningConfig) -> None:
    """Raise ValueError for a model, task and settings that do not fit each other, before any long work."""
    if model.config.num_labels != task.num_labels:
        raise ValueError(
            f"task {task.name} has {task.num_labels} output(s), the model {model.config.num_labels}: "
            f"build it by classifier(source, num_labels={task.num_labels})"
        )
    if config.max_length > model.config.max_position_embeddings:
        raise ValueError(
            f"max_length is {config.max_length}, but the model has {model.config.max_position_embeddings} positions"
        )
    check_vocabulary(model.config, tokenizer)


def finetune(
    model: PreTrainedModel, data: TaskData, tokenizer: PreTrainedTokenizerBase, accelerator: Accelerator,
    config: FinetuningConfig, *, name: str = "finetuning", scale: str = "toy", model_name: str = "student",
    quiet: bool = False, **provenance: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train a `classifier` on a task, in place, and score it after the last update; the record of the run.

    No update, setting or stopping point is chosen on a validation split. `provenance` is added to the record.
    Raises ValueError before any work when things do not fit, FloatingPointError when the loss is no longer finite.
    """
    check_run(model, data.task, tokenizer, config)
    encoded, started_from = data.encoded(tokenizer, config.max_length, config.truncation), fingerprint(model)
    train, watch, quiet = encoded[0], results.Stopwatch(), quiet or not accelerator.is_main_process
    lengths, pad_id = train["length"][:], tokenizer.pad_token_id
    _name_labels(model, data.task)
    optimizer = torch.optim.AdamW(_parameter_groups(model, config), lr=config.learning_rate, eps=1e-6, fused=True)
    module, optimizer = accelerator.prepare(Finetuning(model.to(accelerator.device)), optimizer)
    module.train()
    steps, losses, tokens = config.steps(len(train)), [], 0
    with Progress(steps, name, quiet=quiet) as progress:
        for step, chosen in enumerate(batch_order(lengths, config)):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(step, steps)
            losses.append(_update(module, optimizer, train, chosen, pad_id, accelerator, config, step))
            tokens += int(lengths[chosen].sum())
            progress.step(loss=f"{losses[-1]:.3f}")
    found = evaluate(model.eval(), data, encoded, accelerator, pad_id)
    values = found | {
        "task": data.task.name, "seed": config.seed, "tokens": tokens, "steps": steps, "config": asdict(config),
        "curve": {"step": list(range(1, steps + 1)), "loss": losses}, "data": data.info, "started_from": started_from,
        "processes": accelerator.num_processes, "precision": accelerator.mixed_precision,
    }  # fmt: skip
    return results.new_record("finetuning", name, scale=scale, model=model_name, stopwatch=watch, **values | provenance)


def _update(
    module: nn.Module, optimizer: Any, train: Dataset, chosen: np.ndarray, pad_id: int, accelerator: Accelerator,
    config: FinetuningConfig, step: int,
) -> float:  # fmt: skip
    """One optimizer step on the rows `chosen`, shared out over the processes; their mean loss."""
    processes, rank = accelerator.num_processes, accelerator.process_index
    mine = chosen[rank::processes]
    share = processes / len(chosen) if len(mine) else 0.0  # processes average their gradients
    batch = collate(train, mine if len(mine) else chosen[:1], pad_id)  # all of them must take part
    seed_dropout(config.seed, step, rank)
    loss = module({key: value.to(accelerator.device) for key, value in batch.items()}).sum() * share
    mean = float(accelerator.reduce(loss.detach(), "mean"))
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss is {mean} at update {step + 1}; use a smaller learning rate")
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(module.parameters(), config.clip)
    optimizer.step()
    optimizer.zero_grad()
    return mean


def _parameter_groups(model: nn.Module, config: FinetuningConfig) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _name_labels(model: PreTrainedModel, task: Task) -> None:
    """Let the saved model say what its outputs mean."""
    if task.labels:
        model.config.id2label = dict(enumerate(task.labels))
        model.config.label2id = {label: i for i, label in enumerate(task.labels)}
    model.config.problem_type = "regression" if task.regression else "single_label_classification"


class Cell(NamedTuple):
    """One run of a grid: a model on a task with a seed (in `config`), and further keys for its record."""

    name: str
    model_name: str
    source: PreTrainedModel | str | Path
    data: TaskData
    config: FinetuningConfig
    provenance: dict[str, Any]

    def model(self) -> PreTrainedModel:
        """The classifier that this run starts from."""
        return classifier(self.source, self.data.task.num_labels, self.config.seed)[0]


def finetune_grid(
    models: Mapping[str, PreTrainedModel | str | Path], data: Iterable[TaskData], seeds: Iterable[int],
    tokenizer: PreTrainedTokenizerBase, accelerator: Accelerator, config: FinetuningConfig, *,
    scale: str = "toy", folder: Path | None = None, learning_rates: Sequence[float] = (),
    provenance: Mapping[str, dict[str, Any]] | None = None, quiet: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Fine-tune every model on every task with every seed; a record each, in `folder` (default `runs/`).

    A cell whose record is there, with the same settings, data and starting weights, is not run again. With
    `learning_rates`, each model and task first tries all of these (the same for every model) on nine tenths of the
    training rows and keeps the one that does best on the tenth; those trials are recorded in `folder/selection`.
    `provenance` adds keys to the records of a model, by its name in `models`.
    """
    folder, seeds, cells = Path(folder or paths.home() / "runs"), list(seeds), []
    if not (models and seeds):
        raise ValueError("a grid needs at least one model and one seed")
    quiet = quiet or not accelerator.is_main_process

    def cell(model: str, task: TaskData, suffix: str, more: dict[str, Any], **settings: Any) -> Cell:
        name = f"finetuning-{scale}-{model}-{task.task.name}-{suffix}"
        more = {"scale": scale} | (provenance or {}).get(model, {}) | more
        return Cell(name, model, models[model], task, replace(config, **settings), more)

    for task in data:
        carved = task.carve() if learning_rates else None
        for model in models:
            settings, more = {}, {}
            if carved:
                trials = [cell(model, carved, f"lr{rate:g}", {}, learning_rate=rate, seed=seeds[0])
                          for rate in learning_rates]  # fmt: skip
                what = f"{model} on {task.task.name}, choosing the learning rate"
                found = _run_missing(trials, folder / "selection", what, tokenizer, accelerator, quiet)
                more = {"selection": select(learning_rates, found)}
                settings = {"learning_rate": more["selection"]["chosen"]}
            cells += [cell(model, task, f"seed{seed}", more, seed=seed, **settings) for seed in seeds]
    finished = _run_missing(cells, folder, "fine-tuning", tokenizer, accelerator, quiet)
    for record, asked in zip(finished, cells, strict=True):
        if record is None:
            raise FloatingPointError(f"{asked.name} diverged at learning rate {asked.config.learning_rate:g}; the "
                                     "other runs are recorded: use a smaller rate")  # fmt: skip
    return finished


def select(rates: Sequence[float], trials: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """The learning rate that did best on the carved rows (the first of equals), beside all that were tried.

    A trial that diverged is None. Raises FloatingPointError when all did.
    """
    scores = [None if trial is None else trial["scores"]["main"] for trial in trials]
    if all(score is None for score in scores):
        raise FloatingPointError(f"every learning rate of {list(rates)} diverged; try smaller ones")
    best = max(range(len(rates)), key=lambda i: -math.inf if scores[i] is None else scores[i])
    return {"learning_rates": list(rates), "scores": scores, "chosen": rates[best]}


def _run_missing(
    cells: Sequence[Cell], folder: Path, what: str, tokenizer: PreTrainedTokenizerBase, accelerator: Accelerator,
    quiet: bool,
) -> list[dict[str, Any] | None]:  # fmt: skip
    """The record of every cell, run where there is none yet; None where the loss diverged."""
    found = [_recorded(cell, folder, quiet) for cell in cells]
    done = sum(record is not None for record in found)
    if done and not quiet:
        print(f"{what}: {done} of {len(cells)} runs are recorded in {folder} already", flush=True)
    with Progress(len(cells), what, done, lines=len(cells), quiet=quiet) as progress:
        for i, cell in enumerate(cells):
            if found[i] is not None:
                continue
            short = cell.config.steps(len(cell.data.train)) < LONG
            try:
                found[i] = finetune(cell.model(), cell.data, tokenizer, accelerator, cell.config, name=cell.name,
                                    model_name=cell.model_name, quiet=quiet or short, **cell.provenance)  # fmt: skip
                if accelerator.is_main_process:
                    results.save(found[i], folder)
            except FloatingPointError as error:
                if not quiet:
                    print(f"{cell.name}: {error}", flush=True)
            accelerator.free_memory()
            accelerator.wait_for_everyone()
            progress.step(run=cell.name, score=f"{found[i]['scores']['main']:.3f}" if found[i] else "diverged")
    return found


def _recorded(cell: Cell, folder: Path, quiet: bool) -> dict[str, Any] | None:
    """The record of this very run (settings, data, starting weights), if there is one; a line says why it is not."""
    path = folder / f"{cell.name}.json"
    if not path.is_file():
        return None

    def identity(config: dict[str, Any], data: dict[str, Any], weights: str | None) -> dict[str, Any]:
        return config | {"data": data["fingerprint"], "rows": data["rows"], "weights": weights}

    wanted = identity(asdict(cell.config), cell.data.info, fingerprint(cell.model()))
    try:
        record = results.load(path)
        there = identity(record["config"], record["data"], record.get("started_from"))
        why = ", ".join(f"{key} was {there.get(key)}, is {value}" for key, value in wanted.items()
                        if there.get(key) != value)  # fmt: skip
    except ValueError as error:
        why = str(error)
    if why and not quiet:
        print(f"{cell.name} is run again: {why}", flush=True)
    return None if why else record
