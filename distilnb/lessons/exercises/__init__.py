"""The exercises of the notebooks, each with a check whose message teaches.

A notebook leaves `...` in the place of an answer and shows `check("02.1", answer)`; its twin in notebooks/solutions
solves the exercise and shows the same check. The checks of notebook 02 are in `exercises/notebook_02.py`, and so on.
They are functions that return the lesson of a right answer and raise `NotYet` with a hint for a wrong one.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

STUB = ...  # the place of an answer in a notebook
KINDS = "look above for what is asked for: a number without quotes, a word, a list, a function, records of runs"


class NotYet(Exception):
    """The answer is wrong; the message says in which direction to think."""


@dataclass(frozen=True)
class Verdict:
    """The result of a check, shown as one line and true when the answer is right."""

    exercise: str
    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.exercise} · {self.message}"


@dataclass(frozen=True)
class Exercise:
    """One exercise, such as "02.1", the first of notebook 02; `minutes` is the time that a reader may need."""

    name: str
    minutes: int
    judge: Callable[..., str]


_KNOWN: dict[str, Exercise] = {}


def exercise(name: str, minutes: int) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Register the decorated function as the judge of exercise `name`."""

    def register(judge: Callable[..., str]) -> Callable[..., str]:
        _KNOWN[name] = Exercise(name, minutes, judge)
        return judge

    return register


def exercises(notebook: str) -> list[Exercise]:
    """The exercises of a notebook ("02"), in order; ValueError for a notebook that has none."""
    try:
        importlib.import_module(f"{__name__}.notebook_{notebook}")
    except ModuleNotFoundError:
        raise ValueError(f"notebook {notebook} has no exercises; name one as notebook and number, '02.1'") from None
    return [_KNOWN[name] for name in sorted(_KNOWN) if name.startswith(f"{notebook}.")]


def check(name: str, *answer: Any) -> Verdict:
    """The verdict on the answer to exercise `name`, which never raises, for a wrong answer or name of any kind."""
    try:
        known = {e.name: e for e in exercises(str(name).partition(".")[0])}
    except ValueError as error:
        return Verdict(str(name), False, str(error))
    if name not in known:
        return Verdict(str(name), False, f"there is no such exercise; this notebook has {', '.join(known)}")
    if not answer or any(part is STUB or part is None for part in answer):
        return Verdict(name, False, "not solved yet: write your answer where the ... stands, then run this cell again")
    try:
        return Verdict(name, True, known[name].judge(*answer))
    except NotYet as hint:
        return Verdict(name, False, str(hint))
    except Exception:  # because the notebook must go on, whatever an answer does
        given = ", ".join(f"{part!r:.60}" for part in answer)
        return Verdict(name, False, f"the check could not use this answer ({given}): {KINDS}")


def ask(function: Callable, *inputs: Any, **more: Any) -> Any:
    """The result of a learner's function; NotYet, in words, when it is not a function, returns nothing or raises."""
    if not callable(function):
        raise NotYet(f"a function is asked for, this is a {type(function).__name__}: pass it without calling it")
    try:
        value = function(*inputs, **more)
    except Exception as error:
        raise NotYet(f"your function raised {type(error).__name__}: {error}") from error
    if value is None or value is STUB:
        raise NotYet("not solved yet: your function returns nothing")
    return value


def close(answer: Any, expected: Any, relative: float = 1e-3, absolute: float = 1e-6) -> bool:
    """Whether two numbers or arrays agree, shapes included, to a relative or an absolute tolerance.

    Raises NotYet when a learner's answer is neither a number nor an array of numbers.
    """
    try:
        answer, expected = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (answer, expected))
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"a number is asked for, without quotes or a unit; this is {answer!r:.60}") from None
    return answer.shape == expected.shape and torch.allclose(answer, expected, rtol=relative, atol=absolute)


def mistake(answer: Any, hints: Mapping[Any, str], relative: float = 1e-3, absolute: float = 1e-6) -> NotYet:
    """NotYet with the hint of the first wrong value in `hints` that the answer is close to, else with that of None."""
    near = (wrong for wrong in hints if wrong is not None and close(answer, wrong, relative, absolute))
    return NotYet(hints[next(near, None)])
