"""Figures of time and size (notebook 07)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...evidence import paper
from ...evidence.records import Record
from ...studies.accuracy import chosen_int8
from ...studies.formats import KNOWN as EXPORTED
from ...studies.formats import fitting, format_title
from ...studies.rounding import MOST
from .style import (
    BLACK,
    COLOURS,
    GREY,
    MUTED,
    WIDTH,
    colours_of,
    finding,
    hollow,
    legend_below,
    place_label,
    set_ticks,
    spots,
    stack,
    styled,
)


@styled
def plot_seconds(table: pd.DataFrame) -> Figure:
    """A figure of Table 3's seconds for one pass over STS-B's dev set, hollow because they are the paper's."""
    seconds = table.set_index("model")["seconds"]
    figure, ax = plt.subplots(figsize=(WIDTH, 1.0 + 0.45 * len(seconds)))
    bars = ax.barh(list(seconds.index), seconds, height=0.6, fc="none", ec=colours_of(list(seconds.index)), lw=1.5)
    ax.bar_label(bars, [f"{value:,} s" for value in seconds], padding=5)
    ratio = seconds["BERT-base"] / seconds["DistilBERT"]
    ax.set(xlabel="seconds for STS-B dev, batch 1, CPU (paper)", xlim=(0, 1.15 * seconds.max()))
    finding(ax, f"The paper: DistilBERT answers {ratio:.2f} times as fast as BERT-base")
    ax.invert_yaxis()
    return figure


@styled
def plot_file_sizes(table: pd.DataFrame, groups_by_model: Mapping[str, Mapping[str, int]]) -> Figure:
    """A figure of a phone's model files: bytes predicted by group (bars) and the size of the file (hollow diamonds).

    `table` is `paper.table("device_files")`: for each group of `arithmetic.parameter_groups`, its bytes per weight in
    the file, 0 for a group that is not in the file. `groups_by_model` counts the weights of each model in it.
    """
    counts = pd.DataFrame(groups_by_model).fillna(0)[table["model"]].T.set_axis(table.index)  # (files, groups)
    groups = [group for group in table.columns if group in counts]
    weights = (counts[groups] * table[groups] / 1e6).to_dict("list")
    figure, ax = plt.subplots(figsize=(WIDTH, 2.2 + 0.42 * len(table)))
    ends = stack(ax, list(table["file"]), weights, least=1) if weights else np.zeros(len(table))
    sizes = table["bytes"] / 1e6
    for place, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        ax.annotate(f"{size:,.1f} MB", (max(end, size), place), (9, 0), textcoords="offset points", va="center")
    hollow(ax, sizes, table["file"], "the file")
    ax.set(xlabel="megabytes (millions of bytes)", xlim=(0, 1.22 * max(ends.max(), sizes.max())))
    ax.invert_yaxis()
    lacking = table[(table.get("attention", 1) == 0) & (sizes.round() == paper.claim("device_size").value)]
    if len(lacking):
        finding(figure, f"The {sizes[lacking.index[0]]:.0f} MB of the paper: a file without the attention weights")
    legend_below(figure)
    return figure


@styled
def plot_overhead(record: Record, supposed: float | None = None) -> Figure:
    """A figure of the ratio (o + slow) / (o + fast) over the overhead o, time outside the models, from a benchmark.

    Filled marks are the record's measurements, forward pass alone and end to end, medians over rounds with quartiles;
    the curve begins at the ratio of the median times, which may differ a little. The hollow mark is the place of the
    paper's ratio. A dotted line shows the ratio at a `supposed` overhead in milliseconds.
    """
    scores, intervals = record["scores"], record["intervals"]
    slow, fast = (1000 * _forward(record, model) for model in ("teacher", "student"))
    needed, measured = scores["overhead_ms_needed"], scores["overhead_ms"]
    published = paper.speed("BERT-base") / paper.speed("DistilBERT")
    overhead = np.linspace(0, 1.6 * max(needed, measured), 200)
    figure, ax = plt.subplots(figsize=(WIDTH, 3.6))
    ax.plot(overhead, (overhead + slow) / (overhead + fast), color=GREY, zorder=0)
    for name, place, marker in (("ratio_forward", 0.0, "o"), ("ratio_end_to_end", measured, "s")):
        low, middle, high = intervals[name]
        label = f"measured, {name.removeprefix('ratio_').replace('_', ' ')}: {middle:.2f} ×"
        quarters = [[middle - low], [high - middle]]
        ax.errorbar(place, middle, quarters, fmt=marker, color=MUTED[0], capsize=3, label=label)
    if needed:
        ax.plot(needed, published, "D", mfc="white", mec=COLOURS["paper"], label=f"the paper's {published:.2f} ×")
    if supposed is not None:
        ratio = (supposed + slow) / (supposed + fast)
        ax.axvline(supposed, color=GREY, ls=":")
        ax.plot(supposed, ratio, "^", color=BLACK, label=f"supposed, {supposed:.1f} ms: {ratio:.2f} ×")
    ax.set(xlabel="overhead per pair (ms): everything outside the model", ylabel="times as fast as the teacher")
    ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(6))
    turned = f"{intervals['ratio_forward'][1]:.2f} × into the paper's {published:.2f} ×"
    finding(ax, f"{needed:.2g} ms of overhead per pair would turn {turned}")
    ax.legend()
    return figure


