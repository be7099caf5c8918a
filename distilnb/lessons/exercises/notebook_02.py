"""Checks of notebook 02: temperatures, losses and their limits, tried on random logits and a tiny pair of models."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from ...distillation.losses import cosine_loss, soft_target_loss
from ...models.student import build_student
from . import NotYet, ask, close, exercise, mistake


def _logits(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The logits of student and teacher (4, 7, 11), and a mask (4, 7) with rows of unequal length."""
    draw = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, 4, 7, 11, generator=draw, dtype=torch.float64)
    mask = torch.arange(7)[None] < torch.tensor([7, 6, 2, 1])[:, None]
    return student, teacher, mask.long()


@exercise("02.1", 2)
def softened(probability: float) -> str:
    """The probability at T = 2 of the first of two words, which have 0.9 and 0.1 at T = 1."""
    log_odds = torch.tensor([0.9, 0.1], dtype=torch.float64).log()
    right, sharpened = (float((log_odds / T).softmax(-1)[0]) for T in (2.0, 0.5))
    if close(probability, right, 0, 0.001):
        return (
            "0.75: at T = 2 the odds 9 to 1 become their square root, 3 to 1. Dividing logits by T takes the T-th "
            "root of odds."
        )
    hints = {
        0.9 / 2: "probabilities are not divided, logits are; and the two must still add up to 1",
        sharpened: "that is sharper, not softer: the logits were multiplied by 2 (or T was 1/2)",
        0.9: "that is T = 1, the distribution as it was",
        0.5: "equal chances come only at an infinite temperature; at T = 2 the better word still leads",
        None: "the difference of the two logits is log(0.9 / 0.1), and T = 2 halves it: what are the odds then?",
    }
    raise mistake(probability, hints, 0, 0.001)


@exercise("02.2", 10)
def in_two(function: Callable) -> str:
    """function(student_logits, teacher_logits, mask, cut): the batch's loss from its rows [:cut] and [cut:]."""
    for cut in (1, 2, 3):
        s, t, mask = _logits(cut)
        result, whole = ask(function, s, t, mask, cut), soft_target_loss(s, t, mask)
        if close(result, whole):
            continue
        parts = [soft_target_loss(s[part], t[part], mask[part]) for part in (slice(cut), slice(cut, None))]
        if close(result, sum(parts) / 2):
            raise NotYet(
                "that is the mean of two means: a token in the short part weighs more than one in the long "
                "part. Give both parts the same `count`"
            )
        if close(result, sum(parts)):
            raise NotYet(
                "two means added up make about twice the loss; each part's sum must be divided by the tokens "
                "of the whole batch"
            )
        if close(result, (cut * parts[0] + (4 - cut) * parts[1]) / 4):
            raise NotYet("weighted by rows, but rows differ in length: weight by their tokens, `mask.sum()`")
        if close(result, whole * mask.sum() / mask.numel()):
            raise NotYet("divided by all positions, padding included; only tokens count, `mask.sum()`")
        raise NotYet(
            f"{float(result):.4f} where the whole batch gives {float(whole):.4f}: call `soft_target_loss` on "
            "each part with the `count` of the whole, and add"
        )
    return "one count for all parts: that is why an update may be cut into micro-batches and stay the same update."


@exercise("02.3", 15)
def reversed_divergence(function: Callable) -> str:
    """function(student_logits, teacher_logits, mask): Σ s (log s − log t), mean over the tokens, T = 1."""
    s, t, mask = _logits()
    log_s, log_t, real = s.log_softmax(-1), t.log_softmax(-1), mask.bool()
    each = (log_s.exp() * (log_s - log_t)).sum(-1)
    result, right = ask(function, s, t, mask), each[real].mean()
    if close(result, right):
        return (
            "this direction asks only where the student puts its belief: it may drop words that the teacher "
            "allows, and is punished for words that the teacher excludes. L_ce is the other way round."
        )
    forward = soft_target_loss(s, t, mask, 1.0)
    at_two = 4 * (F.softmax(s / 2, -1) * (F.log_softmax(s / 2, -1) - F.log_softmax(t / 2, -1))).sum(-1)[real].mean()
    hints = {
        forward: "that is L_ce itself, weighted by the teacher; here the student's own probabilities weight the "
        "difference",
        -right: "the sign is turned: a divergence is never below zero",
        each.mean(): "padding was counted: average over the positions where the mask is 1",
        each[real].sum(): "that is the sum over the tokens; take their mean",
        right / 11: "sum over the vocabulary, and average over the tokens only",
        at_two: "that is at T = 2; this one is asked for without a temperature",
        None: f"{float(result):.4f} where {float(right):.4f} was expected: with log_s and log_t the two "
        "log-softmaxes, it is (log_s.exp() * (log_s - log_t)).sum(-1), averaged over real tokens",
    }
    raise mistake(result, hints)


