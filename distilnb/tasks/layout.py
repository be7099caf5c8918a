"""The layout of a task's texts: the separators that each family puts around them.

A tokenizer knows its family's layout: `[CLS] a [SEP] b [SEP]` is BERT's, `<s> a </s></s> b </s>` RoBERTa's. GPT-2's
has no separators and would join a pair into one text, so its end-of-text token is put before each text, as between the
documents of its training.
"""

import copy
from typing import NamedTuple

from tokenizers import processors
from transformers import PreTrainedTokenizerBase


class Layout(NamedTuple):
    """The ids before the first text of a pair, between the two texts, and after the second."""

    opening: list[int]
    between: list[int]
    closing: list[int]


def framed(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer itself, or, if it marks no beginning, a copy that puts its end of text before every text."""
    if not tokenizer.is_fast or tokenizer.num_special_tokens_to_add(pair=True):
        return tokenizer
    made, end = copy.deepcopy(tokenizer), tokenizer.eos_token
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{end} $A", pair=f"{end} $A {end} $B:1", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return made


def layout_of(tokenizer: PreTrainedTokenizerBase) -> Layout:
    """The layout of a fast tokenizer, read from a pair that it has encoded."""
    read = framed(tokenizer)("a", "a")
    sides, ids = read.sequence_ids(0), read["input_ids"]  # None, 0 or 1 for each token
    first, second = ([place for place, side in enumerate(sides) if side == text] for text in (0, 1))
    return Layout(ids[: first[0]], ids[first[-1] + 1 : second[0]], ids[second[-1] + 1 :])
