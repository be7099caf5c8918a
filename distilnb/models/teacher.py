"""The teacher: any BERT with a masked-language-model head, read from safetensors (notebooks 01 and 03)."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer, BertForMaskedLM, PreTrainedConfig, PreTrainedTokenizerBase

from ..machine import hub


def load_teacher(path: str | Path, revision: str | None = None) -> tuple[BertForMaskedLM, PreTrainedTokenizerBase]:
    """A float32 BertForMaskedLM in evaluation mode and its fast tokenizer, from safetensors only.

    `path` is a folder or a Hub repository (pin its `revision`). Raises ValueError in one sentence when there is
    no such teacher, when it is no BERT masked language model, when weights are missing, or when tokenizer and
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
    if config.model_type != "bert":
        raise ValueError(f"teacher '{path}' is a {config.model_type} model; a BERT masked language model is needed")
    unreadable = f"teacher '{path}' has a configuration, but its {{}} cannot be read; {hub.ADVICE}"
    try:
        tokenizer = hub.fetch(AutoTokenizer.from_pretrained, path, **where)
    except (OSError, ValueError) as error:
        raise ValueError(unreadable.format("tokenizer")) from error
    check_vocabulary(config, tokenizer)
    try:
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
    missing = [name for name in report["missing_keys"] if "decoder" not in name]
    if missing:
        raise ValueError(f"teacher '{path}' is no masked language model: its weights lack {missing[0]}")
    return teacher.eval(), tokenizer


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
