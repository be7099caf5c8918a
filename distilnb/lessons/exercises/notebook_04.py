"""Checks of notebook 04: baselines, batches without padding, and how far a score can be trusted."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ...evidence.comparing import differences
from ...tasks import glue, metrics
from . import NotYet, ask, close, exercise, mistake


@lru_cache
def _baselines() -> dict[str, float]:
    """The scores on toyworld's tasks of a baseline that ignores its input."""
    scores = {}
    for name in glue.TASKS:
        data = glue.load_data(name, "toyworld", n_train=60, n_validation=60)
        scores[name] = data.baseline(next(iter(data.validations)))
    return scores


@exercise("04.1", 1)
def easiest(name: str) -> str:
    """The task on which a baseline that ignores its input scores most."""
    if str(name).lower() not in {n for t in glue.TASKS.values() for n in (t.name, t.title.lower())}:
        raise NotYet(f"the answer is the name of a task, one of {', '.join(glue.TASKS)}")
    baselines, task = _baselines(), glue.get_task(name)
    best = max(baselines, key=baselines.get)
    if task.name == best:
        return (
            f"{glue.get_task(best).title}: most of its pairs are paraphrases, and always saying so is rewarded by F1 "
            "as well, which counts only the class that is commoner there."
        )
    if task.main in ("matthews", "pearson+spearman"):
        raise NotYet(f"{task.title} is scored by a correlation; a constant correlates with nothing, so that is 0")
    if baselines[task.name] < 0.45:
        raise NotYet(f"reading nothing scores only {baselines[task.name]:.0%} on {task.title}; look for the largest")
    raise NotYet(f"{task.title} gives half of its points away, another task gives more: look at `lazy`")


@exercise("04.2", 5)
def always_yes(value: float) -> str:
    """The mean of accuracy and F1 for the constant answer "equivalent", where 68 % of the rows are."""
    labels, guesses = np.repeat([1, 0], [68, 32]), np.ones(100, dtype=int)
    scores = metrics.score(["accuracy", "f1"], guesses, labels)
    right = metrics.main_score("accuracy+f1", scores)
    value = float(value) / 100 if float(value) > 1 else float(value)
    if close(value, right, 0, 0.005):  # so that 74 % will do as well as 74.5 %
        return (
            f"accuracy {scores['accuracy']:.2f}, F1 {scores['f1']:.2f}, mean {right:.3f}: on the real MRPC a model "
            "has to pass that before it has learned anything."
        )
    hints = {
        scores["accuracy"]: "that is the accuracy; MRPC's score is its mean with F1",
        scores["f1"]: "that is F1; MRPC's score is its mean with accuracy",
        0.84: "recall is 1, since no paraphrase is missed; F1 is the harmonic mean of it and precision, not the plain "
        "one: 2 · 0.68 / (1 + 0.68)",
        0.5: "half is what a coin scores in accuracy; this answer is right in 68 % of the rows",
        None: "of 100 rows: TP = 68, FP = 32, FN = 0, TN = 0. Accuracy, F1 = 2 TP / (2 TP + FP + FN), mean",
    }
    raise mistake(value, hints, 0, 0.002)


