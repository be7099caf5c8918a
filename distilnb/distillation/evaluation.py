"""Held-out loss, accuracy and agreement with the teacher (notebook 03)."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..evidence.names import OBJECTIVES
from ..machine.processes import summed
from ..models import families
from ..models.forward import decoder, head_input, hidden_states
from ..text.corpus import Corpus
from ..text.masking import IGNORE, Masker, NextWord
from .batches import MaskedRows, collate

EVALUATION_EPOCH = 2**31 - 1  # of held-out masks; training never reaches this epoch
HELD_OUT_ROWS = 256  # rows that an evaluation reads


@torch.no_grad()
def evaluate(
    student: PreTrainedModel,
    corpus: Corpus,
    masker: Masker | NextWord,
    accelerator: Accelerator,
    teacher: PreTrainedModel | None = None,
    rows: int = HELD_OUT_ROWS,
    batch_size: int = 32,
) -> dict[str, float]:
    """The held-out loss of masked (or next) words, accuracy, and agreement with the teacher, always under equal masks.

    The loss is called `mlm_loss`, or `clm_loss` for a causal model. Agreement is the share of masked (or next) words
    for which student and teacher have the same first guess.
    """
    data, pad_id = MaskedRows(corpus.heldout, masker.uniform()), student.config.pad_token_id or 0
    rows = min(rows, len(corpus.heldout))
    sums = torch.zeros(4, dtype=torch.float64, device=accelerator.device)
    training = student.training
    student.eval()
    for first in range(accelerator.process_index * batch_size, rows, batch_size * accelerator.num_processes):
        keys = [(EVALUATION_EPOCH, i) for i in range(first, min(first + batch_size, rows))]
        batch = {k: v.to(accelerator.device) for k, v in collate(data.__getitems__(keys), pad_id).items()}
        chosen = batch["labels"] != IGNORE
        truth = batch["labels"][chosen]
        with accelerator.autocast():
            logits = _logits(student, batch, chosen).float()
            guess, agree = logits.argmax(-1), 0.0
            if teacher is not None:
                agree = (guess == _logits(teacher, batch, chosen).argmax(-1)).sum()
        loss = nn.functional.cross_entropy(logits, truth, reduction="sum")
        sums += torch.stack(
            [
                torch.as_tensor(x, dtype=torch.float64, device=sums.device)
                for x in (loss, (guess == truth).sum(), agree, len(truth))
            ]
        )
    student.train(training)
    loss, correct, agree, count = summed(accelerator, sums).tolist()
    scores = {OBJECTIVES[families.of(student).objective].loss: loss / count, "accuracy": correct / count}
    return scores | ({"agreement": agree / count} if teacher is not None else {})


def _logits(model: PreTrainedModel, batch: dict[str, Tensor], chosen: Tensor) -> Tensor:
    """The logits (words, vocab) at the `chosen` places of a batch."""
    return nn.functional.linear(head_input(model, hidden_states(model, batch)[chosen]), *decoder(model))
