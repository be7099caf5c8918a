"""SQuAD v1.1 (paper section 4.1, Table 2): passages in windows, start and end logits to answers, answers to EM and F1.

A passage longer than the model's input is read in overlapping windows, each with the whole question before it. In a
window the model gives every token a score for being the answer's first and one for being its last; the answer is the
best span over all windows. Windows and labels are BERT's own (Devlin et al. 2019, section 4.2, and its
`run_squad.py`), which the paper's code took over. An answer begins and ends in the context, in one window, and has at
most 30 tokens, as in BERT. In two points the search differs: it is exact, where BERT pairs the 20 best starts with the
20 best ends; and a span counts in every window that holds it, where BERT lets it begin only in the window in which its
first token has the most context (`most_context=True` does so too).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from transformers import PreTrainedTokenizerBase

from . import metrics, tasks
from .masking import generator
from .tasks import Judgement, Task, TaskData

COLUMNS = ("question", "context", "answers")


@dataclass(frozen=True)
class SpanTask(Task):
    """A task whose answer is a span of a passage. Where `unanswerable`, a passage may hold no answer at all, and the
    rules are those of SQuAD 2.0 (Rajpurkar et al. 2018)."""

    columns: tuple[str, ...] = ("question", "context")
    labels: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("exact_match", "f1")
    main_metric: str = "f1"  # the mean over the questions of the best F1 over the gold answers
    unanswerable: bool = False

    spans, target = True, "answers"

    @property
    def num_labels(self) -> int:
        """Two outputs for each token: start and end of the answer."""
        return 2

    @property
    def regression(self) -> bool:
        """No number is predicted."""
        return False

    def check(self, rows: Dataset, split: str, labelled: bool = True) -> None:
        """Raise ValueError unless each answer stands in its context, as the function `check` says."""
        check(rows, split, self)

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, how: int) -> Dataset:
        """The windows over the passages, as `features` returns them; `how` is the stride."""
        return features(rows, tokenizer, max_length, how)

    def judge(self, rows: Dataset, encoded: Dataset, logits: Sequence[np.ndarray]) -> Judgement:
        """Exact match and F1 for logits (windows, seq, 2), and the interval of F1; see `score_with_none`."""
        best = answers(logits, encoded, rows)
        if not self.unanswerable:
            return score(best, rows), interval(best, rows)
        return score_with_none(best, none_odds(best, logits, encoded), rows)

    def baseline(self, train: Dataset, rows: Dataset) -> float | None:
        """None: no answer is the commonest one (`word_matching` gives a score to beat). Where a passage may hold no
        answer, the share of such rows, which never answering scores."""
        if not self.unanswerable:
            return None
        return float(np.mean([not gold["text"] for gold in rows["answers"][:]]))

    def held_out(self, train: Dataset, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """As for every task, but whole contexts: one on both sides, with other questions, would flatter."""
        numbers = _numbered(texts := train["context"][:])
        contexts, order = np.array([numbers[text] for text in texts]), generator(seed).permutation(len(numbers))
        sizes = np.bincount(contexts)
        wanted = np.searchsorted(np.cumsum(sizes[order]), share * len(train)) + 1
        if wanted >= len(order):
            raise ValueError(f"task {self.name} has {len(order)} training context(s); too few to hold some out")
        held = np.isin(contexts, order[:wanted])
        return generator(seed).permutation(np.flatnonzero(~held)), np.flatnonzero(held)

    def counted(self, splits: dict[str, Dataset]) -> dict[str, Any]:
        """`repeated_answers`: for each split, the rows whose first answer occurs more than once in its context, and of
        these the ones placed at the first occurrence: 7 in 10 where people marked the answers (SQuAD's validation
        split), all where a copy of the data lost the places and looked the texts up again. With unanswerable rows also
        how many there are of them."""
        told: dict[str, Any] = {"repeated_answers": {split: _repeated(rows) for split, rows in splits.items()}}
        if self.unanswerable:
            told["unanswerable"] = {
                split: sum(not gold["text"] for gold in rows["answers"][:]) for split, rows in splits.items()
            }
        return told


SQUAD = SpanTask(
    "squad",
    "SQuAD v1.1",
    rows={"train": 87_599, "validation": 10_570},
    hub="rajpurkar/squad",
    revision="7b6d24c440a36b6815f21b70d25016731768db1f",
)


def load(split: str, source: str = "toyworld", n: int | None = None, seed: int = 0) -> Dataset:
    """One split of SQuAD v1.1 with columns id, title, context, question and answers {text: [...], answer_start: [...]};
    as `tasks.load`."""
    return tasks.load(SQUAD, split, source, n, seed)


def load_all(
    source: str = "toyworld", n_train: int | None = None, n_validation: int | None = None, seed: int = 0
) -> TaskData:
    """SQuAD v1.1, as `tasks.load_all` loads any task."""
    return tasks.load_all(SQUAD, source, n_train, n_validation, seed=seed)


def check(rows: Dataset, split: str, task: SpanTask = SQUAD) -> None:
    """Raise ValueError unless each row has an answer and each answer stands in its context where it is said to.

    Where passages without an answer are allowed, only the answers are checked, and that not all are missing.
    """
    what = f"split '{split}' of task {task.name}"
    missing = [column for column in COLUMNS if column not in rows.column_names]
    if missing:
        raise ValueError(f"{what} has no column '{missing[0]}', only {', '.join(rows.column_names)}")
    if not len(rows):
        raise ValueError(f"{what} is empty; it needs at least one row")
    texts = [rows[column][:] for column in COLUMNS]
    wrong = []
    for i, (question, context, answers) in enumerate(zip(*texts, strict=True)):
        if question is None or context is None:
            raise ValueError(f"row {i} of {what} has no text in column '{COLUMNS[question is not None]}'")
        golds, starts = (answers or {}).get("text"), (answers or {}).get("answer_start")
        if task.unanswerable and golds == []:
            continue
        if not golds or len(golds) != len(starts or []):
            raise ValueError(
                f"row {_name(rows, i)} of {what} has no answer with a place (a split without labels?): "
                "use train or validation"
            )
        wrong += [
            (i, gold, context[start : start + len(gold)])
            for gold, start in zip(golds, starts, strict=True)
            if start < 0 or not gold or context[start : start + len(gold)] != gold
        ]
    if wrong:
        i, gold, there = wrong[0]
        raise ValueError(
            f"{len(wrong)} answer(s) of {what} are not where they are said to be, first in row "
            f"{_name(rows, i)}: the answer is {gold!r}, the context has {there!r} there"
        )


def _name(rows: Dataset, row: int) -> str:
    return str(rows[row]["id"]) if "id" in rows.column_names else str(row)


def _repeated(rows: Dataset) -> dict[str, int]:
    found = {"rows": 0, "at_first": 0}
    for context, answers in zip(rows["context"][:], rows["answers"][:], strict=True):
        if not answers["text"]:
            continue
        text, start = answers["text"][0], answers["answer_start"][0]
        if text in context[context.find(text) + 1 :]:
            found["rows"] += 1
            found["at_first"] += context.find(text) == start
    return found


# ---------------------------------------------------------------------------------------------- windows


def features(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int = 384, stride: int = 128, max_question: int = 64
) -> Dataset:
    """The windows that a model reads, a row each: [CLS] question [SEP] a part of the context [SEP].

    The next window starts `stride` tokens of the context later, or where the last one ended if that is earlier, until
    the end of the context is reached: BERT's `doc_stride`. (The tokenizers of `transformers` call the overlap so; taken
    for that, 128 makes 10,784 windows of SQuAD's validation split instead of BERT's 10,833.) Of a question, the first
    `max_question` tokens are kept, as in BERT; `cut` counts those lost. Columns:

    - `input_ids`, `token_type_ids` (seq,), `length`; nothing is padded yet;
    - `labels` (2,): first and last token of the row's first answer in this window, or 0, 0, which is [CLS], where
      the window does not hold all of it (as in BERT). An answer that begins or ends inside a token gets all of it;
    - `example`: the number of the row that the window is of;
    - `offsets` (2 · seq,): for each token, the characters [from, to) of the context that it stands for, and -1, -1
      outside the context; `reshape(-1, 2)` makes pairs of them.

    Raises ValueError for impossible lengths and for a question that leaves no room for the context.
    """
    if not tokenizer.is_fast:
        raise ValueError("SQuAD needs a fast tokenizer, one that knows which characters a token stands for")
    if not 8 <= max_length <= tokenizer.model_max_length:
        raise ValueError(f"max_length is {max_length}; this tokenizer allows 8 to {tokenizer.model_max_length}")
    if stride < 1 or max_question < 1:
        raise ValueError(f"stride is {stride} and max_question {max_question}; both count tokens, at least 1")
    questions, _ = _tokens(rows["question"][:], tokenizer)
    numbers = _numbered(texts := rows["context"][:])
    contexts, places = _tokens(list(numbers), tokenizer)
    cls, sep = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    found: list[dict[str, Any]] = []
    for i, (question, text, gold) in enumerate(zip(questions, texts, rows["answers"][:], strict=True)):
        head = np.concatenate([cls, question[:max_question], sep])
        context, offsets = contexts[numbers[text]], places[numbers[text]]
        room = max_length - len(head) - 1
        if room < 1:
            raise ValueError(
                f"the question of row {i} has {len(question)} tokens and leaves no room for its context "
                f"in {max_length}: use a larger max_length or a smaller max_question"
            )
        first, last = _answer_tokens(offsets, gold)
        step = min(stride, room)
        for start in range(0, max(len(context) - room, 0) + step, step):
            ids = np.concatenate([head, context[start : start + room], sep])
            at = np.full((len(ids), 2), -1)
            at[len(head) : -1] = offsets[start : start + room]
            whole, shift = start <= first <= last < start + room, len(head) - start
            found.append(
                {
                    "input_ids": ids.astype(np.int32),
                    "token_type_ids": (np.arange(len(ids)) >= len(head)).astype(np.int32),
                    "length": len(ids),
                    "labels": (first + shift, last + shift) if whole else (0, 0),
                    "example": i,
                    "offsets": at.ravel().astype(np.int32),
                    "cut": max(0, len(question) - max_question),
                }
            )
    return Dataset.from_dict({name: [window[name] for window in found] for name in found[0]}).with_format("numpy")


def _numbered(contexts: list[str]) -> dict[str, int]:
    """Each context once, with its number: several questions share one."""
    return {context: i for i, context in enumerate(dict.fromkeys(contexts))}


def _tokens(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each text its ids (tokens,) and the characters that they stand for (tokens, 2)."""
    ids, places = [], []
    for first in range(0, len(texts), 1000):
        made = tokenizer(
            texts[first : first + 1000],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids += [np.asarray(one, dtype=np.int64) for one in made["input_ids"]]
        places += [np.asarray(one, dtype=np.int64).reshape(-1, 2) for one in made["offset_mapping"]]
    return ids, places


def _answer_tokens(offsets: np.ndarray, answers: dict[str, list]) -> tuple[int, int]:
    """First and last token with a character of the first answer; (0, -1) when none has one, or there is no answer."""
    if not answers["text"]:
        return 0, -1
    start = answers["answer_start"][0]
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], start + len(answers["text"][0]), side="left")) - 1
    return (first, last) if first <= last else (0, -1)


