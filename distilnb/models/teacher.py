"""The teacher: a language model with its head, read from safetensors (notebooks 01 and 03)."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..machine import hub
from . import families, forward

PADDED_ROWS = 128  # embeddings without a word piece from which a model is told to have some

TRAINED_PARTS = "all", "head"


def load_teacher(path: str | Path, revision: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A float32 language model in evaluation mode and its fast tokenizer, from safetensors only.

    `path` is a folder or a Hub repository (pin its `revision`). Raises ValueError when there is no such teacher, when
    its family is not in our table, when weights are missing, or when tokenizer and embeddings disagree on the
    vocabulary.
    """
    teacher, tokenizer, new = load_encoder(path, revision)
    if new:
        pinned = f"{path}@{revision}" if revision else path
        raise ValueError(
            f"teacher '{path}' is an encoder without a masked-word head (its weights lack {new[0]}); give it one "
            f"first: distilnb teacher --scale small --start {pinned}, with --text FOLDER on text of your own"
        )
    return teacher, tokenizer


def load_encoder(
    path: str | Path, revision: str | None = None, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, tuple[str, ...]]:
    """The model, its tokenizer and the names of its new tensors: an encoder without a masked-word head is given one.

    The new head is drawn from `seed` and its decoder tied to the word embeddings. A pooler is dropped, because
    predicting masked words does not use it. Raises ValueError as `load_teacher` does, and for an incomplete head.
    """
    path, at = str(path), f" at revision {revision}" if revision else ""
    reached = hub.reach(path, "model", f"teacher '{path}'")
    where = {"revision": revision, "trust_remote_code": False} | reached
    trouble = "is not in the local cache and the Hub does not answer" if reached else "has no readable config.json"
    config = hub.fetch_or_say(f"teacher '{path}'{at} {trouble}", AutoConfig.from_pretrained, path, **where)
    family = families.of(config, f"teacher '{path}'")
    unreadable = f"teacher '{path}'{at} has a configuration, but its {{}} cannot be read"
    tokenizer = hub.fetch_or_say(unreadable.format("tokenizer"), AutoTokenizer.from_pretrained, path, **where)
    check_vocabulary(config, tokenizer)
    never_cut(tokenizer)
    with torch.random.fork_rng(devices=[]), hub.no_report():
        torch.manual_seed(seed)
        teacher, report = hub.fetch_or_say(
            unreadable.format("weights (model.safetensors)"),
            family.model.from_pretrained,
            path,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **where,
        )
    new = _missing_head(path, teacher, report)
    if new:
        teacher.config.tie_word_embeddings = True
        teacher.tie_weights()
        draw(teacher, new, seed)
        forward.decoder(teacher)[1].detach().zero_()
    pad_causal(teacher.config, tokenizer)
    tie_as_loaded(teacher)
    return teacher.eval(), tokenizer, new


def tie_as_loaded(model: PreTrainedModel) -> None:
    """Let a language model's configuration say so where its decoder has a table of its own.

    Its file may hold two tables although its configuration says one; the library then keeps both, and so must students.
    """
    row = families.of(model)
    if isinstance(model, row.model) and forward.decoder(model)[0] is not model.get_input_embeddings().weight:
        model.config.tie_word_embeddings = False


def never_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    """Switch off truncation and padding set in a tokenizer.json (in those of sentence encoders, at 128 tokens)."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()


def _missing_head(path: str, teacher: PreTrainedModel, report: dict[str, Any]) -> tuple[str, ...]:
    """The head's tensors if exactly these are missing, () if none is missing; ValueError in any other case."""
    tied = (teacher._tied_weights_keys or {}) if teacher.config.tie_word_embeddings else {}
    missing = sorted(name for name in report["missing_keys"] if name not in tied)
    inside = f"{teacher.base_model_prefix}."
    whole = [name for name, _ in teacher.named_parameters() if not name.startswith(inside) and name not in tied]
    layers = re.compile(rf"(^|\.){families.of(teacher).layers.rpartition('.')[2]}\.\d+\.")
    beyond = sorted(name for name in report["unexpected_keys"] if layers.search(name))
    if beyond:
        raise ValueError(f"teacher '{path}' has weights that its configuration does not name, first {beyond[0]}")
    body = [name for name in missing if name.startswith(inside)]
    new = tuple(name for name in missing if name not in (teacher._tied_weights_keys or {}))  # the decoder will be tied
    if body or 0 < len(missing) < len(whole) or (missing and not new):
        raise ValueError(f"teacher '{path}' is not whole: its weights lack {(body or missing)[0]}; fetch it again")
    return new


def draw(model: PreTrainedModel, names: Iterable[str], seed: int) -> None:
    """Initialize these tensors: weights at random, biases to 0, weights of norms to 1."""
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in names:
            tensor = model.get_parameter(name)
            if name.endswith(".bias"):
                tensor.zero_()
            elif tensor.ndim == 1:  # of a norm
                tensor.fill_(1.0)
            else:
                tensor.normal_(0, model.config.initializer_range, generator=made)


def pad_with_end(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a tokenizer without a padding token, such as GPT-2's, pad with its end-of-text token."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def pad_causal(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a configuration without a padding token, such as GPT-2's, the one of its tokenizer (`pad_with_end`)."""
    pad_with_end(tokenizer)
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id


def check_vocabulary(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError when the tokenizer has ids without an embedding, far fewer ids than there are embeddings, lacks
    a token that training needs, or cannot read a text.

    A small surplus is allowed, because tables are often padded to a multiple of 64 or 128, and a larger one is told:
    some published models have a thousand spare rows. No text reaches them and masking draws none; the student has the
    same rows, so that soft targets still cover one vocabulary.
    """
    advice = "use the tokenizer that the model was trained with"
    words, rows = len(tokenizer), config.vocab_size
    differ = f"vocabularies of tokenizer and model differ: {words:,} word pieces against {rows:,} embeddings"
    if not 0 <= rows - words < 1 + rows // 4:
        raise ValueError(f"the {differ}; {advice}")
    if rows - words >= PADDED_ROWS:
        told = f"the {differ}, of which {rows - words:,} are spare; if it has another tokenizer, use that"
        warnings.warn(told, stacklevel=1)  # one place for all callers, so that it is said once
    if families.of(config).objective == "masked" and tokenizer.mask_token_id is None:
        raise ValueError(f"the tokenizer has no mask token; {advice}")
    ends = "sep_token" if tokenizer.cls_token_id is not None else "eos_token"
    if getattr(tokenizer, f"{ends}_id") is None:
        raise ValueError(f"the tokenizer has no {ends}, which parts documents; name it there, or {advice}")
    try:
        tokenizer("\u2603")  # a sign that few vocabularies have, and for which some have no [UNK] either
    except Exception as error:  # because `tokenizers` raises no other kind
        raise ValueError(f"the tokenizer cannot read a text ({error}); {advice}") from error
