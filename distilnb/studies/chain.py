"""The whole reproduction as one chain of commands that goes on where it was stopped.

Each step is a command of `distilnb` that one could type; what its steps have recorded already is not done again, by the
commands themselves (checkpoints, records). Steps run one after another, or several side by side, each with its share
of the cores, where none needs what another makes.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import BertConfig

from .. import paths, scales
from ..distillation.recipe import PretrainingConfig
from ..machine.progress import duration
from ..models import arithmetic
from ..models.student import student_config
from ..scales import Scale
from ..tasks import glue
from ..tasks.finetuning import FinetuningConfig
from . import ablation


@dataclass(frozen=True)
class Plan:
    """What is run at one scale: Table 1's `tasks` in full and `subsets` of others, IMDb, SQuAD, benchmarks.

    For Table 1 every model chooses among the same learning rates; `fewer_seeds` are those of subsets, IMDb and the
    models of STARTS. The tuples are further options of a command.
    """

    seeds: int = 5
    rates: str = "5e-5,3e-5,2e-5"
    trial_rows: int = 20_000
    tasks: str = ",".join(glue.GLUE)
    subsets: str = ""
    subset: tuple[str, ...] = ()
    imdb: tuple[str, ...] = ("--max_length", "512", "--truncation", "head_tail")
    fewer_seeds: int = 3
    squad: tuple[str, ...] = ("--max_length", "384", "--epochs", "2")
    squad_seeds: int = 3
    benchmarks: tuple[tuple[str, ...], ...] = ((), ("--shape", "qa"))


STARTS = "untrained", "random"  # the two starts themselves, before any distillation
FIXED = ("--learning_rate", "3e-4")  # of the long tasks at mini scale, where a choice would cost as much as the runs
PLANS = {
    "toy": Plan(seeds=3, rates="", imdb=(), squad=(), squad_seeds=1),
    "mini": Plan(
        rates="1e-3,3e-4,1e-4",
        tasks="cola,sst2,mrpc,stsb,rte,wnli",
        subsets="qnli,qqp,mnli",
        subset=("--train_rows", "10000", "--validation_rows", "2000", *FIXED),
        imdb=("--max_length", "128", "--truncation", "head_tail", "--epochs", "1", *FIXED),
        squad=("--train_rows", "30000", "--max_length", "256", "--stride", "96", "--epochs", "1", *FIXED),
        squad_seeds=1,
        benchmarks=((),),
    ),
    "base": Plan(),
    "paper": Plan(),
}


@dataclass(frozen=True)
class Step:
    """One command: its name, its arguments, the steps that must be done before, and how to see that it is done.

    `alone` is for measurements of time: nothing may run beside it.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    makes: Path | None = None
    alone: bool = False

    @property
    def done(self) -> bool:
        """Whether what it makes is there; a step that checks its own records is never skipped."""
        return self.makes is not None and self.makes.is_file()


