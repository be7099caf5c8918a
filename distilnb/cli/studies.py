"""The commands that measure: `ablate`, `benchmark`, `export` and `evidence`."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .. import paths, scales
from ..evidence.names import ablation_grid, benchmark_run
from ..evidence.records import save_record
from ..machine import processes
from ..machine.device import make_accelerator
from ..models import arithmetic
from ..models.sources import load_model, load_tokenizer, read_teacher, ready_teacher, shipped_name
from ..models.student import build_student
from ..models.teacher import check_vocabulary, never_cut
from ..report import tables
from ..studies import ablation
from ..studies.benchmark import SHAPES, benchmark, fit_student, load_texts, with_head
from ..studies.chain import choose, costs, run_steps, shown, steps
from ..studies.formats import FORMATS, check_agreement, check_formats, make_runner, sample
from ..studies.timing import BenchmarkConfig
from ..tasks import own
from ..tasks.own import OwnOptions
from ..text import corpus
from ..text.corpus import corpus_budget
from .options import AblationOptions, BenchmarkOptions, ChainOptions, ExportOptions, RunOptions
from .parsing import command
from .tasks import tell


def _ablation_defaults(scale: str | None) -> dict[str, Any]:
    dial = scales.get(scale)
    names = {"scale": dial.name, "name": ablation_grid(dial.name), "text": dial.text, "leave_out": dial.leave_out}
    distilling = {key: dial.pretraining[key] for key in ("learning_rate", "tokens") if key in dial.pretraining}
    return names | {"teacher": ready_teacher(dial), "source": dial.source} | distilling | dial.ablation


@command(_ablation_defaults)
def ablate(where: RunOptions, what: AblationOptions, columns: OwnOptions) -> None:
    """Change one thing at a time, with paired seeds: the rows of Table 4, the baselines it lacks, and further axes.

    Every cell (a variant with a seed) is distilled, fine-tuned on all tasks and recorded. A second call does only
    what is missing, in the middle of a cell too. All cells share teacher, text, token budget and fine-tuning.

    examples:
      distilnb ablate --scale toy
      distilnb ablate --scale toy --variants no_mlm --seeds 5      the triple loss is always among them
      distilnb ablate --scale toy --temperature 1 4 8
      distilnb ablate --scale toy --layers every_other first last --weights 1,1,1
    """
    scale = scales.get(where.scale)
    variants, sources = what.chosen(), where.sources
    config, finetuning = what.settings(scale)
    revision = what.revision or (scale.revision if what.teacher == scale.teacher else None)
    accelerator = make_accelerator(where.precision, where.cpu)
    teacher, tokenizer = read_teacher(what.teacher, revision)

    def prepare() -> tuple[list[Any], corpus.Corpus]:
        budget = corpus_budget(sources, scale.corpus_tokens, config.tokens)
        rows = own.find(what.task, what.source, columns, what.rows, what.validation_rows)
        return rows, where.read_text(tokenizer, config.seq_length, budget, config.layout)

    data, text = processes.once_a_disk(paths.cache("corpora"), accelerator, prepare)
    config = replace(config, evaluate_every=max(1, config.steps(text) // 4))  # each costs several updates
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
        print(tables.summary(records))
    processes.finish(accelerator)


def _benchmark_defaults(scale: str | None, shape: str | None) -> dict[str, Any]:
    dial, shape = scales.get(scale), shape or "pairs"
    names = {"scale": dial.name, "shape": shape, "name": benchmark_run(dial.name, shape)}
    models = {"teacher": ready_teacher(dial), "scored": str(paths.data("students", "toy"))}
    return names | models | {"source": dial.source} | (SHAPES[shape].settings if shape in SHAPES else {})


@command(_benchmark_defaults)
def time_models(what: BenchmarkOptions, config: BenchmarkConfig) -> None:
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
    scale, shape = scales.get(what.scale), what.shape
    formats = check_formats(what.formats.split(","))
    teacher, tokenizer = read_teacher(what.teacher, scale.revision if what.teacher == scale.teacher else None)
    student = load_model(what.student) if what.student else build_student(teacher)
    texts, data = load_texts(shape, what.source, config.rows, config.seed)
    models = {
        name: with_head(model, shape, config.attention) for name, model in (("teacher", teacher), ("student", student))
    }
    fitted = fit_student(what.scored, what.scored_rows) if what.scored_rows else None
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
    path = save_record(record)
    print(f"{tables.summary([record])}\nrecord: {path}")


def _export_defaults() -> dict[str, Any]:
    return {"out": str(paths.home() / "runs" / "export")}


@command(_export_defaults)
def export_model(what: ExportOptions) -> None:
    """Write a model as ONNX in float32 and int8 (or in other formats), compared with PyTorch before it is kept.

    The folder is laid out as optimum and transformers.js read it: config.json with the names of the labels, the
    tokenizer, which cuts and pads nothing by itself, onnx/model.onnx and onnx/model_quantized.onnx.

    examples:
      distilnb export --model data/teachers/toy --out runs/toy-onnx
      distilnb export --model distilbert/distilbert-base-uncased --formats onnx_int8
    """
    asked, folder = what.formats.split(","), Path(what.out)
    check_formats(asked)
    if not what.model:
        raise ValueError("--model is missing; give a folder with config.json and model.safetensors")
    model, tokenizer = load_model(what.model), load_tokenizer(what.model)
    check_vocabulary(model.config, tokenizer)
    never_cut(tokenizer)
    tokenizer.save_pretrained(folder)
    rows = []
    with TemporaryDirectory() as aside:  # because the reference files were not asked for
        reference = make_runner(model, "float32", Path(aside), what.model)
        for format in asked:
            runner = make_runner(model, format, folder, what.model)
            error = check_agreement(runner, reference, sample(model))
            rows.append(
                {
                    "format": FORMATS[format].title,
                    "MB": f"{runner.bytes / 1e6:.1f}",
                    "differs from PyTorch float32 by": f"{error:.1e}",
                    "file": runner.path,
                }
            )
    print(tables.table(rows))


def make_evidence(what: ChainOptions) -> None:
    """Make every record of a scale: teacher, students, Tables 1 to 4. A second call goes on where this one stopped.

    Each step is a command of distilnb, which --dry-run prints, with what the whole takes on GPUs. --jobs 2 runs two
    steps side by side, each on half of the cores: small models leave many idle. Records go to runs/.

    examples:
      distilnb evidence --scale mini --dry-run
      distilnb evidence --scale mini --jobs 2
      distilnb evidence --scale base --only student glue-student glue-teacher
    """
    scale = scales.get(what.scale)
    chain = choose(steps(scale), what.only or None)
    if what.dry_run:
        print("\n".join(f"{step.name:<24}{'done: ' if step.done else ''}{shown(step)}" for step in chain))
        print(
            f"\nEstimated for {100 * arithmetic.UTILISATION:.0f} % of a GPU's rated peak, not measured; a narrow "
            "model, as at toy and mini, gets far less:\n"
        )
        return print(tables.table(costs(scale)))
    run_steps(chain, what.jobs, lambda line: print(line, flush=True))
    print("all steps are done; `distilnb report` and `distilnb figures` show what they found")
