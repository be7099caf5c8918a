"""Fine-tuning on rows of the real tasks: a small network from random weights, a few hundred updates, the real metrics.

Such a network can learn which words are good and which are bad, and little more. So it must beat the majority class
on SST-2 and IMDb; on STS-B and SQuAD it is asked for a step off the floor only.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, DistilBertConfig, DistilBertForMaskedLM

from distilnb import scales
from distilnb.cli import main
from distilnb.evidence.records import load_record, load_records
from distilnb.tasks import finetuning, glue, heads, metrics, squad
from distilnb.tasks.finetuning import FinetuningConfig, finetune

pytestmark = pytest.mark.hub
CONFIG = FinetuningConfig(epochs=1, batch_size=32, learning_rate=3e-3, max_length=64, seed=0)


@pytest.fixture(scope="module")
def tokenizer():
    """The real one of bert-base-uncased."""
    return AutoTokenizer.from_pretrained(scales.BERT_BASE, revision=scales.BERT_BASE_REVISION)


@pytest.fixture(scope="module")
def small(tokenizer):
    """Two layers of width 64, random."""
    torch.manual_seed(0)
    shape = {"dim": 64, "hidden_dim": 128, "n_heads": 2, "n_layers": 2, "dropout": 0.0, "attention_dropout": 0.0}
    return DistilBertForMaskedLM(DistilBertConfig(vocab_size=len(tokenizer), **shape))


def run(small, data, tokenizer, accelerator, config):
    """(model, record) of a fine-tuning, and its scores printed for whoever reads the log."""
    model, _ = heads.for_task(small, data.task, seed=0)
    record = finetune(model, data, tokenizer, accelerator, config, quiet=True, scale="mini")
    print(data.task.name, record["steps"], "updates:", record["scores"], record["interval"])
    return model, record


def test_sst2_beats_the_majority(small, tokenizer, accelerator):
    """300 updates; the whole interval must lie above the majority class."""
    data = glue.load_data("sst2", "hub", n_train=9_600)
    _, record = run(small, data, tokenizer, accelerator, CONFIG)
    assert record["steps"] == 300 and record["data"]["rows"] == {"train": 9_600, "validation": 872}
    assert record["interval"][0] > record["scores"]["majority"] + 0.05
    assert record["data"]["revision"] == glue.get_task("sst2").revision


def test_imdb_beats_the_majority_whatever_is_kept(small, tokenizer, accelerator):
    """150 updates of 128 pieces, from the head, and from head and tail."""
    data = glue.load_data("imdb", "hub", n_train=4_800, n_validation=600)
    for truncation in ("head", "head_tail"):
        config = replace(CONFIG, max_length=128, truncation=truncation)
        _, record = run(small, data, tokenizer, accelerator, config)
        assert record["interval"][0] > record["scores"]["majority"] + 0.03
    lengths = data.encoded(tokenizer, 128, "head_tail")[0]["length"][:]
    assert (lengths == 128).mean() > 0.7, "most reviews are longer than that"


def test_stsb_is_scored_by_its_real_metrics(small, tokenizer, accelerator):
    """180 updates on all of it learn the mean and little more: the score is that of its own predictions, no nan."""
    data = glue.load_data("stsb", "hub")
    model, record = run(small, data, tokenizer, accelerator, replace(CONFIG, learning_rate=1e-3))
    assert not data.info["stand_in"] and record["scores"]["majority"] == 0 and record["steps"] == 180
    logits, labels = finetuning.predict(model, data.encoded(tokenizer, 64)[1]["validation"], accelerator)
    assert labels.max() == 5 and labels.min() == 0
    found = metrics.score(("pearson", "spearman"), logits[:, 0], labels)
    assert found == {name: record["scores"][name] for name in found}
    variance, error = labels.var(), np.mean((logits[:, 0] - labels) ** 2)
    assert error < 1.2 * variance, "it has found the mean at least"


def test_squad_runs_from_rows_to_em_and_f1(small, tokenizer, accelerator):
    """200 updates bring the loss below that of a guess among all tokens, and F1 above that of the untrained network."""
    data = squad.load_data("hub", n_train=3_200, n_validation=200)
    config = replace(CONFIG, max_length=192, stride=96, batch_size=16)
    untrained, _ = heads.for_task(small, data.task, seed=0)
    before = finetuning.evaluate(untrained, data, finetuning.encode(data, tokenizer, config), accelerator)
    model, record = run(small, data, tokenizer, accelerator, config)
    windows = finetuning.encode(data, tokenizer, config)[0]
    assert np.mean(record["curve"]["loss"][-20:]) < np.log(windows["length"][:].mean()) - 0.5
    assert record["scores"]["f1"] > before["scores"]["f1"] and record["scores"]["f1"] >= record["scores"]["exact_match"]
    taught, _ = heads.for_task(small, data.task, seed=1)
    few = replace(data, train=data.train.select(range(640)))
    again = finetune(taught, few, tokenizer, accelerator, config, teacher=model, quiet=True, model_name="student_d")
    assert again["curve"]["loss"][-1] < again["curve"]["loss"][0]


def test_every_task_of_glue_can_be_read_and_learned_from(small, tokenizer, accelerator):
    """A handful of rows of each, through the whole path; a stand-in is named as such."""
    for name in glue.GLUE:
        data = glue.load_data(name, "hub", n_train=64, n_validation=64)
        _, record = run(small, data, tokenizer, accelerator, CONFIG)
        assert record["scores"]["main"] == metrics.main_score(data.task.main, record["scores"])
        assert record["data"]["stand_in"] and "64 of" in record["data"]["stand_in_why"]


def test_base_scale_is_rehearsed_with_random_weights(tmp_path, monkeypatch, capsys):
    """The real configuration, tokenizer and Wikipedia, streamed: two updates of distillation, two of fine-tuning."""
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path))
    random = f"random:{scales.BERT_BASE}"
    few = ["--tokens", "512", "--seq_length", "32", "--batch_size", "8", "--micro_batch_size", "4"]
    assert main.main(["distil", "--scale", "base", "--teacher", random, "--cpu", *few]) == 0
    record = load_record(tmp_path / "runs" / "distil-base" / "model" / "record.json")
    assert record["steps"] == 2 and record["scale"] == "rehearsal" and record["made_from"]["teacher"] == random
    assert np.isfinite(record["curve"]["loss"]).all()
    student = tmp_path / "runs" / "distil-base" / "model"
    assert 66e6 < sum(p.numel() for p in heads.classifier(student, 2)[0].parameters()) < 67e6
    rows = ["--task", "rte", "--train_rows", "64", "--validation_rows", "16", "--max_length", "32", "--epochs", "1"]
    assert main.main(["glue", "--scale", "base", "--model", f"student={student}", *rows, "--cpu"]) == 0
    assert "rte" in capsys.readouterr().out
    (tuned,) = [r for r in load_records(tmp_path / "runs") if r["kind"] == "finetuning"]
    assert tuned["scale"] == "rehearsal", "it must never stand beside the paper's numbers"
