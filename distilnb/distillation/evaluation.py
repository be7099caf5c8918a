"""Held-out loss, accuracy and agreement with the teacher (notebook 03)."""

from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from ..models.forward import head_input, hidden_states
from ..text.corpus import Corpus
from ..text.masking import IGNORE, Masker
from .batches import MaskedRows, collate

EVALUATION_EPOCH = 2**31 - 1  # held-out masks are drawn for an epoch that training never reaches


@torch.no_grad()
def evaluate(
    student: PreTrainedModel,
    corpus: Corpus,
    masker: Masker,
    accelerator: Accelerator,
    teacher: PreTrainedModel | None = None,
    rows: int = 256,
    batch_size: int = 32,
) -> dict[str, float]:
    """Held-out MLM loss and accuracy (uniform 15 % masks, always the same), and agreement with the teacher.

    Agreement is the share of masked words for which student and teacher guess the same piece first.
    """
    uniform = replace(masker, weights=(masker.weights > 0).astype(float), probability=0.15, seed=0)
    data = MaskedRows(corpus.heldout, uniform)
    rows = min(rows, len(corpus.heldout))
    sums = torch.zeros(4, dtype=torch.float64, device=accelerator.device)
    training = student.training
    student.eval()
    for first in range(accelerator.process_index * batch_size, rows, batch_size * accelerator.num_processes):
        keys = [(EVALUATION_EPOCH, i) for i in range(first, min(first + batch_size, rows))]
        batch = {k: v.to(accelerator.device) for k, v in collate(data.__getitems__(keys)).items()}
        chosen = batch["labels"] != IGNORE
        truth = batch["labels"][chosen]
        with accelerator.autocast():
            logits = student.get_output_embeddings()(head_input(student, hidden_states(student, batch)[chosen])).float()
            guess, agree = logits.argmax(-1), 0.0
            if teacher is not None:
                theirs = teacher.get_output_embeddings()(head_input(teacher, hidden_states(teacher, batch)[chosen]))
                agree = (guess == theirs.argmax(-1)).sum()
        loss = nn.functional.cross_entropy(logits, truth, reduction="sum")
        sums += torch.stack(
            [
                torch.as_tensor(x, dtype=torch.float64, device=sums.device)
                for x in (loss, (guess == truth).sum(), agree, len(truth))
            ]
        )
    student.train(training)
    loss, correct, agree, count = (accelerator.reduce(sums) if accelerator.num_processes > 1 else sums).tolist()
    scores = {"mlm_loss": loss / count, "accuracy": correct / count}
    return scores | ({"agreement": agree / count} if teacher is not None else {})
