"""The whole reproduction as one resumable chain of commands (notebook 09).

Each step is a command of `distilnb` that one could type. The commands themselves skip what is already recorded, by
their checkpoints and records. Steps run one after another, or side by side, each with its share of the cores, where
none needs the result of another.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import BertConfig

from .. import paths, scales
from ..distillation.recipe import PretrainingConfig
from ..evidence.names import benchmark_run, pretraining_run
from ..machine import sharing
from ..machine.progress import duration
from ..models import arithmetic
from ..models.sources import RANDOM, UNTRAINED, shipped_student, shipped_teacher
from ..models.student import half_depth, student_config
from ..scales import Scale, Stage
from ..tasks.finetuning import FinetuningConfig
from ..tasks.glue import GLUE
from . import ablation

STARTS = "untrained", "random"  # the two starts of students, before any distillation
COMPARED = "teacher", "student", "undistilled", "released"  # the models on the long tasks
Options = dict[str, Any]  # option of a command → its value


@dataclass(frozen=True)
class Plan:
    """The runs of one scale: Table 1's `tasks` in full and `subsets` of others, IMDb, SQuAD, ablation, benchmarks.

    For Table 1 every model chooses among the same learning rates. `fewer_seeds` applies to subsets, IMDb and the
    models of `few`. `distillations` is the number of students and of undistilled twins, one seed each. `subset`, `imdb`
    and `squad` are further settings of those runs; `squad_subset` is a second SQuAD on fewer questions with
    `fewer_seeds`; `axes` are further ablations.
    """

    seeds: int = 5
    rates: str = "5e-5,3e-5,2e-5"
    trial_rows: int = 20_000
    tasks: str = ",".join(GLUE)
    subsets: str = ""
    subset: Options = field(default_factory=dict)
    imdb: Options = field(default_factory=lambda: {"max_length": 512, "truncation": "head_tail"})
    fewer_seeds: int = 3
    few: tuple[str, ...] = STARTS
    squad: Options = field(default_factory=lambda: {"max_length": 384, "epochs": 2})
    squad_seeds: int = 3
    squad_subset: Options = field(default_factory=dict)
    axes: tuple[Options, ...] = ()
    distillations: int = 1
    shapes: tuple[str, ...] = ("pairs", "qa")


EXACT = "cola,sst2,mrpc,stsb,rte,wnli"  # tasks run in full; the three large ones are run in part
FIXED = {"learning_rate": 3e-4}  # of the long tasks at mini scale, where trials would cost as much as the runs
GENTLE = {"learning_rate": 1e-4}  # the same at small scale
PART = {"train_rows": 10_000, "validation_rows": 2000}  # of a large task
QUESTIONS = {"max_length": 384, "stride": 128, "epochs": 2} | GENTLE
PLANS = {
    "toy": Plan(seeds=3, rates="", imdb={}, squad={}, squad_seeds=1),
    "mini": Plan(
        rates="1e-3,3e-4,1e-4",
        tasks=EXACT,
        subsets="qnli,qqp,mnli",
        subset=PART | FIXED,
        imdb={"max_length": 128, "truncation": "head_tail", "epochs": 1} | FIXED,
        squad={"train_rows": 30_000, "max_length": 256, "stride": 96, "epochs": 1} | FIXED,
        squad_seeds=1,
        shapes=("pairs",),
    ),
    "small": Plan(
        rates="3e-4,1e-4,3e-5",
        trial_rows=10_000,
        tasks=EXACT,
        subsets="qnli,qqp,mnli",
        subset=PART | GENTLE,
        imdb={"max_length": 256, "truncation": "head_tail", "epochs": 1} | GENTLE,
        few=("random", "scratch", "student_2", "undistilled_2"),
        squad=QUESTIONS,
        squad_seeds=1,
        squad_subset={"train_rows": 30_000, "suffix": "30000"} | QUESTIONS,
        axes=({"temperature": [1, 4], "ce_positions": ["masked"], "seeds": 2},),
        distillations=2,
    ),
    "base": Plan(),
    "paper": Plan(),
}


@dataclass(frozen=True, eq=False)
class Step:
    """One command with its settings, the steps that must be done before it, and the test whether it is done.

    `alone` marks measurements of time, beside which nothing else may run.
    """

    name: str
    command: str
    settings: Options = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    makes: Path | None = None
    alone: bool = False

    @property
    def done(self) -> bool:
        """Whether the step's result exists; False for a step that checks its own records."""
        return self.makes is not None and self.makes.is_file()

    @property
    def argv(self) -> list[str]:
        """The words of the command after `distilnb`."""
        words = [self.command]
        for name, value in self.settings.items():
            words.append("--" + name.replace("_", "-"))
            words += [str(one) for one in (value if isinstance(value, list) else [value])]
        return words


