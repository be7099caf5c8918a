"""DistilBERT, rebuilt step by step: each command is the few lines that a notebook writes out. Start with `run`.

distilnb run                       every notebook, offline, at toy scale
distilnb distil --scale toy        a teacher into a student by the triple loss
distilnb teacher --scale toy       pre-train a teacher from nothing
distilnb finetune --task sst2 ...  models on tasks, several seeds
distilnb glue --scale toy          Table 1: the nine tasks of GLUE
distilnb ablate --scale toy        one loss off at a time, seeds in pairs (Table 4)
distilnb benchmark                 size and speed of teacher and student, in several formats
distilnb export --model FOLDER     a model as ONNX, in float32 and int8
distilnb publish --dry-run         a model with its card, ready for the Hub
distilnb book                      notebooks and documents as pages to read without running
distilnb figures                   redraw the figures from the records
distilnb report                    the scorecard: paper, measured, verdict
"""

import sys
import traceback
import warnings
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    HfArgumentParser,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from . import (
    __version__,
    ablation,
    book,
    corpus,
    cost,
    dropout,
    evidence,
    figures,
    heads,
    hub,
    machine,
    notebooks,
    own,
    paths,
    processes,
    publish,
    report,
    results,
    scales,
    squad,
    submission,
    tasks,
    toyworld,
)
from .benchmark import SHAPES, BenchmarkConfig, Fitted, benchmark, with_head
from .export import FORMATS, check_agreement, check_formats, load_model, make_runner, sample
from .finetuning import FinetuningConfig, Safety
from .finetuning import finetune as finetune_model
from .grid import finetune_grid
from .masking import Masker
from .options import (
    AblationOptions,
    BenchmarkOptions,
    ExportOptions,
    GridOptions,
    PublishOptions,
    RunOptions,
    StudentOptions,
    TeacherOptions,
)
from .pretraining import check_output, pretrain
from .recipe import PretrainingConfig
from .scales import Scale
from .scorecard import headlines, markdown, page, scorecard, tally
from .scored import scored_texts
from .student import build_student
from .teacher import fold_token_types, grow, load_encoder, load_teacher, new_teacher, set_dropout, train_only

REHEARSAL = "rehearsal"  # the scale of what came from random weights: it fills no table


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status.

    0 when it worked, 2 for input that cannot be used, 1 for a run that failed, 130 for Ctrl-C and 143 for SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = ArgumentParser(
        prog="distilnb",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
        epilog="distilnb COMMAND --help explains a command; --traceback shows where an error arose.\n\n"
        "exit status: 0 done, 1 failed, 2 input that cannot be used, 130 stopped by Ctrl-C, 143 by SIGTERM.\n"
        "Training that is stopped ends its update and saves first; a second signal stops it at once.",
    )
    parser.add_argument("--version", action="version", version=f"distilnb {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    flags = [a for a in argv if a != "--traceback"]
    if not flags:
        parser.print_help()
        return 2
    command = parser.parse_args(flags[:1]).command
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.formatwarning = lambda message, *_, **__: f"distilnb: {message}\n"
    try:
        with processes.explained():
            COMMANDS[command](flags[1:])
        return 0
    except KeyboardInterrupt as stop:
        print(f"\ndistilnb: {stop or 'stopped'}; the same command goes on from the last checkpoint", file=sys.stderr)
        return processes.leave(getattr(stop, "status", 130))
    except ModuleNotFoundError as error:
        print(f'distilnb: {error.name} is not installed: pip install "distilnb[notebooks]"', file=sys.stderr)
        return 2
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
        if "--traceback" in argv:
            traceback.print_exc()
        print(f"distilnb: {error}", file=sys.stderr)
        return processes.leave(2 if isinstance(error, ValueError) else 1)


def parse(argv: list[str], command: str, *kinds: type, **defaults: Any) -> tuple[Any, ...]:
    """Dataclasses from flags; `defaults` replace the classes' own."""
    parser = HfArgumentParser(
        kinds, prog=f"distilnb {command}", description=COMMANDS[command].__doc__, formatter_class=_Formatter
    )
    parser.set_defaults(**defaults)
    *parsed, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    if unknown:
        raise ValueError(f"unknown option {unknown[0]}; `distilnb {command} --help` lists all")
    return tuple(parsed)


class _Formatter(RawDescriptionHelpFormatter):
    """Help that names each default, and none where there is nothing to name."""

    def _get_help_string(self, action: Any) -> str:
        silent = action.default in (None, "", "==SUPPRESS==", False) or "default:" in action.help
        return action.help + ("" if silent else f" (default: {action.default})")


def read_scale(argv: list[str]) -> Scale:
    """The dial, read ahead of the other flags because it sets their defaults."""
    early = ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--scale")
    return scales.get(early.parse_known_args(argv)[0].scale)


def make_accelerator(precision: str = "auto", cpu: bool = False) -> Accelerator:
    """An Accelerator for this machine; under `accelerate launch` it joins the other processes.

    `auto` is bf16 where the hardware multiplies it fast, fp16 on older GPUs, else float32.
    """
    if precision not in ("auto", "no", "bf16", "fp16"):
        raise ValueError(f"precision is '{precision}'; use auto, no, bf16 or fp16")
    cuda = torch.cuda.is_available() and not cpu
    if precision == "auto" and cuda:
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    elif precision == "auto":
        precision = "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"
    patience = InitProcessGroupKwargs(timeout=timedelta(seconds=processes.PATIENCE))
    cpu = not cuda and not (torch.backends.mps.is_available() and not cpu)
    with processes.meeting():
        accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[patience])
    processes.wait_at_most(processes.PREPARING)
    return accelerator


