"""The families of models that can be halved, as a table: names of modules, parts of a layer, exceptions (notebook 10).

A student has the class of its teacher with fewer layers, except that the student of a BERT is a DistilBERT. To add a
family, add a row to FAMILIES and a tiny model of it to the tests.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter

from torch import Tensor, nn
from transformers import (
    BertForMaskedLM,
    CamembertForMaskedLM,
    DebertaV2ForMaskedLM,
    DistilBertForMaskedLM,
    ElectraForMaskedLM,
    GPT2LMHeadModel,
    ModernBertForMaskedLM,
    MPNetForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaForMaskedLM,
    XLMRobertaForMaskedLM,
)

DISTILBERT_EPSILON = 1e-12  # of DistilBERT's LayerNorms; no configuration can change it

# parameters per group; v words, h width, e embedding width, f feed-forward width, p positions, t token types, L layers,
# a heads, u 1 where the decoder has a table of its own; `arithmetic.letters` adds further letters for single families
LAYERS = {"attention": "L * 4 * (h**2 + h)", "feed-forward": "L * (2 * h * f + f + h)", "layer LayerNorms": "L * 4 * h"}
BERT_COUNTS = {
    "word embeddings": "v * h",
    "position embeddings": "p * h",
    "token-type embeddings": "t * h",
    "embedding LayerNorm": "2 * h",
    **LAYERS,
    "pooler": "h**2 + h",
    "MLM head": "h**2 + h + 2 * h + v",
    "decoder": "u * v * (h + 1)",  # including a second bias that is never read
    "task head": "2 * h + 2",  # for questions
}


# a layer's linear modules as what goes in and what comes out: w the width, q, k and v the rows of heads that are
# queries, keys and values, f feed-forward units; several letters are blocks of one matrix, one after the other
IN_ATTENTION = {"query": "w->q", "key": "w->k", "value": "w->v"}
FEED_FORWARD = {"intermediate.dense": "w->f", "output.dense": "f->w"}
BERT_PARTS = {f"attention.self.{name}": axes for name, axes in IN_ATTENTION.items()}
BERT_PARTS |= {"attention.output.dense": "v->w"} | FEED_FORWARD
KeptLayers = Sequence[int]


@dataclass(frozen=True)
class Family:
    """One row of the table; module names are those of the class with the language-modelling head."""

    name: str
    model: type[PreTrainedModel]
    layers: str  # the list of layers
    embeddings: tuple[str, ...]  # lookup tables of tokens and positions, which stay float32 even in half precision
    head: tuple[str | Callable[[Tensor], Tensor], ...]  # the modules between the last hidden states and the decoder
    decoder: str = "cls.predictions.decoder"
    bias: str = ""  # of the decoder, where it is not in the decoder's own module
    objective: str = "masked"  # or "causal": the next word
    casts: tuple[str, ...] = ()  # modules whose output is cast in half precision; the embeddings unless given
    follows: tuple[str, ...] = ()  # configuration fields with an entry for each layer
    first_position: bool = False  # positions are counted from the padding id, as in fairseq
    counts: dict[str, str] = field(default_factory=lambda: BERT_COUNTS)
    parts: dict[str, str] = field(default_factory=lambda: BERT_PARTS)  # a layer's linear modules, to make it narrower
    transposed: bool = False  # weights of a layer are stored as (inputs, outputs)
    head_tables: tuple[str, ...] = ()  # with a column for each head, read by all layers
    unpads: bool = False  # its layers know a token's place by its embedding alone, so that `unpadding` may move it
    rotary: bool = False  # positions turn pairs of a head's rows, each by an angle of its own
    check: Callable[[PreTrainedConfig, KeptLayers], None] | None = None  # refuses a choice of layers, or warns
    mend: Callable[[PreTrainedConfig, KeptLayers, dict[str, Tensor]], None] | None = None  # by a layer's place


def _check_modernbert(config: PreTrainedConfig, kept: KeptLayers) -> None:
    """Raise ValueError unless layer 0, which alone has no norm before its attention, becomes layer 0 and no other.

    Warn where the student's pattern of local and global layers is worse than its teacher's.
    """
    if kept[0] != 0 or 0 in kept[1:]:
        raise ValueError(
            f"layers {','.join(map(str, kept))}: ModernBERT's layer 0 alone has no norm before its attention, so it "
            "must be the student's first layer and no other; choose indices that begin with 0"
        )
    kinds = config.layer_types
    teacher, student = (_longest_local([kinds[i] for i in chosen]) for chosen in (range(len(kinds)), kept))
    share = sum(kinds[i] == "full_attention" for i in kept)
    if student > teacher or not share:
        warnings.warn(
            f"{share} of the student's {len(kept)} layers see the whole text, and up to {student} local ones follow "
            f"each other (the teacher's: {teacher}); 'every_other', or indices of both kinds in turn, keep the pattern",
            stacklevel=1,  # one place for all callers, so that it is said once
        )


def _longest_local(kinds: Sequence[str]) -> int:
    """The length of the longest sequence of consecutive local layers."""
    return max((len(list(run)) for kind, run in groupby(kinds) if kind == "sliding_attention"), default=0)


def _mend_gpt2(config: PreTrainedConfig, kept: KeptLayers, tensors: dict[str, Tensor]) -> None:
    """Scale the queries of moved layers, because some GPT-2s divide the scores of layer i by i + 1."""
    for new, old in enumerate(kept) if config.scale_attn_by_inverse_layer_idx else ():
        for name in (f"transformer.h.{new}.attn.c_attn.{kind}" for kind in ("weight", "bias")):
            tensors[name] = tensors[name].clone()  # it is the teacher's
            tensors[name][..., : config.hidden_size] *= (new + 1) / (old + 1)


def _roberta(name: str, model: type[PreTrainedModel]) -> Family:
    """The row of RoBERTa and of models that differ from it only in text and vocabulary."""
    return Family(
        name,
        model,
        layers="roberta.encoder.layer",
        embeddings=("roberta.embeddings",),
        head=("lm_head.dense", nn.functional.gelu, "lm_head.layer_norm"),
        decoder="lm_head.decoder",
        first_position=True,
        unpads=True,
    )


FAMILIES = {
    "bert": Family(
        "BERT",
        BertForMaskedLM,
        layers="bert.encoder.layer",
        embeddings=("bert.embeddings",),
        head=("cls.predictions.transform",),
        unpads=True,
    ),
    "distilbert": Family(
        "DistilBERT",
        DistilBertForMaskedLM,
        layers="distilbert.transformer.layer",
        embeddings=("distilbert.embeddings",),
        head=("vocab_transform", "activation", "vocab_layer_norm"),
        unpads=True,
        decoder="vocab_projector",
        counts={k: v for k, v in BERT_COUNTS.items() if k not in ("token-type embeddings", "pooler")}
        | {"decoder": "u * v * h"},
        parts={f"attention.{name}_lin": f"w->{name}" for name in "qkv"}
        | {"attention.out_lin": "v->w", "ffn.lin1": "w->f", "ffn.lin2": "f->w"},
    ),
    "roberta": _roberta("RoBERTa", RobertaForMaskedLM),
    "xlm-roberta": _roberta("XLM-RoBERTa", XLMRobertaForMaskedLM),
    "camembert": _roberta("CamemBERT", CamembertForMaskedLM),
    "electra": Family(
        "ELECTRA (its generator)",
        ElectraForMaskedLM,
        layers="electra.encoder.layer",
        embeddings=("electra.embeddings",),
        head=("generator_predictions",),
        decoder="generator_lm_head",
        unpads=True,
        counts={
            "word embeddings": "v * e",
            "position embeddings": "p * e",
            "token-type embeddings": "t * e",
            "embedding LayerNorm": "2 * e",
            "embedding projection": "(e * h + h) * (e != h)",
            **LAYERS,
            "MLM head": "h * e + e + 2 * e + v",
            "decoder": "u * v * e",
            "task head": "2 * h + 2",
        },
    ),
    "mpnet": Family(
        "MPNet",
        MPNetForMaskedLM,
        layers="mpnet.encoder.layer",
        embeddings=("mpnet.embeddings", "mpnet.encoder.relative_attention_bias"),
        head=("lm_head.dense", nn.functional.gelu, "lm_head.layer_norm"),
        decoder="lm_head.decoder",
        first_position=True,
        counts={"relative positions": "buckets * a"} | BERT_COUNTS,
        head_tables=("mpnet.encoder.relative_attention_bias.weight",),
        parts={f"attention.attn.{name}": f"w->{name}" for name in "qkv"} | {"attention.attn.o": "v->w"} | FEED_FORWARD,
    ),
    "deberta-v2": Family(
        "DeBERTa-v2 and -v3",
        DebertaV2ForMaskedLM,
        layers="deberta.encoder.layer",
        embeddings=("deberta.embeddings",),
        head=("cls.predictions.transform",),
        counts={
            "word embeddings": "v * e",
            "position embeddings": "p * e * absolute",
            "token-type embeddings": "t * e",
            "embedding projection": "e * h * (e != h)",
            "embedding LayerNorm": "2 * h",
            "relative positions": "buckets * h + 2 * h * normed",
            "convolution": "(h * h * kernel + h + 2 * h) * (kernel > 0)",
            **LAYERS,
            "attention": "L * (4 + apart) * (h**2 + h)",
            "MLM head": "h * e + e + 2 * e + v",
            "decoder": "u * v * (e + 1)",
            "task head": "2 * h + 2",
        },
        parts={f"attention.self.{name}_proj": axes for name, axes in IN_ATTENTION.items()}
        | {"attention.self.pos_query_proj": "w->q", "attention.self.pos_key_proj": "w->k"}
        | {"attention.output.dense": "v->w"}
        | FEED_FORWARD,
    ),
    "modernbert": Family(
        "ModernBERT",
        ModernBertForMaskedLM,
        layers="model.layers",
        embeddings=("model.embeddings",),
        head=("head",),
        decoder="decoder",
        follows=("layer_types",),
        counts={
            "word embeddings": "v * h",
            "embedding LayerNorm": "h * (1 + norm_bias)",
            "attention": "L * 4 * (h**2 + h * attention_bias)",
            "feed-forward": "L * (3 * h * f + (2 * f + h) * mlp_bias)",
            "layer LayerNorms": "(2 * L - 1) * h * (1 + norm_bias)",  # the first attention has none before it
            "final LayerNorm": "h * (1 + norm_bias)",
            "MLM head": "h**2 + h * classifier_bias + h * (1 + norm_bias) + v * decoder_bias",
            "decoder": "u * v * h",
        },
        parts={"attn.Wqkv": "w->qkv", "attn.Wo": "v->w", "mlp.Wi": "w->ff", "mlp.Wo": "f->w"},  # units, then gates
        rotary=True,
        check=_check_modernbert,
    ),
    "gpt2": Family(
        "GPT-2",
        GPT2LMHeadModel,
        layers="transformer.h",
        embeddings=("transformer.wte", "transformer.wpe"),
        casts=("transformer.drop",),
        head=(),
        decoder="lm_head",
        objective="causal",
        counts={
            "word embeddings": "v * h",
            "position embeddings": "p * h",
            **LAYERS,
            "final LayerNorm": "2 * h",
            "decoder": "u * v * h",
            "task head": "2 * h + 2",
        },
        parts={"attn.c_attn": "w->qkv", "attn.c_proj": "v->w", "mlp.c_fc": "w->f", "mlp.c_proj": "f->w"},
        transposed=True,
        mend=_mend_gpt2,
    ),
}
# a DeBERTa with legacy=false has the head of its authors' code, which always multiplies with the word embeddings
DEBERTA_HEAD = replace(
    FAMILIES["deberta-v2"],
    head=tuple(f"lm_predictions.lm_head.{step}" for step in ("dense", "transform_act_fn", "LayerNorm")),
    decoder="deberta.embeddings.word_embeddings",
    bias="lm_predictions.lm_head.bias",
    counts=FAMILIES["deberta-v2"].counts | {"decoder": "0"},
)


def of(model: PreTrainedModel | PreTrainedConfig, what: str = "") -> Family:
    """The row of a model or of its configuration.

    Raises ValueError, naming `what` and the families of the table, for a model that has no row.
    """
    config = getattr(model, "config", model)
    if config.model_type not in FAMILIES:
        names = ", ".join(family.name for family in FAMILIES.values())
        raise ValueError(
            f"{what or 'this model'} is a model of type '{config.model_type}'; these families can be distilled: {names}"
        )
    own_head = config.model_type == "deberta-v2" and config.legacy is False
    return DEBERTA_HEAD if own_head else FAMILIES[config.model_type]


def longest(config: PreTrainedConfig) -> int:
    """The greatest number of tokens that a model of this configuration can read at once."""
    return config.max_position_embeddings - position_offset(config)


def position_offset(config: PreTrainedConfig) -> int:
    """The position of a row's first token: 0, or in the RoBERTas the one behind the padding's."""
    return config.pad_token_id + 1 if of(config).first_position else 0


def reads_token_types(config: PreTrainedConfig) -> bool:
    """Whether a model has token types, which say to which text of a pair a token belongs."""
    return getattr(config, "type_vocab_size", 0) > 1 and config.model_type != "modernbert"


def embeddings(model: PreTrainedModel) -> tuple[list[nn.Module], list[nn.Module]]:
    """The modules that hold a model's lookup tables, and those whose output goes to the layers; for any head."""
    row = of(model)
    return tuple([attrgetter(name)(model) for name in names] for names in (row.embeddings, row.casts or row.embeddings))
