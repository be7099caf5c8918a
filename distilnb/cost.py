"""What a run costs on a machine one does not have: its operations, counted, over what that machine is rated at.

Rated peaks are reached by nobody. UTILISATION is the share that training a BERT of base size usually gets; hours
below are an estimate by that assumption, not a measurement.
"""

from typing import NamedTuple

from transformers import BertConfig, DistilBertConfig

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
