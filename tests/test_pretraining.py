"""The loop: it learns, it shares an update out in any way, and a run that was cut is the run that was not."""

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cutting
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import bert_config, make_teacher, weights_of
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertForMaskedLM

from distilnb import scales
from distilnb.distillation import evaluation
from distilnb.distillation.batches import MaskedRows, MicroBatches, collate
from distilnb.distillation.estimate import estimate_passes
from distilnb.distillation.evaluation import HeldOut, evaluate
from distilnb.distillation.loop import Run, check_output, pretrain
from distilnb.distillation.losses import triple_loss
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.distillation.step import Distillation
from distilnb.evidence.records import KEYS, Stopwatch, load_record, save_record
from distilnb.machine import device
from distilnb.models.growth import new_teacher
from distilnb.models.student import build_student
from distilnb.text.corpus import build_corpus
from distilnb.text.masking import IGNORE, Masker
from distilnb.text.sources import TextSource, parse_sources

pytestmark = pytest.mark.usefixtures("one_thread")


def settings(updates: int, corpus, **more) -> PretrainingConfig:
    """A configuration of exactly `updates` updates on this corpus."""
    shape = {
        "seq_length": corpus.info["seq_length"],
        "batch_size": 8,
        "micro_batch_size": 8,
        "learning_rate": 2e-3,
        "evaluate_every": 1000,
        "checkpoint_minutes": 1e9,
    }
    config = PretrainingConfig(**(shape | more))
    tokens = int((updates - 0.5) * config.batch_size * corpus.train_lengths.mean())
    config = replace(config, tokens=tokens)
    assert config.steps(corpus) == updates
    return config


def without_dropout(teacher: BertForMaskedLM) -> BertForMaskedLM:
    """The same teacher, whose students have no dropout."""
    teacher.config.hidden_dropout_prob = teacher.config.attention_probs_dropout_prob = 0.0
    return teacher


def digest(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder."""
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


def assert_same_weights(one: dict, other: dict) -> None:
    """To the last bit, naming the tensor that differs."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, f"{len(different)} of {len(one)} tensors differ, first {different[0]}"


def largest_difference(one: dict, other: dict) -> float:
    """The largest difference of any weight, key biases aside.

    A key bias adds the same to every score of a row and softmax takes it out again: its gradient is rounding noise,
    which Adam makes as large as any other.
    """
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one if not name.endswith("k_lin.bias"))


# it learns


def test_loss_falls(packed, masker, accelerator, teacher):
    student = build_student(teacher, init="random")
    record = pretrain(
        student, packed, masker, accelerator, settings(40, packed, learning_rate=5e-3), teacher=teacher, quiet=True
    )
    curve, evaluations = record["curve"], record["evaluations"]
    for term in ("loss", "ce", "mlm", "cos"):
        assert np.mean(curve[term][-5:]) < 0.95 * np.mean(curve[term][:5]), term
    assert evaluations["step"] == [0, 40]
    assert evaluations["mlm_loss"][1] < 0.9 * evaluations["mlm_loss"][0]
    assert evaluations["agreement"][1] > evaluations["agreement"][0]
    assert record["scores"] == {name: evaluations[name][1] for name in ("mlm_loss", "accuracy", "agreement")}


def test_a_teacher_is_pretrained_by_the_same_loop(packed, masker, accelerator, tokenizer):
    model = new_teacher(bert_config(len(tokenizer), layers=2, initializer_range=0.05))
    config = settings(60, packed, learning_rate=5e-3, ce=0, cos=0)
    record = pretrain(model, packed, masker, accelerator, config, quiet=True)
    assert (record["kind"], record["model"]) == ("teacher", "teacher")
    assert np.mean(record["curve"]["mlm"][-5:]) < 0.9 * np.mean(record["curve"]["mlm"][:5])
    assert not any(record["curve"]["ce"]) and not any(record["curve"]["cos"])
    assert "agreement" not in record["scores"]


@pytest.mark.parametrize("terms", [{"ce": 1}, {"cos": 1}, {"ce": 1, "cos": 1, "mlm": 0}])
def test_without_a_teacher_soft_targets_are_refused(packed, masker, accelerator, teacher, terms):
    config = settings(1, packed, **({"ce": 0, "cos": 0} | terms))
    with pytest.raises(ValueError, match="teacher"):
        pretrain(build_student(teacher), packed, masker, accelerator, config, quiet=True)


