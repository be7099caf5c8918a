"""Run records: one small JSON per run, with all that is needed to believe and repeat its numbers.

A record is a plain dictionary with the keys of `KEYS`; `save` adds a hash of the rest, `load` checks it, so that a
truncated or edited record is refused instead of averaged over.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from . import paths

KINDS = ("teacher", "distillation", "finetuning", "benchmark", "ablation")
KEYS = (
    "kind",
    "name",
    "scale",
    "model",
    "model_record",
    "task",
    "seed",
    "scores",
    "tokens",
    "steps",
    "curve",
    "config",
    "data",
    "device",
    "versions",
    "commit",
    "started",
    "wall_seconds",
    "cpu_seconds",
    "energy_wh",
    "format",
    "sha256",
)
FORMAT = 1
CURVE_POINTS = 120  # a curve is thinned to about this many, so that records stay small
LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "scikit-learn")


class Stopwatch:
    """Wall and CPU seconds (all threads, this process) since it was made."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, Any]:
        """The record's three timing keys."""
        return {
            "started": self.started,
            "wall_seconds": round(time.perf_counter() - self._wall, 2),
            "cpu_seconds": round(time.process_time() - self._cpu, 2),
        }


def new_record(kind: str, name: str, *, scale: str, model: str, stopwatch: Stopwatch, **values: Any) -> dict[str, Any]:
    """A record with its provenance filled in; keys that are not given are None.

    Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of record '{kind}'; use one of {', '.join(KINDS)}")
    record = dict.fromkeys(KEYS) | {"kind": kind, "name": name, "scale": scale, "model": model, "format": FORMAT}
    record |= stopwatch.read() | {"device": device(), "versions": versions(), "commit": commit()} | values
    if record["curve"]:
        record["curve"] = thin(record["curve"])
    return record


def device() -> dict[str, Any]:
    """Processor, core count, memory in GiB, and the GPU if there is one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": memory and round(memory, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def commit() -> str | None:
    """The git commit of the code, "+changes" appended when the working tree differs; None where nobody knows.

    A package that pip installed from a repository was given the commit by pip.
    """
    if installed := _installed_commit():
        return installed

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(paths.PACKAGE), *args], capture_output=True, text=True, check=True
        ).stdout

    try:
        return git("rev-parse", "HEAD").strip() + (
            "+changes" if git("status", "--porcelain", "--", ".").strip() else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _installed_commit() -> str | None:
    """What pip noted when it installed this very package from a repository."""
    for found in importlib.metadata.distributions(name="distilnb", path=[str(paths.PACKAGE.parent)]):
        return json.loads(found.read_text("direct_url.json") or "{}").get("vcs_info", {}).get("commit_id")
    return None


def join(records: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """One record for a run made in stages: curves end to end, tokens, steps and times added up, `stages` beside."""
    last, tokens, steps = records[-1], 0, 0
    joined = {part: {key: [] for key in last[part]} for part in ("curve", "evaluations")}
    for record in records:
        for part, columns in joined.items():
            for key, values in record[part].items():
                columns[key] += [v + {"tokens": tokens, "step": steps}.get(key, 0) for v in values]
        tokens, steps = tokens + record["tokens"], steps + record["steps"]
    times = {key: round(sum(r[key] for r in records), 2) for key in ("wall_seconds", "cpu_seconds")}
    kept = ("name", "config", "tokens", "steps", "scores", *times)
    stages = [
        {k: stage[k] for k in kept} | {"before": stage.get("before") or _first(stage)}
        for r in records
        for stage in r.get("stages", [r])
    ]
    joined["curve"] = thin(joined["curve"])
    times["skipped"] = sum(r.get("skipped", 0) for r in records)
    return (
        last
        | joined
        | times
        | {"name": name, "tokens": tokens, "steps": steps, "started": records[0]["started"], "stages": stages}
    )


def _first(record: dict[str, Any]) -> dict[str, float] | None:
    """The held-out scores with which a stage began."""
    rows = record.get("evaluations") or {}
    return {key: rows[key][0] for key in record["scores"] if rows.get(key)} or None


def thin(curve: dict[str, list], points: int = CURVE_POINTS) -> dict[str, list]:
    """Every k-th row of a curve, the last row always kept; numbers rounded to five significant digits."""
    rows = max(map(len, curve.values()), default=0)
    step = max(1, math.ceil(rows / points))
    keep = sorted({*range(0, rows, step), rows - 1} - {-1})
    return {name: [_round(values[i]) for i in keep] for name, values in curve.items()}


def _round(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _hash(record: dict[str, Any]) -> str:
    rest = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def save(record: dict[str, Any], folder: Path | None = None) -> Path:
    """Write `folder/<name>.json` (default `runs/`) in one move; raises ValueError for nan, which no record may hold."""
    folder = Path(folder or paths.home() / "runs")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        record = json.loads(json.dumps(record, allow_nan=False))  # as it will be read: keys are text
    except ValueError as error:
        raise ValueError(f"record '{record['name']}' holds a number that is not finite; nothing was written") from error
    record["sha256"] = _hash(record)
    path = folder / f"{record['name']}.json"
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)
    return path


def load(path: Path) -> dict[str, Any]:
    """Read one record; raises ValueError naming the file when it is truncated, edited or of another format."""
    try:
        record = json.loads(Path(path).read_text(), parse_constant=_refuse)
    except (OSError, ValueError) as error:
        raise ValueError(f"record {path} cannot be read ({error}); run it again or delete it") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"record {path} is of another format than {FORMAT}; run it again or delete it")
    if record.get("sha256") != _hash(record):
        raise ValueError(f"record {path} was changed after its run wrote it (its hash does not fit); run it again")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def load_all(*folders: Path, **where: Any) -> list[dict[str, Any]]:
    """All records of these folders (default: published, then your own), by name, whose keys equal `where`.

    A record of your own replaces a published one of the same name. Raises ValueError for a file that is not called
    after its record: a copy would count twice.
    """
    folders = folders or (paths.data("runs"), paths.home() / "runs")
    found = {path: load(path) for folder in folders for path in sorted(Path(folder).glob("*.json"))}
    for path, record in found.items():
        if record["name"] != path.stem:
            raise ValueError(f"{path} holds the record '{record['name']}': a copy? Delete it or give it back its name")
    found = {path.stem: record for path, record in found.items()}
    return [r for _, r in sorted(found.items()) if all(r.get(key) == value for key, value in where.items())]


def is_subset(record: Mapping[str, Any]) -> bool:
    """Whether a fine-tuning run had only some rows of a real task; tasks of the toy world are no part of a real one."""
    return record["kind"] == "finetuning" and record["scale"] != "toy" and bool(record["data"].get("stand_in"))


def plain(value: Any) -> Any:
    """A value as a record gives it back: tuples are lists, keys are text."""
    return json.loads(json.dumps(value))


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two plain values differ, in words: "config.epochs 3 against 4"; empty when they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in dict.fromkeys([*one, *other])
            for line in differences(one.get(key), other.get(key), f"{where}.{key}" if where else key)
        ]
    return [] if one == other else [f"{where} {one} against {other}"]


