"""The paper's numbers as data: DistilBERT, arXiv 1910.01108v4, one CSV file per table in `data/paper/`.

Each row names its `source` and carries a `mark` that says how far to trust it (see `MARKS`). Values stand as
printed, misprints included; `table("errata")` says which those are.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from .. import paths

MARKS = {
    "P": "printed in the paper (v4, or the version that the source names)",
    "R": "from the README or code of the original implementation",
    "C": "computed or measured by us from the above",
    "W": "someone else's publication, named in the source",
}


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, or a number computed from it: a row of `claims.csv`."""

    id: str
    text: str
    value: float
    unit: str
    source: str
    mark: str


def names() -> list[str]:
    """The names of the tables that `table` can read, in alphabetical order."""
    return sorted(path.stem for path in paths.data("paper").glob("*.csv"))


def table(name: str) -> pd.DataFrame:
    """One of the paper's tables as a new data frame, for instance `table("table1_glue")`."""
    _check("table", name, names())
    return pd.read_csv(paths.data("paper", f"{name}.csv"), keep_default_na=False)


def glue(model: str, task: str, vintage: str = "2020-03") -> float:
    """A score of Table 1; `task` may be `macro`, and `SST-2` equals `sst2`.

    The default vintage is v4 as printed. Its 86.7 for BERT-base on MNLI is a misprint of 84.7, the value of
    `vintage="readme"`.
    """
    return float(_row("table1_glue", vintage=vintage, model=model, task=task)["value"])


def downstream(model: str, task: str, metric: str) -> float:
    """A score of Table 2: IMDb `accuracy`, SQuAD `exact_match` or `f1`; `DistilBERT (D)` is the second stage."""
    return float(_row("table2_downstream", model=model, task=task, metric=metric)["value"])


def speed(model: str) -> float:
    """Seconds of Table 3: one pass over the STS-B dev set on a CPU, one pair at a time."""
    return float(_row("table3_speed", model=model)["seconds"])


def ablation(variant: str) -> float:
    """The change of the GLUE macro score in Table 4 for `no_ce`, `no_cos`, `no_mlm` or `random_init`."""
    return float(_row("table4_ablation", variant=variant)["delta_macro"])


def parameters(name: str) -> int:
    """The exact parameter count, made by us, of a transformers class such as `DistilBertModel` at the paper's sizes."""
    return int(_row("parameter_counts", **{"class": name})["parameters"])


def claim(id: str) -> Claim:
    """One row of `claims.csv`, for instance `claim("smaller").value`, which is 40 (percent)."""
    row = _row("claims", id=id)
    return Claim(**row | {"value": float(row["value"])})


def _row(name: str, **where: str) -> dict[str, Any]:
    """The one row of a table whose columns equal `where`, ignoring case and punctuation."""
    rows = table(name)
    for column, wanted in where.items():
        choices = list(dict.fromkeys(rows[column]))
        _check(column, _plain(wanted), [_plain(choice) for choice in choices], shown=choices)
        rows = rows[rows[column].map(_plain) == _plain(wanted)]
    return rows.squeeze().to_dict()


def _check(what: str, wanted: str, choices: list[str], shown: list[str] | None = None) -> None:
    """Raise a ValueError that lists the choices unless `wanted` is one of them."""
    if wanted not in choices:
        raise ValueError(f"unknown {what} {wanted!r}; choose one of: {', '.join(shown or choices)}")


def _plain(text: str) -> str:
    """`SST-2` → `sst2`: letters and digits only, in lower case."""
    return "".join(character for character in text.lower() if character.isalnum())
