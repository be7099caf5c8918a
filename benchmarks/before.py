"""How much faster is today's code than an older commit, than `Trainer`, and than the step written the obvious way?

The older commit is checked out into a temporary git worktree, and each build runs in processes of its own with its own
`benchmarks/pretraining_step.py` and its own commands. Builds take turns, round by round, and each is the first in half
of the rounds, so that a busy machine slows all. The distillation step is timed inside a worker process; fine-tuning and
a grid (three models, four tasks, three seeds) are timed as whole commands, from the start of Python to the last record.
Shown are ratios of CPU time to today's: the least, the median and the greatest of the rounds; "shared" is the grid once
more in wall time, as a user waits for it, on all cores, which today's build shares out among two processes: give it a
machine that does nothing else. "At most" is the ratio that we would reach if nothing but our matrix products took time,
at the greatest rate of square ones of 1,024 that was measured in the same run; evaluation is not counted.

    python benchmarks/before.py                           all of it, nearly an hour on two cores
    python benchmarks/before.py --only small,tuning       some of it; the names are those of CASES
    python benchmarks/before.py --commit HEAD~3           against another commit, at least as new as f1d7b5b

"plain" and "trainer" are the loops of those names in `pretraining_step.py`, the second in the precision of the case.
The record in runs/ has all rounds, with the peak of memory and the seconds of each stage.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "f1d7b5b"  # before the decoder's gradient was summed in larger pieces
LENGTH = 128
NARROW = {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 512}
WIDE = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
STEPS = {  # title, precision, the teacher's shape and layers, sequences of LENGTH tokens, steps in a round, other loops
    "tiny": ("a step to try this script", "float32", NARROW | {"vocab_size": 3072}, 4, 4, 1, ("plain", "trainer")),
    "small": ("distillation step, width 384", "bf16", WIDE, 6, 32, 2, ()),  # whole logits would take 10 GB
    "narrow": ("distillation step, width 128, 30,522 words", "bf16", NARROW, 12, 16, 2, ("plain", "trainer")),
    "base": ("distillation step, base size", "float32", {}, 12, 16, 1, ("plain", "trainer")),
    "base_bf16": ("distillation step, base size", "bf16", {}, 12, 16, 1, ("plain", "trainer")),
}
SMALL, TOY, STUDENT = (ROOT / "data" / place for place in ("teachers/small", "teachers/toy", "students/toy"))
TASKS = "--task rte,mrpc,stsb,sst2 --seeds 3 --train_rows 320 --validation_rows 200 --epochs 1 --batch_size 16"
GRID = f"{TASKS} --model teacher={TOY},random=random:{TOY},student={STUDENT}"
COMMANDS = {  # title, arguments, the processes of today's build (0: one, and the time is that of the processor)
    "tuning": (
        "fine-tuning, one task, width 384, bf16",
        f"--task mrpc --train_rows 1600 --validation_rows 400 --epochs 1 --batch_size 32 --model teacher={SMALL}",
        0,
    ),
    "grid": ("a grid of 36 small runs, bf16", GRID, 0),
    "shared": ("a grid of 36 small runs in two processes, bf16, wall time", GRID, 2),
}
CASES = [name for name in (*STEPS, *COMMANDS) if name != "tiny"]


def work(case: str, loop: str, settings: dict[str, Any]) -> None:
    """Be a worker: make a loop with this build's `pretraining_step`, and take as many steps as each line asks for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    import pretraining_step as own

    machine = getattr(own, "machine", own)  # the older build's functions are in a module
    memory = getattr(machine, "memory_use", None) or machine.memory
    _, precision, shape, layers, sequences, *_ = STEPS[case]
    own.make(NARROW | {"vocab_size": 3072}, sequences)  # tokenizes the text, which is then cached
    before, _ = memory(own.DEVICE)
    with machine.applied(settings):
        each = own.loop(loop, shape, sequences, layers)
        for line in sys.stdin:
            laps, batches, began = dict(each.laps.seconds), each.batches(int(line)), own.seconds()
            tokens = sum(each.update(batches) for _ in range(int(line)))
            spent = {"seconds": (own.seconds() - began) / tokens, "memory": memory(own.DEVICE)[1] - before}
            stages = {stage: seconds - laps[stage] for stage, seconds in each.laps.seconds.items()}
            print(json.dumps(spent | {"stages": stages}), file=answers, flush=True)


