"""Scores on tasks by scale, task, model and seed, and what models keep of their teacher's, seed by seed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from ..evidence import paper
from ..evidence.comparing import check_comparable, is_subset
from ..evidence.names import rank
from ..evidence.statistics import MeanInterval, mean_interval
from ..tasks import finetuning, glue

Records = Sequence[Mapping[str, Any]]
REAL = ("small", "mini")  # the scales with real text and tasks that need no GPU, the most telling first
STANDING = (  # what the results of the small scales can say, in one wording for all documents
    "`small` is the paper's step done to another, smaller BERT, halved in depth: it can support or weaken the method's "
    "claim for such encoders, and is no verdict on the paper's own numbers, which are BERT-base's. `mini` and `toy` "
    "show the method at work and are **not evidence**; the world of `toy` is invented."
)
ALL = "all"  # the choice of tasks that takes all that ran
LEARNED = "teacher above majority"  # the choice of tasks that counts: on others there is nothing to keep
ONE_SEED = "by one seed not to be told from"
WIDE = 20  # points: what lies inside an interval wider than this may be chance


def rows_of(record: Mapping[str, Any]) -> tuple[int, ...]:
    """How many rows of its task a fine-tuning run learned from and was scored on; () where a record does not say."""
    return tuple((record["data"].get("rows") or {}).values())[:2]


def on_most_rows(records: Records) -> Records:
    """These records without the fine-tuning runs that had fewer rows than another of their scale and task.

    On fewer rows it is another task, with rows of its own in tables and no place in a cell or a figure.
    """
    tuned = [r for r in records if r["kind"] == "finetuning"]
    most: dict[tuple[str, str], tuple[int, ...]] = {}
    for r in tuned:
        most[r["scale"], r["task"]] = max(rows_of(r), most.get((r["scale"], r["task"]), ()))
    return [r for r in records if r["kind"] != "finetuning" or rows_of(r) == most[r["scale"], r["task"]]]


def baseline(run: Mapping[str, Any]) -> float:
    """The score of the best constant answer to the rows of a fine-tuning run; nan for a task that has none, as SQuAD.

    Older records state the commonest label's. Where that is the negative one, its F1 is 0, half of its mean with
    accuracy is half of the negatives' share, and answering always positive may score more. A record of the best
    constant states at least 0.36 there, and is read as it is.
    """
    stated = run["scores"].get("majority", float("nan"))
    task = glue.TASKS.get(run["task"])
    if task is None or task.main != "accuracy+f1" or not stated < 0.5:
        return stated
    positives = 1 - 2 * stated
    return max(stated, (positives + 2 * positives / (1 + positives)) / 2)


def scores_frame(records: Records) -> pd.DataFrame:
    """One row for each fine-tuning record: scale, task, model, seed, main score and `baseline` in points, and the
    `rows_of` its task; the baseline is nan for SQuAD, which has none."""
    cell, rows = ("scale", "task", "model", "seed"), []
    for record in (r for r in records if r["kind"] == "finetuning"):
        points = 100 * record["scores"].get("main", float("nan")), 100 * baseline(record)
        rows.append((*(record[key] for key in cell), *points, is_subset(record), rows_of(record)))
    return pd.DataFrame(rows, columns=[*cell, "main", "majority", "subset", "rows"])


class Retained(NamedTuple):
    """The share of its teacher's macro score that a model keeps, in percent over common seeds, over some tasks of those
    (`run`) that were run in full; `lead` is the student's lead over the model, in points over `pairs` of seeds."""

    scale: str
    model: str
    choice: str
    tasks: list[str]
    run: int
    seeds: int
    share: MeanInterval
    pairs: int
    lead: MeanInterval

    def __str__(self) -> str:
        """The share with its interval, such as "97.7 [91.4–104.0] %"."""
        low, high = self.share.low, self.share.high
        return f"{self.share.mean:.1f}" + ("" if low is None else f" [{low:.1f}–{high:.1f}]") + " %"

    @property
    def standing(self) -> str:
        """How the student stands to the model, by the interval of its lead: "ahead of", "behind", else "level with";
        `ONE_SEED` where there is no interval."""
        if self.lead.low is None:
            return ONE_SEED
        return "ahead of" if self.lead.low > 0 else "behind" if self.lead.high < 0 else "level with"

    @property
    def place(self) -> str:
        """Where the paper's share lies from the interval: "above", "below", "inside", or "open" inside one wider than
        `WIDE`; "" for a single seed."""
        claimed, low, high = claimed_share(), self.share.low, self.share.high
        if low is None:
            return ""
        if low <= claimed <= high:
            return "inside" if high - low <= WIDE else "open"
        return "above" if high < claimed else "below"

    def where(self) -> str:
        """The sentence part on whether the paper's share lies in the interval."""
        if not self.place:
            return "one seed has no interval"
        if self.place == "open":
            return f"{self.seeds} seeds cannot tell whether that is the paper's {claimed_share()} %"
        return f"the paper's {claimed_share()} % lies {self.place} that interval"


def claimed_share() -> int:
    """The share in percent that the paper claims, computed from its own macro scores."""
    return round(100 * paper.glue("DistilBERT", "macro") / paper.glue("BERT-base", "macro"))


