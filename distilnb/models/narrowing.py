"""Students narrower than their teacher: which columns, heads and feed-forward units are kept.

The largest by norm are kept. Of the width, these are the columns with the largest word embeddings, the same ones in
all layers, because every layer adds to them. Of each layer, they are the heads and units with the largest weights. The
result is no copy of the teacher, only nearer to it than random weights.
"""

import copy
import math
import re

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from . import families
from .arithmetic import letters


def narrow_config(config: PreTrainedConfig, width: int | None, heads: int | None) -> PreTrainedConfig:
    """`config` at another width, with the feed-forward network narrowed in proportion.

    Without `heads`, the size of each head is kept; without `width`, the width. Raises ValueError where they do not fit.
    """
    before, size = config.hidden_size, config.hidden_size // config.num_attention_heads
    width = width or before
    heads = heads or max(1, width // size)
    if not 0 < width <= before or width % heads or width // heads > size or heads > config.num_attention_heads:
        raise ValueError(
            f"a width of {width} with {heads} heads does not fit a teacher of width {before} with "
            f"{config.num_attention_heads}: width must be a multiple of heads, and neither they nor their size "
            f"({size}) may grow; try --width {before // 2} --heads {max(1, config.num_attention_heads // 2)}"
        )
    narrow = copy.deepcopy(config)
    narrow.hidden_size, narrow.num_attention_heads = width, heads
    name = next(n for n in ("hidden_dim", "n_inner", "intermediate_size") if hasattr(config, n))
    units = getattr(config, name)
    setattr(narrow, name, units and max(1, units * width // before))
    if config.model_type == "electra":  # ELECTRA projects its embeddings unless they are as wide as its layers
        if config.embedding_size == width != before:
            raise ValueError(f"a width of {width} is that of this ELECTRA's embeddings; choose a neighbouring one")
        narrow.embedding_size = width if config.embedding_size == before else config.embedding_size
    return narrow


def largest(norms: Tensor, count: int) -> Tensor:
    """The indices of the `count` largest entries, in ascending order."""
    return norms.topk(count).indices.sort().values


def narrow_tensors(tensors: dict[str, Tensor], full: PreTrainedConfig, narrow: PreTrainedConfig) -> dict[str, Tensor]:
    """The tensors of a full-width student, cut down to the configuration `narrow`; ValueError for a family without
    `parts`."""
    family = families.of(full)
    if family.parts is None:
        raise ValueError(f"{family.name} cannot start narrower from its teacher's weights; use --init random")
    words = next(tensor for name, tensor in tensors.items() if name.endswith("word_embeddings.weight"))
    if words.shape[1] != full.hidden_size:  # ELECTRA's smaller embeddings are projected, so they stay
        words = tensors["electra.embeddings_project.weight"].T
    columns = largest(words.norm(dim=0), narrow.hidden_size)
    made, of_layer = {}, re.compile(rf"^{re.escape(family.layers)}\.\d+\.")
    for name, tensor in tensors.items():
        if not of_layer.match(name):
            only_last = "embeddings." in name or name.startswith(f"{family.decoder}.")
            made[name] = _cut(tensor, columns, full.hidden_size, only_last)
    for i in range(full.num_hidden_layers):
        prefix = f"{family.layers}.{i}."
        layer = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        made |= {prefix + name: t for name, t in _narrow_layer(layer, family.parts, full, narrow, columns).items()}
    return made


def _cut(tensor: Tensor, columns: Tensor, width: int, only_last: bool = False) -> Tensor:
    """`tensor` with only `columns` kept on each axis of length `width` (with `only_last`, on the last axis alone)."""
    for axis in range(tensor.ndim):
        if tensor.shape[axis] == width and (not only_last or axis == tensor.ndim - 1):
            tensor = tensor.index_select(axis, columns)
    return tensor.contiguous()


def _narrow_layer(
    layer: dict[str, Tensor], parts: families.Parts, full: PreTrainedConfig, narrow: PreTrainedConfig, columns: Tensor
) -> dict[str, Tensor]:
    """The tensors of one narrowed layer: heads and units chosen by norm, the rest cut to the columns of the width."""
    heads, size = narrow.num_attention_heads, narrow.hidden_size // narrow.num_attention_heads
    shape = (full.num_attention_heads, -1)
    query, key, value, out = (layer[f"{name}.weight"] for name in (parts.query, parts.key, parts.value, parts.out))
    matching = query.norm(dim=1).mul(key.norm(dim=1)).view(shape)  # an upper bound of a row's share in the scores
    passing = value.norm(dim=1).mul(out.norm(dim=0)).view(shape)
    best = largest(matching.sum(1) * passing.sum(1), heads)

    def rows(norms: Tensor) -> Tensor:
        return torch.cat([largest(norms[head], size) + head * norms.shape[1] for head in best.tolist()])

    scored, passed = rows(matching), rows(passing)
    up, down = layer[f"{parts.up}.weight"], layer[f"{parts.down}.weight"]
    units = largest(up.norm(dim=1) * down.norm(dim=0), letters(narrow)["f"])
    outputs = {parts.query: scored, parts.key: scored, parts.value: passed, parts.up: units}
    inputs = {parts.out: passed, parts.down: units}
    made = {}
    for name, tensor in layer.items():
        module = name.rpartition(".")[0]
        tensor = tensor.index_select(0, outputs.get(module, columns))
        made[name] = tensor.index_select(1, inputs.get(module, columns)) if tensor.ndim == 2 else tensor
    for kind in ("weight", "bias"):  # because scores are divided by the root of the head's size, which has changed
        made[f"{parts.query}.{kind}"] *= math.sqrt(size * full.num_attention_heads / full.hidden_size)
    return made
