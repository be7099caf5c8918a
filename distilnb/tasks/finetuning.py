"""Fine-tuning on a task (paper sections 4 and 4.1): one loop for classes, numbers and answer spans (notebooks 04–06).

Left out are padding (`unpadding`) and the embeddings of words that no training row contains (`trimming`). To put rows
of like length together would avoid most padding too, but such a batch is no fair sample of the task (`report.grouping`
compares runs of both kinds).

Order, dropout and the new head are pure functions of the seed, and the result of an update does not depend on the
number of processes. Every row of a validation split is scored exactly once, by one of the processes; the paper's early
numbers are thought to have suffered from scoring only one process's share.

With a `teacher` that has been fine-tuned on the same task, the student also learns from the teacher's answers. This is
the second distillation step behind the paper's DistilBERT (D).
"""

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..distillation import checkpoints
from ..distillation.batches import pad
from ..distillation.checkpoints import fingerprint
from ..distillation.losses import check_temperature
from ..distillation.recipe import PretrainingConfig
from ..distillation.training import Batch, Training, in_halves
from ..evidence import comparing
from ..evidence.records import new_record
from ..machine import device
from ..machine.processes import alone_in, explained, first_on_disk, jointly, summed
from ..models import dropout, families, half, unpadding
from ..models.teacher import check_vocabulary, pad_causal
from ..models.trimming import Trimmed
from ..settings import setting
from ..text.corpus import vocabulary_hash
from ..text.randomness import epoch_order
from . import heads, metrics, squad
from .answers import Answer, find_answers
from .glue import TRUNCATIONS, Task, TaskData

PLAIN = (0.0, 1.0)  # the mean and standard deviation of labels that are taken as they are
NEVER = -1e4  # the logit of padding: probability 0, but finite, so that a KL divergence stays finite


@dataclass(frozen=True)
class FinetuningConfig:
    """The settings of a fine-tuning. The paper states none; the defaults are BERT's own (Devlin et al. 2019, A.3).

    `soft_weight` and `temperature` matter only with a fine-tuned teacher; their defaults are those of the original
    code's SQuAD script. `stride` matters only for SQuAD.
    """

    epochs: float = setting(3.0, "passes over the training rows")
    batch_size: int = setting(32, "rows per update, over all processes")
    learning_rate: float = setting(5e-5, "peak learning rate of AdamW")
    warmup: float = setting(0.1, "share of the updates in which the rate climbs; then it falls to 0")
    weight_decay: float = setting(0.01, "AdamW's decoupled weight decay; biases and LayerNorms have none")
    clip: float = setting(1.0, "gradient norm above which gradients are scaled down")
    max_length: int = setting(128, "tokens of a row; longer ones are cut, SQuAD's are read in several windows")
    truncation: str = setting("head", "what a single text that is too long keeps; pairs: head", choices=TRUNCATIONS)
    group_by_length: bool = setting(
        False, "rows of like length in a batch: less padding, but no fair sample of the task"
    )
    stride: int = setting(128, "tokens by which the next window over a long SQuAD context starts later")
    soft_weight: float = setting(0.5, "weight of the fine-tuned teacher's answers; the labels have the rest")
    temperature: float = setting(2.0, "softens both distributions when a fine-tuned teacher is matched")
    seed: int = setting(42, "fixes the new head, the order of rows and dropout")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "clip", "max_length", "stride"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} is {value}; it must be {'finite' if value > 0 else 'above 0'}")
        for name in ("weight_decay", "seed"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} is {value}; it must be {'finite' if value > 0 else 'at least 0'}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}; it is a share of the updates, from 0 to below 1")
        if not 0 < self.soft_weight <= 1:
            raise ValueError(f"soft_weight is {self.soft_weight}; it is a share of the loss, above 0 to 1")
        check_temperature(self.temperature)

    learning_rate_at = PretrainingConfig.learning_rate_at  # the same rise and fall

    def steps(self, rows: int) -> int:
        """The number of updates for this many training rows; the last batch of an epoch may be short."""
        return max(1, round(self.epochs * math.ceil(rows / self.batch_size)))


