"""What a format costs in points: fine-tuned models, which answer rows of their task in each format (notebook 07)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..machine.device import make_accelerator
from ..models import families
from ..models.sources import load_tokenizer, shipped_name
from ..tasks import finetuning, glue, heads, metrics, own
from ..tasks.finetuning import FinetuningConfig
from ..tasks.glue import Task
from ..tasks.own import OwnOptions
from . import rounding
from .formats import ROUNDED_AS, Batch, Runner, make_runner, whole_onnx
from .rounding import ChoosingRows


class Fitted(NamedTuple):
    """A model fine-tuned on a task and the rows on which it is scored, to measure the accuracy lost by a format.

    By the rows of `choosing`, which are others, a way to round to int8 is chosen; `of` is "student" or "teacher".
    """

    model: PreTrainedModel
    task: Task
    rows: Dataset  # as the task encodes them
    info: dict[str, Any]
    choosing: ChoosingRows | None = None
    of: str = "student"
    texts: Dataset | None = None  # the rows before they were encoded; needed for spans, whose answers are texts

    def batches(self) -> list[Batch]:
        """A batch without labels for each row; for spans, of all its windows."""
        row = self.rows["example"][:] if self.task.spans else np.arange(len(self.rows))
        made = [finetuning.collate(self.rows, np.flatnonzero(row == i)) for i in range(int(row[-1]) + 1)]
        return [{name: tensor for name, tensor in batch.items() if name != "labels"} for batch in made]

    def score(self, logits: Sequence[np.ndarray], chosen: np.ndarray) -> float:
        """The main score of some rows, from 0 to 1, for the logits of each of them."""
        texts = self.texts.select(chosen) if self.texts else None
        windows = [window for batch in logits for window in batch]
        scores, _ = self.task.judge(texts, glue.select_rows(self.rows, chosen), windows)
        return metrics.main_score(self.task.main, scores)


def held_out(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    source: str,
    rows: int = 0,
    address: str = "",
    options: OwnOptions | None = None,
    choosing: int = 0,
) -> Fitted:
    """A model that is fine-tuned already, its outputs in the order of the labels of its task, and validation rows of
    that (0: all), which no choice has seen; choices are left to `choosing` rows of its training split. The task may be
    an own one, read with `options`; `address` is the model's, for the record and for errors.

    Raises ValueError for a task or source that there is not, and for a model of other labels.
    """
    data = own.load(name, options, choosing, n_validation=rows) if own.is_own(name) else None
    task = data.task if data else own.known_task(name)
    model, split = heads.fine_tuned(model, task, address), task.validations[0]
    loaded = data.validations[split] if data else glue.load_split(task, split, source, rows or None)
    about = data.info if data else glue.provenance(task, source, {split: loaded}, 0)
    made = _encoded(
        model, tokenizer, task, loaded, {"scale": "own", "model": address and shipped_name(address), "data": about}
    )
    if not choosing:
        return made
    others = data.train if data else glue.load_split(task, "train", source, choosing)
    return made._replace(choosing=scored_rows(_encoded(model, tokenizer, task, others, {})))


def choosing_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    source: str,
    rows: int = 0,
    address: str = "",
    options: OwnOptions | None = None,
) -> Fitted:
    """A model that is fine-tuned already, and `rows` training rows of its task (0: all), which choose its rounding.

    They are the rows that `held_out` leaves to choices: what validation rows say of a model, they may not choose.
    Raises as `held_out` does.
    """
    data = own.load(name, options, rows) if own.is_own(name) else None
    task = data.task if data else own.known_task(name)
    model = heads.fine_tuned(model, task, address)
    loaded = data.train if data else glue.load_split(task, "train", source, rows or None)
    about = data.info if data else glue.provenance(task, source, {"train": loaded}, 0)
    return _encoded(model, tokenizer, task, loaded, {"data": about})


def _encoded(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, rows: Dataset, told: Mapping[str, Any]
) -> Fitted:
    """A fine-tuned model with rows of its task as it reads them."""
    length, how = (384, 128) if task.spans else (128, "head")
    longest = min(length, families.longest(model.config), tokenizer.model_max_length)
    info = {"task": task.name, "rows_scored": len(rows), "max_length": longest, **told}
    return Fitted(model, task, task.encode(rows, tokenizer, longest, how), info, texts=rows)


def scored_rows(fitted: Fitted) -> ChoosingRows:
    """The rows of a fine-tuned model as `rounding.measure` reads them."""
    return ChoosingRows(fitted.batches(), fitted.score, fitted.task.name, fitted.model.config.pad_token_id or 0)


def fit_student(student: str, rows: int) -> Fitted:
    """The student, fine-tuned on a task of toyworld for a few epochs, and the rows on which each format is scored."""
    data = glue.load_data("qnli", "toyworld", n_train=3500, n_validation=rows)
    tokenizer, config = load_tokenizer(student), FinetuningConfig(epochs=3, learning_rate=3e-4)
    model, _ = heads.for_task(student, data.task)
    cpu = make_accelerator(cpu=True)
    record = finetuning.finetune(model, data, tokenizer, cpu, config, name="student to be scored")
    info = {
        "task": data.task.name,
        "scale": "toy",
        "model": shipped_name(student),
        "rows_scored": rows,
        "data": data.info,
        "majority": record["scores"]["majority"],
        "config": record["config"],
    }
    return Fitted(model.float().eval(), data.task, data.encoded(tokenizer, config.max_length)[1]["validation"], info)


def score_formats(runners: Sequence[Runner], fitted: Fitted) -> list[dict[str, Any]]:
    """The scores of a fine-tuned model in several formats, float32 first, on the same rows, one row at a time.

    Each format has its bytes, its main score as `accuracy`, the points `lost` against float32, the number of answers
    `changed`, and the number of these that were right before (`spoilt`) or are right now (`mended`).
    """
    batches, scored, first = fitted.batches(), [], None
    for runner in runners:
        logits = [runner.answer(batch) for batch in batches]
        windows = [window for batch in logits for window in batch]
        score = fitted.score(logits, np.arange(len(batches)))
        answers, right = fitted.task.verdicts(fitted.texts, fitted.rows, windows)
        first = first or (score, answers, right)
        scored.append(
            {
                "format": runner.format,
                "bytes": runner.bytes,
                "accuracy": score,
                "lost": 100 * (first[0] - score),
                "changed": int((answers != first[1]).reshape(len(batches), -1).any(1).sum()),
                "spoilt": int((first[2] & ~right).sum()),
                "mended": int((right & ~first[2]).sum()),
            }
        )
    return scored


def score_fitted(fitted: Fitted, formats: Sequence[str], folder: Path, threads: int) -> dict[str, Any]:
    """The `info` of a fine-tuned model with its scores in each format as `rows`.

    With rows for choosing, `ways` is what each way to int8 made of those, and `chosen` the format of the one that was
    kept; it is scored too, and so is the usual one.
    """
    told, longest = dict(fitted.info) | {"of": fitted.of}, max(map(len, fitted.rows["input_ids"][:]))
    with TemporaryDirectory(dir=folder) as aside:
        if fitted.choosing:
            ways = rounding.measure(whole_onnx(fitted.model, Path(aside)), Path(aside), fitted.choosing, threads)
            kept = rounding.choose(ways)
            told |= {"chosen": ROUNDED_AS[kept], "rows_choosing": len(fitted.choosing.batches)}
            told["ways"] = [{key: value for key, value in way.items() if key != "cpu_ms"} for way in map(_short, ways)]
            formats = [*formats, "onnx_float32", "onnx_int8", told["chosen"]]
        runners = [
            make_runner(fitted.model, form, Path(aside), fitted.of, threads, length=longest)
            for form in dict.fromkeys(formats)
        ]
        return told | {"rows": [_short(row) for row in score_formats(runners, fitted)]}


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}


def score_all(fitted: Sequence[Fitted], formats: Sequence[str], folder: Path, threads: int) -> dict[str, Any]:
    """For the record: the student's `accuracy` in each format, averaged over its tasks, and each model's as `tasks`,
    unless that says no more."""
    tasks = [score_fitted(one, formats, folder, threads) for one in fitted if formats]
    whole = averaged([task for task in tasks if task["of"] == "student"])
    return {"accuracy": whole, "tasks": tasks if len(tasks) > 1 or chosen_int8(tasks) else []}


def averaged(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several tasks say of each format that all have, in the form of one: means of scores, sums of counts."""
    if not tasks:
        return {"rows": []}
    rows = []
    for form in [row["format"] for row in tasks[0]["rows"]]:
        same = [row for task in tasks for row in task["rows"] if row["format"] == form]
        if len(same) == len(tasks):
            means = {key: float(np.mean([row[key] for row in same])) for key in ("accuracy", "lost")}
            sums = {key: sum(row[key] for row in same) for key in ("changed", "spoilt", "mended")}
            rows.append({"format": form} | means | sums)
    about = {key: tasks[0][key] for key in ("scale", "model") if key in tasks[0]} if len(tasks) > 1 else tasks[0]
    whole = {"task": ", ".join(task["task"] for task in tasks), "rows_scored": sum(t["rows_scored"] for t in tasks)}
    return {**about, **(whole if len(tasks) > 1 else {}), "rows": rows}


def chosen_scores(tasks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The scores of a record about the int8 that was chosen for each task of the student; {} where none was."""
    rows = [row for row in chosen_int8(tasks) if row["of"] == "student"]
    if not rows:
        return {}
    lost = [row["lost"] for row in rows]
    share = max(row["share"] for row in rows)
    return {"lost_chosen": float(np.mean(lost)), "most_lost_chosen": max(lost), "share_chosen": share}


def chosen_int8(tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each of a record's `tasks` whose int8 was chosen by other rows: whose it is (`of`), its task and number
    of rows, the score in float32, the format `kept`, the points `usual` and `lost` by the usual int8 and by that one,
    and its bytes as a `share` of float32's."""
    rows = []
    for task in (task for task in tasks if "chosen" in task):
        by = {row["format"]: row for row in task["rows"]}
        whole, usual, kept = (by[name] for name in ("onnx_float32", "onnx_int8", task["chosen"]))
        told = {"of": task["of"], "task": task["task"], "rows": task["rows_scored"], "float32": whole["accuracy"]}
        told |= {"kept": task["chosen"], "usual": usual["lost"], "lost": kept["lost"]}
        rows.append(told | {"share": kept["bytes"] / whole["bytes"]})
    return rows
