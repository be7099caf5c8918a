"""Runs of RoBERTa, ModernBERT and GPT-2 that are killed and taken up again, by one process and by two, to the last bit.

What `test_resume` shows of BERT in every setting, here in one for a family of each kind: positions counted from the
padding, layers of two kinds, next words.
"""

from pathlib import Path

import pytest
import torch
from conftest import byte_level, make_tokenizer
from cutting import SYNC, Fault, Job, flags, outcome, run
from transformers import GPT2Config, ModernBertConfig, RobertaConfig

from distilnb.models import families

UPDATE = "distilnb.distillation.loop.Run.update"
SHAPE = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "initializer_range": 0.2}


def config_of(kind: str, tokenizer) -> object:
    """A small configuration with dropout, whose draws must be taken up too."""
    shape = SHAPE | {"vocab_size": len(tokenizer)}
    if kind == "gpt2":
        end = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
        return GPT2Config(**shape, **end, n_positions=128)
    shape |= {"intermediate_size": 48, "pad_token_id": tokenizer.pad_token_id}
    if kind == "roberta":
        return RobertaConfig(**shape, max_position_embeddings=130, type_vocab_size=1)
    ids = {name: tokenizer.convert_tokens_to_ids(f"[{name[:3].upper()}]") for name in ("cls_token_id", "sep_token_id")}
    return ModernBertConfig(
        **shape, **ids, bos_token_id=2, eos_token_id=3, local_attention=8, mlp_dropout=0.1, max_position_embeddings=128
    )


@pytest.fixture(scope="module", params=["roberta", "modernbert", "gpt2"])
def family_teacher(request, tmp_path_factory) -> Path:
    """A random teacher of the family with a tokenizer of its kind."""
    kinds = {"roberta": "RobertaTokenizer", "gpt2": "GPT2Tokenizer"}
    tokenizer = byte_level(kinds[request.param]) if request.param in kinds else make_tokenizer()
    folder = tmp_path_factory.mktemp(request.param)
    config = config_of(request.param, tokenizer)
    torch.manual_seed(0)
    families.of(config).model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_twice_a_run_of_any_family_ends_as_the_one_that_was_not(family_teacher, processes, text_file, tmp_path):
    """In the middle of an update, and inside a save, half written."""
    given = flags(family_teacher, text_file, micro_batch_size=4)
    uncut = Job(tmp_path / "whole", given, processes)
    assert run(uncut, 120) == [0] * processes, uncut.said()
    for fault in (Fault(UPDATE, 5, rank=processes - 1), Fault(SYNC, 11)):
        cut = Job(tmp_path / "cut", given, processes, (fault,))
        assert run(cut, 120)[fault.rank] == -9, cut.said(fault.rank)
    last = Job(tmp_path / "cut", given, processes)
    assert run(last, 120) == [0] * processes, last.said()
    assert "going on from update" in last.said()
    assert outcome(last.out) == outcome(uncut.out)
