"""Size and speed of teacher and student (paper Table 3 and section 4.1, "On device computation"; notebook 07).

The paper's protocol is one pass over the STS-B dev set on a CPU, one pair at a time. What it leaves open is a setting
of `BenchmarkConfig`. The pass is divided into rounds. In each round, every model answers the same pairs in turn, and
the order is reversed from round to round, so that other work of the machine affects all models alike. Ratios are taken
round by round; a score is their median, and its interval runs from the lower to the upper quartile.

`scores` of a record of kind "benchmark", where `teacher` and `student` are the two models:

    ratio_forward, ratio_end_to_end       teacher's time over student's ("× throughput"), wall clock
    ratio_*_cpu                           the same in CPU time
    less_time_forward, less_time_*        the same as "% less time": 100 (1 − 1/ratio)
    seconds_teacher, seconds_student      the whole pass, end to end
    overhead_ms, overhead_ms_needed       time per pair outside the models; the time that gives the paper's ratio
    parameters_teacher, parameters_student, smaller      encoders counted; % fewer
    bytes_FORMAT, bytes_teacher_FORMAT    the file on disk
    ms_FORMAT, ms_teacher_FORMAT          median milliseconds of one forward pass
    ratio_FORMAT                          teacher over student, both in this format
    speedup_FORMAT, speedup_cpu_FORMAT    the teacher in PyTorch float32 over the student in this format
    accuracy_FORMAT, lost_FORMAT          a fine-tuned student in this format; points lost against float32; over
                                          several tasks, the mean of each
    lost_chosen, most_lost_chosen         the same in the int8 that other rows chose for each task; on its worst task
    share_chosen                          the most bytes of that as a share of ONNX float32's
    memory_mb_FORMAT                      what opening the student and its first answers add to a fresh process

FORMAT is one of `formats.FORMATS`. `intervals` holds quartiles; `timings`, `formats`, `accuracy` and `sweeps` the rows
behind the scores; `tasks` the accuracy task by task, where there are several or int8 was chosen; `refused` the formats
that were not timed, and why; `weights` says which weights were random; `device` has the processor's instructions and
its load when the benchmark began.
"""

import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..evidence import paper
from ..evidence.records import Stopwatch, new_record, thin, versions
from ..machine.device import describe_device, instructions
from ..machine.progress import Progress, duration
from ..models import families
from ..models.arithmetic import parameter_groups
from ..models.sources import class_named
from ..tasks import glue, heads, squad
from . import rounding
from .accuracy import Fitted, chosen_scores, score_all
from .formats import ELSEWHERE, FORMATS, KNOWN, Runner, check_agreement, check_formats, convert, make_runner, reopen
from .graphs import PACKAGES, SESSION, Batch, inputs
from .runtimes import LENGTH, OPENVINO, RUNTIMES, STEADY
from .timing import (
    BenchmarkConfig,
    Clock,
    Pairs,
    collate,
    per_round,
    quartiles,
    threads,
    time_answers,
    time_pass,
    tokenize,
)

Models = Mapping[str, PreTrainedModel]  # "teacher" and "student", each with a head
Refused = list[dict[str, str]]  # model, format, and why it was not timed
LENGTHS, BATCH_SIZES = (8, 32, 128, 384), (1, 4, 16)
ANSWERED = (32, 128, 384)  # word pieces of the random texts that every format answers too
OUTPUTS = 16  # of a new head for pairs, see `with_head`
SHORTEST = 0.02  # seconds that a single measurement of a sweep should take; shorter work is repeated


class Shape(NamedTuple):
    """The questions for the models: pairs of texts of `task`, with their settings of `BenchmarkConfig`."""

    task: str
    settings: dict[str, Any]


SHAPES = {
    "pairs": Shape("stsb", {}),  # Table 3
    "qa": Shape(  # the paper's app: tokenization excluded, every input filled up to 384 tokens
        "squad",
        {"max_length": 384, "pad": True, "tokenization": False, "collation": False, "rows": 100, "format_rows": 50},
    ),
}


def with_head(model: PreTrainedModel, shape: str, attention: str = "sdpa", seed: int = 0) -> PreTrainedModel:
    """A network for `shape` with the encoder of `model` and a random head, which takes the same time as any other.

    STS-B needs one output, but one random output may be close to zero, which inflates relative errors. `OUTPUTS` of
    them have a stable norm and cost no measurable time.
    """
    made, _ = heads.question_answerer(model, seed) if shape == "qa" else heads.classifier(model, OUTPUTS, seed)
    made.set_attn_implementation(attention)
    return made


