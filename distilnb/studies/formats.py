"""Formats for devices (paper section 4.1, "On device computation"; notebook 07): half precision, int8, other runtimes.

A `Runner` is a model in one of `KNOWN` formats, ready to answer, with its size on disk. Nothing is timed before
`check_agreement` has compared its answers with PyTorch's in float32. The formats differ in more than bytes: the ONNX
formats run in ONNX Runtime, which fuses the graph, so the speed of a format includes that of its runtime.
"""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..evidence.records import Record
from ..models import families
from . import runtimes
from .graphs import PACKAGES, Batch, answers, inputs, open_onnx, require_onnx, to_onnx
from .rounding import ROUNDINGS
from .runtimes import LENGTH, RUNTIMES, Predictor

__all__ = ["PACKAGES", "answers", "inputs", "open_onnx"]  # asked for here by lessons


class Format(NamedTuple):
    """A format for storing and running a model, with `bytes` per weight of the matrices.

    `tolerance` is the largest difference from PyTorch's float32 answers, as ‖difference‖ / ‖answers‖, that counts as
    rounding. A wrong sign gives 2, unrelated answers about 1.4, zeros 1. With sixteen-output heads on random and on
    distilled encoders of 6 and 12 layers, int8 gave at most 0.09 and bfloat16 at most 0.03.
    """

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
BYTES = {"float32": (4, 1e-3), "float16": (2, 0.1), "int8": (1, 0.3)}  # of a weight, and the tolerance
ELSEWHERE = {  # formats of other runtimes, each with an extra of its own
    f"{name}_{precision}": Format(f"{runtime.title} {precision}", *BYTES[precision])
    for name, runtime in RUNTIMES.items()
    for precision in runtime.files
}
ROUNDED = {  # other ways to int8 in ONNX, see `rounding`; onnx_int8 is "dynamic" unless another was chosen
    f"onnx_{name}": Format(f"ONNX int8, {rounding.title}", 1, 0.3)
    for name, rounding in ROUNDINGS.items()
    if name != "dynamic"
}
ROUNDED_AS = {name: "onnx_int8" if name == "dynamic" else f"onnx_{name}" for name in ROUNDINGS}
KNOWN = FORMATS | ROUNDED | ELSEWHERE


def format_title(format: str, record: Mapping[str, Any]) -> str:
    """What a format of a benchmark's record is called, with the length it pads each text to where it has but one."""
    runtime = RUNTIMES.get(format.partition("_")[0])
    return KNOWN[format].title + (f", padded to {record['config']['max_length']}" if runtime and runtime.fixed else "")


class Runner(NamedTuple):
    """A model, called "teacher" or "student", in one format. `answer` maps a batch, from which it takes the model's
    inputs, to logits (batch, labels), or (batch, seq, 2) for spans; `bytes` is the size of the file at `path`."""

    model: str
    format: str
    answer: Callable[[Batch], np.ndarray]
    bytes: int
    path: Path


def make_runner(
    model: PreTrainedModel,
    format: str,
    folder: Path,
    name: str = "model",
    threads: int = 0,
    *,
    length: int = LENGTH,
    rounding: str = "dynamic",
) -> Runner:
    """A Runner called `name` of `model` in one of `KNOWN`; its file goes to `folder`, and `model` is not changed.

    `threads` are those of ONNX Runtime and others (0: one for each core); PyTorch's are set by
    `torch.set_num_threads`. `length` is that of formats which have but one, `rounding` the way to onnx_int8, one of
    `ROUNDINGS`. Raises ValueError for an unknown format, missing packages, or a model that cannot be exported,
    RuntimeError for one that this processor cannot make.
    """
    check_formats([format])
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    if format.startswith("onnx"):
        path = source = whole_onnx(model, folder)
        if format != "onnx_float32":
            way = rounding if format == "onnx_int8" else format.removeprefix("onnx_")
            path = source.with_name("model_quantized.onnx" if format == "onnx_int8" else f"model_{way}.onnx")
            ROUNDINGS[way].write(source, path)
        answer = open_onnx(path, threads)
    elif format in ELSEWHERE:
        runtime, _, precision = format.partition("_")
        path = runtimes.write(model, folder, runtime, precision, length)
        answer = reopen(format, path, threads)
    else:
        made = convert(model, format)
        path, answer = _keep(made, folder, format), partial(_by_pytorch, made)
    return Runner(name, format, partial(_within, answer, families.longest(model.config)), runtimes.size(path), path)


def _by_pytorch(model: PreTrainedModel, batch: Batch) -> np.ndarray:
    read = inputs(model, batch)
    if read["attention_mask"].all():  # without a mask, a faster attention kernel runs
        del read["attention_mask"]
    with torch.inference_mode():
        return answers(model, read).float().numpy()


def _within(answer: Predictor, longest: int, batch: Batch) -> np.ndarray:
    """The answer to texts that a model can read; asked more, OpenVINO answers with nothing, and others in riddles."""
    asked = batch["input_ids"].shape[1]
    if asked > longest:
        raise ValueError(f"a text of {asked} word pieces was given to a model that reads {longest}: cut the text")
    return answer(batch)


def whole_onnx(model: PreTrainedModel, folder: Path) -> Path:
    """The path of the model in float32 ONNX under `folder`, written unless it is there already."""
    path = folder / "onnx" / "model.onnx"  # the place where optimum and transformers.js look
    if not path.is_file():
        path.parent.mkdir(exist_ok=True, parents=True)
        to_onnx(model, path)
    return path


