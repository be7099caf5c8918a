"""bf16 from the embeddings to the last layer, on copies of float32 weights.

Autocast decides for every operation and casts between operations, which takes a good part of a narrow model's time.
Here each weight is cast once per forward pass, and its gradient once per backward pass.

On a CPU, PyTorch adds up the gradients of a LayerNorm's gain and bias in bf16, token after token, and loses the more of
them the more tokens there are (`findings/cpu_layer_norm_sums_gradients_in_bfloat16.sh`). Here the sum is in float32.
"""

from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from . import families

NORM_GRADIENTS = "float32"  # the precision in which those of LayerNorms are summed, for the record


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
    if trained:
        with suppress(AttributeError):  # where the model has a task head
            kept.add(id(model.get_submodule(families.of(model).decoder).weight))
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
        with torch.autocast(model.device.type, enabled=False), ExactNorms():
            return functional_call(module, weights, args, kwargs)
    finally:
        for hook in hooks:
            hook.remove()


class ExactNorms(TorchFunctionMode):
    """A context in which the gain and bias of a LayerNorm over bf16 on a CPU get gradients summed in float32."""

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """The result of `function`, which is PyTorch's own but for such a LayerNorm."""
        if function is F.layer_norm and args[0].dtype == torch.bfloat16 and args[0].device.type == "cpu":
            return _layer_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    if weight is None or not torch.is_grad_enabled():
        return torch.layer_norm(x, shape, weight, bias, eps)
    return _Norm.apply(x, list(shape), weight, bias, eps)


class _Norm(torch.autograd.Function):
    """PyTorch's LayerNorm, but for the gradients of gain and bias."""

    @staticmethod
    def forward(ctx, x: Tensor, shape: list[int], weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        y, mean, scale = torch.native_layer_norm(x, shape, weight, bias, eps)
        ctx.save_for_backward(x, mean, scale, weight, bias)
        ctx.shape = shape
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, weight, bias = ctx.saved_tensors
        own = torch.ops.aten.native_layer_norm_backward(
            gradient, x, ctx.shape, mean, scale, weight, bias, [True, False, False]
        )[0]
        tokens = tuple(range(x.dim() - len(ctx.shape)))
        gain = ((x - mean) * scale).mul_(gradient).sum(tokens).to(weight.dtype)
        shift = None if bias is None else gradient.sum(tokens, dtype=torch.float32).to(bias.dtype)
        return own, None, gain, shift, None