def _computed(lengths: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """The number of tokens computed for each real token."""
    return sum(len(b) * lengths[b].max() for b in batches) / lengths.sum()


@exercise("04.3", 15)
def grouped(function: Callable) -> str:
    """function(lengths, size, seed) → batches of row numbers, little padding, in no order of length."""
    lengths, size = np.minimum(8 + np.random.default_rng(1).geometric(0.04, 1003), 128), 16
    batches = [np.asarray(batch, dtype=int) for batch in ask(function, lengths.copy(), size, 0)]
    rows = np.concatenate(batches) if batches else np.zeros(0, dtype=int)
    if any(batch.ndim != 1 or not 1 <= len(batch) <= size for batch in batches):
        raise NotYet(f"a batch is a list of 1 to {size} row numbers; only one of them may be shorter than {size}")
    if len(rows) == len(lengths) and np.array_equal(np.sort(rows), np.sort(lengths)):
        raise NotYet("these are the lengths; the batches should hold the numbers of the rows")
    if not np.array_equal(np.sort(rows), np.arange(len(lengths))):
        gone = len(lengths) - len(np.unique(rows[(rows >= 0) & (rows < len(lengths))]))
        raise NotYet(
            f"every row once: {gone} of {len(lengths)} are missing. The last batch may be shorter, but it "
            "must not be dropped"
            if gone
            else "every row once: some stand in two batches"
        )
    if len(batches) > math.ceil(len(lengths) / size):
        raise NotYet(f"{len(batches)} batches where {math.ceil(len(lengths) / size)} would do: fill them")
    padding, ideal = _computed(lengths, batches), _computed(lengths, np.array_split(np.argsort(lengths), len(batches)))
    if padding > 1 + 2 * (ideal - 1) + 0.05:
        raise NotYet(
            f"{padding:.2f} tokens are computed for each real one, {ideal:.2f} would do: rows of like length "
            "belong together, so sort before you cut"
        )
    means = np.array([lengths[batch].mean() for batch in batches])
    if abs(metrics.spearman(means, np.arange(len(means)))) > 0.9:
        raise NotYet(
            "little padding, but the batches go through the lengths in order, so that the model sees all "
            "short rows first and all long ones last: shuffle the batches, not the rows"
        )
    again, other = (ask(function, lengths.copy(), size, seed) for seed in (0, 1))
    if any(not np.array_equal(a, b) for a, b in zip(batches, again, strict=False)):
        raise NotYet("the same seed gave other batches: draw from np.random.default_rng(seed)")
    if all(np.array_equal(a, b) for a, b in zip(batches, other, strict=False)):
        raise NotYet("seed 0 and seed 1 give the same order; let the seed shuffle the batches")
    return (
        f"{padding:.2f} tokens computed for each real one, in an order that tells nothing: the same rows for less. "
        "`batch_order` does so where `group_by_length` asks for it; what such company does to scores stands above."
    )


@exercise("04.4", 30)
def difference(function: Callable) -> str:
    """function(right_a, right_b) → (low, high), the 95 % interval of the difference of two accuracies."""
    draw = np.random.default_rng(0)
    for accuracy, changed in ((0.7, 0.08), (0.55, 0.02)):
        a = draw.random(2000) < accuracy
        b = np.where(draw.random(2000) < changed, ~a, a)
        low, high = map(float, ask(function, a.astype(int), b.astype(int)))
        mean, spread = (a.mean() - b.mean(), (a.astype(float) - b).std() / len(a) ** 0.5)
        reach, middle = (high - low) / 2 / spread, (high + low) / 2
        if high < low:
            raise NotYet("(low, high): the lower end of the interval comes first")
        if abs(middle - mean) > 0.5 * spread and abs(middle + mean) < 0.5 * spread:
            raise NotYet("the sign is turned: the first model's accuracy minus the second's")
        if abs(middle - 100 * mean) < 50 * spread and abs(middle) > 1:
            raise NotYet("accuracies are shares here, not percent: leave out the factor 100")
        if abs(middle - mean) > 0.5 * spread:
            raise NotYet(f"the interval lies around {middle:.4f}, the difference is {mean:.4f}")
        unpaired = (a.var() + b.var()) ** 0.5 / (a.astype(float) - b).std()
        if abs(reach / 1.96 - unpaired) < 0.12 * unpaired and unpaired > 1.5:
            raise NotYet(
                f"this interval is {unpaired:.1f} times too wide. The two models answered the same rows, and "
                "hard rows are hard for both: draw the rows once for each sample and use them for both models"
            )
        if abs(reach - 1.645) < 0.12:
            raise NotYet("that is a 90 % interval; 95 % leaves 2.5 % outside at either end")
        if abs(reach - 1.0) < 0.12:
            raise NotYet("that is one standard deviation to either side, about 68 %")
        if not 1.96 * 0.86 < reach < 1.96 * 1.14:
            raise NotYet(
                f"the interval reaches {reach:.2f} standard errors to either side, where 95 % of the samples "
                "lie within about 1.96: take the quantiles 0.025 and 0.975 of a thousand samples or more"
            )
    return (
        "paired, the interval is several times narrower than two separate ones suggest: overlapping ranges of two "
        "models do not mean that their difference is noise."
    )


@exercise("04.5", 45)
def rows_or_seeds(records: Sequence[Mapping[str, Any]], larger: str) -> str:
    """Five runs with five seeds, and the larger of the interval over rows and the spread over seeds."""
    if not isinstance(records, list | tuple) or not all(isinstance(r, Mapping) and "interval" in r for r in records):
        raise NotYet("the first part is the list of records that `finetune_grid` returns")
    if len({r["seed"] for r in records}) < 5:
        raise NotYet(
            f"{len({r['seed'] for r in records})} different seeds; a spread wants at least five, so seeds=range(5)"
        )
    settings = [
        {k: v for k, v in r["config"].items() if k != "seed"}
        | {"model": r["model"], "task": r["task"], "rows": r["data"]["rows"]}
        for r in records
    ]
    if changed := [line for one in settings[1:] for line in differences(settings[0], one)]:
        raise NotYet(f"only the seed may differ, here also {changed[0]}: what is spread would not be luck alone")
    rows = np.mean([(high - low) / 2 for low, high in (r["interval"] for r in records)])
    seeds = 2 * np.std([r["scores"]["main"] for r in records], ddof=1)
    if larger not in ("rows", "seeds"):
        raise NotYet('the second part is "rows" or "seeds", whichever moves the score further')
    if (larger == "rows") != (rows > seeds) and abs(rows - seeds) > 0.1 * rows:
        raise NotYet(
            f"half the width of an interval is {rows:.3f} on average, two standard deviations over the "
            f"seeds are {seeds:.3f}: compare these two"
        )
    return (
        "the interval says how far a score moves with other rows, the spread how far with other seeds, and the "
        "next run is subject to both. The paper prints neither."
    )
