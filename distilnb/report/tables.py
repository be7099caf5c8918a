"""Tables written from records alone: those that a run prints at its end, and the README's results."""

from itertools import groupby
from operator import itemgetter
from statistics import median
from typing import Any

import pandas as pd

from ..evidence import paper
from ..evidence.comparing import is_subset
from ..evidence.names import CAUSAL, ablation_grid, held_out_loss, objective_of, rank, tokens_before
from ..evidence.statistics import mean_interval
from ..machine.device import assumed_watts
from ..machine.progress import duration
from ..models.sources import is_random
from ..studies import ablation
from ..studies.accuracy import averaged, chosen_int8
from ..studies.benchmark import ANSWERED, less_time
from ..studies.formats import KNOWN, format_title
from ..studies.rounding import MOST, POINTS, SHARE
from ..tasks import glue, metrics
from .retention import STANDING, Retained, baseline, in_full, retention, rows_of, scores_frame


def table(rows: list[dict[str, Any]]) -> str:
    """Rows with equal keys as a Markdown table, with padded columns, so that it also reads well on a terminal."""
    if not rows:
        return "(no records yet)"
    cells = [[str(row[key]) for key in rows[0]] for row in rows]
    widths = [max(map(len, column)) for column in zip(list(rows[0]), *cells, strict=True)]
    lines = [list(rows[0]), ["-" * w for w in widths], *cells]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def pretraining_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each teacher or distillation: budget, held-out loss, agreement with its teacher, time.

    For a distillation, loss and agreement are given before and after; for a student trained further, also the total
    budget.
    """
    records = [r for r in records if r["kind"] in ("teacher", "distillation")]
    titles, rows = {objective_of(r).title for r in records}, []
    mixed = len(titles) > 1
    for r in sorted(records, key=lambda r: (r["scale"], rank(r["model"]))):
        scores, loss = r["scores"], f"{held_out_loss(r['scores']):.3f}"
        agreement = f"{100 * scores['agreement']:.1f} %" if "agreement" in scores else "–"
        if r["kind"] == "distillation" and (before := r.get("evaluations")):
            loss = f"{held_out_loss(before)[0]:.3f} → {loss}"
            agreement = f"{100 * before['agreement'][0]:.1f} → {agreement}" if "agreement" in before else agreement
        loss += ", of the next word" * (mixed and objective_of(r) is CAUSAL)
        tokens, earlier = _millions(r["tokens"]), tokens_before(r)
        rows.append(
            {
                "run": r["name"],
                "scale": r["scale"],
                "model": r["model"],
                "block": r["config"]["seq_length"],
                "tokens": tokens + (f", {_millions(earlier + r['tokens'])} in all" if earlier else ""),
                "held-out loss" if mixed else objective_of(r).title: loss,
                "right guesses": f"{100 * scores['accuracy']:.1f} %",
                "agrees with teacher": agreement,
                "time": duration(r["wall_seconds"]),
            }
        )
    return rows


def _millions(tokens: int) -> str:
    """A number of tokens in millions, or in full where that would round it away."""
    return f"{tokens / 1e6:.2f} M" if tokens >= 100_000 else f"{tokens:,}"


def finetuning_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each task: the majority baseline and, for each model, median [lowest–highest] over its seeds.

    A real task run on only some rows is marked as a subset; runs on fewer rows than others have a row below theirs.
    """
    frame, rows = scores_frame(records), []
    models = sorted(frame["model"].unique(), key=rank)
    parts = [
        (scale, task, most, cells)
        for (scale, task), every in frame.groupby(["scale", "task"], sort=False)
        for most in [every["rows"].max()]
        for _, cells in sorted(every.groupby("rows"), key=itemgetter(0), reverse=True)
    ]
    for scale, task, most, cells in parts:
        seeds = cells.groupby("model").size()
        majority, subset, used = cells[["majority", "subset", "rows"]].iloc[0]
        rows.append(
            {
                "task": task + _part(subset, used, most),
                "scale": scale,
                "seeds": "–".join(str(n) for n in sorted(set(seeds))),
                "majority": "–" if pd.isna(majority) else f"{majority:.1f}",
                **{model: _spread(list(cells.loc[cells["model"] == model, "main"])) for model in models},
            }
        )
    return rows


