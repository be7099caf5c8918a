"""The stopwatch, tested with a clock that we wind ourselves: what is timed, in which order, and what follows."""

import json
import platform
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_teacher, stories
from datasets import Dataset

from distilnb.cli import main
from distilnb.evidence import paper
from distilnb.evidence.records import KEYS, load_record, load_records, save_record
from distilnb.models.arithmetic import count_groups
from distilnb.models.student import build_student
from distilnb.report import figures, tables
from distilnb.studies import accuracy, benchmark, formats, timing
from distilnb.studies.formats import Runner
from distilnb.studies.timing import BenchmarkConfig
from distilnb.tasks import glue, heads, squad
from distilnb.tasks.heads import classifier

TEXTS = [(text, text[::-1]) for text in stories(12)]
SMALL = BenchmarkConfig(rows=6, rounds=2, warmup=1, format_rows=4, sweep_rounds=1, max_length=48, threads=1)


class Clock:
    """Time that passes only when something costs it; CPU time passes twice as fast, as with two threads."""

    def __init__(self, monkeypatch):
        self.now, self.told = 0.0, []
        module = SimpleNamespace(perf_counter=lambda: self.now, process_time=lambda: 2 * self.now)
        for timed in (benchmark, timing):
            monkeypatch.setattr(timed, "time", module, raising=False)

    def runner(self, model: str, seconds: float, format: str = "float32") -> Runner:
        def answer(batch):
            self.now += seconds
            self.told.append(model)
            return np.ones((1, 1))

        return Runner(model, format, answer, 0, None)

    def tokenizer(self, *pair, **_):
        self.now += 0.5
        return dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), [1, 2])


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def timings(clock) -> pd.DataFrame:
    """A teacher that takes 2 s and a student that takes 1 s, tokenization half a second for each."""
    pair = [clock.runner("teacher", 2.0), clock.runner("student", 1.0)]
    return timing.time_pass(pair, TEXTS[:6], clock.tokenizer, SMALL)


def test_each_pair_is_answered_once_in_turns_after_warming_up(clock, timings):
    rounds = [["teacher"] * 3 + ["student"] * 3, ["student"] * 3 + ["teacher"] * 3]
    assert clock.told == ["teacher", "student", *rounds[0], *rounds[1]], "the order is turned round"
    assert len(timings) == 2 * 2 * 3 and set(timings["pairs"]) == {3}


def test_seconds_are_put_where_they_were_spent(timings):
    student = timings[timings["model"] == "student"].groupby("part")[["wall", "cpu"]].first()
    assert student.loc["tokenization"].tolist() == [0.5, 1.0]
    assert student.loc["collation"].tolist() == [0.0, 0.0]
    assert student.loc["forward"].tolist() == [1.0, 2.0]


def test_overhead_that_both_pay_hides_the_ratio(timings):
    scores, intervals = benchmark.pass_scores(timings, SMALL.end_to_end)
    assert scores["ratio_forward"] == scores["ratio_forward_cpu"] == 2
    assert scores["ratio_end_to_end"] == pytest.approx(2.5 / 1.5)
    assert scores["less_time_forward"] == 50 and scores["less_time_end_to_end"] == pytest.approx(40)
    assert (scores["seconds_teacher"], scores["seconds_student"]) == (15, 9)
    assert scores["overhead_ms"] == 500
    needed = scores["overhead_ms_needed"] / 1000
    assert (needed + 2) / (needed + 1) == pytest.approx(paper.speed("BERT-base") / paper.speed("DistilBERT"))
    assert intervals["ratio_forward"] == [2, 2, 2]


def test_the_knobs_say_what_the_end_to_end_time_is_made_of(timings):
    bare = BenchmarkConfig(tokenization=False, collation=False)
    assert bare.end_to_end == ("forward",)
    scores, _ = benchmark.pass_scores(timings, bare.end_to_end)
    assert scores["ratio_end_to_end"] == 2 and scores["overhead_ms"] == 0


