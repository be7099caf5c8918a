"""The ablation (paper section 4.2, Table 4; notebook 08): one change at a time, all else equal, with paired seeds.

A cell is one variant with one seed: a student is distilled, fine-tuned on every task of the grid and described by one
record. Cells share teacher, text, token budget and fine-tuning; variants with the same seed also share the order of
the text, the masks, the new heads and the order of the rows. The effect of a change is thus a mean of differences
within pairs. Table 4 prints four differences, without seeds, spread or budget. Its third row cannot be run with the
original code, because an assertion there forbids L_mlm = 0.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..distillation import batches, evaluation
from ..distillation.checkpoints import fingerprint
from ..distillation.estimate import estimate_passes
from ..distillation.loop import check_output, check_run, pretrain
from ..distillation.recipe import MAY_CHANGE, PretrainingConfig
from ..distillation.step import Distillation
from ..distillation.training import is_out_of_memory
from ..evidence import comparing, paper, statistics
from ..evidence.cells import run_missing
from ..evidence.names import MASKED, OBJECTIVES, Objective, held_out_loss
from ..evidence.records import Stopwatch, new_record, save_record, thin
from ..machine import processes
from ..machine.progress import duration
from ..models import dropout, families, half
from ..models.narrowing import narrow_config
from ..models.student import build_student, chosen_layers, student_config
from ..tasks import finetuning, metrics
from ..tasks.finetuning import FinetuningConfig
from ..tasks.glue import TaskData
from ..tasks.grid import ONLY_WITH_SPANS, ONLY_WITH_TEACHER, finetune_grid
from ..tasks.heads import for_task
from ..text.corpus import Corpus
from ..text.masking import Masker, NextWord

REFERENCE = "triple"
SEEDS = 3  # pairs of every variant by default
LONG = 1000  # updates from which the distillation of a cell shows its own progress
CELL_CURVE_POINTS = 40  # of a cell's curve, which is short because there are many cells


@dataclass(frozen=True)
class Variant:
    """A row of the ablation: its differences from the triple loss, with `settings` of `PretrainingConfig`."""

    name: str
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    init: str = "teacher"
    layers: str | tuple[int, ...] = "original"
    trained: bool = True
    width: int = 0  # 0: the teacher's
    heads: int = 0  # 0: as many as keep their size

    def title_for(self, objective: Objective) -> str:
        """The title, in which a causal objective is called by its name."""
        return self.title.replace(MASKED.words, objective.words).replace(f"L_{MASKED.term}", f"L_{objective.term}")

    def changes(self) -> dict[str, Any]:
        """The record's entries about this variant; {} for the triple loss itself."""
        plain = Variant(self.name, self.title)
        others = {key: getattr(self, key) for key in ("init", "layers", "trained", "width", "heads")}
        return dict(self.settings) | {k: v for k, v in others.items() if v != getattr(plain, k)}


# Table 4's four rows, in its order, between the reference and the baselines that readers ask for
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(REFERENCE, "triple loss"),
        Variant("no_ce", "without soft targets (L_ce)", {"ce": 0.0}),
        Variant("no_cos", "without cosine (L_cos)", {"cos": 0.0}),
        Variant("no_mlm", "without masked words (L_mlm)", {"mlm": 0.0}),
        Variant("random_init", "triple loss from random weights", init="random"),
        Variant("mlm_only", "masked words alone, same start", {"ce": 0.0, "cos": 0.0}),
        Variant("mlm_random", "masked words alone, random weights", {"ce": 0.0, "cos": 0.0}, init="random"),
        Variant("untrained", "the start itself, not trained", trained=False),
    )
}


def along(axis: str, values: Iterable[Any]) -> list[Variant]:
    """The variants of the triple loss along one axis: "temperature" or "smoothing" (numbers), "positions" (all or
    masked), "layers" (a name or indices), "width", "heads" (a number, or pairs with a width) or "weights" (three
    numbers, of L_ce, L_mlm and L_cos). ValueError for another axis."""
    made = []
    for value in values:
        if axis == "layers":
            shown = value if isinstance(value, str) else "-".join(map(str, value))
            more: dict[str, Any] = {"layers": value}
        elif axis == "weights":
            shown = "-".join(f"{weight:g}" for weight in value)
            more = {"settings": dict(zip(("ce", "mlm", "cos"), map(float, value), strict=True))}
        elif axis == "heads" and isinstance(value, tuple):
            shown, more = "{} at width {}".format(*value), dict(zip(("heads", "width"), value, strict=True))
        elif axis in ("width", "heads"):
            shown, more = str(value), {axis: value}
        elif axis in ("temperature", "smoothing", "positions"):
            shown = str(value) if axis == "positions" else f"{value:g}"
            more = {"settings": {axis: value}}
        else:
            raise ValueError(
                f"unknown axis '{axis}'; use temperature, smoothing, positions, layers, width, heads or weights"
            )
        title = f"triple loss, {axis} {shown.replace('-', ', ')}"
        made.append(Variant(f"{axis}_{shown}".replace(" ", "-"), title, **more))
    return made


