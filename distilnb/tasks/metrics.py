"""Metrics of GLUE and SQuAD, the majority baseline, the macro score and intervals, as fractions of 1, never nan.

A model that has learned nothing predicts one class, so that its Matthews score and correlations are 0 / 0. They count
as 0, as in GLUE, because a nan would silently drop out of a mean, or spoil it (notebooks 04, 06 and 09).
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
from scipy import stats

from ..evidence.statistics import bootstrap


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of right answers."""
    right = predictions == labels
    return float(np.mean(right if right.ndim == 1 else right.all(1)))


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1 (paraphrase, duplicate); 0 when class 1 is neither predicted nor present."""
    said, true = predictions == 1, labels == 1
    either = said.sum() + true.sum()
    return float(2 * (said & true).sum() / either) if either else 0.0


def macro_f1(predictions: np.ndarray, labels: np.ndarray, classes: np.ndarray | None = None) -> float:
    """The mean of the F1 of each class that a label has (or of these `classes`; of each of several labels per row), in
    which a rare class counts as much as a common one."""
    if labels.ndim == 2:
        return float(np.mean([f1(*column) for column in zip(predictions.T, labels.T, strict=True)]))
    classes = np.unique(labels) if classes is None else classes
    return float(np.mean([f1(predictions == one, labels == one) for one in classes]))


def micro_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """F1 over all pairs of a row and a label, for rows with several labels, (rows, labels) of 0 and 1; with one class a
    row it is the accuracy."""
    return f1(predictions.ravel(), labels.ravel()) if labels.ndim == 2 else accuracy(predictions, labels)


def matthews(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews correlation, from −1 to 1; 0 when predictions or labels are all equal.

    For more than two classes it is Gorodkin's (2004): the correlation of the classes as vectors of 0 and 1.
    """
    if _constant(predictions) or _constant(labels):
        return 0.0
    classes = np.union1d(predictions, labels)[:, None]
    said, true = (predictions == classes).sum(1), (labels == classes).sum(1)
    rows, right = len(labels), (predictions == labels).sum()
    return float((rows * right - said @ true) / np.sqrt(float(rows**2 - said @ said) * float(rows**2 - true @ true)))


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Linear correlation; 0 when predictions or labels are all equal."""
    if _constant(predictions) or _constant(labels):
        return 0.0
    value = float(np.corrcoef(predictions, labels)[0, 1])
    return value if np.isfinite(value) else 0.0


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Correlation of ranks, with ties sharing a rank; 0 when predictions or labels are all equal."""
    return pearson(stats.rankdata(predictions), stats.rankdata(labels))


def r2(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Explained share of the variance: 0 for the labels' mean, below 0 for worse; 0 when labels are all equal."""
    spread = float(((labels - labels.mean()) ** 2).sum())
    return 1 - float(((predictions - labels) ** 2).sum()) / spread if spread else 0.0


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    function.__name__: function for function in (accuracy, f1, macro_f1, micro_f1, matthews, pearson, spearman, r2)
}