def test_a_ratio_is_the_median_of_the_rounds_and_its_interval_their_quartiles():
    """Eleven rounds, one of them disturbed; the disturbance moves neither."""
    rows = [
        (model, "float32", number, part, 1, wall, wall)
        for number in range(11)
        for part in timing.PARTS
        for model, wall in (("teacher", 2 + 0.1 * number + 90 * (number == 10)), ("student", 1.0))
    ]
    made = pd.DataFrame(rows, columns=["model", "format", "round", "part", "pairs", "wall", "cpu"])
    _, intervals = benchmark.pass_scores(made, timing.PARTS)
    assert intervals["ratio_forward"] == pytest.approx([2.25, 2.5, 2.75])


def test_sixty_percent_faster_forty_percent_less_and_the_152_seconds_between():
    bert, distilbert = paper.speed("BERT-base"), paper.speed("DistilBERT")
    assert benchmark.less_time(bert / distilbert) == pytest.approx(paper.claim("time_saved").value, abs=0.05)
    fixed = benchmark.fixed_overhead(bert, distilbert, forward_ratio=2)
    assert fixed == paper.claim("fixed_seconds").value
    assert benchmark.overhead_for(bert - fixed, distilbert - fixed, bert / distilbert) == pytest.approx(fixed)
    assert benchmark.fixed_overhead(200, 100) == 0, "nothing is hidden where the ratio is 2"


def test_tokenization_cuts_the_longer_text_and_fills_up_when_asked(tokenizer):
    pair = ("anna sees the cat . " * 20, "boris .")
    cut = timing.tokenize(tokenizer, pair, SMALL)
    assert len(cut["input_ids"]) == 48 and sum(cut["token_type_ids"]) == 3, "the short text is whole"
    filled = timing.tokenize(tokenizer, ("anna", "boris"), BenchmarkConfig(max_length=48, pad=True))
    batch = timing.collate(filled)
    assert batch["input_ids"].shape == (1, 48) and batch["attention_mask"].sum() == 5


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"rounds": 0}, "rounds"),
        ({"rounds": -3}, "rounds"),
        ({"rows": 0}, "rows"),
        ({"warmup": -1}, "warmup"),
        ({"sweep_rounds": -1}, "sweep_rounds"),
        ({"threads": -2}, "threads"),
        ({"rows": 5, "rounds": 6}, "5 pairs"),
        ({"rows": 50, "format_rows": 5}, "5 pairs"),
    ],
)
def test_settings_that_measure_nothing_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        BenchmarkConfig(**wrong)


@pytest.fixture(scope="module")
def models(tokenizer) -> dict:
    teacher = make_teacher(len(tokenizer))
    return {
        "teacher": benchmark.with_head(teacher, "pairs"),
        "student": benchmark.with_head(build_student(teacher), "pairs"),
    }


@pytest.mark.parametrize("shape", benchmark.SHAPES)
def test_a_head_is_put_on_the_encoder_that_is_there(tokenizer, shape):
    teacher = make_teacher(len(tokenizer))
    for source in (teacher, build_student(teacher)):
        made = benchmark.with_head(source, shape, attention="eager")
        theirs = {name: value for name, value in source.base_model.state_dict().items() if "pooler" not in name}
        found = made.base_model.state_dict()
        assert all(torch.equal(found[name], value) for name, value in theirs.items())
        assert "task head" in count_groups(made) and made.config._attn_implementation == "eager"


def test_sweeps_move_one_knob_at_a_time_and_put_the_threads_back(models):
    before = torch.get_num_threads()
    rows = benchmark.sweep(models, rounds=2, lengths=(8, 4096), batch_sizes=(1, 2), numbers=(1, 2))
    assert [(row["knob"], row["value"]) for row in rows[::2]] == [
        ("sequence length", 8),
        ("batch size", 1),
        ("batch size", 2),
        ("threads", 1),
        ("threads", 2),
    ], "a length beyond the model's positions is left out"
    assert len(rows) == 10
    assert all(row[model + clock] > 0 for row in rows for model in ("teacher", "student") for clock in ("", "_cpu"))
    assert torch.get_num_threads() == before


