"""Dropout from raw bits: how much it drops, what it keeps, whose seed it follows, and that models train with it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from distilnb.models import dropout
from distilnb.models.dropout import BitDropout, drop

SMALL = {"vocab_size": 50, "num_hidden_layers": 2}
MODELS = {
    "bert": (BertForMaskedLM, BertConfig(**SMALL, hidden_size=32, num_attention_heads=2, intermediate_size=64)),
    "distilbert": (
        DistilBertForMaskedLM,
        DistilBertConfig(**{"vocab_size": 50, "n_layers": 2}, dim=32, n_heads=2, hidden_dim=64),
    ),
}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_drops_its_share_and_scales_the_rest(p, dtype):
    """A million elements; the share's standard error is at most 0.0005, the tolerance five of them."""
    torch.manual_seed(0)
    out = drop(torch.ones(1000, 1000, dtype=dtype), p)
    assert out.dtype == dtype
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.0025)
    kept = out[out != 0].float()
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=0.01, atol=0)


def test_neighbours_are_dropped_independently():
    """All four 16-bit parts of a random number count, and no two go together: their correlation is within 5 / √n."""
    torch.manual_seed(1)
    zero = (drop(torch.ones(250_000, 4), 0.3) == 0).float()
    assert zero.mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.005)
    rows = torch.cat([zero, zero.roll(1, 0)], 1).T.corrcoef()
    assert (rows - torch.eye(8)).abs().max() < 5 / 250_000**0.5


def test_the_gradient_passes_where_values_did():
    x = torch.randn(37, 5, requires_grad=True)  # 185 elements are no multiple of four
    out = drop(x, 0.25)
    out.backward(torch.ones_like(out))
    torch.testing.assert_close(x.grad * x, out)
    assert 0 < (x.grad == 0).sum() < x.numel()


def test_a_seed_fixes_the_masks():
    masks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        masks.append(drop(torch.ones(100, 100), 0.1))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_nothing_is_dropped_in_evaluation_or_at_zero_and_everything_at_one():
    x = torch.randn(20, 20)
    assert torch.equal(BitDropout(0.5).eval()(x), x) and torch.equal(drop(x, 0.0), x)
    assert not drop(x, 1.0).any()


def attention_inputs():
    make = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4, generator=make) for _ in range(3))
    mask = torch.zeros(2, 1, 1, 5)
    mask[1, ..., 3:] = -1e9
    return query, key, value, mask


def test_attention_is_scaled_dot_product_attention():
    query, key, value, mask = attention_inputs()
    module = nn.Module().eval()
    ours, weights = dropout.attention(module, query, key, value, mask, dropout=0.5)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2))
    assert not weights[1, ..., 3:].any()


@pytest.mark.parametrize("length", [26, 32])
def test_attention_in_bf16_is_as_close_as_its_digits_and_has_its_gradient(length):
    """Rows of 26 take another way than rows of 32; both compute the same to two significant digits."""
    inputs = [torch.randn(2, 3, length, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    exact, rough = (
        [x.to(dtype, copy=True).requires_grad_() for x in inputs] for dtype in (torch.float32, torch.bfloat16)
    )
    for query, key, value in (exact, rough):
        ours, weights = dropout.attention(nn.Module().eval(), query, key, value, None)
        assert ours.dtype == weights.dtype == query.dtype
        ours[..., :4].float().square().sum().backward()
    for one, other in zip(exact, rough, strict=True):
        assert (one.grad - other.grad.float()).norm() < 0.02 * one.grad.norm()


def test_attention_drops_weights_in_training():
    torch.manual_seed(0)
    query, key, value, _ = attention_inputs()
    _, weights = dropout.attention(nn.Module().train(), query, key, value, None, dropout=0.5)
    assert 0.3 < (weights == 0).float().mean() < 0.7


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_computes_the_same_in_evaluation_and_trains_with_bits(kind, monkeypatch):
    make, config = MODELS[kind]
    model = make(config).eval()
    ids, mask = torch.randint(50, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    mask[1, 4:] = 0
    before, names = model(ids, attention_mask=mask).logits, set(model.state_dict())
    dropout.speed_up(model, torch.device("cpu"))
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, before)
    assert set(model.state_dict()) == names
    monkeypatch.setattr(F, "dropout", lambda x, p, training: pytest.fail("PyTorch's dropout ran") if training else x)
    model.train()
    torch.manual_seed(0)
    one, other = (model(ids, attention_mask=mask, labels=ids).loss for _ in range(2))
    assert one != other
    one.backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "pooler" not in n)
