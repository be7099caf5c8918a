"""A grid of every model on every task with every seed, one record each; a second call runs only missing cells.

A run is identified by its name. Its settings, data, starting weights and teacher are compared with its record, and a
printed line says why a run is repeated. Learning rates are chosen on rows held out of the training split, from the
same list for every model; validation rows judge and never choose (notebook 04). On a small task a rate that is too high
fails with some seeds only, which a single trial may not show: `trial_seeds` takes the mean of several.
"""

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import paths
from ..distillation.checkpoints import fingerprint
from ..evidence import cells
from ..evidence.names import finetuning_run
from ..evidence.records import load_record, save_record
from ..machine import files, processes
from ..machine.progress import duration
from ..models.sources import Source
from ..models.teacher import never_cut
from . import finetuning, glue, heads
from .finetuning import FinetuningConfig, Safety
from .glue import TaskData
from .layout import framed

LONG = 1000  # updates from which a run inside a grid shows its own progress
SECOND_STAGE = "_d"  # as in DistilBERT (D), the paper's name for a student distilled a second time
ONLY_WITH_TEACHER, ONLY_WITH_SPANS = ("soft_weight", "temperature"), ("stride",)


@dataclass(frozen=True)
class FinetuningGrid:
    """The settings that all runs of a grid share; `finetune_grid` explains them."""

    models: Mapping[str, Source]
    tokenizer: PreTrainedTokenizerBase
    accelerator: Accelerator
    config: FinetuningConfig
    scale: str = "toy"
    folder: Path = field(default_factory=lambda: paths.home() / "runs")
    learning_rates: Sequence[float] = ()
    trial_rows: int = 0
    trial_seeds: int = 1
    task_teacher: str | None = None
    keep: bool = False
    suffix: str = ""
    provenance: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    safety: Safety = finetuning.UNSAVED
    jobs: int = 1
    helping: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.task_teacher and self.task_teacher not in self.models:
            raise ValueError(
                f"the second teacher '{self.task_teacher}' is none of the models: {', '.join(self.models)}"
            )
        if self.task_teacher and len(self.models) == 1:
            raise ValueError(f"'{self.task_teacher}' would teach only itself; name a student as well")

    def run_name(self, label: str, task: TaskData, which: str) -> str:
        """The name of a run and of its record."""
        name = task.task.name + (f"-{self.suffix}" if self.suffix else "")
        return finetuning_run(self.scale, label, name, which)

    def cell(self, model: str, task: TaskData, config: FinetuningConfig, **more: Any) -> "FinetuningCell":
        """The cell of `model` on `task` with the seed of `config`; `more` are keys for its record."""
        name = self.run_name(model, task, f"seed{config.seed}")
        about = {"scale": self.scale} | self.provenance.get(model, {}) | more
        keeps = self.folder / "models" / name if self.keep or model == self.task_teacher else None
        return FinetuningCell(self, name, model, self.models[model], task, config, about, self.folder, keeps)

    def trial_names(self, model: str, task: TaskData) -> dict[tuple[float, int], str]:
        """The names of the trials for a choice, by learning rate and seed."""
        return {
            (rate, seed): self.run_name(model, task, f"lr{rate:g}" + (f"-seed{seed}" if seed else ""))
            for rate in self.learning_rates
            for seed in range(self.trial_seeds)
        }

    def trials(self, model: str, task: TaskData) -> list["FinetuningCell"]:
        """The cells of `model` on carved rows of `task`, for each learning rate and seed; they keep only records."""
        made = []
        for (rate, seed), name in self.trial_names(model, task).items():
            cell = self.cell(model, task, replace(self.config, learning_rate=rate, seed=seed))
            made.append(replace(cell, name=name, records=self.folder / "selection", keeps=None))
        return made

    def taught(self, cell: "FinetuningCell") -> "FinetuningCell":
        """The cell of the same run that also learns from the task teacher, fine-tuned with the same seed."""
        label = cell.model_name + SECOND_STAGE
        name, teacher = (self.run_name(x, cell.data, f"seed{cell.config.seed}") for x in (label, self.task_teacher))
        about = cell.about | {"teacher_record": teacher}
        keeps = self.folder / "models" / name if self.keep else None
        return replace(
            cell, name=name, model_name=label, about=about, keeps=keeps, teacher=self.folder / "models" / teacher
        )

    def run_names(self, model: str, task: TaskData, seeds: Sequence[int]) -> list[str]:
        """The names of the runs of `model` on `task`, also of those that learn from the task teacher."""
        labels = [model, model + SECOND_STAGE] if self.task_teacher not in (None, model) else [model]
        return [self.run_name(label, task, f"seed{seed}") for label in labels for seed in seeds]

    def left(self, model: str, task: TaskData, seeds: Sequence[int]) -> tuple[int, int]:
        """The number of runs and of trials of `model` on `task` without a record."""
        runs = self.run_names(model, task, seeds)
        names = {} if self.chosen(model, task, seeds) else self.trial_names(model, task)
        trials = [f"selection/{name}" for name in names.values()]
        missing = [sum(not (self.folder / f"{name}.json").is_file() for name in names) for names in (runs, trials)]
        return missing[0], missing[1]

    def chosen(self, model: str, task: TaskData, seeds: Sequence[int]) -> dict[str, Any] | None:
        """The choice of a learning rate that a record of one of these runs states, if its trials were those of this
        grid; else None."""
        for seed in seeds if self.learning_rates else ():
            try:
                selection = load_record(self.folder / f"{self.run_name(model, task, f'seed{seed}')}.json")["selection"]
            except (ValueError, KeyError):
                continue
            if {key: selection[key] for key in selection if key not in ("scores", "chosen")} != self.trial_settings:
                continue
            config = replace(self.config, learning_rate=selection["chosen"], seed=seed)
            cell = replace(self.cell(model, task, config, selection=selection), keeps=None)
            if cells.recorded(cell, self.folder)[0]:
                return selection
        return None

    def choices(self, data: Sequence[TaskData], seeds: Sequence[int]) -> dict[tuple[str, str], dict[str, Any] | None]:
        """The choice of a learning rate by model and task, None where every rate diverged; {} for a grid with a single
        rate.

        Where no record states it, trials on nine tenths of the training rows make it, which are run where missing;
        their seeds begin with 0 whatever the seeds of the runs, because a model has one rate for all of them.
        """
        chosen, trials = {}, {}
        for task in data if self.learning_rates else ():
            carved = task.carve(most=self.trial_rows)  # here, so that its rows are tokenized once for all models
            for model in self.models:
                if known := self.chosen(model, task, seeds):
                    chosen[model, task.task.name] = known
                else:
                    trials[model, task.task.name] = self.trials(model, carved)
        made = [cell for own in trials.values() for cell in own]
        if made:
            where, what = self.folder / "selection", "choosing learning rates"
            tried = iter(cells.run_missing(made, where, what, self.accelerator, quiet=self.quiet).records)
        for key in trials:
            groups = [[next(tried) for _ in range(self.trial_seeds)] for _ in self.learning_rates]
            with suppress(FloatingPointError):
                chosen[key] = self.trial_settings | select(self.learning_rates, groups)
        return dict.fromkeys(trials) | chosen

    @property
    def trial_settings(self) -> dict[str, Any]:
        """What a record says of the trials for its learning rate, besides their scores and the choice."""
        made = {"learning_rates": list(self.learning_rates)}
        made |= {"rows": self.trial_rows} if self.trial_rows else {}
        return made | ({"seeds": self.trial_seeds} if self.trial_seeds > 1 else {})

    def cells(
        self, task: TaskData, seeds: Sequence[int], choices: Mapping[tuple[str, str], dict[str, Any] | None]
    ) -> list["FinetuningCell"]:
        """The cells of a task, a teacher's before those of its students, without models all of whose rates diverged."""
        made, taught = {}, []
        for model in self.models:
            config, more, selection = self.config, {}, choices.get((model, task.task.name), {})
            if selection is None:
                continue
            if selection:
                more, config = {"selection": selection}, replace(config, learning_rate=selection["chosen"])
            made[model] = [self.cell(model, task, replace(config, seed=seed), **more) for seed in seeds]
        if self.task_teacher in made:
            taught = [self.taught(cell) for model in made if model != self.task_teacher for cell in made[model]]
        return [cell for own in made.values() for cell in own] + taught


