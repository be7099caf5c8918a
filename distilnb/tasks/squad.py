"""SQuAD v1.1 (paper section 4.1, Table 2): passages in windows, start and end logits to answers, answers to EM and F1.

A passage longer than the model's input is read in overlapping windows, each with the whole question before it. In a
window the model gives every token a score for being the answer's first and one for being its last; the answer is the
best span over all windows. Windows, labels and what is allowed as an answer are BERT's own (Devlin et al. 2019,
section 4.2, and its `run_squad.py`), which the paper's code took over; the search for the best spans is exact here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..text.corpus import vocabulary_hash
from ..text.randomness import generator
from . import glue
from .answers import find_answers, interval, score

COLUMNS = ("question", "context", "answers")


@dataclass(frozen=True)
class SquadTask:
    """SQuAD v1.1 as a task: the attributes of `tasks.Task` that loading, records and reports read."""

    name: str = "squad"
    title: str = "SQuAD v1.1"
    columns: tuple[str, ...] = ("question", "context")
    rows: dict[str, int] = field(default_factory=lambda: {"train": 87_599, "validation": 10_570})
    metrics: tuple[str, ...] = ("exact_match", "f1")
    hub: str = "rajpurkar/squad"
    revision: str = "7b6d24c440a36b6815f21b70d25016731768db1f"

    spans, num_labels = True, 2  # two outputs for each token: start and end of the answer

    @property
    def main(self) -> str:
        """What a single number of this task is: F1, the mean over the questions of the best over the gold answers."""
        return "f1"

    @property
    def config(self) -> str:
        """The name of the data set's configuration on the Hub."""
        return "plain_text"

    @property
    def validations(self) -> tuple[str, ...]:
        """The splits that are scored; SQuAD's test split is not public."""
        return tuple(split for split in self.rows if split != "train")


SQUAD = SquadTask()


def load_split(split: str, source: str = "toyworld", n: int | None = None, seed: int = 0) -> Dataset:
    """One split with columns id, title, context, question and answers {text: [...], answer_start: [...]}.

    From toyworld, which writes `n` rows, or from the Hub (a pinned revision), of which `n` rows are drawn with `seed`.
    Raises ValueError in one sentence for an unknown source or split, and for rows that `check` refuses.
    """
    rows = glue.read(SQUAD, split, source, n, seed)
    check(rows, split)
    return rows


def check(rows: Dataset, split: str) -> None:
    """Raise ValueError unless each row has an answer and each answer stands in its context where it is said to."""
    what = f"split '{split}' of task squad"
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


@dataclass(frozen=True)
class SquadData:
    """SQuAD ready to train on: its rows and, for the record, where they are from (`info`). Made by `load_all`."""

    task: SquadTask
    train: Dataset
    validations: dict[str, Dataset]
    info: dict[str, Any]
    _encoded: dict = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.validations:
            raise ValueError("task squad needs a split to score")
        for split, rows in {"train": self.train, **self.validations}.items():
            check(rows, split)

    def encoded(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int = 384, stride: int = 128
    ) -> tuple[Dataset, dict[str, Dataset]]:
        """(train, validations) as `features` returns them; made once, however many models and seeds follow."""
        key = vocabulary_hash(tokenizer), max_length, stride
        if key not in self._encoded:
            made = [features(rows, tokenizer, max_length, stride) for rows in (self.train, *self.validations.values())]
            self._encoded[key] = made[0], dict(zip(self.validations, made[1:], strict=True))
        return self._encoded[key]

    def judge(
        self, split: str, features: Dataset, logits: Sequence[np.ndarray]
    ) -> tuple[dict[str, float], tuple[float, float]]:
        """Exact match and F1 for the logits (windows, seq, 2) of a split's `features`, and the interval of F1."""
        found = find_answers(logits, features, self.validations[split])
        return score(found, self.validations[split]), interval(found, self.validations[split])

    def baseline(self, split: str) -> None:
        """None: no answer is the commonest one. `word_matching` gives a score to beat, without training."""

    def carve(self, share: float = 0.1, seed: int = 0, most: int = 0) -> "SquadData":
        """The training rows alone, about `share` of them held out as the split "carved": where settings are chosen.
        Of the rest, `most` rows are kept (0: all).

        Whole contexts are held out: one that occurs on both sides, with other questions, would flatter.
        """
        numbers = _numbered(texts := self.train["context"][:])
        contexts, order = np.array([numbers[text] for text in texts]), generator(seed).permutation(len(numbers))
        sizes = np.bincount(contexts)
        wanted = np.searchsorted(np.cumsum(sizes[order]), share * len(self.train)) + 1
        if wanted >= len(order):
            raise ValueError(f"task squad has {len(order)} training context(s); too few to hold some out")
        held = np.isin(contexts, order[:wanted])
        kept = np.sort(generator(seed).permutation(np.flatnonzero(~held))[: most or None])
        train, carved = self.train.select(kept), self.train.select(np.flatnonzero(held))
        info = self.info | {"rows": {"train": len(train), "carved": len(carved)}, "carved_seed": seed}
        return SquadData(self.task, train, {"carved": carved}, info)


def load_data(
    source: str = "toyworld", n_train: int | None = None, n_validation: int | None = None, seed: int = 0
) -> SquadData:
    """Training and validation split, with their provenance.

    `info["repeated_answers"]` counts, for each split, the rows whose first answer occurs more than once in its
    context, and of these the ones placed at the first occurrence: 7 in 10 where people marked the answers (SQuAD's
    validation split), all where a copy of the data lost the places and looked the texts up again.
    """
    splits = {"train": load_split("train", source, n_train, seed)}
    splits |= {split: load_split(split, source, n_validation, seed) for split in SQUAD.validations}
    info = glue.provenance(SQUAD, source, splits, seed, target="answers")
    info["repeated_answers"] = {split: _repeated(rows) for split, rows in splits.items()}
    return SquadData(SQUAD, splits.pop("train"), splits, info)


def _repeated(rows: Dataset) -> dict[str, int]:
    found = {"rows": 0, "at_first": 0}
    for context, answers in zip(rows["context"][:], rows["answers"][:], strict=True):
        text, start = answers["text"][0], answers["answer_start"][0]
        if text in context[context.find(text) + 1 :]:
            found["rows"] += 1
            found["at_first"] += context.find(text) == start
    return found


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
    """First and last token with a character of the first answer; (0, -1) when none has one."""
    start = answers["answer_start"][0]
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], start + len(answers["text"][0]), side="left")) - 1
    return (first, last) if first <= last else (0, -1)


def lost_answers(features: Dataset, rows: Dataset) -> int:
    """How many rows have an answer that no window holds whole: it cannot be learned, nor found."""
    windows = features.select_columns(["example", "labels"])[:]
    return len(rows) - len(np.unique(windows["example"][windows["labels"][:, 1] > 0]))


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
