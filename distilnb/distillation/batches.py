"""The samples of each update, masked and stacked, as a pure function of the seed for any number of processes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from ..text.corpus import Corpus
from ..text.masking import IGNORE, Masker, NextWord
from ..text.randomness import epoch_order
from .recipe import PretrainingConfig


def make_samples(
    tokenizer: PreTrainedTokenizerBase, token_counts: np.ndarray, objective: str, config: PretrainingConfig
) -> Masker | NextWord:
    """The Masker or NextWord that makes samples from token blocks for the objective "masked" or "causal"."""
    if objective == "causal":
        return NextWord()
    return Masker.of(tokenizer, token_counts, config.smoothing, config.mask_probability, config.seed)


class MaskedRows:
    """The rows of a corpus as masked samples; the key of an item is (epoch, sample id)."""

    def __init__(self, rows: Any, masker: Masker | NextWord):
        self.rows, self.masker = rows, masker

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict[str, np.ndarray]]:
        ids = self.rows[[int(i) for _, i in keys]]["input_ids"]
        masked = [self.masker(np.asarray(row), epoch, int(i)) for row, (epoch, i) in zip(ids, keys, strict=True)]
        return [{"input_ids": m, "labels": labels} for m, labels in masked]


class MicroBatches:
    """The keys of every micro-batch of one process, from update `start` to `stop`.

    Each update takes the next `batch_size` samples of one endless stream. Epochs follow each other without a gap, so
    no incomplete batch is dropped or carried over. Processes and micro-batches divide these samples among them.
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


def pad(columns: Mapping[str, Sequence[np.ndarray]], fillers: Mapping[str, int]) -> dict[str, Tensor]:
    """The columns as int64 tensors (batch, seq), padded on the right to the longest row, and the attention_mask."""
    padded = {
        key: pad_sequence([torch.as_tensor(row) for row in rows], batch_first=True, padding_value=fillers[key]).long()
        for key, rows in columns.items()
    }
    lengths = torch.tensor([len(row) for row in next(iter(columns.values()))])
    return padded | {"attention_mask": (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long()}


def collate(samples: Sequence[Mapping[str, np.ndarray]], pad_id: int = 0) -> dict[str, Tensor]:
    """Masked samples as one batch, padded to the longest: input_ids, labels, attention_mask, each (batch, seq)."""
    fillers = {"input_ids": pad_id, "labels": IGNORE}
    return pad({key: [sample[key] for sample in samples] for key in fillers}, fillers)
