"""The scorecard (notebook 09): each cell of Tables 1–4 and each claim, with measured value, interval and verdict.

Measured values come from records alone. Only the scales `base` and `paper` have the paper's models and data, so only
their records can fill a cell; results of the small scales are in a separate column and decide nothing. Tolerances are
data, in `data/paper/verdict_rules.csv`; `RULE` explains in words how a verdict follows from them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby
from operator import attrgetter, methodcaller
from statistics import mean, median
from typing import Any, NamedTuple

import pandas as pd

from ..evidence import paper, statistics
from ..evidence.comparing import check_comparable, is_subset, timed_pairs
from ..evidence.names import ablation_grid
from ..models.sources import is_random
from ..studies import ablation
from ..studies.benchmark import less_time
from ..tasks.glue import GLUE
from . import pages
from . import tables as tables_module
from .retention import ALL, REAL, STANDING, by_model, on_most_rows, rows_of, settings, why_refused

EVIDENCE = ("paper", "base")  # scales of which the first with a record fills the cell
SMALL_SCALES = ("small", "mini", "toy")
MODELS = {  # the paper's name → its names in our records, of which the first that exists is used
    "BERT-base": ("teacher",),
    "DistilBERT": ("released", "student"),
    "DistilBERT (D)": ("student_d",),
}
BENCHMARK: dict[str, tuple[str, Callable[[float], float]]] = {  # row → a benchmark's score, conversion
    "BERT-base parameters": ("parameters_teacher", lambda count: count / 1e6),
    "DistilBERT parameters": ("parameters_student", lambda count: count / 1e6),
    "BERT-base seconds": ("seconds_teacher", float),
    "DistilBERT seconds": ("seconds_student", float),
    "faster": ("ratio_end_to_end", lambda ratio: 100 * (ratio - 1)),
    "device_faster": ("ratio_forward", lambda ratio: 100 * (ratio - 1)),
    "smaller": ("smaller", float),
}
# What no repetition changes: counts of weights, and of the rows that one published checkpoint answers rightly.
COUNTED = ("BERT-base parameters", "DistilBERT parameters", "smaller", "released_sst2", "released_sst2_evaluated")
# Measured as in the paper's app: questions of 384 tokens, no tokenization. The paper does not say whether its 71 % are
# more answers or less time (notebook 07), so that both are shown.
ON_DEVICE = ("device_faster",)
VERDICTS = {
    "reproduced": "✓",
    "exceeded": "↑",
    "partly": "◐",
    "not reproduced": "✗",
    "refused": "!",
    "not run": "○",
    "adds up": "=",
    "does not add up": "≠",
    "other hardware": "·",
    "how it was done": "·",
    "quoted": "·",
}
UNITS = {"percent": " %", "MB": " MB", "hours": " h", "seconds": " s", "parameters_millions": " M"}
RULE = (
    """\
*Measured* is the median over seeds for a score, and for a macro score the mean of the tasks' medians, both as in
Table 1; for a difference or a share, the mean over pairs of equal seeds. The *interval* is a 95 % t interval over those
seeds, or over benchmarks where there are several; of a single run, the bootstrap over its rows; of a single benchmark,
the quartiles over its rounds. Several runs are counted beside it. Sizes, and the answers of a published checkpoint, are
counts and have none.
*Delta* is measured minus paper. The tolerances are in `data/paper/verdict_rules.csv`. A verdict holds for the scale
beside it: `base` has the paper's models and tasks, but trains the student on far less text; where the released
checkpoint was scored, DistilBERT's cells are its, and say so.

- **reproduced**: within the tolerance, and the interval is no wider than three tolerances to either side.
- **exceeded**: the claim is a bound, and all of the interval lies beyond it by more than the tolerance. The bound
  holds; the printed number itself was not found again.
- **partly**: undecided: outside, but the interval reaches into the tolerance; inside, but the interval is wider than
  that; or inside or outside without an interval, because it was run once.
