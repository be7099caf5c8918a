"""The world's fixed facts, and the writer that chooses words and fills templates with them."""

from __future__ import annotations

import functools
import random
import re
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import words

Entity = dict[str, str]


class Sentence(NamedTuple):
    """One sentence and the questions it answers, as (question, answer) pairs."""

    text: str
    qa: Sequence[tuple[str, str]] = ()


def number(n: int) -> str:
    """``n`` below one hundred in words: 32 → ``thirty-two``."""
    return words.NUMBERS[n] if n <= 20 else words.TENS[n // 10] + ("-" + words.NUMBERS[n % 10] if n % 10 else "")


def _names(rng: random.Random, count: int, endings: str, taken: set[str]) -> list[str]:
    """``count`` new names built from syllables."""
    parts = [
        part.split()
        for part in (
            "B D F G H J K L M N P R S T V Z Br Dr Kr Tr St Sh Th Fl",
            "a e i o u a e o",
            "l r m n s d v k t rl nd lm",
            endings,
        )
    ]
    names: list[str] = []
    while len(names) < count:
        name = "".join(rng.choice(part) for part in parts)
        if name not in taken and len(name) > 4:
            names.append(name)
            taken.add(name)
    return names


def _people(rng: random.Random, couples: list[tuple[str, str]], world: dict[str, list[Entity]]) -> list[Entity]:
    """Two people for each couple (woman, man), with a birthplace, a home, a trade, an age, a pet and tastes.

    ``N`` is the age in words; ``age`` is the number used in comparisons, in which all twenties are one age.
    """
    people = []
    for i, (woman, man) in enumerate(couples):
        for name, spouse in ((woman, man), (man, woman))[:: 1 if i % 2 else -1]:
            birth, home = rng.choice(world["town"]), rng.choice(world["town"])
            trade, pet = rng.choice(world["trade"]), rng.choice(world["animal"][:16])
            likes, hates = rng.sample(world["food"], 2)
            age, pronouns = 20 + rng.randrange(70), "she her her husband" if name == woman else "he him his wife"
            people.append(
                {
                    "A": name,
                    "S": spouse,
                    "T": birth["A"],
                    "C": birth["C"],
                    "L": birth["L"],
                    "H": home["A"],
                    "HC": home["C"],
                    "J": trade["A"],
                    "O": trade["O"],
                    "G": trade["G"],
                    "P": pet["a"],
                    "Q": pet["Q"],
                    "F": likes["A"],
                    "D": hates["A"],
                    "age": str(max(age, 29)),
                    "N": number(age),
                    **dict(zip(("p", "him", "his", "wife"), pronouns.split(), strict=True)),
                }
            )
    rng.shuffle(people)
    for i, person in enumerate(people):
        person["B"], person["height"] = people[i - 1]["A"], str(rng.randrange(1000))
    return people


@functools.cache
def world() -> dict[str, list[Entity]]:
    """The fixed facts, the same for every seed: kind → entities, each a dictionary of the slots in ``FACTS``."""
    rng, taken = random.Random("toyworld"), set()
    endings = zip("via nia land dora stan".split() * 4, "vish nese lian rese".split() * 5, strict=True)
    countries = [
        {"A": stem + land, "L": stem + tongue}
        for stem, (land, tongue) in zip(_names(rng, 20, "a o e", taken), endings, strict=True)
    ]
    rivers, _ = _names(rng, 24, "er enne ow", taken), _names(rng, 120, "ov sen kin man berg etti ard wick", taken)
    women, men = _names(rng, 130, "a ia ina elle ea", taken), _names(rng, 130, "o us in ek or an", taken)
    towns = [
        {
            "A": name,
            "C": countries[i % 20]["A"],
            "L": countries[i % 20]["L"],
            "R": rng.choice(rivers),
            "X": rng.choice(words.TRADES)[4],
            "Y": str(rng.randrange(1200, 1900, 10)),
        }
        for i, name in enumerate(_names(rng, 100, "ton ville ham burg mouth field dale port", taken))
    ]
    facts = {
        "town": towns,
        "country": countries,
        "animal": [dict(zip("aAQEWVZ", row, strict=True)) for row in words.ANIMALS],
        "trade": [dict(zip("AaOGX", row, strict=True)) for row in words.TRADES],
        "object": [{"A": thing, "U": of, "Q": sort} for sort, things in words.OBJECTS.items() for thing, of in things],
        "food": [{"A": food, "U": taste, "Q": sort} for sort, taste, *foods in words.FOODS for food in foods],
    }
    people = facts["person"] = _people(rng, list(zip(women, men, strict=True)), facts)
    for i, place in enumerate(towns + countries):
        place["M"] = people[(7 * i + 3) % len(people)]["A"]
    for town, country in zip(towns, countries, strict=False):
        country["K"] = town["A"]
    rng.shuffle(towns)
    for kind in ("object", "food"):  # in a fixed order that mixes the kinds
        facts[kind].sort(key=lambda entity: zlib.crc32(entity["A"].encode()))
    return facts


_CHOICE, _SLOT = re.compile(r"\[([^\[\]]*)\]"), re.compile(r"\{(\w+)\}|~(\w+)")
_ARTICLE, _START = re.compile(r"\b([Aa]) (?=[aeiouAEIOU](?!ne\b))"), re.compile(r"(?:^|[.?!] \"?|^\")[a-z]")


def polish(text: str) -> str:
    """The text with capitals at sentence starts, ``an`` before vowels, and a full stop at the end."""
    text = _ARTICLE.sub(r"\1n ", _START.sub(lambda m: m[0][:-1] + m[0][-1].upper(), text))
    return text if text[-1] in '.?!"' else text + "."


def with_s(word: str) -> str:
    """The third person of a verb, or the plural of a noun."""
    return word + ("es" if word.endswith(("sh", "ss", "ch", "x", "o")) else "s")


class Writer:
    """A writer that chooses words and fills templates with one ``random.Random``.

    ``part`` is ``None`` (documents: all words), ``"train"`` or ``"held"``. Of every three words in a list, the tasks'
    training split uses two; in the validation and test splits, every second choice takes the third word, others any.
    """

    def __init__(self, key: str, part: str | None = None) -> None:
        self.rng, self.part = random.Random(key), part
        self.random, self.choice = self.rng.random, self.rng.choice

    def pick(self, items: Sequence[Any], *without: Any) -> Any:
        """An item of the list outside ``without``, with probability ~ rank^-1/2, so that the first is most common."""
        while True:
            i = int(len(items) * self.random() ** 2)
            if len(items) > 3 and (self.part == "train" or self.part == "held" and self.random() < 0.5):
                i = i - i % 3 + (2 if self.part == "held" else i % 2)
            if i < len(items) and items[i] not in without:
                return items[i]

    def two(self, items: Sequence[Any]) -> list[Any]:
        """Two different items of the list, all equally likely."""
        return self.rng.sample(items, 2)

    def say(self, template: str, **slots: str) -> str:
        """The polished template, with ``{slots}`` filled and a choice made in ``[a|b]`` and for each ``~word``."""
        while "[" in template:
            template = _CHOICE.sub(lambda m: self.choice(m[1].split("|")), template)
        return polish(_SLOT.sub(lambda m: slots[m[1]] if m[1] else self.choice(words.SYNONYMS[m[2]]), template))

    def line(self, template: str, qa: Sequence[tuple[str, str]] = (), **slots: str) -> Sentence:
        """The result of ``say`` as a line that answers the questions ``qa``."""
        return Sentence(self.say(template, **slots), qa)

    def entity(self, kind: str, *without: Entity) -> Entity:
        """One person, town, … of the world."""
        return self.pick(world()[kind], *without)

    def people(self, count: int = 2) -> list[Entity]:
        """``count`` different people."""
        people: list[Entity] = []
        while len(people) < count:
            people.append(self.entity("person", *people))
        return people

    def thing(self) -> str:
        """An object, in half the cases with a property: ``the old lamp``."""
        noun = self.entity("object")["A"]
        return f"the {self.pick(self.choice(self.pick(words.THING_PAIRS))) + ' ' if self.random() < 0.5 else ''}{noun}"

    def who(self) -> str:
        """A person's name, or a trade: ``the baker``."""
        if self.random() < 0.7:
            return self.entity("person")["A"]
        return "the " + self.pick(words.TRADES)[self.random() < 0.3]

    def where(self) -> str:
        """A place: ``by the bridge`` or ``in`` some town."""
        return self.pick(words.PLACES) if self.random() < 0.6 else "in " + self.entity("town")["A"]

    def deed(self) -> str:
        """The past of a verb: ``repaired``."""
        return self.choice(self.pick(words.ACTIONS))

    def fact(self, kind: str, relation: str, entity: Entity, pronoun: bool = False) -> Sentence:
        """A line that states one fixed fact, with the questions that it answers."""
        statements, questions, slot = words.FACTS[kind][relation]
        slots = entity | {"Ao": entity["A"], "As": entity["A"] + "'s"}
        asked = [(polish(q.format_map(slots) + "?"), entity[slot]) for q in questions]
        if pronoun:
            slots |= {"A": entity["p"], "Ao": entity["him"], "As": entity["his"]}
        return self.line(self.choice(statements), asked, **slots)

    def facts(self, kind: str, entity: Entity, count: int) -> list[Sentence]:
        """Some facts about one entity; a person becomes a pronoun after the first sentence."""
        relations = self.rng.sample(list(words.FACTS[kind]), min(count, len(words.FACTS[kind])))
        return [
            self.fact(kind, relation, entity, kind == "person" and i > 0 and self.random() < 0.6)
            for i, relation in enumerate(relations)
        ]

    def any_fact(self) -> Sentence:
        """One fact of the whole world."""
        kind = self.choice(list(words.FACTS))
        return self.fact(kind, self.choice(list(words.FACTS[kind])), self.entity(kind))

    def transfer(self, kind: int, form: int | None = None, tail: str = "", **slots: str) -> Sentence:
        """A line in which O goes from A to B, in one of the ways of ``TRANSFERS``."""
        statements, questions = words.TRANSFERS[kind]
        text = statements[form] if form is not None else self.choice(statements)
        return self.line(text + tail, [(q.format_map(slots) + "?", slots[a]) for q, a in questions], **slots)

    def action(self, verb: str, who: str, what: str, passive: bool = False, place: str = "", day: str = "") -> Sentence:
        """A line in which someone does something to a thing, in the active or the passive voice."""
        asked = [(f"Who {verb} {what}?", who), (f"What was {verb} by {who}?", what)]
        asked += [(f"Where was {what} {verb}?", place)] if place else []
        asked += [(f"On which day was {what} {verb}?", day)] if day else []
        text = f"{what} was {verb} by {who}" if passive else f"{who} {verb} {what}"
        return self.line(text + (place and f" {place}") + (day and f" on {day}"), asked)

    def _subject(self, many: bool) -> str:
        """A subject for ``clause``: people, a trade or an animal, at times with another noun in between."""
        kind = self.choice("aatp")
        if kind == "a":
            noun = self.pick([animal for animal in world()["animal"] if animal["a"] != animal["A"]])["aA"[many]]
        else:
            noun = self.pick(words.TRADES)[0] + "s" * many
        if kind == "p":
            a, b = (person["A"] for person in self.people())
            return f"{a} and {b}" if many else a
        subject = self.choice(("the ", "[many|some|both|these] " if many else "[a|every|this] ")) + noun
        if self.random() < 0.4:
            near = self.entity("animal")
            subject += f" [near|behind|beside] the {near['aA'[self.random() < 0.5]]}"
        return subject

    def clause(self, fault: str = "") -> str:
        """A sentence about agreement and verb forms; ``fault`` (agree, form, order) breaks a rule of grammar."""
        many = self.random() < 0.5
        subject, (base, past, done, going) = self._subject(many), self.pick(words.VERBS)
        plural = many != (fault == "agree")
        forms = [
            ("are" if plural else "is", going),
            ("have" if plural else "has", done),
            ("", base if plural else with_s(base)),
            ("were" if plural else "was", going),
            ("do not" if plural else "does not", base),
            ("will", base),
            ("", past),
        ]
        aux, verb = self.choice(forms[:5] if fault == "agree" else forms)
        if fault == "form":
            wrong = {
                "are": [base],
                "is": [base],
                "were": [base],
                "was": [base],
                "": [f"be {base}", f"is {base}"],
                "have": [base, going],
                "has": [base, going],
            }.get(aux, [past, going])
            verb = self.choice([form for form in wrong if form != verb] or [f"be {base}"])
        adverb = self.choice(("", "[often|again|together]" if many else "[often|again]"))
        tail = f"{adverb} {self.pick(words.PLACES)}"
        parts = [subject, aux, verb, tail]
        if fault == "order":
            parts = self.choice(
                [
                    [subject, verb, aux or "will", tail],
                    [subject, aux, "the", verb, tail],
                    [verb, aux or "the", subject, tail],
                    [aux or "the", tail, verb, subject],
                ]
            )
        return self.say(" ".join(" ".join(parts).split()))
