"""Tables come from records alone, and say when there is nothing."""

import numpy as np
import pytest

from distilnb import paths
from distilnb.evidence import paper
from distilnb.evidence.records import load_records
from distilnb.report import scorecard, tables
from distilnb.report.retention import baseline, by_model
from distilnb.tasks import glue, metrics


def finetuned(model: str, main: float, seed: int = 0, task: str = "rte", scale: str = "toy") -> dict:
    return {
        "kind": "finetuning",
        "name": f"{model}-{task}-{seed}",
        "config": {},
        "commit": None,
        "device": {"gpu": None, "processor": "p"},
        "versions": {"torch": "2", "transformers": "5"},
        "model": model,
        "task": task,
        "seed": seed,
        "scale": scale,
        "scores": {"main": main, "majority": 0.5},
        "interval": [main - 0.05, main + 0.05],
        "data": {"stand_in": scale == "toy", "fingerprint": task},
    }


def test_nothing_run_is_said_plainly():
    assert tables.summary([]) == "(no records yet)"


def test_seeds_become_median_and_range_and_gaps_say_not_run():
    records = [finetuned("teacher", main, seed) for seed, main in enumerate([0.7, 0.9, 0.6])]
    records += [finetuned("student", 0.65), finetuned("student", 0.4, task="cola")]
    rte, cola = tables.finetuning_rows(records)
    assert (rte["task"], rte["teacher"], rte["student"]) == ("rte", "70.0 [60.0–90.0]", "65.0")
    assert rte["majority"] == "50.0" and rte["seeds"] == "1–3", "unequal numbers of seeds are shown, not hidden"
    assert cola["teacher"] == "not run"


def test_scales_are_never_pooled():
    rows = tables.finetuning_rows([finetuned("teacher", 0.9, scale="toy"), finetuned("teacher", 0.5, scale="mini")])
    assert [(row["scale"], row["teacher"]) for row in rows] == [("toy", "90.0"), ("mini", "50.0")]


def test_scales_have_tables_of_their_own_and_a_subset_of_a_real_task_is_marked():
    part = {"data": {"stand_in": True, "stand_in_why": "train has 10,000 of 363,846 rows"}}
    here = [
        finetuned("teacher", 0.9),
        finetuned("random", 0.5, scale="mini"),
        finetuned("random", 0.5, task="qqp", scale="mini") | part,
    ]
    (toy,), (rte, qqp) = tables.tables(here).values()
    assert (toy["task"], rte["task"], qqp["task"]) == ("rte", "rte", "qqp (subset)"), "all of toy is a stand-in"
    assert list(toy)[4:] == ["teacher"] and list(rte)[4:] == ["random"], "no column for what a scale does not have"


def test_models_stand_in_the_order_of_the_comparison():
    rows = tables.finetuning_rows([finetuned(m, 0.5) for m in ("random", "mine", "student", "teacher", "undistilled")])
    assert list(rows[0])[4:] == ["teacher", "student", "undistilled", "random", "mine"]


def test_a_table_lines_up_and_is_markdown():
    lines = tables.table([{"a": 1, "long name": "x"}, {"a": 22222, "long name": "y"}]).splitlines()
    assert set(lines[1]) == set("|- ") and len({len(line) for line in lines}) == 1


