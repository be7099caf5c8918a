"""Checks of notebook 00: arithmetic on the paper's own tables."""

import pandas as pd

from ...evidence import paper
from ...tasks import glue
from . import NotYet, ask, close, exercise, mistake

FLOORS = {"CoLA": 0.0, "STS-B": 0.0, "MNLI": 100 / 3}  # the score of guessing without reading; elsewhere 50


def _rows() -> pd.DataFrame:
    """The scores of BERT-base and DistilBERT on the nine tasks, as version 4 prints them: models × tasks."""
    table = paper.table("table1_glue")
    table = table[(table["vintage"] == "2020-03") & (table["task"] != "macro")]
    return table.pivot(index="model", columns="task", values="value").loc[["BERT-base", "DistilBERT"]]


def _mended() -> pd.DataFrame:
    """The scores with the README's 84.7 for BERT-base on MNLI instead of the misprinted 86.7."""
    rows = _rows()
    rows.loc["BERT-base", "MNLI"] = paper.glue("BERT-base", "MNLI", vintage="readme")
    return rows


def _share(rows: pd.DataFrame) -> float:
    """The share of BERT's average that DistilBERT keeps."""
    return rows.loc["DistilBERT"].sum() / rows.loc["BERT-base"].sum()


@exercise("00.1", 1)
def dropped(task: str) -> str:
    """The task without which DistilBERT keeps most of BERT's average."""
    rows = _rows()
    kept = {name: _share(rows.drop(columns=name)) for name in rows}
    best = max(kept, key=kept.get)
    if task == best:
        return (
            f"without {best} it keeps {kept[best]:.1%}, with it {_share(rows):.1%} (by the nine cells as printed; with "
            f"MNLI's misprint mended it is {_share(_mended()):.1%}): one small task of "
            f"{glue.get_task(best).rows['validation']} sentence pairs moves the headline by a point."
        )
    if task not in kept:
        raise NotYet(f"the answer is the name of a task as the table has it, one of {', '.join(kept)}")
    if task == min(kept, key=kept.get):
        raise NotYet(f"{task} is where DistilBERT is ahead of BERT: without it the share falls. You want the opposite")
    raise NotYet(
        f"without {task} it keeps {kept[task]:.1%}, and there is a task whose absence flatters it more: "
        "look for the largest loss in comparison with BERT's own score"
    )


@exercise("00.2", 5)
def three_layers(seconds: float) -> str:
    """The seconds of a student of three layers, by the same reasoning that gave the fixed part."""
    twelve, six = paper.speed("BERT-base"), paper.speed("DistilBERT")
    fixed = 2 * six - twelve
    layer = (twelve - fixed) / 12
    if close(seconds, fixed + 3 * layer, 0, 0.6):
        return (
            f"{fixed:.0f} s that no layer explains, and 3 × {layer:.1f} s: a quarter of the layers still takes "
            f"{(fixed + 3 * layer) / twelve:.0%} of BERT's time. What does not shrink sets the limit."
        )
    hints = {
        six / 2: f"halving {six:.0f} s also halves the part that has nothing to do with the layers; that part stays",
        twelve / 4: f"a quarter of {twelve:.0f} s would be right if all of it were spent in the layers; some is not",
        3 * layer: "that is the time in the three layers alone; what does not depend on the layers comes on top",
        None: "time = fixed + layers × (time of a layer); the two rows of the table are two equations for the two "
        "unknowns, then put in three layers",
    }
    raise mistake(seconds, hints, 0, 0.6)


@exercise("00.3", 10)
def should_be(function: object) -> str:
    """{task: the value it would need} from {task: score} and the printed mean."""
    bert = dict(_rows().loc["BERT-base"])
    for scores, mean in (({"a": 80.0, "b": 60.0, "c": 40.0}, 70.0), (bert, paper.glue("BERT-base", "macro"))):
        result = ask(function, dict(scores), mean)
        if not isinstance(result, dict) or set(result) != set(scores):
            raise NotYet(
                "return one number for every task, {task: number}: by addition alone any of them could be the misprint"
            )
        off = {name: result[name] - scores[name] for name in scores}
        excess = sum(scores.values()) - len(scores) * mean
        if all(close(value, -excess, 0, 0.01) for value in off.values()):
            continue
        if all(close(value, -excess / len(scores), 0, 0.01) for value in off.values()):
            raise NotYet(
                "you moved each value by the error of the mean; a single wrong value must make up for all of "
                f"it, which is {len(scores)} times as much"
            )
        if all(close(value, excess, 0, 0.01) for value in off.values()):
            raise NotYet("the direction is wrong: where the mean comes out too high, the misprint is too high as well")
        raise NotYet(
            "change one value and leave the others as they are: their sum must become the number of tasks "
            f"times the printed mean, here {len(scores)} × {mean}"
        )
    readme = paper.glue("BERT-base", "MNLI", vintage="readme")
    return (
        f"MNLI would have to be {result['MNLI']:.1f}, and the README has {readme}. But every task has such a value: "
        "addition tells that a cell is wrong, only a second source tells which."
    )


def _kept(rows: pd.DataFrame, floors: dict[str, float], stretch: bool = True) -> tuple[float, float]:
    """DistilBERT's share after subtracting the floors: as a ratio of averages and as an average of ratios."""
    floor = pd.Series({task: floors.get(task, 50.0) for task in rows})
    above = (rows - floor) / ((100 - floor) if stretch else 1)
    student, teacher = 100 * above.loc["DistilBERT"], above.loc["BERT-base"]
    return student.mean() / teacher.mean(), (student / teacher).mean()


@exercise("00.4", 20)
def above_guessing(percent: float) -> str:
    """The percentage of BERT's average that DistilBERT keeps when guessing counts as 0."""
    rows = _rows()
    right, ratios = _kept(rows, FLOORS)
    printed = 100 * _share(rows)
    if close(percent, right, 0, 0.051):
        return (
            f"{right:.1f} % where the scores as printed give {printed:.1f} %: points that a coin gets for nothing "
            "make every comparison look closer."
        )
    if close(percent, right / 100, 0, 0.0006):
        raise NotYet("that is the share as a fraction; the question asks for percent")
    hints = {
        round(right): "several ways to count come near this: give one decimal more",
        printed: "those are the scores as printed; subtract what guessing gives before you average",
        ratios: "that is the average of nine ratios, and WNLI, where both are at chance, has a ratio of 1.8; take "
        "the ratio of the two averages, as the paper's 97 % does",
        _kept(rows, FLOORS, stretch=False)[0]: "now guessing is 0, but perfection is 50 on most tasks and 100 on two; "
        "divide by what is left above the floor",
        _kept(rows, FLOORS | {"MNLI": 50.0})[0]: "MNLI has three classes: a guess is right in a third of the cases",
        _kept(rows, {})[0]: "CoLA and STS-B are correlations, for which guessing gives 0; MNLI has three classes",
        _kept(_mended(), FLOORS)[0]: "that is with MNLI as the README has it; here take Table 1 as printed",
        None: "rescale each score to (score - guess) / (100 - guess), average the nine of each model, then divide; "
        "leave the printed macro column out",
    }
    raise mistake(percent, hints, 0, 0.051)