@exercise("02.4", 20)
def limit(function: Callable) -> str:
    """function(student_logits, teacher_logits), each (tokens, vocab): the limit of L_ce for T → ∞."""
    s, t, mask = _logits(7)
    s, t = s[mask.bool()], t[mask.bool()]
    s, t = s + 3.0, t - torch.arange(len(t), dtype=t.dtype)[:, None]  # an offset that a softmax does not see
    result = ask(function, s, t)
    apart = (s - s.mean(-1, keepdim=True)) - (t - t.mean(-1, keepdim=True))
    log_s, log_t = (F.log_softmax(x / 1e4, dim=-1) for x in (s, t))
    right = 1e8 * (log_t.exp() * (log_t - log_s)).sum(-1).mean()
    if close(result, right):
        return (
            "half the squared distance of centred logits, divided by the vocabulary: at high temperatures L_ce "
            "matches logits, all of them alike, the improbable words too."
        )
    by_one_mean = (((s - s.mean()) - (t - t.mean())) ** 2).mean() / 2
    hints = {
        ((s - t) ** 2).mean() / 2: "a softmax does not see a constant added to all logits of a token, so the limit "
        "must not either: centre both, token by token",
        (apart**2).mean(): "nearly: the expansion of log(1 + x) leaves a factor 1/2",
        (apart**2).sum(-1).mean() / 2: "the probabilities tend to 1 / vocabulary, and it stays: divide by it",
        (apart**2).mean(-1).sum() / 2: "that is the sum over the tokens; L_ce is their mean",
        by_one_mean: "centre each token's logits by their own mean, not all of them by one mean",
        0.0: "without the factor T² the divergence does vanish; with it, it does not",
        None: f"{float(result):.4f} where L_ce at T = 10,000 is {float(right):.4f}. For large T a probability is "
        "about (1 + z/T) / vocabulary when the logits z are centred; put that into the formula",
    }
    raise mistake(result, hints)


def _pair() -> tuple[BertForMaskedLM, torch.nn.Module, tuple[int, ...], dict[str, Tensor]]:
    """A random teacher of four layers, its student of two with layers that moved, and a batch with padding."""
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = BertForMaskedLM(config).eval()
        student = build_student(teacher, (0, 3)).eval()
        ids = torch.randint(5, 40, (3, 9))
    mask = (torch.arange(9)[None] < torch.tensor([9, 5, 2])[:, None]).long()
    return teacher, student, (0, 3), {"input_ids": ids * mask, "attention_mask": mask}


@exercise("02.5", 45)
def at_every_layer(function: Callable) -> str:
    """function(student, teacher, batch, chosen): L_cos of each student layer with the layer it was copied from."""
    teacher, student, chosen, batch = _pair()
    with torch.no_grad():
        result = [float(x) for x in ask(function, student, teacher, batch, chosen)]
        own, theirs = (m(**batch, output_hidden_states=True).hidden_states for m in (student, teacher))
    everything = torch.ones_like(batch["attention_mask"])

    def losses(layers: list[int], other: list[int], mask: Tensor = batch["attention_mask"]) -> tuple[float, ...]:
        return tuple(float(cosine_loss(own[i], theirs[j], mask)) for i, j in zip(layers, other, strict=True))

    after = [layer + 1 for layer in chosen]
    right = losses([1, 2], after)
    if len(result) == len(right) + 1:
        raise NotYet("one too many: the first of the hidden states are the embeddings, which are no layer")
    if len(result) != len(right):
        raise NotYet(f"one number for each layer of the student was asked for, {len(right)} here, not {len(result)}")
    if close(result, right):
        return (
            "one L_cos per layer: the paper's is the last of them. TinyBERT (arXiv 1909.10351) matches inner "
            "layers as well, by their squared distance."
        )
    one_off = "one off: `hidden_states[0]` are the embeddings, so the output of layer i is `hidden_states[i + 1]`"
    hints = {
        losses([1, 2], list(chosen)): f"the teacher's states are {one_off}",
        losses([0, 1], list(chosen)): f"both are {one_off}",
        losses([1, 2], [1, 2]): "layer i was compared with layer i; the student's layers come from the layers in "
        "`chosen`",
        losses([1, 2], after, everything): "padding was counted: leave out the positions where the attention mask is 0",
        tuple(1 - x for x in right): "that is the cosine; the loss is 1 minus it, zero where they point the same way",
        None: f"{[round(x, 4) for x in result]} where {[round(x, 4) for x in right]} was expected: `cosine_loss` "
        "of `hidden_states[i + 1]` of the student with `hidden_states[chosen[i] + 1]` of the teacher",
    }
    raise mistake(result, hints)