def distil(argv: list[str]) -> None:
    """Distil a student from a teacher by the triple loss (paper section 3).

    examples:
      distilnb distil --scale toy
      distilnb distil --scale mini --teacher google-bert/bert-base-uncased --tokens 2000000
      distilnb distil --scale toy --ce 0 --name without-soft-targets        one row of the ablation
      distilnb distil --scale base --teacher random:google-bert/bert-base-uncased --tokens 20000     a rehearsal
      accelerate launch --num_processes 8 -m distilnb distil --scale paper
    """
    scale = read_scale(argv)
    where, what, config = parse(
        argv,
        "distil",
        RunOptions,
        StudentOptions,
        PretrainingConfig,
        scale=scale.name,
        name=f"distil-{scale.name}",
        text=scale.text,
        leave_out=scale.leave_out,
        teacher=scale.ready_teacher,
        **scale.pretraining,
    )
    check_output(where.folder, config)
    sources = corpus.parse_sources(where.text)
    revision = what.revision or (scale.revision if what.teacher == scale.teacher else None)
    accelerator = make_accelerator(where.precision, where.cpu)
    teacher, tokenizer = read_teacher(what.teacher, revision)
    layers = what.chosen_layers(teacher.config.num_hidden_layers)
    student = build_student(teacher, layers, init=what.init, token_types=what.token_types, seed=config.seed)
    if accelerator.device.type == "cpu":
        dropout.for_cpu(student)
    with accelerator.main_process_first():
        text = corpus.build_corpus(
            sources,
            tokenizer,
            seq_length=config.seq_length,
            layout=config.layout,
            max_tokens=corpus_budget(sources, scale.corpus_tokens, config.tokens),
            without=scored_texts(where.leave_out),
        )
    masker = Masker.of(tokenizer, text.token_counts, config.smoothing, config.mask_probability, config.seed)
    made = {
        "teacher": shipped_name(what.teacher),
        "revision": revision,
        "layers": list(layers),
        "init": what.init,
        "token_types": what.token_types,
    }
    said = REHEARSAL if what.teacher.startswith("random:") else scale.name
    record = pretrain(
        student,
        text,
        masker,
        accelerator,
        config,
        teacher=teacher,
        out=where.folder,
        name=where.name,
        scale=said,
        made_from=made,
        machine=machine.settle(accelerator.device),
    )
    if accelerator.is_main_process:
        keep(student, tokenizer, record, where.folder)
    processes.finish(accelerator)


def shipped_name(path: str) -> str:
    """A model's name for the record: one that we ship by its place in data/, not by this machine's folders."""
    return str(Path("data") / Path(path).relative_to(paths.data())) if Path(path).is_relative_to(paths.data()) else path


