"""Dropout from raw random bits, and attention that uses it, for training on a CPU.

On a CPU, PyTorch draws a dropout mask one Bernoulli number at a time, which takes a quarter of a narrow model's
training step. Sixteen raw bits per element take a fifth of that time: an element is dropped when its bits, read as a
number, are below p · 2¹⁶, which rounds p to within 1/131,072; the kept elements are scaled by the exact kept share.
As with PyTorch's dropout, the masks come from the default generator, so that a seed fixes them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from .unpadding import layout

LEVELS = 2**16
ATTENTION = "eager_bits"


class _Dropout(torch.autograd.Function):
    """Dropout that stores one byte per element for the backward pass, as PyTorch's does."""

    @staticmethod
    def forward(ctx, x: Tensor, dropped: int) -> Tensor:
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
        ctx.keep, ctx.scale = keep.view(torch.uint8), LEVELS / (LEVELS - dropped)
        return (x * ctx.keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return (gradient * ctx.keep).mul_(ctx.scale), None


def drop(x: Tensor, p: float, training: bool = True) -> Tensor:
    """`x` with each element zeroed with probability `p` and the others divided by 1 − p; on a GPU, `F.dropout`."""
    dropped = round(p * LEVELS)
    if not training or x.device.type != "cpu" or not 0 < dropped < LEVELS:
        return F.dropout(x, p, training)
    return _Dropout.apply(x, dropped)


class BitDropout(nn.Dropout):
    """`nn.Dropout` with masks from raw bits."""

    def forward(self, x: Tensor) -> Tensor:
        """The result of `drop` for a tensor of any shape."""
        return drop(x, self.p, self.training)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention of three (batch, heads, seq, size) tensors: (batch, seq, heads, size), and weights.

    `attention_mask` is added to the scores. The attention is written out because, on short rows, the backward pass of
    the fused kernels takes at least twice as long. A batch without padding is put into rows and taken out of them.
    """
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    if (batch := layout()) is None:
        return _attend(query, key, value, attention_mask, scale, dropout * module.training)
    parts = zip(batch.parts, *(batch.split(x.transpose(1, 2)) for x in (query, key, value)), strict=True)
    mixed = []
    for (rectangle, mask), *own in parts:
        rows, _ = _attend(*(x.transpose(1, 2) for x in own), mask, scale, dropout * module.training)
        mixed.append(rectangle.take(rows))
    return torch.cat(mixed, 1), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, dropout: float
) -> tuple[Tensor, Tensor]:
    scores = query @ key.transpose(2, 3) * scale
    if mask is not None:
        scores = scores + mask.to(scores.dtype)  # the mask is made in the embeddings' dtype, float32
    # unless its rows fill vectors of 32 numbers, a softmax in bf16 takes several times as long as one in float32
    softmax = scores.float().softmax(-1).to(scores.dtype) if scores.size(-1) % 32 else scores.softmax(-1)
    weights = drop(softmax, dropout)
    return (weights @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)


def speed_up(model: PreTrainedModel, device: torch.device) -> None:
    """Switch a model that trains on a CPU to this attention and dropout; its results in evaluation are unchanged."""
    if device.type != "cpu":
        return
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = BitDropout  # in place, so that the module keeps its hooks and its mode
    model.set_attn_implementation(ATTENTION)