def _part(subset: bool, rows: tuple[int, ...], most: tuple[int, ...]) -> str:
    """What follows the name of a task that was run on a part of its rows; beside runs on more, it says how many."""
    return f" (subset, {rows[0]:,} rows)" if rows != most else " (subset)" * bool(subset)


PAPERS = {"teacher": "BERT-base", "student": "DistilBERT", "released": "DistilBERT", "student_d": "DistilBERT (D)"}


def comparison_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each task and model: the paper's number, ours (median, range over seeds, interval), the difference.
    Runs on fewer rows of a task than others have rows of their own.

    The 95 % interval is over the choice of validation rows, and of the median seed alone. The difference is in points;
    except at base and paper scale it is in brackets, because another teacher and often other tasks are compared.
    """
    rows = []
    runs = [r for r in records if r["kind"] == "finetuning"]
    groups = dict.fromkeys((r["scale"], r["task"], r["model"], rows_of(r)) for r in runs)
    order = list(dict.fromkeys(task for _, task, *_ in groups))
    for scale, task, model, used in sorted(
        groups, key=lambda g: (order.index(g[1]), g[0], [-count for count in g[3]], rank(g[2]))
    ):
        here = [r for r in runs if (r["scale"], r["task"], r["model"], rows_of(r)) == (scale, task, model, used)]
        part = _part(is_subset(here[0]), used, max(g[3] for g in groups if g[:2] == (scale, task)))
        rows += [_compared(here, task, metric, scale, model, part) for metric in METRICS_OF.get(task, ("main",))]
    return rows


METRICS_OF = {"squad": ("exact_match", "f1")}  # tasks with several columns in the paper's table


def _compared(here: list[dict[str, Any]], task: str, metric: str, scale: str, model: str, part: str) -> dict[str, Any]:
    values = [100 * r["scores"][metric] for r in here]
    middle = sorted(here, key=lambda r: r["scores"][metric])[(len(here) - 1) // 2]
    main = metric in ("main", "f1")
    low, high = middle["interval"] if main else (None, None)
    printed = _printed(task, metric, model)
    delta = "" if printed is None else signed(median(values) - printed, 1)
    lazy = 100 * baseline(here[0]) if main else float("nan")
    return {
        "task": task + (f" {metric}" if metric != "main" else "") + part,
        "model": model,
        "scale": scale,
        "seeds": len(here),
        "majority": "–" if pd.isna(lazy) else f"{lazy:.1f}",
        "paper": "–" if printed is None else f"{printed:.1f}",
        "measured": f"{median(values):.1f}",
        "min–max": _range(min(values), max(values)),
        "interval over rows, median seed": "–" if low is None else _range(100 * low, 100 * high),
        "delta": "–" if printed is None else (delta if scale in ("base", "paper") else f"({delta})"),
    }


def _printed(task: str, metric: str, model: str) -> float | None:
    """The paper's number for this task and role; None where it prints none."""
    if model not in PAPERS:
        return None
    try:
        if task in ("imdb", "squad"):
            return paper.downstream(PAPERS[model], task, "accuracy" if task == "imdb" else metric)
        return paper.glue(PAPERS[model], task)
    except ValueError:  # no such cell, because DistilBERT (D) has only SQuAD's
        return None


