"""Figures of scores on tasks (notebooks 04, 05, 06 and 09)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...evidence.comparing import is_subset
from ...evidence.names import rank
from ...evidence.records import Record
from ...tasks import glue
from ..retention import baseline, beats_majority, on_most_rows
from .losses import _array
from .style import COLOURS, GREY, WIDTH, colours_of, dots, finding, hollow, labels_of, legend_below, plain_token, styled

SHOWN = 25  # tokens of a passage that a figure can name
VINTAGES = ("2019-10", "2020-01", "2020-03")  # of Table 1
Spans = Mapping[str, tuple[Any, Any]]
Scores = Mapping[str, Mapping[str, float]]


@styled
def plot_span_probabilities(
    tokens: Sequence[str], probabilities: Spans, answer: tuple[int, int] | None = None
) -> Figure:
    """A figure of where models see an answer begin and end (SQuAD): start above, end below, a bar per token and model.

    `probabilities` is model → (start, end), each one value per token, of which `tokens` may be a part; the mass outside
    them is written beside. `answer`, its first and last token, is shaded. Of a long passage, the likeliest tokens are
    shown, in their order.
    """
    pairs = {model: [_array(values) for values in pair] for model, pair in probabilities.items()}
    _check_spans(pairs, len(tokens), answer)
    chosen = _likeliest(pairs, len(tokens), answer)
    figure, axes = plt.subplots(2, 1, sharex=True, sharey=True, figsize=(WIDTH, 5.4))
    places, width = np.arange(len(chosen)), 0.8 / len(pairs)
    highest = 1.05 * max(values.max() for pair in pairs.values() for values in pair)
    looks = list(zip(pairs, labels_of(list(pairs)), colours_of(list(pairs)), strict=True))
    for ax, side, what in zip(axes, (0, 1), ("start", "end"), strict=True):
        for i, (model, label, colour) in enumerate(looks):
            shown = pairs[model][side][chosen]
            ax.bar(places + (i + 0.5) * width - 0.4, shown, width, color=colour, label=label)
            if (rest := 1 - shown.sum()) > 0.005:
                ax.text(1.0, 0.9 - 0.2 * i, f"elsewhere {rest:.0%}", transform=ax.transAxes, color=colour, ha="right")
        if answer is not None:
            first, last = (int(np.flatnonzero(chosen == end)[0]) for end in answer)
            ax.axvspan(first - 0.5, last + 0.5, color=GREY, alpha=0.2, lw=0, zorder=0, label="answer")
        ax.set(ylabel=f"probability\nof {what}", xlim=(-0.6, len(chosen) - 0.4), ylim=(0, highest))
    axes[1].set_xticks(places, [plain_token(tokens[i]) for i in chosen], rotation=90)
    legend_below(figure, axes[0])
    axes[1].set(xlabel=f"the {len(chosen)} likeliest of {len(tokens)} tokens" if len(chosen) < len(tokens) else "")
    finding(axes[0], _pointed(pairs, answer))
    return figure


def _pointed(pairs: Mapping[str, list[np.ndarray]], answer: tuple[int, int] | None) -> str:
    """The finding of `plot_span_probabilities`: what each model gives to the answer's own start and end, if known."""
    if answer is None:
        return "Where the answer begins and ends"
    shares = [f"{start[answer[0]]:.0%} and {end[answer[1]]:.0%}" for start, end in pairs.values()]
    told = ", ".join(f"{label} {share}" for label, share in zip(labels_of(list(pairs)), shares, strict=True))
    return f"On the right start and end: {told}"


def _check_spans(pairs: Mapping[str, list[np.ndarray]], length: int, answer: tuple[int, int] | None) -> None:
    if not pairs or any(len(pair) != 2 or values.shape != (length,) for pair in pairs.values() for values in pair):
        raise ValueError(f"each model needs start and end probabilities, {length} values each, one per token")
    if any(values.min() < 0 or values.sum() > 1.001 for pair in pairs.values() for values in pair):
        raise ValueError("these are no probabilities, which lie above 0 and sum to 1: take the softmax of the logits")
    if answer is not None and not 0 <= answer[0] <= answer[1] < length:
        raise ValueError(f"the answer {tuple(answer)} does not lie in tokens 0 to {length - 1}")


