"""The texts of scored rows, against which pre-training text is checked before it is used."""

from datasets import Dataset

from ..text.contamination import Scored
from . import glue, own


def scored_texts(names: str, encoding: str = "") -> Scored | None:
    """All texts that these tasks (joined by commas) score, by task; None where no task is named.

    Of an own task they are those of all rows and columns but labels, because which are scored is said later; `encoding`
    is that of its files which are neither UTF-8 nor begin with a byte order mark.
    IMDb's training reviews are included, because its unsupervised reviews repeat 270 scored reviews and 371 labelled
    training reviews. Raises ValueError for an unknown task or one that cannot be read.
    """
    if not names.strip():
        return None
    tasks = {name: None if own.is_own(name) else own.known_task(name) for name in own.split_names(names)}  # all first
    try:
        texts = {task.name if task else own.task_name(n): _texts(task or n, encoding) for n, task in tasks.items()}
    except ValueError as error:
        raise ValueError(f"{error}; --leave-out '' leaves nothing out of the text") from error
    return Scored(texts)


def _texts(task: glue.Task | str, encoding: str) -> list[str]:
    if isinstance(task, str):
        tables = own.read_tables(task, own.OwnOptions(encoding=encoding)).values()
        kept = {name for table in tables for name in table.names if name.lower() not in (*own.IDS, *own.LABELS)}
        cells = (row.get(name) for table in tables for row in table.rows for name in sorted(kept))
        texts = list(dict.fromkeys(cell for cell in cells if isinstance(cell, str)))
        if not texts:
            raise ValueError(f"{task} has no column of texts")
        return texts
    splits = ("train", "test") if task.name == "imdb" else tuple(task.rows)[1:]
    texts: list[str] = []
    for split in splits:
        try:
            rows: Dataset = glue.read_rows(task, split, "hub")
        except glue.MissingSplit:  # MNLI's second one, in some copies
            if len(splits) == 1:
                raise
            continue
        texts += [text for column in task.columns for text in rows[column][:]]
    return list(dict.fromkeys(texts))
