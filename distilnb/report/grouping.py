"""Whether rows of like length in a batch cost scores: runs that had them, and the same runs with rows as they come.

Such a batch needs little padding, but it is no fair sample of the task (notebook 04).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import pandas as pd

from .. import paths
from ..evidence.names import ablation_grid
from ..evidence.records import load_records
from ..evidence.statistics import mean_interval
from ..tasks import finetuning, glue
from .retention import baseline, beats_majority
from .tables import signed_interval

Records = Sequence[Mapping[str, Any]]
TIMED = ("benchmark-finetuning-", "benchmark-before")  # names of records that time it


def former_records() -> Records:
    """The published records of former runs that had rows of like length in their batches and were repeated.

    The folder also keeps timings of that loop.
    """
    return load_records(paths.data("runs", "grouped"), kind="finetuning")


def head_records() -> Records:
    """The published records of heads that were fine-tuned to compare formats, and take no part in Table 1."""
    return load_records(paths.data("runs", "heads"), kind="finetuning")


def is_grouped(record: Mapping[str, Any]) -> bool:
    """Whether a fine-tuning, also a timed one or those of a cell of an ablation, had rows of like length in a batch, as
    all before it was a setting."""
    config = record["config"]
    return finetuning.recorded_config(config.get("finetuning", config))["group_by_length"]


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
    """The table's rows, one for each scale and task: the means of both over models and seeds, the gain in points with
    its interval, and how many of the pairs chose another learning rate."""
    found, made, order = pairs(records, former), [], [*glue.TASKS, "squad"]
    for (scale, task), cells in sorted(found.groupby(["scale", "task"]), key=lambda c: (c[0][0], order.index(c[0][1]))):
        others = (cells["rate_before"] != cells["rate_now"]).sum()
        made.append(
            {
                "scale": scale,
                "task": task,
                "pairs": len(cells),
                "mean, rows of like length": f"{cells['before'].mean():.1f}",
                "mean, rows as they come": f"{cells['now'].mean():.1f}",
                "mean gain, points": signed_interval(*mean_interval(list(cells["now"] - cells["before"]))[:3]),
                "another rate chosen": f"{others} of {len(cells)}",
            }
        )
    return made


def still_grouped(records: Records, scale: str, tasks: Sequence[str], models: Sequence[str]) -> list[str]:
    """The titles of those tasks of which a scale's runs of these models still have rows of like length in a batch."""
    runs = [r for r in records if (r["kind"], r["scale"]) == ("finetuning", scale) and r["model"] in models]
    grouped = {r["task"] for r in runs if is_grouped(r)}
    return [glue.TASKS[task].title for task in tasks if task in grouped]


def grouped_cells(records: Records, scale: str) -> str:
    """What follows in a sentence on an ablation whose fine-tunings had rows of like length in a batch; else ""."""
    grid = [r for r in records if (r["kind"], r["scale"]) == ("ablation", scale) and r["grid"] == ablation_grid(scale)]
    return "; with rows of like length in a batch" if any(map(is_grouped, grid)) else ""


class Head(NamedTuple):
    """A fine-tuned model by which a benchmark scores formats, and the record of its fine-tuning, if there is one."""

    scale: str
    model: str
    task: str
    run: Mapping[str, Any] | None


def heads(records: Records, runs: Records) -> list[Head]:
    """The heads behind the scores of formats: a run of `runs` is a head's by its name, the last one before the
    benchmark, or it is in the benchmark's own record."""
    found = {}
    for record in (r for r in records if r["kind"] == "benchmark"):
        alone = [{"of": "student"} | record["accuracy"]] if (record.get("accuracy") or {}).get("rows") else []
        for one in record.get("tasks") or alone:
            named = [r for r in runs if r["name"] == one["model"] and r["started"] < record["started"]]
            last = max(named, key=itemgetter("started"), default=one if "config" in one else None)
            head = Head(one["scale"], one["of"], one["task"], last)
            found[head[:3]] = head
    return list(found.values())


def about_heads(records: Records, runs: Records) -> str:
    """The sentences on the heads behind the scores of formats: which had rows of like length in a batch, and which are
    at the level of a constant answer; "" without heads."""
    known = [head for head in heads(records, runs) if head.run]
    if not known:
        return ""
    grouped = [head for head in known if is_grouped(head.run)]
    whose = "; ".join(
        f"scale {scale}: {', '.join(dict.fromkeys(head.task for head in known if head.scale == scale))}"
        for scale in dict.fromkeys(head.scale for head in known)
    )
    sentence = f"The scores of formats are those of {len(known)} heads, a model on a task each ({whose})."
    if grouped:
        many = "All" if len(grouped) == len(known) else f"{len(grouped)}"
        sentence += f" {many} of them learned with rows of like length in a batch and are not of the tables above."
    lazy: dict[str, list[str]] = {}
    for head in known:
        if "kind" in head.run and not (pd.isna(baseline(head.run)) or beats_majority([head.run])):
            lazy.setdefault(head.task, []).append(head.model)
    if lazy:
        which = ", ".join(f"{task} ({' and '.join(models)})" for task, models in lazy.items())
        sentence += f" Not above a constant answer beyond the noise of rows, so with little to lose: {which}."
    return sentence


def _gain(scale: str, gains: pd.Series) -> str:
    """The part of a sentence on what rows as they come change in the scores of one scale, in points."""
    gain = mean_interval(list(gains))
    points = f"{signed_interval(*gain[:3])} points at scale {scale}, up in {(gains > 0).sum()} of {len(gains)} pairs"
    sure = gain.low is not None and (gain.low > 0 or gain.high < 0)
    return points + ("" if sure else " (noise could explain it)")


def told(records: Records, former: Records, runs: Records = ()) -> str:
    """The sentences on what was found and on the records that still have such batches, with `runs` of heads (`heads`);
    "" without a pair of runs."""
    found = pairs(records, former)
    if found.empty:
        return ""
    kinds = {"fine-tunings": "finetuning", "cells of ablations": "ablation"}
    left = {
        what: Counter(r["scale"] for r in records if r["kind"] == kind and is_grouped(r))
        for what, kind in kinds.items()
    }
    scored = [head for head in heads(records, runs) if head.run and is_grouped(head.run)]
    left["heads by which formats are scored"] = Counter(head.scale for head in scored)
    sentence = (
        "Fine-tuning once put rows of like length into a batch, which saves padding. Such a batch is no fair sample of "
        "a task. Of the same model, task and seed (the learning rate chosen anew where it had been chosen; the former "
        "records are in `data/runs/grouped`), rows as they come change the score by "
        + "; ".join(_gain(scale, cells["now"] - cells["before"]) for scale, cells in found.groupby("scale"))
        + "."
    )
    still = "; ".join(
        f"{what}, " + ", ".join(f"{count} of {scale}" for scale, count in sorted(counts.items()))
        for what, counts in left.items()
        if counts
    )
    sentence += f" Not repeated yet, and may score otherwise: {still}." if still else ""
    lost = len(former) - len(found)
    sentence += f" {lost} former runs have no such successor yet." if lost else ""
    timed = [f"`{r['name']}`" for r in records if r["name"].startswith(TIMED) and is_grouped(r)]
    return sentence + (f" Nor are these timings of fine-tuning: {', '.join(timed)}." if timed else "")
