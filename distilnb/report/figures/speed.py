"""Figures of time and size (notebook 07)."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ...evidence import paper
from ...evidence.records import Record
from ...studies.formats import FORMATS as EXPORTED
from ...studies.formats import fitting
from .style import BLACK, COLOURS, GREY, colours_of, place_label, styled


@styled
def plot_seconds(table: pd.DataFrame) -> Figure:
    """Table 3's seconds for one pass over STS-B's dev set, hollow: printed, not ours, and of another machine."""
    seconds = table.set_index("model")["seconds"]
    figure, ax = plt.subplots(figsize=(7, 0.9 + 0.45 * len(seconds)))
    bars = ax.barh(list(seconds.index), seconds, height=0.6, fc="none", ec=colours_of(list(seconds.index)), lw=1.5)
    ax.bar_label(bars, [f"{value:,} s" for value in seconds], padding=5)
    ratio = seconds["BERT-base"] / seconds["DistilBERT"]
    ax.set(xlabel="seconds, one pass over STS-B dev, batch 1, CPU (paper)", xlim=(0, 1.15 * seconds.max()))
    ax.set_title(f"DistilBERT answers {ratio:.2f} times as fast as BERT-base")
    ax.invert_yaxis()
    return figure


@styled
def plot_file_sizes(table: pd.DataFrame, groups_by_model: Mapping[str, Mapping[str, int]]) -> Figure:
    """What a phone's model files hold: bytes predicted by group (bars) against the file's size (hollow diamonds).

    `table` is `paper.table("device_files")`: for each group of `student.parameter_groups`, its bytes per weight in the
    file, 0 for what is not in it. `groups_by_model` counts the weights of each model it names.
    """
    known = {group for counts in groups_by_model.values() for group in counts}
    groups = [column for column in table.columns if column in known]
    figure, ax = plt.subplots(figsize=(8, 1.4 + 0.5 * len(table)))
    ends = np.zeros(len(table))
    for group, colour in zip(groups, sns.color_palette("colorblind", len(groups)), strict=True):
        counts = np.array([groups_by_model[model].get(group, 0) for model in table["model"]])
        widths = counts * table[group].to_numpy() / 1e6
        if widths.max() > 1:
            ax.barh(table["file"], widths, left=ends, height=0.6, color=colour, label=group)
        ends += widths
    for place, (end, size) in enumerate(zip(ends, table["bytes"] / 1e6, strict=True)):
        ax.annotate(f"{size:,.1f} MB", (max(end, size), place), (9, 0), textcoords="offset points", va="center")
    ax.plot(table["bytes"] / 1e6, table["file"], "D", mfc="white", mec=COLOURS["paper"], label="the file")
    ax.set(xlabel="megabytes (millions of bytes)", xlim=(0, 1.2 * max(ends.max(), table["bytes"].max() / 1e6)))
    ax.invert_yaxis()
    figure.legend(ncols=3, loc="outside upper left")
    return figure


@styled
def plot_overhead(record: Record, supposed: float | None = None) -> Figure:
    """How time outside the models hides a ratio: (o + slow) / (o + fast) over the overhead o, from a benchmark record.

    Filled: what the record measured, forward pass alone and end to end, with quartiles. Hollow: where the paper's
    ratio would lie. A dotted line: the ratio at a `supposed` overhead in milliseconds.
    """
    scores, intervals = record["scores"], record["intervals"]
    slow, fast = (1000 * _forward(record, model) for model in ("teacher", "student"))
    needed, measured = scores["overhead_ms_needed"], scores["overhead_ms"]
    published = paper.speed("BERT-base") / paper.speed("DistilBERT")
    overhead = np.linspace(0, 1.6 * max(needed, measured), 200)
    figure, ax = plt.subplots(figsize=(7, 3.6))
    ax.plot(overhead, (overhead + slow) / (overhead + fast), color=GREY, zorder=0)
    for name, place, marker in (("ratio_forward", 0.0, "o"), ("ratio_end_to_end", measured, "s")):
        low, middle, high = intervals[name]
        ax.errorbar(
            place,
            middle,
            [[middle - low], [high - middle]],
            fmt=marker,
            color=COLOURS["student"],
            capsize=3,
            label=f"measured, {name.removeprefix('ratio_').replace('_', ' ')}: {middle:.2f} ×",
        )
    if needed:
        ax.plot(needed, published, "D", mfc="white", mec=COLOURS["paper"], label=f"the paper's {published:.2f} ×")
    if supposed is not None:
        ratio = (supposed + slow) / (supposed + fast)
        ax.axvline(supposed, color=GREY, ls=":")
        ax.plot(supposed, ratio, "^", color=BLACK, label=f"supposed, {supposed:.1f} ms: {ratio:.2f} ×")
    ax.set(
        xlabel="overhead per pair (ms): everything outside the model",
        ylabel="times as fast as the teacher",
        title=f"{needed:.0f} ms of overhead per pair would turn {slow / fast:.2f} × into the paper's {published:.2f} ×",
    )
    ax.legend()
    return figure


def _forward(record: Record, model: str) -> float:
    """Median seconds of one forward pass of a benchmark's teacher or student."""
    timings = pd.DataFrame(record["timings"])
    return float(timings[(timings["model"] == model) & (timings["part"] == "forward")]["wall"].median())


CLOCKS = {"processor time": "_cpu", "wall clock": ""}