class _Chain:
    """The steps of a scale under construction, with the folders of its models and the steps that make them."""

    def __init__(self, scale: Scale, runs: Path):
        self.scale, self.plan, self.runs = scale, PLANS[scale.name], runs
        self.own = runs / pretraining_run("teacher", scale.name) / "model"
        shipped = shipped_teacher(scale)
        made = bool(scale.teacher_stages) and not (shipped / "model.safetensors").is_file()
        published = scale.teacher + (f"@{scale.revision}" if scale.revision else "")
        self.pinned = str(self.own) if made else str(shipped) if scale.encoder else published
        self.like: Options = {"teacher": self.pinned} if scale.encoder or made else {}
        self.steps: list[Step] = []
        self.models = {"teacher": self.pinned}
        self.makers: dict[str, tuple[str, ...]] = {}
        self.before = ("teacher",) if made else ()
        if made:
            self.add("teacher", "teacher", {}, makes=self.own / "record.json")
        if scale.encoder:
            self.models["published"] = published

    def add(self, name: str, command: str, settings: Options, needs: Sequence[str] = (), **more: Any) -> None:
        needs = (*needs, *(self.before if name != "teacher" else ()))
        self.steps.append(Step(name, command, {"scale": self.scale.name} | settings, needs, **more))

    def distil(self, role: str, number: int = 1, **settings: Any) -> None:
        """Add the step that makes a role's model for the `number`th time, unless an encoder's is shipped."""
        label, run = f"{role}_{number}" if number > 1 else role, pretraining_run(role, self.scale.name, number)
        folder, shipped = self.runs / run / "model", shipped_student(self.scale, role)
        if number == 1 and self.scale.encoder and (shipped / "model.safetensors").is_file():
            self.models[label] = str(shipped)
            return
        self.add(label, "distil", self.like | {"name": run} | settings, makes=folder / "record.json")
        self.models[label], self.makers[label] = str(folder), (label,)

    def pair(self, *labels: str) -> Options:
        """The setting that passes these models to a command."""
        return {"model": ",".join(f"{label}={self.models[label]}" for label in labels)}

    def needs(self, *labels: str) -> tuple[str, ...]:
        return tuple(step for label in labels for step in self.makers.get(label, ()))

    def tune(self, step: str, task: str, label: str, seeds: int, settings: Options) -> None:
        """Add a step that fine-tunes one model."""
        command = "finetune" if task in ("imdb", "squad") else "glue"
        settings = {"task": task} | self.pair(label) | {"seeds": seeds} | settings
        self.add(f"{step}-{label}", command, settings, self.needs(label))


def steps(scale: Scale, runs: Path | None = None) -> list[Step]:
    """The steps of a scale, in order."""
    chain = _Chain(scale, runs or paths.home() / "runs")
    plan, silent = chain.plan, {"ce": 0, "cos": 0}
    chain.distil("student")
    chain.distil("undistilled", **silent)
    chain.distil("scratch", **silent, init="random")
    chain.models["untrained"] = UNTRAINED + chain.pinned
    chain.models["random"], chain.makers["random"] = RANDOM + chain.models["student"], chain.needs("student")
    if scale.teacher == scales.BERT_BASE:
        chain.models["released"] = f"{scales.DISTILBERT}@{scales.DISTILBERT_REVISION}"
    _add_table_1(chain, list(chain.models))
    chain.add("ablation", "ablate", chain.like)
    _add_long_tasks(chain, [label for label in COMPARED if label in chain.models])
    for number, axis in enumerate(plan.axes, start=1):
        chain.add(f"axes-{number}", "ablate", chain.like | axis, ("ablation",))
    for number in range(2, plan.distillations + 1):
        seed = PretrainingConfig.seed + number - 1
        chain.distil("student", number, seed=seed)
        chain.distil("undistilled", number, **silent, seed=seed)
        _add_table_1(chain, [f"student_{number}", f"undistilled_{number}"])
    for shape in plan.shapes:
        record = benchmark_run(scale.name, shape)
        chain.add(record, "benchmark", {"shape": shape}, makes=chain.runs / f"{record}.json", alone=True)
    return chain.steps


