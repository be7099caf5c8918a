"""Run records: one small JSON file per run, with all that is needed to believe and repeat its numbers.

A record is a plain dictionary with the keys of `KEYS`. `save_record` adds a hash of the rest and `load_record` checks
it, so that a truncated or edited record is refused instead of averaged.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import paths
from ..machine.device import describe_device

KINDS = ("teacher", "distillation", "finetuning", "benchmark", "ablation", "data", "device")
KEYS = tuple(
    "kind name scale model model_record task seed scores tokens steps curve config data device versions commit "
    "started wall_seconds cpu_seconds energy_wh format sha256".split()
)
FORMAT = 1
CURVE_POINTS = 120  # a curve is thinned to about this many, so that records stay small
LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy", "scikit-learn")


class Stopwatch:
    """A clock of the wall time and CPU time (of all threads of this process) since its creation, in seconds."""

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
    """A record with its provenance filled in and None for every key that is not given.

    Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of record '{kind}'; use one of {', '.join(KINDS)}")
    record = dict.fromkeys(KEYS) | {"kind": kind, "name": name, "scale": scale, "model": model, "format": FORMAT}
    record |= stopwatch.read() | {"device": describe_device(), "versions": versions(), "commit": commit()} | values
    if record["curve"]:
        record["curve"] = thin(record["curve"])
    return record


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries on which numbers depend."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def commit() -> str | None:
    """The git commit of the code, with "+changes" appended for a modified working tree; None where it is unknown.

    For a package that pip installed from a repository, the commit is the one that pip noted.
    """
    if installed := _installed_commit():
        return installed

    def git(*args: str) -> str:
        line = ["git", "-C", str(paths.PACKAGE), *args]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _installed_commit() -> str | None:
    """The commit that pip noted when it installed this package from a repository; None otherwise."""
    for distribution in importlib.metadata.distributions(name="distilnb", path=[str(paths.PACKAGE.parent)]):
        return json.loads(distribution.read_text("direct_url.json") or "{}").get("vcs_info", {}).get("commit_id")
    return None


def thin(curve: dict[str, list], points: int = CURVE_POINTS) -> dict[str, list]:
    """Every k-th row of a curve and always the last one, with numbers rounded to five significant digits."""
    rows = max(map(len, curve.values()), default=0)
    step = max(1, math.ceil(rows / points))
    keep = sorted({*range(0, rows, step), rows - 1} - {-1})
    return {name: [_round(values[i]) for i in keep] for name, values in curve.items()}


def _round(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _hash(record: dict[str, Any]) -> str:
    rest = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def save_record(record: dict[str, Any], folder: Path | None = None) -> Path:
    """Write `folder/<name>.json` (default `runs/`) atomically and return its path; ValueError if a number is nan."""
    folder = Path(folder or paths.home() / "runs")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        record = json.loads(json.dumps(record, allow_nan=False))  # as it will be read back, with keys as text
    except ValueError as error:
        raise ValueError(f"record '{record['name']}' holds a number that is not finite; nothing was written") from error
    record["sha256"] = _hash(record)
    path = folder / f"{record['name']}.json"
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)
    return path


def load_record(path: Path) -> dict[str, Any]:
    """The record in a file; ValueError, naming the file, when it is truncated, edited or of another format."""
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


def load_records(*folders: Path, **where: Any) -> list[dict[str, Any]]:
    """The records of these folders (default: the published ones, then your own) whose keys equal `where`, by name.

    Your own record replaces a published one of the same name. Raises ValueError for a file that is not named after
    its record, because a copy would count twice.
    """
    folders = folders or (paths.data("runs"), paths.home() / "runs")
    records = {path: load_record(path) for folder in folders for path in sorted(Path(folder).glob("*.json"))}
    for path, record in records.items():
        if record["name"] != path.stem:
            raise ValueError(f"{path} holds the record '{record['name']}': a copy? Delete it or give it back its name")
    records = {path.stem: record for path, record in records.items()}
    return [r for _, r in sorted(records.items()) if all(r.get(key) == value for key, value in where.items())]


Record = Mapping[str, Any]
