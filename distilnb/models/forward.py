"""Hidden states of a language model, what its vocabulary head multiplies, and the decoder: for every family."""

from functools import reduce
from operator import attrgetter

from torch import Tensor
from transformers import PreTrainedModel

from . import families


def hidden_states(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Last hidden states (batch, seq, dim), after the family's last norm: what the head is given, and L_cos compares.

    A student is of its teacher's class (or a DistilBERT of a BERT, whose layers both end in a norm), so that normed
    states meet normed states.
    """
    full = bool(batch["attention_mask"].all())  # no mask at all lets the faster attention kernel run
    more = {"use_cache": False} if families.of(model).objective == "causal" else {}
    return model.base_model(batch["input_ids"], attention_mask=None if full else batch["attention_mask"], **more)[0]


def head_input(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """What the decoder multiplies, (..., width of the word embeddings), from the last hidden states (..., dim)."""
    steps = (attrgetter(step)(model) if isinstance(step, str) else step for step in families.of(model).head)
    return reduce(lambda states, step: step(states), steps, hidden)


def decoder(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """The decoder's weight (vocab, dim) and bias (vocab,): zeros where it has none."""
    row = families.of(model)
    weight = attrgetter(row.decoder)(model).weight
    bias = attrgetter(row.bias or f"{row.decoder}.bias")(model)
    return weight, bias if bias is not None else weight.new_zeros(len(weight))
