"""Your own task: a file, a folder or a data set of the Hub, read into the same rows as GLUE's and SQuAD's tasks.

What the options leave open is guessed and printed: the columns of the texts and of the label, and whether labels are
classes, numbers, several classes per row, or spans of a passage. Unusable data is named by file and row, before any
long work.
"""

import bz2
import csv
import gzip
import json
import lzma
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet
from datasets import ClassLabel, Dataset, load_dataset
from pyarrow import ArrowException

from ..machine import hub
from ..settings import setting
from ..text.randomness import generator
from . import glue, metrics
from .glue import Task, TaskData
from .squad import SQUAD, SpanTask

LABELS = ("label", "labels", "class", "category", "target", "score", "rating", "answers")  # taken for labels
IDS = ("id", "idx", "index", "guid", "uid", "title", "is_impossible")  # columns that are not texts
KINDS = ("classes", "numbers", "several", "spans")
MOST_CLASSES = 20  # whole numbers with more different values are a regression
IMBALANCED = 1.5  # times its fair share that the commonest class may have before macro F1 is the main score
OPENERS: dict[str, Callable] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev", "eval", "test")}
SQUAD_COLUMNS = {"question", "context", "answers"}


@dataclass(frozen=True)
class OwnOptions:
    """The options for reading an own task; empty ones are guessed, and the guess is printed."""

    columns: str = setting("", "own task: the column of the text, or the two of a pair, joined by a comma")
    label: str = setting("", "own task: the column of the label")
    kind: str = setting("", f"own task: what labels are, {', '.join(KINDS)}", choices=["", *KINDS])
    metric: str = setting("", f"own task: the main metric, one of {', '.join(metrics.METRICS)}, exact_match")
    validation: str = setting(
        "", "own task: a file of validation rows, or the share of rows held out by a seed (default: 0.1)"
    )


class Place(NamedTuple):
    """The place of a row in its file, for the user who has to mend it."""

    file: str
    lines: Sequence[int]  # the line of each row; empty where rows have no lines

    def __call__(self, row: int) -> str:
        return f"line {self.lines[row]} of {self.file}" if len(self.lines) else f"row {row + 1} of {self.file}"


class Table(NamedTuple):
    """The rows of a file as dictionaries, and their places."""

    rows: list[dict[str, Any]]
    place: Place
    classes: tuple[str, ...] = ()  # names of the labels, where the source has them


def find(
    names: str, source: str, options: OwnOptions | None = None, n_train: int = 0, n_validation: int = 0
) -> list[TaskData]:
    """The tasks in `names`, joined by commas, with `n_train` and `n_validation` rows (0: all of them).

    A name is one of GLUE's tasks, imdb or squad, from `source`; else a file, a folder or a data set of the Hub. All
    names are checked before the first is loaded, because a typing error should not cost a download.
    """
    parts = [names] if Path(names).exists() else [name.strip() for name in names.split(",") if name.strip()]
    if not parts:
        raise ValueError(f"--task '{names}' names no task; use one or several of {', '.join(KNOWN)}, or a file")
    known = {name: None if is_own(name) else known_task(name) for name in parts}
    return [
        load(name, options, n_train, n_validation)
        if task is None
        else glue.load_data(task, source, n_train or None, n_validation or None)
        for name, task in known.items()
    ]


def known_task(name: str) -> Task:
    """The task of GLUE, IMDb or SQuAD called `name`; ValueError for an unknown one."""
    plain = "".join(c for c in name.lower() if c.isalnum())
    if plain not in KNOWN:
        raise ValueError(f"unknown task '{name}'; use one of {', '.join(KNOWN)}, or a file of your own")
    return SQUAD if plain == SQUAD.name else glue.get_task(name)


KNOWN = (*glue.TASKS, SQUAD.name)


# ------------------------------------------------------------------------------------------------ reading


def is_own(name: str) -> bool:
    """Whether `name` is a file, a folder or a data set of the Hub rather than a known task."""
    return (
        Path(name).exists()
        or "/" in name
        or Path(name.removesuffix(Path(name).suffix)).suffix in READERS
        or (Path(name).suffix.lower() in {*READERS, *OPENERS})
    )