def steps(scale: Scale, runs: Path | None = None) -> list[Step]:
    """The chain of a scale, in order."""
    plan, runs = PLANS[scale.name], runs or paths.home() / "runs"
    shipped = not scale.teacher_stages or (Path(scale.teacher) / "model.safetensors").is_file()
    own = runs / f"teacher-{scale.name}" / "model"
    teacher = scale.teacher if shipped else str(own)
    pinned = teacher + (f"@{scale.revision}" if scale.revision else "")
    chain: list[Step] = []

    def add(
        name: str,
        command: str,
        *options: str,
        needs: Sequence[str] = (),
        makes: Path | None = None,
        alone: bool = False,
    ) -> None:
        needs = (*needs, *(() if shipped or name == "teacher" else ("teacher",)))
        chain.append(Step(name, (command, "--scale", scale.name, *options), needs, makes, alone))

    if not shipped:
        add("teacher", "teacher", makes=own / "record.json")
    like = ("--teacher", teacher) if not shipped else ()
    for label, run, options in (
        ("student", f"distil-{scale.name}", ()),
        ("undistilled", f"undistilled-{scale.name}", ("--ce", "0", "--cos", "0")),
        ("scratch", f"scratch-{scale.name}", ("--ce", "0", "--cos", "0", "--init", "random")),
    ):
        add(label, "distil", *like, "--name", run, *options, makes=runs / run / "model" / "record.json")
    models = {
        "teacher": pinned,
        "student": str(runs / f"distil-{scale.name}" / "model"),
        "undistilled": str(runs / f"undistilled-{scale.name}" / "model"),
        "scratch": str(runs / f"scratch-{scale.name}" / "model"),
        "untrained": f"untrained:{pinned}",
        "random": f"random:{runs / f'distil-{scale.name}' / 'model'}",
    }
    if scale.teacher == scales.BERT_BASE:
        models["released"] = f"{scales.DISTILBERT}@{scales.DISTILBERT_REVISION}"
    waits = {"student": ("student",), "undistilled": ("undistilled",), "scratch": ("scratch",), "random": ("student",)}
    rates = ("--learning_rates", plan.rates, "--trial_rows", str(plan.trial_rows)) if plan.rates else ()
    for label, source in models.items():
        add(
            f"glue-{label}",
            "glue",
            "--task",
            plan.tasks,
            "--model",
            f"{label}={source}",
            "--seeds",
            str(plan.fewer_seeds if label in STARTS else plan.seeds),
            *rates,
            needs=waits.get(label, ()),
        )
    compared = [label for label in models if label in ("teacher", "student", "undistilled", "released")]
    for label in compared if plan.subsets else ():
        add(
            f"subsets-{label}",
            "glue",
            "--task",
            plan.subsets,
            "--model",
            f"{label}={models[label]}",
            "--seeds",
            str(plan.fewer_seeds),
            *plan.subset,
            needs=waits.get(label, ()),
        )
    for label in compared:
        add(
            f"imdb-{label}",
            "finetune",
            "--task",
            "imdb",
            "--model",
            f"{label}={models[label]}",
            "--seeds",
            str(plan.fewer_seeds),
            *plan.imdb,
            needs=waits.get(label, ()),
        )
    pair = f"teacher={models['teacher']},student={models['student']}"
    add(
        "squad",
        "finetune",
        "--task",
        "squad",
        "--model",
        pair,
        "--task_teacher",
        "teacher",
        "--seeds",
        str(plan.squad_seeds),
        *plan.squad,
        needs=("student",),
    )
    add("ablation", "ablate", *like)
    for options in plan.benchmarks:
        shape = options[1] if options else "pairs"
        name = f"benchmark-{scale.name}-{shape}"
        add(name, "benchmark", *options, makes=runs / f"{name}.json", alone=True)
    return chain


def choose(chain: list[Step], names: Sequence[str] | None) -> list[Step]:
    """The steps with these names (None: all); ValueError for a name that there is not."""
    unknown = set(names or ()) - {step.name for step in chain}
    if unknown:
        raise ValueError(f"there is no step '{sorted(unknown)[0]}'; use some of {', '.join(s.name for s in chain)}")
    return [step for step in chain if names is None or step.name in names]


def run(chain: Sequence[Step], jobs: int = 1, say: Callable[[str], Any] = print) -> None:
    """Run all steps that are not done, up to `jobs` side by side, each with its share of the cores.

    What a step prints goes to runs/evidence/NAME.log. Raises RuntimeError naming the steps that failed, after all
    that do not need them; what was recorded stays, and a second call goes on. Stopped by a signal, it lets each step
    save and end.
    """
    folder = paths.home() / "runs" / "evidence"
    folder.mkdir(parents=True, exist_ok=True)
    waiting, running, failed = [], {}, []
    for step in chain:
        if step.done:
            say(f"{step.name}: done")
        else:
            waiting.append(step)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        while waiting or running:
            for step in list(waiting):
                if lost := set(step.needs) & set(failed):
                    say(f"{step.name}: left out, it needs {', '.join(sorted(lost))}")
                    waiting.remove(step)
                    failed.append(step.name)
                elif _may_start(step, waiting, list(running), jobs):
                    waiting.remove(step)
                    running[step] = _start(step, folder, jobs), time.monotonic()
                    say(f"{step.name}: {shown(step)}")
            for step, (process, began) in list(running.items()):
                if process.poll() is not None:
                    del running[step]
                    took = duration(time.monotonic() - began)
                    if process.returncode:
                        failed.append(step.name)
                        say(f"{step.name}: failed after {took}: {last_line(folder / f'{step.name}.log')}")
                    else:
                        say(f"{step.name}: finished in {took}")
            time.sleep(0.1)
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
        signal.signal(signal.SIGTERM, before)
    if failed:
        raise RuntimeError(
            f"{len(failed)} steps failed or were left out: {', '.join(failed)}; what they said is in "
            f"{folder}, and the same command goes on"
        )


