"""Fine-tuning on a task (paper sections 4 and 4.1): one loop for classes, numbers and answer spans.

Padding is the enemy: rows are padded to the longest of their batch only, and batches hold rows of like length.
Order, dropout and the new head are pure functions of the seed, and the result of an update does not depend on how
many processes share it. Every row of a validation split is scored, once, by whichever process it falls to: the
paper's early numbers are thought to have suffered from scoring only one process's share.

With a `teacher` that has been fine-tuned on the same task, the student also learns from its answers: the second
distillation step behind the paper's DistilBERT (D).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..distillation.checkpoints import fingerprint
from ..distillation.losses import check_temperature
from ..distillation.recipe import PretrainingConfig
from ..evidence.records import Stopwatch, new_record
from ..machine.progress import Progress
from ..models import dropout, families, half
from ..models.teacher import check_vocabulary
from ..settings import setting
from ..text.randomness import epoch_order, seed_dropout
from . import heads, metrics, squad
from .answers import Answer, find_answers
from .glue import TRUNCATIONS, Task, TaskData
from .squad import SquadData

NEVER = -1e4  # the logit of padding: no probability at all, and still a number that a KL divergence can bear


@dataclass(frozen=True)
class FinetuningConfig:
    """How to fine-tune. The paper states none of it; these are BERT's own settings (Devlin et al. 2019, A.3).

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
    stride: int = setting(128, "tokens by which the next window over a long SQuAD context starts later")
    soft_weight: float = setting(0.5, "weight of the fine-tuned teacher's answers; the labels have the rest")
    temperature: float = setting(2.0, "softens both distributions when a fine-tuned teacher is matched")
    seed: int = setting(42, "fixes the new head, the order of rows and dropout")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "clip", "max_length", "stride"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}; it is a share of the updates, from 0 to below 1")
        if not 0 < self.soft_weight <= 1:
            raise ValueError(f"soft_weight is {self.soft_weight}; it is a share of the loss, above 0 to 1")
        check_temperature(self.temperature)

    learning_rate_at = PretrainingConfig.learning_rate_at  # the same climb and fall

    def steps(self, rows: int) -> int:
        """Number of updates for this many training rows; the last batch of an epoch may be short."""
        return max(1, round(self.epochs * math.ceil(rows / self.batch_size)))


def encode(
    data: TaskData | SquadData, tokenizer: PreTrainedTokenizerBase, config: FinetuningConfig
) -> tuple[Dataset, dict[str, Dataset]]:
    """(train, validations) of `data` as rows of token ids, tokenized once for all models and seeds."""
    how = config.stride if data.task.spans else config.truncation
    return data.encoded(tokenizer, config.max_length, how)


def batch_order(lengths: np.ndarray, config: FinetuningConfig) -> Iterator[np.ndarray]:
    """The row numbers of each update: rows of like length together, a pure function of (seed, epoch)."""
    left, epoch = config.steps(len(lengths)), 0
    while left:
        order = epoch_order(lengths, config.batch_size, config.seed, epoch, group=True)
        batches = [order[i : i + config.batch_size] for i in range(0, len(order), config.batch_size)][:left]
        yield from batches
        left, epoch = left - len(batches), epoch + 1


