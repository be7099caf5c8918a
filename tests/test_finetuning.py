"""Fine-tuning: it learns, the same seed learns the same, padding and processes change nothing."""

import json
import os
import random
import signal
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator, optimizer
from conftest import ANIMALS, NAMES, PLACES, VERBS, make_teacher, same_weights, weights_of
from cutting import SYNC, Fault, Job, end, meet, run, start_together
from datasets import Dataset
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

from distilnb.distillation.checkpoints import fingerprint
from distilnb.evidence.records import KEYS, load_record, save_record
from distilnb.machine import processes
from distilnb.machine.device import forget_accelerator
from distilnb.machine.signals import Stopped
from distilnb.tasks import finetuning, metrics
from distilnb.tasks.finetuning import (
    FinetuningConfig,
    Safety,
    batch_order,
    collate,
    finetune,
    forward,
    label_loss,
    predict,
    teacher_loss,
)
from distilnb.tasks.glue import TASKS, TaskData
from distilnb.tasks.heads import classifier, question_answerer
from distilnb.tasks.squad import SQUAD

QUICK = FinetuningConfig(epochs=1, batch_size=8, learning_rate=2e-3, max_length=24)


def sentiment(count: int, seed: int) -> Dataset:
    """Separable at sight: label 1 when an animal is in the sentence, 0 when a place is; 3 to 13 words."""
    draw, rows = random.Random(seed), {"sentence": [], "label": []}
    for i in range(count):
        text = [draw.choice(NAMES), draw.choice(VERBS), draw.choice((PLACES, ANIMALS)[i % 2])]
        rows["sentence"].append(" ".join(text + draw.choices(NAMES + VERBS, k=draw.randint(0, 10))))
        rows["label"].append(i % 2)
    return Dataset.from_dict(rows)


def similarity(count: int, seed: int) -> Dataset:
    """A regression: the second sentence is mostly animals (5), mostly places (0), or a mixture."""
    draw, rows = random.Random(seed), {"sentence1": [], "sentence2": [], "label": []}
    for _ in range(count):
        animals = draw.randint(0, 5)
        rows["sentence1"].append(draw.choice(NAMES))
        rows["sentence2"].append(" ".join(draw.choices(ANIMALS, k=animals) + draw.choices(PLACES, k=5 - animals)))
        rows["label"].append(float(animals))
    return Dataset.from_dict(rows)


def inference(count: int, seed: int) -> Dataset:
    """Three classes by one word of the hypothesis; not to be learned, only to be run."""
    draw = random.Random(seed)
    return Dataset.from_dict(
        {
            "premise": draw.choices(NAMES, k=count),
            "hypothesis": draw.choices(ANIMALS, k=count),
            "label": [i % 3 for i in range(count)],
        }
    )


MAKERS = {"sst2": sentiment, "stsb": similarity, "mnli": inference}


def task_data(name: str, train: int = 33, validation: int = 16, seed: int = 0) -> TaskData:
    """A hand-made task with the shape of a real one."""
    splits = {split: MAKERS[name](validation, 100 + i) for i, split in enumerate(TASKS[name].validations)}
    rows = {"train": train} | dict.fromkeys(splits, validation)
    info = {"id": "hand-made", "rows": rows, "stand_in": True, "fingerprint": f"{name}-{seed}"}
    return TaskData(TASKS[name], MAKERS[name](train, seed), splits, info)


SPANS = replace(QUICK, stride=8)


def span_data(train: int = 33, validation: int = 16) -> TaskData:
    """Four names, an animal and a place in any order; the question is a word of one kind and asks for the other's."""
    splits = {}
    for seed, (split, count) in enumerate({"train": train, "validation": validation}.items()):
        draw, rows = random.Random(seed), {"id": [], "title": [], "question": [], "context": [], "answers": []}
        for i in range(count):
            animal, place = draw.choice(ANIMALS), draw.choice(PLACES)
            words = [animal, place, *draw.choices(NAMES, k=draw.randint(2, 6))]
            draw.shuffle(words)
            answer = (animal, place)[i % 2]
            context = " ".join(words)
            at = len(" ".join(words[: words.index(answer)])) + bool(words.index(answer))
            for key, value in zip(
                rows,
                (
                    f"{split}-{i}",
                    "",
                    draw.choice((PLACES, ANIMALS)[i % 2]),
                    context,
                    {"text": [answer], "answer_start": [at]},
                ),
                strict=True,
            ):
                rows[key].append(value)
        splits[split] = Dataset.from_dict(rows)
    info = {
        "id": "hand-made",
        "rows": {"train": train, "validation": validation},
        "stand_in": True,
        "fingerprint": "spans",
    }
    return TaskData(SQUAD, splits.pop("train"), splits, info)


