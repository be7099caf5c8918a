"""The kind of answer that a question of the world asks for (a person, a day, a thing), to sort wrong answers."""

import functools
import re
from collections.abc import Iterable

from . import words
from .writer import world

_SLOT = re.compile(r"\\\{\w+\\\}")


@functools.cache
def _forms() -> list[tuple[re.Pattern[str], frozenset[str]]]:
    """The forms of questions, each with all of the world's answers to it in lower case."""
    facts, people = world(), {person["A"] for person in world()["person"]}
    towns = {town["A"] for town in facts["town"]}
    nouns = {thing["A"] for thing in facts["object"]}
    looks = {word for pair in words.THING_PAIRS for side in pair for word in side}
    things = nouns | {f"{look} {noun}" for look in looks for noun in nouns}
    actors = people | {name for trade in facts["trade"] for name in (trade["A"], trade["a"])}
    forms: list[tuple[str, Iterable[str]]] = [
        ("Who {A} {O}", actors),
        ("Who had {O} in the end", people),
        ("What was {V} by {A}", things),
        ("Where was {O} {V}", towns | set(words.PLACES)),
        ("Where did {A} go", towns),
        ("In which town did {A} and {B} meet", towns),
        ("On which day did {A} meet {B}", words.DAYS),
        ("On which day was {O} {V}", words.DAYS),
    ]
    forms += [(ask, things if slot == "O" else people) for _, asked in words.TRANSFERS for ask, slot in asked]
    for kind, relations in words.FACTS.items():
        for _, asked, slot in relations.values():
            forms += [(ask, {entity[slot] for entity in facts[kind]}) for ask in asked]
    return [
        (re.compile(_SLOT.sub("(.+?)", re.escape(form + "?")), re.IGNORECASE), frozenset(map(_bare, answers)))
        for form, answers in forms
    ]


def _bare(text: str) -> str:
    """A text in lower case, without little words in front and without a final full stop."""
    parts = text.lower().rstrip(".").split()
    while len(parts) > 1 and parts[0] in words.LITTLE:
        parts = parts[1:]
    return " ".join(parts)


def kind_of(question: str) -> frozenset[str]:
    """All answers of the world, right or wrong, to a question of this form; for "who", everyone's name.

    They are in lower case, without little words in front; the set is empty for a question that the world does not ask.
    """
    asked = re.sub(r"\ban ", "a ", question)
    fits = [(sum(map(len, match.groups())), answers) for form, answers in _forms() if (match := form.fullmatch(asked))]
    return min(fits, key=lambda pair: pair[0])[1] if fits else frozenset()


def is_of_kind(answer: str, question: str) -> bool:
    """Whether an answer, right or wrong, is of the kind that the question asks for."""
    kind, text = kind_of(question), _bare(answer)
    return any(text[: len(text) - plural] in kind for plural in range(3) if text)
