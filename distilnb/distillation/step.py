"""The triple loss of student and teacher on one micro-batch (paper section 2), in float32 or bf16 (notebook 02).

Only what the loss needs is computed: each encoder once, and the vocabulary head for the tokens that a term covers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..models import half
from ..models.forward import decoder, head_input, hidden_states
from ..text.masking import IGNORE
from .losses import cosine_loss
from .recipe import PretrainingConfig
from .vocabulary_head import (
    PLAIN,
    Decoding,
    Kernels,
    compiled_kernels,
    faster_head,
    vocabulary_losses,
    whole_vocabulary_losses,
)

WORTH_COMPILING = 2e10  # logits in a run from which compiling the head, which takes some seconds, pays


def add_projection(student: PreTrainedModel, teacher: PreTrainedModel | None, config: PretrainingConfig) -> None:
    """Give a student narrower than its teacher a linear map to the teacher's width, because L_cos needs equal widths.

    The map is learned with the student and saved in its checkpoints, until `drop_projection`.
    """
    width = student.config.hidden_size
    if teacher is None or not config.cos or width == teacher.config.hidden_size:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        student.projection = nn.Linear(width, teacher.config.hidden_size, bias=False)


def drop_projection(student: PreTrainedModel) -> None:
    """Remove the map of `add_projection`, so that the student is an ordinary model again."""
    student._modules.pop("projection", None)


class _Network(nn.Module):
    """A language model up to its decoder as one module, so that all its weights can be exchanged at once."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor], rows: Tensor | None) -> tuple[Tensor, Any]:
        hidden = hidden_states(self.model, batch).flatten(0, 1)
        compared = self.model.projection(hidden) if hasattr(self.model, "projection") else hidden
        if rows is None:
            return compared, None
        few = hidden if len(rows) == len(hidden) else hidden.index_select(0, rows)
        return compared, (head_input(self.model, few), *decoder(self.model))


def network(
    model: PreTrainedModel,
    batch: dict[str, Tensor],
    rows: Tensor | None,
    dtype: torch.dtype = torch.float32,
    weights: dict[str, Tensor] | None = None,
) -> tuple[Tensor, Any]:
    """The hidden states (tokens, dim), and the decoder's input at `rows`, weight and bias (None without `rows`).

    They are computed in `dtype` from the embeddings on, by `half.call`, which is given `weights`.
    """
    return half.call(_Network(model), model, dtype, batch, rows, weights=weights)


class Distillation(nn.Module):
    """A module of student and frozen teacher whose forward pass returns the loss; `accelerate` wraps it.

    Under bf16 autocast both models run in bf16 from the embeddings on, so that nothing is cast between operations;
    weights, their gradients and the loss stay in float32.
    """

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel | None, config: PretrainingConfig):
        super().__init__()
        self.student, self.config = student, config
        share = 1.0 if config.ce and config.positions == "all" else config.mask_probability
        self.long = share * config.tokens * student.config.vocab_size >= WORTH_COMPILING
        self._teacher = [teacher]  # in a list, so that it is no submodule: not trained, not saved, not synchronized
        self.teacher_weights: dict[torch.dtype, dict[str, Tensor]] = {}
        self._head: Callable | None = None

    @property
    def teacher(self) -> PreTrainedModel | None:
        """The frozen teacher; None where a run has none."""
        return self._teacher[0]

    @property
    def kernels(self) -> Kernels:
        """The operations on logits, compiled on a CPU where the run is long enough for that to pay."""
        on_cpu = next(self.student.parameters()).device.type == "cpu"
        return compiled_kernels() if self.long and on_cpu else PLAIN

    @property
    def compiled(self) -> bool:
        """Whether the head of this run is compiled."""
        if on_gpu(next(self.student.parameters())):
            return self._head not in (None, vocabulary_losses)
        return self.kernels is not PLAIN

    def _ask_teacher(self, batch: dict[str, Tensor], rows: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Any]:
        """The result of `network` for the teacher, whose weights are cast once."""
        if dtype not in self.teacher_weights:
            self.teacher_weights[dtype] = half.cast(_Network(self.teacher), self.teacher, dtype, trained=False)
        return network(self.teacher, batch, rows, dtype, self.teacher_weights[dtype])

    def forward(self, batch: dict[str, Tensor], tokens: float, masked: float) -> tuple[Tensor, Tensor]:
        """This micro-batch's part of the loss of an update of `tokens` tokens and `masked` masked words, and its terms.

        The terms, (3,), are its parts of the mean L_ce, L_mlm and L_cos.
        """
        dtype, kind = half.wanted(batch["input_ids"]), batch["input_ids"].device.type
        if dtype == torch.float32:
            return self._losses(batch, tokens, masked, dtype)
        with torch.autocast(kind, enabled=False):
            return self._losses(batch, tokens, masked, dtype)

    def _losses(
        self, batch: dict[str, Tensor], tokens: float, masked: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        config, labels = self.config, batch["labels"].flatten()
        real = batch["attention_mask"].flatten().nonzero()[:, 0]
        everywhere = config.ce and config.positions == "all"
        rows = real if everywhere else (labels != IGNORE).nonzero()[:, 0] if config.ce or config.mlm else None
        hidden, part = network(self.student, batch, rows, dtype)
        if config.ce or config.cos:
            with torch.inference_mode():
                t_hidden, t_part = self._ask_teacher(batch, rows if config.ce else None, dtype)
        loss = ce = mlm = cos = hidden.new_zeros((), dtype=torch.float32)
        count = tokens if everywhere else masked
        if rows is not None:
            # scales stay near 1, and the count is divided out at the end, so that half precision loses nothing
            loss, ce, mlm = self._vocabulary_losses(
                Decoding(_computing(part[0]), *part[1:]),
                labels[rows],
                temperature=config.temperature,
                ce_scale=config.ce,
                mlm_scale=config.mlm * count / masked,
                teacher=Decoding(_computing(t_part[0]), _computing(t_part[1]), t_part[2]) if config.ce else None,
            )
        loss = loss / count
        if config.cos:
            at = slice(None) if len(real) == len(hidden) else real
            cos = cosine_loss(hidden[at], t_hidden.clone()[at], torch.ones_like(real), count=tokens)
            loss = loss + config.cos * cos
        return loss, torch.stack([ce / count, mlm / masked, cos.detach()])

    def _vocabulary_losses(self, student: Decoding, labels: Tensor, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The head's losses, in chunks; on a GPU, from a compiled plain head if that is faster on the first batch."""
        if not on_gpu(labels) or not torch.is_grad_enabled():
            return vocabulary_losses(student, labels, kernels=self.kernels, **settings)
        if self._head is None:
            heads = vocabulary_losses, torch.compile(whole_vocabulary_losses, dynamic=True)
            self._head = faster_head(heads, student, labels, **settings)
        return self._head(student, labels, **settings)


def on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor lies on a GPU."""
    return tensor.is_cuda


def _computing(tensor: Tensor) -> Tensor:
    """The tensor in the precision that autocast computes matrix products in."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor
