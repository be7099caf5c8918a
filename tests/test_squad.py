"""SQuAD: windows lose no word, labels point at the answer, the best spans are the best, answers are the text itself."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ANIMALS, NAMES
from datasets import Dataset
from transformers import AutoTokenizer

from distilnb import paths
from distilnb.evidence import paper
from distilnb.tasks import answers, glue, squad
from distilnb.tasks.answers import Answer, Span, best_spans, find_answers
from distilnb.tasks.glue import TaskData
from distilnb.tasks.squad import SQUAD, check, features, load_data, load_split

WORDS = "Anna sees the old Cat in the garden and Boris never finds it"  # 13 tokens of the small language


def gold(context: str, *texts: str) -> dict:
    """Answers with these texts, each at its first place in the context."""
    return {"text": list(texts), "answer_start": [context.index(text) for text in texts]}


def rows(*triples: tuple[str, str, dict | str]) -> Dataset:
    """Rows of (question, context, answers); a text stands for the answer that it is."""
    made = [
        {
            "id": f"row-{i}",
            "title": "",
            "context": context,
            "question": question,
            "answers": gold(context, answer) if isinstance(answer, str) else answer,
        }
        for i, (question, context, answer) in enumerate(triples)
    ]
    return Dataset.from_list(made)


def split_of(*contexts: str) -> Dataset:
    """A row for each context, whose first word is the answer."""
    return rows(*(("the", context, context.split()[0]) for context in contexts))


@pytest.fixture(scope="module")
def toy_tokenizer():
    """The tokenizer of the shipped teacher."""
    return AutoTokenizer.from_pretrained(paths.data("teachers", "toy"))


@pytest.fixture(scope="module")
def toy() -> TaskData:
    """Toyworld's questions: 200 to train on, 100 to score."""
    return load_data(n_train=200, n_validation=100)


# rows


def test_the_task_is_that_of_the_paper():
    assert (SQUAD.main, SQUAD.config, SQUAD.validations) == ("f1", "plain_text", ("validation",))
    assert all(0 < paper.downstream("DistilBERT", "SQuAD", metric) < 100 for metric in SQUAD.metrics)


def test_toyworld_rows_train_and_are_a_stand_in(toy):
    assert (len(toy.train), len(toy.validations["validation"])) == (200, 100)
    assert set(SQUAD.columns) < set(toy.train.column_names)
    assert toy.info["rows"] == {"train": 200, "validation": 100} and toy.info["stand_in"]
    assert (toy.info["id"], toy.info["config"]) == ("toyworld", "plain_text")
    assert toy.info == load_data(n_train=200, n_validation=100).info
    assert toy.info["fingerprint"] != load_data(n_train=200, n_validation=100, seed=1).info["fingerprint"]


def test_the_fingerprint_is_of_the_answers_too(monkeypatch):
    found = []
    for answer in ("Cat", "garden"):
        monkeypatch.setattr(glue, "read_rows", lambda *_, answer=answer: rows(("the", WORDS, answer)))
        found.append(load_data("hub").info)
    assert found[0]["fingerprint"] != found[1]["fingerprint"]
    assert found[0]["stand_in_why"] == "train has 1 of 87,599 rows; validation has 1 of 10,570 rows"


def test_answers_that_occur_again_are_counted(monkeypatch):
    """A copy of the data that looked up the answers' places has them all at the first occurrence."""
    context = "the cat sees the cat and the dog"
    data = rows(("a", context, "cat"), ("b", context, {"text": ["cat"], "answer_start": [17]}), ("c", context, "dog"))
    monkeypatch.setattr(glue, "read_rows", lambda *_: data)
    assert load_data("hub").info["repeated_answers"]["train"] == {"rows": 2, "at_first": 1}


def test_a_sample_of_the_hubs_rows_is_drawn_by_the_seed(monkeypatch):
    monkeypatch.setattr(glue, "hub_rows", lambda *_: split_of(*(f"{name} sees" for name in NAMES * 5)))
    found = load_split("train", "hub", 10, seed=3)
    assert len(found) == 10 and found["id"][:] == load_split("train", "hub", 10, seed=3)["id"][:]
    assert found["id"][:] != load_split("train", "hub", 10, seed=4)["id"][:]


