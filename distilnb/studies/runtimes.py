"""Other runtimes that people deploy to: how a model gets there, and how it answers there.

A row of `RUNTIMES` is a runtime with the precisions it is written in; the packages come with the extra of its name.
What a row cannot take is declared: LiteRT and Core ML are written for one sentence of `LENGTH` word pieces. A shorter
one is filled up, a longer one refused. Core ML runs on Apple's systems alone: elsewhere it is converted and not asked.
"""

import copy
import json
import os
import platform
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..models import families
from .graphs import HIDING, Batch, Outputs, inputs, output_names, quiet, to_onnx

OPENVINO = {
    "INFERENCE_PRECISION_HINT": "f32",  # else it computes in bfloat16 on processors that are faster in it
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128,  # of int8; a quarter faster than 32, and as exact
}
STEADY = 4  # texts of one shape in a row, after which OpenVINO compiles the graph for that shape: a tenth faster
LENGTH = 128  # word pieces of a sentence where a format has but one length
Predictor = Callable[[Batch], np.ndarray]


class Runtime(NamedTuple):
    """A runtime: what it is called, the packages it needs, its files by precision, how they are written and opened.

    `write` takes (model, path, precision, length); `open` takes (path, threads) and gives a function from batches to
    answers, each output a list entry.
    """

    title: str
    packages: tuple[str, ...]
    files: dict[str, str]
    write: Callable[[PreTrainedModel, Path, str, int], None]
    open: Callable[[Path, int], Predictor]
    fixed: bool = False


class FourDimensional(nn.Module):
    """A graph whose mask is laid over the attention scores, as some converters need it: 0 to see, −10,000 to hide."""

    def __init__(self, graph: Outputs):
        super().__init__()
        self.seen = graph

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        """The graph's outputs; all inputs are (batch, seq)."""
        hidden = HIDING * (1 - attention_mask[:, None, None, :].float())  # (batch, 1, 1, seq)
        return self.seen(input_ids, hidden.expand(-1, -1, input_ids.shape[1], -1), token_type_ids)


def prepared(model: PreTrainedModel, length: int, mask: type[nn.Module] | None = None) -> tuple[nn.Module, Batch]:
    """A copy of `model` as a graph in evaluation mode, and a batch of one sentence to trace it with."""
    model = copy.deepcopy(model).float().eval()
    model.set_attn_implementation("eager")
    model.config.use_cache = False
    graph = Outputs(model, output_names(model))
    ids = torch.ones(1, length, dtype=torch.long)
    batch = inputs(model, {"input_ids": ids, "attention_mask": ids.clone(), "token_type_ids": 0 * ids})
    return (mask(graph) if mask else graph).eval(), batch


def together(outputs: list[np.ndarray]) -> np.ndarray:
    """Logits, or start and end logits side by side, (batch, seq, 2)."""
    return outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)


def filled(batch: Batch, length: int) -> Batch:
    """A batch filled up to a file's length with what the mask hides; ValueError for a longer one."""
    longest = batch["input_ids"].shape[1]
    if longest > length:
        raise ValueError(
            f"a text of {longest} word pieces was given to a model that was exported for {length}: export it with a "
            f"larger --length, or cut the text"
        )
    return {name: nn.functional.pad(tensor, (0, length - longest)) for name, tensor in batch.items()}


def one_by_one(run: Callable[[Batch], list[np.ndarray]], length: int) -> Predictor:
    """A function from any batch to answers, out of one that takes a single sentence of `length` word pieces."""

    def answer(batch: Batch) -> np.ndarray:
        longest, full = batch["input_ids"].shape[1], filled(batch, length)
        rows = [together(run({name: t[i : i + 1] for name, t in full.items()})) for i in range(len(full["input_ids"]))]
        made = np.concatenate(rows)
        return made[:, :longest] if made.ndim == 3 else made  # what stands for filling is no answer

    return answer


# OpenVINO

OPENVINO_FILES = {
    "float32": "openvino_model.xml",
    "float16": "openvino_model_float16.xml",
    "int8": "openvino_model_qint8_quantized.xml",
}


def write_openvino(model: PreTrainedModel, path: Path, precision: str, length: int) -> None:
    """Write OpenVINO's two files, by way of ONNX; any batch and length. int8 is that of its weights alone."""
    import openvino

    source = path.with_name("model.onnx")
    converted = openvino.convert_model(to_onnx(model, source))
    source.unlink()
    if precision == "int8":
        import nncf

        converted = nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_SYM)
    openvino.save_model(converted, path, compress_to_fp16=precision == "float16")