def corpus_budget(sources: tuple[corpus.TextSource, ...], tokens: int | None, wanted: int | None = None) -> int | None:
    """How many tokens of text to prepare: `tokens` for endless or streamed text, else all there is.

    Of a stream no more is fetched than a run of `wanted` tokens reads once, with what is held out.
    """
    if any(s.stream for s in sources) and tokens and wanted:
        return min(tokens, wanted + wanted // 20 + 10_000)
    endless = any(s.name == "toyworld" or s.stream for s in sources)
    return (tokens or scales.get("toy").corpus_tokens) if endless else None


def keep(model: Any, tokenizer: PreTrainedTokenizerBase, record: dict[str, Any], folder: Path) -> None:
    """Save the model with its tokenizer (plain transformers loads it) and the record, and say where."""
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    path = results.save(record)
    (folder / "model" / "record.json").write_text(path.read_text())  # the model and what made it stay together
    print(f"{report.summary([record])}\nmodel:  {folder / 'model'}\nrecord: {path}")


def teacher(argv: list[str]) -> None:
    """Pre-train a teacher by the same loop with L_mlm alone: from nothing, grown from shallow to deep, or from a BERT.

    Depth is added in stages by repeating layers, because a deep, narrow BERT started at full depth predicts by
    word frequency for millions of tokens. At scale small a published encoder without a masked-word head gets one: the
    head alone is trained first, then all weights. Only the scales toy, mini and small describe a teacher; their stages
    set depth, learning rate, batch and sequence length, and --tokens stretches or shrinks all of them alike. The
    weights are saved in float16: half the size on disk, and loaded as float32. A teacher can be trained on.

    examples:
      distilnb teacher --scale toy --out runs/teacher
      distilnb teacher --scale mini --start data/teachers/mini --tokens 50000000 --name teacher-mini-more
      distilnb teacher --scale small
      distilnb teacher --scale small --start intfloat/e5-small-v2 --name teacher-e5
      distilnb teacher --scale mini --text stanfordnlp/imdb:plain_text:unsupervised
    """
    scale = read_scale(argv)
    if not scale.teacher_stages:
        raise ValueError(
            f"scale {scale.name} takes a published teacher ({scale.teacher}); use --scale toy, mini or small"
        )
    stages = scale.teacher_stages
    where, what, config = parse(
        argv,
        "teacher",
        RunOptions,
        TeacherOptions,
        PretrainingConfig,
        scale=scale.name,
        name=f"teacher-{scale.name}",
        text=scale.teacher_text,
        leave_out=scale.leave_out,
        start=f"{scale.teacher}@{scale.revision}" if scale.encoder else "",
        tokens=sum(s.tokens for s in stages),
        batch_size=stages[0].batch_size,
        ce=0.0,
        mlm=1.0,
        cos=0.0,
        clip=1.0,
        **scale.teacher_pretraining,
    )
    sources, scored = corpus.parse_sources(where.text), scored_texts(where.leave_out)
    accelerator = make_accelerator(where.precision, where.cpu)
    records: list[dict[str, Any]] = []
    made: dict[str, Any] = {}
    if what.start:
        name, revision = (what.start, "") if Path(what.start).is_dir() else what.start.partition("@")[::2]
        model, tokenizer, new = load_encoder(name, revision or None, config.seed)
        set_dropout(model, 0.0)
        stages = stages_of(model.config.num_hidden_layers, bool(new), scale)
        made = {"start": shipped_name(name), "revision": revision or None, "new_tensors": list(new)}
        model.config.initialized_from = made  # stays with the model, and tells its run from that of another start
        if not new and Path(what.start, "record.json").is_file():
            records.append(results.load(Path(what.start, "record.json")))
    else:
        with accelerator.main_process_first():
            tokenizer = make_tokenizer(where.folder / "tokenizer", sources, scale.teacher_shape["vocab_size"])
        shape = scale.teacher_shape | {"vocab_size": len(tokenizer), "num_hidden_layers": stages[0].layers}
        model = new_teacher(BertConfig(**shape), seed=config.seed)
        set_dropout(model, 0.0)  # too little text to overfit
    pairs = made and model.bert.embeddings.token_type_embeddings.weight[1:].any()  # it has learned what a pair is
    budget = sum(s.tokens for s in stages)
    if accelerator.device.type == "cpu":
        dropout.for_cpu(model)
    for number, stage in enumerate(stages, start=len(records[0]["stages"]) if records else 0):
        model = grow(model, stage.layers or model.config.num_hidden_layers)
        train_only(model, stage.part)
        settings = replace(
            config,
            learning_rate=stage.learning_rate,
            seq_length=stage.seq_length,
            batch_size=stage.batch_size,
            micro_batch_size=stage.batch_size // accelerator.num_processes,
            tokens=max(1, stage.tokens * config.tokens // budget),
            seed=config.seed + number,
        )
        with accelerator.main_process_first():
            text = corpus.build_corpus(
                sources,
                tokenizer,
                seq_length=stage.seq_length,
                max_tokens=corpus_budget(sources, scale.teacher_corpus_tokens),
                without=scored,
            )
        masker = Masker.of(tokenizer, text.token_counts, settings.smoothing, settings.mask_probability, settings.seed)
        if config.backup:
            settings = replace(settings, backup=str(Path(config.backup, where.folder.name)))
        records.append(
            pretrain(
                model,
                text,
                masker,
                accelerator,
                settings,
                out=where.folder / f"stage-{number}",
                name=f"{where.name}, {stage.title(model.config.num_hidden_layers)}",
                scale=scale.name,
                **({"made_from": made} if made else {}),
                machine=machine.settle(accelerator.device),
            )
        )
        accelerator.free_memory()
    if accelerator.is_main_process:
        set_dropout(model, 0.1)  # what those who fine-tune it expect
        if not pairs:
            fold_token_types(model)
        keep(model.half(), tokenizer, results.join(records, where.name), where.folder)
    processes.finish(accelerator)


def stages_of(depth: int, headless: bool, scale: Scale) -> list[scales.Stage]:
    """The stages that train a teacher of `depth` layers on, a new head alone first; ValueError where there is none."""
    stages = [s for s in scale.teacher_stages if s.layers in (0, depth) and s.part == "all"]
    if not stages:
        raise ValueError(f"the teacher has {depth} layers, and no stage of scale {scale.name} has as many")
    return [scales.HEAD, *stages] if headless else stages


def make_tokenizer(folder: Path, sources: tuple[corpus.TextSource, ...], pieces: int) -> PreTrainedTokenizerBase:
    """The tokenizer of an earlier sitting, else a new word-piece vocabulary trained on the text."""
    if not (folder / "tokenizer.json").is_file():
        toy = [s.name for s in sources] == ["toyworld"]
        made = toyworld.train_tokenizer(pieces) if toy else corpus.train_tokenizer(sources, pieces)
        made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


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
    _fine_tune(argv, "finetune")


def glue(argv: list[str]) -> None:
    """Table 1: GLUE's nine tasks for teacher, student and its twin without distillation, beside the paper's numbers.

    The same grid as `distilnb finetune`, all of whose options it takes. At base scale the released BERT-base and
    DistilBERT take part. --submission writes answers to the test splits in the format of GLUE's server.

    examples:
      distilnb glue --scale toy --seeds 3
      distilnb glue --scale base --seeds 5 --learning_rates 5e-5,3e-5,2e-5 --submission runs/submission
    """
    _fine_tune(argv, "glue", task=",".join(tasks.GLUE))


def _fine_tune(argv: list[str], command: str, **defaults: Any) -> None:
    scale = read_scale(argv)
    where, what, config, safety, columns = parse(
        argv,
        command,
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
    models = {label: network(source) for label, source in pairs.items()}
    accelerator = make_accelerator(where.precision, where.cpu)
    with accelerator.main_process_first():
        data = own.find(what.task, what.source, columns, what.train_rows, what.validation_rows)
    if accelerator.is_main_process:
        tell(data)
    folder, origins = Path(where.out or paths.home() / "runs"), {label: origin(pairs[label]) for label in pairs}
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
        if record["seed"] == 0 and record["task"] in tasks.GLUE:
            task = tasks.get(record["task"])
            model = heads.fine_tuned(folder / "models" / record["name"], task)
            try:
                submission.predict_tests(
                    model, task, tokenizer, accelerator, config, Path(what.submission, record["model"]), what.source
                )
            except tasks.MissingSplit as error:
                print(f"no submission: {error}", flush=True)
    if accelerator.is_main_process:
        print(report.comparison(records))
        for record in records:
            if record["data"].get("own"):
                scores = ", ".join(f"{name} {value:.3f}" for name, value in record["scores"].items() if name != "main")
                print(f"{record['task']}, {record['model']}, seed {record['seed']}: {scores}")
    processes.finish(accelerator)


def tell(data: list[tasks.TaskData]) -> None:
    """Print which splits of the tasks are missing, and what was guessed of your own."""
    for task in data:
        for sentence in task.info.get("missing", {}).values():
            print(f"left out: {sentence}", flush=True)
        for sentence in task.info.get("told", ()):
            print(f"{task.task.name}: {sentence}", flush=True)


def models_of(scale: Scale) -> list[str]:
    """LABEL=FOLDER of the teacher of a scale, of its students where they are made or shipped, of released models."""
    teacher = scale.ready_teacher
    found = [f"teacher={teacher}" + (f"@{scale.revision}" if scale.revision and teacher == scale.teacher else "")]
    shipped = {
        "student": paths.data("students", scale.name),
        "undistilled": paths.data("students", f"{scale.name}-undistilled"),
    }
    for label, run in (("student", f"distil-{scale.name}"), ("undistilled", f"undistilled-{scale.name}")):
        own = paths.home() / "runs" / run / "model"
        folder = next((f for f in (own, shipped[label]) if (f / "model.safetensors").is_file()), None)
        if folder:
            found.append(f"{label}={folder}")
    if scale.teacher == scales.BERT_BASE:
        found.append(f"released={scales.DISTILBERT}@{scales.DISTILBERT_REVISION}")
    return found


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model; ValueError in one sentence when there is none."""
    name, where = heads.locate(source)
    try:
        return hub.fetch(AutoTokenizer.from_pretrained, name, **where)
    except (OSError, ValueError) as error:
        raise ValueError(f"no model with its tokenizer can be read at '{source}'; {hub.ADVICE}") from error


def ablate(argv: list[str]) -> None:
    """Change one thing at a time, with paired seeds: the rows of Table 4, the baselines it lacks, and further axes.

    Every cell (a variant with a seed) is distilled, fine-tuned on all tasks and recorded. A second call does only
    what is missing, in the middle of a cell too. All cells share teacher, text, token budget and fine-tuning.

    examples:
      distilnb ablate --scale toy
      distilnb ablate --scale toy --variants no_mlm --seeds 5      the triple loss is always among them
      distilnb ablate --scale toy --temperature 1 4 8
      distilnb ablate --scale toy --layers every_other first last --weights 1,1,1
    """
    scale = read_scale(argv)
    rate = {"learning_rate": scale.pretraining["learning_rate"]} if "learning_rate" in scale.pretraining else {}
    where, what, columns = parse(
        argv,
        "ablate",
        RunOptions,
        AblationOptions,
        own.OwnOptions,
        scale=scale.name,
        name=f"ablation-{scale.name}",
        text=scale.text,
        leave_out=scale.leave_out,
        teacher=scale.ready_teacher,
        source="toyworld" if scale.name == "toy" else "hub",
        **rate,
        **({"tokens": scale.pretraining["tokens"]} | scale.ablation),
    )
    variants, sources = what.chosen(), corpus.parse_sources(where.text)
    distilling = {"tokens": what.tokens, "learning_rate": what.learning_rate, "seed": 0}
    config = PretrainingConfig(**(scale.pretraining | distilling))
    tuning = {"epochs": what.epochs, "learning_rate": what.finetuning_rate, "seed": 0}
    finetuning = FinetuningConfig(**(scale.finetuning | tuning))
    revision = what.revision or (scale.revision if what.teacher == scale.teacher else None)
    accelerator = make_accelerator(where.precision, where.cpu)
    teacher, tokenizer = read_teacher(what.teacher, revision)
    with accelerator.main_process_first():
        data = own.find(what.task, what.source, columns, what.rows, what.validation_rows)
        text = corpus.build_corpus(
            sources,
            tokenizer,
            seq_length=config.seq_length,
            layout=config.layout,
            max_tokens=corpus_budget(sources, scale.corpus_tokens, config.tokens),
            without=scored_texts(where.leave_out),
        )
    config = replace(config, evaluate_every=max(1, config.steps(text) // 4))  # each costs as much as several updates
    if accelerator.is_main_process:
        tell(data)
    grid = ablation.Grid(
        teacher,
        tokenizer,
        text,
        data,
        accelerator,
        config,
        finetuning,
        records=Path(what.records or paths.home() / "runs"),
        work=where.folder,
        name=where.name,
        scale=scale.name,
        provenance={"made_from": {"teacher": shipped_name(what.teacher), "revision": revision}},
    )
    records = ablation.run_grid(grid, variants, range(what.seeds))
    if accelerator.is_main_process:
        print(report.summary(records))
    processes.finish(accelerator)


def network(source: str) -> Any:
    """A folder or repository as it is; "random:FOLDER" is its network with random weights, "untrained:FOLDER" the
    student made of its layers, before any training."""
    if source.startswith("untrained:"):
        name, _, revision = source.removeprefix("untrained:").partition("@")
        teacher, _ = load_teacher(name, revision or None)
        return build_student(teacher)
    if not source.startswith("random:"):
        return source
    name, where = heads.locate(source.removeprefix("random:"))
    try:
        config = hub.fetch(AutoConfig.from_pretrained, name, **where)
    except (OSError, ValueError) as error:
        raise ValueError(f"there is no readable config.json at '{name}'; {hub.ADVICE}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForMaskedLM.from_config(config)


def origin(source: str) -> dict[str, str]:
    """The name of the record that lies with the model in folder `source`, as `model_record`, and its scale."""
    if not Path(source, "record.json").is_file():
        return {}
    record = results.load(Path(source, "record.json"))
    return {"model_record": record["name"], "scale": record["scale"]}


def time_models(argv: list[str]) -> None:
    """Measure size and speed of teacher and student side by side (Table 3, and the claims about devices).

    One pass over the STS-B dev set, one pair at a time, then every format on fewer pairs, each with the accuracy that
    a fine-tuned student keeps in it, then sweeps. Give it a machine that does nothing else. Speed needs the
    architecture, not the weights: random:base measures BERT-base and DistilBERT without a download.

    examples:
      distilnb benchmark
      distilnb benchmark --scale base --teacher random:google-bert/bert-base-uncased --memory
      distilnb benchmark --scale base --teacher random:base --source toyworld --shape qa
      distilnb benchmark --scale base --threads 1 --pad
    """
    scale = read_scale(argv)
    shape = BenchmarkOptions(shape=read_shape(argv)).shape
    what, config = parse(
        argv,
        "benchmark",
        BenchmarkOptions,
        BenchmarkConfig,
        scale=scale.name,
        teacher=scale.ready_teacher,
        shape=shape,
        source="toyworld" if scale.name == "toy" else "hub",
        name=f"benchmark-{scale.name}-{shape}",
        scored=str(paths.data("students", "toy")),
        **SHAPES[shape].settings,
    )
    formats = check_formats(what.formats.split(","))
    teacher, tokenizer = read_teacher(what.teacher, scale.revision if what.teacher == scale.teacher else None)
    student = load_model(what.student) if what.student else build_student(teacher)
    texts, data = texts_of(shape, what.source, config.rows, config.seed)
    models = {
        name: with_head(model, shape, config.attention) for name, model in (("teacher", teacher), ("student", student))
    }
    fitted = fit(what.scored, what.scored_rows) if what.scored_rows else None
    with TemporaryDirectory() as folder:
        record = benchmark(
            models,
            texts,
            tokenizer,
            config,
            Path(folder),
            formats=formats,
            fitted=fitted,
            name=what.name,
            scale=scale.name,
            task=SHAPES[shape].task,
            data=data,
            shape=shape,
            weights={"teacher": shipped_name(what.teacher), "student": what.student or "half of the teacher's layers"},
        )
    path = results.save(record)
    print(f"{report.summary([record])}\nrecord: {path}")


def read_shape(argv: list[str]) -> str:
    """The shape, read ahead of the other flags because it sets their defaults."""
    early = ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--shape", default="pairs")
    shape = early.parse_known_args(argv)[0].shape
    if shape not in SHAPES:
        raise ValueError(f"unknown shape '{shape}'; use {' or '.join(SHAPES)}")
    return shape


def read_teacher(source: str, revision: str | None = None) -> tuple[Any, PreTrainedTokenizerBase]:
    """A teacher with its tokenizer. random:FOLDER has random weights, random:base needs no folder."""
    if source == "random:base":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return BertForMaskedLM(BertConfig()), load_tokenizer(scales.get("toy").teacher)
    if source.startswith("random:"):
        return network(source).eval(), load_tokenizer(source.removeprefix("random:"))
    return load_teacher(source, revision)


def texts_of(shape: str, source: str, rows: int, seed: int = 0) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Pairs of texts to be timed on, and where they are from."""
    if shape == "qa":
        task = squad.SQUAD
    else:
        task = tasks.get(SHAPES[shape].task)
    loaded = tasks.load(task, "validation", source, rows, seed)
    pairs = list(zip(*(loaded[column][:] for column in task.columns), strict=True))
    return pairs, tasks.provenance(task, source, {"validation": loaded}, seed)


def fit(student: str, rows: int) -> Fitted:
    """A student, fine-tuned on a task of toyworld for a few epochs, and the rows that every format is scored on."""
    data = tasks.load_all("qnli", "toyworld", n_train=3500, n_validation=rows)
    tokenizer, config = load_tokenizer(student), FinetuningConfig(epochs=3, learning_rate=3e-4)
    model, _ = heads.for_task(student, data.task)
    record = finetune_model(model, data, tokenizer, make_accelerator(cpu=True), config, name="student to be scored")
    info = {
        "task": data.task.name,
        "scale": "toy",
        "model": shipped_name(student),
        "rows_scored": rows,
        "data": data.info,
        "majority": record["scores"]["majority"],
        "config": record["config"],
    }
    return Fitted(model.float().eval(), data.task, data.encoded(tokenizer, config.max_length)[1]["validation"], info)


def export_model(argv: list[str]) -> None:
    """Write a model as ONNX in float32 and int8 (or in other formats), compared with PyTorch before it is kept.

    examples:
      distilnb export --model data/teachers/toy --out runs/toy-onnx
      distilnb export --model distilbert/distilbert-base-uncased --formats onnx_int8
    """
    (what,) = parse(argv, "export", ExportOptions, out=str(paths.home() / "runs" / "export"))
    formats, folder = check_formats(what.formats.split(",")), Path(what.out)
    if not what.model:
        raise ValueError("--model is missing; give a folder with config.json and model.safetensors")
    model = load_model(what.model)
    reference, rows = None, []
    for format in formats:
        runner = make_runner(model, format, folder, what.model)
        reference = reference or runner
        error = check_agreement(runner, reference, sample(model))
        rows.append(
            {
                "format": FORMATS[format].title,
                "MB": f"{runner.bytes / 1e6:.1f}",
                "differs from PyTorch float32 by": f"{error:.1e}",
                "file": runner.path,
            }
        )
    print(report.table(rows))


def share(argv: list[str]) -> None:
    """Write a model as a folder for the Hugging Face Hub, with a card filled in from its records, and upload it.

    With --dry-run nothing is uploaded: read README.md in the folder first. Uploading needs --repo and a token (`hf auth
    login`, or HF_TOKEN). A model without its record, or with an edited one, is refused.

    examples:
      distilnb publish --dry-run
      distilnb publish --model runs/distil-mini/model --repo somebody/distil-mini --dry-run
      distilnb publish --model runs/distil-mini/model --repo somebody/distil-mini --private
    """
    (what,) = parse(argv, "publish", PublishOptions, model=str(paths.data("students", "toy")))
    if what.repo or not what.dry_run:
        publish.check_repository(what.repo)
    if not what.dry_run:
        publish.check_access()
    record, _ = publish.read_model(Path(what.model))
    folder = Path(what.out or paths.home() / "runs" / "publish" / record["name"])
    publish.prepare(
        Path(what.model), folder, results.load_all(), notebooks.repository(), what.repo, what.license, what.language
    )
    print(f"written: {folder} ({', '.join(sorted(path.name for path in folder.iterdir()))})")
    if what.dry_run:
        print(f"nothing was uploaded; read {folder / 'README.md'}, then run it without --dry-run")
    else:
        print(f"uploaded: {publish.upload(folder, what.repo, what.private)}")


def run(argv: list[str]) -> None:
    """Execute the numbered notebooks in order, offline at toy scale unless --scale says otherwise.

    Executed copies go to runs/notebooks/, records to runs/, figures to figures/. The notebooks themselves are left
    alone unless --in-place is given, which is how they are made ready to be committed.

    examples:
      distilnb run
      distilnb run --only 02 03
      distilnb run --solutions       the solved exercises instead
    """
    parser = ArgumentParser(prog="distilnb run", description=run.__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--scale", help="toy, mini, small, base or paper (default: $DISTILNB_SCALE, else toy)")
    parser.add_argument("--only", nargs="+", metavar="NN", help="numbers of the notebooks to run")
    parser.add_argument("--in-place", action="store_true", help="write the outputs into notebooks/ itself")
    parser.add_argument("--solutions", action="store_true", help="run notebooks/solutions/ instead")
    options = parser.parse_args(argv)
    notebooks.execute(scales.get(options.scale).name, options.only, options.in_place, options.solutions)
    if not (options.in_place or options.solutions):
        figures.draw_all()
        print("\nResults: published records, and yours in runs/\n\n" + report.summary(results.load_all()))
        print(notebooks.WHERE_NEXT)


def draw(argv: list[str]) -> None:
    """Redraw every figure from the paper's numbers and the records, into figures/ as svg, pdf and png."""
    ArgumentParser(prog="distilnb figures", description=draw.__doc__).parse_args(argv)
    for path in figures.draw_all():
        print(path)


def scores(argv: list[str]) -> None:
    """Set every cell of the paper's tables and every claim against the records: the scorecard.

    Writes scorecard.md and scorecard.html (one file, figures inside) from the published records and yours, and, in a
    clone, brings the README's tables and RESULTS.md up to date with the published ones.

    examples:
      distilnb report
      distilnb report --out somewhere
    """
    parser = ArgumentParser(
        prog="distilnb report", description=scores.__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder to write to (default: runs/report)")
    out = parser.parse_args(argv).out or paths.home() / "runs" / "report"
    records = results.load_all()
    card = scorecard(records)
    drawn = {name: figures.to_svg(figure) for name, figure in figures.drawings(records).items()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "scorecard.md").write_text(markdown(card))
    (out / "scorecard.html").write_text(page(card, report.tables(records), drawn))
    print(f"{report.table(headlines(card))}\n\n{tally(card)}")
    for note in card.notes:
        print(f"- {note}")
    changed = notebooks.write_links() if (paths.PACKAGE.parent / "notebooks").is_dir() else []
    for path in (out / "scorecard.md", out / "scorecard.html", *changed):
        print(path)


def make_evidence(argv: list[str]) -> None:
    """Make every record of a scale: teacher, students, Tables 1 to 4. A second call goes on where this one stopped.

    Each step is a command of distilnb, which --dry-run prints, with what the whole takes on GPUs. --jobs 2 runs two
    steps side by side, each on half of the cores: small models leave many idle. Records go to runs/.

    examples:
      distilnb evidence --scale mini --dry-run
      distilnb evidence --scale mini --jobs 2
      distilnb evidence --scale base --only student glue-student glue-teacher
    """
    parser = ArgumentParser(
        prog="distilnb evidence", description=make_evidence.__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", help="toy, mini, small, base or paper (default: $DISTILNB_SCALE, else toy)")
    parser.add_argument("--jobs", type=int, default=1, help="steps side by side (default: 1)")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="these steps alone, by name")
    parser.add_argument("--dry-run", action="store_true", help="print the steps and their cost, and run nothing")
    options = parser.parse_args(argv)
    scale = scales.get(options.scale)
    chain = evidence.choose(evidence.steps(scale), options.only)
    if options.jobs < 1:
        raise ValueError(f"--jobs is {options.jobs}; it must be 1 or more")
    if options.dry_run:
        print("\n".join(f"{step.name:<24}{'done: ' if step.done else ''}{evidence.shown(step)}" for step in chain))
        print(
            f"\nEstimated for {100 * cost.UTILISATION:.0f} % of a GPU's rated peak, not measured; a narrow model, "
            "as at toy and mini, gets far less:\n"
        )
        return print(report.table(evidence.costs(scale)))
    evidence.run(chain, options.jobs, lambda line: print(line, flush=True))
    print("all steps are done; `distilnb report` and `distilnb figures` show what they found")


def make_book(argv: list[str]) -> None:
    """Render notebooks, lesson plans and results as pages to read without running anything: open book/index.html.

    examples:
      distilnb book
      distilnb book --out public
    """
    parser = ArgumentParser(
        prog="distilnb book", description=make_book.__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder to write to (default: book)")
    print(book.build(parser.parse_args(argv).out or paths.home() / "book") / "index.html")


def links(argv: list[str]) -> None:
    """Write address, badges, set-up cells, notebook table and results anew wherever they are generated."""
    parser = ArgumentParser(prog="distilnb links", description=links.__doc__)
    parser.add_argument("--repo", help="owner/name on GitHub (default: what pyproject.toml says)")
    for path in notebooks.write_links(parser.parse_args(argv).repo):
        print(path)


COMMANDS = {
    "run": run,
    "distil": distil,
    "teacher": teacher,
    "finetune": finetune,
    "glue": glue,
    "ablate": ablate,
    "benchmark": time_models,
    "evidence": make_evidence,
    "export": export_model,
    "publish": share,
    "figures": draw,
    "report": scores,
    "book": make_book,
    "links": links,
}
