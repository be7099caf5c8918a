"""Plausible wrong answers to the exercises of notebook 01."""

import torch

PAIRS = {
    "q_lin": "attention.self.query",
    "k_lin": "attention.self.key",
    "v_lin": "attention.self.value",
    "out_lin": "attention.output.dense",
}
REST = {"ffn.lin1": "intermediate.dense", "ffn.lin2": "output.dense"}


def load(own, theirs, pairs):
    for mine, source in pairs.items():
        own.get_submodule(mine).load_state_dict(theirs.get_submodule(source).state_dict())
    return own


def attention_only(theirs, own):
    return load(own, theirs, {f"attention.{mine}": source for mine, source in PAIRS.items()})


def norms_swapped(theirs, own):
    attention_only(theirs, own)
    return load(
        own, theirs, REST | {"sa_layer_norm": "output.LayerNorm", "output_layer_norm": "attention.output.LayerNorm"}
    )


def the_same_tensors(theirs, own):
    norms = {"sa_layer_norm": "attention.output.LayerNorm", "output_layer_norm": "output.LayerNorm"}
    for mine, source in ({f"attention.{k}": v for k, v in PAIRS.items()} | REST | norms).items():
        own.get_submodule(mine).weight = theirs.get_submodule(source).weight
        own.get_submodule(mine).bias = theirs.get_submodule(source).bias
    return own


def nothing_arrives(theirs, own):
    weight = own.attention.q_lin.weight
    weight = theirs.attention.self.query.weight  # noqa: F841
    return own


def into_the_teacher(theirs, own):
    with torch.no_grad():
        theirs.attention.self.query.weight.copy_(own.attention.q_lin.weight)
    return own


def the_teacher_itself(theirs, own):
    return theirs


def ranked_once(score, depth, keep):
    without = {i: score([x for x in range(depth) if x != i]) for i in range(depth)}
    return sorted(sorted(without, key=without.get)[depth - keep :])


def drops_the_best(score, depth, keep):
    layers = list(range(depth))
    while len(layers) > keep:
        layers.remove(max(layers, key=lambda gone: score([x for x in layers if x != gone])))
    return layers


def in_order_of_worth(score, depth, keep):
    layers = list(range(depth))
    while len(layers) > keep:
        layers.remove(min(layers, key=lambda gone: score([x for x in layers if x != gone])))
    return layers[::-1]


WRONG = {
    "01.1": [33_181_440, 66_362_880, 45_721_914, 45_100_000, 45.1],
    "01.2": [6, 8, 3, 5, -1],
    "01.3": [
        lambda depth, kept: range(0, depth, depth // kept),
        lambda depth, kept: [i * (depth - 1) // (kept - 1) for i in range(kept)],
        lambda depth, kept: [round(i * depth / (kept - 1)) for i in range(kept)],
        lambda depth, kept: range(kept),
        lambda depth, kept: range(0, depth, 2),
    ],
    "01.4": [attention_only, norms_swapped, the_same_tensors, nothing_arrives, into_the_teacher, the_teacher_itself],
    "01.5": [ranked_once, drops_the_best, in_order_of_worth, lambda score, depth, keep: range(keep - 1)],
}
