"""Bytes and time that a distillation spends on the wire: two hosts here, and eight or sixteen GPUs on paper.

    python benchmarks/hosts.py --measure      as root, with Debian's iproute2: writes docs/hosts.json
    python benchmarks/hosts.py                writes the tables of docs/hosts.md from it

The hosts are two network namespaces (`tests/two_hosts.py`), their cable is slowed down by `tc`. Bytes are what the
kernel counts on the cable in updates, by the difference of a longer and a shorter run; seconds are those of the run's
record: for exchanging gradients, after all processes have met, and for waiting until they have.
"""

import json
import sys
import tempfile
from functools import cache
from itertools import islice
from pathlib import Path

from transformers import BertConfig, DistilBertConfig

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from two_hosts import ended, two_hosts  # noqa: E402

from distilnb import scales  # noqa: E402
from distilnb.evidence.records import commit, versions  # noqa: E402
from distilnb.machine.device import describe_device  # noqa: E402
from distilnb.models.arithmetic import GPUS, UTILISATION, distillation_flops, parameter_groups  # noqa: E402
from distilnb.text import toyworld  # noqa: E402

SHORT, LONG, TOKENS = 1, 5, 2048  # updates, and tokens in each
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
        if set(ended(jobs, 900)) != {0}:
            raise RuntimeError((hosts[0].disk / "log").read_text()[-2000:])
        return hosts[0].sent(), json.loads((hosts[0].disk / "run" / "model" / "record.json").read_text())


@cache
def starting_bytes(processes: int) -> int:
    """What the first host sends in a run of one update: meeting, sending the weights, evaluating, ending."""
    with tempfile.TemporaryDirectory() as folder:
        return train(Path(folder) / "short", processes, 0, SHORT)[0]


def measure(processes: int, megabits: int) -> dict:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        sent, record = train(Path(folder) / "long", processes, megabits, LONG)
    sent -= starting_bytes(processes) if processes > 1 else sent
    exchange, tokens = record["exchange"], record["curve"]["tokens_per_second"]
    seconds = sum(TOKENS / rate for rate in tokens) / len(tokens)
    return {
        "processes": processes,
        "megabits": megabits,
        "parameter_bytes": exchange["gradient_bytes"],
        "sent_bytes": round(sent / (LONG - SHORT)),
        "update_seconds": round(seconds, 3),
        "exchange_seconds": round(exchange["seconds"] / LONG, 3),
        "waiting_seconds": round(exchange["waiting_seconds"] / LONG, 3),
    }


def measured_table(rows: list[dict]) -> str:
    """What was measured, as Markdown."""
    lines = ["| processes | cable | gradients | sent by the first host | takes the cable | exchange | waiting |"]
    lines.append("|---:|---|---:|---:|---:|---:|---:|")
    for row in rows[1:]:
        sizes = [f"{row[key] / 1e6:.2f} MB" for key in ("parameter_bytes", "sent_bytes")]
        cable = f"{8000 * row['sent_bytes'] / row['megabits'] / 1e6:.0f} ms"
        times = [f"{1000 * row[key]:.0f} ms" for key in ("exchange_seconds", "waiting_seconds")]
        cells = [row["processes"], f"{row['megabits'] // 1000} Gbit/s", *sizes, cable, *times]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


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
                cells = [
                    where,
                    link,
                    f"{compute:.1f} s",
                    f"{exchange:.2f} s",
                    f"{100 * share:.0f} %",
                    f"{100 * half:.0f} %",
                ]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fill(page: str, name: str, table: str) -> str:
    """The page with this table between its marks."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, rest = page.split(begin)
    return head + begin + table + "\n" + end + rest.split(end)[1]


if __name__ == "__main__":
    path = ROOT / "docs" / "hosts.json"
    if "--measure" in sys.argv:
        rows = [measure(*case) for case in CASES]
        provenance = {"commit": commit(), "device": describe_device(), "versions": versions()}
        path.write_text(json.dumps({"rows": rows, **provenance}, indent=1) + "\n")
    page = (ROOT / "docs" / "hosts.md").read_text()
    page = fill(page, "measured", measured_table(json.loads(path.read_text())["rows"]))
    (ROOT / "docs" / "hosts.md").write_text(fill(page, "on paper", paper_table()))
