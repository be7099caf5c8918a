"""Tasks: the table agrees with toyworld and the paper, loading says what it loads, unusable rows are refused."""

import random
from dataclasses import replace

import numpy as np
import pytest
from conftest import ANIMALS, NAMES, VERBS
from datasets import ClassLabel, Dataset, Features, Value
from huggingface_hub import constants

from distilnb.evidence import paper
from distilnb.tasks import glue
from distilnb.tasks.glue import TASKS, TaskData, check, load_data, load_split, tokenize
from distilnb.text import toyworld


def words(count: int, seed: int = 0) -> str:
    """A text of `count` words of the small language, one token each."""
    draw = random.Random(seed)
    return " ".join(draw.choice(NAMES + ANIMALS + VERBS) for _ in range(count))


def rows(task: str = "rte", labels: tuple = (0, 1, 1), **columns) -> Dataset:
    """A hand-made split with the task's columns."""
    texts = {column: [words(3 + i, i) for i in range(len(labels))] for column in TASKS[task].columns}
    return Dataset.from_dict(texts | {"label": list(labels)} | columns)


# the table


def test_the_table_holds_table_one_and_imdb():
    assert tuple(TASKS) == (*glue.GLUE, "imdb")
    for name in glue.GLUE:
        assert 0 < paper.glue("DistilBERT", TASKS[name].title) < 100
    assert len(glue.GLUE) == 9 and TASKS["imdb"].hub == "stanfordnlp/imdb"


@pytest.mark.parametrize("name", TASKS)
def test_toyworld_poses_every_task_in_the_shape_of_the_table(name):
    task = TASKS[name]
    data = load_data(name, n_train=20, n_validation=10)
    assert tuple(data.validations) == task.validations
    for split in (data.train, *data.validations.values()):
        assert set(task.columns) < set(split.column_names)
        assert isinstance(split.features["label"], Value if task.regression else ClassLabel)
        assert task.regression or tuple(split.features["label"].names) == task.labels


def test_two_metrics_are_averaged_where_glue_averages_them():
    assert {name: task.main for name, task in TASKS.items() if task.main != "accuracy"} == {
        "cola": "matthews",
        "mrpc": "accuracy+f1",
        "qqp": "accuracy+f1",
        "stsb": "pearson+spearman",
    }


@pytest.mark.parametrize("written", ["sst2", "SST-2", "sst_2"])
def test_a_task_is_found_however_it_is_written(written):
    assert glue.get_task(written) is TASKS["sst2"]


# what is refused


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("sst3", "train"), "'sst3'"),
        (("rte", "train", "hob"), "'hob'"),
        (("rte", "dev"), "'dev'"),
        (("mnli", "validation"), "validation_matched"),
        (("rte", "train", "toyworld", 0), "rows"),
        (("rte", "test", "toyworld", 5), "labels"),
        (("stsb", "test", "toyworld", 5), "labels"),
    ],
)
def test_loading_says_what_is_wrong(arguments, says):
    with pytest.raises(ValueError, match=says):
        load_split(*arguments)