def test_the_cost_of_a_format_is_counted_answer_by_answer():
    """Five rows whose label is the first id; one format errs twice, once where float32 had been wrong."""
    ids = [[0, 9], [1, 9], [0, 9], [1, 9], [1, 9]]
    rows = Dataset.from_dict(
        {"input_ids": ids, "token_type_ids": [[0, 0]] * 5, "length": [2] * 5, "labels": [0, 1, 0, 1, 0]}
    ).with_format("numpy")

    def answering(format: str, wrong: set[int]) -> Runner:
        turn = iter(range(5))

        def answer(batch):
            guess = int(batch["input_ids"][0, 0]) ^ (next(turn) in wrong)
            return np.eye(2)[[guess]]

        return Runner("student", format, answer, 0, None)

    task = glue.get_task("qnli")
    fitted = accuracy.Fitted(None, task, rows, {})
    first, second = accuracy.score_formats([answering("float32", set()), answering("int8", {0, 1, 4})], fitted)
    right = {"format": "float32", "bytes": 0, "accuracy": 0.8, "lost": 0, "changed": 0, "spoilt": 0, "mended": 0}
    assert first == right
    assert second | {"lost": round(second["lost"])} == {
        "format": "int8",
        "bytes": 0,
        "accuracy": 0.6,
        "lost": 20,
        "changed": 3,
        "spoilt": 2,
        "mended": 1,
    }


def test_a_row_of_several_labels_is_one_answer():
    ids, labels = [[i, 9] for i in range(4)], np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=np.float32)
    kinds = {"token_type_ids": [[0, 0]] * 4, "length": [2] * 4}
    rows = Dataset.from_dict({"input_ids": ids, **kinds, "labels": labels}).with_format("numpy")

    def answering(format: str, changes: np.ndarray) -> Runner:
        at = labels != changes  # an exclusive or
        return Runner("student", format, lambda batch: 2.0 * at[batch["input_ids"][:, 0].numpy()] - 1, 0, None)

    task = glue.Task("own", "own", ("text",), ("a", "b"), {}, ("accuracy",), several=True)
    changes = [np.array([[0, 0], [1, 1], [0, 0], [0, 1]]), np.array([[1, 1], [0, 0], [0, 0], [0, 1]])]
    runners = [answering(name, change) for name, change in zip(("float32", "int8"), changes, strict=True)]
    _, second = accuracy.score_formats(runners, accuracy.Fitted(None, task, rows, {}))
    assert [second[key] for key in ("accuracy", "lost", "changed", "spoilt", "mended")] == [0.5, 0, 2, 1, 1]


def test_a_question_is_one_answer_of_all_its_windows(tokenizer):
    rows = squad.load_split("validation", n=6)
    windows = squad.SQUAD.encode(rows, tokenizer, 64, 8)
    assert len(windows) > 8

    def answering(format: str, wrong: set[int]) -> Runner:
        turn = iter(range(6))

        def answer(batch):
            i, logits = next(turn), np.zeros((*batch["input_ids"].shape, 2))
            for window, places in enumerate(windows["labels"][:][windows["example"][:] == i]):
                if places[1] and i not in wrong:
                    logits[window, places, [0, 1]] = 9
            return logits

        return Runner("student", format, answer, 0, None)

    fitted = accuracy.Fitted(None, squad.SQUAD, windows, {}, texts=rows)
    first, second = accuracy.score_formats([answering("float32", {5}), answering("int8", {0, 4})], fitted)
    assert first["accuracy"] > second["accuracy"] and (first["changed"], first["spoilt"]) == (0, 0)
    assert (second["changed"], second["spoilt"], second["mended"]) == (3, 2, 1)
    right = answering("float32", {0})
    logits = [right.answer(batch) for batch in fitted.batches()]
    assert fitted.score(logits[3:], np.arange(3, 6)) == 1 > fitted.score(logits[:3], np.arange(3)), "halves are scored"


@pytest.fixture(scope="module")
def fitted(tokenizer) -> accuracy.Fitted:
    model, _ = classifier(build_student(make_teacher(len(tokenizer))), 2)
    task = glue.get_task("mrpc")
    first, second = map(list, zip(*TEXTS, strict=True))
    rows = Dataset.from_dict({"sentence1": first, "sentence2": second, "label": [0, 1] * 6})
    info = {"task": "mrpc", "scale": "toy", "rows_scored": 12}
    return accuracy.Fitted(model, task, glue.tokenize(rows, task, tokenizer, 32), info)