@styled
def plot_sweeps(record: Record) -> Figure:
    """Teacher's time over student's against each knob of a benchmark record: medians, bars from quartile to quartile.

    By the wall and in processor time: where the two disagree, other programs were in the way. The hollow diamond is
    the paper's ratio, whose settings are not known.
    """
    rows = pd.DataFrame(record["sweeps"])
    if rows.empty:
        raise ValueError(f"record '{record['name']}' has no sweeps; run the benchmark with sweep_rounds above 0")
    ratios = {clock: rows["teacher" + end] / rows["student" + end] for clock, end in CLOCKS.items()}
    rows = pd.concat([rows.assign(clock=clock, ratio=ratio) for clock, ratio in ratios.items()])
    knobs = list(dict.fromkeys(rows["knob"]))
    published = paper.speed("BERT-base") / paper.speed("DistilBERT")
    figure, axes = plt.subplots(1, len(knobs), sharey=True, squeeze=False, figsize=(3 * len(knobs), 3.2))
    for ax, knob in zip(axes[0], knobs, strict=True):
        sns.pointplot(
            rows[rows["knob"] == knob],
            x="value",
            y="ratio",
            hue="clock",
            estimator="median",
            errorbar=("pi", 50),
            capsize=0.15,
            dodge=0.2,
            palette=[COLOURS["student"], GREY],
            ax=ax,
            legend=ax is axes[0, -1],
        )
        ax.plot(
            [rows[rows["knob"] == knob]["value"].nunique() - 0.4],
            [published],
            "D",
            mfc="white",
            mec=COLOURS["paper"],
            clip_on=False,
        )
        ax.axhline(2, color=GREY, lw=1, ls=":", zorder=0)
        ax.set(xlabel=knob, ylabel="times as fast as the teacher")
    low, high = axes[0, 0].get_ylim()
    axes[0, 0].set_ylim(min(low, 1.4), max(high, 2.4))
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(
        "Half the layers, about half the time, wherever one looks (hollow: the paper, end to end)", x=0, ha="left"
    )
    return figure


@styled
def plot_formats(
    record: Record, megabytes: float = np.inf, milliseconds: float = np.inf, points: float = np.inf
) -> Figure:
    """Which format fits a device: size against time, both on logarithmic axes, with the change of accuracy.

    Filled dots are formats of the student that fit the limits (see `fitting`), rings those that do not; the square is
    the teacher in float32. Dotted lines are the limits.
    """
    rows = fitting(record, megabytes, milliseconds, points)
    if rows.empty:
        raise ValueError(f"record '{record['name']}' compares no formats; run the benchmark with format_rows above 0")
    first = next(row for row in record["formats"] if (row["model"], row["format"]) == ("teacher", "float32"))
    figure, ax = plt.subplots(figsize=(7.5, 4))
    ax.plot(first["bytes"] / 1e6, first["ms"][1], "s", color=COLOURS["teacher"])
    ax.scatter(
        rows["MB"],
        rows["ms"],
        s=55,
        edgecolors=COLOURS["student"],
        facecolors=np.where(rows["fits"], COLOURS["student"], "none"),
    )
    ax.set(xscale="log", yscale="log", xlabel="megabytes on disk", ylabel="milliseconds per answer")
    ax.set_xlim(0.6 * rows["MB"].min(), 2.6 * first["bytes"] / 1e6)
    ax.set_ylim(0.6 * rows["ms"].min(), 1.6 * first["ms"][1])
    for limit, line in ((megabytes, ax.axvline), (milliseconds, ax.axhline)):
        if np.isfinite(limit):
            line(limit, color=GREY, ls=":", lw=1)
    figure.draw_without_rendering()
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in ax.transData.transform(rows[["MB", "ms"]].to_numpy())]
    place_label(ax, first["bytes"] / 1e6, first["ms"][1], "teacher, PyTorch float32", taken)
    for row in rows.to_dict("records"):
        cost = "accuracy not measured" if pd.isna(row["points lost"]) else f"{0 - row['points lost']:+.2f} points"
        place_label(
            ax,
            row["MB"],
            row["ms"],
            f"{EXPORTED[row['format']].title}, {cost.replace('-', '−')}",
            taken,
            color=BLACK if row["fits"] else GREY,
        )
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(mpl.ticker.NullLocator())
    losing = f", losing at most {points:g} points" if np.isfinite(points) else ""
    ax.set_title(f"{rows['fits'].sum()} of {len(rows)} formats of the student fit{losing}")
    return figure


@styled
def plot_growth(record: Record) -> Figure:
    """How the CPU time of a pre-training step grows, a knob a panel: the obvious step hollow, ours filled."""
    rows = pd.DataFrame(record["growth"])
    knobs = list(dict.fromkeys(rows["knob"]))
    figure, axes = plt.subplots(1, len(knobs), sharey=True, squeeze=False, figsize=(3 * len(knobs), 3.2))
    names = [name for name in ("plain", "float32", "bf16") if name in rows]
    for ax, knob in zip(axes[0], knobs, strict=True):
        mine = rows[rows["knob"] == knob]
        for name, colour in zip(names, (GREY, COLOURS["teacher"], COLOURS["student"]), strict=False):
            label, inside = ("written the obvious way", "white") if name == "plain" else (f"ours, {name}", colour)
            ax.plot(mine["value"], mine[name], "o-", color=colour, mfc=inside, label=label)
        ax.set(xlabel=knob, ylim=(0, None))
    axes[0, 0].set_ylabel("CPU seconds of a step")
    axes[0, 0].legend()
    figure.suptitle("Whole logits make the obvious step grow with the vocabulary; chunks keep ours low", x=0, ha="left")
    return figure
