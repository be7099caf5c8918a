"""Plausible wrong answers to the exercises of notebook 05."""

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

LENGTHS = np.array([50, 100, 200, 255, 256, 256, 257, 300, 400, 500, 600])  # five are cut


def binned(confidence, right, edges):
    """(accuracy − confidence, rows) of each bin that is not empty."""
    place = np.digitize(confidence, edges)
    return [(right[place == b].mean() - confidence[place == b].mean(), (place == b).sum()) for b in set(place)]


def signed(confidence, right, edges):
    return sum(gap * rows for gap, rows in binned(confidence, right, edges)) / len(right)


def unweighted(confidence, right, edges):
    return np.mean([abs(gap) for gap, _ in binned(confidence, right, edges)])


def with_empty_bins(confidence, right, edges):
    place = np.digitize(confidence, edges) - 1
    rows = np.bincount(place, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        gaps = (np.bincount(place, right, len(rows)) - np.bincount(place, confidence, len(rows))) / rows
    return (abs(gaps) * rows).sum() / rows.sum()


def by_middles(confidence, right, edges):
    place = np.digitize(confidence, edges) - 1
    middles = (np.array(edges[1:]) + np.array(edges[:-1])) / 2
    return sum(abs(right[place == b].mean() - middles[b]) * (place == b).sum() for b in set(place)) / len(right)


def single_words(model):
    def classify(texts, labels, others):
        counts = CountVectorizer()
        return model.fit(counts.fit_transform(texts), labels).predict(counts.transform(others))

    return classify


WRONG = {
    "05.1": [(6, LENGTHS), (5 / 11, LENGTHS), (500 / 11, LENGTHS), (8, LENGTHS), (7, LENGTHS)],
    "05.2": [3119, 6114, 5735, 1.198, 6500, 25_000],
    "05.3": [
        lambda ids, limit: ids[:limit],
        lambda ids, limit: ids[(len(ids) - limit) // 2 :][:limit],
        lambda ids, limit: [ids[0], *ids[1:-1][: limit - 2], ids[-1]],
        lambda ids, limit: [ids[0], *ids[1:-1][(len(ids) - limit) // 2 :][:limit], ids[-1]],
        lambda ids, limit: [ids[0], *ids[1:-1][len(ids) // 4 :][: limit - 2], ids[-1]],
    ],
    "05.4": [signed, unweighted, with_empty_bins, by_middles],
    "05.5": [
        lambda texts, labels, others: [1] * len(others),
        lambda texts, labels, others: ["pos"] * len(others),
        lambda texts, labels, others: labels[:10],
        single_words(MultinomialNB()),
        single_words(LogisticRegression(C=0.1, max_iter=1000)),
    ],
}
