"""Which samples make up an update, masked and stacked: a pure function of the seed, for any number of processes."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..text.corpus import Corpus
from ..text.masking import IGNORE, Masker, NextWord
from ..text.randomness import epoch_order
from .recipe import PretrainingConfig


def make_samples(
    tokenizer: PreTrainedTokenizerBase, token_counts: np.ndarray, objective: str, config: PretrainingConfig
) -> Masker | NextWord:
    """What makes samples of token blocks for a family's objective, "masked" or "causal"."""
    if objective == "causal":
        return NextWord()
    return Masker.of(tokenizer, token_counts, config.smoothing, config.mask_probability, config.seed)


class MaskedRows:
    """Rows of a corpus as masked samples; an item is asked for as (epoch, sample id)."""

    def __init__(self, rows: Any, masker: Masker | NextWord):
        self.rows, self.masker = rows, masker

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict[str, np.ndarray]]:
        ids = self.rows[[int(i) for _, i in keys]]["input_ids"]
        masked = [self.masker(np.asarray(row), epoch, int(i)) for row, (epoch, i) in zip(ids, keys, strict=True)]
        return [{"input_ids": m, "labels": labels} for m, labels in masked]


class MicroBatches:
    """The keys of every micro-batch of one process, from update `start` to `stop`.

    Updates cut one endless stream of samples into stretches of `batch_size`; epochs follow each other without a
    gap, so no incomplete batch is dropped or carried over. Processes and micro-batches share a stretch out.
    """

    def __init__(
        self, corpus: Corpus, config: PretrainingConfig, start: int, stop: int, rank: int = 0, processes: int = 1
    ):
        self.corpus, self.config, self.start, self.stop = corpus, config, start, stop
        self.rank, self.processes, self.rows = rank, processes, config.rows(processes)

    def __len__(self) -> int:
        return (self.stop - self.start) * (self.config.batch_size // (self.rows * self.processes))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        lengths, batch, micro = self.corpus.train_lengths, self.config.batch_size, self.rows

        @lru_cache(2)
        def order(epoch: int) -> np.ndarray:
            return epoch_order(lengths, batch, self.config.seed, epoch, group=self.corpus.padded)

        for step in range(self.start, self.stop):
            stretch = [divmod(i, len(lengths)) for i in range(step * batch, (step + 1) * batch)]
            for first in range(self.rank * micro, batch, micro * self.processes):
                yield [(epoch, int(order(epoch)[place])) for epoch, place in stretch[first : first + micro]]


def collate(samples: list[dict[str, np.ndarray]], pad_id: int = 0) -> dict[str, Tensor]:
    """Stack samples, padded to the longest: input_ids, labels, attention_mask, each (batch, seq)."""
    longest = max(len(s["input_ids"]) for s in samples)
    ids = np.full((len(samples), longest), pad_id, dtype=np.int64)
    labels = np.full((len(samples), longest), IGNORE, dtype=np.int64)
    for i, sample in enumerate(samples):
        ids[i, : len(sample["input_ids"])] = sample["input_ids"]
        labels[i, : len(sample["labels"])] = sample["labels"]
    lengths = np.array([[len(s["input_ids"])] for s in samples])
    attention = (np.arange(longest)[None] < lengths).astype(np.int64)
    return {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "attention_mask": torch.from_numpy(attention),
    }
