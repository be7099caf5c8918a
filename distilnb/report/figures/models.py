"""Figures of models: sizes, layers, parameters (notebooks 00, 01 and 07)."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import COLOURS, GREY, MUTED, WIDTH, finding, hollow, legend_below, place_label, spots, stack, styled


@styled
def plot_parameter_counts(table: pd.DataFrame) -> Figure:
    """Figure 1 of the paper: language models by date and size, from `paper.table("figure1_parameters")`.

    Each count is quoted from the publication of the model, named in the table. Models of the paper's figure without a
    published count are left out.
    """
    table = table.sort_values(["date", "parameters_millions"])
    dates, sizes = pd.to_datetime(table["date"]), table["parameters_millions"]
    ours = table["model"] == "DistilBERT"
    figure, ax = plt.subplots(figsize=(WIDTH, 4))
    ax.scatter(dates, sizes, s=45, color=np.where(ours, COLOURS["student"], GREY))
    ax.set_xlabel(f"{len(table)} models, counts from their own publications", loc="left", color=GREY)
    ax.set(yscale="log", ylabel="parameters (millions)", ylim=(30, 20_000))
    ax.set_xlim(dates.min() - pd.Timedelta(days=30), dates.max() + pd.Timedelta(days=130))
    ax.xaxis.set_major_locator(plt.matplotlib.dates.MonthLocator(interval=4))
    finding(ax, f"Language models grew to {sizes.max():,} M parameters; DistilBERT has {sizes[ours].iloc[0]:,} M")
    figure.draw_without_rendering()  # because labels are measured below
    taken = spots(ax, ax.collections[0].get_offsets())
    for name, date, size, own in zip(table["model"], dates, sizes, ours, strict=True):
        place_label(ax, date, size, f"{name}, {size:,}", taken, weight="bold" if own else "normal")
    return figure


@styled
def plot_layer_map(layers: Sequence[int], teacher_layers: int) -> Figure:
    """A figure of the source of each student layer: two columns of boxes, input at the bottom, counted from 0."""
    layers = list(layers)
    if not layers or min(layers) < 0 or max(layers) >= teacher_layers:
        raise ValueError(f"layers must lie in 0..{teacher_layers - 1}, got {layers}")
    figure, ax = plt.subplots(figsize=(WIDTH, 0.7 + 0.33 * teacher_layers))
    heights = np.linspace(0, teacher_layers - 1, len(layers) + 2)[1:-1]
    for layer in range(teacher_layers):
        _box(ax, 0, layer, f"teacher {layer}", COLOURS["teacher"] if layer in layers else None)
    for index, (layer, height) in enumerate(zip(layers, heights, strict=True)):
        _box(ax, 1, height, f"student {index}", COLOURS["student"])
        ax.annotate("", (0.79, height), (0.21, layer), arrowprops={"arrowstyle": "->", "color": GREY})
    ax.set(xlim=(-0.3, 1.3), ylim=(-0.7, teacher_layers - 0.3))
    ax.set_axis_off()
    finding(ax, f"Layers {', '.join(map(str, layers))} of {teacher_layers} start the student")
    return figure


def _box(ax: Axes, x: float, y: float, text: str, colour: str | None) -> None:
    """Draw a labelled box, hollow and grey without a colour."""
    ax.add_patch(plt.Rectangle((x - 0.2, y - 0.35), 0.4, 0.7, facecolor=colour or "none", edgecolor=colour or GREY))
    ax.text(x, y, text, ha="center", va="center", color="white" if colour == COLOURS["teacher"] else "black")


@styled
def plot_layer_kinds(teacher: Sequence[str], layers: Sequence[int], students: Mapping[str, Sequence[str]]) -> Figure:
    """A figure of the kind of attention of each chosen layer in the teacher and in students made of these layers, input
    at the bottom; a kind that differs from the teacher's has a dark frame."""
    right = [teacher[layer] for layer in layers]
    columns = {"teacher": right, **students}
    colours = dict(zip(dict.fromkeys(teacher), (MUTED[4], MUTED[3], MUTED[6]), strict=False))
    figure, ax = plt.subplots(figsize=(WIDTH, 1.6 + 0.42 * len(layers)))
    for x, kinds in enumerate(columns.values()):
        for y, (layer, kind, was) in enumerate(zip(layers, kinds, right, strict=True)):
            edge = {"edgecolor": "black", "lw": 2.5} if kind != was else {"edgecolor": "white"}
            ax.add_patch(plt.Rectangle((x - 0.45, y - 0.42), 0.9, 0.84, facecolor=colours[kind], **edge))
            place = f"{layer}: " if not x else f"{layer} → {y}: "
            ax.text(x, y, place + kind.removesuffix("_attention").removeprefix("sliding_"), ha="center", va="center")
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(layers) - 0.5), yticks=[])
    ax.set_xticks(range(len(columns)), list(columns), fontsize=mpl.rcParams["axes.labelsize"])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    changed = {name: sum(a != b for a, b in zip(own, right, strict=True)) for name, own in students.items()}
    told = (f"{name} {count} of {len(layers)}" for name, count in changed.items())
    finding(ax, f"Layers of another kind than in the teacher: {', '.join(told)}")
    return figure


@styled
def plot_parameter_groups(
    groups_by_model: Mapping[str, Mapping[str, int]], published: Mapping[str, float] | None = None
) -> Figure:
    """A figure of the parameters by group: one stacked bar per model in millions, with its total at the end.

    `published` (model → millions, as in Table 3) adds the paper's totals as hollow diamonds. Groups too small to be
    seen are counted but have no entry in the legend.
    """
    models = list(groups_by_model)
    groups = dict.fromkeys(group for counts in groups_by_model.values() for group in counts)
    parts = {group: [groups_by_model[model].get(group, 0) / 1e6 for model in models] for group in groups}
    totals = np.sum(list(parts.values()), axis=0)
    figure, ax = plt.subplots(figsize=(WIDTH, 1.9 + 0.45 * len(models)))
    ends = stack(ax, models, parts, least=0.01 * totals.max())
    theirs = {model: millions for model, millions in (published or {}).items() if model in models}
    for place, (model, end) in enumerate(zip(models, ends, strict=True)):
        reach = max(end, theirs.get(model, 0))
        ax.annotate(f"{end:,.1f} M", (reach, place), (7, 0), textcoords="offset points", va="center")
    if theirs:
        hollow(ax, theirs.values(), [models.index(model) for model in theirs])
    ax.set(xlabel="parameters (millions)", xlim=(0, 1.2 * max([*ends, *theirs.values()])))
    if len(models) == 2:
        fewer = f"{1 - ends[1] / ends[0]:.1%} fewer parameters"
        finding(figure, f"{models[1]} has {fewer}: the layers halve, the embeddings stay")
    ax.invert_yaxis()
    legend_below(figure)
    return figure
