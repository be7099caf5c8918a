"""Tables written from records: what a run prints at its end, and the README's results. Nothing is typed in."""

from statistics import median
from typing import Any

from . import metrics, paper, tasks
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
            "majority": _baseline(here[0]),
            **{model: _spread(values) for model, values in scores.items()},
        })  # fmt: skip
    return rows


PAPERS = {"teacher": "BERT-base", "student": "DistilBERT", "released": "DistilBERT", "student_d": "DistilBERT (D)"}


def comparison_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each task and model: the paper's number, ours (median, range over seeds, interval), the difference.

    The 95 % interval is that of the seed at the median, over the choice of validation rows. The difference is in
    points; away from base and paper scale it stands in brackets, since another teacher and often other tasks are
    compared.
    """
    rows = []
    runs = [r for r in records if r["kind"] == "finetuning"]
    groups = dict.fromkeys((r["scale"], r["task"], r["model"]) for r in runs)
    tasks = list(dict.fromkeys(task for _, task, _ in groups))
    for scale, task, model in sorted(groups, key=lambda g: (tasks.index(g[1]), g[0], _rank(g[2]))):
        here = [r for r in runs if (r["scale"], r["task"], r["model"]) == (scale, task, model)]
        rows += [_compared(here, task, metric, scale, model) for metric in METRICS_OF.get(task, ("main",))]
    return rows


METRICS_OF = {"squad": ("exact_match", "f1")}  # tasks whose table in the paper has several columns


def _compared(here: list[dict[str, Any]], task: str, metric: str, scale: str, model: str) -> dict[str, Any]:
    values = [100 * r["scores"][metric] for r in here]
    middle = sorted(here, key=lambda r: r["scores"][metric])[(len(here) - 1) // 2]
    main = metric in ("main", "f1")
    low, high = middle["interval"] if main else (None, None)
    printed = _printed(task, metric, model)
    delta = "" if printed is None else f"{median(values) - printed:+.1f}"
    baseline = here[0]["scores"].get("majority") if main else None
    return {
        "task": task + (f" {metric}" if metric != "main" else ""), "model": model, "scale": scale, "seeds": len(here),
        "majority": "–" if baseline is None else f"{100 * baseline:.1f}",
        "paper": "–" if printed is None else f"{printed:.1f}", "measured": f"{median(values):.1f}",
        "min–max": f"{min(values):.1f}–{max(values):.1f}",
        "95 % interval": "–" if low is None else f"{100 * low:.1f}–{100 * high:.1f}",
        "delta": "–" if printed is None else (delta if scale in ("base", "paper") else f"({delta})"),
    }  # fmt: skip


def _printed(task: str, metric: str, model: str) -> float | None:
    """What the paper prints for this task and role, if it does."""
    if model not in PAPERS:
        return None
    try:
        if task in ("imdb", "squad"):
            return paper.downstream(PAPERS[model], task, "accuracy" if task == "imdb" else metric)
        return paper.glue(PAPERS[model], task)
    except ValueError:  # no such cell: DistilBERT (D) has none but SQuAD's
        return None


def macro_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each scale and model that has all nine tasks of GLUE: medians over seeds, averaged over tasks.

    With WNLI and without it (an adversarial split on which the majority class is hard to beat), and by BERT's
    convention, where MRPC and QQP count by F1 and STS-B by Spearman instead of the mean of two metrics.
    """
    rows, runs = [], [r for r in records if r["kind"] == "finetuning" and r["task"] in tasks.GLUE]
    for scale, model in dict.fromkeys((r["scale"], r["model"]) for r in sorted(runs, key=lambda r: _rank(r["model"]))):
        here = [r for r in runs if (r["scale"], r["model"]) == (scale, model)]
        missing = [name for name in tasks.GLUE if name not in {r["task"] for r in here}]
        row = {"model": model, "scale": scale}
        printed = paper.glue(PAPERS[model], "macro") if PAPERS.get(model) in ("BERT-base", "DistilBERT") else None
        if missing:
            gap = f"not run: {', '.join(missing)}"
            rows.append(row | {"paper": "–" if printed is None else f"{printed:.1f}", "macro": gap,
                               "without WNLI": "–", "BERT's convention": "–"})  # fmt: skip
            continue
        main, berts = (
            {name: median(100 * metrics.main_score(convention(tasks.TASKS[name]), r["scores"]) for r in here
                          if r["task"] == name) for name in tasks.GLUE}
            for convention in (lambda task: task.main, lambda task: task.main_of_bert)
        )  # fmt: skip
        most = [name for name in tasks.GLUE if name != "wnli"]
        rows.append(row | {
            "paper": "–" if printed is None else f"{printed:.1f}", "macro": f"{metrics.macro(main, tasks.GLUE):.1f}",
            "without WNLI": f"{metrics.macro(main, most):.1f}",
            "BERT's convention": f"{metrics.macro(berts, tasks.GLUE):.1f}",
        })  # fmt: skip
    return rows


def comparison(records: list[dict[str, Any]]) -> str:
    """What `distilnb finetune` and `distilnb glue` print: every cell beside the paper's, and the macro scores."""
    parts = [table(comparison_rows(records))]
    if any(r["task"] in tasks.GLUE for r in records):
        parts.append(table(macro_rows(records)))
    scales = {r["scale"] for r in records} - {"base", "paper"}
    if scales:
        parts.append(f"Scale {', '.join(sorted(scales))}: another teacher than the paper's"
                     f"{', and made-up tasks of the same shapes' if 'toy' in scales else ''}. "
                     "Differences in brackets are no evidence about the paper.")  # fmt: skip
    stand_ins = {r["task"]: r["data"]["stand_in_why"] for r in records if r["data"]["stand_in"] and r["scale"] != "toy"}
    parts += [f"{task} is a stand-in: {why}." for task, why in stand_ins.items()]
    return "\n\n".join(parts)


def _rank(model: str) -> int:
    """Teacher, student, baselines: the order in which a reader compares them."""
    order = ("released", "teacher", "student", "student_d", "undistilled", "undistilled_d", "random")
    return order.index(model) if model in order else len(order)


def _baseline(record: dict[str, Any]) -> str:
    """What reading nothing scores; SQuAD has no such thing."""
    return f"{100 * record['scores']['majority']:.1f}" if "majority" in record["scores"] else "–"


def _spread(values: list[float]) -> str:
    if not values:
        return "not run"
    return f"{median(values):.1f}" + (f" [{min(values):.1f}–{max(values):.1f}]" if len(values) > 1 else "")


def summary(records: list[dict[str, Any]]) -> str:
    """The results tables of these records."""
    parts = [table(rows) for rows in (pretraining_rows(records), finetuning_rows(records)) if rows]
    return "\n\n".join(parts) or table([])
