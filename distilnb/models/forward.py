"""The hidden states, the head's input and the decoder of a language model, for every family (notebook 02)."""

from functools import reduce
from operator import attrgetter

from torch import Tensor
from transformers import PreTrainedModel

from . import families


def hidden_states(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """The last hidden states (batch, seq, dim) after the last norm, which the head reads and L_cos compares.

    Both models are compared after a norm: a student has its teacher's class, or is the DistilBERT of a BERT, and the
    layers of both end in a norm.
    """
    full = bool(batch["attention_mask"].all())  # without a mask, a faster attention kernel runs
    more = {"use_cache": False} if families.of(model).objective == "causal" else {}
    return model.base_model(batch["input_ids"], attention_mask=None if full else batch["attention_mask"], **more)[0]


def head_input(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The decoder's input (..., width of the word embeddings) for the last hidden states (..., dim)."""
    steps = (attrgetter(step)(model) if isinstance(step, str) else step for step in families.of(model).head)
    return reduce(lambda states, step: step(states), steps, hidden)


def decoder(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """The decoder's weight (vocab, dim) and bias (vocab,); the bias is zeros where there is none."""
    row = families.of(model)
    weight = attrgetter(row.decoder)(model).weight
    bias = attrgetter(row.bias or f"{row.decoder}.bias")(model)
    return weight, bias if bias is not None else weight.new_zeros(len(weight))
