"""bf16 from the embeddings to the last layer, on copies of float32 weights.

Autocast decides for every operation and casts between operations, which takes a good part of a narrow model's time.
Here each weight is cast once per forward pass, and its gradient once per backward pass.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from . import families


def wanted(tensor: Tensor) -> torch.dtype:
    """bfloat16 if autocast asks for it on this tensor's device, else float32.

    Under fp16 this returns float32 on purpose: fp16 needs a gradient scaler, and autocast must pick its operations.
    """
    kind = tensor.device.type
    on = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
    return torch.bfloat16 if on else torch.float32


def cast(module: nn.Module, model: PreTrainedModel, dtype: torch.dtype, trained: bool = True) -> dict[str, Tensor]:
    """The weights of a module in `dtype`, by name; in a trained module, those of the embeddings stay as they are.

    `model` is the language model in the module. A frequent word's gradient sums thousands of terms; bf16, with 8
    significant bits, would lose most of them. An untied decoder stays as it is for the same reason.
    """
    tables, _ = families.embeddings(model)
    kept = {id(parameter) for table in tables for parameter in table.parameters()} if trained else set()
    decoder = dict(model.named_modules()).get(families.of(model).decoder)  # None where the model has a task head
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
    """The result of `module(*args, **kwargs)`, computed in `dtype` from the embeddings on.

    `model` is the network inside `module`, or `module` itself. `weights` are the result of `cast`, for a caller whose
    weights stay the same from call to call.
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
