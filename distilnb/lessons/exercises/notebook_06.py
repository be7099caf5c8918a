"""Checks of notebook 06: a partial answer, windows, the best span, human scores, a student as its own teacher."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ... import paths
from ...evidence.comparing import differences, plain
from ...tasks import metrics, squad
from ...tasks.answers import LONGEST_ANSWER, best_spans
from . import NotYet, ask, close, exercise


@exercise("06.1", 1)
def two_thirds(prediction: str, gold: str) -> str:
    """Two texts with F1 = 2/3 and no exact match."""
    exact, f1 = metrics.exact_match(prediction, [gold]), metrics.squad_f1(prediction, [gold])
    guessed, theirs = (len(metrics.normalize_answer(text).split()) for text in (prediction, gold))
    shared = round(f1 * (guessed + theirs) / 2)
    told = f"{shared} shared of {guessed} and {theirs} words: 2 · {shared} / ({guessed} + {theirs}) = {f1:.2f}"
    if exact:
        raise NotYet("these match exactly once case, punctuation and articles are gone; one needs a word more")
    if not close(f1, 2 / 3):
        raise NotYet(f"{told}; for 2/3, three times the shared words must be the words of both together")
    return f"{told}; precision {shared}/{guessed} and recall {shared}/{theirs}, and still no exact match."


@cache
def _tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(paths.data("teachers", "toy"))


def _windows(context: int, question: int, max_length: int, stride: int) -> int:
    """The number of windows that the package makes of these numbers of tokens."""
    answers = {"text": ["the"], "answer_start": [0]}
    row = {"question": "the " * question, "context": "the " * context, "answers": answers}
    return len(squad.features(Dataset.from_list([row]), _tokenizer(), max_length, stride))


@exercise("06.2", 5)
def number_of_windows(answer: Callable[[int, int, int, int], int]) -> str:
    """The number of windows for a context and a question of given lengths."""
    usual = [(context, 20, 384, 128) for context in (300, 1000, 361, 362, 489)]  # 361 just fit, 489 fill two
    for sizes in (*usual, (500, 10, 64, 16)):
        context, question, max_length, stride = sizes
        result, right = ask(answer, *sizes), _windows(*sizes)
        if result == right:
            continue
        room = max_length - question - 3
        beyond, told = max(context - room, 0), f"{sizes}: yours says {result}, the package makes {right}. "
        if right == 1:
            raise NotYet(told + "A context that fits is one window, whatever the stride")
        if result == 1 - (-beyond // (room - stride)):
            raise NotYet(
                told + "You took the stride for the overlap, as transformers' tokenizers do; here, as in "
                "BERT, it is the step to the next window"
            )
        if result == -(-context // room):
            raise NotYet(told + "Your windows lie end to end; here the next one starts `stride` tokens after the last")
        if result == right + 1 and not beyond % stride:
            raise NotYet(told + "Your last window brings nothing new: here the one before it ends with the context")
        if result in {1 - (-max(context - max_length + question + n, 0) // stride) for n in (0, 1, 2)}:
            raise NotYet(told + "[CLS], the [SEP] after the question and the one at the end take three places")
        raise NotYet(told + "The first holds `room` tokens; each further one adds `stride`, until none is left over")
    return (
        "as many as the package makes, whose stride is BERT's doc_stride: a small one reads each answer more "
        "often, and costs as much more."
    )


@exercise("06.3", 15)
def best_span(answer: Callable[[np.ndarray, np.ndarray], tuple[int, int]]) -> str:
    """The start and end with the highest sum, the end not before the start, for spans of any length."""
    draw = np.random.default_rng(6)
    pairs = [draw.normal(size=(2, tokens)) for tokens in (1, 2, 5, 40, 40, 40)]
    pairs.append(np.array([[4.0, 0.0, 5.0, 0.0], [0.0, 5.0, 0.0, 1.0]]))  # the best start has no good end after it
    pairs.append(np.zeros((2, 60)))
    pairs[-1][0, 3] = pairs[-1][1, 55] = 9.0  # a span longer than the package's usual limit
    for start, end in pairs:
        everywhere = np.zeros((len(start), 2), dtype=int)
        (best,) = best_spans(start, end, everywhere, n_best=1, max_answer_length=len(start))
        first, last = (int(token) for token in ask(answer, start.copy(), end.copy()))
        if (first, last) == (best.start, best.end):
            continue
        if first > last:
            raise NotYet(
                f"from token {first} back to {last}: a span must not end before it starts, so the best start "
                "and the best end cannot be chosen apart"
            )
        if not 0 <= first <= last < len(start):
            raise NotYet(
                f"tokens {first} to {last}, of {len(start)}: the last one is the last of the answer, not past it"
            )
        if best.end - best.start >= LONGEST_ANSWER > last - first:
            raise NotYet(
                f"the best span goes from token {best.start} to {best.end}, yours from {first} to {last}: here its "
                "length has no limit"
            )
        raise NotYet(
            f"tokens {first} to {last} sum up to {start[first] + end[last]:.2f}, {best.start} to {best.end} "
            f"to {best.score:.2f}: for each end, the partner is the best start up to it, itself "
            "included"
        )
    return "one walk is enough: an end needs only the best start so far, or under a limit the best of the last few."


@cache
def _read() -> Dataset:
    return squad.load_split("validation", n=100)


@exercise("06.4", 20)
def ceiling(answer: Callable[[Dataset], tuple[float, float]]) -> str:
    """The EM and F1 of each row's last reader against the others."""
    result = ask(answer, _read())
    texts = [golds["text"] for golds in _read()["answers"][:]]
    right = _agreement([(golds[-1], golds[:-1]) for golds in texts])
    if close(result, right, absolute=1e-4):
        return (
            f"the third reader of toyworld has EM {100 * right[0]:.0f} and F1 {100 * right[1]:.0f} against the "
            "other two: what people disagree about, no model can be blamed for."
        )
    if close(result, [1.0, 1.0]):
        raise NotYet("full marks: the last answer is among the golds it is compared with; leave it out of them")
    if close(result, 100 * np.array(right), absolute=0.01):
        raise NotYet("right in percent; the package counts in fractions of 1, so do the same here")
    if close(result, _agreement([(golds[-1], golds[:1]) for golds in texts]), absolute=1e-4):
        raise NotYet("compared with the first reader only; the best of all the others counts, as it does for a model")
    if close(result, right[::-1], absolute=1e-4):
        raise NotYet("the right two numbers in the wrong order: EM comes first and is never above F1")
    raise NotYet(
        "for each row: the last of answers['text'] is the prediction, all before it are the golds; then "
        "metrics.exact_match and metrics.squad_f1, each averaged over the rows, as (em, f1)"
    )