def recorded_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a record, with those that it does not state because they were no settings when it was made."""
    return {"group_by_length": True} | dict(config)


@dataclass(frozen=True)
class Safety:
    """The settings by which a fine-tuning survives kills, signals, a lack of memory and bad numbers.

    They do not change what is learned, except for rounding and, with micro-batches, the draws of dropout.
    """

    micro_batch_size: int = setting(0, "rows per forward pass and process; the rest is accumulated (0: all of them)")
    checkpoints: str = setting(
        "", "folder for the checkpoints of unfinished runs (default: unfinished/ in --out)", place=True
    )
    checkpoint_every: int = setting(0, "updates between checkpoints; 0 is by minutes only")
    checkpoint_minutes: float = setting(10.0, "minutes between checkpoints")
    max_skipped: int = setting(10, "updates in a row without a finite loss and gradient after which a run has diverged")

    keep = 1  # checkpoints of a run, deleted when the run is recorded

    def __post_init__(self) -> None:
        for name in ("micro_batch_size", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a number of at least 0")
        for name in ("checkpoint_minutes", "max_skipped"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} is {value}; it must be {'finite' if value > 0 else 'above 0'}")


UNSAVED = Safety()  # without a folder, an interrupted run leaves nothing


def encode(
    data: TaskData, tokenizer: PreTrainedTokenizerBase, config: FinetuningConfig
) -> tuple[Dataset, dict[str, Dataset]]:
    """The training and validation splits of `data` as rows of token ids, tokenized once for all models and seeds."""
    how = config.stride if data.task.spans else config.truncation
    return data.encoded(tokenizer, config.max_length, how)


def batch_order(lengths: np.ndarray, config: FinetuningConfig) -> Iterator[np.ndarray]:
    """The row numbers of each update, in an order that is a pure function of (seed, epoch)."""
    left, epoch = config.steps(len(lengths)), 0
    while left:
        order = epoch_order(lengths, config.batch_size, config.seed, epoch, config.group_by_length)
        batches = [order[i : i + config.batch_size] for i in range(0, len(order), config.batch_size)][:left]
        yield from batches
        left, epoch = left - len(batches), epoch + 1


def collate(rows: Dataset, chosen: Sequence[int], pad_id: int = 0) -> dict[str, Tensor]:
    """The chosen rows as one padded batch: input_ids, token_type_ids and attention_mask (batch, seq), and labels.

    Labels are (batch,), or (batch, 2) for the first and last token of an answer.
    """
    rows = rows[[int(i) for i in chosen]]
    fillers = {"input_ids": pad_id, "token_type_ids": 0}
    return pad({key: rows[key] for key in fillers}, fillers) | {"labels": torch.as_tensor(rows["labels"])}


def forward(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """The float32 logits: (batch, num_labels), or (batch, seq, 2) for start and end of an answer, padding at NEVER.

    Token types are passed to families that have them, such as BERT; DistilBERT has none.
    """
    read = {"input_ids", "attention_mask"} | ({"token_type_ids"} if families.reads_token_types(model.config) else set())
    mask = batch["attention_mask"]
    with unpadding.unpadded(model, {key: batch[key] for key in read}, dropout.ATTENTION) as inputs:
        outputs = half.call(model, model, half.wanted(mask), **inputs)
    if not heads.is_answerer(model):
        return outputs.logits.float()
    logits = torch.stack([outputs.start_logits, outputs.end_logits], dim=-1).float()
    return logits.masked_fill(mask[..., None] == 0, NEVER)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each row against its label, (batch,): cross-entropy, or the squared error of a regression.

    For several labels per row, labels (batch, num_labels) of 0.0 and 1.0, it is the mean of their cross-entropies.

    For spans, logits (batch, seq, 2) and labels (batch, 2), it is the mean of the cross-entropies of start and end.
    """
    if labels.is_floating_point():
        if labels.ndim == 1:
            return (logits.squeeze(-1) - labels) ** 2
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)
    loss = F.cross_entropy(logits, labels, reduction="none")
    return loss.mean(-1) if loss.ndim == 2 else loss