def macro_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each scale and model: medians over seeds, averaged over GLUE's nine tasks where all ran in full.

    The mean is given with and without WNLI (an adversarial split on which the majority class is hard to beat), and by
    BERT's convention, in which MRPC and QQP count by F1 and STS-B by Spearman instead of the mean of two metrics.
    """
    rows, runs = [], [r for r in records if r["kind"] == "finetuning" and r["task"] in glue.GLUE]
    whole = in_full(runs)
    for scale, model in dict.fromkeys((r["scale"], r["model"]) for r in sorted(runs, key=lambda r: rank(r["model"]))):
        here = [r for r in whole if (r["scale"], r["model"]) == (scale, model)]
        scores = {task: [r["scores"] for r in here if r["task"] == task] for task in glue.GLUE}
        printed = _printed("macro", "main", model)
        row = {"model": model, "scale": scale, "paper": "–" if printed is None else f"{printed:.1f}"}
        if missing := [task for task, of_seeds in scores.items() if not of_seeds]:
            row |= {"macro": f"not run in full: {', '.join(missing)}", "without WNLI": "–", "BERT's convention": "–"}
        else:
            main = {task: _middle(glue.TASKS[task].main, of) for task, of in scores.items()}
            berts = {task: _middle(glue.TASKS[task].main_of_bert, of) for task, of in scores.items()}
            row["macro"] = f"{metrics.macro(main, glue.GLUE):.1f}"
            row["without WNLI"] = f"{metrics.macro(main, [task for task in glue.GLUE if task != 'wnli']):.1f}"
            row["BERT's convention"] = f"{metrics.macro(berts, glue.GLUE):.1f}"
        rows.append(row)
    return rows


def _middle(metric: str, scores: list[dict[str, float]]) -> float:
    return median(100 * metrics.main_score(metric, of_seed) for of_seed in scores)


def retention_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each scale and choice of tasks: the percentage of its teacher's macro score that each model keeps."""
    kept = retention(records)
    models = sorted({k.model for k in kept}, key=rank)
    return [
        {
            "scale": scale,
            "tasks": f"{choice}: {', '.join(here[0].tasks)}",
            "seeds": "–".join(str(n) for n in sorted({k.seeds for k in here})),
            **{m: next((str(k).removesuffix(" %") for k in here if k.model == m), "–") for m in models},
            "student's lead over the twin": next((lead(k) for k in here if k.model == "undistilled"), "–"),
        }
        for scale, choice in dict.fromkeys((k.scale, k.choice) for k in kept)
        for here in [[k for k in kept if (k.scale, k.choice) == (scale, choice)]]
    ]


def lead(kept: Retained) -> str:
    """The student's lead over a model with its interval, and with its number of seeds where the share has others."""
    if not kept.pairs:
        return "–"
    seeds = f", {kept.pairs} seed{'s' * (kept.pairs > 1)}" * (kept.pairs != kept.seeds)
    return signed_interval(*kept.lead[:3]) + seeds


def comparison(records: list[dict[str, Any]]) -> str:
    """The tables that `distilnb finetune` and `distilnb glue` print: all cells beside the paper's, and macro scores."""
    rows, small = comparison_rows(records), {r["scale"] for r in records} - {"base", "paper"}
    macros = macro_rows(records) if any(r["task"] in glue.GLUE for r in records) else []
    if {r["scale"] for r in records} == small:  # beside toy numbers, the paper's column would mislead
        for row in (*rows, *macros):
            row.pop("paper")
            row.pop("delta", None)
    parts = [table(some) for some in (rows, macros) if some]
    if small:
        made_up = any(r["data"].get("id") == "toyworld" for r in records)
        parts.append(
            f"Scale {', '.join(sorted(small))}: another teacher than the paper's"
            f"{', and made-up tasks of the same shapes' if made_up else ''}; no evidence about the paper."
        )
    subsets = dict.fromkeys((r["task"], r["data"]["stand_in_why"]) for r in records if is_subset(r))
    parts += [f"{task} is a stand-in: {why}." for task, why in subsets]
    return "\n\n".join(parts)


def ablation_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each variant of each grid: median macro score and held-out loss, the mean difference of both from the
    triple loss with its interval over paired seeds, and Table 4's difference.

    Raises ValueError for records that must not be compared.
    """
    rows = []
    for grid in dict.fromkeys(r["grid"] for r in records if r["kind"] == "ablation"):
        cells = [r for r in records if r.get("grid") == grid]
        scores, losses = ablation.compare(cells).rows, ablation.compare(cells, "mlm_loss").rows
        rows += [
            {
                "grid": grid,
                "scale": cells[0]["scale"],
                "variant": row["title"],
                "pairs": str(len(row["seeds"])),
                "macro": _spread(list(row["values"].values())),
                "Δ macro": difference(row),
                "Table 4": "–" if row["paper"] is None else signed(row["paper"]),
                "Table 4 inside?": inside(row),
                "sign": sign(row),
                "held-out loss": f"{median(loss['values'].values()):.3f}",
                "Δ loss": difference(loss, 3),
            }
            for row, loss in zip(scores, losses, strict=True)
        ]
    return rows


def grid_rows(records: list[dict[str, Any]], scale: str, score: str = "macro") -> list[dict[str, Any]]:
    """The rows of `ablation.compare` of a scale's ablation; [] where it has no reference yet."""
    grid = [r for r in records if r["kind"] == "ablation" and r["grid"] == ablation_grid(scale)]
    return ablation.compare(grid, score).rows if any(r["model"] == ablation.REFERENCE for r in grid) else []


