"""Training and held-out curves (notebook 03)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...evidence.names import held_out_loss, human_name, objective_of, role_of
from ...evidence.records import Record
from .style import COLOURS, GREY, TERMS, WIDTH, colours_of, end_labels, finding, labels_of, legend_below, styled


@styled
def plot_curve(records: Sequence[Record] | Record, term: str = "loss") -> Figure:
    """A figure of training curves against tokens: loss, held-out loss and agreement with the teacher.

    One record shows all its loss terms; several show `term` with one line per record. Columns come from
    `record["curve"]` and `record["evaluations"]`. Missing columns and terms without a weight are left out, and so is
    the panel of agreement where runs were evaluated without a teacher.
    """
    records = [records] if isinstance(records, Mapping) else list(records)
    if not records:
        raise ValueError("no records to draw: run something first, or load published ones")
    judged = [record["evaluations"] for record in records if record.get("evaluations")]
    agree = not judged or any(value is not None for columns in judged for value in columns.get("agreement", []))
    panels = [["loss", "loss"], ["held_out", "agreement"]] if agree else [["loss"], ["held_out"]]
    figure, axes = plt.subplot_mosaic(panels, figsize=(WIDTH, 5.6))
    if len(records) == 1:
        for name, colour in TERMS.items():
            if any((records[0].get("curve") or {}).get(name, [])):  # a term without a weight is all zero
                _line(axes["loss"], records[0].get("curve"), name, label=name, color=colour)
    for record, label, colour in zip(records, *_looks(records), strict=True):
        if len(records) > 1:
            _line(axes["loss"], record.get("curve"), term, label=label, color=colour)
        judged = dict(record.get("evaluations") or {})
        judged["held_out"] = held_out_loss(judged) or []
        for column in set(axes) - {"loss"}:
            _line(axes[column], judged, column, label=label, color=colour, marker="o")
    what = "training loss of the masked words" if term == "mlm" else term
    axes["loss"].set(title=what if len(records) > 1 else "training loss, by term")
    titles = {objective_of(record).title for record in records}
    axes["held_out"].set(title=titles.pop() if len(titles) == 1 else "held-out loss", xlabel="tokens (millions)")
    if agree:
        axes["agreement"].set(title="agreement with teacher", xlabel="tokens (millions)")
    legend_below(figure, axes["loss"])
    if told := _ends(records):
        finding(figure, told)
    return figure


def _ends(records: Sequence[Record]) -> str:
    """The last held-out losses, in words; "" without evaluations."""
    last = [held_out_loss(r.get("evaluations")) for r in records]
    ends = [f"{values[-1]:.2f} ({label})" for label, values in zip(_looks(records)[0], last, strict=True) if values]
    if len(records) == 1 and ends:
        return f"The held-out loss falls from {last[0][0]:.2f} to {last[0][-1]:.2f}"
    return f"Held-out loss at the end: {', '.join(ends)}" if ends else ""


def _looks(records: Sequence[Record]) -> tuple[list[str], list[str]]:
    """A label and a colour for each record: those of its role; where two share one, with what their names add to it."""
    names = [record["name"] for record in records]
    roles = [
        role_of(name) if role_of(name) != name else r.get("model", name) for name, r in zip(names, records, strict=True)
    ]
    alike = [roles.count(role) > 1 for role in roles]
    told = [name if double else role for name, role, double in zip(names, roles, alike, strict=True)]
    added = [name.partition(f"-{record.get('scale')}-")[2] for name, record in zip(names, records, strict=True)]
    labels = [
        f"{human_name(name)}, {more.replace('-', ' ')}" if double and more else label
        for name, more, double, label in zip(names, added, alike, labels_of(told), strict=True)
    ]
    return labels, colours_of(told)


def _line(ax: Axes, columns: Mapping[str, Sequence[float | None]] | None, name: str, **look: Any) -> None:
    """Draw a column against tokens; nulls are gaps, and a missing or all-null column draws nothing."""
    values = np.asarray((columns or {}).get(name, []), dtype=float)
    if np.isfinite(values).any():
        ax.plot(np.asarray(columns["tokens"], dtype=float) / 1e6, values, markersize=4, **look)


@styled
def plot_teaching(student: Record, twin: Record) -> Figure:
    """A figure of the teacher's worth: held-out losses of a student and of its twin, which learns without a teacher."""
    figure, ax = plt.subplots(figsize=(WIDTH, 3.4))
    for record, role in ((twin, "undistilled"), (student, "student")):
        judged = record["evaluations"] | {"held_out": held_out_loss(record["evaluations"])}
        _line(ax, judged, "held_out", label=labels_of([role])[0], color=COLOURS[role], marker="o")
    last = [held_out_loss(record["evaluations"])[-1] for record in (student, twin)]
    x = ax.get_lines()[0].get_xdata()[-1]
    ax.annotate("", (x, last[0]), (x, last[1]), arrowprops={"arrowstyle": "<->", "color": GREY})
    ax.set(xlabel="tokens of text read (millions)", ylabel="held-out loss (nats)", xlim=(-0.02 * x, 1.5 * x))
    ax.set_xticks([tick for tick in ax.get_xticks() if 0 <= tick <= x])
    worth = last[1] - last[0]
    told = f"{'is worth' if worth > 0 else 'costs'} {abs(worth):.2f} nats"
    finding(ax, f"The same start, the same text: the teacher {told}")
    end_labels(ax)
    return figure
