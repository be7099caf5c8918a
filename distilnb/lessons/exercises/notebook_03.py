"""Checks of notebook 03: budgets, blocks and masks as pure functions, and a run with one term less."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ... import scales
from ...evidence.comparing import differences
from ...text.masking import mask_weights
from . import NotYet, ask, close, exercise, mistake


@exercise("03.1", 2)
def updates(count: float) -> str:
    """The number of updates at the paper's scale."""
    paper, toy = scales.SCALES["paper"].pretraining, scales.SCALES["toy"].pretraining
    tokens, batch, length = (paper[key] for key in ("tokens", "batch_size", "seq_length"))
    right = tokens / (batch * length)
    if close(count, right, 0.002):
        fewer = toy["tokens"] / (toy["batch_size"] * toy["seq_length"])
        return (
            f"about {right:,.0f} updates of two million tokens each. The toy scale makes about {fewer:.0f}, of "
            "two thousand tokens: a large batch buys better gradients, not more of them."
        )
    micro = tokens / (paper["micro_batch_size"] * length)
    hints = {
        tokens / batch: "a batch is counted in sequences, and each sequence has 512 tokens",
        tokens / length: "that many sequences are read; an update takes a whole batch of them",
        micro: "a micro-batch is no update: its gradients are added up until the whole batch has been seen",
        None: f"{tokens:,} tokens, {batch:,} sequences an update, {length} tokens a sequence",
    }
    raise mistake(count, hints, 0.002)


@exercise("03.2", 5)
def as_often(times: float) -> str:
    """The ratio in which a piece that is 1,000 times as common is masked more often, at smoothing 0.7."""
    common, rare = mask_weights(np.array([1000, 1]), [], smoothing=0.7)
    right = 1000 * common / rare
    if close(times, right, 0.02):
        return (
            f"about {right:.1f} times: a single occurrence has {rare / common:.0f} times less of a chance, but "
            "there are 1,000 of them. Smoothing favours rare words, it does not turn the order around."
        )
    hints = {
        1000: "that is exponent 0, where every token has the same chance",
        common / rare: "that is one occurrence against one; the common piece occurs 1,000 times in the text",
        rare / common: "that is how much the chance of one occurrence falls; the common piece occurs 1,000 times",
        1 / right: "turned around: it is the common piece that is still masked more often",
        None: "masks of a piece = its occurrences × the chance of each, and that chance goes with count ** -0.7",
    }
    raise mistake(times, hints, 0.02)


def _cut(stream: list[int], length: int) -> list[list[int]]:
    """The whole pieces of this length in a stream, without the rest."""
    return [stream[i : i + length] for i in range(0, len(stream) - length + 1, length)]


@exercise("03.3", 15)
def packed(function: Callable) -> str:
    """function(documents, seq_length, cls, sep) → blocks of exactly seq_length tokens."""
    for documents, length in (
        ([[11, 12, 13], [21, 22, 23, 24, 25, 26, 27], [31]], 6),
        ([list(range(10, 40)), [], [50, 51]], 10),
        ([[7, 8]], 16),
    ):
        given, stream = [list(document) for document in documents], [i for d in documents for i in [*d, 2]]
        right = [[1, *block, 2] for block in _cut(stream, length - 2)]
        blocks = [list(map(int, block)) for block in ask(function, given, length, 1, 2)]
        if given != documents:
            raise NotYet("the documents themselves were changed; build new lists")
        if blocks == right:
            continue
        shown = f"{documents} in blocks of {length} gave {blocks}. "
        if any(len(block) != length for block in blocks):
            raise NotYet(
                f"{shown}Every block has exactly {length} tokens, [CLS] = 1 and [SEP] = 2 included; what does "
                "not fill one at the end is left out"
            )
        if any(block[0] != 1 or block[-1] != 2 for block in blocks):
            raise NotYet(f"{shown}A block begins with [CLS] = 1 and ends with [SEP] = 2")
        if blocks == [[1, *block, 2] for block in _cut(sum(documents, []), length - 2)]:
            raise NotYet(f"{shown}A [SEP] = 2 stands after every document, or nothing tells where one ends")
        if len(blocks) < len(right):
            raise NotYet(
                f"{shown}Tokens were lost: what a document leaves over goes on in the next block, together "
                "with the next document"
            )
        raise NotYet(
            f"{shown}Expected {right}: a [SEP] after each document, then one long stream, cut every {length - 2} tokens"
        )
    return (
        "no padding, and nothing lost but the last incomplete block; the price is that a block may hold the end of "
        "one story and the beginning of another."
    )


