"""The teacher: a language model with its head, read from safetensors (notebooks 01 and 03)."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..machine import hub
from . import families

PADDED_ROWS = 128  # embeddings without a word piece that a model may have


def load_teacher(path: str | Path, revision: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A float32 language model in evaluation mode and its fast tokenizer, from safetensors only.

    `path` is a folder or a Hub repository (pin its `revision`). Raises ValueError in one sentence when there is
    no such teacher, when it is of another family, when weights are missing, or when tokenizer and
    embeddings disagree on the vocabulary.
    """
    path = str(path)
    reached = hub.reach(path, "model", f"teacher '{path}'")
    where = {"revision": revision, "trust_remote_code": False} | reached
    try:
        config = hub.fetch(AutoConfig.from_pretrained, path, **where)
    except (OSError, ValueError) as error:
        trouble = "is not in the local cache and the Hub does not answer" if reached else "has no readable config.json"
        raise ValueError(f"teacher '{path}' {trouble}; {hub.ADVICE}") from error
    family = families.of(config, f"teacher '{path}'")
    unreadable = f"teacher '{path}' has a configuration, but its {{}} cannot be read; {hub.ADVICE}"
    try:
        tokenizer = hub.fetch(AutoTokenizer.from_pretrained, path, **where)
    except (OSError, ValueError) as error:
        raise ValueError(unreadable.format("tokenizer")) from error
    check_vocabulary(config, tokenizer)
    try:
        teacher, report = hub.fetch(
            family.model.from_pretrained,
            path,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **where,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(unreadable.format("weights (model.safetensors)")) from error
    tied = (teacher._tied_weights_keys or {}) if config.tie_word_embeddings else {}
    missing = [name for name in report["missing_keys"] if name not in tied]
    if missing:
        raise ValueError(f"teacher '{path}' is no {family.objective} language model: its weights lack {missing[0]}")
    pad_causal(teacher.config, tokenizer)
    return teacher.eval(), tokenizer


def pad_causal(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a model that came without a padding token, as GPT-2 does, pad with its end of text."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id


def check_vocabulary(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError when the tokenizer writes ids that the model has no embedding for, or far too few of them.

    Tables are often padded to a multiple of 64 or 128; the rows beyond the vocabulary are never read.
    """
    words, rows = len(tokenizer), config.vocab_size
    if not 0 <= rows - words < min(PADDED_ROWS, 1 + rows // 4):
        raise ValueError(
            f"the vocabularies of tokenizer and model differ: {words:,} word pieces against {rows:,} "
            "embeddings; use the tokenizer that the model was trained with"
        )
    if families.of(config).objective == "masked" and tokenizer.mask_token_id is None:
        raise ValueError("the tokenizer has no [MASK] token; a BERT tokenizer is needed")
