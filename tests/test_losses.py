"""The three losses against their formulas in numpy, and the chunked head against the losses."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from distilnb.distillation import losses, vocabulary_head
from distilnb.distillation.losses import LossWeights
from distilnb.distillation.vocabulary_head import Decoding
from distilnb.text.masking import IGNORE

BATCH, SEQ, VOCAB, DIM = 3, 7, 11, 8
TEMPERATURES = (0.5, 1.0, 2.0, 4.0)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Logits and hidden states of a small batch with padding at the end of two rows and six masked words.

    `weight`, `bias` are a student's decoder and `t_weight`, `t_bias` a teacher's; the logits follow from them.
    """
    make = torch.Generator().manual_seed(0)
    hidden, t_hidden = (torch.randn(BATCH, SEQ, DIM, generator=make) for _ in range(2))
    weight, t_weight = (torch.randn(VOCAB, DIM, generator=make) for _ in range(2))
    bias, t_bias = (torch.randn(VOCAB, generator=make) for _ in range(2))
    mask = torch.ones(BATCH, SEQ, dtype=torch.long)
    mask[1, 5:], mask[2, 3:] = 0, 0
    labels = torch.full((BATCH, SEQ), IGNORE)
    for row, column, word in [(0, 1, 4), (0, 2, 0), (0, 6, 10), (1, 0, 3), (1, 4, 3), (2, 2, 7)]:
        labels[row, column] = word
    return {
        "hidden": hidden,
        "t_hidden": t_hidden,
        "weight": weight,
        "bias": bias,
        "t_weight": t_weight,
        "t_bias": t_bias,
        "student": hidden @ weight.T + bias,
        "teacher": t_hidden @ t_weight.T + t_bias,
        "mask": mask,
        "labels": labels,
    }


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl_by_hand(student, teacher, mask, temperature: float) -> float:
    """T² Σ_positions Σ_words t (log t − log s) / positions, one position at a time."""
    s, t = (softmax(x.numpy().astype(np.float64) / temperature) for x in (student, teacher))
    rows = np.argwhere(mask.numpy())
    return sum(temperature**2 * np.sum(t[i, j] * (np.log(t[i, j]) - np.log(s[i, j]))) for i, j in rows) / len(rows)


def cross_entropy_by_hand(student, labels) -> float:
    """The mean of −log p(true word) over the masked words."""
    p, words = softmax(student.numpy().astype(np.float64)), labels.numpy()
    rows = np.argwhere(words != IGNORE)
    return -sum(np.log(p[i, j, words[i, j]]) for i, j in rows) / len(rows)


def cosine_by_hand(student, teacher, mask) -> float:
    """The mean of 1 − s·t / (|s| |t|) over real positions."""
    s, t = student.numpy().astype(np.float64), teacher.numpy().astype(np.float64)
    cosine = (s * t).sum(-1) / np.linalg.norm(s, axis=-1) / np.linalg.norm(t, axis=-1)
    return (1 - cosine)[mask.numpy() == 1].mean()


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_target_loss_is_its_formula(batch, temperature):
    loss = losses.soft_target_loss(batch["student"], batch["teacher"], batch["mask"], temperature)
    assert loss.item() == pytest.approx(
        kl_by_hand(batch["student"], batch["teacher"], batch["mask"], temperature), rel=1e-5
    )


def test_soft_target_loss_defaults_to_the_originals_temperature(batch):
    by_hand = kl_by_hand(batch["student"], batch["teacher"], batch["mask"], 2.0)
    assert losses.soft_target_loss(batch["student"], batch["teacher"], batch["mask"]).item() == pytest.approx(
        by_hand, rel=1e-5
    )


def test_mlm_loss_is_its_formula(batch):
    by_hand = cross_entropy_by_hand(batch["student"], batch["labels"])
    assert losses.mlm_loss(batch["student"], batch["labels"]).item() == pytest.approx(by_hand, rel=1e-5)