def tuned(source, data: TaskData, tokenizer, accelerator: Accelerator, config: FinetuningConfig = QUICK, **more):
    """(model, record) of a quiet run."""
    model, _ = classifier(source, data.task.num_labels, config.seed)
    return model, finetune(model, data, tokenizer, accelerator, config, quiet=True, **more)


# settings that do not fit


@pytest.mark.parametrize(
    "name", ["epochs", "batch_size", "learning_rate", "clip", "max_length", "weight_decay", "seed"]
)
def test_settings_below_zero_are_refused(name):
    with pytest.raises(ValueError, match=name):
        FinetuningConfig(**{name: -1 if name in ("weight_decay", "seed") else 0})
    with pytest.raises(ValueError, match="warmup"):
        FinetuningConfig(warmup=1.0)
    with pytest.raises(ValueError, match="soft_weight"):
        FinetuningConfig(soft_weight=0)
    with pytest.raises(ValueError, match="temperature"):
        FinetuningConfig(temperature=-1)


def test_a_model_that_does_not_fit_is_refused_before_any_work(teacher, tokenizer, accelerator):
    data = task_data("mnli")
    with pytest.raises(ValueError, match="model"):
        finetune(classifier(teacher, 2)[0], data, tokenizer, accelerator, QUICK)
    with pytest.raises(ValueError, match="max_length"):
        finetune(classifier(teacher, 3)[0], data, tokenizer, accelerator, replace(QUICK, max_length=129))
    other = make_teacher(len(tokenizer) - 1)
    with pytest.raises(ValueError, match="vocabularies"):
        finetune(classifier(other, 3)[0], data, tokenizer, accelerator, QUICK)


# batches


@pytest.mark.parametrize("grouped", [False, True])
def test_batches_hold_every_row_once_an_epoch_and_rows_of_like_length_where_asked(grouped):
    """On lengths like SST-2's, length grouping computes at most 1.15 tokens per real one; plain shuffling over 2."""
    lengths = np.random.default_rng(0).geometric(0.07, 3001).clip(3, 64)
    config = replace(QUICK, batch_size=32, epochs=2, group_by_length=grouped)
    batches = list(batch_order(lengths, config))
    assert len(batches) == 2 * 94 == config.steps(3001)
    first, second = (np.concatenate(batches[i : i + 94]) for i in (0, 94))
    assert sorted(first) == sorted(second) == list(range(3001)) and list(first) != list(second)
    padding = sum(len(b) * lengths[b].max() for b in batches) / (2 * lengths.sum())
    assert padding < 1.15 if grouped else padding > 2
    assert [b.tolist() for b in batch_order(lengths, replace(config, seed=1))] != [b.tolist() for b in batches]


def test_part_of_an_epoch_is_part_of_its_batches():
    assert sum(map(len, batch_order(np.full(64, 5), replace(QUICK, batch_size=8, epochs=1.5)))) == 96
    assert len(list(batch_order(np.full(64, 5), replace(QUICK, batch_size=8, epochs=0.001)))) == 1


def test_a_batch_is_padded_to_its_own_longest_row(tokenizer):
    rows = task_data("sst2").encoded(tokenizer, 24)[0]
    chosen = np.argsort(rows["length"][:])[[0, 3, 9]]
    batch = collate(rows, chosen, pad_id=9)
    lengths = rows["length"][:][chosen]
    assert batch["input_ids"].shape == batch["token_type_ids"].shape == (3, lengths.max())
    assert batch["attention_mask"].sum(1).tolist() == lengths.tolist()
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 9).all()
    assert batch["labels"].tolist() == rows["labels"][:][chosen].tolist()


def test_the_rate_climbs_and_falls_to_zero():
    config = replace(QUICK, warmup=0.25, learning_rate=1.0)
    assert [config.learning_rate_at(step, 8) for step in range(8)] == [0.5, 1.0, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]


def test_matrices_decay_and_biases_and_norms_do_not(student):
    decays, rest = finetuning.parameter_groups(classifier(student, 2)[0], QUICK)
    assert decays["weight_decay"] == 0.01 and rest["weight_decay"] == 0
    names = {parameter: name for name, parameter in classifier(student, 2)[0].named_parameters()}
    assert len(decays["params"]) + len(rest["params"]) == len(names)
    assert all(p.ndim == 2 for p in decays["params"]) and all(p.ndim == 1 for p in rest["params"])