@dataclass(frozen=True)
class FinetuningCell:
    """One run of a grid: a model on a task with a seed (in `config`), and further keys for its record.

    The record goes to the folder `records`; the weights, if kept, go to `keeps`; `teacher` is the folder of a
    fine-tuned teacher.
    """

    grid: FinetuningGrid
    name: str
    model_name: str
    source: Source
    data: TaskData
    config: FinetuningConfig
    about: dict[str, Any]
    records: Path
    keeps: Path | None = None
    teacher: Path | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The name of the run that fine-tunes this one's teacher, if it has one."""
        return (self.teacher.name,) if self.teacher else ()

    def model(self) -> PreTrainedModel:
        """The model with which this run starts."""
        return heads.for_task(self.source, self.data.task, self.config.seed)[0]

    def identity(self) -> dict[str, Any]:
        """The facts with which the record of this run must agree."""
        silent = (() if self.teacher else ONLY_WITH_TEACHER) + (() if self.data.task.spans else ONLY_WITH_SPANS)
        made_of = {key: value for key, value in asdict(self.config).items() if key not in silent}
        if self.teacher:
            made_of["teacher"] = fingerprint(heads.fine_tuned(self.teacher, self.data.task))
        if "selection" in self.about:
            made_of["selection"] = self.about["selection"]
        if self.grid.safety.micro_batch_size:
            made_of["micro_batch_size"] = self.grid.safety.micro_batch_size
        if "metric" in self.data.info:  # of an own task, for which another may be asked
            made_of["metric"] = self.data.info["metric"]
        made_of |= {"data": self.data.info["fingerprint"], "rows": self.data.info["rows"]}
        made_of["precision"] = self.grid.accelerator.mixed_precision
        return made_of | {"weights": fingerprint(self.model())}

    def differences(self, record: dict[str, Any]) -> list[str]:
        """The differences, in words, between `record` and the record of this run."""
        data = record["data"]
        made_of = finetuning.recorded_config(record["config"]) | {
            "data": data["fingerprint"],
            "rows": data["rows"],
            "metric": data.get("metric"),
            "weights": record.get("started_from"),
            "teacher": record.get("taught_by"),
            "selection": record.get("selection"),
            "micro_batch_size": record.get("micro_batch_size"),
            "precision": record.get("precision"),
        }
        try:
            wanted = self.identity()
        except ValueError as error:
            return [str(error)]
        why = [
            f"{key} was {made_of.get(key)}, is {value}" for key, value in wanted.items() if made_of.get(key) != value
        ]
        if not why and self.keeps and not (self.keeps / "model.safetensors").is_file():
            why = [f"its weights are not in {self.keeps}"]
        return why

    def run(self) -> dict[str, Any]:
        """Make the run, save the weights (if kept) and then the record, so that no record lacks its weights."""
        grid, teacher = self.grid, None
        if self.teacher:
            if not (self.teacher / "model.safetensors").is_file():
                raise FloatingPointError(f"its teacher, {self.teacher.name}, diverged")
            teacher = heads.fine_tuned(self.teacher, self.data.task)
        model, short = self.model(), self.config.steps(len(self.data.train)) < LONG
        unfinished = Path(grid.safety.checkpoints or grid.folder / "unfinished") / self.name
        record = finetuning.finetune(
            model,
            self.data,
            grid.tokenizer,
            grid.accelerator,
            self.config,
            teacher=teacher,
            safety=replace(grid.safety, checkpoints=str(unfinished)),
            quiet=grid.quiet or short,
            name=self.name,
            model_name=self.model_name,
            **self.about,
        )
        if grid.accelerator.is_main_process:
            if self.keeps:
                with files.written("the fine-tuned model", self.keeps):
                    model.save_pretrained(self.keeps)
                    never_cut(tokenizer := framed(grid.tokenizer))  # it cut the rows of the task
                    tokenizer.save_pretrained(self.keeps)
            save_record(record, self.records)
            shutil.rmtree(unfinished, ignore_errors=True)
            with suppress(OSError):  # it may hold the checkpoints of other runs
                unfinished.parent.rmdir()
        return record


