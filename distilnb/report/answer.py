"""The answer from the records of one scale: whether the student keeps 97 %, beside what, and what each loss does.

Every number and sentence follows from records; whatever has no record is called open. Shares are over the tasks on
which the teacher itself beats the majority baseline (`retention`), because on other tasks there is nothing to keep.
"""

from collections.abc import Mapping
from pathlib import Path

from .. import scales
from ..evidence.names import MASKED
from ..evidence.statistics import MeanInterval
from ..studies import ablation
from ..tasks import glue
from . import tables
from .grouping import grouped_cells, still_grouped
from .retention import STANDING, Records, Retained, by_model, claimed_share, failed_teachers

PUBLISHED = "published"  # no student: where the paper's share lies from it is not asked
MODELS = {
    "student": "the student",
    "student_2": "a student of another distillation seed",
    "undistilled": "its twin: the same start, as many tokens without a teacher",
    "undistilled_2": "a twin of another distillation seed",
    "untrained": "the start itself, not trained",
    "scratch": "random weights, as many tokens without a teacher",
    "random": "random weights, not trained",
    PUBLISHED: "the encoder as published, before its head",
}
LIMITS = (
    "This speaks of one teacher and of one student of each kind: the intervals are over seeds of fine-tuning, not over "
    "teachers, texts or distillations. " + STANDING
)


def answer(records: Records, scale: str = "small") -> str:
    """The answer in Markdown: a paragraph, a table of shares, and the losses one by one."""
    kept = by_model(records, scale)
    if "student" not in kept:
        return f"{_subject(records, scale)} Its answer is open: there are no records of teacher and student yet."
    student = kept["student"]
    caveats = [failed_teachers(records, student), *_former(records, kept), *_edge(records, student)]
    opening = " ".join(filter(None, [_subject(records, scale), *_told(kept), *caveats]))
    return "\n\n".join([opening, _shares(kept), _losses(records, scale), LIMITS])


def _subject(records: Records, scale: str) -> str:
    dial = scales.get(scale)
    made = [r for r in records if r["kind"] == "teacher" and r["scale"] == scale and r.get("made_from")]
    name = f"{dial.teacher}, itself a distilled one" if dial.encoder else Path(dial.teacher).name
    learned = f", made a masked language model on {made[0]['tokens'] / 1e6:.0f} M tokens" if made else ""
    return f"**Scale {scale}** is the paper's step done to another, smaller BERT: {name}{learned}, halved in depth."


def _told(kept: Mapping[str, Retained]) -> list[str]:
    """The sentences on the student's share, and on its lead over the twin."""
    student, twin = kept["student"], kept.get("undistilled")
    titles, one = ", ".join(glue.TASKS[task].title for task in student.tasks), len(student.tasks) == 1
    sentences = [
        f"Of GLUE's {len(glue.GLUE)} tasks {student.run} {'was' if student.run == 1 else 'were'} run on all rows; the "
        f"teacher is above the majority on {titles}. {'There' if one else 'Over these'} the student keeps "
        f"**{student}** of its teacher's score; {student.where()}."
    ]
    if twin and twin.lead.low is not None:
        sentences.append(
            f"It is {twin.standing} its twin, which went on without a teacher: {_points(twin.lead)} points."
        )
    return sentences


def _former(records: Records, kept: Mapping[str, Retained]) -> list[str]:
    """The sentence on tasks of which runs of the models compared still have rows of like length in their batches."""
    student = kept["student"]
    titles = ", ".join(still_grouped(records, student.scale, student.tasks, ("teacher", *kept)))
    return [f"The runs of {titles} still have rows of like length in their batches."] if titles else []


def _edge(records: Records, student: Retained) -> list[str]:
    """The sentence on models that did best at the highest learning rate of their list."""
    runs = [r for r in records if (r["kind"], r["scale"]) == ("finetuning", student.scale) and r.get("selection")]
    best = {(r["task"], r["model"]) for r in runs if r["selection"]["chosen"] == max(r["selection"]["learning_rates"])}
    told = [
        f"{', '.join(models)} on {glue.TASKS[task].title}"
        for task in student.tasks
        if (models := [model for model in ("teacher", *MODELS) if (task, model) in best])
    ]
    who = "; ".join(told)
    return [f"The highest learning rate tried was the best, and a higher one may be better, for {who}."] if told else []


def _points(lead: MeanInterval) -> str:
    return tables.signed_interval(*lead[:3])


def _shares(kept: Mapping[str, Retained]) -> str:
    """The table of shares, and below it the models that have no records on all of these tasks."""
    rows = [
        {
            "model": words,
            "% of the teacher's score": str(kept[model]).removesuffix(" %"),
            f"{claimed_share()} inside?": _inside(kept[model]),
            "student's lead over it, points": "–" if model == "student" else tables.lead(kept[model]),
            "seeds": kept[model].seeds,
        }
        for model, words in MODELS.items()
        if model in kept
    ]
    whole = scales.get(kept["student"].scale).encoder  # elsewhere the teacher itself is what was published
    missing = [words for model, words in MODELS.items() if model not in kept and (whole or model != PUBLISHED)]
    return tables.table(rows) + (f"\n\nNot run on all of them yet: {'; '.join(missing)}." if missing else "")


def _inside(kept: Retained) -> str:
    """Whether the paper's share lies in the interval of a student."""
    if kept.model == PUBLISHED or not kept.place:
        return "–"
    return {"inside": "yes", "open": "cannot be told"}.get(kept.place, f"no, {kept.place}")


def _losses(records: Records, scale: str) -> str:
    rows = tables.table4_rows(records, scale)
    if not rows:
        return "What each loss does (Table 4) is not run yet."
    by_sign: dict[str, list[str]] = {}
    for row in rows:
        by_sign.setdefault(tables.sign(row), []).append(f"{row['title']} {tables.difference(row)}")
    words = {
        "as in the paper": "With the paper's sign beyond noise",
        "the opposite": "With the opposite sign beyond noise",
        "within noise": "Within noise",
        "–": f"With too few pairs to say ({ablation.pairs_told(rows)})",
    }
    batches = grouped_cells(records, scale).removeprefix("; ")
    over = f" ({batches})" if batches else ""
    return (
        f"What each loss does (Table 4), left out one at a time{over}:\n\n"
        + "\n".join(f"- {words[sign]}: {'; '.join(lines)}" for sign, lines in by_sign.items())
        + f"\n\n{_read(records, scale)}"
    )


def _read(records: Records, scale: str) -> str:
    """The sentence on what each loss, and each value of a further axis, does to the loss on held-out text."""
    rows = tables.grid_rows(records, scale, MASKED.loss)[1:]
    changes = "; ".join(f"{row['title']} {tables.difference(row)}" for row in rows)
    return (
        f"On held-out text, whose masks hide all words alike, the loss changes by, in nats "
        f"({ablation.pairs_told(rows)}; below 0 is better): {changes}."
    )