def open_openvino(path: Path, threads: int) -> Predictor:
    """A function from batches to answers, computed in float32; a shape that keeps coming gets a graph of its own."""
    import openvino

    core, settings = openvino.Core(), OPENVINO | ({"INFERENCE_NUM_THREADS": threads} if threads else {})

    @lru_cache(maxsize=1)
    def compiled(*shape: int) -> Any:
        model = core.read_model(path)
        if shape:
            model.reshape({entry.any_name: list(shape) for entry in model.inputs})
        return core.compile_model(model, "CPU", settings)

    flexible, last = compiled(), deque(maxlen=STEADY)
    names = [entry.any_name for entry in flexible.inputs]

    def answer(batch: Batch) -> np.ndarray:
        last.append(tuple(batch["input_ids"].shape))
        run = compiled(*last[0]) if last.count(last[0]) == STEADY else flexible
        return together([*run({name: batch[name].numpy() for name in names}).to_tuple()])

    return answer


# LiteRT

LITERT_FILES = {"float32": "model.tflite", "int8": "model_quantized.tflite"}


def write_litert(model: PreTrainedModel, path: Path, precision: str, length: int) -> None:
    """Write a .tflite file for one sentence of `length`; its inputs are int32 and bear the tokenizer's names."""
    import litert_torch

    graph, batch = prepared(model, length)
    with quiet():
        made = litert_torch.convert(graph, sample_kwargs={name: ids.int() for name, ids in batch.items()})
        made.export(str(path))
        if precision == "int8":
            from ai_edge_quantizer import quantizer, recipe

            rounded = quantizer.Quantizer(str(path), recipe.dynamic_wi8_afp32()).quantize()
            rounded.export_model(str(path), overwrite=True)


def open_litert(path: Path, threads: int) -> Predictor:
    """A function from batches to answers, by LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads or os.cpu_count())
    run = interpreter.get_signature_runner()
    details, outputs = run.get_input_details(), sorted(run.get_output_details())
    length = int(next(iter(details.values()))["shape"][1])

    def ask(batch: Batch) -> list[np.ndarray]:
        made = run(**{name: batch[name].int().numpy() for name in details})
        return [made[name] for name in outputs]

    return one_by_one(ask, length)


# ExecuTorch

EXECUTORCH_FILES = {"float32": "model.pte", "int8": "model_quantized.pte"}


def write_executorch(model: PreTrainedModel, path: Path, precision: str, length: int) -> None:
    """Write a .pte file for XNNPACK, for one sentence of up to the model's positions."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    graph, batch = prepared(model, 16, FourDimensional)
    free = torch.export.Dim("seq", min=2, max=families.longest(model.config))
    shapes = ({1: free},) * len(batch)
    with quiet():
        program = torch.export.export(graph, tuple(batch.values()), dynamic_shapes=shapes)
        if precision == "int8":
            program = torch.export.export(_rounded(program, batch), tuple(batch.values()), dynamic_shapes=shapes)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    path.write_bytes(lowered.buffer)


