"""Checks of notebook 05: a limit's cuts, reviews needed for a difference, a middle cut, calibration, a rival."""

from collections.abc import Callable, Sequence
from functools import cache
from statistics import median

import numpy as np

from ... import paths
from ...evidence import paper
from ...evidence.records import load_records
from ...tasks import glue, metrics
from . import NotYet, ask, close, exercise


@exercise("05.1", 1)
def reviews_cut(answer: int, lengths: Sequence[int]) -> str:
    """The number of these reviews that a limit of 256 word pieces cuts."""
    lengths = np.asarray(lengths)
    cut = int((lengths > 256).sum())
    if answer == cut:
        kept = 100 * np.minimum(lengths, 256).sum() / lengths.sum()
        return f"{cut} of {len(lengths)} reviews lose something, and yet {kept:.0f} % of all pieces are still read."
    if close(answer, cut / len(lengths)) or close(answer, 100 * cut / len(lengths)):
        raise NotYet("that is the share of the reviews; how many of them is it? Summing a mask counts its True values")
    if answer == len(lengths) - cut:
        raise NotYet("so many reviews fit into 256 as they are; asked for are the others, which lose something")
    if answer == int((lengths > 254).sum()):
        raise NotYet("[CLS] and [SEP] are in `lengths` already, and the limit counts them too: nothing to subtract")
    raise NotYet("count the reviews whose `lengths` is above 256: one comparison of the whole array, then its sum")


@exercise("05.2", 5)
def rows_needed(answer: float) -> str:
    """The number of test reviews that shows the paper's difference on IMDb when each model has its own reviews."""
    p, q = (paper.downstream(model, "imdb", "accuracy") / 100 for model in ("BERT-base", "DistilBERT"))
    noise, gap = p * (1 - p) + q * (1 - q), p - q
    needed = 1.96**2 * noise / gap**2
    if close(answer, needed, relative=0.02):
        reach = {n: 196 * (noise / n) ** 0.5 for n in (400, 25_000)}
        return (
            f"about {round(needed, -2):,.0f} reviews; with IMDb's 25,000 the interval of the difference is "
            f"±{reach[25_000]:.2f} points around {100 * gap:.2f}, with the 400 of toyworld "
            f"±{reach[400]:.1f}."
        )
    if close(answer, needed / 1.96**2, relative=0.02) or close(answer, needed / 1.96, relative=0.02):
        raise NotYet("there the standard error equals the difference; 1.96 of them must fit in, and n is under a root")
    if any(close(answer, 1.96**2 * x * (1 - x) / gap**2, relative=0.02) for x in (p, q)):
        raise NotYet("one model's noise only: both accuracies are measured, and the variances of independent ones add")
    if close(answer, needed * 1e-4, relative=0.02) or close(answer, needed * 1e4, relative=0.02):
        raise NotYet("points and fractions are mixed: 0.64 points are 0.0064 where p(1 − p) is a fraction")
    raise NotYet(
        "a difference has the variance (p(1 − p) + q(1 − q)) / n; set 1.96 of its roots equal to p − q, find n"
    )


