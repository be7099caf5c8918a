"""Parameters and operations of BERT and DistilBERT by formula (notebooks 01 and 07).

Rated peaks of GPUs are reached by nobody. UTILISATION is the share that training a BERT of base size usually gets;
hours below are an estimate by that assumption, not a measurement.
"""

import re
from typing import NamedTuple

import torch
from transformers import BertConfig, DistilBertConfig

# parameters per group; h width, f feed-forward width, v word pieces, p positions, t token types, L layers
FORMULAS = {
    "word embeddings": "v * h",
    "position embeddings": "p * h",
    "token-type embeddings": "t * h",
    "embedding LayerNorm": "2 * h",
    "attention": "L * 4 * (h**2 + h)",
    "feed-forward": "L * (2 * h * f + f + h)",
    "layer LayerNorms": "L * 4 * h",
    "pooler": "h**2 + h",
    "MLM head": "h**2 + h + 2 * h + v",
    "task head": "2 * h + 2",  # for questions
}
GROUPS = {  # where a model's own names put a parameter: the first pattern that is found
    "word embeddings": r"word_embeddings",
    "position embeddings": r"position_embeddings",
    "token-type embeddings": r"token_type_embeddings",
    "embedding LayerNorm": r"embeddings\.LayerNorm",
    "layer LayerNorms": r"layer\.\d+\..*(LayerNorm|layer_norm)",
    "attention": r"layer\.\d+\.attention\.",
    "feed-forward": r"layer\.\d+\.(intermediate|output|ffn)\.",
    "pooler": r"pooler",
    "MLM head": r"^(cls|vocab_transform|vocab_layer_norm|vocab_projector)\.",
    "task head": r"^(pre_classifier|classifier|qa_outputs)\.",
}


def count_parameters(model: torch.nn.Module) -> int:
    """Number of parameters; tied ones are counted once."""
    return sum(p.numel() for p in model.parameters())


def parameter_groups(config: BertConfig | DistilBertConfig, head: bool | str = True) -> dict[str, int]:
    """Parameters per group by arithmetic, from the configuration alone; the sum is the model's exact count.

    `head=True` counts a masked language model (BERT's has no pooler), `head=False` the bare encoder (BERT's has a
    pooler), `head="qa"` an encoder with two outputs for each token and no pooler. The decoder of a masked language
    model is tied to the word embeddings and adds only its bias.
    """
    bert = isinstance(config, BertConfig)
    h, v = config.hidden_size, config.vocab_size
    ffn = config.intermediate_size if bert else config.hidden_dim
    groups = {
        "word embeddings": v * h,
        "position embeddings": config.max_position_embeddings * h,
        "token-type embeddings": config.type_vocab_size * h if bert else 0,
        "embedding LayerNorm": 2 * h,
        "attention": config.num_hidden_layers * 4 * (h * h + h),
        "feed-forward": config.num_hidden_layers * (2 * h * ffn + ffn + h),
        "layer LayerNorms": config.num_hidden_layers * 4 * h,
        "pooler": h * h + h if bert and not head else 0,
        "MLM head": h * h + h + 2 * h + v if head is True else 0,
        "task head": 2 * h + 2 if head == "qa" else 0,
    }
    return {name: count for name, count in groups.items() if count}


def count_groups(model: torch.nn.Module) -> dict[str, int]:
    """Parameters per group by counting; tied ones once. Raises ValueError for a parameter of no known group."""
    groups = dict.fromkeys(GROUPS, 0)
    for name, parameter in model.named_parameters():
        group = next((group for group, pattern in GROUPS.items() if re.search(pattern, name)), None)
        if group is None:
            raise ValueError(f"parameter {name} belongs to no group of a BERT or DistilBERT")
        groups[group] += parameter.numel()
    return {name: count for name, count in groups.items() if count}


UTILISATION = 0.3


class Gpu(NamedTuple):
    """A GPU by its data sheet: dense half-precision operations in a second, and watts."""

    peak: float
    watts: float


GPUS = {"T4": Gpu(65e12, 70), "L4": Gpu(121e12, 72), "A100": Gpu(312e12, 400)}  # NVIDIA's data sheets, no sparsity


def encoder_flops(config: BertConfig | DistilBertConfig, length: float) -> float:
    """Additions and multiplications for one token of a row of `length` tokens, forward, without a head."""
    ffn = config.intermediate_size if isinstance(config, BertConfig) else config.hidden_dim
    h = config.hidden_size
    return config.num_hidden_layers * (2 * (4 * h * h + 2 * h * ffn) + 4 * length * h)


def head_flops(config: BertConfig | DistilBertConfig) -> float:
    """The same of the masked-language-model head, for one token that it is asked about."""
    return 2 * config.hidden_size * (config.hidden_size + config.vocab_size)


def distillation_flops(
    student: BertConfig | DistilBertConfig,
    teacher: BertConfig | DistilBertConfig | None,
    tokens: float,
    length: int,
    head_share: float = 1.0,
) -> float:
    """Pre-training on so many tokens: the teacher (None: no teacher) forward, the student forth and back (thrice).

    `head_share` is the share of tokens that the vocabulary head covers: 1 for L_ce, the masked ones without it.
    """
    once = encoder_flops(student, length) + head_share * head_flops(student)
    above = encoder_flops(teacher, length) + head_share * head_flops(teacher) if teacher else 0.0
    return tokens * (3 * once + above)


def finetuning_flops(config: BertConfig | DistilBertConfig, rows: int, length: float, epochs: float) -> float:
    """Fine-tuning on so many rows of `length` tokens in the mean; heads and evaluation are too little to count."""
    return 3 * epochs * rows * length * encoder_flops(config, length)


def hours(flops: float, gpu: str) -> float:
    """How long so many operations take on a GPU of `GPUS`, at UTILISATION of its peak."""
    return flops / (UTILISATION * GPUS[gpu].peak) / 3600