def read_file(path: Path) -> Table:
    """All rows of a csv, tsv, jsonl, json or parquet file, which may be compressed as .gz, .bz2 or .xz.

    A json file is a list of rows, or SQuAD's own format. Raises ValueError that names the file, and the line that
    cannot be read.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in OPENERS else ""
    kind = suffixes[-1] if suffixes else ""
    if kind not in READERS:
        raise ValueError(f"{path} is no task file; use one of {', '.join(READERS)}, also with {', '.join(OPENERS)}")
    try:
        if kind == ".parquet":
            rows = pyarrow.parquet.read_table(path).to_pylist()
            return Table(rows, Place(path.name, ()))
        with OPENERS.get(packed, open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 (byte {error.start}); save it as UTF-8") from error
    except (OSError, EOFError, lzma.LZMAError, ArrowException) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    return READERS[kind](text, path)


def _separated(text: str, path: Path, delimiter: str) -> Table:
    rows, lines, reader = [], [], csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        if len(set(names)) < max(2, len(names)) or "" in names:
            raise ValueError(f"{path} needs a first line with the names of its columns, at least two and all different")
        for values in reader:
            if not values:
                continue
            if len(values) != len(names):
                raise ValueError(
                    f"line {reader.line_num} of {path.name} has {len(values)} values for {len(names)} columns; a value "
                    "with the separator in it belongs in quotation marks"
                )
            rows.append({name: value or None for name, value in zip(names, values, strict=True)})
            lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of {path.name} cannot be read: {error}") from error
    return Table(rows, Place(path.name, lines))


def _json_lines(text: str, path: Path) -> Table:
    rows, lines = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append(_object(_parse(line, f"line {number} of {path.name}"), f"line {number} of {path.name}"))
            lines.append(number)
    return Table(rows, Place(path.name, lines))


def _json(text: str, path: Path) -> Table:
    made = _parse(text, path.name)
    made = made.get("data", made) if isinstance(made, dict) else made
    if not isinstance(made, list):
        raise ValueError(f"{path.name} is no list of rows and not in SQuAD's format")
    place = Place(path.name, ())
    if made and isinstance(made[0], dict) and "paragraphs" in made[0]:
        return Table(list(_squad_rows(made, path.name)), place)
    return Table([_object(row, place(i)) for i, row in enumerate(made)], place)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {error}") from error


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{where} is no row of named values")
    return row


def _squad_rows(articles: list[Any], name: str) -> Iterator[dict[str, Any]]:
    """The questions of SQuAD's own format, one row each."""
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    impossible = question.get("is_impossible", False)
                    yield {
                        "id": question["id"],
                        "context": paragraph["context"],
                        "question": question["question"],
                        "answers": [] if impossible else question["answers"],
                    }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name} is not in SQuAD's format: {error} is missing or of another kind") from error


READERS: dict[str, Callable[[str, Path], Table]] = {
    ".csv": lambda text, path: _separated(text, path, ","),
    ".tsv": lambda text, path: _separated(text, path, "\t"),
    ".jsonl": _json_lines,
    ".json": _json,
    ".parquet": _json,
}


def read_hub(name: str) -> dict[str, Table]:
    """The train and validation rows of a data set NAME[:CONFIG][@REVISION] of the Hub."""
    address, _, revision = name.partition("@")
    repository, _, config = address.partition(":")
    unanswered = hub.reach(repository, "dataset", f"task {repository}")
    try:
        with hub.only_cached(bool(unanswered)):
            splits = hub.fetch(load_dataset, repository, config or None, revision=revision or None)
    except (OSError, ValueError) as error:
        raise ValueError(f"data set '{name}' could not be read ({str(error).splitlines()[0]})") from error
    tables = {}
    for split, names in SPLITS.items():
        rows = next((splits[n] for n in names if n in splits), None)
        if rows is not None:
            coded = [n for n, kind in rows.features.items() if isinstance(kind, ClassLabel)]
            classes = tuple(rows.features[coded[0]].names) if len(coded) == 1 else ()
            tables[split] = Table(rows.to_list(), Place(f"split {split} of {repository}", ()), classes)
    return tables


def read_tables(source: str, options: OwnOptions) -> dict[str, Table]:
    """The tables "train" and, if present, "validation" of a file, a folder or a data set of the Hub."""
    path = Path(source)
    if path.is_dir():
        files = {split: _file_of(path, names) for split, names in SPLITS.items()}
        if files["train"] is None:
            raise ValueError(f"folder {path} has no file called train, such as train.csv; give the file itself")
        tables = {split: read_file(file) for split, file in files.items() if file}
    elif path.is_file():
        tables = {"train": read_file(path)}
    elif re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@\w+)?", source) and path.suffix.lower() not in READERS:
        tables = read_hub(source)
        if "train" not in tables:
            raise ValueError(f"data set '{source}' has no split called train")
    else:
        raise ValueError(f"there is no file or folder {source}")
    if options.validation and not _share(options.validation):
        if not Path(options.validation).is_file():
            raise ValueError(f"--validation {options.validation} is neither a file nor a share between 0 and 1")
        tables["validation"] = read_file(Path(options.validation))
    return tables