def _add_table_1(chain: _Chain, labels: Sequence[str]) -> None:
    plan = chain.plan
    rates = {"learning_rates": plan.rates, "trial_rows": plan.trial_rows} if plan.rates else {}
    for label in labels:
        chain.tune("glue", plan.tasks, label, plan.fewer_seeds if label in plan.few else plan.seeds, rates)


def _add_long_tasks(chain: _Chain, compared: Sequence[str]) -> None:
    """Add the steps of subsets, IMDb and SQuAD, the last also with a fine-tuned teacher, as in DistilBERT (D)."""
    plan = chain.plan
    for label in compared:
        chain.tune("imdb", "imdb", label, plan.fewer_seeds, plan.imdb)
    pairs = {"squad": (plan.squad, plan.squad_seeds), "squad-subset": (plan.squad_subset, plan.fewer_seeds)}
    for step, (settings, seeds) in pairs.items():
        if step == "squad-subset" and not settings:
            continue
        for label in compared[2:]:  # teacher and student are tuned together, as the second learns from the first
            chain.tune(step, "squad", label, seeds, settings)
        both = {"task": "squad"} | chain.pair("teacher", "student") | {"task_teacher": "teacher", "seeds": seeds}
        chain.add(step, "finetune", both | settings, chain.needs("student"))
    for label in compared if plan.subsets else ():
        chain.tune("subsets", plan.subsets, label, plan.fewer_seeds, plan.subset)


def choose(chain: list[Step], names: Sequence[str] | None) -> list[Step]:
    """The steps with these names (None: all); ValueError for an unknown name."""
    unknown = set(names or ()) - {step.name for step in chain}
    if unknown:
        raise ValueError(f"there is no step '{sorted(unknown)[0]}'; use some of {', '.join(s.name for s in chain)}")
    return [step for step in chain if names is None or step.name in names]


def run_steps(chain: Sequence[Step], jobs: int = 1, say: Callable[[str], Any] = print) -> None:
    """Run all steps that are not done, up to `jobs` side by side, each with its share of the cores.

    The output of a step goes to runs/evidence/NAME.log. Steps that do not need a failed one are still run; then
    RuntimeError names the failed ones. Records stay, so that a second call goes on. After a signal, each running step
    saves and ends.
    """
    folder = paths.home() / "runs" / "evidence"
    folder.mkdir(parents=True, exist_ok=True)
    waiting, running, failed = [step for step in chain if not step.done], {}, []
    for step in (step for step in chain if step not in waiting):
        say(f"{step.name}: done")
    try:
        while waiting or running:
            for step in list(waiting):
                if lost := set(step.needs) & set(failed):
                    say(f"{step.name}: left out, it needs {', '.join(sorted(lost))}")
                    waiting.remove(step)
                    failed.append(step.name)
                elif _may_start(step, waiting, list(running), jobs):
                    waiting.remove(step)
                    running[step] = start_step(step, folder, jobs), time.monotonic()
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
    if failed:
        raise RuntimeError(
            f"{len(failed)} steps failed or were left out: {', '.join(failed)}; what they said is in "
            f"{folder}, and the same command goes on"
        )


def _may_start(step: Step, waiting: Sequence[Step], running: Sequence[Step], jobs: int) -> bool:
    if step.alone:  # runs last of all
        return not running and all(other.alone for other in waiting)
    unfinished = {other.name for other in (*waiting, *running)}
    return len(running) < jobs and not unfinished & set(step.needs)


def start_step(step: Step, folder: Path, jobs: int) -> subprocess.Popen:
    """The process of a step, begun: its share of the threads, what it says in a log beside the records."""
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 and not step.alone else 0
    return sharing.start(step.argv, folder / f"{step.name}.log", threads)