def _may_start(step: Step, waiting: Sequence[Step], running: Sequence[Step], jobs: int) -> bool:
    if step.alone:  # the last of all
        return not running and all(other.alone for other in waiting)
    unfinished = {other.name for other in (*waiting, *running)}
    return len(running) < jobs and not unfinished & set(step.needs)


def _start(step: Step, folder: Path, jobs: int) -> subprocess.Popen:
    environment = dict(os.environ)
    if jobs > 1 and not step.alone:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        environment |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    with open(folder / f"{step.name}.log", "a") as log:  # a session of its own: Ctrl-C reaches it through us
        return subprocess.Popen(
            [sys.executable, "-m", "distilnb", *step.command],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )


def last_line(log: Path) -> str:
    """The last thing a step said."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def shown(step: Step) -> str:
    """The command, as one would type it."""
    return "distilnb " + " ".join(step.command)


def costs(scale: Scale) -> list[dict[str, str]]:
    """What the chain takes on a T4, an L4 and an A100 by the operations it does: a row for each part.

    Lengths of rows are those of BERT's word pieces (`data/task_lengths.csv`, measured on up to 5,000 training rows).
    Not counted are evaluation, loading and, above all, what a small model leaves idle.
    """
    plan, shape = PLANS[scale.name], dict(scale.teacher_shape)
    teacher = BertConfig(num_hidden_layers=12, **shape)
    student = student_config(teacher)
    tokens, length = scale.pretraining["tokens"], scale.pretraining["seq_length"]
    masked = PretrainingConfig.mask_probability
    lengths = pd.read_csv(paths.data("task_lengths.csv")).set_index("task")

    def tuning(names: str, runs: int, models: Sequence[Any], options: Sequence[str] = (), rows: int = 10**9) -> float:
        given = dict(zip(options[::2], options[1::2], strict=True))
        rows = min(rows, int(given.get("--train_rows", rows)))
        epochs = runs * float(given.get("--epochs", FinetuningConfig.epochs))
        longest = float(given.get("--max_length", FinetuningConfig.max_length))
        return sum(
            arithmetic.finetuning_flops(
                config, min(rows, int(lengths.train_rows[name])), min(longest, lengths.mean_tokens[name]), epochs
            )
            for name in names.split(",")
            if name
            for config in models
        )

    released = scale.teacher == scales.BERT_BASE  # then the released DistilBERT takes part
    three, pretrained = (teacher, student, student), [teacher] + (3 + released) * [student]
    models = pretrained + len(STARTS) * [student]
    trials = len([rate for rate in plan.rates.split(",") if rate])
    parts = {
        "teacher": sum(
            arithmetic.distillation_flops(
                BertConfig(num_hidden_layers=stage.layers, **shape),
                None,
                stage.tokens,
                stage.seq_length,
                scale.teacher_pretraining["mask_probability"],
            )
            for stage in scale.teacher_stages
        ),
        "student, triple loss": arithmetic.distillation_flops(student, teacher, tokens, length),
        "two students without a teacher": 2 * arithmetic.distillation_flops(student, None, tokens, length, masked),
        "GLUE": tuning(plan.tasks, plan.seeds, pretrained)
        + tuning(plan.tasks, plan.fewer_seeds, len(STARTS) * [student])
        + tuning(plan.tasks, trials, models, rows=plan.trial_rows),
        "GLUE, subsets": tuning(plan.subsets, plan.fewer_seeds, three, plan.subset),
        "IMDb": tuning("imdb", plan.fewer_seeds, three + released * (student,), plan.imdb),
        "SQuAD, with (D)": tuning("squad", plan.squad_seeds, three, plan.squad),
    }
    ablated = scale.ablation.get("tokens", tokens)
    cells = ablation.SEEDS * sum(variant.trained for variant in ablation.VARIANTS.values())
    parts["ablation, distilling only"] = cells * arithmetic.distillation_flops(student, teacher, ablated, length)
    parts = {name: flops for name, flops in parts.items() if flops}
    parts["all"] = sum(parts.values())
    return [
        {"part": name, "operations": f"{flops:.1e}"}
        | {gpu: _hours(arithmetic.hours(flops, gpu)) for gpu in arithmetic.GPUS}
        | {"kWh on a T4": f"{arithmetic.hours(flops, 'T4') * arithmetic.GPUS['T4'].watts / 1000:.2g}"}
        for name, flops in parts.items()
    ]


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h" if hours >= 1 else duration(3600 * hours)
