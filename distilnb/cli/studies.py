"""The commands that measure: `ablate`, `benchmark`, `export` and `evidence`."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel

from .. import paths, scales
from ..evidence.names import ablation_grid, benchmark_run, finetuning_run
from ..evidence.records import save_record
from ..machine import processes, sharing
from ..machine.device import make_accelerator, use_fast_settings
from ..models import arithmetic
from ..models.sources import check_same_words, load_model, load_tokenizer, read_teacher, ready_teacher, shipped_name
from ..models.student import build_student
from ..models.teacher import check_vocabulary, never_cut
from ..report import tables
from ..studies import ablation, rounding
from ..studies.accuracy import Fitted, choosing_rows, fit_student, held_out, scored_rows
from ..studies.benchmark import SHAPES, benchmark, check_sizes, load_texts, with_head
from ..studies.chain import choose, costs, run_steps, shown, steps
from ..studies.demo import build
from ..studies.formats import (
    ELSEWHERE,
    KNOWN,
    Disagrees,
    check_agreement,
    check_formats,
    make_runner,
    named,
    sample,
    whole_onnx,
)
from ..studies.runtimes import LENGTH, NotHere, check_length
from ..studies.timing import BenchmarkConfig
from ..tasks import own
from ..tasks.own import OwnOptions
from ..text import corpus
from ..text.corpus import corpus_budget
from .options import AblationOptions, BenchmarkOptions, ChainOptions, DemoOptions, ExportOptions, TrainingOptions
from .parsing import command
from .tasks import tell, tell_tasks


def _ablation_defaults(scale: str | None) -> dict[str, Any]:
    dial = scales.get(scale)
    names = {"scale": dial.name, "name": ablation_grid(dial.name), "text": dial.text, "leave_out": dial.leave_out}
    distilling = {key: dial.pretraining[key] for key in ("learning_rate", "tokens") if key in dial.pretraining}
    return names | {"teacher": ready_teacher(dial), "source": dial.source} | distilling | dial.ablation


@command(_ablation_defaults)
def ablate(where: TrainingOptions, what: AblationOptions, columns: OwnOptions) -> None:
    """Change one thing at a time, with paired seeds: the rows of Table 4, the baselines it lacks, and further axes.

    Every cell (a variant with a seed) is distilled, fine-tuned on all tasks and recorded. A second call does only
    what is missing, in the middle of a cell too. All cells share teacher, text, token budget and fine-tuning.

    examples:
      distilnb ablate --scale toy
      distilnb ablate --scale toy --variants no_mlm --seeds 5      the triple loss is always among them
      distilnb ablate --scale toy --temperature 1 4 8
      distilnb ablate --scale toy --layers every_other first last --weights 1,1,1
      distilnb ablate --scale toy --width 64 --heads 1 2 4      students half as wide, with heads of three sizes
    """
    scale = scales.get(where.scale)
    variants, sources = what.chosen(), where.sources
    config, finetuning = what.settings(scale)
    revision = what.revision or (scale.revision if what.teacher == scale.teacher else None)
    accelerator = make_accelerator(where.precision, where.cpu)
    sharing.check(what.jobs, accelerator)
    machine = use_fast_settings(accelerator.device)
    teacher, tokenizer = read_teacher(what.teacher, revision)

    def prepare() -> tuple[list[Any], corpus.Corpus]:
        budget = corpus_budget(sources, scale.corpus_tokens, config.tokens)
        rows = own.find(what.task, what.source, columns, what.rows, what.validation_rows)
        return rows, where.read_text(tokenizer, config.seq_length, budget, config.layout)

    data, text = processes.once_a_disk(paths.cache("corpora"), accelerator, prepare)
    config = replace(config, evaluate_every=max(1, config.steps(text) // 4))  # each costs several updates
    tell_tasks(data, accelerator)
    grid = ablation.Ablation(
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
        provenance={"made_from": {"teacher": shipped_name(what.teacher), "revision": revision}, "machine": machine},
        jobs=what.jobs,
    )
    with sharing.helped(what.jobs, where.folder / "helpers.log"):
        records = ablation.run_grid(grid, variants, range(what.seeds), helping=sharing.is_helper())
    if sharing.speaks(accelerator):
        print(tables.summary(records))
    processes.finish(accelerator)


def _benchmark_defaults(scale: str | None, shape: str | None) -> dict[str, Any]:
    dial, shape = scales.get(scale), shape or "pairs"
    names = {"scale": dial.name, "shape": shape, "name": benchmark_run(dial.name, shape)}
    models = {"teacher": ready_teacher(dial), "source": dial.source}
    return names | models | (SHAPES[shape].settings if shape in SHAPES else {})


@command(_benchmark_defaults)
def time_models(what: BenchmarkOptions, config: BenchmarkConfig, columns: OwnOptions) -> None:
    """Measure size and speed of teacher and student side by side (Table 3, and the claims about devices).

    One pass over the STS-B dev set, one pair at a time, then every format on fewer pairs, each with the accuracy that
    a fine-tuned student keeps in it, then sweeps. Give it a machine that does nothing else. Speed needs the
    architecture, not the weights: random:base measures BERT-base and DistilBERT without a download.

    examples:
      distilnb benchmark
      distilnb benchmark --scale base --teacher random:google-bert/bert-base-uncased --memory
      distilnb benchmark --scale base --teacher random:base --source toyworld --shape qa
      distilnb benchmark --scale base --threads 1 --pad
      distilnb benchmark --scale small --scored-task cola,sst2,mrpc,stsb,rte,wnli --scored-rows 0    int8 on real tasks
    """
    scale, shape = scales.get(what.scale), what.shape
    formats, places = check_formats([*named(what.formats), *named(what.runtimes)]), _places(what, scale.name)
    teacher, tokenizer = read_teacher(what.teacher, scale.revision if what.teacher == scale.teacher else None)
    if what.student:
        check_same_words(what.student, tokenizer, f"--student {what.student}", "than its teacher: both read one text")
    student = load_model(what.student) if what.student else build_student(teacher)
    texts, data = load_texts(shape, what.source, config.rows, config.seed)
    models = {
        name: with_head(model, shape, config.attention) for name, model in (("teacher", teacher), ("student", student))
    }
    check_sizes(models, texts, config)
    fitted = _fitted(what, places, scale.name, columns)
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
            weights={
                "teacher": shipped_name(what.teacher),
                "student": shipped_name(what.student) if what.student else "half of the teacher's layers",
            },
        )
    path = save_record(record)
    print(f"{tables.summary([record])}\nrecord: {path}")


def _places(what: BenchmarkOptions, scale: str) -> dict[tuple[str, str], str]:
    """The folder of each model that is scored, by its task and whose it is; ValueError where one is missing."""
    if not what.scored_task:
        return {}
    kept = str(paths.home() / "runs" / "models" / finetuning_run(scale, "student", "{task}"))
    pattern, tasks = what.scored or kept, own.split_names(what.scored_task)
    if len(tasks) > 1 and "{task}" not in pattern:
        raise ValueError(f"--scored {pattern} is one folder for {len(tasks)} tasks; write {{task}} where they differ")
    places = {}
    for task in tasks:
        for of in ("student", "teacher") if "{model}" in pattern else ("student",):
            name = own.task_name(task) if own.is_own(task) else own.known_task(task).name
            places[task, of] = place = pattern.replace("{task}", name).replace("{model}", of)
            if not what.scored and not Path(place).is_dir():
                raise ValueError(
                    f"no {of} fine-tuned on {task} is in {place}; make one by `distilnb glue --scale {scale} --task "
                    f"{task} --keep`, or name its folder by --scored"
                )
    return places


def _fitted(
    what: BenchmarkOptions, places: dict[tuple[str, str], str], scale: str, columns: OwnOptions
) -> list[Fitted]:
    """The fine-tuned models that score the formats: those in `places`, else one that is fine-tuned in toyworld now."""
    if not what.scored_task:
        shipped = str(paths.data("students", "toy"))
        return [fit_student(what.scored or shipped, what.scored_rows)] if what.scored_rows else []
    made = []
    for (task, of), place in places.items():
        ready = load_model(place), load_tokenizer(place)
        one = held_out(*ready, task, what.source, what.scored_rows, place, columns, what.choosing_rows)
        tell(one.task.name, one.info["data"])
        made.append(one._replace(of=of, info=one.info | {"scale": scale}))
    return made


@command(lambda: {"out": str(paths.home() / "runs" / "export")})
def export_model(what: ExportOptions, columns: OwnOptions) -> None:
    """Write a model as ONNX (or for LiteRT, OpenVINO, Core ML, ExecuTorch), and compare its answers with PyTorch's.

    The folder is laid out as optimum and transformers.js read it: config.json with the names of the labels, the
    tokenizer, which cuts and pads nothing by itself, onnx/model.onnx and onnx/model_quantized.onnx. Each other format
    has a folder of its own, whose inputs.json declares the lengths that it takes, and an extra: distilnb[litert]. How
    int8 is rounded is measured, on a task's training rows or on random words, and told in onnx/rounding.json.

    examples:
      distilnb export --model data/teachers/toy --out runs/toy-onnx
      distilnb export --model distilbert/distilbert-base-uncased --format onnx_int8
      distilnb export --model runs/models/mine --task mrpc     int8 rounded as training rows of the task allow
      distilnb export --model data/students/mini --format litert,openvino --length 64
    """
    asked, folder = named(what.format), Path(what.out)
    check_formats(asked or [what.format])
    if not what.model:
        raise ValueError("--model is missing; give a folder with config.json and model.safetensors")
    model, tokenizer = load_model(what.model), load_tokenizer(what.model)
    check_vocabulary(model.config, tokenizer)
    if what.length != LENGTH or not ELSEWHERE.keys().isdisjoint(asked):
        check_length(model, what.length)
    (folder / "onnx" / "model.onnx").unlink(missing_ok=True)  # of another model, or half a file of a killed export
    rows = None
    if what.task:
        fitted = choosing_rows(model, tokenizer, what.task, what.source, what.rows, what.model, columns)
        tell(fitted.task.name, fitted.info["data"])
        model, rows = fitted.model, scored_rows(fitted)
    chosen = _choose_rounding(model, folder, rows) if "onnx_int8" in asked else "dynamic"
    never_cut(tokenizer)  # the rows of a task were cut by it
    tokenizer.save_pretrained(folder)
    print(tables.table(_written(model, asked, folder, what, chosen)))


def _written(
    model: PreTrainedModel, formats: list[str], folder: Path, what: ExportOptions, way: str
) -> list[dict[str, Any]]:
    """A row about each format, whose file is written now; a file that answers otherwise than the model is deleted, and
    RuntimeError names it once the others are done."""
    rows, wrong = [], []
    with TemporaryDirectory() as aside:  # because the reference files were not asked for
        reference = make_runner(model, "float32", Path(aside), what.model)
        for format in formats:
            runner = make_runner(model, format, folder, what.model, length=what.length, rounding=way)
            try:
                differs = f"{check_agreement(runner, reference, sample(model, most=what.length)):.1e}"
            except NotHere as error:
                differs = str(error)
            except Disagrees as error:
                runner.path.unlink()
                wrong.append(str(error))
                continue
            rows.append(
                {
                    "format": KNOWN[format].title,
                    "MB": f"{runner.bytes / 1e6:.1f}",
                    "differs from PyTorch float32 by": differs,
                    "file": runner.path,
                }
            )
    if wrong:
        print(tables.table(rows))
        raise RuntimeError(f"{'; '.join(wrong)}: not kept")
    return rows


def _choose_rounding(model: Any, folder: Path, rows: rounding.ChoosingRows | None) -> str:
    """The name of the way to int8 that is kept, after all were measured: printed, and written to onnx/rounding.json."""
    alone = [{name: tensor[:1] for name, tensor in batch.items()} for batch in sample(model)]
    rows = rows or rounding.ChoosingRows(alone, pad=model.config.pad_token_id or 0)
    with TemporaryDirectory() as aside:
        measured = rounding.measure(whole_onnx(model, folder), Path(aside), rows)
    chosen = rounding.choose(measured)
    told = {"rows": rows.name, "number": len(rows.batches), "kept": chosen, "ways": measured}
    (folder / "onnx" / "rounding.json").write_text(json.dumps(told, indent=1) + "\n")
    print(tables.table([_rounding_row(row, measured[0], chosen) for row in measured]) + "\n")
    return chosen


def _rounding_row(row: dict[str, Any], whole: dict[str, Any], chosen: str) -> dict[str, Any]:
    name = row["rounding"]
    points = {"points lost": row["lost"], "on other rows": row["lost_elsewhere"]}
    return {
        "int8": name + (" (kept)" if name == chosen else ""),
        "of float32's bytes": f"{100 * row['bytes'] / whole['bytes']:.0f} %",
        "error": f"{row['error']:.3f}",
        "by neighbours": f"{row['neighbours']:.3f}",
        "CPU ms": f"{row['cpu_ms']:.1f}",
        **{key: "–" if value is None else f"{value:+.2f}" for key, value in points.items()},
    }


def _demo_defaults() -> dict[str, Any]:
    return {
        "teacher": str(paths.data("teachers", "mini")),
        "student": str(paths.data("students", "mini")),
        "out": str(paths.home() / "runs" / "demo"),
    }


@command(_demo_defaults)
def make_demo(what: DemoOptions) -> None:
    """Write a page on which teacher and student fill in blanks and are timed on the reader's own device.

    A static folder for any web server; after its first visit it works without a network. Exporting the models takes a
    minute or two. What the page measured is read by `distilnb report --add FILE`.

    examples:
      distilnb demo
      distilnb demo --teacher data/teachers/toy --student data/students/toy --twin none
      distilnb demo --full
    """
    names, out = {"teacher": what.teacher, "student": what.student}, Path(what.out)
    shipped = paths.data("students", f"{Path(what.student).name}-undistilled")
    twin = what.twin or (str(shipped) if shipped.is_dir() else "none")
    names |= {} if twin == "none" else {"undistilled": twin}
    tokenizer = load_tokenizer(what.teacher)
    never_cut(tokenizer)
    for name, source in names.items():
        check_same_words(source, tokenizer, f"the {name} {source}", "than the teacher: the page has one tokenizer")
    models = {name: load_model(source) for name, source in names.items()}
    scale = next((name for name in scales.SCALES if paths.data("teachers", name) == Path(what.teacher)), "own")
    manifest = build(models, tokenizer, out, scale=scale, full=what.full, npm=not what.cdn)
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    source = "bundled from npm" if manifest["vendor"]["wasm"]["ort"]["gzip"] else "from a CDN, by its hash"
    print(f"written: {out} ({size:.0f} MB; the runtime {source})\nlook at it: python -m http.server -d {out}")


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
