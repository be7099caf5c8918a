"""SQuAD v1.1 (paper section 4.1, Table 2) as windows over passages; `answers` makes answers and scores (notebook 06).

A passage longer than the model's input is read in overlapping windows, each with the whole question before it. In a
window the model gives every token one score as the answer's first token and one as its last; the answer is the best
span over all windows. Windows and labels are BERT's own (Devlin et al. 2019, section 4.2, and its `run_squad.py`),
which the paper's code adopted. An answer begins and ends in the context, in one window, and has at most 30 tokens, as
in BERT. The search differs in two points. It is exact, whereas BERT pairs the 20 best starts with the 20 best ends; and
a span counts in every window that contains it, whereas BERT lets it begin only in the window in which its first token
has the most context (as `most_context=True` does).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..text.randomness import generator
from . import glue
from .answers import find_answers, interval, none_odds, score, score_with_none
from .glue import Judgement, Task, TaskData
from .layout import layout_of
from .metrics import exact_match

COLUMNS = ("question", "context", "answers")


@dataclass(frozen=True)
class SpanTask(Task):
    """A task whose answer is a span of a passage. If `unanswerable`, a passage may hold no answer, and the rules are
    those of SQuAD 2.0 (Rajpurkar et al. 2018)."""

    columns: tuple[str, ...] = ("question", "context")
    labels: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("exact_match", "f1")
    main_metric: str = "f1"  # the mean over the questions of each question's best F1 over its gold answers
    unanswerable: bool = False

    spans, target = True, "answers"

    @property
    def num_labels(self) -> int:
        """Two outputs for each token: start and end of the answer."""
        return 2

    @property
    def regression(self) -> bool:
        """False, because no number is predicted."""
        return False

    def check(self, rows: Dataset, split: str, labelled: bool = True) -> None:
        """Raise ValueError unless each answer is in its context, as the function `check` says."""
        check(rows, split, self)

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, how: int) -> Dataset:
        """The windows over the passages, as `features` returns them; `how` is the stride."""
        return features(rows, tokenizer, max_length, how)

    def judge(self, rows: Dataset, encoded: Dataset, logits: Sequence[np.ndarray]) -> Judgement:
        """The exact match and F1 for logits (windows, seq, 2), and the interval of F1; see `score_with_none`."""
        best = find_answers(logits, encoded, rows)
        if not self.unanswerable:
            return score(best, rows), interval(best, rows)
        return score_with_none(best, none_odds(best, logits, encoded), rows)

    def verdicts(self, rows: Dataset, encoded: Dataset, logits: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The text of the answer to each row, "" for none, and whether it is a gold answer, (rows,) each."""
        best = find_answers(logits, encoded, rows)
        silent = self.unanswerable & (none_odds(best, logits, encoded) > 0)
        texts = np.where(silent, "", [answers[0].text for answers in best])
        golds = [gold["text"] or [""] for gold in rows["answers"][:]]
        return texts, np.array([exact_match(*pair) == 1 for pair in zip(texts, golds, strict=True)])

    def baseline(self, train: Dataset, rows: Dataset) -> float | None:
        """None, because no answer is the commonest one (`word_matching` gives a score to beat); if `unanswerable`, the
        share of rows without an answer, which is the score of never answering."""
        if not self.unanswerable:
            return None
        return float(np.mean([not gold["text"] for gold in rows["answers"][:]]))

    def held_out(self, train: Dataset, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the training rows that stay and of those held out, split by whole contexts.

        A context on both sides, with different questions, would flatter the score.
        """
        numbers = _numbered(texts := train["context"][:])
        contexts, order = np.array([numbers[text] for text in texts]), generator(seed).permutation(len(numbers))
        sizes = np.bincount(contexts)
        wanted = np.searchsorted(np.cumsum(sizes[order]), share * len(train)) + 1
        if wanted >= len(order):
            raise ValueError(f"task {self.name} has {len(order)} training context(s); too few to hold some out")
        held = np.isin(contexts, order[:wanted])
        return generator(seed).permutation(np.flatnonzero(~held)), np.flatnonzero(held)

    def counted(self, splits: dict[str, Dataset]) -> dict[str, Any]:
        """The record's `repeated_answers` and, with unanswerable rows, their number.

        `repeated_answers` counts, for each split, the rows whose first answer occurs more than once in its context, and
        those of them placed at the first occurrence: 7 in 10 where people marked the answers (SQuAD's validation
        split), all where a copy of the data lost the places and looked the texts up again.
        """
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


def load_split(split: str, source: str = "toyworld", n: int | None = None, seed: int = 0) -> Dataset:
    """One split of SQuAD v1.1 with columns id, title, context, question and answers {text: [...], answer_start: [...]};
    the parameters are those of `glue.load_split`."""
    return glue.load_split(SQUAD, split, source, n, seed)


def load_data(
    source: str = "toyworld", n_train: int | None = None, n_validation: int | None = None, seed: int = 0
) -> TaskData:
    """The data of SQuAD v1.1, loaded as `glue.load_data` loads other tasks."""
    return glue.load_data(SQUAD, source, n_train, n_validation, seed=seed)


def check(rows: Dataset, split: str, task: SpanTask = SQUAD) -> None:
    """Raise ValueError unless each row has an answer and each answer is at its stated place in the context.

    Where passages without an answer are allowed, only the existing answers are checked, and at least one must exist.
    """
    what = f"split '{split}' of task {task.name}"
    if missing := [column for column in COLUMNS if column not in rows.column_names]:
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
        i, gold, words = wrong[0]
        raise ValueError(
            f"{len(wrong)} answer(s) of {what} are not where they are said to be, first in row "
            f"{_name(rows, i)}: the answer is {gold!r}, the context has {words!r} there"
        )


def _name(rows: Dataset, row: int) -> str:
    return str(rows[row]["id"]) if "id" in rows.column_names else str(row)


def _repeated(rows: Dataset) -> dict[str, int]:
    counts = {"rows": 0, "at_first": 0}
    for context, answers in zip(rows["context"][:], rows["answers"][:], strict=True):
        if not answers["text"]:
            continue
        text, start = answers["text"][0], answers["answer_start"][0]
        if text in context[context.find(text) + 1 :]:
            counts["rows"] += 1
            counts["at_first"] += context.find(text) == start
    return counts


# ---------------------------------------------------------------------------------------------- windows


def features(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int = 384, stride: int = 128, max_question: int = 64
) -> Dataset:
    """The windows that a model reads, one per row: [CLS] question [SEP] a part of the context [SEP], or the layout of
    a pair in the tokenizer's family (`layout`).

    The next window starts `stride` tokens of the context later, or where the last one ended if that is earlier, until
    the end of the context is reached; this is BERT's `doc_stride`. (In `transformers`, a tokenizer's `stride` is the
    overlap; as an overlap, 128 makes 10,784 windows of SQuAD's validation split instead of BERT's 10,833.) Of a
    question, the first `max_question` tokens are kept, as in BERT; `cut` counts those lost. Columns:

    - `input_ids`, `token_type_ids` (seq,), `length`; nothing is padded yet;
    - `labels` (2,): first and last token of the row's first answer in this window, or, as in BERT, 0, 0 (the first
      token, [CLS] in BERT) where the window does not contain the whole answer. An answer that begins or ends inside a
      token gets the whole token;
    - `example`: the number of the window's row;
    - `offsets` (2 · seq,): for each token, its characters [from, to) in the context, or -1, -1 outside the context;
      `reshape(-1, 2)` makes pairs of them.

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
    around = layout_of(tokenizer)
    windows: list[dict[str, Any]] = []
    for i, (question, text, gold) in enumerate(zip(questions, texts, rows["answers"][:], strict=True)):
        head = np.concatenate([around.opening, question[:max_question], around.between])
        room = max_length - len(head) - len(around.closing)
        if room < 1:
            raise ValueError(
                f"the question of row {i} has {len(question)} tokens and leaves no room for its context "
                f"in {max_length}: use a larger max_length or a smaller max_question"
            )
        context, offsets = contexts[numbers[text]], places[numbers[text]]
        answer, about = _answer_tokens(offsets, gold), {"example": i, "cut": max(0, len(question) - max_question)}
        for start in range(0, max(len(context) - room, 0) + min(stride, room), min(stride, room)):
            part = slice(start, start + room)
            window = _window(head, context[part], offsets[part], around.closing)
            windows.append(window | {"labels": _place(answer, part, len(head))} | about)
    return Dataset.from_dict({name: [window[name] for window in windows] for name in windows[0]}).with_format("numpy")