# answers


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_a_rows_answer_does_not_depend_on_its_batch(kind, tokenizer, accelerator, request):
    """Alone, or beside longer rows and padded: the same logits within 1e-5 (they are about 1)."""
    model, _ = classifier(request.getfixturevalue(kind), 2)
    rows = task_data("sst2").encoded(tokenizer, 24)[0]
    alone = torch.cat([forward(model, collate(rows, [i])) for i in range(len(rows))]).detach().numpy()
    assert np.ptp(alone) > 0.1
    for size in (5, 64):
        logits, labels = predict(model, rows, accelerator, tokenizer.pad_token_id, batch_size=size)
        np.testing.assert_allclose(logits, alone, atol=1e-5)
        assert labels.tolist() == rows["labels"][:].tolist()


def test_rows_that_do_not_fit_into_memory_are_scored_in_fewer(student, tokenizer, accelerator, monkeypatch):
    rows, model = span_data().encoded(tokenizer, 24, 8)[0], question_answerer(student)[0]
    expected, _ = predict(model, rows, accelerator, tokenizer.pad_token_id)
    real, read = finetuning.forward, []

    def limited(model, batch):
        read.append(len(batch["input_ids"]))
        return real(model, batch) if read[-1] <= 9 else no_memory(batch)

    monkeypatch.setattr(finetuning, "forward", limited)
    found, _ = predict(model, rows, accelerator, tokenizer.pad_token_id)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert 9 < max(read) <= 64 and min(read) > 1
    monkeypatch.setattr(finetuning, "forward", lambda *_: no_memory(_))
    with pytest.raises(torch.OutOfMemoryError):
        predict(model, rows, accelerator, tokenizer.pad_token_id)


def test_bert_is_told_which_text_a_token_is_of(teacher, tokenizer):
    """With other token types, BERT's answer is another one; padding stays type 0."""
    batch = collate(task_data("stsb").encoded(tokenizer, 24)[0], [0, 1])
    assert batch["token_type_ids"].sum() > 0
    model, _ = classifier(teacher, 1)
    flat = batch | {"token_type_ids": torch.zeros_like(batch["token_type_ids"])}
    assert (forward(model, batch) - forward(model, flat)).abs().max() > 1e-3


def test_predicting_leaves_the_model_as_it_was(student, tokenizer, accelerator):
    model, _ = classifier(student, 2)
    rows = task_data("sst2").encoded(tokenizer, 24)[0]
    for training in (True, False):
        model.train(training)
        predict(model, rows, accelerator)
        assert model.training == training


# learning


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_a_small_model_learns_a_task_that_can_be_learned(kind, tokenizer, accelerator, request):
    source = make_teacher(len(tokenizer), layers=2) if kind == "teacher" else request.getfixturevalue(kind)
    data = task_data("sst2", train=512, validation=64)
    model, record = tuned(source, data, tokenizer, accelerator, replace(QUICK, epochs=3), model_name=kind)
    assert record["scores"]["accuracy"] == record["scores"]["main"] > 0.9
    assert record["scores"]["majority"] == 0.5
    assert record["interval"][0] <= record["scores"]["main"] <= record["interval"][1]
    assert not model.training and model.config.id2label == {0: "negative", 1: "positive"}


def test_a_regression_learns_too(student, tokenizer, accelerator):
    """Predicting the mean has no correlation; the model's answers have. Labels lie between 0 and 5."""
    data = task_data("stsb", train=256, validation=64)
    model, record = tuned(student, data, tokenizer, accelerator, replace(QUICK, epochs=4, batch_size=16))
    scores = record["scores"]
    assert scores["pearson"] > 0.8 and scores["main"] == pytest.approx((scores["pearson"] + scores["spearman"]) / 2)
    assert scores["majority"] == 0 and model.config.problem_type == "regression"
    assert record["curve"]["loss"][0] > 4 * record["curve"]["loss"][-1]


def test_the_loop_is_what_a_reader_would_write(tokenizer, accelerator):
    """Without dropout, the weights are those of ten lines of plain PyTorch (tolerance 1e-5; they move by 1e-2)."""
    source = make_teacher(len(tokenizer), 2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    data, config = task_data("sst2", 33), replace(QUICK, clip=0.3, weight_decay=0.1)
    model, record = tuned(source, data, tokenizer, accelerator, config)

    other, _ = classifier(source, 2, config.seed)
    before, rows, norms = weights_of(other), data.encoded(tokenizer, 24)[0], []
    groups = [
        {"params": [p for p in other.parameters() if (p.ndim > 1) == matrix], "weight_decay": decay}
        for matrix, decay in ((True, 0.1), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, eps=1e-6)
    for step, chosen in enumerate(batch_order(rows["length"][:], config)):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step, 5)
        batch = collate(rows, chosen)
        loss = torch.nn.functional.cross_entropy(forward(other, batch), batch["labels"])
        other.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(other.parameters(), 0.3)))
        optimizer.step()
        assert float(loss.detach()) == pytest.approx(record["curve"]["loss"][step], rel=1e-3)
    assert min(norms) > 0.3, "gradients should be long enough to be clipped"
    mine, theirs = weights_of(model), weights_of(other)
    assert max(float((theirs[name] - before[name]).abs().max()) for name in mine) > 5e-3
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in mine) < 1e-5


