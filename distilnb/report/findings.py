"""The README's summary of findings, in sentences computed from records and the paper's numbers."""

from typing import Any

from transformers import BertConfig

from .. import scales
from ..evidence import paper
from ..evidence.comparing import timed_pairs
from ..evidence.names import held_out_loss, pretraining_run
from ..models.arithmetic import parameter_groups
from ..models.student import student_config
from ..studies import chain
from ..studies.ablation import pairs_told
from ..studies.formats import KNOWN
from ..tasks import glue
from . import tables
from .grouping import grouped_cells, still_grouped
from .retention import ONE_SEED, REAL, Records, Retained, by_model, failed_teachers


def findings(records: Records) -> str:
    """A Markdown list of the findings in these records, each with a link to its notebook, without those not run."""
    parts = [about_size(records), about_speed(records), impossible_score(), missing_attention()]
    parts += [about_text(records), about_tasks(records)]
    return "\n".join(f"- {part}" for part in parts if part)


def _base_benchmarks(records: Records) -> list[dict[str, Any]]:
    """The benchmarks of the paper's models, the one of most pairs first."""
    runs = [r for r in records if r["kind"] == "benchmark" and r["scale"] == "base" and "weights" in r]
    return sorted(runs, key=timed_pairs, reverse=True)


def about_size(records: Records) -> str:
    """The sentence about the student's saving of parameters, counted at the paper's size."""
    runs = _base_benchmarks(records)
    if not runs:
        return ""
    scores = runs[0]["scores"]
    holds = abs(scores["smaller"] - paper.claim("smaller").value) <= 1
    return (
        f"**The size {'holds' if holds else 'does not hold'}.** {scores['parameters_teacher'] / 1e6:.1f} against "
        f"{scores['parameters_student'] / 1e6:.1f} million parameters, {scores['smaller']:.1f} % fewer; every one "
        "of them is predicted on paper first ([01](notebooks/01_student_initialization.ipynb))."
    )


def about_speed(records: Records) -> str:
    """The sentence about the student's speed-up in each format timed at the paper's size, beside the paper's 1.63."""
    runs = _base_benchmarks(records)
    ratios = [r["scores"][key] for r in runs for key in r["scores"] if key.startswith("ratio_")]
    if not ratios:
        return ""
    printed = paper.speed("BERT-base") / paper.speed("DistilBERT")
    low, high = min(ratios), max(ratios)
    half = "half the time" if 1.8 < low < high < 2.5 else "less time"
    which = "nothing of it gives" if not low <= printed <= high else "some of it gives"
    return (
        f"**Half the layers take {half}**: {low:.1f} to {high:.1f} times as fast in every format and shape that we "
        f"timed at the paper's size; {which} the paper's {printed:.2f} ([07](notebooks/07_size_and_speed.ipynb))."
    )


def impossible_score() -> str:
    """The sentence on whether DistilBERT's first RTE score can be a share of the rows of RTE's dev set."""
    printed, rows = paper.glue("DistilBERT", "rte", "2019-10"), glue.get_task("rte").rows["validation"]
    possible = {round(100 * right / rows, 1) for right in range(rows + 1)}
    if printed in possible:
        return ""
    near = sorted(possible, key=lambda share: abs(share - printed))[:2]
    return (
        f"**{printed} on RTE is the score of no single run**, and no median of five: of its {rows} rows one gets "
        f"{min(near)} or {max(near)} % right, never what the table of October 2019 prints; a mean over runs, "
        "or an evaluation that saw a part of the rows, would explain it ([09](notebooks/09_scorecard.ipynb))."
    )


def missing_attention() -> str:
    """The sentence about the content of the paper's phone file, found by adding up groups of weights to its size."""
    size = paper.claim("device_size").value
    files = paper.table("device_files").to_dict("records")
    file = next((row for row in files if round(row["bytes"] / 1e6) == size), None)
    if file is None:
        return ""
    groups = parameter_groups(student_config(BertConfig()), head="qa")
    predicted = sum(count * file[group] for group, count in groups.items())
    absent = [group for group in groups if not file[group] and groups[group] > 1e6]
    if abs(predicted / file["bytes"] - 1) > 0.001:
        return ""
    return (
        f"**{size:.0f} MB is a file without {' and '.join(absent)}**: the weights that remain add up to the "
        f"{file['bytes']:,} bytes of a model in the app's repository, but for {abs(file['bytes'] - predicted):,} "
        "([07](notebooks/07_size_and_speed.ipynb))."
    )


