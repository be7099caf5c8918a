"""Every model on every task with every seed: a record each, and a second call does only what is missing.

A run is known by its name; what it was made of (settings, data, starting weights, teacher) is compared with its
record, and a line says why a run is made again. Learning rates are chosen on rows held out of the training split,
from the same list for every model; validation rows judge and never choose.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import paths
from ..distillation.checkpoints import fingerprint
from ..evidence.records import load_record, save_record
from ..machine.progress import Progress
from ..models.sources import Source
from . import finetuning, heads
from .finetuning import FinetuningConfig
from .glue import TaskData
from .squad import SquadData

LONG = 1000  # updates from which a run inside a grid shows its own progress
SECOND_STAGE = "_d"  # DistilBERT (D) is the paper's name for a student that was distilled a second time
ONLY_WITH_TEACHER, ONLY_WITH_SPANS = ("soft_weight", "temperature"), ("stride",)


@dataclass(frozen=True)
class Cell:
    """One run of a grid: a model on a task with a seed (in `config`), and further keys for its record.

    `keeps` is the folder for the fine-tuned weights, if they are kept; `teacher` the folder of a fine-tuned teacher.
    """

    name: str
    model_name: str
    source: Source
    data: TaskData | SquadData
    config: FinetuningConfig
    provenance: dict[str, Any] = field(default_factory=dict)
    keeps: Path | None = None
    teacher: Path | None = None

    def model(self) -> PreTrainedModel:
        """The model that this run starts from."""
        return heads.for_task(self.source, self.data.task, self.config.seed)[0]

    def identity(self) -> dict[str, Any]:
        """What a record must agree with to be the record of this run."""
        silent = (() if self.teacher else ONLY_WITH_TEACHER) + (() if self.data.task.spans else ONLY_WITH_SPANS)
        settings = {key: value for key, value in asdict(self.config).items() if key not in silent}
        taught = {"teacher": fingerprint(heads.fine_tuned(self.teacher, self.data.task))} if self.teacher else {}
        chosen = {"selection": self.provenance["selection"]} if "selection" in self.provenance else {}
        return (
            settings
            | taught
            | chosen
            | {
                "data": self.data.info["fingerprint"],
                "rows": self.data.info["rows"],
                "weights": fingerprint(self.model()),
            }
        )


def finetune_grid(
    models: Mapping[str, Source],
    data: Iterable[TaskData | SquadData],
    seeds: Iterable[int],
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    config: FinetuningConfig,
    *,
    scale: str = "toy",
    folder: Path | None = None,
    learning_rates: Sequence[float] = (),
    trial_rows: int = 0,
    task_teacher: str | None = None,
    keep: bool = False,
    suffix: str = "",
    provenance: Mapping[str, dict[str, Any]] | None = None,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Fine-tune every model on every task with every seed; a record each, in `folder` (default `runs/`).

    A cell whose record is there, with the same settings, data and starting weights, is not run again. With
    `learning_rates`, each model and task first tries all of these (the same for every model) on nine tenths of the
    training rows (at most `trial_rows`; 0: all of them) and keeps the one that does best on the tenth; those trials
    are recorded in `folder/selection`.
    With `task_teacher`, one of `models`, every other model is fine-tuned once more, now also by the answers of that
    model, fine-tuned with the same seed: these runs have the model name `<model>_d`. `keep` saves the fine-tuned
    models in `folder/models`. `suffix` is added to the names of tasks in names of runs. `provenance` adds keys to the
    records of a model, by its name in `models`.
    """
    folder, seeds, cells = Path(folder or paths.home() / "runs"), list(seeds), []
    if not (models and seeds):
        raise ValueError("a grid needs at least one model and one seed")
    if task_teacher and task_teacher not in models:
        raise ValueError(f"the second teacher '{task_teacher}' is none of the models: {', '.join(models)}")
    if task_teacher and len(models) == 1:
        raise ValueError(f"'{task_teacher}' would teach only itself; name a student as well")
    data = list(data)
    for source in models.values():  # a model that cannot be used should not be found out hours later
        for task in data[:1]:
            finetuning.check_run(heads.for_task(source, task.task)[0], task.task, tokenizer, config)
    quiet = quiet or not accelerator.is_main_process

    def called(task: TaskData) -> str:
        return task.task.name + (f"-{suffix}" if suffix else "")

    def cell(model: str, task: TaskData, which: str, more: dict[str, Any], label: str = "", **settings: Any) -> Cell:
        label = label or model
        name = f"finetuning-{scale}-{label}-{called(task)}-{which}"
        more = {"scale": scale} | (provenance or {}).get(model, {}) | more
        kept = folder / "models" / name if keep or model == task_teacher else None
        return Cell(name, label, models[model], task, replace(config, **settings), more, kept)

    for task in data:
        carved, taught = task.carve(most=trial_rows) if learning_rates else None, []
        for model in models:
            settings, more = {}, {}
            if carved:
                trials = [
                    replace(cell(model, carved, f"lr{rate:g}", {}, learning_rate=rate, seed=seeds[0]), keeps=None)
                    for rate in learning_rates
                ]
                what = f"{model} on {task.task.name}, choosing the learning rate"
                found = _run_missing(trials, folder / "selection", what, tokenizer, accelerator, quiet)
                more = {"selection": select(learning_rates, found) | ({"rows": trial_rows} if trial_rows else {})}
                settings = {"learning_rate": more["selection"]["chosen"]}
            cells += [cell(model, task, f"seed{seed}", more, seed=seed, **settings) for seed in seeds]
            if task_teacher and model != task_teacher:
                for seed in seeds:
                    teacher = f"finetuning-{scale}-{task_teacher}-{called(task)}-seed{seed}"
                    again = cell(
                        model,
                        task,
                        f"seed{seed}",
                        more | {"teacher_record": teacher},
                        seed=seed,
                        label=model + SECOND_STAGE,
                        **settings,
                    )
                    taught.append(replace(again, teacher=folder / "models" / teacher))
        cells += taught  # their teachers come first
    finished = _run_missing(cells, folder, "fine-tuning", tokenizer, accelerator, quiet)
    for record, asked in zip(finished, cells, strict=True):
        if record is None:
            raise FloatingPointError(
                f"{asked.name} diverged at learning rate {asked.config.learning_rate:g}; the "
                "other runs are recorded: use a smaller rate"
            )
    return finished