@exercise("05.3", 10)
def middle(answer: Callable[[list[int], int], Sequence[int]]) -> str:
    """A cut that keeps [CLS], the middle of a review, and [SEP]."""
    for length, limit in ((30, 12), (31, 12), (200, 96), (12, 12), (8, 12)):
        ids = [1, *range(100, 98 + length), 2]
        kept, body, room = list(ask(answer, list(ids), limit)), ids[1:-1], limit - 2
        if length <= limit:
            if kept != ids:
                raise NotYet(f"a review of {length} fits into {limit} and must stay as it is, yours became {len(kept)}")
            continue
        if kept[:1] != ids[:1] or kept[-1:] != ids[-1:]:
            raise NotYet("[CLS] or [SEP] is lost: take ids[0] and ids[-1] away, cut the rest, and put them back")
        if len(kept) != limit:
            raise NotYet(f"{len(kept)} ids for a limit of {limit}: [CLS] and [SEP] take two places of it")
        starts = {(len(body) - room) // 2, (len(body) - room + 1) // 2}
        if kept[1:-1] not in [body[start : start + room] for start in starts]:
            raise NotYet(
                "the right number of ids, but not the middle: as much must be lost before it as after it, "
                "so it starts at half of what is too long"
            )
    return (
        "the middle and nothing else. In toyworld opinions are spread evenly; on IMDb Sun and others did best with "
        "head and tail. Whether the middle loses is for a run to say."
    )


@exercise("05.4", 20)
def calibration_error(answer: Callable[[np.ndarray, np.ndarray, Sequence[float]], float]) -> str:
    """The mean distance between confidence and accuracy over bins, each weighted by its rows."""
    draw, edges = np.random.default_rng(5), [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    for bins in ([0, 0, 0, 1, 4], [0, 1, 2, 3, 4], [2, 2, 4]):  # the first and the last leave some bins empty
        confidence = np.concatenate([draw.uniform(edges[b] + 0.01, edges[b + 1] - 0.01, 40) for b in bins])
        right = draw.random(len(confidence)) < 0.75
        place = np.digitize(confidence, edges)
        gaps = {b: (right[place == b].mean() - confidence[place == b].mean(), (place == b).sum()) for b in set(place)}
        gap, rows = np.array(list(gaps.values())).T
        share, whole = rows / rows.sum(), abs(right.mean() - confidence.mean())
        result = float(ask(answer, confidence.copy(), right.copy(), list(edges)))
        if close(result, share @ abs(gap)):
            continue
        if np.isnan(result):
            raise NotYet("nan: the mean of an empty bin is no number; leave out bins in which no confidence falls")
        if any(close(result, mean) for mean in (abs(share @ gap), share @ gap, whole)):
            raise NotYet("too sure in one bin makes up for too timid in another: take absolute values before adding up")
        if close(result, abs(gap).mean()):
            raise NotYet("each bin counts alike in yours; one with a handful of rows should weigh a handful")
        if close(result, abs(gap).sum()):
            raise NotYet("a sum over bins grows with their number; weight each by its share of the rows")
        raise NotYet(
            "in each bin take |share of right answers − mean confidence| (not the middle of the bin), then the "
            "mean over bins, weighted by their rows"
        )
    return "calibrated is not good: a model that answers everything by chance and is 50 % sure of it has an error of 0."


@cache
def _reviews() -> glue.TaskData:
    return glue.load_data("imdb", "toyworld", n_train=1000, n_validation=400)


@exercise("05.5", 45)
def rival(answer: Callable[[list[str], list[int], list[str]], Sequence[int]]) -> str:
    """A classifier without a network, tried on toyworld's reviews, that passes the published student."""
    train, test = _reviews().train, _reviews().validations["test"]
    guesses = np.asarray(ask(answer, train["text"][:], train["label"][:], test["text"][:]))
    if guesses.shape != (len(test),) or not np.isin(guesses, (0, 1)).all():
        raise NotYet(
            f"give one label, 0 or 1, for each of the {len(test)} texts; this has the shape {guesses.shape} "
            f"and holds {guesses.ravel()[:1].tolist()}"
        )
    published = load_records(paths.data("runs"), kind="finetuning", task="imdb", scale="toy", model="student")
    student = 100 * median(record["scores"]["main"] for record in published)
    share = 100 * metrics.accuracy(guesses, np.asarray(test["label"][:]))
    if share > student:
        return (
            f"above the published student's {student:.1f} %: it read 128 word pieces of each review, yours read "
            "them all. A baseline is worth an afternoon before a network is worth a GPU."
        )
    if share <= 52:
        raise NotYet(f"{share:.1f} %: half is right by chance here. Do the answers depend on the words of the text?")
    if share < 65:
        raise NotYet(
            f"{share:.1f} %: good and bad words stand in the same sentence, so counting each for itself says "
            "little; learn all weights together, as a logistic regression does"
        )
    raise NotYet(
        f"{share:.1f} %, the student has {student:.1f}: “far from good” and “despite its poor stage” need more "
        "than single words; count pairs of neighbours too"
    )
