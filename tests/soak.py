"""The long test: runs that are killed at random moments, again and again, and must end as the one that was not.

    python tests/soak.py --kills 160 --exits 50        writes RELIABILITY.md; about half an hour

Each trial is a run of the command line that is sent SIGKILL after a random time, wherever it is then: loading,
training, evaluating, saving. It is started again with the same command until the kills of the trial are spent, then it
runs to its end; weights, optimizer, curve and evaluations must equal those of the uninterrupted run to the last bit.
"""

import argparse
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import cutting
from conftest import SESSION, make_teacher, make_tokenizer, stories
from cutting import Job

from distilnb.evidence.records import versions
from distilnb.machine.device import describe_device

ROOT, UPDATES = Path(__file__).parents[1], 12
SETTINGS = [{"processes": p, "workers": w, "accumulation": a} for p, w, a in product((1, 2), (0, 2), (1, 2))]
Counts = dict[str, Counter]


def material(root: Path) -> tuple[Path, Path]:
    """The teacher and text of the tests."""
    tokenizer = make_tokenizer()
    make_teacher(len(tokenizer)).save_pretrained(root / "teacher")
    tokenizer.save_pretrained(root / "teacher")
    (root / "text.txt").write_text("\n\n".join(stories(400)))
    return root / "teacher", root / "text.txt"


def name(setting: dict[str, int]) -> str:
    """A setting in words."""
    return ", ".join(f"{value} {key}" for key, value in setting.items())


def job(setting: dict[str, int], where: tuple[Path, Path], out: Path, updates: int = UPDATES) -> Job:
    """The run of one setting."""
    micro = 8 // setting["processes"] // setting["accumulation"]
    flags = cutting.flags(*where, updates=updates, workers=setting["workers"], micro_batch_size=micro)
    return Job(out, flags, setting["processes"], patches={"distilnb.machine.processes.PATIENCE": 90.0})


def cut_and_compare(whole: Job, cut: Job, kills: int, seconds: float, draw: random.Random, counts: Counter) -> None:
    """Kill a run `kills` times, let it end, compare. A run that ended before it could be killed is begun anew."""
    while kills:
        processes = cutting.start(cut)
        time.sleep(draw.uniform(0.2, 1.1) * seconds)
        victims = draw.choice([processes, processes[:1], processes[-1:]])  # all processes, or one of them
        alive = [process for process in victims if process.is_alive()]
        for process in victims:
            process.kill()
        began = time.monotonic()
        statuses = cutting.end(processes, 120)
        counts["a surviving process did not stop by itself"] += None in statuses
        if alive and -9 in statuses:
            kills -= 1
            counts["kills"] += 1
            counts["kills of one process of two"] += len(victims) < len(processes)
            counts["slowest stop of a survivor, s"] = max(
                counts["slowest stop of a survivor, s"], round(time.monotonic() - began)
            )
            counts["kills before the first checkpoint"] += not (cut.out / "checkpoints" / "latest").exists()
            counts["kills inside a save"] += any((cut.out / "checkpoints").glob(".step-*"))
        else:
            shutil.rmtree(cut.out, ignore_errors=True)
    counts["runs"] += 1
    ended = cutting.run(cut, 300)
    counts["identical to the bit"] += ended == [0] * cut.processes and (
        cutting.outcome(cut.out) == cutting.outcome(whole.out)
    )
    shutil.rmtree(cut.out, ignore_errors=True)