def reopen(format: str, path: Path, threads: int = 0) -> Predictor:
    """A function from batches to answers, from the file of a format that is not PyTorch's."""
    return RUNTIMES[format.partition("_")[0]].open(path, threads) if format in ELSEWHERE else open_onnx(path, threads)


def convert(model: PreTrainedModel, format: str) -> nn.Module:
    """A copy of `model` in one of PyTorch's own formats, ready to answer."""
    if format == "int8":
        return to_int8(model)
    return copy.deepcopy(model).to(torch.bfloat16 if format == "bfloat16" else torch.float32).eval()


def _keep(model: nn.Module, folder: Path, format: str) -> Path:
    """Save the weights without duplicates, and return the file; int8 goes to torch's format, for its size alone."""
    if format == "int8":
        path = folder / "model.int8.pt"
        torch.save(model.state_dict(), path)
    else:
        path = folder / f"model.{format}.safetensors"
        save_file({name: tensor.detach().contiguous() for name, tensor in model.named_parameters()}, path)
    return path


def to_int8(model: nn.Module) -> nn.Module:
    """A copy whose linear layers hold int8 weights and round their inputs at run time (dynamic quantization).

    torch has deprecated this interface for years, in favour of the separate package torchao, but still ships it.
    GPT-2's transposed layers, which it does not know, are made linear ones before.
    """
    model = copy.deepcopy(model).eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            linear = nn.Linear(module.nx, module.nf, device="meta")
            linear.weight, linear.bias = nn.Parameter(module.weight.T.contiguous()), module.bias
            model.set_submodule(name, linear)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def relative_error(measured: np.ndarray, expected: np.ndarray) -> float:
    """‖measured − expected‖ / ‖expected‖."""
    return float(np.linalg.norm(measured - expected) / np.linalg.norm(expected))


class Disagrees(RuntimeError):
    """A format in which a model answers otherwise than in PyTorch."""


def check_agreement(runner: Runner, reference: Runner, batches: Sequence[Batch]) -> float:
    """The relative error of all of a runner's answers against the reference's; those at padding do not count.

    Raises Disagrees when the error is not a number or exceeds the format's tolerance, so that nothing is timed.
    """
    error = relative_error(_answered(runner, batches), _answered(reference, batches))
    form = KNOWN[runner.format]
    if not error <= form.tolerance:
        raise Disagrees(
            f"{form.title} of {runner.model} answers otherwise than PyTorch in float32 (relative error "
            f"{error:.2g}, allowed are {form.tolerance:g})"
        )
    return error


def _answered(runner: Runner, batches: Sequence[Batch]) -> np.ndarray:
    """A runner's answers in one row, without those at padding: far from any real token, each attention has its own."""
    pairs = ((runner.answer(batch), batch["attention_mask"].numpy() == 1) for batch in batches)
    return np.concatenate([(answer[real] if answer.ndim == 3 else answer).ravel() for answer, real in pairs])


def sample(model: PreTrainedModel, batches: int = 8, most: int = 512) -> list[Batch]:
    """Random ids on which formats are compared: batches of two rows of unequal length, so that the mask counts, up to
    64 tokens or `most`."""
    draw, made = torch.Generator().manual_seed(0), []
    for number in range(batches):
        length = min(8 * (number + 1), most, families.longest(model.config))
        ids = torch.randint(model.config.vocab_size, (2, length), generator=draw)
        mask = torch.ones_like(ids)
        mask[1, length // 2 :] = 0
        made.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)})
    return made


def named(text: str) -> list[str]:
    """The formats that names joined by commas stand for; that of a runtime ("onnx", "litert") stands for all of its."""
    names, usual = [name.strip().lower() for name in text.split(",") if name.strip()], FORMATS | ELSEWHERE
    kinds = [[form for form in usual if form.startswith(f"{name}_")] or [name] for name in names]
    return list(dict.fromkeys(form for forms in kinds for form in forms))


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """These formats, with float32 first, because all are compared with it; ValueError for unknown or unusable ones."""
    unknown = [name for name in formats if name not in KNOWN]
    if unknown:
        every = dict.fromkeys(["onnx", *RUNTIMES, *KNOWN])
        raise ValueError(f"unknown format '{unknown[0]}'; use some of {', '.join(every)}")
    if any(name.startswith("onnx") for name in formats):
        require_onnx()
    for runtime in dict.fromkeys(name.partition("_")[0] for name in formats if name in ELSEWHERE):
        runtimes.require(runtime)
    return tuple(dict.fromkeys(("float32", *formats)))


def fitting(
    record: Record, megabytes: float = np.inf, milliseconds: float = np.inf, points: float = np.inf
) -> pd.DataFrame:
    """The student's formats in a benchmark record, and whether each `fits` a device: at most `megabytes` on disk,
    `milliseconds` per answer and `points` of accuracy lost.

    A format whose accuracy was not measured fits only where any loss is allowed.
    """
    lost = {row["format"]: row["lost"] for row in record["accuracy"]["rows"]}
    own = [row for row in record["formats"] if row["model"] == "student"]
    rows = pd.DataFrame(
        [(row["format"], row["bytes"] / 1e6, row["ms"][1], lost.get(row["format"])) for row in own],
        columns=["format", "MB", "ms", "points lost"],
    )
    costs = rows["points lost"].astype(float).fillna(np.inf)
    rows["fits"] = (rows["MB"] <= megabytes) & (rows["ms"] <= milliseconds) & (costs <= points)
    return rows
