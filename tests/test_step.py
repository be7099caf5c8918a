"""The pre-training step: what it leaves out, what half precision keeps, how little of it is padding."""

import copy

import numpy as np
import pytest
import torch
from conftest import make_teacher

from distilnb.distillation import step as step_module
from distilnb.distillation.batches import MaskedRows, MicroBatches, collate, make_samples
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.distillation.step import WORTH_COMPILING, Distillation, network
from distilnb.distillation.vocabulary_head import PLAIN
from distilnb.models import forward
from distilnb.models.student import build_student
from distilnb.text.masking import IGNORE, Masker

pytestmark = pytest.mark.usefixtures("one_thread")


def a_batch(corpus, masker, rows: int = 6) -> dict[str, torch.Tensor]:
    """The first masked rows of a corpus."""
    return collate(MaskedRows(corpus.train, masker).__getitems__([(0, i) for i in range(rows)]))


@pytest.mark.parametrize("ce, positions, share", [(0.0, "all", 0.15), (5.0, "all", 1.0), (5.0, "masked", 0.15)])
def test_the_head_of_a_long_run_is_compiled(teacher, ce, positions, share, monkeypatch):
    """Long is counted in logits: tokens that the head covers times words."""
    monkeypatch.setattr(step_module, "compiled_kernels", lambda: "compiled")
    enough = WORTH_COMPILING / share / teacher.config.vocab_size
    for tokens, expected in ((enough * 1.01, "compiled"), (enough * 0.99, PLAIN)):
        config = PretrainingConfig(tokens=int(tokens), ce=ce, positions=positions)
        assert Distillation(build_student(teacher), teacher, config).kernels is expected


@pytest.mark.parametrize("layout", ["packed", "grouped"])
def test_less_than_a_twentieth_of_what_is_computed_is_padding(request, layout):
    """Over a whole epoch; unordered batches of the same documents would hold more than a tenth."""
    corpus = request.getfixturevalue(layout)
    shape = {"seq_length": corpus.info["seq_length"], "batch_size": 8, "micro_batch_size": 8, "layout": layout}
    updates = len(corpus.train_lengths) // 8

    def padding(batches: list[list[int]]) -> float:
        computed = sum(len(batch) * corpus.train_lengths[batch].max() for batch in batches)
        return 1 - sum(corpus.train_lengths[batch].sum() for batch in batches) / computed

    ours = [[i for _, i in keys] for keys in MicroBatches(corpus, PretrainingConfig(**shape), 0, updates)]
    assert padding(ours) < 0.05
    if layout == "grouped":
        assert padding(np.random.default_rng(0).permutation(updates * 8).reshape(-1, 8).tolist()) > 0.1
    else:
        assert padding(ours) == 0


def test_cosine_loss_alone_computes_no_vocabulary_head(packed, masker, teacher, monkeypatch):
    asked = []
    monkeypatch.setattr(step_module, "vocabulary_losses", lambda *a, **k: asked.append("head"))
    monkeypatch.setattr(forward, "head_input", lambda *a: asked.append("transform"))
    step = Distillation(build_student(teacher, init="random"), teacher, PretrainingConfig(ce=0, mlm=0, cos=1))
    loss, terms = step(a_batch(packed, masker), 192.0, 29.0)
    loss.backward()
    assert asked == [] and terms.tolist() == pytest.approx([0, 0, loss.item()]) and loss.item() > 0


