"""Fill in the blank: a language model's guesses for the hidden or the next word of a sentence (notebooks 02 and 03)."""

import re
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from . import families
from .forward import decoder, head_input, hidden_states

SHOWN = 24  # characters of a word that a message can name


class Guess(NamedTuple):
    """A word piece and its probability."""

    word: str
    probability: float


def encode(tokenizer: PreTrainedTokenizerBase, text: str, longest: int, what: str = "the sentence") -> list[int]:
    """The ids of a text that a reader typed, [CLS] and [SEP] included.

    Raises ValueError, naming the way out, for an empty text, for more than `longest` tokens, and for a word that the
    vocabulary cannot spell.
    """
    if not text.strip():
        raise ValueError(f"{what} is empty: write some words")
    read = tokenizer(text, return_offsets_mapping=True, verbose=False)
    ids = read["input_ids"]
    if len(ids) > longest:
        raise ValueError(f"{what} has {len(ids):,} tokens, and at most {longest} can be read: shorten it")
    if tokenizer.unk_token_id in ids:
        start, end = read["offset_mapping"][ids.index(tokenizer.unk_token_id)]
        word = text[start:end] if end - start <= SHOWN else f"{text[start : start + SHOWN]}…"
        raise ValueError(f"the model's {len(tokenizer):,} word pieces cannot spell '{word}': write another word")
    return ids


@torch.no_grad()
def mask_logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentence: str) -> Tensor:
    """The logits (vocab,) at the one [MASK] of a sentence, in evaluation mode, on the CPU.

    [MASK], in capitals or not, stands for the mask of every family. A causal model has no mask, and the logits are for
    the word after the sentence. Raises ValueError for what `encode` refuses, and unless the sentence of a masked
    language model hides exactly one word.
    """
    causal = families.of(model).objective == "causal"
    keeps = causal or not tokenizer.mask_token
    text = sentence if keeps else re.sub(r"\[mask\]", lambda _: tokenizer.mask_token, sentence, flags=re.IGNORECASE)
    ids = torch.tensor([encode(tokenizer, text, families.longest(model.config))])
    asked = (torch.arange(ids.shape[1]) == ids.shape[1] - 1)[None] if causal else ids == tokenizer.mask_token_id
    if asked.sum() != 1:
        count = asked.sum().item() or "no"
        raise ValueError(f"the sentence hides {count} words: write [MASK] once, in place of a word")
    batch = {"input_ids": ids.to(model.device), "attention_mask": torch.ones_like(ids).to(model.device)}
    training = model.training
    model.eval()
    hidden = hidden_states(model, batch)[asked.to(model.device)]  # (1, dim)
    logits = nn.functional.linear(head_input(model, hidden), *decoder(model))[0]
    model.train(training)
    return logits.float().cpu()


def best_guesses(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentence: str, k: int = 5) -> list[Guess]:
    """The `k` likeliest word pieces for the [MASK] of a sentence (for a causal model, after the sentence), best first.

    Raises as `mask_logits` does. Pieces are shown as readable text: a byte-level space is a space.
    """
    shares = mask_logits(model, tokenizer, sentence).softmax(-1)
    best = shares.topk(min(k + max(0, len(shares) - len(tokenizer)), len(shares)))
    pieces = tokenizer.convert_ids_to_tokens(best.indices)
    known = [i for i, piece in enumerate(pieces) if piece is not None][:k]  # rows that pad a table have no piece
    pieces, probabilities = [pieces[i] for i in known], best.values[known].tolist()
    if type(getattr(tokenizer.backend_tokenizer, "decoder", None)).__name__ == "ByteLevel":
        pieces = [tokenizer.convert_tokens_to_string([piece]) for piece in pieces]
    return [Guess(*pair) for pair in zip(pieces, probabilities, strict=True)]
