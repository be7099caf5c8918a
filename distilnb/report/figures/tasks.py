"""Figures of scores on tasks (notebooks 04, 05, 06 and 09)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...evidence.comparing import is_subset
from ...evidence.records import Record
from .losses import _array
from .style import COLOURS, GREY, ROLES, Scores, colours_of, plain_token, styled


@styled
def plot_span_probabilities(
    tokens: Sequence[str], probabilities: Mapping[str, tuple[Any, Any]], answer: tuple[int, int] | None = None
) -> Figure:
    """Where models see an answer begin and end (SQuAD): start above, end below, a bar per token and model.

    `probabilities` is model → (start, end), each one value per token, of which `tokens` may be a part; what lies
    elsewhere is written beside. `answer`, its first and last token, is shaded.
    """
    pairs = {model: [_array(values) for values in pair] for model, pair in probabilities.items()}
    if not pairs or any(len(pair) != 2 or values.shape != (len(tokens),) for pair in pairs.values() for values in pair):
        raise ValueError(f"each model needs start and end probabilities, {len(tokens)} values each, one per token")
    if any(values.min() < 0 or values.sum() > 1.001 for pair in pairs.values() for values in pair):
        raise ValueError("these are no probabilities, which lie above 0 and sum to 1: take the softmax of the logits")
    if answer is not None and not 0 <= answer[0] <= answer[1] < len(tokens):
        raise ValueError(f"the answer {tuple(answer)} does not lie in tokens 0 to {len(tokens) - 1}")
    figure, axes = plt.subplots(2, 1, sharex=True, sharey=True, figsize=(max(5, 2 + 0.2 * len(tokens)), 3.8))
    places, width = np.arange(len(tokens)), 0.8 / len(pairs)
    highest = 1.05 * max(values.max() for pair in pairs.values() for values in pair)
    for ax, side, what in zip(axes, (0, 1), ("start", "end"), strict=True):
        for i, (model, colour) in enumerate(zip(pairs, colours_of(list(pairs)), strict=True)):
            shown = pairs[model][side]
            ax.bar(places + (i + 0.5) * width - 0.4, shown, width, color=colour, label=model)
            if shown.sum() < 0.995:
                ax.text(1.01, 0.9 - 0.16 * i, f"elsewhere {1 - shown.sum():.0%}", transform=ax.transAxes, color=colour)
        if answer is not None:
            ax.axvspan(answer[0] - 0.5, answer[1] + 0.5, color=GREY, alpha=0.2, lw=0, zorder=0, label="answer")
        ax.set(ylabel=f"probability\nof {what}", xlim=(-0.6, len(tokens) - 0.4), ylim=(0, highest))
    axes[1].set_xticks(places, [plain_token(token) for token in tokens], rotation=90)
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=len(pairs) + 1, loc="outside lower center")
    axes[0].set_title("Where the answer begins and ends")
    return figure


@styled
def plot_scores(
    records: Sequence[Record], tasks: Sequence[str] | None = None, published: Scores | None = None
) -> Figure:
    """Fine-tuning scores by task and model: the median over seeds, whiskers from worst to best, majority as a tick.

    A real task of which only some rows were used is marked as a subset.
    `published` (model → task → value, in the records' unit) adds the paper's values as hollow diamonds.
    """
    tasks = list(tasks or dict.fromkeys(record["task"] for record in records))
    records = [record for record in records if record["task"] in tasks]
    if not records:
        raise ValueError(f"no records for the tasks {tasks}: fine-tune first, or load published records")
    found = list(dict.fromkeys(record["model"] for record in records))
    models = [role for role in COLOURS if role in found] + [model for model in found if model not in COLOURS]
    figure, ax = plt.subplots(figsize=(1.6 + 0.9 * len(tasks), 3.6))
    for place, (model, colour) in enumerate(zip(models, colours_of(models), strict=True)):
        shift = (place - (len(models) - 1) / 2) * 0.6 / len(models)
        _dots(ax, [record for record in records if record["model"] == model], tasks, shift, colour, model)
        theirs = {task: value for task, value in (published or {}).get(model, {}).items() if task in tasks}
        if theirs:
            ax.plot(
                [tasks.index(task) + shift for task in theirs],
                list(theirs.values()),
                "D",
                mfc="none",
                mec=colour,
                label=f"{model}, paper",
            )
    majority = {r["task"]: r["scores"]["majority"] for r in records if r["scores"].get("majority") is not None}
    if majority:
        ax.hlines(
            list(majority.values()),
            [tasks.index(task) - 0.4 for task in majority],
            [tasks.index(task) + 0.4 for task in majority],
            color=GREY,
            lw=1,
            zorder=0,
            label="majority class",
        )
    ax.set(ylabel="score", xlim=(-0.6, len(tasks) - 0.4))
    _name_tasks(ax, tasks, records)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _name_tasks(ax: Axes, tasks: Sequence[str], records: Sequence[Record]) -> None:
    """The tasks along the x axis; a real one of which only some rows were used is marked."""
    parts = {record["task"] for record in records if is_subset(record)}
    ax.set_xticks(range(len(tasks)), [f"{task}\nsubset" if task in parts else task for task in tasks])


def _dots(ax: Axes, records: Sequence[Record], tasks: Sequence[str], shift: float, colour: str, label: str) -> None:
    """One model's filled dots (medians over seeds) with whiskers from the lowest to the highest seed."""
    scores = {task: [r["scores"]["main"] for r in records if r["task"] == task] for task in tasks}
    drawn = {tasks.index(task) + shift: values for task, values in scores.items() if values}
    middles = np.array([np.median(values) for values in drawn.values()])
    below = middles - [min(values) for values in drawn.values()]
    above = [max(values) for values in drawn.values()] - middles
    ax.errorbar(list(drawn), middles, yerr=[below, above], fmt="o", color=colour, capsize=3, label=label)


@styled
def plot_published(published: Scores, measured: Scores | None = None, title: str = "") -> Figure:
    """Scores of the paper's tables by column and model: the paper's hollow, ours (`measured`, same shape) filled."""
    models, columns = list(published), list(dict.fromkeys(c for scores in published.values() for c in scores))
    figure, ax = plt.subplots(figsize=(3.6 + 0.6 * len(columns), 3.6))
    for place, (model, colour, shape) in enumerate(zip(models, colours_of(models), "sDov^", strict=False)):
        shift = (place - (len(models) - 1) / 2) * 0.5 / len(models)
        for scores, whose in ((published, "paper"), (measured or {}, "ours")):
            there = {columns.index(c) + shift: value for c, value in scores.get(model, {}).items() if c in columns}
            if there:
                ax.plot(
                    list(there),
                    list(there.values()),
                    shape,
                    color=colour,
                    label=f"{model}, {whose}",
                    mfc="none" if whose == "paper" else colour,
                )
    ax.set_xticks(range(len(columns)), [column.replace(" ", "\n") for column in columns])
    ax.set(ylabel="score (points)", xlim=(-0.6, len(columns) - 0.4), title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@styled
def plot_vintages(table: pd.DataFrame, vintages: Sequence[str] = ("2019-10", "2020-01", "2020-03")) -> Figure:
    """Macro scores of the table's three vintages and the share that DistilBERT keeps in each."""
    macro = table[table["task"] == "macro"].set_index(["vintage", "model"])["value"]
    figure, ax = plt.subplots(figsize=(6.5, 3.4))
    for model in ("BERT-base", "DistilBERT"):
        values = [macro[vintage, model] for vintage in vintages]
        ax.plot(vintages, values, "o-", color=COLOURS[ROLES[model]], mfc="white", label=model)
    shares = [100 * macro[v, "DistilBERT"] / macro[v, "BERT-base"] for v in vintages]
    for place, share in enumerate(shares):
        ax.annotate(f"keeps {share:.1f} %", (place, 72.8), ha="center")
    ax.set(ylabel="GLUE macro score (points)", xlim=(-0.4, len(vintages) - 0.6), ylim=(72.5, 80.5))
    ax.set_title(f"Three tables under one title: {min(shares):.0f} % follows from the last alone")
    ax.legend(loc="upper left")
    return figure


@styled
def plot_retention(records: Sequence[Record], published: Mapping[str, float] | None = None) -> Figure:
    """The student's score in percent of its teacher's, task by task, seeds paired: ours filled, with its range over
    seeds; `published` (task → percent) hollow. A real task of which only some rows were used is marked as a subset."""
    by_cell = {(r["model"], r["task"], r["seed"]): r["scores"]["main"] for r in records}
    shares: dict[str, list[float]] = {}
    for (model, task, seed), score in by_cell.items():
        theirs = by_cell.get(("teacher", task, seed))
        if model == "student" and theirs:
            shares.setdefault(task, []).append(100 * score / theirs)
    tasks = list(dict.fromkeys([*(published or {}), *shares]))
    if not tasks:
        raise ValueError("no task with a teacher and a student of the same seed: fine-tune both first")
    figure, ax = plt.subplots(figsize=(1.8 + 0.8 * len(tasks), 3.6))
    if published:
        ax.plot(
            [tasks.index(t) - 0.1 for t in published],
            list(published.values()),
            "D",
            mfc="none",
            color=COLOURS["paper"],
            label="paper, GLUE",
        )
    if shares:
        middles = np.array([np.median(values) for values in shares.values()])
        reach = [middles - [min(v) for v in shares.values()], [max(v) for v in shares.values()] - middles]
        ax.errorbar(
            [tasks.index(t) + 0.1 for t in shares],
            middles,
            yerr=reach,
            fmt="o",
            capsize=3,
            color=COLOURS["student"],
            label=f"ours, {records[0]['scale']}",
        )
    ax.axhline(100, color=GREY, lw=0.8, zorder=0)
    _name_tasks(ax, tasks, records)
    ax.set(ylabel="student in percent of teacher", xlim=(-0.5, len(tasks) - 0.5))
    ax.set_title("What the student keeps differs from task to task")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
