"""The world's words and templates, from `data/toyworld/words.json`; each list begins with the common words.

The tasks keep a third of the words of a list out of training (see ``Writer.pick``). The tables: TRADES, ANIMALS,
OBJECTS, FOODS, THING_PAIRS, PERSON_PAIRS (opposites), ACTIONS, VERBS, GOOD and BAD words, ASPECTS of things with
their praise and blame, PLACES, DAYS, WEATHER, LITTLE words that may begin an answer or not, NUMBERS, TENS, SYNONYMS,
FACTS (by kind and relation: statements, questions, the slot that is asked for), TRANSFERS, SCHEMAS (of pronouns),
connectives (AGAIN, NOT, SO), TASTES, OPINIONS ({x}, {y}: aspects of a {k}; {g}, {h} agree, {b} opposes),
VERDICTS, WEIGHTS (of a small point, of a large one) and CONSEQUENCES (topic, premise, hypothesis, the slot a false
hypothesis gets wrong).
"""

import json
from functools import cache
from typing import Any

from ... import paths


@cache
def _tables() -> dict[str, Any]:
    return json.loads(paths.data("toyworld", "words.json").read_text(encoding="utf-8"))


def __getattr__(name: str) -> Any:
    try:
        return _tables()[name]
    except KeyError:
        raise AttributeError(f"the world has no table '{name}'") from None