def retention(records: Records) -> list[Retained]:
    """The shares of each scale's models, over three choices of the tasks that teacher and student ran in full: all,
    without WNLI, and those on which the teacher beats the majority (`beats_majority`).

    A model that lacks one of these tasks is left out, and so is one that is refused (`why_refused`). Runs on a part of
    a task's official rows are another task.
    """
    whole = in_full(records)
    frame, kept = scores_frame(whole), []
    for scale, cells in frame.groupby("scale", sort=False):
        points = _points(cells)
        others = sorted(set(cells["model"]) - {"teacher"}, key=rank)
        first = "student" if "student" in others else (others or ["teacher"])[0]
        both = [task for task in glue.GLUE if {("teacher", task), (first, task)} <= set(points.columns)]
        teacher = [r for r in whole if (r["scale"], r["model"]) == (scale, "teacher")]
        choices = {
            ALL: both,
            "without WNLI": [task for task in both if task != "wnli"] if "wnli" in both else [],
            LEARNED: [task for task in both if beats_majority([r for r in teacher if r["task"] == task])],
        }
        for model in (model for model in others if not why_refused(whole, scale, model)):
            for choice, tasks in choices.items():
                if tasks and {(model, task) for task in tasks} <= set(points.columns):
                    found = _share(points, model, tasks)
                    if found["seeds"]:
                        kept.append(Retained(scale, model, choice, tasks, len(both), **found))
    return kept


def why_refused(records: Records, scale: str, model: str) -> str:
    """The sentence on runs of a model, of its teacher and of the student that must not be compared; "" without such."""
    runs = [r for r in in_full(records) if r["scale"] == scale and r["model"] in ("teacher", "student", model)]
    for task in glue.GLUE:
        try:
            check_comparable([r for r in runs if r["task"] == task], settings)
        except ValueError as error:
            return str(error)
    return ""


def settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that must be equal in a comparison on one task; learning rates chosen from one list may differ."""
    config = {key: value for key, value in finetuning.recorded_config(run["config"]).items() if key != "seed"}
    if run.get("selection"):
        config["learning_rate"] = run["selection"]["learning_rates"]
    return {"config": config, "data": run["data"]["fingerprint"], "precision": run.get("precision")}


def in_full(records: Records) -> Records:
    """The fine-tuning runs on all rows of one of GLUE's tasks."""
    tuned = [r for r in records if r["kind"] == "finetuning" and r["task"] in glue.GLUE and not is_subset(r)]
    return on_most_rows(tuned)


def by_model(records: Records, scale: str, choice: str = LEARNED) -> dict[str, Retained]:
    """The shares at one scale over one choice of tasks, those on which the teacher beats the majority, by model."""
    return {kept.model: kept for kept in retention(records) if (kept.scale, kept.choice) == (scale, choice)}


def failed_teachers(records: Records, kept: Retained) -> str:
    """The sentence on runs of the teacher behind a share that are no better than the majority, and on the share of the
    same tasks without their seeds; "" without such a run."""
    own = [r for r in in_full(records) if r["scale"] == kept.scale and r["task"] in kept.tasks]
    shared = _macros(_points(scores_frame(own)), kept.tasks, "teacher", kept.model).index
    own = [r for r in own if r["seed"] in shared]
    failed = [r for r in own if r["model"] == "teacher" and r["scores"]["main"] <= baseline(r)]
    if not failed:
        return ""
    seeds = {r["seed"] for r in failed}
    which = "; ".join(f"{glue.TASKS[r['task']].title}, seed {r['seed']}" for r in failed)
    told = f"The teacher is no better than a constant answer in {len(failed)} of its runs ({which})"
    points = _points(scores_frame([r for r in own if r["seed"] not in seeds]))
    left = kept._replace(**_share(points, kept.model, kept.tasks))
    if not left.seeds:
        return f"{told}."
    more = round(kept.share.mean, 1) - round(left.share.mean, 1)
    moves = "raises" if more > 0 else "lowers" if more < 0 else "does not change"
    these = "this seed" if len(seeds) == 1 else "these seeds"
    return f"{told}, which {moves} the share: without {these} it is {left}, and {left.where()}."


def beats_majority(runs: Records) -> bool:
    """Whether fine-tuning runs of one model on one task are above the majority baseline beyond both kinds of noise: on
    average beyond their interval over seeds, and more than half of them beyond their own interval over rows.

    False for a task without such a baseline, as SQuAD.
    """
    scored = [run for run in runs if not pd.isna(baseline(run))]
    if not scored:
        return False
    over = mean_interval([run["scores"]["main"] - baseline(run) for run in scored])
    beyond_rows = sum(run["interval"][0] > baseline(run) for run in scored)
    return (over.mean if over.low is None else over.low) > 0 and beyond_rows > len(scored) / 2


def _points(cells: pd.DataFrame) -> pd.DataFrame:
    """The main scores of `scores_frame` by seed, with a column for each model and task."""
    return cells.pivot_table(index="seed", columns=["model", "task"], values="main")


def _macros(points: pd.DataFrame, tasks: list[str], *models: str) -> pd.DataFrame:
    """The macro scores of models over these tasks, by the seeds that have all of them."""
    columns = [(who, task) for who in dict.fromkeys(models) for task in tasks]
    whole = points.reindex(columns=pd.MultiIndex.from_tuples(columns)).dropna()
    return pd.DataFrame({who: whole[who].mean(axis=1) for who in dict.fromkeys(models)})


def _share(points: pd.DataFrame, model: str, tasks: list[str]) -> dict[str, Any]:
    """The number of `seeds` that teacher and model have on all tasks, and the `share`; the number of `pairs` of student
    and model, and the student's `lead` in points."""
    ours, leads = (_macros(points, tasks, other, model) for other in ("teacher", "student"))
    share = mean_interval(list(100 * ours[model] / ours["teacher"]))
    lead = mean_interval(list(leads["student"] - leads[model]))
    return {"seeds": len(ours), "share": share, "pairs": len(leads), "lead": lead}