def resumes(kills: int, where: tuple[Path, Path], root: Path, draw: random.Random) -> Iterator[Counts]:
    """Kill all settings alike; what was counted so far, by setting, after every round over them."""
    counts: Counts = {name(setting): Counter() for setting in SETTINGS}
    wholes, seconds = {}, {}
    for number in range(0, kills, 4 * len(SETTINGS)):
        for setting in SETTINGS:
            key, left = name(setting), min(4, kills // len(SETTINGS) - number // len(SETTINGS))
            if key not in wholes:
                wholes[key] = job(setting, where, root / "whole" / key.replace(", ", "-").replace(" ", ""))
                cutting.run(job(setting, where, root / "warm" / wholes[key].out.name), 600)  # the corpus, the imports
                began = time.monotonic()
                assert cutting.run(wholes[key], 600) == [0] * setting["processes"], wholes[key].said()
                seconds[key] = time.monotonic() - began
            cut = job(setting, where, root / f"cut-{number}" / wholes[key].out.name)
            cut_and_compare(wholes[key], cut, left, seconds[key], draw, counts[key])
            print(key, dict(counts[key]), flush=True)
        yield counts


def exits(count: int, where: tuple[Path, Path], root: Path) -> Counter:
    """Runs of two processes: how many have ended 10 s after the record was there, and the slowest."""
    counts: Counter = Counter()
    for number in range(count):
        setting = {"processes": 2, "workers": 2 * (number % 2), "accumulation": 1}
        one = job(setting, where, root / f"exit-{number}", updates=2)
        processes = cutting.start(one)
        record = one.out / "model" / "record.json"
        until = time.monotonic() + 300
        while not record.exists() and time.monotonic() < until:
            time.sleep(0.05)
        began = time.monotonic()
        statuses = cutting.end(processes, 10)
        counts["runs"] += 1
        counts["ended with status 0 within 10 s"] += statuses == [0, 0]
        counts["slowest, ms"] = max(counts["slowest, ms"], round(1000 * (time.monotonic() - began)))
        shutil.rmtree(one.out, ignore_errors=True)
        print("exits", dict(counts), flush=True)
    return counts


COLUMNS = (
    "runs",
    "kills",
    "kills before the first checkpoint",
    "kills inside a save",
    "kills of one process of two",
    "identical to the bit",
)


def page(counts: Counts, ended: Counter, commit: str, minutes: float, seed: int) -> str:
    """RELIABILITY.md."""
    total, device, torch = sum(counts.values(), Counter()), describe_device(), versions()["torch"]
    found = [[key, *(str(row[column]) for column in COLUMNS)] for key, row in (counts | {"**all**": total}).items()]
    rows = "\n".join(f"| {' | '.join(row)} |" for row in found)
    alone = total["kills of one process of two"]
    stopped = alone - total["a surviving process did not stop by itself"]
    slowest = max(row["slowest stop of a survivor, s"] for row in counts.values())
    return f"""# Reliability, counted

Written by `python tests/soak.py` on {datetime.now(UTC):%Y-%m-%d}, not by hand: code {commit},
{device["processor"]}, {device["cores"]} cores shared with other work,
torch {torch}, {minutes:.0f} minutes, random seed {seed}.

## Killed and resumed

A tiny run of {UPDATES} updates, dropout on, with a checkpoint after every second one, is sent SIGKILL at random moments
and started again with the same command. "Identical" means that weights, optimizer, curve and evaluations equal those of
the run that was not cut, to the last bit (CPU, float32, one thread a process).

| setting | {" | ".join(COLUMNS)} |
|---|{"---:|" * len(COLUMNS)}
{rows}

Where one of two processes was killed, the other stopped by itself within 120 s (its patience was 90 s) in
{stopped} of {alone} cases, and the run went on in all; longest wait {slowest} s.

## Ended

Of {ended["runs"]} runs of two processes, {ended["ended with status 0 within 10 s"]} had ended with status 0
within 10 s of their record, the slowest after {ended["slowest, ms"] / 1000:.1f} s.

## Tested at every change

Kills at every call of a save that touches the disk, damaged checkpoints, full and read-only disks, two runs in one
folder, signals, numbers that are not finite, memory that runs out, hostile files, a Hub that fails:
`tests/test_resume.py`, `test_checkpoints.py`, `test_faults.py`, `test_security.py`, `test_hub.py`.
"""


def main() -> None:
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=160)
    parser.add_argument("--exits", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "RELIABILITY.md")
    options = parser.parse_args()
    root, began = Path(SESSION.name) / "soak", time.monotonic()
    root.mkdir()
    commit = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    where = material(root)
    ended = exits(options.exits, where, root)
    for counts in resumes(options.kills, where, root, random.Random(options.seed)):
        minutes = (time.monotonic() - began) / 60
        options.out.write_text(page(counts, ended, commit.stdout.strip(), minutes, options.seed))
    print(options.out.read_text())
    total = sum(counts.values(), Counter())
    whole = total["identical to the bit"] == total["runs"] and not total["a surviving process did not stop by itself"]
    sys.exit(0 if whole and ended["ended with status 0 within 10 s"] == ended["runs"] else 1)


if __name__ == "__main__":
    main()