def _forward(record: Record, model: str) -> float:
    """The median seconds of one forward pass of a benchmark's teacher or student."""
    timings = pd.DataFrame(record["timings"])
    return float(timings[(timings["model"] == model) & (timings["part"] == "forward")]["wall"].median())


CLOCKS = {"processor time": "_cpu", "wall clock": ""}


@styled
def plot_sweeps(record: Record) -> Figure:
    """A figure of the teacher's time over the student's against each knob of a benchmark: medians and quartile bars.

    Both wall time and CPU time are shown; where they disagree, other programs interfered. The hollow diamond is the
    paper's ratio, whose settings are not known.
    """
    if not record["sweeps"]:
        raise ValueError(f"record '{record['name']}' has no sweeps; run the benchmark with sweep_rounds above 0")
    spread = sweep_ratios(record)
    knobs = list(dict.fromkeys(spread["knob"]))
    published = paper.speed("BERT-base") / paper.speed("DistilBERT")
    figure, panels = _panels(knobs, "times as fast as the teacher")
    bottom, top = min(spread["middle"].min(), published) / 1.25, spread["middle"].max() * 1.25
    for knob, ax in panels.items():
        swept = spread[spread["knob"] == knob]
        _draw_sweep(ax, swept, (bottom, top))
        hollow(ax, [swept["value"].nunique() - 0.4], [published], "the paper, end to end", clip_on=False)
        ax.axhline(2, color=GREY, lw=1, ls=":", zorder=0)
        ax.set(xlabel=knob, yscale="log", ylim=(bottom, top))
        set_ticks(ax.yaxis, mpl.ticker.MultipleLocator(0.5), "{x:.1f}")
    legend_below(figure, panels[knobs[0]])
    low, high = spread["middle"].min(), spread["middle"].max()
    finding(figure, f"Half the layers: {low:.1f} to {high:.1f} times as fast, whatever is turned")
    return figure


