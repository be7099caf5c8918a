"""Your own task: a file, a folder or a data set of the Hub, read into the same rows as GLUE's and SQuAD's tasks.

What the options leave open is guessed and printed: the columns of the texts and of the label, and whether labels are
classes, numbers, several classes per row, or spans of a passage. Unusable data is named by file and row, before any
long work.
"""

import ast
import contextlib
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from datasets import ClassLabel, Dataset, load_dataset

from ..machine import hub
from ..settings import setting
from ..text import reading
from ..text.randomness import generator
from . import glue, metrics
from .answers import LONGEST_ANSWER
from .glue import Task, TaskData
from .squad import SQUAD, SpanTask

LABELS = ("label", "labels", "class", "category", "target", "score", "rating", "answers")  # taken for labels
INDEX = ("", "unnamed: 0", "__index_level_0__")  # what pandas calls the index that it writes
IDS = (*INDEX, "id", "idx", "index", "guid", "uid", "title", "is_impossible")  # columns that are no texts or labels
FORMATS = tuple(kind[1:] for kind in reading.READERS if kind != ".txt")
KINDS = ("classes", "numbers", "several", "spans")
MOST_CLASSES = 20  # whole numbers with more different values are a regression
COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+")  # a decimal or thousands, or two labels
ITEM = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+]?[0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?|True|False""")
ARRAY = re.compile(rf"\[\s*(?:{ITEM.pattern})(?:\s+(?:{ITEM.pattern}))+\s*\]")  # as NumPy prints one, without commas
SCALAR = re.compile(rf"np\.\w+\(({ITEM.pattern})\)")  # as NumPy prints one of a list of Python's
IMBALANCED = 1.5  # times its fair share that the commonest class may have before macro F1 is the main score
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
    encoding: str = setting("", "encoding of files that are neither UTF-8 nor begin with a byte order mark")


class Table(NamedTuple):
    """The rows of a file as dictionaries, and their places for the user who has to mend one."""

    rows: list[dict[str, Any]]
    file: str
    lines: Sequence[int] = ()  # the line of each row, where rows have lines
    classes: Mapping[str, tuple[str, ...]] = MappingProxyType({})  # a column's labels, where the source names them
    advice: str = ""  # the end of an error, where there is another way than to mend the file

    @property
    def names(self) -> list[str]:
        """The names of the columns, of which a row may lack some."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def place(self, row: int) -> str:
        """The file and the line, or else the number, of a row."""
        return f"{self.file}, line {self.lines[row]:,}" if self.lines else f"{self.file}, row {row + 1:,}"


def find(
    names: str, source: str, options: OwnOptions | None = None, n_train: int = 0, n_validation: int = 0
) -> list[TaskData]:
    """The tasks in `names`, joined by commas, with `n_train` and `n_validation` rows (0: all of them).

    A name is one of GLUE's tasks, imdb or squad, from `source`; else a file, a folder or a data set of the Hub. All
    names are checked before the first is loaded, because a typing error should not cost a download.
    """
    parts = split_names(names)
    known = {name: None if is_own(name) else known_task(name) for name in parts}
    tasks = [
        load(name, options, n_train, n_validation)
        if task is None
        else glue.load_data(task, source, n_train or None, n_validation or None)
        for name, task in known.items()
    ]
    if len(tasks) > len({data.task.name for data in tasks}):
        raise ValueError(f"--task '{names}' names two tasks alike, and so would their records be; rename a file")
    return tasks


def split_names(names: str) -> list[str]:
    """The tasks in `names`, joined by commas; ValueError where there is none."""
    parts = [names] if Path(names).exists() else [name.strip() for name in names.split(",") if name.strip()]
    if not parts:
        raise ValueError(f"--task '{names}' names no task; use one or several of {', '.join(KNOWN)}, or a file")
    return parts


def known_task(name: str) -> Task:
    """The task of GLUE, IMDb or SQuAD called `name`; ValueError for an unknown one."""
    if glue.plain(name) not in KNOWN:
        raise ValueError(f"unknown task '{name}'; use one of {', '.join(KNOWN)}, or a file of your own")
    return KNOWN[glue.plain(name)]


KNOWN = glue.TASKS | {SQUAD.name: SQUAD}


# ------------------------------------------------------------------------------------------------ reading


def is_own(name: str) -> bool:
    """Whether `name` is a file, a folder or a data set of the Hub rather than a known task, which a folder beside the
    command that has its name does not hide."""
    path = Path(name)
    readable = path.suffix.lower() in reading.OPENERS or bool(reading.kind_of(path))
    return readable or "/" in name or (path.exists() and glue.plain(name) not in KNOWN)


def read_file(path: Path, encoding: str | None = None) -> Table:
    """All rows of a file of any kind that text may have but plain text (see `text.reading`), SQuAD's format included.

    Raises ValueError that names the file, and the line or row that cannot be read.
    """
    lines: list[int] = []
    table = Table(list(reading.rows(path, encoding, lines=lines)), f"'{reading.shown(path)}'", lines)
    wrong = next((i for i, row in enumerate(table.rows) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise ValueError(f"{table.place(wrong)} is no row of named values")
    if table.rows and "paragraphs" in table.rows[0]:
        return Table(list(_squad_rows(table.rows, table.file)), table.file)
    return table


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
        found = next((name for name in names if name in splits), None)
        if found:
            kinds = {column: getattr(kind, "feature", kind) for column, kind in splits[found].features.items()}
            coded = {column: tuple(kind.names) for column, kind in kinds.items() if isinstance(kind, ClassLabel)}
            tables[split] = Table(splits[found].to_list(), f"split {found} of {repository}", classes=coded)
    return tables


def read_tables(source: str, options: OwnOptions) -> dict[str, Table]:
    """The tables "train" and, if present, "validation" of a file, a folder or a data set of the Hub."""
    path = Path(source).expanduser()
    if path.is_dir():
        files = {split: _file_of(path, names) for split, names in SPLITS.items()}
        if files["train"] is None:
            raise ValueError(f"folder {path} has no file called train, such as train.csv; give the file itself")
        tables = {split: read_file(file, options.encoding) for split, file in files.items() if file}
    elif path.is_file():
        tables = {"train": read_file(path, options.encoding)}
    elif re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@[\w./-]+)?", source) and not reading.kind_of(path):
        tables = read_hub(source)
        if "train" not in tables:
            raise ValueError(f"data set '{source}' has no split called train")
    else:
        raise ValueError(f"there is no file or folder {source}")
    if _share(options.validation):
        tables.pop("validation", None)
    elif options.validation:
        held = Path(options.validation).expanduser()
        if not held.is_file():
            raise ValueError(f"--validation {options.validation} is neither a file nor a share between 0 and 1")
        tables["validation"] = read_file(held, options.encoding)
    if "validation" in tables:
        tables["validation"] = tables["validation"]._replace(advice=", or score training rows: --validation 0.1")
    return tables


def _file_of(folder: Path, names: Sequence[str]) -> Path | None:
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and reading.kind_of(file)]
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
    told = [f"scored: the rows of {tables['validation'].file}"] if "validation" in tables else []
    options = _gather(tables, options, told)
    texts, label = _columns(tables["train"], options, told)
    kind = _kind(tables["train"], label, options, told)
    tally = reading.Tally()
    for table in tables.values():
        _check_rows(table, texts, label, kind)
        for row in table.rows:
            row |= {column: tally.mend(row[column]) for column in texts}
    if tally.mended_characters:
        told.append(f"control characters that became spaces: {tally.mended_characters:,}")
    name = task_name(source)
    if kind == "spans":
        task, splits = _spans(name, tables, texts, told)
    else:
        task, splits = _labelled(name, tables, texts, label, kind)
    if "validation" not in splits:
        splits |= _split(task, splits["train"], _share(options.validation) or 0.1, told)
    splits = {s: _few(rows, n) for (s, rows), n in zip(splits.items(), (n_train, n_validation), strict=True)}
    task = _measured(task, splits["train"], options.metric, told)
    told += _leaks(task, splits) + _odd_classes(task, splits)
    place, (address, _, revision) = _from_root(source), source.partition("@")
    info = {
        "id": place.name if place else address,
        "place": hashlib.sha256(str(place).encode()).hexdigest()[:16] if place else None,  # tells two of one name apart
        "revision": None if place else revision or None,
        "rows": {split: len(rows) for split, rows in splits.items()},
        "stand_in": False,
        "stand_in_why": None,
        "own": True,
        "metric": task.main,
        "fingerprint": glue.fingerprint(splits, (*task.columns, task.target)),
        "told": told,
        **task.counted(splits),
    }
    return TaskData(replace(task, rows=info["rows"]), splits["train"], {"validation": splits["validation"]}, info)


def _gather(tables: dict[str, Table], options: OwnOptions, told: list[str]) -> OwnOptions:
    """The options after columns of 0 and 1, one for each of several labels, have become one column of lists.

    They are those that --label names, joined by commas, or a guess where no column is called like a label.
    """
    rows, names = tables["train"].rows, tables["train"].names
    hot = [name.strip() for name in options.label.split(",")] if options.label not in names else []
    if not options.label and options.kind in ("", "several") and not any(name.lower() in LABELS for name in names):
        hot = [n for n in names if n.lower() not in IDS and all(_mark(row.get(n)) is not None for row in rows)]
    if len(hot) < 2 or not rows:
        return options
    if not options.label:
        told.append(f"labels: {_some(hot)}, each 0 or 1 (--label says otherwise)")
    options = replace(options, label=",".join(hot), kind="several")
    for table in tables.values():
        for i, row in enumerate(table.rows):
            marked = {name: _mark(row.pop(name, None)) for name in hot}
            if wrong := [name for name in hot if marked[name] is None]:
                raise ValueError(f"{table.place(i)} needs 0 or 1 in column '{wrong[0]}'; mend it{table.advice}")
            row[options.label] = [name for name in hot if marked[name]]
    return options


def _mark(value: Any) -> bool | None:
    """Whether a mark says yes; None for a value that is no mark."""
    return {"0": False, "false": False, "1": True, "true": True}.get(_name(value).lower())


def task_name(source: str) -> str:
    """What an own task is called in records and folders: as its file, folder or data set, but a file called like a
    split, such as train.csv, as its folder."""
    path = _from_root(source) or Path(source.partition("@")[0])
    first, folder = (part.name.lower().partition(".")[0] for part in (path, path.parent))
    split = path.is_file() and any(first in names for names in SPLITS.values())
    name = re.sub(r"[^a-z0-9]+", "-", folder if split else first).strip("-") or "own"
    return f"own-{name}" if name in KNOWN else name


def _from_root(source: str) -> Path | None:
    """The file or folder of an own task by its whole path; None for a data set of the Hub."""
    path = Path(source).expanduser()
    return Path(os.path.abspath(path)) if path.exists() else None


def _columns(table: Table, options: OwnOptions, told: list[str]) -> tuple[tuple[str, ...], str]:
    """The one or two columns of the texts, and the column of the label."""
    if not any(table.rows):
        raise ValueError(f"{table.file} has no rows")
    names = table.names
    if options.kind == "spans" or (SQUAD_COLUMNS <= set(names) and not options.columns and not options.kind):
        if not set(names) >= SQUAD_COLUMNS:
            raise ValueError(f"{table.file} needs the columns question, context and answers for spans")
        return ("question", "context"), "answers"
    last = next((n for n in reversed(names) if n.lower() not in IDS), names[-1])
    label = options.label or next((n for n in names if n.lower() in LABELS), last)
    if not options.label:
        _check_names(table, names, label)
    texts = tuple(part.strip() for part in options.columns.split(",") if part.strip())
    for name in (*texts, label):
        if name not in names:
            raise ValueError(f"{table.file} has no column '{name}', only {', '.join(names)}")
    if not texts:
        texts = tuple(n for n in names if n != label and n.lower() not in IDS)
    if len(texts) not in (1, 2) or label in texts:
        raise ValueError(
            f"{table.file} has the columns {', '.join(names)}: name the text, or the two of a pair, by "
            "--columns A,B and the label by --label"
        )
    if not (options.columns and options.label):
        told.append(f"texts: {' and '.join(texts)}; label: {label} (--columns and --label say otherwise)")
    return texts, label


def _check_names(table: Table, names: Sequence[str], label: str) -> None:
    """Raise ValueError for a line of data that was taken for the names of columns, and for answers without places."""
    values = {_name(row.get(label)) for row in table.rows}
    others = [name for name in names if name != label]
    if label in values or (_number(label) is not None and any(_number(name) is None for name in others)):
        raise ValueError(
            f"{table.file} seems to begin with a row, not with the names of its columns (the label is called "
            f"'{label}'): put a line such as text,label above it, or insist by --label {label}"
        )
    if label.lower().startswith("answer") and SQUAD_COLUMNS <= {*names, "answers"}:
        if all(str(row.get(label)) in str(row.get("context")) for row in table.rows):
            raise ValueError(f'{table.file} has answers without their places; {SHAPE}, in a column "answers"')


def _check_rows(table: Table, texts: Sequence[str], label: str, kind: str) -> None:
    """Raise ValueError, naming the row, unless each has its texts and its label ("" is no label of several)."""
    names = table.names
    if missing := [name for name in (*texts, label) if name not in names]:
        why = f"no column '{missing[0]}', only {', '.join(names)}" if names else "no rows"
        raise ValueError(f"{table.file} has {why}; mend it{table.advice}")
    for i, row in enumerate(table.rows):
        for column in texts:
            if not isinstance(row.get(column), str) or not row[column].strip():
                given = f" but {row[column]}"[:40] if row.get(column) and not isinstance(row[column], str) else ""
                raise ValueError(f"{table.place(i)} has no text{given} in column '{column}'; leave the row out")
        value = row.get(label)
        if isinstance(value, dict) and kind != "spans":
            raise ValueError(f"{table.place(i)} has {value} in column '{label}', which is no label")
        if kind != "spans" and (value is None or value != value or (not str(value).strip() and kind != "several")):
            told = f"has no label in column '{label}'; fill it in or leave the row out"
            raise ValueError(f"{table.place(i)} {told}{table.advice}")


def _number(value: Any) -> float | None:
    """The number that `value` is or spells, if a loss can be computed of it; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return float(value) if abs(float(value)) < LARGEST else None
    except (TypeError, ValueError, OverflowError):
        return None


LARGEST = 1e18  # for a label, because its square must be a float32


def _kind(table: Table, label: str, options: OwnOptions, told: list[str]) -> str:
    """The kind of the labels, guessed from all of them."""
    if options.kind:
        return options.kind
    values = {i: row[label] for i, row in enumerate(table.rows) if row.get(label) not in (None, "")}
    if label == "answers" and all(name in table.rows[0] for name in SQUAD_COLUMNS):
        return "spans"
    different = len({_name(value) for value in values.values()})
    sign = _sign(values.values())
    joined = [value for value in values.values() if sign != "," and sign in str(value)]
    parts = {part for value in joined for part in _value(value, "several", sign)}
    if any(isinstance(v, list) or str(v)[:1] + str(v)[-1:] == "[]" for v in values.values()):
        return "several"
    if 0 < len(parts) < different:  # names in many combinations
        told.append(f"labels are joined by {sign}, taken for several a row (--kind says otherwise)")
        return "several"
    numbers = [_number(value) for value in values.values() if _number(value) is not None]
    if label in table.classes or not numbers or len(numbers) < len(values):
        commas = all(_number(value) is not None or COMMA.fullmatch(str(value).strip()) for value in values.values())
        if label not in table.classes and values and (commas or different > max(MOST_CLASSES, len(values) / 2)):
            _refuse_classes(table, label, values, different, len(numbers))
        return "classes"
    kind = "classes" if all(n == int(n) for n in numbers) and len({*numbers}) <= MOST_CLASSES else "numbers"
    told.append(f"labels are numbers, taken for {kind} (--kind says otherwise)")
    return kind


def _refuse_classes(table: Table, label: str, values: dict[int, Any], different: int, numbers: int) -> None:
    """Raise ValueError for labels that are no classes, because nearly all differ or are numbers with a comma."""
    first = next(i for i, value in values.items() if _number(value) is None)
    what = f"{table.place(first)} has '{values[first]}' in column '{label}'"
    if COMMA.fullmatch(str(values[first]).strip()):
        raise ValueError(f"{what}; write numbers with a point, as in 0.5, or say what they are by --kind")
    if 2 * numbers > len(values):
        raise ValueError(f"{what}, where most rows have a number; mend it, leave it out, or see --kind")
    raise ValueError(
        f"{table.file} has {different:,} different values in column '{label}' of {len(values):,} rows; name the "
        "column of the label by --label, or insist by --kind classes"
    )


def _labelled(
    name: str, tables: dict[str, Table], texts: tuple[str, ...], label: str, kind: str
) -> tuple[Task, dict[str, Dataset]]:
    """A task of classes, several classes per row, or numbers, and its rows with the columns of texts and "label"."""
    sign = _sign(row[label] for table in tables.values() for row in table.rows)
    values = {split: [_value(row[label], kind, sign) for row in table.rows] for split, table in tables.items()}
    names: tuple[str, ...] = ()
    if kind == "numbers":
        _refuse(tables, values, label, lambda value: value is not None, "no finite number")
    else:
        classes = tables["train"].classes.get(label, ())
        seen = {one for value in values["train"] for one in value}
        if not seen:
            raise ValueError(f"no row of {tables['train'].file} has a label in column '{label}'")
        names = classes or tuple(sorted(seen, key=lambda n: (_number(n) is None, _number(n) or 0, n)))
        known = {one: i for i, one in enumerate(names)} | {str(i): i for i in range(len(classes))}
        why = f"which no training row has; these have {_some(names)}"
        _refuse(tables, values, label, lambda value: known.keys() >= set(value), why)
        values = {split: [sorted(known[one] for one in value) for value in rows] for split, rows in values.items()}
    if kind == "classes":
        values = {split: [number for (number,) in rows] for split, rows in values.items()}
    columns = texts if "label" not in texts else tuple(f"{text}_" if text == "label" else text for text in texts)
    splits = {}
    for split, table in tables.items():
        data = {new: [row[old] for row in table.rows] for new, old in zip(columns, texts, strict=True)}
        splits[split] = Dataset.from_dict(data | {"label": values[split]})
    return Task(name, name, columns, names, {}, several=kind == "several"), splits


def _value(value: Any, kind: str, sign: str) -> Any:
    """A label in comparable form: a number (None for anything else), or a list of names, of a class just one."""
    if kind == "numbers":
        return _number(value)
    if kind == "several":
        text = str(value).strip()
        if isinstance(value, str) and text[:1] == "[":
            text, sign = SCALAR.sub(r"\1", text), ","
            text = f"[{', '.join(ITEM.findall(text))}]" if ARRAY.fullmatch(text) else text
            with contextlib.suppress(ValueError, SyntaxError):  # as JSON and Python write it, with quoted commas
                value = ast.literal_eval(text)
        parts = value if isinstance(value, list) else text.strip("[] ").split(sign)
        return [_name(part).strip("'\"") for part in parts if _name(part)]
    return [_name(value)]


def _sign(labels: Iterable[Any]) -> str:
    """What joins the names of a row: one sign in the whole column, because a name may hold the others."""
    joined = [value for value in labels if isinstance(value, str) and value.strip()[:1] != "["]
    return next((sign for sign in "|;" if any(sign in value for value in joined)), ",")


def _name(value: Any) -> str:
    """The name of a class; 1, 1.0 and "1.0" are one, because a column with a gap turns whole numbers into decimals."""
    return re.sub(r"^(-?[0-9]+)\.0+$", r"\1", str(value).strip())


def _refuse(
    tables: dict[str, Table], values: dict[str, list], label: str, fits: Callable[[Any], bool], why: str
) -> None:
    for split, column in values.items():
        wrong = next((i for i, value in enumerate(column) if not fits(value)), None)
        if wrong is not None:
            table = tables[split]
            what = f"{table.place(wrong)} has '{table.rows[wrong][label]}' in column '{label}'"
            raise ValueError(f"{what}, {why}; mend it{table.advice}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def _spans(
    name: str, tables: dict[str, Table], texts: tuple[str, ...], told: list[str]
) -> tuple[SpanTask, dict[str, Dataset]]:
    """A task of answers in passages, `unanswerable` if a row has no answer, and its rows."""
    splits, empty, moved = {}, False, 0
    for split, table in tables.items():
        rows = []
        for i, row in enumerate(table.rows):
            answers = _answers(row.get("answers"), table.place(i))
            places = [_place(*one, row[texts[1]], table.place(i)) for one in zip(*answers.values(), strict=True)]
            moved += places != answers["answer_start"]
            answers["answer_start"] = places
            empty |= not answers["text"]
            identity = str(row.get("id", i))
            rows.append({"id": identity, "question": row[texts[0]], "context": row[texts[1]], "answers": answers})
        splits[split] = Dataset.from_list(rows)
        if not any(row["answers"]["text"] for row in rows):
            raise ValueError(f"no row of {table.file} has an answer to learn or to score; mend it{table.advice}")
    longest = sum(
        len(text.split()) > LONGEST_ANSWER for rows in splits.values() for a in rows["answers"] for text in a["text"]
    )
    if longest:
        told.append(f"answers of more than {LONGEST_ANSWER} words, which are never given: {longest:,}")
    if moved:
        told.append(f"rows whose answer is not at its answer_start, moved to the only place of its words: {moved:,}")
    return SpanTask(name, name, unanswerable=empty), splits


def _place(answer: str, start: int, passage: str, where: str) -> int:
    """The place of an answer: the stated one, or else the only one in its passage; ValueError without such a place."""
    first = passage.find(answer)
    if start >= 0 and passage.startswith(answer, start):
        return start
    if first < 0 or passage.find(answer, first + 1) > 0:
        often = "nowhere" if first < 0 else f"several times, first at {first}"
        raise ValueError(
            f"{where} has the answer {answer!r}, which is not at {start} in its passage but {often}; mend it"
        )
    return first


def _answers(answers: Any, where: str) -> dict[str, list]:
    """The answers as {text: [...], answer_start: [...]}, from either of the two common forms, also written as JSON."""
    if isinstance(answers, str):
        with contextlib.suppress(ValueError):
            answers = json.loads(answers)
    if isinstance(answers, list):
        made = {key: [one.get(key) if isinstance(one, dict) else None for one in answers] for key in ANSWER}
    else:
        made = {key: answers.get(key) if isinstance(answers, dict) else None for key in ANSWER}
    texts, starts = made["text"], made["answer_start"]
    if isinstance(starts, list):  # a column with a gap turns whole numbers into decimals
        starts = [int(s) if isinstance(s, float) and s.is_integer() else s for s in starts]
    right = isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)
    if not right or not all(isinstance(t, str) and t and type(s) is int for t, s in zip(texts, starts, strict=True)):
        raise ValueError(f"{where} is no answer; {SHAPE}, both empty where none is right")
    return {"text": [reading.CONTROLS.sub(" ", text) for text in texts], "answer_start": starts}


ANSWER = ("text", "answer_start")
SHAPE = 'write answers as {"text": ["…"], "answer_start": [0]}'


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
        labels = np.asarray(train["label"][:])
        task = replace(task, center=float(labels.mean()), spread=float(labels.std()) or 1.0)
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
        classes = task.labels and not task.several
        fitting = ("accuracy", "f1", "macro_f1", "micro_f1", "matthews") if classes else names
        if metric not in fitting or (metric == "f1" and not task.spans and task.num_labels != 2):
            raise ValueError(f"--metric {metric} does not fit task {task.name}; use one of {', '.join(fitting)}")
        if metric == "f1" and not task.spans:
            told.append(f"f1 is that of the class {task.labels[1]}, the second by name (macro_f1 is the mean of both)")
        names, main = tuple(dict.fromkeys((*names, metric))), metric
    return replace(task, metrics=names, main_metric=main)


def _leaks(task: Task, splits: dict[str, Dataset]) -> list[str]:
    """A sentence, in a list, when scored texts are also in the training rows; else []."""
    keys = {split: list(zip(*(rows[c][:] for c in task.columns), strict=True)) for split, rows in splits.items()}
    learned = set(keys["train"])
    count = sum(key in learned for key in keys["validation"])
    if not count:
        return []
    total = len(keys["validation"])
    return [f"{count:,} of {total:,} validation rows have the texts of a training row: scores flatter"]


def _odd_classes(task: Task, splits: dict[str, Dataset]) -> list[str]:
    """Sentences on classes that are spelt alike, and on those that no scored row has."""
    if task.spans or task.several or not task.labels:
        return []
    spelt = Counter(name.strip().lower() for name in task.labels)
    alike = [name for name in task.labels if spelt[name.strip().lower()] > 1]
    scored = {*splits["validation"]["label"][:]}
    unscored = [name for i, name in enumerate(task.labels) if i not in scored]
    return [f"classes that differ in case or spaces alone stay apart: {_some(alike)}"] * bool(alike) + [
        f"no validation row has the class {_some(unscored)}: its answers are not scored"
    ] * bool(unscored)
