"""Checks of notebook 09: shares that explain a score, a few answers, reachable scores, a mean's slack, a refutation."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor
from typing import Any

from ...evidence import paper
from ...evidence.records import KEYS
from ...report import scorecard
from ...tasks import glue
from . import NotYet, ask, close, exercise, mistake

MODELS = ("BERT-base", "DistilBERT")


def _explaining(task: str, whole: Callable[[float], int] = ceil) -> set[int]:
    """The numbers of processes with which one process's share can give DistilBERT's score of October 2019."""
    rows, score = glue.get_task(task).rows["validation"], paper.glue("DistilBERT", task, "2019-10")
    shares = {n: whole(rows / n) for n in range(1, 17)}
    return {n for n, share in shares.items() if any(round(100 * k / share, 1) == score for k in range(share + 1))}


@exercise("09.1", 2)
def processes(answer: Sequence[int]) -> str:
    """The numbers of processes up to 16 that explain DistilBERT's scores on RTE and on WNLI of October 2019."""
    by_task = {task: _explaining(task) for task in ("rte", "wnli")}
    result, both = {int(n) for n in answer}, by_task["rte"] & by_task["wnli"]
    if result == both:
        return (
            f"of 1 to 16 only {' and '.join(map(str, sorted(both)))}, and both are numbers of GPUs that one buys; "
            f"the paper had {paper.claim('training_gpus').value:.0f}."
        )
    for task, other in (("wnli", "rte"), ("rte", "wnli")):
        if result == by_task[task] != both:
            raise NotYet(f"these explain the score on {task.upper()}; which of them explain {other.upper()} as well?")
    if result == set.intersection(*(_explaining(task, floor) for task in by_task)):
        raise NotYet(
            "with shares rounded down no number fits both; the sampler hands out ceil(rows / processes) to each"
        )
    if wrong := sorted(result - both):
        raise NotYet(
            f"{wrong[0]} explains not both: a share is ceil(rows / processes), of 277 rows and of 71, and "
            "some k / share must round to 62.9 and to 44.4"
        )
    raise NotYet("all of yours are right, but some are missing: try every number from 1 to 16, not only one")


@exercise("09.2", 5)
def answers_from_97(answer: int) -> str:
    """The number of right answers on RTE whose loss would have turned 97 % into 96 %."""
    student, teacher = (paper.glue(model, "macro") for model in reversed(MODELS))
    spare = student - 0.965 * teacher  # points of the macro score
    rows = glue.get_task("rte").rows["validation"]
    right = ceil(spare * 9 / 100 * rows)
    if answer == right:
        shares = [100 * (student - lost * 100 / rows / 9) / teacher for lost in (0, right)]
        return f"{right} right answers less, and {shares[0]:.2f} % is {shares[1]:.2f} %: one would print 96, not 97."
    if answer == ceil(spare / 100 * rows):
        raise NotYet(
            "you took points of RTE for points of the macro score; a task has a ninth of the weight, so nine "
            "times as much must be lost on it"
        )
    if answer == floor(spare * 9 / 100 * rows):
        raise NotYet(f"with {answer} less the share is still 96.5 % or more, and that rounds to 97; round up")
    if answer > right:
        raise NotYet(
            "fewer are enough: a share is printed as 96 as soon as it is below 96.5, and a point of the macro score is "
            "nine of RTE"
        )
    raise NotYet(
        f"one answer is {100 / rows:.2f} points of RTE and a ninth of that of the macro score; from "
        f"{student} of {teacher}, how many until it is below 96.5 %?"
    )


@exercise("09.3", 10)
def reachable(answer: Callable[[int], float]) -> str:
    """The share of the scores 0.0, 0.1 … 100.0 that an accuracy over a number of rows can reach."""
    shares = {}
    for name in ("rte", "wnli", "sst2", "qnli"):
        n = glue.get_task(name).rows["validation"]
        printed = len({round(100 * k / n, 1) for k in range(n + 1)})
        result, shares[name] = float(ask(answer, n)), printed / 1001
        if close(result, shares[name], relative=1e-6):
            continue
        told = f"{n} rows: yours is {result:.4f}, of 1,001 scores {printed} can be. "
        hints = {
            printed: "You give their number; the share of all 1,001 is asked for",
            100 * printed / 1001: "That is in percent; give a fraction of 1",
            n / 1001: "From 0 right answers to all, there are n + 1 possibilities",
            (n + 1) / 1001: "With many rows several k are printed alike; count different printed numbers, in a set",
            printed / 1000: "0.0, 0.1 … 100.0 are 1,001 numbers, both ends included",
            None: "Print every k / n with one decimal, as the paper does, and count the different ones",
        }
        raise NotYet(f"{told}{mistake(result, hints, 1e-6)}")
    caught = ", ".join(f"{100 * (1 - share):.0f} % on {glue.get_task(name).title}" for name, share in shares.items())
    return f"a number out of thin air would be caught with {caught}: in large sets an error leaves no such trace."


