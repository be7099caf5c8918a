"""Held-out loss, accuracy and agreement with the teacher (notebook 03)."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..evidence.names import OBJECTIVES
from ..machine.device import sum_dtype
from ..machine.processes import summed
from ..models import families
from ..models.forward import decoder, head_input, hidden_states
from ..text.corpus import Corpus
from ..text.masking import IGNORE, Masker, NextWord
from .batches import MaskedRows, collate

EVALUATION_EPOCH = 2**31 - 1  # of held-out masks; training never reaches this epoch
HELD_OUT_ROWS = 256  # rows that an evaluation reads, from all over the held-out text


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
    pad_id = student.config.pad_token_id or 0
    return HeldOut(corpus, masker, accelerator, pad_id, teacher, rows, batch_size).scores(student)


class HeldOut:
    """This process's share of `rows` held-out rows, from all over the text, masked once, and its teacher's guesses."""

    def __init__(
        self,
        corpus: Corpus,
        masker: Masker | NextWord,
        accelerator: Accelerator,
        pad_id: int,
        teacher: PreTrainedModel | None = None,
        rows: int = HELD_OUT_ROWS,
        batch_size: int = 32,
    ):
        self.accelerator = accelerator
        data, apart = MaskedRows(corpus.heldout, masker.uniform()), max(1, len(corpus.heldout) // rows)
        chosen = [(EVALUATION_EPOCH, i) for i in range(0, len(corpus.heldout), apart)][:rows]
        firsts = range(accelerator.process_index * batch_size, len(chosen), batch_size * accelerator.num_processes)
        keys = [chosen[first : first + batch_size] for first in firsts]
        self.batches = [collate(data.__getitems__(each), pad_id) for each in keys]
        self.guesses = None
        if teacher is not None:
            self.guesses = [masked_logits(teacher, batch, accelerator).argmax(-1) for batch in self.batches]

    @torch.no_grad()
    def scores(self, student: PreTrainedModel) -> dict[str, float]:
        """The mean loss, accuracy and agreement of `student` over the rows of all processes, as `evaluate` has them."""
        device = self.accelerator.device
        sums = torch.zeros(4, dtype=sum_dtype(device), device=device)
        training = student.training
        student.eval()
        for i, batch in enumerate(self.batches):
            truth = batch["labels"][batch["labels"] != IGNORE].to(sums.device)
            logits = masked_logits(student, batch, self.accelerator).float()
            guess = logits.argmax(-1)
            loss = nn.functional.cross_entropy(logits, truth, reduction="sum")
            agree = (guess == self.guesses[i]).sum() if self.guesses else torch.zeros_like(loss)
            terms = loss, (guess == truth).sum(), agree, sums.new_tensor(len(truth))
            sums += torch.stack([x.to(sums.dtype) for x in terms])
        student.train(training)
        loss, correct, agree, count = summed(self.accelerator, sums).tolist()
        scores = {OBJECTIVES[families.of(student).objective].loss: loss / count, "accuracy": correct / count}
        return scores | ({"agreement": agree / count} if self.guesses is not None else {})


@torch.no_grad()
def masked_logits(model: PreTrainedModel, batch: dict[str, Tensor], accelerator: Accelerator) -> Tensor:
    """The logits (words, vocab) of `model` at the masked places of a batch."""
    batch = {key: value.to(accelerator.device) for key, value in batch.items()}
    with accelerator.autocast():
        chosen = hidden_states(model, batch)[batch["labels"] != IGNORE]
        return nn.functional.linear(head_input(model, chosen), *decoder(model))
