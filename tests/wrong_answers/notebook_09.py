"""Plausible wrong answers to the exercises of notebook 09."""

from distilnb.evidence.records import Stopwatch, new_record
from distilnb.tasks import glue


def distinct(n):
    return {round(100 * k / n, 1) for k in range(n + 1)}


def ways(values, printed):
    """How much lower and higher: the right answer."""
    steps = range(1, 40)
    total = sum(values)
    return tuple(
        next(s for s in steps if round((total + sign * s / 10) / 9, 1) != printed) / 10 - 0.1 for sign in (-1, 1)
    )


BLANK = new_record("finetuning", "blank", stopwatch=Stopwatch(), scale="base", model="", config={})


def record(model, task, seed, main, **changes):
    """An invented record of a fine-tuning."""
    what = {"name": f"invented-{model}-{task}-{seed}", "model": model, "task": task, "seed": seed}
    return BLANK | what | {"scores": {"main": main}, "data": {"fingerprint": task}} | changes


def runs(student, spread=0.0, names=glue.GLUE, seeds=3, **changes):
    """Both models on these tasks, the teacher at 0.8; the student's seeds apart by `spread`."""
    return [
        record(model, task, seed, main + spread * seed * (model == "student"), **changes)
        for task in names
        for seed in range(seeds)
        for model, main in (("teacher", 0.8), ("student", student))
    ]


WRONG = {
    "09.1": [[2, 4, 8], [8], [], [1, 2, 4, 8, 16]],
    "09.2": [1, 7, 9, 65, 5],
    "09.3": [
        lambda n: len(distinct(n)),
        lambda n: 100 * len(distinct(n)) / 1001,
        lambda n: n / 1001,
        lambda n: (n + 1) / 1001,
        lambda n: len(distinct(n)) / 1000,
        lambda n: 0.5,
    ],
    "09.4": [
        lambda values, printed: (-ways(values, printed)[0], ways(values, printed)[1]),
        lambda values, printed: ways(values, printed)[::-1],
        lambda values, printed: (0.45, 0.45),
        lambda values, printed: (0.05, 0.05),
        lambda values, printed: (1.0, 1.0),
    ],
    "09.5": [
        runs(0.79),
        runs(0.7, seeds=1),
        runs(0.7, names=glue.GLUE[:8]),
        runs(0.7, scale="toy"),
        runs(0.7, spread=0.05),
        [*runs(0.7), *runs(0.6)],
        [{"model": "student", "scores": {"main": 0.7}}],
        [record("student", "rte", 0, 0.5, scores={})],
    ],
}
