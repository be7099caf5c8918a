"""Files of many kinds become the same documents; what is wrong with one is a sentence with its place."""

import bz2
import csv
import gzip
import json
import lzma
import os
import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from conftest import stories
from datasets import Dataset

from distilnb.text import reading
from distilnb.text.reading import Piece, Tally
from distilnb.text.sources import TextSource, parse_sources, read_pieces

TEXTS = ['He said "no", then left.', "Ünïcode — ☃", "a\ttab", *stories(20)]


def read(path: Path, tally: Tally | None = None, **more) -> list[str]:
    """The documents at a path."""
    texts, held = [], ""
    for text, ends in read_pieces(TextSource(str(path), **more), tally or Tally()):
        held += text
        if ends:
            texts, held = [*texts, held], ""
    return texts


def write(path: Path, texts: list[str]) -> None:
    """A file of the kind that its suffix names, in the ways that other programs write it."""
    rows = [{"id": i, "text": text} for i, text in enumerate(texts)]
    table = pyarrow.Table.from_pylist(rows)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            out = csv.writer(file, "excel" if path.suffix == ".csv" else "excel-tab")
            out.writerows([["id", "text"], *(row.values() for row in rows if "\t" not in row["text"])])
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".arrow":
        with pyarrow.ipc.new_file(path, table.schema) as out:
            out.write_table(table)
    else:
        path.write_text("\n\n".join(texts))


PACK = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, "zstd", asbytes=True),
}


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow"])
def test_every_kind_gives_the_same_documents(tmp_path, kind, packing):
    write(tmp_path / f"a{kind}", TEXTS)
    path = tmp_path / f"A{kind.upper()}{packing.upper()}"
    path.write_bytes(PACK[packing]((tmp_path / f"a{kind}").read_bytes()))
    assert read(path) == [text for text in TEXTS if "\t" not in text or kind not in (".csv", ".tsv")]


def test_folders_that_datasets_saves_are_read(tmp_path):
    Dataset.from_dict({"text": TEXTS}).save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved") == TEXTS


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TEXTS),
        json.dumps({"text": TEXTS}),
        json.dumps({"text": TEXTS, "author": [{"name": "Ann"}] * len(TEXTS)}),
        json.dumps({"version": 1, "data": [{"text": text} for text in TEXTS]}),
        json.dumps({"description": "Texts", "data": [{"text": text} for text in TEXTS]}),
        "\n".join(json.dumps({"text": text}) for text in TEXTS),
    ],
    ids=["strings", "columns", "columns with objects", "field", "field under a description", "lines"],
)
def test_the_ways_of_writing_json(tmp_path, monkeypatch, text):
    """Also where chunks end anywhere."""
    (tmp_path / "a.json").write_text(text)
    for size in (reading.CHUNK, 7):
        monkeypatch.setattr(reading, "CHUNK", size)
        assert read(tmp_path / "a.json") == TEXTS


@pytest.mark.parametrize("name, column", [("text", None), ("abstract", None), ("body", "body"), ("full", "full")])
def test_an_object_with_its_text_is_one_document_whatever_lists_it_has(tmp_path, name, column):
    """As papers are written, one a file, with their authors."""
    people = [{"name": "Ann"}, {"name": "Bob"}]
    for more in ({"authors": people}, {"authors": people, "references": [{"title": "A study"}]}):
        (tmp_path / "a.json").write_text(json.dumps({"title": "Owls", name: "A long document", **more}))
        assert read(tmp_path / "a.json", column=column) == ["A long document"]


@pytest.mark.parametrize("size", [1_000_000, 64, 5])
def test_blank_lines_part_documents_where_there_are_any(tmp_path, monkeypatch, size):
    """Else each line is one; chunks may end anywhere, and line ends may be those of other systems."""
    monkeypatch.setattr(reading, "CHUNK", size)
    monkeypatch.setattr(reading, "PIECE", 10)
    for ends in ("\n", "\r\n", "\r"):
        for blank in ("", "  ", "\t"):
            text = f"\n\nOne line\nand the next.\n{blank}\n\nAnother one, a little longer.\n".replace("\n", ends)
            (tmp_path / "a.txt").write_bytes(text.encode())
            found = [" ".join(text.split()) for text in read(tmp_path / "a.txt")]
            assert found == ["One line and the next.", "Another one, a little longer."]
        (tmp_path / "b.txt").write_bytes(ends.join([*TEXTS, "", "", ""]).encode())
        assert read(tmp_path / "b.txt") == TEXTS


