"""What the data itself allows: repeated rows, the nearest training row, what is too long, what no span can hit."""

import pytest
from datasets import Dataset

from distilnb.tasks import ceilings, glue
from distilnb.tasks.glue import TASKS


def pairs(*rows: tuple[str, str, int]) -> Dataset:
    """Rows of WNLI."""
    return Dataset.from_dict(
        dict(zip(("sentence1", "sentence2", "label"), map(list, zip(*rows, strict=True)), strict=True))
    )


def test_rows_that_are_scored_and_learned_are_counted():
    train = pairs(("a", "b", 0), ("a", "b", 1), ("c", "d", 0), ("b", "a", 0))
    scored = pairs(("a", "b", 1), ("d", "c", 0))
    found = ceilings.repeated(train, scored, TASKS["wnli"])
    assert found == {"scored_rows": 2, "in_train": 1, "train_rows": 4, "twice_in_train": 1}


def test_unlabelled_texts_that_are_scored_too_are_counted():
    train, scored = Dataset.from_dict({"text": ["a", "b"]}), Dataset.from_dict({"text": ["c", "a"]})
    counts = ceilings.read_before(["a", "c", "c", "d"], train, scored)
    assert counts == {"unlabelled_in_scored": 3, "unlabelled_in_train": 1}


def test_the_nearest_row_tells_the_label_of_the_row_with_the_most_words_in_common():
    train = pairs(("the cat sleeps", "it", 1), ("a dog runs", "it", 0), ("birds", "sing", 0))
    scored = pairs(("the cat runs", "it", 0), ("a dog", "it", 0))
    assert ceilings.nearest_neighbour(train, scored, TASKS["wnli"]) == {"nearest_neighbour": 0.5, "majority": 1.0}


def test_reviews_are_counted_with_and_without_line_breaks(tokenizer):
    long = " ".join(["cat"] * 8)
    found = ceilings.review_lengths([long, f"{ceilings.BREAK} {long}", "cat"], tokenizer, longest=10)
    assert found["reviews"] == 3 and found["longer"] == pytest.approx(1 / 3) and found["longer_without_breaks"] == 0
    assert 0 < found["break_pieces"] < 0.5


def test_a_perfect_span_model_loses_what_tokens_windows_and_length_forbid(tokenizer):
    def row(context: str, answer: str, start: int | None = None) -> dict:
        start = context.index(answer) if start is None else start
        return {"question": "where", "context": context, "answers": {"text": [answer], "answer_start": [start]}}

    long = " ".join(["cat", "dog", "hen", "fox"] * 10)
    rows = Dataset.from_list([row("the cat sleeps", "cat"), row("the cats", "cat"), row(long, long)])
    found = ceilings.span_ceiling(rows, tokenizer, max_length=64, stride=16)
    assert found["rows"] == 3 and found["exact_match"] == pytest.approx(2 / 3)
    assert found["exact_match"] < found["f1"] < 1, "of 40 words 30 may be answered"
    assert found["cannot_be_hit"] == 0 and found["gold_without_words"] == 0


def test_matching_words_is_scored_over_all_questions():
    def row(question: str, answer: str) -> dict:
        context = "Paris is large. Nolea feeds grey horses."
        answers = {"text": [answer], "answer_start": [context.index(answer)]}
        return {"question": question, "context": context, "answers": answers}

    rows = Dataset.from_list([row("Who feeds horses?", "Nolea"), row("What does Nolea feed?", "horses")])
    found = ceilings.scores_of_matching_words(rows)
    assert found == {"matching_words_exact_match": 0.0, "matching_words_f1": 0.25}  # "grey", "feeds grey horses"


@pytest.mark.hub
def test_the_real_tasks_repeat_rows():
    for name, in_train, twice in (("cola", 16, 19), ("stsb", 6, 43), ("rte", 0, None), ("mrpc", 0, None)):
        data = glue.load_data(name, "hub")
        found = ceilings.repeated(data.train, data.validations["validation"], data.task)
        assert found["in_train"] == in_train and twice in (None, found["twice_in_train"]), name
