"""A model as a graph of operations, which other runtimes can run: what goes in, what comes out, and ONNX itself."""

import copy
import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..models import families
from ..models.forward import decoder, head_input

Batch = dict[str, Tensor]  # input_ids, attention_mask and token_type_ids, each (batch, seq)
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
HIDDEN = "last_hidden_state"  # as transformers calls the output of an encoder
HIDING = -1e4  # added to the score of a word that is not to be seen
SESSION = {  # the settings of ONNX Runtime
    "session.intra_op.allow_spinning": "0",  # so that waiting threads do not take the processor from others
    "optimization.disable_specified_optimizers": "SkipLayerNormFusion",  # on a CPU slower than what it fuses
}


def require_onnx() -> None:
    """Raise ValueError, naming the extra to install, unless the ONNX packages are installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f'{missing[0]} is not installed, which ONNX formats need: pip install "distilnb[export]"')


def answers(model: nn.Module, batch: Batch) -> Tensor:
    """The answers of a model as one tensor: its logits, or start and end logits side by side, (batch, seq, 2)."""
    out = model(**batch)
    return out.logits if hasattr(out, "logits") else torch.stack([out.start_logits, out.end_logits], dim=-1)


def inputs(model: PreTrainedModel, batch: Batch) -> Batch:
    """The entries of a batch that this model reads; DistilBERT, for instance, reads no token types."""
    types = ("token_type_ids",) if families.reads_token_types(model.config) else ()
    wanted = ("input_ids", "attention_mask", *types)
    return {name: batch[name] for name in wanted}


class Outputs(nn.Module):
    """A model as a function from tensors to its named outputs, the form that can be exported.

    HIDDEN among the names is the encoder's output: alone, or after the logits of a masked language model. With `plain`,
    what the mask hides is hidden by one row of numbers for all words, which leaves twenty operations out of a graph.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], plain: bool = False):
        super().__init__()
        self.model, self.names, self.plain = model, names, plain

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        """The named outputs: one tensor, or several; all inputs are (batch, seq)."""
        if self.plain:
            attention_mask = HIDING * (1 - attention_mask[:, None, None, :].float())  # (batch, 1, 1, seq)
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        batch |= {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        if HIDDEN not in self.names:
            made = self.model(**batch)
            tensors = tuple(getattr(made, name) for name in self.names)
        else:
            tensors = (self.model.base_model(**batch)[0],)
            if "logits" in self.names:
                tensors = (nn.functional.linear(head_input(self.model, *tensors), *decoder(self.model)), *tensors)
        return tensors if len(tensors) > 1 else tensors[0]


def takes_plain(model: PreTrainedModel) -> bool:
    """Whether a model answers as usual when its mask is `plain`, see `Outputs`; not asked of those with local layers,
    whose windows it would open."""
    family = families.of(model.config)
    if family.objective != "masked" or family.follows:
        return False
    ids = torch.arange(32).remainder(model.config.vocab_size).reshape(2, 16)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    batch = inputs(model, {"input_ids": ids, "attention_mask": mask, "token_type_ids": 0 * ids})
    try:
        with torch.inference_mode():
            usual, plain = (Outputs(model.base_model, [HIDDEN], how)(**batch)[mask.bool()] for how in (False, True))
    except (ValueError, RuntimeError):  # a model that reads no such mask
        return False
    return torch.allclose(usual, plain, atol=1e-5)


def output_names(model: PreTrainedModel) -> list[str]:
    """The names of a model's outputs in its graph, which are those that optimum and transformers.js look for."""
    spans = type(model).__name__.endswith("ForQuestionAnswering")
    return ["start_logits", "end_logits"] if spans else ["logits"]


def to_onnx(model: PreTrainedModel, path: Path, names: Sequence[str] = ()) -> Path:
    """Write `model` as a float32 ONNX graph for any batch size and sequence length, and return the file.

    `names` are its outputs (default: those of its head), see `Outputs`. Attention is written out ("eager"),
    because ONNX Runtime fuses that graph better than that of torch's own kernel.
    Raises ValueError when a package is missing or when the model cannot be traced.
    """
    require_onnx()
    import onnx

    model = copy.deepcopy(model).float().eval()
    model.set_attn_implementation("eager")
    model.config.use_cache = False  # because a causal model's keys and values are not exported
    ids = torch.ones(2, 16, dtype=torch.long)
    batch = inputs(model, {"input_ids": ids, "attention_mask": ids.clone(), "token_type_ids": 0 * ids})
    names = list(names or output_names(model))
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq", max=families.longest(model.config))}
    try:
        with quiet():
            program = torch.onnx.export(
                Outputs(model, names, takes_plain(model)).eval(),
                tuple(batch.values()),
                dynamo=True,
                dynamic_shapes=(free,) * len(batch),
                input_names=list(batch),
                output_names=names,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(f"this {type(model).__name__} cannot be exported to ONNX: {reason}") from error
    made = program.model_proto
    del made.graph.value_info[:]  # because the exporter's shapes contradict those that quantization finds
    for node in made.graph.node:
        del node.metadata_props[:]  # local paths, from which each operation comes
    onnx.save(made, path)
    del program, made
    gc.collect()  # because an exported program refers to itself and holds the weights
    return path


def quantize_onnx(source: Path, target: Path) -> Path:
    """Write the graph `source` with int8 matrices and embeddings, a scale for each output, and return the file;
    activations are rounded at run time.

    The weights are signed, because products with unsigned ones took 2.7 times as long (AMX, 32 tokens), where only
    signed ones have the fast kernel.
    """
    require_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            extra_options={"MatMulConstBOnly": True},
        )
    return target


def open_onnx(path: Path, threads: int = 0, only: str = "") -> Callable[[Batch], np.ndarray]:
    """A function from batches to answers, by ONNX Runtime on the CPU; ValueError for a file that is no ONNX model.

    `only` names the one output that is wanted of several; without it they are start and end logits, side by side.
    """
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads or os.cpu_count() or 1, 1
    options.log_severity_level = 3
    for name, value in SESSION.items():
        options.add_session_config_entry(name, value)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # because its exceptions have no common base class
        raise ValueError(f"'{path}' is no model that ONNX Runtime can read") from error
    names = [entry.name for entry in session.get_inputs()]

    def answer(batch: Batch) -> np.ndarray:
        outputs = session.run([only] if only else None, {name: batch[name].numpy() for name in names})
        return outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)

    return answer


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' messages about unneeded packages and lost names."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
