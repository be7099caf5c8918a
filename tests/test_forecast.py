"""What preparing a text takes is told before: size by what files say, the rest by a sample."""

import csv
import gzip
import json
import lzma
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
from conftest import stories
from datasets import Dataset

from distilnb.cli import main
from distilnb.text import forecast as forecasts
from distilnb.text import sources
from distilnb.text.corpus import build_corpus
from distilnb.text.forecast import forecast
from distilnb.text.sources import TextSource

TEXTS = [f"{text} {number}." for number, text in enumerate(stories(3000))]
BYTES = sum(len(text.encode()) + 1 for text in TEXTS)


@pytest.fixture(autouse=True)
def small_samples(monkeypatch):
    monkeypatch.setattr(forecasts, "CHARACTERS", 60_000)
    monkeypatch.setattr(forecasts, "HEAD", 20_000)


def write(path, kind: str) -> TextSource:
    """The texts in a file of this kind, beside columns that are no text."""
    rows = [{"title": f"number {i}", "text": text, "words": "x y z " * 10} for i, text in enumerate(TEXTS)]
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind.startswith("csv"):
        with (gzip.open if kind.endswith("gz") else open)(path, "wt", newline="") as file:
            csv.writer(file).writerows([rows[0].keys(), *(row.values() for row in rows)])
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        (lzma.open if kind.endswith("xz") else open)(path, "wt").write("\n".join(TEXTS))
    return TextSource(str(path))


@pytest.mark.parametrize("kind", ["txt", "txt.xz", "jsonl", "csv", "csv.gz", "parquet"])
def test_a_file_tells_how_much_text_is_in_it(tmp_path, tokenizer, kind):
    told = forecast((write(tmp_path / f"a.{kind}", kind),), tokenizer, seq_length=16)
    assert told.text_bytes == pytest.approx(BYTES, rel=0.3)


def test_a_paper_with_its_authors_is_text(tmp_path, tokenizer):
    paper = {"body": "\n".join(TEXTS), "authors": [{"name": "Ann"}, {"name": "Bob"}]}
    (tmp_path / "a.json").write_text(json.dumps(paper))
    told = forecast((TextSource(str(tmp_path / "a.json"), column="body"),), tokenizer, seq_length=16)
    assert told.text_bytes == pytest.approx(BYTES, rel=0.3)


@pytest.mark.parametrize("wanted", [None, 20_000])
def test_tokens_and_disk_are_what_preparing_makes(tmp_path, tokenizer, wanted):
    source = write(tmp_path / "a.txt", "txt")
    told = forecast((source,), tokenizer, seq_length=16, max_tokens=wanted)
    built = build_corpus([source], tokenizer, seq_length=16, max_tokens=wanted, folder=tmp_path / "cache")
    written = sum(file.stat().st_size for file in tmp_path.glob("cache/*/*.arrow"))
    assert told.tokens == pytest.approx(built.info["tokens"], rel=0.1)
    assert told.disk_bytes == pytest.approx(written, rel=0.1) and told.seconds > 0


def test_the_card_of_a_data_set_tells_its_size_and_a_stream_the_rest(tokenizer, monkeypatch):
    """Nothing but a stream is opened, and only its beginning is read."""
    asked = []
    rows = Dataset.from_dict({"title": ["no"] * len(TEXTS), "text": TEXTS})

    def from_hub(source: TextSource):
        assert source.stream
        asked.append(source.name)
        return rows.to_iterable_dataset()

    split = SimpleNamespace(num_bytes=1000 * rows.data.nbytes)
    info = SimpleNamespace(splits={"train": split}, download_size=5_000_000, dataset_size=7_000_000)
    for module in (forecasts, sources):
        monkeypatch.setattr(module, "from_hub", from_hub)
    monkeypatch.setattr(forecasts.hub, "fetch", lambda *_, **__: SimpleNamespace(info=info))
    told = forecast((TextSource("some/body"),), tokenizer, seq_length=16)
    assert asked and told.text_bytes == pytest.approx(1000 * BYTES, rel=0.2) and told.fetched_bytes == 12_000_000
    info.splits = None
    with pytest.raises(ValueError, match="Hub"):
        forecast((TextSource("some/body"),), tokenizer, seq_length=16)


@pytest.mark.parametrize("text, words", [("a.txt", "million tokens"), ("none.txt", "does not exist")])
def test_a_dry_run_tells_what_the_text_takes_or_why_not(teacher_folder, tmp_path, capsys, text, words):
    write(tmp_path / "a.txt", "txt")
    flags = ["--teacher", str(teacher_folder), "--seq-length", "16", "--text", str(tmp_path / text), "--dry-run"]
    status = main.main(["distil", "--scale", "toy", *flags])
    out, err = capsys.readouterr()
    assert words in out + err and status == (0 if words in out else 2)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("a.txt", b"too short", "shorter than a block"),
        ("a.txt", b" ", "is empty"),
        ("a.jsonl", b'{"text": "the cat sees the dog ."}\n{"text": ', "not valid JSON"),
        ("a.txt", "caf\u00e9 ".encode("latin-1") * 40, "UTF-8"),
    ],
)
def test_a_dry_run_refuses_the_text_that_the_run_would_refuse(teacher_folder, tmp_path, capsys, name, text, words):
    """With the same status, so that a script sees it before it queues the run."""
    (tmp_path / name).write_bytes(text)
    flags = ["--teacher", str(teacher_folder), "--seq-length", "16", "--text", str(tmp_path / name)]
    for asked in (["--dry-run"], ["--out", str(tmp_path / "out")]):
        assert main.main(["distil", "--scale", "toy", *flags, *asked]) == 2
        assert words in capsys.readouterr().err


def test_a_dry_run_goes_on_where_the_text_is_out_of_reach(teacher_folder, capsys):
    flags = ["--teacher", str(teacher_folder), "--seq-length", "16", "--text", "some/body", "--dry-run"]
    assert main.main(["distil", "--scale", "toy", *flags]) == 0
    assert "not known beforehand" in capsys.readouterr().out


def test_rows_that_are_no_objects_are_no_text_in_a_forecast_either(tmp_path, tokenizer):
    rows = [{"text": text} for text in TEXTS]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [None, 7, ["a"], *rows]))
    told = forecast((TextSource(str(tmp_path / "a.jsonl")),), tokenizer, seq_length=16)
    assert told.text_bytes == pytest.approx(BYTES, rel=0.3)
