"""int8 that holds: ways to round an ONNX graph, measured on rows that score nothing else, and the one to keep.

A whole number for a weight is cheap; what costs accuracy is how the numbers that flow through the network are rounded.
The usual dynamic quantization takes one scale for a whole batch of them: a single outlier, of which really pretrained
models have some in each layer, coarsens all others, and a sentence's answer depends on its neighbours. In blocks, each
32 numbers of each word have a scale of their own.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from .graphs import Batch, open_onnx, quantize_onnx, quiet

SHARE, POINTS, ERROR = 0.30, 0.5, 0.05  # of float32's bytes; of accuracy lost; of the answers' norm: at most
MOST = 1.0  # points lost on a task, at most, where `POINTS` are those of the average over several
MOVED = 0.01  # of its norm, at most, that an answer may move with its neighbours in a batch
NEAR = 0.1  # times that differ by less are about the same
ROUNDS = 5  # of timing, in turns


class Rounding(NamedTuple):
    """A way to round: what it is, and a function that writes an int8 graph from one in float32."""

    title: str
    write: Callable[[Path, Path], Any]


def in_blocks(source: Path, target: Path, size: int = 32, level: int = 4) -> None:
    """Write `source` with int8 matrices that have a scale for each `size` numbers, and int8 embeddings for each word.

    `level` 4 lets ONNX Runtime round the other factor in blocks of the same size, and multiply whole numbers; with 0
    it multiplies in float32.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with quiet():
        quantizer = MatMulNBitsQuantizer(
            onnx.load(source),
            bits=8,
            block_size=size,
            is_symmetric=True,
            accuracy_level=level,
            op_types_to_quantize=("MatMul",),
        )
        quantizer.process()
    model = quantizer.model.model
    round_embeddings(model)
    onnx.save(model, target)


