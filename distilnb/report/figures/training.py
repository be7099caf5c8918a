"""Training and held-out curves (notebook 03)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...evidence.records import Record
from .style import TERMS, colours_of, styled


@styled
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
    colours = colours_of(told if len(set(told)) == len(told) else names)
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
