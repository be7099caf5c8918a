"""The teacher: any BERT with a masked-language-model head, read from safetensors (notebooks 01 and 03)."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, BertForMaskedLM, PreTrainedConfig, PreTrainedTokenizerBase

from ..machine import hub

HEAD_TENSORS = 5  # of a masked-word head: a bias, and weight and bias of its dense layer and its LayerNorm
PARTS = "all", "head"


def load_teacher(path: str | Path, revision: str | None = None) -> tuple[BertForMaskedLM, PreTrainedTokenizerBase]:
    """A float32 BertForMaskedLM in evaluation mode and its fast tokenizer, from safetensors only.

    `path` is a folder or a Hub repository (pin its `revision`). Raises ValueError in one sentence when there is
    no such teacher, when it is no BERT masked language model, when weights are missing, or when tokenizer and
    embeddings disagree on the vocabulary.
    """
    teacher, tokenizer, new = load_encoder(path, revision)
    if new:
        pinned = f"{path}@{revision}" if revision else path
        raise ValueError(
            f"teacher '{path}' is an encoder without a masked-word head (its weights lack {new[0]}); give it one "
            f"first: distilnb teacher --scale small --start {pinned}"
        )
    return teacher, tokenizer


def load_encoder(
    path: str | Path, revision: str | None = None, seed: int = 0
) -> tuple[BertForMaskedLM, PreTrainedTokenizerBase, tuple[str, ...]]:
    """As `load_teacher`, but an encoder without a masked-word head is given one: (model, tokenizer, new tensors).

    The new head is drawn from `seed`, its decoder is tied to the word embeddings. A pooler is dropped: no masked
    word needs it. Raises ValueError as `load_teacher`, and for a head of which only a part is there.
    """
    path, at = str(path), f" at revision {revision}" if revision else ""
    reached = hub.reach(path, "model", f"teacher '{path}'")
    where = {"revision": revision, "trust_remote_code": False} | reached
    try:
        config = hub.fetch(AutoConfig.from_pretrained, path, **where)
    except (OSError, ValueError) as error:
        trouble = "is not in the local cache and the Hub does not answer" if reached else "has no readable config.json"
        raise ValueError(f"teacher '{path}' {trouble}{at}; {hub.ADVICE}") from error
    if config.model_type != "bert":
        raise ValueError(f"teacher '{path}' is a {config.model_type} model; a BERT masked language model is needed")
    unreadable = f"teacher '{path}' has a configuration, but its {{}} cannot be read{at}; {hub.ADVICE}"
    try:
        tokenizer = hub.fetch(AutoTokenizer.from_pretrained, path, **where)
    except (OSError, ValueError) as error:
        raise ValueError(unreadable.format("tokenizer")) from error
    check_vocabulary(config, tokenizer)
    never_cut(tokenizer)
    try:
        with torch.random.fork_rng(devices=[]), hub.no_report():
            torch.manual_seed(seed)
            teacher, report = hub.fetch(
                BertForMaskedLM.from_pretrained,
                path,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **where,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(unreadable.format("weights (model.safetensors)")) from error
    new = _missing_head(path, report)
    if new:
        _draw_head(teacher, seed)
    return teacher.eval(), tokenizer, new


def never_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    """Switch off the truncation and padding that a tokenizer.json may bring (sentence encoders': at 128)."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()


def _missing_head(path: str, report: dict[str, Any]) -> tuple[str, ...]:
    """The tensors of the masked-word head, where all of them are missing and nothing else is; else nothing, or
    ValueError."""
    missing = sorted(name for name in report["missing_keys"] if "decoder" not in name)  # tied to others
    beyond = sorted(name for name in report["unexpected_keys"] if "encoder.layer." in name)
    if beyond:
        raise ValueError(f"teacher '{path}' has weights that its configuration does not name, first {beyond[0]}")
    body = [name for name in missing if not name.startswith("cls.predictions.")]
    if body or 0 < len(missing) < HEAD_TENSORS:
        raise ValueError(f"teacher '{path}' is not whole: its weights lack {(body or missing)[0]}; fetch it again")
    return tuple(missing)


def _draw_head(teacher: BertForMaskedLM, seed: int) -> None:
    """Initialize the head from `seed` as BERT's, its decoder tied to the word embeddings."""
    head, draw = teacher.cls.predictions, torch.Generator().manual_seed(seed)
    teacher.config.tie_word_embeddings = True
    teacher.tie_weights()
    with torch.no_grad():
        head.transform.dense.weight.normal_(0, teacher.config.initializer_range, generator=draw)
        head.transform.LayerNorm.weight.fill_(1.0)
        for bias in (head.bias, head.decoder.bias, head.transform.dense.bias, head.transform.LayerNorm.bias):
            bias.zero_()


def check_vocabulary(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError when the tokenizer writes ids that the model has no embedding for, or the reverse."""
    words, rows = len(tokenizer), config.vocab_size
    if words != rows:
        raise ValueError(
            f"the vocabularies of tokenizer and model differ: {words:,} word pieces against {rows:,} "
            "embeddings; use the tokenizer that the model was trained with"
        )
    if tokenizer.mask_token_id is None:
        raise ValueError("the tokenizer has no [MASK] token; a BERT tokenizer is needed")