def _panels(knobs: Sequence[str], ylabel: str) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each knob, two side by side, and these panels by knob."""
    lines = -(-len(knobs) // 2)
    figure, grid = plt.subplots(lines, 2, sharey=True, squeeze=False, figsize=(WIDTH, 1.2 + 2.3 * lines))
    for ax in grid.flat[len(knobs) :]:
        ax.set_axis_off()
    figure.supylabel(ylabel, fontsize=mpl.rcParams["axes.labelsize"])
    return figure, dict(zip(knobs, grid.flat, strict=False))


def sweep_ratios(record: Record) -> pd.DataFrame:
    """The teacher's time over the student's in a benchmark's sweeps: the median (`middle`) and quartiles (`low`,
    `high`) for each knob, value and clock."""
    rows = pd.DataFrame(record["sweeps"])
    ratios = [
        rows[["knob", "value"]].assign(clock=clock, ratio=rows["teacher" + end] / rows["student" + end])
        for clock, end in CLOCKS.items()
    ]
    grouped = pd.concat(ratios).groupby(["knob", "value", "clock"], sort=False)["ratio"]
    return grouped.quantile([0.25, 0.5, 0.75]).unstack().set_axis(["low", "middle", "high"], axis=1).reset_index()


def _draw_sweep(ax: Axes, spread: pd.DataFrame, limits: tuple[float, float]) -> None:
    """Draw one knob: joined medians and quartile bars; a bar beyond the limits ends in an arrow with its number."""
    values = list(dict.fromkeys(spread["value"]))
    for shift, (clock, colour) in zip((-0.08, 0.08), zip(CLOCKS, (MUTED[0], MUTED[3]), strict=True), strict=True):
        one = spread[spread["clock"] == clock].set_index("value").loc[values]
        places = np.arange(len(values)) + shift
        low, high = one["low"].clip(lower=limits[0]), one["high"].clip(upper=limits[1])
        bars = [one["middle"] - low, high - one["middle"]]
        ax.errorbar(places, one["middle"], bars, fmt="o-", color=colour, capsize=2, markersize=4, label=clock)
        for place, value in zip(places, one["high"], strict=True):
            if value > limits[1]:
                ax.annotate(f"↑ {value:.0f}", (place, limits[1]), (2, -9), textcoords="offset points")
    ax.set_xticks(range(len(values)), values)


@styled
def plot_formats(
    record: Record, megabytes: float = np.inf, milliseconds: float = np.inf, points: float = np.inf
) -> Figure:
    """A figure of the formats that fit a device: size against time on logarithmic axes, with the change of accuracy.

    Filled dots are formats of the student that fit the limits (see `fitting`), rings are formats that do not; the
    square is the teacher in float32. Dotted lines are the limits.
    """
    rows = fitting(record, megabytes, milliseconds, points)
    if rows.empty:
        raise ValueError(f"record '{record['name']}' compares no formats; run the benchmark with format_rows above 0")
    first = next(row for row in record["formats"] if (row["model"], row["format"]) == ("teacher", "float32"))
    figure, ax = plt.subplots(figsize=(WIDTH, 4.6))
    ax.plot(first["bytes"] / 1e6, first["ms"][1], "s", color=COLOURS["teacher"])
    inside = np.where(rows["fits"], COLOURS["student"], "none")
    ax.scatter(rows["MB"], rows["ms"], s=55, edgecolors=COLOURS["student"], facecolors=inside)
    numbers = "numbers: points of accuracy" if rows["points lost"].notna().any() else "accuracy was not measured"
    ax.set(xscale="log", yscale="log", xlabel=f"MB on disk; {numbers}", ylabel="milliseconds per answer")
    ax.set_xlim(0.22 * rows["MB"].min(), 6 * first["bytes"] / 1e6)
    ax.set_ylim(0.6 * rows["ms"].min(), 1.6 * first["ms"][1])
    for limit, line in ((megabytes, ax.axvline), (milliseconds, ax.axhline)):
        if np.isfinite(limit):
            line(limit, color=GREY, ls=":", lw=1)
    for axis in (ax.xaxis, ax.yaxis):
        set_ticks(axis, mpl.ticker.LogLocator(subs=(1, 2, 5)), "{x:g}")
    _name_formats(ax, rows, first, record)
    limited = np.isfinite([megabytes, milliseconds, points]).any()
    losing = f", losing at most {points:g} point{'s' * (points != 1)}" if np.isfinite(points) else ""
    fit = f"{rows['fits'].sum()} of {len(rows)} formats of the student fit the limits{losing}"
    finding(ax, fit if limited else _fastest(rows, first, record))
    return figure


def _name_formats(ax: Axes, rows: pd.DataFrame, teacher: Mapping[str, Any], record: Record) -> None:
    """Write each format and its loss of accuracy beside its dot."""
    ax.figure.draw_without_rendering()
    taken = spots(ax, rows[["MB", "ms"]].to_numpy())
    place_label(ax, teacher["bytes"] / 1e6, teacher["ms"][1], "teacher, float32", taken)
    unknown = ", not scored" if rows["points lost"].notna().any() else ""
    for row in rows.to_dict("records"):
        cost = unknown if pd.isna(row["points lost"]) else f", {0 - row['points lost']:+.2f}".replace("-", "−")
        text = format_title(row["format"], record) + cost
        place_label(ax, row["MB"], row["ms"], text, taken, color=BLACK if row["fits"] else GREY)


def _fastest(rows: pd.DataFrame, teacher: Mapping[str, Any], record: Record) -> str:
    """The finding of `plot_formats`: the savings of the fastest format."""
    best = rows.loc[rows["ms"].idxmin()]
    whole = rows.loc[rows["format"] == "float32", "MB"]
    size = f"{best['MB'] / whole.iloc[0]:.0%} of the student's size, " if len(whole) else ""
    timed = next(row for row in record["formats"] if (row["model"], row["format"]) == ("student", best["format"]))
    times = _times_as_fast(timed, teacher)
    return f"{EXPORTED[best['format']].title}: {size}{times:.1f} times as fast as the teacher in float32"


@styled
def plot_runtimes(record: Record, *others: Record) -> Figure:
    """A figure of a benchmark's formats, a line each, for teacher and student: megabytes, milliseconds of an answer by
    its number of word pieces (of its texts where no lengths were timed), and the change on tasks in points.

    `others` are benchmarks of the same models on the same machine, whose further formats are added.
    """
    every = {(row["model"], row["format"]): row for one in (*others, record) for row in one["formats"]}
    rows = sorted(every.values(), key=lambda row: -row["bytes"])
    if not rows:
        raise ValueError(f"record '{record['name']}' compares no formats; run the benchmark with format_rows above 0")
    forms = list(dict.fromkeys(row["format"] for row in rows))
    lost = {place: points for one in (*others, record) for place, points in _points_lost(one).items()}
    figure, (sizes, times, points) = plt.subplots(1, 3, sharey=True, figsize=(WIDTH, 2.6 + 0.4 * len(forms)))
    for model, shift in (("teacher", -0.17), ("student", 0.17)):
        own, look = [row for row in rows if row["model"] == model], {"color": COLOURS[model]}
        places = {row["format"]: forms.index(row["format"]) + shift for row in own}
        sizes.barh(list(places.values()), [row["bytes"] / 1e6 for row in own], height=0.3, label=model, **look)
        spent = pd.DataFrame({row["format"]: _answer_times(row) for row in own}).T
        for what, shape in zip(spent, "osD", strict=False):
            times.plot(spent[what], list(places.values()), shape, ms=5, label=f"{model}{what and ', '}{what}", **look)
        scored = [form for form in places if (model, form) in lost]
        points.plot([-lost[model, form] for form in scored], [places[form] for form in scored], "o", ms=5, **look)
    sizes.set_yticks(range(len(forms)), [EXPORTED[form].title for form in forms])
    sizes.invert_yaxis()
    sizes.set(xlabel="megabytes")
    times.set(xlabel="milliseconds", xscale="log")
    left, right = times.get_xlim()
    subs = (1,) if right > 20 * left else (1, 2, 5)
    set_ticks(times.xaxis, mpl.ticker.LogLocator(subs=subs, numticks=9), "{x:g}")  # left to itself, it finds no room
    points.axvline(0, color=GREY, lw=0.8, zorder=0)
    points.set(xlabel="points" + _whose_points(record), xmargin=0.2)
    points.xaxis.set_major_locator(mpl.ticker.MaxNLocator(2))
    if not lost:
        points.set(xticks=[])
        points.text(0.5, 0.5, "not scored", transform=points.transAxes, ha="center", color=GREY)
    legend_below(figure, times)
    finding(figure, _quickest(rows))
    return figure


def _times_as_fast(row: Mapping[str, Any], teacher: Mapping[str, Any]) -> float:
    """The teacher's time over that of one format on the texts of a benchmark: the median of the rounds, as in the
    tables, where a record has it."""
    return row.get("speedup") or teacher["ms"][1] / row["ms"][1]


def _answer_times(row: Mapping[str, Any]) -> dict[str, float]:
    """The milliseconds of an answer in one format, by what is answered, if that is told apart."""
    if lengths := row.get("lengths"):
        return {f"{length} pieces": spent[0] for length, spent in lengths.items()}
    return {"": row["ms"][1]}


def _points_lost(record: Record) -> dict[tuple[str, str], float]:
    """The mean points that model and format lost on the tasks of a benchmark."""
    tasks = record.get("tasks") or [{"of": "student"} | record["accuracy"]]
    rows = [row | {"of": task["of"]} for task in tasks for row in task["rows"]]
    return pd.DataFrame(rows, columns=["of", "format", "lost"]).groupby(["of", "format"])["lost"].mean().to_dict()


def _whose_points(record: Record) -> str:
    """What the points of a benchmark are of where its own models were not scored: another scale's student on a task."""
    scored = record["accuracy"]
    if record.get("tasks") or scored.get("scale", record["scale"]) == record["scale"]:
        return ""
    return f"\n({scored['scale']} {scored['task']})"


