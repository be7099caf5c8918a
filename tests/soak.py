"""The long test: runs that are killed at random moments, again and again, and must end as the one that was not.

    python tests/soak.py --kills 160 --exits 50        writes RELIABILITY.md; 10 to 30 minutes
    python tests/soak.py --only hosts --kills 24        writes its section about two hosts

Each trial is a run of the command line that is sent SIGKILL after a random time, wherever it is then: loading,
training, evaluating, saving. It is started again with the same command until the kills of the trial are spent, then it
runs to its end; weights, optimizer, curve and evaluations must equal those of the uninterrupted run to the last bit.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import product
from multiprocessing import Process
from pathlib import Path

import cutting
import psutil
from conftest import SESSION, make_teacher, make_tokenizer, stories
from cutting import Job, outcome
from two_hosts import Host, ended, two_hosts

from distilnb.evidence.records import versions
from distilnb.machine.device import describe_device

ROOT, UPDATES, SLOW = Path(__file__).parents[1], 12, 600
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


# two hosts

LOSSES = tuple(product(("a process", "a launcher", "a host"), (0, 1)))
LAUNCHERS = ("distilnb launch", "torchrun")


class HostedRun:
    """A run on two hosts, with a disk each, and what supervises their launchers, as systemd or a loop in a shell do."""

    def __init__(self, pair: tuple[Host, Host], flags: tuple[str, ...], updates: int, launcher: str):
        self.pair, self.flags, self.updates, self.launcher = pair, flags, updates, launcher
        self.launchers = [self.launch(which) for which in (0, 1)]
        self.begun_again = 0

    def log(self, host: Host) -> Path:
        """What a host prints."""
        return host.disk / "log"

    def launch(self, which: int) -> Process:
        """Start a launcher on one of the hosts."""
        head = f"{self.pair[0].name}:29400"
        how = ["--hosts", "2", "--head", head, "--"]
        if self.launcher == "torchrun":
            how = ["torchrun", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "100"]
            how += ["--rdzv-backend", "c10d", "--rdzv-endpoint", head, "-m", "distilnb"]
        command = ["distil", *self.flags, "--out", str(self.pair[which].disk / "run"), "--name", "run"]
        return self.pair[which].launch([*how, *command], self.log(self.pair[which]), 120.0)

    def step(self) -> int:
        """The newest update that is saved on a disk."""
        saved = [host.disk / "run" / "checkpoints" / "latest" for host in self.pair]
        return max((int(path.read_text()[5:]) for path in saved if path.exists()), default=0)

    def tend_until(self, condition: Callable[[], bool]) -> None:
        """Start launchers that failed once more with the same command, until the condition holds."""
        until = time.monotonic() + SLOW
        while not condition() and time.monotonic() < until:
            for which, launcher in enumerate(self.launchers):
                if launcher.exitcode not in (None, 0):
                    self.launchers[which] = self.launch(which)
                    self.begun_again += 1
            time.sleep(0.05)

    def trainers(self, which: int) -> list[int]:
        """The processes that train on a host."""
        agents = [psutil.Process(self.launchers[which].pid)]
        if self.launcher == "distilnb launch":  # whose agent is a process of its own
            agents = agents[0].children()
        return [child.pid for agent in agents for child in agent.children()]

    def lose(self, what: str, which: int, draw: random.Random) -> None:
        """SIGKILL one of the processes that train, the launcher, or everything on the host."""
        if what == "a host":
            return self.pair[which].kill()
        self.tend_until(lambda: what == "a launcher" or self.trainers(which))
        victims = self.trainers(which) if what == "a process" else [self.launchers[which].pid]
        os.kill(draw.choice(victims), signal.SIGKILL)


def lose_and_compare(losses: list[tuple], run: HostedRun, whole: dict, draw: random.Random, counts: Counter) -> None:
    """Lose something at random updates, let the supervisor do what it does, let the run end, compare."""
    for what, which in losses:
        goal = min(run.step() + draw.randint(2, 6), run.updates - 2)
        run.tend_until(lambda goal=goal: run.step() >= goal)
        time.sleep(draw.uniform(0, 0.3))
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            run.lose(what, which, draw)
            counts["kills"] += 1
            counts[what, which] += 1
        if what != "a process":
            run.launchers[which].join()
    run.tend_until(lambda: all(launcher.exitcode == 0 for launcher in run.launchers))
    statuses = ended(run.launchers, 1)
    alike = all((host.disk / "run").exists() and outcome(host.disk / "run") == whole for host in run.pair)
    counts["runs"] += 1
    counts["identical to the bit"] += statuses == [0, 0] and alike
    counts["begun again"] += run.begun_again
    if not alike or statuses != [0, 0]:
        print(statuses, *(run.log(host).read_text()[-3000:] for host in run.pair), sep="\n", flush=True)


def hosts_lost(kills: int, where: tuple[Path, Path], root: Path, draw: random.Random) -> Iterator[dict[str, Counter]]:
    """Lose processes, launchers and hosts in turn, six in a run; after every run what was counted, by launcher."""
    updates, counts = 36, {launcher: Counter() for launcher in LAUNCHERS}
    flags = cutting.flags(*where, updates=updates, micro_batch_size=4)
    whole = Job(root / "undisturbed" / "run", flags, 2)
    assert cutting.run(whole, SLOW) == [0, 0], whole.said()
    for number, launcher in product(range(0, kills, len(LOSSES)), LAUNCHERS):
        losses = draw.sample(LOSSES, min(len(LOSSES), kills - number))
        folder = root / f"hosts-{number}-{launcher.split()[0]}"
        folder.mkdir()
        with two_hosts(folder) as pair:
            run = HostedRun(pair, flags, updates, launcher)
            lose_and_compare(losses, run, outcome(whole.out), draw, counts[launcher])
        print(launcher, dict(counts[launcher]), flush=True)
        yield counts


def hosts_section(counts: dict[str, Counter], provenance: str) -> str:
    """What RELIABILITY.md says of two hosts."""
    lines = {loss: f"{loss[0]}, {('first', 'other')[loss[1]]} host" for loss in LOSSES} | {
        "kills": "all",
        "begun again": "launchers begun again",
        "runs": "runs",
        "identical to the bit": "**identical to the bit**",
    }
    rows = "\n".join(
        f"| {text} | {' | '.join(str(counts[each][key]) for each in LAUNCHERS)} |" for key, text in lines.items()
    )
    return f"""## Two hosts