@pytest.mark.parametrize("ce, mlm, cos", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)])
def test_every_ablation_of_table_4_runs(packed, masker, accelerator, teacher, ce, mlm, cos):
    """An assert of the original code forbade L_mlm = 0, the third row of the paper's ablation."""
    student = build_student(teacher, init="random")
    before = weights_of(student)
    config = settings(2, packed, ce=ce, mlm=mlm, cos=cos)
    curve = pretrain(student, packed, masker, accelerator, config, teacher=teacher, quiet=True)["curve"]
    for name, weight in {"ce": ce, "mlm": mlm, "cos": cos}.items():
        assert all(curve[name]) == bool(weight), name
    total = ce * np.array(curve["ce"]) + mlm * np.array(curve["mlm"]) + cos * np.array(curve["cos"])
    np.testing.assert_allclose(curve["loss"], total, rtol=1e-4)
    moved = {name for name, parameter in student.named_parameters() if not torch.equal(parameter, before[name])}
    assert "distilbert.transformer.layer.0.ffn.lin1.weight" in moved
    assert ("vocab_transform.weight" in moved) == bool(ce or mlm)  # L_cos looks at the layers below the head only


def test_teacher_stays_as_it_was(packed, masker, accelerator, teacher):
    before = weights_of(teacher)
    pretrain(build_student(teacher), packed, masker, accelerator, settings(2, packed), teacher=teacher, quiet=True)
    assert_same_weights(before, weights_of(teacher))
    assert all(parameter.grad is None for parameter in teacher.parameters())


# one forward pass against the reference losses


def a_batch(corpus, masker, rows: int = 6) -> dict[str, torch.Tensor]:
    """The first masked rows of a corpus."""
    return collate(MaskedRows(corpus.train, masker).__getitems__([(0, i) for i in range(rows)]))


@pytest.mark.parametrize("layout", ["packed", "grouped"])
@pytest.mark.parametrize("positions", ["all", "masked"])
def test_forward_pass_is_the_triple_loss(request, masker, teacher, layout, positions):
    """Terms, value and every gradient against `triple_loss` on the logits that transformers computes."""
    batch = a_batch(request.getfixturevalue(layout), masker)
    assert bool(batch["attention_mask"].all()) == (layout == "packed")
    config = PretrainingConfig(ce=5, mlm=2, cos=1, temperature=3.0, positions=positions)
    student, other = (build_student(teacher, init="random").eval() for _ in range(2))
    tokens, masked = batch["attention_mask"].sum().item(), (batch["labels"] != IGNORE).sum().item()
    loss, terms = Distillation(student, teacher, config)(batch, tokens, masked)
    loss.backward()

    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "output_hidden_states": True}
    own = other(**inputs)
    with torch.no_grad():
        theirs = teacher(**inputs)
    expected, parts = triple_loss(
        (own.logits, own.hidden_states[-1]),
        (theirs.logits, theirs.hidden_states[-1]),
        batch["labels"],
        batch["attention_mask"],
        config.weights,
        3.0,
        positions,
    )
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(terms, torch.stack([parts["ce"], parts["mlm"], parts["cos"]]), rtol=1e-5, atol=1e-5)
    for (name, a), (_, b) in zip(student.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_forward_pass_in_half_precision_is_close(packed, masker, teacher):
    """bfloat16 has 8 bits: losses within 3 %, gradients in nearly the same direction."""
    batch, config = a_batch(packed, masker), PretrainingConfig()
    student = build_student(teacher, init="random").eval()
    step, found = Distillation(student, teacher, config), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss, terms = step(batch, 192.0, 29.0)
        step.zero_grad()
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in student.parameters()])
        assert gradient.dtype == torch.float32
        found.append((loss.item(), terms.tolist(), gradient))
    (loss, terms, exact), (rough_loss, rough_terms, rough) = found
    assert rough_loss == pytest.approx(loss, rel=0.03) and rough_loss != loss
    assert rough_terms == pytest.approx(terms, rel=0.03)
    assert torch.cosine_similarity(exact, rough, dim=0) > 0.99


def test_forward_pass_without_a_masked_word(packed, masker, teacher):
    batch = a_batch(packed, masker)
    batch["labels"].fill_(IGNORE)
    student = build_student(teacher, init="random")
    loss, terms = Distillation(student, teacher, PretrainingConfig())(batch, 192.0, 1.0)
    loss.backward()
    assert terms[1].item() == 0 and terms[0].item() > 0
    assert all(torch.isfinite(p.grad).all() for p in student.parameters())


@pytest.mark.parametrize("terms, calls", [({"ce": 0, "cos": 0}, 0), ({"ce": 0}, 1), ({"cos": 0}, 1)])
def test_teacher_is_asked_only_when_a_term_needs_it(packed, masker, teacher, terms, calls):
    asked = []
    teacher.bert.register_forward_hook(lambda *_: asked.append(1))
    Distillation(build_student(teacher), teacher, PretrainingConfig(**terms))(a_batch(packed, masker), 192.0, 29.0)
    assert len(asked) == calls


# an update, shared out


