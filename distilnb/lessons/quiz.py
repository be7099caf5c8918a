"""Five clickable questions for each notebook, from `data/quiz.toml`.

An answer is an HTML `<details>`, which opens at a click and says whether it is right, and why. It needs no script and
no kernel, so it works in Jupyter, on Colab, on GitHub and in the book.
"""

import hashlib
import html
import tomllib
from dataclasses import dataclass

from .. import paths


@dataclass(frozen=True)
class Choice:
    """One clickable answer and the text that it then shows."""

    text: str
    reply: str
    right: bool


@dataclass(frozen=True)
class Question:
    """A question with its answers, in the order in which they are shown."""

    ask: str
    answers: tuple[Choice, ...]


def questions(notebook: str) -> list[Question]:
    """The questions of a notebook ("02"); ValueError for a notebook without questions."""
    rows = tomllib.loads(paths.data("quiz.toml").read_text())["questions"]
    chosen = [_question(row) for row in rows if row["notebook"] == notebook]
    if not chosen:
        known = ", ".join(sorted({row["notebook"] for row in rows}))
        raise ValueError(f"there are no questions about notebook '{notebook}'; there are some about {known}")
    return chosen


def _question(row: dict) -> Question:
    answers = [Choice(*row["right"], right=True), *(Choice(*wrong, right=False) for wrong in row["wrong"])]
    # an order that is arbitrary but fixed
    answers.sort(key=lambda answer: hashlib.sha256(f"{row['ask']} {answer.text}".encode()).digest())
    return Question(row["ask"], tuple(answers))


def markdown(notebook: str) -> str:
    """The Markdown cell with the questions of a notebook."""
    parts = ["## Five questions\n\nClick an answer: it opens and says whether it is right, and why."]
    for number, question in enumerate(questions(notebook), start=1):
        answers = "\n".join(map(_details, question.answers))
        parts.append(f"**{number}.** {html.escape(question.ask, quote=False)}\n\n{answers}")
    return "\n\n".join(parts)


def _details(answer: Choice) -> str:
    text, reply = (html.escape(words, quote=False) for words in (answer.text, answer.reply))
    comment = f"<b>✓ Right.</b> {reply}" if answer.right else f"<b>✗ Not this one.</b> {reply}"
    return f'<details class="quiz"><summary>{text}</summary>{comment}</details>'