@exercise("09.4", 20)
def slack(answer: Callable[[list[float], float], tuple[float, float]]) -> str:
    """The greatest error, down and up, of a single value that the printed mean of nine does not reveal."""
    by_row = {}
    for vintage in ("2020-01", "2019-10", "readme"):
        for model in MODELS:
            values = [paper.glue(model, task, vintage) for task in glue.GLUE]
            printed = paper.glue(model, "macro", vintage)
            total, nine = sum(round(10 * value) for value in values), 9 * round(10 * printed)  # in tenths
            right = by_row[model, vintage] = ((total - (nine - 4)) / 10, (nine + 4 - total) / 10)
            result = tuple(float(way) for way in ask(answer, list(values), printed))
            if not close(result, right, absolute=0.01):
                raise NotYet(
                    f"{model}, {vintage}: yours is {_shown(result)}, right is {_shown(right)}. "
                    + _slack_hint(result, right)
                )
    return (
        f"{_shown(by_row['BERT-base', '2020-01'])} in January: addition finds slips of about half a point and "
        "more, such as 86.7 for 84.7; one that is off by a tenth or two it will not."
    )


def _shown(ways: Sequence[float]) -> str:
    return "(" + ", ".join(f"{way:.2f}".removesuffix("0") for way in ways) + ")"


def _slack_hint(result: Sequence[float], right: tuple[float, float]) -> str:
    if close(result, [-right[0], right[1]], absolute=0.01):
        return "Give both as sizes: how much lower, and how much higher, neither with a minus"
    if close(result, right[::-1], absolute=0.01):
        return "Those are the right ones the other way round: first how much lower, then how much higher"
    if close(result, [0.45, 0.45], absolute=0.06):
        return "The mean of the nine is not the printed number itself, so there is more room on one side than the other"
    if max(result) <= 0.1:
        return "A single value moves the mean by a ninth of its own change, so nine times as much goes unnoticed"
    return "In steps of 0.1: add to one value and round the mean of nine to one decimal, until that is another number"


@exercise("09.5", 45)
def falsified(records: Sequence[Mapping[str, Any]]) -> str:
    """Invented records at scale base with which the scorecard refutes the 97 %."""
    records = list(records)
    if not records or not all(isinstance(record, Mapping) for record in records):
        raise NotYet("a list of records is asked for; `records.new_record` makes one, with the provenance filled in")
    if not all(set(KEYS) - {"sha256"} <= set(record) for record in records):
        raise NotYet("a record lacks keys that the scorecard reads: make it with `records.new_record('finetuning', …)`")
    try:
        card = scorecard.scorecard(records)
    except (KeyError, TypeError) as error:
        raise NotYet(
            f"the scorecard stumbled over {error}: a fine-tuning record has scores['main'], config and "
            "data['fingerprint'] too; look at one in data/runs"
        ) from error
    line = next(line for line in card.lines if line.row.what == paper.claim("retained").text)
    if line.verdict == "not reproduced":
        return (
            f"{_measured(line.measured)}, wholly below 96.5: refuted, by records that are invented. So a record's "
            "checksum only shows that nobody changed it; who wants to believe it runs it again."
        )
    if line.verdict == "not run":
        missing = [task for task in glue.GLUE if task not in {record["task"] for record in records}]
        what = f"missing: {', '.join(missing)}" if missing else "is each there for teacher and student, at scale base?"
        raise NotYet(f"not run: a macro score takes all nine tasks of both models or none; {what}")
    if line.verdict == "refused":
        raise NotYet(
            "refused: the records of a task must have equal settings and data, and no seed twice. " + card.notes[0]
        )
    told = f"{line.verdict}: {_measured(line.measured)}. "
    if line.measured.value < line.row.target - line.row.tolerance:
        if line.measured.low is None:
            raise NotYet(told + "That is below 96.5, but one seed has no interval: add others")
        raise NotYet(
            told + "The middle is below 96.5, but the interval reaches above it; seeds that "
            "differ less, or more of them, make it narrower"
        )
    raise NotYet(
        told + "The claim is a bound from below, “at least 96.5 %”; the student's scores must "
        "be lower, or its teacher's higher"
    )


def _measured(value: scorecard.Measured) -> str:
    interval = "" if value.low is None else f" [{value.low:.1f}, {value.high:.1f}]"
    return f"{value.value:.1f} %{interval}"
