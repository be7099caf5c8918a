"""What stands around the texts of a task: each family's own separators.

A tokenizer knows its family's layout: `[CLS] a [SEP] b [SEP]` is BERT's, `<s> a </s></s> b </s>` RoBERTa's. GPT-2's
puts nothing anywhere and would glue a pair into one text, so its end of text is put before each, as between the
documents that it learned from.
"""

import copy
from typing import NamedTuple

from tokenizers import processors
from transformers import PreTrainedTokenizerBase


class Layout(NamedTuple):
    """The ids before the first text of a pair, between the two, and after the second."""

    opening: list[int]
    between: list[int]
    closing: list[int]


def framed(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer; a copy of one that marks no beginning, which puts its end of text before every text."""
    if not tokenizer.is_fast or tokenizer.num_special_tokens_to_add(pair=True):
        return tokenizer
    made, end = copy.deepcopy(tokenizer), tokenizer.eos_token
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{end} $A", pair=f"{end} $A {end} $B:1", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return made


def layout_of(tokenizer: PreTrainedTokenizerBase) -> Layout:
    """How a fast tokenizer lays out a pair, seen from one that it has encoded."""
    read = framed(tokenizer)("a", "a")
    sides, ids = read.sequence_ids(0), read["input_ids"]  # None, 0 or 1 for each token
    first, second = ([place for place, side in enumerate(sides) if side == text] for text in (0, 1))
    return Layout(ids[: first[0]], ids[first[-1] + 1 : second[0]], ids[second[-1] + 1 :])