def last_line(log: Path) -> str:
    """The last line in a step's log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def shown(step: Step) -> str:
    """The command of a step, as one would type it."""
    return " ".join(["distilnb", *step.argv])


def costs(scale: Scale) -> list[dict[str, str]]:
    """The hours of each part of the chain on a T4, an L4 and an A100, computed from its operations, one row per part.

    Row lengths are in BERT's word pieces (`data/task_lengths.csv`, measured on up to 5,000 training rows). Evaluation,
    loading and, above all, the GPU time that a small model leaves idle are not counted.
    """
    parts = {name: flops for name, flops in _operations(scale).items() if flops}
    parts["all"] = sum(parts.values())
    return [
        {"part": name, "operations": f"{flops:.1e}"}
        | {gpu: _hours(arithmetic.hours(flops, gpu)) for gpu in arithmetic.GPUS}
        | {"kWh on a T4": f"{arithmetic.hours(flops, 'T4') * arithmetic.GPUS['T4'].watts / 1000:.2g}"}
        for name, flops in parts.items()
    ]


def _operations(scale: Scale) -> dict[str, float]:
    """The operations of each part of the chain; 0 for a part that the scale does not have."""
    plan, teacher = PLANS[scale.name], BertConfig(**({"num_hidden_layers": 12} | scale.teacher_shape))
    student = student_config(teacher, half_depth(teacher))
    tokens, length = scale.pretraining["tokens"], scale.pretraining["seq_length"]
    masked, runs = PretrainingConfig.mask_probability, plan.distillations
    labels = [step.name.removeprefix("glue-") for step in steps(scale) if step.name.startswith("glue-")]
    sized = {label: teacher if label in ("teacher", "published") else student for label in labels}
    compared = [label for label in COMPARED if label in labels]
    long = (teacher, *(student,) * (len(compared) - 1))
    asked = (*long, student)  # the student also with a second teacher
    trials = len([rate for rate in plan.rates.split(",") if rate])
    ablated = scale.ablation.get("tokens", tokens)
    cells = ablation.SEEDS * sum(variant.trained for variant in ablation.VARIANTS.values())
    return {
        "teacher": sum(_stage_flops(scale, teacher, stage) for stage in scale.teacher_stages),
        "student, triple loss": runs * arithmetic.distillation_flops(student, teacher, tokens, length),
        "students without a teacher": (1 + runs) * arithmetic.distillation_flops(student, None, tokens, length, masked),
        "GLUE": sum(
            _tuning_flops(plan.tasks, plan.fewer_seeds if label in plan.few else plan.seeds, [config])
            + _tuning_flops(plan.tasks, trials, [config], rows=plan.trial_rows)
            for label, config in sized.items()
        ),
        "GLUE, subsets": _tuning_flops(plan.subsets, plan.fewer_seeds, long, plan.subset),
        "IMDb": _tuning_flops("imdb", plan.fewer_seeds, long, plan.imdb),
        "SQuAD, with (D)": _tuning_flops("squad", plan.squad_seeds, asked, plan.squad)
        + (_tuning_flops("squad", plan.fewer_seeds, asked, plan.squad_subset) if plan.squad_subset else 0),
        "ablation, distilling only": cells * arithmetic.distillation_flops(student, teacher, ablated, length),
    }


def _tuning_flops(
    names: str, runs: int, models: Sequence[Any], settings: Options | None = None, rows: int = 10**9
) -> float:
    """The operations of `runs` fine-tunings of each model on each task, under these settings."""
    lengths = pd.read_csv(paths.data("task_lengths.csv")).set_index("task")
    given = {"train_rows": rows, "epochs": FinetuningConfig.epochs, "max_length": FinetuningConfig.max_length}
    given |= settings or {}
    rows, epochs, longest = min(rows, given["train_rows"]), runs * given["epochs"], given["max_length"]
    return sum(
        arithmetic.finetuning_flops(
            config, min(rows, int(lengths.train_rows[name])), min(longest, lengths.mean_tokens[name]), epochs
        )
        for name in names.split(",")
        if name
        for config in models
    )


def _stage_flops(scale: Scale, teacher: BertConfig, stage: Stage) -> float:
    """The operations of a teacher's stage; a third of them if its encoder is frozen."""
    config = BertConfig(**(scale.teacher_shape | {"num_hidden_layers": stage.layers or teacher.num_hidden_layers}))
    share = scale.teacher_pretraining["mask_probability"]
    flops = arithmetic.distillation_flops(config, None, stage.tokens, stage.seq_length, share)
    return flops / 3 if stage.part == "head" else flops


def _hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h" if hours >= 1 else duration(3600 * hours)