def test_a_distillation_is_told_with_its_agreement_and_a_teacher_without():
    run = {"name": "n", "scale": "toy", "tokens": 1_500_000, "wall_seconds": 61.0, "config": {"seq_length": 64}}
    scores = {"mlm_loss": 1.23456, "accuracy": 0.5}
    first = run | {"kind": "distillation", "model": "student", "scores": scores | {"agreement": 0.75}}
    second = run | {"kind": "teacher", "model": "teacher", "scores": scores}
    judged = {"mlm_loss": [4.0, 1.2346], "agreement": [0.39, 0.75]}
    (told,) = tables.pretraining_rows([first | {"evaluations": judged}])
    assert (told["held-out MLM loss"], told["agrees with teacher"]) == ("4.000 → 1.235", "39.0 → 75.0 %")
    (short,) = tables.pretraining_rows([second | {"tokens": 3_200}])
    assert short["tokens"] == "3,200", "in millions it would be none"
    teacher, student = tables.pretraining_rows([first, second])  # the teacher first, as in a comparison
    told = student["agrees with teacher"], student["held-out MLM loss"], student["time"]
    assert told == ("75.0 %", "1.235", "1 min 1 s")
    assert teacher["agrees with teacher"] == "–"


def test_words_that_follow_are_told_from_masked_ones_and_earlier_budgets_are_added():
    """Records of causal models say clm_loss; the first ones said mlm_loss and are read by their family."""
    run = {"scale": "toy", "tokens": 300_000, "wall_seconds": 61.0, "config": {"seq_length": 64}}
    run |= {"kind": "distillation", "model": "student"}
    rest = {"accuracy": 0.5, "agreement": 0.7}
    causal = run | {"name": "new", "scores": {"clm_loss": 2.5} | rest, "evaluations": {"clm_loss": [3.0, 2.5]}}
    old = run | {"name": "old", "scores": {"mlm_loss": 2.25} | rest, "made_from": {"family": "GPT-2"}}
    further = {"family": "BERT", "tokens_before": 1_000_000}
    masked = run | {"name": "masked", "scores": {"mlm_loss": 1.5} | rest, "made_from": further}
    title = "held-out loss of the next word"
    assert [row[title] for row in tables.pretraining_rows([causal, old])] == ["3.000 → 2.500", "2.250"]
    (row,) = tables.pretraining_rows([masked])
    assert (row["held-out MLM loss"], row["tokens"]) == ("1.500", "0.30 M, 1.30 M in all")
    mixed = {row["run"]: row["held-out loss"] for row in tables.pretraining_rows([causal, old, masked])}
    assert [("next word" in mixed[name]) for name in ("new", "old", "masked")] == [True, True, False]


def run(model: str, task: str, seed: int, scale: str = "base", **scores: float) -> dict:
    """A fine-tuning record, as far as the tables read it."""
    main = scores.setdefault("main", scores.get("f1", 0.0))
    return finetuned(model, main, seed, task, scale) | {
        "scores": scores | ({} if task == "squad" else {"majority": 0.5}),
        "data": {
            "id": "toyworld" if scale == "toy" else task,
            "stand_in": scale == "toy",
            "stand_in_why": "toyworld",
            "fingerprint": task,
        },
    }


def test_each_cell_stands_beside_the_papers():
    """DistilBERT on SST-2: 91.3 in print; 90.0, 91.0 and 92.5 measured."""
    records = [run("student", "sst2", seed, main=main) for seed, main in enumerate((0.925, 0.90, 0.91))]
    (row,) = tables.comparison_rows(records)
    assert row == {
        "task": "sst2",
        "model": "student",
        "scale": "base",
        "seeds": 3,
        "majority": "50.0",
        "paper": "91.3",
        "measured": "91.0",
        "min–max": "90.0–92.5",
        "interval over rows, median seed": "86.0–96.0",
        "delta": "−0.3",
    }


def test_no_number_of_the_paper_stands_beside_toy_ones():
    told = tables.comparison([run("student", "sst2", 0, "toy", main=0.6)])
    assert "31.3" not in told and "| paper" not in told
    assert "no evidence about the paper" in told and "made-up tasks" in told
    assert "| −31.3" in tables.comparison([run("student", "sst2", 0, "base", main=0.6)])


def test_a_range_below_zero_does_not_write_its_minus_as_its_dash():
    runs = [run("student", "cola", seed, main=main) for seed, main in enumerate((-0.04, 0.02))]
    (row,) = tables.comparison_rows(runs)
    assert row["min–max"] == "−4.0–2.0" and row["interval over rows, median seed"] == "−9.0–1.0"