def teacher_loss(logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0, several: bool = False) -> Tensor:
    """The loss of each row against a fine-tuned teacher, (batch,): T² · KL(teacher ‖ student), both softened by T.

    For classes the distribution is over num_labels; with `several` labels per row, each has one of its own, over yes
    and no, and the loss is their mean. For spans it is over the tokens of a row without padding (which
    the original's script included), and the loss is the mean of start and end. A regression has one output and no
    distribution, so the loss is the squared difference.
    """
    if logits.shape[-1] == 1 and not several:
        return (logits - teacher_logits).squeeze(-1) ** 2
    if several:  # (batch, 2, num_labels)
        logits, teacher_logits = (torch.stack([x, torch.zeros_like(x)], dim=1) for x in (logits, teacher_logits))
    student, teacher = (F.log_softmax(x / temperature, dim=1) for x in (logits, teacher_logits))
    loss = temperature**2 * F.kl_div(student, teacher, log_target=True, reduction="none").sum(1)
    return loss.mean(-1) if loss.ndim == 2 else loss


class Finetuning(nn.Module):
    """A module whose forward pass returns a model's loss; `accelerate` wraps it."""

    def __init__(self, model: PreTrainedModel, config: FinetuningConfig, units: tuple[float, float] = PLAIN):
        super().__init__()
        self.model, self.config, self.units = model, config, units

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of each row, (batch,), against its label and, if the batch has them, a teacher's logits."""
        logits, config, labels = forward(self.model, batch), self.config, batch["labels"]
        if self.units != PLAIN:
            labels = (labels - self.units[0]) / self.units[1]
        loss = label_loss(logits, labels)
        if "teacher_logits" not in batch:
            return loss
        several = labels.is_floating_point() and labels.ndim == 2
        soft = teacher_loss(logits, batch["teacher_logits"], config.temperature, several)
        return config.soft_weight * soft + (1 - config.soft_weight) * loss


@torch.no_grad()
def predict(
    model: PreTrainedModel, rows: Dataset, accelerator: Accelerator, pad_id: int = 0, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """The logits and labels of all rows in order, (rows, num_labels) and (rows,); processes share the work.

    For spans they are (rows, longest row, 2) and (rows, 2), with NEVER beyond the end of a row.
    """
    lengths = rows["length"][:]
    if heads.is_answerer(model):
        logits = torch.full((len(rows), int(lengths.max()), 2), NEVER, device=accelerator.device)
    else:
        logits = torch.zeros(len(rows), model.config.num_labels, device=accelerator.device)
    own = torch.zeros(len(rows), dtype=torch.bool, device=accelerator.device)
    order = np.argsort(-lengths, kind="stable")  # the longest first, so that too little memory shows at once
    step, training = batch_size * accelerator.num_processes, model.training
    model.eval()
    for first in range(batch_size * accelerator.process_index, len(order), step):
        chosen = order[first : first + batch_size]
        batch = {key: value.to(accelerator.device) for key, value in collate(rows, chosen, pad_id).items()}
        with accelerator.autocast():
            answer = torch.cat(in_halves(partial(forward, model), batch))
        own[chosen] = True
        if answer.ndim == 3:
            logits[chosen, : answer.shape[1]] = answer
        else:
            logits[chosen] = answer
    model.train(training)
    if accelerator.num_processes > 1:  # each row was filled by one process
        logits[~own] = 0
        logits = accelerator.reduce(logits, "sum")
    return logits.cpu().numpy(), rows["labels"][:]


@torch.no_grad()
def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    context: str,
    n_best: int = 3,
    max_length: int = 192,
    stride: int = 64,
) -> list[Answer]:
    """The `n_best` answers of a model to one question about one passage, best first."""
    rows = Dataset.from_dict(
        {"question": [question], "context": [context], "answers": [{"text": [""], "answer_start": [0]}]}
    )
    pad_causal(model.config, tokenizer)
    windows = squad.features(rows, tokenizer, min(max_length, tokenizer.model_max_length), stride)
    batch = collate(windows, range(len(windows)), tokenizer.pad_token_id)
    training = model.training
    model.eval()
    batch = {key: value.to(model.device) for key, value in batch.items()}
    logits = forward(model, batch).cpu().numpy()  # (windows, seq, 2)
    model.train(training)
    return find_answers(logits, windows, rows, n_best)[0]


