"""What is scored later is found in text whatever its case, spaces and punctuation, and left out of the corpus."""

import random
import string

import pytest
from conftest import stories

from distilnb.cli.options import TrainingOptions
from distilnb.tasks.scored import scored_texts
from distilnb.text import corpus, sources
from distilnb.text.contamination import SHORT, Scored, squeezed

REVIEW = "The plot isn't new , but I do n't mind : it 's well told by a fine cast ."
OTHER = "A dull film about nothing at all, which takes three hours to say so."


def test_a_text_is_found_however_it_is_spelt():
    scored = Scored({"sst2": [REVIEW], "imdb": [OTHER]})
    source = "BEFORE. The plot isn’t new, but I don't mind: it's well<br />told by a fine cast. After."
    assert scored.within(source) == {"sst2"}
    assert scored.within(f"{source} {OTHER}") == {"sst2", "imdb"}
    assert scored.within(source.replace("fine", "good")) == set()


def test_short_texts_must_be_the_whole_document():
    scored = Scored({"cola": ["John sleeps."]})
    assert scored.within("john sleeps") == {"cola"}
    assert scored.within("Everybody knows that John sleeps. Nobody knows when.") == set()


def test_every_place_in_long_documents_is_looked_at():
    """Against Python's own search, in random letters of an alphabet of two, where stretches repeat."""
    draw = random.Random(0)
    document = "".join(draw.choice("ab") for _ in range(3000))
    for _ in range(50):
        start = draw.randrange(2900)
        inside, outside = document[start : start + SHORT + 20], "".join(draw.choice("ab") for _ in range(SHORT + 20))
        assert Scored({"t": [inside]}).within(document) == {"t"}
        assert bool(Scored({"t": [outside]}).within(document)) is (outside in document)
    assert Scored({"t": [document[-SHORT:]]}).within(document) == {"t"}
    assert Scored({"t": [document[:SHORT]]}).within(document) == {"t"}


@pytest.mark.parametrize("text", ["", "...", "\ud800", "é" * 100, string.ascii_letters * 3])
def test_any_text_can_be_looked_at(text):
    assert Scored({"t": [REVIEW]}).within(text) == set()
    assert Scored({"t": [text]}).within(text) == ({"t"} if squeezed(text) else set())
    assert Scored({}).within(text) == set()


def test_what_is_scored_is_left_out_of_the_corpus_and_counted(tmp_path, tokenizer):
    """Two of 300 documents hold a scored text; the rest is the corpus that would have been made without them."""
    texts = stories(300)
    scored = Scored({"rte": [texts[7]], "sst2": [texts[7], texts[70].upper()], "wnli": ["never written anywhere"]})
    held = {i for i, text in enumerate(texts) if scored.within(text)}
    assert {7, 70} <= held and len(held) < 10
    (tmp_path / "all.txt").write_text("\n\n".join(texts))
    (tmp_path / "some.txt").write_text("\n\n".join(text for i, text in enumerate(texts) if i not in held))

    def build(name, **more):
        return corpus.build_corpus([sources.TextSource(str(tmp_path / name))], tokenizer, seq_length=32, **more)

    clean, expected, dirty = build("all.txt", without=scored), build("some.txt"), build("all.txt")
    assert clean.info["fingerprint"] == expected.info["fingerprint"] != dirty.info["fingerprint"]
    counted = clean.provenance()["left_out"]
    assert counted["documents"] == len(held) and counted["tasks"] == ["rte", "sst2", "wnli"]
    assert counted["sst2"] >= counted["rte"] >= 1 and "wnli" not in counted
    assert "left_out" not in dirty.provenance()
    assert build("all.txt", without=Scored({"rte": [texts[7]]})).info["left_out"]["documents"] < len(held)


def test_all_rows_of_an_own_task_can_be_left_out(tmp_path, tokenizer):
    texts = stories(60)
    (tmp_path / "mine.csv").write_text(
        "said,mood\n" + "\n".join(f"{text},{'ab'[i % 2]}" for i, text in enumerate(texts))
    )
    scored = scored_texts(f"{tmp_path / 'mine.csv'}")
    assert scored.tasks == ["mine"] and all(scored.within(text.upper()) for text in texts)
    (tmp_path / "all.txt").write_text("\n\n".join(texts))
    with pytest.raises(ValueError, match="document"):
        corpus.build_corpus([sources.TextSource(str(tmp_path / "all.txt"))], tokenizer, seq_length=32, without=scored)
    pairs = tmp_path / "three.csv"  # which finetune must be told to read: here every text counts
    rows = (",".join([*texts[i : i + 3], "1"]) for i in range(0, 60, 3))
    pairs.write_text("\n".join(["one,other,third,score", *rows]))
    assert all(scored_texts(str(pairs)).within(text) for text in texts)
    (tmp_path / "all.txt").write_text("\n\n".join([*texts, f"Das Café: {texts[3]}"]))
    (tmp_path / "latin.csv").write_bytes(f"said,mood\nDas Café: {texts[3]},1".encode("latin-1"))
    where = TrainingOptions(text=str(tmp_path / "all.txt"), leave_out=str(tmp_path / "latin.csv"), encoding="latin-1")
    assert where.read_text(tokenizer, 32, None).info["left_out"]["documents"] == 1
    for names, words in (("mine", "unknown task 'mine'"), (str(tmp_path / "none.csv"), "--leave-out ''")):
        with pytest.raises(ValueError, match=words):
            scored_texts(names)
