"""The answer in one paragraph, from the records of one scale: whether the student keeps 97 %, and what each loss does.

Every number and sentence follows from records; whatever has no record is called open. Shares are of the teacher's
macro score, paired by seed, over the tasks on which the teacher itself beats the majority baseline, because on other
tasks there is nothing to keep.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import scales
from ..evidence import paper
from ..evidence.comparing import is_subset
from ..evidence.names import ablation_grid
from ..evidence.statistics import MeanInterval, mean_interval
from ..studies import ablation
from ..tasks import glue, metrics
from . import tables

Records = Sequence[Mapping[str, Any]]
OTHER_MODELS = {
    "student_2": "a student of another distillation seed",
    "undistilled": "the same start trained as long without a teacher",
    "untrained": "the start itself, not trained",
    "scratch": "random weights, trained as long without a teacher",
    "random": "random weights, not trained",
}
NOT_RUN = "; not run yet: "


class Retention(NamedTuple):
    """The share of its teacher's macro score over `tasks` that a model keeps, in percent over paired seeds; `behind` is
    the student's lead over the model, in points."""

    model: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    share: MeanInterval
    behind: MeanInterval

    def __str__(self) -> str:
        """The share with its interval, such as "94.2 % [93.1 to 95.3], 5 seeds"."""
        spread = "" if self.share.low is None else f" [{self.share.low:.1f} to {self.share.high:.1f}]"
        return f"{self.share.mean:.1f} %{spread}, {len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"


def scores_of(records: Records, scale: str) -> dict[tuple[str, str, int], Mapping[str, float]]:
    """The scores of GLUE's tasks run in full, by (model, task, seed); subsets are left out as other tasks."""
    runs = [r for r in records if r["kind"] == "finetuning" and r["scale"] == scale and r["task"] in glue.GLUE]
    return {(r["model"], r["task"], r["seed"]): r["scores"] for r in runs if not is_subset(r)}


def kept(records: Records, model: str, scale: str = "small") -> Retention | None:
    """The retention of `model` against the teacher of this scale; None while a task has no pair of seeds."""
    scores = scores_of(records, scale)

    def seeds(who: str, task: str) -> set[int]:
        return {seed for m, t, seed in scores if (m, t) == (who, task)}

    def macro(who: str, seed: int) -> float:
        return 100 * metrics.macro({task: scores[who, task, seed]["main"] for task in chosen}, chosen)

    def above(task: str) -> bool:
        theirs = [scores["teacher", task, seed] for seed in seeds("teacher", task)]
        over = mean_interval([run["main"] - run["majority"] for run in theirs])
        return bool(theirs) and (over.mean if over.low is None else over.low) > 0

    chosen = [task for task in glue.GLUE if above(task)]
    if not chosen:
        return None
    common = {who: set.intersection(*(seeds(who, task) for task in chosen)) for who in (model, "teacher", "student")}
    paired = sorted(common[model] & common["teacher"])
    if not paired:
        return None
    share = mean_interval([100 * macro(model, seed) / macro("teacher", seed) for seed in paired])
    both = sorted(common[model] & common["student"])
    behind = mean_interval([macro("student", seed) - macro(model, seed) for seed in both])
    return Retention(model, tuple(chosen), tuple(paired), share, behind)


def answer(records: Records, scale: str = "small") -> str:
    """The answer as a Markdown paragraph."""
    student = kept(records, "student", scale)
    if student is None:
        return f"{_subject(records, scale)} Its answer is open: there are no records of teacher and student yet."
    return " ".join([_subject(records, scale), *_shares(records, student, scale), *_losses(records, scale), _limits()])


def _subject(records: Records, scale: str) -> str:
    dial = scales.get(scale)
    made = [r for r in records if r["kind"] == "teacher" and r["scale"] == scale and r.get("made_from")]
    name = f"{dial.teacher}, itself a distilled one" if dial.encoder else Path(dial.teacher).name
    learned = f", made a masked language model on {made[0]['tokens'] / 1e6:.0f} M tokens" if made else ""
    return f"**Scale {scale}** is the paper's step done to another, smaller BERT: {name}{learned}, halved in depth."


def _shares(records: Records, student: Retention, scale: str) -> list[str]:
    claimed = 100 * _claim()
    others = {model: kept(records, model, scale) for model in OTHER_MODELS}
    told = [f"{OTHER_MODELS[model]} {share}" for model, share in others.items() if share]
    missing = [OTHER_MODELS[model] for model, share in others.items() if not share]
    low, high = student.share.low, student.share.high
    where = (
        "one seed has no interval"
        if low is None
        else f"the paper's {claimed:.0f} % lies "
        + ("inside" if low <= claimed <= high else "above" if high < claimed else "below")
        + " that interval"
    )
    sentences = [
        f"Over {', '.join(glue.TASKS[task].title for task in student.tasks)}, where the teacher is above the majority, "
        f"the student keeps **{student}**; {where}.",
        f"Beside it: {'; '.join(told) or 'nothing yet'}{NOT_RUN + '; '.join(missing) if missing else ''}.",
    ]
    twin = others["undistilled"]
    if twin and twin.behind.low is not None:
        gain = twin.behind
        words = "is ahead of" if gain.low > 0 else "is behind" if gain.high < 0 else "cannot be told from"
        sentences.append(
            f"The student {words} its twin without a teacher: {tables.signed(gain.mean)} points "
            f"[{tables.signed(gain.low)}, {tables.signed(gain.high)}]."
        )
    return sentences


def _claim() -> float:
    """The share that the paper claims, computed from its own macro scores."""
    return round(paper.glue("DistilBERT", "macro") / paper.glue("BERT-base", "macro"), 2)


def _losses(records: Records, scale: str) -> list[str]:
    cells = [
        r for r in records if r["kind"] == "ablation" and r["scale"] == scale and r["grid"] == ablation_grid(scale)
    ]
    if ablation.REFERENCE not in {r["model"] for r in cells}:
        return ["What each loss does (Table 4) is not run yet."]
    rows = [row for row in ablation.compare(cells).rows if row["paper"] is not None]
    by_sign: dict[str, list[str]] = {}
    for row in rows:
        by_sign.setdefault(tables.sign(row), []).append(f"{row['title']} {tables.difference(row)}")
    words = {
        "as in the paper": "With the paper's sign beyond noise",
        "the opposite": "With the opposite sign beyond noise",
        "within noise": "Within noise",
        "–": "With too few pairs to say",
    }
    return [f"{words[sign]}: {'; '.join(lines)}." for sign, lines in by_sign.items()]


def _limits() -> str:
    return (
        "This speaks of one teacher and of one student of each kind: the intervals are over "
        "seeds of fine-tuning, not over teachers, texts or distillations. It can support or weaken the claim that the "
        "method keeps so much; it cannot reproduce the paper's numbers, which are BERT-base's."
    )
