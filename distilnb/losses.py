"""The triple loss (paper section 3): soft targets, masked language modelling, cosine of hidden states.

Each loss comes as its formula, for reading and for reference. `vocabulary_losses` computes the first two
again without ever holding the (tokens, vocabulary) logits: it is what training uses, and tests hold it equal.

Every function returns a mean unless `count` is given: then the sum is divided by `count`, so that the
micro-batches of one update add up to the mean over all its tokens, however these are spread.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100  # label of a position without a masked word


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

    Gradients by hand: d(T² KL)/d logits = T (softmax(s/T) − softmax(t/T)); d(CE)/d logits = softmax(s) − one-hot.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, teacher, labels, ce_scale, mlm_scale, temperature, chunk):
        table = weight.to(hidden.dtype)
        grad_hidden, grad_weight, grad_bias = torch.empty_like(hidden), torch.zeros_like(weight), torch.zeros_like(bias)
        ce_sum, mlm_sum = hidden.new_zeros((), dtype=torch.float64), hidden.new_zeros((), dtype=torch.float64)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            logits = F.linear(hidden[part], table).float().add_(bias)  # (chunk, vocab)
            if ce_scale:
                t_hidden, t_weight, t_bias = teacher
                t_logits = F.linear(t_hidden[part], t_weight).float().add_(t_bias)
                log_s, log_t = (F.log_softmax(x / temperature, dim=-1) for x in (logits, t_logits))
                target = log_t.exp()
                divergence = log_t.sub_(log_s).mul_(target).sum(-1)  # summed per row: one long sum would drift
                ce_sum += divergence.sum(dtype=torch.float64) * temperature**2
                grad = log_s.exp_().sub_(target).mul_(ce_scale * temperature)
            else:
                grad = torch.zeros_like(logits)
            masked = (labels[part] != IGNORE).nonzero()[:, 0] if mlm_scale else ()
            if len(masked):
                log_p, words = F.log_softmax(logits[masked], dim=-1), labels[part][masked]
                mlm_sum -= log_p.gather(1, words[:, None]).sum(dtype=torch.float64)
                grad_mlm = log_p.exp_().mul_(mlm_scale)
                grad_mlm[torch.arange(len(words), device=words.device), words] -= mlm_scale
                grad[masked] += grad_mlm
            grad_bias += grad.sum(0)
            grad = grad.to(hidden.dtype)
            grad_hidden[part] = grad @ table
            grad_weight += (grad.T @ hidden[part]).to(grad_weight.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ce_sum, mlm_sum = ce_sum.float(), mlm_sum.float()
        ctx.mark_non_differentiable(ce_sum, mlm_sum)
        return ce_scale * ce_sum + mlm_scale * mlm_sum, ce_sum, mlm_sum

    @staticmethod
    def backward(ctx, grad_output, *_):
        hidden, weight, bias = (g * grad_output.to(g.dtype) for g in ctx.saved_tensors)
        return hidden, weight, bias, *[None] * 6


def vocabulary_losses(
    hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, *, ce_scale: float = 0.0, mlm_scale: float = 0.0,
    teacher: tuple[Tensor, Tensor, Tensor] | None = None, temperature: float = 2.0, chunk: int = 128,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """ce_scale · ΣL_ce + mlm_scale · ΣL_mlm, with both sums, without ever holding a (tokens, vocab) tensor.

    hidden (tokens, dim) is what the decoder's `weight` (vocab, dim) multiplies before `bias` (vocab,) is added;
    `teacher` is the same triple for the teacher; labels (tokens,). The caller passes the tokens that L_ce covers
    and no padding. Equal to `soft_target_loss` and `mlm_loss`, gradients included.
    """
    check_temperature(temperature)
    return _VocabularyLosses.apply(hidden, weight, bias, teacher, labels, ce_scale, mlm_scale, temperature, chunk)
