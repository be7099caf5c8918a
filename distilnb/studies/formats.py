"""Formats for the device (paper section 4.1, "On device computation"): half precision, int8, ONNX.

A `Runner` is a model in one of `FORMATS`, ready to answer and with its size on disk. Nothing is timed before
`check_agreement` has compared its answers with those of PyTorch in float32. The formats differ in more than bytes:
the ONNX ones run in ONNX Runtime, which fuses the graph, so a format's speed is that of its runtime as well.
"""

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
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..evidence.records import Record
from ..models import families
from ..models.forward import decoder, head_input

Batch = dict[str, Tensor]  # input_ids, attention_mask and token_type_ids, each (batch, seq)
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
HIDDEN = "last_hidden_state"  # as transformers calls the output of an encoder
SESSION = {  # how ONNX Runtime is set up
    "session.intra_op.allow_spinning": "0",  # threads that wait for work must not take the processor from others
    "optimization.disable_specified_optimizers": "SkipLayerNormFusion",  # on a CPU slower than what it fuses
}


class Format(NamedTuple):
    """A way to keep and run a model. `bytes` per weight of the matrices; `tolerance`: how far its answers may be from
    PyTorch's in float32, as ‖difference‖ / ‖answers‖, before it is held to be broken rather than rounded. A wrong sign
    gives 2, unrelated answers about 1.4, silence 1; rounding to int8 gave at most 0.09 in sixteen-output heads on
    random and on distilled encoders, 6 and 12 layers deep, bfloat16 at most 0.03."""

    title: str
    bytes: int
    tolerance: float


FORMATS = {
    "float32": Format("PyTorch float32", 4, 0.0),
    "bfloat16": Format("PyTorch bfloat16", 2, 0.1),
    "int8": Format("PyTorch int8", 1, 0.3),  # the matrices; the embeddings stay in float32
    "onnx_float32": Format("ONNX float32", 4, 1e-3),
    "onnx_int8": Format("ONNX int8", 1, 0.3),
}


class Runner(NamedTuple):
    """A model, called "teacher" or "student", in one format. `answer` maps a batch, of which it takes what the model
    reads, to logits (batch, labels), or (batch, seq, 2) for spans; `bytes` is the size of the file at `path`."""

    model: str
    format: str
    answer: Callable[[Batch], np.ndarray]
    bytes: int
    path: Path


def require_onnx() -> None:
    """Raise ValueError that names the extra unless the ONNX packages are installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f'{missing[0]} is not installed, which ONNX formats need: pip install "distilnb[export]"')


def answers(model: nn.Module, batch: Batch) -> Tensor:
    """What a model answers, as one tensor: its logits, or start and end logits side by side, (batch, seq, 2)."""
    found = model(**batch)
    return found.logits if hasattr(found, "logits") else torch.stack([found.start_logits, found.end_logits], dim=-1)


def inputs(model: PreTrainedModel, batch: Batch) -> Batch:
    """What this model reads of a batch: DistilBERT, for one, has no token types."""
    types = ("token_type_ids",) if families.reads_token_types(model.config) else ()
    wanted = ("input_ids", "attention_mask", *types)
    return {name: batch[name] for name in wanted}


def make_runner(model: PreTrainedModel, format: str, folder: Path, name: str = "model", threads: int = 0) -> Runner:
    """`model`, called `name`, in one of `FORMATS`; its file goes to `folder`, the model itself is not changed.

    `threads` are ONNX Runtime's (0: one for each core); PyTorch's are set by `torch.set_num_threads`.
    Raises ValueError for an unknown format, missing packages, or a model that cannot be exported.
    """
    check_formats([format])
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    if format.startswith("onnx"):
        path = folder / "onnx" / "model.onnx"  # where optimum and transformers.js look
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            to_onnx(model, path)
        if format == "onnx_int8":
            path = quantize_onnx(path, path.with_name("model_quantized.onnx"))
        return Runner(name, format, open_onnx(path, threads), path.stat().st_size, path)
    made = convert(model, format)
    path = _keep(made, folder, format)

    def answer(batch: Batch) -> np.ndarray:
        mine = inputs(model, batch)
        if mine["attention_mask"].all():  # no mask at all lets the faster attention kernel run
            del mine["attention_mask"]
        with torch.inference_mode():
            return answers(made, mine).float().numpy()

    return Runner(name, format, answer, path.stat().st_size, path)


def convert(model: PreTrainedModel, format: str) -> nn.Module:
    """A copy of `model` in one of PyTorch's own formats, ready to answer."""
    if format == "int8":
        return to_int8(model)
    return copy.deepcopy(model).to(torch.bfloat16 if format == "bfloat16" else torch.float32).eval()


def _keep(model: nn.Module, folder: Path, format: str) -> Path:
    """Write the weights, each once: safetensors, or for packed int8 torch's own format, which we never read back."""
    if format == "int8":
        path = folder / "model.int8.pt"
        torch.save(model.state_dict(), path)
    else:
        path = folder / f"model.{format}.safetensors"
        save_file({name: tensor.detach().contiguous() for name, tensor in model.named_parameters()}, path)
    return path