class AblationCell(NamedTuple):
    """One variant with one seed, as `cells` runs it; `config` holds the settings of its distillation."""

    name: str
    variant: Variant
    config: PretrainingConfig
    grid: "Ablation"
    quiet: bool = False

    needs = ()  # of other cells

    @property
    def seed(self) -> int:
        """The seed, which also fixes random initial weights, the new heads and the order of the tasks' rows."""
        return self.config.seed

    def differences(self, record: dict[str, Any]) -> list[str]:
        """The differences of a record from this cell, such as "config.finetuning.epochs 3 against 4"."""
        wanted = comparing.plain(self.grid.identity(self))
        recorded = record["config"] | {"finetuning": finetuning.recorded_config(record["config"]["finetuning"])}
        return comparing.differences({key: record.get(key) for key in wanted} | {"config": recorded}, wanted)

    def run(self) -> dict[str, Any]:
        """Run the cell, save its record, delete its checkpoints, and return the record."""
        record = run_cell(self.grid, self, self.quiet)
        if self.grid.accelerator.is_main_process:
            save_record(record, self.grid.records)
            shutil.rmtree(self.grid.work / self.name, ignore_errors=True)
        return record


@dataclass(frozen=True)
class Ablation:
    """The settings that all cells share: `pretraining` is the triple loss, `records` the folder of records, `work` that
    of unfinished cells.

    `provenance` (for instance the teacher's name) is added to each record.
    """

    teacher: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    corpus: Corpus
    data: Sequence[TaskData]
    accelerator: Accelerator
    pretraining: PretrainingConfig
    finetuning: FinetuningConfig
    records: Path
    work: Path
    name: str = "ablation-toy"
    scale: str = "toy"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    jobs: int = 1  # processes that share the cells, for the estimate

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks whose mean is the macro score."""
        return [data.task.name for data in self.data]

    def cells(self, variants: Iterable[Variant], seeds: Iterable[int]) -> list[AblationCell]:
        """The cells of the triple loss and every variant with every seed, seed by seed, so that pairs are whole early.

        Raises ValueError before any work for a lack of tasks or seeds, a variant that does not fit the teacher, weights
        that are all zero, and two variants of one name.
        """
        seeds, teacher = list(seeds), self.teacher.config
        if not (self.data and seeds):
            raise ValueError("an ablation needs at least one task and one seed")
        layers = chosen_layers(teacher, "original")
        made = {REFERENCE: VARIANTS[REFERENCE]}  # with which the others are compared
        for v in variants:
            chosen, config = chosen_layers(teacher, v.layers), replace(self.pretraining, **v.settings)
            if "smoothing" in v.settings and families.of(self.teacher).objective == "causal":
                raise ValueError("smoothing says which words are hidden, and this teacher learned without hidden words")
            full = student_config(teacher, chosen)
            shape = narrow_config(full, v.width, v.heads) if v.width or v.heads else full
            narrow = (shape.hidden_size, shape.num_attention_heads) != (full.hidden_size, full.num_attention_heads)
            if (config, chosen, v.init, v.trained, narrow) == (self.pretraining, layers, "teacher", True, False):
                continue  # the triple loss itself, through which an axis may pass
            if made.setdefault(v.name, v) != v:
                raise ValueError(f"two variants are called {v.name}")
        return [
            AblationCell(
                f"{self.name}-{v.name}-seed{seed}", v, replace(self.pretraining, seed=seed, **v.settings), self
            )
            for seed in seeds
            for v in made.values()
        ]

    def identity(self, cell: AblationCell) -> dict[str, Any]:
        """The facts that identify the record of this cell: seed, settings, data, weights to learn from."""
        shared = {k: v for k, v in asdict(self.pretraining).items() if k not in ("seed", *MAY_CHANGE)}
        silent = ("seed", *ONLY_WITH_TEACHER, *ONLY_WITH_SPANS)
        tuning = {k: v for k, v in asdict(self.finetuning).items() if k not in silent}
        tasks = {data.task.name: {k: v for k, v in data.info.items() if k != "place"} for data in self.data}
        return {
            "seed": cell.seed,
            "config": {"pretraining": shared, "changes": cell.variant.changes(), "finetuning": tuning},
            "data": self.corpus.provenance() | {"tasks": tasks},
            "teacher": fingerprint(self.teacher),
            "precision": self.accelerator.mixed_precision,
        }


def run_grid(
    grid: Ablation, variants: Iterable[Variant], seeds: Iterable[int], quiet: bool = False, helping: bool = False
) -> list[dict[str, Any]]:
    """The record of every cell; cells that have a record of the same settings are not run again.

    An interrupted cell goes on from its last checkpoint. A process that is only `helping` another is quiet, is done
    when no cell is free any more, and returns the records that it knows. Raises ValueError before any work for
    arguments that do not fit and a record of other settings, and FloatingPointError at the end when a cell diverged.
    """
    for folder in (grid.records, grid.work):
        processes.check_shared_folder(folder, grid.accelerator)
    quiet = quiet or helping
    planned = [cell._replace(quiet=quiet) for cell in grid.cells(variants, seeds)]

    def announce(left: Sequence[AblationCell]) -> str:
        for one in left:
            if one.variant.trained:
                check_run(one.config, grid.corpus, grid.teacher, grid.accelerator.num_processes)
                check_output(grid.work / one.name, one.config)
        return _announce(grid, planned, left)

    grid.teacher.to(grid.accelerator.device).eval().requires_grad_(False)
    settings = {"keep_others": True, "announce": None if quiet else announce, "quiet": quiet, "wait": not helping}
    outcome = run_missing(planned, grid.records, grid.name, grid.accelerator, **settings)
    if outcome.diverged:
        raise FloatingPointError(
            f"{len(outcome.diverged)} of {len(planned)} cells diverged, the others are recorded: "
            + "; ".join(f"{name} ({why})" for name, why in outcome.diverged.items())
        )
    return [record for record in outcome.records if record]


def starting_student(grid: Ablation, cell: AblationCell) -> PreTrainedModel:
    """The student of a cell before its first update."""
    v = cell.variant
    student = build_student(grid.teacher, v.layers, init=v.init, seed=cell.seed, width=v.width, heads=v.heads)
    dropout.speed_up(student, grid.accelerator.device)
    return student


def run_cell(grid: Ablation, cell: AblationCell, quiet: bool = False) -> dict[str, Any]:
    """Distil (unless the variant is not trained), fine-tune on every task, and return the unsaved record of both."""
    watch, config, folder = Stopwatch(), cell.config, grid.work / cell.name
    student = starting_student(grid, cell)
    masker = batches.make_samples(grid.tokenizer, grid.corpus.token_counts, families.of(student).objective, config)
    if cell.variant.trained:
        short = config.steps(grid.corpus) < LONG
        distilled = pretrain(
            student,
            grid.corpus,
            masker,
            grid.accelerator,
            config,
            teacher=grid.teacher,
            out=folder,
            name=cell.name,
            quiet=quiet or short,
        )
    else:
        student.to(grid.accelerator.device)
        rows = config.rows(grid.accelerator.num_processes)  # as in a distillation
        heldout = evaluation.evaluate(student, grid.corpus, masker, grid.accelerator, grid.teacher, batch_size=rows)
        distilled = {"scores": heldout, "tokens": 0, "steps": 0, "curve": None, "evaluations": None} | {
            key: value for key, value in watch.read().items() if key != "started"
        }
    grid.accelerator.free_memory()
    tuned = finetune_grid(
        {cell.variant.name: student},
        grid.data,
        [cell.seed],
        grid.tokenizer,
        grid.accelerator,
        grid.finetuning,
        scale=grid.scale,
        folder=folder,
        quiet=True,
    )
    return _record(grid, cell, watch, distilled, tuned)


def _record(
    grid: Ablation, cell: AblationCell, watch: Stopwatch, distilled: dict[str, Any], tuned: list[dict[str, Any]]
) -> dict[str, Any]:
    objective = OBJECTIVES[families.of(grid.teacher).objective]
    heldout, main = distilled["scores"], {record["task"]: record["scores"]["main"] for record in tuned}
    scores = {
        "macro": metrics.macro(main, grid.tasks),
        **main,
        objective.loss: heldout[objective.loss],
        f"{objective.term}_accuracy": heldout["accuracy"],
        "agreement": heldout["agreement"],
    }
    more = {
        "scale": grid.scale,
        "model": cell.variant.name,
        "scores": scores,
        **{key: distilled[key] for key in ("tokens", "steps", "evaluations")},
        "curve": distilled["curve"] and thin(distilled["curve"], CELL_CURVE_POINTS),
        "grid": grid.name,
        "title": cell.variant.title_for(objective),
        "tasks": grid.tasks,
        "finetuning": {r["task"]: r["scores"] | {"interval": r["interval"], "steps": r["steps"]} for r in tuned},
        "processes": grid.accelerator.num_processes,
        "norm_gradients": half.NORM_GRADIENTS,
        **grid.identity(cell),
    }
    more |= {key: round(sum(r[key] for r in (distilled, *tuned)), 2) for key in ("wall_seconds", "cpu_seconds")}
    return new_record("ablation", cell.name, stopwatch=watch, **more, **grid.provenance)


def _announce(grid: Ablation, cells: Sequence[AblationCell], left: Sequence[AblationCell]) -> str:
    names, seeds = {cell.variant.name for cell in cells}, {cell.seed for cell in cells}
    done = f", {len(cells) - len(left)} recorded already" if len(left) < len(cells) else ""
    try:
        seconds, disk = estimate_cells(grid, left)
        cost = f"estimate: about {duration(seconds / grid.jobs)}, {disk / 2**20:.0f} MiB of disk while it runs"
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        rows = grid.pretraining.rows(grid.accelerator.num_processes)
        cost = f"no estimate: {rows} sequences at once do not fit into memory, fewer will be tried"
    return (
        f"{grid.name}: {len(names)} variants × {len(seeds)} seeds = {len(cells)} cells{done}; each reads "
        f"{grid.pretraining.tokens:,} tokens and is fine-tuned on {', '.join(grid.tasks)}\n{cost}"
    )


def estimate_cells(grid: Ablation, cells: Sequence[AblationCell]) -> tuple[float, float]:
    """The seconds and the bytes of disk that these cells will take, measured on a few updates of each kind of work.

    All processes measure together: first what they do jointly, which copes with a lack of memory, then passes of their
    own, which may end in one.
    """
    student, config = starting_student(grid, cells[0]).to(grid.accelerator.device), grid.pretraining
    masker = batches.make_samples(grid.tokenizer, grid.corpus.token_counts, families.of(grid.teacher).objective, config)
    rows = batches.MaskedRows(grid.corpus.train, masker)
    micro = min(config.rows(grid.accelerator.num_processes), len(grid.corpus.train))
    batch = batches.collate(rows.__getitems__([(0, i) for i in range(micro)]))
    batch = {key: value.to(grid.accelerator.device) for key, value in batch.items()}
    judging = _evaluation_seconds(grid, student, masker)
    tuning = sum(_finetuning_seconds(grid, student, data) for data in grid.data)
    grid.accelerator.free_memory()
    seconds, disk, rates = len(cells) * tuning, 0.0, {}
    for cell in cells:
        if not cell.variant.trained:
            seconds += 3 * judging  # with the teacher's, of about twice the cost
            continue
        kind = bool(cell.config.ce), bool(cell.config.cos), cell.config.positions
        if kind not in rates:
            step = Distillation(student.train(), grid.teacher, cell.config)
            measured = estimate_passes(step, batch, grid.accelerator, config.tokens)
            rates[kind], disk = measured.tokens_per_second, max(disk, measured.disk_bytes)
        steps = config.steps(grid.corpus)
        judged = steps // (config.evaluate_every or max(1, steps // 10)) + 2  # also at the start and at the end
        judged += 2  # and once by the teacher, at about twice the cost
        seconds += config.tokens / rates[kind] + judging * judged
    return seconds, disk


def _evaluation_seconds(grid: Ablation, student: PreTrainedModel, masker: Masker | NextWord) -> float:
    """The seconds in which a student reads the held-out rows, extrapolated from a few."""
    rows = 32
    heldout = evaluation.HeldOut(grid.corpus, masker, grid.accelerator, grid.tokenizer.pad_token_id or 0, rows=rows)
    watch = Stopwatch()
    heldout.scores(student)
    return watch.read()["wall_seconds"] * max(1, min(evaluation.HELD_OUT_ROWS, len(grid.corpus.heldout)) // rows)


def _finetuning_seconds(grid: Ablation, student: PreTrainedModel, data: TaskData) -> float:
    """The seconds of one fine-tuning on a task, extrapolated from a few updates."""
    model, _ = for_task(student, data.task)
    pace = finetuning.pace(model, data, grid.tokenizer, grid.accelerator, grid.finetuning)
    return pace * finetuning.work(finetuning.encode(data, grid.tokenizer, grid.finetuning), grid.finetuning)


class Comparison(NamedTuple):
    """The rows of the ablation's table (see `compare`), and notes in sentences about its records."""

    rows: list[dict[str, Any]]
    notes: list[str]


