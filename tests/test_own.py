"""Your own task: files as people have them become rows, or a sentence that names file and row."""

import bz2
import gzip
import json
import lzma
import random
from dataclasses import replace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import ANIMALS, NAMES, PLACES, stories
from datasets import ClassLabel, Dataset, Features, List, Value
from test_damaged_models import mutated
from test_finetuning import QUICK
from test_reading import damaged

from distilnb.cli import main
from distilnb.evidence.records import load_record, load_records, save_record
from distilnb.models.student import build_student
from distilnb.tasks import answers, own, squad
from distilnb.tasks.answers import Answer, find_answers, score_with_none
from distilnb.tasks.finetuning import finetune, predict
from distilnb.tasks.heads import fine_tuned, for_task
from distilnb.tasks.own import OwnOptions, find, load
from distilnb.tasks.squad import SpanTask
from distilnb.text import reading


def write(path, rows: list[dict]):
    """Rows as a file of the kind that its name says."""
    packed = reading.OPENERS.get(path.suffix, "") and path.suffix
    name, separators = path.name.removesuffix(packed), {".csv": ",", ".tsv": "\t"}
    lines = [json.dumps(row) for row in rows]
    if separator := separators.get(name[-4:]):
        lines = [separator.join(rows[0])] + [separator.join(map(str, row.values())) for row in rows]
    data = (json.dumps(rows) if name.endswith(".json") else "\n".join(lines) + "\n").encode()
    if name.endswith((".parquet", ".arrow")):
        table, sink = pyarrow.Table.from_pylist(rows), pyarrow.BufferOutputStream()
        if name.endswith(".parquet"):
            pyarrow.parquet.write_table(table, sink)
        else:
            with pyarrow.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
        data = sink.getvalue().to_pybytes()
    path.write_bytes(PACKERS[packed](data))
    return path


PACKERS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, "zstd", asbytes=True),
}


def moods(count: int = 60) -> list[dict]:
    """Sentences about animals, places or neither, with three labels."""
    draw = random.Random(0)
    kinds = {"beast": ANIMALS, "place": PLACES, "nobody": NAMES}
    return [
        {"said": f"{draw.choice(kinds[m])} {i % 7} {i}", "mood": m} for i in range(count) for m in [[*kinds][i % 3]]
    ]


def questions(count: int = 40) -> list[dict]:
    """One question a passage, every second without an answer."""
    rows = []
    for i in range(count):
        context = f"{NAMES[i % 8]} feeds the {ANIMALS[i // 8 % 8]} in the garden . {i}"
        answer = (
            {"text": ["garden"], "answer_start": [context.index("garden")]}
            if i % 2
            else {"text": [], "answer_start": []}
        )
        rows.append({"id": str(i), "question": "where is it ?", "context": context, "answers": answer})
    return rows


@pytest.mark.parametrize(
    "name",
    "a.csv a.tsv a.jsonl a.ndjson a.json a.parquet a.arrow A.CSV a.jsonl.gz a.JSON.zst a.csv.xz a.parquet.bz2".split(),
)
def test_every_kind_of_file_is_the_same_task(name, tmp_path):
    expected = load(str(write(tmp_path / "plain.csv", moods())))
    data = load(str(write(tmp_path / name.lower(), moods()).rename(tmp_path / name)))
    assert data.task.columns == ("said",) and data.task.labels == ("beast", "nobody", "place")
    assert data.train.to_dict() == expected.train.to_dict()
    assert data.info["rows"] == {"train": 54, "validation": 6} and data.info["own"]
    assert set(data.validations["validation"]["label"][:]) == {0, 1, 2}, "each class has its share"


