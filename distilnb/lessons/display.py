"""Tables and pictures of the lessons: HTML where it can be drawn, else plain text, and pictures with a description.

Every notebook uses `table` and `picture`, so that its results are legible on a phone, on a projector and to a reader
who cannot see them.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..report import figures

WIDEST = 900  # pixels, the width of a book page's column and of a projector without scrolling
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
        name = hashlib.sha256(repr(self).encode()).hexdigest()[:8]  # so that the same cell writes the same HTML
        return f'<div style="overflow-x: auto">{styler.set_uuid(name).to_html()}</div>'


def table(rows: pd.DataFrame | pd.Series | Sequence[Mapping[str, Any]], caption: str = "") -> ShownTable:
    """A table of rows (mappings from column to value) or of a data frame, whose index is shown where it has meaning.

    Unformatted numbers get at most three decimals. Raises ValueError when there is no row.
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
        self.figure, self.description, self.dots = figure, description, 150 if figures.projecting() else 100

    def __repr__(self) -> str:
        return f"Figure: {self.description}"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        dpi = min(self.dots, WIDEST / self.figure.get_figwidth())
        png = base64.b64encode(figures.to_png(self.figure, dpi)).decode()
        return {"image/png": png, "text/plain": repr(self)}, {"image/png": {"alt": self.description}}


def picture(figure: Figure) -> Picture:
    """A figure to be shown once, at most as wide as all of them, with a description made from its titles and curves."""
    plt.close(figure)
    figures.fit(figure)
    return Picture(figure, figures.describe(figure))
