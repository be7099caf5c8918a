"""What a reader's own device found, as the page of `distilnb demo` gives it: from JSON to a record of kind "device".

`scores` of such a record: `ratio_N`, the teacher's time over the student's at N word pieces, `faster`, that of the
longest in percent, and `opened`, the seconds from asking for the page to its first guess; `intervals` the quartiles of
the ratios over the rounds; `timings` the milliseconds behind them. Nothing that
the page worked out is believed: all is computed from its rounds. `own` marks it as the reader's; which models and which
device it was is taken on trust.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from .records import Stopwatch, new_record

MODELS = ("teacher", "student")
TEXTS = dict(build=12, scale=20, weights=10, runtime=40, backend=20, precision=10, browser=400, made=40)


def _result(path: Path) -> Any:
    """What a file of the page holds; ValueError for one that is not there or no JSON."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}: give the one that the page of `distilnb demo` saved")
    try:
        return json.loads(path.read_text(), parse_constant=lambda _: None)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON, or not the whole of it"
        raise ValueError(f"{path} cannot be read as a result of the page: {reason}") from error


def read_device(path: Path) -> dict[str, Any]:
    """The record of a result that the page copied or saved; ValueError, in a sentence, for a file that is none."""
    told = _result(Path(path))
    try:
        if told["kind"] != "device" or told["format"] != 1:
            raise ValueError("it is of another kind")
        if not told["taken"]:
            raise ValueError("nothing was timed")
        taken = {int(length): {name: _times(sides[name]) for name in MODELS} for length, sides in told["taken"].items()}
        texts = {key: " ".join(str(told[key]).replace("|", "/").split())[:length] for key, length in TEXTS.items()}
        shapes = {name: {key: int(value) for key, value in told["models"][name].items()} for name in MODELS}
        seconds, threads = float(told["seconds"]), int(told["threads"])
        opened = {"opened": float(told["opened"])} if "opened" in told else {}
        ratios = {length: _ratios(sides) for length, sides in sorted(taken.items())}
        longest = max(ratios)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = {KeyError: f"it has no {error}", TypeError: "its parts have another form"}.get(type(error), error)
        raise ValueError(
            f"{path} is no result of the page ({why}): press `Copy the result` or `Save it as a file` there"
        ) from error
    intervals = {
        f"ratio_{length}": np.quantile(values, (0.25, 0.5, 0.75)).tolist() for length, values in ratios.items()
    }
    intervals["faster"] = [100 * (value - 1) for value in intervals[f"ratio_{longest}"]]
    device = {"processor": texts["browser"], **{key: told.get(key) for key in ("cores", "memory_gb")}, "gpu": None}
    record = new_record(
        "device",
        "device-" + hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:10],
        scale=texts["scale"],
        model="student",
        stopwatch=Stopwatch(),
        scores={name: spread[1] for name, spread in intervals.items()} | opened,
        intervals=intervals,
        timings={str(length): sides for length, sides in taken.items()},
        config={"threads": threads, **{key: texts[key] for key in ("precision", "backend", "build", "weights")}},
        shapes=shapes,
        device=device,
        versions={"runtime": texts["runtime"]},
        own=True,
    )
    return record | {"commit": None, "started": texts["made"], "wall_seconds": seconds, "cpu_seconds": None}


def _times(values: Any) -> list[float]:
    times = [float(value) for value in values]
    if not times or not all(0 < value < math.inf for value in times):
        raise ValueError("times must be numbers above nought")
    return times


def _ratios(sides: dict[str, list[float]]) -> list[float]:
    return [slow / fast for slow, fast in zip(*(sides[name] for name in MODELS), strict=True)]
