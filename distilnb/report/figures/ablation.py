"""Figures of the ablation (notebooks 01 and 08)."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...evidence import statistics
from ...evidence.names import held_out_loss, objective_of
from ...evidence.records import Record
from ...studies import ablation
from .losses import _array
from .style import BLACK, COLOURS, GREY, MUTED, WIDTH, finding, hollow, legend_below, styled


@styled
def plot_layer_choice(
    alike: Any, layers: Sequence[int], cosines: Sequence[float], parameters: tuple[int, int]
) -> Figure:
    """A figure of a choice of teacher layers, in three panels: the similarity `alike` of the teacher's layers
    (embeddings first, (layers + 1)²) with the chosen ones ringed; the cosine of each student layer with its source;
    the parameters (student, teacher)."""
    alike, (student, teacher) = _array(alike), parameters
    figure, (left, right) = plt.subplots(2, 1, figsize=(WIDTH, 7), height_ratios=(3, 2))
    image = left.imshow(alike, origin="lower", cmap="cividis", vmin=0, vmax=1)
    left.plot(*[[layer + 1 for layer in layers]] * 2, "o", mfc="none", mec="black", mew=1.5, ms=11)
    names = ["e", *range(len(alike) - 1)]
    left.set_xticks(range(0, len(alike), 1 + len(alike) // 10), names[:: 1 + len(alike) // 10])
    left.set_yticks(range(len(alike)), names)
    left.set(
        title="CKA of the teacher's layers", xlabel="layers (e: embeddings); rings: chosen", ylabel="teacher layer"
    )
    figure.colorbar(image, label="CKA", shrink=0.8)
    bars = right.barh(range(len(layers)), cosines, color=COLOURS["student"])
    right.bar_label(bars, [f"{value:.2f}" for value in cosines], padding=3)
    right.set_yticks(range(len(layers)), [f"{own} from {layer}" for own, layer in enumerate(layers)])
    right.set(title="cosine with its source", xlabel="before training", xlim=(min(0, *cosines), 1.15))
    fewer = f"{1 - student / teacher:.1%} fewer than the teacher's {teacher:,}"
    finding(figure, f"{len(layers)} of {len(alike) - 1} layers: {student:,} parameters, {fewer}")
    return figure


@styled
def plot_ablation(rows: Sequence[Mapping[str, Any]], scale: str, score: str = "the macro score (points)") -> Figure:
    """A figure of Table 4 (left, hollow) and ours (right, filled, with intervals over paired seeds), on separate axes.

    `rows` are those of `ablation.compare` for the macro score or for another, named by `score`. The axes are separate
    because models, tasks and budgets differ; both show some of either side of 0, so that signs are seen.
    """
    rows = [row for row in rows if row["mean"] is not None]
    if not rows:
        raise ValueError("no differences to draw: an ablation needs the triple loss and another variant, same seed")
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(WIDTH, 1.9 + 0.5 * len(rows)), width_ratios=(2, 3))
    heights = np.arange(len(rows))
    published = [np.nan if row["paper"] is None else row["paper"] for row in rows]
    hollow(left, published, heights, mfc="none")
    if np.isnan(published).all():
        left.text(-1.85, len(rows) / 2 - 0.5, "not in Table 4", ha="center", color=GREY)
    for height, row in zip(heights, rows, strict=True):
        if row["low"] is not None:
            right.plot([row["low"], row["high"]], [height, height], color=MUTED[0], lw=2)
        right.plot(row["deltas"], [height] * len(row["deltas"]), "|", color=GREY, ms=9)
        right.plot(row["mean"], height, "o", color=MUTED[0])
    pairs = ablation.pairs_told(rows)
    for ax, title in ((left, "Table 4"), (right, f"ours, {scale}: {pairs}")):
        ax.axvline(0, color=GREY, lw=0.8, zorder=0)
        ax.set(title=title, xlabel="change (points)" if "points" in score else "change")
    low, high = right.get_xlim()
    right.set_xlim(min(low, -0.2 * high), max(high, -0.2 * low))
    left.set_yticks(heights, [textwrap.fill(row["title"], 20) for row in rows])
    left.set(ylim=(len(rows) - 0.5, -0.5), xlim=(-4.4, 0.7), xlabel="change (points)")
    finding(figure, f"{_most_told(rows)}: change of {score}")
    return figure


def _most_told(rows: Sequence[Mapping[str, Any]]) -> str:
    """The finding of `plot_ablation`: how many of Table 4's differences lie in our intervals or, where it has none, how
    many intervals leave out 0."""
    known = [row for row in rows if row["low"] is not None]
    compared = [row for row in known if row["paper"] is not None]
    if compared:
        inside = sum(row["low"] <= row["paper"] <= row["high"] for row in compared)
        return f"Table 4's difference lies in our interval for {inside} of {len(compared)}"
    if known:
        return f"{sum(row['low'] > 0 or row['high'] < 0 for row in known)} of {len(known)} intervals leave out 0"
    return "One pair each, no interval"


@styled
def plot_pairs(rows: Sequence[Mapping[str, Any]], scale: str, score: str = "the macro score (points)") -> Figure:
    """A figure of an ablation's seed spread: the macro score (or `score`) of each variant, with a line for each seed.

    Parallel lines mean that variants differ and seeds do not matter; crossing lines mean the reverse.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 5.4))
    seeds = sorted({seed for row in rows for seed in row["values"]})
    for seed, shape, colour in zip(seeds, "osDv^<>ph*", (*MUTED, BLACK), strict=False):
        values = [row["values"].get(seed, np.nan) for row in rows]
        ax.plot(range(len(rows)), values, shape, ls="-", lw=0.8, color=colour, mfc="white", label=f"seed {seed}")
    ax.set_xticks(range(len(rows)), [row["title"] for row in rows], rotation=30, ha="right")
    ax.set(ylabel=score.removeprefix("the "))
    within = np.mean([np.ptp(list(row["values"].values())) for row in rows])
    between = np.ptp([np.mean(list(row["values"].values())) for row in rows])
    what = score.split(" (")[0]
    told = f"a seed changes {what} by {within:.2g} on average, variants differ by {between:.2g}"
    if len(seeds) < 2:
        told = f"variants differ by {between:.2g} in {what}; one seed says nothing of seeds"
    finding(ax, f"{scale}: {told}")
    legend_below(figure, ax)
    return figure


