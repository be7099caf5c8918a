"""Fill in the blank: what a masked language model, teacher or student, says for the hidden word of a sentence."""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .forward import head_input, hidden_states


class Guess(NamedTuple):
    """A word piece and its probability."""

    word: str
    probability: float


def encode(tokenizer: PreTrainedTokenizerBase, text: str, longest: int, what: str = "the sentence") -> list[int]:
    """The ids of a text that a reader typed, [CLS] and [SEP] included.

    Raises ValueError, in a sentence that names the way out, for an empty text, one of more than `longest` tokens, and
    one with a word that the vocabulary cannot spell.
    """
    if not text.strip():
        raise ValueError(f"{what} is empty: write some words")
    read = tokenizer(text, return_offsets_mapping=True, verbose=False)
    ids = read["input_ids"]
    if len(ids) > longest:
        raise ValueError(f"{what} has {len(ids):,} tokens, and at most {longest} can be read: shorten it")
    if tokenizer.unk_token_id in ids:
        start, end = read["offset_mapping"][ids.index(tokenizer.unk_token_id)]
        raise ValueError(
            f"the model's {len(tokenizer):,} word pieces cannot spell '{text[start:end]}': write another word"
        )
    return ids


@torch.no_grad()
def mask_logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentence: str) -> Tensor:
    """The logits (vocab,) at the one [MASK] of a sentence, in evaluation mode, on the CPU.

    Raises ValueError for what `encode` refuses and unless the sentence hides exactly one word.
    """
    ids = torch.tensor([encode(tokenizer, sentence, model.config.max_position_embeddings)])
    hidden_words = (ids == tokenizer.mask_token_id).sum().item()
    if hidden_words != 1:
        raise ValueError(f"the sentence hides {hidden_words or 'no'} words: write [MASK] once, in place of a word")
    batch = {"input_ids": ids.to(model.device), "attention_mask": torch.ones_like(ids).to(model.device)}
    training = model.training
    model.eval()
    hidden = hidden_states(model, batch)[batch["input_ids"] == tokenizer.mask_token_id]  # (1, dim)
    logits = model.get_output_embeddings()(head_input(model, hidden))[0]
    model.train(training)
    return logits.float().cpu()


def best_guesses(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentence: str, k: int = 5) -> list[Guess]:
    """The `k` likeliest word pieces for the one [MASK] of a sentence, best first; as `mask_logits`, which see."""
    best = mask_logits(model, tokenizer, sentence).softmax(-1).topk(k)
    return [
        Guess(*pair) for pair in zip(tokenizer.convert_ids_to_tokens(best.indices), best.values.tolist(), strict=True)
    ]
