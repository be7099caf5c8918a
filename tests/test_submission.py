"""GLUE's submission files: names, order, words or numbers as its server wants them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from distilnb import paths
from distilnb.models.teacher import load_teacher
from distilnb.tasks import glue, submission
from distilnb.tasks.finetuning import FinetuningConfig
from distilnb.tasks.heads import classifier


def test_the_files_are_the_ten_of_the_server(tmp_path):
    """Their names, and for each task how its answers are written (gluebenchmark.com, "Submission")."""
    expected = {
        "CoLA": "1",
        "SST-2": "1",
        "MRPC": "1",
        "STS-B": "1.000",
        "QQP": "1",
        "MNLI-m": "neutral",
        "MNLI-mm": "neutral",
        "QNLI": "not_entailment",
        "RTE": "not_entailment",
        "WNLI": "1",
    }
    written = {}
    for name in glue.GLUE:
        for split in submission.test_splits(name):
            answers = np.ones(3) if glue.TASKS[name].regression else np.ones(3, dtype=int)
            path = submission.write(glue.TASKS[name], split, answers, tmp_path)
            lines = path.read_text().splitlines()
            assert lines[0] == "index\tprediction" and [line.split("\t")[0] for line in lines[1:]] == ["0", "1", "2"]
            written[path.stem] = lines[1].split("\t")[1]
    assert written == expected


def test_numbers_are_kept_in_range(tmp_path):
    path = submission.write(glue.TASKS["stsb"], "test", np.array([-0.4, 2.34567, 7.0]), tmp_path)
    assert path.read_text() == "index\tprediction\n0\t0.000\n1\t2.346\n2\t5.000\n"


def test_what_the_server_does_not_take_is_refused(tmp_path):
    for name, split in (("imdb", "test"), ("sst2", "validation")):
        with pytest.raises(ValueError, match=split):
            submission.write(glue.TASKS[name], split, np.ones(2, dtype=int), tmp_path)
    assert submission.test_splits("imdb") == () and not list(tmp_path.iterdir())


def test_the_model_goes_to_where_its_rows_are(monkeypatch, tmp_path):
    """A kept model is loaded on the processor, and answered with it on a GPU; "meta" stands for that here."""
    elsewhere, asked = SimpleNamespace(device=torch.device("meta"), is_main_process=False), []

    def predict(model, *_):
        asked.append(model.device)
        return np.zeros((1, 3)), None

    monkeypatch.setattr(submission, "predict", predict)
    teacher, tokenizer = load_teacher(paths.data("teachers", "toy"))
    model, _ = classifier(teacher, 3, seed=1)
    task = glue.TASKS["mnli"]
    submission.predict_tests(model, task, tokenizer, elsewhere, FinetuningConfig(), tmp_path, "toyworld")
    assert asked == [elsewhere.device] * 2


def test_a_models_answers_are_written_in_the_order_of_the_rows(accelerator, tmp_path):
    """Toyworld's two MNLI test splits, against answers made one row at a time."""
    teacher, tokenizer = load_teacher(paths.data("teachers", "toy"))
    task = glue.TASKS["mnli"]
    model, _ = classifier(teacher, 3, seed=1)
    written = submission.predict_tests(model, task, tokenizer, accelerator, FinetuningConfig(), tmp_path, "toyworld")
    assert [path.name for path in written] == ["MNLI-m.tsv", "MNLI-mm.tsv"]
    rows = glue.load_split(task, "test_matched", "toyworld", labelled=False)
    lines = written[0].read_text().splitlines()[1:]
    assert len(lines) == len(rows)
    for i in (0, 7, len(rows) - 1):
        inputs = tokenizer(rows[i]["premise"], rows[i]["hypothesis"], return_tensors="pt")
        answer = task.labels[int(model(**inputs).logits.argmax())]
        assert lines[i] == f"{i}\t{answer}"
