"""Held-out loss, accuracy and agreement with the teacher (notebook 03)."""

from collections.abc import Iterator
from functools import partial

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
from .training import in_halves

EVALUATION_EPOCH = 2**31 - 1  # of held-out masks; training never reaches this epoch
HELD_OUT_ROWS = 256  # rows that an evaluation reads, from all over the held-out text
AT_ONCE = 32  # rows of a forward pass, at most
LOGITS = 2**25  # logits held at once: 128 MiB in float32


def evaluate(
    student: PreTrainedModel,
    corpus: Corpus,
    masker: Masker | NextWord,
    accelerator: Accelerator,
    teacher: PreTrainedModel | None = None,
    rows: int = HELD_OUT_ROWS,
    batch_size: int = AT_ONCE,
) -> dict[str, float]:
    """The held-out loss of masked (or next) words, accuracy, and agreement with the teacher, always under equal masks.

    The loss is called `mlm_loss`, or `clm_loss` for a causal model. Agreement is the share of masked (or next) words
    for which student and teacher have the same first guess.
    """
    pad_id = student.config.pad_token_id or 0
    return HeldOut(corpus, masker, accelerator, pad_id, teacher, rows, batch_size).scores(student)


class HeldOut:
    """This process's share of `rows` held-out rows, from all over the text, masked once, and its teacher's guesses.

    At most `batch_size` and `AT_ONCE` rows are read at once, and half as many where they do not fit into memory.
    """

    def __init__(
        self,
        corpus: Corpus,
        masker: Masker | NextWord,
        accelerator: Accelerator,
        pad_id: int,
        teacher: PreTrainedModel | None = None,
        rows: int = HELD_OUT_ROWS,
        batch_size: int = AT_ONCE,
    ):
        self.accelerator, self.compared, batch_size = accelerator, teacher is not None, min(batch_size, AT_ONCE)
        data, apart = MaskedRows(corpus.heldout, masker.uniform()), max(1, len(corpus.heldout) // rows)
        chosen = [(EVALUATION_EPOCH, i) for i in range(0, len(corpus.heldout), apart)][:rows]
        firsts = range(accelerator.process_index * batch_size, len(chosen), batch_size * accelerator.num_processes)
        keys = [chosen[first : first + batch_size] for first in firsts]
        self.batches = [collate(data.__getitems__(each), pad_id) for each in keys]
        for batch in self.batches if teacher is not None else ():
            batch["guesses"] = torch.cat(in_halves(partial(self._guesses, teacher), batch))

    def _guesses(self, teacher: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """The teacher's first guesses at the masked places, (batch, seq) like the labels."""
        guesses, where = batch["labels"].clone(), batch["labels"] != IGNORE
        found = [logits.argmax(-1) for logits in masked_logits(teacher, batch, self.accelerator)]
        guesses[where] = torch.cat(found).to(guesses.device)
        return guesses

    @torch.no_grad()
    def scores(self, student: PreTrainedModel) -> dict[str, float]:
        """The mean loss, accuracy and agreement of `student` over the rows of all processes, as `evaluate` has them."""
        device = self.accelerator.device
        sums = torch.zeros(4, dtype=sum_dtype(device), device=device)
        training = student.training
        student.eval()
        for batch in self.batches:
            for part in in_halves(partial(self._sums, student), batch):
                sums += part
        student.train(training)
        loss, correct, agree, count = summed(self.accelerator, sums).tolist()
        scores = {OBJECTIVES[families.of(student).objective].loss: loss / count, "accuracy": correct / count}
        return scores | ({"agreement": agree / count} if self.compared else {})

    def _sums(self, student: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """The sum of losses and the numbers of right guesses, of guesses as the teacher's, and of words, (4,)."""
        where, device, first = batch["labels"] != IGNORE, self.accelerator.device, 0
        truths, theirs = (batch[key][where].to(device) for key in ("labels", "guesses" if self.compared else "labels"))
        sums = torch.zeros(4, dtype=sum_dtype(device), device=device)
        for logits in masked_logits(student, batch, self.accelerator):
            truth, their = (x[first : first + len(logits)] for x in (truths, theirs))
            guess, first = logits.argmax(-1), first + len(logits)
            loss = nn.functional.cross_entropy(logits, truth, reduction="sum")
            terms = loss, (guess == truth).sum(), (guess == their).sum(), sums.new_tensor(len(truth))
            sums += torch.stack([x.to(sums.dtype) for x in terms])
        return sums


@torch.no_grad()
def masked_logits(model: PreTrainedModel, batch: dict[str, Tensor], accelerator: Accelerator) -> Iterator[Tensor]:
    """The float32 logits (words, vocab) of `model` at the masked places of a batch, for at most `LOGITS` of them."""
    batch = {key: value.to(accelerator.device) for key, value in batch.items()}
    with accelerator.autocast():
        chosen = hidden_states(model, batch)[batch["labels"] != IGNORE]
    for part in chosen.split(max(1, LOGITS // model.config.vocab_size)):
        with accelerator.autocast():
            logits = nn.functional.linear(head_input(model, part), *decoder(model))
        yield logits.float()