Written by `python tests/soak.py --only hosts`, not by hand: {provenance}.

Two network namespaces joined by a veth pair, each with a process, a launcher and a disk of its own. A run of 36 updates
loses one of the processes that train, a launcher, or everything on a host (SIGKILL) at random updates, six times a run.
The launchers are `distilnb launch`, and torch's as `launch/torchrun.sh` calls it. One that died or gave up is begun
again with the same command, as a supervisor does; all else comes back by itself. "Identical" means that weights,
optimizer, curve and evaluations on both disks equal those of two processes that nothing happened to, to the last bit.

| SIGKILL to | {" | ".join(LAUNCHERS)} |
|---|{"---:|" * len(LAUNCHERS)}
{rows}
"""


def write_section(path: Path, section: str) -> None:
    """Put a section in the place of the one with its title, or before the last one."""
    title = section.splitlines()[0]
    head, *sections = [f"## {part}" if i else part for i, part in enumerate(path.read_text().split("\n## "))]
    others = [part.strip() for part in sections if part.splitlines()[0] != title]
    path.write_text("\n\n".join([head.strip(), *others[:-1], section.strip(), *others[-1:]]) + "\n")


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
    parser.add_argument("--only", choices=["hosts"], help="write the section about two hosts anew, and nothing else")
    options = parser.parse_args()
    root, began = Path(SESSION.name) / "soak", time.monotonic()
    root.mkdir()
    commit = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    where = material(root)
    if options.only:
        for counts in hosts_lost(options.kills, where, root, random.Random(options.seed)):
            made = f"{datetime.now(UTC):%Y-%m-%d}, code {commit.stdout.strip()}, {describe_device()['processor']}"
            made += f", {(time.monotonic() - began) / 60:.0f} minutes beside other work, random seed {options.seed}"
            write_section(options.out, hosts_section(counts, made))
        sys.exit(0 if all(each["identical to the bit"] == each["runs"] for each in counts.values()) else 1)
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
