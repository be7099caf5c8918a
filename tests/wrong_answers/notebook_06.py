"""Plausible wrong answers to the exercises of notebook 06."""

from math import ceil

import numpy as np

from distilnb import paths
from distilnb.evidence.records import load_record
from distilnb.tasks import metrics


def windows(context, question, max_length, stride, special=3):
    room = max_length - question - special
    return 1 + ceil(max(context - room, 0) / stride)


def crossed(start, end):
    return start.argmax(), end.argmax()


def end_after_best_start(start, end):
    first = start.argmax()
    return first, first + end[first:].argmax()


def agree(rows, golds, unit=1):
    texts = [(answers["text"][-1], golds(answers["text"])) for answers in rows["answers"][:]]
    return tuple(unit * np.mean([score(*pair) for pair in texts]) for score in (metrics.exact_match, metrics.squad_f1))


def record(model):
    return load_record(paths.data("runs", f"finetuning-toy-{model}-squad-seed0.json"))


ALONE, TAUGHT, OTHER = record("student"), record("student_d"), record("teacher")

WRONG = {
    "06.1": [("the cat", "Cat!"), ("dog", "cat"), ("a big grey cat", "cat"), ("in May", "in June")],
    "06.2": [
        lambda c, q, m, s: windows(c, q, m, m - q - 3 - s),
        lambda c, q, m, s: windows(c, q, m, s, special=2),
        lambda c, q, m, s: ceil(c / (m - q - 3)),
        lambda c, q, m, s: ceil(c / s),
        lambda c, q, m, s: windows(c, q, m, s) - (c > 400),
    ],
    "06.3": [
        crossed,
        end_after_best_start,
        lambda start, end: (end_after_best_start(start, end)[0], end_after_best_start(start, end)[1] + 1),
        lambda start, end: ((start + end).argmax(), (start + end).argmax()),
    ],
    "06.4": [
        lambda rows: agree(rows, lambda golds: golds),
        lambda rows: agree(rows, lambda golds: golds[:-1], unit=100),
        lambda rows: agree(rows, lambda golds: golds[:1]),
        lambda rows: agree(rows, lambda golds: golds[:-1])[::-1],
        lambda rows: (0.5, 0.5),
    ],
    "06.5": [
        (ALONE, TAUGHT, "worse"),
        (ALONE, TAUGHT, "yes"),
        (ALONE, ALONE, "cannot tell"),
        (OTHER, TAUGHT, "cannot tell"),
        (ALONE["scores"], TAUGHT["scores"], "worse"),
    ],
}