def test_long_documents_are_cut_before_spaces(monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 20)
    text = "the cat sees   the dog \n in the " + "x" * 50 + " garden"
    pieces = list(reading.cut([(text[:30], False), (text[30:], True), ("cat", True)]))
    assert "".join(piece.text for piece in pieces) == text + "cat"
    assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 2) + [True, True]
    assert all(len(piece.text) <= 20 for piece in pieces) and pieces[-1] == Piece("cat", True)
    words = [word for piece in pieces[:-1] for word in piece.text.split()]
    assert [word for word in words if "x" not in word] == text.replace("x", "").split()


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv"])
def test_a_byte_order_mark_names_the_encoding(tmp_path, code, kind):
    write(tmp_path / f"a{kind}", TEXTS[:2])
    (tmp_path / f"b{kind}").write_bytes((tmp_path / f"a{kind}").read_text().encode(code))
    assert read(tmp_path / f"b{kind}") == TEXTS[:2]


def test_other_encodings_have_to_be_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(("x" * 1_500_000 + "\nun café\n").encode("latin-1"))
    with pytest.raises(ValueError, match="-encoding"):
        read(tmp_path / "a.txt")
    assert read(tmp_path / "a.txt", encoding="latin-1")[1] == "un café"
    (tmp_path / "b.txt").write_bytes("no mark".encode("utf-16-le"))
    with pytest.raises(ValueError, match="utf-16-le"):
        read(tmp_path / "b.txt")
    assert read(tmp_path / "b.txt", encoding="utf-16-le") == ["no mark"]
    for name in ("nonsense", "rot13"):
        with pytest.raises(ValueError, match=name):
            read(tmp_path / "a.txt", encoding=name)


def test_a_named_encoding_is_for_files_that_are_not_utf_8(tmp_path, monkeypatch):
    """Each file decides for itself and as a whole, also where what is not UTF-8 comes late, or a chunk cuts a letter;
    in UTF-16 and ISO-2022-JP ASCII means something else, so that they are taken at their word."""
    monkeypatch.setattr(reading, "CHUNK", 3)
    texts = {"a.txt": "un été", "b.txt": "x" * 50 + " café"}
    (tmp_path / "a.txt").write_text(texts["a.txt"], "utf-8")
    (tmp_path / "b.txt").write_text(texts["b.txt"], "latin-1")
    assert read(tmp_path, encoding="latin-1") == [*texts.values()]
    (tmp_path / "b.txt").write_text("un été de 日", "utf-8")  # a change is noticed
    assert read(tmp_path, encoding="cp1252") == ["un été", "un été de 日"]
    for code in ("iso2022_jp", "utf-16-le"):
        (tmp_path / "c.txt").write_text("日本", code)
        assert read(tmp_path / "c.txt", encoding=code) == ["日本"]


def test_control_characters_part_words_and_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text("one\x0ctwo\x93three\x85four\x00five\nsix")
    tally = Tally()
    assert read(tmp_path / "a.txt", tally)[0].split() == ["one", "two", "three", "four", "five"]
    assert tally.mended_characters == 4


def test_half_a_surrogate_pair_is_mended(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one\\ud800two"}')
    assert read(tmp_path / "a.jsonl")[0].encode() == b"one two"


# columns


@pytest.mark.parametrize(
    "row, guess",
    [
        ({"content": "the cat"}, "content"),
        ({"id": "1", "Review": "the cat sees the dog"}, "Review"),
        ({"label": "up", "anything": "the cat sees the dog"}, "anything"),
        ({"n": 3, "words": "cat"}, "words"),
        ({"first": "the cat", "second": "the dog"}, None),
        ({"n": 3}, None),
    ],
)
def test_the_column_is_guessed_and_told_or_asked_for(tmp_path, capsys, row, guess):
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    if guess:
        assert read(tmp_path / "a.jsonl") == [row[guess]] and f"'{guess}'" in capsys.readouterr().out
    else:
        with pytest.raises(ValueError, match=list(row)[0]):
            read(tmp_path / "a.jsonl")
    last = list(row)[-1]
    if isinstance(row[last], str):
        assert read(tmp_path / "a.jsonl", column=last) == [row[last]]


def test_a_column_without_any_text_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": null}\n{"text": 3}')
    with pytest.raises(ValueError, match="'text'"):
        read(tmp_path / "a.jsonl")


# names


@pytest.mark.parametrize(
    "name", ["a+b@c:d.txt", "ü ☃.txt", "[a]*?.txt", "new\nline.txt", "-x.txt", "a.b.txt", "'\".txt"]
)
def test_any_name_of_a_file_will_do(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("the cat")
    for path in (name, str(tmp_path / name)):
        both = parse_sources(f"{path}+toyworld+{path}")
        assert [source.name for source in both] == [path, "toyworld", path]
        assert read(Path(path)) == ["the cat"] and "\n" not in both[0].shown


def test_a_name_that_is_no_text_will_do(tmp_path):
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("the cat")
    source = parse_sources(str(tmp_path / name))[0]
    assert read(tmp_path / name) == ["the cat"] and source.shown.encode()


def test_hidden_files_are_passed_over_and_kinds_may_be_mixed(tmp_path):
    (tmp_path / ".cache").mkdir()
    for name in ("._a.txt", ".cache/b.txt", "picture.png"):
        (tmp_path / name).write_bytes(bytes(range(256)))
    write(tmp_path / "a.txt", ["cat", "dog"])
    write(tmp_path / "b.jsonl", ["hen"])
    assert read(tmp_path) == ["cat", "dog", "hen"]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "json", "csv"])