@pytest.mark.parametrize("layout", ["packed", "grouped"])
def test_micro_batches_change_nothing(request, masker, accelerator, teacher, layout):
    """8 sequences as 1×8, 2×4, 4×2 and 8×1, of equal and of unequal lengths, give the same weights after 3 updates.

    Tolerance 5e-6 on weights that moved by 2e-3 an update: only the order of float32 additions differs.
    """
    corpus, weights, losses = request.getfixturevalue(layout), {}, {}
    without_dropout(teacher)
    for micro in (8, 4, 2, 1):
        student = build_student(teacher, init="random")
        config = settings(3, corpus, micro_batch_size=micro, warmup=0.0)
        losses[micro] = pretrain(student, corpus, masker, accelerator, config, teacher=teacher, quiet=True)["curve"][
            "loss"
        ]
        weights[micro] = weights_of(student)
    moved = largest_difference(weights[8], weights_of(build_student(teacher, init="random")))
    assert moved > 1e-3
    for micro in (4, 2, 1):
        assert largest_difference(weights[8], weights[micro]) < 5e-6, micro
        assert losses[micro] == pytest.approx(losses[8], rel=1e-4)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("micro", [1, 2])
def test_processes_and_micro_batches_share_the_same_samples(packed, processes, micro):
    config = settings(5, packed, micro_batch_size=micro)
    whole = list(MicroBatches(packed, settings(5, packed), 0, 5))
    shares = [list(MicroBatches(packed, config, 0, 5, rank, processes)) for rank in range(processes)]
    each = 8 // (micro * processes)
    assert {len(share) for share in shares} == {5 * each} == {len(MicroBatches(packed, config, 0, 5, 0, processes))}
    for update in range(5):
        together = [key for share in shares for batch in share[update * each : (update + 1) * each] for key in batch]
        assert sorted(together) == sorted(whole[update])