@pytest.mark.parametrize(
    "values, labels, metrics, main",
    [
        (["1", "0"], ("0", "1"), ("accuracy", "macro_f1"), "accuracy"),
        ([2, 10, 10, 10, 10], ("2", "10"), ("accuracy", "macro_f1"), "macro_f1"),
        (["0.5", "1.5", "2"], (), ("pearson", "spearman", "r2"), "pearson"),
        ([["a", "b"], ["b"], []], ("a", "b"), ("micro_f1", "macro_f1", "accuracy"), "micro_f1"),
        (["a|b", "b", "", "a"], ("a", "b"), ("micro_f1", "macro_f1", "accuracy"), "micro_f1"),
        (["a|b; c, d", "b; c, d", "", "a"], ("a", "b; c, d"), ("micro_f1", "macro_f1", "accuracy"), "micro_f1"),
        (["a;b, c", "b, c", "", "a"], ("a", "b, c"), ("micro_f1", "macro_f1", "accuracy"), "micro_f1"),
        (["a; b", "c; d"], ("a; b", "c; d"), ("accuracy", "macro_f1"), "accuracy"),
        ([True, False], ("False", "True"), ("accuracy", "macro_f1"), "accuracy"),
    ],
)
def test_labels_say_what_kind_of_task_it_is(values, labels, metrics, main, tmp_path):
    rows = [{"text": f"w {i}", "label": values[i % len(values)]} for i in range(40)]
    data = load(str(write(tmp_path / "a.jsonl", rows)))
    assert (data.task.labels, data.task.metrics, data.task.main) == (labels, metrics, main)
    assert (data.task.regression, data.task.several) == (not labels, main == "micro_f1")
    joined = [sign for sign in "|;" if data.task.several and sign in values[0]][:1]
    assert [line for line in data.info["told"] if "joined" in line] == [
        f"labels are joined by {sign}, taken for several a row (--kind says otherwise)" for sign in joined
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_columns_of_0_and_1_are_the_labels_of_a_row(name, tmp_path):
    """As in the most downloaded data set of comments; one such column alone is a class."""
    rows = [{"id": i, "comment": f"w {i}", "toxic": i % 2, "obscene": bool(i % 3), "threat": 0.0} for i in range(40)]
    for options in (OwnOptions(), OwnOptions(label="toxic,obscene,threat")):
        data = load(str(write(tmp_path / name, rows)), options)
        assert data.task.several and data.task.columns == ("comment",) and data.task.labels == ("obscene", "toxic")
        for row in data.train:
            i = int(row["comment"].split()[1])
            assert row["label"] == [k for k, marked in enumerate((i % 3, i % 2)) if marked]
    alone = load(str(write(tmp_path / name, rows)), OwnOptions(columns="comment", label="toxic"))
    assert alone.task.labels == ("0", "1") and not alone.task.several


def test_classes_that_are_spelt_alike_or_never_scored_are_told(tmp_path):
    rows = [{"text": f"a {i}", "label": ["good", "Good", "bad"][i % 3]} for i in range(60)]
    told = load(str(write(tmp_path / "case.csv", [*rows, {"text": "so", "label": "mixed"}]))).info["told"]
    assert any("Good, good" in line and "apart" in line for line in told)
    assert any("mixed" in line and "not scored" in line for line in told)


def test_what_is_guessed_is_told_and_can_be_said(tmp_path):
    rows = [{"id": i, "one": f"a {i}", "other": f"b {i}", "stars": i % 5} for i in range(40)]
    path = str(write(tmp_path / "pairs.csv", rows))
    told = load(path).info["told"]
    assert any("one and other" in line and "stars" in line for line in told) and any(
        "taken for classes" in s for s in told
    )
    options = OwnOptions(columns="other", label="stars", kind="numbers", metric="spearman", validation="0.5")
    data = load(path, options)
    assert data.task.columns == ("other",) and data.task.regression and data.task.main == "spearman"
    assert data.info["rows"] == {"train": 20, "validation": 20} and data.task.center == pytest.approx(2, abs=0.6)


def test_a_folder_and_a_validation_file(tmp_path):
    write(tmp_path / "train.csv", moods(30))
    write(tmp_path / "dev.jsonl", moods(9))
    assert load(str(tmp_path)).info["rows"] == {"train": 30, "validation": 9}
    other = OwnOptions(validation=str(write(tmp_path / "more.csv", moods(12))))
    data = load(str(tmp_path / "train.csv"), other)
    assert data.info["rows"] == {"train": 30, "validation": 12}
    assert any("texts of a training row" in line for line in data.info["told"])
    assert load(str(tmp_path), n_train=10, n_validation=3).info["rows"] == {"train": 10, "validation": 3}


@pytest.mark.parametrize("names", [{"text": "w", "mood": "x"}, {"text": "w", "a": 0, "b": 1}])
def test_a_test_file_without_labels_is_refused_with_the_way_out(names, tmp_path):
    """As on Kaggle, where the file to be scored lies beside the one to learn from."""
    rows = [names | {"text": f"w {i}", [*names][1]: "01"[i % 2]} for i in range(40)]
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "test.csv", [{"text": row["text"]} for row in rows])
    with pytest.raises(ValueError, match="'test.csv'.*'(mood|a)'.* --validation 0.1"):
        load(str(tmp_path))
    assert load(str(tmp_path), OwnOptions(validation="0.1")).info["rows"] == {"train": 36, "validation": 4}


def bad(rows: list[dict], at: int, **change) -> list[dict]:
    """The rows, one of them changed."""
    return [row | change if i == at else row for i, row in enumerate(rows)]


def labelled(values: list) -> list[dict]:
    """A row for each label."""
    return [{"text": f"w {i}", "label": value} for i, value in enumerate(values)]