def test_other_rows_choose_the_int8_that_is_then_scored(fitted, tmp_path, monkeypatch):
    """The choice sees the rows for choosing alone; the usual int8 and the chosen one are scored on the others."""
    pytest.importorskip("onnxruntime", reason='ONNX needs: pip install "distilnb[export]"')
    few = accuracy.scored_rows(fitted._replace(rows=fitted.rows.select([0, 1])))
    seen = []
    monkeypatch.setattr(benchmark.rounding, "measure", lambda *args: seen.append(args[2]) or [{"rounding": "float32"}])
    monkeypatch.setattr(benchmark.rounding, "choose", lambda measured: "weights")
    task = accuracy.score_fitted(fitted._replace(choosing=few), ["float32"], tmp_path, 1)
    assert seen == [few] and task["rows_choosing"] == 2 and task["chosen"] == "onnx_weights"
    by = {row["format"]: row for row in task["rows"]}
    assert list(by) == ["float32", "onnx_float32", "onnx_int8", "onnx_weights"]
    (row,) = accuracy.chosen_int8([task])
    assert row["lost"] == by["onnx_weights"]["lost"] and row["usual"] == by["onnx_int8"]["lost"]
    assert row["share"] == by["onnx_weights"]["bytes"] / by["onnx_float32"]["bytes"] < 0.6
    assert not list(tmp_path.iterdir()), "the files of one model are gone before those of the next are written"


def task_of(name: str, of: str, usual: float, lost: float, share: float = 0.25) -> dict:
    """A task of a record whose int8 was chosen, with the points that both lose."""
    points = {"onnx_float32": 0.0, "onnx_int8": usual, "onnx_blocks": lost}
    sizes = {"onnx_float32": 100, "onnx_int8": 25, "onnx_blocks": round(100 * share)}
    counts = {"changed": 1, "spoilt": 1, "mended": 0}
    rows = [{"format": f, "accuracy": 0.8, "lost": p, "bytes": sizes[f]} | counts for f, p in points.items()]
    told = {"task": name, "of": of, "scale": "small", "rows_scored": 40, "chosen": "onnx_blocks"}
    return told | {"rows": rows}


def test_several_tasks_are_averaged_and_missed_targets_named():
    tasks = [task_of("cola", "student", 4.0, 0.4), task_of("rte", "student", 2.0, 1.4, 0.31)]
    tasks += [task_of("cola", "teacher", 1.0, 0.0)]
    mean = accuracy.averaged(tasks[:2])
    assert mean["task"] == "cola, rte" and mean["rows_scored"] == 80 and mean["rows"][1]["changed"] == 2
    assert [round(row["lost"], 6) for row in mean["rows"]] == [0, 3, 0.9]
    scores = accuracy.chosen_scores(tasks)
    assert scores == pytest.approx({"lost_chosen": 0.9, "most_lost_chosen": 1.4, "share_chosen": 0.31})
    rows = tables.rounding_rows([{"name": "a", "tasks": tasks}])
    assert [(row["model"], row["task"], row["target"]) for row in rows] == [
        ("student", "cola", "met"),
        ("student", "rte", "over 1 points, over 30% of the bytes"),
        ("student", "mean", "over 0.5 points"),
        ("teacher", "cola", "met"),
    ]
    assert figures.plot_rounding({"name": "a", "tasks": tasks}).axes[1].get_xlabel().startswith("teacher")


def test_formats_are_timed_at_several_lengths_and_fixed_ones_in_a_file_for_each(models, tmp_path, monkeypatch):
    """A format of one length is written anew for 128 word pieces; 384 are more than these models read."""
    made, exact = [], formats.make_runner(models["student"], "float32", tmp_path, "student")

    def make(model, form, folder, of, threads, length):
        made.append((of, form, length))
        return exact

    monkeypatch.setattr(benchmark, "make_runner", make)
    rows = [{"model": "student", "format": form} for form in ("float32", "litert_int8")]
    runners = [exact, exact._replace(format="litert_int8")]
    config = BenchmarkConfig(max_length=32, threads=1)
    benchmark.add_lengths(rows, runners, models, tmp_path, config)
    assert made == [("student", "litert_int8", 128)]
    assert all(list(row["lengths"]) == ["32", "128"] and min(map(min, row["lengths"].values())) > 0 for row in rows)


