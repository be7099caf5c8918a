"""Dropout from raw random bits, and the attention that uses it: what a model trains with on a CPU.

PyTorch draws the mask of a dropout there one Bernoulli number at a time, a quarter of a narrow model's training
step. Sixteen raw bits decide as well, in a fifth of the time: an element is dropped when they fall below p · 2¹⁶, so
that p is kept to 1/131,072, and what stays is scaled by the exact share that does. Like PyTorch's own, the masks
come from the default generator: a seed fixes them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

LEVELS = 2**16
ATTENTION = "eager_bits"


class _Dropout(torch.autograd.Function):
    """Keeps one byte an element for the way back, as PyTorch's does."""

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
    """As `F.dropout`, which a GPU keeps: each element zero with probability `p`, the others divided by 1 − p."""
    dropped = round(p * LEVELS)
    if not training or x.device.type != "cpu" or not 0 < dropped < LEVELS:
        return F.dropout(x, p, training)
    return _Dropout.apply(x, dropped)


class BitDropout(nn.Dropout):
    """`nn.Dropout` with masks from raw bits."""

    def forward(self, x: Tensor) -> Tensor:
        """As `drop`, of any shape."""
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
    """Scaled dot-product attention written out: three (batch, heads, seq, size) → (batch, seq, heads, size).

    `attention_mask` is added to the scores. On short rows the backward pass of the fused kernels takes twice as long
    as this one, or more.
    """
    scores = query @ key.transpose(2, 3) * (query.size(-1) ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + attention_mask.to(scores.dtype)  # made beside the embeddings, which stay float32
    weights = drop(scores.softmax(-1), dropout, module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)


def speed_up(model: PreTrainedModel, device: torch.device) -> None:
    """Let a model that trains on a CPU use this attention and dropout; what it computes in evaluation is unchanged."""
    if device.type != "cpu":
        return
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = BitDropout  # in place: it keeps its hooks and its mode
    model.set_attn_implementation(ATTENTION)