def test_each_epoch_sees_each_sample_once_and_updates_run_over_its_end(packed):
    samples = len(packed.train_lengths)
    assert samples % 8, "the example wants an epoch that ends inside an update"
    updates = -(-2 * samples // 8)
    keys = [key for batch in MicroBatches(packed, settings(updates, packed), 0, updates) for key in batch]
    for epoch in (0, 1):
        assert sorted(i for e, i in keys if e == epoch) == list(range(samples))
    assert [e for e, _ in keys] == sorted(e for e, _ in keys)
    first, second = ([i for e, i in keys if e == epoch] for epoch in (0, 1))
    assert first != second  # the original on several GPUs never calls set_epoch: the same order each time


def test_micro_batches_from_the_middle_are_the_rest_of_the_whole(packed):
    config = settings(9, packed, micro_batch_size=4)
    assert list(MicroBatches(packed, config, 4, 9)) == list(MicroBatches(packed, config, 0, 9))[8:]


def test_order_follows_the_seed(packed):
    one, again, other = (list(MicroBatches(packed, settings(3, packed, seed=seed), 0, 3)) for seed in (1, 1, 2))
    assert one == again != other


def test_grouped_micro_batches_hold_little_padding(grouped):
    lengths = grouped.train_lengths
    config = settings(len(lengths) // 8, grouped)
    shares = [lengths[[i for _, i in batch]] for batch in MicroBatches(grouped, config, 0, len(lengths) // 8)]
    padding = 1 - sum(s.sum() for s in shares) / sum(s.max() * len(s) for s in shares)
    assert padding < 0.05


def test_collate_pads_on_the_right():
    rows = [
        {"input_ids": np.array([7, 8, 9]), "labels": np.array([IGNORE, 8, IGNORE])},
        {"input_ids": np.array([5]), "labels": np.array([IGNORE])},
    ]
    batch = collate(rows, pad_id=1)
    assert batch["input_ids"].tolist() == [[7, 8, 9], [5, 1, 1]]
    assert batch["labels"].tolist() == [[IGNORE, 8, IGNORE], [IGNORE] * 3]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.parametrize("layout", ["packed", "grouped"])
def test_masked_rows_are_the_corpus_rows_masked_for_their_epoch(request, layout, masker):
    corpus = request.getfixturevalue(layout)
    keys = [(0, 5), (1, 5), (0, 2)]
    for (epoch, i), sample in zip(keys, MaskedRows(corpus.train, masker).__getitems__(keys), strict=True):
        ids, labels = masker(np.asarray(corpus.train[i]["input_ids"]), epoch, i)
        assert np.array_equal(sample["input_ids"], ids) and np.array_equal(sample["labels"], labels)


# the optimizer


def test_learning_rate_climbs_and_falls():
    config = PretrainingConfig(learning_rate=1.0, warmup=0.1)
    rate = [config.learning_rate_at(step, 100) for step in range(100)]
    assert rate[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rate[9] == rate[10] == 1.0
    assert rate[55] == pytest.approx(0.5)
    assert rate[99] == pytest.approx(1 / 90)
    assert all(a > b for a, b in zip(rate[10:], rate[11:], strict=False))


@pytest.mark.parametrize("warmup, steps", [(0.0, 10), (0.05, 1), (0.99, 10), (0.5, 2)])
def test_learning_rate_at_the_edges(warmup, steps):
    config = PretrainingConfig(learning_rate=1.0, warmup=warmup)
    rate = [config.learning_rate_at(step, steps) for step in range(steps)]
    assert max(rate) == 1.0 and min(rate) > 0


def test_updates_use_the_recipe(packed, masker, accelerator, teacher, monkeypatch):
    """AdamW's betas and epsilon, the scheduled rate at each step, and gradients no longer than `clip`."""
    config = settings(4, packed, clip=0.5, warmup=0.5, weight_decay=0.1)
    run = Run(build_student(teacher, init="random"), packed, masker, accelerator, config, teacher, None)
    rates, norms, optimizer = [], [], run.optimizer.optimizer
    step = optimizer.step

    def spy() -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        norms.append(torch.cat([p.grad.flatten() for p in run.student.parameters()]).norm().item())
        step()

    monkeypatch.setattr(optimizer, "step", spy)
    batches = iter(run.loader(4))
    reported = [run.update(batches)["norm"] for _ in range(4)]
    assert rates == pytest.approx([1e-3, 2e-3, 2e-3, 1e-3])
    assert norms == pytest.approx([0.5] * 4, rel=1e-3) and min(reported) > 0.5
    group = run.optimizer.param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-6, 0.1)


@pytest.fixture
def poisoned(monkeypatch) -> None:
    """The third forward pass and the next ones give nan, those before what they should."""
    forward, calls = Distillation.forward, []

    def spoilt(self, *args):
        loss, terms = forward(self, *args)
        calls.append(1)
        factor = float("nan") if 3 <= len(calls) < 6 else 1.0
        return loss * factor, terms * factor

    monkeypatch.setattr(Distillation, "forward", spoilt)


def test_losses_that_are_not_finite_stop_the_run_before_the_weights_are_spoilt(
    packed, masker, accelerator, teacher, tmp_path, poisoned
):
    """The original code left with status 0."""
    student, config = build_student(teacher), settings(8, packed, checkpoint_every=2, max_skipped=2)
    said = "2 updates in a row had no finite .* from update 3 on .loss nan, .*the weights of update 2 are saved in "
    with pytest.raises(FloatingPointError, match=said):
        pretrain(student, packed, masker, accelerator, config, teacher=teacher, out=tmp_path, quiet=True)
    assert all(torch.isfinite(p).all() for p in student.parameters())
    saved = load_file(tmp_path / "checkpoints" / "step-00000004" / "model.safetensors")
    assert_same_weights(saved, load_file(tmp_path / "checkpoints" / "step-00000002" / "model.safetensors"))


def test_the_advice_after_such_losses_can_be_followed(packed, masker, accelerator, teacher, tmp_path, poisoned):
    options = {"teacher": teacher, "out": tmp_path, "quiet": True}
    config = settings(5, packed, checkpoint_every=2, max_skipped=3)
    with pytest.raises(FloatingPointError, match="another"):
        pretrain(build_student(teacher), packed, masker, accelerator, config, **options)
    slower, options["out"] = replace(config, learning_rate=config.learning_rate / 10), tmp_path / "another"
    assert pretrain(build_student(teacher), packed, masker, accelerator, slower, **options)["steps"] == 5


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"tokens": 0}, "tokens"),
        ({"seq_length": -1}, "seq_length"),
        ({"batch_size": 0}, "batch_size"),
        ({"micro_batch_size": 0}, "micro_batch_size"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"clip": 0.0}, "clip"),
        ({"temperature": 0.0}, "temperature"),
        ({"ce": -1.0}, "ce"),
        ({"ce": 0, "mlm": 0, "cos": 0}, "weights"),
        ({"positions": "some"}, "positions"),
        ({"layout": "loose"}, "layout"),
        *(({"warmup": value}, "warmup .*share") for value in (500, 1.0, -0.1, float("nan"))),
        *(({"mask_probability": value}, "mask_probability .*share") for value in (15, 0, float("nan"))),
        *(({"checkpoint_minutes": value}, "checkpoint_minutes") for value in (0, float("inf"))),
        *(({"seed": value}, "seed") for value in (-1, 2**64)),
        *(({name: -1}, name) for name in ("workers", "evaluate_every", "checkpoint_every", "watts", "kwh_price")),
        *(({name: value}, name) for name in ("weight_decay", "smoothing") for value in (-1, float("nan"))),
    ],
)
def test_wrong_settings_are_refused_when_they_are_written_down(wrong, message):
    with pytest.raises(ValueError, match=message):
        PretrainingConfig(**wrong)