def test_squad_has_two_cells_and_the_second_stage_its_own_number():
    """79.1 / 86.9 for DistilBERT (D); no such number on IMDb, and none at all for an undistilled student."""
    rows = tables.comparison_rows([run("student_d", "squad", 0, exact_match=0.70, f1=0.80)])
    assert [(r["task"], r["paper"], r["delta"], r["majority"]) for r in rows] == [
        ("squad exact_match", "79.1", "−9.1", "–"),
        ("squad f1", "86.9", "−6.9", "–"),
    ]
    for model, task in (("student_d", "imdb"), ("student_d", "sst2"), ("undistilled", "sst2")):
        assert tables.comparison_rows([run(model, task, 0, main=0.9)])[0]["paper"] == "–"


def test_a_macro_score_needs_all_nine_and_is_given_in_both_conventions():
    records = []
    for task in glue.TASKS.values():
        scores = {name: 0.8 for name in task.metrics} | ({"f1": 0.92} if "f1" in task.metrics else {})
        main = sum(scores.values()) / len(scores)
        records += [
            run("teacher", task.name, seed, main=0.1 if task.name == "wnli" else main, **scores) for seed in (0, 1, 2)
        ]
    for record in records:
        if record["task"] == "wnli":
            record["scores"]["accuracy"] = 0.1
    (row,) = tables.macro_rows(records)
    assert row["paper"] == "79.5" == str(paper.glue("BERT-base", "macro"))
    assert row["macro"] == f"{100 * (6 * 0.8 + 2 * 0.86 + 0.1) / 9:.1f}"
    assert row["without WNLI"] == f"{100 * (6 * 0.8 + 2 * 0.86) / 8:.1f}"
    assert row["BERT's convention"] == f"{100 * (6 * 0.8 + 2 * 0.92 + 0.1) / 9:.1f}"
    (gap,) = tables.macro_rows([r for r in records if r["task"] not in ("rte", "qqp")])
    assert gap["macro"] == "not run in full: qqp, rte"


def test_a_stand_in_is_named_below_the_table():
    record = run("student", "qqp", 0, "mini", main=0.6)
    record["data"] = {"stand_in": True, "stand_in_why": "train has 20,000 of 363,846 rows"}
    assert "qqp is a stand-in: train has 20,000 of 363,846 rows." in tables.comparison([record])


def ablated(variant: str, seed: int, macro: float) -> dict:
    return {
        "kind": "ablation",
        "name": f"{variant}{seed}",
        "grid": "g",
        "scale": "toy",
        "model": variant,
        "title": variant,
        "task": None,
        "seed": seed,
        "scores": {"macro": macro, "mlm_loss": 3 - macro},
        "config": {},
        "commit": None,
        "device": {"gpu": "g"},
        "versions": {"torch": "2", "transformers": "5"},
    }


def test_an_ablation_is_told_with_intervals_over_pairs_beside_table_4():
    records = [ablated("triple", s, m) for s, m in enumerate((0.50, 0.60))]
    records += [ablated("no_mlm", s, m) for s, m in enumerate((0.49, 0.58))]
    reference, row = tables.ablation_rows(records)
    assert reference["Δ macro"] == "–" and reference["macro"] == "55.0 [50.0–60.0]"
    assert row["Δ macro"].startswith("−1.50 [−7.85, +4.85]") and row["Table 4"] == "−0.31" and row["pairs"] == "2"
    assert row["Δ loss"] == "+0.015 [−0.049, +0.079]"
    assert "no_mlm" in tables.summary(records)


def test_an_ablation_that_mixes_scales_is_not_summed_up():
    records = [ablated("triple", 0, 0.5), ablated("no_ce", 0, 0.5) | {"scale": "mini"}]
    with pytest.raises(ValueError, match="different"):
        tables.summary(records)