def format_of_the_phone(records: Records) -> str:
    """The sentence on which of the measured formats of a student of the paper's size, if any, takes its 207 MB: of one
    that answers questions, as the phone's does, and with another head in formats that were measured of that alone."""
    runs, claimed = _base_benchmarks(records), paper.claim("device_size").value
    sizes: dict[str, int] = {}
    heads: dict[str, str] = {}
    for r in sorted(runs, key=lambda r: r["task"] != "squad"):
        for form in (form for form in r["formats"] if form["model"] == "student" and form["format"] not in sizes):
            sizes[form["format"]] = form["bytes"]
            heads[form["format"]] = "" if r["task"] == "squad" else f" with the head of {glue.TASKS[r['task']].title}"
    if not sizes:
        return ""
    fit = [KNOWN[form].title for form, size in sizes.items() if claimed in (round(size / 1e6), round(size / 2**20))]
    order = sorted(sizes, key=sizes.get)
    told = ", ".join(f"{KNOWN[form].title} {sizes[form] / 1e6:.0f}{heads[form]}" for form in order)
    return (
        f"Which format makes {runs[0]['scores']['parameters_student'] / 1e6:.0f} million weights {claimed:.0f} MB? "
        f"{' and '.join(fit) or f'None of the {len(sizes)} that were measured'} (in MB: {told})."
    )


def about_text(records: Records) -> str:
    """The sentence on what the teacher is worth on text, against a twin that learned without one, at the most telling
    scale that was run."""
    for scale in REAL:
        losses = losses_of_twins(records, scale)
        if {"student", "undistilled"} <= losses.keys():
            pays = "pays" if losses["undistilled"] > losses["student"] else "does not pay"
            return (
                f"**Distillation {pays} on text** (scale {scale}, one seed each): held-out loss "
                f"{losses['student']:.2f} against {losses['undistilled']:.2f} of a twin, which starts from the same "
                "layers and reads as many tokens without a teacher ([03](notebooks/03_pretraining.ipynb))."
            )
    return ""


def losses_of_twins(records: Records, scale: str) -> dict[str, float]:
    """The held-out losses of this scale's student and of its twin without a teacher."""
    names = {pretraining_run(role, scale): role for role in ("student", "undistilled")}
    return {names[r["name"]]: held_out_loss(r["scores"]) for r in records if r["name"] in names}


def about_tasks(records: Records) -> str:
    """The sentence on what the teacher is worth on tasks: the student's lead over its twin at each scale of real text,
    and the shares of the teacher's score that are kept at the most telling one."""
    kept = {scale: by_model(records, scale) for scale in REAL}
    kept = {scale: models for scale, models in kept.items() if {"student", "undistilled"} <= models.keys()}
    if not kept:
        return ""
    standings = {models["undistilled"].standing for models in kept.values()}
    worth = "pays on tasks too" if "ahead of" in standings else "shows no gain on tasks"
    if {"ahead of", "behind"} <= standings:
        worth = "gives mixed results on tasks"
    elif standings == {ONE_SEED}:
        worth = "says nothing on tasks yet"
    told = " and ".join(_led(records, models["undistilled"]) for models in kept.values())
    first = next(iter(kept.values()))
    caveat = failed_teachers(records, first["student"])
    sentence = f"**It {worth}**: the student is {told}. {_shares(first)} ([04](notebooks/04_glue_finetuning.ipynb))."
    return f"{sentence} {caveat}".rstrip()


def _led(records: Records, twin: Retained) -> str:
    """The student's lead over its twin at one scale, with what it rests on."""
    former = still_grouped(records, twin.scale, twin.tasks, ("student", twin.model))
    whose = "all" if len(former) == len(twin.tasks) else ", ".join(former)
    batches = f"; {whose} with rows of like length in a batch" if former else ""
    over = ", ".join(glue.TASKS[name].title for name in twin.tasks)
    points, seeds = tables.signed_interval(*twin.lead[:3]), f"{twin.pairs} seed{'s' * (twin.pairs > 1)}"
    return f"{twin.standing} its twin at scale {twin.scale} ({points} points over {over}, {seeds}{batches})"


