"""How lessons show tables and pictures: HTML where it can be drawn, plain text elsewhere, pictures with a description.

Every notebook uses these two, `table` and `picture`, so that what is shown is legible on a phone, on a projector and to
a reader who cannot see it.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from ..report import figures

WIDEST = 900  # pixels: the column of a book page, and what a projector shows without scrolling
NUMBER = re.compile(r"^[~≤≥+−-]?[\d,.]*\d( ?[%×M–].*| \[.*|[eE][+-]?\d+)?$|^–?$")


class ShownTable:
    """Rows with column heads: an HTML table that scrolls sideways when it must, else aligned text."""

    def __init__(self, frame: pd.DataFrame, caption: str = "") -> None:
        self.frame, self.caption = frame, caption

    def __repr__(self) -> str:
        with pd.option_context("display.width", None, "display.max_colwidth", None):
            text = self.frame.map(_cell).to_string(index=_named(self.frame))
        return f"{self.caption}\n{text}" if self.caption else text

    def _repr_html_(self) -> str:
        frame = self.frame.map(_cell)
        numbers = [column for column in frame if all(map(NUMBER.match, frame[column]))]
        words = [column for column in frame if column not in numbers]
        styler = frame.style.format(escape="html").format_index(escape="html", axis=0)
        styler = styler.format_index(escape="html", axis=1).set_table_attributes('class="dataframe"')
        styler = styler.set_properties(numbers, **{"text-align": "right"})
        styler = styler.set_properties(words, **{"text-align": "left"})
        if not _named(frame):
            styler = styler.hide(axis="index")
        if self.caption:
            styler = styler.set_caption(self.caption)
        name = hashlib.sha256(repr(self).encode()).hexdigest()[:8]  # the same cell writes the same HTML
        return f'<div style="overflow-x: auto">{styler.set_uuid(name).to_html()}</div>'


def table(rows: pd.DataFrame | pd.Series | Sequence[Mapping[str, Any]], caption: str = "") -> ShownTable:
    """A table of rows (mappings from column to value) or of a data frame, whose index is shown where it has meaning.

    Numbers that are not formatted yet get at most three decimals. Raises ValueError where there is no row.
    """
    frame = rows.to_frame() if isinstance(rows, pd.Series) else pd.DataFrame(rows)
    if frame.empty:
        raise ValueError("there is nothing to show: the table has no rows")
    return ShownTable(frame, caption)


def _named(frame: pd.DataFrame) -> bool:
    return not isinstance(frame.index, pd.RangeIndex)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:,.3f}".rstrip("0").rstrip(".") if 1e-3 <= abs(value) < 1e15 or value == 0 else f"{value:.1e}"
    return f"{value:,}" if isinstance(value, int | np.integer) and not isinstance(value, bool) else str(value)


class Picture:
    """A figure as a png no wider than `WIDEST`, with a description for those who cannot see it."""

    def __init__(self, figure: Figure, description: str) -> None:
        self.figure, self.description = figure, description

    def __repr__(self) -> str:
        return f"Figure: {self.description}"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        dpi = min(100, WIDEST / self.figure.get_figwidth())
        png = base64.b64encode(figures.to_png(self.figure, dpi)).decode()
        return {"image/png": png, "text/plain": repr(self)}, {"image/png": {"alt": self.description}}


def picture(figure: Figure, description: str = "") -> Picture:
    """A figure to be shown once, described by its titles and by what is computed from its curves and bars."""
    plt.close(figure)
    return Picture(figure, description or describe(figure))


def describe(figure: Figure) -> str:
    """A figure in words: its title, then for each panel the ends of its curves, its longest and shortest bars."""
    titles = [figure.get_suptitle(), *(ax.get_title(loc) for ax in figure.axes for loc in ("left", "center"))]
    sentences = [". ".join(dict.fromkeys(filter(None, titles)))]
    sentences += [sentence for ax in figure.axes if (sentence := _panel(ax))]
    return " ".join(f"{' '.join(sentence.split()).rstrip('.')}." for sentence in sentences if sentence)


def _panel(ax: Axes) -> str:
    """What one panel shows, computed from what was drawn in it."""
    facts = [fact for container in ax.containers if (fact := _bars(ax, container))][:4]
    for line in ax.get_lines():
        label = str(line.get_label())
        numbers = [float(value) for value in line.get_ydata() if _is_number(value)]
        if label.startswith("_") or len(numbers) < 2:
            continue
        marks_alone = line.get_linestyle() in ("None", "")  # such as one hollow mark for each task
        facts.append(label if marks_alone else f"{label} goes from {numbers[0]:.3g} to {numbers[-1]:.3g}")
    facts += [
        f"a map of {image.get_array().shape[0]} by {image.get_array().shape[1]} values from "
        f"{image.get_array().min():.2f} to {image.get_array().max():.2f}"
        for image in ax.get_images()
    ]
    names = " against ".join(name.replace("\n", " ") for name in (ax.get_ylabel(), ax.get_xlabel()) if name)
    return "; ".join(([names] if names else []) + facts[:6])


def _is_number(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


def _bars(ax: Axes, container: Any) -> str:
    """The longest and the shortest bar of a group, named by their ticks."""
    if not isinstance(container, BarContainer) or len(container) < 2:
        return ""
    flat = container.orientation == "horizontal"
    sizes = [bar.get_width() if flat else bar.get_height() for bar in container]
    ticks = [text.get_text() for text in (ax.get_yticklabels() if flat else ax.get_xticklabels())]
    if not any(ticks) and ax.figure.axes[0] is not ax:  # panels that share an axis are labelled once
        shared = ax.figure.axes[0]
        ticks = [text.get_text() for text in (shared.get_yticklabels() if flat else shared.get_xticklabels())]
    most, least = (pick(range(len(sizes)), key=lambda i: sizes[i]) for pick in (max, min))
    label = str(container.get_label())
    group = "" if label.startswith("_") else f"{label}: "
    if sizes[most] == sizes[least]:
        return f"{group}all bars {sizes[most]:.3g}"
    if len(ticks) != len(sizes):  # the bars of a histogram have no names
        return f"{group}{len(sizes)} bars from {sizes[least]:.3g} to {sizes[most]:.3g}"
    return f"{group}{ticks[most]} has {sizes[most]:.3g}, {ticks[least]} {sizes[least]:.3g}"
