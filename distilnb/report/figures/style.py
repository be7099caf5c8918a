"""One look for all figures: colours by role, byte-stable files."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from ... import paths

PALETTE = sns.color_palette("colorblind").as_hex()
GREY = "#767676"
BLACK = "#222222"
COLOURS = dict(teacher=PALETTE[0], student=PALETTE[1], undistilled=PALETTE[2], random=PALETTE[4], paper=BLACK)
ROLES = {"BERT-base": "teacher", "DistilBERT": "student"}  # the paper's models have the colours of ours
TERMS = dict(loss=BLACK, ce=PALETTE[0], mlm=PALETTE[1], cos=PALETTE[2])
FORMATS = ("svg", "pdf", "png")
METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
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
        settle(figure)
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
        settle(figure)
        for path, format in zip(written, formats, strict=True):
            figure.savefig(path, format=format, metadata=METADATA[format])
    return written


def styled(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the project's style, then take the figure from pyplot so that it is not shown a second time."""

    @wraps(plot)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with style():
            figure = plot(*args, **kwargs)
            settle(figure)
        plt.close(figure)
        return figure

    return drawn


def settle(figure: Figure) -> None:
    """Lay the figure out once and for all: a layout that is found again at each draw moves by fractions of a point."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def place_label(ax: Axes, x: Any, y: float, text: str, taken: list[Bbox], **look: Any) -> None:
    """Write `text` right of, above or below a point, where it first overlaps nothing `taken`, and take that place."""
    for dx, dy, ha, va in ((7, 0, "left", "center"), (0, 8, "center", "bottom"), (0, -8, "center", "top")):
        note = ax.annotate(text, (x, y), (dx, dy), textcoords="offset points", ha=ha, va=va, **look)
        box = note.get_window_extent()
        if dy < 0 or not any(box.overlaps(other) for other in taken):
            taken.append(box)
            break
        note.remove()


def plain_token(token: str) -> str:
    """A token as it is to be read: a $ starts no formula."""
    return token.replace("$", r"\$")


def colours_of(names: Sequence[str]) -> list[str]:
    """The fixed colour of each role; other names take the palette's unused colours in order."""
    names = [ROLES.get(name, name) for name in names]
    spare = [colour for colour in PALETTE if colour not in COLOURS.values()]
    others = [name for name in dict.fromkeys(names) if name not in COLOURS]
    return [COLOURS.get(name) or spare[others.index(name) % len(spare)] for name in names]