def lost_answers(features: Dataset, rows: Dataset) -> int:
    """How many rows have an answer that no window holds whole: it cannot be learned, nor found."""
    windows = features.select_columns(["example", "labels"])[:]
    answered = sum(bool(gold["text"]) for gold in rows["answers"][:])
    return answered - len(np.unique(windows["example"][windows["labels"][:, 1] > 0]))


def counts(features: Dataset, rows: Dataset) -> dict[str, int]:
    """What a record should say about the windows of a split: rows, windows, lost_answers, cut_questions."""
    windows = features.select_columns(["example", "cut"])[:]
    cut = len(np.unique(windows["example"][windows["cut"] > 0]))
    return {
        "rows": len(rows),
        "windows": len(features),
        "lost_answers": lost_answers(features, rows),
        "cut_questions": cut,
    }


# ---------------------------------------------------------------------------------------------- answers


class Span(NamedTuple):
    """A first and a last token of one window, and the sum of their logits."""

    start: int
    end: int
    score: float


class Answer(NamedTuple):
    """A text of the context, its characters [start, end), its score, and its share of the n best answers' softmax."""

    text: str
    score: float
    probability: float
    start: int
    end: int


def best_spans(
    start_logits: np.ndarray, end_logits: np.ndarray, offsets: np.ndarray, n_best: int = 20, max_answer_length: int = 30
) -> list[Span]:
    """The `n_best` spans of one window with the highest start + end logit, best first; of equals the earlier, shorter.

    Logits are (seq,) or longer, `offsets` (seq, 2) as `features` has them. A span begins and ends in the context and
    has at most `max_answer_length` tokens. BERT's code pairs the 20 best starts with the 20 best ends and drops the
    pairs that are no span, so that it may miss a good one; this looks at all (seq × max_answer_length) of them.
    """
    inside = offsets[:, 0] >= 0
    starts = np.where(inside, start_logits[: len(inside)], -np.inf).astype(np.float64)
    ends = np.where(inside, end_logits[: len(inside)], -np.inf).astype(np.float64)
    longest = min(max_answer_length, len(inside))
    later = sliding_window_view(np.append(ends, np.full(longest - 1, -np.inf)), longest)
    scores = (starts[:, None] + later).ravel()  # (seq · longest): token i to i + j
    kept = min(n_best, int((scores > -np.inf).sum()))
    if not kept:
        return []
    least = np.partition(scores, -kept)[-kept]
    found = np.flatnonzero(scores >= least)
    found = found[np.argsort(-scores[found], kind="stable")][:kept]
    return [Span(int(k // longest), int(k // longest + k % longest), float(scores[k])) for k in found]


def answers(
    logits: Sequence[np.ndarray],
    features: Dataset,
    rows: Dataset,
    n_best: int = 20,
    max_answer_length: int = 30,
    most_context: bool = False,
) -> list[list[Answer]]:
    """For each row of `rows` its `n_best` answers over all of its windows, best first; never none.

    `logits[i]` is (length or longer, 2), start and end, for window i of `features`. An answer is cut from the context
    by its characters, so it is as it was written. Of answers with the same text the best is kept, as BERT's code
    does; where there is no span at all, the answer is the empty text. Raises ValueError when `logits` do not fit.
    """
    if len(logits) != len(features):
        raise ValueError(f"there are logits for {len(logits)} windows, but {len(features)} windows")
    if n_best < 1 or max_answer_length < 1:
        raise ValueError(f"n_best is {n_best} and max_answer_length {max_answer_length}; both are at least 1")
    windows = features.select_columns(["example", "length", "offsets"])[:]
    starts = most_context_starts(features) if most_context else None
    spans: list[list[tuple[float, int, int]]] = [[] for _ in range(len(rows))]
    for i, (example, length) in enumerate(zip(windows["example"], windows["length"], strict=True)):
        scores, offsets = np.asarray(logits[i]), windows["offsets"][i].reshape(-1, 2)
        if scores.ndim != 2 or len(scores) < length or scores.shape[1] != 2 or not np.isfinite(scores[:length]).all():
            raise ValueError(
                f"window {i} has {length} tokens; logits of shape {scores.shape} do not fit it or are not finite"
            )
        first = scores[:length, 0] if starts is None else np.where(starts[i], scores[:length, 0], -np.inf)
        for start, end, score in best_spans(first, scores[:length, 1], offsets, n_best, max_answer_length):
            spans[example].append((score, int(offsets[start, 0]), int(offsets[end, 1])))
    return [_ranked(found, context, n_best) for found, context in zip(spans, rows["context"][:], strict=True)]


def most_context_starts(features: Dataset) -> list[np.ndarray]:
    """For each window, which of its tokens (seq,) have more context here than in any other window of their passage.

    BERT's measure: the smaller of the numbers of tokens to the left and to the right in the window, and a hundredth of
    the window's length for each token of it; of equals the first window.
    """
    windows = features.select_columns(["example", "offsets"])[:]
    best: dict[tuple[int, int, int], tuple[float, int]] = {}
    keys: list[list[tuple[int, int, int] | None]] = []
    for i, (example, flat) in enumerate(zip(windows["example"], windows["offsets"], strict=True)):
        offsets = flat.reshape(-1, 2)
        inside = np.flatnonzero(offsets[:, 0] >= 0)
        keys.append([None] * len(offsets))
        for place, token in enumerate(inside):
            key = (int(example), *map(int, offsets[token]))
            keys[-1][token] = key
            context = min(place, len(inside) - 1 - place) + 0.01 * len(inside)
            if key not in best or context > best[key][0]:
                best[key] = context, i
    return [np.array([key is not None and best[key][1] == i for key in window]) for i, window in enumerate(keys)]


def _ranked(spans: list[tuple[float, int, int]], context: str, n_best: int) -> list[Answer]:
    best: dict[str, tuple[float, int, int]] = {}
    for score, start, end in sorted(spans, key=lambda span: -span[0]):
        best.setdefault(context[start:end], (score, start, end))
    kept = list(best.items())[:n_best] or [("", (-math.inf, 0, 0))]
    odds = [math.exp(score - kept[0][1][0]) if text else 1.0 for text, (score, _, _) in kept]
    return [
        Answer(text, score, odd / sum(odds), start, end)
        for (text, (score, start, end)), odd in zip(kept, odds, strict=True)
    ]


# ----------------------------------------------------------------------------------------------- scores


def row_scores(found: Sequence[Sequence[Answer]], rows: Dataset) -> dict[str, np.ndarray]:
    """Exact match and F1 of each row's first answer against its gold answers, (rows,) each."""
    if len(found) != len(rows) or not len(rows):
        raise ValueError(f"there are answers to {len(found)} of {len(rows)} questions; each needs one")
    pairs = [(best[0].text, gold["text"]) for best, gold in zip(found, rows["answers"][:], strict=True)]
    return {
        "exact_match": np.array([metrics.exact_match(*pair) for pair in pairs]),
        "f1": np.array([metrics.squad_f1(*pair) for pair in pairs]),
    }


def score(found: Sequence[Sequence[Answer]], rows: Dataset) -> dict[str, float]:
    """Exact match and F1 over all rows, fractions of 1 (the paper's are percentages)."""
    return {name: float(values.mean()) for name, values in row_scores(found, rows).items()}


def interval(found: Sequence[Sequence[Answer]], rows: Dataset, metric: str = "f1") -> tuple[float, float]:
    """95 % bootstrap interval of a score over resampled questions."""
    return metrics.bootstrap_mean(row_scores(found, rows)[metric])


def none_odds(found: Sequence[Sequence[Answer]], logits: Sequence[np.ndarray], features: Dataset) -> np.ndarray:
    """How much higher than its best answer each row scores "there is none", (rows,), as BERT's code has it.

    "None" is the span of [CLS] alone; of several windows the one that gives it the lowest score decides, because a
    window without the answer is right to find none.
    """
    least = np.full(len(found), np.inf)
    for example, scores in zip(features["example"][:], logits, strict=True):
        least[example] = min(least[example], float(scores[0][0]) + float(scores[0][1]))
    return least - np.array([best[0].score for best in found])


def score_with_none(
    found: Sequence[Sequence[Answer]], odds: np.ndarray, rows: Dataset, threshold: float = 0.0
) -> Judgement:
    """Scores by SQuAD 2.0's rules, fractions of 1, and the interval of F1.

    A row answers "there is none" where its `odds` exceed `threshold`. A row without an answer scores 1 for that and 0
    for anything else; a row with answers scores 0 for it. `HasAns_` and `NoAns_` are the means over either kind of row.
    `best_exact` and `best_f1` are the highest scores over all thresholds, `best_exact_thresh` and `best_f1_thresh` the
    thresholds: chosen on the rows that they score, as the official evaluation does, so they flatter.
    """
    golds = [[text for text in gold["text"] if metrics.normalize_answer(text)] for gold in rows["answers"][:]]
    answered = np.array([bool(gold["text"]) for gold in rows["answers"][:]])
    texts, silent = [best[0].text for best in found], odds > threshold
    functions = {"exact_match": metrics.exact_match, "f1": metrics.squad_f1}
    scores: dict[str, float] = {}
    best_of: dict[str, float] = {}
    for name, function in functions.items():
        said = np.array([function(text, gold or [""], none=True) for text, gold in zip(texts, golds, strict=True)])
        values = np.where(silent, ~answered, said)
        scores[name] = float(values.mean())
        for kind, part in (("HasAns", answered), ("NoAns", ~answered)):
            if part.any():
                scores[f"{kind}_{name}"] = float(values[part].mean())
        short = "exact" if name == "exact_match" else name
        gains = np.where(answered, said, [-bool(text) for text in texts])
        best_of |= _best_threshold(short, gains, odds, int((~answered).sum()))
        if name == "f1":
            bounds = metrics.bootstrap_mean(values)
    return scores | best_of, bounds


def _best_threshold(name: str, gains: np.ndarray, odds: np.ndarray, silent: int) -> dict[str, float]:
    """The best mean score over all thresholds: rows speak up in the order of their odds, from `silent` points on."""
    order = np.argsort(odds, kind="stable")
    points = silent + np.cumsum(gains[order])
    best = int(points.argmax())
    score, threshold = (points[best], odds[order[best]]) if points[best] > silent else (silent, 0.0)
    return {f"best_{name}": float(score) / len(odds), f"best_{name}_thresh": float(threshold)}


_WORD, _SENTENCE = re.compile(r"\w+"), re.compile(r"\S.*?(?:[.?!](?=\s)|$)", re.DOTALL)


def word_matching(rows: Dataset) -> list[list[Answer]]:
    """What matching words alone answers: a score to beat, as a classifier must beat the commonest class.

    Of the sentence that shares the most words with the question, the last run of words that the question has not,
    function words apart. A relative of the sliding window that SQuAD's authors compare with (Rajpurkar et al. 2016).
    """
    found = []
    for question, context in zip(rows["question"][:], rows["context"][:], strict=True):
        asked = {word.lower() for word in _WORD.findall(question)} - ENGLISH_STOP_WORDS
        sentences = [match.span() for match in _SENTENCE.finditer(context)] or [(0, 0)]
        start, end = max(sentences, key=lambda at: len(asked & set(_WORD.findall(context[slice(*at)].lower()))))
        words = [(word[0].lower() in asked | ENGLISH_STOP_WORDS, word) for word in _WORD.finditer(context, start, end)]
        runs = [list(run) for known, run in groupby(words, key=lambda word: word[0]) if not known]
        if runs:
            start, end = runs[-1][0][1].start(), runs[-1][-1][1].end()
        found.append([Answer(context[start:end], 0.0, 1.0, start, end)])
    return found
