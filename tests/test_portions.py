"""A large text is prepared in portions, side by side; whatever is killed in between, the corpus is the same."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import stories
from datasets import Dataset

from distilnb.text import portions, preparing, sources
from distilnb.text.corpus import build_corpus
from distilnb.text.portions import divided
from distilnb.text.reading import Tally
from distilnb.text.sources import TextSource, documents


@pytest.fixture(autouse=True)
def small_portions(monkeypatch):
    """So that a few kilobytes are many portions."""
    monkeypatch.setattr(portions, "PORTION", 2000)


@pytest.fixture
def texts() -> list[str]:
    return [f"{text} {number}." for number, text in enumerate(stories(400))]


def lines(texts: list[str]) -> str:
    return "".join(json.dumps({"id": i, "body": text}) + "\n" for i, text in enumerate(texts))


def whole(source: TextSource) -> list[str]:
    return [" ".join(text.split()) for text in documents(source)]


def in_portions(source: TextSource) -> list[list[str]]:
    """The documents of each portion."""
    made = []
    for portion in divided((source,), None, Tally()):
        held, own = "", []
        for text, ends in portion.pieces(Tally()):
            held += text
            if ends:
                own, held = [*own, " ".join(held.split())], ""
        assert not held
        made.append(own)
    return made


@pytest.mark.parametrize("name, joined", [("a.txt", "\n\n".join), ("b.txt", "\r\n \r\n".join), ("c.txt", "\n".join)])
def test_portions_of_plain_text_are_its_documents(tmp_path, texts, name, joined):
    (tmp_path / name).write_bytes(joined(["Ünïcode", *texts]).encode())
    source = TextSource(str(tmp_path / name))
    parts = in_portions(source)
    assert len(parts) > 5 and sum(parts, []) == whole(source) == ["Ünïcode", *texts]


def test_portions_of_rows_are_their_documents_and_read_one_column(tmp_path, texts, capsys):
    (tmp_path / "a.jsonl").write_text(lines(texts) + json.dumps({"id": 0, "body": None, "text": "no"}) + "\n")
    source = TextSource(str(tmp_path / "a.jsonl"))
    parts = in_portions(source)
    assert capsys.readouterr().out.count("body") == 1
    assert len(parts) > 5 and sum(parts, []) == whole(source) == texts


def test_files_are_taken_together_and_what_cannot_be_cut_stays_whole(tmp_path, texts, monkeypatch):
    monkeypatch.setattr(portions, "PORTION", 4000)
    for number in range(20):
        (tmp_path / f"{number:02d}.txt").write_text("\n\n".join(texts[10 * number : 10 * number + 10]))
    (tmp_path / "20.txt").write_bytes("\n\n".join(texts[200:300]).encode("utf-16"))
    (tmp_path / "21.txt").write_text(" ".join(texts[300:]))
    source = TextSource(str(tmp_path))
    parts = in_portions(source)
    assert sum(parts, []) == whole(source) == [*texts[:300], " ".join(texts[300:])]
    assert 3 < len(parts) < 20 and parts[-1] == [" ".join(texts[300:])]


def test_rows_of_the_hub_are_divided(texts, monkeypatch):
    rows = Dataset.from_dict({"title": ["a"] * len(texts), "text": texts})
    monkeypatch.setattr(portions, "from_hub", lambda _: rows)
    monkeypatch.setattr(sources, "from_hub", lambda _: rows)
    source = TextSource("some/body")
    parts = in_portions(source)
    assert len(parts) > 5 and sum(parts, []) == whole(source) == texts


def test_small_streamed_or_limited_text_is_one_portion(tmp_path, texts):
    (tmp_path / "a.txt").write_text("\n".join(texts))
    (tmp_path / "b.txt").write_text("\n".join(texts[:2]))
    large, small = (TextSource(str(tmp_path / name)) for name in ("a.txt", "b.txt"))
    assert len(divided((large, small), None, Tally())) > 5
    for those, tokens in (((small, small), None), ((large,), 100), ((TextSource("toyworld"),), 100)):
        assert len(divided(those, tokens, Tally())) == 1


def ids_of(corpus) -> list[list[int]]:
    return [*map(np.ndarray.tolist, corpus.train["input_ids"]), *map(np.ndarray.tolist, corpus.heldout["input_ids"])]


@pytest.fixture
def source(tmp_path, texts) -> TextSource:
    (tmp_path / "a.jsonl").write_text(lines([*texts, "", "cat\x0ccat"]))
    return TextSource(str(tmp_path / "a.jsonl"), column="body")


def test_the_number_of_processes_changes_nothing(tmp_path, source, tokenizer, monkeypatch):
    built = []
    for processes in (1, 3):
        monkeypatch.setattr(preparing, "cores", lambda processes=processes: processes)
        built.append(build_corpus([source], tokenizer, seq_length=16, folder=tmp_path / f"{processes}"))
    assert built[0].info == built[1].info and ids_of(built[0]) == ids_of(built[1])
    assert np.array_equal(built[0].token_counts, built[1].token_counts)
    read = built[0].info["read"]
    assert (read["documents"], read["rows_without_text"], read["mended_characters"]) == (401, 1, 1)
    rows = ids_of(built[0])
    assert built[0].token_counts.sum() == built[0].info["tokens"] == sum(map(len, rows)) and len(built[0].heldout)


KILLED = """
import os, signal
from pathlib import Path
from transformers import AutoTokenizer
from distilnb.text import portions, preparing
from distilnb.text.corpus import build_corpus
from distilnb.text.sources import TextSource