def test_cosine_loss_is_its_formula(batch):
    loss = losses.cosine_loss(batch["hidden"], batch["t_hidden"], batch["mask"]).item()
    assert loss == pytest.approx(cosine_by_hand(batch["hidden"], batch["t_hidden"], batch["mask"]), rel=1e-5)


def test_cosine_loss_sees_directions_only(batch):
    assert losses.cosine_loss(batch["hidden"], 7 * batch["hidden"], batch["mask"]).item() == pytest.approx(0, abs=1e-6)
    assert losses.cosine_loss(batch["hidden"], -batch["hidden"], batch["mask"]).item() == pytest.approx(2, abs=1e-6)


def test_soft_target_loss_is_zero_only_when_the_distributions_are_equal(batch):
    shifted = batch["teacher"] + 5  # a constant added to all logits changes no probability
    assert losses.soft_target_loss(shifted, batch["teacher"], batch["mask"]).item() == pytest.approx(0, abs=1e-5)
    assert losses.soft_target_loss(batch["student"], batch["teacher"], batch["mask"]).item() > 0.1


@pytest.mark.parametrize("positions", ["all", "masked"])
def test_triple_loss_is_the_weighted_sum(batch, positions):
    weights = LossWeights(ce=5, mlm=2, cos=1)
    where = batch["mask"] if positions == "all" else batch["labels"] != IGNORE
    expected = {
        "ce": kl_by_hand(batch["student"], batch["teacher"], where, 3.0),
        "mlm": cross_entropy_by_hand(batch["student"], batch["labels"]),
        "cos": cosine_by_hand(batch["hidden"], batch["t_hidden"], batch["mask"]),
    }
    loss, terms = losses.triple_loss(
        (batch["student"], batch["hidden"]),
        (batch["teacher"], batch["t_hidden"]),
        batch["labels"],
        batch["mask"],
        weights,
        temperature=3.0,
        positions=positions,
    )
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)
    assert loss.item() == pytest.approx(5 * expected["ce"] + 2 * expected["mlm"] + expected["cos"], rel=1e-5)


# gradients


