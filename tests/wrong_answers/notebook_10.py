"""Plausible wrong answers to the exercises of notebook 10."""

import re


def renamed(name, keep):
    """Where a tensor goes: the right answer."""
    found = re.match(r"model\.layers\.(\d+)\.(.*)", name)
    if not found:
        return [name]
    return [f"model.layers.{new}.{found[2]}" for new, old in enumerate(keep) if old == int(found[1])]


WRONG = {
    "10.1": [50, 15.3, 0.847, 66],
    "10.2": [
        list(range(8)),
        [0, 2, 4, 6, 8, 10, 12, 14],
        [3, 4, 5, 6, 7, 8, 9, 10],
        [0, 1, 2, 3, 4, 5, 6, 22],
        [0, 1, 2, 3, 4, 5, 6, 19],
        [0, 1, 2, 3, 4, 5, 15, 19],
        [0, 1, 2],
        [0, 1, 2, 3, 4, 5, 6, 8],
    ],
    "10.3": [
        lambda layer_types, keep: layer_types[: len(keep)],
        lambda layer_types, keep: layer_types,
        lambda layer_types, keep: ["full_attention"] * len(keep),
    ],
    "10.4": [
        lambda name, keep: [name],
        lambda name, keep: renamed(name, keep) if "layers" in name else [],
        lambda name, keep: renamed(name, keep)[:1],
        lambda name, keep: [name for old in keep if f".{old}" in name],
    ],
}
