"""Text becomes blocks: nothing lost, nothing leaked into the held-out part, nothing done twice."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from conftest import ANIMALS, make_teacher, make_tokenizer, stories
from datasets import Dataset
from datasets.table import MemoryMappedTable
from huggingface_hub import constants
from transformers import BertTokenizer, PreTrainedTokenizerBase

from distilnb.machine import hub
from distilnb.text import corpus, portions, preparing, reading, toyworld
from distilnb.text.corpus import build_corpus
from distilnb.text.randomness import epoch_order
from distilnb.text.reading import Piece
from distilnb.text.sources import TextSource, documents, parse_sources


def write(path: Path, texts: list[str]) -> TextSource:
    """A .txt, .jsonl or .parquet file with these documents, as a source."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    elif path.suffix == ".parquet":
        Dataset.from_dict({"text": texts}).to_parquet(str(path))
    else:
        path.write_text("\n\n".join(texts) + "\n")
    return TextSource(str(path))


def ids_of(rows: Dataset) -> list[list[int]]:
    """All rows as lists."""
    return [np.asarray(row).tolist() for row in rows["input_ids"][:]]


def texts_of(built: corpus.Corpus, tokenizer) -> list[str]:
    """Training rows as text, without special tokens."""
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in ids_of(built.train)]


# packed blocks


def expected_stream(texts: list[str], tokenizer, heldout: bool) -> list[int]:
    """Documents end to end, a [SEP] after each: every hundredth, or all the others."""
    stream = []
    for i, text in enumerate(texts):
        if (i % 100 == 99) == heldout:
            stream += tokenizer.encode(text, add_special_tokens=False) + [tokenizer.sep_token_id]
    return stream


def test_packed_blocks_hold_all_text_and_no_padding(packed, tokenizer):
    """Their bodies, one after another, are the documents; at most the beginning of one more block is left over."""
    texts = stories(400)
    for rows, heldout in ((packed.train, False), (packed.heldout, True)):
        blocks = ids_of(rows)
        assert {len(block) for block in blocks} == {32}
        assert {(block[0], block[-1]) for block in blocks} == {(tokenizer.cls_token_id, tokenizer.sep_token_id)}
        stream = [i for block in blocks for i in block[1:-1]]
        expected = expected_stream(texts, tokenizer, heldout)
        assert stream == expected[: len(stream)]
        assert 0 <= len(expected) - len(stream) < 30
    assert not packed.padded


def test_packed_blocks_read_back_as_the_text(packed, tokenizer):
    stream = [i for block in ids_of(packed.train) for i in block[1:-1]]
    read = tokenizer.decode(stream).split("[SEP]")
    expected = [text for i, text in enumerate(stories(400)) if i % 100 != 99]
    plain = ["".join(text.split()) for text in read[:-1]]
    assert plain == ["".join(text.split()) for text in expected[: len(plain)]] and len(plain) > 390


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_documents_of_each_source_are_held_out(tmp_path, tokenizer, count):
    """They take turns, so that every hundredth document would often be of one source alone."""
    for animal in ANIMALS[:count]:
        (tmp_path / f"{animal}.txt").write_text("\n\n".join([f"anna sees the {animal} in the garden ." * 4] * 250))
    sources = [TextSource(str(tmp_path / f"{animal}.txt")) for animal in ANIMALS[:count]]
    built = build_corpus(sources, tokenizer, seq_length=32, folder=tmp_path / "corpora")
    words = {word for row in ids_of(built.heldout) for word in tokenizer.decode(row).split()}
    assert words & set(ANIMALS) == set(ANIMALS[:count])


def test_held_out_documents_are_in_no_training_block(tmp_path, tokenizer):
    """A word that only the hundredth documents use."""
    texts = [text.replace("tower", "market") for text in stories(300)]
    for i in (99, 199, 299):
        texts[i] += " the tower tower tower " * 10
    for layout in ("packed", "grouped"):
        built = build_corpus([write(tmp_path / "a.txt", texts)], tokenizer, seq_length=16, layout=layout)
        tower = tokenizer.convert_tokens_to_ids("tower")
        assert not any(tower in row for row in ids_of(built.train)), layout
        assert any(tower in row for row in ids_of(built.heldout)), layout