def _rounded(program: Any, batch: Batch) -> nn.Module:
    """The program with int8 matrices, a scale for each output, and inputs rounded as they come."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    how = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    watched = prepare_pt2e(program.module(), XNNPACKQuantizer().set_global(how))
    watched(*batch.values())
    return convert_pt2e(watched)


def open_executorch(path: Path, threads: int) -> Predictor:
    """A function from batches to answers, by ExecuTorch's runtime, which chooses its threads itself."""
    from executorch.runtime import Runtime as Executor

    method = Executor.get().load_program(path).load_method("forward")
    count = method.metadata.num_inputs()

    def answer(batch: Batch) -> np.ndarray:
        given = [batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")[:count]]
        rows = [method.execute([t[i : i + 1].contiguous() for t in given]) for i in range(len(given[0]))]
        return np.concatenate([together([output.numpy().copy() for output in row]) for row in rows])

    return answer


# Core ML

COREML_FILES = {"float16": "model.mlpackage", "int8": "model_quantized.mlpackage"}


class NotHere(RuntimeError):
    """A model that this system can write and cannot run."""


def _not_here(batch: Batch) -> np.ndarray:
    raise NotHere("Core ML runs on Apple's systems alone: converted here, and not asked")


def write_coreml(model: PreTrainedModel, path: Path, precision: str, length: int) -> None:
    """Write an .mlpackage for one sentence of `length`; int8 is that of its weights alone."""
    import coremltools

    graph, batch = prepared(model, length, FourDimensional)
    kinds = coremltools.precision
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(graph, tuple(ids.int() for ids in batch.values()), strict=False)
        made = coremltools.convert(
            traced,
            inputs=[coremltools.TensorType(name, tuple(ids.shape), dtype=np.int32) for name, ids in batch.items()],
            outputs=[coremltools.TensorType(name) for name in output_names(model)],
            minimum_deployment_target=coremltools.target.iOS16,
            compute_precision=kinds.FLOAT32 if precision == "float32" else kinds.FLOAT16,
        )
        if precision == "int8":
            from coremltools.optimize import coreml

            how = coreml.OptimizationConfig(coreml.OpLinearQuantizerConfig(mode="linear_symmetric"))
            made = coreml.linear_quantize_weights(made, how)
        made.save(str(path))


def open_coreml(path: Path, threads: int) -> Predictor:
    """A function from batches to answers, which raises `NotHere` away from macOS, where nothing can run it."""
    if platform.system() != "Darwin":
        return _not_here
    import coremltools

    package = coremltools.models.MLModel(str(path))
    description = package.get_spec().description
    names, outputs = ([entry.name for entry in side] for side in (description.input, description.output))
    length = description.input[0].type.multiArrayType.shape[1]

    def ask(batch: Batch) -> list[np.ndarray]:
        made = package.predict({name: batch[name].int().numpy() for name in names})
        return [made[name] for name in outputs]

    return one_by_one(ask, length)


RUNTIMES = {
    "openvino": Runtime(
        "OpenVINO", ("openvino", "nncf", "onnx", "onnxscript"), OPENVINO_FILES, write_openvino, open_openvino
    ),
    "litert": Runtime(
        "LiteRT", ("litert_torch", "ai_edge_litert"), LITERT_FILES, write_litert, open_litert, fixed=True
    ),
    "executorch": Runtime("ExecuTorch", ("executorch",), EXECUTORCH_FILES, write_executorch, open_executorch),
    "coreml": Runtime("Core ML", ("coremltools",), COREML_FILES, write_coreml, open_coreml, fixed=True),
}


def require(runtime: str) -> None:
    """Raise ValueError that names the extra unless a runtime's packages are installed."""
    missing = [name for name in RUNTIMES[runtime].packages if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{missing[0]} is not installed, which {RUNTIMES[runtime].title} needs: pip install "
            f'"distilnb[{runtime}]", in an environment of its own if versions conflict'
        )


def check_length(model: PreTrainedModel, length: int) -> None:
    """Raise ValueError for a length that the model has not."""
    if not 2 <= length <= families.longest(model.config):
        raise ValueError(f"--length is {length}; the model reads 2 to {families.longest(model.config)} word pieces")


def size(path: Path) -> int:
    """Bytes of a model: of its file, of the weights beside an OpenVINO graph too, of all files of a package."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" and weights.is_file() else 0)


def write(model: PreTrainedModel, folder: Path, runtime: str, precision: str, length: int = LENGTH) -> Path:
    """The path of `model`, written for a runtime to `folder`/RUNTIME; inputs.json beside it declares what it takes.

    Raises ValueError for missing packages, for a length that the model has not, and for a model that cannot be
    converted.
    """
    require(runtime)
    row = RUNTIMES[runtime]
    check_length(model, length)
    path = folder / runtime / row.files[precision]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        row.write(model, path, precision, length)
    except (RuntimeError, NotImplementedError, TypeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ValueError(f"this {type(model).__name__} cannot be exported to {row.title}: {reason}") from error
    one = torch.ones(1, 1, dtype=torch.long)
    names = list(inputs(model, dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), one)))
    declared = {
        "inputs": names,
        "batch": 1 if row.fixed or runtime == "executorch" else "any",
        "length": length if row.fixed else f"2 to {families.longest(model.config)}",
        "outputs": output_names(model),
    }
    path.with_name("inputs.json").write_text(json.dumps(declared, indent=1) + "\n")
    return path