def to_int8(model: nn.Module) -> nn.Module:
    """A copy whose linear layers hold int8 weights and round their inputs as they come (dynamic quantization).

    torch has called this interface deprecated for years, in favour of the separate package torchao, and ships it still.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(copy.deepcopy(model).eval(), {nn.Linear}, dtype=torch.qint8)


class _Outputs(nn.Module):
    """A model as a function from tensors to its named outputs, which is what can be exported.

    HIDDEN among the names is the encoder's output: alone, or after the logits of a masked language model.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
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


def output_names(model: PreTrainedModel) -> list[str]:
    """What the outputs of a model's graph are called: by the names that optimum and transformers.js look for."""
    spans = type(model).__name__.endswith("ForQuestionAnswering")
    return ["start_logits", "end_logits"] if spans else ["logits"]


def to_onnx(model: PreTrainedModel, path: Path, names: Sequence[str] = ()) -> Path:
    """Write `model` as an ONNX graph in float32 that takes any batch size and sequence length.

    `names` are its outputs (default: those of its head), see `_Outputs`. Attention is written out ("eager"): ONNX
    Runtime fuses that graph better than the one of torch's own kernel.
    Raises ValueError when a package is missing or when the model cannot be traced.
    """
    require_onnx()
    import onnx

    model = copy.deepcopy(model).float().eval()
    model.set_attn_implementation("eager")
    model.config.use_cache = False  # of a causal model: its keys and values are no outputs here
    ids = torch.ones(2, 16, dtype=torch.long)
    batch = inputs(model, {"input_ids": ids, "attention_mask": ids.clone(), "token_type_ids": 0 * ids})
    names = list(names or output_names(model))
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq", max=families.longest(model.config))}
    try:
        with _quiet():
            program = torch.onnx.export(
                _Outputs(model, names).eval(),
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
    del made.graph.value_info[:]  # the exporter's shapes contradict those that quantization finds
    for node in made.graph.node:
        del node.metadata_props[:]  # where in this machine's folders each operation comes from
    onnx.save(made, path)
    del program, made
    gc.collect()  # an exported program refers to itself, and holds the weights
    return path


def quantize_onnx(source: Path, target: Path, per_channel: bool = True) -> Path:
    """Write `source` with int8 matrices and embeddings; activations are rounded as they come.

    `per_channel`: a scale for each output instead of one for the matrix. The weights are signed: products with unsigned
    ones took 2.7 times as long where we tried (AMX, 32 tokens), as only the signed have the fast kernel there.
    """
    require_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
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
    except Exception as error:  # its exceptions have no common base class
        raise ValueError(f"'{path}' is no model that ONNX Runtime can read") from error
    names = [entry.name for entry in session.get_inputs()]

    def answer(batch: Batch) -> np.ndarray:
        outputs = session.run([only] if only else None, {name: batch[name].numpy() for name in names})
        return outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)

    return answer


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' talk of packages that are not needed and names they cannot keep."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def check_agreement(runner: Runner, reference: Runner, batches: Sequence[Batch]) -> float:
    """The relative error of all of a runner's answers against the reference's.

    Raises RuntimeError when it is no number or above the tolerance of the format: then nothing may be timed.
    """
    pairs = [(runner.answer(batch), reference.answer(batch)) for batch in batches]
    error = relative_error(*(np.concatenate([answer.ravel() for answer in side]) for side in zip(*pairs, strict=True)))
    form = FORMATS[runner.format]
    if not error <= form.tolerance:
        raise RuntimeError(
            f"{form.title} of {runner.model} answers otherwise than PyTorch in float32 (relative error "
            f"{error:.2g}, allowed are {form.tolerance:g}); it was not timed"
        )
    return error


def sample(model: PreTrainedModel, batches: int = 8, seed: int = 0) -> list[Batch]:
    """Random ids on which formats are compared: batches of two rows of unequal length, so that the mask counts."""
    draw, made = torch.Generator().manual_seed(seed), []
    for number in range(batches):
        length = min(8 * (number + 1), families.longest(model.config))
        ids = torch.randint(model.config.vocab_size, (2, length), generator=draw)
        mask = torch.ones_like(ids)
        mask[1, length // 2 :] = 0
        made.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)})
    return made


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """These formats with float32, against which they are compared, in front; ValueError before any work."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"unknown format '{unknown[0]}'; use some of {', '.join(FORMATS)}")
    if any(name.startswith("onnx") for name in formats):
        require_onnx()
    return tuple(dict.fromkeys(("float32", *formats)))


def fitting(
    record: Record, megabytes: float = np.inf, milliseconds: float = np.inf, points: float = np.inf
) -> pd.DataFrame:
    """The student's formats in a benchmark record and whether each `fits` a device: at most so many megabytes on disk,
    milliseconds for an answer, and points of accuracy lost.

    A format whose accuracy was not measured fits only where any loss is allowed.
    """
    lost = {row["format"]: row["lost"] for row in record["accuracy"]["rows"]}
    rows = pd.DataFrame(
        [
            {
                "format": row["format"],
                "MB": row["bytes"] / 1e6,
                "ms": row["ms"][1],
                "points lost": lost.get(row["format"]),
            }
            for row in record["formats"]
            if row["model"] == "student"
        ],
        columns=["format", "MB", "ms", "points lost"],
    )
    costs = rows["points lost"].astype(float).fillna(np.inf)
    rows["fits"] = (rows["MB"] <= megabytes) & (rows["ms"] <= milliseconds) & (costs <= points)
    return rows