def evaluate(
    model: PreTrainedModel,
    data: TaskData,
    encoded: tuple[Dataset, dict[str, Dataset]],
    accelerator: Accelerator,
    pad_id: int = 0,
    units: tuple[float, float] = PLAIN,
) -> dict[str, Any]:
    """The scores of all validation splits, with the majority baseline and a 95 % bootstrap `interval` of the main one.

    The metrics of the first split have plain names, those of others the split's name as a prefix
    ("validation_mismatched_accuracy"). A regression answers in `units`, mean and standard deviation.
    """
    scores, interval = {}, None
    for split, rows in encoded[1].items():
        logits, _ = predict(model, rows, accelerator, pad_id)
        if not np.isfinite(logits).all():
            raise FloatingPointError("the model's answers are no finite numbers; use a smaller learning rate")
        if units != PLAIN:
            logits = logits * units[1] + units[0]
        scored, bounds = data.judge(split, rows, logits)
        if interval is None:
            baseline = {} if (lazy := data.baseline(split)) is None else {"majority": lazy}
            scores = {"main": metrics.main_score(data.task.main, scored), **scored, **baseline}
            interval = bounds
        else:
            scores |= {f"{split}_{name}": value for name, value in scored.items()}
    return {"scores": scores, "interval": [round(bound, 5) for bound in interval]}


def check_run(
    model: PreTrainedModel,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    config: FinetuningConfig,
    teacher: PreTrainedModel | None = None,
) -> None:
    """Raise ValueError for a model, task and settings that do not fit each other, before any long work."""
    for who, one in (("model", model), ("teacher", teacher)):
        if one is None:
            continue
        if heads.is_answerer(one) != task.spans or one.config.num_labels != task.num_labels:
            made = "question_answerer(source)" if task.spans else f"classifier(source, num_labels={task.num_labels})"
            raise ValueError(
                f"task {task.name} has {task.num_labels} output(s){' per token' if task.spans else ''}, the {who} is "
                f"a {type(one).__name__} with {one.config.num_labels}: build it by {made}"
            )
        if config.max_length > families.longest(one.config):
            raise ValueError(
                f"max_length is {config.max_length}, but the {who} reads {families.longest(one.config)} tokens: "
                f"use --max-length {families.longest(one.config)} or less"
            )
        check_vocabulary(one.config, tokenizer)


