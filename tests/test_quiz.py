"""The questions at the end of each notebook: complete, in a mixed order, clickable without a kernel."""

from collections import Counter

import nbformat
import pytest

from distilnb import paths
from distilnb.lessons import notebooks, quiz

NUMBERS = [entry.number for entry in notebooks.NOTEBOOKS]


@pytest.mark.parametrize("number", NUMBERS)
def test_each_notebook_has_five_questions_with_one_right_answer(number):
    asked = quiz.questions(number)
    assert len(asked) == 5 and len({question.ask for question in asked}) == 5
    for question in asked:
        assert question.ask.endswith("?") or question.ask.endswith("."), question.ask
        assert sum(answer.right for answer in question.answers) == 1 and len(question.answers) >= 3
        assert len({answer.text for answer in question.answers}) == len(question.answers)
        assert all(answer.reply.endswith((".", "?")) for answer in question.answers), question.ask


def test_the_right_answer_is_not_always_at_the_same_place():
    places = Counter(
        [answer.right for answer in question.answers].index(True)
        for number in NUMBERS
        for question in quiz.questions(number)
    )
    assert len(places) == 3 and min(places.values()) >= 8, places


def test_a_notebook_without_questions_is_told():
    with pytest.raises(ValueError, match="99"):
        quiz.questions("99")


@pytest.mark.parametrize("entry", notebooks.NOTEBOOKS, ids=lambda entry: entry.name)
def test_the_questions_stand_in_the_notebook(entry):
    notebook = nbformat.read(paths.PACKAGE.parent / "notebooks" / f"{entry.name}.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if "## Five questions" in cell.source]
    assert cell.source == quiz.markdown(entry.number)
