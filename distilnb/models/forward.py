"""Hidden states of BERT and DistilBERT, and what their vocabulary head multiplies."""

from torch import Tensor
from transformers import PreTrainedModel


def hidden_states(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Last hidden states (batch, seq, dim) of a BERT or DistilBERT masked language model."""
    full = bool(batch["attention_mask"].all())  # no mask at all lets the faster attention kernel run
    return model.base_model(batch["input_ids"], attention_mask=None if full else batch["attention_mask"])[0]


def head_input(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """What the decoder multiplies: the MLM head's dense layer, activation and LayerNorm, (..., dim)."""
    if model.config.model_type == "bert":
        return model.cls.predictions.transform(hidden)
    return model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))