def less_time(ratio: float) -> float:
    """The percentage of time saved at a ratio of speeds: 1.63 times as fast is 38.6 % less time."""
    return 100 * (1 - 1 / ratio)


def fixed_overhead(slow: float, fast: float, forward_ratio: float = 2.0) -> float:
    """The overhead, independent of the model, that is contained in two end-to-end times.

    With t = overhead + forward for both and forward times in `forward_ratio`, this overhead explains `slow` and
    `fast`: it is 152 s of the paper's 668 s and 410 s, for instance.
    """
    return (forward_ratio * fast - slow) / (forward_ratio - 1)


def overhead_for(slow: float, fast: float, ratio: float) -> float:
    """The overhead o with which forward times `slow` and `fast` give (o + slow) / (o + fast) = `ratio`."""
    return (slow - ratio * fast) / (ratio - 1)


def pass_scores(timings: pd.DataFrame, parts: Sequence[str]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The scores and intervals of Table 3's pass; `parts` make up the end-to-end time."""
    scores, intervals = {}, {}
    for name, chosen in {"forward": ("forward",), "end_to_end": tuple(parts)}.items():
        for clock, suffix in (("wall", ""), ("cpu", "_cpu")):
            slow, fast = (per_round(timings, model, parts=chosen, clock=clock) for model in ("teacher", "student"))
            spread = intervals[f"ratio_{name}{suffix}"] = quartiles(slow / fast)
            scores[f"ratio_{name}{suffix}"] = spread[1]
        scores[f"less_time_{name}"] = less_time(scores[f"ratio_{name}"])
    pairs = timings.groupby("round")["pairs"].first().to_numpy()
    for model in ("teacher", "student"):
        scores[f"seconds_{model}"] = float((per_round(timings, model, parts=parts) * pairs).sum())
    outside = [part for part in parts if part != "forward"]
    slow, fast = (float(np.median(per_round(timings, model))) for model in ("teacher", "student"))
    spent = np.concatenate([per_round(timings, model, parts=outside) for model in ("teacher", "student")])
    scores["overhead_ms"] = 1000 * float(np.median(spent)) if outside else 0.0
    published = paper.speed("BERT-base") / paper.speed("DistilBERT")
    scores["overhead_ms_needed"] = 1000 * max(0.0, overhead_for(slow, fast, published))
    return scores, intervals


def sweep(
    models: Models,
    rounds: int,
    lengths: Sequence[int] = LENGTHS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    numbers: Sequence[int] = (1,),
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The times of forward passes on random ids: a row for each knob, value and round; the models take turns.

    The knobs are sequence length, batch size (at 32 tokens) and threads (at 128), one changed at a time. A row holds
    wall seconds under `MODEL` and CPU seconds under `MODEL_cpu`.
    """
    positions = min(families.longest(model.config) for model in models.values())
    words, usual = min(model.config.vocab_size for model in models.values()), torch.get_num_threads()
    points = [("sequence length", n, (1, n, usual)) for n in lengths if n <= positions]
    points += [("batch size", n, (n, min(32, positions), usual)) for n in batch_sizes]
    points += [("threads", n, (1, min(128, positions), n)) for n in numbers]
    draw, rows = torch.Generator().manual_seed(seed), []
    with Progress(len(points), "sweeps") as progress:
        for knob, value, (size, length, number) in points:
            ids = torch.randint(words, (size, length), generator=draw)
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
            with threads(number), torch.inference_mode():
                passes = {name: 1 for name in models}
                for turn in range(rounds + 1):  # the first turn warms up and is not kept
                    row: dict[str, Any] = {"knob": knob, "value": value}
                    for name in list(models)[:: 1 if turn % 2 == 0 else -1]:
                        row[name], row[f"{name}_cpu"] = _forward(models[name], batch, passes[name])
                        passes[name] = max(1, round(SHORTEST / row[f"{name}_cpu"]))
                    rows += [row] if turn else []
            progress.step(knob=f"{knob} {value}")
    return rows


def _forward(model: PreTrainedModel, batch: Batch, passes: int) -> list[float]:
    """The wall and CPU seconds of a forward pass, as the mean of `passes` passes."""
    read = inputs(model, batch)
    del read["attention_mask"]
    clock = Clock()
    for _ in range(passes):
        model(**read)
    return [float(f"{seconds / passes:.4g}") for seconds in clock.lap()]


def make_formats(
    models: Models, formats: Sequence[str], folder: Path, threads: int, length: int = LENGTH
) -> tuple[list[Runner], Refused]:
    """The models in these formats, and the formats that this machine cannot make, which do not stop the others.

    `length` is that of formats which have but one. Raises ValueError for a model that cannot be exported.
    """
    made, refused = [], []
    for format in formats:
        for key, model in models.items():
            try:
                made.append(make_runner(model, format, folder / key, key, threads, length=length))
            except RuntimeError as error:  # PyTorch has no int8 on some processors
                refused.append({"model": key, "format": format, "why": str(error).strip().splitlines()[0]})
    return made, refused


def agreeing(
    runners: Sequence[Runner], texts: Pairs, tokenizer: PreTrainedTokenizerBase, config: BenchmarkConfig
) -> tuple[list[float], Refused]:
    """The relative error of each runner against its model in PyTorch float32, on eight pairs, and the runners with too
    large an error, whose error is nan."""
    batches = [collate(tokenize(tokenizer, pair, config)) for pair in texts[:8]]
    references = {runner.model: runner for runner in runners if runner.format == "float32"}
    errors, refused = [], []
    for runner in runners:
        try:
            errors.append(check_agreement(runner, references[runner.model], batches))
        except RuntimeError as error:
            errors.append(float("nan"))
            refused.append({"model": runner.model, "format": runner.format, "why": str(error)})
    return errors, refused


def added_memory(runner: Runner, kind: str, length: int) -> float:
    """The megabytes that opening this runner's model and its first answers of `length` tokens add to a fresh process.

    A runtime gives `STEADY` of them, because OpenVINO then holds a second graph. `kind` names the model's class for
    `sources.class_named`; its configuration is beside the runner's file.
    """
    program = "import sys; from distilnb.studies.benchmark import memory_of; print(memory_of(*sys.argv[1:]))"
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # frees memory at once
    command = [sys.executable, "-c", program, str(runner.path), runner.format, kind, str(length)]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return float(told.split()[-1])


def memory_of(path: str, format: str, kind: str, length: str) -> float:
    """The megabytes for `added_memory`, measured in the fresh process, with random weights of the same size."""
    model, process = None, psutil.Process()
    if format.startswith("onnx"):
        import onnxruntime  # noqa: F401  (its own size is not the model's)
    elif format in ELSEWHERE:
        importlib.import_module(RUNTIMES[format.partition("_")[0]].packages[-1])
    ids = torch.ones(1, int(length), dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": ids, "token_type_ids": 0 * ids}
    before = process.memory_info().rss
    if format.startswith("onnx") or format in ELSEWHERE:
        answer = reopen(format, Path(path))
        for _ in range(STEADY):  # by when OpenVINO holds a second graph, for this length
            answer(batch)
    else:
        model = convert(class_named(kind)(AutoConfig.from_pretrained(Path(path).parent)), format)
        with torch.inference_mode():
            model(**{name: ids for name, ids in batch.items() if name != "token_type_ids"})
    gc.collect()
    return (process.memory_info().rss - before) / 1e6


def compare_formats(
    runners: Sequence[Runner], texts: Pairs, tokenizer: PreTrainedTokenizerBase, config: BenchmarkConfig
) -> tuple[list[dict[str, Any]], Refused]:
    """A row for each runner: bytes, `error` against float32, quartiles of milliseconds (`ms`), CPU milliseconds.

    `speedup` is against the teacher in float32, `ratio` against the teacher in the same format (None without one); both
    are medians over the rounds. A runner whose answers differ from PyTorch's is not timed but named in the second list.
    """
    errors, refused = agreeing(runners, texts, tokenizer, config)
    good = [(runner, error) for runner, error in zip(runners, errors, strict=True) if error == error]
    timings = time_pass([runner for runner, _ in good], texts, tokenizer, config, "formats")
    rows = []
    for runner, error in good:
        seconds, cpu = (per_round(timings, runner.model, runner.format, clock=clock) for clock in ("wall", "cpu"))
        same = per_round(timings, "teacher", runner.format)
        rows.append(
            {
                "model": runner.model,
                "format": runner.format,
                "bytes": runner.bytes,
                "error": error,
                "ms": [1000 * value for value in quartiles(seconds)],
                "cpu_ms": 1000 * float(np.median(cpu)),
                "speedup": quartiles(per_round(timings, "teacher") / seconds)[1],
                "speedup_cpu": quartiles(per_round(timings, "teacher", clock="cpu") / cpu)[1],
                "ratio": quartiles(same / seconds)[1] if len(same) else None,
            }
        )
    return rows, refused


def format_scores(rows: Sequence[dict[str, Any]], accuracy: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The scores of a record, by name, from the rows of `formats` and `accuracy`."""
    of = {(row["model"], row["format"]): row for row in rows}
    scores = {}
    for (model, format), row in of.items():
        prefix = "" if model == "student" else "teacher_"
        scores |= {f"bytes_{prefix}{format}": row["bytes"], f"ms_{prefix}{format}": row["ms"][1]}
        if model == "student":
            named = ("speedup", "speedup_cpu", "ratio", "memory_mb")
            scores |= {f"{name}_{format}": row[name] for name in named if row.get(name) is not None}
    for row in accuracy:
        scores |= {f"accuracy_{row['format']}": row["accuracy"], f"lost_{row['format']}": row["lost"]}
    return scores


def benchmark(
    models: Models,
    texts: Pairs,
    tokenizer: PreTrainedTokenizerBase,
    config: BenchmarkConfig,
    folder: Path,
    *,
    formats: Sequence[str] = tuple(FORMATS),
    fitted: Sequence[Fitted] = (),
    name: str = "benchmark",
    **provenance: Any,
) -> dict[str, Any]:
    """Measure `models`, {"teacher": …, "student": …}, each with a head, and return the record.

    `folder` receives the files of the formats, 2.3 GB at base size. Each of `fitted` is scored in every format.
    `provenance` is added to the record. Raises ValueError before any work for texts that are too few or too long, or an
    unknown format.
    """
    formats, watch, device = check_formats(formats), Stopwatch(), describe_device(torch.device("cpu")) | _state()
    check_sizes(models, texts, config)
    texts, few = texts[: config.rows], texts[: config.format_rows]
    with threads(config.threads):
        float32 = [make_runner(model, "float32", folder / key, key) for key, model in models.items()]
        announce(float32, texts, tokenizer, config, formats)
        others, refused = make_formats(models, formats[1:] if few else (), folder, config.threads, config.max_length)
        timings = time_pass(float32, texts, tokenizer, config)
        scores, intervals = pass_scores(timings, config.end_to_end)
        swept = sweep(models, config.sweep_rounds, numbers=powers(), seed=config.seed) if config.sweep_rounds else []
        rows, wrong = compare_formats([*float32, *others], few, tokenizer, config) if few else ([], [])
        refused += wrong
        _tell(refused)
        add_lengths(rows, [*float32, *others], models, folder, config)
        _add_memory(rows, [*float32, *others], models, config)
        tasks = score_all(fitted, [row["format"] for row in rows if row["model"] == "student"], folder, config.threads)
    scores |= _sizes(models) | format_scores(rows, tasks["accuracy"]["rows"]) | chosen_scores(tasks["tasks"])
    values = {
        "scores": scores,
        "intervals": intervals,
        "config": asdict(config),
        "sweeps": swept,
        "formats": rows,
        "timings": thin(timings.drop(columns="format").to_dict("list"), len(timings)),
        "refused": refused,
        **tasks,
        "seed": config.seed,
        "device": device,
        **_surroundings(formats),
    }
    return new_record("benchmark", name, stopwatch=watch, **{"scale": "toy", "model": "student"} | values | provenance)


def _state() -> dict[str, Any]:
    """The further facts about this computer that change times: its instructions and its present load."""
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {"instructions": instructions(), "load": load}


ENVIRONMENT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "MKL_NUM_THREADS")  # they change times
SETTINGS = {"onnx": SESSION, "openvino": OPENVINO}  # what may make a runtime faster, or less exact, than by default


def _surroundings(formats: Sequence[str]) -> dict[str, Any]:
    """For the record: how threads and runtimes were set up, and the versions of their packages and of ours."""
    used = {name.partition("_")[0] for name in formats}
    names = {*PACKAGES, *(package for runtime in used & RUNTIMES.keys() for package in RUNTIMES[runtime].packages)}
    return {
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "runtime_settings": {name: given for name, given in SETTINGS.items() if name in used},
        "versions": versions() | {name: version(name) for name in sorted(names) if find_spec(name)},
    }


def check_sizes(models: Models, texts: Pairs, config: BenchmarkConfig) -> None:
    """Raise ValueError for more pairs than there are, or longer ones than a model reads."""
    if len(texts) < config.rows:
        raise ValueError(f"{config.rows} pairs were asked for, but there are {len(texts)}; use fewer rows")
    positions = min(families.longest(model.config) for model in models.values())
    if config.max_length > positions:
        raise ValueError(f"max_length is {config.max_length}, but the models have {positions} positions")


def _tell(refused: Sequence[Mapping[str, str]]) -> None:
    for bad in refused:
        print(f"not timed: {KNOWN[bad['format']].title} of the {bad['model']}: {bad['why']}", flush=True)


def _add_memory(rows: Sequence[dict], runners: Sequence[Runner], models: Models, config: BenchmarkConfig) -> None:
    made = {(runner.model, runner.format): runner for runner in runners}
    for row in rows if config.memory else ():
        kind = type(models[row["model"]]).__name__
        row["memory_mb"] = round(added_memory(made[row["model"], row["format"]], kind, config.max_length), 1)


def add_lengths(
    rows: Sequence[dict], runners: Sequence[Runner], models: Models, folder: Path, config: BenchmarkConfig
) -> None:
    """Add to each row, as `lengths`, the median wall and CPU milliseconds of an answer to `ANSWERED` word pieces.

    All take turns. What has but one length is made anew for each, since a longer file takes longer.
    """
    made = {(runner.model, runner.format): runner for runner in runners}
    kept = {(row["model"], row["format"]): row.setdefault("lengths", {}) for row in rows}
    positions = min(families.longest(model.config) for model in models.values())
    words = min(model.config.vocab_size for model in models.values())
    draw = torch.Generator().manual_seed(config.seed)
    for length in (n for n in ANSWERED if n <= positions):
        ids, run = torch.randint(words, (1, length), generator=draw), {}
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        for of, form in kept:
            runner, runtime = made[of, form], RUNTIMES.get(form.partition("_")[0])
            if runtime and runtime.fixed and length != config.max_length:
                place = folder / f"{of}-{length}"
                runner = make_runner(models[of], form, place, of, config.threads, length=length)
            run[of, form] = runner.answer
        for key, spent in rounding.in_turns(run, [batch] * 4).items():
            kept[key][str(length)] = [float(f"{ms:.4g}") for ms in spent]


def _sizes(models: Models) -> dict[str, float]:
    counts = {key: sum(parameter_groups(model.config, head=False).values()) for key, model in models.items()}
    smaller = 100 * (1 - counts["student"] / counts["teacher"])
    return {f"parameters_{key}": count for key, count in counts.items()} | {"smaller": smaller}


def powers() -> list[int]:
    """The powers of two below the number of cores, and that number."""
    cores = os.cpu_count() or 1
    return sorted({*(2**i for i in range(cores.bit_length()) if 2**i <= cores), cores})


def announce(
    runners: Sequence[Runner],
    texts: Pairs,
    tokenizer: PreTrainedTokenizerBase,
    config: BenchmarkConfig,
    formats: Sequence[str],
) -> None:
    """Print, before the benchmark starts, its expected time and the disk space of the formats."""
    few = texts[:: max(1, len(texts) // 4)][:4]
    for runner in runners:
        time_answers(runner, few[:2], tokenizer, config)  # because the first answers are slow
    pair = sum(float(time_answers(runner, few, tokenizer, config)[:, 0].sum()) for runner in runners) / len(few)
    seconds = pair * (config.rows + 1.5 * config.format_rows + 30 * config.sweep_rounds)
    disk = sum(runner.bytes * KNOWN[name].bytes / 4 for runner in runners for name in formats)
    more = " for timing, then the formats" if config.format_rows else ""
    print(f"estimate: about {duration(seconds)}{more}; {disk / 1e9:.1f} GB of temporary files", flush=True)


def load_texts(shape: str, source: str, rows: int, seed: int = 0) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The pairs of texts for timing, and their provenance."""
    task = squad.SQUAD if shape == "qa" else glue.get_task(SHAPES[shape].task)
    loaded = glue.load_split(task, "validation", source, rows, seed)
    pairs = list(zip(*(loaded[column][:] for column in task.columns), strict=True))
    return pairs, glue.provenance(task, source, {"validation": loaded}, seed)