@pytest.mark.parametrize(
    "arguments, says", [(("train", "web"), "'web'"), (("test",), "'test'"), (("train", "toyworld", 0), "rows")]
)
def test_loading_says_what_is_wrong(arguments, says):
    with pytest.raises(ValueError, match=says):
        load_split(*arguments)


NO_ANSWER = "row row-1 of split 'train' of task squad has no answer with a place .*: use train or validation"


@pytest.mark.parametrize(
    "data, says",
    [
        (split_of(WORDS).remove_columns("answers"), "'answers'"),
        (split_of(WORDS).select([]), "empty"),
        (rows(("the", WORDS, "Cat"), ("the", WORDS, {"text": [], "answer_start": []})), NO_ANSWER),
        (rows(("the", WORDS, "Cat"), ("the", WORDS, {"text": ["Cat"], "answer_start": []})), NO_ANSWER),
        (rows(("the", WORDS, "Cat"), (None, WORDS, "Cat")), "row 1"),
        (rows(("the", WORDS, {"text": ["Cat", "old"], "answer_start": [18, 13]}), ("the", WORDS, "Cat")), "' ol'"),
        (rows(("the", WORDS, {"text": ["ds"], "answer_start": [-5]})), "'ds'"),
        (rows(("the", WORDS, {"text": [""], "answer_start": [3]})), "''"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(data, says):
    with pytest.raises(ValueError, match=says):
        check(data, "train")
    with pytest.raises(ValueError, match=says):
        TaskData(SQUAD, data, {"validation": split_of(WORDS)}, {})


def test_a_split_to_score_is_needed():
    with pytest.raises(ValueError, match="needs"):
        TaskData(SQUAD, split_of(WORDS), {}, {})


def test_whole_contexts_are_held_out():
    """20 contexts with 1 to 5 questions each: a tenth of the questions is held out, and a few more at most."""
    contexts = [f"{name} {animal}" for name in NAMES[:5] for animal in ANIMALS[:4]]
    train = split_of(*(context for i, context in enumerate(contexts) for _ in range(1 + i % 5)))
    data = TaskData(SQUAD, train, {"validation": split_of(WORDS)}, {"fingerprint": "x", "rows": {}})
    carved = data.carve(seed=2)
    held = carved.validations["carved"]
    assert carved.info == {
        "fingerprint": "x",
        "rows": {"train": len(carved.train), "carved": len(held)},
        "carved_seed": 2,
    }
    assert not set(held["context"]) & set(carved.train["context"])
    assert sorted([*held["id"], *carved.train["id"]]) == sorted(train["id"]) and 6 <= len(held) <= 10
    fewer = data.carve(seed=2, most=3)
    assert len(fewer.train) == 3 and set(fewer.train["id"]) < set(carved.train["id"])
    assert fewer.validations["carved"]["id"][:] == held["id"][:]
    assert data.carve(seed=2).train["id"][:] == carved.train["id"][:] != data.carve(seed=3).train["id"][:]
    with pytest.raises(ValueError, match="training"):
        TaskData(SQUAD, split_of(WORDS, WORDS), {"validation": split_of(WORDS)}, {}).carve()


# windows


def test_windows_by_hand(tokenizer):
    """[CLS] 2 words [SEP] and a [SEP] leave room for 6 of 11 tokens; windows start at words 0, 4 and 8 of 13."""
    found = features(rows(("who sees", WORDS, "garden and")), tokenizer, max_length=11 + 2, stride=4)
    assert tokenizer.decode(found[0]["input_ids"]) == "[CLS] who sees [SEP] anna sees the old cat in [SEP]"
    starts = ["anna sees the old cat in", "cat in the garden and boris", "and boris never finds it"]
    assert [tokenizer.decode(ids).split(" [SEP] ")[1].removesuffix(" [SEP]") for ids in found["input_ids"][:]] == starts
    assert [row.tolist() for row in found["token_type_ids"][:]] == [[0] * 6 + [1] * 7] * 2 + [[0] * 6 + [1] * 6]
    assert found["length"][:].tolist() == [13, 13, 12] and found["example"][:].tolist() == [0, 0, 0]
    assert found["labels"][:].tolist() == [[0, 0], [6 + 3, 6 + 4], [0, 0]]
    offsets = found[1]["offsets"].reshape(-1, 2)
    assert offsets[[0, 5, 12]].tolist() == [[-1, -1]] * 3
    assert [WORDS[a:b] for a, b in offsets[6:12]] == ["Cat", "in", "the", "garden", "and", "Boris"]
    assert squad.counts(found, split_of(WORDS)) == {"rows": 1, "windows": 3, "lost_answers": 0, "cut_questions": 0}


@pytest.mark.parametrize("max_length, stride", [(48, 16), (64, 20), (512, 128)])
def test_windows_are_those_of_the_tokenizer(toy, toy_tokenizer, max_length, stride):
    """`transformers` cuts the same windows when told their overlap: ids, token types and characters."""
    made = features(toy.train, toy_tokenizer, max_length, stride)
    for i in range(0, 200, 4):
        question, context = toy.train[i]["question"], toy.train[i]["context"]
        room = max_length - 3 - len(toy_tokenizer.tokenize(question))
        theirs = toy_tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=max_length,
            stride=room - stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        ours = made.select(np.flatnonzero(made["example"][:] == i))
        assert len(ours) == len(theirs["input_ids"])
        for window, encoding in zip(ours, theirs.encodings, strict=True):
            assert window["input_ids"].tolist() == encoding.ids
            assert window["token_type_ids"].tolist() == encoding.type_ids
            context_of = [
                at if part == 1 else (-1, -1) for at, part in zip(encoding.offsets, encoding.sequence_ids, strict=True)
            ]
            assert window["offsets"].reshape(-1, 2).tolist() == [list(at) for at in context_of]


def test_labels_point_at_the_answer_and_no_toy_answer_is_lost(toy, toy_tokenizer):
    """Whatever window holds it all: the text between the two tokens is the answer, to the letter."""
    for data in (toy.train, toy.validations["validation"]):
        found, held = features(data, toy_tokenizer, max_length=64, stride=24), 0
        for window in found:
            row, (first, last) = data[int(window["example"])], window["labels"]
            text, start = row["answers"]["text"][0], row["answers"]["answer_start"][0]
            offsets = window["offsets"].reshape(-1, 2)
            inside = offsets[offsets[:, 0] >= 0]
            if inside[0, 0] <= start and start + len(text) <= inside[-1, 1]:
                assert row["context"][offsets[first, 0] : offsets[last, 1]] == text
                held += 1
            else:
                assert (first, last) == (0, 0)
        assert len(data) < held < len(found) and squad.lost_answers(found, data) == 0
        assert len(found) > 1.5 * len(data), "contexts are longer than a window"


def test_a_stride_beyond_the_room_leaves_no_gap_and_lost_answers_are_counted(tokenizer):
    """As in BERT's code, the next window then starts where the last one ended; an answer on the seam is lost."""
    data = rows(("who sees", WORDS, "Cat in the"), ("who sees", WORDS, "sees the"))
    found = features(data, tokenizer, max_length=13, stride=100)
    words = [tokenizer.decode(ids).split(" [SEP] ")[1].removesuffix(" [SEP]") for ids in found["input_ids"][:]]
    assert " ".join(words[:3]) == WORDS.lower() and len(found) == 6
    assert squad.lost_answers(found, data) == 1


def test_an_answer_inside_a_token_gets_the_token_and_one_without_tokens_is_lost(tokenizer):
    """ "at" is part of the token "cat"; a zero-width space is dropped by BERT's normalization."""
    context = "the cat in\u200b the garden"
    data = rows(("the", context, "at in"), ("the", context, "\u200b"))
    found = features(data, tokenizer, max_length=32)
    first, last = found[0]["labels"]
    offsets = found[0]["offsets"].reshape(-1, 2)
    assert context[offsets[first, 0] : offsets[last, 1]] == "cat in"
    assert squad.lost_answers(found, data) == 1


def test_a_long_question_is_cut_and_counted(tokenizer):
    data = rows((" ".join(ANIMALS), WORDS, "Cat"), ("cat dog", WORDS, "Cat"))
    found = features(data, tokenizer, max_length=32, max_question=3)
    assert tokenizer.decode(found[0]["input_ids"]).startswith("[CLS] cat dog horse [SEP] anna sees")
    assert found["cut"][:].tolist() == [5, 0] and squad.counts(found, data)["cut_questions"] == 1


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"max_length": 500}, "max_length"),
        ({"max_length": 7}, "max_length"),
        ({"max_length": 32, "stride": 0}, "stride"),
        ({"max_length": 32, "max_question": 0}, "max_question 0"),
        ({"max_length": 11}, "row 1"),
    ],
)
def test_impossible_lengths_are_refused(tokenizer, settings, says):
    with pytest.raises(ValueError, match=says):
        features(rows(("cat", WORDS, "Cat"), (" ".join(ANIMALS), WORDS, "Cat")), tokenizer, **settings)


def test_a_tokenizer_that_knows_no_characters_is_refused():
    with pytest.raises(ValueError, match="tokenizer"):
        features(split_of(WORDS), SimpleNamespace(is_fast=False))


def test_rows_are_encoded_once_for_every_setting(tokenizer):
    data = TaskData(SQUAD, split_of(WORDS, WORDS), {"validation": split_of(WORDS)}, {})
    train, validations = data.encoded(tokenizer, 32, 4)
    assert data.encoded(tokenizer, 32, 4)[0] is train and list(validations) == ["validation"]
    assert len(train) == 2 < len(data.encoded(tokenizer, 12, 4)[0]) < len(data.encoded(tokenizer, 12, 2)[0])


# answers


def brute_force(start, end, offsets, n_best, longest) -> list[tuple]:
    """All spans, one by one."""
    inside = [i for i, (a, _) in enumerate(offsets) if a >= 0]
    spans = [
        (i, j, float(start[i]) + float(end[j])) for i, j in itertools.product(inside, inside) if i <= j < i + longest
    ]
    return sorted(spans, key=lambda span: (-span[2], span[0], span[1]))[:n_best]


@pytest.mark.parametrize("ties", [False, True])
def test_the_best_spans_are_the_best_of_all(ties):
    """300 random windows, padded or not; with whole numbers as logits, many spans are equally good."""
    draw = np.random.default_rng(0)
    for _ in range(300):
        length, head = draw.integers(4, 40), draw.integers(1, 5)
        logits = draw.normal(size=(length + draw.integers(0, 4), 2)).astype(np.float32) * 3
        logits = np.round(logits / 3) if ties else logits
        offsets = np.full((length, 2), -1)
        inside = np.arange(head, max(head, length - draw.integers(1, 3)))
        offsets[inside] = np.stack([3 * inside, 3 * inside + 2], 1)
        n_best, longest = int(draw.integers(1, 30)), int(draw.integers(1, 50))
        found = best_spans(logits[:, 0], logits[:, 1], offsets, n_best, longest)
        assert found == brute_force(logits[:, 0], logits[:, 1], offsets, n_best, longest)
        assert not found or isinstance(found[0], Span)