@pytest.fixture(scope="module")
def record(models, tokenizer, fitted, tmp_path_factory) -> dict:
    """A whole benchmark of tiny models in two formats; memory is not measured but stood in for."""
    return benchmark.benchmark(
        models,
        TEXTS,
        tokenizer,
        SMALL,
        tmp_path_factory.mktemp("formats"),
        formats=("bfloat16",),
        fitted=[fitted],
        task="stsb",
        weights={"teacher": "random:tests"},
    )


def documented() -> set[str]:
    """The names of scores in the module's docstring, with FORMAT spelt out for float32 and bfloat16."""
    block = benchmark.__doc__.split(":\n\n", 1)[1].split("\n\n")[0]
    names = [
        name
        for line in block.splitlines()
        for name in re.split(r",\s*|\s{2,}", line.strip())
        if "_" in name or name == "smaller"
    ]
    names = [name for name in names if re.fullmatch(r"[\w*]+", name)]
    spelt = {name.replace("FORMAT", format) for name in names for format in ("float32", "bfloat16")}
    return {
        full
        for name in spelt
        for full in ([name] if "*" not in name else [name.replace("*", part) for part in ("forward", "end_to_end")])
    }


def test_a_record_has_every_score_that_is_documented_and_no_other(record):
    elsewhere = {"memory_mb_float32", "memory_mb_bfloat16", "lost_chosen", "most_lost_chosen", "share_chosen"}
    assert documented() - record["scores"].keys() == elsewhere
    assert record["scores"].keys() - documented() == set()


def test_a_record_is_small_whole_and_says_what_was_random(record, tmp_path):
    path = save_record(record, tmp_path / "records")
    assert path.stat().st_size < 30_000
    read = load_record(path)
    assert set(KEYS) <= read.keys() and read["kind"] == "benchmark"
    assert read["weights"]["teacher"].startswith("random:") and read["config"]["rows"] == 6
    assert read["scores"]["parameters_student"] < read["scores"]["parameters_teacher"]
    assert read["scores"]["accuracy_float32"] == read["accuracy"]["rows"][0]["accuracy"]
    assert {row["knob"] for row in read["sweeps"]} == {"sequence length", "batch size", "threads"}
    json.dumps(read, allow_nan=False)


def test_a_format_that_answers_otherwise_is_named_and_the_others_are_timed(models, tokenizer, tmp_path, monkeypatch):
    """The teacher's bfloat16 is broken: the student's is timed, but has no teacher in its format beside it."""
    runners = [
        formats.make_runner(model, format, tmp_path / name, name)
        for format in ("float32", "bfloat16")
        for name, model in models.items()
    ]
    broken = runners[2]._replace(answer=lambda batch: runners[2].answer(batch) + 9)
    timed, time_pass = [], timing.time_pass

    def told(chosen, *rest):
        timed.extend((runner.model, runner.format) for runner in chosen)
        return time_pass(chosen, *rest)

    monkeypatch.setattr(benchmark, "time_pass", told)
    rows, refused = benchmark.compare_formats([*runners[:2], broken, runners[3]], TEXTS, tokenizer, SMALL)
    assert timed == [("teacher", "float32"), ("student", "float32"), ("student", "bfloat16")]
    assert [(row["model"], row["format"]) for row in rows] == timed
    assert rows[2]["ratio"] is None and rows[2]["speedup"] > 0
    assert "ratio_bfloat16" not in benchmark.format_scores(rows, [])
    (bad,) = refused
    assert (bad["model"], bad["format"]) == ("teacher", "bfloat16") and "otherwise" in bad["why"]