def test_teacher_runs_in_inference_mode_and_in_the_precision_of_the_step(packed, masker, teacher):
    """In bf16 on a copy, made once; the teacher that was given stays in float32."""
    seen = []
    teacher.bert.encoder.register_forward_hook(lambda _, x, out: seen.append((x[0].is_inference(), x[0].dtype)))
    step = Distillation(build_student(teacher), teacher, PretrainingConfig())
    step(a_batch(packed, masker), 192.0, 29.0)
    with torch.autocast("cpu", torch.bfloat16):
        copies = []
        for _ in range(2):
            step(a_batch(packed, masker), 192.0, 29.0)
            copies.append(step.teacher_weights[torch.bfloat16])
    assert seen == [(True, torch.float32), (True, torch.bfloat16), (True, torch.bfloat16)]
    assert copies[0] is copies[1] and {w.dtype for w in copies[0].values()} == {torch.bfloat16}
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_half_precision_trains_float32_weights_and_sums_embeddings_in_float32(packed, masker, teacher, kind):
    """Of a word that stands 64 times in a batch, the gradient is a sum of 64; 8 bits would lose most of it."""
    model = build_student(teacher, init="random").eval() if kind == "student" else copy.deepcopy(teacher)
    found, batch = {}, a_batch(packed, masker, rows=64)
    rows = (batch["labels"].flatten() != IGNORE).nonzero()[:, 0]
    for dtype in (torch.float32, torch.bfloat16):
        model.zero_grad()
        hidden, (inputs, weight, _) = network(model, batch, rows, dtype)
        assert hidden.dtype == inputs.dtype == dtype and weight.dtype == torch.float32
        (hidden[..., :8].float().mean() + inputs[..., :8].float().square().mean()).backward()
        assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
        words = model.get_input_embeddings().weight.grad
        found[dtype] = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        assert words[words != 0].bfloat16().float().ne(words[words != 0]).float().mean() > 0.9  # not 8 bits only
    assert torch.cosine_similarity(*found.values(), dim=0) > 0.99
    assert not model.base_model.embeddings._forward_hooks


def test_half_precision_is_as_close_to_float32_as_autocast(packed, masker):
    """The teacher's distributions: KL from float32's to ours in bf16, against PyTorch's own casting."""
    teacher = make_teacher(1000, layers=6)
    batch = a_batch(packed, masker)
    rows = torch.arange(batch["labels"].numel())

    def distributions(dtype: torch.dtype, autocast: bool) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            model = copy.deepcopy(teacher).to(dtype)
            _, (inputs, weight, bias) = network(model, batch, rows, dtype)
            return torch.log_softmax((inputs.float() @ weight.float().T + bias.float()) / 2, -1)

    exact = distributions(torch.float32, False)

    def divergence(other: torch.Tensor) -> float:
        return (exact.exp() * (exact - other)).sum(-1).mean().item()

    ours, autocast = divergence(distributions(torch.bfloat16, False)), divergence(distributions(torch.float32, True))
    assert 0 < ours < 4 * autocast and ours < 1e-3


def test_the_compiled_head_is_considered_on_a_gpu_only(packed, masker, teacher, monkeypatch):
    """Here the choice is a stub that takes the last candidate; what it computes is the same."""
    chosen = []

    def choose(heads, *args, **settings):
        chosen.append(len(heads))
        return heads[-1]

    monkeypatch.setattr(step_module, "faster_head", choose)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    student, batch, found = build_student(teacher).eval(), a_batch(packed, masker), []
    for gpu in (False, True):
        monkeypatch.setattr(step_module, "on_gpu", lambda _, gpu=gpu: gpu)
        step = Distillation(student, teacher, PretrainingConfig())
        for _ in range(2):
            loss, terms = step(batch, 192.0, 29.0)
        found.append((loss.detach(), terms))
        assert step.compiled is gpu
    assert chosen == [2]
    torch.testing.assert_close(*found)


def test_gradients_of_norms_do_not_lose_terms_in_bf16(teacher):
    """Added up one after the other in bf16, those of 16,000 tokens would lose a third of their size."""
    torch.manual_seed(0)
    student = build_student(teacher, init="random").train()
    for layer in student.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    ids = torch.randint(5, student.config.vocab_size, (256, 64))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    step = Distillation(student, None, PretrainingConfig(ce=0.0, cos=0.0))
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            loss, _ = step(batch, float(ids.numel()), float(ids.numel()))
        loss.backward()
        norms = [p.grad for name, p in student.named_parameters() if "layer_norm" in name.lower()]
        gradients.append(torch.cat([g.flatten() for g in norms]).clone())
        student.zero_grad()
    exact, found = gradients
    assert (found - exact).norm() < 0.05 * exact.norm()


def test_samples_are_masked_by_the_settings_of_the_run(packed, tokenizer):
    config = PretrainingConfig(seed=7, smoothing=0.5, mask_probability=0.3)
    made = make_samples(tokenizer, packed.token_counts, "masked", config)
    wanted = Masker.of(tokenizer, packed.token_counts, smoothing=0.5, probability=0.3, seed=7)
    assert (made.seed, made.probability) == (7, 0.3) and np.array_equal(made.weights, wanted.weights)
