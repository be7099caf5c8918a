"""Rows of unequal length without their padding, from the embeddings to the last layer (notebook 04).

A batch is a rectangle, and short rows are filled up. But everything in a layer treats each token alone, except its
attention. So the real tokens of all rows can stand in one long row, (1, tokens, dim), and only the attention puts them
back into rectangles. The answers are those of the padded batch, and nothing is computed for padding; rows need not be
put together by length for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from . import families

TOGETHER, SCORES = 8, 2**17  # rows of like length that one rectangle has for the attention at least; its scores at most
FULL = 0.9  # with a greater share of real tokens a batch is taken as it is, because there is little to save


@dataclass(frozen=True)
class Rectangle:
    """Where tokens stand in a rectangle of rows: its shape (rows, seq), and their places, (tokens,), when flattened."""

    shape: tuple[int, int]
    places: Tensor

    def take(self, x: Tensor) -> Tensor:
        """The real tokens of `x`, (rows, seq, ...), as one row, (1, tokens, ...)."""
        return x.flatten(0, 1).index_select(0, self.places)[None]

    def put(self, x: Tensor) -> Tensor:
        """The tokens of `x`, (1, tokens, ...), in their rows, (rows, seq, ...), with zeros as padding."""
        empty = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[2:])
        return empty.index_copy(0, self.places, x[0]).unflatten(0, self.shape)


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch stand in it, the shortest row first, and a few rows at a time in rectangles of their
    own, each with its attention mask (rows, 1, 1, seq)."""

    whole: Rectangle
    parts: list[tuple[Rectangle, Tensor]]

    @classmethod
    def of(cls, mask: Tensor) -> "Layout":
        """The layout of a batch with this padding mask, (batch, seq)."""
        order = mask.sum(1).argsort(stable=True)
        rows, columns = mask[order].nonzero(as_tuple=True)
        parts = []
        for own in mask[order].split(max(TOGETHER, SCORES // mask.shape[1] ** 2)):
            own = own[:, : int(own.nonzero()[:, 1].max()) + 1]
            hidden = torch.where(own == 0, torch.finfo(torch.float32).min, 0.0)[:, None, None]
            parts.append((Rectangle(tuple(own.shape), own.flatten().nonzero()[:, 0]), hidden))
        return cls(Rectangle(tuple(mask.shape), order[rows] * mask.shape[1] + columns), parts)

    def split(self, x: Tensor) -> Iterator[Tensor]:
        """The tokens of `x`, (1, tokens, ...), of each part in its rows."""
        for (part, _), own in zip(self.parts, x.split([len(part.places) for part, _ in self.parts], 1), strict=True):
            yield part.put(own)


_LAYOUT: ContextVar[Layout | None] = ContextVar("layout", default=None)


def layout() -> Layout | None:
    """The layout of the batch that is in the layers now; None for a padded one."""
    return _LAYOUT.get()


@contextmanager
def unpadded(model: PreTrainedModel, batch: dict[str, Tensor], attention: str) -> Iterator[dict[str, Tensor]]:
    """The arguments with which `model` reads a batch of (batch, seq) tensors in this block, seeing no padding.

    `batch` has an attention_mask, which is left out where nothing is padded, because a faster kernel runs then. A model
    of another family, or with another `attention` than that of this name, which looks at `layout`, pads.
    """
    mask = batch["attention_mask"]
    if mask.all():
        yield {key: value for key, value in batch.items() if key != "attention_mask"}
        return
    fits = families.of(model).unpads and model.config._attn_implementation == attention
    if not fits or mask.float().mean() > FULL:
        yield batch
        return
    now, first = Layout.of(mask), families.position_offset(model.config)
    last = attrgetter(families.of(model).layers)(model)[-1]
    hook = last.register_forward_hook(lambda *call: _first(call[-1], now.whole.put))
    token = _LAYOUT.set(now)
    try:
        made = {key: now.whole.take(value) for key, value in batch.items() if key != "attention_mask"}
        made["position_ids"] = (now.whole.places % mask.shape[1] + first)[None]
        yield made | {"attention_mask": mask[:, None, None]}  # with four dimensions it is passed on as it is
    finally:
        _LAYOUT.reset(token)
        hook.remove()


def _first(output: Any, change: Any) -> Any:
    """The output of a layer, which is its hidden states, or a tuple that begins with them, with these changed."""
    return change(output) if isinstance(output, Tensor) else (change(output[0]), *output[1:])