def benchmark(weights: str = "random:base") -> dict:
    formats = [
        {
            "model": model,
            "format": "onnx_int8",
            "bytes": 68_000_000,
            "ms": [6, 7, 8],
            "speedup": 12.3,
            "speedup_cpu": 12.1,
            "ratio": 2.0,
        }
        for model in ("teacher", "student")
    ]
    return {
        "kind": "benchmark",
        "name": "b",
        "task": "stsb",
        "scale": "base",
        "weights": {"teacher": weights},
        "config": {"rows": 1500, "threads": 0},
        "device": {"cores": 2, "processor": "P"},
        "formats": formats,
        "scores": {"less_time_end_to_end": 48.9, "seconds_teacher": 120.0, "seconds_student": 61.0, "smaller": 39.4},
        "intervals": {"ratio_forward": [1.9, 2.0, 2.1], "ratio_end_to_end": [1.9, 1.96, 2.0]},
        "accuracy": {"scale": "toy", "task": "qnli", "rows": [{"format": "onnx_int8", "accuracy": 0.75, "lost": 0.25}]},
    }


def test_a_speed_is_told_with_its_interval_and_random_weights_as_what_they_are():
    (row,) = tables.benchmark_rows([benchmark(), finetuned("teacher", 0.5)])
    assert (row["forward"], row["less time"], row["threads"]) == ("2.00 × [1.90–2.10]", "49 %", 2)
    assert row["weights"] == "random" and tables.benchmark_rows([benchmark("x")])[0]["weights"] == "trained"


def test_no_speed_of_a_student_is_told_without_its_accuracy():
    (row,) = tables.format_rows([benchmark()])
    assert (row["format"], row["× teacher float32"], row["× in CPU time"]) == ("ONNX int8", "12.3", "12.1")
    assert row["accuracy (of)"] == "75.0 (toy qnli)" and row["points lost"] == "+0.25"
    unscored = benchmark() | {"accuracy": {"rows": []}}
    unscored["formats"][1]["ratio"] = None
    (row,) = tables.format_rows([unscored])
    assert row["accuracy (of)"] == "not measured" and row["× teacher"] == "–"


def test_a_reader_s_device_is_told_as_faster_and_as_less_time():
    run = {"kind": "device", "name": "phone", "scale": "mini", "intervals": {"faster": [90.0, 100.0, 110.0]}}
    run |= {"timings": {"384": {"teacher": [2.0], "student": [1.0]}, "32": {"teacher": [0.5], "student": [0.4]}}}
    run |= {"versions": {"runtime": "wasm"}}
    run |= {"config": {"weights": "trained", "precision": "q8", "threads": 1}, "device": {"processor": "p"}}
    (row,) = tables.device_rows([run])
    assert (row["faster"], row["as less time"], row["the paper's phone"]) == ("100 % [90–110]", "50 %", "71 %")
    assert (row["tokens"], row["ms"]) == ("384", "2.0 → 1.0")


