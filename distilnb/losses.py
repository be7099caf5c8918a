"""The triple loss (paper section 3): soft targets, masked language modelling, cosine of hidden states.

Each loss comes as its formula, for reading and for reference. `vocabulary_losses` computes the first two
again without ever holding the (tokens, vocabulary) logits: it is what training uses, and tests hold it equal.

Every function returns a mean unless `count` is given: then the sum is divided by `count`, so that the
micro-batches of one update add up to the mean over all its tokens, however these are spread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import machine

IGNORE = -100  # label of a position without a masked word
CACHE = 2**18  # logits that are worked on at once: a few float32 copies of them stay in a processor's cache


@dataclass(frozen=True)
class LossWeights:
    """Weights of L_ce, L_mlm and L_cos. The paper prints none; 5 / 2 / 1 is the original single-GPU command."""

    ce: float = 5.0
    mlm: float = 2.0
    cos: float = 1.0

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if not value >= 0 or value == float("inf"):
                raise ValueError(f"loss weight {name} is {value}; weights are numbers of 0 or more")
        if not any(values.values()):
            raise ValueError("all three loss weights are zero: nothing would be learned; set ce, mlm or cos above 0")


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless 0 < temperature < infinity."""
    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"temperature is {temperature}; it divides the logits and must be above 0 (the original uses 2)"
        )


def _mean(total: Tensor, number: int | Tensor, count: float | None) -> Tensor:
    return total / (max(int(number), 1) if count is None else count)


def soft_target_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, temperature: float = 2.0, count: float | None = None
) -> Tensor:
    """L_ce: T² · KL(softmax(t / T) ‖ softmax(s / T)), averaged over the positions where `mask` is true.

    Logits are (batch, seq, vocab), mask is (batch, seq): non-padding positions, or only the masked words. The
    paper writes Σ tᵢ log sᵢ (without its minus sign); the original code computes this KL divergence, which has
    the same gradient, times T² to keep gradients comparable across temperatures (Hinton et al. 2015).
    """
    check_temperature(temperature)
    mask = mask.bool()
    student = F.log_softmax(student_logits[mask].float() / temperature, dim=-1)  # (tokens, vocab)
    teacher = F.softmax(teacher_logits[mask].float() / temperature, dim=-1)
    divergence = F.kl_div(student, teacher, reduction="none").sum(-1)  # (tokens,)
    return _mean(divergence.sum() * temperature**2, mask.sum(), count)