@pytest.mark.parametrize("make", ["student", "teacher"])
def test_bf16_reaches_from_the_embeddings_to_the_last_layer(request, make):
    """Autocast alone leaves LayerNorm in float32. Logits are within 2 % of their norm; gradients stay float32."""
    model, _ = classifier(request.getfixturevalue(make), 3)
    ids, mask = torch.randint(5, 90, (4, 9), generator=torch.Generator().manual_seed(0)), torch.ones(4, 9).long()
    mask[2, 5:] = 0
    batch, seen = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}, []
    expected = forward(model, batch)
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = forward(model, batch)
    assert seen[0] == torch.float32 and set(seen[1:]) == {torch.bfloat16}, "the first belongs to the embeddings"
    assert logits.dtype == torch.float32 and 0 < (logits - expected).norm() < 0.02 * expected.norm()
    logits.sum().backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_dropout_is_on_in_training_and_off_in_scoring(student, tokenizer, accelerator):
    model, _ = classifier(student, 2)
    modes = []
    model.dropout.register_forward_hook(lambda module, given, out: modes.append(module.training))
    finetune(model, task_data("sst2"), tokenizer, accelerator, QUICK, quiet=True)
    assert modes == [True] * 5 + [False]


def test_the_record_holds_what_is_needed_to_believe_it(student, tokenizer, accelerator, tmp_path):
    data = task_data("mnli")
    _, record = tuned(student, data, tokenizer, accelerator, name="x", scale="mini", model_record="distil-mini")
    assert load_record(save_record(record, tmp_path))["name"] == "x"
    assert set(KEYS) <= record.keys()
    expected = {
        "kind": "finetuning",
        "scale": "mini",
        "model": "student",
        "model_record": "distil-mini",
        "task": "mnli",
        "seed": 42,
        "steps": 5,
        "processes": 1,
        "precision": "no",
        "data": data.info,
    }
    assert {key: record[key] for key in expected} == expected
    assert record["tokens"] == data.encoded(tokenizer, 24)[0]["length"][:].sum()
    assert list(record["scores"]) == ["main", "accuracy", "majority", "validation_mismatched_accuracy"]
    assert record["curve"]["step"] == [1, 2, 3, 4, 5] and record["config"]["learning_rate"] == 2e-3


def test_every_validation_row_is_scored_once(student, tokenizer, accelerator):
    """The accuracy of the record is that of predictions made one row at a time; 16 rows, so a multiple of 1/16."""
    data = task_data("mnli")
    model, record = tuned(student, data, tokenizer, accelerator)
    for split, key in (("validation_matched", "accuracy"), ("validation_mismatched", "validation_mismatched_accuracy")):
        rows = data.encoded(tokenizer, 24)[1][split]
        answers = [int(forward(model, collate(rows, [i])).argmax()) for i in range(len(rows))]
        assert record["scores"][key] == metrics.accuracy(np.array(answers), rows["labels"][:])


def test_the_same_seed_gives_the_same_weights(student, tokenizer, accelerator):
    """To the last bit, whatever the global random state was; another seed, another model."""
    runs = []
    for seed, noise in ((42, 1), (42, 2), (43, 1)):
        torch.manual_seed(noise)
        runs.append(tuned(student, task_data("sst2"), tokenizer, accelerator, replace(QUICK, seed=seed)))
    assert same_weights(runs[0][0], runs[1][0]) and not same_weights(runs[0][0], runs[2][0])
    same = [
        {k: v for k, v in record.items() if k not in ("started", "wall_seconds", "cpu_seconds")} for _, record in runs
    ]
    assert same[0] == same[1] != same[2]


def test_the_seed_changes_dropout_and_order_too(student, tokenizer, accelerator):
    """The same head, two seeds of the loop: other weights."""
    models = []
    for seed in (1, 2):
        model, _ = classifier(student, 2, seed=0)
        finetune(model, task_data("sst2"), tokenizer, accelerator, replace(QUICK, seed=seed), quiet=True)
        models.append(model)
    assert not same_weights(*models)


def test_a_loss_that_is_no_number_stops_the_run(student, tokenizer, accelerator):
    model, _ = classifier(student, 2)
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="learning"):
        finetune(model, task_data("sst2"), tokenizer, accelerator, QUICK, quiet=True)


# the safety net