@pytest.mark.parametrize("change, message", [({"micro_batch_size": 3}, "multiple"), ({"seq_length": 64}, "blocks")])
def test_settings_that_do_not_fit_each_other(packed, masker, accelerator, teacher, tmp_path, change, message):
    config = replace(settings(1, packed), **change)
    with pytest.raises(ValueError, match=message):
        pretrain(build_student(teacher), packed, masker, accelerator, config, teacher=teacher, out=tmp_path)
    assert not list(tmp_path.iterdir())


# exact resume


def run_in_sittings(packed, masker, teacher, out: Path, stops: list[int], workers: int = 0) -> tuple[dict, dict]:
    """(weights, record) of one run of 8 updates that is stopped after each of `stops` and taken up by a new student."""
    for sitting, stop in enumerate([*stops, None]):
        student = build_student(teacher, init="random")
        config = settings(
            8, packed, micro_batch_size=4, evaluate_every=3, workers=workers, checkpoint_every=2 + sitting
        )
        torch.manual_seed(1000 + sitting)  # what was drawn before must not matter
        record = pretrain(
            student,
            packed,
            masker,
            Accelerator(cpu=True),
            config,
            teacher=teacher,
            out=out,
            stop_after=stop,
            quiet=True,
        )
    return weights_of(student), record


@pytest.fixture(scope="module")
def in_one_go(packed, tokenizer, tmp_path_factory) -> tuple[dict, dict]:
    """The run that was not cut, with dropout."""
    masker, teacher = Masker.of(tokenizer, packed.token_counts), make_teacher(len(tokenizer))
    return run_in_sittings(packed, masker, teacher, tmp_path_factory.mktemp("whole"), [])