def _quickest(rows: Sequence[Mapping[str, Any]]) -> str:
    """The finding of `plot_runtimes`: the student's fastest format on the shortest answers, beside both in float32."""
    first = {row["model"]: row for row in rows if row["format"] == "float32"}
    shortest = next(iter(_answer_times(rows[0])))
    best = min((row for row in rows if row["model"] == "student"), key=lambda row: _answer_times(row)[shortest])
    times = _answer_times(first["teacher"])[shortest] / _answer_times(best)[shortest]
    times = times if best.get("lengths") else _times_as_fast(best, first["teacher"])
    share = best["bytes"] / first["student"]["bytes"]
    which = f"{EXPORTED[best['format']].title} is fastest" + (f" ({shortest})" if shortest else "")
    return f"{which}: {times:.1f} times the teacher in float32, in {share:.0%} of the student's bytes"


@styled
def plot_rounding(record: Record) -> Figure:
    """A figure of what int8 changes on each task, in points: the usual rounding hollow, the chosen one filled."""
    rows = pd.DataFrame(chosen_int8(record.get("tasks", ())))
    if rows.empty:
        raise ValueError(f"record '{record['name']}' chooses no int8; run the benchmark with --scored-task")
    models = list(dict.fromkeys(rows["of"]))
    figure, axes = plt.subplots(
        1, len(models), sharex=True, sharey=True, squeeze=False, figsize=(WIDTH, 1.5 + 0.32 * rows["task"].nunique())
    )
    for ax, model in zip(axes.flat, models, strict=True):
        one, colour = rows[rows["of"] == model], COLOURS[model]
        ax.axvline(0, color=GREY, lw=0.8)
        ax.axvline(-MOST, color=GREY, ls=":", lw=1)
        ax.plot(-one["usual"], one["task"], "o", mfc="white", mec=colour, label="the usual int8")
        ax.plot(-one["lost"], one["task"], "o", color=colour, label="chosen by other rows")
        ax.set(xlabel=f"{model}, points gained", ymargin=0.1)
    axes[0, 0].invert_yaxis()
    legend_below(figure, axes[0, 0])
    worst = rows.loc[rows.groupby("of", sort=False)["lost"].idxmax()].to_dict("records")
    told = ", ".join(f"{row['lost']:.2f} points of the {row['of']} ({row['task']})" for row in worst)
    finding(figure, f"int8 chosen by other rows loses at most {told}".replace("-", "−"))
    return figure


