"""Tables written from records: what a run prints at its end, and the README's results. Nothing is typed in."""

from statistics import median
from typing import Any

from . import ablation
from .progress import duration


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
    for r in sorted(records, key=lambda r: _rank(r["model"])):
        if r["kind"] in ("teacher", "distillation"):
            scores = r["scores"]
            agreement = f"{100 * scores['agreement']:.1f} %" if "agreement" in scores else "–"
            rows.append({
                "run": r["name"], "scale": r["scale"], "model": r["model"],
                "block": r["config"]["seq_length"], "tokens": f"{r['tokens'] / 1e6:.2f} M",
                "held-out MLM loss": f"{scores['mlm_loss']:.3f}", "right guesses": f"{100 * scores['accuracy']:.1f} %",
                "agrees with teacher": agreement, "time": duration(r["wall_seconds"]),
            })  # fmt: skip
    return rows


def finetuning_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each task: the majority baseline and, for each model, median [lowest–highest] over its seeds."""
    records = [r for r in records if r["kind"] == "finetuning"]
    models = list(dict.fromkeys(sorted((r["model"] for r in records), key=_rank)))
    rows = []
    for scale, task in dict.fromkeys((r["scale"], r["task"]) for r in records):
        here = [r for r in records if (r["scale"], r["task"]) == (scale, task)]
        scores = {model: [100 * r["scores"]["main"] for r in here if r["model"] == model] for model in models}
        seeds = {len(values) for values in scores.values() if values}
        rows.append({
            "task": task, "scale": scale, "seeds": "–".join(map(str, sorted(seeds))),
            "majority": f"{100 * here[0]['scores']['majority']:.1f}",
            **{model: _spread(values) for model, values in scores.items()},
        })  # fmt: skip
    return rows


def ablation_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each variant of each grid: median macro score, mean difference from the triple loss with its
    interval over paired seeds, Table 4's difference. ValueError for records that must not be compared."""
    grids = dict.fromkeys((r["grid"], r["scale"]) for r in records if r["kind"] == "ablation")
    return [
        {
            "grid": grid, "scale": scale, "variant": row["title"], "macro": _spread(row["macro"]),
            "difference from triple loss": difference(row), "p": "–" if row["p"] is None else f"{row['p']:.2f}",
            "pairs": str(len(row["seeds"])), "Table 4": "–" if row["paper"] is None else signed(row["paper"]),
        }
        for grid, scale in grids
        for row in ablation.compare([r for r in records if (r.get("grid"), r["scale"]) == (grid, scale)]).rows
    ]  # fmt: skip


def difference(row: dict[str, Any]) -> str:
    """A mean difference with its interval, in points: "−1.2 [−3.0, +0.6]"."""
    if row["mean"] is None:
        return "–"
    interval = "" if row["low"] is None else f" [{signed(row['low'])}, {signed(row['high'])}]"
    return signed(row["mean"]) + interval


def signed(value: float) -> str:
    """Points with their sign, the minus of typesetters: "−0.31"."""
    return f"{value:+.2f}".replace("-", "−")


def _rank(model: str) -> int:
    """Teacher, student, baselines: the order in which a reader compares them."""
    order = ("teacher", "student", "undistilled", "random")
    return order.index(model) if model in order else len(order)


def _spread(values: list[float]) -> str:
    if not values:
        return "not run"
    return f"{median(values):.1f}" + (f" [{min(values):.1f}–{max(values):.1f}]" if len(values) > 1 else "")


def summary(records: list[dict[str, Any]]) -> str:
    """The results tables of these records."""
    parts = [table(rows) for rows in (pretraining_rows(records), finetuning_rows(records), ablation_rows(records))
             if rows]  # fmt: skip
    return "\n\n".join(parts) or table([])
