"""Tables come from records alone, and say when there is nothing."""

import pytest

from distilnb import report


def finetuned(model: str, main: float, seed: int = 0, task: str = "rte", scale: str = "toy") -> dict:
    scores = {"main": main, "majority": 0.5}
    return {"kind": "finetuning", "model": model, "task": task, "seed": seed, "scale": scale, "scores": scores}


def test_nothing_run_is_said_plainly():
    assert report.summary([]) == "(no records yet)"


def test_seeds_become_median_and_range_and_gaps_say_not_run():
    records = [finetuned("teacher", main, seed) for seed, main in enumerate([0.7, 0.9, 0.6])]
    records += [finetuned("student", 0.65), finetuned("student", 0.4, task="cola")]
    rte, cola = report.finetuning_rows(records)
    assert (rte["task"], rte["teacher"], rte["student"]) == ("rte", "70.0 [60.0–90.0]", "65.0")
    assert rte["majority"] == "50.0" and rte["seeds"] == "1–3", "unequal numbers of seeds are shown, not hidden"
    assert cola["teacher"] == "not run"


def test_scales_are_never_pooled():
    rows = report.finetuning_rows([finetuned("teacher", 0.9, scale="toy"), finetuned("teacher", 0.5, scale="mini")])
    assert [(row["scale"], row["teacher"]) for row in rows] == [("toy", "90.0"), ("mini", "50.0")]


def test_models_stand_in_the_order_of_the_comparison():
    rows = report.finetuning_rows([finetuned(m, 0.5) for m in ("random", "mine", "student", "teacher", "undistilled")])
    assert list(rows[0])[4:] == ["teacher", "student", "undistilled", "random", "mine"]


def test_a_table_lines_up_and_is_markdown():
    lines = report.table([{"a": 1, "long name": "x"}, {"a": 22222, "long name": "y"}]).splitlines()
    assert set(lines[1]) == set("|- ") and len({len(line) for line in lines}) == 1


def test_a_distillation_is_told_with_its_agreement_and_a_teacher_without():
    run = {"name": "n", "scale": "toy", "tokens": 1_500_000, "wall_seconds": 61.0, "config": {"seq_length": 64}}
    scores = {"mlm_loss": 1.23456, "accuracy": 0.5}
    first = run | {"kind": "distillation", "model": "student", "scores": scores | {"agreement": 0.75}}
    second = run | {"kind": "teacher", "model": "teacher", "scores": scores}
    teacher, student = report.pretraining_rows([first, second])  # the teacher first, as in a comparison
    told = student["agrees with teacher"], student["held-out MLM loss"], student["time"]
    assert told == ("75.0 %", "1.235", "1 min 1 s")
    assert teacher["agrees with teacher"] == "–"


def ablated(variant: str, seed: int, macro: float) -> dict:
    return {
        "kind": "ablation", "name": f"{variant}{seed}", "grid": "g", "scale": "toy", "model": variant, "title": variant,
        "task": None, "seed": seed, "scores": {"macro": macro, "mlm_loss": 3 - macro}, "config": {}, "commit": None,
        "device": {"gpu": "g"}, "versions": {"torch": "2", "transformers": "5"},
    }  # fmt: skip


def test_an_ablation_is_told_with_intervals_over_pairs_beside_table_4():
    records = [ablated("triple", s, m) for s, m in enumerate((0.50, 0.60))]
    records += [ablated("no_mlm", s, m) for s, m in enumerate((0.49, 0.58))]
    reference, row = report.ablation_rows(records)
    assert reference["Δ macro"] == "–" and reference["macro"] == "55.0 [50.0–60.0]"
    assert row["Δ macro"].startswith("−1.50 [−7.85, +4.85]") and row["Table 4"] == "−0.31" and row["pairs"] == "2"
    assert row["Δ loss"] == "+0.015 [−0.049, +0.079]"
    assert "no_mlm" in report.summary(records)


def test_an_ablation_that_mixes_scales_is_not_summed_up():
    records = [ablated("triple", 0, 0.5), ablated("no_ce", 0, 0.5) | {"scale": "mini"}]
    with pytest.raises(ValueError, match="different scales"):
        report.summary(records)