def finetune_grid(
    models: Mapping[str, Source],
    data: Iterable[TaskData],
    seeds: Iterable[int],
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    config: FinetuningConfig,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Fine-tune every model on every task with every seed, and return the records, kept in `folder` (default `runs/`).

    A cell with a record of the same settings, data and starting weights is not run again, and an interrupted one goes
    on from its last checkpoint. The other settings are fields of `FinetuningGrid`. With `learning_rates`, each model
    and task first tries all these rates (the same for every model) on nine tenths of the training rows (at most
    `trial_rows`; 0: all), with `trial_seeds` seeds, and keeps the rate that does best on the other tenth; trials are
    recorded in `folder/selection`. With `task_teacher`, one of `models`, every other model is fine-tuned again, now
    also on the answers of that model, fine-tuned with the same seed; these runs have the model name `<model>_d`. `keep`
    saves the fine-tuned models in `folder/models`. `suffix` is added to the tasks in names of runs. `provenance` adds
    keys to the records of a model, by its name in `models`. `safety` is a `finetuning.Safety`; `jobs`, the number of
    processes that share the runs, matters to the estimate alone. One of them that is only `helping` is done when no run
    is free any more, and returns the records that it knows. `quiet` prints nothing.

    Raises ValueError before any work for arguments that do not fit, FloatingPointError at the end when a run diverged.
    """
    data, seeds = list(data), list(seeds)
    if not (models and seeds):
        raise ValueError("a grid needs at least one model and one seed")
    given = {key: value for key, value in settings.items() if value is not None}
    grid = FinetuningGrid(models, tokenizer, accelerator, config, **given)
    processes.check_shared_folder(Path(grid.folder), accelerator)
    asked = not (grid.quiet or grid.helping)
    grid = replace(grid, folder=Path(grid.folder), quiet=not (asked and accelerator.is_main_process))
    _check_tasks(grid, data, seeds)
    for source in models.values():  # now, because an unusable model should not be noticed hours later
        for task in {task.task.spans: task for task in data}.values():  # one for each kind of head
            finetuning.check_run(heads.for_task(source, task.task)[0], task.task, tokenizer, config)
    told = _announce(grid, data, seeds) if asked else ""  # all processes measure together
    if not grid.quiet:
        print(told, end="", flush=True)
    choices = grid.choices(data, seeds)
    made = [cell for task in data for cell in grid.cells(task, seeds, choices)]
    done = cells.run_missing(made, grid.folder, "fine-tuning", accelerator, quiet=grid.quiet, wait=not grid.helping)
    if grid.helping:
        return [record for record in done.records if record]
    lost = [f"{model} on {task} at every learning rate" for (model, task), choice in choices.items() if not choice]
    lost += [f"{one.name} at {one.config.learning_rate:g}" for one in made if one.name in done.diverged]
    if lost:
        raise FloatingPointError(f"diverged: {', '.join(lost)}; the other runs are recorded: use smaller rates")
    return done.records


def _check_tasks(grid: FinetuningGrid, data: Sequence[TaskData], seeds: Sequence[int]) -> None:
    """Raise ValueError for a task whose texts or rows cannot be cut as is said, and where a run would replace the
    record, and the kept model, of another file's task of its name.

    A file that was changed where it lies is the same task, which is run again; a copy of the same rows is, too.
    """
    for task in data:
        glue.check_truncation(task.task, grid.config.truncation)
    if grid.learning_rates:
        _check_carving(data, grid.trial_rows)
    for task, model in product((task for task in data if task.info.get("own")), grid.models):
        for name in grid.run_names(model, task, seeds):
            try:
                theirs, ours = load_record(grid.folder / f"{name}.json")["data"], task.info
            except ValueError:
                continue
            moved = theirs["id"] != ours["id"] or theirs.get("place", ours["place"]) != ours["place"]
            if moved and theirs["fingerprint"] != ours["fingerprint"]:
                raise ValueError(
                    f"{name} is recorded already, of other data ({theirs['id']} elsewhere): name this run by --suffix, "
                    f"or rename {ours['id']}"
                )


def _check_carving(data: Sequence[TaskData], most: int) -> None:
    """Raise ValueError where a task has no training rows to hold out for the choice of a learning rate."""
    for task in data:
        try:
            task.carve(most=most)
        except ValueError as error:
            why = f"no training rows can be held out to choose learning rates on ({error})"
            raise ValueError(f"{why}: give one rate, as --learning-rate") from error


def select(rates: Sequence[float], trials: Sequence[Sequence[dict[str, Any] | None]]) -> dict[str, Any]:
    """The best learning rate on the carved rows (the first of equals), and the scores of all that were tried.

    A rate has one trial or several, of different seeds; its score is their mean. The trial of a rate that diverged is
    None, and so is the rate's score. Raises FloatingPointError when no rate has a score.
    """
    scores = [None if None in own else fmean(trial["scores"]["main"] for trial in own) for own in trials]
    if all(score is None for score in scores):
        raise FloatingPointError(f"every learning rate of {list(rates)} diverged; try smaller ones")
    best = max(range(len(rates)), key=lambda i: -math.inf if scores[i] is None else scores[i])
    return {"scores": scores, "chosen": rates[best]}


def _announce(grid: FinetuningGrid, data: Sequence[TaskData], seeds: Sequence[int]) -> str:
    """The expected time of the runs without a record, as a sentence, from a few updates per model.

    "" for runs of so few updates that those for the estimate would be more than a hundredth of them.
    """
    left, count = [], 0
    for task, model in product(data, grid.models):
        runs, trials = grid.left(model, task, seeds)
        share = min(0.9, grid.trial_rows / len(task.train)) if grid.trial_rows else 0.9
        left += [(model, task, runs + share * trials)] if runs + trials else []
        count += runs + trials
    updates = sum(grid.config.steps(len(task.train)) * runs for _, task, runs in left)
    if not left or updates < 100 * finetuning.MEASURED * len({model for model, *_ in left}):
        return ""
    seconds, pace = 0.0, {}
    for model, task, runs in left:
        if model not in pace:
            head = heads.for_task(grid.models[model], task.task)[0]
            pace[model] = finetuning.pace(head, task, grid.tokenizer, grid.accelerator, grid.config, grid.safety)
        tokens = finetuning.work(finetuning.encode(task, grid.tokenizer, grid.config), grid.config)
        seconds += pace[model] * runs * tokens
    words = "1 run that is" if count == 1 else f"{count} runs that are"
    return f"estimate: about {duration(seconds / grid.jobs)} for {words} not recorded yet\n"