def compare(records: Iterable[Mapping[str, Any]], score: str = "macro") -> Comparison:
    """The differences from the triple loss over pairs of equal seeds, in points of the macro score or another `score`.

    `score` may be "agreement", a task, or the held-out loss, "mlm_loss" or "clm_loss", which is not in points.
    A row has `variant`, `title`, `seeds` (those of its pairs), `values` (by seed), `deltas` (by pair), `mean`, `low`,
    `high` and `p` (t interval and two-sided paired t test; None with fewer than two pairs), `paper` (Table 4's macro).
    The notes name missing seeds and other code. Raises ValueError for records that must not be compared: of several
    scales, budgets or settings, with two records of one cell, or without the reference.
    """
    records = [record for record in records if record["kind"] == "ablation"]
    if REFERENCE not in {record["model"] for record in records}:
        raise ValueError(f"there is no record of '{REFERENCE}', which the others are compared with: run it first")
    notes = comparing.check_comparable(records, shared, cell=("model", "seed"))
    loss = score in {objective.loss for objective in OBJECTIVES.values()}
    published = dict(zip(*(paper.table("table4_ablation")[c] for c in ("variant", "delta_macro")), strict=True))
    rows, unknown = [], statistics.MeanInterval(None, None, None, None)
    values: dict[str, dict[int, float]] = {}  # by variant and seed
    titles: dict[str, str] = {}
    for record in sorted(records, key=lambda r: (_place(r["model"]), r["model"], r["seed"])):
        value = held_out_loss(record["scores"]) if loss else 100 * record["scores"][score]
        values.setdefault(record["model"], {})[record["seed"]] = value
        titles.setdefault(record["model"], record["title"])
    for variant, own in values.items():
        seeds = sorted(own.keys() & values[REFERENCE].keys())
        deltas = [own[seed] - values[REFERENCE][seed] for seed in seeds]
        interval = unknown if variant == REFERENCE else statistics.mean_interval(deltas)
        rows.append(
            {
                "variant": variant,
                "title": titles[variant],
                "seeds": seeds,
                "values": own,
                "deltas": deltas,
                **interval._asdict(),
                "paper": published.get(variant) if score == "macro" else None,
            }
        )
    return Comparison(rows, notes)


