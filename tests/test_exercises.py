"""Exercises: the stub fails, plausible wrong answers fail with a hint, the solutions pass, notebooks hold them all."""

import importlib
import re
from functools import cache

import nbformat
import pytest

from distilnb import paths
from distilnb.lessons.exercises import Exercise, NotYet, Verdict, ask, check, close, exercises, mistake
from distilnb.lessons.notebooks import NOTEBOOKS

ROOT = paths.PACKAGE.parent
READY = sorted(
    p.stem.removeprefix("notebook_") for p in (paths.PACKAGE / "lessons" / "exercises").glob("notebook_*.py")
)
ALL = [e for number in READY for e in exercises(number)]
GENERIC = ("not solved yet", "could not use this answer")


@pytest.fixture(params=ALL, ids=lambda e: e.name)
def one(request) -> Exercise:
    return request.param


def wrong_answers(name: str) -> list:
    module = importlib.import_module(f"wrong_answers.notebook_{name.partition('.')[0]}")
    return module.WRONG[name]


@cache
def cells(folder: str, number: str) -> list[nbformat.NotebookNode]:
    (path,) = (ROOT / "notebooks" / folder).glob(f"{number}_*.ipynb")
    return nbformat.read(path, as_version=4).cells


def outputs(found: list[nbformat.NotebookNode], name: str) -> list[str]:
    """What the cells that check exercise `name` show."""
    checked = [c for c in found if c.cell_type == "code" and f'check("{name}"' in c.source]
    return [o.get("data", {}).get("text/plain", "") for c in checked for o in c.outputs]


def test_every_notebook_has_three_to_five_exercises_of_different_length():
    assert READY == [n.number for n in NOTEBOOKS]
    for number in READY:
        found = exercises(number)
        assert 3 <= len(found) <= 5, number
        assert [e.name for e in found] == [f"{number}.{i + 1}" for i in range(len(found))]
        minutes = [e.minutes for e in found]
        assert minutes == sorted(minutes) and minutes[0] <= 5 and 15 <= minutes[-1] <= 60, (number, minutes)


def test_the_unsolved_stub_fails(one):
    parts = wrong_answers(one.name)[0]
    verdict = check(one.name, *[...] * (len(parts) if isinstance(parts, tuple) else 1))
    assert not verdict and "not solved yet" in verdict.message


def test_plausible_wrong_answers_fail_with_a_hint_of_their_own(one):
    answers = wrong_answers(one.name)
    assert answers, "at least one plausible wrong answer"
    for answer in answers:
        verdict = check(one.name, *(answer if isinstance(answer, tuple) else (answer,)))
        assert not verdict, f"{one.name} took {answer!r}"
        assert not any(text in verdict.message for text in GENERIC), verdict
        assert len(verdict.message) >= 40, "a hint says where to look"


def test_who_rounds_down_is_not_taken_for_one_who_forgets_the_ninth():
    assert "round" in check("09.2", 7).message and "ninth" in check("09.2", 1).message


@pytest.mark.parametrize(
    "name,answer",
    [
        ("00.2", 281),
        ("00.4", 93.4),
        ("02.1", 0.75),
        ("03.1", 4721),
        ("03.2", 8),
        ("04.2", 74),
        ("04.2", 0.74),
        ("05.2", 12_000),
        ("07.2", (45, 59)),
        ("08.2", (0.3, 0.9927)),
        ("10.1", 85),
    ],
)
def test_a_right_number_may_be_rounded_as_far_as_the_text_allows(name, answer):
    assert check(name, *(answer if isinstance(answer, tuple) else (answer,)))


def test_who_rounds_too_far_is_not_told_that_the_method_is_wrong():
    assert "decimal" in check("00.4", 93).message


def test_nonsense_is_no_traceback(one):
    answer = wrong_answers(one.name)[0]
    assert "not solved yet" in check(one.name).message, "no answer at all"
    for nonsense in ("a word", "99.1", -1, [], {}, float("nan"), object()):
        verdict = check(one.name, *[nonsense] * (len(answer) if isinstance(answer, tuple) else 1))
        assert isinstance(verdict, Verdict) and not verdict
        assert "Error" not in verdict.message, "a newcomer is not shown Python's own words"


def test_the_notebook_poses_it_unsolved_and_the_solution_solves_it(one):
    number = one.name.partition(".")[0]
    posed, solved = outputs(cells(".", number), one.name), outputs(cells("solutions", number), one.name)
    assert len(posed) == 1 and posed[0].startswith("✗") and "not solved yet" in posed[0]
    assert len(solved) == 1 and solved[0].startswith("✓")
    prose = "\n".join(c.source for c in cells(".", number) if c.cell_type == "markdown")
    assert re.search(rf"\*\*{re.escape(one.name)}\*\*.*{one.minutes} minutes?", prose), "number and minutes told"


@pytest.mark.parametrize("number", READY)
def test_solutions_compare_their_verdicts(number):
    """nbval only looks at tagged cells; a solution that stops being one must be noticed."""
    for cell in cells("solutions", number):
        if cell.cell_type == "code" and "check(" in cell.source:
            assert "nbval-check-output" in cell.metadata.get("tags", [])


@pytest.mark.parametrize("name,words", [("02.9", "has 02.1, 02.2"), ("77.1", "no exercises"), (2.1, ""), (None, "")])
def test_an_exercise_that_there_is_not_is_a_line_and_no_traceback(name, words):
    for answer in (1, "1", None):
        verdict = check(name, answer)
        assert not verdict and "exercise" in verdict.message and words in verdict.message


def test_asking_a_function():
    assert ask(lambda x: x + 1, 1) == 2
    for bad, hint in ((3, "function is asked for"), (lambda x: None, "returns nothing"), (lambda x: x / 0, "ZeroDiv")):
        with pytest.raises(NotYet, match=hint):
            ask(bad, 1)


def test_close_wants_equal_shapes():
    assert close([1.0, 2.0], [1.0, 2.0005])
    assert not close([1.0, 2.0], [1.0, 2.1])
    assert not close(1.0, [1.0])


def test_a_wrong_value_gets_the_hint_of_the_first_that_is_near():
    hints = {1.0: "one", (2.0, 3.0): "two numbers", 1.1: "more", None: "anything else"}
    answers = {1.0005: "one", 1.04: "anything else", (2.0, 3.001): "two numbers", 1.0: "one"}
    assert {answer: str(mistake(answer, hints)) for answer in answers} == answers
    assert str(mistake(1.08, hints, 0, 0.1)) == "one"
    with pytest.raises(NotYet, match="number"):
        mistake("a word", hints)
