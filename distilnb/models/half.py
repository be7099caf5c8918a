"""bf16 from the embeddings to the last layer, on copies of float32 weights.

Autocast chooses anew for every operation, and casts between one and the next; a narrow model spends a good part of
its time there. Here each weight is cast once for a forward pass, and its gradient once on the way back.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from . import families


def wanted(tensor: Tensor) -> torch.dtype:
    """The precision that autocast asks for on this tensor's device, if it is bf16; else float32.

    In fp16 gradients need a scaler, and autocast's own choice of operations.
    """
    kind = tensor.device.type
    on = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
    return torch.bfloat16 if on else torch.float32


def cast(module: nn.Module, model: PreTrainedModel, dtype: torch.dtype, trained: bool = True) -> dict[str, Tensor]:
    """The weights of a module in `dtype`, by name; where it is trained, those of the embeddings stay as they are.

    `model` is the language model in it. A frequent word's gradient sums thousands of terms; bf16, with 8 significant
    bits, would lose most of them. The same holds of a decoder that is not tied.
    """
    tables, _ = families.embeddings(model)
    kept = {id(parameter) for table in tables for parameter in table.parameters()} if trained else set()
    decoder = dict(model.named_modules()).get(families.of(model).decoder)  # none beside the head of a task
    if trained and decoder is not None:
        kept.add(id(decoder.weight))
    return {
        name: parameter if id(parameter) in kept else parameter.to(dtype)
        for name, parameter in module.named_parameters()
    }


def call(
    module: nn.Module,
    model: PreTrainedModel,
    dtype: torch.dtype,
    *args: Any,
    weights: dict[str, Tensor] | None = None,
    **kwargs: Any,
) -> Any:
    """`module(*args, **kwargs)` in `dtype` from the embeddings on; `model` is the network in it, or `module` itself.

    `weights` are those of `cast`, where they stay the same from call to call.
    """
    if model.dtype == dtype:
        return module(*args, **kwargs)
    weights = cast(module, model, dtype) if weights is None else weights
    _, outputs = families.embeddings(model)
    hooks = [layer.register_forward_hook(lambda *call: call[-1].to(dtype)) for layer in outputs]
    try:
        with torch.autocast(model.device.type, enabled=False):
            return functional_call(module, weights, args, kwargs)
    finally:
        for hook in hooks:
            hook.remove()