def pairs_told(rows: Iterable[Mapping[str, Any]]) -> str:
    """How many pairs of equal seeds stand behind rows of `compare`, such as "3 pairs" or, where they differ, "2 to 3
    pairs"."""
    counts = sorted({len(row["deltas"]) for row in rows})
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) + f" pair{'s' * (counts[-1] > 1)}"


def significance(comparison: Comparison) -> list[str]:
    """A sentence for each row of Table 4 that was run: whether it is above the noise of our own pairs."""
    sentences = []
    for row in comparison.rows:
        if row["paper"] is None or len(row["deltas"]) < 2:
            continue
        count, spread = len(row["deltas"]), float(np.std(row["deltas"], ddof=1))
        reach, mean = statistics.half_width(spread, count), f"{row['mean']:+.2f}".replace("-", "−")
        own = "differ from" if row["low"] > 0 or row["high"] < 0 else "cannot be told from"
        inside = "inside" if row["low"] <= row["paper"] <= row["high"] else "outside"
        shown = statistics.power(count, spread, row["paper"])
        told = f"{count} pairs would show a true difference of that size in {shown:.0%} of repetitions"
        if shown < 0.8:
            told += f", {statistics.pairs_needed(spread, row['paper']):,} pairs in 80 %"
        sentences.append(
            f"{row['title']}: {count} pairs average {mean} points and spread by {spread:.2f} (standard "
            f"deviation), so the 95% interval reaches {reach:.2f} to either side; the runs {own} the triple "
            f"loss. Table 4's {row['paper']:+g} lies {inside} the interval; {told}."
        )
    return sentences


def shared(record: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that must be equal in all cells of a comparison: settings, tasks, data, teacher, precision."""
    config = {key: value for key, value in record["config"].items() if key != "changes"}
    return {"config": config} | {key: record.get(key) for key in ("tasks", "data", "teacher", "precision")}


def _place(variant: str) -> int:
    return list(VARIANTS).index(variant) if variant in VARIANTS else len(VARIANTS)