def test_a_short_text_holds_out_its_last_tenth(tmp_path, tokenizer):
    built = build_corpus([write(tmp_path / "a.txt", stories(30))], tokenizer, seq_length=16)
    total = built.info["rows"]
    assert len(built.heldout) == total // 10 and len(built.train) == total - total // 10
    stream = [i for row in ids_of(built.train) + ids_of(built.heldout) for i in row[1:-1]]
    expected = [i for text in stories(30) for i in [*tokenizer.encode(text, add_special_tokens=False), 3]]
    assert stream == expected[: len(stream)]


def test_counts_lengths_and_info(packed, grouped, tokenizer):
    for built in (packed, grouped):
        train, heldout = ids_of(built.train), ids_of(built.heldout)
        flat = [i for row in train + heldout for i in row]
        assert np.array_equal(built.token_counts, np.bincount(flat, minlength=len(tokenizer)))
        assert built.train_lengths.tolist() == [len(row) for row in train]
        assert built.info["tokens"] == len(flat) and built.info["rows"] == len(train) + len(heldout)


def test_a_vocabulary_may_have_a_gap_in_its_numbers(tmp_path, tokenizer):
    """A vocab.txt with a line twice: fewer pieces than the highest number says."""
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (tmp_path / "vocab.txt").write_text("\n".join([*pieces[:6], pieces[5], *pieces[6:]]) + "\n")
    gapped = BertTokenizer(str(tmp_path / "vocab.txt"))
    assert len(gapped) == max(gapped.get_vocab().values())
    write(tmp_path / "a.txt", stories(30))
    built = build_corpus((TextSource(str(tmp_path / "a.txt")),), gapped, seq_length=16)
    assert len(built.token_counts) == 1 + len(gapped) and built.token_counts.sum() == built.info["tokens"]


def test_provenance_says_what_the_text_is(packed, text_file, tokenizer):
    """For the record: no path of this machine, the size of each split, and that it is not the paper's text."""
    known = packed.provenance()
    assert known["id"] == "stories.txt" and str(text_file.parent) not in json.dumps(known)
    assert known["rows"] == {"train": len(packed.train), "heldout": len(packed.heldout)}
    assert known["stand_in"] is True and "not the paper's" in known["stand_in_why"]
    assert known["fingerprint"] == packed.info["fingerprint"] and known["tokens"] == packed.info["tokens"]
    toy = build_corpus([TextSource("toyworld")], tokenizer, seq_length=32, max_tokens=500)
    assert toy.provenance()["id"] == "toyworld" and "made-up" in toy.provenance()["stand_in_why"]


def test_provenance_of_many_files_stays_small(tmp_path, tokenizer):
    (tmp_path / "books").mkdir()
    for i, text in enumerate(stories(300)):
        (tmp_path / "books" / f"a-book-with-a-rather-long-name-{i}.txt").write_text(text)
    built = build_corpus([TextSource(str(tmp_path / "books"))], tokenizer, seq_length=16)
    assert built.provenance()["id"] == "books" and len(json.dumps(built.provenance())) < 1000


# grouped rows


def words(count: int, unknown: int = 0) -> str:
    """A document of `count` tokens, `unknown` of them not in any vocabulary."""
    return " ".join(["☃"] * unknown + ["cat"] * (count - unknown))


@pytest.mark.parametrize(
    "text, rows",
    [
        (words(11), []),
        (words(12), [14]),
        (words(46), [48]),
        (words(47), [48]),  # the rest is one token: dropped
        (words(46 + 12), [48, 14]),
        (words(2 * 46 + 20), [48, 48, 22]),
        (words(20, unknown=9), [22]),
        (words(20, unknown=10), []),
        (words(20, unknown=11), []),
    ],
)
def test_grouped_rows_follow_the_originals_rules(tmp_path, tokenizer, text, rows):
    """Blocks of 48: 46 tokens between [CLS] and [SEP], 12 at least, less than half of them unknown."""
    first, last = words(15), words(16)  # 17 and 18 tokens: so that there is something to train on and to hold out
    source = write(tmp_path / "a.txt", [first, text, last])
    built = build_corpus([source], tokenizer, seq_length=48, layout="grouped", allow_unknown=True)
    lengths = [*built.train_lengths.tolist(), *map(len, ids_of(built.heldout))]
    assert lengths == [17, *rows, 18]
    assert built.padded


