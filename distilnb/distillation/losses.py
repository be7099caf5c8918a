"""The triple loss (paper section 2): soft targets, masked language modelling, cosine of hidden states (notebook 02).

Each function is its formula, for reading and for reference. Training uses `vocabulary_head`, which computes the first
two losses without ever holding the (tokens, vocabulary) logits; tests hold both equal.

Every function returns a mean unless `count` is given. Then the sum is divided by `count`, so that the micro-batches of
one update add up to the mean over all its tokens.
"""

from dataclasses import dataclass, fields

import torch.nn.functional as F
from torch import Tensor

from ..text.masking import IGNORE


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
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    labels: Tensor,
    attention_mask: Tensor,
    weights: LossWeights,
    temperature: float = 2.0,
    positions: str = "all",
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the three losses, and its terms; a term of weight zero is not computed.

    `student` and `teacher` are (logits, last hidden states). `positions="all"` computes L_ce at every non-padding
    position, "masked" only at the masked words (the original code has both). This is the reference: whole logits, one
    line per loss.
    """
    (logits, hidden), (t_logits, t_hidden) = student, teacher
    terms = {}
    if weights.ce:
        where = attention_mask if positions == "all" else labels != IGNORE
        terms["ce"] = soft_target_loss(logits, t_logits, where, temperature)
    if weights.mlm:
        terms["mlm"] = mlm_loss(logits, labels)
    if weights.cos:
        terms["cos"] = cosine_loss(hidden, t_hidden, attention_mask)
    return sum(getattr(weights, name) * term for name, term in terms.items()), terms
