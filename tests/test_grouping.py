"""What rows of like length in a batch cost, from made-up records."""

from distilnb.report import grouping


def run(task, model, seed, main, rate=1e-4, scale="small", **config):
    """A fine-tuning record, as far as the comparison reads it."""
    return {
        "kind": "finetuning",
        "name": f"{scale}-{model}-{task}-{seed}",
        "scale": scale,
        "task": task,
        "model": model,
        "seed": seed,
        "scores": {"main": main},
        "config": {"learning_rate": rate} | config,
    }


FORMER = [run("stsb", "student", seed, 0.6, 3e-4) for seed in range(3)] + [run("cola", "teacher", 0, 0.3)]
NOW = [run("stsb", "student", seed, 0.7 + 0.01 * seed, group_by_length=False) for seed in range(2)]


def test_runs_are_paired_by_model_task_and_seed():
    (row,) = grouping.rows(NOW + [run("cola", "teacher", 0, 0.4, group_by_length=True)], FORMER)
    assert (row["task"], row["pairs"], row["another rate chosen"]) == ("stsb", 2, "2 of 2")
    assert row["mean gain, points"].startswith("+10.50 [+4.15") and row["mean, rows as they come"] == "70.5"


def test_scales_are_not_mixed():
    """A gain at one scale says nothing of another; tasks beyond GLUE come last."""
    toy = [run(task, "student", 0, 0.5, scale="toy") for task in ("squad", "imdb")]
    now = [one | {"scores": {"main": 0.4}, "config": one["config"] | {"group_by_length": False}} for one in toy]
    rows = grouping.rows(NOW + now, FORMER + toy)
    assert [(row["scale"], row["task"]) for row in rows] == [("small", "stsb"), ("toy", "imdb"), ("toy", "squad")]
    said = grouping.told(NOW + now, FORMER + toy)
    assert "small, up in 2 of 2 pairs; −10.00 [−10.00, −10.00] points at scale toy, up in 0 of 2 pairs." in said
    uneven = [now[0], now[1] | {"scores": {"main": 0.6}}]
    assert "in 1 of 2 pairs (noise could explain it)." in grouping.told(uneven, toy)


def test_scales_that_still_have_such_batches_are_named():
    """A record from before the setting had them too."""
    old = [run("rte", "teacher", seed, 0.5, scale="mini") for seed in range(2)]
    said = grouping.told(NOW + old, FORMER)
    assert "points at scale small, up in 2 of 2 pairs." in said and "otherwise: fine-tunings, 2 of mini." in said
    assert said.endswith("2 former runs have no such successor yet.")
    timed = {"kind": "benchmark", "name": "benchmark-before", "scale": "base", "config": {}}
    assert grouping.told([*NOW, timed], FORMER).endswith("fine-tuning: `benchmark-before`.")
    assert "not repeated" not in grouping.told(NOW, FORMER) and grouping.told(old, FORMER) == ""


def test_cells_and_heads_with_such_batches_are_counted_too():
    """A cell of an ablation states its fine-tuning within; a head is the last run of its name before the benchmark."""
    cell = {"kind": "ablation", "name": "c", "scale": "mini", "grid": "ablation-mini", "config": {"finetuning": {}}}
    fair = cell | {"name": "f", "config": {"finetuning": {"group_by_length": False}}}
    rte = {"of": "student", "task": "rte", "scale": "small", "model": "small-student-rte-0", "rows": [{}]}
    timed = {"kind": "benchmark", "name": "b", "scale": "small", "config": {}, "started": "2", "tasks": [rte]}
    made = {"task": "qnli", "scale": "toy", "model": "a folder", "rows": [{}]}
    own = timed | {"name": "o", "tasks": [], "accuracy": made | {"config": {"group_by_length": False}}}
    before, after = (
        run("rte", "student", 0, 0.51, **more) | {"started": when, "interval": [0.45, 0.57]}
        for when, more in (("1", {}), ("3", {"group_by_length": False}))
    )
    before["scores"]["majority"] = 0.5
    records, runs = [*NOW, cell, fair, timed, own], [after, before]
    assert "otherwise: cells of ablations, 1 of mini; heads by which formats are scored, 1 of small." in grouping.told(
        records, FORMER, runs
    )
    said = grouping.about_heads(records, runs)
    assert "2 heads" in said and "(scale small: rte; scale toy: qnli). 1 of them learned" in said
    assert said.endswith("little to lose: rte (student).")
    assert "like length" not in grouping.about_heads(records, [after | {"started": "1"}])
    assert grouping.about_heads(NOW, runs) == "" == grouping.grouped_cells(NOW, "mini")
    assert "like length" in grouping.grouped_cells(records, "mini")


def test_a_gain_is_within_pairs():
    """One seed gains 15 points and one loses 5: the mean is the same as of sorted scores, the interval is not."""
    before = [run("stsb", "student", seed, main) for seed, main in enumerate((0.6, 0.7, 0.5))]
    now = [run("stsb", "student", seed, main, group_by_length=False) for seed, main in enumerate((0.75, 0.65, 0.5))]
    (row,) = grouping.rows(now, before)
    assert row["mean gain, points"].startswith("+3.33 [−22.52"), row
    assert "up in 1 of 3 pairs" in grouping.told(now, before)