def test_a_good_span_is_found_although_its_ends_are_not_among_the_best():
    """The two best starts come after the two best ends, so that pairing these, as BERT's code does, finds nothing."""
    start, end = np.array([0.0, 1, 9, 9]), np.array([9.0, 9, 1, 0])
    assert best_spans(start, end, np.tile([0, 1], (4, 1)), n_best=2) == [(1, 1, 10.0), (2, 2, 10.0)]


def logits_for(found: Dataset, *peaks: tuple[int, int, int, float]) -> list[np.ndarray]:
    """Zero everywhere but at (window, first token, last token): there the start and the end logit are as given."""
    logits = [np.zeros((int(length) + 3, 2)) for length in found["length"][:]]
    for window, first, last, value in peaks:
        logits[window][first, 0] = logits[window][last, 1] = value
    for one, length in zip(logits, found["length"][:], strict=True):
        one[length:] = np.inf  # padding, and whatever stands in it, is not looked at
    return logits


def test_an_answer_is_the_text_as_it_was_written_and_the_best_of_all_windows(tokenizer):
    """Capital letters, which the model never sees, come back; [CLS] and the question can be no answer."""
    data = rows(("who sees", WORDS, "Cat"), ("cat", "Felix", "Felix"))
    found = features(data, tokenizer, max_length=13, stride=4)
    head = 6  # [CLS] who (letters) sees [SEP]
    peaks = [(0, head + 3, head + 4, 5.0), (1, head + 5, head + 5, 7.0), (2, 0, 1, 50.0)]
    (first, second) = find_answers(logits_for(found, *peaks), found, data)
    assert first[0][:2] == ("Boris", 14.0) and WORDS[first[0].start : first[0].end] == "Boris"
    assert first[1][:2] == ("old Cat", 10.0)
    assert len(first) == 20 and sum(answer.probability for answer in first) == pytest.approx(1)
    assert first[0].probability / first[1].probability == pytest.approx(np.exp(4))
    assert [answer.text for answer in second] == ["Felix"] and second[0].probability == 1


