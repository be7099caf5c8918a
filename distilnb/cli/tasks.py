"""The commands that fine-tune: `finetune` and `glue`."""

from pathlib import Path
from typing import Any

from .. import paths, scales
from ..evidence.comparing import check_budgets
from ..evidence.names import REHEARSAL
from ..machine import processes
from ..machine.device import make_accelerator
from ..models.sources import load_tokenizer, models_of, resolve_model, trained_record
from ..report import tables
from ..tasks import heads, submission
from ..tasks.finetuning import FinetuningConfig
from ..tasks.glue import GLUE, MissingSplit, get_task
from ..tasks.grid import finetune_grid
from .options import GridOptions, RunOptions
from .parsing import command


def _defaults(scale: str | None) -> dict[str, Any]:
    dial = scales.get(scale)
    source = "toyworld" if dial.name == "toy" else "hub"
    return {"scale": dial.name, "source": source, "model": ",".join(models_of(dial))} | dial.finetuning


def _glue_defaults(scale: str | None) -> dict[str, Any]:
    return _defaults(scale) | {"task": ",".join(GLUE)}


@command(_defaults)
def finetune(where: RunOptions, what: GridOptions, config: FinetuningConfig) -> None:
    """Fine-tune models on tasks, one record for each task, model and seed; a second call does only what is missing.

    A model is LABEL=FOLDER. LABEL=random:FOLDER is the same network from random initialization, the baseline that
    shows what pre-training pays. With --learning_rates each model tries all of them on a tenth of the training rows.

    examples:
      distilnb finetune --scale toy --task sst2,rte --model teacher=data/teachers/toy --seeds 3
      distilnb finetune --scale toy --task squad --task_teacher teacher           DistilBERT (D)
      distilnb finetune --scale mini --task stsb --model student=runs/distil-mini/model --learning_rates 3e-4,1e-4
    """
    _fine_tune(where, what, config)


@command(_glue_defaults)
def glue(where: RunOptions, what: GridOptions, config: FinetuningConfig) -> None:
    """Table 1: GLUE's nine tasks for teacher, student and its twin without distillation, beside the paper's numbers.

    The same grid as `distilnb finetune`, all of whose options it takes. At base scale the released BERT-base and
    DistilBERT take part. --submission writes answers to the test splits in the format of GLUE's server.

    examples:
      distilnb glue --scale toy --seeds 3
      distilnb glue --scale base --seeds 5 --learning_rates 5e-5,3e-5,2e-5 --submission runs/submission
    """
    _fine_tune(where, what, config)


def _fine_tune(where: RunOptions, what: GridOptions, config: FinetuningConfig) -> None:
    scale = scales.get(where.scale)
    pairs, rates = what.pairs(), what.rates()
    trained = {label: trained_record(source) for label, source in pairs.items()}
    print("\n".join(check_budgets(pairs, trained, what.allow_unequal)), flush=True)
    tokenizer = load_tokenizer(next(iter(pairs.values())).removeprefix("random:").removeprefix("untrained:"))
    models = {label: resolve_model(source) for label, source in pairs.items()}
    accelerator = make_accelerator(where.precision, where.cpu)
    data = processes.once_a_disk(paths.cache("tasks"), accelerator, what.load)
    if accelerator.is_main_process:
        for gap in (sentence for task in data for sentence in task.info.get("missing", {}).values()):
            print(f"left out: {gap}", flush=True)
    folder = Path(where.out or paths.home() / "runs")
    origins = {label: {"model_record": record["name"]} if record else {} for label, record in trained.items()}
    rehearsed = any(record and record["scale"] == REHEARSAL for record in trained.values())
    records = finetune_grid(
        models,
        data,
        range(what.seeds),
        tokenizer,
        accelerator,
        config,
        scale=REHEARSAL if rehearsed else scale.name,
        folder=folder,
        learning_rates=rates,
        trial_rows=what.trial_rows,
        task_teacher=what.task_teacher or None,
        keep=what.keep or bool(what.submission),
        suffix=what.suffix,
        provenance=origins,
    )
    for record in records if what.submission else ():
        if record["seed"] == 0 and record["task"] in GLUE:
            task = get_task(record["task"])
            model = heads.fine_tuned(folder / "models" / record["name"], task)
            try:
                submission.predict_tests(
                    model, task, tokenizer, accelerator, config, Path(what.submission, record["model"]), what.source
                )
            except MissingSplit as error:
                print(f"no submission: {error}", flush=True)
    if accelerator.is_main_process:
        print(tables.comparison(records))
    processes.finish(accelerator)