def test_what_a_file_is_inside_is_told_where_its_name_says_another(tmp_path, kind):
    """Not that it has another encoding, which is the first thing that goes wrong."""
    inside = [(pack(b"a text. " * 50), f"add {name}") for name, pack in PACK.items() if name]
    inside += [
        (b"PK\x03\x04\xbb" * 9, "a zip archive"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
        (b"PAR1\xde\xff", "Parquet"),
    ]
    for content, words in inside:
        file = tmp_path / f"a.{kind}"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=words) as error:
            read(file)
        assert "encoding" not in str(error.value)


def test_folders_are_followed_where_links_lead_once(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.txt").write_text("one\n\ntwo")
    (tmp_path / "texts").mkdir()
    for name in ("first", "second"):
        (tmp_path / "texts" / name).symlink_to(tmp_path / "far")
    (tmp_path / "texts" / "round").symlink_to(tmp_path / "texts")
    assert [text.strip() for text in read(tmp_path / "texts")] == ["one", "two"]


@pytest.mark.parametrize("name", ["no/such/file", "missing.txt", "./missing", "~/missing.jsonl.gz"])
def test_a_path_that_leads_nowhere_is_no_matter_of_the_network(name, monkeypatch):
    monkeypatch.setattr("distilnb.machine.hub.reach", lambda *_: pytest.fail("the Hub was asked"))
    with pytest.raises(ValueError, match="folder"):
        read_pieces(TextSource(name), Tally())


# damage


@pytest.mark.parametrize(
    "name, text, place",
    [
        ("a.jsonl", '{"text": "a"}\n\n{"text": "b}\n', "line 3"),
        ("a.json", '[{"text": "a"}, {"text": b}]', "row 2"),
        ("a.json", '[{"text": "a"}', "row 2"),
        ("a.json", '[{"text": "a"}] more', "row 1"),
        ("a.csv", "id,text\n1,a\n2,b,c\n", "line 3"),
        ("a.csv", 'text\na\n"b\nc\n', "line 4"),
        ("a.tsv", "id\ttext\n1\n", "line 2"),
    ],
)
def test_what_cannot_be_parsed_is_named_with_its_place(tmp_path, name, text, place):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name}.*{place}"):
        read(tmp_path / name)


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Cut off, bits turned over, a stretch lost, doubled, or replaced by noise."""
    at, length = draw.randrange(len(data)), draw.randrange(1, 40)
    match draw.randrange(5):
        case 0:
            return data[:at]
        case 1:
            return bytes(byte ^ (draw.random() < 0.02) * draw.randrange(256) for byte in data)
        case 2:
            return data[:at] + data[at + length :]
        case 3:
            return data[: at + length] + data[at:]
        case _:
            return data[:at] + draw.randbytes(length) + data[at + length :]


@pytest.mark.parametrize("packing", PACK)
def test_damaged_files_are_read_or_refused_in_a_sentence(tmp_path, packing):
    """280 of them: no exception but ValueError, with the file's name in it and on one line."""
    refused = 0
    for kind in (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow"):
        write(tmp_path / f"a{kind}", TEXTS)
        whole = PACK[packing]((tmp_path / f"a{kind}").read_bytes())
        for seed in range(8):
            path = tmp_path / f"b{kind}{packing}"
            path.write_bytes(damaged(whole, random.Random(f"{kind} {packing} {seed}")))
            try:
                read(path)
            except ValueError as error:
                refused += 1
                assert type(error) is ValueError and path.name in str(error) and "\n" not in str(error)
    assert refused > 15
