"""Rules of comparison: which records may stand side by side, and which caveats must stand under them."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .names import tokens_learned
from .records import thin


def join_records(records: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """One record for a run made in stages: curves joined, tokens, steps and times summed, each stage in `stages`."""
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


def timed_pairs(record: Mapping[str, Any]) -> int:
    """How many pairs of texts a benchmark timed; runs over fewer than another's time something else."""
    return record.get("config", {}).get("rows", 0)


def _first(record: dict[str, Any]) -> dict[str, float] | None:
    """The held-out scores at the start of a stage; None where the record has none."""
    rows = record.get("evaluations") or {}
    return {key: rows[key][0] for key in record["scores"] if rows.get(key)} or None


def is_subset(record: Mapping[str, Any]) -> bool:
    """Whether a fine-tuning run used only some rows of a real task; False for tasks of the toy world."""
    return record["kind"] == "finetuning" and record["scale"] != "toy" and bool(record["data"].get("stand_in"))


def plain(value: Any) -> Any:
    """A value as JSON gives it back: tuples become lists, keys become text."""
    return json.loads(json.dumps(value))


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """The differences between two plain values, in words ("config.epochs 3 against 4"); [] when they are equal."""
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
    """The sentences that must stand under a comparison of these records: gaps, other code, libraries or machines.

    `shared` lists what must be equal in all records, `cell` the keys that tell them apart, the seed last. Raises
    ValueError for records of several scales or settings, and for two records of one cell.
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


def check_budgets(
    folders: Mapping[str, str], records: Mapping[str, Mapping[str, Any] | None], allow_unequal: bool = False
) -> list[str]:
    """One sentence for each model of a comparison: its label, its folder and the tokens that its run read.

    `records` holds the record beside each model, None where there is none. Raises ValueError, unless `allow_unequal`,
    when students read amounts of text that differ by more than 1 %, because the comparison would then show the budget.
    """
    read = {
        label: tokens_learned(record)
        for label, record in records.items()
        if record and record["kind"] == "distillation"
    }
    if read and max(read.values()) > 1.01 * min(read.values()) and not allow_unequal:
        counts = ", ".join(f"{label} {tokens:,}" for label, tokens in read.items())
        raise ValueError(
            f"the students read unequal amounts of text ({counts} tokens), so their scores do not compare; name "
            "folders of equal budgets with --model, or add --allow-unequal"
        )
    return [
        f"{label}: {folder}" + (f" ({record['name']}, {tokens_learned(record):,} tokens)" if record else "")
        for label, folder in folders.items()
        for record in [records.get(label)]
    ]


def _missing_seeds(cells: Mapping[tuple, Any]) -> list[str]:
    seeds, groups = sorted({key[-1] for key in cells}), dict.fromkeys(key[:-1] for key in cells)
    gaps: dict[tuple, list[str]] = {}  # (model, its missing seeds) → the tasks concerned, so that each has one line
    for model, *task in groups:
        missing = tuple(seed for seed in seeds if (model, *task, seed) not in cells)
        gaps.setdefault((model, missing), []).extend(map(str, task))
    return [
        model + (f" on {', '.join(tasks)}" if tasks else "") + f" has no record of seed {', '.join(map(str, missing))}"
        for (model, missing), tasks in gaps.items()
        if missing
    ]


def _mixed_code(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sentences about records of several commits, libraries or machines; these do not forbid a comparison.

    They are allowed because a grid may be finished on another machine, or after a commit that does not affect it.
    """
    commits = {
        "commits of the code": Counter(_short(r["commit"]) for r in records),
        "processors": Counter(r["device"]["gpu"] or r["device"]["processor"] for r in records),
        "versions of torch": Counter(r["versions"]["torch"] for r in records),
        "versions of transformers": Counter(r["versions"]["transformers"] for r in records),
    }
    return [
        f"the records come from {len(counts)} {what}: "
        + ", ".join(f"{value} ({count})" for value, count in counts.items())
        for what, counts in commits.items()
        if len(counts) > 1
    ]


def _short(commit: str | None) -> str:
    return "unknown" if commit is None else commit[:10] + (" with changes" if commit.endswith("+changes") else "")