def test_one_text_is_one_answer(tokenizer):
    """The same place seen by two windows, and the same word at another place."""
    context = "cat and dog and cat in the garden"
    data = rows(("who", context, "dog"))
    found = features(data, tokenizer, max_length=12, stride=2)
    logits = [np.zeros((int(length), 2)) for length in found["length"][:]]
    for window, offsets in enumerate(found["offsets"][:]):
        for token, (start, end) in enumerate(offsets.reshape(-1, 2)):
            if context[start:end] == "cat" and start >= 0:
                logits[window][token] = 5 + (start > 0)
    (best,) = find_answers(logits, found, data, n_best=3)
    assert len(found) > 1 and best[0][:2] == ("cat", 12.0) and best[0].start == 16
    assert len({answer.text for answer in best}) == len(best) == 3


def test_a_context_without_a_token_has_the_empty_answer(tokenizer):
    data = rows(("who", "   ", " "))
    found = features(data, tokenizer, max_length=16)
    assert find_answers(logits_for(found), found, data) == [[Answer("", -np.inf, 1.0, 0, 0)]]
    assert answers.score(find_answers(logits_for(found), found, data), data)["f1"] == 0


@pytest.mark.parametrize(
    "change, settings, says",
    [
        (lambda logits: logits[:-1], {}, "2 windows"),
        (lambda logits: [logits[0], logits[1][:5], logits[2]], {}, "window 1"),
        (lambda logits: [logits[0][:, 0], *logits[1:]], {}, "window 0"),
        (lambda logits: [*logits[:2], logits[2] * np.nan], {}, "window 2"),
        (lambda logits: logits, {"n_best": 0}, "n_best"),
        (lambda logits: logits, {"max_answer_length": 0}, "max_answer_length 0"),
    ],
)
def test_logits_that_do_not_fit_are_refused(tokenizer, change, settings, says):
    data = rows(("who sees", WORDS, "Cat"))
    found = features(data, tokenizer, max_length=13, stride=4)
    with pytest.raises(ValueError, match=says):
        find_answers(change(logits_for(found)), found, data, **settings)


# scores


def told(found: Dataset) -> np.ndarray:
    """The logits (windows, longest, 2) of a model that knows the labels: [CLS] where the answer is not."""
    logits = np.zeros((len(found), int(found["length"][:].max()), 2), dtype=np.float32)
    for window, labels in enumerate(found["labels"][:]):
        logits[window, labels, [0, 1]] = 10
    return logits


def test_who_knows_the_labels_answers_everything_and_gold_answers_score_one(toy, toy_tokenizer):
    data = toy.validations["validation"]
    found = features(data, toy_tokenizer, max_length=64, stride=24)
    scores, interval = toy.judge("validation", found, told(found))
    assert scores == {"exact_match": 1, "f1": 1} and interval == (1, 1)
    golds = [[Answer(row["answers"]["text"][-1], 0.0, 1.0, 0, 0)] for row in data]
    assert answers.score(golds, data) == {"exact_match": 1, "f1": 1}