def _file_of(folder: Path, names: Sequence[str]) -> Path | None:
    files = [f for f in sorted(folder.iterdir()) if f.is_file() and {s.lower() for s in f.suffixes} & READERS.keys()]
    return next((file for name in names for file in files if file.name.lower().split(".")[0] == name), None)


def _share(text: str) -> float:
    """The share that `text` states, or 0 when it is not a share."""
    try:
        return float(text) if 0 < float(text) < 1 else 0.0
    except ValueError:
        return 0.0


# ---------------------------------------------------------------------------------------------- the task


def load(source: str, options: OwnOptions | None = None, n_train: int = 0, n_validation: int = 0) -> TaskData:
    """An own task, ready for training; `info["told"]` holds the guesses as sentences.

    `n_train` and `n_validation` rows are drawn with seed 0 (0: all). Raises ValueError, naming the file and the row,
    for data that cannot be used.
    """
    options = options or OwnOptions()
    tables = read_tables(source, options)
    told: list[str] = []
    texts, label = _columns(tables["train"], options, told)
    kind = _kind(tables["train"], label, options, told)
    for table in tables.values():
        _check_texts(table, texts, label)
    name = re.sub(r"[^a-z0-9]+", "-", Path(source.partition("@")[0]).name.lower().partition(".")[0]).strip("-") or "own"
    if name in glue.TASKS or name == SQUAD.name:
        name = f"own-{name}"
    if kind == "spans":
        task, splits = _spans(name, tables, texts)
    else:
        task, splits = _labelled(name, tables, texts, label, kind)
    if "validation" not in splits:
        splits |= _split(task, splits["train"], _share(options.validation) or 0.1, told)
    splits = {s: _few(rows, n) for (s, rows), n in zip(splits.items(), (n_train, n_validation), strict=True)}
    task = _measured(task, splits["train"], options.metric, told)
    told += _leaks(task, splits)
    info = {
        "id": Path(source).name,
        "revision": source.partition("@")[2] or None,
        "rows": {split: len(rows) for split, rows in splits.items()},
        "stand_in": False,
        "stand_in_why": None,
        "own": True,
        "fingerprint": glue.fingerprint(splits, (*task.columns, task.target)),
        "told": told,
        **task.counted(splits),
    }
    return TaskData(replace(task, rows=info["rows"]), splits["train"], {"validation": splits["validation"]}, info)


def _columns(table: Table, options: OwnOptions, told: list[str]) -> tuple[tuple[str, ...], str]:
    """The one or two columns of the texts, and the column of the label."""
    if not table.rows:
        raise ValueError(f"{table.place.file} has no rows")
    names = list(dict.fromkeys(name for row in table.rows for name in row))
    if SQUAD_COLUMNS <= set(names) and not options.columns and options.kind in ("", "spans"):
        return ("question", "context"), options.label or "answers"
    label = options.label or next((n for n in names if n.lower() in LABELS), names[-1])
    texts = tuple(part.strip() for part in options.columns.split(",") if part.strip())
    for name in (*texts, label):
        if name not in names:
            raise ValueError(f"{table.place.file} has no column '{name}', only {', '.join(names)}")
    if not texts:
        texts = tuple(n for n in names if n != label and n.lower() not in IDS)
    if len(texts) not in (1, 2) or label in texts:
        raise ValueError(
            f"{table.place.file} has the columns {', '.join(names)}: name the text, or the two of a pair, by "
            "--columns A,B and the label by --label"
        )
    if not (options.columns and options.label):
        told.append(f"texts: {' and '.join(texts)}; label: {label} (--columns and --label say otherwise)")
    return texts, label


def _check_texts(table: Table, texts: Sequence[str], label: str) -> None:
    for i, row in enumerate(table.rows):
        for column in texts:
            if not isinstance(row.get(column), str) or not row[column].strip():
                raise ValueError(f"{table.place(i)} has no text in column '{column}'")
        if row.get(label) is None or row[label] == "" or row[label] != row[label]:
            raise ValueError(f"{table.place(i)} has no label in column '{label}'; fill it in or leave the row out")