class TaskRun(Training):
    """One fine-tuning in progress, which `finetune` steps through, saves and resumes.

    Until the end of its `with` block, the model has embeddings for no other words than those in the training rows.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        train: Dataset,
        data: TaskData,
        tokenizer: PreTrainedTokenizerBase,
        accelerator: Accelerator,
        config: FinetuningConfig,
        safety: Safety,
        *,
        teacher: PreTrainedModel | None = None,
    ):
        for one in (model, teacher) if teacher is not None else (model,):
            pad_causal(one.config, tokenizer)
        share = math.ceil(config.batch_size / accelerator.num_processes)
        kept = replace(safety, micro_batch_size=min(share, safety.micro_batch_size or share))
        folder = Path(safety.checkpoints) if safety.checkpoints else None
        self.started_from, self.teacher = fingerprint(model), teacher
        super().__init__(model, accelerator, config, kept, config.steps(len(train)), folder)
        self.train, self.lengths, self.pad_id = train, train["length"][:], tokenizer.pad_token_id
        self.data_info, self.vocabulary = data.info, vocabulary_hash(tokenizer)
        self.units = heads.units(model, data.task)
        self.taught_by = {} if teacher is None else {"taught_by": fingerprint(teacher)}
        for one in (model, teacher) if teacher is not None else (model,):
            heads.standardize(one, *self.units)
        if teacher is not None:
            teacher.to(accelerator.device).eval().requires_grad_(False)
        self.trimmed = Trimmed(model, train, self.pad_id)
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise

    def _begin(self) -> None:
        groups = parameter_groups(self.model.to(self.accelerator.device), self.config)
        optimizer = torch.optim.AdamW(groups, lr=self.config.learning_rate, eps=1e-6, fused=True)
        if self.folder:
            first = first_on_disk(self.folder, self.accelerator)
            jointly(self.accelerator, lambda: _drop_another(self.folder, self.identity), first)
        self.start(Finetuning(self.model, self.config, self.units), optimizer)

    def __enter__(self) -> "TaskRun":
        return self

    def __exit__(self, *_: object) -> None:
        """Give the model the embeddings of all words again, as they would be if all had been in the optimizer."""
        made = self.curve.get("step", ()) if self.config.weight_decay else ()
        rates = (self.config.learning_rate_at(step - 1, self.steps) for step in made)
        self.trimmed.restore([1 - rate * self.config.weight_decay for rate in rates])

    @property
    def identity(self) -> dict[str, Any]:
        """The facts that must not change when a run is resumed: settings, data, weights, teacher, processes."""
        return asdict(self.config) | {
            "micro_batch_size": self.safety.micro_batch_size,
            "data": self.data_info.get("fingerprint"),
            "rows": self.data_info.get("rows"),
            "vocabulary": self.vocabulary,
            "weights": self.started_from,
            "words": len(self.trimmed.words),
            "processes": self.accelerator.num_processes,
            "precision": self.accelerator.mixed_precision,
            **self.taught_by,
        }

    def loss(self, batch: Batch, *totals: float) -> tuple[Tensor, Tensor]:
        """These rows' part of the mean loss of an update of `totals[0]` rows."""
        if self.teacher is not None:
            with torch.no_grad(), self.accelerator.autocast():
                batch = batch | {"teacher_logits": forward(self.teacher, batch)}
        batch = batch | {"input_ids": self.trimmed(batch["input_ids"])}
        loss = self.module(batch).sum() * (1 / totals[0])
        return loss, loss.detach()

    def update(self, batches: Iterator[np.ndarray]) -> dict[str, float]:
        """Take one optimizer step on the next rows, divided among the processes, and return their mean loss."""
        chosen, size = next(batches), self.safety.micro_batch_size
        own = chosen[self.accelerator.process_index :: self.accelerator.num_processes]
        # a process without a row also takes part, with weight 0
        parts = [own[first : first + size] for first in range(0, len(own), size)] or [chosen[:1]]
        micro = [self.to_device(collate(self.train, part, self.pad_id)) for part in parts]
        terms = self.gradients(micro, float(len(chosen)) if len(own) else math.inf)
        loss = float(summed(self.accelerator, terms))
        _, made = self.apply(loss)
        if made:
            self.note({"step": self.step, "tokens": int(self.lengths[chosen].sum()), "loss": loss})
        return {"loss": loss}


def _drop_another(folder: Path, identity: dict[str, Any]) -> None:
    """Delete the checkpoints of an unfinished run that has other settings, and say so; the folder's lock is held."""
    saved = checkpoints.identity(folder)
    differing = [] if saved is None else comparing.differences(saved, comparing.plain(identity))
    if differing:
        shown = "; ".join(differing).replace(" against ", " there, now ")
        print(f"the unfinished run in {folder} is of other settings ({shown}): it is begun anew", flush=True)
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()


