"""The rows that judge a model, as texts: what pre-training text is checked against before it is learned from."""

from datasets import Dataset

from ..text.contamination import Scored
from . import glue, squad


def scored_texts(names: str, source: str = "hub") -> Scored | None:
    """All texts that these tasks (joined by commas) score, each by its task; None where no task is named.

    Of IMDb the training reviews are among them: its unsupervised reviews repeat 270 that are scored, and 371 of those
    that are learned from with their labels. Raises ValueError for an unknown task or one that cannot be read.
    """
    chosen = [name.strip().lower() for name in names.split(",") if name.strip()]
    tasks = {name: squad.SQUAD if name == "squad" else glue.get_task(name) for name in chosen}  # all names first
    return Scored({name: _texts(task, source) for name, task in tasks.items()}) if tasks else None


def _texts(task: glue.Task, source: str) -> list[str]:
    splits = ("train", "test") if task.name == "imdb" else tuple(task.rows)[1:]
    texts: list[str] = []
    for split in splits:
        try:
            rows: Dataset = glue.read(task, split, source)
        except glue.MissingSplit:  # MNLI's second one, in some copies
            if len(splits) == 1:
                raise
            continue
        texts += [text for column in task.columns for text in rows[column][:]]
    return list(dict.fromkeys(texts))
