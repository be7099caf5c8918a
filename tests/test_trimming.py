"""Fine-tuning without the words that no training row contains: the same weights at the end, from fewer of them."""

import copy
from dataclasses import replace
from itertools import product

import pytest
import torch
from conftest import same_weights
from datasets import Dataset
from safetensors.torch import load_file
from test_families import CONFIGS, make
from test_finetuning import QUICK, SPANS, cut, faulty, span_data, task_data, tuned

from distilnb.machine.device import make_accelerator
from distilnb.models import families
from distilnb.models.trimming import Trimmed
from distilnb.tasks import finetuning, heads

ROWS = Dataset.from_dict({"input_ids": [[2, 9, 7, 3], [2, 9, 9, 3]]}).with_format("numpy")


class Whole:
    """What stands in for `Trimmed` where all words are trained."""

    words = range(0)

    def __init__(self, *_):
        pass

    def __call__(self, ids):
        return ids

    def restore(self, _):
        pass


@pytest.mark.parametrize(("kind", "precision"), [*product(CONFIGS, ["no"]), ("bert", "bf16")])
def test_the_weights_are_those_of_training_all_words_to_the_last_bit(kind, precision, tokenizer, monkeypatch):
    """With dropout, clipping and weight decay, also those of words that no row contains."""
    shape = copy.deepcopy(CONFIGS[kind])
    shape.vocab_size = len(tokenizer)
    source, data, accelerator = make(shape), task_data("sst2", 17, 4), make_accelerator(precision, cpu=True)
    config = replace(QUICK, weight_decay=0.1)
    models = []
    for trimmed in (Trimmed, Whole):
        monkeypatch.setattr(finetuning, "Trimmed", trimmed)
        model, _ = heads.classifier(source, 2)
        before = copy.deepcopy(model.get_input_embeddings().weight)
        finetuning.finetune(model, data, tokenizer, accelerator, config, quiet=True)
        models.append(model)
    assert same_weights(*models)
    after = model.get_input_embeddings().weight
    assert (after != before).any(1)[before.any(1)].all(), "each word but padding's zeros was trained or has decayed"


def test_spans_and_a_teacher_too(student, tokenizer, accelerator, monkeypatch):
    """The teacher reads all words as they are."""
    taught, models = heads.question_answerer(student)[0], []
    for trimmed in (Trimmed, Whole):
        monkeypatch.setattr(finetuning, "Trimmed", trimmed)
        model = heads.question_answerer(student, 1)[0]
        finetuning.finetune(model, span_data(17, 4), tokenizer, accelerator, SPANS, teacher=taught, quiet=True)
        models.append(model)
    assert same_weights(*models)


def test_a_table_that_is_not_trained_stays_as_it_is(student, tokenizer, accelerator):
    model, _ = heads.classifier(student, 2)
    table = model.get_input_embeddings().weight.requires_grad_(False)
    before = table.clone()
    finetuning.finetune(model, task_data("sst2"), tokenizer, accelerator, QUICK, quiet=True)
    assert model.get_input_embeddings().weight is table and torch.equal(table, before)


def test_an_update_that_is_left_out_lets_nothing_decay(student, tokenizer, accelerator, monkeypatch):
    models = []
    for trimmed in (Trimmed, Whole):
        monkeypatch.setattr(finetuning, "Trimmed", trimmed)
        with monkeypatch.context() as patch:
            faulty(patch, lambda loss: loss * float("nan"), 2)
            models.append(tuned(student, task_data("sst2"), tokenizer, accelerator)[0])
    assert same_weights(*models)


def test_only_the_words_in_the_rows_are_left(student):
    model, _ = heads.classifier(student, 2)
    whole, ids = model.get_input_embeddings().weight.clone(), torch.tensor([[2, 9, 7, 3]])
    trimmed = Trimmed(model, ROWS, pad_id=1)
    assert trimmed.words.tolist() == [0, 1, 2, 3, 7, 9], "those up to padding, and those in the rows"
    assert model.get_input_embeddings().weight.shape == (6, whole.shape[1])
    torch.testing.assert_close(model.get_input_embeddings()(trimmed(ids)), whole[ids], rtol=0, atol=0)
    assert trimmed(torch.tensor([0, 1])).tolist() == [0, 1]
    with pytest.raises(IndexError):
        model.get_input_embeddings()(trimmed(torch.tensor([8])))
    trimmed.restore([0.5, 0.5])
    expected = 0.25 * whole
    expected[trimmed.words] = whole[trimmed.words]
    torch.testing.assert_close(model.get_input_embeddings().weight, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "kind", [kind for kind, config in CONFIGS.items() if families.of(config).objective == "causal"]
)
def test_padding_with_the_last_word_keeps_all(kind):
    model = make(CONFIGS[kind])
    before = model.get_input_embeddings().weight.clone()
    Trimmed(model, ROWS, pad_id=len(before) - 1)
    assert torch.equal(model.get_input_embeddings().weight, before)


def test_a_run_that_ends_early_leaves_a_whole_model(student, tokenizer, accelerator, tmp_path, monkeypatch):
    """Stopped by a signal, or not begun because its checkpoints cannot be used."""
    made, real = [], heads.classifier
    monkeypatch.setattr("test_finetuning.classifier", lambda *args: made.append(real(*args)) or made[-1])
    cut(student, tokenizer, accelerator, finetuning.Safety(checkpoints=str(tmp_path)), monkeypatch, at=2)
    model = made[0][0]
    assert model.get_input_embeddings().weight.shape == student.get_input_embeddings().weight.shape
    model = real(student, 2)[0]
    monkeypatch.setattr(finetuning.TaskRun, "start", lambda *_: (_ for _ in ()).throw(ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        finetuning.finetune(model, task_data("sst2"), tokenizer, accelerator, QUICK, quiet=True)
    assert model.get_input_embeddings().weight.shape == student.get_input_embeddings().weight.shape


def test_a_checkpoint_holds_only_the_words_in_the_rows(student, tokenizer, accelerator, tmp_path, monkeypatch):
    cut(student, tokenizer, accelerator, finetuning.Safety(checkpoints=str(tmp_path)), monkeypatch, at=2)
    saved = load_file(next(tmp_path.glob("step-*")) / "model.safetensors")
    (table,) = (tensor for name, tensor in saved.items() if "word_embeddings" in name)
    assert len(table) < student.config.vocab_size / 2