def finetune(
    model: PreTrainedModel,
    data: TaskData,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    config: FinetuningConfig,
    *,
    teacher: PreTrainedModel | None = None,
    safety: Safety = UNSAVED,
    quiet: bool = False,
    **about: Any,
) -> dict[str, Any]:
    """Train a model with a head (`heads.for_task`) on a task in place, score it once at the end, and return the record.

    With a `teacher` that has been fine-tuned on the task, the loss mixes the labels with the teacher's answers.
    No update, setting or stopping point is chosen on a validation split. `about` holds the record's `name`, `scale`
    and `model_name`, and further keys. With `safety.checkpoints`, a folder, an interrupted run goes on from its last
    checkpoint; a first SIGTERM or Ctrl-C ends it after its update and a checkpoint, with `Stopped`.

    Raises ValueError before any work for arguments that do not fit each other, and FloatingPointError when
    `safety.max_skipped` updates in a row had no finite loss and gradient.
    """
    check_run(model, data.task, tokenizer, config, teacher)
    encoded, quiet = encode(data, tokenizer, config), quiet or not accelerator.is_main_process
    name = about.pop("name", "finetuning")
    attention = model.config._attn_implementation
    heads.name_labels(model, data.task)
    dropout.speed_up(model, accelerator.device)
    folder = Path(safety.checkpoints) if safety.checkpoints else None
    with (
        explained(),
        alone_in(folder, accelerator),
        TaskRun(model, encoded[0], data, tokenizer, accelerator, config, safety, teacher=teacher) as run,
    ):
        if diverged := run.hopeless():  # at its last checkpoint: such weights are not taken up again
            raise FloatingPointError(diverged)
        run.module.train()
        order = islice(batch_order(run.lengths, config), run.step, None)
        run.advance(run.steps, order, name, quiet, save_last=False)
    model.set_attn_implementation(attention)
    scores = evaluate(model.eval(), data, encoded, accelerator, tokenizer.pad_token_id, run.units)
    for one in (model, teacher) if teacher is not None else (model,):
        heads.standardize(one, -run.units[0] / run.units[1], 1 / run.units[1])
    given = {"micro_batch_size": safety.micro_batch_size} if safety.micro_batch_size else {}
    return _record(run, name, data, given | scores | run.taught_by | about)


def _record(run: TaskRun, name: str, data: TaskData, about: dict[str, Any]) -> dict[str, Any]:
    faults = {key: value for key, value in run.faults().items() if value}
    values = {
        "task": data.task.name,
        "seed": run.config.seed,
        "tokens": sum(run.curve["tokens"]),
        "steps": run.steps,
        "config": asdict(run.config),
        "curve": {key: run.curve[key] for key in ("step", "loss")},
        "data": data.info,
        "started_from": run.started_from,
        "processes": run.accelerator.num_processes,
        "precision": run.accelerator.mixed_precision,
        "norm_gradients": half.NORM_GRADIENTS,
    }
    values |= {"scale": "toy"} | faults | run.time_spent() | about
    model = values.pop("model_name", "student")
    return new_record("finetuning", name, model=model, stopwatch=run.stopwatch, **values)


MEASURED = 4  # updates timed for an estimate


def pace(
    model: PreTrainedModel,
    data: TaskData,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    config: FinetuningConfig,
    safety: Safety = UNSAVED,
) -> float:
    """The seconds per token of an update, measured on a few updates, which change `model`; nothing is saved."""
    dropout.speed_up(model, accelerator.device)
    train = encode(data, tokenizer, config)[0]
    tokens, enough = 0, replace(config, epochs=config.epochs + MEASURED)
    with TaskRun(model, train, data, tokenizer, accelerator, config, replace(safety, checkpoints="")) as run:
        run.module.train()
        for turn, chosen in enumerate(islice(batch_order(run.lengths, enough), MEASURED)):
            if turn == 1:  # the first turn warms up
                began = device.now(accelerator.device)
            run.update(iter([chosen]))
            tokens += int(run.lengths[chosen].sum()) if turn else 0
        seconds = device.now(accelerator.device) - began
    accelerator.free_memory()
    return seconds / tokens


def work(encoded: tuple[Dataset, dict[str, Dataset]], config: FinetuningConfig) -> float:
    """The tokens of a run for an estimate: those trained on, and a third of those scored, without backward passes."""
    trained, *scored = (int(rows["length"][:].sum()) for rows in (encoded[0], *encoded[1].values()))
    return config.epochs * trained + sum(scored) / 3


def parameter_groups(model: nn.Module, config: FinetuningConfig) -> list[dict[str, Any]]:
    """The parameter groups for AdamW: matrices with weight decay, biases and norms without."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
