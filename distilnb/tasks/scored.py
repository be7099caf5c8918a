"""The texts of scored rows, against which pre-training text is checked before it is used."""

from datasets import Dataset

from ..text.contamination import Scored
from . import glue, squad


def scored_texts(names: str, source: str = "hub") -> Scored | None:
    """All texts that these tasks (joined by commas) score, by task; None where no task is named.

    IMDb's training reviews are included, because its unsupervised reviews repeat 270 scored reviews and 371 labelled
    training reviews. Raises ValueError for an unknown task or one that cannot be read.
    """
    chosen = [name.strip().lower() for name in names.split(",") if name.strip()]
    tasks = {name: squad.SQUAD if name == "squad" else glue.get_task(name) for name in chosen}  # all names first
    return Scored({name: _texts(task, source) for name, task in tasks.items()}) if tasks else None


def _texts(task: glue.Task, source: str) -> list[str]:
    splits = ("train", "test") if task.name == "imdb" else tuple(task.rows)[1:]
    texts: list[str] = []
    for split in splits:
        try:
            rows: Dataset = glue.read_rows(task, split, source)
        except glue.MissingSplit:  # MNLI's second one, in some copies
            if len(splits) == 1:
                raise
            continue
        texts += [text for column in task.columns for text in rows[column][:]]
    return list(dict.fromkeys(texts))
