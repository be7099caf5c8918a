"""Checks of notebook 08: pairs needed, many intervals, broken pairs, the least p value, a temperature axis."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from ... import paths
from ...evidence import paper, statistics
from ...evidence.records import load_records
from ...studies import ablation
from . import NotYet, ask, close, exercise


@exercise("08.1", 1)
def pairs_for_the_cosine(answer: int) -> str:
    """The number of pairs with a spread of 0.5 that shows the paper's difference without the cosine loss."""
    effect, spread = paper.ablation("no_cos"), 0.5
    needed = statistics.pairs_needed(spread, effect)
    if answer == needed:
        doubled, smaller = statistics.pairs_needed(2 * spread, effect), statistics.pairs_needed(spread, 0.31)
        return (
            f"{needed} pairs reach ±{statistics.half_width(spread, needed):.2f}; with twice the spread it takes "
            f"{doubled}, and for −0.31 {smaller}."
        )
    if answer == statistics.pairs_needed(spread, paper.ablation("no_mlm")):
        raise NotYet("that is for the third row, −0.31 without masked words; the question is about the cosine loss")
    if not answer >= 2:
        raise NotYet(
            "one pair has no spread, and with 1.96 instead of Student's t the interval is far too narrow: "
            "two pairs reach 9 standard deviations"
        )
    shown = statistics.power(int(answer), spread, effect)
    hint = "too seldom" if answer < needed else "and fewer pairs will do"
    raise NotYet(
        f"{answer} pairs show it in {shown:.0%} of repetitions, {hint}; `statistics.pairs_needed` takes the spread, "
        "then the effect"
    )


@exercise("08.2", 5)
def seven_intervals(miss: float, level: float) -> str:
    """The probability that any of seven independent 95 % intervals misses, and the level for 95 % in all."""
    right, wanted = 1 - 0.95**7, 0.95 ** (1 / 7)
    if close(miss, 100 * right, relative=0.02) or level > 1:
        raise NotYet("give fractions of 1, not percentages: 0.95 for 95 %, as `level` is given in the package")
    if close(miss, 7 * 0.05):
        raise NotYet(
            "0.35 is how many misses to expect, which is more than the chance of at least one: two may miss "
            "at once; begin with the chance that none does"
        )
    if close(miss, 1 - right):
        raise NotYet("that is the chance that all seven hold; at least one missing is the contrary")
    if not close(miss, right, absolute=0.005):
        raise NotYet("each holds with 0.95 and they are taken as independent: all seven hold with 0.95 · 0.95 · …")
    if not (close(level, wanted, relative=1e-4) or close(level, 1 - 0.05 / 7, relative=1e-4)):
        raise NotYet(
            f"the chance of a miss is right; at a level of {level:g} all seven hold with {level**7:.3f}, and "
            "that should be 0.95: turn the power round"
        )
    wider = statistics.half_width(1, 3, wanted) / statistics.half_width(1, 3)
    return (
        f"a table of seven misses somewhere in {100 * right:.0f} % of cases; to mend that, three pairs would need "
        f"intervals {wider:.1f} times as wide."
    )


@cache
def _published() -> list[dict[str, Any]]:
    return load_records(paths.data("runs"), kind="ablation", scale="toy")


def _apart(variant: str) -> list[dict[str, Any]]:
    """The published records with the seeds of one variant moved on by one."""
    seeds = sorted({record["seed"] for record in _published()})
    after = dict(zip(seeds, seeds[1:] + seeds[:1], strict=True))
    return [r | {"seed": after[r["seed"]]} if r["model"] == variant else r for r in _published()]


def _reach(records: Sequence[Mapping[str, Any]], variant: str) -> float:
    """Half the width of a variant's interval."""
    row = next(row for row in ablation.compare(records).rows if row["variant"] == variant)
    return (row["high"] - row["low"]) / 2


@exercise("08.3", 10)
def seeds_out_of_step(answer: Callable[[list[dict[str, Any]], str], Sequence[Mapping[str, Any]]]) -> str:
    """The records with one variant's seeds moved on by one, so that its pairs are broken."""
    given, variant = copy.deepcopy(_published()), "untrained"
    shuffled = list(ask(answer, given, variant))
    if given != _published():
        raise NotYet(
            "the records that were given have changed; make new ones, record | {'seed': …}, or the next "
            "comparison starts from the shuffled ones"
        )
    if len(shuffled) != len(given):
        raise NotYet(
            f"{len(given)} records went in and {len(shuffled)} came back: the other variants stay as they are, "
            "and the triple loss must be among them"
        )
    before, after = ({(r["model"], r["scores"]["macro"]): r["seed"] for r in records} for records in (given, shuffled))
    if before.keys() != after.keys():
        raise NotYet("only seeds may change; scores and names of the variants must be the same as before")
    moved = {model for (model, score), seed in before.items() if after[model, score] != seed}
    if moved - {variant}:
        raise NotYet(
            f"seeds moved in {', '.join(sorted(moved))}: when all move alike, the pairs stay together; only "
            f"those of {variant} should"
        )
    if stayed := [seed for (model, score), seed in before.items() if model == variant and after[model, score] == seed]:
        raise NotYet(
            f"seed {stayed[0]} of {variant} has kept its number and is still a pair; 0, 1, 2 can become 1, 2, 0"
        )
    try:
        apart = _reach(shuffled, variant)
    except ValueError as error:
        raise NotYet(f"these cannot be compared: {error}") from error
    return (
        f"{variant}: ±{_reach(given, variant):.1f} points in pairs, ±{apart:.1f} out of step; but no_ce: "
        f"±{_reach(given, 'no_ce'):.1f} in pairs, ±{_reach(_apart('no_ce'), 'no_ce'):.1f} out of step. Pairs help "
        "as far as a seed moves both alike, and no further."
    )


