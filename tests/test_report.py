"""Tables come from records alone, and say when there is nothing."""

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


def benchmark(weights: str = "random:base") -> dict:
    formats = [{"model": model, "format": "onnx_int8", "bytes": 68_000_000, "ms": [6, 7, 8], "speedup": 12.3,
                "ratio": 2.0} for model in ("teacher", "student")]  # fmt: skip
    return {"kind": "benchmark", "name": "b", "task": "stsb", "scale": "base", "weights": {"teacher": weights},
            "config": {"rows": 1500, "threads": 0}, "device": {"cores": 2, "processor": "P"}, "formats": formats,
            "scores": {"less_time_end_to_end": 48.9, "seconds_teacher": 120.0, "seconds_student": 61.0,
                       "smaller": 39.4},
            "intervals": {"ratio_forward": [1.9, 2.0, 2.1], "ratio_end_to_end": [1.9, 1.96, 2.0]},
            "accuracy": {"scale": "toy", "task": "qnli",
                         "rows": [{"format": "onnx_int8", "accuracy": 0.75, "lost": 0.25}]}}  # fmt: skip


def test_a_speed_is_told_with_its_interval_and_random_weights_as_what_they_are():
    (row,) = report.benchmark_rows([benchmark(), finetuned("teacher", 0.5)])
    assert (row["forward"], row["less time"], row["threads"]) == ("2.00 × [1.90–2.10]", "49 %", 2)
    assert row["weights"] == "random" and report.benchmark_rows([benchmark("x")])[0]["weights"] == "trained"


def test_no_speed_of_a_student_is_told_without_its_accuracy():
    (row,) = report.format_rows([benchmark()])
    assert (row["format"], row["× teacher float32"]) == ("ONNX int8", "12.3")
    assert row["accuracy (of)"] == "75.0 (toy qnli)" and row["points lost"] == "+0.25"
    unscored = benchmark() | {"accuracy": {"rows": []}}
    (row,) = report.format_rows([unscored])
    assert row["accuracy (of)"] == "not measured"