WRONG = {
    "decimal commas": ("a.jsonl", labelled([f"{i},5" for i in range(60)]), {}, "with a point"),
    "a word among numbers": ("a.jsonl", labelled([*range(60), "n/a"]), {}, "'a.jsonl', line 61"),
    "a label for each row": ("a.jsonl", labelled([f"free text {i}" for i in range(60)]), {}, "--label"),
    "a blank label": ("a.jsonl", labelled(["a", "b", " "] * 9), {}, "'a.jsonl', line 3"),
    "decimal commas in few values": ("a.jsonl", labelled(["0,5", "1", "1,5"] * 9), {}, "with a point"),
    "not a number": ("a.csv", labelled([*range(60), "inf"]), {}, "'a.csv', line 62"),
    "an object for a label": ("a.jsonl", labelled([{"a": i % 2} for i in range(9)]), {}, "'a.jsonl', line 1"),
    "no label in any row": ("a.jsonl", labelled([[]] * 9), {}, "no row of 'a.jsonl'"),
    "spans without passages": ("a.csv", moods(), {"kind": "spans"}, "question, context and answers"),
    "objects without values": ("a.jsonl", [{}] * 9, {}, "no rows"),
    "a column twice": ("a.csv", [{"text": "x", " text": "y", "label": "z"}], {}, "'text'"),
    "an answer in two places": (
        "q.jsonl",
        bad(questions(), 3, context="a garden in a garden", answers={"text": ["garden"], "answer_start": [3]}),
        {},
        "'q.jsonl', line 4",
    ),
    "no label": ("a.jsonl", bad(moods(), 6, mood=None), {}, "'a.jsonl', line 7"),
    "no label in a csv": ("a.csv", bad(moods(), 6, mood=""), {}, "'a.csv', line 8"),
    "no text": ("a.jsonl", bad(moods(), 6, said=" "), {}, "'a.jsonl', line 7"),
    "a text that is none": ("a.parquet", [{"said": i, "mood": "x"} for i in range(9)], {}, "'a.parquet', row 1"),
    "one class only": ("a.jsonl", [{"said": f"a {i}", "mood": "up"} for i in range(20)], {}, "label up"),
    "a number that is none": ("a.csv", bad(moods(), 0), {"kind": "numbers"}, "'a.csv', line 2"),
    "no such column": ("a.csv", moods(), {"label": "colour"}, "colour"),
    "too many columns": ("a.csv", [{"a": "x", "b": "y", "c": "z", "d": "u"}], {}, "--columns"),
    "another kind's metric": ("a.csv", moods(), {"metric": "pearson"}, "pearson"),
    "F1 of three classes": ("a.csv", moods(), {"metric": "f1"}, "f1"),
    "no share": ("a.csv", moods(), {"validation": "2"}, "--validation 2"),
    "one row": ("a.csv", moods(1), {}, "too few"),
    "an answer elsewhere": (
        "q.jsonl",
        bad(questions(), 3, answers={"text": ["sofa"], "answer_start": [0]}),
        {},
        "line 4",
    ),
    "answers of another shape": ("q.jsonl", bad(questions(), 3, answers="garden"), {}, "'q.jsonl', line 4"),
    "no answers in a row": ("q.json", [*questions(9), {"question": "who", "context": "a"}], {}, "row 10 is no answer"),
    "a number that is too large": ("a.csv", labelled([*range(60), 1e300]), {}, "'a.csv', line 62"),
    "no object of answers": ("q.jsonl", bad(questions(), 3, answers=None), {}, "line 4 .* both empty"),
    "no answer at all": ("q.jsonl", questions()[::2], {}, "q.jsonl"),
    "answers without places": (
        "q.csv",
        [{"question": "where ?", "context": f"{i} in it", "answer": f"{i} in"} for i in range(9)],
        {},
        "without their places",
    ),
    "no names of columns": ("a.csv", [{"a b": "c d", "x": "x"}, {"a b": "e f", "x": "y"}], {}, "--label x"),
    "no names, but a number": ("a.tsv", [{"a b": "c d", "0.5": "1"}, {"a b": "e f", "0.5": "2"}], {}, "--label 0.5"),
    "marks of another kind": ("a.csv", [{"text": "w", "a": 0, "b": 2}], {"label": "a,b"}, "line 2 needs 0 or 1 .* 'b'"),
    "numbers for texts": ("a.jsonl", [{"text": 7, "label": i % 2} for i in range(9)], {}, "no text but 7"),
}