def test_grouped_rows_never_mix_documents(tmp_path, tokenizer):
    texts = [" ".join([animal] * length) for animal in ("cat", "dog", "hen") for length in (13, 70, 30)]
    built = build_corpus([write(tmp_path / "a.txt", texts)], tokenizer, seq_length=48, layout="grouped")
    assert all(len(set(text.split())) == 1 for text in texts_of(built, tokenizer))


# sources


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_documents_of_a_file(tmp_path, name):
    texts = stories(5)
    assert [text.strip() for text in documents(write(tmp_path / name, texts))] == texts


def test_a_paragraph_is_a_document(tmp_path):
    (tmp_path / "a.txt").write_text("One line\nand the next.\n\n\nAnother.\n")
    found = [" ".join(text.split()) for text in documents(TextSource(str(tmp_path / "a.txt"))) if text.strip()]
    assert found == ["One line and the next.", "Another."]


def test_documents_of_a_folder_come_in_the_order_of_names(tmp_path):
    texts = stories(6)
    (tmp_path / "part").mkdir()
    for name, part in (("b.txt", texts[2:4]), ("part/c.txt", texts[4:]), ("a.txt", texts[:2])):
        write(tmp_path / name, part)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert [text.strip() for text in documents(TextSource(str(tmp_path)))] == texts