def faulty(monkeypatch, act, *calls: int) -> None:
    """Let `act(loss)` happen to the loss of these forward passes."""
    real, count = finetuning.Finetuning.forward, []

    def forward_or_fault(self, batch):
        count.append(1)
        loss = real(self, batch)
        return act(loss) if len(count) in calls else loss

    monkeypatch.setattr(finetuning.Finetuning, "forward", forward_or_fault)


def no_memory(_: torch.Tensor) -> torch.Tensor:
    """What a GPU says."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_an_update_without_finite_numbers_is_left_out_and_counted(student, tokenizer, accelerator, monkeypatch):
    faulty(monkeypatch, lambda loss: loss * float("nan"), 2, 4)
    model, record = tuned(student, task_data("sst2"), tokenizer, accelerator)
    assert (record["skipped"], record["skipped_steps"], record["steps"]) == (2, [2, 4], 5)
    assert record["curve"]["step"] == [1, 3, 5] and np.isfinite(record["curve"]["loss"]).all()
    assert all(torch.isfinite(tensor).all() for tensor in weights_of(model).values())


@pytest.mark.parametrize("micro, failing", [(0, (3, 4)), (3, ()), (3, (5,))])
def test_micro_batches_and_halving_train_the_same(micro, failing, tokenizer, accelerator, monkeypatch):
    """Without dropout: rows of an update in one pass, in threes, or in fewer after memory ran out (tolerance 5e-6)."""
    source = make_teacher(len(tokenizer), 2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    expected = weights_of(tuned(source, task_data("sst2"), tokenizer, accelerator)[0])
    faulty(monkeypatch, no_memory, *failing)
    safety = Safety(micro_batch_size=micro)
    model, record = tuned(source, task_data("sst2"), tokenizer, accelerator, safety=safety)
    halved = {(0, (3, 4)): [4, 2], (3, ()): [], (3, (5,)): [1]}[micro, failing]
    assert [fault["micro_batch_size"] for fault in record.get("out_of_memory", [])] == halved
    weights = weights_of(model)
    names = [name for name in weights if not name.endswith("key.bias")]  # they have no gradient but rounding noise
    assert max((weights[name] - expected[name]).abs().max().item() for name in names) < 5e-6


def test_not_even_one_row_fits(student, tokenizer, accelerator, monkeypatch):
    faulty(monkeypatch, no_memory, *range(1, 99))
    with pytest.raises(RuntimeError, match="single"):
        tuned(student, task_data("sst2"), tokenizer, accelerator)


def cut(student, tokenizer, accelerator, safety, monkeypatch, at: int, config=QUICK, data=None):
    """A run that a SIGTERM ends after update `at`."""
    real = finetuning.TaskRun.update

    def ended(run, batches):
        if run.step + 1 == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(run, batches)

    monkeypatch.setattr(finetuning.TaskRun, "update", ended)
    with pytest.raises(Stopped) as stop:
        tuned(student, data or task_data("sst2"), tokenizer, accelerator, config, safety=safety)
    assert stop.value.status == 143
    monkeypatch.undo()


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(student, tokenizer, accelerator, tmp_path, monkeypatch):
    """With dropout, to the last bit; the record is the same but for time."""
    whole, expected = tuned(student, task_data("sst2"), tokenizer, accelerator)
    safety = Safety(checkpoints=str(tmp_path))
    cut(student, tokenizer, accelerator, safety, monkeypatch, at=3)
    assert (tmp_path / "latest").read_text() == "step-00000003"
    updates = []
    real = finetuning.TaskRun.update
    monkeypatch.setattr(finetuning.TaskRun, "update", lambda run, rows: updates.append(run.step) or real(run, rows))
    again, record = tuned(student, task_data("sst2"), tokenizer, accelerator, safety=safety)
    assert updates == [3, 4] and same_weights(whole, again)
    differing = {key for key in record if record[key] != expected[key]}
    assert differing <= {"started", "wall_seconds", "cpu_seconds"}


def test_an_unfinished_run_of_other_settings_is_begun_anew(
    student, tokenizer, accelerator, tmp_path, monkeypatch, capsys
):
    safety, other = Safety(checkpoints=str(tmp_path)), replace(QUICK, learning_rate=1e-3)
    cut(student, tokenizer, accelerator, safety, monkeypatch, at=3)
    model, _ = tuned(student, task_data("sst2"), tokenizer, accelerator, other, safety=safety)
    assert "learning_rate 0.002 there, now 0.001" in capsys.readouterr().out
    assert same_weights(model, tuned(student, task_data("sst2"), tokenizer, accelerator, other)[0])
    assert [path.name for path in tmp_path.iterdir()] == [".lock"], "of the run in progress, which keeps others out"


@pytest.mark.parametrize("every, left", [(2, []), (0, [0, 1, 2, 3, 4])])
def test_a_long_run_is_saved_before_it_is_scored(student, tokenizer, accelerator, tmp_path, monkeypatch, every, left):
    """One that has saved before; others are shorter than the time that a kill may cost anyway."""
    safety, updates, real = Safety(checkpoints=str(tmp_path), checkpoint_every=every), [], finetuning.TaskRun.update
    with monkeypatch.context() as lacking:
        lacking.setattr(finetuning, "evaluate", lambda *_: no_memory(_))
        with pytest.raises(torch.OutOfMemoryError):
            tuned(student, task_data("sst2"), tokenizer, accelerator, safety=safety)
    monkeypatch.setattr(finetuning.TaskRun, "update", lambda run, rows: updates.append(run.step) or real(run, rows))
    _, record = tuned(student, task_data("sst2"), tokenizer, accelerator, safety=safety)
    assert updates == left and record["steps"] == 5


def test_a_run_that_is_killed_goes_on_to_the_same_weights(teacher_folder, tmp_path):
    """SIGKILL before an update and inside a save; the third sitting ends with the weights of a run that was not cut."""
    flags = ("--task", "rte", "--model", f"a={teacher_folder}", "--keep", "--checkpoint_every", "2", "--cpu")
    flags += ("--train_rows", "64", "--validation_rows", "8", "--epochs", "1", "--batch_size", "8", "--precision", "no")
    kept = "models/finetuning-toy-a-rte-seed0/model.safetensors"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    job = Job(whole, flags, command="finetune")
    assert run(job, 300) == [0], job.said()
    for fault in (Fault("distilnb.tasks.finetuning.TaskRun.update", 5), Fault(SYNC, 8)):
        job = Job(cut, flags, faults=(fault,), command="finetune")
        assert run(job, 300) == [-9], job.said()
        assert list(cut.glob("unfinished/*/step-*")) and not list(cut.glob("*.json"))
    assert run(Job(cut, flags, command="finetune"), 300) == [0]
    one, other = load_file(whole / kept), load_file(cut / kept)
    assert all(torch.equal(one[name], other[name]) for name in one) and not (cut / "unfinished").exists()


@pytest.mark.parametrize(
    "wrong", [{"micro_batch_size": -1}, {"checkpoint_every": -1}, {"checkpoint_minutes": 0}, {"max_skipped": 0}]
)
def test_a_safety_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Safety(**wrong)


def test_bf16_is_the_accelerators(student, tokenizer):
    """It trains, its matrix products are in bf16, its weights and answers in float32."""
    forget_accelerator()
    try:
        accelerator = Accelerator(cpu=True, mixed_precision="bf16")
        kinds = set()
        model, _ = classifier(student, 2)
        model.pre_classifier.register_forward_hook(lambda module, given, out: kinds.add(out.dtype))
        record = finetune(model, task_data("sst2"), tokenizer, accelerator, QUICK, quiet=True)
        assert kinds == {torch.bfloat16} and model.dtype == torch.float32
        assert record["precision"] == "bf16" and record["curve"]["loss"][-1] < record["curve"]["loss"][0]
    finally:
        forget_accelerator()


def test_an_update_asks_for_no_stack_trace_and_no_package(student, tokenizer, accelerator, monkeypatch):
    """What cost 4 % of a small step: `torch.manual_seed` writes three traces, accelerate's optimizer looks for lomo."""
    data, asked = task_data("sst2"), []
    train = finetuning.encode(data, tokenizer, QUICK)[0]
    run = finetuning.TaskRun(classifier(student, 2)[0], train, data, tokenizer, accelerator, QUICK, finetuning.UNSAVED)
    monkeypatch.setattr(traceback, "format_stack", lambda *_: asked.append("trace") or [])
    monkeypatch.setattr(optimizer, "is_lomo_available", lambda: asked.append("package"))
    run.advance(2, batch_order(run.lengths, QUICK), "two", quiet=True, save_last=False)
    assert run.step == 2 and not asked


