"""The project's figures: one style, one colour per role, one writer of `figures/`.

Each `plot_*` takes plain tables, records or numbers and returns a matplotlib Figure that pyplot has already let go
of, so a notebook shows it once. On comparisons the paper's values are hollow and ours are filled.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from transformers import BertConfig

from . import ablation, paper, paths, results
from .export import FORMATS as EXPORTED
from .student import choose_layers, parameter_groups, student_config

PALETTE = sns.color_palette("colorblind").as_hex()
GREY = "#767676"
BLACK = "#222222"
COLOURS = dict(teacher=PALETTE[0], student=PALETTE[1], undistilled=PALETTE[2], random=PALETTE[4], paper=BLACK)
ROLES = {"BERT-base": "teacher", "DistilBERT": "student"}  # the paper's models have the colours of ours
TERMS = dict(loss=BLACK, ce=PALETTE[0], mlm=PALETTE[1], cos=PALETTE[2])
FORMATS = ("svg", "pdf", "png")
METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}

Record = Mapping[str, Any]
Scores = Mapping[str, Mapping[str, float]]


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure; wrap your own drawing code in `with style():`."""
    ours = {
        "font.sans-serif": ["DejaVu Sans"],
        "figure.constrained_layout.use": True,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "savefig.dpi": 150,
        "svg.hashsalt": "distilnb",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }
    with mpl.rc_context({**sns.plotting_context("paper", font_scale=1.1), **sns.axes_style("ticks"), **ours}):
        yield