@exercise("08.4", 20)
def sign_flips(answer: Callable[[Sequence[float]], float]) -> str:
    """The exact two-sided p value of the mean difference when both signs of each difference are equally likely."""
    for deltas in ([-2.0, -1.0, -3.0], [0.5, 1.5, -1.0, 2.0], [1.0] * 6, [-1.0, 2.0, 0.5, -3.0, 1.0]):
        result = float(ask(answer, list(deltas)))
        flips = stats.permutation_test((deltas,), np.mean, permutation_type="samples", n_resamples=np.inf)
        right, all_ = float(flips.pvalue), 2 ** len(deltas)
        if close(result, right):
            continue
        told = f"{deltas}: yours is {result:.4f}, enumeration gives {right:.4f}. "
        if close(result, right / 2) or close(result, 1 - right / 2 + 1 / all_):
            raise NotYet(
                told + "That is one side; a mean as far on the other side would have surprised as much, so "
                "compare absolute values"
            )
        if result < right and close(result * all_, round(result * all_)):
            raise NotYet(
                told + "Means as far from 0 as the observed one count too, the observed one first of all; "
                "mind the rounding of floats when you compare"
            )
        if close(result, statistics.mean_interval(deltas).p):
            raise NotYet(
                told + "That is Student's t, which assumes a bell curve; here only the signs are taken as chance"
            )
        raise NotYet(
            told + f"Of all {all_} ways to put a + or − before the sizes, in which share is |mean| at least "
            "as large as observed?"
        )
    least = next(n for n in range(2, 20) if 2 / 2**n < 0.05)
    return (
        f"three pairs cannot get below {2 / 2**3}, however large the effect; without the bell curve it takes "
        f"{least} pairs until a p value of 0.05 is possible at all."
    )


@exercise("08.5", 60)
def temperatures(records: Sequence[Mapping[str, Any]], lowest_loss: float, most_agreement: float) -> str:
    """The temperatures with the lowest held-out loss and with the most agreement with the teacher, from records."""
    if not all(isinstance(record, Mapping) and record.get("kind") == "ablation" for record in records) or not records:
        raise NotYet("a list of ablation records is asked for, as `ablation.run_grid` returns them")
    try:
        losses, agreements = (ablation.compare(records, score).rows for score in ("mlm_loss", "agreement"))
    except ValueError as error:
        raise NotYet(f"these cannot be compared: {error}") from error
    others = {r["model"]: set(r["config"]["changes"]) - {"temperature"} for r in records}
    if any(others.values()) or len(others) < 3:
        raise NotYet(
            f"the records are of {', '.join(others)}; compare at least three temperatures and nothing else: "
            "the triple loss at 2, and two that `ablation.along('temperature', …)` makes"
        )
    of = {r["model"]: (r["config"]["pretraining"] | r["config"]["changes"])["temperature"] for r in records}
    loss, agreement = (
        {of[row["variant"]]: float(np.mean(list(row["values"].values()))) for row in rows}
        for rows in (losses, agreements)
    )
    for named in (lowest_loss, most_agreement):
        if named not in loss:
            raise NotYet(
                f"answer with two temperatures, of {', '.join(f'{t:g}' for t in sorted(loss))}; {named!r} is none"
            )
    if loss[lowest_loss] > min(loss.values()):
        worst = " (it has the highest: a loss is the better the lower)" * (loss[lowest_loss] == max(loss.values()))
        raise NotYet(
            f"temperature {lowest_loss:g} has a held-out loss of {loss[lowest_loss]:.3f}{worst}, another a "
            "lower one; look at `row['values']` of compare(records, 'mlm_loss')"
        )
    if agreement[most_agreement] < max(agreement.values()):
        raise NotYet(
            f"the loss is right; temperature {most_agreement:g} agrees in {agreement[most_agreement]:.1f} %, "
            "another in more: look at compare(records, 'agreement')"
        )
    pairs = min(len(row["seeds"]) for row in losses)
    told = "one seed, so no interval and no more than a hint" if pairs < 2 else f"{pairs} pairs: now read the intervals"
    return f"read rightly, {told}; the training loss could not have told, as the temperature is a part of it."
