"""Plausible wrong answers to the exercises of notebook 06."""

from math import ceil

import numpy as np

from distilnb import paths
from distilnb.evidence.records import load_record
from distilnb.tasks import metrics


def windows(context, question, max_length, stride, special=3):
    room = max_length - question - special
    return 1 + ceil(max(context - room, 0) / stride)


def one_too_many(context, question, max_length, stride):
    beyond = max(context - (max_length - question - 3), 0)
    return 1 + beyond // stride + (beyond > 0)


def crossed(start, end):
    return start.argmax(), end.argmax()


def end_after_best_start(start, end):
    first = start.argmax()
    return first, first + end[first:].argmax()


def at_most_30(start, end):
    spans = [(first, last) for first in range(len(start)) for last in range(first, min(first + 30, len(start)))]
    return max(spans, key=lambda span: start[span[0]] + end[span[1]])


def agree(rows, golds, unit=1):
    texts = [(answers["text"][-1], golds(answers["text"])) for answers in rows["answers"][:]]
    return tuple(unit * np.mean([score(*pair) for pair in texts]) for score in (metrics.exact_match, metrics.squad_f1))


def record(model):
    return load_record(paths.data("runs", f"finetuning-toy-{model}-squad-seed0.json"))


ALONE, TAUGHT, OTHER = record("student"), record("student_d"), record("teacher")
GAP = 100 * (TAUGHT["scores"]["f1"] - ALONE["scores"]["f1"])  # below 0; the intervals of the two overlap


def gains(spread):
    """Invented gains of the questions around the right mean."""
    return GAP + spread * np.resize([-1.0, 1.0], ALONE["data"]["rows"]["validation"])


WRONG = {
    "06.1": [("the cat", "Cat!"), ("dog", "cat"), ("a big grey cat", "cat"), ("in May", "in June")],
    "06.2": [
        lambda c, q, m, s: windows(c, q, m, m - q - 3 - s),
        lambda c, q, m, s: windows(c, q, m, s, special=2),
        lambda c, q, m, s: ceil(c / (m - q - 3)),
        lambda c, q, m, s: ceil(c / s),
        lambda c, q, m, s: windows(c, q, m, s) - (c > 400),
        one_too_many,
    ],
    "06.3": [
        crossed,
        end_after_best_start,
        lambda start, end: (end_after_best_start(start, end)[0], end_after_best_start(start, end)[1] + 1),
        lambda start, end: ((start + end).argmax(), (start + end).argmax()),
        at_most_30,
    ],
    "06.4": [
        lambda rows: agree(rows, lambda golds: golds),
        lambda rows: agree(rows, lambda golds: golds[:-1], unit=100),
        lambda rows: agree(rows, lambda golds: golds[:1]),
        lambda rows: agree(rows, lambda golds: golds[:-1])[::-1],
        lambda rows: (0.5, 0.5),
    ],
    "06.5": [
        (ALONE, TAUGHT, gains(10), "cannot tell"),
        (ALONE, TAUGHT, gains(10), "better"),
        (ALONE, TAUGHT, gains(60), "worse"),
        (ALONE, TAUGHT, gains(60), "yes"),
        (ALONE, TAUGHT, -gains(60), "cannot tell"),
        (ALONE, TAUGHT, gains(60) / 100, "cannot tell"),
        (ALONE, TAUGHT, gains(60) + 5, "cannot tell"),
        (ALONE, TAUGHT, gains(60)[:50], "cannot tell"),
        (ALONE, ALONE, gains(60), "cannot tell"),
        (OTHER, TAUGHT, gains(60), "cannot tell"),
        (ALONE["scores"], TAUGHT["scores"], gains(60), "worse"),
    ],
}