def score(names: str | Iterable[str], predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The named metrics, as fractions, of predictions (rows,): classes, or numbers for a regression.

    For several labels per row, predictions and labels are (rows, labels) of 0 and 1; a row is right if all are right.

    Raises ValueError for an unknown metric, unequal lengths, no rows, or a prediction that is not a number.
    """
    names = [names] if isinstance(names, str) else list(names)
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if unknown := [name for name in names if name not in METRICS]:
        raise ValueError(f"unknown metric '{unknown[0]}'; use one of {', '.join(METRICS)}")
    if predictions.shape != labels.shape or predictions.ndim not in (1, 2):
        raise ValueError(f"predictions {predictions.shape} and labels {labels.shape} must be two lists of one length")
    if not len(labels):
        raise ValueError("there are no predictions to score")
    if not (np.isfinite(predictions).all() and np.isfinite(labels).all()):
        raise ValueError("a prediction or a label is not a finite number; nothing was scored")
    return {name: METRICS[name](predictions, labels) for name in names}


def main_score(main: str, scores: Mapping[str, float]) -> float:
    """The main score of a task: `main` is a metric, or several joined by "+", whose mean is returned."""
    parts = main.split("+")
    return sum(scores[name] for name in parts) / len(parts)


def majority(train_labels: np.ndarray, rows: int, main: str = "accuracy") -> np.ndarray:
    """The predictions, for `rows` rows, of a baseline that ignores its input: the answer that scores best by `main` on
    the training labels when it is given to all of them.

    For the accuracy that is the commonest label, but where F1 counts it is class 1 even if that is rare. Of several
    labels per row, also the commonest one, two, three … are tried. A regression (labels of a floating type, one a row)
    is answered with the mean.
    """
    labels = np.asarray(train_labels)
    if labels.dtype.kind == "f" and labels.ndim == 1:
        return np.full(rows, labels.mean())
    values, counts = np.unique(labels, axis=0, return_counts=True)
    common = values[np.argsort(-counts, kind="stable")]
    answers = common if "f1" in main.split("+") else common[:1]
    if labels.ndim == 2:
        ranks = np.argsort(np.argsort(-labels.mean(0), kind="stable"))
        answers = np.vstack([answers, *(ranks < k for k in range(1, labels.shape[1] + 1))]).astype(labels.dtype)
    alike = [np.broadcast_to(answer, labels.shape) for answer in answers]
    scores = [main_score(main, score(main.split("+"), answer, labels)) for answer in alike]
    return np.repeat(answers[int(np.argmax(scores))][None], rows, axis=0)


def macro(scores: Mapping[str, float], tasks: Iterable[str]) -> float:
    """The plain mean of the main scores of these tasks, as in Table 1; ValueError when one of them is missing."""
    tasks = list(tasks)
    if missing := [task for task in tasks if task not in scores]:
        raise ValueError(f"a macro score needs all of its tasks; not run: {', '.join(missing)}")
    return sum(scores[task] for task in tasks) / len(tasks)


def interval(main: str, predictions: np.ndarray, labels: np.ndarray, samples: int = 200) -> tuple[float, float]:
    """The 95 % bootstrap interval of a task's main score over resampled rows, for `macro_f1` always with the classes of
    all rows."""
    predictions, labels, parts = np.asarray(predictions), np.asarray(labels), main.split("+")
    if main == "macro_f1" and labels.ndim == 1:
        of_all = partial(macro_f1, classes=np.unique(labels))
        return bootstrap(of_all, predictions, labels, samples=samples)
    if labels.ndim == 2:  # for several labels per row, because scipy would resample each column separately

        def of_rows(rows: np.ndarray) -> float:
            return main_score(main, score(parts, predictions[rows], labels[rows]))

        return bootstrap(of_rows, np.arange(len(labels)), samples=samples)
    return bootstrap(lambda p, y: main_score(main, score(parts, p, y)), predictions, labels, samples=samples)


_PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII only, as in the official evaluation
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalize_answer(text: str) -> str:
    """An answer as SQuAD's evaluation compares it: lower case, no punctuation, no articles, single spaces.

    The steps are done in this order; so "A.N." becomes "an" and then, as an article, nothing.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str], none: bool = False) -> float:
    """1 when the normalized prediction equals a gold answer, else 0, in both versions of SQuAD."""
    return float(normalize_answer(prediction) in map(normalize_answer, _golds(golds)))


def squad_f1(prediction: str, golds: Sequence[str], none: bool = False) -> float:
    """F1 over the words, with their counts, that prediction and gold answer share; the best over several gold answers
    (SQuAD v1.1's evaluation).

    Without a shared word it is 0, even for two answers that normalization empties ("the", "."): version 1.1 then gives
    F1 0 and exact match 1. Version 2 (`none`), where an empty answer can be right, gives 1 and 1.
    """
    words = normalize_answer(prediction).split()
    return max(_word_f1(words, normalize_answer(gold).split(), none) for gold in _golds(golds))


def _golds(golds: Sequence[str]) -> Sequence[str]:
    if isinstance(golds, str) or not golds:
        raise ValueError("an answer is compared with a list of gold answers, of which there must be at least one")
    return golds


def _word_f1(predicted: list[str], gold: list[str], none: bool) -> float:
    if none and not (predicted and gold):
        return float(predicted == gold)
    shared = (Counter(predicted) & Counter(gold)).total()
    return 2 * shared / (len(predicted) + len(gold)) if shared else 0.0


def _constant(values: np.ndarray) -> bool:
    return bool((values == values[0]).all())