def test_two_tasks_of_one_name_would_have_one_record(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.csv", moods())
    with pytest.raises(ValueError, match="rename"):
        find(f"{tmp_path / 'one' / 'a.csv'},{tmp_path / 'two' / 'a.csv'}", "toyworld")


@pytest.mark.parametrize(
    "values, labels",
    [
        (["up ", "down", " up"], ("down", "up")),
        (["1.0", "2", 1], ("1", "2")),
        (["['a', 'b']", '["b"]', "[]"], ("a", "b")),
        (["007", "7"], ("007", "7")),
        (["['a' 'b']", "['a'\n \"b\"]", "[np.str_('b')]"], ("a", "b")),
        (["['a b' 'c, d']", "[]"], ("a b", "c, d")),
        (["[ 0 11]", "[np.int64(0), np.int64(11)]", "[0. 11.]"], ("0", "11")),
    ],
)
def test_labels_that_mean_the_same_are_one(values, labels, tmp_path):
    assert load(str(write(tmp_path / "a.jsonl", labelled(values * 9)))).task.labels == labels


def test_what_pandas_writes_by_default_is_read(tmp_path):
    """Columns of values by row number."""
    rows = moods()
    columns = {name: {str(i): row[name] for i, row in enumerate(rows)} for name in rows[0]}
    (tmp_path / "a.json").write_text(json.dumps(columns))
    assert load(str(tmp_path / "a.json")).train.to_dict() == load(str(write(tmp_path / "a.csv", rows))).train.to_dict()


def test_the_line_that_excel_reads_is_no_row(tmp_path):
    (tmp_path / "a.csv").write_text(content := "sep=;\ntext;label\n" + "w, x;a\nv, y;b\n" * 20)
    data = load(str(tmp_path / "a.csv"))
    assert data.task.columns == ("text",) and data.task.labels == ("a", "b")
    (tmp_path / "a.csv").write_text(content + "u;\n")
    with pytest.raises(ValueError, match="line 43"):
        load(str(tmp_path / "a.csv"))


def test_answers_that_are_too_long_to_be_given_are_told(tmp_path):
    rows = bad(questions(), 3, context="w " * 40, answers={"text": [("w " * 31).strip()], "answer_start": [0]})
    assert any(line.endswith("never given: 1") for line in load(str(write(tmp_path / "q.jsonl", rows))).info["told"])


def test_a_data_set_of_the_hub_keeps_its_owner_in_the_record(monkeypatch):
    table = own.Table([{"text": f"a {i}", "label": "ab"[i % 2]} for i in range(40)], "split train of a/b")
    monkeypatch.setattr(own, "read_hub", lambda name: {"train": table})
    assert load("a/b:config@main").info["id"] == "a/b:config"


@pytest.mark.parametrize("several", [False, True])
def test_labels_of_the_hub_have_their_names(several, monkeypatch):
    names = ClassLabel(names=["joy", "fear"])
    features = Features({"text": Value("string"), "labels": List(names) if several else names})
    rows = [{"text": f"a {i}", "labels": [i % 2] if several else i % 2} for i in range(40)]
    monkeypatch.setattr(own.hub, "reach", lambda *_: {})
    monkeypatch.setattr(own.hub, "fetch", lambda *_, **__: {"train": Dataset.from_list(rows, features=features)})
    data = load("a/b")
    assert (data.task.labels, data.task.several) == (("joy", "fear"), several)
    assert all(
        row["label"] in (int(row["text"].split()[1]) % 2, [int(row["text"].split()[1]) % 2]) for row in data.train
    )
    rows[7]["labels"] = [-1] if several else -1
    with pytest.raises(ValueError, match="row 8"):
        load("a/b")


def test_a_share_is_held_out_where_the_splits_of_the_hub_cannot_score(monkeypatch):
    """The names are those of the label's own column, a test split is called one, and a share leaves it alone."""
    kinds = {"text": Value("string"), "topic": ClassLabel(names=["art", "law"]), "label": Value("int64")}

    def split(labels):
        rows = [{"text": f"a {i}", "topic": i % 2, "label": labels[i % 2]} for i in range(40)]
        return Dataset.from_list(rows, features=Features(kinds))

    monkeypatch.setattr(own.hub, "reach", lambda *_: {})
    monkeypatch.setattr(own.hub, "fetch", lambda *_, **__: {"train": split([0, 1]), "test": split([-1, -1])})
    options = OwnOptions(columns="text", label="label")
    with pytest.raises(ValueError, match="row 1 .*--validation"):
        load("a/b", options)
    data = load("a/b@v1.0", replace(options, validation="0.25"))
    assert data.info["rows"] == {"train": 30, "validation": 10} and data.task.labels == ("0", "1")
    monkeypatch.setattr(own.hub, "fetch", lambda *_, **__: {"train": split([0, 1]), "test": split([0, 1])})
    assert "scored: the rows of split test of a/b" in load("a/b", options).info["told"]


def test_a_list_as_text_may_hold_commas(tmp_path):
    lists = ['["Food, Drinks", "Travel"]', "['Food, Drinks']", "[]", "[Travel, Art]"]
    rows = pyarrow.table({"text": [f"a {i}" for i in range(40)], "labels": lists * 10})
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet")
    assert load(str(tmp_path / "a.parquet")).task.labels == ("Art", "Food, Drinks", "Travel")


def test_two_columns_of_0_and_1_may_be_told_apart_by_the_kind(tmp_path):
    rows = [{"text": f"a {i}", "checked": i % 2, "spam": i % 2} for i in range(40)]
    data = load(str(write(tmp_path / "a.csv", rows)), OwnOptions(kind="classes", columns="text"))
    assert data.task.labels == ("0", "1") and not data.task.several


def test_whose_f1_is_scored_is_told(tmp_path):
    rows = [{"text": f"a {i}", "label": ["legit", "fraud"][i % 2]} for i in range(40)]
    told = load(str(write(tmp_path / "a.csv", rows)), OwnOptions(metric="f1")).info["told"]
    assert any("f1" in line and "legit" in line for line in told)


def test_an_index_that_a_library_wrote_is_no_text(tmp_path):
    """pandas writes one without a name, or as the last column; nor is it the label."""
    rows = [{"": i, "id": f"x{i}", **row} for i, row in enumerate(moods())]
    assert load(str(write(tmp_path / "a.csv", rows))).task.columns == ("said",)
    for name in ("id", "__index_level_0__"):
        task = load(str(write(tmp_path / "a.parquet", [row | {name: i} for i, row in enumerate(moods())]))).task
        assert (task.columns, task.labels) == (("said",), ("beast", "nobody", "place"))


def test_a_folder_called_like_a_known_task_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rte").mkdir()
    assert not own.is_own("rte") and own.is_own("./rte")


def test_places_of_answers_may_be_written_as_decimals(tmp_path):
    rows = questions()
    whole = load(str(write(tmp_path / "a.jsonl", rows))).train["answers"][:]
    for row in rows:
        row["answers"] = row["answers"] | {"answer_start": [float(s) for s in row["answers"]["answer_start"]]}
    assert load(str(write(tmp_path / "b.jsonl", rows))).train["answers"][:] == whole


@pytest.mark.parametrize("written", ["rows", "json in a table", "squad"])
def test_an_answer_beside_its_place_is_moved_and_told(written, tmp_path):
    """As where places were counted in bytes, or in a text that was cleaned afterwards."""
    rows = bad(questions(), 3, context="ö the garden", answers={"text": ["garden"], "answer_start": [7]})
    path = tmp_path / "q.jsonl"
    if written == "json in a table":
        path = tmp_path / "q.tsv"
        rows = [row | {"answers": json.dumps(row["answers"])} for row in rows]
    if written == "squad":
        path = tmp_path / "q.json"
        asked = [
            {"context": r["context"], "qas": [{"id": r["id"], "question": r["question"], "answers": a}]}
            for r in rows
            for a in [[dict(zip(r["answers"], one, strict=True)) for one in zip(*r["answers"].values(), strict=True)]]
        ]
        path.write_text(json.dumps({"version": "2.0", "data": [{"title": "t", "paragraphs": asked}]}))
    else:
        write(path, rows)
    data = load(str(path))
    assert any(line.endswith("place of its words: 1") for line in data.info["told"]), data.info["told"]
    found = [row for split in (data.train, data.validations["validation"]) for row in split if row["id"] == "3"]
    assert found[0]["answers"] == {"text": ["garden"], "answer_start": [6]} and data.task.unanswerable


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_named_by_file_and_row(name, tmp_path):
    file, rows, settings, words = WRONG[name]
    with pytest.raises(ValueError, match=words) as error:
        load(str(write(tmp_path / file, rows)), OwnOptions(**settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.csv", b"text,label\na,b\nc,d,e\n", "line 3"),
        ("a.csv", b'text,label\n"a,b\nc,d\n', "a.csv"),
        ("a.csv", b"", "a.csv"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.csv", "text,label\ncafé,x".encode("latin-1"), "UTF-8"),
        ("a.jsonl", b'{"text": "a", "label": "b"}\n{"text"\n', "line 2"),
        ("a.jsonl", b"[1]\n", "line 1"),
        ("a.json", b'{"text": "a"}', "a.json"),
        ("a.json", b'{"train": [{"text": "a"}], "test": [{"text": "b"}]}', "tables"),
        ("a.json", b'{"data": [{"paragraphs": [{"qas": [{}]}]}]}', "SQuAD"),
        ("a.parquet", b"PAR1", "a.parquet"),
        ("a.csv.gz", b"text,label", "a.csv.gz"),
        ("a.docx", b"", "a.docx"),
    ],
)
def test_a_damaged_file_is_named(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        load(str(tmp_path / name))
    assert "\n" not in str(error.value)


def in_squads_format(rows: list[dict]) -> dict:
    """The same questions as SQuAD is written."""

    def asked(row: dict) -> dict:
        answers = [{"text": t, "answer_start": s} for t, s in zip(*row["answers"].values(), strict=True)]
        return {"id": row["id"], "question": row["question"], "answers": answers}

    return {"data": [{"paragraphs": [{"context": row["context"], "qas": [asked(row)]}]} for row in rows]}


DAMAGED = {
    "classes": lambda: moods(30),
    "questions": lambda: questions(30),
    "several": lambda: [{"text": f"w {i}", "label": [["x"], ["x", "y"], []][i % 3]} for i in range(30)],
    "numbers": lambda: [{"a": f"w {i}", "b": f"v {i}", "score": i / 7} for i in range(40)],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_task_files_are_read_or_refused_in_a_sentence(kind, tmp_path):
    """Some 300: bytes of files of all kinds, and single values of JSON, which are taken away or of another kind."""
    files, rows = [], DAMAGED[kind]()
    for suffix in ("jsonl", "json", "parquet", "arrow", *(("csv", "tsv") if kind in ("classes", "numbers") else ())):
        whole = write(tmp_path / f"whole.{suffix}", rows).read_bytes()
        files += [(f"{n}.{suffix}", damaged(whole, random.Random(f"{kind} {suffix} {n}"))) for n in range(8)]
    for n in range(20):
        files.append((f"rows-{n}.json", json.dumps(mutated({"rows": DAMAGED[kind]()}, random.Random(n))).encode()))
        if kind == "questions":
            files.append((f"squad-{n}.json", json.dumps(mutated(in_squads_format(rows), random.Random(n))).encode()))
    refused = 0
    for name, content in files:
        (tmp_path / name).write_bytes(content)
        try:
            load(str(tmp_path / name))
        except ValueError as error:
            refused += 1
            assert name in str(error) or f"task {name.partition('.')[0]}" in str(error), error
            assert type(error) is ValueError and "\n" not in str(error), name
    assert refused > len(files) / 4


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_encodings_are_those_of_text(kind, tmp_path):
    """A byte order mark decides, else --encoding, else UTF-8; a wrong one is told with its byte and the option."""
    if kind == "jsonl":
        lines = [json.dumps({"said": f"café {i}", "mood": "ab"[i % 2]}, ensure_ascii=False) for i in range(20)]
    else:
        lines = ["said,mood", *(f"café {i},{'ab'[i % 2]}" for i in range(20))]
    path = tmp_path / f"a.{kind}"
    for encoding, option in (("utf-8-sig", ""), ("utf-16", ""), ("latin-1", "latin-1")):
        path.write_bytes("\n".join(lines).encode(encoding))
        assert load(str(path), OwnOptions(encoding=option)).train[0]["said"].startswith("café"), encoding
    with pytest.raises(ValueError, match="--encoding"):
        load(str(path))


def test_control_characters_become_spaces_and_answers_keep_their_place(tmp_path):
    """As in text, where BERT's normalizer would join the words around them."""
    rows = [{"said": f"a\x85b\x0c{i}", "mood": "ab"[i % 2]} for i in range(20)]
    data = load(str(write(tmp_path / "a.jsonl", rows)))
    assert data.train[0]["said"] == "a b 0" and any(line.endswith("spaces: 40") for line in data.info["told"])
    passages = [
        {"question": "q", "context": f"{i} the\x0cred house", "answers": {"text": ["the\x0cred"], "answer_start": [2]}}
        for i in range(9)
    ]
    answers = load(str(write(tmp_path / "q.jsonl", passages))).train[0]["answers"]
    assert answers == {"text": ["the red"], "answer_start": [2]}


def test_a_label_that_no_training_row_has(tmp_path):
    write(tmp_path / "train.csv", moods(30))
    write(tmp_path / "dev.csv", bad(moods(9), 4, mood="sideways"))
    with pytest.raises(ValueError, match="sideways"):
        load(str(tmp_path))


def test_names_files_and_data_sets_are_told_apart(tmp_path):
    path = str(write(tmp_path / "moods, all.csv", moods()))
    (task,) = find(path, "toyworld")
    assert task.task.name == "moods-all"
    assert [d.task.name for d in find("rte, squad", "toyworld", None, 20, 8)] == ["rte", "squad"]
    assert own.is_own("owner/name") and own.is_own("typo.csv") and not own.is_own("sst3")
    for name, words in (("sst3", "unknown task"), ("typo.csv", "no file or folder"), (",", "names no task")):
        with pytest.raises(ValueError, match=words):
            find(name, "toyworld")
    assert load(str(write(tmp_path / "rte.csv", moods()))).task.name == "own-rte"
    (tmp_path / "a").mkdir()
    train = str(write(tmp_path / "a" / "Train.csv.gz", moods()))
    assert (load(train).task.name, load(train).info["id"]) == ("a", "Train.csv.gz"), "each folder has its train.csv"
    assert own.task_name(str(tmp_path / "a")) == "a" and own.task_name("owner/test@v1.0") == "test"


# learning


@pytest.mark.parametrize("kind", ["classes", "numbers", "several", "spans"])
def test_a_task_of_every_kind_is_trained_scored_and_kept(kind, teacher, tokenizer, accelerator, tmp_path):
    rows = {
        "classes": moods(),
        "numbers": [{"text": f"a {NAMES[i % 8]}", "label": 50 + i / 7} for i in range(60)],
        "several": [{"text": f"a {NAMES[i % 8]}", "label": [["x"], ["x", "y"], []][i % 3]} for i in range(60)],
        "spans": questions(60),
    }[kind]
    data = load(str(write(tmp_path / "a.jsonl", rows)))
    model, _ = for_task(build_student(teacher), data.task)
    record = finetune(model, data, tokenizer, accelerator, replace(QUICK, max_length=48, stride=16), quiet=True)
    assert {"main", *data.task.metrics, "majority"} <= record["scores"].keys()
    assert load_record(save_record(record, tmp_path))["data"]["own"]
    model.save_pretrained(tmp_path / "kept")
    again = fine_tuned(tmp_path / "kept", data.task)
    if kind == "classes":
        assert again.config.id2label == {0: "beast", 1: "nobody", 2: "place"}
    if kind == "several":
        assert again.config.problem_type == "multi_label_classification"
    if kind == "numbers":
        assert float(model.classifier.bias.detach()) == pytest.approx(54, abs=2), "it starts from the mean"
    if kind == "spans":
        assert {"HasAns_f1", "NoAns_f1", "HasAns_exact_match", "best_f1", "best_f1_thresh"} <= record["scores"].keys()
        assert 0.3 < record["scores"]["majority"] < 0.7


def test_a_regression_does_not_depend_on_the_units_of_its_labels(teacher, tokenizer, accelerator, tmp_path):
    """Prices learn as shares do, with a second teacher too, and the model answers in the units of the labels."""
    rates = {}
    for unit, start in ((1, 0), (1000, 50_000)):
        rows = [{"text": f"a {NAMES[i % 8]}", "label": start + unit * (i % 8 + i / 60)} for i in range(60)]
        data = load(str(write(tmp_path / f"{unit}.jsonl", rows)), OwnOptions(validation="0.5"))
        first, taught = (for_task(build_student(teacher), data.task)[0] for _ in range(2))
        config = replace(QUICK, max_length=16, learning_rate=5e-3, epochs=8)
        rates[unit] = [
            finetune(first, data, tokenizer, accelerator, config, quiet=True)["scores"]["r2"],
            finetune(taught, data, tokenizer, accelerator, config, quiet=True, teacher=first)["scores"]["r2"],
        ]
        for model in (first, taught):
            assert float(predict(model, data.encoded(tokenizer, 16)[0], accelerator)[0].mean()) == pytest.approx(
                data.task.center, rel=0.2
            )
    assert rates[1000] == pytest.approx(rates[1], abs=0.02) and min(rates[1]) > 0.02


def test_the_command_takes_a_file_and_a_second_teacher(teacher_folder, teacher, tokenizer, tmp_path, capsys):
    build_student(teacher).save_pretrained(tmp_path / "student")
    tokenizer.save_pretrained(tmp_path / "student")
    path = write(tmp_path / "moods.csv", moods())
    models = f"teacher={teacher_folder},student={tmp_path / 'student'}"
    flags = ["--task", str(path), "--model", models, "--task_teacher", "teacher", "--out", str(tmp_path / "runs")]
    flags += ["--epochs", "1", "--max_length", "24", "--cpu", "--precision", "no", "--learning_rates", "2e-3"]
    assert main.main(["finetune", *flags]) == 0
    told = capsys.readouterr().out
    assert "label: mood" in told and "macro_f1" in told and "made-up" not in told
    records = load_records(tmp_path / "runs")
    assert {r["model"] for r in records} == {"teacher", "student", "student_d"}
    assert all(r["config"]["learning_rate"] == 2e-3 and "selection" not in r for r in records)
    assert not (tmp_path / "runs" / "selection").exists(), "one learning rate needs no trial"
    assert main.main(["finetune", *flags[2:], "--task", str(tmp_path / "none.csv")]) == 2


def test_a_record_of_another_file_of_the_same_name_is_not_replaced(teacher_folder, tmp_path, capsys):
    """Nor is a kept model; the same file with more rows is run again, as is told, and a copy of it is the same run."""
    flags = f"--model a={teacher_folder} --out {tmp_path / 'runs'} --epochs 0.1 --max_length 16 --cpu --keep".split()
    files = [tmp_path / place / "moods.csv" for place in ("one", "other", "copy")]
    for file, rows in zip(files, (12, 15, 18), strict=True):
        file.parent.mkdir()
        write(file, moods(rows))

    def run(file, *more) -> tuple[int, str]:
        code = main.main(["finetune", "--task", str(file), *flags, *more])
        return code, "".join(capsys.readouterr())

    record = tmp_path / "runs" / "finetuning-toy-a-moods-seed0.json"
    assert run(files[0])[0] == 0
    before = record.read_bytes()
    for file in (files[1], write(tmp_path / "one" / "moods.jsonl", moods(15))):
        code, told = run(file)
        assert code == 2 and "--suffix" in told and record.read_bytes() == before
    assert run(files[1], "--suffix", "other")[0] == 0 and record.read_bytes() == before
    write(files[0], moods(18))
    code, told = run(files[0])
    assert code == 0 and "is run again: data was" in told
    code, told = run(files[2])
    assert code == 0 and "1 of 1 runs are recorded" in told


@pytest.mark.parametrize(
    "flags, noun",
    [
        (["--model", "x/y={teacher}"], "x/y"),
        (["--model", "={teacher}"], "label"),
        (["--model", "a={teacher},a={other}"], "two models"),
        (["--model", "a={teacher},b={other}"], "word pieces"),
        (["--model", "a={teacher}", "--suffix", "../away"], "--suffix"),
        (["--model", "a={teacher}", "--learning_rates", "-1,3e-4"], "above 0"),
        (["--model", "a={teacher}", "--epochs", "inf"], "epochs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_spoil_a_grid_is_told_before_it(flags, noun, teacher_folder, teacher, tokenizer, tmp_path, capsys):
    """Names that no file can have, one label for two models, and models that number their words otherwise."""
    other = tmp_path / "other"
    teacher.save_pretrained(other)
    tokenizer.save_pretrained(other)
    file = json.loads((other / "tokenizer.json").read_text())
    words = file["model"]["vocab"]
    file["model"]["vocab"] = dict(zip(words, [*range(5), *reversed(range(5, len(words)))], strict=True))
    (other / "tokenizer.json").write_text(json.dumps(file))
    path, out = write(tmp_path / "moods.csv", moods()), tmp_path / "runs"
    places = [flag.format(teacher=teacher_folder, other=other) for flag in flags]
    capsys.readouterr()  # what saving the model said
    assert main.main(["finetune", "--task", str(path), "--out", str(out), "--max_length", "24", "--cpu", *places]) == 2
    told = capsys.readouterr().err
    assert noun in told and told.count("\n") == 1 and not out.exists()


def test_glue_takes_own_tasks_of_every_kind_and_chooses_rates_on_training_rows(teacher_folder, tmp_path, capsys):
    rows = [{"text": f"a {NAMES[i % 8]}", "label": [["x"], ["x", "y"], []][i % 3]} for i in range(60)]
    tasks = [write(tmp_path / "several.jsonl", rows), write(tmp_path / "q.jsonl", questions(60))]
    flags = f"--task {','.join(map(str, tasks))} --model teacher={teacher_folder} --out {tmp_path / 'runs'}".split()
    flags += "--epochs 1 --max_length 48 --stride 16 --cpu --seeds 2 --learning_rates 3e-4,1e-3".split()
    assert main.main(["glue", *flags]) == 0
    records = load_records(tmp_path / "runs")
    assert sorted((r["task"], r["seed"]) for r in records) == [("q", 0), ("q", 1), ("several", 0), ("several", 1)]
    for record in records:
        assert record["selection"]["chosen"] == record["config"]["learning_rate"] and record["data"]["own"]
    carved = [r["data"]["rows"] for r in load_records(tmp_path / "runs" / "selection")]
    assert all(row.keys() == {"train", "carved"} for row in carved), "no validation row chooses"
    assert "q, teacher, seed 0: exact_match" in capsys.readouterr().out
    alone = f"--task {tasks[0]} --model teacher={teacher_folder} --out {tmp_path / 'runs'} --epochs 1".split()
    alone += "--max_length 48 --cpu --seed 1 --learning_rates 3e-4,1e-3 --metric macro_f1".split()
    assert main.main(["glue", *alone]) == 0
    again = load_record(tmp_path / "runs" / "finetuning-toy-teacher-several-seed1.json")
    assert again["scores"]["main"] == again["scores"]["macro_f1"], "another metric is another run"
    assert load_record(tmp_path / "runs" / "finetuning-toy-teacher-several-seed0.json") in records
    assert main.main(["glue", *flags, "--submission", str(tmp_path / "sent")]) == 2
    assert "GLUE's server" in capsys.readouterr().err


@pytest.mark.parametrize("rows, words", [("one passage", "1 training context"), ("one of a class", "label down")])
def test_rates_that_cannot_be_chosen_are_told_before_any_task_is_trained(rows, words, teacher_folder, tmp_path, capsys):
    """Also where the task before it can be trained."""
    text, place = "anna is in the garden", {"text": ["garden"], "answer_start": [15]}
    few = [{"text": f"w {i}", "label": "up" if i in (4, 9) else "down"} for i in range(20)]
    made = {"one passage": [{"question": f"where {i}", "context": text, "answers": place} for i in range(20)]}
    paths = write(tmp_path / "moods.csv", moods(60)), write(tmp_path / "few.jsonl", made.get(rows, few))
    given = {
        "--task": ",".join(map(str, paths)),
        "--model": f"teacher={teacher_folder}",
        "--out": str(tmp_path / "new"),
    }
    flags = [part for pair in given.items() for part in pair]
    assert main.main(["finetune", *flags, "--learning_rates", "1e-3,1e-4", "--cpu"]) == 2
    told = capsys.readouterr().err.strip()
    assert words in told and "give one rate" in told and "\n" not in told and not (tmp_path / "new").exists()


# SQuAD 2.0


def official(texts: list[str], odds: list[float], golds: list[list[str]], threshold: float) -> dict[str, float]:
    """SQuAD 2.0's rules as its authors state them, row by row, with plain loops and nothing of ours."""
    import collections
    import re
    import string

    def normal(text: str) -> str:
        text = "".join(c for c in text.lower() if c not in string.punctuation)
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    def overlap(gold: str, text: str) -> float:
        g, t = normal(gold).split(), normal(text).split()
        if not g or not t:
            return float(g == t)
        same = sum((collections.Counter(g) & collections.Counter(t)).values())
        return 0.0 if same == 0 else 2 * (same / len(t)) * (same / len(g)) / (same / len(t) + same / len(g))

    out = {}
    for name, function in (("exact_match", lambda g, t: float(normal(g) == normal(t))), ("f1", overlap)):
        raw = [
            max(function(g, t) for g in ([g for g in gold if normal(g)] or [""]))
            for t, gold in zip(texts, golds, strict=True)
        ]
        final = [
            float(not gold) if odd > threshold else value for value, odd, gold in zip(raw, odds, golds, strict=True)
        ]
        out[name] = sum(final) / len(final)
        for kind, wanted in (("HasAns", True), ("NoAns", False)):
            part = [value for value, gold in zip(final, golds, strict=True) if bool(gold) == wanted]
            if part:
                out[f"{kind}_{name}"] = sum(part) / len(part)
        points = best = sum(not gold for gold in golds)
        limit = 0.0
        for i in sorted(range(len(odds)), key=lambda i: odds[i]):
            points += raw[i] if golds[i] else (-1 if texts[i] else 0)
            if points > best:
                best, limit = points, odds[i]
        short = "exact" if name == "exact_match" else name
        out |= {f"best_{short}": best / len(odds), f"best_{short}_thresh": limit}
    return out


def test_scores_agree_with_the_official_rules_on_random_cases():
    """5,200 rows in 400 sets: empty and odd texts, several gold answers, ties in the odds."""
    draw, words = random.Random(0), ["the", "a", "red", "Red", "house", ".", "-", "big red house", "1,000", ""]

    def phrase() -> str:
        return " ".join(draw.choices(words, k=draw.randint(1, 3))).strip()

    for _ in range(400):
        golds = [
            [t for t in (phrase() for _ in range(draw.randint(0, 3))) if t] * draw.randint(0, 1) for _ in range(13)
        ]
        texts = [draw.choice([phrase(), *(gold or [""])]) for gold in golds]
        odds = [draw.choice([-2.0, -1.0, 0.0, 0.5, 3.0]) for _ in golds]
        threshold = draw.choice([-1.0, 0.0, 0.5])
        found = [[Answer(text, 0.0, 1.0, 0, 0)] for text in texts]
        rows = Dataset.from_dict({"answers": [{"text": g, "answer_start": [0] * len(g)} for g in golds]})
        scores, bounds = score_with_none(found, np.array(odds), rows, threshold)
        expected = official(texts, odds, golds, threshold)
        assert scores.keys() == expected.keys()
        assert scores == pytest.approx(expected), (texts, golds)
        assert 0 <= bounds[0] <= bounds[1] <= 1


def test_none_is_answered_where_every_window_prefers_it(tokenizer):
    """The window that gives [CLS] the least decides; the odds are against the best span."""
    task = SpanTask("own", "own", unanswerable=True)
    rows = Dataset.from_list(
        [
            {
                "question": "where",
                "context": " ".join(stories(1)[0].split()[:20]),
                "answers": {"text": [], "answer_start": []},
            }
        ]
        + [{"question": "where", "context": "the garden", "answers": {"text": ["garden"], "answer_start": [4]}}]
    )
    windows = task.encode(rows, tokenizer, 16, 8)
    assert windows["labels"][:][windows["example"][:] == 0].tolist() == [[0, 0]] * int(
        (windows["example"][:] == 0).sum()
    )
    logits = [np.zeros((length, 2)) for length in windows["length"][:]]
    assert len(logits) > 2
    for one in logits:
        one[0] = 3.0
    odds = answers.none_odds(find_answers(logits, windows, rows), logits, windows)
    assert odds.tolist() == [6.0, 6.0]
    assert task.judge(rows, windows, logits)[0]["NoAns_f1"] == 1 and task.baseline(rows, rows) == 0.5
    logits[0][0] = -1.0
    odds = answers.none_odds(find_answers(logits, windows, rows), logits, windows)
    assert odds.tolist() == [-2.0, 6.0]


def test_the_window_with_most_context_is_berts(tokenizer):
    """Each token of a passage may begin an answer in one window exactly, the one in whose middle it lies."""
    rows = Dataset.from_list(
        [{"question": "where", "context": " ".join(NAMES * 3), "answers": {"text": ["anna"], "answer_start": [0]}}]
    )
    windows = squad.features(rows, tokenizer, 20, 4)
    starts = answers.most_context_starts(windows)
    offsets = [flat.reshape(-1, 2)[:, 0] for flat in windows["offsets"][:]]
    begun = sorted(int(o) for may, places in zip(starts, offsets, strict=True) for o in places[may])
    assert begun == sorted({int(o) for places in offsets for o in places if o >= 0})
    first = int(np.flatnonzero(offsets[1] >= 0)[0])
    assert not starts[1][first] and starts[1].any() and len(starts) > 2
    logits = [np.zeros((len(o), 2)) for o in offsets]
    logits[1][first, 0] = 9.0  # in the window before, this token has more context
    free, bound = (find_answers(logits, windows, rows, 1, most_context=rule)[0][0] for rule in (False, True))
    assert free.score == 9 and bound.score == 0