def environment(root: Path, files: Path) -> dict[str, str]:
    """Variables under which Python imports the build in `root` and keeps its files in `files`."""
    own = {"DISTILNB_HOME": str(files / "home"), "DISTILNB_CACHE": str(files / "cache")}
    return os.environ | own | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'benchmarks'}"}


@contextmanager
def worker(root: Path, files: Path, *what: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """A function that times a round of steps in a process of the build in `root`."""
    line = [sys.executable, "-P", __file__, "--work", *what]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": (files / "log").open("a")}
    process = subprocess.Popen(line, cwd=root, env=environment(root, files), text=True, **pipes)

    def timed() -> dict[str, Any]:
        process.stdin.write(f"{STEPS[what[0]][5]}\n")
        process.stdin.flush()
        if not (answer := process.stdout.readline()):
            raise RuntimeError(f"a worker of {what[:2]} in {root} died:\n{(files / 'log').read_text()[-2000:]}")
        return json.loads(answer)

    try:
        yield timed
    finally:
        process.kill()
        process.communicate()


def operations(arguments: str, records: list[dict[str, Any]]) -> float:
    """The additions and multiplications of the training behind these records of a command."""
    from transformers import AutoConfig

    from distilnb.models.arithmetic import finetuning_flops

    models = dict(model.split("=") for model in arguments.rpartition("--model ")[2].split(","))
    total = 0.0
    for record in records:
        config = AutoConfig.from_pretrained(models[record["model"]].removeprefix("random:"))
        rows = record["config"]["epochs"] * record["data"]["rows"]["train"]
        total += finetuning_flops(config, 1, record["tokens"] / rows, rows)
    return total


def least_seconds(case: str, rows: list[dict[str, Any]], peaks: dict[str, float]) -> float:
    """The seconds of today's matrix products at the peak rate: of a token's in a step, of all in a command."""
    from transformers import BertConfig

    from distilnb.machine import device
    from distilnb.models.arithmetic import distillation_flops

    if case in COMMANDS:
        precision, cores = "bf16" if device.fast_bf16() else "float32", os.cpu_count() if COMMANDS[case][2] else 1
        return statistics.median(row["operations"] for row in rows if row["build"] == "now") / peaks[precision] / cores
    _, precision, shape, layers, *_ = STEPS[case]
    teacher, student = (BertConfig(**shape, num_hidden_layers=count) for count in (layers, layers // 2))
    return distillation_flops(student, teacher, 1, LENGTH) / peaks[precision]


def command(root: Path, files: Path, arguments: str, jobs: int, build: str) -> dict[str, Any]:
    """The seconds of one `distilnb finetune` of the build in `root`, its operations, and its peak memory: that of the
    largest of its processes times their number."""
    shares = jobs > 1 and build == "now"
    with tempfile.TemporaryDirectory(dir=files) as out, (files / "log").open("a") as log:
        line = [sys.executable, "-m", "distilnb", "finetune", "--scale", "toy", "--cpu", *arguments.split()]
        line += ["--out", out, *(["--jobs", str(jobs)] if shares else [])]
        began = time.monotonic()
        process = subprocess.Popen(line, cwd=root, env=environment(root, files), stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        took = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(line)} in {root} failed:\n{(files / 'log').read_text()[-2000:]}")
        records = [json.loads(file.read_text()) for file in Path(out).glob("*.json")]
    seconds = took if jobs else used.ru_utime + used.ru_stime
    memory = used.ru_maxrss * 1024 * (jobs if shares else 1)
    return {"seconds": seconds, "memory": memory, "operations": operations(arguments, records)}


def rounds_of(case: str, old: Path, files: Path, rounds: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The cost of each build and loop in each round; steps have a round before, to warm up."""
    for build in ("before", "now"):
        (files / build).mkdir(exist_ok=True)
    builds = {"before": (old, files / "before"), "now": (ROOT, files / "now")}
    with ExitStack() as workers:
        if case in STEPS:
            precision, others = STEPS[case][1], STEPS[case][6]
            loops = {name: (*build, case, precision) for name, build in builds.items()}
            loops |= {
                name: (*builds["now"], case, name + "_bf16" * (name == "trainer" and precision == "bf16"))
                for name in others
            }
            runs = {name: workers.enter_context(worker(*loop, json.dumps(settings))) for name, loop in loops.items()}
        else:
            runs = {name: partial(command, *build, *COMMANDS[case][1:], name) for name, build in builds.items()}
        rows = []
        for turn in range(-1 if case in STEPS else 0, rounds):
            for name, timed in list(runs.items())[:: -1 if turn % 2 else 1]:
                row = {"case": case, "turn": turn, "build": name, **timed()}
                rows += [row] if turn >= 0 else []
    return rows


def ratios(rows: list[dict[str, Any]], other: str, key: str) -> list[float]:
    """How many times the seconds or memory of `other` are today's: least, median and greatest of the rounds."""
    both = ([row[key] for row in rows if row["build"] == build] for build in (other, "now"))
    quotients = [theirs / ours for theirs, ours in zip(*both, strict=True)]
    return [min(quotients), statistics.median(quotients), max(quotients)]


def shares(rows: list[dict[str, Any]], build: str) -> dict[str, float]:
    """Each stage's share of a build's steps."""
    own = [row["stages"] for row in rows if row["build"] == build]
    total = {stage: sum(stages[stage] for stages in own) for stage in own[0]}
    return {stage: round(seconds / sum(total.values()), 3) for stage, seconds in total.items()}


def compared(case: str, rows: list[dict[str, Any]], commit: str, peaks: dict[str, float]) -> list[dict[str, Any]]:
    """How many times as fast today's build is in a case (least, median, greatest), could be at most, and its share of
    the memory."""
    title = f"{STEPS[case][0]}, {STEPS[case][1]}" if case in STEPS else COMMANDS[case][0]
    names = {"before": f"commit {commit}", "plain": "the plain step, float32", "trainer": "Trainer"}
    least = least_seconds(case, rows, peaks)
    return [
        {
            "what": title,
            "against": name,
            "faster": [round(ratio, 3) for ratio in ratios(rows, build, "seconds")],
            "at_most": round(statistics.median(row["seconds"] for row in rows if row["build"] == build) / least, 3),
            "memory": round(1 / ratios(rows, build, "memory")[1], 3),
        }
        for build, name in names.items()
        if any(row["build"] == build for row in rows)
    ]


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        return work(*sys.argv[2:4], json.loads(sys.argv[4]))
    import torch

    from distilnb.evidence.records import Stopwatch, new_record, save_record
    from distilnb.machine import device
    from distilnb.report import tables

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help="cases, joined by commas")
    parser.add_argument("--commit", default=COMMIT)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="benchmark-before", help="name of the record")
    options = parser.parse_args()
    cases = options.only.split(",")
    if unknown := [case for case in cases if case not in STEPS | COMMANDS]:
        parser.error(f"unknown case '{unknown[0]}'; use some of {', '.join(CASES)}")
    if options.rounds < 1:
        parser.error("rounds must be 1 or more")
    watch, settings, rows, peaks = Stopwatch(), device.probe(), [], {"float32": 0.0, "bf16": 0.0}
    kinds = {"float32": torch.float32, "bf16": torch.bfloat16}
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder, "before")
        subprocess.run([*git, "add", "--quiet", "--detach", str(old), options.commit], check=True)
        try:
            for case in cases:
                own = rounds_of(case, old, Path(folder), options.rounds, settings)
                with device.applied(settings):
                    peaks = {kind: max(peak, device.matmul_rate(kinds[kind])) for kind, peak in peaks.items()}
                print(f"{case} is done", flush=True)
                for build in ("before", "now") if case in STEPS else ():
                    print(f"{build}: " + ", ".join(f"{s} {share:.0%}" for s, share in shares(own, build).items()))
                rows += own
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)
    of_case = {case: [row for row in rows if row["case"] == case] for case in cases}
    comparisons = [one for case, own in of_case.items() for one in compared(case, own, options.commit, peaks)]
    more = {"comparisons": comparisons, "rounds": rows, "settings": settings, "peaks": peaks}
    config = {"commit": options.commit, "rounds": options.rounds, "cases": cases, "group_by_length": False}
    about = {"scale": "base", "model": "student", "stopwatch": watch, "scores": {}, "config": config}
    record = new_record("benchmark", options.name, **about, **more)
    print(tables.table(tables.speed_rows([record])), f"record: {save_record(record)}", sep="\n")


if __name__ == "__main__":
    main()
