"""L_ce and L_mlm in chunks of tokens: the losses of `losses.py` without ever holding the whole logits (notebook 02)."""

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..machine.device import now, sum_dtype
from ..text.masking import IGNORE
from .losses import check_temperature, mlm_loss, soft_target_loss

CACHE = 2**18  # logits processed at once, so that a few float32 copies of them fit a processor's cache
COMPILED_CACHE = 2**19  # the same for compiled kernels, which have fewer copies and more to do before they begin
CHUNK = 256  # tokens whose logits are held at once
CAST_CHUNK = 512  # the same in half precision, where each chunk adds a whole decoder's gradient to float32


class Decoding(NamedTuple):
    """The input and parameters of a decoder, whose logits are `hidden` @ `weight`.T + `bias`."""

    hidden: Tensor  # (tokens, dim)
    weight: Tensor  # (vocab, dim)
    bias: Tensor  # (vocab,)


class _Sum(NamedTuple):
    """The settings of the sum `ce_scale` · ΣL_ce + `mlm_scale` · ΣL_mlm."""

    ce_scale: float
    mlm_scale: float
    temperature: float
    chunk: int
    kernels: "Kernels"


class _VocabularyLosses(torch.autograd.Function):
    """ce_scale · ΣL_ce + mlm_scale · ΣL_mlm over chunks of tokens, with the gradients computed in the forward pass.

    `kernels` hold the operations on the logits of a chunk; they write the gradient where the logits were.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, teacher: Decoding | None, how: _Sum):
        ce_scale, mlm_scale, temperature, chunk, kernels = how
        table, chunk = weight.to(hidden.dtype), min(chunk, max(len(hidden), 1))
        student = _Decoder(Decoding(hidden, table, bias), temperature, chunk)
        teacher = _Decoder(teacher, temperature, chunk) if ce_scale else None
        grad_hidden, grad_weight, grad_bias = torch.empty_like(hidden), torch.zeros_like(weight), torch.zeros_like(bias)
        ce_sum, mlm_sum = (hidden.new_zeros((), dtype=sum_dtype(hidden.device)) for _ in range(2))
        ones = hidden.new_ones(1, chunk)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            # 1. the student's logits over T, without the bias, which the kernels add in float32
            logits, words = student(part), labels[part]  # (chunk, vocab), (chunk,)
            # 2. losses, whose gradients by the logits overwrite them: L_ce, and L_mlm of the masked words at T = 1
            if ce_scale:
                masked = (words != IGNORE).nonzero()[:, 0] if mlm_scale else words[:0]
                hard = logits[masked].float().mul_(temperature)  # (masked, vocab)
                ce = kernels.divergence_((logits, teacher(part)), student.bias, teacher.bias, ce_scale * temperature)
                ce_sum += ce.sum(dtype=ce_sum.dtype) * temperature**2
                if len(masked):
                    mlm_sum += _cross_entropy_(hard, bias, words[masked], mlm_scale, kernels)
                    logits.index_add_(0, masked, hard.to(logits.dtype))
            else:
                mlm_sum += _cross_entropy_(logits, bias, words, mlm_scale, kernels)
            # 3. on to hidden states, bias and weight; the weight's is summed in float32, because a frequent word's has
            # thousands of terms
            torch.mm(logits, table, out=grad_hidden[part])
            grad_bias += (ones[:, : len(logits)] @ logits)[0]  # as a product, because that is faster than a sum
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
        gradients, ctx.gradients = ctx.gradients, None  # large tensors, which are scaled in place
        return *(gradient.mul_(grad_output) for gradient in gradients), None, None, None


class _Decoder:
    """The logits over T of a chunk of tokens, without `bias`, written to the same memory each time."""

    def __init__(self, what: Decoding, temperature: float, chunk: int):
        hidden, weight, bias = what
        self.hidden, self.weight, self.bias = hidden / temperature, weight.T, bias.float() / temperature
        self.logits = hidden.new_empty(chunk, len(weight))

    def __call__(self, part: slice) -> Tensor:
        hidden = self.hidden[part]
        return torch.mm(hidden, self.weight, out=self.logits[: len(hidden)])


def shifted_powers(x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For y = x + bias in float32: max y, y − max y, its exponential, and the sum of the exponentials."""
    x = x.float() + bias
    highest = x.amax(-1, keepdim=True)
    shifted = x - highest
    powers = shifted.exp()
    return highest, shifted, powers, powers.sum(-1, keepdim=True)


def _softmax_(x: Tensor, bias: Tensor, scale: float) -> Tensor:
    """log Σ exp(x + bias) of each row, (rows, 1); x is overwritten by `scale` · softmax(x + bias)."""
    highest, _, powers, total = shifted_powers(x, bias)
    x.copy_(powers.mul_(scale / total))
    return highest + total.log()


def _divergence_(s: Tensor, t: Tensor, s_bias: Tensor, t_bias: Tensor, scale: float) -> Tensor:
    """KL(softmax(t + t_bias) ‖ softmax(s + s_bias)) of each row, (rows, 1); s is overwritten by `scale` · gradient."""
    _, shifted, grad, total = shifted_powers(s, s_bias)
    _, ratio, target, t_total = shifted_powers(t, t_bias)
    grad.mul_(scale / total).addcmul_(target, scale / t_total, value=-1)  # softmax(s) − softmax(t)
    rows = ratio.sub_(shifted).mul_(target).sum(-1, keepdim=True)
    s.copy_(grad)
    return rows / t_total - (t_total / total).log()


class Kernels(NamedTuple):
    """The two operations on logits. Each takes a tuple of (rows, vocab) tensors, then its own arguments."""

    softmax_: Callable
    divergence_: Callable