def to_svg(figure: Figure) -> str:
    """A figure as the text of an <svg> element, for a page that needs no other file."""
    with style():
        _settle(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return text.getvalue()[text.getvalue().index("<svg") :]


def to_png(figure: Figure, dpi: float = 150) -> bytes:
    """A figure as the bytes of a small png file, for a widget."""
    drawn = io.BytesIO()
    with style():
        figure.savefig(drawn, format="png", dpi=dpi)
    return reduce_png(drawn.getvalue())


def reduce_png(png: bytes) -> bytes:
    """The bytes of a png file, drawn again in 128 colours on white: a third of the size, and the eye sees no change."""
    picture, small = Image.open(io.BytesIO(png)).convert("RGBA"), io.BytesIO()
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def save_figure(figure: Figure, name: str, folder: Path | None = None, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write `name.svg`, `.pdf` and `.png`, the same bytes each time, into `figures/` or `folder`; return the paths."""
    if not set(formats) <= set(FORMATS):
        raise ValueError(f"unknown format in {tuple(formats)}; choose from: {', '.join(FORMATS)}")
    folder = paths.home() / "figures" if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.{format}" for format in formats]
    with style():
        _settle(figure)
        for path, format in zip(written, formats, strict=True):
            figure.savefig(path, format=format, metadata=METADATA[format])
    return written


def _styled(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the project's style, then take the figure from pyplot so that it is not shown a second time."""

    @wraps(plot)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with style():
            figure = plot(*args, **kwargs)
            _settle(figure)
        plt.close(figure)
        return figure

    return drawn


def _settle(figure: Figure) -> None:
    """Lay the figure out once and for all: a layout that is found again at each draw moves by fractions of a point."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


@_styled
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
        _label(ax, date, size, f"{name}, {size:,}", taken, weight="bold" if mine else "normal")
    return figure


def _label(ax: Axes, x: Any, y: float, text: str, taken: list[Bbox], **look: Any) -> None:
    """Write `text` right of, above or below a point, where it first overlaps nothing `taken`, and take that place."""
    for dx, dy, ha, va in ((7, 0, "left", "center"), (0, 8, "center", "bottom"), (0, -8, "center", "top")):
        note = ax.annotate(text, (x, y), (dx, dy), textcoords="offset points", ha=ha, va=va, **look)
        box = note.get_window_extent()
        if dy < 0 or not any(box.overlaps(other) for other in taken):
            taken.append(box)
            break
        note.remove()


@_styled
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


@_styled
def plot_temperature(
    logits: Any, tokens: Sequence[str], temperatures: Sequence[float] = (1, 2, 4), k: int = 8
) -> Figure:
    """A teacher's `k` best guesses for one masked word, softmax(logits / T); `logits` (vocab,), `tokens` the words."""
    logits = _array(logits)
    if logits.shape != (len(tokens),):
        raise ValueError(f"logits must be one row of {len(tokens)} values, one per token; got shape {logits.shape}")
    if min(temperatures) <= 0:
        raise ValueError(f"temperatures must be positive, got {tuple(temperatures)}")
    best = np.argsort(-logits, kind="stable")[:k]
    figure, axes = plt.subplots(
        1,
        len(temperatures),
        sharex=True,
        sharey=True,
        squeeze=False,
        figsize=(2.6 * len(temperatures) + 0.6, 0.8 + 0.26 * len(best)),
    )
    for ax, temperature in zip(axes[0], temperatures, strict=True):
        odds = np.exp((logits - logits.max()) / temperature)
        probabilities = odds / odds.sum()
        ax.barh(np.arange(len(best)), probabilities[best], color=COLOURS["teacher"])
        ax.set(title=f"T = {temperature:.3g}", xlabel="probability")
        ax.text(0.97, 0.04, f"all others {1 - probabilities[best].sum():.0%}", transform=ax.transAxes, ha="right")
    axes[0, 0].set_yticks(np.arange(len(best)), [_plain(tokens[index]) for index in best])
    axes[0, 0].invert_yaxis()
    figure.suptitle("A higher temperature shows more of the teacher's other guesses", x=0, ha="left")
    return figure


def _array(values: Any) -> np.ndarray:
    """Numbers from a list, an array or a tensor of any kind."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values, dtype=float)


def _plain(token: str) -> str:
    """A token as it is to be read: a $ starts no formula."""
    return token.replace("$", r"\$")


@_styled
def plot_guesses(guesses: Mapping[str, Sequence[tuple[str, float]]]) -> Figure:
    """What each model says for the hidden word: its best guesses (word, probability), a panel per model."""
    most = max(len(best) for best in guesses.values())
    figure, axes = plt.subplots(
        1, len(guesses), sharex=True, squeeze=False, figsize=(2.9 * len(guesses) + 0.4, 0.9 + 0.28 * most)
    )
    for ax, (model, best), colour in zip(axes[0], guesses.items(), _colours(list(guesses)), strict=True):
        bars = ax.barh(range(len(best)), [probability for _, probability in best], color=colour)
        ax.bar_label(bars, [f"{probability:.0%}" for _, probability in best], padding=3)
        ax.set_yticks(range(len(best)), [_plain(word) for word, _ in best])
        ax.set(title=model, xlabel="probability", xlim=(0, 1.15), ylim=(most - 0.4, -0.6), xticks=(0, 0.5, 1))
    return figure


@_styled
def plot_masking(tokens: Sequence[str], shares: Mapping[str, Any]) -> Figure:
    """How often each token of a sentence is hidden: `shares` is a label → one share per token."""
    pairs = {label: _array(values) for label, values in shares.items()}
    if not pairs or any(values.shape != (len(tokens),) for values in pairs.values()):
        raise ValueError(f"each setting needs {len(tokens)} shares, one per token")
    figure, ax = plt.subplots(figsize=(min(max(6, 2 + 0.4 * len(tokens)), 12), 3.2))
    places, width = np.arange(len(tokens)), 0.8 / len(pairs)
    for i, ((label, values), colour) in enumerate(zip(pairs.items(), (GREY, COLOURS["student"], BLACK), strict=False)):
        ax.bar(places + (i + 0.5) * width - 0.4, values, width, color=colour, label=label)
    ax.set_xticks(places, [_plain(token) for token in tokens], rotation=90)
    ax.set(ylabel="share of the draws", xlim=(-0.6, len(tokens) - 0.4), title="How often each word is hidden")
    ax.legend(ncols=len(pairs), loc="lower right", bbox_to_anchor=(1, 1))
    return figure


@_styled
def plot_layer_choice(
    alike: Any, layers: Sequence[int], cosines: Sequence[float], parameters: tuple[int, int]
) -> Figure:
    """A choice of teacher layers: how `alike` the teacher's layers are (embeddings first, (layers + 1)²), with the
    chosen ones ringed; the cosine of each student layer with the layer it came from; (student, teacher) parameters."""
    alike, (student, teacher) = _array(alike), parameters
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4), width_ratios=(6, 5))
    image = left.imshow(alike, origin="lower", cmap="cividis", vmin=0, vmax=1)
    left.plot(*[[layer + 1 for layer in layers]] * 2, "o", mfc="none", mec="black", mew=1.5, ms=11)
    names = ["e", *range(len(alike) - 1)]
    left.set_xticks(range(len(alike)), names)
    left.set_yticks(range(len(alike)), names)
    left.set(
        title="how alike the teacher's layers are",
        xlabel="e: embeddings, then layers; rings: chosen",
        ylabel="teacher layer",
    )
    figure.colorbar(image, label="CKA", shrink=0.8)
    bars = right.barh(range(len(layers)), cosines, color=COLOURS["student"])
    right.bar_label(bars, [f"{value:.2f}" for value in cosines], padding=3)
    right.set_yticks(range(len(layers)), [f"{own} from {layer}" for own, layer in enumerate(layers)])
    right.set(title="cosine with the layer it came from", xlabel="before training", xlim=(min(0, *cosines), 1.15))
    figure.suptitle(
        f"{len(layers)} of {len(alike) - 1} layers: {student:,} parameters, {1 - student / teacher:.1%} "
        f"fewer than the teacher's {teacher:,}",
        x=0,
        ha="left",
    )
    return figure


@_styled
def plot_loss_weights(values: Mapping[str, float], gram: Any, weights: Mapping[str, float]) -> Figure:
    """What weights do to the three losses of a batch: each one's share of the sum and of the gradients' lengths, and
    the cosine of its gradient with that of the sum. `gram` holds the dot products of the gradients, (terms, terms)."""
    gram, w = _array(gram), np.array([weights[name] for name in values])
    lengths, pull = w * np.sqrt(gram.diagonal()), gram @ w
    shares = {"the sum": w * list(values.values()), "gradients": lengths}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 2.6), width_ratios=(3, 2))
    ends = np.zeros(2)
    for i, name in enumerate(values):
        parts = np.array([part[i] / part.sum() for part in shares.values()])
        bars = left.barh(list(shares), parts, left=ends, height=0.6, color=TERMS[name], edgecolor="white")
        left.bar_label(
            bars,
            [f"{name} {part:.0%}" if part > 0.1 else "" for part in parts],
            label_type="center",
            color="black" if name == "mlm" else "white",
        )
        ends += parts
    left.invert_yaxis()
    left.set(title=f"L = {shares['the sum'].sum():.2f}", xlim=(0, 1), xlabel="share")
    left.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
    cosines = pull / np.sqrt(gram.diagonal() * (w @ pull))
    bars = right.barh([f"L_{name}" for name in values], cosines, color=[TERMS[name] for name in values])
    right.bar_label(bars, [f"{cosine:+.2f}" for cosine in cosines], padding=3)
    right.invert_yaxis()
    right.axvline(0, color=GREY, lw=0.8)
    right.set(title="cosine with the gradient of the sum", xlim=(-0.4, 1.25))
    strongest = list(values)[int(lengths.argmax())]
    figure.suptitle(f"L_{strongest} pulls hardest at weights {' / '.join(f'{value:g}' for value in w)}", x=0, ha="left")
    return figure


@_styled
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
        for i, (model, colour) in enumerate(zip(pairs, _colours(list(pairs)), strict=True)):
            shown = pairs[model][side]
            ax.bar(places + (i + 0.5) * width - 0.4, shown, width, color=colour, label=model)
            if shown.sum() < 0.995:
                ax.text(1.01, 0.9 - 0.16 * i, f"elsewhere {1 - shown.sum():.0%}", transform=ax.transAxes, color=colour)
        if answer is not None:
            ax.axvspan(answer[0] - 0.5, answer[1] + 0.5, color=GREY, alpha=0.2, lw=0, zorder=0, label="answer")
        ax.set(ylabel=f"probability\nof {what}", xlim=(-0.6, len(tokens) - 0.4), ylim=(0, highest))
    axes[1].set_xticks(places, [_plain(token) for token in tokens], rotation=90)
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=len(pairs) + 1, loc="outside lower center")
    axes[0].set_title("Where the answer begins and ends")
    return figure


@_styled
def plot_curve(records: Sequence[Record] | Record, term: str = "loss") -> Figure:
    """Training curves of run records against tokens: loss left, held-out MLM loss and agreement right.

    One record shows every loss term that it has; several show `term` with one line per record. Columns come from
    `record["curve"]` and `record["evaluations"]`; a column that a record lacks is left out, a term
    without a weight too, and the panel of agreement where runs were evaluated without a teacher.
    """
    records = [records] if isinstance(records, Mapping) else list(records)
    if not records:
        raise ValueError("no records to draw: run something first, or load published ones")
    judged = [record["evaluations"] for record in records if record.get("evaluations")]
    agree = not judged or any(value is not None for columns in judged for value in columns.get("agreement", []))
    panels = [["loss", "mlm_loss"], ["loss", "agreement"]] if agree else [["loss", "mlm_loss"]]
    figure, axes = plt.subplot_mosaic(panels, figsize=(8.5, 4))
    if len(records) == 1:
        for name, colour in TERMS.items():
            if any((records[0].get("curve") or {}).get(name, [])):  # all zero: it had no weight
                _line(axes["loss"], records[0].get("curve"), name, label=name, color=colour)
    names, roles = [r["name"] for r in records], [r.get("model", r["name"]) for r in records]
    told = [
        role if roles.count(role) == 1 or name.startswith(role) else name
        for role, name in zip(roles, names, strict=True)
    ]
    colours = _colours(told if len(set(told)) == len(told) else names)
    for record, colour in zip(records, colours, strict=True):
        if len(records) > 1:
            _line(axes["loss"], record.get("curve"), term, label=record["name"], color=colour)
        for column in set(axes) - {"loss"}:
            _line(axes[column], record.get("evaluations"), column, label=record["name"], color=colour, marker="o")
    title = "training loss, by term" if len(records) == 1 else f"training: {term}"
    axes["loss"].set(title=title, xlabel="tokens (millions)")
    axes["mlm_loss"].set(title="held-out MLM loss")
    if agree:
        axes["agreement"].set(title="agreement with the teacher")
    axes["agreement" if agree else "mlm_loss"].set(xlabel="tokens (millions)")
    axes["loss"].legend(*axes["loss"].get_legend_handles_labels())
    return figure


def _line(ax: Axes, columns: Mapping[str, Sequence[float | None]] | None, name: str, **look: Any) -> None:
    """Draw a column against tokens; nulls are gaps, a column that is missing or all null draws nothing."""
    values = np.asarray((columns or {}).get(name, []), dtype=float)
    if np.isfinite(values).any():
        ax.plot(np.asarray(columns["tokens"], dtype=float) / 1e6, values, markersize=4, **look)


def _colours(names: Sequence[str]) -> list[str]:
    """The fixed colour of each role; other names take the palette's unused colours in order."""
    names = [ROLES.get(name, name) for name in names]
    spare = [colour for colour in PALETTE if colour not in COLOURS.values()]
    others = [name for name in dict.fromkeys(names) if name not in COLOURS]
    return [COLOURS.get(name) or spare[others.index(name) % len(spare)] for name in names]


@_styled
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
    for place, (model, colour) in enumerate(zip(models, _colours(models), strict=True)):
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
    parts = {record["task"] for record in records if results.is_subset(record)}
    ax.set_xticks(range(len(tasks)), [f"{task}\nsubset" if task in parts else task for task in tasks])


def _dots(ax: Axes, records: Sequence[Record], tasks: Sequence[str], shift: float, colour: str, label: str) -> None:
    """One model's filled dots (medians over seeds) with whiskers from the lowest to the highest seed."""
    scores = {task: [r["scores"]["main"] for r in records if r["task"] == task] for task in tasks}
    drawn = {tasks.index(task) + shift: values for task, values in scores.items() if values}
    middles = np.array([np.median(values) for values in drawn.values()])
    below = middles - [min(values) for values in drawn.values()]
    above = [max(values) for values in drawn.values()] - middles
    ax.errorbar(list(drawn), middles, yerr=[below, above], fmt="o", color=colour, capsize=3, label=label)


@_styled
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


@_styled
def plot_published(published: Scores, measured: Scores | None = None, title: str = "") -> Figure:
    """Scores of the paper's tables by column and model: the paper's hollow, ours (`measured`, same shape) filled."""
    models, columns = list(published), list(dict.fromkeys(c for scores in published.values() for c in scores))
    figure, ax = plt.subplots(figsize=(3.6 + 0.6 * len(columns), 3.6))
    for place, (model, colour, shape) in enumerate(zip(models, _colours(models), "sDov^", strict=False)):
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


@_styled
def plot_seconds(table: pd.DataFrame) -> Figure:
    """Table 3's seconds for one pass over STS-B's dev set, hollow: printed, not ours, and of another machine."""
    seconds = table.set_index("model")["seconds"]
    figure, ax = plt.subplots(figsize=(7, 0.9 + 0.45 * len(seconds)))
    bars = ax.barh(list(seconds.index), seconds, height=0.6, fc="none", ec=_colours(list(seconds.index)), lw=1.5)
    ax.bar_label(bars, [f"{value:,} s" for value in seconds], padding=5)
    ratio = seconds["BERT-base"] / seconds["DistilBERT"]
    ax.set(xlabel="seconds, one pass over STS-B dev, batch 1, CPU (paper)", xlim=(0, 1.15 * seconds.max()))
    ax.set_title(f"DistilBERT answers {ratio:.2f} times as fast as BERT-base")
    ax.invert_yaxis()
    return figure


@_styled
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


@_styled
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


@_styled
def plot_ablation(rows: Sequence[Mapping[str, Any]], scale: str, score: str = "the macro score (points)") -> Figure:
    """Table 4 (left, hollow) and ours (right, filled, with intervals over paired seeds), each on its own axis.

    `rows` are those of `ablation.compare`, of the macro score or another `score`, as it is to be read. The axes differ
    because models, tasks and budgets do.
    """
    rows = [row for row in rows if row["mean"] is not None]
    if not rows:
        raise ValueError("no differences to draw: an ablation needs the triple loss and another variant, same seed")
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(9.5, 1.4 + 0.36 * len(rows)), width_ratios=(2, 3))
    heights = np.arange(len(rows))
    published = [np.nan if row["paper"] is None else row["paper"] for row in rows]
    left.plot(published, heights, "D", mfc="none", color=COLOURS["paper"])
    if np.isnan(published).all():
        left.text(-1.85, len(rows) / 2 - 0.5, "not in Table 4", ha="center", color=GREY)
    for height, row in zip(heights, rows, strict=True):
        if row["low"] is not None:
            right.plot([row["low"], row["high"]], [height, height], color=COLOURS["student"], lw=2)
        right.plot(row["deltas"], [height] * len(row["deltas"]), "|", color=GREY, ms=9)
        right.plot(row["mean"], height, "o", color=COLOURS["student"])
    pairs = max(len(row["deltas"]) for row in rows)
    counted = f"{pairs} pairs and their interval" if pairs > 1 else "one pair, no interval"
    for ax, title in ((left, "Table 4: one number each"), (right, f"ours, {scale}: {counted}")):
        ax.axvline(0, color=GREY, lw=0.8, zorder=0)
        ax.set(title=title, xlabel=f"change of {score}")
    left.set(xlabel="change of the macro score (points)")
    left.set_yticks(heights, [row["title"] for row in rows])
    left.set(ylim=(len(rows) - 0.5, -0.5), xlim=(-4.4, 0.7))
    return figure


@_styled
def plot_pairs(rows: Sequence[Mapping[str, Any]], scale: str, score: str = "the macro score (points)") -> Figure:
    """The seed spread of an ablation: macro score of each variant, or another `score`, a line through each seed's runs.

    Parallel lines mean that variants differ and seeds do not matter; crossing ones, the reverse.
    """
    figure, ax = plt.subplots(figsize=(1.5 + 0.85 * len(rows), 3.6))
    seeds = sorted({seed for row in rows for seed in row["values"]})
    for seed, shape in zip(seeds, "osDv^<>ph*", strict=False):
        values = [row["values"].get(seed, np.nan) for row in rows]
        ax.plot(
            range(len(rows)), values, shape, ls="-", lw=0.8, color=COLOURS["student"], mfc="white", label=f"seed {seed}"
        )
    ax.set_xticks(range(len(rows)), [row["variant"] for row in rows], rotation=25, ha="right")
    ax.set(ylabel=score.removeprefix("the "), title=f"{scale}: what a seed changes, beside what a variant changes")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@_styled
def plot_heldout(records: Sequence[Record]) -> Figure:
    """Held-out MLM loss of an ablation's variants against tokens, the mean over seeds, lowest to highest shaded: all of
    them, then those that start from the teacher's layers. A variant that was not trained is a dashed line."""
    variants = [v for v in ablation.VARIANTS if any(r["model"] == v for r in records)]
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8))
    for variant, colour in zip(variants, [BLACK, *PALETTE], strict=False):
        runs = [r for r in records if r["model"] == variant]
        for ax in axes[: 1 if ablation.VARIANTS[variant].init == "random" else 2]:
            _losses(ax, runs, colour)
    for ax, title in zip(axes, ("all variants", "those from the teacher's layers, closer"), strict=True):
        ax.set(xlabel="tokens (thousands)", ylabel="held-out MLM loss", title=title)
    axes[1].legend(*axes[0].get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _losses(ax: Axes, runs: Sequence[Record], colour: str) -> None:
    """One variant's held-out losses, over its seeds."""
    if runs[0]["evaluations"] is None:
        ax.axhline(np.mean([r["scores"]["mlm_loss"] for r in runs]), color=colour, ls="--", label=runs[0]["title"])
        return
    losses = np.array([r["evaluations"]["mlm_loss"] for r in runs])  # (seeds, evaluations)
    tokens = np.asarray(runs[0]["evaluations"]["tokens"]) / 1e3
    ax.fill_between(tokens, losses.min(0), losses.max(0), color=colour, alpha=0.2, lw=0)
    first = runs[0]["model"] == ablation.REFERENCE  # dotted and on top: a variant that equals it shines through
    ax.plot(
        tokens,
        losses.mean(0),
        "o:" if first else "o-",
        ms=4,
        color=colour,
        zorder=3 if first else 2,
        label=runs[0]["title"],
    )


@_styled
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


@_styled
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


@_styled
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


def fitting(
    record: Record, megabytes: float = np.inf, milliseconds: float = np.inf, points: float = np.inf
) -> pd.DataFrame:
    """The student's formats in a benchmark record and whether each `fits` a device: at most so many megabytes on disk,
    milliseconds for an answer, and points of accuracy lost.

    A format whose accuracy was not measured fits only where any loss is allowed.
    """
    lost = {row["format"]: row["lost"] for row in record["accuracy"]["rows"]}
    rows = pd.DataFrame(
        [
            {
                "format": row["format"],
                "MB": row["bytes"] / 1e6,
                "ms": row["ms"][1],
                "points lost": lost.get(row["format"]),
            }
            for row in record["formats"]
            if row["model"] == "student"
        ],
        columns=["format", "MB", "ms", "points lost"],
    )
    costs = rows["points lost"].astype(float).fillna(np.inf)
    rows["fits"] = (rows["MB"] <= megabytes) & (rows["ms"] <= milliseconds) & (costs <= points)
    return rows


@_styled
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
    _label(ax, first["bytes"] / 1e6, first["ms"][1], "teacher, PyTorch float32", taken)
    for row in rows.to_dict("records"):
        cost = "accuracy not measured" if pd.isna(row["points lost"]) else f"{0 - row['points lost']:+.2f} points"
        _label(
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


@_styled
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


def drawings(records: Sequence[Record]) -> dict[str, Figure]:
    """Every figure that the paper's numbers and these records give, by the name of its file."""
    base = {"BERT-base": BertConfig(), "DistilBERT": student_config(BertConfig())}
    groups = {model: parameter_groups(config, head=False) for model, config in base.items()}
    speeds, glue = paper.table("table3_speed"), paper.table("table1_glue")
    drawn = {
        "figure1_parameter_counts": plot_parameter_counts(paper.table("figure1_parameters")),
        "layer_map": plot_layer_map(choose_layers("original", 12, 6), 12),
        "table1_glue": plot_published(_published("table1_glue", "task"), title="Table 1: GLUE, medians of 5 runs"),
        "table1_vintages": plot_vintages(glue),
        "table2_downstream": plot_published(
            _published("table2_downstream", "task", "metric"), title="Table 2: a second stage (D) narrows the gap"
        ),
        "table3_parameter_groups": plot_parameter_groups(
            groups, speeds.set_index("model")["parameters_millions"].to_dict()
        ),
        "table3_seconds": plot_seconds(speeds),
    }
    answering = {model: parameter_groups(config, head="qa") for model, config in base.items()}
    drawn["device_files"] = plot_file_sizes(paper.table("device_files"), answering)
    for record in (r for r in records if r["kind"] == "benchmark" and r.get("growth")):
        drawn[record["name"].removeprefix("benchmark-").replace("-", "_")] = plot_growth(record)
    for record in (r for r in records if r["kind"] == "benchmark" and "timings" in r):
        place = record["name"].removeprefix("benchmark-").replace("-", "_")
        drawn[f"table3_overhead_{place}"] = plot_overhead(record)
        if record["sweeps"]:
            drawn[f"table3_sweeps_{place}"] = plot_sweeps(record)
        if record["formats"]:
            drawn[f"device_formats_{place}"] = plot_formats(record)
    for scale in dict.fromkeys(r["scale"] for r in records if r["kind"] != "benchmark"):
        drawn |= {f"{scale}_{name}": figure for name, figure in _training([r for r in records if r["scale"] == scale])}
    return drawn


def _training(records: Sequence[Record]) -> Iterator[tuple[str, Figure]]:
    """The figures of what was trained at one scale."""
    kinds = {kind: [r for r in records if r["kind"] == kind] for kind in ("teacher", "distillation", "finetuning")}
    for kind in ("teacher", "distillation"):
        if kinds[kind]:
            yield f"{kind}_curve", plot_curve(kinds[kind], "mlm" if len(kinds[kind]) > 1 else "loss")
    if kinds["finetuning"]:
        yield "tasks", plot_scores(kinds["finetuning"])
    if {"teacher", "student"} <= {r["model"] for r in kinds["finetuning"]}:
        yield "retention", plot_retention(kinds["finetuning"])
    ablated = [r for r in records if r["kind"] == "ablation" and r["grid"] == f"ablation-{r['scale']}"]
    if len({r["model"] for r in ablated}) > 1:
        rows, scale = ablation.compare(ablated).rows, ablated[0]["scale"]
        yield "ablation", plot_ablation(rows, scale)
        yield "ablation_seeds", plot_pairs(rows, scale)
        yield "ablation_curves", plot_heldout(ablated)


def _published(table: str, *column: str) -> dict[str, dict[str, float]]:
    """One of the paper's tables of scores (version 4) as model → column → value."""
    found: dict[str, dict[str, float]] = {}
    for row in paper.table(table).query("vintage == '2020-03'").to_dict("records"):
        name = " ".join(row[c].replace("exact_match", "EM").replace("f1", "F1") for c in column)
        found.setdefault(row["model"], {})[name] = row["value"]
    return found


def draw_all(folder: Path | None = None) -> list[Path]:
    """Redraw every figure from the paper's numbers and the records (published ones, and yours); the files written."""
    drawn = drawings(results.load_all())
    return [path for name, figure in drawn.items() for path in save_figure(figure, name, folder)]