def _likeliest(pairs: Mapping[str, list[np.ndarray]], length: int, answer: tuple[int, int] | None) -> np.ndarray:
    """The places of the tokens with the most mass, in their order, including both ends of the answer; all of it where
    it takes at most half of the room."""
    mass = np.sum([values for pair in pairs.values() for values in pair], axis=0)
    if answer is not None:
        first, last = answer
        mass[first : last + 1] += 10 * (last - first < SHOWN // 2)
        mass[[first, last]] += 20
    return np.sort(np.argsort(-mass, kind="stable")[: min(SHOWN, length)])


@styled
def plot_scores(records: Sequence[Record]) -> Figure:
    """A figure of fine-tuning scores in points by task and model: dots are medians over seeds, whiskers go from worst
    to best, a tick is the best constant answer.

    A real task is marked as a subset where only some rows were used.
    """
    records = on_most_rows(records)
    tasks = sorted({record["task"] for record in records}, key=_in_order)
    if not records:
        raise ValueError("no records of scores: fine-tune first, or load published records")
    models = sorted(dict.fromkeys(record["model"] for record in records), key=rank)
    figure, ax = plt.subplots(figsize=(WIDTH, 4.8))
    for place, (model, label, colour) in enumerate(zip(models, labels_of(models), colours_of(models), strict=True)):
        shift = (place - (len(models) - 1) / 2) * 0.7 / len(models)
        scores = {task: _points(records, model, task) for task in tasks}
        drawn = {tasks.index(task) + shift: values for task, values in scores.items() if values}
        dots(ax, drawn, drawn.values(), color=colour, label=label, capsize=2, markersize=5)
    _draw_majority(ax, tasks, records)
    ax.set(ylabel="score (points)", xlim=(-0.6, len(tasks) - 0.4))
    _name_tasks(ax, tasks, records)
    finding(ax, _most_apart(records, models, tasks))
    legend_below(figure)
    return figure


def _points(records: Sequence[Record], model: str, task: str) -> list[float]:
    return [100 * r["scores"]["main"] for r in records if (r["model"], r["task"]) == (model, task)]


def _draw_majority(ax: Axes, tasks: Sequence[str], records: Sequence[Record]) -> None:
    lazy = {tasks.index(r["task"]): 100 * baseline(r) for r in records if not np.isnan(baseline(r))}
    if lazy:
        places, look = np.array([*lazy]), {"color": GREY, "lw": 1, "zorder": 0, "label": "best constant answer"}
        ax.hlines([*lazy.values()], places - 0.4, places + 0.4, **look)


def _most_apart(records: Sequence[Record], models: Sequence[str], tasks: Sequence[str]) -> str:
    """The finding of `plot_scores`: the number of tasks on which the student's median beats its twin's, of those that
    the teacher has learned, or a title."""
    both = [task for task in tasks if all(_points(records, m, task) for m in ("student", "undistilled"))]
    both = [task for task in both if _learned(records, task)]
    if not both:
        return "Medians over seeds, from the lowest to the highest"
    pairs = [[_points(records, model, task) for model in ("student", "undistilled")] for task in both]
    ahead = sum(np.median(ours) > np.median(theirs) for ours, theirs in pairs)
    clear = sum(min(ours) > max(theirs) for ours, theirs in pairs)
    if len(both) == 1:
        leads = "leads its twin" + ", with every seed," * clear if ahead else "does not lead its twin"
        return f"The student {leads} on {glue.TASKS[both[0]].title}, all that its teacher learned"
    of = f"{ahead} of the {len(both)} tasks that its teacher learned, with every seed on {clear}"
    return f"The student's median is above its twin's on {of}"


def _learned(records: Sequence[Record], task: str) -> bool:
    """Whether the teacher is above the majority on this task; False where no majority was recorded, as for SQuAD."""
    return beats_majority([r for r in records if (r["model"], r["task"]) == ("teacher", task)])


def _in_order(task: str) -> tuple[int, str]:
    """A sort key that puts GLUE's tasks as in Table 1, then the others."""
    return (list(glue.GLUE).index(task) if task in glue.GLUE else len(glue.GLUE), task)


def _name_tasks(
    ax: Axes, tasks: Sequence[str], records: Sequence[Record], notes: Mapping[str, list[str]] | None = None
) -> None:
    """Write the tasks' names and their `notes` along the x axis; a real task run on only some rows is marked."""
    subsets = {record["task"] for record in records if is_subset(record)}
    names = {task: glue.TASKS[task].title if task in glue.TASKS else task for task in tasks}
    names |= {"squad": "SQuAD"} if "squad" in names else {}
    slant, join = ({"rotation": 45, "ha": "right"}, ", ") if len(tasks) > 6 else ({}, "\n")
    parts = {task: ["subset"] * (task in subsets) + (notes or {}).get(task, []) for task in tasks}
    labels = [join.join([names[task], *parts[task]]) for task in tasks]
    ax.set_xticks(range(len(tasks)), labels, rotation_mode="anchor", **slant)


@styled
def plot_published(published: Scores, title: str = "") -> Figure:
    """A figure of the paper's scores by column and model, hollow."""
    models, columns = list(published), list(dict.fromkeys(c for scores in published.values() for c in scores))
    figure, ax = plt.subplots(figsize=(WIDTH, 4.4))
    for place, (model, colour, shape) in enumerate(zip(models, colours_of(models), "sDov^", strict=False)):
        shift = (place - (len(models) - 1) / 2) * 0.5 / len(models)
        at = {columns.index(column) + shift: value for column, value in published[model].items()}
        ax.plot(*zip(*at.items(), strict=True), shape, color=colour, mfc="none", label=f"{model}, paper")
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if len(columns) > 6 else {}
    ax.set_xticks(range(len(columns)), [column.replace(" ", "\n") for column in columns], **slant)
    ax.set(ylabel="score (points)", xlim=(-0.6, len(columns) - 0.4))
    finding(ax, title)
    legend_below(figure)
    return figure


@styled
def plot_vintages(table: pd.DataFrame) -> Figure:
    """A figure of the macro scores of the table's three vintages and the share that DistilBERT keeps in each."""
    macro = table[table["task"] == "macro"].set_index(["vintage", "model"])["value"]
    figure, ax = plt.subplots(figsize=(WIDTH, 3.4))
    models = ("BERT-base", "DistilBERT")
    for model, colour in zip(models, colours_of(models), strict=True):
        values = [macro[vintage, model] for vintage in VINTAGES]
        ax.plot(VINTAGES, values, "o-", color=colour, mfc="white", label=model)
        place = (len(VINTAGES) - 1, values[-1])
        ax.annotate(model, place, (8, -3), textcoords="offset points", color=colour)
    shares = [100 * macro[v, "DistilBERT"] / macro[v, "BERT-base"] for v in VINTAGES]
    for place, share in enumerate(shares):
        ax.annotate(f"keeps {share:.1f} %", (place, 72.8), ha="center")
    ax.set(ylabel="GLUE macro score (points)", xlim=(-0.4, len(VINTAGES) - 0.3), ylim=(72.5, 80.5))
    finding(ax, f"Three tables under one title: {min(shares):.0f} % follows from the last alone")
    return figure


@styled
def plot_retention(records: Sequence[Record], published: Mapping[str, float] | None = None) -> Figure:
    """A figure of the student's score in percent of its teacher's by task, seeds paired: ours filled, with the range
    over seeds, in grey where the teacher is not above the majority; `published` (task → percent) hollow. A real task
    run on only some rows is marked as a subset; seeds in which its teacher scores 0 have no share and are counted.

    Limits follow the medians; a whisker beyond them ends in an arrow with its number.
    """
    records = on_most_rows(records)
    by_cell = {(r["model"], r["task"], r["seed"]): r["scores"]["main"] for r in records}
    shares: dict[str, list[float]] = {}
    failed, paired = Counter(), Counter()
    for (model, task, seed), score in by_cell.items():
        theirs = by_cell.get(("teacher", task, seed))
        if model != "student" or theirs is None:
            continue
        paired[task] += 1
        if theirs:
            shares.setdefault(task, []).append(100 * score / theirs)
        else:
            failed[task] += 1
    notes = {task: ["teacher at 0", f"in {seeds} of {paired[task]}"] for task, seeds in failed.items()}
    tasks = sorted({*(published or {}), *shares, *notes}, key=_in_order)
    if not tasks:
        raise ValueError("no task with a teacher and a student of the same seed: fine-tune both first")
    figure, ax = plt.subplots(figsize=(WIDTH, 4.4))
    if published:
        hollow(ax, [tasks.index(t) - 0.1 for t in published], published.values(), "paper, GLUE", mfc="none")
    learned = [task for task in shares if _learned(records, task)]
    looks = (COLOURS["student"], f"ours, {records[0]['scale']}"), (GREY, "ours, teacher not shown to have learned")
    for here, (colour, label) in zip((learned, [t for t in shares if t not in learned]), looks, strict=True):
        if here:
            dots(ax, [tasks.index(t) + 0.1 for t in here], [shares[t] for t in here], color=colour, label=label)
    if shares:
        _clip(ax, {tasks.index(t) + 0.1: values for t, values in shares.items()}, (published or {}).values())
    ax.axhline(100, color=GREY, lw=0.8, zorder=0)
    _name_tasks(ax, tasks, records, notes)
    ax.set(ylabel="student in percent of teacher", xlim=(-0.5, len(tasks) - 0.5))
    middles = [np.median(shares[task]) for task in learned] or [100]
    ends = dict.fromkeys(f"{share:.0f}" for share in (min(middles), max(middles)))
    finding(ax, f"What the student keeps of a task that was learned: {' to '.join(ends)} %")
    legend_below(figure)
    return figure


def _clip(ax: Axes, groups: Mapping[float, Sequence[float]], also: Iterable[float]) -> None:
    """Limit a panel to the range of its medians; a value beyond is written at the edge, with an arrow."""
    middles = [np.median(values) for values in groups.values()] + list(also)
    room = max(15.0, 0.15 * (max(middles) - min(middles)))
    bottom, top = min(min(middles), 100) - room, max(max(middles), 100) + room
    ax.set_ylim(bottom, top)
    for place, values in groups.items():
        for value, edge, sign in ((min(values), bottom, "↓"), (max(values), top, "↑")):
            if (value - edge) * (-1 if sign == "↓" else 1) > 0:
                text = f"{sign} {value:.0f}".replace("-", "−")
                ax.annotate(text, (place, edge), (4, 2 if sign == "↓" else -9), textcoords="offset points")