@styled
def plot_heldout(records: Sequence[Record]) -> Figure:
    """A figure of held-out loss against tokens: the mean over seeds, with lowest to highest shaded, for the first ten
    variants; where some of them start from random weights, again without these. A variant that was not trained is a
    dashed line."""
    colours, known, found = (BLACK, *MUTED), ablation.VARIANTS, {r["model"] for r in records}
    variants = [*(v for v in known if v in found), *sorted(found - known.keys())][: len(colours)]
    records = [r for r in records if r["model"] in variants]
    close = [v for v in variants if v not in known or known[v].init != "random"]
    panels = {"all variants": variants}
    panels |= {"those from the teacher's layers, closer": close} if close != variants else {}
    figure, axes = plt.subplots(len(panels), 1, figsize=(WIDTH, 3.6 + 2 * len(panels)), squeeze=False)
    axes = axes[:, 0]
    for ax, (title, shown) in zip(axes, panels.items(), strict=True):
        for variant, colour in zip(variants, colours, strict=False):
            if variant in shown:
                _losses(ax, [r for r in records if r["model"] == variant], colour)
        ax.set(ylabel=objective_of(records[0]).title, title=title)
    axes[-1].set(xlabel="tokens (thousands)")
    legend_below(figure, axes[0])
    finding(figure, _reads_best(records))
    return figure


def _reads_best(records: Sequence[Record]) -> str:
    """The finding of `plot_heldout`: the variant with the lowest loss, and how many cannot be told from it by seeds, of
    those that have an interval."""
    losses = {r["title"]: {} for r in records}
    for record in records:
        losses[record["title"]][record["seed"]] = held_out_loss(record["scores"])
    best, *others = sorted(losses, key=lambda title: np.mean(list(losses[title].values())))
    pairs = [[value - losses[best][seed] for seed, value in losses[o].items() if seed in losses[best]] for o in others]
    lows = [low for deltas in pairs if (low := statistics.mean_interval(deltas).low) is not None]
    equals = sum(low <= 0 for low in lows)
    many = f"; {equals} other{'s' * (equals > 1)} cannot be told from it" if equals else ""
    many = many or "; one pair each, no interval" * (bool(pairs) and not lows)
    return f"Reads best: {best}, at a held-out loss of {np.mean(list(losses[best].values())):.2f}{many}"


def _losses(ax: Axes, runs: Sequence[Record], colour: str) -> None:
    """Draw the held-out losses of one variant over its seeds."""
    if runs[0]["evaluations"] is None:
        ax.axhline(np.mean([held_out_loss(r["scores"]) for r in runs]), color=colour, ls="--", label=runs[0]["title"])
        return
    losses = np.array([held_out_loss(r["evaluations"]) for r in runs])  # (seeds, evaluations)
    tokens = np.asarray(runs[0]["evaluations"]["tokens"]) / 1e3
    ax.fill_between(tokens, losses.min(0), losses.max(0), color=colour, alpha=0.2, lw=0)
    first = runs[0]["model"] == ablation.REFERENCE  # dotted and on top, so that an equal variant shows through
    shape, order = ("o:", 3) if first else ("o-", 2)
    ax.plot(tokens, losses.mean(0), shape, ms=4, color=colour, zorder=order, label=runs[0]["title"])