def test_training_compared_with_others_has_a_row_for_each():
    """The median first, then the range of the rounds; what was not measured is a dash."""
    comparisons = [
        {"what": "a step", "against": "the plain step", "faster": [1.9, 2.0, 2.25], "at_most": 2.5, "memory": 0.5},
        {"what": "a task", "against": "Trainer", "faster": [3.0, 3.5, 4.0], "memory": None},
    ]
    device = {"gpu": None, "processor": "a processor"}
    ours, theirs = [0.5, 0.6, 0.7], [0.5, 0.59, 0.68]
    scores = {
        f"a task, {of}, seed {n}": x for of, xs in (("ours", ours), ("Trainer", theirs)) for n, x in enumerate(xs)
    }
    record = {"comparisons": comparisons, "device": device, "scores": scores, "config": {"rows": 1000}}
    unlike = {"comparisons": comparisons[:1], "device": device, "scores": {}, "config": {}}
    rows = tables.speed_rows([record, {"device": device}])
    both = [comparisons[0] | {"what": f"a step, {precision}"} for precision in ("float32", "bf16")]
    for half in ("bf16", "bfloat16"):  # as older records call it
        timed = unlike | {"comparisons": both, "peaks": {"float32": 1e11, half: 3e11}}
        assert [row["its peak, GF/s"] for row in tables.speed_rows([timed])] == ["100", "300"]
    assert rows[0]["its peak, GF/s"] == "–"
    assert rows[0]["our training"] == "a step, 1,000 rows"
    assert [row["times as fast"] for row in rows] == ["2.00 [1.90–2.25]", "3.50 [3.00–4.00]"]
    assert [row["at most"] for row in rows] == ["2.50", "–"]
    assert [row["memory"] for row in rows] == ["0.50", "–"]
    assert [row["our score, points"] for row in rows] == ["–", "+1.00 [−1.48, +3.48]"]  # 0, 1, 2: 1 ± 4.303 / √3


# what the student keeps


def test_retention_pairs_seeds_and_leaves_out_subsets():
    """Three tasks; the teacher is at the majority on RTE, and QNLI is a subset, so another task."""
    records = []
    for seed, (theirs, ours) in enumerate([(0.8, 0.72), (0.81, 0.73)]):
        records += [run("teacher", "cola", seed, "mini", main=theirs), run("student", "cola", seed, "mini", main=ours)]
        records += [run(who, "wnli", seed, "mini", main=0.6 + seed / 100) for who in ("teacher", "student")]
        records += [run(who, "rte", seed, "mini", main=0.49 + seed / 50) for who in ("teacher", "student")]
        part = {"data": {"stand_in": True, "stand_in_why": "a subset"}}
        records += [run(who, "qnli", seed, "mini", main=0.9) | part for who in ("teacher", "student")]
    records += [run("student", "cola", 7, "mini", main=0.1)]  # no teacher of this seed
    records += [run("random", "wnli", 0, "mini", main=0.6)]  # without the other tasks it has no share
    all_, without, above = tables.retention_rows(records)
    assert all_["tasks"] == "all: cola, rte, wnli" and without["tasks"] == "without WNLI: cola, rte"
    assert above["tasks"] == "teacher above majority: cola, wnli" and "random" not in above
    both = [100 * (0.72 + 0.6) / (0.8 + 0.6), 100 * (0.73 + 0.61) / (0.81 + 0.61)]
    assert above["student"].startswith(f"{sum(both) / 2:.1f} [") and above["seeds"] == "2"


@pytest.mark.parametrize("positives", [0.2, 0.37, 0.5])
def test_the_baseline_of_accuracy_and_f1_is_the_best_constant(positives):
    """An older record states what "never a duplicate" scores, a new one the best of both constants."""
    labels = np.arange(1000) < 1000 * positives
    never, always = (
        metrics.main_score("accuracy+f1", metrics.score(("accuracy", "f1"), np.full(1000, said), labels * 1))
        for said in (0, 1)
    )
    for stated in (never, max(never, always)):
        teacher = run("teacher", "qqp", 0, main=0.55) | {"scores": {"main": 0.55, "majority": stated}}
        assert baseline(teacher) == pytest.approx(max(never, always))
    (row,) = tables.finetuning_rows([teacher])
    assert row["majority"] == tables.comparison_rows([teacher])[0]["majority"] == f"{100 * max(never, always):.1f}"
    assert baseline(teacher | {"task": "rte"}) == stated, "accuracy alone is that of the commonest label"