def mlm_loss(student_logits: Tensor, labels: Tensor, count: float | None = None) -> Tensor:
    """L_mlm: cross-entropy on the masked words; labels (batch, seq) hold IGNORE elsewhere.

    Zero, with zero gradient, when no word of the batch is masked (a plain mean would be nan).
    """
    total = F.cross_entropy(
        student_logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    return _mean(total, (labels != IGNORE).sum(), count)


def cosine_loss(student_hidden: Tensor, teacher_hidden: Tensor, mask: Tensor, count: float | None = None) -> Tensor:
    """L_cos: 1 − cos(student, teacher) of the last hidden states (batch, seq, dim) at non-padding positions."""
    mask = mask.bool()
    cosine = F.cosine_similarity(student_hidden[mask].float(), teacher_hidden[mask].float(), dim=-1)
    return _mean((1 - cosine).sum(), mask.sum(), count)


def triple_loss(
    student_logits: Tensor, teacher_logits: Tensor, student_hidden: Tensor, teacher_hidden: Tensor,
    labels: Tensor, attention_mask: Tensor, weights: LossWeights, temperature: float = 2.0, positions: str = "all",
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The weighted sum of the three losses and its terms; a term of weight zero is not computed.

    `positions="all"` lets L_ce see every non-padding position, "masked" only the masked words (both are in the
    original code). This is the reference: whole logits, one line a loss.
    """
    where = attention_mask if positions == "all" else labels != IGNORE
    terms = {}
    if weights.ce:
        terms["ce"] = soft_target_loss(student_logits, teacher_logits, where, temperature)
    if weights.mlm:
        terms["mlm"] = mlm_loss(student_logits, labels)
    if weights.cos:
        terms["cos"] = cosine_loss(student_hidden, teacher_hidden, attention_mask)
    return sum(getattr(weights, name) * term for name, term in terms.items()), terms


class _VocabularyLosses(torch.autograd.Function):
    """ce_scale · ΣL_ce + mlm_scale · ΣL_mlm over chunks of tokens, gradients written on the way forward.

    Products are taken of `chunk` tokens at once; what is done to their logits, of `block` tokens, few enough to stay
    in the processor's cache. The gradient ends up where the logits were.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, teacher, labels, ce_scale, mlm_scale, temperature, chunk, block):
        table, chunk = weight.to(hidden.dtype), min(chunk, max(len(hidden), 1))
        student = _Decoder(hidden, table, bias, temperature, chunk)
        teacher = _Decoder(*teacher, temperature, chunk) if ce_scale else None
        grad_hidden, grad_weight, grad_bias = torch.empty_like(hidden), torch.zeros_like(weight), torch.zeros_like(bias)
        ce_sum, mlm_sum = hidden.new_zeros((), dtype=torch.float64), hidden.new_zeros((), dtype=torch.float64)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            logits = student(part)  # (chunk, vocab)
            targets = teacher(part) if ce_scale else logits
            for first in range(0, len(logits), block):
                rows = slice(first, first + block)
                words = labels[part][rows]
                masked = (words != IGNORE).nonzero()[:, 0] if mlm_scale else words[:0]
                if ce_scale:
                    hard = logits[rows][masked].float().mul_(temperature)  # (masked, vocab)
                    ce, grad = _divergence(logits[rows], targets[rows], ce_scale * temperature)
                    ce_sum += ce * temperature**2
                    if len(masked):
                        mlm, more = _cross_entropy(hard, words[masked], mlm_scale)
                        grad.index_add_(0, masked, more)
                        mlm_sum += mlm
                else:
                    mlm, grad = _cross_entropy(logits[rows], words, mlm_scale)
                    mlm_sum += mlm
                logits[rows] = grad
                grad_bias += grad.sum(0)
            torch.mm(logits, table, out=grad_hidden[part])
            if grad_weight.dtype == logits.dtype:
                grad_weight.addmm_(logits.T, hidden[part])
            else:
                grad_weight += logits.T @ hidden[part]
        ctx.gradients = grad_hidden, grad_weight, grad_bias
        ce_sum, mlm_sum = ce_sum.float(), mlm_sum.float()
        ctx.mark_non_differentiable(ce_sum, mlm_sum)
        return ce_scale * ce_sum + mlm_scale * mlm_sum, ce_sum, mlm_sum

    @staticmethod
    def backward(ctx, grad_output, *_):
        if ctx.gradients is None:
            raise RuntimeError("these gradients are kept for one backward pass; compute the loss again")
        gradients, ctx.gradients = ctx.gradients, None  # they are large, and scaled in place
        return *(gradient.mul_(grad_output) for gradient in gradients), *[None] * 7


class _Decoder:
    """The logits over T of a stretch of tokens, written to the same memory each time."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor, temperature: float, chunk: int):
        self.hidden, self.weight, self.bias = hidden / temperature, weight.T, (bias / temperature).to(hidden.dtype)
        self.logits = hidden.new_empty(chunk, len(weight))

    def __call__(self, part: slice) -> Tensor:
        hidden = self.hidden[part]
        return torch.addmm(self.bias, hidden, self.weight, out=self.logits[: len(hidden)])


def _powers(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x − max x, its exponential, and the sum of that, in float32; float32 logits are overwritten."""
    shifted = logits.float()
    shifted.sub_(shifted.amax(-1, keepdim=True))
    powers = shifted.exp()
    return shifted, powers, powers.sum(-1, keepdim=True)


def _cross_entropy(logits: Tensor, words: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Σ −log softmax(x)[word], and `scale` times its gradient by hand: softmax(x) − one-hot."""
    shifted, grad, total = _powers(logits)
    right = shifted.gather(1, words[:, None])
    grad.mul_(scale / total).scatter_add_(1, words[:, None], torch.full_like(right, -scale))
    return (total.log() - right).sum(dtype=torch.float64), grad


def _divergence(s: Tensor, t: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Σ KL(softmax(t) ‖ softmax(s)), and `scale` times its gradient by hand: softmax(s) − softmax(t)."""
    shifted, grad, total = _powers(s)
    ratio, target, t_total = _powers(t)
    grad.mul_(scale / total).addcmul_(target, scale / t_total, value=-1)
    rows = ratio.sub_(shifted).mul_(target).sum(-1, keepdim=True)  # apart from each other: one long sum would drift
    return (rows / t_total - (t_total / total).log()).sum(dtype=torch.float64), grad


def vocabulary_losses(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, *, ce_scale: float = 0.0, mlm_scale: float = 0.0,
    teacher: tuple[Tensor, Tensor, Tensor] | None = None, temperature: float = 2.0, chunk: int = 512,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """ce_scale · ΣL_ce + mlm_scale · ΣL_mlm, with both sums, without ever holding a (tokens, vocab) tensor.

    hidden (tokens, dim) is what the decoder's `weight` (vocab, dim) multiplies before `bias` (vocab,) is added;
    `teacher` is the same triple for the teacher; labels (tokens,). The caller passes the tokens that L_ce covers
    and no padding. Equal to `soft_target_loss` and `mlm_loss`, gradients included.
    """
    check_temperature(temperature)
    if not ce_scale:  # then masked words alone matter, as they are
        temperature, masked = 1.0, labels != IGNORE
        hidden, labels = (hidden, labels) if masked.all() else (hidden[masked], labels[masked])
    block = max(1, CACHE // len(weight)) if hidden.device.type == "cpu" else chunk
    return _VocabularyLosses.apply(
        hidden, weight, bias, teacher, labels, ce_scale, mlm_scale, temperature, chunk, block
    )


def whole_vocabulary_losses(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, *, ce_scale: float = 0.0, mlm_scale: float = 0.0,
    teacher: tuple[Tensor, Tensor, Tensor] | None = None, temperature: float = 2.0,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The same from whole logits, as one writes it down: for `torch.compile` to make fast on a GPU."""
    check_temperature(temperature)
    logits = F.linear(hidden, weight.to(hidden.dtype)).float() + bias
    ce = mlm = logits.new_zeros(())
    if ce_scale:
        with torch.no_grad():
            targets = F.linear(teacher[0], teacher[1]).float() + teacher[2]
        ce = soft_target_loss(logits, targets, torch.ones_like(labels), temperature, count=1)
    if mlm_scale:
        mlm = mlm_loss(logits, labels, count=1)
    return ce_scale * ce + mlm_scale * mlm, ce.detach(), mlm.detach()


def faster_head(heads: Sequence[Callable], hidden: Tensor, *args: Any, trials: int = 3, **settings: Any) -> Callable:
    """The one of `heads`, functions as the two above, that is fastest forth and back on these inputs.

    One that fails (a compiler is missing, memory is short) is passed over; the first is taken on trust.
    """
    best, fastest = heads[0], float("inf")
    for head in heads:
        try:
            for trial in range(trials + 1):
                if trial == 1:  # the first may compile
                    began = machine.now(hidden.device)
                value, *_ = head(hidden.detach().requires_grad_(), *args, **settings)
                torch.autograd.grad(value, [x for x in args if x.requires_grad])
        except RuntimeError:
            continue
        took = machine.now(hidden.device) - began
        if took < fastest:
            best, fastest = head, took
    return best