def test_another_column(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": "the cat", "text": "no"}) + "\n")
    assert list(documents(TextSource(str(tmp_path / "a.jsonl"), column="body"))) == ["the cat"]


def test_several_sources_take_turns(tmp_path, tokenizer):
    """The shorter one ends and the longer one goes on; rows without text are nobody's turn."""
    one = write(tmp_path / "one.jsonl", [f"{word} " * 12 for word in ("anna", "boris", "clara")])
    two = write(tmp_path / "two.jsonl", ["cat " * 12, "", "dog " * 12, "hen " * 12, "fox " * 12, "bird " * 12])
    built = build_corpus([one, two], tokenizer, seq_length=16, layout="grouped")
    rows = texts_of(built, tokenizer) + [tokenizer.decode(i, skip_special_tokens=True) for i in ids_of(built.heldout)]
    assert [row.split()[0] for row in rows] == ["anna", "cat", "boris", "dog", "clara", "hen", "fox", "bird"]


def test_toyworld_is_a_source(tmp_path, tokenizer):
    built = build_corpus([TextSource("toyworld")], tokenizer, seq_length=32, max_tokens=3000, folder=tmp_path)
    first = tokenizer.encode(next(toyworld.documents()), add_special_tokens=False)
    assert ids_of(built.train)[0][1:31] == first[:30]
    assert 3000 <= built.info["tokens"] < 3000 + 32


def test_toyworld_is_endless(tokenizer):
    with pytest.raises(ValueError, match="toyworld"):
        build_corpus([TextSource("toyworld")], tokenizer, seq_length=32)


def test_max_tokens_stops_early(text_file, tokenizer, monkeypatch):
    """And reads no further than it must."""
    read = []

    def endless(*_) -> Iterator[Piece]:
        while len(read) < 5000:  # a test that fails should end, too
            read.append(1)
            yield Piece("the cat sees the dog .", True)

    monkeypatch.setattr(portions, "read_pieces", endless)
    built = build_corpus([TextSource(str(text_file))], tokenizer, seq_length=32, max_tokens=1000)
    assert 1000 <= built.info["tokens"] < 1032
    assert 100 < len(read) <= 1000


@pytest.mark.parametrize(
    "text, sources",
    [
        ("toyworld", [TextSource("toyworld")]),
        ("a/b", [TextSource("a/b")]),
        ("a/b:conf", [TextSource("a/b", "conf")]),
        ("a/b:conf:test", [TextSource("a/b", "conf", "test")]),
        ("a/b::test", [TextSource("a/b", None, "test")]),
        ("a/b:conf@1f2e", [TextSource("a/b", "conf", revision="1f2e")]),
        ("a/b@v1.0", [TextSource("a/b", revision="v1.0")]),
        ("stream=a/b:conf", [TextSource("a/b", "conf", stream=True)]),
        (
            "toyworld+stream=a/b + c/d:x:y@z",
            [TextSource("toyworld"), TextSource("a/b", stream=True), TextSource("c/d", "x", "y", "z")],
        ),
    ],
)
def test_parse_sources(text, sources):
    assert parse_sources(text) == tuple(sources)


def test_parse_sources_takes_a_path_as_it_is(tmp_path):
    path = tmp_path / "books:old@home.txt"
    path.write_text("the cat")
    assert parse_sources(str(path)) == (TextSource(str(path)),)


@pytest.mark.parametrize("text", ["", "toyworld+", "+toyworld", "stream=", " "])
def test_parse_sources_refuses_a_source_without_name(text):
    with pytest.raises(ValueError, match="toyworld"):
        parse_sources(text)


# the cache


@pytest.fixture
def no_tokenizing(tokenizer, monkeypatch):
    """From now on the tokenizer refuses to work."""

    def activate() -> None:
        def refuse(*_, **__):
            raise AssertionError("the text was tokenized again")

        monkeypatch.setattr(type(tokenizer), "__call__", refuse)

    return activate


def test_a_second_build_reads_the_first(tmp_path, tokenizer, no_tokenizing):
    source = write(tmp_path / "a.txt", stories(120))
    first = build_corpus([source], tokenizer, seq_length=16)
    no_tokenizing()
    second = build_corpus([source], tokenizer, seq_length=16)
    assert second.info == first.info
    assert ids_of(second.train) == ids_of(first.train) and ids_of(second.heldout) == ids_of(first.heldout)
    assert np.array_equal(second.token_counts, first.token_counts)


def test_the_cache_lies_where_the_environment_says(packed):
    files = [Path(file["filename"]) for file in packed.train.cache_files]
    assert files and all(file.is_relative_to(Path(os.environ["DISTILNB_CACHE"]) / "corpora") for file in files)


CHANGES = {
    "seq_length": lambda: {"seq_length": 24},
    "layout": lambda: {"layout": "grouped"},
    "max_tokens": lambda: {"max_tokens": 100},
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_are_built_anew(tmp_path, tokenizer, change):
    source = write(tmp_path / "a.txt", stories(40))
    settings = {"seq_length": 16, "folder": tmp_path / "cache"}
    first = build_corpus([source], tokenizer, **settings)
    second = build_corpus([source], tokenizer, **(settings | CHANGES[change]()))
    assert first.info["fingerprint"] != second.info["fingerprint"]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_changed_text_is_built_anew(tmp_path, tokenizer):
    source = write(tmp_path / "a.txt", stories(40))
    first = build_corpus([source], tokenizer, seq_length=16)
    write(tmp_path / "a.txt", [text.replace("the", "a") for text in stories(40)])
    second = build_corpus([source], tokenizer, seq_length=16)
    assert ids_of(first.train) != ids_of(second.train)


def test_a_new_file_in_a_folder_is_seen(tmp_path, tokenizer):
    folder = tmp_path / "texts"
    folder.mkdir()
    write(folder / "a.txt", stories(40))
    first = build_corpus([TextSource(str(folder))], tokenizer, seq_length=16)
    write(folder / "b.txt", stories(40, seed=1))
    second = build_corpus([TextSource(str(folder))], tokenizer, seq_length=16)
    assert second.info["tokens"] > 1.5 * first.info["tokens"]


def test_another_normalizer_is_another_corpus(tmp_path, tokenizer):
    """The same vocabulary cuts text otherwise with letters kept, or with a token added and taken out again."""
    source = write(tmp_path / "a.txt", [text.upper() for text in stories(40)])
    cased = BertTokenizer(vocab=tokenizer.get_vocab(), do_lower_case=False, model_max_length=128)
    assert corpus.vocabulary_hash(cased) == corpus.vocabulary_hash(tokenizer)
    built = [build_corpus([source], one, seq_length=16, allow_unknown=True) for one in (tokenizer, cased)]
    assert ids_of(built[0].train) != ids_of(built[1].train)


def test_truncation_and_padding_of_a_tokenizers_file_cut_and_pad_nothing(tmp_path, tokenizer):
    source = write(tmp_path / "a.txt", stories(40))
    plain = build_corpus([source], tokenizer, seq_length=16, folder=tmp_path / "plain")
    switched = make_tokenizer()
    switched.backend_tokenizer.enable_truncation(8)
    switched.backend_tokenizer.enable_padding(length=8)
    built = build_corpus([source], switched, seq_length=16, folder=tmp_path / "switched")
    assert built.info["fingerprint"] == plain.info["fingerprint"]
    assert switched.backend_tokenizer.truncation["max_length"] == 8  # the user's tokenizer is left as it was


def test_an_interrupted_build_is_begun_again(tmp_path, tokenizer, monkeypatch):
    source, cache = write(tmp_path / "a.txt", stories(120)), tmp_path / "cache"
    real = portions.read_pieces

    def broken(*arguments) -> Iterator[Piece]:
        yield from list(real(*arguments))[:50]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(portions, "read_pieces", broken)
        with pytest.raises(KeyboardInterrupt):
            build_corpus([source], tokenizer, seq_length=16, folder=cache)
    assert not list(cache.glob("*/info.json"))
    assert not list(cache.iterdir())
    whole = build_corpus([source], tokenizer, seq_length=16, folder=cache)
    other = build_corpus([source], tokenizer, seq_length=16, folder=tmp_path / "other")
    assert whole.info == other.info


def test_training_reads_memory_mapped_files(packed, grouped):
    for rows in (packed.train, packed.heldout, grouped.train):
        assert rows.cache_files and all(Path(file["filename"]).is_file() for file in rows.cache_files)
        blocks = [block for line in getattr(rows.data, "blocks", [[rows.data]]) for block in line]
        assert blocks and all(isinstance(block, MemoryMappedTable) for block in blocks)


def test_rows_come_as_arrays_one_by_one_and_in_lists(packed, grouped):
    for rows in (packed.train, grouped.train):
        for row in rows[[0, 5]]["input_ids"]:
            assert isinstance(row, np.ndarray) and row.dtype.kind == "i"


# errors


def test_unknown_layout(text_file, tokenizer):
    with pytest.raises(ValueError, match="grouped"):
        build_corpus([TextSource(str(text_file))], tokenizer, layout="loose")


@pytest.mark.parametrize("length", [7, 129, -1])
def test_sequence_length_must_suit_the_tokenizer(text_file, tokenizer, length):
    with pytest.raises(ValueError, match=f"{length}"):
        build_corpus([TextSource(str(text_file))], tokenizer, seq_length=length)


@pytest.mark.parametrize(
    "text, cause", [("", "empty"), ("\n\n \n", "empty"), ("the cat", "shorter|12")], ids=["empty", "blank", "short"]
)
@pytest.mark.parametrize("layout", ["packed", "grouped"])
def test_text_that_gives_no_block(tmp_path, tokenizer, text, cause, layout):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=cause):
        build_corpus([TextSource(str(tmp_path / "a.txt"))], tokenizer, seq_length=32, layout=layout)


def test_a_folder_without_text(tmp_path, tokenizer):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match="texts"):
        build_corpus([TextSource(str(tmp_path / "texts"))], tokenizer, seq_length=32, folder=tmp_path / "cache")


