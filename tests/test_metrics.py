"""Scores agree with numbers worked out by hand, and a model that has learned nothing scores 0, never nan."""

import random
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, r2_score
from torchmetrics.functional.text import squad

from distilnb.tasks import metrics

# tp 3, fp 1, fn 2, tn 4: accuracy 7/10; F1 = 6 / (6 + 1 + 2) = 2/3; Matthews = (12 - 2) / sqrt(4 · 5 · 5 · 6)
LABELS = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
ANSWERS = np.array([1, 1, 1, 0, 0, 1, 0, 0, 0, 0])


def test_classification_scores_by_hand():
    found = metrics.score(("accuracy", "f1", "matthews"), ANSWERS, LABELS)
    assert found == pytest.approx({"accuracy": 0.7, "f1": 2 / 3, "matthews": 10 / np.sqrt(600)})


def test_correlations_by_hand():
    """1 2 3 4 against 1 3 2 4: Σd² = 2, Spearman = 1 - 6·2/(4·15) = 0.8; so is Pearson. Squared, ranks stay."""
    x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])
    assert metrics.score(("pearson", "spearman"), x, y) == pytest.approx({"pearson": 0.8, "spearman": 0.8})
    assert metrics.spearman(x**2, y) == pytest.approx(0.8)
    assert metrics.pearson(x**2, y) == pytest.approx(20 / np.sqrt(129 * 5))  # Σ(x²-7.5)(y-2.5), Σ(x²-7.5)², Σ(y-2.5)²


def test_scores_equal_the_libraries_on_random_answers():
    """Ties included; scores of predictions against labels, not of labels against predictions."""
    draw = np.random.default_rng(0)
    labels, answers = draw.integers(0, 2, 200), (draw.random(200) < 0.3).astype(int)
    assert metrics.f1(answers, labels) == pytest.approx(f1_score(labels, answers))
    assert metrics.matthews(answers, labels) == pytest.approx(matthews_corrcoef(labels, answers))
    classes, said = draw.integers(0, 4, 200), draw.integers(0, 4, 200)
    assert metrics.matthews(said, classes) == pytest.approx(matthews_corrcoef(classes, said))
    assert metrics.f1(said, classes) == pytest.approx(f1_score(classes, said, labels=[1], average="macro"))
    assert metrics.macro_f1(said, classes) == pytest.approx(f1_score(classes, said, average="macro"))
    assert metrics.micro_f1(said, classes) == pytest.approx(f1_score(classes, said, average="micro"))
    marked, true = (draw.random((2, 200, 5)) < [0.1, 0.3, 0.5, 0.7, 0]).astype(int)
    for ours, average in ((metrics.macro_f1, "macro"), (metrics.micro_f1, "micro")):
        assert ours(marked, true) == pytest.approx(f1_score(true, marked, average=average, zero_division=0))
    assert metrics.accuracy(marked, true) == pytest.approx(accuracy_score(true, marked))  # of whole rows
    values, truth = draw.integers(0, 9, 200) / 2, draw.random(200)
    assert metrics.pearson(values, truth) == pytest.approx(stats.pearsonr(values, truth).statistic)
    assert metrics.spearman(values, truth) == pytest.approx(stats.spearmanr(values, truth).statistic)
    assert metrics.r2(values, truth) == pytest.approx(r2_score(truth, values))


