"""The stopwatch: models timed in turns, pair by pair (notebook 07)."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from ..machine.progress import Progress
from ..settings import setting
from .formats import Batch, Runner

PARTS = ("tokenization", "collation", "forward")
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class BenchmarkConfig:
    """The settings of the timing. The paper states rows, batch size 1 and the processor; the others are unknown."""

    rows: int = setting(1500, "pairs in the pass; STS-B dev has 1,500")
    rounds: int = setting(10, "parts the pass is dealt out in; each gives one ratio")
    warmup: int = setting(5, "pairs that each model answers before the clock starts")
    threads: int = setting(0, "threads of PyTorch and ONNX Runtime (0: one for each core)")
    max_length: int = setting(128, "tokens of a pair; longer ones are cut")
    pad: bool = setting(False, "fill every pair up to max_length")
    attention: str = setting("sdpa", "PyTorch's attention", choices=["sdpa", "eager"])
    tokenization: bool = setting(True, "count tokenization in the end-to-end time")
    collation: bool = setting(True, "count making tensors in the end-to-end time")
    format_rows: int = setting(100, "pairs for comparing the formats (0: leave that out)")
    sweep_rounds: int = setting(5, "rounds of the sweeps over length, batch size and threads (0: none)")
    memory: bool = setting(False, "measure each format's memory too, in a process of its own")
    seed: int = setting(0, "draws rows and random weights")

    def __post_init__(self) -> None:
        bounds = dict(rows=1, rounds=1, warmup=0, threads=0, max_length=8, format_rows=0, sweep_rounds=0)
        for name, least in bounds.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} or more")
        if self.threads > (cores := os.cpu_count() or 1):
            raise ValueError(f"threads is {self.threads:,}, but this computer has {cores} cores")
        if self.rounds > (pairs := min(self.rows, self.format_rows or self.rows)):
            raise ValueError(
                f"{pairs} pairs cannot be dealt out in {self.rounds} rounds; use fewer rounds or more rows"
            )

    @property
    def end_to_end(self) -> tuple[str, ...]:
        """The parts of which the end-to-end time is the sum."""
        return tuple(part for part in PARTS if part == "forward" or getattr(self, part))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Run PyTorch on this many threads (0: one per core) in the `with` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tokenize(tokenizer: PreTrainedTokenizerBase, pair: tuple[str, str], config: BenchmarkConfig) -> dict[str, Any]:
    """The ids of a pair of texts; in a pair that is too long, the longer text is cut first."""
    return tokenizer(
        *pair,
        truncation="longest_first",
        max_length=config.max_length,
        return_token_type_ids=True,
        padding="max_length" if config.pad else False,
    )


def collate(encoded: Mapping[str, list[int]]) -> Batch:
    """One encoded pair as a batch of tensors (1, seq)."""
    return {name: torch.tensor([encoded[name]]) for name in ("input_ids", "attention_mask", "token_type_ids")}


class Clock:
    """A clock of the seconds since its last reading: wall time, and CPU time of all threads."""

    def __init__(self) -> None:
        self.read = self._now()

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    def lap(self) -> np.ndarray:
        """The seconds since the last reading, or since the start: wall time and CPU time, (2,)."""
        before, self.read = self.read, self._now()
        return self.read - before


def time_pass(
    runners: Sequence[Runner],
    texts: Pairs,
    tokenizer: PreTrainedTokenizerBase,
    config: BenchmarkConfig,
    what: str = "pass",
) -> pd.DataFrame:
    """The seconds per pair of every runner, which answer all pairs one at a time and in turns.

    There is a row for each model, format, round and part (of `PARTS`), with columns pairs, wall and cpu.
    """
    measured = []
    for runner in runners:
        for pair in texts[: config.warmup]:
            runner.answer(collate(tokenize(tokenizer, pair, config)))
    with Progress(config.rounds, what) as progress:
        for number in range(config.rounds):
            dealt = texts[number :: config.rounds]
            for runner in runners[:: 1 if number % 2 == 0 else -1]:
                seconds = time_answers(runner, dealt, tokenizer, config) / len(dealt)
                measured += [
                    (runner.model, runner.format, number, part, len(dealt), wall, cpu)
                    for part, (wall, cpu) in zip(PARTS, seconds, strict=True)
                ]
            progress.step(pairs=f"{min(len(texts), (number + 1) * len(dealt)):,}")
    return pd.DataFrame(measured, columns=["model", "format", "round", "part", "pairs", "wall", "cpu"])


def time_answers(
    runner: Runner, texts: Pairs, tokenizer: PreTrainedTokenizerBase, config: BenchmarkConfig
) -> np.ndarray:
    """The wall and CPU seconds for these pairs, (parts, 2)."""
    seconds, clock = np.zeros((len(PARTS), 2)), Clock()
    for pair in texts:
        encoded = tokenize(tokenizer, pair, config)
        seconds[0] += clock.lap()
        batch = collate(encoded)
        seconds[1] += clock.lap()
        runner.answer(batch)
        seconds[2] += clock.lap()
    return seconds


def quartiles(values: Iterable[float]) -> list[float]:
    """The lower quartile, the median and the upper quartile."""
    return [float(value) for value in np.quantile(list(values), (0.25, 0.5, 0.75))]


def per_round(
    timings: pd.DataFrame, model: str, format: str = "float32", parts: Sequence[str] = ("forward",), clock: str = "wall"
) -> np.ndarray:
    """The seconds per pair of one runner, summed over `parts`, for each round (rounds,)."""
    chosen = timings[(timings["model"] == model) & (timings["format"] == format) & timings["part"].isin(parts)]
    return chosen.groupby("round")[clock].sum().to_numpy()