def test_a_teacher_below_always_yes_has_learned_nothing():
    """QQP of toyworld: half of the rows are duplicates, so that "always" scores 58.3, "never" 25."""
    records = [
        run(who, task, seed, "toy", main=main + seed / 1000)
        for who in ("teacher", "student")
        for task, main in (("qqp", 0.55), ("cola", 0.8))
        for seed in range(3)
    ]
    for record in records:
        record["scores"]["majority"] = 0.25
    assert by_model(records, "toy")["student"].tasks == ["cola"]


def test_the_tasks_of_a_share_are_the_same_for_every_model():
    """The teacher is above the majority over its three seeds; a model with one of them is compared on as many tasks."""
    records = [
        run(who, task, seed, "mini", main=main)
        for task, values in {"cola": (0.8, 0.8, 0.8), "rte": (0.45, 0.52, 0.55)}.items()
        for seed, main in enumerate(values)
        for who in ("teacher", "student", *["random"] * (seed == 2))
    ]
    kept = by_model(records, "mini")
    assert kept["random"].tasks == kept["student"].tasks == ["cola"], "with its seed alone RTE would count"
    assert (kept["random"].seeds, kept["random"].place, kept["student"].place) == (1, "", "below")
    assert kept["student"].run == 2 and kept["random"].lead.mean == 0


def test_models_of_other_settings_have_no_share():
    """Rule 4: the same settings for everything that is compared; a note of the scorecard says which were refused."""
    records = [
        run(who, "cola", seed, "small", main=0.8 + seed / 100) | {"model_record": who, "precision": "no"}
        for who in ("teacher", "student", "undistilled", "random")
        for seed in range(2)
    ]
    assert set(by_model(records, "small")) == {"student", "undistilled", "random"}
    odd = [r | {"config": {"epochs": 9}} if (r["model"], r["seed"]) == ("random", 1) else r for r in records]
    assert set(by_model(odd, "small")) == {"student", "undistilled"}
    (note,) = [note for note in scorecard.scorecard(odd).notes if "no share" in note]
    assert note.startswith("small, no share for random: ") and "different settings (config.epochs" in note
    twice = [*records, records[2] | {"name": "copy"}]
    assert by_model(twice, "small") == {}, "without its student nothing is compared"


@pytest.mark.parametrize("value, told", [(-0.114, "−0.11"), (-0.001, "+0.00"), (0.0, "+0.00"), (0.25, "+0.25")])
def test_a_minus_is_typographic_and_nothing_is_less_than_nothing(value, told):
    record = benchmark()
    record["accuracy"]["rows"][0]["lost"] = value
    assert tables.format_rows([record])[0]["points lost"] == tables.signed(value) == told


@pytest.mark.parametrize(
    "low, high, printed, said",
    [
        (-3.0, -1.0, -2.96, "as in the paper"),
        (1.0, 3.0, -2.96, "the opposite"),
        (-1.0, 1.0, -2.96, "within noise"),
        (None, None, -2.96, "–"),
        (-3.0, -1.0, None, "–"),
    ],
)
def test_a_sign_holds_only_outside_the_noise(low, high, printed, said):
    mean = None if low is None else (low + high) / 2
    assert tables.sign({"mean": mean, "low": low, "high": high, "paper": printed}) == said


def test_time_and_energy_are_summed_by_scale_and_kind():
    device = {"processor": "some CPU", "gpu": None}
    records = [run("teacher", "rte", seed) | {"wall_seconds": 1800.0, "device": device} for seed in range(2)]
    records += [run("teacher", "rte", 2) | {"wall_seconds": 3600.0, "device": device | {"gpu": "some GPU"}}]
    (row,) = tables.spent_rows(records)
    assert (row["number"], row["kWh"]) == (3, f"{(65 + 300) / 1000:.2g}") and row["on"] == "some CPU, some GPU"


def test_a_format_with_one_length_says_to_which_it_pads():
    records = [record for record in load_records(paths.data("runs")) if record["name"] == "benchmark-small-litert"]
    formats = [row["format"] for row in tables.format_rows(records)]
    assert formats == ["PyTorch float32", "LiteRT float32, padded to 384", "LiteRT int8, padded to 384"]