def _in_blocks(kernel: Callable, cache: int) -> Callable:
    """Apply `kernel` to blocks of rows that fit the cache (`cache` logits); on a GPU, to all rows at once."""

    def run(logits: tuple[Tensor, ...], *rest: Any) -> Tensor:
        rows, vocabulary = logits[0].shape
        size = max(1, cache // vocabulary if logits[0].device.type == "cpu" else rows)
        return torch.cat([kernel(*parts, *rest) for parts in zip(*(x.split(size) for x in logits), strict=True)])

    return run


def plain_kernels(cache: int = CACHE) -> Kernels:
    """The kernels as PyTorch runs them, on blocks of `cache` logits."""
    return Kernels(_in_blocks(_softmax_, cache), _in_blocks(_divergence_, cache))


PLAIN = plain_kernels()


@cache
def compiled_kernels() -> Kernels:
    """The compiled kernels, about twice as fast on a CPU because they pass over the logits a few times, not a dozen.

    Compiling takes some seconds, once per process. Without a C++ compiler, PLAIN is returned with a warning.
    """
    made = (torch.compile(kernel, dynamic=True) for kernel in (_softmax_, _divergence_))
    kernels = Kernels(*(_in_blocks(kernel, COMPILED_CACHE) for kernel in made))
    try:
        logits, bias = torch.zeros(3, 5), torch.zeros(5)
        kernels.softmax_((logits,), bias, 1.0), kernels.divergence_((logits, logits.clone()), bias, bias, 1.0)
    except Exception as error:  # because a compiler may raise anything
        warnings.warn(
            f"the vocabulary head is not compiled ({type(error).__name__}) and takes about twice as long; "
            "a C++ compiler such as g++ is needed",
            stacklevel=2,
        )
        return PLAIN
    return kernels


def _cross_entropy_(x: Tensor, bias: Tensor, words: Tensor, scale: float, kernels: Kernels) -> Tensor:
    """Σ −log softmax(x + bias)[word]; x is overwritten by `scale` times its gradient, softmax(x + bias) − one-hot."""
    right = x.gather(1, words[:, None]).float() + bias[words, None]
    losses = kernels.softmax_((x,), bias, scale) - right
    x.scatter_add_(1, words[:, None], torch.full_like(right, -scale, dtype=x.dtype))
    return losses.sum(dtype=sum_dtype(losses.device))


def vocabulary_losses(
    student: Decoding,
    labels: Tensor,
    *,
    teacher: Decoding | None = None,
    ce_scale: float = 0.0,
    mlm_scale: float = 0.0,
    temperature: float = 2.0,
    chunk: int | None = None,
    kernels: Kernels = PLAIN,
) -> tuple[Tensor, Tensor, Tensor]:
    """ce_scale · ΣL_ce + mlm_scale · ΣL_mlm and both sums, computed without ever holding a (tokens, vocab) tensor.

    `student` and `teacher` are the inputs of their decoders, labels are (tokens,). The caller passes the tokens that
    L_ce covers and no padding. The sums and gradients equal those of `soft_target_loss` and `mlm_loss`. `chunk` tokens
    are processed at once (None: a fast number) by `kernels`: PLAIN, or `compiled_kernels()` for a long run.
    """
    check_temperature(temperature)
    hidden, weight, bias = student
    if not ce_scale:  # then only the masked words matter, at T = 1
        temperature, masked = 1.0, labels != IGNORE
        hidden, labels = (hidden, labels) if masked.all() else (hidden[masked], labels[masked])
    chunk = chunk or (CHUNK if hidden.dtype == weight.dtype else CAST_CHUNK)
    how = _Sum(ce_scale, mlm_scale, temperature, chunk, kernels)
    return _VocabularyLosses.apply(hidden, weight, bias, labels, teacher, how)


def whole_vocabulary_losses(
    student: Decoding,
    labels: Tensor,
    *,
    teacher: Decoding | None = None,
    ce_scale: float = 0.0,
    mlm_scale: float = 0.0,
    temperature: float = 2.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """The results of `vocabulary_losses`, from whole logits, which `torch.compile` speeds up on a GPU."""
    check_temperature(temperature)
    hidden, weight, bias = student
    logits = F.linear(hidden, weight.to(hidden.dtype)).float() + bias
    ce = mlm = logits.new_zeros(())
    if ce_scale:
        hidden, weight, bias = teacher
        with torch.no_grad():
            targets = F.linear(hidden, weight).float() + bias
        ce = soft_target_loss(logits, targets, torch.ones_like(labels), temperature, count=1)
    if mlm_scale:
        mlm = mlm_loss(logits, labels, count=1)
    return ce_scale * ce + mlm_scale * mlm, ce.detach(), mlm.detach()


def faster_head(heads: Sequence[Callable], student: Decoding, *args: Any, trials: int = 3, **settings: Any) -> Callable:
    """The fastest of `heads` (functions like the two above), timed forward and backward on these inputs.

    A head that raises (for lack of a compiler or of memory) is skipped; if all raise, the first is returned.
    """
    best, fastest = heads[0], float("inf")
    for head in heads:
        try:
            for trial in range(trials + 1):
                if trial == 1:  # the first trial may compile, so it is not timed
                    began = now(student.hidden.device)
                inputs = Decoding(*(x.detach().requires_grad_() for x in student))
                value, *_ = head(inputs, *args, **settings)
                torch.autograd.grad(value, inputs)
        except RuntimeError:
            continue
        took = now(student.hidden.device) - began
        if took < fastest:
            best, fastest = head, took
    return best
