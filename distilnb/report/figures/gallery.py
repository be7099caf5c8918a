"""Every published figure, drawn from the records (`distilnb figures`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from transformers import BertConfig

from ...evidence import paper
from ...evidence.names import ablation_grid
from ...evidence.records import Record, load_records
from ...models.arithmetic import parameter_groups
from ...models.student import choose_layers, student_config
from ...studies import ablation
from . import models, speed
from .ablation import plot_ablation, plot_heldout, plot_pairs
from .style import save_figure
from .tasks import plot_published, plot_retention, plot_scores, plot_vintages
from .training import plot_curve, plot_teaching


def drawings(records: Sequence[Record]) -> dict[str, Figure]:
    """The figures that can be drawn from the paper's numbers and these records, by the names of their files."""
    base = {"BERT-base": BertConfig(), "DistilBERT": student_config(BertConfig())}
    groups = {model: parameter_groups(config, head=False) for model, config in base.items()}
    speeds, glue = paper.table("table3_speed"), paper.table("table1_glue")
    drawn = {
        "figure1_parameter_counts": models.plot_parameter_counts(paper.table("figure1_parameters")),
        "layer_map": models.plot_layer_map(choose_layers("original", 12, 6), 12),
        "table1_glue": _table1(),
        "table1_vintages": plot_vintages(glue),
        "table2_downstream": plot_published(
            _published("table2_downstream", "task", "metric"), title="Table 2: a second stage (D) narrows the gap"
        ),
        "table3_parameter_groups": models.plot_parameter_groups(
            groups, speeds.set_index("model")["parameters_millions"].to_dict()
        ),
        "table3_seconds": speed.plot_seconds(speeds),
    }
    answering = {model: parameter_groups(config, head="qa") for model, config in base.items()}
    drawn["device_files"] = speed.plot_file_sizes(paper.table("device_files"), answering)
    if figure := teaching(records):
        drawn["teaching"] = figure
    for record in (r for r in records if r["kind"] == "benchmark" and r.get("growth")):
        drawn[record["name"].removeprefix("benchmark-").replace("-", "_")] = speed.plot_growth(record)
    for record in (r for r in records if r["kind"] == "benchmark" and "timings" in r):
        place = record["name"].removeprefix("benchmark-").replace("-", "_")
        drawn[f"table3_overhead_{place}"] = speed.plot_overhead(record)
        if record["sweeps"]:
            drawn[f"table3_sweeps_{place}"] = speed.plot_sweeps(record)
        if record["formats"]:
            drawn[f"device_runtimes_{place}"] = speed.plot_runtimes(record)
        if any("chosen" in task for task in record.get("tasks", ())):
            drawn[f"device_rounding_{place}"] = speed.plot_rounding(record)
    for scale in dict.fromkeys(r["scale"] for r in records if r["kind"] not in ("benchmark", "data")):
        drawn |= {f"{scale}_{name}": figure for name, figure in _training([r for r in records if r["scale"] == scale])}
    return drawn


def teaching(records: Sequence[Record]) -> Figure | None:
    """The README's picture: a student beside its twin without a teacher; None without records of both."""
    by_name = {record["name"]: record for record in records}
    for scale in ("small", "mini", "toy"):  # the most telling first
        pair = [by_name.get(f"{run}-{scale}") for run in ("distil", "undistilled")]
        if all(pair):
            return plot_teaching(*pair)
    return None


def longest(records: Sequence[Record]) -> list[Record]:
    """The runs of about the largest budget of tokens, because shorter ones do not compare with them."""
    budget = max((r["tokens"] for r in records), default=0)
    return [r for r in records if r["tokens"] > 0.9 * budget]


def _training(records: Sequence[Record]) -> Iterator[tuple[str, Figure]]:
    """The figures of the training runs of one scale, with their names."""
    kinds = {kind: [r for r in records if r["kind"] == kind] for kind in ("teacher", "distillation", "finetuning")}
    for kind in ("teacher", "distillation"):
        if equals := longest(kinds[kind]):
            yield f"{kind}_curve", plot_curve(equals, "mlm" if len(equals) > 1 else "loss")
    if kinds["finetuning"]:
        yield "tasks", plot_scores(kinds["finetuning"])
    if {"teacher", "student"} <= {r["model"] for r in kinds["finetuning"]}:
        yield "retention", plot_retention(kinds["finetuning"])
    ablated = [r for r in records if r["kind"] == "ablation" and r["grid"] == ablation_grid(r["scale"])]
    if len({r["model"] for r in ablated}) > 1:
        rows, scale = ablation.compare(ablated).rows, ablated[0]["scale"]
        yield "ablation", plot_ablation(rows, scale)
        yield "ablation_seeds", plot_pairs(rows, scale)
        yield "ablation_curves", plot_heldout(ablated)


def _table1() -> Figure:
    """Table 1 with BERT-base's misprinted MNLI corrected; its finding tells the tasks on which DistilBERT is below."""
    scores, mended = _published("table1_glue", "task"), paper.glue("BERT-base", "MNLI", vintage="readme")
    printed, scores["BERT-base"]["MNLI"] = scores["BERT-base"]["MNLI"], mended
    tasks = [task for task in scores["DistilBERT"] if task != "macro"]
    below = sum(scores["DistilBERT"][task] < scores["BERT-base"][task] for task in tasks)
    told = f"below its teacher on {below} of {len(tasks)} tasks (MNLI {mended:g}, misprinted as {printed:g})"
    return plot_published(scores, title=f"Table 1: DistilBERT is {told}")


def _published(table: str, *column: str) -> dict[str, dict[str, float]]:
    """One of the paper's tables of scores (version 4) as model → column → value."""
    scores: dict[str, dict[str, float]] = {}
    for row in paper.table(table).query("vintage == '2020-03'").to_dict("records"):
        name = " ".join(row[c].replace("exact_match", "EM").replace("f1", "F1") for c in column)
        scores.setdefault(row["model"], {})[name] = row["value"]
    return scores


def draw_all() -> list[Path]:
    """Redraw every figure from the paper's numbers and all records, and return the files written."""
    return [path for name, figure in drawings(load_records()).items() for path in save_figure(figure, name)]
