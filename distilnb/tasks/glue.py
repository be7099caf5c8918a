"""GLUE's nine tasks and IMDb as data, and their rows as token ids (paper sections 4 and 4.1; notebooks 04 and 05).

A task is data: text columns, labels, metrics and location. The same code reads toyworld's tasks and the real ones.
The provenance is noted as the data is loaded: a split without the official number of rows is a stand-in, and its
record says so.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset, load_dataset
from transformers import PreTrainedTokenizerBase

from .. import scales
from ..machine.hub import cause, fetch, only_cached, reach
from ..text import toyworld
from ..text.corpus import vocabulary_hash
from ..text.randomness import generator
from .layout import framed
from .metrics import interval, main_score, majority, score

SOURCES = ("toyworld", "hub")
Judgement = tuple[dict[str, float], tuple[float, float]]  # scores by name, interval of the main score
TRUNCATIONS = ("head", "tail", "head_tail")


@dataclass(frozen=True)
class Task:
    """One task of classes or numbers: its description, and the checking, encoding and scoring of its rows.

    `labels` is empty for a regression; `rows` are the official row counts of the splits, of which the first after
    "train" gives the main score (MNLI: matched, as in Table 1). `main_metric` is set where the main score is one metric
    of several. With `several`, a row may have any number of the labels. `center` and `spread` are the mean and standard
    deviation of a regression's labels, in units of which it is trained; GLUE's is trained in its own.
    `squad.SpanTask` is a task whose answers are spans of a text.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    rows: dict[str, int]
    metrics: tuple[str, ...] = ("accuracy",)
    hub: str = "nyu-mll/glue"
    revision: str = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"

    main_metric: str = ""
    several: bool = False
    center: float = 0.0
    spread: float = 1.0

    spans = False  # whether the answer is a span of the text
    target = "label"  # the column of the right answer

    @property
    def main(self) -> str:
        """The metric that enters the macro score, or a mean of two such as "accuracy+f1".

        The mean is GLUE's own rule; the paper does not say how it combines the metrics of MRPC, QQP and STS-B. BERT's
        paper has another rule, see `main_of_bert`.
        """
        return self.main_metric or "+".join(self.metrics)

    @property
    def main_of_bert(self) -> str:
        """The metric that Devlin et al. 2019 (Table 1) print: F1 for MRPC and QQP, Spearman for STS-B."""
        return self.metrics[-1]

    @property
    def config(self) -> str:
        """The name of the data set's configuration on the Hub."""
        return self.name if self.hub == "nyu-mll/glue" else "plain_text"

    @property
    def validations(self) -> tuple[str, ...]:
        """The splits that are scored (IMDb has no validation split: its test split, as in the paper)."""
        return tuple(split for split in self.rows if split != "train")

    @property
    def regression(self) -> bool:
        """Whether a number is predicted instead of a class."""
        return not self.labels

    @property
    def num_labels(self) -> int:
        """The number of the model's outputs: one per class, or one for a regression."""
        return len(self.labels) or 1

    def check(self, rows: Dataset, split: str, labelled: bool = True) -> None:
        """Raise ValueError unless these rows can train or score this task, as the function `check` says."""
        check(rows, self, split, labelled)

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, how: str) -> Dataset:
        """The rows of token ids that `tokenize` returns; `how` is the truncation."""
        return tokenize(rows, self, tokenizer, max_length, how)

    def counted(self, splits: dict[str, Dataset]) -> dict[str, Any]:
        """Further entries for a record about these rows; {} for classes and numbers."""
        return {}

    def answers(self, logits: np.ndarray) -> np.ndarray:
        """The class, or the number of a regression, of each row: (rows, num_labels) → (rows,).

        For several labels per row, it is (rows, num_labels), with 1 where a label is more likely than not.
        """
        if self.several:
            return (logits > 0).astype(np.int64)
        return logits[:, 0] if self.regression else logits.argmax(-1)

    def judge(self, rows: Dataset, encoded: Dataset, logits: Sequence[np.ndarray]) -> Judgement:
        """The task's metrics for logits of the encoded rows, and the main score's interval."""
        answers, labels = self.answers(np.asarray(logits)), encoded["labels"][:]
        return score(self.metrics, answers, labels), interval(self.main, answers, labels)

    def verdicts(self, rows: Dataset, encoded: Dataset, logits: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The answer to each row, (rows,) or, for several labels, (rows, num_labels), and whether it is right."""
        answers = self.answers(np.asarray(logits))
        return answers, (answers == encoded["labels"][:]).reshape(len(answers), -1).all(1)

    def baseline(self, train: Dataset, rows: Dataset) -> float | None:
        """The main score of the best constant answer to the training rows (for a regression, of the mean label)."""
        learned, labels = (targets(split, self) for split in (train, rows))
        guesses = majority(learned, len(labels), self.main)
        return main_score(self.main, score(self.metrics, guesses, labels))

    def held_out(self, train: Dataset, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the training rows that stay, in random order, and of the `share` that is held out."""
        order, held = generator(seed).permutation(len(train)), max(1, round(share * len(train)))
        if held >= len(train):
            raise ValueError(f"task {self.name} has {len(train)} training row(s); too few to hold some out")
        return order[held:], order[:held]


def _task(name: str, title: str, columns: str, labels: str, rows: dict[str, int], metrics: str = "accuracy") -> Task:
    """A task of GLUE, with the names of its columns, labels and metrics in words."""
    return Task(name, title, tuple(columns.split()), tuple(labels.split()), rows, tuple(metrics.split()))


PAIR, ENTAILMENT = "sentence1 sentence2", "entailment not_entailment"
MNLI_ROWS = {"train": 392_702, "validation_matched": 9_815, "validation_mismatched": 9_832}
QQP_ROWS = {"train": 363_846, "validation": 40_430}
_TASKS = (
    _task("cola", "CoLA", "sentence", "unacceptable acceptable", {"train": 8_551, "validation": 1_043}, "matthews"),
    _task("mnli", "MNLI", "premise hypothesis", "entailment neutral contradiction", MNLI_ROWS),
    _task("mrpc", "MRPC", PAIR, "not_equivalent equivalent", {"train": 3_668, "validation": 408}, "accuracy f1"),
    _task("qnli", "QNLI", "question sentence", ENTAILMENT, {"train": 104_743, "validation": 5_463}),
    _task("qqp", "QQP", "question1 question2", "not_duplicate duplicate", QQP_ROWS, "accuracy f1"),
    _task("rte", "RTE", PAIR, ENTAILMENT, {"train": 2_490, "validation": 277}),
    _task("sst2", "SST-2", "sentence", "negative positive", {"train": 67_349, "validation": 872}),
    _task("stsb", "STS-B", PAIR, "", {"train": 5_749, "validation": 1_500}, "pearson spearman"),
    _task("wnli", "WNLI", PAIR, "not_entailment entailment", {"train": 635, "validation": 71}),
)
IMDB_ROWS = {"train": 25_000, "test": 25_000}
IMDB = Task("imdb", "IMDb", ("text",), ("neg", "pos"), IMDB_ROWS, hub=scales.IMDB, revision=scales.IMDB_REVISION)
TASKS = {task.name: task for task in (*_TASKS, IMDB)}
GLUE = tuple(name for name in TASKS if name != "imdb")  # in the order of Table 1


def get_task(name: str) -> Task:
    """The task called `name`; SST-2, sst-2 and sst2 are the same. ValueError for an unknown one."""
    if plain(name) not in TASKS:
        raise ValueError(f"unknown task '{name}'; use one of {', '.join(TASKS)}")
    return TASKS[plain(name)]


def plain(name: str) -> str:
    """The letters and digits of a task's name, in lower case."""
    return "".join(c for c in name.lower() if c.isalnum())


def load_split(
    task: str | Task, split: str, source: str = "toyworld", n: int | None = None, seed: int = 0, labelled: bool = True
) -> Dataset:
    """One split, from toyworld or from the Hub (a pinned revision), with `n` rows if given.

    Toyworld writes `n` rows; a Hub split is sampled with `seed`, because IMDb's rows are sorted by label.
    `labelled=False` is for GLUE's test splits, whose labels only its server knows. Raises ValueError for an unknown
    task, source or split, and for rows that `check` refuses.
    """
    task = get_task(task) if isinstance(task, str) else task
    rows = read_rows(task, split, source, n, seed)
    task.check(rows, split, labelled)
    return rows


def read_rows(task: Task, split: str, source: str = "toyworld", n: int | None = None, seed: int = 0) -> Dataset:
    """The unchecked rows of a split; `task` is a `Task` or an object with its attributes. `load_split` also checks."""
    if source not in SOURCES:
        raise ValueError(f"task source is '{source}'; use {' or '.join(SOURCES)}")
    if n is not None and n < 1:
        raise ValueError(f"{n} rows of task {task.name} were asked for; at least 1 is needed")
    if source == "toyworld":
        _check_split(task, split, toyworld.splits(task.name), "toyworld")
        return toyworld.load_task(task.name, split, n, seed)
    rows = hub_rows(task, split)
    if n is None or n >= len(rows):
        return rows
    return rows.select(np.sort(generator(seed).permutation(len(rows))[:n]))


def hub_rows(task: Task, split: str) -> Dataset:
    """The rows of a split, as the Hub has them."""
    unanswered = reach(task.hub, "dataset", f"task {task.name} ({task.hub})")
    try:
        with only_cached(bool(unanswered)):
            splits = fetch(load_dataset, task.hub, task.config, revision=task.revision)
    except (OSError, ValueError) as error:
        raise ValueError(f"task {task.name} ({task.hub}) could not be read{cause(task.hub, error)}") from error
    _check_split(task, split, tuple(splits), f"this copy of {task.hub}")
    return splits[split]


class MissingSplit(ValueError):
    """This copy of a data set lacks a split."""


def _check_split(task: Task, split: str, known: tuple[str, ...], where: str) -> None:
    if split not in known:
        raise MissingSplit(f"task {task.name} has no split '{split}' in {where}, only {', '.join(known)}")


def check(rows: Dataset, task: Task, split: str, labelled: bool = True) -> None:
    """Raise ValueError unless rows can train or score `task`: columns present, labels known, in range, not all equal.

    Equal labels are refused because they teach nothing and give correlations of 0 / 0; a single row is allowed.
    """
    what = f"split '{split}' of task {task.name}"
    if missing := [column for column in (*task.columns, "label") if column not in rows.column_names]:
        raise ValueError(f"{what} has no column '{missing[0]}', only {', '.join(rows.column_names)}")
    if not len(rows):
        raise ValueError(f"{what} is empty; it needs at least one row")
    if not labelled or task.several:
        return
    labels = np.asarray(rows["label"][:], dtype=float)  # an unknown label, None, becomes nan
    if (np.isnan(labels) | (labels == -1)).all():
        raise ValueError(f"{what} comes without labels (all are -1): use train or {' or '.join(task.validations)}")
    right = np.isfinite(labels) if task.regression else np.isin(labels, range(task.num_labels))
    if not right.all():
        row = int(np.flatnonzero(~right)[0])
        range_ = "finite numbers" if task.regression else f"0 to {task.num_labels - 1} ({', '.join(task.labels)})"
        raise ValueError(f"row {row} of {what} has the label {rows[row]['label']}; labels are {range_}")
    if len(rows) > 1 and (labels == labels[0]).all():
        shown = f"{labels[0]:g}" if task.regression else task.labels[int(labels[0])]
        raise ValueError(
            f"all {len(rows)} rows of {what} have the label {shown}: nothing can be learned or told apart there; take "
            "more rows, or shuffle before taking some"
        )


@dataclass(frozen=True)
class TaskData:
    """A task ready for training, made by `load_data`: its rows and, for the record, their provenance (`info`).

    For rows carved out of another TaskData, `part` holds that TaskData, the numbers of its training rows that are
    trained on, and the numbers of those held out, so that all are tokenized together, once.
    """

    task: Task
    train: Dataset
    validations: dict[str, Dataset]
    info: dict[str, Any]
    part: tuple["TaskData", np.ndarray, np.ndarray] | None = field(default=None, repr=False, compare=False)
    _encoded: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.validations:
            raise ValueError(f"task {self.task.name} needs a split to score")
        for split, rows in {"train": self.train, **self.validations}.items():
            self.task.check(rows, split)

    def encoded(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int = 128, how: str | int = "head"
    ) -> tuple[Dataset, dict[str, Dataset]]:
        """The training and validation splits as rows of token ids, made once for all models and seeds.

        `how` is the truncation of a long text, or the stride of the windows over a long passage.
        """
        key = vocabulary_hash(tokenizer), max_length, how
        if key not in self._encoded and self.part:
            whole, *parts = self.part
            train, carved = (select_rows(whole.encoded(tokenizer, max_length, how)[0], part) for part in parts)
            self._encoded[key] = train, dict.fromkeys(self.validations, carved)
        if key not in self._encoded:
            splits = (self.train, *self.validations.values())
            made = [self.task.encode(rows, tokenizer, max_length, how) for rows in splits]
            self._encoded[key] = made[0], dict(zip(self.validations, made[1:], strict=True))
        return self._encoded[key]

    def judge(self, split: str, encoded: Dataset, logits: np.ndarray) -> Judgement:
        """The task's metrics for the logits of an encoded split, and the main score's interval."""
        return self.task.judge(self.validations[split], encoded, logits)

    def baseline(self, split: str) -> float | None:
        """The main score of a baseline that ignores its input; None where there is none."""
        return self.task.baseline(self.train, self.validations[split])

    def carve(self, seed: int = 0, most: int = 0) -> "TaskData":
        """The training rows alone, with a tenth of them held out as the split "carved", the same for every model.

        Settings are chosen on the carved rows, so that validation rows judge and never choose. Of the remaining
        training rows, `most` are kept (0: all).
        """
        left, held = self.task.held_out(self.train, 0.1, seed)
        parts = np.sort(left[: most or None]), np.sort(held)
        train, carved = (self.train.select(part) for part in parts)
        info = self.info | {"rows": {"train": len(train), "carved": len(carved)}, "carved_seed": seed}
        return TaskData(self.task, train, {"carved": carved}, info, (self, *parts))


def select_rows(encoded: Dataset, rows: np.ndarray) -> Dataset:
    """The encoded rows with the ascending numbers `rows`; for spans, their windows with new example numbers."""
    if "example" not in encoded.column_names:
        return encoded.select(rows)
    example = encoded["example"][:]
    kept = encoded.select(np.flatnonzero(np.isin(example, rows))).with_format(None)
    numbers = np.searchsorted(rows, kept["example"][:]).tolist()
    return kept.remove_columns("example").add_column("example", numbers).with_format("numpy")


def load_data(
    name: str | Task,
    source: str = "toyworld",
    n_train: int | None = None,
    n_validation: int | None = None,
    validations: tuple[str, ...] | None = None,
    seed: int = 0,
) -> TaskData:
    """The training split and every validation split of a task (or those named), with their provenance.

    A validation split that this copy of the data set lacks, such as MNLI's mismatched one, is left out, and
    `info["missing"]` says so in a sentence.
    """
    task = get_task(name) if isinstance(name, str) else name
    train = load_split(task, "train", source, n_train, seed)
    scored, missing = {}, {}
    for split in validations or task.validations:
        try:
            scored[split] = load_split(task, split, source, n_validation, seed)
        except MissingSplit as error:
            if validations or len(task.validations) == 1:
                raise
            missing[split] = str(error)
    info = provenance(task, source, {"train": train, **scored}, seed)
    info |= task.counted({"train": train, **scored})
    return TaskData(task, train, scored, info | ({"missing": missing} if missing else {}))


def provenance(task: Task, source: str, splits: dict[str, Dataset], seed: int) -> dict[str, Any]:
    """The provenance of a task's rows, for its record."""
    toy, rows = source == "toyworld", {split: len(data) for split, data in splits.items()}
    why = [
        f"{split} has {count:,} of {task.rows[split]:,} rows"
        for split, count in rows.items()
        if count != task.rows.get(split, count)
    ]
    why = ["toyworld, a made-up world"] if toy else why
    return {
        "id": "toyworld" if toy else task.hub,
        "config": task.config,
        "revision": None if toy else task.revision,
        "seed": seed,
        "rows": rows,
        "stand_in": bool(why),
        "stand_in_why": "; ".join(why) or None,
        "fingerprint": fingerprint(splits, (*task.columns, task.target)),
    }


def fingerprint(splits: dict[str, Dataset], columns: tuple[str, ...]) -> str:
    """A hash of all texts and labels, which distinguishes records of different data."""
    digest = hashlib.sha256()
    for split, rows in splits.items():
        for first in range(0, len(rows), 1000):
            chunk = rows[first : first + 1000]
            digest.update(repr((split, [chunk[column] for column in columns])).encode())
    return digest.hexdigest()[:16]


def tokenize(
    rows: Dataset, task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int = 128, truncation: str = "head"
) -> Dataset:
    """Unpadded rows of `input_ids` and `token_type_ids` (seq,), `length` and `labels`, in the layout of the family.

    In a pair that is too long, the longer text loses its end first. A single text keeps its "head", its "tail", or
    "head_tail": a quarter of the room for the beginning, the rest for the end, where reviewers conclude (Sun et al.
    2019: 128 + 382 of 510, their best for IMDb). The paper does not state its choice.
    """
    check_truncation(task, truncation)
    if not 8 <= max_length <= tokenizer.model_max_length:
        raise ValueError(f"max_length is {max_length}; this tokenizer allows 8 to {tokenizer.model_max_length}")
    columns: dict[str, list] = {"input_ids": [], "token_type_ids": []}
    tokenizer = framed(tokenizer)
    cut = {"truncation": "longest_first", "max_length": max_length} if truncation == "head" else {"verbose": False}
    for first in range(0, len(rows), 1000):
        texts = [_texts(rows[first : first + 1000][column], column, first) for column in task.columns]
        encoded = tokenizer(*texts, return_token_type_ids=True, return_attention_mask=False, **cut)
        for key, lists in columns.items():
            lists += [np.asarray(_cut(ids, max_length, truncation), dtype=np.int32) for ids in encoded[key]]
    lengths = [len(ids) for ids in columns["input_ids"]]
    return Dataset.from_dict(columns | {"length": lengths, "labels": targets(rows, task)}).with_format("numpy")


def check_truncation(task: Task, truncation: str) -> None:
    """Raise ValueError for a way of cutting long texts that there is not, or not for this task."""
    if truncation not in TRUNCATIONS:
        raise ValueError(f"truncation is '{truncation}'; use one of {', '.join(TRUNCATIONS)}")
    if len(task.columns) == 2 and not task.spans and truncation != "head":
        raise ValueError(f"task {task.name} has pairs of texts, which are cut by 'head' only, not '{truncation}'")


def targets(rows: Dataset, task: Task) -> np.ndarray:
    """The right answer of each row: a class or a number, (rows,), or 0 or 1 for each of several labels, (rows, labels).

    Several labels and the numbers of a regression are floats, because their losses need floats.
    """
    if not task.several:
        return np.asarray(rows["label"][:], dtype=np.float32 if task.regression else np.int64)
    marked = np.zeros((len(rows), task.num_labels), dtype=np.float32)
    for i, labels in enumerate(rows["label"][:]):
        marked[i, labels] = 1
    return marked


def _texts(texts: list[str | None], column: str, first: int) -> list[str]:
    if None in texts:
        raise ValueError(f"row {first + texts.index(None)} has no text in column '{column}'")
    return texts


def _cut(ids: list[int], max_length: int, truncation: str) -> list[int]:
    """The ids of a single text, [CLS] … [SEP], shortened to its tail, or to its head and tail."""
    if len(ids) <= max_length:
        return ids
    head = 1 + ((max_length - 2) // 4 if truncation == "head_tail" else 0)
    return ids[:head] + ids[head - max_length :]