def table4_rows(records: list[dict[str, Any]], scale: str) -> list[dict[str, Any]]:
    """Those of `grid_rows` that Table 4 has too."""
    return [row for row in grid_rows(records, scale) if row["paper"] is not None]


def difference(row: dict[str, Any], digits: int = 2) -> str:
    """A mean difference with its interval, such as "−1.20 [−3.00, +0.60]"; "–" for the reference."""
    if row["mean"] is None or row["variant"] == ablation.REFERENCE:
        return "–"
    return signed_interval(row["mean"], row["low"], row["high"], digits)


def sign(row: dict[str, Any]) -> str:
    """Whether a difference has the sign that the paper prints, if its interval over pairs can tell."""
    if row["paper"] is None or row["low"] is None:
        return "–"
    if row["low"] <= 0 <= row["high"]:
        return "within noise"
    return "as in the paper" if (row["mean"] > 0) == (row["paper"] > 0) else "the opposite"


def inside(row: dict[str, Any]) -> str:
    """Whether the paper's difference lies in our interval over pairs."""
    if row["paper"] is None or row["low"] is None:
        return "–"
    return "yes" if row["low"] <= row["paper"] <= row["high"] else "no"


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign and a typographic minus, such as "−0.31"."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # + 0.0 makes −0 a 0


def signed_interval(mean: float, low: float | None, high: float | None, digits: int = 2) -> str:
    """A signed mean with its interval where there is one, such as "−1.20 [−3.00, +0.60]"."""
    return signed(mean, digits) + ("" if low is None else f" [{signed(low, digits)}, {signed(high, digits)}]")


def benchmark_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each benchmark: the student's speed-up [quartiles], and the same as less time."""
    return [
        {
            "run": r["name"],
            "weights": _kind_of_weights(r),
            "texts": f"{r['config']['rows']:,} × {r['task']}",
            "forward": _interval(r, "ratio_forward"),
            "end to end": _interval(r, "ratio_end_to_end"),
            "less time": f"{r['scores']['less_time_end_to_end']:.0f} %",
            "seconds": f"{r['scores']['seconds_teacher']:.1f} → {r['scores']['seconds_student']:.1f}",
            "fewer parameters": f"{r['scores']['smaller']:.1f} %",
            "threads": r["config"]["threads"] or r["device"]["cores"],
            "processor": r["device"]["processor"],
        }
        for r in _of_models(records)
    ]