@pytest.mark.parametrize(
    "task, data, says",
    [
        ("rte", rows("rte").remove_columns("sentence2"), "'sentence2'"),
        ("rte", rows("rte").rename_column("label", "labels"), "'label'"),
        ("rte", rows("rte", ()), "empty"),
        ("rte", rows("rte", (0, 1, 2)), "row 2"),
        ("mnli", rows("mnli", (0, 2, -1)), "row 2"),
        ("rte", rows("rte", (0.5, 1.0)), "row 0"),
        ("rte", rows("rte", (0, None)), "row 1"),
        ("rte", rows("rte", (-1, -1)), "labels"),
        ("stsb", rows("stsb", (-1.0, -1.0)), "labels"),
        ("stsb", rows("stsb", (None, None)), "labels"),
        ("stsb", rows("stsb", (1.0, float("inf"))), "row 1"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(task, data, says):
    with pytest.raises(ValueError, match=says):
        check(data, TASKS[task], "train")
    with pytest.raises(ValueError, match=says):
        TaskData(TASKS[task], data, {"validation": data}, {})


def test_a_task_without_a_split_to_score_is_refused():
    with pytest.raises(ValueError, match="needs"):
        TaskData(TASKS["rte"], rows("rte"), {}, {})


@pytest.mark.parametrize(
    "task, settings, says",
    [
        ("imdb", {"truncation": "middle"}, "'middle'"),
        ("rte", {"truncation": "tail"}, "'head'"),
        ("rte", {"max_length": 500}, "max_length"),
        ("rte", {"max_length": 4}, "max_length"),
    ],
)
def test_tokenizing_says_what_is_wrong(tokenizer, task, settings, says):
    with pytest.raises(ValueError, match=says):
        tokenize(rows(task), TASKS[task], tokenizer, **settings)


def test_a_row_without_text_is_named(tokenizer):
    with pytest.raises(ValueError, match="column"):
        tokenize(rows("rte", (0, 1, 1), sentence2=["a", None, "b"]), TASKS["rte"], tokenizer)


# tokens


def test_a_pair_becomes_two_segments_and_the_longer_text_loses_its_end(tokenizer):
    first, second = words(4, 1), words(30, 2)
    data = Dataset.from_dict({"sentence1": [first], "sentence2": [second], "label": [1]})
    row = tokenize(data, TASKS["rte"], tokenizer, max_length=20)[0]
    kept = " ".join(second.split()[:13])  # 20 less [CLS], 4 words and two [SEP]
    assert tokenizer.decode(row["input_ids"]) == f"[CLS] {first} [SEP] {kept} [SEP]"
    assert row["token_type_ids"].tolist() == [0] * 6 + [1] * 14
    assert (row["length"], row["labels"]) == (20, 1)


@pytest.mark.parametrize("truncation, head, tail", [("head", 18, 0), ("tail", 0, 18), ("head_tail", 4, 14)])
def test_a_long_text_keeps_its_head_its_tail_or_both(tokenizer, truncation, head, tail):
    """Sun et al. 2019 keep 128 + 382 of 510 tokens, a quarter and the rest: 4 + 14 of 18. A short text is whole."""
    texts = [words(40), words(5)]
    data = Dataset.from_dict({"text": texts, "label": [0, 1]})
    found = tokenize(data, TASKS["imdb"], tokenizer, max_length=20, truncation=truncation)
    split = texts[0].split()
    kept = " ".join(split[:head] + split[len(split) - tail :])
    assert tokenizer.decode(found[0]["input_ids"]) == f"[CLS] {kept} [SEP]"
    assert tokenizer.decode(found[1]["input_ids"]) == f"[CLS] {texts[1]} [SEP]"
    assert found["length"][:].tolist() == [20, 7] and len(found[0]["token_type_ids"]) == 20


def test_more_rows_than_fit_one_chunk_keep_their_order_and_labels(tokenizer):
    data = Dataset.from_dict({"text": [words(2, i) for i in range(1203)], "label": [i % 2 for i in range(1203)]})
    found = tokenize(data, TASKS["imdb"], tokenizer)
    assert len(found) == 1203 and found["labels"][:].tolist() == [i % 2 for i in range(1203)]
    assert tokenizer.decode(found[1100]["input_ids"]) == f"[CLS] {words(2, 1100)} [SEP]"


def test_labels_are_classes_or_numbers(tokenizer):
    scores = tokenize(rows("stsb", (0.5, 5.0, 2.25)), TASKS["stsb"], tokenizer)["labels"][:]
    assert scores.dtype == np.float32 and scores.tolist() == [0.5, 5.0, 2.25]
    assert tokenize(rows("rte"), TASKS["rte"], tokenizer)["labels"][:].dtype == np.int64


def test_rows_are_tokenized_once_for_every_setting(tokenizer):
    data = TaskData(TASKS["rte"], rows("rte"), {"validation": rows("rte", (1, 0))}, {})
    train, validations = data.encoded(tokenizer, 16)
    assert data.encoded(tokenizer, 16)[0] is train and list(validations) == ["validation"]
    assert len(validations["validation"]) == 2
    assert data.encoded(tokenizer, 8)[0]["length"][:].max() == 8


# what is scored


def test_a_validation_split_that_this_copy_lacks_is_left_out_and_named(monkeypatch):
    """MNLI without its mismatched half still has a cell in Table 1; a task without any split to score has none."""
    splits = {"train": hub_rows("mnli"), "validation_matched": hub_rows("mnli")}
    monkeypatch.setattr(glue, "reach", lambda *_: {})
    monkeypatch.setattr(glue, "load_dataset", lambda *a, **k: splits)
    data = load_data("mnli", "hub")
    assert list(data.validations) == ["validation_matched"]
    assert data.info["missing"] == {
        "validation_mismatched": "task mnli has no split 'validation_mismatched' in this "
        "copy of nyu-mll/glue, only train, validation_matched"
    }
    with pytest.raises(glue.MissingSplit, match="validation_mismatched"):
        load_data("mnli", "hub", validations=("validation_matched", "validation_mismatched"))
    del splits["validation_matched"]
    with pytest.raises(ValueError, match="needs"):
        load_data("mnli", "hub")
    splits["train"] = rows("rte")
    with pytest.raises(glue.MissingSplit, match="validation"):
        load_data("rte", "hub")


def hub_rows(name: str) -> Dataset:
    """Two rows of each class."""
    return rows(name, (0, 1, 0, 1))


@pytest.mark.parametrize("name, labels, shown", [("sst2", (1, 1, 1), "positive"), ("stsb", (2.5, 2.5), "2.5")])
def test_labels_that_are_all_alike_are_refused(name, labels, shown):
    with pytest.raises(ValueError, match=f"label {shown}"):
        check(rows(name, labels), TASKS[name], "train")
    check(rows(name, labels[:1]), TASKS[name], "train")


def test_rows_without_labels_can_be_answered_but_not_learned_from():
    unlabelled = load_split("sst2", "test", n=5, labelled=False)
    assert set(unlabelled["label"]) == {-1}
    with pytest.raises(ValueError, match="labels"):
        load_split("sst2", "test", n=5)


def test_both_conventions_are_named():
    """GLUE averages two metrics of one task; BERT's Table 1 prints the second."""
    both = {name: (task.main, task.main_of_bert) for name, task in TASKS.items() if task.main != task.main_of_bert}
    assert both == {
        "mrpc": ("accuracy+f1", "f1"),
        "qqp": ("accuracy+f1", "f1"),
        "stsb": ("pearson+spearman", "spearman"),
    }


def test_a_task_judges_logits_and_knows_its_baseline(tokenizer):
    """Three of four right; always answering the commonest training label gets one of four."""
    data = TaskData(TASKS["sst2"], rows("sst2", (1, 1, 0)), {"validation": rows("sst2", (0, 0, 0, 1))}, {})
    logits = np.array([[1.0, 0.0], [3.0, 2.0], [0.0, 1.0], [0.0, 5.0]])
    found, (low, high) = data.judge("validation", data.encoded(tokenizer, 16)[1]["validation"], logits)
    assert found == {"accuracy": 0.75} and 0 <= low <= 0.75 <= high <= 1
    assert data.baseline("validation") == 0.25


# where rows are from


def test_a_toy_task_is_a_stand_in_and_its_fingerprint_is_of_its_rows():
    one, again, other = (load_data("wnli", n_train=8, n_validation=4, seed=seed).info for seed in (0, 0, 1))
    assert one == again and one["fingerprint"] != other["fingerprint"]
    assert one["rows"] == {"train": 8, "validation": 4}
    assert (one["id"], one["stand_in"]) == ("toyworld", True) and "made-up" in one["stand_in_why"]


def test_a_split_without_its_official_rows_is_a_stand_in(monkeypatch):
    """qqp as it is found in part: the record must not pass for the paper's task."""
    official = {"train": 363_846, "validation": 40_430}
    for there, stand_in in ((official, False), (official | {"train": 20_000}, True)):
        splits = {split: range(count) for split, count in there.items()}
        monkeypatch.setattr(glue, "fingerprint", lambda *_: "")
        info = glue.provenance(TASKS["qqp"], "hub", splits, 0)
        assert info["stand_in"] == stand_in
    assert info["stand_in_why"] == "train has 20,000 of 363,846 rows"
    assert (info["id"], info["revision"]) == ("nyu-mll/glue", TASKS["qqp"].revision)


def test_other_rows_are_tokenized_anew(tokenizer):
    """Rows put into the place of others are not answered from what was kept of these."""
    data = load_data("rte", n_train=20, n_validation=10)
    assert len(data.encoded(tokenizer)[0]) == 20
    assert len(replace(data, train=data.train.select(range(5))).encoded(tokenizer)[0]) == 5


def test_carved_rows_are_a_tenth_of_train_and_no_validation_row():
    data = load_data("rte", n_train=50, n_validation=10)
    carved = data.carve()
    assert list(carved.validations) == ["carved"] and carved.info["rows"] == {"train": 45, "carved": 5}
    texts = [
        set(zip(split["sentence1"], split["sentence2"], strict=True))
        for split in (carved.train, carved.validations["carved"], data.validations["validation"])
    ]
    assert texts[0] | texts[1] == set(zip(data.train["sentence1"], data.train["sentence2"], strict=True))
    assert not (texts[0] & texts[1] or texts[1] & texts[2])
    fewer = data.carve(most=7)
    assert fewer.info["rows"] == {"train": 7, "carved": 5} and set(fewer.train["idx"]) < set(carved.train["idx"])
    assert fewer.validations["carved"]["idx"][:] == carved.validations["carved"]["idx"][:]
    assert data.carve().train["idx"][:] == carved.train["idx"][:] != data.carve(seed=1).train["idx"][:]
    with pytest.raises(ValueError, match="few"):
        TaskData(TASKS["rte"], rows("rte", (1,)), {"validation": rows("rte")}, {"rows": {}}).carve()


# the Hub


def hub_split(labels: list[int]) -> Dataset:
    """What the Hub would give for sst2."""
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    return Dataset.from_dict(
        {"sentence": [words(3, i) for i in range(len(labels))], "label": labels}, features=features
    )


def test_a_sample_of_a_hub_split_is_drawn_from_all_of_it(monkeypatch):
    """Rows sorted by label, as IMDb's are: the first 50 of 200 would be of one class."""
    monkeypatch.setattr(glue, "reach", lambda *_: {})
    asked = []
    monkeypatch.setattr(
        glue, "load_dataset", lambda *a, **k: asked.append((a, k)) or {"train": hub_split([0] * 100 + [1] * 100)}
    )
    found = load_split("sst2", "train", "hub", n=50)
    assert asked == [(("nyu-mll/glue", "sst2"), {"revision": TASKS["sst2"].revision})]
    assert len(found) == 50 and 15 < sum(found["label"]) < 35
    assert found["sentence"][:] == load_split("sst2", "train", "hub", n=50)["sentence"][:]
    assert found["sentence"][:] != load_split("sst2", "train", "hub", n=50, seed=1)["sentence"][:]
    assert len(load_split("sst2", "train", "hub", n=500)) == 200
    with pytest.raises(glue.MissingSplit, match="validation"):
        load_split("sst2", "validation", "hub")


def test_a_hub_that_does_not_answer_is_not_asked_twice(monkeypatch):
    """The cache is looked into offline; a task that is not there is a sentence, not a stack of connection errors."""
    monkeypatch.setattr(glue, "reach", lambda *_: {"local_files_only": True})
    offline = []

    def absent(*_, **__):
        offline.append(constants.HF_HUB_OFFLINE)
        raise ConnectionError("Couldn't reach it\nand so on")

    monkeypatch.setattr(glue, "load_dataset", absent)
    with pytest.raises(ValueError, match="network"):
        load_split("rte", "train", "hub")
    assert offline == [True] and not constants.HF_HUB_OFFLINE


@pytest.mark.hub
@pytest.mark.parametrize("name", ["cola", "sst2", "mrpc", "stsb", "rte", "wnli", "imdb"])
def test_real_tasks_are_whole(name):
    data = load_data(name, "hub")
    assert data.info["rows"] == TASKS[name].rows
    assert not data.info["stand_in"], data.info["stand_in_why"]
    assert tuple(getattr(data.train.features["label"], "names", ())) == TASKS[name].labels


@pytest.mark.hub
def test_a_real_split_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="nyu-mll"):
        load_split("sst2", "dev", "hub")


@pytest.mark.hub
def test_mnli_mismatched_is_there_or_is_left_out_with_a_sentence():
    data = load_data("mnli", "hub", 50, 20)
    if "validation_mismatched" in data.validations:
        assert len(load_split("mnli", "validation_mismatched", "hub")) == 9_832 and "missing" not in data.info
    else:
        assert list(data.validations) == ["validation_matched"] and data.info["missing"] == {
            "validation_mismatched": "task mnli has no split 'validation_mismatched' in this copy of nyu-mll/glue, "
            "only train, validation_matched"
        }


def test_toyworld_is_the_default():
    assert load_split("rte", "train", n=3)["sentence1"][:] == toyworld.load_task("rte", "train", 3)["sentence1"][:]
