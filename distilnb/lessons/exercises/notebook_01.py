"""Checks of notebook 01: counting parameters, choosing layers, copying weights."""

import math
from collections.abc import Callable, Sequence

import torch
from transformers import BertConfig, DistilBertConfig
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.distilbert.modeling_distilbert import TransformerBlock

from ...models.arithmetic import parameter_groups
from ...models.student import LAYER, choose_layers, student_config
from . import NotYet, ask, close, exercise, mistake


def _size(layers: int) -> int:
    """The parameters of a DistilBERT with `layers` layers at BERT-base's width, without a head."""
    return sum(parameter_groups(student_config(BertConfig(), layers), head=False).values())


@exercise("01.1", 2)
def three_layers(parameters: float) -> str:
    """The parameters of a DistilBERT with three layers, without a head."""
    right = _size(3)
    if parameters == right:
        return (
            f"{right:,}: half of the layers went once more, and the model is {1 - right / _size(6):.0%} smaller, "
            "because the dictionary did not move."
        )
    if close(parameters, right, 0.01):
        raise NotYet("nearly: the count is exact, so do not round it")
    with_head = sum(parameter_groups(student_config(BertConfig(), 3)).values())
    bert = sum(parameter_groups(BertConfig(num_hidden_layers=3), head=False).values())
    hints = {
        _size(6) // 2: "half of DistilBERT would halve the embeddings too; only the layers go",
        _size(6): "that is DistilBERT with its six layers; take three of them away",
        with_head: "that is with the head of a masked language model; the question is about the bare encoder",
        bert: "that is a BERT of three layers; a DistilBERT has neither token types nor a pooler",
        None: "embeddings stay, layers go: DistilBERT's 66,362,880 minus three times the parameters of a layer",
    }
    raise mistake(parameters, hints, 0, 0)


@exercise("01.2", 5)
def half_the_size(layers: int) -> str:
    """The most layers that a DistilBERT may have to be at most half of BERT-base."""
    whole = sum(parameter_groups(BertConfig(), head=False).values())
    right = max(n for n in range(13) if _size(n) <= whole / 2)
    if layers == right:
        return (
            f"{right} layers make {_size(right) / whole:.1%} of BERT-base: {12 - right} of 12 have to go before the "
            "model is half as large."
        )
    if layers == 12 - right:
        raise NotYet("that is how many layers have to go; the question is how many may stay")
    if not 0 <= layers <= 12:
        raise NotYet("a student of BERT-base has between 0 and 12 layers, a whole number")
    if layers > right:
        raise NotYet(
            f"with {layers} layers it still has {_size(layers) / whole:.1%} of BERT-base's parameters: the "
            "embeddings stay whole, so more than half of the layers must go"
        )
    raise NotYet(f"{layers} layers make {_size(layers) / whole:.1%}, which is below half; there is room for more")


