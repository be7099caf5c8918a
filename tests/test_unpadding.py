"""A batch without its padding: the same answers and gradients as with it, from fewer tokens."""

import copy
from operator import attrgetter

import pytest
import torch
from test_families import CONFIGS, make

from distilnb.models import dropout, families, unpadding
from distilnb.tasks import finetuning, heads

CPU = torch.device("cpu")
UNPADDED = [kind for kind, config in CONFIGS.items() if families.of(config).unpads]


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Forty rows of 3 to 60 tokens, as pairs: their attention is computed in two parts."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 25, (40,), generator=draw)
    lengths[7] = 60
    mask = (torch.arange(60) < lengths[:, None]).long()
    ids = torch.randint(5, 60, (40, 60), generator=draw)
    kinds = (torch.arange(60) >= lengths[:, None] // 2).long() * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}


def trained(kind: str, spans: bool) -> torch.nn.Module:
    """A small model with a task head, in training, without dropout."""
    teacher = make(CONFIGS[kind])
    model, _ = heads.question_answerer(teacher) if spans else heads.classifier(teacher, 3)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train()


def answered(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits for the batch, with the gradients of some function of them left in the model."""
    batch = batch | {"input_ids": batch["input_ids"].where(batch["attention_mask"] > 0, model.config.pad_token_id)}
    logits = finetuning.forward(model, batch)
    logits[logits > finetuning.NEVER].square().mean().backward()
    return logits.detach()


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("kind", UNPADDED)
def test_answers_and_gradients_are_those_of_the_padded_batch(kind, spans, batch):
    padded = trained(kind, spans)
    model = copy.deepcopy(padded)
    dropout.speed_up(model, CPU)
    seen = []
    layers = attrgetter(families.of(model).layers)(model)
    layers[0].register_forward_hook(lambda *call: seen.append(call[1][0].shape[:2]))
    torch.testing.assert_close(answered(model, batch), answered(padded, batch), rtol=1e-4, atol=1e-5)
    assert seen == [(1, int(batch["attention_mask"].sum()))]
    for (name, own), (_, other) in zip(model.named_parameters(), padded.named_parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", UNPADDED)
def test_in_bf16_the_answers_are_close(kind, batch):
    model = trained(kind, spans=False)
    dropout.speed_up(model, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        half = answered(model, batch)
    assert (half - answered(model, batch)).abs().max() < 0.5


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in UNPADDED])
def test_other_families_pad(kind, batch):
    model = trained(kind, spans=False)
    expected = answered(copy.deepcopy(model), batch)
    dropout.speed_up(model, CPU)
    with unpadding.unpadded(model, batch, dropout.ATTENTION) as inputs:
        assert inputs is batch and unpadding.layout() is None
    torch.testing.assert_close(answered(model, batch), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("padding, taken", [(0, False), (1, True)])
def test_a_batch_that_is_full_or_nearly_so_is_taken_as_it_is(padding, taken, batch):
    model = trained("bert", spans=False)
    dropout.speed_up(model, CPU)
    mask = torch.ones_like(batch["attention_mask"])
    mask[0, 60 - padding :] = 0
    with unpadding.unpadded(model, batch | {"attention_mask": mask}, dropout.ATTENTION) as inputs:
        assert unpadding.layout() is None and ("attention_mask" in inputs) == taken
        assert inputs["input_ids"] is batch["input_ids"]


def test_a_step_that_fails_leaves_no_layout_behind(batch):
    model = trained("bert", spans=False)
    dropout.speed_up(model, CPU)
    with pytest.raises(KeyError), unpadding.unpadded(model, batch, dropout.ATTENTION):
        assert unpadding.layout() is not None
        raise KeyError
    assert unpadding.layout() is None and not model.bert.encoder.layer[-1]._forward_hooks
