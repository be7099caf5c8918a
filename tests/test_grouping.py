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


def test_scales_that_still_have_such_batches_are_named():
    """A record from before the setting had them too."""
    old = [run("rte", "teacher", seed, 0.5, scale="mini") for seed in range(2)]
    said = grouping.told(NOW + old, FORMER)
    assert "2 pairs" in said and "more in 2 of them." in said and "otherwise: 2 of mini." in said
    assert said.endswith("2 former runs have no such successor yet.")
    timed = {"kind": "benchmark", "name": "benchmark-before", "scale": "base", "config": {}}
    assert grouping.told([*NOW, timed], FORMER).endswith("fine-tuning: `benchmark-before`.")
    assert "not repeated" not in grouping.told(NOW, FORMER) and grouping.told(old, FORMER) == ""
