"""Plausible wrong answers to the exercises of notebook 08."""

from itertools import product

import numpy as np

from distilnb import paths
from distilnb.evidence import statistics
from distilnb.evidence.records import load_record


def moved(records, variant, step=1):
    return [r | {"seed": (r["seed"] + step) % 3} if r["model"] == variant else r for r in records]


def in_place(records, variant):
    for record in records:
        if record["model"] == variant:
            record["seed"] = (record["seed"] + 1) % 3
    return records


def swapped(records, variant):
    """Only two of three."""
    return [r | {"seed": {0: 1, 1: 0, 2: 2}[r["seed"]]} if r["model"] == variant else r for r in records]


def means(deltas):
    return [np.mean(np.multiply(deltas, signs)) for signs in product((1, -1), repeat=len(deltas))]


TRIPLE, NO_CE = (
    [load_record(paths.data("runs", f"ablation-toy-{model}-seed{seed}.json")) for seed in range(3)]
    for model in ("triple", "no_ce")
)


def at(temperature, loss, agreement):
    """What the triple loss's records would be at another temperature."""
    name = f"temperature_{temperature}"
    return [
        r
        | {
            "model": name,
            "name": f"x-{name}-{r['seed']}",
            "config": r["config"] | {"changes": {"temperature": temperature}},
            "scores": r["scores"] | {"mlm_loss": loss, "agreement": agreement},
        }
        for r in TRIPLE
    ]


GRID = [*TRIPLE, *at(1, 1.5, 0.8), *at(8, 1.3, 0.6)]

WRONG = {
    "08.1": [1, 2, 13, 40],
    "08.2": [(0.35, 0.99), (0.698, 0.99), (30.2, 99.27), (0.05, 0.99), (0.3017, 0.95)],
    "08.3": [
        lambda records, variant: records,
        lambda records, variant: [r | {"seed": (r["seed"] + 1) % 3} for r in records],
        lambda records, variant: [r for r in moved(records, variant) if r["model"] == variant],
        lambda records, variant: moved(records, variant, step=3),
        lambda records, variant: [r | {"seed": 7} if r["model"] == variant else r for r in records],
        in_place,
        swapped,
    ],
    "08.4": [
        lambda deltas: np.mean([m >= np.mean(deltas) for m in means(deltas)]),
        lambda deltas: np.mean([abs(m) > abs(np.mean(deltas)) + 1e-9 for m in means(deltas)]),
        lambda deltas: np.mean([m <= -abs(np.mean(deltas)) + 1e-9 for m in means(deltas)]),
        lambda deltas: statistics.mean_interval(deltas).p,
        lambda deltas: 0.5 ** len(deltas),
        lambda deltas: 0.9,
    ],
    "08.5": [
        (GRID, 1, 1),
        (GRID, 2, 1),
        (GRID, 8, 8),
        (GRID, "temperature_8", 1),
        ([*TRIPLE, *NO_CE], 2, 2),
        (GRID[3:], 8, 1),
        ([r["scores"] for r in GRID], 8, 1),
    ],
}