def collate(rows: Dataset, chosen: Sequence[int], pad_id: int = 0) -> dict[str, Tensor]:
    """These rows, padded to the longest of them: input_ids, token_type_ids, attention_mask (batch, seq), labels.

    Labels are (batch,), or (batch, 2) for the first and last token of an answer.
    """
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
    """Logits in float32: (batch, num_labels), or (batch, seq, 2) for start and end of an answer, padding at NEVER.

    BERT is told which text of a pair a token is of; DistilBERT and others cannot be.
    """
    inputs, mask = {"input_ids": batch["input_ids"]}, batch["attention_mask"]
    if not mask.all():  # no mask at all lets the faster attention kernel run
        inputs["attention_mask"] = mask
    if families.reads_token_types(model.config):
        inputs["token_type_ids"] = batch["token_type_ids"]
    outputs = half.call(model, model, half.wanted(mask), **inputs)
    if not heads.is_answerer(model):
        return outputs.logits.float()
    logits = torch.stack([outputs.start_logits, outputs.end_logits], dim=-1).float()
    return logits.masked_fill(mask[..., None] == 0, NEVER)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each row against its label, (batch,): cross-entropy, or the squared error of a regression.

    Of a span it is the mean of the cross-entropies of start and end: logits (batch, seq, 2), labels (batch, 2).
    """
    if labels.is_floating_point():
        return (logits.squeeze(-1) - labels) ** 2
    loss = F.cross_entropy(logits, labels, reduction="none")
    return loss.mean(-1) if loss.ndim == 2 else loss


def teacher_loss(logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """The loss of each row against a fine-tuned teacher, (batch,): T² · KL(teacher ‖ student), both softened by T.

    Classes: over num_labels. Spans: over the tokens of a row, mean of start and end; padding has no share in it
    (the original's script let it in). A regression has one output and no distribution: the squared difference.
    """
    if logits.shape[-1] == 1:
        return (logits - teacher_logits).squeeze(-1) ** 2
    student, teacher = (F.log_softmax(x / temperature, dim=1) for x in (logits, teacher_logits))
    loss = temperature**2 * F.kl_div(student, teacher, log_target=True, reduction="none").sum(1)
    return loss.mean(-1) if loss.ndim == 2 else loss


class Finetuning(nn.Module):
    """A model and its loss in one forward pass: what `accelerate` wraps."""

    def __init__(self, model: PreTrainedModel, config: FinetuningConfig):
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of each row, (batch,): against its label, and where the batch brings them, a teacher's logits."""
        logits, config = forward(self.model, batch), self.config
        loss = label_loss(logits, batch["labels"])
        if "teacher_logits" not in batch:
            return loss
        soft = teacher_loss(logits, batch["teacher_logits"], config.temperature)
        return config.soft_weight * soft + (1 - config.soft_weight) * loss


@torch.no_grad()
def predict(
    model: PreTrainedModel, rows: Dataset, accelerator: Accelerator, pad_id: int = 0, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """(logits, labels) of all rows, in their order: (rows, num_labels) and (rows,). Processes share the work.

    For spans: (rows, longest row, 2) and (rows, 2); what is beyond the end of a row is at NEVER.
    """
    lengths = rows["length"][:]
    if heads.is_answerer(model):
        logits = torch.full((len(rows), int(lengths.max()), 2), NEVER, device=accelerator.device)
    else:
        logits = torch.zeros(len(rows), model.config.num_labels, device=accelerator.device)
    mine = torch.zeros(len(rows), dtype=torch.bool, device=accelerator.device)
    order = np.argsort(-lengths, kind="stable")  # the longest first: too little memory shows at once
    step, training = batch_size * accelerator.num_processes, model.training
    model.eval()
    for first in range(batch_size * accelerator.process_index, len(order), step):
        chosen = order[first : first + batch_size]
        batch = {key: value.to(accelerator.device) for key, value in collate(rows, chosen, pad_id).items()}
        with accelerator.autocast():
            found = forward(model, batch)
        mine[chosen] = True
        if found.ndim == 3:
            logits[chosen, : found.shape[1]] = found
        else:
            logits[chosen] = found
    model.train(training)
    if accelerator.num_processes > 1:  # each row was filled by one process
        logits[~mine] = 0
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
    """What a question answerer says to one question about one passage: its `n_best` spans, best first."""
    rows = Dataset.from_dict(
        {"question": [question], "context": [context], "answers": [{"text": [""], "answer_start": [0]}]}
    )
    windows = squad.features(rows, tokenizer, min(max_length, tokenizer.model_max_length), stride)
    batch = {
        key: value.to(model.device)
        for key, value in collate(windows, range(len(windows)), tokenizer.pad_token_id).items()
    }
    training = model.training
    model.eval()
    logits = forward(model, batch).cpu().numpy()  # (windows, seq, 2)
    model.train(training)
    return find_answers(logits, windows, rows, n_best)[0]


def evaluate(
    model: PreTrainedModel,
    data: TaskData | SquadData,
    encoded: tuple[Dataset, dict[str, Dataset]],
    accelerator: Accelerator,
    pad_id: int = 0,
) -> dict[str, Any]:
    """Scores of every validation split, with the majority baseline and a 95 % bootstrap `interval` of the main score.

    The first split's metrics have their plain names, another's its name in front ("validation_mismatched_accuracy").
    """
    scores, interval = {}, None
    for split, rows in encoded[1].items():
        logits, _ = predict(model, rows, accelerator, pad_id)
        if not np.isfinite(logits).all():
            raise FloatingPointError("the model's answers are no finite numbers; use a smaller learning rate")
        found, bounds = data.judge(split, rows, logits)
        if interval is None:
            baseline = {} if (lazy := data.baseline(split)) is None else {"majority": lazy}
            scores = {"main": metrics.main_score(data.task.main, found), **found, **baseline}
            interval = bounds
        else:
            scores |= {f"{split}_{name}": value for name, value in found.items()}
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
                f"max_length is {config.max_length}, but the {who} reads {families.longest(one.config)} tokens"
            )
        check_vocabulary(one.config, tokenizer)


def finetune(
    model: PreTrainedModel,
    data: TaskData | SquadData,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    config: FinetuningConfig,
    *,
    teacher: PreTrainedModel | None = None,
    name: str = "finetuning",
    scale: str = "toy",
    model_name: str = "student",
    quiet: bool = False,
    **provenance: Any,
) -> dict[str, Any]:
    """Train a model with a head (`heads.for_task`) on a task, in place, and score it after the last update; its record.

    With a `teacher`, which has been fine-tuned on the task, the loss is a mixture of the labels and its answers.
    No update, setting or stopping point is chosen on a validation split. `provenance` is added to the record.
    Raises ValueError before any work when things do not fit, FloatingPointError when the loss is no longer finite.
    """
    check_run(model, data.task, tokenizer, config, teacher)
    encoded, started_from = encode(data, tokenizer, config), fingerprint(model)
    train, watch, quiet = encoded[0], Stopwatch(), quiet or not accelerator.is_main_process
    lengths, pad_id = train["length"][:], tokenizer.pad_token_id
    _name_labels(model, data.task)
    optimizer = torch.optim.AdamW(_parameter_groups(model, config), lr=config.learning_rate, eps=1e-6, fused=True)
    attention = model.config._attn_implementation
    if accelerator.device.type == "cpu":
        dropout.for_cpu(model)
    module, optimizer = accelerator.prepare(Finetuning(model.to(accelerator.device), config), optimizer)
    module.train()
    if teacher is not None:
        teacher = teacher.to(accelerator.device).eval()
        provenance["taught_by"] = fingerprint(teacher)
    steps, losses, tokens = config.steps(len(train)), [], 0
    with Progress(steps, name, quiet=quiet) as progress:
        for step, chosen in enumerate(batch_order(lengths, config)):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate_at(step, steps)
            losses.append(_update(module, teacher, optimizer, train, chosen, pad_id, accelerator, config, step))
            tokens += int(lengths[chosen].sum())
            progress.step(loss=f"{losses[-1]:.3f}")
    model.set_attn_implementation(attention)
    found = evaluate(model.eval(), data, encoded, accelerator, pad_id)
    values = found | {
        "task": data.task.name,
        "seed": config.seed,
        "tokens": tokens,
        "steps": steps,
        "config": asdict(config),
        "curve": {"step": list(range(1, steps + 1)), "loss": losses},
        "data": data.info,
        "started_from": started_from,
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
    }
    return new_record("finetuning", name, scale=scale, model=model_name, stopwatch=watch, **values | provenance)


def _update(
    module: nn.Module,
    teacher: PreTrainedModel | None,
    optimizer: Any,
    train: Dataset,
    chosen: np.ndarray,
    pad_id: int,
    accelerator: Accelerator,
    config: FinetuningConfig,
    step: int,
) -> float:
    """One optimizer step on the rows `chosen`, shared out over the processes; their mean loss."""
    processes, rank = accelerator.num_processes, accelerator.process_index
    mine = chosen[rank::processes]
    share = processes / len(chosen) if len(mine) else 0.0  # processes average their gradients
    batch = collate(train, mine if len(mine) else chosen[:1], pad_id)  # all of them must take part
    batch = {key: value.to(accelerator.device) for key, value in batch.items()}
    if teacher is not None:
        with torch.no_grad(), accelerator.autocast():
            batch["teacher_logits"] = forward(teacher, batch)
    seed_dropout(config.seed, step, rank)
    loss = module(batch).sum() * share
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
    if task.spans:
        return
    if task.labels:
        model.config.id2label = dict(enumerate(task.labels))
        model.config.label2id = {label: i for i, label in enumerate(task.labels)}
    model.config.problem_type = "regression" if task.regression else "single_label_classification"