def _shares(models: dict[str, Retained]) -> str:
    """The sentence on the shares of the teacher's score that the student keeps, and what it is compared with."""
    student = models["student"]
    others = {"its start, not trained,": "untrained", "the twin": "undistilled", "random weights": "random"}
    there = {who: models[model] for who, model in others.items() if model in models}
    fewer = {who: f" ({one.seeds} seeds)" * (one.seeds != student.seeds) for who, one in there.items()}
    beside = ", ".join(f"{who} {one}{fewer[who]}" for who, one in there.items())
    return (
        f"At {student.scale}, over the {len(student.tasks)} of {student.run} GLUE tasks on which its teacher beats the "
        f"majority class, it keeps {student} of the teacher's score, and {student.where()}"
        + (f"; for comparison, {beside}" if beside else "")
    )


def not_run(records: Records) -> str:
    """The sentence that the 97 % was not run, with its cost; "" once it was run."""
    base = {(r["model"], r["task"]) for r in records if r["kind"] == "finetuning" and r["scale"] in ("base", "paper")}
    if all({("teacher", task), ("student", task)} <= base for task in glue.GLUE):
        return ""
    base = scales.get("base")
    hours = next(row["T4"] for row in chain.costs(base) if row["part"] == "GLUE")
    models = sum(step.name.startswith("glue-") for step in chain.steps(base))
    return (
        f"The {paper.claim('retained').value:g} % itself was **not run**: it needs BERT-base and a GPU (about {hours} "
        f"of a T4 for GLUE alone, with the {models} models that it compares, estimated)."
    )


def about_text_read_before(records: Records) -> str:
    """The sentence about IMDb test texts that the teachers of real text may have read; "" without a record."""
    ceilings = next((r["scores"] for r in records if r["name"] == "ceilings"), {})
    if "imdb_unlabelled_in_scored" not in ceilings:
        return ""
    return (
        f"Of IMDb's unlabelled reviews {ceilings['imdb_unlabelled_in_scored']} stand word for word in its test split "
        f"and {ceilings['imdb_unlabelled_in_train']} in train. The teacher of `mini` read them in pre-training, so its "
        "IMDb scores, and those of its students, are a little flattered; `small` leaves them out."
    )


def about_held_out_text(records: Records) -> str:
    """The sentence about the held-out text of `mini`, which is of one source; "" where its runs hold out of each."""
    runs = [r for r in records if r["kind"] in ("distillation", "teacher", "ablation") and r["scale"] == "mini"]
    if all("held_out" in r["data"] for r in runs):
        return ""
    return (
        "The held-out text of `mini` is IMDb's reviews alone: every 100th document was held out while Wikipedia and "
        "reviews took turns. So its held-out losses and its ablation's say nothing of Wikipedia. Its teacher read "
        "novels too: the first rows held out of the three, which alone were scored, are by the same count mostly one "
        "novel's, and its loss cannot stand beside its student's. New corpora hold out documents of each source and "
        "are read all over; these runs are not repeated yet."
    )


def about_norms(records: Records) -> str:
    """The sentence about trainings in bf16 whose LayerNorms lost a part of their gradients; "" without one."""
    kinds = ("teacher", "distillation", "finetuning", "ablation")
    lost = [r for r in records if r["kind"] in kinds and r.get("precision") == "bf16" and not r["device"].get("gpu")]
    lost = [r for r in lost if "norm_gradients" not in r]
    if not lost:
        return ""
    return (
        f"In {len(lost)} trainings in bf16 on a processor, PyTorch summed the gradients of LayerNorms in "
        "bf16, which loses a part of those of gain and bias, the more the more tokens a pass has "
        "([seen here](findings/cpu_layer_norm_sums_gradients_in_bfloat16.sh)); Adam divides by their size, which makes "
        "up for some of it. What this costs in scores was not measured. Later trainings sum in float32, and say so."
    )


def ablation_sentence(records: Records) -> str:
    """The sentence on whether Table 4's differences lie in our intervals over pairs, at the most telling scale that has
    an interval."""
    for scale in REAL:
        rows = tables.table4_rows(records, scale)
        if any(row["low"] is not None for row in rows):
            told = ", ".join(f"{row['title']} {tables.inside(row).replace('–', 'has no interval')}" for row in rows)
            over = pairs_told(rows) + grouped_cells(records, scale)
            return f"Does Table 4's difference lie in our interval (scale {scale}, {over})? {told}."
    return ""
