"""The commands that fine-tune: `finetune` and `glue`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from .. import paths, scales
from ..evidence.comparing import check_budgets
from ..evidence.names import REHEARSAL
from ..evidence.records import Stopwatch, new_record, save_record
from ..machine import processes, sharing
from ..machine.device import make_accelerator, use_fast_settings
from ..models.sources import check_same_words, load_tokenizer, models_of, resolve_model, trained_record
from ..report import tables
from ..tasks import heads, own, submission
from ..tasks.ceilings import all_ceilings
from ..tasks.finetuning import FinetuningConfig, Safety
from ..tasks.glue import GLUE, MissingSplit, TaskData, get_task
from ..tasks.grid import finetune_grid
from ..tasks.own import OwnOptions
from .options import CeilingOptions, GridOptions, RunOptions
from .parsing import command


def _defaults(scale: str | None) -> dict[str, Any]:
    dial = scales.get(scale)
    return {"scale": dial.name, "source": dial.source, "model": ",".join(models_of(dial)), "seed": 0} | dial.finetuning


@command(_defaults)
def finetune(
    where: RunOptions, what: GridOptions, config: FinetuningConfig, safety: Safety, columns: OwnOptions
) -> None:
    """Fine-tune models on tasks, one record for each task, model and seed; a second call does only what is missing.

    A model is LABEL=FOLDER. LABEL=random:FOLDER is the same network from random initialization, the baseline that
    shows what pre-training pays. With --learning-rates each model tries all of them on a tenth of the training rows.

    examples:
      distilnb finetune --scale toy --task sst2,rte --model teacher=data/teachers/toy --seeds 3
      distilnb finetune --scale toy --task squad --task-teacher teacher           DistilBERT (D)
      distilnb finetune --scale toy --task reviews.csv --columns text --label stars --kind numbers    your own task
      distilnb finetune --scale mini --task stsb --model student=runs/distil-mini/model --learning-rates 3e-4,1e-4
    """
    _fine_tune(where, what, config, safety, columns)


@command(lambda scale: _defaults(scale) | {"task": ",".join(GLUE)})
def glue(where: RunOptions, what: GridOptions, config: FinetuningConfig, safety: Safety, columns: OwnOptions) -> None:
    """Table 1: GLUE's nine tasks for teacher, student and its twin without distillation, beside the paper's numbers.

    The same grid as `distilnb finetune`, all of whose options it takes. At base scale the released BERT-base and
    DistilBERT take part. --submission writes answers to the test splits in the format of GLUE's server.

    examples:
      distilnb glue --scale toy --seeds 3
      distilnb glue --scale base --seeds 5 --learning-rates 5e-5,3e-5,2e-5 --submission runs/submission
    """
    _fine_tune(where, what, config, safety, columns)


def _fine_tune(
    where: RunOptions, what: GridOptions, config: FinetuningConfig, safety: Safety, columns: OwnOptions
) -> None:
    accelerator, folder = make_accelerator(where.precision, where.cpu), Path(where.out or paths.home() / "runs")
    sharing.check(what.jobs, accelerator)
    with sharing.helped(what.jobs, folder / "helpers.log"):  # first of all, because a helper takes seconds to start
        tokenizer, records = _run_grid(scales.get(where.scale), folder, accelerator, what, config, safety, columns)
    if what.submission and not sharing.is_helper():
        _submit(records, what, folder, tokenizer, accelerator, config)
    if sharing.speaks(accelerator):
        print("\n".join([tables.comparison(records), *_own_scores(records)]))
    processes.finish(accelerator)


def _run_grid(
    scale: scales.Scale,
    folder: Path,
    accelerator: Accelerator,
    what: GridOptions,
    config: FinetuningConfig,
    safety: Safety,
    columns: OwnOptions,
) -> tuple[PreTrainedTokenizerBase, list[dict[str, Any]]]:
    """The tokenizer of all models, and the records of the grid."""
    pairs, rates = what.pairs(), what.rates()
    if len(rates) == 1:  # nothing to choose from: no trial is run
        config, rates = replace(config, learning_rate=rates[0]), []
    trained = {label: trained_record(source) for label, source in pairs.items()}
    print("\n".join(check_budgets(pairs, trained, what.allow_unequal)), flush=True)
    tokenizer = _tokenizer(pairs)
    models = {label: resolve_model(source) for label, source in pairs.items()}
    machine = use_fast_settings(accelerator.device, accelerator.mixed_precision)
    load = partial(own.find, what.task, what.source, columns, what.train_rows, what.validation_rows)
    with sharing.in_turn(paths.cache("tasks")):
        data = processes.once_a_disk(paths.cache("tasks"), accelerator, load)
    if what.submission and not any(task.task.name in GLUE for task in data):
        raise ValueError("--submission writes answers for GLUE's server, which has none of these tasks")
    tell_tasks(data, accelerator)
    rehearsed = any(record and record["scale"] == REHEARSAL for record in trained.values())
    origins = {label: {"model_record": record["name"]} if record else {} for label, record in trained.items()}
    records = finetune_grid(
        models,
        data,
        range(config.seed, config.seed + what.seeds),
        tokenizer,
        accelerator,
        config,
        scale=REHEARSAL if rehearsed else scale.name,
        folder=folder,
        learning_rates=rates,
        trial_rows=what.trial_rows,
        trial_seeds=what.trial_seeds,
        task_teacher=what.task_teacher or None,
        keep=what.keep or bool(what.submission),
        suffix=what.suffix,
        provenance={label: origin | {"machine": machine} for label, origin in origins.items()},
        safety=safety,
        jobs=what.jobs,
        helping=sharing.is_helper(),
    )
    return tokenizer, records


def _tokenizer(pairs: Mapping[str, str]) -> PreTrainedTokenizerBase:
    """The tokenizer of all these models; ValueError where they have not the same word pieces."""
    first, *others = pairs
    tokenizer = load_tokenizer(pairs[first])
    for label in others:
        advice = f"than '{first}': give it a command of its own, the records meet in one table"
        check_same_words(pairs[label], tokenizer, f"model '{label}'", advice)
    return tokenizer


def _submit(
    records: list[dict[str, Any]],
    what: GridOptions,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    config: FinetuningConfig,
) -> None:
    """Write each model's answers to the test splits of GLUE's server, from its run with the first seed."""
    for record in records:
        if record["seed"] == config.seed and record["task"] in GLUE:
            task = get_task(record["task"])
            model = heads.fine_tuned(folder / "models" / record["name"], task)
            target = Path(what.submission, record["model"])
            try:
                submission.predict_tests(model, task, tokenizer, accelerator, config, target, what.source)
            except MissingSplit as error:
                print(f"no submission: {error}", flush=True)


def _own_scores(records: list[dict[str, Any]]) -> list[str]:
    """A line for each run on an own task, whose metrics are in no table."""
    return [
        f"{record['task']}, {record['model']}, seed {record['seed']}: "
        + ", ".join(f"{name} {value:.3f}" for name, value in record["scores"].items() if name != "main")
        for record in records
        if record["data"].get("own")
    ]


def tell_tasks(data: list[TaskData], accelerator: Accelerator) -> None:
    """Print, once for all processes, what `tell` says of each task."""
    for task in data if sharing.speaks(accelerator) else ():
        tell(task.task.name, task.info)


def tell(name: str, info: dict[str, Any]) -> None:
    """Print which splits of a task are missing, and what was guessed of your own."""
    for sentence in info.get("missing", {}).values():
        print(f"left out: {sentence}", flush=True)
    for sentence in info.get("told", ()):
        print(f"{name}: {sentence}", flush=True)


def ceilings(what: CeilingOptions) -> None:
    """What the data sets themselves allow: repeated rows, WNLI's nearest neighbour, IMDb's lengths, SQuAD's spans.

    Read from the Hub, a few minutes on one core; the record is called ceilings.

    examples:
      distilnb ceilings
      distilnb ceilings --out data/runs
    """
    watch, tokenizer = Stopwatch(), load_tokenizer(what.tokenizer)
    by_task, origins = all_ceilings(tokenizer, lambda line: print(line, flush=True))
    scores = {f"{task}_{name}": value for task, values in by_task.items() for name, value in values.items()}
    config = {"tokenizer": what.tokenizer, "max_length": 384, "stride": 128}
    record = new_record(
        "data", "ceilings", scale="base", model="none", stopwatch=watch, scores=scores, config=config, data=origins
    )
    print(f"record: {save_record(record, Path(what.out) if what.out else None)}")