def _agreement(pairs: list[tuple[str, list[str]]]) -> tuple[float, float]:
    exact, f1 = ([score(*pair) for pair in pairs] for score in (metrics.exact_match, metrics.squad_f1))
    return float(np.mean(exact)), float(np.mean(f1))


@exercise("06.5", 45)
def own_teacher(alone: Mapping[str, Any], taught: Mapping[str, Any], gains: Sequence[float], says: str) -> str:
    """Whether a student gains by being its own teacher: two records, the gains in F1, and better, worse or cannot
    tell."""
    if not all(isinstance(record, Mapping) and record.get("kind") == "finetuning" for record in (alone, taught)):
        raise NotYet("two records of fine-tuning are asked for, as `finetuning.finetune` returns them")
    if "taught_by" in alone or "taught_by" not in taught:
        raise NotYet("the first record is to be without a teacher and the second with one: `finetune(..., teacher=…)`")
    same = [
        {key: plain(record[key]) for key in ("task", "config", "data", "started_from")} for record in (alone, taught)
    ]
    if differing := differences(*same):
        raise NotYet(
            f"more than the teacher differs ({'; '.join(differing[:2])}): start both from the same model, "
            "seed and settings, or the difference may come from there"
        )
    gains, rows = np.asarray(gains, dtype=float), alone["data"]["rows"]["validation"]
    if gains.shape != (rows,):
        raise NotYet(f"one gain for each of the {rows} questions is asked for; these have the shape {gains.shape}")
    recorded, mean = 100 * (taught["scores"]["f1"] - alone["scores"]["f1"]), gains.mean()
    if not close(mean, recorded, relative=0, absolute=max(0.5, 100 / rows)):  # a question may round the other way
        raise NotYet(
            f"your gains average {mean:+.2f}, by the records it is {recorded:+.2f} points: F1 in points, from 0 to "
            "100, of the second run less that of the first, question by question"
        )
    reach = 1.96 * gains.std(ddof=1) / rows**0.5
    right = "cannot tell" if abs(mean) <= reach else "better" if mean > 0 else "worse"
    if says not in ("better", "worse", "cannot tell"):
        raise NotYet("say 'better' or 'worse', or 'cannot tell' where the interval of the mean gain holds 0")
    if says != right:
        raise NotYet(
            f"the mean gain is {mean:+.1f} ± {reach:.1f} points: does that bear out '{says}'? Two ranges of the same "
            "questions may overlap all the same; what counts is the range of the difference"
        )
    if right == "cannot tell":
        return (
            "the interval of the mean gain holds 0, so one seed of this size cannot tell; most single comparisons end "
            "here."
        )
    return (
        f"{right} beyond the questions' noise, with a teacher that knows no more than its student: softened targets "
        "work by themselves, for better or worse. Another seed could still disagree."
    )