def part(self, number, *more):
    if number == 4:
        os.kill({whom}, signal.SIGKILL)
    return real(self, number, *more)

real, parent, portions.PORTION = preparing.Preparation.part, os.getpid(), 2000
preparing.Preparation.part, preparing.cores = part, lambda: 2
build_corpus([TextSource("{path}", column="body")], AutoTokenizer.from_pretrained("{tokenizer}"), seq_length=16,
    folder=Path("{folder}"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("whom, status", [("parent", -signal.SIGKILL), ("os.getpid()", 1)])
def test_a_killed_preparation_goes_on_with_what_is_missing(tmp_path, source, tokenizer, whom, status):
    """The one that started it, or one of those that tokenize, is killed in the fifth portion."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    places = {"path": source.name, "tokenizer": tmp_path / "tokenizer", "folder": tmp_path / "cache"}
    code = KILLED.format(whom=whom, **places)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    (building,) = (tmp_path / "cache").glob("*.building")
    before = {path.name: path.stat().st_mtime_ns for path in building.glob("part-*.json")}
    assert before and not list((tmp_path / "cache").glob("*/info.json"))
    built = build_corpus([source], tokenizer, seq_length=16, folder=tmp_path / "cache")
    other = build_corpus([source], tokenizer, seq_length=16, folder=tmp_path / "other")
    assert built.info == other.info and ids_of(built) == ids_of(other)
    (folder,) = (tmp_path / "cache").iterdir()
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.json")}.items()


def test_a_broken_line_of_a_later_portion_is_named(tmp_path, texts, tokenizer):
    made = lines(texts).splitlines()
    made[349] = made[349][:-5]
    (tmp_path / "a.jsonl").write_text("\n".join(made))
    with pytest.raises(ValueError, match="350"):
        build_corpus([TextSource(str(tmp_path / "a.jsonl"))], tokenizer, seq_length=16, folder=tmp_path / "cache")


@pytest.mark.slow
def test_the_second_of_two_that_prepare_the_same_text_waits_and_reads(tmp_path, source, tokenizer):
    """The first holds the folder, and is done when the second gets it."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    code = f"""
from pathlib import Path
from transformers import AutoTokenizer
from distilnb.text.corpus import build_corpus
from distilnb.text.sources import TextSource
built = build_corpus([TextSource({source.name!r}, column="body")], AutoTokenizer.from_pretrained(
    {str(tmp_path / "tokenizer")!r}), seq_length=16, folder=Path({str(tmp_path / "cache")!r}))
print(built.info["fingerprint"])
"""
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0] and said[0][-1] == said[1][-1]
    assert len(list((Path(tmp_path) / "cache").iterdir())) == 1