@pytest.mark.parametrize("labels", [LABELS, np.zeros(10, int), np.ones(10, int)])
@pytest.mark.parametrize("answer", [0, 1])
def test_a_constant_answer_scores_without_a_nan_or_a_warning(answer, labels):
    answers = np.full(10, answer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.score(metrics.METRICS, answers, labels)
    assert found["matthews"] == found["pearson"] == found["spearman"] == 0
    assert found["accuracy"] == (labels == answer).mean()
    assert found["f1"] == pytest.approx(2 * labels.mean() / (1 + labels.mean()) if answer else 0)


def test_macro_f1_is_of_the_same_classes_whatever_is_answered_and_resampled():
    """60 rows of a class, 38 of another, 2 of a rare one that is always missed: no resample forgets the rare one, and
    an answer of a class that no row has adds none."""
    labels = np.repeat([0, 1, 2], [60, 38, 2])
    answers = np.where(labels == 2, 0, labels)
    whole, (low, high) = metrics.macro_f1(answers, labels), metrics.interval("macro_f1", answers, labels)
    assert low < whole < high < 0.67
    stray = answers.copy()
    stray[0] = 3
    assert whole - 0.01 < metrics.macro_f1(stray, labels) < whole


def test_f1_is_of_class_one():
    assert metrics.f1(1 - ANSWERS, 1 - LABELS) != pytest.approx(metrics.f1(ANSWERS, LABELS))


@pytest.mark.parametrize(
    "names, answers, labels, says",
    [
        ("acuracy", [1], [1], "acuracy"),
        ("accuracy", [1, 0], [1], "one length"),
        ("accuracy", [[[1]]], [[[1]]], "one length"),
        ("accuracy", [], [], "no predictions"),
        ("pearson", [1.0, np.nan], [1.0, 2.0], "finite"),
        ("pearson", [1.0, 2.0], [1.0, np.inf], "finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(names, answers, labels, says):
    with pytest.raises(ValueError, match=says):
        metrics.score(names, np.array(answers), np.array(labels))


def test_the_main_score_is_a_metric_or_the_mean_of_two():
    scores = {"accuracy": 0.8, "f1": 0.9}
    assert metrics.main_score("accuracy", scores) == 0.8
    assert metrics.main_score("accuracy+f1", scores) == pytest.approx(0.85)


def test_the_majority_baseline_answers_with_the_commonest_training_label_or_the_mean():
    assert metrics.majority(np.array([2, 0, 2]), 4).tolist() == [2, 2, 2, 2]
    assert metrics.majority(np.array([1.0, 2.0, 4.5], dtype=np.float32), 2).tolist() == [2.5, 2.5]


def test_the_majority_baseline_is_the_best_constant_answer_by_the_metric_of_the_task():
    """QQP: two thirds are no duplicates, but with F1 "always a duplicate" scores (1/3 + 1/2) / 2, not 2/3 / 2."""
    labels = np.array([0, 0, 1])
    assert metrics.majority(labels, 2, "accuracy").tolist() == [0, 0]
    assert metrics.majority(labels, 2, "accuracy+f1").tolist() == [1, 1]
    assert metrics.majority(labels, 2, "matthews").tolist() == [0, 0], "all score 0: the commonest"
    several = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 1]])
    assert metrics.majority(several, 1, "accuracy").tolist() == [[0, 0, 0]]
    assert metrics.majority(several, 1, "micro_f1").tolist() == [[1, 0, 0]]


def test_the_macro_score_is_a_plain_mean_and_wants_every_task():
    assert metrics.macro({"a": 0.5, "b": 1.0, "c": 9.0}, ["a", "b"]) == 0.75
    with pytest.raises(ValueError, match="c, d"):
        metrics.macro({"a": 0.5}, ["a", "c", "d"])


def test_the_bootstrap_interval_is_that_of_a_binomial():
    """400 rows at 80 %: the standard error is 2 %, so 95 % is 0.80 ± 0.039 (tolerance: 0.01 for 500 resamples)."""
    labels = np.ones(400, int)
    answers = (np.arange(400) % 5 > 0).astype(int)
    low, high = metrics.interval("accuracy", answers, labels, samples=500)
    assert (low, high) == pytest.approx((0.761, 0.839), abs=0.01)
    assert (low, high) == metrics.interval("accuracy", answers, labels, samples=500)
    assert metrics.interval("accuracy+f1", labels, labels, samples=5) == (1.0, 1.0)


# SQuAD


@pytest.mark.parametrize(
    "text, normal",
    [
        ("The  Denver Broncos!", "denver broncos"),
        ("an apple a day", "apple day"),
        ("theatre, Athens", "theatre athens"),  # no articles inside words
        ("24–10", "24–10"),  # an en dash is no ASCII punctuation
        ("U.S.A.", "usa"),
        ("Straße", "straße"),  # lower case, not folded
        ("A.N.", ""),  # an article once its points are gone
        ("the-a", "thea"),
        ("\tÉcole \u00a0 Zürich\n", "école zürich"),
        ("the", ""),
        ("", ""),
    ],
)
def test_answers_are_normalized_as_the_official_script_does(text, normal):
    assert metrics.normalize_answer(text) == normal


@pytest.mark.parametrize(
    "prediction, golds, em, f1",
    [
        ("The Broncos", ["broncos."], 1, 1),
        ("Denver Broncos", ["Broncos"], 0, 2 / 3),  # precision 1/2, recall 1
        ("cat cat", ["cat dog cat cat"], 0, 2 / 3),  # two shared of 2 and 4
        ("cat cat cat", ["cat"], 0, 0.5),  # the gold cat counts once
        ("Denver", ["Broncos", "the Denver Broncos"], 0, 2 / 3),  # the best of two
        ("", ["Denver"], 0, 0),
        ("the", ["."], 1, 0),  # nothing is left of either: v1.1 counts no shared word
    ],
)
def test_squad_scores_by_hand(prediction, golds, em, f1):
    assert metrics.exact_match(prediction, golds) == em
    assert metrics.squad_f1(prediction, golds) == pytest.approx(f1)


def test_squad_scores_equal_an_independent_implementation():
    """10,000 random pairs in batches of 50, up to 4 gold answers each: torchmetrics, which follows version 1.1 except
    where normalization leaves nothing of both answers (F1 1 there, 0 in v1.1): such pairs are drawn again."""
    words = ["", *"the An a the-a cat Cat. CAT cat dog U.S. us École école 24–10 2410 it's - …".split()]
    draw, pairs = random.Random(0), []
    while len(pairs) < 10_000:
        prediction, *golds = (
            draw.choice((" ", "  ", "\t", "-", "\u00a0")).join(draw.choices(words, k=draw.randrange(5)))
            for _ in range(draw.randrange(2, 6))
        )
        if metrics.normalize_answer(prediction) or all(map(metrics.normalize_answer, golds)):
            pairs.append((prediction, golds))
    ours = np.array([(metrics.exact_match(*pair), metrics.squad_f1(*pair)) for pair in pairs])
    em, f1 = ours.mean(0)
    assert 0.02 < em < f1 < 0.6 and len(np.unique(ours[:, 1])) > 8, "the pairs exercise too little"
    for first in range(0, len(pairs), 50):
        batch = list(enumerate(pairs[first : first + 50]))
        theirs = squad(
            [{"id": str(i), "prediction_text": prediction} for i, (prediction, _) in batch],
            [{"id": str(i), "answers": {"text": golds, "answer_start": [0] * len(golds)}} for i, (_, golds) in batch],
        )
        expected = [float(theirs["exact_match"]) / 100, float(theirs["f1"]) / 100]
        assert ours[first : first + 50].mean(0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("golds", [[], "Denver"])
@pytest.mark.parametrize("metric", [metrics.exact_match, metrics.squad_f1])
def test_an_answer_needs_a_list_of_gold_answers(metric, golds):
    with pytest.raises(ValueError, match="answers"):
        metric("Denver", golds)