def test_scores_are_means_over_the_questions():
    data = rows(*(("who", WORDS, gold(WORDS, "old Cat", "the old Cat in")) for _ in range(4)))
    given = [
        [Answer(text, 0.0, 1.0, 0, 0), Answer("old Cat", 0.0, 0.0, 0, 0)]
        for text in ("Old cat.", "Cat", "garden", "the")
    ]
    assert answers.row_scores(given, data)["exact_match"].tolist() == [1, 0, 0, 0]
    assert answers.row_scores(given, data)["f1"] == pytest.approx([1, 2 / 3, 0, 0])
    assert answers.score(given, data) == pytest.approx({"exact_match": 0.25, "f1": 5 / 12})
    low, high = answers.interval(given, data)
    assert 0 <= low < 5 / 12 < high <= 1
    assert answers.interval(given, data, "exact_match")[0] == 0
    with pytest.raises(ValueError, match="questions"):
        answers.score(given[:3], data)


@pytest.mark.parametrize(
    "question, context, answer",
    [
        ("Where was Anna born?", "Boris lives in Rome. Anna was born in Paris, by the sea. It rains.", "sea"),
        ("Who painted the door?", "The door was painted by Anna Maria. The cat ran.", "Anna Maria"),
        ("Who?", "Who is", "Who is"),
        ("Who?", "", ""),
    ],
)
def test_word_matching_gives_the_last_new_words_of_the_likeliest_sentence(question, context, answer):
    (found,) = answers.word_matching(Dataset.from_dict({"question": [question], "context": [context]}))
    assert found == [Answer(answer, 0.0, 1.0, context.index(answer), context.index(answer) + len(answer))]


def test_word_matching_is_no_majority_and_does_not_solve_the_toy_task(toy):
    data = toy.validations["validation"]
    assert toy.baseline("validation") is None
    assert 0.1 < answers.score(answers.word_matching(data), data)["f1"] < 0.5


# the real data


@pytest.fixture(scope="module")
def real() -> TaskData:
    """All of SQuAD v1.1."""
    return load_data("hub")


@pytest.mark.hub
def test_real_squad_is_whole_and_its_answers_are_in_place(real):
    assert real.info["rows"] == SQUAD.rows and not real.info["stand_in"]
    repeated = real.info["repeated_answers"]["validation"]
    assert 0.6 < repeated["at_first"] / repeated["rows"] < 0.8
    assert min(len(row["text"]) for row in real.validations["validation"]["answers"]) == 1
    data = real.validations["validation"]
    golds = [[Answer(row["text"][0], 0.0, 1.0, 0, 0)] for row in data["answers"]]
    assert answers.score(golds, data) == {"exact_match": 1, "f1": 1}
    carved = real.carve()
    assert not set(carved.train["context"]) & set(carved.validations["carved"]["context"])
    assert 8_760 <= len(carved.validations["carved"]) <= 8_785


@pytest.mark.hub
def test_real_windows_hold_the_real_answers(real):
    """As many windows as BERT's own code makes of this split. 99.7 % of the answers come back to the letter; the
    others were marked inside a token ("8" in "18") and bring all of it. Nine are longer than 30 tokens."""
    tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-uncased")
    data = real.validations["validation"]
    found = features(data, tokenizer)
    assert squad.counts(found, data) == {"rows": 10_570, "windows": 10_833, "lost_answers": 0, "cut_questions": 0}
    texts = [row["text"][0] for row in data["answers"]]
    for longest, same, whole in ((384, 0.99697, 10_570), (30, 0.99612, 10_561)):
        best = [one[0].text for one in find_answers(told(found), found, data, max_answer_length=longest)]
        assert np.mean([text == answer for text, answer in zip(texts, best, strict=True)]) == pytest.approx(
            same, abs=1e-5
        )
        assert sum(text in answer for text, answer in zip(texts, best, strict=True)) == whole


@pytest.mark.hub
def test_word_matching_does_not_solve_real_squad(real):
    """The simple baseline of SQuAD's authors has 20 % F1 (Rajpurkar et al. 2016, abstract)."""
    data = real.validations["validation"]
    scores = answers.score(answers.word_matching(data), data)
    assert 0.08 < scores["exact_match"] < 0.15 < scores["f1"] < 0.25


def test_a_question_without_an_answer_loses_none(tokenizer):
    data = Dataset.from_list(
        [{"question": "who sees", "context": WORDS, "answers": {"text": [], "answer_start": []}}]
        + [{"question": "who sees", "context": WORDS, "answers": {"text": [WORDS[:4].strip()], "answer_start": [0]}}]
    )
    assert squad.lost_answers(features(data, tokenizer, max_length=64), data) == 0
