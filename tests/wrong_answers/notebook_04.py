"""Plausible wrong answers to the exercises of notebook 04."""

import numpy as np


def cut(order, size):
    return [order[i : i + size] for i in range(0, len(order), size)]


def sorted_only(lengths, size, seed):
    return cut(np.argsort(lengths), size)


def shuffled_only(lengths, size, seed):
    return cut(np.random.default_rng(seed).permutation(len(lengths)), size)


def mixed(batches, seed):
    return [batches[i] for i in np.random.default_rng(seed).permutation(len(batches))]


def last_dropped(lengths, size, seed):
    return mixed(cut(np.argsort(lengths), size)[:-1], seed)


def the_lengths(lengths, size, seed):
    return mixed(cut(np.sort(lengths), size), seed)


def seed_ignored(lengths, size, seed):
    return mixed(cut(np.argsort(lengths), size), 0)


def never_the_same(lengths, size, seed):
    return mixed(cut(np.argsort(lengths), size), None)


def resampled(a, b, paired=True, quantiles=(0.025, 0.975), factor=1):
    draw, found = np.random.default_rng(0), []
    for _ in range(1000):
        rows = draw.integers(0, len(a), len(a))
        others = rows if paired else draw.integers(0, len(a), len(a))
        found.append(factor * (a[rows].mean() - b[others].mean()))
    return np.quantile(found, quantiles)


def record(seed, main=0.7, epochs=1.0, task="sst2"):
    return {
        "seed": seed,
        "scores": {"main": main + 0.002 * seed},
        "interval": [main - 0.1, main + 0.1],
        "model": "student",
        "task": task,
        "config": {"epochs": epochs, "seed": seed},
        "data": {"rows": {"train": 160}},
    }


FIVE = [record(seed) for seed in range(5)]
WRONG = {
    "04.1": ["cola", "qqp", "SST-2", "glue"],
    "04.2": [0.68, 81.0, 0.84, 0.5, 0.6],
    "04.3": [sorted_only, shuffled_only, last_dropped, the_lengths, seed_ignored, never_the_same],
    "04.4": [
        lambda a, b: resampled(a, b, paired=False),
        lambda a, b: resampled(a, b, quantiles=(0.05, 0.95)),
        lambda a, b: resampled(a, b, quantiles=(0, 1)),
        lambda a, b: resampled(b, a),
        lambda a, b: resampled(a, b, factor=100),
        lambda a, b: resampled(a, b, quantiles=(0.975, 0.025)),
        lambda a, b: (-1, 1),
    ],
    "04.5": [
        (FIVE, "seeds"),
        (FIVE[:3], "rows"),
        ([*FIVE[:4], record(4, epochs=3.0)], "rows"),
        (FIVE, "both"),
        ([*FIVE[:4], record(4, task="cola")], "rows"),
        (0.7, "rows"),
    ],
}
