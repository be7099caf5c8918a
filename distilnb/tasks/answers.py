"""Answer spans: from start and end logits to answers, and their exact match and F1 (notebook 06)."""

import math
import re
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from datasets import Dataset
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from ..evidence import statistics
from . import metrics
from .glue import Judgement

LONGEST_ANSWER = 30  # tokens, as in BERT


class Span(NamedTuple):
    """The first and last token of a span in one window, and the sum of their logits."""

    start: int
    end: int
    score: float


class Answer(NamedTuple):
    """An answer's text, its characters [start, end) in the context, its score, and its softmax share of the n best."""

    text: str
    score: float
    probability: float
    start: int
    end: int


def best_spans(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    offsets: np.ndarray,
    n_best: int = 20,
    max_answer_length: int = LONGEST_ANSWER,
) -> list[Span]:
    """The `n_best` spans of one window with the highest start + end logit, best first; ties go to the earlier, shorter.

    Logits are (seq,) or longer, `offsets` (seq, 2) as in `features`. A span begins and ends in the context and has at
    most `max_answer_length` tokens. All (seq × max_answer_length) spans are compared, because BERT's code, which pairs
    the 20 best starts with the 20 best ends and drops invalid pairs, may miss a good span.
    """
    inside = offsets[:, 0] >= 0
    starts = np.where(inside, start_logits[: len(inside)], -np.inf).astype(np.float64)
    ends = np.where(inside, end_logits[: len(inside)], -np.inf).astype(np.float64)
    longest = min(max_answer_length, len(inside))
    later = sliding_window_view(np.append(ends, np.full(longest - 1, -np.inf)), longest)
    scores = (starts[:, None] + later).ravel()  # (seq · longest): token i to i + j
    kept = min(n_best, int((scores > -np.inf).sum()))
    if not kept:
        return []
    least = np.partition(scores, -kept)[-kept]
    places = np.flatnonzero(scores >= least)
    places = places[np.argsort(-scores[places], kind="stable")][:kept]
    return [Span(int(k // longest), int(k // longest + k % longest), float(scores[k])) for k in places]


def find_answers(
    logits: Sequence[np.ndarray],
    features: Dataset,
    rows: Dataset,
    n_best: int = 20,
    max_answer_length: int = LONGEST_ANSWER,
    most_context: bool = False,
) -> list[list[Answer]]:
    """For each row of `rows`, the `n_best` answers over all of its windows, best first, and at least one.

    `logits[i]` is (length or longer, 2), start and end, for window i of `features`. The text of an answer is cut from
    the context. Of answers with equal texts the best is kept, as in BERT's code; without any span, the answer is the
    empty text. Raises ValueError when `logits` do not fit.
    """
    if len(logits) != len(features):
        raise ValueError(f"there are logits for {len(logits)} windows, but {len(features)} windows")
    if n_best < 1 or max_answer_length < 1:
        raise ValueError(f"n_best is {n_best} and max_answer_length {max_answer_length}; both are at least 1")
    windows = features.select_columns(["example", "length", "offsets"])[:]
    starts = most_context_starts(features) if most_context else None
    spans: list[list[tuple[float, int, int]]] = [[] for _ in range(len(rows))]
    for i, (example, length) in enumerate(zip(windows["example"], windows["length"], strict=True)):
        scores, offsets = np.asarray(logits[i]), windows["offsets"][i].reshape(-1, 2)
        if scores.ndim != 2 or len(scores) < length or scores.shape[1] != 2 or not np.isfinite(scores[:length]).all():
            raise ValueError(
                f"window {i} has {length} tokens; logits of shape {scores.shape} do not fit it or are not finite"
            )
        first = scores[:length, 0] if starts is None else np.where(starts[i], scores[:length, 0], -np.inf)
        for start, end, score in best_spans(first, scores[:length, 1], offsets, n_best, max_answer_length):
            spans[example].append((score, int(offsets[start, 0]), int(offsets[end, 1])))
    return [_ranked(candidates, context, n_best) for candidates, context in zip(spans, rows["context"][:], strict=True)]


def most_context_starts(features: Dataset) -> list[np.ndarray]:
    """For each window, whether each token (seq,) has more context in it than in any other window of the passage.

    The measure is BERT's: the smaller of the token counts to the left and to the right in the window, plus a hundredth
    of the window's length; ties go to the first window.
    """
    windows = features.select_columns(["example", "offsets"])[:]
    best: dict[tuple[int, int, int], tuple[float, int]] = {}
    keys: list[list[tuple[int, int, int] | None]] = []
    for i, (example, flat) in enumerate(zip(windows["example"], windows["offsets"], strict=True)):
        offsets = flat.reshape(-1, 2)
        inside = np.flatnonzero(offsets[:, 0] >= 0)
        keys.append([None] * len(offsets))
        for place, token in enumerate(inside):
            key = (int(example), *map(int, offsets[token]))
            keys[-1][token] = key
            context = min(place, len(inside) - 1 - place) + 0.01 * len(inside)
            if key not in best or context > best[key][0]:
                best[key] = context, i
    return [np.array([key is not None and best[key][1] == i for key in window]) for i, window in enumerate(keys)]


def _ranked(spans: list[tuple[float, int, int]], context: str, n_best: int) -> list[Answer]:
    best: dict[str, tuple[float, int, int]] = {}
    for score, start, end in sorted(spans, key=lambda span: -span[0]):
        best.setdefault(context[start:end], (score, start, end))
    kept = list(best.items())[:n_best] or [("", (-math.inf, 0, 0))]
    odds = [math.exp(score - kept[0][1][0]) if text else 1.0 for text, (score, _, _) in kept]
    return [
        Answer(text, score, odd / sum(odds), start, end)
        for (text, (score, start, end)), odd in zip(kept, odds, strict=True)
    ]


def row_scores(answers: Sequence[Sequence[Answer]], rows: Dataset) -> dict[str, np.ndarray]:
    """The exact match and F1 of each row's first answer against its gold answers, (rows,) each."""
    if len(answers) != len(rows) or not len(rows):
        raise ValueError(f"there are answers to {len(answers)} of {len(rows)} questions; each needs one")
    pairs = [(best[0].text, gold["text"]) for best, gold in zip(answers, rows["answers"][:], strict=True)]
    return {
        "exact_match": np.array([metrics.exact_match(*pair) for pair in pairs]),
        "f1": np.array([metrics.squad_f1(*pair) for pair in pairs]),
    }


def score(answers: Sequence[Sequence[Answer]], rows: Dataset) -> dict[str, float]:
    """The exact match and F1 over all rows, as fractions of 1 (the paper prints percentages)."""
    return {name: float(values.mean()) for name, values in row_scores(answers, rows).items()}


def interval(answers: Sequence[Sequence[Answer]], rows: Dataset, metric: str = "f1") -> tuple[float, float]:
    """The 95 % bootstrap interval of a score over resampled questions."""
    return statistics.bootstrap(np.mean, row_scores(answers, rows)[metric], samples=1000)


def none_odds(answers: Sequence[Sequence[Answer]], logits: Sequence[np.ndarray], features: Dataset) -> np.ndarray:
    """For each row (rows,), the score of "there is no answer" minus the score of its best answer, as in BERT's code.

    "No answer" is the span of [CLS] alone. Of several windows, the one with its lowest score decides, because a window
    that does not show the answer is right to find none.
    """
    least = np.full(len(answers), np.inf)
    for example, scores in zip(features["example"][:], logits, strict=True):
        least[example] = min(least[example], float(scores[0][0]) + float(scores[0][1]))
    return least - np.array([best[0].score for best in answers])


def score_with_none(
    answers: Sequence[Sequence[Answer]], odds: np.ndarray, rows: Dataset, threshold: float = 0.0
) -> Judgement:
    """The scores by SQuAD 2.0's rules, as fractions of 1, and the interval of F1.

    A row answers "there is none" where its `odds` exceed `threshold`. This answer scores 1 in a row without an answer,
    where any other scores 0, and 0 in a row with answers. `HasAns_` and `NoAns_` are the means over the two kinds of
    rows. `best_exact` and `best_f1` are the highest scores over all thresholds, `best_exact_thresh` and
    `best_f1_thresh` those thresholds; as in the official evaluation, they are chosen on the scored rows and flatter.
    """
    golds = [[text for text in gold["text"] if metrics.normalize_answer(text)] for gold in rows["answers"][:]]
    answered = np.array([bool(gold["text"]) for gold in rows["answers"][:]])
    texts, silent = [best[0].text for best in answers], odds > threshold
    functions = {"exact_match": metrics.exact_match, "f1": metrics.squad_f1}
    scores: dict[str, float] = {}
    best_of: dict[str, float] = {}
    for name, function in functions.items():
        of_text = np.array([function(text, gold or [""], none=True) for text, gold in zip(texts, golds, strict=True)])
        values = np.where(silent, ~answered, of_text)
        scores[name] = float(values.mean())
        for kind, part in (("HasAns", answered), ("NoAns", ~answered)):
            if part.any():
                scores[f"{kind}_{name}"] = float(values[part].mean())
        short = "exact" if name == "exact_match" else name
        gains = np.where(answered, of_text, [-bool(text) for text in texts])
        best_of |= _best_threshold(short, gains, odds, int((~answered).sum()))
        if name == "f1":
            bounds = statistics.bootstrap(np.mean, values, samples=1000)
    return scores | best_of, bounds


def _best_threshold(name: str, gains: np.ndarray, odds: np.ndarray, silent: int) -> dict[str, float]:
    """The best mean score over all thresholds, and its threshold; `silent` is the score when no row gives an answer."""
    order = np.argsort(odds, kind="stable")
    points = silent + np.cumsum(gains[order])
    best = int(points.argmax())
    score, threshold = (points[best], odds[order[best]]) if points[best] > silent else (silent, 0.0)
    return {f"best_{name}": float(score) / len(odds), f"best_{name}_thresh": float(threshold)}


_WORD, _SENTENCE = re.compile(r"\w+"), re.compile(r"\S.*?(?:[.?!](?=\s)|$)", re.DOTALL)


def word_matching(rows: Dataset) -> list[list[Answer]]:
    """The answers of word matching alone: a score to beat, as a classifier must beat the commonest class.

    The answer comes from the sentence that shares the most words with the question: the last run of words that are
    neither in the question nor stop words. The sliding window of SQuAD's authors is similar (Rajpurkar et al. 2016).
    """
    answers = []
    for question, context in zip(rows["question"][:], rows["context"][:], strict=True):
        asked = {word.lower() for word in _WORD.findall(question)} - ENGLISH_STOP_WORDS
        sentences = [match.span() for match in _SENTENCE.finditer(context)] or [(0, 0)]
        start, end = max(sentences, key=lambda at: len(asked & set(_WORD.findall(context[slice(*at)].lower()))))
        words = [(word[0].lower() in asked | ENGLISH_STOP_WORDS, word) for word in _WORD.finditer(context, start, end)]
        if runs := [list(run) for known, run in groupby(words, key=lambda word: word[0]) if not known]:
            start, end = runs[-1][0][1].start(), runs[-1][-1][1].end()
        answers.append([Answer(context[start:end], 0.0, 1.0, start, end)])
    return answers
