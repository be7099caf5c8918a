"""Dynamic masking as a pure function of (seed, epoch, sample id) (notebooks 02 and 03).

No worker, process or restart can change the masks, so that resuming is exact. The recipe is BERT's 15 % and 80/10/10
with the original code's smoothing by token counts, after XLM.
"""

from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from .randomness import generator


def mask_weights(token_counts: np.ndarray, special_ids: list[int], smoothing: float = 0.7) -> np.ndarray:
    """The relative chance of each word piece to be masked: max(count, 1) ** −smoothing, 0 for special tokens.

    token_counts is (vocab,). smoothing 0.7 prefers rare words as the original code does; 0 treats all pieces alike.
    """
    weights = np.maximum(token_counts.astype(np.float64), 1.0) ** -smoothing
    weights[special_ids] = 0.0
    return weights


@dataclass(frozen=True)
class Masker:
    """A masker of single sequences: it chooses 15 % of the tokens; 80 % of these become [MASK], 10 % a random piece.

    The chosen tokens are drawn without replacement with chances proportional to `weights[token]`. Special
    tokens are never chosen but count in the 15 %, as in the original; a fraction of a token is rounded at
    random, so that the share is 15 % on average for short sequences too.
    """

    mask_id: int
    weights: np.ndarray
    probability: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.probability < 1:
            raise ValueError(
                f"masking probability is {self.probability}; it is a share between 0 and 1 (BERT's is 0.15)"
            )

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        token_counts: np.ndarray,
        smoothing: float = 0.7,
        probability: float = 0.15,
        seed: int = 0,
    ) -> "Masker":
        """A masker for this tokenizer's special tokens and a corpus's token counts (vocab,)."""
        weights = mask_weights(token_counts, tokenizer.all_special_ids, smoothing)
        return cls(tokenizer.mask_token_id, weights, probability, seed)

    def uniform(self) -> "Masker":
        """The masker for scoring held-out text, with masks that never change: 15 %, all pieces alike."""
        return replace(self, weights=(self.weights > 0).astype(float), probability=0.15, seed=0)

    def __call__(self, ids: np.ndarray, epoch: int, sample_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The masked ids and the labels, both (seq,); labels hold the true token where one was chosen, else IGNORE."""
        draw = generator(self.seed, epoch, sample_id)
        weights = self.weights[ids]
        wanted = int(self.probability * len(ids) + draw.random())
        wanted = min(wanted, int(np.count_nonzero(weights)))
        # Efraimidis and Spirakis 2006: the smallest Exp(1) / weight are a weighted sample without replacement
        arrival = draw.exponential(size=len(ids)) / np.maximum(weights, 1e-300)
        chosen = np.argsort(np.where(weights > 0, arrival, np.inf), kind="stable")[:wanted]
        fate = draw.random(wanted)
        masked, labels = ids.copy(), np.full(len(ids), IGNORE, dtype=np.int64)
        labels[chosen] = ids[chosen]
        masked[chosen[fate < 0.8]] = self.mask_id
        swapped = chosen[fate >= 0.9]
        masked[swapped] = draw.integers(0, len(self.weights), len(swapped))
        return masked, labels


IGNORE = -100  # label of a position without a masked word


@dataclass(frozen=True)
class NextWord:
    """The causal counterpart of a Masker: nothing is hidden, and the label of each token is the next token."""

    def uniform(self) -> "NextWord":
        """This object itself, because nothing is drawn at random."""
        return self

    def __call__(self, ids: np.ndarray, epoch: int, sample_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The ids and the labels, both (seq,); the last token has no successor, so its label is IGNORE."""
        return ids, np.append(ids[1:], IGNORE).astype(np.int64)
