"""The student: half of its teacher's layers, copied (paper section 3, "Student initialization"; notebooks 01 and 10).

A student is an ordinary model of `transformers`: DistilBertForMaskedLM for a BERT, else of its teacher's own class.
Our part is the map from teacher tensors to student tensors, by name, so that it can be read, checked and drawn.
"""

import copy
import re
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import BertConfig, DistilBertConfig, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from . import families
from .narrowing import narrow_config, narrow_tensors

LAYER_CHOICES = ("original", "every_other", "first", "last")

# student parameter ← teacher parameter; {s} and {t} are layer numbers
OUTER = {
    "distilbert.embeddings.word_embeddings.weight": "bert.embeddings.word_embeddings.weight",
    "distilbert.embeddings.position_embeddings.weight": "bert.embeddings.position_embeddings.weight",
    "distilbert.embeddings.LayerNorm": "bert.embeddings.LayerNorm",
    "vocab_transform": "cls.predictions.transform.dense",
    "vocab_layer_norm": "cls.predictions.transform.LayerNorm",
    "vocab_projector": "cls.predictions.decoder",
}
LAYER = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}


def choose_layers(choice: str | Sequence[int], teacher_layers: int = 12, student_layers: int = 6) -> tuple[int, ...]:
    """Teacher layers that become the student's, in order.

    `original` is the released code's [0, 2, 4, 7, 9, 11] (evenly spaced with both ends, for any depth);
    `every_other` is the paper's sentence taken literally, [0, 2, 4, 6, 8, 10]; `first` and `last` are the
    bottom and the top of the stack. Explicit indices are checked and returned.

    Raises ValueError for an unknown name, an index out of range or the wrong number of layers.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(
            f"a student of {student_layers} layers does not fit a teacher of {teacher_layers}; "
            f"choose 1 to {teacher_layers}"
        )
    if not isinstance(choice, str):
        return _checked(tuple(choice), teacher_layers, student_layers)
    if choice == "original":
        step = (teacher_layers - 1) / max(student_layers - 1, 1)
        return tuple(round(i * step) for i in range(student_layers))
    if choice == "every_other":
        return tuple(i * teacher_layers // student_layers for i in range(student_layers))
    if choice == "first":
        return tuple(range(student_layers))
    if choice == "last":
        return tuple(range(teacher_layers - student_layers, teacher_layers))
    raise ValueError(
        f"unknown layer choice '{choice}'; use one of {', '.join(LAYER_CHOICES)}, or indices such as 0,2,4"
    )


def _checked(layers: tuple[int, ...], teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    outside = [i for i in layers if not 0 <= i < teacher_layers]
    if outside:
        raise ValueError(
            f"teacher layer {outside[0]} does not exist: this teacher has layers 0 to {teacher_layers - 1}"
        )
    if len(layers) != student_layers:
        raise ValueError(f"{len(layers)} layers given for a student of {student_layers}: {list(layers)}")
    return layers


def becomes_distilbert(teacher: PreTrainedConfig) -> bool:
    """Whether a student of this teacher is a DistilBERT: the teacher is a BERT, and has nothing more than one can."""
    return teacher.model_type == "bert" and not _beyond_distilbert(teacher)


def _beyond_distilbert(teacher: BertConfig) -> str:
    """What a BERT has and a DistilBERT cannot have, in words; "" where there is nothing."""
    if getattr(teacher, "is_decoder", False):
        return "attention sees earlier words only (is_decoder)"
    if teacher.layer_norm_eps != families.DISTILBERT_EPSILON:
        return f"LayerNorms add {teacher.layer_norm_eps:g}"
    return ""


def student_config(teacher: PreTrainedConfig, layers: int | Sequence[int] = 6) -> PreTrainedConfig:
    """The configuration of a student with `layers` layers, or with exactly the teacher layers that are listed.

    For a BERT it is a DistilBERT's, without token-type embeddings and pooler (section 3), unless the BERT is a decoder
    or its epsilon differs from DistilBERT's fixed 1e-12; then it is the teacher's own with fewer layers, as elsewhere.
    """
    family, kept = families.of(teacher), range(layers) if isinstance(layers, int) else layers
    if becomes_distilbert(teacher):
        return _distilbert_config(teacher, len(kept))
    config = copy.deepcopy(teacher)
    config.num_hidden_layers = len(kept)
    for name in family.follows:
        setattr(config, name, [getattr(teacher, name)[i] for i in kept])
    return config


def _distilbert_config(teacher: BertConfig, layers: int) -> DistilBertConfig:
    return DistilBertConfig(
        vocab_size=teacher.vocab_size,
        max_position_embeddings=teacher.max_position_embeddings,
        n_layers=layers,
        n_heads=teacher.num_attention_heads,
        dim=teacher.hidden_size,
        hidden_dim=teacher.intermediate_size,
        activation=teacher.hidden_act,
        dropout=teacher.hidden_dropout_prob,
        attention_dropout=teacher.attention_probs_dropout_prob,
        initializer_range=teacher.initializer_range,
        pad_token_id=teacher.pad_token_id,
        tie_word_embeddings=teacher.tie_word_embeddings,
        sinusoidal_pos_embds=False,  # the released models learn their positions
    )


def parameter_sources(layers: Sequence[int]) -> Iterator[tuple[str, str]]:
    """The pairs (student parameter, teacher parameter) of a DistilBERT made of these layers of a BERT."""
    pairs = dict(OUTER)
    for s, t in enumerate(layers):
        pairs |= {
            f"distilbert.transformer.layer.{s}.{own}": f"bert.encoder.layer.{t}.{theirs}"
            for own, theirs in LAYER.items()
        }
    for own, theirs in pairs.items():
        whole = own.endswith(".weight")
        yield from [(own, theirs)] if whole else [(f"{own}.{kind}", f"{theirs}.{kind}") for kind in ("weight", "bias")]


def tensor_sources(teacher: PreTrainedModel, layers: Sequence[int]) -> Iterator[tuple[str, str]]:
    """The pairs (student tensor, teacher tensor) for any family, by their names in `state_dict`."""
    if becomes_distilbert(teacher.config):
        yield from parameter_sources(layers)
        return
    of_layer = re.compile(rf"^{re.escape(families.of(teacher).layers)}\.(\d+)\.(.*)")
    for name in teacher.state_dict():
        if not (match := of_layer.match(name)):
            yield name, name
        yield from [
            (f"{families.of(teacher).layers}.{new}.{match[2]}", name)
            for new, old in enumerate(layers)
            if match and int(match[1]) == old
        ]


def expected_tensors(teacher: PreTrainedModel, layers: Sequence[int], token_types: str = "drop") -> dict[str, Tensor]:
    """The tensors that a fresh student must have, by name; `token_types="fold"` adds type 0 to each position.

    Those of a float32 teacher are its own, not copies, so that building a student takes no more memory than itself.

    Folding loses nothing for a single segment, whose token type is always 0. The paper and the original code drop
    the type embeddings. Students that are no DistilBERT keep them.
    """
    if token_types not in ("drop", "fold"):
        raise ValueError(f"token_types is '{token_types}'; use 'drop' (the paper) or 'fold'")
    source, family = teacher.state_dict(), families.of(teacher)
    expected = {own: source[theirs].float() for own, theirs in tensor_sources(teacher, layers)}
    if token_types == "fold":
        if not becomes_distilbert(teacher.config):
            raise ValueError(f"token_types 'fold' is for a BERT whose student is a DistilBERT, not for {family.name}")
        name = "distilbert.embeddings.position_embeddings.weight"
        expected[name] = expected[name] + source["bert.embeddings.token_type_embeddings.weight"][0].float()
    if family.mend:
        family.mend(teacher.config, layers, expected)
    return expected


def build_student(
    teacher: PreTrainedModel,
    layers: str | Sequence[int] = "original",
    n_layers: int | None = None,
    init: str = "teacher",
    token_types: str = "drop",
    seed: int = 0,
    width: int | None = None,
    heads: int | None = None,
) -> PreTrainedModel:
    """A student of `teacher`; its decoder is tied to its word embeddings if the teacher's is.

    `n_layers` is half the teacher's depth unless given, or the length of explicit `layers`. `init="random"`
    leaves the weights as the configuration initializes them (the ablation's last row), drawn from `seed`.
    `width` and `heads` make the student narrower than its teacher; `narrowing` says what is kept.
    Raises ValueError for a choice that does not fit, before any weight is copied.
    """
    chosen = chosen_layers(teacher.config, layers, n_layers)
    if init not in ("teacher", "random"):
        raise ValueError(f"init is '{init}'; use 'teacher' or 'random'")
    config = full = student_config(teacher.config, chosen)
    if width or heads:
        config = narrow_config(full, width, heads)
    kind = families.of(config).model
    if init == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            student = kind(config)
    else:
        tensors = expected_tensors(teacher, chosen, token_types)
        with no_init_weights():
            student = kind(config)
        if config is not full:
            tensors = narrow_tensors(tensors, full, student)
        student.tie_weights()  # before, so that a tied table is written once
        student.load_state_dict(tensors)
    made = {"layers": list(chosen), "init": init, "token_types": token_types, "seed": seed}
    if config is not full:
        made |= {"width": config.hidden_size, "heads": config.num_attention_heads}
    student.config.initialized_from = made  # kept with the model, because it distinguishes runs of different students
    return student


def half_depth(teacher: PreTrainedConfig) -> int:
    """Half the teacher's number of layers, rounded down, and at least 1."""
    return max(teacher.num_hidden_layers // 2, 1)


def chosen_layers(
    teacher: PreTrainedConfig, layers: str | Sequence[int] = "original", n_layers: int | None = None
) -> tuple[int, ...]:
    """The indices of the teacher's layers that the student gets; ValueError for a choice that its family excludes."""
    depth = teacher.num_hidden_layers
    if n_layers is None:
        n_layers = half_depth(teacher) if isinstance(layers, str) else len(layers)
    chosen, family = choose_layers(layers, depth, n_layers), families.of(teacher)
    if family.check:
        family.check(teacher, chosen)
    if teacher.model_type == "bert" and not becomes_distilbert(teacher):
        warnings.warn(
            f"the teacher's {_beyond_distilbert(teacher)}, which a DistilBERT cannot: the student stays a BERT, with "
            "its token types",
            stacklevel=1,  # one place for all callers, so that it is said once
        )
    return chosen


def check_student(
    student: PreTrainedModel, teacher: PreTrainedModel, layers: Sequence[int], token_types: str = "drop"
) -> int:
    """Compare every tensor of a fresh student with its source in the teacher, and return the number compared.

    Raises ValueError naming the first tensor that differs, is missing, or has no source.
    """
    expected, tensors = expected_tensors(teacher, layers, token_types), student.state_dict()
    if expected.keys() != tensors.keys():
        raise ValueError(f"student and map disagree on: {', '.join(sorted(expected.keys() ^ tensors.keys()))}")
    for name, tensor in tensors.items():
        if not torch.equal(tensor.cpu(), expected[name].cpu()):
            raise ValueError(f"student tensor {name} differs from its source in the teacher")
    return len(tensors)
