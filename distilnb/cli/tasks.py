"""The commands that fine-tune: `finetune` and `glue`."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from .. import paths, scales
from ..evidence.names import REHEARSAL
from ..evidence.records import Stopwatch, new_record, save_record
from ..machine import processes
from ..machine.device import make_accelerator
from ..models.sources import load_tokenizer, models_of, record_of, resolve_model
from ..report import tables
from ..tasks import heads, own, submission
from ..tasks.ceilings import all_ceilings
from ..tasks.finetuning import FinetuningConfig, Safety
from ..tasks.glue import GLUE, MissingSplit, TaskData, get_task
from ..tasks.grid import finetune_grid
from .options import GridOptions, RunOptions, parse, read_scale


def finetune(argv: list[str]) -> None:
    """Fine-tune models on tasks, one record for each task, model and seed; a second call does only what is missing.

    A model is LABEL=FOLDER. LABEL=random:FOLDER is the same network from random initialization, the baseline that
    shows what pre-training pays. With --learning_rates each model tries all of them on a tenth of the training rows.

    examples:
      distilnb finetune --scale toy --task sst2,rte --model teacher=data/teachers/toy --seeds 3
      distilnb finetune --scale toy --task squad --task_teacher teacher           DistilBERT (D)
      distilnb finetune --scale toy --task reviews.csv --columns text --label stars --kind numbers    your own task
      distilnb finetune --scale mini --task stsb --model student=runs/distil-mini/model --learning_rates 3e-4,1e-4
    """
    _fine_tune(argv, "finetune", finetune.__doc__)


def glue(argv: list[str]) -> None:
    """Table 1: GLUE's nine tasks for teacher, student and its twin without distillation, beside the paper's numbers.

    The same grid as `distilnb finetune`, all of whose options it takes. At base scale the released BERT-base and
    DistilBERT take part. --submission writes answers to the test splits in the format of GLUE's server.

    examples:
      distilnb glue --scale toy --seeds 3
      distilnb glue --scale base --seeds 5 --learning_rates 5e-5,3e-5,2e-5 --submission runs/submission
    """
    _fine_tune(argv, "glue", glue.__doc__, task=",".join(GLUE))


def _fine_tune(argv: list[str], command: str, about: str | None, **defaults: Any) -> None:
    scale = read_scale(argv)
    where, what, config, safety, columns = parse(
        argv,
        command,
        about,
        RunOptions,
        GridOptions,
        FinetuningConfig,
        Safety,
        own.OwnOptions,
        scale=scale.name,
        source="toyworld" if scale.name == "toy" else "hub",
        model=",".join(models_of(scale)),
        **scale.finetuning,
        **defaults,
    )
    pairs, rates = what.pairs(), what.rates()
    tokenizer = load_tokenizer(next(iter(pairs.values())).removeprefix("random:").removeprefix("untrained:"))
    models = {label: resolve_model(source) for label, source in pairs.items()}
    accelerator = make_accelerator(where.precision, where.cpu)

    def load() -> list[TaskData]:
        return own.find(what.task, what.source, columns, what.train_rows, what.validation_rows)

    data = processes.once_a_disk(paths.cache("tasks"), accelerator, load)
    if accelerator.is_main_process:
        tell(data)
    folder, origins = Path(where.out or paths.home() / "runs"), {label: record_of(pairs[label]) for label in pairs}
    rehearsed = any(found.pop("scale", "") == REHEARSAL for found in origins.values())
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
        safety=safety,
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
        for record in records:
            if record["data"].get("own"):
                scores = ", ".join(f"{name} {value:.3f}" for name, value in record["scores"].items() if name != "main")
                print(f"{record['task']}, {record['model']}, seed {record['seed']}: {scores}")
    processes.finish(accelerator)


def tell(data: list[TaskData]) -> None:
    """Print which splits of the tasks are missing, and what was guessed of your own."""
    for task in data:
        for sentence in task.info.get("missing", {}).values():
            print(f"left out: {sentence}", flush=True)
        for sentence in task.info.get("told", ()):
            print(f"{task.task.name}: {sentence}", flush=True)


def ceilings(argv: list[str]) -> None:
    """What the data sets themselves allow: repeated rows, WNLI's nearest neighbour, IMDb's lengths, SQuAD's spans.

    Read from the Hub, a few minutes on one core; the record goes to runs/ceilings.json.

    examples:
      distilnb ceilings
      distilnb ceilings --tokenizer google-bert/bert-base-uncased --out data/runs
    """
    parser = ArgumentParser(
        prog="distilnb ceilings", description=ceilings.__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    bert = f"{scales.BERT_BASE}@{scales.BERT_BASE_REVISION}"
    parser.add_argument("--tokenizer", default=bert, help=f"whose pieces are counted (default: {bert})")
    parser.add_argument("--out", default="", help="folder of the record (default: runs/)")
    options, watch = parser.parse_args(argv), Stopwatch()
    tokenizer = load_tokenizer(options.tokenizer)
    found, origins = all_ceilings(tokenizer, tell=lambda line: print(line, flush=True))
    scores = {f"{task}_{name}": value for task, values in found.items() for name, value in values.items()}
    config = {"tokenizer": options.tokenizer, "max_length": 384, "stride": 128}
    record = new_record(
        "data", "ceilings", scale="base", model="none", stopwatch=watch, scores=scores, config=config, data=origins
    )
    print(f"record: {save_record(record, Path(options.out) if options.out else None)}")