- **not reproduced**: outside, and so is the whole interval.
- **refused**: the records must not be compared (other settings, a cell twice); the notes say which.
- **not run**: no record at scale `base` or `paper` on all rows of the task. What `small`, `mini` and `toy` found stands
  apart and enters **no verdict**. """
    + STANDING
    + """ The share kept is taken there over the tasks on which the teacher beats the best
  constant answer (beyond its interval over seeds, and most of its runs beyond theirs over rows): on others there is
  nothing to keep.
- **adds up**, **does not add up**: the number follows, or does not, from other printed numbers; nothing was run.
- **other hardware**, **how it was done**, **quoted**: nothing that a run of ours could confirm."""
)


class Measured(NamedTuple):
    """The result of one scale's records for a cell: the middle value, an interval or None, the runs, a remark."""

    value: float
    low: float | None = None
    high: float | None = None
    runs: int = 1
    remark: str = ""


class Runs:
    """The records of one scale, with methods that return the values of cells, or None without records.

    Runs on other rows than a task's official ones are another task: they are left out at the scales that count, and
    named at the small scales, where the runs on most rows count. Each method raises ValueError for records that must
    not be compared. Scores are in points, hundredths of 1.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], scale: str):
        here = [record for record in records if record["scale"] == scale]
        measured = next((r["scores"] for r in records if r["name"] == "ceilings"), {})
        self.matching_words = measured.get("squad_matching_words_f1", 0.0) if scale != "toy" else 0.0
        self.scale, self.parts = scale, [r for r in here if scale in EVIDENCE and is_subset(r)]
        whole = [r for r in here if scale not in EVIDENCE or not is_subset(r)]
        self.records = on_most_rows(whole)
        self.on_fewer = [r for r in whole if all(r is not kept for kept in self.records)]

    def tuned(self, model: str, task: str) -> dict[int, Mapping[str, Any]]:
        """The checked fine-tuning records of a model (by the paper's name) on a task, by seed."""
        for label in MODELS.get(model, (model,)):
            runs = [r for r in self.records if (r["kind"], r["model"], r["task"]) == ("finetuning", label, task)]
            if runs:
                check_comparable(runs, lambda r: settings(r) | {"model_record": r["model_record"]})
                return {record["seed"]: record for record in runs}
        return {}

    def score(self, model: str, task: str, metric: str = "main") -> Measured | None:
        """A model's score on a task."""
        by_seed = self.tuned(model, task)
        if not by_seed:
            return None
        first = next(iter(by_seed.values()))
        is_main = first["scores"][metric] == first["scores"]["main"]  # whose interval is recorded: F1's, not EM's
        rows = [100 * bound for bound in first.get("interval") or ()] if is_main else None
        remark = self._caveat([*by_seed.values()])
        return _over_runs([100 * r["scores"][metric] for r in by_seed.values()], median, rows, remark)

    def answered(self, model: str, task: str) -> Measured | None:
        """The accuracy of one published checkpoint, a count of the rows that its card was scored on too: the interval
        is a point."""
        found = self.score(model, task, "accuracy")
        return found and found._replace(low=found.value, high=found.value)

    def _caveat(self, runs: Sequence[Mapping[str, Any]]) -> str:
        """What must stand beside the scores of these runs: that they are not of our own student, of some rows, or that
        nothing was learned."""
        told = ["the released checkpoint"] if any(run["model"].startswith("released") for run in runs) else []
        told += ["a subset"] if any(map(is_subset, runs)) else []
        below = [run["task"] == "squad" and run["scores"]["f1"] <= self.matching_words for run in runs]
        if any(below):
            told.append("below matching words" if all(below) else "one is below matching words")
        return ", ".join(told)

    def on_glue(self, model: str) -> dict[str, dict[int, Mapping[str, Any]]]:
        """The runs of a model on GLUE's tasks, all on all rows, by task and seed; {} without.

        At the scales that count, the tasks are all nine or none. Of a model's names, one is used for all tasks.
        """
        for label in MODELS.get(model, (model,)):
            runs = {task: by_seed for task in GLUE if (by_seed := self.tuned(label, task))}
            runs = {task: by_seed for task, by_seed in runs.items() if not any(map(is_subset, by_seed.values()))}
            if len(runs) == len(GLUE) or (runs and self.scale not in EVIDENCE):
                return runs
        return {}

    def macro(self, model: str) -> Measured | None:
        """The mean over the nine GLUE tasks of the medians over seeds, as in Table 1; at small scales, over the tasks
        that ran. Its interval is over the macro scores of the seeds that all of them have."""
        runs = self.on_glue(model)
        points = pd.DataFrame(
            {task: {seed: 100 * r["scores"]["main"] for seed, r in by_seed.items()} for task, by_seed in runs.items()}
        )
        remark = self._caveat([r for by_seed in runs.values() for r in by_seed.values()])
        remark = f"{len(runs)} of {len(GLUE)} tasks" if len(runs) < len(GLUE) else remark
        found = _over_runs(list(points.dropna().mean(axis=1)), mean, remark=remark)
        return found and found._replace(value=float(points.median().mean()))

    def share(self) -> Measured | None:
        """The student's macro score in percent of its teacher's, seed by seed.

        At the small scales it is taken over the tasks on which the teacher beats the majority, because on others there
        is nothing to keep; the remark then names a control that the paper lacks: the student without a teacher.
        """
        if self.scale in EVIDENCE:
            both = self._both_on_glue()
            kept = by_model(both, self.scale, ALL)
            return next((Measured(*one.share[:3], one.seeds, self._caveat(both)) for one in kept.values()), None)
        kept = by_model(self.records, self.scale)
        if "student" not in kept:
            return None
        student, twin = kept["student"], kept.get("undistilled")
        beside = f", without a teacher {twin.share.mean:.1f} %" if twin else ""
        return Measured(*student.share[:3], student.seeds, f"{len(student.tasks)} of {len(GLUE)} tasks{beside}")

    def _both_on_glue(self) -> list[Mapping[str, Any]]:
        """The checked runs of teacher and student on all nine tasks; [] where one of the two lacks them."""
        both = [runs for model in ("BERT-base", "DistilBERT") if (runs := self.on_glue(model))]
        by_task = [[r for runs in both for r in runs[task].values()] for task in GLUE] if len(both) == 2 else []
        for runs in by_task:
            check_comparable(runs, settings)
        return list(chain.from_iterable(by_task))

    def gap(self, better: str, worse: str, task: str, metric: str) -> Measured | None:
        """The score of `better` minus that of `worse`, over seeds that both have."""
        one, other = self.tuned(better, task), self.tuned(worse, task)
        both = sorted(one.keys() & other.keys())
        check_comparable([by_seed[seed] for by_seed in (one, other) for seed in both], settings)
        remark = self._caveat([by_seed[seed] for by_seed in (one, other) for seed in both])
        deltas = [100 * (one[seed]["scores"][metric] - other[seed]["scores"][metric]) for seed in both]
        return _over_runs(deltas, mean, remark=remark)

    def ablation(self, variant: str) -> Measured | None:
        """A variant's difference from the triple loss, in the grid called ablation-SCALE.

        At the scales that count, the tasks are GLUE's nine on all their rows, or there is no such difference.
        """
        grid = [r for r in self.records if r["kind"] == "ablation" and r["grid"] == ablation_grid(self.scale)]
        if not {variant, ablation.REFERENCE} <= {record["model"] for record in grid}:
            return None
        tasks, rows = grid[0]["tasks"], [rows for record in grid for rows in record["data"]["tasks"].values()]
        whole = {*tasks} == {*GLUE} and not any(part["stand_in"] for part in rows)
        if self.scale in EVIDENCE and not whole:
            return None
        remark = "" if whole else f"{len(tasks)} tasks, {grid[0]['tokens'] / 1e6:.1f} M tokens"
        row = next(row for row in ablation.compare(grid).rows if row["variant"] == variant)
        return Measured(row["mean"], row["low"], row["high"], len(row["deltas"]), remark) if row["deltas"] else None

    def benchmark(self, row: str) -> Measured | None:
        """A number of the benchmark records; the interval of what is `COUNTED` is a point.

        A run over fewer pairs than another is left out: its seconds are of something else.
        Size and speed depend on the architecture alone, so random weights suffice, but the remark names them.
        """
        key, of = BENCHMARK[row]
        task = "squad" if row in ON_DEVICE else "stsb"
        runs = [r for r in self.records if r["kind"] == "benchmark" and r["scores"].get(key) is not None]
        runs = [r for r in runs if r["task"] == task]
        runs = [r for r in runs if timed_pairs(r) == max(map(timed_pairs, runs))]
        values = [of(record["scores"][key]) for record in runs]
        single = [values[0]] * 2 if runs and row in COUNTED else None
        if len(runs) == 1 and key in (runs[0].get("intervals") or {}):
            low, *_, high = runs[0]["intervals"][key]  # quartiles over rounds
            single = [of(low), of(high)]
        random = any(is_random(record.get("weights", {}).get("teacher", "")) for record in runs)
        return _over_runs(values, mean, single, "random weights" if random else "")


def _over_runs(
    values: Sequence[float],
    middle: Callable[[Sequence[float]], float],
    single: Sequence[float] | None = None,
    remark: str = "",
) -> Measured | None:
    """The middle of the values and their t interval; for one value, its own interval `single`."""
    if not values:
        return None
    over = statistics.mean_interval(values)
    low, high = (over.low, over.high) if len(values) > 1 else single or (None, None)
    return Measured(middle(values), low, high, len(values), remark)


def _arithmetic(value: float) -> Callable[[Runs], Measured]:
    return lambda runs: Measured(value, runs=0)


def _claims() -> dict[str, Callable[[Runs], Measured | None]]:
    """The function that finds each claim in the records, or computes it from other printed numbers."""
    glue, seconds, squad = paper.glue, paper.speed, partial(paper.downstream, task="SQuAD", metric="exact_match")
    encoders = paper.parameters("BertModel"), paper.parameters("DistilBertModel")
    logged = paper.claim("device_log_bert").value / paper.claim("device_log_distilbert").value
    eight = [
        sum(glue(model, task, "readme" if task == "mnli" else "2020-03") for task in GLUE if task != "wnli")
        for model in ("DistilBERT", "BERT-base")
    ]
    over_elmo = glue("DistilBERT", "STS-B") - glue("ELMo", "STS-B")
    computed = {
        "smaller_exact": 100 * (1 - encoders[1] / encoders[0]),
        "retained_table1": 100 * glue("DistilBERT", "macro") / glue("BERT-base", "macro"),
        "retained_without_wnli": 100 * eight[0] / eight[1],
        "throughput_ratio": seconds("BERT-base") / seconds("DistilBERT"),
        "time_saved": 100 * (1 - seconds("DistilBERT") / seconds("BERT-base")),
        "fixed_seconds": 2 * seconds("DistilBERT") - seconds("BERT-base"),
        "device_log_saved": less_time(logged),
        "squad_within": squad("BERT-base") - squad("DistilBERT"),
        "over_elmo_stsb": over_elmo,
        "over_elmo_stsb_table1": over_elmo,
        "device_size": 4 * encoders[1] / 1e6,
        "device_size_float32": 4 * encoders[1] / 1e6,
    }
    measured = {
        "retained": methodcaller("share"),
        **{claim: methodcaller("benchmark", claim) for claim in ("smaller", "faster", "device_faster")},
        "squad_gap_f1": methodcaller("gap", "BERT-base", "DistilBERT", "squad", "f1"),
        "squad_gap_em": methodcaller("gap", "BERT-base", "DistilBERT", "squad", "exact_match"),
        # of our own student: the released one had no second stage here
        "second_stage_f1": methodcaller("gap", "DistilBERT (D)", "student", "squad", "f1"),
        "second_stage_em": methodcaller("gap", "DistilBERT (D)", "student", "squad", "exact_match"),
        "second_stage_rerun_f1": methodcaller("score", "DistilBERT (D)", "squad", "f1"),
        "second_stage_rerun_em": methodcaller("score", "DistilBERT (D)", "squad", "exact_match"),
        "imdb_gap": methodcaller("gap", "BERT-base", "DistilBERT", "imdb", "accuracy"),
        "released_sst2": methodcaller("answered", "released_sst2", "sst2"),
        "released_sst2_evaluated": methodcaller("answered", "released_sst2", "sst2"),
    }
    return {claim: _arithmetic(value) for claim, value in computed.items()} | measured


class Row(NamedTuple):
    """A cell or claim of the paper, without records; `correct` is given where the printed value is an erratum."""

    part: str
    what: str
    printed: float
    unit: str
    rule: Mapping[str, Any]
    read: Callable[[Runs], Measured | None] | None
    correct: float | None = None

    @property
    def target(self) -> float:
        """The value for the comparison: the correct one, else the printed one."""
        return self.printed if self.correct is None else self.correct

    @property
    def tolerance(self) -> float:
        """The distance from the target that still counts as equal."""
        return float(self.rule["tolerance"])

    @property
    def counted(self) -> bool:
        """Whether the row is one of `COUNTED`."""
        return self.what in COUNTED or self.rule.get("id") in COUNTED

    @property
    def half_digit(self) -> float:
        """Half of the last digit that the paper prints, which its rounding may hide."""
        return 0.5 * 10.0 ** -len(f"{self.printed:.10g}".partition(".")[2])

    def readings(self, value: float) -> dict[str, float]:
        """What a measured value may be set beside the paper's as, each with the words that tell it from the other."""
        if self.rule.get("id") not in ON_DEVICE:
            return {"": value}
        return {" more answers": value, " less time": less_time(1 + value / 100)}

    def told(self, value: float) -> str:
        """A measured value in each of its `readings`."""
        return ", ".join(self.number(one) + words for words, one in self.readings(value).items())

    def number(self, value: float, printed: bool = False) -> str:
        """A value with as many decimals as the paper prints here; ours with at least one."""
        places = len(f"{self.printed:.10g}".partition(".")[2])
        places = places if printed and self.unit != "points" else max(places, 1)
        shown = f"{round(value, places) + 0.0:,.{places}f}".replace("-", "−")  # + 0.0 makes −0 a 0
        return shown + UNITS.get(self.unit, "")


def rows() -> list[Row]:
    """All rows of the scorecard: Tables 1–4 of version 4, cell by cell, then the claims."""
    rules = paper.table("verdict_rules").set_index("id", drop=False).to_dict("index")
    quoted, readings, made = {"kind": "quoted"}, _claims(), []
    for model, task, value in _columns("table1_glue", "model", "task", "value", vintage="2020-03"):
        name, sic = task.replace("-", "").lower(), (model, task) == ("BERT-base", "MNLI")
        rule = quoted if model == "ELMo" else rules["table1_macro" if task == "macro" else "table1"]
        read = methodcaller("macro", model) if task == "macro" else methodcaller("score", model, name)
        correct = paper.glue(model, task, "readme") if sic else None
        made.append(Row("Table 1", f"{model}, {task}", value, "points", rule, read, correct))
    for model, task, metric, value in _columns("table2_downstream", "model", "task", "metric", "value"):
        what = f"{model}, {task} {metric.replace('_', ' ')}"
        read = methodcaller("score", model, task.lower(), metric)
        made.append(Row("Table 2", what, value, "points", rules["table2"], read))
    for column, what in (("parameters_millions", "parameters"), ("seconds", "seconds")):
        for model, value in _columns("table3_speed", "model", column):
            rule, read = rules[f"table3_{what}"], methodcaller("benchmark", f"{model} {what}")
            made.append(Row("Table 3", f"{model} {what}", value, column, quoted if model == "ELMo" else rule, read))
    for variant, removed, value in _columns("table4_ablation", "variant", "removed", "delta_macro"):
        made.append(
            Row("Table 4", f"without: {removed}", value, "points", rules["table4"], methodcaller("ablation", variant))
        )
    for claim, text, value, unit in _columns("claims", "id", "text", "value", "unit"):
        made.append(Row("Claims", text, value, unit, rules[claim], readings.get(claim)))
    return made


def _columns(table: str, *columns: str, **where: str) -> list[tuple]:
    rows = paper.table(table)
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return list(rows[list(columns)].itertuples(index=False, name=None))


def verdict(target: float, measured: Measured, tolerance: float, direction: str = "equal") -> str:
    """One of "reproduced", "exceeded", "partly", "not reproduced", by `RULE`; "least" and "most" are bounds."""
    low = -float("inf") if direction == "most" else target - tolerance
    high = float("inf") if direction == "least" else target + tolerance
    inside = low <= measured.value <= high
    beyond = measured.low is not None and {
        "least": measured.low > target + tolerance,
        "most": measured.high < target - tolerance,
    }.get(direction, False)
    if beyond:
        return "exceeded"
    if measured.low is None:
        return "partly"  # also where the value lies outside: one run decides nothing
    if inside:
        return "reproduced" if measured.high - measured.low <= 6 * tolerance else "partly"
    return "partly" if measured.low <= high and measured.high >= low else "not reproduced"


@dataclass(frozen=True)
class Line:
    """A row of the finished scorecard: its verdict, its measured value with the scale, the small scales' results."""

    row: Row
    verdict: str
    measured: Measured | None = None
    scale: str = ""
    small: Mapping[str, str] = field(default_factory=dict)

    def cells(self) -> dict[str, str]:
        """The row as text, by column."""
        row, measured = self.row, self.measured
        sic = "" if row.correct is None else f" (sic; {row.number(row.correct, printed=True)})"
        several = f", {measured.runs} runs" if measured and measured.runs > 1 else ""
        remark = f", {measured.remark}" if measured and measured.remark else ""
        deltas = [one - row.target for one in row.readings(measured.value).values()] if measured else []
        return {
            "what": row.what,
            "paper": row.number(row.printed, printed=True) + sic,
            "measured": row.told(measured.value) + " computed" * (measured.runs == 0) if measured else "–",
            "delta": ", ".join("+" * (delta > 0) + row.number(delta) for delta in deltas) or "–",
            "interval": _interval(row, measured),
            "paper inside": _holds(row, measured),
            "scale": f"{self.scale}{several}{remark}" or "–",
            "verdict": f"{VERDICTS[self.verdict]} {self.verdict}",
            "small scales: no verdict": " · ".join(f"{scale} {text}" for scale, text in self.small.items()) or "–",
        }


def _interval(row: Row, measured: Measured | None) -> str:
    if measured is None or measured.low is None:
        return "–"
    if row.counted:
        return "a count"
    both = zip(*(row.readings(bound).values() for bound in (measured.low, measured.high)), strict=True)
    return ", ".join(f"{row.number(low)} to {row.number(high)}" for low, high in both)


def _holds(row: Row, measured: Measured | None) -> str:
    """Whether the paper's value lies in our interval, at the printed precision."""
    if measured is None or measured.low is None or row.counted or row.rule["kind"] != "measured":
        return "–"
    return "yes" if measured.low - row.half_digit <= row.target <= measured.high + row.half_digit else "no"


class Card(NamedTuple):
    """The scorecard, and notes in sentences about the records behind it."""

    lines: list[Line]
    notes: list[str]


def scorecard(records: Sequence[Mapping[str, Any]]) -> Card:
    """The scorecard of every cell of Tables 1–4 and every claim against these records."""
    runs = {scale: Runs(records, scale) for scale in EVIDENCE + SMALL_SCALES}
    notes, lines = [note for of_scale in runs.values() for note in _notes(of_scale)], []
    for row in rows():
        line, troubles = _line(row, runs)
        lines.append(line)
        notes += [trouble for trouble in troubles if trouble not in notes]
    return Card(lines, notes)


def _line(row: Row, runs: Mapping[str, Runs]) -> tuple[Line, list[str]]:
    kind = row.rule["kind"]
    if kind in ("protocol", "quoted"):
        return Line(row, "how it was done" if kind == "protocol" else "quoted"), []
    if kind == "arithmetic":
        measured = row.read(runs["paper"])
        fits = abs(measured.value - row.target) <= row.tolerance + 1e-9
        return Line(row, "adds up" if fits else "does not add up", measured, "arithmetic"), []
    measured, troubles = {}, {}
    for scale, of_scale in runs.items():
        try:
            measured[scale] = row.read(of_scale)
        except ValueError as error:
            measured[scale], troubles[scale] = None, f"{scale}: {error}"
    small = {scale: _small(row, measured[scale]) for scale in SMALL_SCALES if measured[scale]}
    scale = next((scale for scale in EVIDENCE if measured[scale]), "")
    if not scale:
        refused = any(scale in troubles for scale in EVIDENCE)
        return Line(row, "refused" if refused else "not run", small=small), list(troubles.values())
    word = "other hardware"
    if kind == "measured":
        word = verdict(row.target, measured[scale], row.tolerance, row.rule["direction"])
    return Line(row, word, measured[scale], scale, small), list(troubles.values())


def _small(row: Row, measured: Measured) -> str:
    spread = "" if measured.low is None or row.counted else f" [{_interval(row, measured)}]"
    runs = f"{measured.runs} runs" if measured.runs > 1 and not row.counted else ""
    return ", ".join(filter(None, [f"{row.told(measured.value)}{spread}", runs, measured.remark]))


def _notes(runs: Runs) -> list[str]:
    """The notes on gaps and mixed code among the records of a scale, and on records that must not be compared."""
    tuned = [record for record in runs.records if record["kind"] == "finetuning"]
    grids: dict[str, list] = {f"{runs.scale}, fine-tuning": tuned}
    for record in runs.records:
        if record["kind"] == "ablation":
            grids.setdefault(record["grid"], []).append(record)
    gone = {f"it is not the paper's task, {r['task']}: {r['data'].get('stand_in_why')}" for r in runs.parts}
    gone |= {f"other runs had more rows, {r['task']} on {rows_of(r)[0]:,} rows" for r in runs.on_fewer}
    notes = [f"{runs.scale}, left out because {why}" for why in sorted(gone)]
    for name, grid in grids.items():
        try:
            sentences = check_comparable(grid, lambda _: {}) if grid is tuned else ablation.compare(grid).notes
            notes += [f"{name}: {note}" for note in sentences]
        except ValueError as error:
            notes.append(f"{name}: {error}")
    for model in dict.fromkeys(record["model"] for record in tuned if runs.scale not in EVIDENCE):
        if model != "teacher" and (why := why_refused(tuned, runs.scale, model)):
            notes.append(f"{runs.scale}, no share for {model}: {why}")
    return notes


def headlines(card: Card) -> list[dict[str, str]]:
    """The rows of the headline claims alone, and what would falsify each."""
    wanted = ("paper", "measured", "interval", "scale", "verdict")
    return [
        {"claim": line.row.what}
        | {key: line.cells()[key] for key in wanted}
        | {"falsified by an interval": _falsified(line.row)}
        for line in card.lines
        if line.row.rule.get("headline") == "yes"
    ]


def _falsified(row: Row) -> str:
    if row.rule["kind"] != "measured":
        return "–"
    low, high = row.number(row.target - row.tolerance), row.number(row.target + row.tolerance)
    bounds = {"least": f"below {low}", "most": f"above {high}", "equal": f"outside {low} to {high}"}
    return bounds[row.rule["direction"]]


def tally(card: Card) -> str:
    """The number of cells with each verdict, in a sentence."""
    counts = Counter(line.verdict for line in card.lines)
    return f"{len(card.lines)} cells and claims: " + ", ".join(f"{v} {counts[v]}" for v in VERDICTS if counts[v]) + "."


IN_SHORT = ("reproduced", "exceeded", "partly", "not reproduced", "refused", "other hardware", "does not add up")


def in_short(card: Card) -> str:
    """A Markdown list of the results that reproduced, did not, or were not run."""
    bullets = []
    for word in IN_SHORT:
        lines = [line for line in card.lines if line.verdict == word]
        told = [f"{line.row.what} (paper {line.cells()['paper']}, here {line.cells()['measured']})" for line in lines]
        if told or word in ("reproduced", "not reproduced"):
            bullets.append(f"- **{word}**: {'; '.join(told) or 'none'}.")
    missing = [line for line in card.lines if line.verdict == "not run"]
    if missing:
        parts = Counter(line.row.part for line in missing)
        bullets.append(
            f"- **not run**: {', '.join(f'{count} of {part}' for part, count in parts.items())}. They need the "
            "paper's models and a GPU: `distilnb evidence --scale base`."
        )
    return "\n".join(bullets)


def small_rows(card: Card) -> list[dict[str, str]]:
    """The bounds that the paper claims, and Table 4, beside what the small scales with real tasks found; [] without."""
    bounds = ("least", "most")
    lines = [line for line in card.lines if line.small.keys() & set(REAL)]
    lines = [line for line in lines if line.row.part == "Table 4" or line.row.rule.get("direction") in bounds]
    ran = [scale for scale in REAL if any(scale in line.small for line in lines)]
    return [
        {"claim": line.row.what, "paper": line.cells()["paper"]}
        | {f"{scale}: no verdict": line.small.get(scale, "–") for scale in ran}
        for line in lines
    ]


def tables(card: Card) -> dict[str, list[dict[str, str]]]:
    """The scorecard by heading, as rows of text."""
    parts = groupby(card.lines, attrgetter("row.part"))
    return {part: [line.cells() for line in lines] for part, lines in parts}


TITLE = "Does the paper hold?"
HEADLINES = "The headline claims, and what would falsify them"
SMALL = "On real text and tasks, at small scales"


def _sections(card: Card) -> dict[str, Any]:
    """The scorecard by heading: rows of a table, or a text in Markdown; without those that have nothing to tell."""
    notes = "\n".join(f"- {note}" for note in card.notes)
    parts = {HEADLINES: headlines(card), SMALL: small_rows(card), **tables(card)}
    parts |= {"How a verdict is found": RULE, "Notes on the records": notes}
    return {heading: part for heading, part in parts.items() if part}


def markdown(card: Card, opening: str = "") -> str:
    """The whole scorecard as a Markdown document, after an `opening` paragraph."""
    text = [f"# {TITLE}", "*Written by `distilnb report` from the records; not to be edited.*"]
    text += [*([opening] if opening else []), tally(card), in_short(card)]
    for heading, part in _sections(card).items():
        text += [f"## {heading}", part if isinstance(part, str) else tables_module.table(part)]
    return "\n\n".join(text) + "\n"


def page(card: Card, results: Mapping[str, list[dict[str, Any]]], drawn: Mapping[str, str]) -> str:
    """The scorecard, our own results (title → rows) and the figures (name → svg) as one HTML page in one file."""
    sections = {
        heading: pages.html_text(part) if isinstance(part, str) else pages.html_table(part)
        for heading, part in (_sections(card) | results).items()
    }
    sections[HEADLINES] = pages.html_text(f"{tally(card)}\n\n{in_short(card)}") + sections[HEADLINES]
    sections["Figures"] = "\n".join(pages.html_figure(svg, name) for name, svg in drawn.items())
    return pages.page(TITLE, sections)
