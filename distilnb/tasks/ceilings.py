"""The limits that the data itself sets to scores (notebooks 04, 05, 06 and 09).

They are scored rows that are also training rows, repeated rows, the score of the nearest training row, the part of a
review that a model can read, and on SQuAD the scores of a perfect span model and of matching words alone. `distilnb
ceilings` computes them all from the data sets and keeps them as a record.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from . import glue, metrics
from .answers import LONGEST_ANSWER, Answer, row_scores, score, word_matching
from .squad import SQUAD, features

BREAK = "<br />"  # a line break in IMDb's reviews


def texts(rows: Dataset, task: glue.Task) -> list[tuple[str, ...]]:
    """The texts of each row, one or two."""
    return list(zip(*(rows[column][:] for column in task.columns), strict=True))


def repeated(train: Dataset, scored: Dataset, task: glue.Task) -> dict[str, int]:
    """The number of scored rows with the texts of a training row, and of training rows that repeat an earlier one."""
    learned = Counter(texts(train, task))
    return {
        "scored_rows": len(scored),
        "in_train": sum(row in learned for row in texts(scored, task)),
        "train_rows": len(train),
        "twice_in_train": len(train) - len(learned),
    }


def read_before(unlabelled: Sequence[str], train: Dataset, scored: Dataset) -> dict[str, int]:
    """The number of unlabelled texts, which a teacher may have read, that occur verbatim in the labelled splits."""
    splits = {"scored": set(scored["text"][:]), "train": set(train["text"][:])}
    return {f"unlabelled_in_{name}": sum(text in rows for text in unlabelled) for name, rows in splits.items()}


def nearest_neighbour(train: Dataset, scored: Dataset, task: glue.Task) -> dict[str, float]:
    """The accuracy of the nearest training row's label (by Jaccard overlap of words; ties go to the first row), and of
    the commonest training label. On WNLI the nearest row has the opposite label."""
    bags = [set(" ".join(row).lower().split()) for row in texts(train, task)]
    labels, wanted = np.asarray(train["label"][:]), np.asarray(scored["label"][:])
    guesses = []
    for row in texts(scored, task):
        words = set(" ".join(row).lower().split())
        guesses.append(labels[int(np.argmax([len(words & bag) / len(words | bag) for bag in bags]))])
    return {
        "nearest_neighbour": metrics.accuracy(np.array(guesses), wanted),
        "majority": metrics.accuracy(metrics.majority(labels, len(wanted)), wanted),
    }


def review_lengths(reviews: Sequence[str], tokenizer: PreTrainedTokenizerBase, longest: int = 512) -> dict[str, float]:
    """The share of reviews that are longer than a model reads, [CLS] and [SEP] included, with and without their line
    breaks; and the share of all pieces that are line breaks."""
    broken = len(tokenizer(BREAK, add_special_tokens=False)["input_ids"])
    lengths, breaks = [], [review.count(BREAK) * broken for review in reviews]
    for first in range(0, len(reviews), 1000):
        chunk = tokenizer(list(reviews[first : first + 1000]), return_attention_mask=False, verbose=False)
        lengths += [len(ids) for ids in chunk["input_ids"]]
    counts, lost = np.array(lengths), np.array(breaks)
    return {
        "reviews": len(reviews),
        "longer": float(np.mean(counts > longest)),
        "longer_without_breaks": float(np.mean(counts - lost > longest)),
        "break_pieces": float(lost.sum() / (counts - 2).sum()),
    }


def span_ceiling(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int = 384, stride: int = 128
) -> dict[str, float]:
    """The exact match and F1 of a model that always points at the best span of at most 30 tokens in one window.

    The span is that of a gold answer, in whole tokens, cut to 30 tokens where it is longer. `cannot_be_hit` counts the
    rows whose gold answers match no span of whole tokens of any length.
    """
    windows = features(rows, tokenizer, max_length, stride).select_columns(["example", "offsets"])[:]
    best: list[list[str]] = [[] for _ in range(len(rows))]
    free: list[list[str]] = [[] for _ in range(len(rows))]
    columns = [rows[name][:] for name in ("context", "answers")]
    for example, flat in zip(windows["example"], windows["offsets"], strict=True):
        context, answers = (column[example] for column in columns)
        inside = flat.reshape(-1, 2)
        inside = inside[inside[:, 0] >= 0]
        for text, start in zip(answers["text"], answers["answer_start"], strict=True):
            first = int(np.searchsorted(inside[:, 1], start, side="right"))
            last = int(np.searchsorted(inside[:, 0], start + len(text), side="left")) - 1
            if first > last or inside[first, 0] > start or inside[last, 1] < start + len(text):
                continue
            free[example].append(context[inside[first, 0] : inside[last, 1]])
            last = min(last, first + LONGEST_ANSWER - 1)
            best[example].append(context[inside[first, 0] : inside[last, 1]])
    allowed, whole = (_best_scores(spans, rows) for spans in (best, free))
    return {
        "rows": len(rows),
        "exact_match": float(allowed["exact_match"].mean()),
        "f1": float(allowed["f1"].mean()),
        "cannot_be_hit": int((whole["exact_match"] == 0).sum()),
        "gold_without_words": sum(
            any(not metrics.normalize_answer(text) for text in gold["text"]) for gold in rows["answers"][:]
        ),
    }


def _best_scores(spans: Sequence[Sequence[str]], rows: Dataset) -> dict[str, np.ndarray]:
    """The scores of each row's best span; 0 where there is none."""
    scores = {"exact_match": np.zeros(len(rows)), "f1": np.zeros(len(rows))}
    for turn in range(max(map(len, spans))):
        chosen = [[Answer(row[turn] if turn < len(row) else "", 0.0, 1.0, 0, 0)] for row in spans]
        for name, values in row_scores(chosen, rows).items():
            scores[name] = np.maximum(scores[name], values)
    return scores


def scores_of_matching_words(rows: Dataset) -> dict[str, float]:
    """The exact match and F1 of matching words, which read without having learned: the score to beat."""
    return {f"matching_words_{name}": value for name, value in score(word_matching(rows), rows).items()}


def all_ceilings(
    tokenizer: PreTrainedTokenizerBase, tell: Callable[[str], Any]
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """All numbers of this module by task, and the provenance of the data by task; `tell` is called with each task's."""
    ceilings: dict[str, dict[str, float]] = {}
    origins: dict[str, Any] = {}
    for name in ("cola", "stsb", "rte", "mrpc", "sst2", "wnli", "imdb"):
        data = glue.load_data(name, "hub")
        scored = data.validations[data.task.validations[0]]
        origins[name] = data.info
        ceilings[name] = dict(repeated(data.train, scored, data.task))
        if name == "wnli":
            ceilings[name] |= nearest_neighbour(data.train, scored, data.task)
        if name == "imdb":
            unlabelled = glue.read_rows(data.task, "unsupervised", "hub")["text"][:]
            ceilings[name] |= read_before(unlabelled, data.train, scored)
            ceilings[name] |= review_lengths(scored["text"][:], tokenizer)
        tell(f"{name}: {ceilings[name]}")
    rows = glue.load_split(SQUAD, "validation", "hub")
    origins["squad"] = glue.provenance(SQUAD, "hub", {"validation": rows}, 0)
    ceilings["squad"] = span_ceiling(rows, tokenizer) | scores_of_matching_words(rows)
    tell(f"squad: {ceilings['squad']}")
    return ceilings, origins