def assert_same_run(one: tuple[dict, dict], other: tuple[dict, dict]) -> None:
    """Weights to the last bit, and the same curve and evaluations."""
    assert_same_weights(one[0], other[0])
    for column in ("step", "tokens", "loss", "ce", "mlm", "cos", "norm"):
        assert one[1]["curve"][column] == other[1]["curve"][column], column
    assert one[1]["evaluations"] == other[1]["evaluations"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stops", [[3], [2, 5]], ids=str)
def test_a_resumed_run_is_the_run_in_one_go(packed, masker, teacher, tmp_path, in_one_go, stops, workers):
    assert_same_run(in_one_go, run_in_sittings(packed, masker, teacher, tmp_path, stops, workers))


def test_workers_do_not_change_the_run(packed, masker, teacher, tmp_path, in_one_go):
    assert_same_run(in_one_go, run_in_sittings(packed, masker, teacher, tmp_path, [], workers=2))


def test_dropout_is_on_in_the_run_that_is_resumed_exactly(packed, masker, teacher, tmp_path, in_one_go):
    """Otherwise the tests above would not see that it is restored."""
    other = run_in_sittings(packed, masker, without_dropout(teacher), tmp_path, [])
    assert largest_difference(in_one_go[0], other[0]) > 1e-4


def test_a_finished_run_is_not_run_again(packed, masker, teacher, tmp_path, in_one_go):
    first = run_in_sittings(packed, masker, teacher, tmp_path, [])
    before = digest(tmp_path)
    assert_same_run(first, run_in_sittings(packed, masker, teacher, tmp_path, []))
    assert digest(tmp_path) == before


def test_time_of_all_sittings_is_added_up(packed, masker, accelerator, teacher, tmp_path, monkeypatch):
    """By a clock that shows the same in each sitting."""
    read, shown = Stopwatch.read, {"wall_seconds": 10.0, "cpu_seconds": 5.0}
    monkeypatch.setattr(Stopwatch, "read", lambda watch: read(watch) | shown)
    student, config = build_student(teacher), settings(2, packed)
    options = {"teacher": teacher, "out": tmp_path, "quiet": True}
    for sitting, last in ((1, 1), (2, None)):
        record = pretrain(student, packed, masker, accelerator, config, stop_after=last, **options)
        assert {key: record[key] for key in shown} == {key: sitting * seconds for key, seconds in shown.items()}


CHANGES = {
    "--seed": lambda run: run | {"config": replace(run["config"], seed=1)},
    "--learning-rate": lambda run: run | {"config": replace(run["config"], learning_rate=1e-3)},
    "--layers": (lambda run: run | {"student": build_student(run["teacher"], layers=[0])}),
}


@pytest.mark.parametrize("words", CHANGES)
def test_another_run_in_the_folder_is_refused_and_left_alone(packed, masker, accelerator, teacher, tmp_path, words):
    run = {"student": build_student(teacher), "config": settings(2, packed), "teacher": teacher}

    def start(run: dict) -> None:
        pretrain(
            run["student"], packed, masker, accelerator, run["config"], teacher=run["teacher"], out=tmp_path, quiet=True
        )

    start(run)
    before = digest(tmp_path)
    with pytest.raises(ValueError, match=words):
        start(CHANGES[words](run))
    assert digest(tmp_path) == before


def test_the_same_settings_on_other_text_are_another_run(
    packed, masker, accelerator, teacher, tokenizer, text_file, tmp_path
):
    other_text = tmp_path / "other.txt"
    other_text.write_text(text_file.read_text().replace("anna", "boris"))
    other = build_corpus([TextSource(str(other_text))], tokenizer, seq_length=32)
    for corpus, refused in ((packed, False), (other, True)):
        arguments = (build_student(teacher), corpus, masker, accelerator, settings(1, packed))
        if refused:
            with pytest.raises(ValueError, match="another"):
                pretrain(*arguments, teacher=teacher, out=tmp_path / "out", quiet=True)
        else:
            pretrain(*arguments, teacher=teacher, out=tmp_path / "out", quiet=True)


def test_the_same_settings_with_another_teacher_are_another_run(
    packed, masker, accelerator, teacher, tokenizer, tmp_path
):
    arguments = (packed, masker, accelerator, settings(2, packed))
    pretrain(build_student(teacher), *arguments, teacher=teacher, out=tmp_path, stop_after=1, quiet=True)
    other = make_teacher(len(tokenizer), seed=1)
    with pytest.raises(ValueError, match="another"):
        pretrain(build_student(teacher), *arguments, teacher=other, out=tmp_path, quiet=True)


def test_the_same_settings_with_another_student_are_another_run(packed, masker, accelerator, teacher, tmp_path):
    """As many parameters, but from other layers: its record would name layers that were never trained."""
    arguments = (packed, masker, accelerator, settings(2, packed))
    pretrain(build_student(teacher, (0, 2)), *arguments, teacher=teacher, out=tmp_path, stop_after=1, quiet=True)
    with pytest.raises(ValueError, match="another"):
        pretrain(build_student(teacher, (1, 3)), *arguments, teacher=teacher, out=tmp_path, quiet=True)


def test_output_folder_is_checked_before_long_work(packed, masker, accelerator, teacher, tmp_path):
    config = settings(1, packed)
    run, foreign, empty = tmp_path / "run", tmp_path / "foreign", tmp_path / "empty"
    pretrain(build_student(teacher), packed, masker, accelerator, config, teacher=teacher, out=run, quiet=True)
    foreign.mkdir(), empty.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    for folder in (run, empty, tmp_path / "absent"):
        check_output(folder, replace(config, workers=2))
    with pytest.raises(ValueError, match="foreign"):
        check_output(foreign, config)
    with pytest.raises(ValueError, match="another"):
        check_output(run, replace(config, temperature=1.0))


# in processes of their own


def test_two_processes_train_what_one_trains(still_teacher_folder, text_file, tmp_path):
    """To the bit: without dropout, which each draws for itself, and where one process sums the same halves."""
    given = cutting.flags(still_teacher_folder, text_file, updates=4, micro_batch_size=4)
    one, two = (cutting.Job(tmp_path / str(count), given, count) for count in (1, 2))
    assert cutting.run(one) == [0] and cutting.run(two) == [0, 0], two.said()
    assert cutting.outcome(one.out) == cutting.outcome(two.out)
    record = load_record(two.out / "model" / "record.json")
    assert [world["processes"] for world in record["worlds"]] == [2]


# what is shown, and what is measured


def test_showing_progress_does_not_change_the_run(packed, masker, accelerator, teacher, capsys):
    """The estimate that is printed first runs the model: its dropout and gradients must leave no trace."""
    weights = []
    for quiet in (True, False):
        student = build_student(teacher)
        pretrain(student, packed, masker, accelerator, settings(3, packed), teacher=teacher, quiet=quiet)
        weights.append(weights_of(student))
        printed = capsys.readouterr().out
        assert (printed == "") == quiet
    assert_same_weights(*weights)
    lines = printed.splitlines()
    assert lines[0] == "distillation: 3 updates of 8 sequences of 32 tokens"
    assert lines[1].startswith("estimate: about ") and "tokens/s" in lines[1] and "MiB of checkpoints" in lines[1]
    assert lines[-1].startswith("distillation 3/3 · loss ") and " · ce " in lines[-1] and lines[-1].endswith("0 s left")


def test_a_resumed_run_says_where_it_goes_on(packed, masker, accelerator, teacher, tmp_path, capsys):
    options = {"teacher": teacher, "out": tmp_path}
    pretrain(
        build_student(teacher), packed, masker, accelerator, settings(4, packed), stop_after=3, quiet=True, **options
    )
    pretrain(build_student(teacher), packed, masker, accelerator, settings(4, packed), **options)
    assert "going on from update 3" in capsys.readouterr().out


def test_a_record_tells_the_estimate_beside_what_its_last_sitting_took(packed, masker, accelerator, teacher, tmp_path):
    options = {"teacher": teacher, "out": tmp_path}
    pretrain(build_student(teacher), packed, masker, accelerator, settings(4, packed), stop_after=3, **options)
    record = pretrain(build_student(teacher), packed, masker, accelerator, settings(4, packed), **options)
    told = record["estimate"]
    assert told["from_step"] == 3 and 0 <= told["took_seconds"] <= record["wall_seconds"] + 1
    assert min(told["memory_bytes"], told["peak_memory_bytes"]) > 1e7
    silent = pretrain(
        build_student(teacher), packed, masker, accelerator, settings(4, packed), teacher=teacher, quiet=True
    )
    assert silent["estimate"] == {}, "nobody asked for one"


def test_estimate_is_positive_and_updates_nothing(packed, masker, accelerator, teacher):
    student = build_student(teacher)
    before, batch = weights_of(student), a_batch(packed, masker)
    found = estimate_passes(Distillation(student, teacher, PretrainingConfig()), batch, accelerator, tokens=10_000)
    assert min(found.seconds, found.memory_bytes, found.disk_bytes, found.tokens_per_second) > 0
    assert found.seconds == pytest.approx(10_000 / found.tokens_per_second)
    assert_same_weights(before, weights_of(student))
    assert all(p.grad is None for p in student.parameters())


def test_a_device_without_float64_is_given_none(packed, masker, accelerator, teacher, monkeypatch):
    """Apple's GPUs have none: the CPU plays one, on which a run with its evaluations makes no such tensor."""

    class Without(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            made = function(*arguments, **(keywords or {}))
            if torch.float64 in (x.dtype for x in tree_leaves(made) if isinstance(x, torch.Tensor)):
                raise TypeError(f"{function} makes float64")
            return made

    def run() -> dict:
        return pretrain(build_student(teacher), packed, masker, accelerator, settings(2, packed), teacher=teacher)

    usual = run()
    monkeypatch.setattr(device, "NO_FLOAT64", ("cpu",))
    with Without():
        record = run()
    assert record["curve"]["loss"] == pytest.approx(usual["curve"]["loss"], rel=1e-6)
    assert record["scores"] == pytest.approx(usual["scores"], rel=1e-6)


def test_evaluation_is_the_same_whatever_the_training_masks_are(packed, masker, accelerator, teacher):
    student = build_student(teacher).train()
    other = replace(masker, seed=3, probability=0.3, weights=np.sqrt(masker.weights))
    scores = [evaluate(student, packed, m, accelerator, teacher) for m in (masker, masker, other)]
    assert scores[0] == scores[1] == scores[2]
    assert student.training
    assert evaluate(student, packed, masker, accelerator, teacher, batch_size=3) == pytest.approx(scores[0], rel=1e-5)


def test_an_evaluation_reads_rows_from_all_over_the_held_out_text(packed, masker, accelerator, monkeypatch):
    """Not the first ones, which a single long document may fill."""
    assert len(packed.heldout) > 4
    read = []
    monkeypatch.setattr(MaskedRows, "__getitems__", lambda self, keys: read.extend(keys) or [])
    monkeypatch.setattr("distilnb.distillation.evaluation.collate", lambda rows, pad_id: {})
    HeldOut(packed, masker, accelerator, 0, rows=2)
    first, second = (i for _, i in read)
    assert (first, second) == (0, len(packed.heldout) // 2)


def test_the_teacher_reads_the_held_out_rows_once_a_run(packed, masker, accelerator, teacher):
    student, read = build_student(teacher, init="random"), []
    hook = teacher.base_model.register_forward_hook(lambda *_: read.append(1))
    run = Run(student, packed, masker, accelerator, PretrainingConfig(seq_length=32, batch_size=8), teacher, None)
    run.evaluate()
    once = len(read)
    student.load_state_dict(build_student(teacher).state_dict())
    run.evaluate()
    hook.remove()
    first, second = run.evaluations
    assert once == len(read) > 0
    assert first["agreement"] < second["agreement"]
    assert second.items() > evaluate(student, packed, masker, accelerator, teacher, batch_size=8).items()


def test_an_evaluation_takes_no_more_rows_at_once_than_training_and_few_logits(
    packed, masker, accelerator, teacher, monkeypatch
):
    """GPT-2's vocabulary at each of the 1,024 places of 32 rows would be gigabytes. The scores are those of all."""
    student, rows, words = build_student(teacher, init="random"), [], []
    expected = evaluate(student, packed, masker, accelerator, teacher)
    states, head = evaluation.hidden_states, evaluation.head_input

    def noted(model, batch):
        rows.append(len(batch["input_ids"]))
        return states(model, batch)

    monkeypatch.setattr(evaluation, "LOGITS", 7 * teacher.config.vocab_size)
    monkeypatch.setattr(evaluation, "hidden_states", noted)
    monkeypatch.setattr(evaluation, "head_input", lambda model, few: words.append(len(few)) or head(model, few))
    run = Run(student, packed, masker, accelerator, settings(2, packed, micro_batch_size=4), teacher, None)
    run.evaluate()
    assert max(rows) == 4 and max(words) == 7
    assert run.evaluations[0] == pytest.approx({"step": 0, "tokens": 0} | expected, rel=1e-5)


def test_evaluation_is_what_transformers_computes(packed, masker, accelerator, teacher):
    """On whole logits: mean cross-entropy, accuracy and agreement over the masked words of the held-out rows."""
    student = build_student(teacher, init="random").eval()
    uniform = replace(masker, weights=(masker.weights > 0).astype(float), seed=0)
    rows = MaskedRows(packed.heldout, uniform).__getitems__([(2**31 - 1, i) for i in range(len(packed.heldout))])
    batch = collate(rows)
    chosen = batch["labels"] != IGNORE
    with torch.no_grad():
        own, theirs = (model(batch["input_ids"]).logits[chosen] for model in (student, teacher))
    truth = batch["labels"][chosen]
    expected = {
        "mlm_loss": torch.nn.functional.cross_entropy(own, truth).item(),
        "accuracy": (own.argmax(-1) == truth).float().mean().item(),
        "agreement": (own.argmax(-1) == theirs.argmax(-1)).float().mean().item(),
    }
    assert evaluate(student, packed, masker, accelerator, teacher) == pytest.approx(expected, rel=1e-5)


def test_a_model_agrees_with_itself(packed, masker, accelerator, teacher):
    assert evaluate(teacher, packed, masker, accelerator, copy.deepcopy(teacher))["agreement"] == 1
    stranger = build_student(teacher, init="random")
    assert evaluate(stranger, packed, masker, accelerator, teacher)["agreement"] < 0.5
    assert "agreement" not in evaluate(teacher, packed, masker, accelerator)


def test_record_of_a_run(packed, masker, accelerator, teacher, tmp_path):
    config = settings(4, packed, evaluate_every=2)
    record = pretrain(
        build_student(teacher),
        packed,
        masker,
        accelerator,
        config,
        teacher=teacher,
        name="tiny",
        quiet=True,
        scale="mini",
        model_record="other",
    )
    assert set(KEYS) <= set(record)
    assert (record["kind"], record["name"], record["scale"], record["model_record"]) == (
        "distillation",
        "tiny",
        "mini",
        "other",
    )
    assert (record["steps"], record["seed"], record["processes"]) == (4, 56, 1)
    assert record["tokens"] == 4 * 8 * 32 == record["curve"]["tokens"][-1]
    assert record["curve"]["step"] == [1, 2, 3, 4]
    assert record["evaluations"]["step"] == [0, 2, 4]
    assert record["evaluations"]["tokens"] == [0, 512, 1024]
    assert record["config"]["learning_rate"] == 2e-3 and record["data"]["fingerprint"] == packed.info["fingerprint"]
    path = save_record(record, tmp_path)
    assert path.stat().st_size < 30_000
    loaded = load_record(path)
    assert loaded.pop("sha256") and loaded == json.loads(json.dumps({k: v for k, v in record.items() if k != "sha256"}))


def test_token_budget_counts_no_padding(grouped, masker, accelerator, teacher):
    config = settings(3, grouped)
    record = pretrain(build_student(teacher), grouped, masker, accelerator, config, teacher=teacher, quiet=True)
    keys = [i for batch in MicroBatches(grouped, config, 0, 3) for _, i in batch]
    assert record["tokens"] == grouped.train_lengths[keys].sum()


# real text


@pytest.mark.hub
def test_distillation_on_wikipedia():
    """Streamed articles, the real 30,522-piece tokenizer, a small random teacher: the loss falls in 30 updates."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(scales.BERT_BASE, revision=scales.BERT_BASE_REVISION)
    corpus = build_corpus(parse_sources(scales.WIKIPEDIA), tokenizer, seq_length=64, max_tokens=60_000)
    assert 60_000 <= corpus.info["tokens"] < 60_000 + 64 and len(corpus.heldout) > 0
    text = tokenizer.decode(corpus.train[0]["input_ids"], skip_special_tokens=True)
    assert len(text.split()) > 20 and "[UNK]" not in text
    teacher = make_teacher(len(tokenizer), layers=4, hidden_size=64, intermediate_size=128, initializer_range=0.1)
    student = build_student(teacher, init="random")
    config = settings(30, corpus, learning_rate=3e-3)
    masker = Masker.of(tokenizer, corpus.token_counts)
    loss = pretrain(student, corpus, masker, Accelerator(cpu=True), config, teacher=teacher, quiet=True)["curve"][
        "loss"
    ]
    assert np.mean(loss[-5:]) < np.mean(loss[:5])