def check_comparable(
    records: Sequence[Mapping[str, Any]],
    shared: Callable[[Mapping[str, Any]], dict[str, Any]],
    cell: Sequence[str] = ("model", "task", "seed"),
) -> list[str]:
    """Sentences that must stand under a comparison of these records: gaps, other code, libraries or machines.

    `shared` says what must be equal in all of them, `cell` which keys tell them apart, the seed last. Raises
    ValueError, in one sentence, for records of several scales or other settings and for a cell that stands twice.
    """
    if not records:
        return []
    first, seen = records[0], {}
    for record in records:
        names = f"{first['name']} and {record['name']}"
        if record["scale"] != first["scale"]:
            raise ValueError(f"{names} are of different scales ({first['scale']}, {record['scale']}): not compared")
        differing = differences(plain(shared(first)), plain(shared(record)))
        if differing:
            raise ValueError(f"{names} were run under different settings ({'; '.join(differing[:3])}): not compared")
        twin = seen.setdefault(tuple(record[key] for key in cell), record)
        if twin is not record:
            what = ", ".join(f"{key} {record[key]}" for key in cell)
            raise ValueError(f"{what} stands twice, in {twin['name']} and {record['name']}: delete one of them")
    return [*_missing_seeds(seen), *_mixed_code(records)]


def _missing_seeds(cells: Mapping[tuple, Any]) -> list[str]:
    seeds, groups = sorted({key[-1] for key in cells}), dict.fromkeys(key[:-1] for key in cells)
    gaps = {group: [seed for seed in seeds if (*group, seed) not in cells] for group in groups}
    return [
        f"{' on '.join(map(str, group))} has no record of seed {', '.join(map(str, gap))}"
        for group, gap in gaps.items()
        if gap
    ]


def _mixed_code(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Told, not refused: a grid may be finished on another machine, or after a commit that changed nothing in it."""
    found = {
        "commits of the code": Counter(_short(r["commit"]) for r in records),
        "processors": Counter(r["device"]["gpu"] or r["device"]["processor"] for r in records),
        "versions of torch": Counter(r["versions"]["torch"] for r in records),
        "versions of transformers": Counter(r["versions"]["transformers"] for r in records),
    }
    return [
        f"the records come from {len(counts)} {what}: "
        + ", ".join(f"{value} ({count})" for value, count in counts.items())
        for what, counts in found.items()
        if len(counts) > 1
    ]


def _short(commit: str | None) -> str:
    return "unknown" if commit is None else commit[:10] + (" with changes" if commit.endswith("+changes") else "")
