"""The world's documents, made of facts, stories, reviews and more, and the tokenizer trained on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import words
from .writer import Entity, Sentence, Writer, number, polish, with_s

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TEXT_VERSION = 1  # part of the names of token files; raise it when document() writes another text


def article(w: Writer) -> list[Sentence]:
    """Facts about a few entities of one kind."""
    kind = w.choice(("person", "person", "town", "town", "country", "animal", "animal", "trade", "object", "food"))
    entity, lines = w.entity(kind), []
    for _ in range(w.rng.randint(1, 2) if kind in ("person", "town") else w.rng.randint(2, 3)):
        lines += w.facts(kind, entity, w.rng.randint(3, 6))
        entity = w.entity(kind, entity)
    return lines


def inference(w: Writer) -> list[Sentence]:
    """Statements that follow from the facts about some people, and statements that do not."""
    lines: list[Sentence] = []
    for _ in range(w.rng.randint(2, 3)):
        x, y = w.people()
        wrong = w.entity("town")["C"]
        pairs = [
            ("{A} was born in {T}", "{A} was born in {C}"),
            ("{A} lives in {H}", "{A} lives in {HC}"),
            ("{A} is a {J}", "{A} [uses a {O}|works in a {G}]"),
            ("{A} keeps a {P}", "{A} keeps a {Q}"),
            ("{A} was born in {T}", "the mother tongue of {A} is {L}"),
            ("{A} is married to {S}", "{S} is married to {A}"),
            ("{A} keeps a {P}", "{A} keeps an animal"),
        ]
        if x["age"] != y["age"]:
            old, new = sorted((x, y), key=lambda person: -int(person["age"]))
            ages = [f"{old['A']} is [older|more aged] than {new['A']}", f"{new['A']} is younger than {old['A']}"]
            w.rng.shuffle(ages)
            pairs += [tuple(ages), (f"{old['A']} is {old['N']} and {new['A']} is {new['N']} years old", ages[0])]
        tall, short = (person["A"] for person in sorted((x, y), key=lambda person: -int(person["height"])))
        heights = (f"{tall} is taller than {short}", f"{short} is shorter than {tall}")
        pairs.append(heights if w.random() < 0.5 else heights[::-1])
        for first, then in w.rng.sample(pairs, 3):
            lines.append(w.line(w.choice(words.SO).replace("{0}", first).replace("{1}", then), **x))
        if wrong != x["C"]:
            lines.append(w.line("{A} was [not born in {w}, but in {C}|born in {C} and not in {w}]", w=wrong, **x))
    return lines


def story(w: Writer) -> list[Sentence]:
    """A story in which a thing changes hands and people act, so that its last owner can be inferred."""
    trio = owner, b, _ = w.people(3)
    first, second, town, thing = owner["A"], b["A"], w.entity("town")["A"], w.thing()
    place, day = w.pick(words.PLACES), w.pick(words.DAYS)
    meeting = w.choice(
        (
            "on {d}, {A} met {B} {x} in {T}",
            "{A} and {B} met {x} in {T} on {d}",
            "it was {d} when {A} ~visited {B} in {T}",
        )
    )
    asked = [(f"On which day did {first} meet {second}?", day), (f"In which town did {first} and {second} meet?", town)]
    lines = [
        w.line(meeting, asked, A=first, B=second, T=town, d=day, x=place),
        w.line("[at first|in those days|that ~afternoon] {A} had {O}", A=first, O=thing),
    ]
    for _ in range(w.rng.randint(2, 4)):
        event = w.random()
        if event < 0.55:
            other = w.choice([person for person in trio if person is not owner])
            lines += _change(w, owner, other, thing)
            owner = other
        elif event < 0.8:
            verb, who = w.deed(), w.choice(trio)["A"]
            passive, place, day = w.random() < 0.5, w.where(), w.pick(words.DAYS) if w.random() < 0.3 else ""
            lines.append(w.action(verb, who, w.thing(), passive, place, day))
        else:
            who, goal, (reason, *_) = w.choice(trio), w.entity("town")["A"], w.pick(words.WEATHER)
            lines.append(
                w.line(
                    "[~soon|later|after that] {A} ~walked to {T}. {p} ~stayed there because of the {r}",
                    [(f"Where did {who['A']} go?", goal)],
                    **who | {"T": goal, "r": reason},
                )
            )
    return lines + [
        w.line(
            "[in the end|so|finally] {A} [had|was the owner of] {O}",
            [(f"Who had {thing} in the end?", owner["A"])],
            A=owner["A"],
            O=thing,
        )
    ]


def _change(w: Writer, owner: Entity, other: Entity, thing: str) -> list[Sentence]:
    """Lines in which a thing goes from its owner to another person, sometimes with a consequence."""
    kind = w.rng.randrange(len(words.TRANSFERS))
    lines = [w.transfer(kind, A=owner["A"], B=other["A"], O=thing)]
    if w.random() < 0.5:
        glad, sad = (w.pick(side) for side in words.PERSON_PAIRS[0])
        mood = f"{other['p']} was ~very {glad}" if kind < 4 else f"{owner['p']} was ~very {sad} about the ~thief"
        after = (f"now {other['A']} had {thing}", "{A} [no longer had {O}|was left without {O}]", mood)
        lines.append(w.line(w.choice(after), A=owner["A"], O=thing))
    return lines


def restatement(w: Writer) -> list[Sentence]:
    """Statements repeated in other words, or denied in opposite words."""
    lines: list[Sentence] = []
    for _ in range(w.rng.randint(2, 4)):
        kind, a, b, o = w.choice("tpaxjqhh"), w.entity("person")["A"], w.who(), w.thing()
        again, deny = w.choice(words.AGAIN), ". " + w.choice(words.NOT)
        if kind in "tp":
            lines += _properties(w, a if kind == "p" else "", again)
        elif kind == "a":
            x, y = w.two(w.pick(words.ACTIONS))
            first, then = w.two([f"{b} {x} {o}", f"{b} {y} {o}", f"{o} was {y} by {b}", f"it was {b} who {y} {o}"])
            lines.append(w.line(first + again + then))
            lines.append(
                w.line(
                    first + deny + then.replace(b, w.entity("person")["A"])
                    if w.random() < 0.4
                    else f"to say that something was {x} is to say that it was {y}"
                )
            )
        elif kind == "x" and a != b:
            first, then = w.two(w.choice(words.TRANSFERS)[0])
            swapped = then.translate(str.maketrans("AB", "BA"))
            lines += [w.line(text, A=a, B=b, O=o) for text in (first + again + then, first + deny + swapped)]
        elif kind == "q":
            lines += _questions(w)
        elif kind == "h":
            lines.append(generality(w, a)[0])
        else:
            trade = w.entity("trade")
            names = [trade["A"], trade["a"]]
            w.rng.shuffle(names)
            verb = w.deed()
            lines.append(w.line(f"the {names[0]} {verb} {o}{again}the {names[1]} {verb} {o}"))
    return lines


def _properties(w: Writer, person: str, again: str) -> list[Sentence]:
    """Lines with synonyms and opposites, about a person or an object."""
    pair = w.pick(words.PERSON_PAIRS if person else words.THING_PAIRS)
    same, other = pair if w.random() < 0.5 else pair[::-1]
    x, y = w.two(same)
    subject = person or f"the {w.entity('object')['A']}"
    return [
        w.line(f"{subject} was {x}{again}{subject} was {y}"),
        w.line(
            w.choice(
                (
                    f"{subject} was not {w.choice(other)}",
                    f"the opposite of {x} is {w.choice(other)}",
                    f"{w.choice(same)} is not the same as {w.choice(other)}",
                )
            )
        ),
    ]


def _questions(w: Writer) -> list[Sentence]:
    """One question asked in two ways, and its answer."""
    fact = w.any_fact()
    (first, answer), (then, _) = w.two(fact.qa)
    return [
        w.line(f"{first} [in other words,|that is,|to put it differently,] {then[0].lower() + then[1:]}"),
        Sentence(polish(answer) if w.random() < 0.5 else fact.text),
    ]


def generality(w: Writer, a: str) -> tuple[Sentence, str, str, str]:
    """A line saying that the low statement implies the high one, then the low, the high and another high statement."""
    sort, low, high, verbs = w.choice(
        (
            ("object", "A", "Q", w.pick(words.ACTIONS)),
            ("animal", "a", "Q", ["saw", "fed", "heard"]),
            ("food", "A", "Q", ["ate", "cooked", "sold"]),
            ("town", "A", "C", ["stayed", "was seen"]),
        )
    )
    x, y = w.entity(sort), w.entity(sort)
    start = f"{a} {w.choice(verbs)} " + {"food": "", "town": "in "}.get(sort, "a ")
    special, general, other = start + x[low], start + x[high], start + y[high]
    text = f"{special}[, so |. in other words, |. this means that ]{general}"
    if general != other and w.random() < 0.4:
        text = f"{special}. it is not true that {other}"
    return w.line(text), special, general, other


def opinion(w: Writer, good: bool, sort: list[str] | None = None, heavy: bool | None = None) -> str:
    """A sentence that judges something; a contrast ends on the judgement, a negation reverses it.

    ``sort`` is a row of ``ASPECTS``; ``heavy`` says whether the opinion matters much, little, or neither (``None``).
    """
    name, *aspects = sort or w.choice(words.ASPECTS)
    (x, y), (agree, oppose) = w.two(aspects), (words.GOOD, words.BAD) if good else (words.BAD, words.GOOD)
    text = w.say(w.choice(words.OPINIONS), k=name, x=x, y=y, g=w.pick(agree), h=w.pick(agree), b=w.pick(oppose))
    if heavy is None:
        return text
    return w.say(words.WEIGHTS[heavy] + (text if text.startswith("I ") else text[0].lower() + text[1:]))


def review(w: Writer) -> list[Sentence]:
    """Opinions about one thing that mostly agree, and a verdict that states the majority."""
    good, sort = w.random() < 0.5, w.choice(words.ASPECTS)
    (name, *aspects), author, lines = sort, w.entity("person")["A"], []
    if w.random() < 0.6:
        lines.append(
            w.line(
                "[last week|on {d}|yesterday] [I|we|my ~friend {A}] tried the [new|famous|old] {k} in {T}",
                k=name,
                A=author,
                d=w.pick(words.DAYS),
                T=w.entity("town")["A"],
            )
        )
    for _ in range(w.rng.randint(3, 6)):
        agrees, marked = w.random() < 0.88, w.random()
        heavy = agrees if marked < (0.25 if agrees else 0.6) else None
        lines.append(Sentence(opinion(w, agrees == good, sort, heavy)))
    if w.random() < 0.4:
        x, liked = w.choice(aspects), w.random() < 0.5
        lines.append(
            w.line(
                "{A} [thought|said] that the {x} was {g}, so {A} {v} it",
                A=author,
                x=x,
                g=w.pick((words.BAD, words.GOOD)[liked]),
                v=w.choice(words.TASTES[liked]),
            )
        )
    lines.append(w.line(words.VERDICTS[good], k=name))
    if w.random() < 0.3:
        lines.insert(0, lines.pop())
    return lines


def dialogue(w: Writer) -> list[Sentence]:
    """A dialogue of two people, with questions and answers about facts."""
    a, b = (person["A"] for person in w.people())
    lines = [w.line("{A} and {B} [were talking|sat|talked] {x}", A=a, B=b, x=w.pick(words.PLACES))]
    for _ in range(w.rng.randint(2, 4)):
        fact = w.any_fact()
        question, answer = w.choice(fact.qa)
        reply = fact.text[:-1] if w.random() < 0.6 else answer
        lines.append(Sentence(f'"{question}" asked {a}.'))
        lines.append(Sentence(w.say(f'"{reply},"') + f" {w.choice(words.SYNONYMS['said'])} {b}."))
        if w.random() < 0.3:
            a, b = b, a
    return lines


def quiz(w: Writer) -> list[Sentence]:
    """A passage, then questions about it with their answers."""
    lines = w.choice((article, story))(w)[:5]
    asked = [w.choice(line.qa) for line in lines if line.qa]
    return lines + [Sentence(f"Question: {q} Answer: {a}.") for q, a in w.rng.sample(asked, min(3, len(asked)))]


def habits(w: Writer) -> list[Sentence]:
    """Sentences that show agreement, tense and number, sometimes with a sum."""
    lines = [Sentence(w.clause()) for _ in range(w.rng.randint(4, 8))]
    if w.random() < 0.5:
        who, things = w.entity("person"), with_s(w.entity("object")["A"])
        n, k = w.rng.randint(2, 9), w.rng.randint(1, 9)
        lines.append(
            w.line(
                "{A} had {n} {o}. {p} [bought|found|got] {k} more. now {p} had {m} {o}",
                **who,
                o=things,
                n=number(n),
                k=number(k),
                m=number(n + k),
            )
        )
    return lines


def weather(w: Writer) -> list[Sentence]:
    """Lines about the weather in some towns and what people did because of it."""
    lines = []
    for _ in range(w.rng.randint(2, 3)):
        town, who, (noun, adjective, deed) = w.entity("town"), w.entity("person"), w.pick(words.WEATHER)
        lines.append(
            w.line(
                "[there was {n}|it was {j}] in {t} on {d}. because of the {n}, {A} {x}",
                n=noun,
                j=adjective,
                x=deed,
                t=town["A"],
                d=w.pick(words.DAYS),
                **who,
            )
        )
        lines.append(
            w.line(
                "[~soon|~often|~suddenly|later] {p} met a ~friend on the ~road and ~happily gave {him} a ~gift", **who
            )
        )
    return lines


def schema(w: Writer) -> tuple[str, str, str, str]:
    """A text whose pronoun one word decides, its last clause, the right referent and the wrong one."""
    text, deciding, right, opposite = w.choice(words.SCHEMAS)
    wrong = "AB".replace(right, "")
    if w.random() < 0.5:
        deciding, right, wrong = opposite, wrong, right
    if "{a}" in text:
        x, y, pronoun = "the " + w.entity("object")["A"], "the " + w.entity("object")["A"], "it"
    else:
        a, b = w.people()
        while a["p"] != b["p"]:
            a, b = w.people()
        x, y, pronoun = a["A"], b["A"], a["p"]
    names = {"A": x, "B": y}
    text = w.say(f"{text} {w.choice(deciding.split())}", a=x, b=y, p=pronoun, **names)
    return text, text.split(f" because {pronoun} ")[1][:-1], names[right], names[wrong]


def riddles(w: Writer) -> list[Sentence]:
    """Lines with pronouns, and with the referents of the pronouns."""
    lines = []
    for _ in range(w.rng.randint(2, 4)):
        text, reason, right, wrong = schema(w)
        full = f"{right} {reason}"
        last = full if right.startswith("the ") else f"it was {right} and not {wrong} who {reason}"
        told = w.say(w.choice((full, f"that is, {full}", f"in other words, {full}", last)))
        lines.append(Sentence(f"{text} {told}"))
    return lines


KINDS = (
    article,
    article,
    article,
    inference,
    inference,
    story,
    story,
    restatement,
    restatement,
    review,
    review,
    dialogue,
    quiz,
    habits,
    weather,
    riddles,
)


def document(index: int, seed: int = 0) -> str:
    """Document ``index``, 5 to 12 lines of one or more kinds: a pure function of ``(seed, index)``."""
    w = Writer(f"{seed}/document/{index}")
    lines = w.choice(KINDS)(w)
    while len(lines) < 5:
        lines += w.choice(KINDS)(w)
    return " ".join(line.text for line in lines[:12])


def documents(n: int | None = None, *, start: int = 0, seed: int = 0) -> Iterator[str]:
    """The documents ``start``, ``start + 1``, …: ``n`` of them, or endlessly many."""
    return (document(i, seed) for i in (itertools.count(start) if n is None else range(start, start + n)))


def train_tokenizer(vocab_size: int = 3072, n_documents: int = 20000, seed: int = 0) -> PreTrainedTokenizerFast:
    """A lower-casing BERT WordPiece tokenizer, trained on the world's documents, with the same bytes each time.

    About 2,300 words occur in the world; with 3,072 pieces, common words are whole and rare words are split in two.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    first = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,;:?!'\"-()", *letters, *(f"##{x}" for x in letters)]
    model = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    model.normalizer, model.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    # All one-letter pieces come first, so that their order, and thus the order of ties, is fixed.
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=first, show_progress=False)
    model.train_from_iterator(documents(n_documents, seed=seed), trainer)
    vocabulary = sorted(model.get_vocab(), key=model.token_to_id)
    return BertTokenizerFast(
        vocab={piece: i for i, piece in enumerate(vocabulary)}, do_lower_case=True, model_max_length=512
    )