def _of_models(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The benchmarks of two models; those of training steps have no passes."""
    return [r for r in records if r["kind"] == "benchmark" and "weights" in r]


def speed_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each comparison of our training with another's: times as fast [least–greatest of the rounds] and
    `AT_MOST`, the share of its memory, the points that ours scores more [95 %], paired by seed, and the processor."""
    return [
        {
            "our training": one["what"] + (f", {r['config']['rows']:,} rows" if r["config"].get("rows") else ""),
            "against": one["against"],
            "times as fast": f"{one['faster'][1]:.2f} [{one['faster'][0]:.2f}–{one['faster'][2]:.2f}]",
            "at most": f"{one['at_most']:.2f}" if one.get("at_most") else "–",
            "memory": f"{one['memory']:.2f}" if one["memory"] else "–",
            "our score, points": _lead(one, r["scores"]),
            "processor": r["device"]["gpu"] or r["device"]["processor"],
            "its peak, GF/s": _peak(one["what"], r.get("peaks") or {}),
        }
        for r in records
        for one in r.get("comparisons", ())
    ]


def _peak(what: str, peaks: dict[str, float]) -> str:
    """The measured peak of the precision in which a training ran; "–" where it was not measured."""
    rates = {name.replace("bfloat16", "bf16"): rate for name, rate in peaks.items()}
    return next((f"{rate / 1e9:.0f}" for name, rate in rates.items() if name in what), "–")


def _lead(one: dict[str, Any], scores: dict[str, float]) -> str:
    """The points that our training scores more than the other, paired by seed; "–" where both were only timed."""
    task = one["what"].rpartition(", ")[2]
    ours, theirs = (f"{task}, {of}, seed " for of in ("ours", one["against"]))
    seeds = [key.removeprefix(ours) for key in scores if key.startswith(ours)]
    leads = [100 * (scores[ours + seed] - scores[theirs + seed]) for seed in seeds]
    return signed_interval(*mean_interval(leads)[:3]) if leads else "–"


def device_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each device of a reader: how many per cent faster the student is there [quartiles], by its page, and
    the same as less time: the paper does not say which of the two its number is."""
    rows, claimed = [], paper.claim("device_faster").value
    for r in (r for r in records if r["kind"] == "device"):
        low, middle, high = r["intervals"]["faster"]
        length = max(map(int, r["timings"]))
        ms = [median(r["timings"][str(length)][name]) for name in ("teacher", "student")]
        rows.append(
            {
                "your device": r["name"],
                "faster": f"{middle:.0f} % [{low:.0f}–{high:.0f}]",
                "as less time": f"{less_time(1 + middle / 100):.0f} %",
                "the paper's phone": f"{claimed:g} %",
                "scale": f"{r['scale']} ({r['config']['weights']} weights)",
                "tokens": str(length),
                "ms": " → ".join(f"{value:.1f}" for value in ms),
                "run by": f"{r['versions']['runtime']}, {r['config']['precision']}, threads {r['config']['threads']}",
                "browser": r["device"]["processor"],
            }
        )
    return rows


def format_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each format of a benchmark's student: size, speed, and loss of accuracy.

    Where the timed weights are random, the accuracy is that of another, fine-tuned student, whose scale is named.
    """
    rows = []
    for r in _of_models(records):
        scored = {row["format"]: row for row in r["accuracy"]["rows"]}
        for form in (form for form in r["formats"] if form["model"] == "student"):
            cost = scored.get(form["format"])
            whose = f"{r['accuracy'].get('scale')} {r['accuracy'].get('task')}"
            rows.append(
                {
                    "run": r["name"],
                    "weights": _kind_of_weights(r),
                    "format": format_title(form["format"], r),
                    "MB": f"{form['bytes'] / 1e6:.1f}",
                    "ms": f"{form['ms'][1]:.1f}",
                    "× teacher float32": f"{form['speedup']:.1f}",
                    "× in CPU time": f"{form['speedup_cpu']:.1f}",
                    "× teacher": f"{form['ratio']:.2f}" if form["ratio"] else "–",
                    "accuracy (of)": f"{100 * cost['accuracy']:.1f} ({whose})" if cost else "not measured",
                    "points lost": signed(cost["lost"]) if cost else "–",
                }
            )
    return rows


def runtime_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each model and format of the benchmarks that timed several lengths: size, milliseconds, memory, and
    the mean score of its fine-tuned selves with what it lost."""
    rows = []
    for r in _of_models(records):
        scored = {
            (of, row["format"]): row
            for of in ("teacher", "student")
            for row in averaged([task for task in r.get("tasks", ()) if task["of"] == of])["rows"]
        }
        for form in (form for form in r["formats"] if form.get("lengths")):
            cost = scored.get((form["model"], form["format"]))
            times = {n: form["lengths"].get(str(n)) for n in ANSWERED}
            rows.append(
                {
                    "run": r["name"],
                    "weights": _kind_of_weights(r),
                    "model": form["model"],
                    "in": KNOWN[form["format"]].title,
                    "MB": f"{form['bytes'] / 1e6:.1f}",
                    **{f"ms at {n}": f"{ms[0]:.1f}" if ms else "–" for n, ms in times.items()},
                    "memory, MB": f"{form['memory_mb']:.0f}" if "memory_mb" in form else "–",
                    "mean score": f"{100 * cost['accuracy']:.1f}" if cost else "not measured",
                    "points lost": signed(cost["lost"]) if cost else "–",
                }
            )
    return rows


def rounding_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each task of the benchmarks that chose a rounding to int8 by training rows, and their mean: points
    lost on the scored rows by the usual int8 and by the chosen, its share of float32's bytes, and what it misses."""
    rows = []
    for r in (r for r in records if r.get("tasks")):
        for of, cells in groupby(chosen_int8(r["tasks"]), itemgetter("of")):
            made = pd.DataFrame(cells)
            numbers = ["float32", "usual", "lost", "share"]
            mean = {"task": "mean", "rows": made["rows"].sum(), "kept": ""} | made[numbers].mean().to_dict()
            for one in [*made.to_dict("records"), *[mean] * (len(made) > 1)]:
                limit = POINTS if one is mean else MOST
                missed = [f"over {limit:g} points"] * (one["lost"] > limit)
                missed += [f"over {SHARE:.0%} of the bytes"] * (one["share"] > SHARE)
                rows.append(
                    {
                        "run": r["name"],
                        "model": of,
                        "task": one["task"],
                        "rows": f"{one['rows']:,}",
                        "float32": f"{100 * one['float32']:.1f}",
                        "lost by the usual int8": signed(one["usual"]),
                        "lost by the chosen": signed(one["lost"]),
                        "chosen by training rows": KNOWN[one["kept"]].title if one["kept"] else "",
                        "of float32's bytes": f"{one['share']:.1%}",
                        "target": ", ".join(missed) or "met",
                    }
                )
    return rows


NAMES = (
    """\
`student` and `undistilled` start from the same teacher layers and read the same tokens; the second learns from masked
words alone. `scratch` does so too, from random weights. `untrained` is the start itself, `random` a network of random
weights, `student_d` had a second, fine-tuned teacher; `_2` marks a second seed of distillation. `published`, which is
no student, is the encoder as published, before its head for masked words. Scores are median [lowest–highest] over
seeds; `majority` is the score of the best constant answer. Blocks and held-out texts of a teacher differ from its
students', so their held-out losses do not compare. """
    + STANDING
)


AT_MOST = """\
*Times as fast*: in CPU time, or in wall time where a row says so. *At most*: what the ratio would be if nothing but the
matrix products of our training took time, at the *peak* of a core in its precision: the greatest rate that products of
square matrices, 1,024 wide, reached in the same run."""


def spent_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cost of the records: for each scale and kind of run, their number, hours, and energy at the assumed power."""
    rows = []
    order = [(r["scale"], r["kind"]) for r in records if r["kind"] not in ("data", "device")]
    for scale, kind in dict.fromkeys(order):
        here = [r for r in records if (r["scale"], r["kind"]) == (scale, kind)]
        devices = dict.fromkeys(r["device"]["gpu"] or r["device"]["processor"] for r in here)
        joules = sum(r["wall_seconds"] * assumed_watts(bool(r["device"]["gpu"])) for r in here)
        rows.append(
            {
                "scale": scale,
                "runs": kind,
                "number": len(here),
                "time": duration(sum(r["wall_seconds"] for r in here)),
                "kWh": f"{joules / 3.6e6:.2g}",
                "on": ", ".join(devices),
            }
        )
    return rows


def _kind_of_weights(record: dict[str, Any]) -> str:
    return "random" if is_random(record["weights"]["teacher"]) else "trained"


def _interval(record: dict[str, Any], score: str) -> str:
    low, middle, high = record["intervals"][score]
    return f"{middle:.2f} × [{low:.2f}–{high:.2f}]"


def _spread(values: list[float]) -> str:
    if not values:
        return "not run"
    return f"{median(values):.1f}" + (f" [{_range(min(values), max(values))}]" if len(values) > 1 else "")


def _range(low: float, high: float) -> str:
    return f"{low:.1f}–{high:.1f}".replace("-", "−")  # a typographic minus, as in `signed`


def tables(records: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The results tables of these records, by title; fine-tuning scale by scale."""
    scales = dict.fromkeys(r["scale"] for r in records)
    parts = {
        "Pre-training": pretraining_rows(records),
        **{f"Fine-tuning, scale {s}": finetuning_rows([r for r in records if r["scale"] == s]) for s in scales},
        "Kept of the teacher's macro score, percent": retention_rows(records),
        "Size and speed": benchmark_rows(records),
        "Formats": format_rows(records),
        "Formats by length": runtime_rows(records),
        "int8 on tasks": rounding_rows(records),
        "Ablation": ablation_rows(records),
        "Devices of readers": device_rows(records),
        "Speed of training": speed_rows(records),
    }
    return {title: rows for title, rows in parts.items() if rows}


def summary(records: list[dict[str, Any]], short: bool = False) -> str:
    """The results tables of these records, as text; the `short` ones leave out the formats of the device."""
    left = ("Formats", "Formats by length", "int8 on tasks") if short else ()
    parts = [rows for title, rows in tables(records).items() if title not in left]
    return "\n\n".join(map(table, parts)) or table([])