@exercise("01.3", 10)
def evenly(function: Callable) -> str:
    """`original` for any depth: function(teacher_layers, student_layers) → layers."""
    for depth, kept in ((12, 6), (12, 4), (24, 12), (24, 6), (7, 3), (12, 12), (24, 2)):
        result, right = tuple(int(i) for i in ask(function, depth, kept)), choose_layers("original", depth, kept)
        if result == right:
            continue
        what = f"{kept} of {depth} layers: {list(result)}. "
        if len(result) != kept:
            raise NotYet(f"{what}Their number must be {kept}")
        if result == choose_layers("every_other", depth, kept):
            raise NotYet(
                f"{what}That is the paper's sentence taken literally, and it leaves out the top layer, which "
                "the output head was trained to read: spread them from the first to the last, both included"
            )
        if result == tuple(i * (depth - 1) // (kept - 1) for i in range(kept)):
            raise NotYet(
                f"{what}The ends are right; a layer between two numbers goes to the nearer one, and cutting "
                "off the decimals always takes the lower"
            )
        if max(result) >= depth:
            raise NotYet(f"{what}Layers are counted from 0, so the last one is {depth - 1}")
        raise NotYet(f"{what}Layer i of the student stands at i / {kept - 1} of the way from layer 0 to {depth - 1}")
    return "both ends and equal steps, for any depth: the twelve layers of the lesson are one case of it."


def _blocks() -> tuple[BertLayer, TransformerBlock]:
    """A random teacher layer, LayerNorms included, and a student layer of its shape."""
    small = BertConfig(hidden_size=16, num_attention_heads=2, intermediate_size=24, attn_implementation="eager")
    own = DistilBertConfig(dim=16, n_heads=2, hidden_dim=24, attn_implementation="eager")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        theirs = BertLayer(small)
        for parameter in theirs.parameters():
            parameter.normal_()
        return theirs, TransformerBlock(own)


@exercise("01.4", 20)
def copied(function: Callable) -> str:
    """function(BERT layer, DistilBERT layer) fills the second from the first and returns it."""
    theirs, own = _blocks()
    before = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    made = ask(function, theirs, own)
    if made is theirs or not isinstance(made, TransformerBlock):
        raise NotYet("return the student's layer, filled: the second of the two arguments")
    if any(not torch.equal(before[name], tensor) for name, tensor in theirs.state_dict().items()):
        raise NotYet("the teacher's layer has changed: copy from it into the student's, not the other way round")
    tensors = dict(made.named_parameters())
    pairs = [(f"{a}.{kind}", f"{b}.{kind}") for a, b in LAYER.items() for kind in ("weight", "bias")]
    wrong = [(a, b) for a, b in pairs if not torch.equal(tensors[a], before[b])]
    if len(wrong) == len(pairs):
        raise NotYet(
            "no tensor has arrived: `own.weight = …` on a local name changes nothing; use `.data.copy_` or "
            "`load_state_dict` of each part"
        )
    norms = [name for name, _ in wrong if "layer_norm" in name]
    if (
        norms
        and len(norms) == len(wrong)
        and any(torch.equal(tensors[name], tensor) for name in norms for tensor in before.values())
    ):
        raise NotYet(
            "the two LayerNorms are swapped: the one after attention is `attention.output.LayerNorm` in BERT "
            "and `sa_layer_norm` in DistilBERT"
        )
    if wrong:
        raise NotYet(
            f"{len(wrong)} of {len(pairs)} tensors differ, the first is {wrong[0][0]}, which comes from "
            f"{wrong[0][1]}; weights and biases count separately"
        )
    shared = [name for name, theirs_ in pairs if tensors[name].data_ptr() == theirs.get_parameter(theirs_).data_ptr()]
    if shared:
        raise NotYet(
            f"the values are right, but {shared[0]} is the teacher's own tensor under another name: training "
            "the student would change its teacher. Copy the values instead"
        )
    return f"all {len(pairs)} tensors are where they belong, and they are copies: the student moves, its teacher stays."


def _greedy(score: Callable[[tuple[int, ...]], float], depth: int, keep: int) -> tuple[int, ...]:
    layers = tuple(range(depth))
    while len(layers) > keep:
        layers = min((tuple(x for x in layers if x != gone) for gone in layers), key=score)
    return layers


def _independent(layers: Sequence[int]) -> float:
    """A made-up loss to which each layer contributes independently."""
    return 30.0 - sum([5, 1, 4, 2, 6, 3][i] for i in layers)


def _twins(layers: Sequence[int]) -> float:
    """A made-up loss in which neighbours 0-1, 2-3, … do the same work, so that one of the two is enough."""
    return 10.0 - len({i // 2 for i in layers}) - 0.01 * sum(layers)


@exercise("01.5", 45)
def searched(function: Callable) -> str:
    """function(score, depth, keep) → the layers left after repeatedly dropping the one that is missed least."""
    calls = []
    for score, depth, keep, hint in (
        (_independent, 6, 3, "a loss is better when it is lower: remove the layer without which it stays lowest"),
        (
            _twins,
            12,
            6,
            "layers 2i and 2i + 1 are twins here: the first of them is not missed, the second is. Ask "
            "again after every removal instead of ranking all layers once",
        ),
        (_independent, 6, 6, "when nothing is to be removed, all layers stay"),
    ):
        calls.clear()

        def counted(layers: Sequence[int], score: Callable = score) -> float:
            calls.append(layers)
            return score(tuple(layers))

        result, right = tuple(int(i) for i in ask(function, counted, depth, keep)), _greedy(score, depth, keep)
        if result != right and sorted(result) == list(right):
            raise NotYet(
                f"the right layers in another order, {list(result)}: the student keeps the teacher's order, "
                "from the bottom up"
            )
        if result != right:
            raise NotYet(f"of {depth} layers {keep} were to be kept, these are {list(result)}; {hint}")
        if len(calls) > depth * depth:
            raise NotYet(
                f"right, but with {len(calls)} losses; a step needs one for each layer that is left, "
                f"which makes less than {depth * depth} in all"
            )
    return (
        f"each step asks which layer is missed least: {sum(range(7, 13))} losses for six of twelve, where trying "
        f"every choice would take {math.comb(12, 6)}."
    )
