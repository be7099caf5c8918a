"""Tables written from records: what a run prints at its end, and the README's results. Nothing is typed in."""

from typing import Any

from .progress import duration

MARKERS = "<!-- results:{} -->"


def table(rows: list[dict[str, Any]]) -> str:
    """Rows with equal keys as a Markdown table, columns padded so that it also reads well on a terminal."""
    if not rows:
        return "(no records yet)"
    cells = [[str(row[key]) for key in rows[0]] for row in rows]
    widths = [max(map(len, column)) for column in zip(list(rows[0]), *cells, strict=True)]
    lines = [list(rows[0]), ["-" * w for w in widths], *cells]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def pretraining_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each teacher or distillation: budget, held-out loss, agreement with its teacher, time."""
    rows = []
    for r in records:
        if r["kind"] in ("teacher", "distillation"):
            scores = r["scores"]
            agreement = f"{100 * scores['agreement']:.1f} %" if "agreement" in scores else "–"
            rows.append({
                "run": r["name"], "scale": r["scale"], "model": r["model"], "tokens": f"{r['tokens'] / 1e6:.2f} M",
                "held-out MLM loss": f"{scores['mlm_loss']:.3f}", "right guesses": f"{100 * scores['accuracy']:.1f} %",
                "agrees with teacher": agreement, "time": duration(r["wall_seconds"]),
            })  # fmt: skip
    return rows


def summary(records: list[dict[str, Any]]) -> str:
    """The results table of these records."""
    return table(pretraining_rows(records))