# two runs of one task, on all of its rows and on fewer


def squad(model: str, f1: float, train: int, seed: int = 0) -> dict:
    """A fine-tuning on SQuAD at scale small, on all its 87,599 rows or on fewer."""
    part = {"stand_in": train < 87_599, "stand_in_why": f"train has {train:,} of 87,599 rows"}
    scores = {"exact_match": f1 - 0.1, "f1": f1}
    return run(model, "squad", seed, "small", **scores) | {"data": part | {"rows": {"train": train, "validation": 10}}}


def both_squads() -> list[dict]:
    """Teacher and student on 30,000 rows with three seeds, as they come from a folder, then on all with one."""
    fewer = [squad(who, main + seed / 50, 30_000, seed) for who, main in FEWER.items() for seed in range(3)]
    return fewer + [squad("teacher", 0.8, 87_599), squad("student", 0.7, 87_599)]


FEWER = {"teacher": 0.5, "student": 0.4}


def test_runs_on_fewer_rows_are_a_row_of_their_own():
    whole, part = tables.finetuning_rows(both_squads())
    assert (whole["task"], whole["seeds"], whole["teacher"]) == ("squad", "1", "80.0")
    assert (part["task"], part["teacher"], part["student"]) == (
        "squad (subset, 30,000 rows)",
        "52.0 [50.0–54.0]",
        "42.0 [40.0–44.0]",
    )
    (alone,) = tables.finetuning_rows([r for r in both_squads() if r["data"]["stand_in"]])
    assert alone["task"] == "squad (subset)"


def test_runs_on_fewer_rows_stand_beside_the_papers_by_themselves():
    rows = {(row["task"], row["model"]): row for row in tables.comparison_rows(both_squads())}
    assert [task for task, _ in rows][:4] == ["squad exact_match", "squad f1"] * 2, "all rows first"
    assert rows["squad f1", "student"]["measured"] == "70.0" and rows["squad f1", "student"]["seeds"] == 1
    fewer = rows["squad f1 (subset, 30,000 rows)", "student"]
    assert (fewer["measured"], fewer["seeds"]) == ("42.0", 3)
    assert "squad is a stand-in: train has 30,000 of 87,599 rows." in tables.comparison(both_squads())


def test_a_macro_score_has_no_part_of_a_task_in_it():
    part = {"stand_in": True, "stand_in_why": "some rows", "rows": {"train": 5, "validation": 5}}
    records = [
        run(
            "teacher",
            task,
            seed,
            "small",
            main=main,
            accuracy=main,
            f1=main,
            matthews=main,
            pearson=main,
            spearman=main,
        )
        | ({"data": part} if fewer else {})
        for task in glue.GLUE
        for seed, main, fewer in ((0, 0.8, False), (1, 0.2, True))
    ]
    assert tables.macro_rows(records)[0]["macro"] == "80.0"
    left = [r for r in records if r["task"] != "qqp" or r["data"]["stand_in"]]
    assert tables.macro_rows(left)[0]["macro"] == "not run in full: qqp"


def test_learning_rates_chosen_from_other_lists_are_other_settings():
    """Chosen from one list, the rates may differ."""

    def chosen(who: str, seed: int, rates: list[float], rate: float) -> dict:
        more = {"config": {"learning_rate": rate}, "selection": {"learning_rates": rates, "chosen": rate}}
        return run(who, "cola", seed, "small", main=0.8 + seed / 100) | more

    both, rates = ("teacher", "student"), [1e-5, 3e-5]
    records = [chosen(who, seed, rates, rate) for who, rate in zip(both, rates, strict=True) for seed in range(2)]
    assert "student" in by_model(records, "small")
    other = [chosen("undistilled", seed, [1e-5], 1e-5) for seed in range(2)]
    assert set(by_model(records + other, "small")) == {"student"}
