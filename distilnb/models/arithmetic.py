"""Parameters and operations of a model by formula, from its configuration alone (notebooks 00, 01, 07 and 10).

No training reaches a GPU's rated peak. UTILISATION is the share that training a BERT of base size usually reaches;
the hours below are estimates under that assumption, not measurements.
"""

import ast
import math
import operator
import re
from typing import NamedTuple

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from . import families

FORMULAS = {group: formula for group, formula in families.BERT_COUNTS.items() if group != "decoder"}  # tied, in BERT
GROUPS = {  # the group of a parameter by its name in a model: the first pattern that matches
    "word embeddings": r"word_embeddings|tok_embeddings|\bwte\.",
    "position embeddings": r"position_embeddings|\bwpe\.",
    "token-type embeddings": r"token_type_embeddings",
    "embedding LayerNorm": r"embeddings\.(LayerNorm|norm)",
    "embedding projection": r"embeddings_project|embed_proj",
    "relative positions": r"relative_attention_bias|rel_embeddings|encoder\.LayerNorm",
    "convolution": r"encoder\.conv\.",
    "layer LayerNorms": r"\.\d+\..*(LayerNorm|layer_norm|_norm\.|ln_[12])",
    "attention": r"\.\d+\.(attention|attn)\.",
    "feed-forward": r"\.\d+\.(intermediate|output|ffn|mlp)\.",
    "final LayerNorm": r"final_norm|ln_f",
    "pooler": r"pooler",
    "MLM head": r"^(cls|vocab_\w+|lm_head|lm_predictions|generator_\w+|head|decoder)\.",
    "task head": r"^(pre_classifier|classifier|qa_outputs|score)\.",
}


def count_parameters(model: torch.nn.Module) -> int:
    """The number of a model's parameters; tied ones are counted once."""
    return sum(p.numel() for p in model.parameters())


def letters(config: PreTrainedConfig) -> dict[str, int]:
    """The values of the letters in the formulas of `families`, read from a configuration."""
    h, known = config.hidden_size, config.to_dict()
    values = {
        "v": config.vocab_size,
        "h": h,
        "e": known.get("embedding_size") or h,
        "f": known.get("intermediate_size") or known.get("hidden_dim") or known.get("n_inner") or 4 * h,
        "p": config.max_position_embeddings,
        "t": known.get("type_vocab_size") or 0,
        "L": config.num_hidden_layers,
        "a": config.num_attention_heads,
        "u": int(not config.tie_word_embeddings),
    }
    flags = ("norm_bias", "attention_bias", "mlp_bias", "decoder_bias", "classifier_bias")
    values |= {name: int(known.get(name) or 0) for name in flags}
    if config.model_type == "mpnet":
        values["buckets"] = config.relative_attention_num_buckets
    return values | (_deberta_letters(known) if config.model_type == "deberta-v2" else {})


def _deberta_letters(known: dict) -> dict[str, int]:
    """The letters that only DeBERTa's groups need: rows of relative positions, and what each layer does with them."""
    relative, longest = bool(known["relative_attention"]), known["max_relative_positions"]
    longest = longest if longest > 0 else known["max_position_embeddings"]
    buckets = known.get("position_buckets", -1)
    return {
        "absolute": int(known["position_biased_input"]),
        "buckets": relative * 2 * (buckets if buckets > 0 else longest),
        "normed": int("layer_norm" in known.get("norm_rel_ebd", "none")),
        "kernel": known.get("conv_kernel_size", 0),
        "apart": len(known["pos_att_type"] if relative and not known.get("share_att_key") else ()),
    }


def parameter_groups(config: PreTrainedConfig, head: bool | str = True) -> dict[str, int]:
    """Parameters per group by arithmetic, from the configuration alone; their sum is the model's exact count.

    `head=True` counts a language model, which has no pooler; `head=False` counts what `AutoModel` builds, with a
    pooler in BERT and some others; `head="qa"` counts an encoder with two outputs per token and no pooler. A decoder
    tied to the word embeddings adds only its bias.
    """
    missing = {True: ("pooler", "task head"), False: ("MLM head", "decoder", "task head")}
    missing["qa"] = ("pooler", "MLM head", "decoder")
    names = letters(config)
    groups = {
        group: int(_value(ast.parse(formula, mode="eval").body, names))
        for group, formula in families.of(config).counts.items()
        if group not in missing[head]
    }
    return {group: count for group, count in groups.items() if count}


OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Pow: operator.pow}
OPERATIONS |= {ast.FloorDiv: operator.floordiv, ast.NotEq: operator.ne, ast.Gt: operator.gt}


def _value(node: ast.expr, names: dict[str, int]) -> float:
    """The value of a formula made of letters, numbers and OPERATIONS only."""
    if isinstance(node, ast.BinOp):
        return OPERATIONS[type(node.op)](_value(node.left, names), _value(node.right, names))
    if isinstance(node, ast.Compare):  # 1 where it holds
        return OPERATIONS[type(node.ops[0])](_value(node.left, names), _value(node.comparators[0], names))
    return names[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)


def count_groups(model: torch.nn.Module) -> dict[str, int]:
    """Parameters per group by counting, tied ones once; ValueError for a parameter of no known group."""
    groups = dict.fromkeys(GROUPS, 0)
    # some families name the word embeddings after the decoder that is tied to them
    words = model.get_input_embeddings().weight if isinstance(model, PreTrainedModel) else None
    for name, parameter in model.named_parameters():
        name = "word_embeddings" if parameter is words else name
        group = next((group for group, pattern in GROUPS.items() if re.search(pattern, name)), None)
        if group is None:
            raise ValueError(f"parameter {name} belongs to no group that is known")
        groups[group] += parameter.numel()
    return {name: count for name, count in groups.items() if count}


UTILISATION = 0.3


class Gpu(NamedTuple):
    """A GPU by its data sheet: dense half-precision operations per second, and watts."""

    peak: float
    watts: float


GPUS = {"T4": Gpu(65e12, 70), "L4": Gpu(121e12, 72), "A100": Gpu(312e12, 400)}  # NVIDIA's data sheets, no sparsity


def encoder_flops(config: PreTrainedConfig, length: float) -> float:
    """Additions and multiplications of a forward pass without a head, for one token in a row of `length` tokens.

    Each multiplied weight counts two operations; the comparisons of attention are added, in a local layer only those
    within its window.
    """
    h, window = config.hidden_size, getattr(config, "local_attention", math.inf)
    names = letters(config)
    matrices = {True: 3, False: 2}[config.model_type == "modernbert"]  # its feed-forward network has a gate
    kinds = getattr(config, "layer_types", None) or [""] * config.num_hidden_layers
    seen = sum(min(length, window) if kind == "sliding_attention" else length for kind in kinds)
    return names["L"] * 2 * (4 * h * h + matrices * h * names["f"]) + 4 * seen * h


def head_flops(config: PreTrainedConfig) -> float:
    """Additions and multiplications of the vocabulary head for one token whose logits are computed."""
    names = letters(config)
    dense = names["h"] if families.of(config).head else 0
    return 2 * names["e"] * (dense + names["v"])


def distillation_flops(
    student: PreTrainedConfig, teacher: PreTrainedConfig | None, tokens: float, length: int, head_share: float = 1.0
) -> float:
    """Operations of pre-training on `tokens` tokens: teacher forward (if any), student forward and backward.

    Forward and backward together cost three forward passes. `head_share` is the share of tokens whose logits are
    computed: 1 with L_ce, else the share of masked tokens.
    """
    once = encoder_flops(student, length) + head_share * head_flops(student)
    above = encoder_flops(teacher, length) + head_share * head_flops(teacher) if teacher else 0.0
    return tokens * (3 * once + above)


def finetuning_flops(config: PreTrainedConfig, rows: int, length: float, epochs: float) -> float:
    """Operations of fine-tuning on `rows` rows of `length` tokens on average; heads and evaluation are negligible."""
    return 3 * epochs * rows * length * encoder_flops(config, length)


def hours(flops: float, gpu: str) -> float:
    """The hours that `flops` operations take on a GPU of `GPUS`, at UTILISATION of its peak."""
    return flops / (UTILISATION * GPUS[gpu].peak) / 3600