def _number(value: Any) -> float | None:
    """The finite number that `value` is or spells; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(float(value)) else None
    except (TypeError, ValueError):
        return None


def _kind(table: Table, label: str, options: OwnOptions, told: list[str]) -> str:
    """The kind of the labels, guessed from all of them."""
    if options.kind:
        return options.kind
    values = [row.get(label) for row in table.rows if row.get(label) is not None]
    if label == "answers" and any(isinstance(value, dict | list) for value in values):
        return "spans"
    if any(isinstance(value, list) for value in values):
        return "several"
    numbers = [_number(value) for value in values]
    if table.classes or not numbers or any(number is None for number in numbers):
        return "classes"
    kind = "classes" if all(n == int(n) for n in numbers) and len({*numbers}) <= MOST_CLASSES else "numbers"
    told.append(f"labels are numbers, taken for {kind} (--kind says otherwise)")
    return kind


def _labelled(
    name: str, tables: dict[str, Table], texts: tuple[str, ...], label: str, kind: str
) -> tuple[Task, dict[str, Dataset]]:
    """A task of classes, several classes per row, or numbers, and its rows with the columns of texts and "label"."""
    values = {split: [_value(row[label], kind) for row in table.rows] for split, table in tables.items()}
    if kind == "numbers":
        names: tuple[str, ...] = ()
        _refuse(tables, values, label, lambda value: value is not None, "no finite number")
    else:
        seen = {one for value in values["train"] for one in (value if kind == "several" else [value])}
        names = tables["train"].classes or tuple(sorted(seen, key=lambda n: (_number(n) is None, _number(n) or 0, n)))
        if tables["train"].classes:
            values = {split: [names[int(value)] for value in column] for split, column in values.items()}
        known = {one: i for i, one in enumerate(names)}
        fits = (lambda v: set(v) <= known.keys()) if kind == "several" else (lambda v: v in known)
        _refuse(tables, values, label, fits, f"which no training row has; these have {_some(names)}")
        code = (lambda v: sorted(known[one] for one in v)) if kind == "several" else known.get
        values = {split: [code(value) for value in column] for split, column in values.items()}
    columns = texts if "label" not in texts else tuple(f"{text}_" if text == "label" else text for text in texts)
    splits = {
        split: Dataset.from_dict(
            {new: [row[old] for row in table.rows] for new, old in zip(columns, texts, strict=True)}
            | {"label": values[split]}
        )
        for split, table in tables.items()
    }
    return Task(name, name, columns, names, {}, several=kind == "several"), splits


def _value(value: Any, kind: str) -> Any:
    """A label in comparable form: a name, a list of names, or a number (None for a label that is none of these)."""
    if kind == "numbers":
        return _number(value)
    if kind == "several":
        parts = value if isinstance(value, list) else re.split(r"[|;,]", str(value))
        return [_name(part) for part in parts if _name(part)]
    return _name(value)


def _name(value: Any) -> str:
    number = None if isinstance(value, str) else _number(value)
    return str(int(number)) if number is not None and number == int(number) else str(value).strip()


def _refuse(
    tables: dict[str, Table], values: dict[str, list], label: str, fits: Callable[[Any], bool], why: str
) -> None:
    for split, column in values.items():
        wrong = next((i for i, value in enumerate(column) if not fits(value)), None)
        if wrong is not None:
            table = tables[split]
            raise ValueError(f"{table.place(wrong)} has '{table.rows[wrong][label]}' in column '{label}', {why}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def _spans(name: str, tables: dict[str, Table], texts: tuple[str, ...]) -> tuple[SpanTask, dict[str, Dataset]]:
    """A task of answers in passages, `unanswerable` if a row has no answer, and its rows."""
    splits, empty = {}, False
    for split, table in tables.items():
        rows = []
        for i, row in enumerate(table.rows):
            answers = _answers(row["answers"], table.place(i))
            for text, start in zip(answers["text"], answers["answer_start"], strict=True):
                if row[texts[1]][start : start + len(text)] != text or start < 0:
                    raise ValueError(
                        f"{table.place(i)} has the answer {text!r}, which is not at {start} in its passage"
                    )
            empty |= not answers["text"]
            identity = str(row.get("id", i))
            rows.append({"id": identity, "question": row[texts[0]], "context": row[texts[1]], "answers": answers})
        splits[split] = Dataset.from_list(rows)
        if not any(row["answers"]["text"] for row in rows):
            raise ValueError(f"no row of {table.place.file} has an answer; nothing can be learned or told apart there")
    return SpanTask(name, name, unanswerable=empty), splits


def _answers(answers: Any, where: str) -> dict[str, list]:
    """The answers as {text: [...], answer_start: [...]}, from either of the two common forms."""
    if isinstance(answers, list):
        made = {key: [one.get(key) if isinstance(one, dict) else None for one in answers] for key in ANSWER}
    else:
        made = {key: answers.get(key) if isinstance(answers, dict) else None for key in ANSWER}
    texts, starts = made["text"], made["answer_start"]
    right = isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)
    if not right or not all(isinstance(t, str) and t and type(s) is int for t, s in zip(texts, starts, strict=True)):
        raise ValueError(
            f'{where} needs answers as {{"text": ["…"], "answer_start": [0]}}, both empty where none is right'
        )
    return {"text": texts, "answer_start": starts}


ANSWER = ("text", "answer_start")


def _split(task: Task, rows: Dataset, share: float, told: list[str]) -> dict[str, Dataset]:
    """The training and validation rows, split with seed 0: by whole passages for spans, else evenly by class."""
    try:
        kept, held = task.held_out(rows, share, 0)
    except ValueError:  # one passage only
        told.append("all questions are about one passage: it is in both splits, which flatters")
        kept, held = Task.held_out(task, rows, share, 0)
    if task.labels and not task.several:  # the same share of each class, and at least one row of a rare class
        labels, order = np.asarray(rows["label"][:]), np.concatenate([held, kept])
        rank = np.empty(len(rows), dtype=int)
        for label in np.unique(labels):
            rank[order[labels[order] == label]] = np.arange((labels == label).sum())
        counts = np.bincount(labels)[labels]
        out = rank < np.where(counts > 1, np.maximum(1, np.round(share * counts)), 0)
        kept, held = np.flatnonzero(~out), np.flatnonzero(out)
    if not len(held):
        raise ValueError(f"task {task.name} has {len(rows)} rows; too few to hold some out: give --validation FILE")
    told.append(f"{len(held):,} of {len(rows):,} rows are held out by seed 0 and scored (--validation says otherwise)")
    return {"train": rows.select(np.sort(kept)), "validation": rows.select(np.sort(held))}


def _few(rows: Dataset, n: int) -> Dataset:
    return rows.select(np.sort(generator(0).permutation(len(rows))[:n])) if 0 < n < len(rows) else rows


def _measured(task: Task, train: Dataset, metric: str, told: list[str]) -> Task:
    """The task with the metrics of its kind; the metric asked for is the main one."""
    if task.spans:
        names, main = task.metrics, "f1"
    elif task.several:
        names, main = ("micro_f1", "macro_f1", "accuracy"), "micro_f1"
    elif task.regression:
        names, main = ("pearson", "spearman", "r2"), "pearson"
        task = replace(task, center=float(np.mean(train["label"][:])))
    else:
        names, counts = ("accuracy", "macro_f1"), Counter(train["label"][:])
        fair = len(train) / max(1, task.num_labels)
        main = "macro_f1" if max(counts.values()) > IMBALANCED * fair else "accuracy"
        if main == "macro_f1":
            label, count = counts.most_common(1)[0]
            told.append(
                f"classes are imbalanced ({task.labels[label]}: {count / len(train):.0%}): macro F1 is the main score, "
                "beside accuracy"
            )
    if metric:
        allowed = {"classes": ("accuracy", "f1", "macro_f1", "micro_f1", "matthews"), "numbers": names}
        kind = "numbers" if task.regression else "classes"
        fitting = names if task.spans or task.several else allowed[kind]
        if metric not in fitting or (metric == "f1" and not task.spans and task.num_labels != 2):
            raise ValueError(f"--metric {metric} does not fit task {task.name}; use one of {', '.join(fitting)}")
        names, main = tuple(dict.fromkeys((*names, metric))), metric
    return replace(task, metrics=names, main_metric=main)


def _leaks(task: Task, splits: dict[str, Dataset]) -> list[str]:
    """A sentence, in a list, when scored texts are also in the training rows; else []."""
    keys = {split: list(zip(*(rows[c][:] for c in task.columns), strict=True)) for split, rows in splits.items()}
    learned = set(keys["train"])
    count = sum(key in learned for key in keys["validation"])
    if not count:
        return []
    return [
        f"{count:,} of {len(keys['validation']):,} validation rows have the texts of a training row: scores flatter"
    ]