def test_progress_is_shown_unless_quiet(student, tokenizer, accelerator, capsys):
    model, _ = classifier(student, 2)
    finetune(model, task_data("sst2"), tokenizer, accelerator, QUICK, name="demo")
    assert capsys.readouterr().out.splitlines()[-1].startswith("demo 5/5 · loss ")
    tuned(student, task_data("sst2"), tokenizer, accelerator)
    assert capsys.readouterr().out == ""


# the second stage: a fine-tuned teacher


def test_the_loss_against_a_teacher_is_a_softened_kl_times_t_squared():
    """By hand, for two classes at T = 2; equal answers cost nothing; a regression is a squared difference."""
    student, teacher = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    s, t = torch.sigmoid(torch.tensor(-1.0)), torch.sigmoid(torch.tensor(1.0))  # of class 0: differences / T
    by_hand = 4 * (t * (t / s).log() + (1 - t) * ((1 - t) / (1 - s)).log())
    torch.testing.assert_close(teacher_loss(student, teacher, 2.0), torch.stack([by_hand, torch.tensor(0.0)]))
    torch.testing.assert_close(teacher_loss(torch.tensor([[1.0]]), torch.tensor([[4.0]])), torch.tensor([9.0]))


def test_each_of_several_labels_is_matched_by_itself(student, tokenizer):
    """A softmax over them would take a student that doubts all labels for a teacher that is sure of them."""
    logits, teacher = torch.tensor([[0.0, 0.0], [1.0, -2.0]]), torch.tensor([[3.0, 3.0], [1.0, -2.0]])
    yes, by_hand = torch.sigmoid(torch.tensor(3.0 / 2)), torch.tensor(0.5)
    expected = 4 * (yes * torch.log(yes / by_hand) + (1 - yes) * torch.log((1 - yes) / (1 - by_hand)))
    found = teacher_loss(logits, teacher, 2.0, several=True)
    torch.testing.assert_close(found, torch.stack([expected, torch.tensor(0.0)]))
    assert teacher_loss(logits[:, :1], teacher[:, :1], several=True).shape == (2,), "one label of several"
    model, batch = classifier(student, 2)[0], collate(task_data("sst2").encoded(tokenizer, 24)[0], [0, 1])
    batch |= {"labels": torch.zeros(2, 2), "teacher_logits": teacher}
    with torch.no_grad():
        loss = finetuning.Finetuning(model, FinetuningConfig(soft_weight=1.0))(batch)
        torch.testing.assert_close(loss, teacher_loss(forward(model, batch), teacher, several=True))


