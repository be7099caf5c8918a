"""The common style of all figures: colours by role, the finding as title, labels at the lines, byte-stable files."""

import html
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import Locator, NullLocator
from matplotlib.transforms import Bbox
from PIL import Image

from ... import paths
from ...evidence.names import human_name
from .describing import describe

PALETTE = sns.color_palette("colorblind").as_hex()
GREY = "#6b6b6b"
BLACK = "#222222"
# each colour belongs to one role and to nothing else
COLOURS = dict(
    teacher=PALETTE[0],
    student=PALETTE[1],
    undistilled=PALETTE[2],
    random=PALETTE[4],
    scratch=PALETTE[7],
    untrained=PALETTE[9],
    student_d="#7a4419",
    paper=BLACK,
)
PAPER_ROLES = {"BERT-base": "teacher", "DistilBERT": "student"}  # the paper's models have the colours of ours
# for losses, groups of parameters and variants: Paul Tol's muted scheme, safe for the colour-blind
MUTED = ("#332288", "#cc6677", "#117733", "#ddcc77", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499")
TERMS = dict(loss=BLACK, ce=MUTED[0], mlm=MUTED[1], clm=MUTED[1], cos=MUTED[6])
SUFFIXES = ("svg", "pdf", "png")
METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
WIDTH = 6.0  # inches of every figure: 900 pixels at 150 dots per inch
LETTERS = 1.4  # of seaborn's "paper" sizes: the smallest are 11 pixels high where a figure is 390 pixels wide, a phone
WIDEST = 900  # pixels of a png
_projector = ContextVar("projector", default=False)


@contextmanager
def style(projector: bool = False) -> Iterator[None]:
    """Apply the style of all figures inside `with style():`, with larger letters for a `projector`.

    Figures of the package keep their layout there; `lessons.display.picture` shows them half as large again.
    """
    ours = {
        "font.sans-serif": ["DejaVu Sans"],
        "figure.constrained_layout.use": True,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.handlelength": 1.5,
        "legend.columnspacing": 1.5,
        "savefig.dpi": 150,
        "svg.hashsalt": "distilnb",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }
    scale = sns.plotting_context("paper", font_scale=2.0 if projector else LETTERS)
    before = _projector.set(projector or projecting())
    try:
        with mpl.rc_context({**scale, **sns.axes_style("ticks"), **ours}):
            yield
    finally:
        _projector.reset(before)


def projecting() -> bool:
    """Whether figures are drawn for a projector, inside `with style(projector=True):`."""
    return _projector.get()


def to_svg(figure: Figure) -> str:
    """A figure as the text of an <svg> element with its description, for a page that needs no other file."""
    with style():
        fix_layout(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawn, told = text.getvalue(), html.escape(describe(figure))
    return drawn[drawn.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{told}" ', 1)


def to_png(figure: Figure, dpi: float = 150) -> bytes:
    """A figure as the bytes of a small png file, for a widget."""
    drawn = io.BytesIO()
    with style():
        figure.savefig(drawn, format="png", dpi=dpi)
    return reduce_png(drawn.getvalue())


def reduce_png(png: bytes) -> bytes:
    """The bytes of a png file in 128 colours on white: a third of the size, without a visible change."""
    picture, small = Image.open(io.BytesIO(png)).convert("RGBA"), io.BytesIO()
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def save_figure(figure: Figure, name: str, folder: Path | None = None, formats: Sequence[str] = SUFFIXES) -> list[Path]:
    """Write `name.svg`, `.pdf` and `.png`, the same bytes each time, into `figures/` or `folder`; return the paths.

    A png is at most `WIDEST` pixels wide.
    """
    if not set(formats) <= set(SUFFIXES):
        raise ValueError(f"unknown format in {tuple(formats)}; choose from: {', '.join(SUFFIXES)}")
    folder = paths.home() / "figures" if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.{format}" for format in formats]
    with style():
        fix_layout(figure)
        for path, format in zip(written, formats, strict=True):
            dots = {"dpi": min(150, WIDEST // figure.get_figwidth())} if format == "png" else {}
            figure.savefig(path, format=format, metadata=METADATA[format], **dots)
    return written


def styled(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """A plot function in the project's style, which adds the scale of the records that it draws to the finding; its
    figure is removed from pyplot, so that it is not shown twice."""

    @wraps(plot)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with style():
            figure = plot(*args, **kwargs)
            if scales := _scales_of(args):
                for text in (text for text in figure.findobj(Text) if text.get_gid() == "finding"):
                    text.set_text(f"{text.get_text()} (scale {', '.join(scales)})")
            fix_layout(figure)
        plt.close(figure)
        return figure

    return drawn


def _scales_of(args: Sequence[Any]) -> list[str]:
    """The scales of the records among a plot function's arguments, which are records or lists of them; none of a record
    whose models are of many sizes."""
    lists = [[one] if isinstance(one, Mapping) else one if isinstance(one, list | tuple) else [] for one in args]
    records = [one for some in lists for one in some if isinstance(one, Mapping) and {"kind", "scale"} <= one.keys()]
    return list(dict.fromkeys(record["scale"] for record in records if not record.get("growth")))


def fix_layout(figure: Figure) -> None:
    """Fix the layout of the figure, because a layout computed anew at each draw moves by fractions of a point.

    Before, findings are wrapped to the room right of the first panel's left edge, where they begin.
    """
    figure.draw_without_rendering()
    left = min((ax.get_position().x0 for ax in figure.axes), default=0)
    for text in (text for text in figure.findobj(Text) if text.get_gid() == "finding"):
        letters = 72 * (1 - left) * figure.get_figwidth() / (0.58 * text.get_fontsize())
        text.set_text(textwrap.fill(" ".join(text.get_text().split()), int(letters)))
    for _ in range(2):  # because the choice of ticks follows the room, and the room follows the ticks
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for text in (text for text in figure.texts if text.get_gid() == "finding"):
        text.set_x(min(ax.get_position().x0 for ax in figure.axes))


def fit(figure: Figure) -> None:
    """Make a figure that a lesson drew at most as wide as all others, with its titles wrapped to that."""
    if not isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):  # one of ours, whose layout is fixed
        return
    for ax in figure.axes:
        ax.title.set_gid("finding")
        ax._left_title.set_gid("finding")  # which matplotlib gives out by its text alone
    figure.set_figwidth(min(WIDTH, figure.get_figwidth()))
    with style():
        fix_layout(figure)


def finding(where: Axes | Figure, text: str) -> None:
    """Write the finding as the title of a panel or of the whole figure; `fix_layout` wraps it."""
    if isinstance(where, Figure):
        where.suptitle(text, x=0, ha="left", fontsize=mpl.rcParams["axes.titlesize"]).set_gid("finding")
    else:
        where.set_title(text).set_gid("finding")


def legend_below(figure: Figure, ax: Axes | None = None) -> None:
    """Write the legend of one panel, or of all, below the figure, in as many columns as its width allows."""
    entries = ax.get_legend_handles_labels() if ax else ()
    for columns in (4, 3, 2, 1):
        legend = figure.legend(*entries, ncols=columns, loc="outside lower left")
        if columns == 1 or legend.get_window_extent(figure.canvas.get_renderer()).width < figure.bbox.width:
            return
        legend.remove()


def hollow(ax: Axes, x: Sequence[float], y: Sequence[float], label: str = "paper", **look: Any) -> None:
    """Draw values of the paper as hollow diamonds."""
    ax.plot(list(x), list(y), "D", **({"mfc": "white", "mec": COLOURS["paper"], "label": label} | look))


def dots(ax: Axes, places: Sequence[float], groups: Sequence[Sequence[float]], **look: Any) -> None:
    """Draw the medians of groups of values as filled dots, with whiskers from the lowest to the highest value."""
    middles = np.array([np.median(values) for values in groups])
    below = middles - [min(values) for values in groups]
    above = [max(values) for values in groups] - middles
    ax.errorbar(list(places), middles, yerr=[below, above], **({"fmt": "o", "capsize": 3} | look))


def stack(ax: Axes, names: Sequence[str], parts: Mapping[str, Sequence[float]], least: float = 0) -> np.ndarray:
    """Draw a stacked bar for each name from parts (label → a width for each name), and return the ends of the bars.

    Parts that are nowhere wider than `least` are left white.
    """
    ends = np.zeros(len(names))
    for i, (label, widths) in enumerate(parts.items()):
        if max(widths) >= least:
            ax.barh(list(names), widths, left=ends, height=0.6, color=MUTED[i % len(MUTED)], label=label)
        ends = ends + np.asarray(widths)
    return ends


def end_labels(ax: Axes) -> None:
    """Write each line's label at its right end, in its colour; labels that would touch are pushed apart."""
    ax.figure.draw_without_rendering()
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_") and len(line.get_xdata())]
    ends = []
    for line in lines:
        x, y = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
        last = np.flatnonzero(np.isfinite(y))[-1]
        ends.append((ax.transData.transform((x[last], y[last]))[1] * 72 / ax.figure.dpi, x[last], y[last], line))
    above, gap = -np.inf, 1.2 * mpl.rcParams["font.size"]
    for height, x, y, line in sorted(ends, key=lambda end: end[0]):
        shift = max(0.0, above + gap - height)
        above = height + shift
        ax.annotate(
            line.get_label(), (x, y), (7, shift), textcoords="offset points", va="center", color=line.get_color()
        )


def set_ticks(axis: Axis, where: Locator, text: str) -> None:
    """Put the ticks of an axis where a locator says, written by a format of {x}, and no minor ones between."""
    axis.set_major_locator(where)
    axis.set_major_formatter(text)
    axis.set_minor_locator(NullLocator())


def spots(ax: Axes, points: np.ndarray) -> list[Bbox]:
    """The boxes that marks at these points (n, 2) take, for `place_label`."""
    return [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in ax.transData.transform(points)]


def place_label(ax: Axes, x: Any, y: float, text: str, taken: list[Bbox], **look: Any) -> None:
    """Write `text` beside a point, on the first side where it overlaps nothing in `taken`, and add its place."""
    sides = (
        (7, 0, "left", "center"),
        (0, 8, "center", "bottom"),
        (-7, 0, "right", "center"),
        (7, 9, "left", "bottom"),
        (7, -9, "left", "top"),
        (-7, -9, "right", "top"),
        (0, -8, "center", "top"),
    )
    for dx, dy, ha, va in sides:
        note = ax.annotate(text, (x, y), (dx, dy), textcoords="offset points", ha=ha, va=va, **look)
        box = note.get_window_extent()
        if (dx, dy) == (0, -8) or (box.x0 > ax.bbox.x0 and not any(box.overlaps(other) for other in taken)):
            taken.append(box)
            break
        note.remove()


def plain_token(token: str) -> str:
    """A token with $ escaped, so that it starts no formula."""
    return token.replace("$", r"\$")


def colours_of(names: Sequence[str]) -> list[str]:
    """The colours of names: a role's fixed colour; for other names, those of the other palette in order."""
    names = [PAPER_ROLES.get(name, name) for name in names]
    others = [name for name in dict.fromkeys(names) if name not in COLOURS]
    return [COLOURS.get(name) or MUTED[others.index(name) % len(MUTED)] for name in names]


def labels_of(names: Sequence[str]) -> list[str]:
    """The labels of roles and runs in a figure: in words, unless two of them would become equal."""
    told = [human_name(name) for name in names]
    return told if len(set(told)) == len(set(names)) else list(names)
