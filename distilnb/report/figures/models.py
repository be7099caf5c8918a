"""Figures of models: sizes, layers, parameters (notebooks 00, 01 and 07)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from .style import COLOURS, GREY, place_label, styled


@styled
def plot_parameter_counts(table: pd.DataFrame, highlight: str = "DistilBERT") -> Figure:
    """Figure 1 of the paper: language models by date and size, from `paper.table("figure1_parameters")`.

    Its caption counts what is verified; values from memory (mark M) are drawn as rings.
    """
    table = table.sort_values(["date", "parameters_millions"])
    dates, sizes = pd.to_datetime(table["date"]), table["parameters_millions"]
    ours = table["model"] == highlight
    if not ours.any():
        raise ValueError(f"no model {highlight!r} in the table; choose one of: {', '.join(table['model'])}")
    figure, ax = plt.subplots(figsize=(8, 4.8))
    colours = np.where(ours, COLOURS["student"], GREY)
    inside = np.where(table["mark"] == "M", "none", colours)
    ax.scatter(dates, sizes, s=45, facecolors=inside, edgecolors=colours)
    known = table["model"][table["mark"] != "M"]
    ax.set_xlabel(
        f"Filled: verified in the paper ({', '.join(known)}). Rings, {len(table) - len(known)} models: size "
        "and date as in each one's own\npublication, quoted from memory, as is the choice of models.",
        loc="left",
        fontsize="small",
        color=GREY,
    )
    ax.set(yscale="log", ylabel="parameters (millions)", ylim=(30, 20_000))
    ax.set_xlim(dates.min() - pd.Timedelta(days=50), dates.max() + pd.Timedelta(days=110))
    ax.set_title(f"Language models grew to {sizes.max():,} M parameters; {highlight} has {sizes[ours].iloc[0]:,} M")
    figure.draw_without_rendering()  # labels are measured below
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in ax.transData.transform(ax.collections[0].get_offsets())]
    for name, date, size, mine in zip(table["model"], dates, sizes, ours, strict=True):
        place_label(ax, date, size, f"{name}, {size:,}", taken, weight="bold" if mine else "normal")
    return figure


@styled
def plot_layer_map(layers: Sequence[int], teacher_layers: int) -> Figure:
    """Which teacher layer starts which student layer: two columns of boxes, input at the bottom, counted from 0."""
    layers = list(layers)
    if not layers or min(layers) < 0 or max(layers) >= teacher_layers:
        raise ValueError(f"layers must lie in 0..{teacher_layers - 1}, got {layers}")
    figure, ax = plt.subplots(figsize=(5, 0.6 + 0.33 * teacher_layers))
    heights = np.linspace(0, teacher_layers - 1, len(layers) + 2)[1:-1]
    for layer in range(teacher_layers):
        _box(ax, 0, layer, f"teacher {layer}", COLOURS["teacher"] if layer in layers else None)
    for index, (layer, height) in enumerate(zip(layers, heights, strict=True)):
        _box(ax, 1, height, f"student {index}", COLOURS["student"])
        ax.annotate("", (0.79, height), (0.21, layer), arrowprops={"arrowstyle": "->", "color": GREY})
    ax.set(xlim=(-0.3, 1.3), ylim=(-0.7, teacher_layers - 0.3))
    ax.set_axis_off()
    ax.set_title(f"{len(layers)} of {teacher_layers} teacher layers start the student: {', '.join(map(str, layers))}")
    return figure


def _box(ax: Axes, x: float, y: float, text: str, colour: str | None) -> None:
    """A labelled box; hollow and grey without a colour."""
    ax.add_patch(plt.Rectangle((x - 0.2, y - 0.35), 0.4, 0.7, facecolor=colour or "none", edgecolor=colour or GREY))
    ax.text(x, y, text, ha="center", va="center", color="white" if colour == COLOURS["teacher"] else "black")


@styled
def plot_parameter_groups(
    groups_by_model: Mapping[str, Mapping[str, int]], published: Mapping[str, float] | None = None
) -> Figure:
    """Where the parameters are: one stacked bar per model in millions, its total written at the end.

    `published` (model → millions, as in Table 3) adds the paper's totals as hollow diamonds.
    """
    groups = list(dict.fromkeys(group for counts in groups_by_model.values() for group in counts))
    models = list(groups_by_model)
    figure, ax = plt.subplots(figsize=(8, 1.3 + 0.5 * len(models)))
    ends = np.zeros(len(models))
    for group, colour in zip(groups, sns.color_palette("colorblind", len(groups)), strict=True):
        widths = np.array([groups_by_model[model].get(group, 0) / 1e6 for model in models])
        ax.barh(models, widths, left=ends, height=0.6, color=colour, label=group)
        ends += widths
    theirs = {model: millions for model, millions in (published or {}).items() if model in models}
    for place, (model, end) in enumerate(zip(models, ends, strict=True)):
        reach = max(end, theirs.get(model, 0))
        ax.annotate(f"{end:,.1f} M", (reach, place), (7, 0), textcoords="offset points", va="center")
    if theirs:
        places = [models.index(model) for model in theirs]
        ax.plot(list(theirs.values()), places, "D", mfc="white", mec=COLOURS["paper"], label="paper")
    ax.set(xlabel="parameters (millions)", xlim=(0, 1.15 * max([*ends, *theirs.values()])))
    ax.invert_yaxis()
    ax.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return figure