def _window(head: np.ndarray, context: np.ndarray, offsets: np.ndarray, closing: Sequence[int]) -> dict[str, Any]:
    """The model's input for one window, and the places of its tokens in the text."""
    ids = np.concatenate([head, context, closing])
    at = np.full((len(ids), 2), -1)
    at[len(head) : len(head) + len(context)] = offsets
    return {
        "input_ids": ids.astype(np.int32),
        "token_type_ids": (np.arange(len(ids)) >= len(head)).astype(np.int32),
        "length": len(ids),
        "offsets": at.ravel().astype(np.int32),
    }


def _place(answer: tuple[int, int], part: slice, before: int) -> tuple[int, int]:
    """The places of the answer's first and last token in the window of this part; (0, 0) if it is not wholly inside."""
    first, last = answer
    shift = before - part.start
    return (first + shift, last + shift) if part.start <= first <= last < part.stop else (0, 0)


def _numbered(contexts: list[str]) -> dict[str, int]:
    """The number of each distinct context, because several questions share one."""
    return {context: i for i, context in enumerate(dict.fromkeys(contexts))}


def _tokens(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each text, its ids (tokens,) and their characters (tokens, 2), without a space in front."""
    ids, places, settings = [], [], {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
    second = tokenizer("a a", **settings)["offset_mapping"][-1][0]
    spaced = second < 2  # byte-level and SentencePiece pieces begin with the space before their word
    for first in range(0, len(texts), 1000):
        part = texts[first : first + 1000]
        made = tokenizer(part, return_attention_mask=False, return_token_type_ids=False, **settings)
        ids += [np.asarray(one, dtype=np.int64) for one in made["input_ids"]]
        for text, offsets in zip(part, made["offset_mapping"], strict=True):
            if spaced:
                offsets = [(end - len(text[start:end].lstrip()), end) for start, end in offsets]
            places.append(np.asarray(offsets, dtype=np.int64).reshape(-1, 2))
    return ids, places


def _answer_tokens(offsets: np.ndarray, answers: dict[str, list]) -> tuple[int, int]:
    """The first and last token with a character of the first answer; (0, -1) without such a token or an answer."""
    if not answers["text"]:
        return 0, -1
    start = answers["answer_start"][0]
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], start + len(answers["text"][0]), side="left")) - 1
    return (first, last) if first <= last else (0, -1)


def lost_answers(features: Dataset, rows: Dataset) -> int:
    """The number of rows whose answer is whole in no window, so that it can be neither learned nor found."""
    windows = features.select_columns(["example", "labels"])[:]
    answered = sum(bool(gold["text"]) for gold in rows["answers"][:])
    return answered - len(np.unique(windows["example"][windows["labels"][:, 1] > 0]))


def counts(features: Dataset, rows: Dataset) -> dict[str, int]:
    """The record's entries about the windows of a split: rows, windows, lost_answers, cut_questions."""
    windows = features.select_columns(["example", "cut"])[:]
    cut = len(np.unique(windows["example"][windows["cut"] > 0]))
    return {
        "rows": len(rows),
        "windows": len(features),
        "lost_answers": lost_answers(features, rows),
        "cut_questions": cut,
    }