def test_a_spans_loss_is_the_mean_of_start_and_end_and_padding_has_no_share():
    """Rows of 5 and 3 tokens: the second costs the same alone and padded, whatever stands in the padding."""
    torch.manual_seed(0)
    logits, teacher = torch.randn(2, 5, 2), torch.randn(2, 5, 2)
    logits[1, 3:], teacher[1, 3:] = finetuning.NEVER, finetuning.NEVER
    labels = torch.tensor([[1, 4], [0, 2]])
    by_hand = torch.stack(
        [-(logits[i, :n, k].log_softmax(0)[labels[i, k]]) for i, n in ((0, 5), (1, 3)) for k in (0, 1)]
    )
    torch.testing.assert_close(label_loss(logits, labels), by_hand.view(2, 2).mean(1))
    for loss in (label_loss(logits[1:, :3], labels[1:]), label_loss(logits, labels)[1:]):
        torch.testing.assert_close(loss, by_hand[2:].mean()[None])
    torch.testing.assert_close(teacher_loss(logits[1:, :3], teacher[1:, :3]), teacher_loss(logits, teacher)[1:])
    assert torch.isfinite(teacher_loss(logits, teacher)).all() and (teacher_loss(teacher, teacher).abs() < 1e-6).all()


def test_an_answerers_padding_is_never_an_answer(student, tokenizer):
    rows, model = span_data().encoded(tokenizer, 24, 8)[0], question_answerer(student)[0]
    batch = collate(rows, range(6), tokenizer.pad_token_id)
    logits = forward(model, batch)
    assert logits.shape == (*batch["input_ids"].shape, 2) and batch["labels"].shape == (6, 2)
    padding = batch["attention_mask"] == 0
    assert padding.any() and (logits[padding] == finetuning.NEVER).all() and (logits[~padding].abs() < 50).all()


def test_a_teachers_answers_reach_the_student(student, tokenizer, accelerator):
    """With the teacher's answers alone, and labels that are all wrong, the student does as the teacher does."""
    data, config = task_data("sst2", 512, 64), replace(QUICK, epochs=3)
    teacher, record = tuned(student, data, tokenizer, accelerator, config)
    assert record["scores"]["accuracy"] > 0.9 and "taught_by" not in record
    before = weights_of(teacher)
    flipped = data.train.map(lambda row: {"label": 1 - row["label"]})
    wrong = TaskData(data.task, flipped, data.validations, data.info)
    scores = {}
    for weight in (1.0, 0.01):
        model, _ = classifier(student, 2, seed=5)
        taught = finetune(
            model, wrong, tokenizer, accelerator, replace(config, soft_weight=weight), quiet=True, teacher=teacher
        )
        scores[weight] = taught["scores"]["accuracy"]
        assert taught["taught_by"] == fingerprint(teacher)
    assert scores[1.0] > 0.9 and scores[0.01] < 0.1
    after = weights_of(teacher)
    assert all(torch.equal(before[name], after[name]) for name in before), "the teacher was trained"