def test_an_unreadable_file_is_a_sentence_and_leaves_nothing_behind(tmp_path, tokenizer):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "the cat " * 50}) + "\n" + "{" * 10)
    with pytest.raises(ValueError, match="a.jsonl"):
        build_corpus([TextSource(str(tmp_path / "a.jsonl"))], tokenizer, seq_length=16, folder=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_one_block_cannot_be_trained_on_and_held_out(tmp_path, tokenizer):
    source = write(tmp_path / "a.txt", [words(35)])
    with pytest.raises(ValueError, match="training"):
        build_corpus([source], tokenizer, seq_length=32)


def test_a_missing_column_is_named(tmp_path, tokenizer):
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": "the cat"}) + "\n")
    with pytest.raises(ValueError, match="body"):
        build_corpus([TextSource(str(tmp_path / "a.jsonl"), column="text")], tokenizer, seq_length=32)


def test_a_data_set_that_does_not_exist(tokenizer, serve, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", serve((404, {"X-Error-Code": "RepoNotFound"}, b"{}")))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ValueError, match="neither"):
        build_corpus([TextSource("nobody/nothing")], tokenizer, seq_length=32)


def test_a_hub_that_does_not_answer_is_not_asked_again(monkeypatch):
    """Once `hub.reach` has waited in vain, only the local cache is looked into."""

    class Asked(BaseException):
        """Nothing may catch it and try again."""

    def asked(*_, **__):
        raise Asked

    monkeypatch.setattr(hub, "reach", lambda *_: {"local_files_only": True})
    monkeypatch.setattr(socket, "getaddrinfo", asked)
    with pytest.raises(ValueError, match="nobody"):
        next(documents(TextSource("nobody/nothing", stream=True)))


@pytest.mark.hub
def test_errors_of_hub_data_sets(tokenizer):
    """The mistakes of a reader: no such data set, no configuration or one that is not there, another column."""
    with pytest.raises(ValueError, match="such-text"):
        next(documents(TextSource("no/such-text")))
    with pytest.raises(ValueError, match="sentence"):
        next(documents(TextSource("nyu-mll/glue", "cola", column="words")))
    for config in (None, "nonsense"):
        with pytest.raises(ValueError, match="'cola'") as error:
            next(documents(TextSource("nyu-mll/glue", config)))
        assert "network" not in str(error.value)
    with pytest.raises(ValueError, match="validation"):
        next(documents(TextSource("nyu-mll/glue", "cola", "nonsense")))


@pytest.mark.hub
def test_streamed_or_not_a_hub_data_set_is_the_same_text():
    sst2 = TextSource("nyu-mll/glue", "sst2", "validation", column="sentence")
    streamed, whole = (list(islice(documents(replace(sst2, stream=stream)), 50)) for stream in (True, False))
    assert streamed == whole and len(set(whole)) == 50


# order of an epoch


@pytest.fixture
def skewed() -> np.ndarray:
    """Lengths of 4,003 samples like sentences: many short ones, a few long."""
    return np.clip(np.random.default_rng(0).lognormal(3, 0.7, 4003), 8, 128).astype(int)


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("batch_size", [1, 8, 32, 5000])
def test_epoch_order_is_a_permutation_and_pure(skewed, group, batch_size):
    order = epoch_order(skewed, batch_size, 3, 1, group)
    assert sorted(order) == list(range(len(skewed)))
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(order, epoch_order(skewed, batch_size, 3, 1, group))
    for other in ((4, 1), (3, 2)):
        assert not np.array_equal(order, epoch_order(skewed, batch_size, *other, group))


def padding(lengths: np.ndarray, order: np.ndarray, batch_size: int) -> float:
    """The share of padding when batches are padded to their longest sequence."""
    batches = [lengths[order[i : i + batch_size]] for i in range(0, len(order), batch_size)]
    return 1 - lengths.sum() / sum(batch.max() * len(batch) for batch in batches)


def test_grouping_leaves_less_than_5_percent_padding(skewed):
    assert padding(skewed, epoch_order(skewed, 16, 0, 0, group=True), 16) < 0.05
    assert padding(skewed, epoch_order(skewed, 16, 0, 0), 16) > 0.4


@pytest.mark.parametrize("samples", [3, 40, 300])
def test_grouping_a_small_set_still_mixes_it(skewed, samples):
    """At most a quarter is sorted at once: the longest samples are not always the same batch."""
    lengths = skewed[:samples]
    orders = [epoch_order(lengths, 8, 0, epoch, group=True) for epoch in range(4)]
    assert all(sorted(order) == list(range(samples)) for order in orders)
    if samples == 300:
        longest = np.argmax(lengths)
        places = [int(np.flatnonzero(order == longest)[0]) // 8 * 8 for order in orders]
        batches = [frozenset(order[place:][:8]) for order, place in zip(orders, places, strict=True)]
        assert len(set(batches)) > 1
        assert padding(lengths, orders[0], 8) < 0.5 * padding(lengths, epoch_order(lengths, 8, 0, 0), 8)


def test_grouped_batches_come_in_random_order(skewed):
    """Sorted stretches are shuffled again: a batch's mean length says nothing about the next one's (4 σ = 0.26)."""
    order = epoch_order(skewed, 16, 0, 0, group=True)
    means = skewed[order[:4000]].reshape(-1, 16).mean(1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.26
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.26


def test_grouped_order_mixes_samples_of_like_length(skewed):
    """The same batch does not come back in each epoch."""
    first, second = (
        {frozenset(o[i : i + 16]) for i in range(0, 4000, 16)}
        for o in (epoch_order(skewed, 16, 0, e, group=True) for e in (0, 1))
    )
    assert not first & second


# tokenizer


def test_train_tokenizer_learns_the_text_and_saves_as_bert(text_file, tmp_path):
    from transformers import AutoTokenizer

    trained = corpus.train_tokenizer([TextSource(str(text_file))], 150)
    assert len(trained) == 150
    text = stories(400)[7]
    pieces = trained.tokenize(text)
    assert "[UNK]" not in pieces and len(pieces) < 1.3 * len(text.split())
    assert trained("Anna SEES")["input_ids"] == trained("anna sees")["input_ids"]
    trained.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert corpus.vocabulary_hash(again) == corpus.vocabulary_hash(trained)
    assert again(text)["input_ids"] == trained(text)["input_ids"]
    make_teacher(len(trained))  # a size that a model can have


def test_vocabulary_hash_follows_pieces_and_ids(tokenizer):
    class Fake:
        def __init__(self, vocab: dict[str, int]):
            self.get_vocab = lambda: vocab

    vocab = tokenizer.get_vocab()
    swapped = vocab | {"cat": vocab["dog"], "dog": vocab["cat"]}
    assert corpus.vocabulary_hash(Fake(dict(reversed(vocab.items())))) == corpus.vocabulary_hash(tokenizer)
    assert corpus.vocabulary_hash(Fake(swapped)) != corpus.vocabulary_hash(tokenizer)


# long documents, unknown words


@pytest.mark.parametrize("layout", ["packed", "grouped"])
def test_pieces_of_long_documents_are_the_whole_documents_tokens(tmp_path, tokenizer, monkeypatch, layout):
    """However small the pieces and groups are in which they come."""
    texts = [" ".join(stories(60, seed)) for seed in range(5)]
    source = write(tmp_path / "a.jsonl", texts)
    whole = build_corpus([source], tokenizer, seq_length=32, layout=layout, folder=tmp_path / "whole")
    monkeypatch.setattr(reading, "PIECE", 50)
    monkeypatch.setattr(preparing, "GROUP", 170)
    cut = build_corpus([source], tokenizer, seq_length=32, layout=layout, folder=tmp_path / "cut")
    assert cut.info["fingerprint"] == whole.info["fingerprint"] and cut.info["read"]["documents"] == 5
    assert ids_of(cut.train) == ids_of(whole.train)


def test_unknown_words_are_told_and_too_many_refused(tmp_path, tokenizer, capsys):
    few = write(tmp_path / "few.txt", ["the cat ☃ sees the ☃ dog", *stories(20)])
    build_corpus([few], tokenizer, seq_length=16)
    assert "☃" in capsys.readouterr().out
    many = write(tmp_path / "many.txt", ["the cat ☃ sees a ★ and a ☃ ."] * 60)
    with pytest.raises(ValueError, match="'☃', '★'"):
        build_corpus([many], tokenizer, seq_length=16)
    built = build_corpus([many], tokenizer, seq_length=16, allow_unknown=True)
    assert built.info["read"]["unknown"] == built.token_counts[tokenizer.unk_token_id]


def test_what_was_left_out_and_mended_stays_with_the_corpus(tmp_path, tokenizer):
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in [*stories(100), None, 7, "", "the\x0ccat\x93"])
    )
    built = build_corpus([TextSource(str(tmp_path / "a.jsonl"))], tokenizer, seq_length=16)
    counted = {"documents": 101, "rows_without_text": 3, "mended_characters": 2, "unknown": 0}
    assert built.provenance()["read"] == counted


def test_a_tokenizer_cut_short_is_not_taken_for_whole(text_file, tmp_path, monkeypatch):
    """A kill while the file was being written left half of one, which the next run could not read."""
    sources, folder = (TextSource(str(text_file)),), tmp_path / "tokenizer"
    save = PreTrainedTokenizerBase.save_pretrained

    def killed(self, where, **kwargs):
        save(self, where, **kwargs)
        path = Path(where, "tokenizer.json")
        path.write_bytes(path.read_bytes()[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PreTrainedTokenizerBase, "save_pretrained", killed)
        corpus.make_tokenizer(folder, sources, 100)
    made = corpus.make_tokenizer(folder, sources, 100)
    assert made.tokenize("the") and [file.name for file in folder.iterdir() if file.is_dir()] == []