@styled
def plot_growth(record: Record) -> Figure:
    """A figure of a pre-training step's tokens per CPU second by knob: the obvious step hollow, ours filled, and dashed
    the bound of each precision by the measured matmul peak and memory bandwidth."""
    rows = pd.DataFrame(record["growth"])
    knobs, names = list(dict.fromkeys(rows["knob"])), [n for n in ("plain", "float32", "bf16") if n in rows]
    figure, panels = _panels(knobs, "tokens per second of CPU time")
    for knob, ax in panels.items():
        swept = rows[rows["knob"] == knob]
        for name, colour in zip(names, (GREY, MUTED[0], MUTED[1]), strict=False):
            label, inside = ("written the obvious way", "white") if name == "plain" else (f"ours, {name}", colour)
            places = range(len(swept))
            ax.plot(places, swept["tokens"] / swept[name], "o-", color=colour, mfc=inside, label=label)
            if f"{name}_bound" in swept:
                bound = swept["tokens"] / swept[f"{name}_bound"]
                ax.plot(places, bound, "--", color=colour, label=f"bound, {name}")
        ax.set_xticks(places, [f"{value:,}" for value in swept["value"]])
        ax.set(xlabel=knob, yscale="log", xmargin=0.12)
        set_ticks(ax.yaxis, mpl.ticker.LogLocator(subs=(1, 2, 5)), "{x:,.0f}")
    legend_below(figure, panels[knobs[0]])
    more = " and ".join(f"{(rows['plain'] / rows[name]).max():.1f} times in {name}" for name in names[1:])
    told = f"Logits in chunks: up to {more} the tokens of the obvious way in float32"
    if f"{names[-1]}_bound" in rows:
        share = rows[f"{names[-1]}_bound"] / rows[names[-1]]
        told += f", {share.min():.0%} to {share.max():.0%} of the bound in {names[-1]}"
    finding(figure, told)
    return figure
