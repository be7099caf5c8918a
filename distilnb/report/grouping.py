"""Whether rows of like length in a batch cost scores: runs that had them, and the same runs with rows as they come.

Such a batch needs little padding, but it is no fair sample of the task (notebook 04).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .. import paths
from ..evidence.records import load_records
from ..evidence.statistics import mean_interval
from ..tasks import finetuning, glue
from .tables import signed_interval

Records = Sequence[Mapping[str, Any]]
TIMED = ("benchmark-finetuning-", "benchmark-before")  # names of records that time it


def former_records() -> Records:
    """The published records of former runs that had rows of like length in their batches and were repeated.

    The folder also keeps timings of that loop.
    """
    return load_records(paths.data("runs", "grouped"), kind="finetuning")


def is_grouped(record: Mapping[str, Any]) -> bool:
    """Whether a fine-tuning, also a timed one, had rows of like length in a batch, as all before it was a setting."""
    return finetuning.recorded_config(record["config"])["group_by_length"]


def pairs(records: Records, former: Records) -> pd.DataFrame:
    """One row for each former run that was repeated with rows as they come: scale, task, model, seed, `before` and
    `now` in points, and the learning rates that the two chose."""
    cell = ("scale", "task", "model", "seed")
    now = {tuple(r[key] for key in cell): r for r in records if r["kind"] == "finetuning" and not is_grouped(r)}
    repeated = [
        (*place, *(100 * r["scores"]["main"] for r in both), *(r["config"]["learning_rate"] for r in both))
        for one in former
        if (place := tuple(one[key] for key in cell)) in now
        for both in [(one, now[place])]
    ]
    return pd.DataFrame(repeated, columns=[*cell, "before", "now", "rate_before", "rate_now"])


def rows(records: Records, former: Records) -> list[dict[str, Any]]:
    """The table's rows, one for each task: the means of both over models and seeds, the gain in points with its
    interval, and how many of the pairs chose another learning rate."""
    found, made = pairs(records, former), []
    for task, cells in sorted(found.groupby("task"), key=lambda each: list(glue.GLUE).index(each[0])):
        others = (cells["rate_before"] != cells["rate_now"]).sum()
        made.append(
            {
                "task": task,
                "pairs": len(cells),
                "mean, rows of like length": f"{cells['before'].mean():.1f}",
                "mean, rows as they come": f"{cells['now'].mean():.1f}",
                "mean gain, points": signed_interval(*mean_interval(list(cells["now"] - cells["before"]))[:3]),
                "another rate chosen": f"{others} of {len(cells)}",
            }
        )
    return made


def still_grouped(records: Records, scale: str, tasks: Sequence[str]) -> list[str]:
    """The titles of those tasks of which a scale's runs still have rows of like length in their batches."""
    runs = [r for r in records if r["kind"] == "finetuning" and r["scale"] == scale and is_grouped(r)]
    return [glue.TASKS[task].title for task in tasks if task in {r["task"] for r in runs}]


def told(records: Records, former: Records) -> str:
    """The sentences on what was found and on the records that still have such batches; "" without a pair of runs."""
    found = pairs(records, former)
    if found.empty:
        return ""
    gains = found["now"] - found["before"]
    gain, more = mean_interval(list(gains)), int((gains > 0).sum())
    left = Counter(r["scale"] for r in records if r["kind"] == "finetuning" and is_grouped(r))
    sentence = (
        "Fine-tuning once put rows of like length into a batch, which saves padding. Such a batch is no fair sample of "
        f"a task: in {len(found)} pairs of runs of the same model, task and seed (the learning rate chosen anew from "
        "the same list; the former records are in `data/runs/grouped`), rows as they come score "
        f"{signed_interval(*gain[:3])} points more, and more in {more} of them"
        + ("." if gain.low is not None and gain.low > 0 else ", which noise could explain.")
    )
    scales = ", ".join(f"{count} of {scale}" for scale, count in sorted(left.items()))
    sentence += f" These fine-tunings are not repeated yet, and may score otherwise: {scales}." if left else ""
    lost = len(former) - len(found)
    sentence += f" {lost} former runs have no such successor yet." if lost else ""
    timed = [f"`{r['name']}`" for r in records if r["name"].startswith(TIMED) and is_grouped(r)]
    return sentence + (f" Nor are these timings of fine-tuning: {', '.join(timed)}." if timed else "")
