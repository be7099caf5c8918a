"""Bytes and time that a distillation spends on the wire: two hosts here, and eight or sixteen GPUs on paper.

    python benchmarks/hosts.py --measure [ROUNDS]     as root, with Debian's iproute2: writes docs/hosts.json
    python benchmarks/hosts.py                        writes the tables of docs/hosts.md from it

The hosts are two network namespaces (`tests/two_hosts.py`), their cable is slowed down by `tc`. Bytes are what the
kernel counts on the cable in updates, by the difference of a longer and a shorter run; seconds are those of the run's
record: for exchanging gradients, after all processes have met, and for waiting until they have. Cases take turns, round
after round, and go before other work on the machine; shares and ratios are taken within a round, then the median.
"""

import json
import os
import sys
import tempfile
import time
from functools import cache
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

from transformers import BertConfig, DistilBertConfig

from distilnb import scales
from distilnb.evidence.records import commit, versions
from distilnb.lessons.generated import between
from distilnb.machine.device import describe_device
from distilnb.models.arithmetic import GPUS, UTILISATION, distillation_flops, parameter_groups
from distilnb.text import toyworld

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from two_hosts import ended, two_hosts  # noqa: E402  (the network of the tests)

SHORT, LONG, TOKENS, ROUNDS = 1, 12, 2048, 7  # updates of a run, tokens of an update, rounds over the cases
CASES = [(1, 0), (2, 10_000), (2, 1_000), (4, 10_000), (4, 1_000)]  # processes, Mbit/s
LINKS = {"NVLink, 300 GB/s": 300e9, "100 Gbit/s": 12.5e9, "10 Gbit/s": 1.25e9, "1 Gbit/s": 0.125e9}


