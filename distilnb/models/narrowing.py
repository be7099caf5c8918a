"""Students narrower than their teacher: which columns, heads and feed-forward units are kept.

The largest by norm are kept. Of the width, these are the columns with the largest word embeddings, the same ones in
all layers, because every layer adds to them. Of each layer, they are the heads and units with the largest weights. The
result is no copy of the teacher, only nearer to it than random weights. `Family.parts` says which axis of a weight is
which.
"""

import copy
import math
import re
from collections import defaultdict

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from . import families
from .arithmetic import GROUPS, letters


def narrow_config(config: PreTrainedConfig, width: int | None, heads: int | None) -> PreTrainedConfig:
    """`config` at another width, with the feed-forward network narrowed in proportion.

    Without `heads`, the size of each head is kept, and without `width` too. Raises ValueError where they do not fit.
    """
    row, before, most = families.of(config), config.hidden_size, config.num_attention_heads
    size = before // most
    width = width or (heads or most) * size
    heads = heads or max(1, width // size)
    if not 0 < width <= before or width % heads or width // heads > size or heads > most:
        raise ValueError(
            f"a width of {width} with {heads} heads does not fit a teacher of width {before} with {most}: width must "
            f"be a multiple of heads, and neither they nor their size ({size}) may grow; try --width {before // 2} "
            f"--heads {max(1, most // 2)}"
        )
    if row.rotary and width // heads % 2:
        raise ValueError(f"{row.name} turns pairs of a head's rows: {width // heads} a head is odd; choose other heads")
    embedding = getattr(config, "embedding_size", before)
    if embedding == width != before:  # it would no longer be projected to the width
        raise ValueError(f"a width of {width} is that of the teacher's embeddings; choose a neighbouring one")
    narrow = copy.deepcopy(config)
    narrow.hidden_size, narrow.num_attention_heads = width, heads
    name = next(n for n in ("hidden_dim", "n_inner", "intermediate_size") if hasattr(config, n))
    units = getattr(config, name)
    setattr(narrow, name, units and max(1, units * width // before))
    for name in ("embedding_size", "pooler_hidden_size"):
        if getattr(config, name, None) == before:
            setattr(narrow, name, width)
    if hasattr(config, "attention_head_size"):
        narrow.attention_head_size = width // heads
    return narrow


def largest(norms: Tensor, count: int) -> Tensor:
    """The indices of the `count` largest entries, in ascending order."""
    return norms.topk(count).indices.sort().values


def narrow_tensors(tensors: dict[str, Tensor], full: PreTrainedConfig, student: PreTrainedModel) -> dict[str, Tensor]:
    """The tensors of a full-width student, whose configuration is `full`, cut down to the shapes of `student`."""
    row, narrow = families.of(full), student.config
    columns, of_layer = _columns(tensors, narrow.hidden_size), re.compile(rf"{re.escape(row.layers)}\.\d+\.")
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)  # by prefix, which is "" outside the layers
    for name, tensor in tensors.items():
        prefix = match.group() if (match := of_layer.match(name)) else ""
        layers[prefix][name.removeprefix(prefix)] = tensor
    outside, norms = layers.pop(""), [_norms(layer, full) for layer in layers.values()]
    heads = torch.stack([layer["q"].sum(1) * layer["v"].sum(1) for layer in norms])
    if row.head_tables:  # one for all layers, so that all must keep the same heads
        heads = heads.sum(0).expand_as(heads)
    made, shapes = {}, {name: tensor.shape for name, tensor in student.state_dict().items()}
    for name, tensor in outside.items():
        index = largest(heads[0], narrow.num_attention_heads) if name in row.head_tables else columns
        for axis in range(tensor.ndim):
            tensor = tensor.index_select(axis, index) if tensor.shape[axis] != shapes[name][axis] else tensor
        made[name] = tensor
    for (prefix, layer), strengths, by_head in zip(layers.items(), norms, heads, strict=True):
        kept = _kept(strengths, largest(by_head, narrow.num_attention_heads), full, narrow) | {"w": columns}
        made |= {prefix + name: _narrow(name, tensor, kept, full, narrow) for name, tensor in layer.items()}
    return made


def _columns(tensors: dict[str, Tensor], width: int) -> Tensor:
    """The columns of the width that are kept: those with the largest word embeddings, as the layers read them."""
    projections, words = (
        [tensor for name, tensor in tensors.items() if re.search(GROUPS[group], name) and tensor.ndim == 2]
        for group in ("embedding projection", "word embeddings")
    )
    return largest(projections[0].norm(dim=1) if projections else words[0].norm(dim=0), width)


def axes_of(name: str, tensor: Tensor, row: families.Family) -> list[str]:
    """The letters of `Family.parts` for each axis of a layer's tensor."""
    inputs, outputs = row.parts.get(name.rpartition(".")[0], "w->w").split("->")
    return [outputs] if tensor.ndim == 1 else [inputs, outputs] if row.transposed else [outputs, inputs]


def _norms(layer: dict[str, Tensor], full: PreTrainedConfig) -> dict[str, Tensor]:
    """By letter, the product of the norms that each row or column has in all matrices of a layer.

    Those of queries and keys, an upper bound of a row's share in the scores, are one product: (heads, rows), as of "v".
    """
    norms: dict[str, Tensor] = {}
    for name, tensor in layer.items():
        for axis, blocks in enumerate(axes_of(name, tensor, families.of(full)) if tensor.ndim == 2 else ()):
            for letter, norm in zip(blocks, tensor.norm(dim=1 - axis).chunk(len(blocks)), strict=True):
                norms[letter] = norms[letter] * norm if letter in norms else norm
    shape = (full.num_attention_heads, -1)
    return {"q": (norms["q"] * norms["k"]).view(shape), "v": norms["v"].view(shape), "f": norms["f"]}


def _kept(
    norms: dict[str, Tensor], heads: Tensor, full: PreTrainedConfig, narrow: PreTrainedConfig
) -> dict[str, Tensor]:
    """The indices of a layer that are kept, by letter: rows of the chosen `heads`, and feed-forward units."""
    before, size = (config.hidden_size // config.num_attention_heads for config in (full, narrow))
    if families.of(full).rotary:  # evenly spaced pairs, because the angles of a smaller head are so
        pairs = torch.arange(size // 2) * before // size
        scored = torch.cat([torch.cat([pairs, pairs + before // 2]) + head * before for head in heads.tolist()])
    else:
        scored = _rows(norms["q"], heads, size)
    passed = _rows(norms["v"], heads, size)
    return {"q": scored, "k": scored, "v": passed, "f": largest(norms["f"], letters(narrow)["f"])}


def _rows(norms: Tensor, heads: Tensor, size: int) -> Tensor:
    """The largest `size` rows of each of the `heads`, as indices of all rows."""
    return torch.cat([largest(norms[head], size) + head * norms.shape[1] for head in heads.tolist()])


def _narrow(
    name: str, tensor: Tensor, kept: dict[str, Tensor], full: PreTrainedConfig, narrow: PreTrainedConfig
) -> Tensor:
    """A layer's tensor with only the indices that are `kept`; queries make up for the new size of their head."""
    shrunk = narrow.hidden_size * full.num_attention_heads / (narrow.num_attention_heads * full.hidden_size)
    for axis, blocks in enumerate(axes_of(name, tensor, families.of(full))):
        whole = zip(blocks, tensor.chunk(len(blocks), axis), strict=True)
        parts = [part.index_select(axis, kept[letter]) for letter, part in whole]
        if "q" in blocks and getattr(full, "scale_attn_weights", True):  # scores are divided by the root of the size
            parts[blocks.index("q")] *= math.sqrt(shrunk)
        tensor = torch.cat(parts, axis)
    return tensor