def check_gradient(function, *inputs: torch.Tensor) -> None:
    """Numerical against analytical gradient. The losses compute in float32, hence the wide step and tolerance."""
    inputs = tuple(x.double().requires_grad_() for x in inputs)
    assert torch.autograd.gradcheck(lambda *x: function(*x).double(), inputs, eps=1e-2, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradient_of_soft_targets(batch, temperature):
    check_gradient(lambda s: losses.soft_target_loss(s, batch["teacher"], batch["mask"], temperature), batch["student"])


def test_gradient_of_soft_targets_is_t_times_the_difference_of_probabilities(batch):
    """d(T² KL)/d logits = T (softmax(s/T) − softmax(t/T)) / positions: why T² keeps gradients of one size."""
    student = batch["student"].clone().requires_grad_()
    losses.soft_target_loss(student, batch["teacher"], batch["mask"], 4.0).backward()
    s, t = (softmax(batch[who].numpy() / 4.0) for who in ("student", "teacher"))
    mask = batch["mask"].numpy()
    np.testing.assert_allclose(student.grad.numpy(), 4.0 * (s - t) * mask[..., None] / mask.sum(), atol=1e-6)


def test_gradient_of_mlm(batch):
    check_gradient(lambda s: losses.mlm_loss(s, batch["labels"]), batch["student"])


def test_gradient_of_cosine(batch):
    check_gradient(lambda s: losses.cosine_loss(s, batch["t_hidden"], batch["mask"]), batch["hidden"])


# the chunked vocabulary head


def compiled() -> vocabulary_head.Kernels:
    """The compiled kernels; the test is skipped where they cannot be had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernels = vocabulary_head.compiled_kernels()
    if kernels is vocabulary_head.PLAIN:
        pytest.skip("no C++ compiler here: the head cannot be compiled")
    return kernels


def chunked(
    batch, temperature: float, ce: float, mlm: float, chunk: int, where: torch.Tensor, kernels=vocabulary_head.PLAIN
):
    """(value, ce mean, mlm mean, gradients of hidden, weight, bias) of the head that never holds all logits."""
    hidden, weight, bias = (batch[name].clone().requires_grad_() for name in ("hidden", "weight", "bias"))
    tokens, masked = int(where.sum()), max(int((batch["labels"] != IGNORE).sum()), 1)
    value, ce_sum, mlm_sum = vocabulary_head.vocabulary_losses(
        Decoding(hidden[where], weight, bias),
        batch["labels"][where],
        ce_scale=ce / tokens,
        mlm_scale=mlm / masked,
        teacher=(batch["t_hidden"][where], batch["t_weight"], batch["t_bias"]),
        temperature=temperature,
        chunk=chunk,
        kernels=kernels,
    )
    (3 * value).backward()  # a factor, because a loss is not always the last thing
    return value, ce_sum / tokens, mlm_sum / masked, hidden.grad, weight.grad, bias.grad


def reference(batch, temperature: float, ce: float, mlm: float, where: torch.Tensor):
    """The same by the losses above, from whole logits."""
    hidden, weight, bias = (batch[name].clone().requires_grad_() for name in ("hidden", "weight", "bias"))
    logits = hidden @ weight.T + bias
    soft = losses.soft_target_loss(logits, batch["teacher"], where, temperature)
    hard = losses.mlm_loss(logits, batch["labels"])
    value = ce * soft + mlm * hard
    (3 * value).backward()
    return value, soft, hard, hidden.grad, weight.grad, bias.grad


@pytest.mark.parametrize("temperature, chunk", [*zip(TEMPERATURES, (1, 4, 7, 128), strict=True), (2.0, 15), (2.0, 5)])
def test_chunked_head_equals_the_losses_and_their_gradients(batch, temperature, chunk):
    """15 real tokens: in chunks of 1, 4 (15 = 3·4 + 3), 5 (exact), 7, 15 (one) and 128 (more than there are)."""
    where = batch["mask"].bool()
    ours = chunked(batch, temperature, 5.0, 2.0, chunk, where)
    theirs = reference(batch, temperature, 5.0, 2.0, where)
    for name, a, b in zip(("value", "ce", "mlm", "hidden", "weight", "bias"), ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    "temperature, chunk, ce, mlm", [(0.5, 1, 5.0, 2.0), (2.0, 4, 5.0, 2.0), (2.0, 128, 5.0, 0.0), (3.0, 7, 0.0, 2.0)]
)
def test_compiled_head_equals_the_losses_and_their_gradients(batch, temperature, chunk, ce, mlm):
    where = batch["mask"].bool()
    value, soft, hard, *gradients = chunked(batch, temperature, ce, mlm, chunk, where, compiled())
    expected, wanted_soft, wanted_hard, *wanted = reference(batch, temperature, ce, mlm, where)
    torch.testing.assert_close((value, *gradients), (expected, *wanted), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close((soft, hard), (wanted_soft * bool(ce), wanted_hard * bool(mlm)), rtol=1e-5, atol=1e-5)


def test_compiled_head_in_bf16_equals_the_plain_one():
    """500 tokens × 3,072 words: where they round to bf16 differs, so gradients agree to 1 % of their norm."""
    make, found = torch.Generator().manual_seed(0), []
    hidden, t_hidden = (torch.randn(500, 64, generator=make).bfloat16() for _ in range(2))
    weight, t_weight = (0.2 * torch.randn(3072, 64, generator=make) for _ in range(2))
    bias, labels = 0.1 * torch.randn(3072, generator=make), torch.randint(3072, (500,), generator=make)
    labels[::3] = IGNORE
    for kernels in (vocabulary_head.PLAIN, compiled(), compiled()):
        inputs = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        value, *sums = vocabulary_head.vocabulary_losses(
            Decoding(*inputs),
            labels,
            ce_scale=5.0,
            mlm_scale=2.0,
            kernels=kernels,
            teacher=(t_hidden, t_weight.bfloat16(), bias.bfloat16()),
        )
        value.backward()
        found.append((torch.stack([value.detach(), *sums]), *(x.grad.float() for x in inputs)))
    for ours, theirs in zip(*found[:2], strict=True):
        assert (ours - theirs).norm() < 0.01 * theirs.norm()
    assert all(map(torch.equal, found[1], found[2]))  # a resumed run repeats it to the bit


def test_a_head_that_cannot_be_compiled_stays_plain_and_says_so(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    vocabulary_head.compiled_kernels.cache_clear()
    try:
        with pytest.warns(UserWarning, match="compiled"):
            assert vocabulary_head.compiled_kernels() is vocabulary_head.PLAIN
    finally:
        vocabulary_head.compiled_kernels.cache_clear()


@pytest.mark.parametrize("ce, mlm", [(0.0, 2.0), (5.0, 0.0)])
def test_chunked_head_with_one_term_switched_off(batch, ce, mlm):
    where = batch["mask"].bool()
    value, ce_mean, mlm_mean, *gradients = chunked(batch, 2.0, ce, mlm, 4, where)
    expected, soft, hard, *wanted = reference(batch, 2.0, ce, mlm, where)
    torch.testing.assert_close(value, expected)
    assert (ce_mean.item(), mlm_mean.item()) == pytest.approx(
        (soft.item() if ce else 0, hard.item() if mlm else 0), rel=1e-5
    )
    for a, b in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_chunked_head_on_masked_words_only(batch):
    where = batch["labels"] != IGNORE
    for a, b in zip(chunked(batch, 2.0, 5.0, 2.0, 4, where), reference(batch, 2.0, 5.0, 2.0, where), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_chunked_head_without_a_masked_word_has_soft_targets_left(batch):
    batch["labels"].fill_(IGNORE)
    where = batch["mask"].bool()
    value, ce, mlm, *gradients = chunked(batch, 2.0, 5.0, 2.0, 4, where)
    expected, soft, _, *wanted = reference(batch, 2.0, 5.0, 0.0, where)
    assert mlm.item() == 0
    torch.testing.assert_close((value, ce, *gradients), (expected, soft, *wanted), rtol=1e-5, atol=1e-5)


def test_chunked_head_of_no_tokens_is_zero_with_zero_gradients(batch):
    hidden, weight, bias = (batch[n].clone().requires_grad_() for n in ("hidden", "weight", "bias"))
    nothing = torch.zeros(BATCH, SEQ, dtype=torch.bool)
    teacher = (batch["t_hidden"][nothing], batch["t_weight"], batch["t_bias"])
    value, ce, mlm = vocabulary_head.vocabulary_losses(
        Decoding(hidden[nothing], weight, bias), batch["labels"][nothing], ce_scale=1.0, mlm_scale=1.0, teacher=teacher
    )
    value.backward()
    assert (value.item(), ce.item(), mlm.item()) == (0, 0, 0)
    assert not any(x.grad.any() for x in (hidden, weight, bias))


def test_chunked_head_without_soft_targets_needs_no_teacher(batch):
    where = batch["mask"].bool()
    value, ce, mlm = vocabulary_head.vocabulary_losses(
        Decoding(batch["hidden"][where], batch["weight"], batch["bias"]), batch["labels"][where], mlm_scale=1.0
    )
    assert ce.item() == 0
    assert (
        value.item()
        == mlm.item()
        == pytest.approx(6 * cross_entropy_by_hand(batch["student"], batch["labels"]), rel=1e-5)
    )


def test_chunked_value_does_not_drift():
    """2,000 tokens × 3,000 words in float32 against float64: equal to 1e-5, where terms of both signs nearly cancel."""
    make = torch.Generator().manual_seed(1)
    tokens, vocab, dim = 2000, 3000, 16
    hidden, t_hidden = torch.randn(tokens, dim, generator=make), torch.randn(tokens, dim, generator=make)
    weight = 0.1 * torch.randn(vocab, dim, generator=make)  # close distributions: small differences of large sums
    t_weight = weight + 0.02 * torch.randn(vocab, dim, generator=make)
    bias, labels = torch.zeros(vocab), torch.full((tokens,), IGNORE)
    labels[::7] = torch.randint(vocab, (len(labels[::7]),), generator=make)
    _, ce, mlm = vocabulary_head.vocabulary_losses(
        Decoding(hidden, weight, bias),
        labels,
        ce_scale=1.0,
        mlm_scale=1.0,
        teacher=(hidden + 0.05 * t_hidden, t_weight, bias),
    )
    s = torch.log_softmax(hidden.double() @ weight.double().T / 2, -1)
    t = torch.log_softmax((hidden + 0.05 * t_hidden).double() @ t_weight.double().T / 2, -1)
    expected = 4 * (t.exp() * (t - s)).sum().item()
    assert ce.item() == pytest.approx(expected, rel=1e-5)
    p = torch.log_softmax(hidden.double() @ weight.double().T, -1)
    assert mlm.item() == pytest.approx(-p[labels != IGNORE, labels[labels != IGNORE]].sum().item(), rel=1e-6)


class Watch(TorchDispatchMode):
    """Notes the shape of everything that is computed, and the memory of every input of a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes, self.multiplied = set(), set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        self.shapes |= {tuple(x.shape) for x in torch.utils._pytree.tree_leaves(found) if torch.is_tensor(x)}
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.multiplied |= {x.untyped_storage().data_ptr() for x in args}
        return found


def test_chunked_head_never_holds_all_logits(batch):
    """The widest tensor that anything returns has `chunk` rows; whole logits would have 15."""
    with Watch() as seen:
        chunked(batch, 2.0, 1.0, 1.0, 4, batch["mask"].bool())
    assert max(rows for rows, *width in seen.shapes - {(), (DIM, VOCAB)} if width == [VOCAB]) == 4


def test_logits_are_worked_on_in_blocks_that_fit_the_cache(batch, monkeypatch):
    """Smaller than a chunk, and it changes nothing: 15 tokens in chunks of 6 and blocks of 4, 2."""
    where, sizes = batch["mask"].bool(), []
    kernels = vocabulary_head.plain_kernels(4 * VOCAB + 1)
    powers = vocabulary_head.shifted_powers
    monkeypatch.setattr(vocabulary_head, "shifted_powers", lambda x, bias: sizes.append(len(x)) or powers(x, bias))
    ours, theirs = chunked(batch, 2.0, 5.0, 2.0, 6, where, kernels), reference(batch, 2.0, 5.0, 2.0, where)
    assert max(sizes) == 4
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_large_logits_do_not_overflow(batch):
    """exp(600) is infinite; the maximum of a row is taken out first."""
    batch["weight"], batch["t_weight"] = 300 * batch["weight"], 300 * batch["t_weight"]
    where = batch["mask"].bool()
    expected = reference(batch | teacher_logits(batch), 1.0, 5.0, 2.0, where)
    for a, b in zip(chunked(batch, 1.0, 5.0, 2.0, 4, where), expected, strict=True):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def teacher_logits(batch) -> dict[str, torch.Tensor]:
    """The teacher's logits after its decoder was changed."""
    return {"teacher": batch["t_hidden"] @ batch["t_weight"].T + batch["t_bias"]}


def test_gradients_are_kept_for_one_backward_pass(batch):
    """They are as large as the decoder and scaled in place: a second pass would scale them twice."""
    hidden = batch["hidden"][0].requires_grad_()
    value, *_ = vocabulary_head.vocabulary_losses(
        Decoding(hidden, batch["weight"], batch["bias"]), batch["labels"][0], mlm_scale=1.0
    )
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward"):
        value.backward()


# padding, nothing masked, count


def padded(batch: dict[str, torch.Tensor], extra: int = 3) -> dict[str, torch.Tensor]:
    """The same batch with columns of padding on its right, filled with large numbers that must not matter."""
    wide = {}
    for name in ("hidden", "t_hidden", "student", "teacher"):
        wide[name] = torch.cat([batch[name], 1e3 * torch.ones(BATCH, extra, batch[name].shape[-1])], 1)
    wide["mask"] = torch.cat([batch["mask"], torch.zeros(BATCH, extra, dtype=torch.long)], 1)
    wide["labels"] = torch.cat([batch["labels"], torch.full((BATCH, extra), IGNORE)], 1)
    return wide


def test_padding_changes_neither_losses_nor_gradients(batch):
    results = []
    for data in (batch, padded(batch)):
        logits, hidden = data["student"].clone().requires_grad_(), data["hidden"].clone().requires_grad_()
        loss, terms = losses.triple_loss(
            (logits, hidden), (data["teacher"], data["t_hidden"]), data["labels"], data["mask"], LossWeights()
        )
        loss.backward()
        results.append(
            (loss.detach(), *(t.detach() for t in terms.values()), logits.grad[:, :SEQ], hidden.grad[:, :SEQ])
        )
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert not logits.grad[:, SEQ:].any() and not hidden.grad[:, SEQ:].any()


def test_what_stands_at_padding_does_not_leak(batch):
    """Also inside the batch: rows 1 and 2 end in padding."""
    before = losses.soft_target_loss(batch["student"], batch["teacher"], batch["mask"])
    batch["student"][batch["mask"] == 0] = 100 * torch.randn(6, VOCAB)
    assert torch.equal(before, losses.soft_target_loss(batch["student"], batch["teacher"], batch["mask"]))


def test_nothing_masked_is_zero_not_nan(batch):
    logits = batch["student"].clone().requires_grad_()
    nothing = torch.full((BATCH, SEQ), IGNORE)
    loss = losses.mlm_loss(logits, nothing) + losses.soft_target_loss(logits, batch["teacher"], nothing != IGNORE)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_all_padding_is_zero_not_nan(batch):
    hidden = batch["hidden"].clone().requires_grad_()
    loss = losses.cosine_loss(hidden, batch["t_hidden"], torch.zeros(BATCH, SEQ))
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(hidden.grad).all()


def test_count_makes_micro_batches_add_up_to_the_whole(batch):
    """Rows of 7, 5 and 3 tokens with 3, 2 and 1 masked words: means of means would weigh the short rows up."""
    tokens, masked = 15, 6
    whole = [
        losses.soft_target_loss(batch["student"], batch["teacher"], batch["mask"]),
        losses.mlm_loss(batch["student"], batch["labels"]),
        losses.cosine_loss(batch["hidden"], batch["t_hidden"], batch["mask"]),
    ]
    parts = torch.zeros(3)
    for i in range(BATCH):
        row = {name: batch[name][i : i + 1] for name in ("student", "teacher", "hidden", "t_hidden", "mask", "labels")}
        parts += torch.stack(
            [
                losses.soft_target_loss(row["student"], row["teacher"], row["mask"], count=tokens),
                losses.mlm_loss(row["student"], row["labels"], count=masked),
                losses.cosine_loss(row["hidden"], row["t_hidden"], row["mask"], count=tokens),
            ]
        )
    torch.testing.assert_close(parts, torch.stack(whole))


def test_count_without_a_masked_word_is_still_zero(batch):
    assert losses.mlm_loss(batch["student"], torch.full((BATCH, SEQ), IGNORE), count=6).item() == 0


# weights and temperature

WORK = {"ce": "soft_target_loss", "mlm": "mlm_loss", "cos": "cosine_loss"}


@pytest.mark.parametrize("off", [c for n in (1, 2) for c in itertools.combinations(WORK, n)], ids="-".join)
def test_a_term_of_weight_zero_is_not_computed(batch, monkeypatch, off):
    called = []
    for name in WORK.values():
        real = getattr(losses, name)
        monkeypatch.setattr(losses, name, lambda *a, name=name, real=real: called.append(name) or real(*a))
    weights = LossWeights(**{name: 0.0 if name in off else 1.0 for name in WORK})
    _, terms = losses.triple_loss(
        (batch["student"], batch["hidden"]),
        (batch["teacher"], batch["t_hidden"]),
        batch["labels"],
        batch["mask"],
        weights,
    )
    assert sorted(called) == sorted(WORK[name] for name in WORK if name not in off)
    assert set(terms) == set(WORK) - set(off)


def test_chunked_head_skips_the_teacher_without_soft_targets(batch):
    t_weight = batch["t_weight"].untyped_storage().data_ptr()
    for ce, looked_at in ((1.0, True), (0.0, False)):
        with Watch() as seen:
            chunked(batch, 2.0, ce, 1.0, 128, batch["mask"].bool())
        assert (t_weight in seen.multiplied) == looked_at


def test_whole_head_equals_the_chunked_one(batch):
    """What `torch.compile` is given on a GPU computes the same."""
    hidden, weight, bias = (batch[n].clone().requires_grad_() for n in ("hidden", "weight", "bias"))
    where = batch["mask"].bool()
    value, ce, mlm = vocabulary_head.whole_vocabulary_losses(
        Decoding(hidden[where], weight, bias),
        batch["labels"][where],
        ce_scale=5 / 15,
        mlm_scale=2 / 6,
        teacher=(batch["t_hidden"][where], batch["t_weight"], batch["t_bias"]),
    )
    (3 * value).backward()
    found = value, ce / 15, mlm / 6, hidden.grad, weight.grad, bias.grad
    for a, b in zip(found, chunked(batch, 2.0, 5.0, 2.0, 4, where), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_the_faster_head_is_taken_and_one_that_fails_passed_over(batch, monkeypatch):
    """By a clock that says what we want: each head moves it by its own time."""
    clock, asked = [0.0], []

    def head(name: str, seconds: float):
        def run(*args, **settings):
            asked.append(name)
            clock[0] += seconds
            if name == "broken":
                raise RuntimeError("no compiler")
            return vocabulary_head.vocabulary_losses(*args, **settings)

        return run

    heads = [head("slow", 3.0), head("broken", 0.0), head("fast", 1.0), head("middle", 2.0)]
    monkeypatch.setattr(vocabulary_head, "now", lambda _: clock[0])
    inputs = Decoding(batch["hidden"][0], batch["weight"], batch["bias"]), batch["labels"][0]
    assert vocabulary_head.faster_head(heads, *inputs, mlm_scale=1.0) is heads[2]
    assert asked.count("slow") == 4 and asked.count("broken") == 1
    assert batch["weight"].grad is None
    assert vocabulary_head.faster_head(heads[1:2], *inputs, mlm_scale=1.0) is heads[1]


def test_default_weights_are_the_originals_single_gpu_command():
    assert LossWeights() == LossWeights(5, 2, 1)


@pytest.mark.parametrize("name", ["ce", "mlm", "cos"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_weights_are_numbers_of_zero_or_more(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        LossWeights(**{name: value})


def test_three_zero_weights_are_refused():
    with pytest.raises(ValueError, match="weights"):
        LossWeights(0, 0, 0)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperature_is_above_zero_and_finite(batch, temperature):
    with pytest.raises(ValueError, match="temperature"):
        losses.soft_target_loss(batch["student"], batch["teacher"], batch["mask"], temperature)
    with pytest.raises(ValueError, match="temperature"):
        vocabulary_head.vocabulary_losses(
            Decoding(batch["hidden"][0], batch["weight"], batch["bias"]), batch["labels"][0], temperature=temperature
        )


def test_what_a_head_takes_to_compile_is_not_counted(batch, monkeypatch):
    """The first trial takes 100 s, each of the others 1 s; the other head always takes 3 s."""
    clock = [0.0]

    def head(*seconds: float):
        left = iter(seconds)

        def run(*args, **settings):
            clock[0] += next(left)
            return vocabulary_head.vocabulary_losses(*args, **settings)

        return run

    heads = [head(3.0, 3.0, 3.0, 3.0), head(100.0, 1.0, 1.0, 1.0)]
    monkeypatch.setattr(vocabulary_head, "now", lambda _: clock[0])
    inputs = Decoding(batch["hidden"][0], batch["weight"], batch["bias"]), batch["labels"][0]
    assert vocabulary_head.faster_head(heads, *inputs, mlm_scale=1.0) is heads[1]
