"""Checks of notebook 07: less time as a ratio, a smaller student, a hidden overhead, int8 by hand, a single scale."""

import copy
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor
from transformers import DistilBertConfig

from ... import paths
from ...evidence import paper
from ...models.arithmetic import parameter_groups
from ...models.sources import load_model
from ...studies import benchmark, formats
from . import NotYet, ask, close, exercise


@exercise("07.1", 2)
def times_the_throughput(answer: float) -> str:
    """The ratio of throughputs that equals 75 % less time."""
    if close(answer, 0.25):
        raise NotYet("that is the time that is left; throughput is pairs per second, so turn it round")
    if close(answer, 1.75) or close(answer, 75):
        raise NotYet(
            "75 % more throughput would be 1.75 times; 75 % less time is another statement, and a stronger one"
        )
    if close(answer, 300):
        raise NotYet("300 % more is right as a percentage; the question is how many times, as in 1.63 times")
    if not answer > 0 or not close(benchmark.less_time(answer), 75):
        raise NotYet(
            f"{answer:g} times the throughput is {benchmark.less_time(answer):.0f} % less time; less time is "
            "1 − 1/ratio, so solve that for the ratio"
        )
    return (
        f"a quarter of the time is {answer:g} times the throughput; the paper's 71 % less time would be "
        f"{1 / (1 - paper.claim('device_faster').value / 100):.1f} times."
    )


@exercise("07.2", 5)
def three_layers(millions: float, percent: float) -> str:
    """The parameters, in millions, of a bare student with three layers, and the percentage fewer than BERT-base's."""
    counts = {n: sum(parameter_groups(DistilBertConfig(n_layers=n), head=False).values()) for n in (0, 3, 6)}
    bert, right = paper.parameters("BertModel"), counts[3] / 1e6
    fewer = 100 * (1 - counts[3] / bert)
    if close(millions, counts[6] / 2e6, absolute=0.1) or close(millions, bert / 4e6, absolute=0.1):
        raise NotYet("only the layers shrink with their number; the word embeddings stay, and they are 23.4 M")
    if close(millions, counts[3], absolute=1e5):
        raise NotYet("that is the number of parameters itself; the question is how many millions of them")
    if not close(millions, right, absolute=0.1):
        raise NotYet(
            f"a layer of a bare DistilBERT has {(counts[6] - counts[0]) / 6e6:.2f} M parameters and the "
            f"embeddings {counts[0] / 1e6:.2f} M; now three layers"
        )
    if close(percent, 100 - fewer, absolute=0.2):
        raise NotYet("the millions are right; the percentage is what is left, asked for is how much is gone")
    if close(percent, 100 * (1 - counts[3] / counts[6]), absolute=0.2):
        raise NotYet(
            "the millions are right; the percentage is against the six layers, the comparison is with BERT-base"
        )
    if not close(percent, fewer, absolute=0.2):
        raise NotYet("the millions are right; now 100 (1 − student / BERT-base), with BERT-base's 109.48 M")
    return (
        f"{right:.1f} M, {fewer:.0f} % fewer than BERT-base: a quarter of the layers leaves {100 - fewer:.0f} % of it."
    )


@exercise("07.3", 10)
def hiding_overhead(overhead: float, slow: float, fast: float) -> str:
    """The overhead per pair that turns two measured forward times into an end-to-end ratio of 1.5."""
    if not slow > 1.5 * fast > 0:
        raise NotYet(
            "the forward times must be seconds, the slow model first, and more than 1.5 times the fast one's: "
            "an overhead can only make a ratio smaller"
        )
    right = benchmark.overhead_for(slow, fast, 1.5)
    if close(overhead, 1000 * right, relative=0.01):
        raise NotYet("right in milliseconds; the forward times are in seconds, so give the overhead in seconds as well")
    ratio = (overhead + slow) / (overhead + fast)
    if abs(ratio - 1.5) > 0.005:
        raise NotYet(f"with that overhead the ratio is {ratio:.3f}, not 1.5; solve (o + slow) / (o + fast) = 1.5 for o")
    return (
        "o = 2 slow − 3 fast; were the slow model exactly twice as slow, that would be one pass of the fast one: "
        "so little is enough to hide half of the gain."
    )


