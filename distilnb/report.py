"""Tables written from records: what a run prints at its end, and the README's results. Nothing is typed in."""

from statistics import median
from typing import Any

from .export import FORMATS
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


def benchmark_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each benchmark: how many times faster the student is [quartiles], and the same as less time."""
    rows = []
    for r in records:
        if r["kind"] == "benchmark":
            scores, config = r["scores"], r["config"]
            rows.append({
                "run": r["name"], "weights": _kind_of_weights(r), "texts": f"{config['rows']:,} × {r['task']}",
                "forward": _interval(r, "ratio_forward"), "end to end": _interval(r, "ratio_end_to_end"),
                "less time": f"{scores['less_time_end_to_end']:.0f} %",
                "seconds": f"{scores['seconds_teacher']:.1f} → {scores['seconds_student']:.1f}",
                "fewer parameters": f"{scores['smaller']:.1f} %",
                "threads": config["threads"] or r["device"]["cores"], "processor": r["device"]["processor"],
            })  # fmt: skip
    return rows


def format_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each format of a benchmark's student: size, speed, and beside them what it costs in accuracy.

    Where the timed weights are random, the accuracy is that of another, fine-tuned student, whose scale is named.
    """
    rows = []
    for r in (r for r in records if r["kind"] == "benchmark"):
        scored = {row["format"]: row for row in r["accuracy"]["rows"]}
        for form in (form for form in r["formats"] if form["model"] == "student"):
            cost = scored.get(form["format"])
            whose = f"{r['accuracy'].get('scale')} {r['accuracy'].get('task')}"
            rows.append({
                "run": r["name"], "weights": _kind_of_weights(r), "format": FORMATS[form["format"]].title,
                "MB": f"{form['bytes'] / 1e6:.1f}", "ms": f"{form['ms'][1]:.1f}",
                "× teacher float32": f"{form['speedup']:.1f}", "× teacher": f"{form['ratio']:.2f}",
                "accuracy (of)": f"{100 * cost['accuracy']:.1f} ({whose})" if cost else "not measured",
                "points lost": f"{cost['lost']:+.2f}" if cost else "–",
            })  # fmt: skip
    return rows


def _kind_of_weights(record: dict[str, Any]) -> str:
    return "random" if record["weights"]["teacher"].startswith("random:") else "trained"


def _interval(record: dict[str, Any], score: str) -> str:
    low, middle, high = record["intervals"][score]
    return f"{middle:.2f} × [{low:.2f}–{high:.2f}]"


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
    kinds = pretraining_rows, finetuning_rows, benchmark_rows, format_rows
    parts = [table(rows) for rows in (kind(records) for kind in kinds) if rows]
    return "\n\n".join(parts) or table([])
