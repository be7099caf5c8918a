"""Plausible wrong answers to the exercises of notebook 03."""

import numpy as np


def each_document_apart(documents, seq_length, cls, sep):
    body = seq_length - 2
    return [[cls, *d[i : i + body], sep] for d in documents for i in range(0, len(d) - body + 1, body)]


def no_separator(documents, seq_length, cls, sep):
    stream, body = sum(documents, []), seq_length - 2
    return [[cls, *stream[i : i + body], sep] for i in range(0, len(stream) - body + 1, body)]


def rest_kept(documents, seq_length, cls, sep):
    stream, body = [token for d in documents for token in [*d, sep]], seq_length - 2
    return [[cls, *stream[i : i + body], sep] for i in range(0, len(stream), body)]


def no_frame(documents, seq_length, cls, sep):
    stream = [token for d in documents for token in [*d, sep]]
    return [stream[i : i + seq_length] for i in range(0, len(stream) - seq_length + 1, seq_length)]


def in_place(documents, seq_length, cls, sep):
    for document in documents:
        document.append(sep)
    stream, body = sum(documents, []), seq_length - 2
    return [[cls, *stream[i : i + body], sep] for i in range(0, len(stream) - body + 1, body)]


def moving_generator(length, seed, epoch, sample_id):
    return np.random.choice(length, 10, replace=False)


def global_seed(length, seed, epoch, sample_id):
    np.random.seed(seed * 1_000_003 + epoch * 10_007 + sample_id)
    return np.random.choice(length, 10, replace=False)


def drawn(length, key, count=10):
    return np.random.default_rng(key).permutation(length)[:count]


def record(seed=56, start=0.62, agreement=0.7, **changed):
    config = {"tokens": 500_000, "ce": 5.0, "mlm": 2.0, "cos": 1.0, "temperature": 2.0, "seed": seed} | changed
    return {
        "config": config,
        "scores": {"agreement": agreement},
        "evaluations": {"agreement": [start, agreement]},
        "data": {"fingerprint": "abc"},
    }


WRONG = {
    "03.1": [2_416_992, 19_335_938, 604_248, 500],
    "03.2": [1000, 126, 1 / 126, 0.126, 30],
    "03.3": [each_document_apart, no_separator, rest_kept, no_frame, in_place],
    "03.4": [
        moving_generator,
        global_seed,
        lambda length, seed, epoch, sample_id: drawn(length, seed + epoch + sample_id),
        lambda length, seed, epoch, sample_id: drawn(length, (seed, sample_id)),
        lambda length, seed, epoch, sample_id: drawn(length, (seed, epoch)),
        lambda length, seed, epoch, sample_id: drawn(length, (seed, epoch, sample_id), 15),
        lambda length, seed, epoch, sample_id: drawn(length // 2, (seed, epoch, sample_id)),
        lambda length, seed, epoch, sample_id: [length, *drawn(length, (seed, epoch, sample_id), 9)],
    ],
    "03.5": [
        (record(), record()),
        (record(), record(ce=0.0, cos=0.0)),
        (record(ce=0.0), record()),
        (record(), record(ce=0.0, tokens=100_000)),
        (record(), record(ce=0.0, seed=7)),
        (record(), record(ce=0.0, start=0.77)),
        ("the first", "the second"),
    ],
}