@exercise("07.4", 20)
def rows_to_int8(answer: Callable[[Tensor], tuple[Tensor, Tensor]]) -> str:
    """A matrix as int8 numbers and one scale for each row."""
    draw = torch.Generator().manual_seed(7)
    for rows, columns in ((4, 6), (16, 64)):
        weight = torch.randn(rows, columns, generator=draw) * torch.logspace(-3, 1, rows)[:, None]
        result = ask(answer, weight.clone())
        if not (isinstance(result, tuple | list) and len(result) == 2):
            raise NotYet("two things are asked for: the int8 matrix and a scale for each of its rows")
        numbers, scale = (torch.as_tensor(part) for part in result)
        if numbers.dtype != torch.int8 or numbers.shape != weight.shape:
            raise NotYet(
                f"the numbers are {numbers.dtype} of shape {tuple(numbers.shape)}; they should be torch.int8 "
                f"of shape {tuple(weight.shape)}, or nothing is saved"
            )
        if scale.numel() == 1:
            raise NotYet(
                "one scale for the whole matrix: beside a large row, a small one is rounded to nothing; take "
                "the largest absolute value of each row"
            )
        if scale.shape not in {(rows,), (rows, 1)}:
            raise NotYet(
                f"{tuple(scale.shape)} scales for {rows} rows: each row of the matrix makes one output and "
                "has one scale; look at the dim of your maximum"
            )
        scale = scale.reshape(rows, 1)
        error = (numbers.float() * scale - weight).abs()
        if (error > 2 * scale.abs()).any():
            raise NotYet(
                "numbers times scale is far from the weights: does the scale map 127 to the largest of its "
                "row, and is the sign kept? 128 is no int8 and wraps to −128"
            )
        if not close(scale, weight.abs().amax(1, keepdim=True) / 127, relative=0.005):
            raise NotYet(
                "close, but room is left unused or missing: the largest absolute value of a row should become "
                "127, so the scale is that value / 127"
            )
        if (error > 0.5001 * scale).any():
            raise NotYet("off by up to a whole step: .to(torch.int8) cuts decimals off; round to the nearest first")
    return "no weight is off by more than half a step of its own row; that is all there is to the weights of int8."


@cache
def _errors() -> dict[str, float]:
    """The relative errors of the shipped student's answers, with its layers' matrices rounded in several ways."""
    exact = load_model(str(paths.data("students", "toy")))
    batches = formats.sample(exact)

    def answers(model: torch.nn.Module) -> np.ndarray:
        with torch.inference_mode():
            logits = [formats.answers(model, formats.inputs(exact, batch)) for batch in batches]
        return np.concatenate([answer.numpy().ravel() for answer in logits])

    def rounded(dim: int | None, part: str) -> float:
        model = copy.deepcopy(exact)
        for layer in model.get_submodule(part).modules():
            if isinstance(layer, torch.nn.Linear):
                weight = layer.weight.data
                scale = (weight.abs().max() if dim is None else weight.abs().amax(dim, keepdim=True)) / 127
                weight.copy_((weight / scale).round() * scale)
        return formats.relative_error(answers(model), expected)

    expected = answers(exact)
    ways = {
        "row": (1, "distilbert.transformer"),
        "matrix": (None, "distilbert.transformer"),
        "column": (0, "distilbert.transformer"),
        "all": (1, ""),
    }
    return {name: rounded(*way) for name, way in ways.items()}


@exercise("07.5", 45)
def price_of_one_scale(per_row: float, per_matrix: float) -> str:
    """The relative errors of the shipped student's answers, with layers rounded by a scale per row and per matrix."""
    per_row, per_matrix, errors = float(per_row), float(per_matrix), _errors()

    def near(value: float, name: str) -> bool:
        return close(value, errors[name], relative=0.03)

    if near(per_row, "row") and near(per_matrix, "matrix"):
        return (
            f"{100 * errors['row']:.1f} % against {100 * errors['matrix']:.1f} %: a float for each output buys "
            f"this much. A scale per input would come to {100 * errors['column']:.1f} %, but sums of int8 products "
            "run over the inputs, and only what they have in common can be multiplied in afterwards."
        )
    if near(per_row, "matrix") and near(per_matrix, "row"):
        raise NotYet("the right two numbers in the wrong order: the finer scale must have the smaller error")
    if near(per_row, "row") and near(per_matrix, "row"):
        raise NotYet("twice the same: was the second model rounded from the first? Load it anew before each rounding")
    if near(per_row, "all"):
        raise NotYet(
            "the vocabulary head was rounded too, and with it the embeddings, which are the same tensor; only "
            "the Linear modules inside model.distilbert.transformer are asked for"
        )
    if near(per_row, "column"):
        raise NotYet(
            "one scale per column, which is per input; a row of weight (outputs, inputs) makes an output: dim=1"
        )
    if close(per_row, 100 * errors["row"], relative=0.03):
        raise NotYet("right in percent; `relative_error` gives fractions, so pass them on as they are")
    if near(per_row, "row"):
        raise NotYet("the error per row is right; for one scale per matrix, take the maximum over the whole weight")
    raise NotYet(
        "for each batch of `sample(model)`: the logits of the rounded model and of the exact one, all "
        "of them in one array each, then `relative_error(rounded, exact)`"
    )