def round_embeddings(model: Any) -> None:
    """Keep the tables of an ONNX model that words are looked up in as int8, with a scale for each word.

    A decoder that is tied to them is widened again when the model is loaded.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, nodes = model.graph, []
    tables = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    large = {name: w for name, w in tables.items() if name in looked_up and w.ndim == 2 and w.dtype == np.float32}
    for name, weights in large.items():
        scales = np.maximum(np.abs(weights).max(1), 1e-12) / 127  # (words,)
        rounded = np.rint(weights / scales[:, None]).astype(np.int8)
        tensor = next(tensor for tensor in graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(rounded, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scales[:, None], f"{name}_scales"))
        if any(name in node.input for node in graph.node if node.op_type != "Gather"):
            flat = numpy_helper.from_array(scales, f"{name}_scale")
            graph.initializer.append(flat)
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}_int8", flat.name], [name], axis=0))
    for node in graph.node:
        if node.op_type != "Gather" or node.input[0] not in large:
            nodes.append(node)
            continue
        name, ids, out = node.input[0], node.input[1], node.output[0]
        nodes += [
            helper.make_node("Gather", [f"{name}_int8", ids], [f"{out}_int8"]),
            helper.make_node("Gather", [f"{name}_scales", ids], [f"{out}_scales"]),
            helper.make_node("Cast", [f"{out}_int8"], [f"{out}_whole"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{out}_whole", f"{out}_scales"], [out]),
        ]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


ROUNDINGS = {
    "dynamic": Rounding("one scale for all that flows", quantize_onnx),
    "wide": Rounding("blocks of 128", partial(in_blocks, size=128)),
    "blocks": Rounding("blocks of 32", in_blocks),
    "weights": Rounding("weights alone", partial(in_blocks, level=0)),
}


class ChoosingRows(NamedTuple):
    """Rows by which ways to round are compared: a batch for each, and what scores the logits of a half of them.

    `score` maps (the logits of each row, the rows' numbers) to the task's main score, from 0 to 1; None where there are
    no labels. `pad` is the model's padding id, by which a GPT-2 finds the last token.
    """

    batches: Sequence[Batch]
    score: Callable[[Sequence[np.ndarray], np.ndarray], float] | None = None
    name: str = "random word pieces"
    pad: int = 0


def measure(source: Path, folder: Path, rows: ChoosingRows, threads: int = 1) -> list[dict[str, Any]]:
    """What each way to round makes of the graph at `source`: a row each, float32 first.

    `bytes`; `error`, of all answers, as a share of their norm; `neighbours`, how much an answer moves in a batch with
    another row; `cpu_ms`, the median of a forward pass, all taking turns; `lost`, points on the even rows, by which is
    chosen, and `lost_elsewhere`, on the odd ones (None without labels). Files go to `folder`.
    """
    paths = {"float32": source} | {name: folder / f"{name}.onnx" for name in ROUNDINGS}
    for name, rounding in ROUNDINGS.items():
        rounding.write(source, paths[name])
    run = {name: open_onnx(path, threads) for name, path in paths.items()}
    logits = {name: [answer(batch) for batch in rows.batches] for name, answer in run.items()}
    spent = in_turns(run, rows.batches[:: max(1, len(rows.batches) // 8)])
    halves = [np.arange(start, len(rows.batches), 2) for start in (0, 1)]
    measured = []
    for name, answer in run.items():
        scores = [
            [rows.score([logits[way][i] for i in half], half) if rows.score else None for way in ("float32", name)]
            for half in halves
        ]
        lost = [100 * (exact - rounded) if rows.score else None for exact, rounded in scores]
        measured.append(
            {
                "rounding": name,
                "bytes": paths[name].stat().st_size,
                "error": _distance(logits[name], logits["float32"]),
                "neighbours": _neighbours(answer, rows, logits[name][:8]),
                "cpu_ms": spent[name][1],
                "lost": lost[0],
                "lost_elsewhere": lost[1],
            }
        )
    return measured


def choose(measured: Sequence[dict[str, Any]]) -> str:
    """The name of the fastest way to round that holds: bytes within `SHARE`, points within `POINTS`, or, without
    labels, the error within `ERROR`, and answers that do not depend on their neighbours (`MOVED`); of several that are
    about as fast, or where none holds, the most exact."""
    whole, *rest = measured
    small = [row for row in rest if row["bytes"] <= SHARE * whole["bytes"]] or rest
    held = [
        row
        for row in small
        if row["neighbours"] <= MOVED
        and (row["lost"] if row["lost"] is not None else row["error"] / ERROR * POINTS) <= POINTS
    ]
    least = min((row["cpu_ms"] for row in held), default=0)
    quick = [row for row in held if row["cpu_ms"] <= (1 + NEAR) * least]
    return min(quick or small, key=lambda row: row["error"])["rounding"]


def _distance(measured: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    off = np.concatenate([(one - other).ravel() for one, other in zip(measured, expected, strict=True)])
    return float(np.linalg.norm(off) / np.linalg.norm(np.concatenate([other.ravel() for other in expected])))


def _neighbours(answer: Callable[[Batch], np.ndarray], rows: ChoosingRows, alone: Sequence[np.ndarray]) -> float:
    """How far the first rows' answers are from those that each gets beside the next one, as a share of their norm."""
    moved, batches = [], rows.batches[: len(alone)]
    for i, batch in enumerate(batches):
        both = batch, batches[(i + 1) % len(batches)]
        longest = max(each["input_ids"].shape[1] for each in both)
        pair = {}
        for name in batch:
            fill = rows.pad if name == "input_ids" else 0
            padded = [nn.functional.pad(each[name], (0, longest - each[name].shape[1]), value=fill) for each in both]
            pair[name] = torch.cat(padded)
        made = answer(pair)[: len(alone[i])]
        moved.append(made[:, : alone[i].shape[1]] if made.ndim == 3 else made)
    return _distance(moved, alone)


def in_turns(run: Mapping[Any, Callable[[Batch], Any]], batches: Sequence[Batch]) -> dict[Any, list[float]]:
    """Median wall and CPU milliseconds of an answer, everybody in turn."""
    spent: dict[Any, list[list[float]]] = {name: [] for name in run}
    for turn in range(ROUNDS):
        for batch in batches:
            for name in list(run)[:: 1 if turn % 2 == 0 else -1]:
                began = time.perf_counter(), time.process_time()
                run[name](batch)
                spent[name].append([1000 * (time.perf_counter() - began[0]), 1000 * (time.process_time() - began[1])])
    return {name: np.median(values, axis=0).tolist() for name, values in spent.items()}