def _global_generators() -> tuple[str, str, str]:
    return repr(random.getstate()), repr(np.random.get_state()[1:3]), repr(torch.get_rng_state().tolist())


@exercise("03.4", 25)
def chosen(function: Callable) -> str:
    """function(length, seed, epoch, sample_id) → the positions to hide, about 15 %, as a pure function."""

    def call(*key: int) -> tuple[int, ...]:
        return tuple(sorted(int(i) for i in ask(function, 64, *key)))

    before, one, after = _global_generators(), call(0, 0, 0), _global_generators()
    if call(0, 0, 0) != one:
        raise NotYet(
            "two calls with the same arguments chose different positions: a generator that moves on with "
            "every call is a state, and a run that resumes would have to save it"
        )
    if before != after:
        raise NotYet(
            "the positions are reproducible, but the call moved a global random generator, and whatever else "
            "draws from it changes too; make a generator of your own, np.random.default_rng(...)"
        )
    if one and not (len(set(one)) == len(one) and 0 <= one[0] and one[-1] < 64):
        raise NotYet(f"positions are different numbers from 0 to length - 1; these are {list(one)}")
    keys = [(seed, epoch, sample) for seed in range(3) for epoch in range(3) for sample in range(300)]
    drawn = {key: call(*key) for key in keys}
    for place, name in enumerate(("seed", "epoch", "sample_id")):
        other = tuple(int(i == place) for i in range(3))
        if drawn[other] == one:
            raise NotYet(f"the {name} has no influence: {name} 0 and 1 hide the same positions")
    if len(set(drawn.values())) < 0.99 * len(keys):
        raise NotYet(
            "each argument matters, yet different triples give the same positions: seed + epoch + sample_id "
            "cannot tell (1, 0) from (0, 1). Keep the three apart: default_rng((seed, epoch, sample_id))"
        )
    share = np.mean([len(positions) for positions in drawn.values()]) / 64
    if not 0.13 <= share <= 0.17:
        raise NotYet(f"{share:.1%} of the positions are hidden, where 15 % were asked for")
    often = np.bincount(np.concatenate([np.array(p, dtype=int) for p in drawn.values()]), minlength=64) / len(keys)
    if not (0.5 * share < often).all() or not (often < 1.5 * share).all():
        raise NotYet(
            f"position {int(often.argmax())} is hidden in {often.max():.0%} of the samples and position "
            f"{int(often.argmin())} in {often.min():.0%}; all should have the same chance"
        )
    return "same arguments, same masks; nothing to save, nothing that a worker, a process or a restart could change."


def _record(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not {"config", "scores", "evaluations", "data"} <= value.keys():
        raise NotYet("pass the two records that `pretrain` returned, the one with all three terms first")
    return value


@exercise("03.5", 60)
def without_soft_targets(full: Mapping[str, Any], without: Mapping[str, Any]) -> str:
    """The records of two runs that differ in L_ce alone."""
    full, without = _record(full), _record(without)
    one, other = full["config"], without["config"]
    if not all(one[term] for term in ("ce", "mlm", "cos")):
        raise NotYet("the first record should be the run with all three terms, the second the one without L_ce")
    if other["ce"]:
        raise NotYet(f"the second run still has soft targets: its weight ce is {other['ce']:g}; 0 switches them off")
    if not (other["mlm"] and other["cos"]):
        raise NotYet(
            "more than L_ce was switched off. Without L_cos as well, the run is the undistilled twin; "
            "one term at a time tells what that term does"
        )
    changed = [line for line in differences(one, other) if not line.startswith("ce ")]
    changed += differences(full["data"].get("fingerprint"), without["data"].get("fingerprint"), "text")
    if changed:
        raise NotYet(f"one thing at a time: besides L_ce the runs differ in {'; '.join(changed)}")
    start, again = full["evaluations"]["agreement"][0], without["evaluations"]["agreement"][0]
    if abs(start - again) > 0.005:
        raise NotYet(
            f"the two students did not start alike (before training they agree with the teacher in "
            f"{start:.1%} and {again:.1%} of the hidden words): `pretrain` trains in place, so build it anew"
        )
    return (
        "a fair pair, one term apart: what differs in their `scores` is what soft targets did, or luck. One pair "
        "cannot tell; notebook 08 takes several and looks at the spread."
    )
