"""The student: BERT with half the layers, started from its teacher (paper section 3, "Student initialization").

A student here is an ordinary `transformers.DistilBertForMaskedLM`; what is ours is the map from
teacher tensors to student tensors, kept as a table so that it can be read, checked and drawn.
"""

from collections.abc import Iterator, Sequence

import torch
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

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


def student_config(teacher: BertConfig, layers: int = 6) -> DistilBertConfig:
    """The teacher's architecture with `layers` layers, no token-type embeddings and no pooler (section 3)."""
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
        sinusoidal_pos_embds=False,  # the released models learn their positions
    )


def parameter_sources(layers: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Pairs (student parameter, teacher parameter) for a student made of these teacher layers."""
    pairs = dict(OUTER)
    for s, t in enumerate(layers):
        pairs |= {
            f"distilbert.transformer.layer.{s}.{own}": f"bert.encoder.layer.{t}.{theirs}"
            for own, theirs in LAYER.items()
        }
    for own, theirs in pairs.items():
        whole = own.endswith(".weight")
        yield from [(own, theirs)] if whole else [(f"{own}.{kind}", f"{theirs}.{kind}") for kind in ("weight", "bias")]


def expected_tensors(
    teacher: BertForMaskedLM, layers: Sequence[int], token_types: str = "drop"
) -> dict[str, torch.Tensor]:
    """What each student tensor must equal, by name; `token_types="fold"` adds type 0 to every position.

    A single-segment input always carries token type 0, so folding loses nothing for it; the paper and the
    original code drop the type embeddings altogether.
    """
    if token_types not in ("drop", "fold"):
        raise ValueError(f"token_types is '{token_types}'; use 'drop' (the paper) or 'fold'")
    source = teacher.state_dict()
    expected = {own: source[theirs] for own, theirs in parameter_sources(layers)}
    if token_types == "fold":
        name = "distilbert.embeddings.position_embeddings.weight"
        expected[name] = expected[name] + source["bert.embeddings.token_type_embeddings.weight"][0]
    return expected


def build_student(
    teacher: BertForMaskedLM,
    layers: str | Sequence[int] = "original",
    n_layers: int | None = None,
    init: str = "teacher",
    token_types: str = "drop",
    seed: int = 0,
) -> DistilBertForMaskedLM:
    """A student of `teacher`: a real DistilBertForMaskedLM with tied input and output embeddings.

    `n_layers` is half the teacher's depth unless given, or the length of explicit `layers`. `init="random"`
    leaves the weights as the configuration initializes them (the ablation's last row), drawn from `seed`.
    Raises ValueError for a choice that does not fit, before any weight is copied.
    """
    depth = teacher.config.num_hidden_layers
    if n_layers is None:
        n_layers = max(depth // 2, 1) if isinstance(layers, str) else len(layers)
    chosen = choose_layers(layers, depth, n_layers)
    if init not in ("teacher", "random"):
        raise ValueError(f"init is '{init}'; use 'teacher' or 'random'")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = DistilBertForMaskedLM(student_config(teacher.config, n_layers))
    if init == "teacher":
        student.load_state_dict(expected_tensors(teacher, chosen, token_types))
        student.tie_weights()
    made = {"layers": list(chosen), "init": init, "token_types": token_types, "seed": seed}
    student.config.initialized_from = made  # stays with the model, and tells its run from that of another student
    return student


def check_student(
    student: DistilBertForMaskedLM, teacher: BertForMaskedLM, layers: Sequence[int], token_types: str = "drop"
) -> int:
    """Compare every tensor of a fresh student with the teacher tensor it came from; the number compared.

    Raises ValueError naming the first tensor that differs, is missing, or has no source.
    """
    expected, found = expected_tensors(teacher, layers, token_types), student.state_dict()
    if expected.keys() != found.keys():
        raise ValueError(f"student and map disagree on: {', '.join(sorted(expected.keys() ^ found.keys()))}")
    for name, tensor in found.items():
        if not torch.equal(tensor.cpu(), expected[name].cpu()):
            raise ValueError(f"student tensor {name} differs from its source in the teacher")
    return len(found)