def select(rates: Sequence[float], trials: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """The learning rate that did best on the carved rows (the first of equals), beside all that were tried.

    A trial that diverged is None. Raises FloatingPointError when all did.
    """
    scores = [None if trial is None else trial["scores"]["main"] for trial in trials]
    if all(score is None for score in scores):
        raise FloatingPointError(f"every learning rate of {list(rates)} diverged; try smaller ones")
    best = max(range(len(rates)), key=lambda i: -math.inf if scores[i] is None else scores[i])
    return {"learning_rates": list(rates), "scores": scores, "chosen": rates[best]}


def _run_missing(
    cells: Sequence[Cell],
    folder: Path,
    what: str,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    quiet: bool,
) -> list[dict[str, Any] | None]:
    """The record of every cell, run where there is none yet; None where the loss diverged."""
    there = [(folder / f"{cell.name}.json").is_file() for cell in cells]
    found, done = [None] * len(cells), 0
    with Progress(len(cells), what, lines=len(cells), quiet=quiet) as progress:
        for i, cell in enumerate(cells):
            found[i] = _recorded(cell, folder, quiet) if there[i] else None
            if found[i]:
                done += 1
                progress.skip()
                continue
            try:
                found[i] = _run(cell, folder, tokenizer, accelerator, quiet)
            except FloatingPointError as error:
                if not quiet:
                    print(f"{cell.name}: {error}", flush=True)
            accelerator.free_memory()
            accelerator.wait_for_everyone()
            progress.step(run=cell.name, score=f"{found[i]['scores']['main']:.3f}" if found[i] else "diverged")
    if done and not quiet:
        print(f"{what}: {done} of {len(cells)} runs are recorded in {folder} already", flush=True)
    return found


def _run(
    cell: Cell, folder: Path, tokenizer: PreTrainedTokenizerBase, accelerator: Accelerator, quiet: bool
) -> dict[str, Any]:
    """Make one run and keep what is to be kept: the weights first, so that a record never lacks them."""
    model, teacher = cell.model(), None
    if cell.teacher:
        if not (cell.teacher / "model.safetensors").is_file():
            raise FloatingPointError(f"its teacher, {cell.teacher.name}, diverged")
        teacher = heads.fine_tuned(cell.teacher, cell.data.task)
    short = cell.config.steps(len(cell.data.train)) < LONG
    record = finetuning.finetune(
        model,
        cell.data,
        tokenizer,
        accelerator,
        cell.config,
        teacher=teacher,
        name=cell.name,
        model_name=cell.model_name,
        quiet=quiet or short,
        **cell.provenance,
    )
    if accelerator.is_main_process:
        if cell.keeps:
            model.save_pretrained(cell.keeps)
            tokenizer.save_pretrained(cell.keeps)
        save_record(record, folder)
    return record


def _recorded(cell: Cell, folder: Path, quiet: bool) -> dict[str, Any] | None:
    """The record of this very run, if that is what lies there; otherwise a line says why it is run again."""
    try:
        record = load_record(folder / f"{cell.name}.json")
        data = record["data"]
        there = record["config"] | {
            "data": data["fingerprint"],
            "rows": data["rows"],
            "weights": record.get("started_from"),
            "teacher": record.get("taught_by"),
            "selection": record.get("selection"),
        }
        why = [
            f"{key} was {there.get(key)}, is {value}"
            for key, value in cell.identity().items()
            if there.get(key) != value
        ]
        if not why and cell.keeps and not (cell.keeps / "model.safetensors").is_file():
            why = [f"its weights are not in {cell.keeps}"]
    except ValueError as error:
        why = [str(error)]
    if why and not quiet:
        print(f"{cell.name} is run again: {', '.join(why)}", flush=True)
    return None if why else record
