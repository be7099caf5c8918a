"""Names that records, tables and figures share: runs, objectives, and roles in the order in which they are compared."""

from collections.abc import Mapping
from typing import Any, NamedTuple

REHEARSAL = "rehearsal"  # the scale of runs that began from random weights; they fill no table
ROLES = {  # what a record calls a model → what people call it
    "released": "released DistilBERT",
    "published": "the encoder as published",
    "teacher": "teacher",
    "student": "student",
    "student_2": "student of another seed",
    "student_d": "student, taught twice (D)",
    "undistilled": "twin without a teacher",
    "undistilled_2": "twin of another seed",
    "undistilled_d": "twin, taught the task",
    "scratch": "random start, text alone",
    "untrained": "the start, untrained",
    "random": "random weights",
}
RUNS = {"distil": "student", "undistilled": "undistilled", "scratch": "scratch", "teacher": "teacher"}


def pretraining_run(role: str, scale: str, number: int = 1) -> str:
    """The name of the run that makes a role's model, such as "distil-mini", or "distil-mini-2" for a second one."""
    prefix = next(prefix for prefix, made in RUNS.items() if made == role)
    return f"{prefix}-{scale}" + (f"-{number}" if number > 1 else "")


def finetuning_run(scale: str, label: str, task: str, which: str = "seed0") -> str:
    """The name of a fine-tuning run, such as "finetuning-mini-student-sst2-seed0"."""
    return f"finetuning-{scale}-{label}-{task}-{which}"


def ablation_grid(scale: str) -> str:
    """The name of a scale's ablation, which is also the prefix of its cells' names."""
    return f"ablation-{scale}"


def benchmark_run(scale: str, shape: str) -> str:
    """The name of a benchmark, such as "benchmark-base-pairs"."""
    return f"benchmark-{scale}-{shape}"


def role_of(name: str) -> str:
    """The role in a run's name, such as "student" for "distil-mini"; any other name is returned unchanged."""
    return RUNS.get(name.split("-")[0], name) if "-" in name else name


def human_name(name: str) -> str:
    """The name that people read for a role or for the model of a run; an unknown name is returned unchanged."""
    return ROLES.get(role_of(name), name)


def rank(name: str) -> int:
    """The place of a role in the order of comparison; unknown names come last."""
    return list(ROLES).index(name) if name in ROLES else len(ROLES)


class Objective(NamedTuple):
    """A training objective on plain text; `term` names its loss in formulas, curves and scores."""

    term: str
    words: str
    title: str

    @property
    def loss(self) -> str:
        """The name of its held-out loss among the scores of a record."""
        return f"{self.term}_loss"


MASKED = Objective("mlm", "masked words", "held-out MLM loss")
CAUSAL = Objective("clm", "next words", "held-out loss of the next word")
OBJECTIVES = {"masked": MASKED, "causal": CAUSAL}


def objective_of(record: Mapping[str, Any]) -> Objective:
    """The objective of a record's model; the first records of GPT-2 call their next-word loss mlm_loss."""
    causal = CAUSAL.loss in {*(record.get("scores") or ()), *(record.get("evaluations") or ())}
    causal = causal or (record.get("made_from") or {}).get("family") == "GPT-2"
    return CAUSAL if causal else MASKED


def held_out_loss(scores: Mapping[str, Any] | None) -> Any:
    """The held-out loss among scores or evaluation columns, under any objective; None where there is none."""
    scores = scores or {}
    return next((scores[each.loss] for each in OBJECTIVES.values() if each.loss in scores), None)


def tokens_before(record: Mapping[str, Any]) -> int:
    """The tokens that a student had seen in earlier runs before this one; 0 for a new student."""
    return (record.get("made_from") or {}).get("tokens_before") or 0


def tokens_learned(record: Mapping[str, Any]) -> int:
    """The tokens that a model has learned from, in the recorded run and in those before it."""
    return record["tokens"] + tokens_before(record)