def train(root: Path, processes: int, megabits: int, updates: int) -> tuple[int, dict]:
    """Bytes that the first host has sent in a run at toy scale, and the run's record."""
    root.mkdir()
    text = root / "text.txt"
    text.write_text("\n\n".join(islice(toyworld.documents(), 3000)))
    with two_hosts(root) as hosts:
        for host in hosts:
            host.limit(megabits)
        where = ["--hosts", str(min(processes, 2)), "--processes", str(max(1, processes // 2))]
        command = ["distil", "--scale", "toy", "--cpu", "--precision", "no", "--text", str(text)]
        command += ["--tokens", str(updates * TOKENS)]
        command += ["--evaluate_every", "1000", "--name", "run"]
        jobs = []
        for host in hosts[: min(processes, 2)]:
            here = [*where, "--head", f"{hosts[0].address}:29400", "--", *command, "--out", str(host.disk / "run")]
            jobs.append(host.launch(here, host.disk / "log"))
        for job in jobs:
            go_before(job.pid)
        if set(ended(jobs, 900)) != {0}:
            raise RuntimeError((hosts[0].disk / "log").read_text()[-2000:])
        return hosts[0].sent(), json.loads((hosts[0].disk / "run" / "model" / "record.json").read_text())


def go_before(pid: int) -> None:
    """Let the session that a process begins go before others (Linux weighs whole sessions, then processes in them)."""
    while os.getsid(pid) != pid:
        time.sleep(0.01)
    if (group := Path(f"/proc/{pid}/autogroup")).exists():
        group.write_text("-10")


@cache
def starting_bytes(processes: int) -> int:
    """What the first host sends in a run of one update: meeting, sending the weights, evaluating, ending."""
    with tempfile.TemporaryDirectory() as folder:
        return train(Path(folder) / "short", processes, 0, SHORT)[0]


def measure(processes: int, megabits: int) -> dict[str, float]:
    """What one run comes to: seconds of an update (the median), of its exchange and of waiting, and bytes sent."""
    with tempfile.TemporaryDirectory() as folder:
        sent, record = train(Path(folder) / "long", processes, megabits, LONG)
    exchange, update = record["exchange"], TOKENS / median(record["curve"]["tokens_per_second"])
    return {
        "gradient_bytes": exchange["gradient_bytes"],
        "sent_bytes": (sent - starting_bytes(processes)) / (LONG - SHORT) if processes > 1 else 0,
        "update_seconds": update,
        "exchange_seconds": exchange["seconds"] / LONG,
        "waiting_seconds": exchange["waiting_seconds"] / LONG,
        "exchange_share": exchange["seconds"] / LONG / update,
    }


def rounds(count: int) -> list[dict[str, float]]:
    """A row for each case: medians over the rounds, and the quartiles of the two ratios."""
    runs: dict[tuple, list[dict]] = {case: [] for case in CASES}
    for number in range(count):
        for case in CASES:
            run = measure(*case)
            alone = runs[CASES[0]][number] if case != CASES[0] else run
            runs[case].append(run | {"speed": alone["update_seconds"] / run["update_seconds"]})
            print(number + 1, case, {key: round(value, 3) for key, value in runs[case][-1].items()}, flush=True)
    rows = []
    for (processes, megabits), made in runs.items():
        row = {"processes": processes, "megabits": megabits, "rounds": count}
        row |= {key: round(median(run[key] for run in made), 4) for key in made[0]}
        for key in ("exchange_share", "speed"):
            low, _, high = quantiles([run[key] for run in made], method="inclusive")
            row[f"{key}_quartiles"] = [round(low, 4), round(high, 4)]
        rows.append(row)
    return rows


def measured_table(rows: list[dict]) -> str:
    """What was measured, as Markdown."""
    lines = [
        "| processes | cable | sent an update | takes the cable | exchange | share of an update | waiting | speed |"
    ]
    lines.append("|---:|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        cells = ["1", "none", "0", "0 ms", "0 ms", "0 %", "0 ms", "1"]
        if row["processes"] > 1:
            low, high = (100 * share for share in row["exchange_share_quartiles"])
            cells = [row["processes"], f"{row['megabits'] // 1000} Gbit/s", f"{row['sent_bytes'] / 1e6:.2f} MB"]
            cells += [f"{8000 * row['sent_bytes'] / row['megabits'] / 1e6:.0f} ms"]
            cells += [f"{1000 * row['exchange_seconds']:.0f} ms"]
            cells += [f"{100 * row['exchange_share']:.0f} % ({low:.0f} to {high:.0f})"]
            low, high = row["speed_quartiles"]
            cells += [f"{1000 * row['waiting_seconds']:.0f} ms", f"{row['speed']:.2f} ({low:.2f} to {high:.2f})"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, "", f"Medians of {rows[0]['rounds']} rounds, quartiles in brackets."])


def paper_table() -> str:
    """How it would go on at the paper's recipe: time of an update and of its exchange, by arithmetic."""
    teacher, student = BertConfig(), DistilBertConfig()
    recipe, gradients = scales.get("paper").pretraining, 4 * sum(parameter_groups(student).values())
    tokens = recipe["batch_size"] * recipe["seq_length"]
    flops = distillation_flops(student, teacher, tokens, recipe["seq_length"], 1.0)
    lines = ["| GPUs (A100) | gradients travel over | an update computes | exchange | share | in bf16 |"]
    lines.append("|---|---|---:|---:|---:|---:|")
    for gpus, hosts in ((8, 1), (16, 2)):
        compute = flops / gpus / (UTILISATION * GPUS["A100"].peak)
        for link, rate in LINKS.items():
            if (hosts == 1) == link.startswith("NVLink"):
                exchange = 2 * (gpus - 1) / gpus * gradients / rate
                half = exchange / 2 / (compute + exchange / 2)
                share = exchange / (compute + exchange)
                where = f"{gpus}" if hosts == 1 else f"{gpus}, on two hosts"
                times = f"{compute:.1f} s | {exchange:.2f} s | {100 * share:.0f} % | {100 * half:.0f} %"
                lines.append(f"| {where} | {link} | {times} |")
    return "\n".join(lines)


if __name__ == "__main__":
    path = ROOT / "docs" / "hosts.json"
    if "--measure" in sys.argv:
        rows = rounds(int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS)
        provenance = {"commit": commit(), "device": describe_device(), "versions": versions()}
        path.write_text(json.dumps({"rows": rows, **provenance}, indent=1) + "\n")
    page = (ROOT / "docs" / "hosts.md").read_text()
    page = between(page, "measured", measured_table(json.loads(path.read_text())["rows"]))
    (ROOT / "docs" / "hosts.md").write_text(between(page, "on paper", paper_table()))