def test_what_was_measured_is_kept_when_a_format_cannot_be_made(
    models, tokenizer, fitted, tmp_path, monkeypatch, capsys
):
    """PyTorch has no int8 on some processors: the pass, the sweeps and the other formats must not be lost."""

    def without_engine(model):
        raise RuntimeError("Didn't find engine for operation quantized::linear_prepack NoQEngine")

    monkeypatch.setattr(formats, "to_int8", without_engine)
    made = benchmark.benchmark(models, TEXTS, tokenizer, SMALL, tmp_path, formats=("int8", "bfloat16"), fitted=[fitted])
    assert [(bad["model"], bad["format"]) for bad in made["refused"]] == [("teacher", "int8"), ("student", "int8")]
    assert "not timed: PyTorch int8 of the student: Didn't find engine" in capsys.readouterr().out
    assert made["scores"]["ratio_forward"] > 0 and made["sweeps"]
    for part in ("formats", "accuracy"):
        rows = made[part] if part == "formats" else made[part]["rows"]
        assert {row["format"] for row in rows} == {"float32", "bfloat16"}


def test_a_speedup_is_told_by_both_clocks(clock):
    """Teacher 2 s, student 1 s and in half precision a quarter: ratios by the wall, and the same in CPU time."""
    runners = [clock.runner("teacher", 2.0), clock.runner("student", 1.0), clock.runner("student", 0.25, "bfloat16")]
    rows, _ = benchmark.compare_formats(runners, TEXTS, clock.tokenizer, SMALL)
    assert [row["speedup"] for row in rows] == [row["speedup_cpu"] for row in rows] == [1, 2, 8]
    assert [row["ms"][1] for row in rows] == [2000, 1000, 250] and rows[2]["cpu_ms"] == 500


def test_agreement_does_not_hang_on_what_a_random_head_happens_to_answer(tokenizer):
    """One random output may be next to nought by chance, so that any rounding looks large; sixteen are not."""
    teacher, sizes = make_teacher(len(tokenizer)), []
    batch = timing.collate(timing.tokenize(tokenizer, TEXTS[0], SMALL))
    for seed in range(12):
        model = benchmark.with_head(teacher, "pairs", seed=seed)
        with torch.no_grad():
            sizes.append(float(model(**batch).logits.norm()))
    assert max(sizes) < 3 * min(sizes)


def test_the_processor_is_described_by_what_formats_live_on(record):
    told = record["device"]["instructions"]
    assert told == sorted(told) and all(name == name.lower() for name in told)
    assert record["device"]["load"] is None or record["device"]["load"] >= 0
    assert not Path("/proc/cpuinfo").is_file() or "x86" not in platform.machine() or "avx2" in told


