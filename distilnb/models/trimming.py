"""Training without the embeddings of words that no row contains (notebook 04).

Half of a small encoder's weights are word embeddings, and the rows of a task contain a part of its words. The gradients
of the others are zero, so that AdamW does nothing to them but weight decay; yet at each update it reads and writes the
weight, the gradient and two moments of them all. Here they are set aside, and decay at the end: on a CPU, to the same
bits. Where padding is one of the last words, as in GPT-2, nothing of note is saved.
"""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel

BLOCK = 2**18  # weights that decay through all updates at once, because they fit a processor's cache


class Trimmed:
    """The word embeddings of a model cut down to those of the words in `rows`, until `restore`.

    Meanwhile the model reads `places[input_ids]` instead of `input_ids`.
    """

    def __init__(self, model: PreTrainedModel, rows: Dataset, pad_id: int):
        self.model, self.whole = model, model.get_input_embeddings()
        weight = self.whole.weight.detach()
        ids = pc.list_flatten(rows.with_format("arrow")[:]["input_ids"]).to_numpy()
        contained = np.bincount(ids, minlength=len(weight)) > 0
        padding = {pad_id, model.config.pad_token_id, self.whole.padding_idx} - {None}
        contained[: max(padding) + 1] = True  # padding keeps its number, by which some families know it
        self.words = torch.from_numpy(contained.nonzero()[0])
        places = np.where(contained, contained.cumsum() - 1, len(self.words))  # an absent word has none, and raises
        self.places = torch.from_numpy(places)
        model.set_input_embeddings(
            nn.Embedding.from_pretrained(
                weight[self.words.to(weight.device)],
                freeze=not self.whole.weight.requires_grad,
                padding_idx=self.whole.padding_idx,
            )
        )

    def __call__(self, ids: Tensor) -> Tensor:
        """The place of each word of a batch, (batch, seq), among the embeddings that are left."""
        self.places = self.places.to(ids.device)
        return self.places[ids]

    @torch.no_grad()
    def restore(self, decays: Sequence[float] = ()) -> None:
        """Give the model its word embeddings again: those trained, and the others times each of `decays` in turn.

        A table that is not trained does not decay. A GPU's AdamW rounds otherwise, so after it one product will do.
        """
        weight, trained = self.whole.weight, self.model.get_input_embeddings().weight
        if not weight.requires_grad:
            decays = ()
        elif trained.device.type != "cpu":
            decays = (math.prod(decays),)
        for block in weight.split(max(1, BLOCK // weight.shape[1])):
            for decay in decays:
                block.mul_(decay)
        weight[self.words.to(weight.device)] = trained.to(weight.device)
        self.model.set_input_embeddings(self.whole.to(trained.device))