def test_a_bert_teaches_a_distilbert_spans_and_numbers(teacher, student, tokenizer, accelerator):
    """One mixed loss: half the labels' and half the teacher's, for an answerer and a regressor."""
    for data, make in ((span_data(), question_answerer), (task_data("stsb"), lambda source: classifier(source, 1))):
        mine, theirs = make(student)[0], make(teacher)[0]
        rows = finetuning.encode(data, tokenizer, SPANS)[0]
        batch = collate(rows, range(4), tokenizer.pad_token_id)
        with torch.no_grad():
            batch["teacher_logits"] = forward(theirs, batch)
            loss = finetuning.Finetuning(mine, SPANS)(batch)
            logits = forward(mine, batch)
        halves = label_loss(logits, batch["labels"]), teacher_loss(logits, batch["teacher_logits"])
        torch.testing.assert_close(loss, sum(halves) / 2)
        record = finetune(mine, data, tokenizer, accelerator, SPANS, teacher=theirs, quiet=True)
        assert np.isfinite(record["curve"]["loss"]).all()


def test_a_teacher_that_does_not_fit_is_refused(teacher, student, tokenizer, accelerator):
    data = task_data("sst2")
    for wrong in (classifier(teacher, 3)[0], question_answerer(teacher)[0]):
        with pytest.raises(ValueError, match="teacher"):
            finetune(classifier(student, 2)[0], data, tokenizer, accelerator, QUICK, teacher=wrong)
    with pytest.raises(ValueError, match="squad"):
        finetune(classifier(student, 2)[0], span_data(), tokenizer, accelerator, SPANS)


# spans


def test_a_small_model_learns_to_point(student, tokenizer, accelerator):
    """The question names an animal or a place; the answer is the word of the context of that kind."""
    data = span_data(train=600, validation=60)
    model, _ = question_answerer(student, 1)
    record = finetune(model, data, tokenizer, accelerator, replace(SPANS, epochs=6, learning_rate=4e-3), quiet=True)
    assert record["scores"]["exact_match"] > 0.6, record["scores"]
    assert record["scores"]["main"] == record["scores"]["f1"] >= record["scores"]["exact_match"]
    assert record["interval"][0] <= record["scores"]["f1"] <= record["interval"][1]
    logits, labels = predict(model, data.encoded(tokenizer, 24, 8)[1]["validation"], accelerator, batch_size=7)
    assert logits.shape[2] == 2 and labels.shape == (len(logits), 2)


def tune_without_dropout(vocabulary: int) -> tuple[torch.nn.Module, FinetuningConfig]:
    """A classifier without dropout, and settings under which two processes have unequal parts of a batch."""
    source = make_teacher(vocabulary, 2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return classifier(source, 3)[0], replace(QUICK, batch_size=7)


def tune_together(tokenizer: PreTrainedTokenizerBase, out: Path, rank: int, port: int) -> None:
    """The life of one of two processes; the first leaves weights and record."""
    meet(rank, 2, port)
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    model, config = tune_without_dropout(len(tokenizer))
    record = finetune(model, task_data("mnli", 29, 150), tokenizer, accelerator, config, quiet=True)
    if accelerator.is_main_process:
        model.save_pretrained(out)
        (out / "record.json").write_text(json.dumps(record))
    processes.finish(accelerator)


def test_two_processes_train_and_score_what_one_does(tokenizer, accelerator, tmp_path):
    """29 rows in batches of 7: processes have 4 and 3 of them, and of the last batch's one row the second has none.

    Without dropout the weights agree within 5e-5 (they move by 1e-2, some by Adam's share of rounding noise), and
    both processes' validation rows are in the score.
    """
    assert end(start_together(2, tune_together, tokenizer, tmp_path), 120) == [0, 0]
    together = json.loads((tmp_path / "record.json").read_text())
    assert together["processes"] == 2

    model, settings = tune_without_dropout(len(tokenizer))
    before = weights_of(model)
    record = finetune(model, task_data("mnli", 29, 150), tokenizer, accelerator, settings, quiet=True)
    theirs, mine = load_file(tmp_path / "model.safetensors"), weights_of(model)
    assert max(float((mine[name] - before[name]).abs().max()) for name in mine) > 5e-3
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in mine) < 5e-5
    assert together["scores"] == record["scores"] and together["tokens"] == record["tokens"]
    np.testing.assert_allclose(together["curve"]["loss"], record["curve"]["loss"], rtol=1e-3)