def test_too_few_texts_are_told_before_any_work(models, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="pairs"):
        benchmark.benchmark(models, TEXTS, tokenizer, BenchmarkConfig(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_memory_is_measured_in_a_process_of_its_own(tokenizer, tmp_path):
    """A model of 8 million weights takes its 32 MB and not much more."""
    wide = make_teacher(len(tokenizer), layers=1, hidden_size=512, num_attention_heads=8, intermediate_size=8192)
    model = benchmark.with_head(wide, "pairs")
    runner = formats.make_runner(model, "float32", tmp_path, "student")
    assert runner.bytes / 1e6 == pytest.approx(40, rel=0.1)
    found = benchmark.added_memory(runner, type(model).__name__, 16)
    assert 0.9 * runner.bytes / 1e6 < found < 2 * runner.bytes / 1e6


def test_the_memory_of_a_runtime_is_read_when_its_graph_for_this_length_is_there(monkeypatch):
    """OpenVINO compiles a second graph after `STEADY` texts of one length."""
    asked, runtime = [], next(iter(formats.ELSEWHERE))
    monkeypatch.setattr(benchmark.importlib, "import_module", lambda name: None)
    monkeypatch.setattr(benchmark, "reopen", lambda form, path: lambda batch: asked.append(batch["input_ids"].shape))
    monkeypatch.setattr(benchmark.psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=len(asked) * 1e6))
    assert benchmark.memory_of("model", runtime, "", "16") == benchmark.STEADY
    assert set(asked) == {(1, 16)}


@pytest.fixture
def small_flags(teacher_folder) -> list[str]:
    flags = {
        "teacher": teacher_folder,
        "rows": 4,
        "rounds": 2,
        "warmup": 1,
        "format_rows": 2,
        "sweep_rounds": 0,
        "scored_rows": 0,
        "formats": "float32,bfloat16",
        "max_length": 32,
        "threads": 1,
    }
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


@pytest.mark.parametrize("shape", benchmark.SHAPES)
def test_the_command_measures_and_leaves_a_record(shape, small_flags, capsys):
    assert main.main(["benchmark", "--shape", shape, *small_flags, "--name", f"quick-{shape}"]) == 0, (
        capsys.readouterr()
    )
    (record,) = [r for r in load_records() if r["name"] == f"quick-{shape}"]
    assert record["task"] == benchmark.SHAPES[shape].task and record["data"]["stand_in"]
    assert record["config"]["tokenization"] == (shape == "pairs"), "the paper's phone left tokenization out"
    assert record["config"]["pad"] == (shape == "qa")
    told = capsys.readouterr().out
    assert "estimate: about" in told and "bfloat16" in told and record["name"] in told


def test_several_fine_tuned_models_are_scored_on_their_tasks(small_flags, tokenizer, tmp_path, capsys):
    """Teacher and student of two tasks, found by a pattern of folders; the choice is made on training rows."""
    pytest.importorskip("onnxruntime", reason='ONNX needs: pip install "distilnb[export]"')
    for of, layers in (("teacher", 2), ("student", 1)):
        for task in ("rte", "wnli"):
            model, _ = classifier(build_student(make_teacher(len(tokenizer), layers=2 * layers)), 2, seed=layers)
            heads.name_labels(model, glue.get_task(task))
            model.save_pretrained(tmp_path / f"{of}-{task}")
            tokenizer.save_pretrained(tmp_path / f"{of}-{task}")
    flags = ["--scored-task", "rte,wnli", "--scored", f"{tmp_path}/{{model}}-{{task}}", "--choosing-rows", "8"]
    assert main.main(["benchmark", *small_flags, *flags, "--scored-rows", "10", "--name", "scored"]) == 0, (
        capsys.readouterr()
    )
    (record,) = [r for r in load_records() if r["name"] == "scored"]
    assert [(t["task"], t["of"], t["rows_choosing"], t["rows_scored"]) for t in record["tasks"]] == [
        ("rte", "student", 8, 10),
        ("rte", "teacher", 8, 10),
        ("wnli", "student", 8, 10),
        ("wnli", "teacher", 8, 10),
    ]
    assert len({t["data"]["fingerprint"] for t in record["tasks"]}) == 2
    assert record["accuracy"]["task"] == "rte, wnli" and record["scores"]["share_chosen"] < 1
    assert "lost by the chosen" in capsys.readouterr().out


def test_a_model_of_another_task_among_several_is_named_by_its_folder(small_flags, tokenizer, tmp_path, capsys):
    model, _ = classifier(build_student(make_teacher(len(tokenizer))), 2)
    heads.name_labels(model, glue.get_task("rte"))
    for task in ("rte", "sst2"):
        model.save_pretrained(tmp_path / task)
        tokenizer.save_pretrained(tmp_path / task)
    flags = ["--scored-task", "rte,sst2", "--scored", f"{tmp_path}/{{task}}"]
    assert main.main(["benchmark", *small_flags, *flags, "--scored-rows", "10"]) == 2
    told = capsys.readouterr().err
    assert f"model '{tmp_path / 'sst2'}' has been fine-tuned on the labels" in told and told.count("\n") == 1


def test_random_weights_need_no_more_than_a_configuration(teacher_folder, small_flags, tmp_path):
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare" / name).write_bytes((teacher_folder / name).read_bytes())
    flags = ["benchmark", *small_flags, "--teacher", f"random:{tmp_path / 'bare'}", "--name", "bare"]
    assert main.main(flags) == 0
    (record,) = [r for r in load_records() if r["name"] == "bare"]
    assert record["weights"]["teacher"].startswith("random:")


def test_bad_input_gets_one_sentence(small_flags, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = tmp_path / "notes.txt"
    text.write_text("buy milk")
    cases = {
        ("--rounds", "0"): "rounds is 0; it must be 1 or more",
        ("--rounds", "-1"): "rounds is -1",
        ("--rounds", "5"): "cannot be dealt out in 5 rounds",
        ("--threads", "100000"): "threads is 100,000, but this computer has",
        ("--formats", "float32,int3"): "unknown format 'int3'",
        ("--shape", "square"): "square",
        ("--teacher", str(text)): "notes.txt",
        ("--teacher", "random:" + str(tmp_path)): "no readable config.json",
        ("--student", str(text)): "is no model: give the folder",
        ("--max_length", "4096"): "the models have 128 positions",
    }
    cases |= {
        ("--scored-task", "rte"): "no student fine-tuned on rte is in",
        ("--scored-task", "rte,wnli", "--scored", str(tmp_path)): "is one folder for 2 tasks; write {task}",
        ("--scored-task", "cake"): "unknown task 'cake'",
    }
    for flags, words in cases.items():
        status = main.main(["benchmark", *small_flags, *flags])
        told = capsys.readouterr().err.strip()
        assert status == 2 and words in told and told.startswith("distilnb: ") and "\n" not in told, (flags, told)


def test_the_saving_is_in_percent_of_the_teachers_parameters(record):
    """Not of the student's, of which BERT-base has 65 % more."""
    scores = record["scores"]
    saved = scores["parameters_teacher"] - scores["parameters_student"]
    assert scores["smaller"] == pytest.approx(100 * saved / scores["parameters_teacher"])


def test_a_short_pass_is_repeated_and_counted_once(models, monkeypatch):
    """Every lap says 8 s and 5 ms of CPU time: the first turn is one pass, from which the second makes four."""
    monkeypatch.setattr(benchmark, "Clock", lambda: SimpleNamespace(lap=lambda: (8.0, 0.005)))
    (row,) = benchmark.sweep(models, rounds=1, lengths=(8,), batch_sizes=(), numbers=())
    assert (row["teacher"], row["teacher_cpu"], row["student"]) == (2.0, 0.00125, 2.0)


def test_times_on_the_clock_and_of_the_processor_have_ratios_of_their_own():
    rows = [
        (model, "float32", number, part, 1, wall, cpu)
        for number in range(3)
        for part in timing.PARTS
        for model, wall, cpu in (("teacher", 2.0, 9.0), ("student", 1.0, 3.0))
    ]
    made = pd.DataFrame(rows, columns=["model", "format", "round", "part", "pairs", "wall", "cpu"])
    scores, _ = benchmark.pass_scores(made, timing.PARTS)
    assert (scores["ratio_forward"], scores["ratio_forward_cpu"]) == (2, 3)


def test_a_ratio_is_of_the_two_models_of_one_round():
    """Of 4, 2 and 3 s against 1, 2 and 1.5 s the ratios are 4, 1 and 2; of sorted times each would be 2."""
    rows = [
        (model, "float32", number, part, 1, wall, wall)
        for part in timing.PARTS
        for model, walls in (("teacher", (4.0, 2.0, 3.0)), ("student", (1.0, 2.0, 1.5)))
        for number, wall in enumerate(walls)
    ]
    made = pd.DataFrame(rows, columns=["model", "format", "round", "part", "pairs", "wall", "cpu"])
    _, intervals = benchmark.pass_scores(made, timing.PARTS)
    assert intervals["ratio_forward"] == [1.5, 2.0, 3.0]


def test_an_error_is_a_share_of_the_right_answer():
    assert formats.relative_error(np.array([3.0]), np.array([1.0])) == 2


def test_answers_at_padding_are_not_compared():
    batch = {"input_ids": torch.ones(1, 4), "attention_mask": torch.tensor([[1, 1, 0, 0]])}
    right, odd = np.ones((1, 4, 2)), np.ones((1, 4, 2))
    odd[:, 2:] = 9
    pair = [
        Runner("student", form, lambda _, found=found: found, 0, None)
        for form, found in (("int8", odd), ("float32", right))
    ]
    assert formats.check_agreement(*pair, [batch]) == 0
