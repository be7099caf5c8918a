"""`distilnb finetune` and `distilnb glue`, as a newcomer meets them: tables, gaps, bad input in one sentence."""

import pytest
import torch
from conftest import make_teacher
from huggingface_hub import file_exists
from transformers import AutoTokenizer

from distilnb import paths, scales
from distilnb.cli import main, parsing
from distilnb.evidence.records import load_records
from distilnb.machine import device
from distilnb.models.sources import models_of, shipped_name
from distilnb.models.student import build_student
from distilnb.tasks import glue
from distilnb.tasks.heads import classifier
from distilnb.text.toyworld.tasks import SIZES

FEW = ["--train_rows", "24", "--validation_rows", "12", "--epochs", "1", "--cpu", "--max_length", "64"]


@pytest.fixture
def student_folder(teacher, tokenizer, tmp_path):
    """A student of the small teacher, saved."""
    folder = tmp_path / "student"
    build_student(teacher).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_glue_is_nine_tasks_beside_the_paper_with_a_macro_score_and_a_submission(
    teacher_folder, student_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(SIZES, "test", 20)
    models = f"teacher={teacher_folder},student={student_folder}"
    arguments = ["glue", "--model", models, "--out", str(tmp_path / "runs"), *FEW]
    assert main.main([*arguments, "--submission", str(tmp_path / "answers")]) == 0
    told = capsys.readouterr().out
    records = load_records(tmp_path / "runs")
    assert {(r["task"], r["model"]) for r in records} == {(t, m) for t in glue.GLUE for m in ("teacher", "student")}
    for name in glue.GLUE:
        assert f"| {name}" in told
    assert "without WNLI" in told and "| 79.5" not in told, "no number of the paper beside those of a toy"
    assert "no evidence about the paper" in told
    for model in ("teacher", "student"):
        assert {path.stem for path in (tmp_path / "answers" / model).iterdir()} == {
            "CoLA",
            "MNLI-m",
            "MNLI-mm",
            "MRPC",
            "QNLI",
            "QQP",
            "RTE",
            "SST-2",
            "STS-B",
            "WNLI",
        }
    assert main.main(arguments) == 0
    assert "18 of 18 runs are recorded" in capsys.readouterr().out


def test_the_second_stage_and_squad_are_flags_away(teacher_folder, student_folder, tmp_path, capsys):
    given = f"finetune --model teacher={teacher_folder},student={student_folder} --out {tmp_path / 'runs'}"
    assert main.main([*given.split(), "--task", "squad,sst2", "--task_teacher", "teacher", *FEW]) == 0
    records = load_records(tmp_path / "runs")
    assert {(r["task"], r["model"]) for r in records} == {
        (t, m) for t in ("squad", "sst2") for m in ("teacher", "student", "student_d")
    }
    told = capsys.readouterr().out
    assert "squad exact_match" in told and "student_d" in told and "| 79.1" not in told


def test_records_name_no_folder_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path))
    assert shipped_name(str(paths.data("teachers", "toy"))) == "data/teachers/toy"
    assert shipped_name(str(tmp_path / "runs" / "a" / "model")) == "runs/a/model"
    assert shipped_name("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"
    assert shipped_name("/home/jane/thesis/reviews") == "reviews"
    assert shipped_name("/home/jane/thesis/reviews/model") == "reviews/model"
    assert shipped_name("random:/home/jane/thesis/reviews") == "random:reviews"
    for folder in ("mine/shard", "runs/a"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    shown = [shipped_name(path) for path in ("mine/shard", "./runs/a", "random:mine/shard", "your/shard")]
    assert shown == ["shard", "runs/a", "random:shard", "your/shard"]
    monkeypatch.chdir(paths.data())
    assert shipped_name("teachers/toy") == "data/teachers/toy"


def test_models_are_found_where_runs_leave_them(tmp_path, monkeypatch):
    """Your own student before a shipped one; the released models at base scale, pinned."""
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path))
    toy = models_of(scales.get("toy"))
    assert toy[0] == f"teacher={paths.data('teachers', 'toy')}"
    own = tmp_path / "runs" / "distil-toy" / "model"
    own.mkdir(parents=True)
    (own / "model.safetensors").write_bytes(b"")
    assert f"student={own}" in models_of(scales.get("toy"))
    base = models_of(scales.get("base"))
    assert base == [
        f"teacher=google-bert/bert-base-uncased@{scales.BERT_BASE_REVISION}",
        f"released=distilbert/distilbert-base-uncased@{scales.DISTILBERT_REVISION}",
    ]


BAD = {
    "unknown task": (["--task", "sst3"], "wnli, imdb, squad, or a file"),
    "no task": (["--task", ","], "names no task"),
    "no seeds": (["--seeds", "0"], "at least one is needed"),
    "no trials": (["--trial_seeds", "0"], "trial_seeds is 0"),
    "fewer than no rows": (["--train_rows", "-1"], "give a number of rows, or 0 for all"),
    "rates that are no numbers": (["--learning_rates", "1e-3;1e-4"], "write 1e-3,3e-4"),
    "a second teacher that is not there": (["--task_teacher", "bert"], "'bert' is none of the models: teacher"),
    "a second teacher without a pupil": (["--task_teacher", "teacher"], "would teach only itself"),
    "no models": (["--model", "teacher"], "write LABEL=FOLDER"),
    "a truncation that does not exist": (["--truncation", "middle"], "middle"),
    "more tokens than positions": (["--max_length", "4096"], "max_length"),
    "a soft weight of zero": (["--soft_weight", "0"], "share of the loss"),
    "text, which it does not read": (["--text", "toyworld"], "--help"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_before_any_work(name, teacher_folder, tmp_path, capsys):
    flags, words = BAD[name]
    given = {
        "--task": "sst2",
        "--model": f"teacher={teacher_folder}",
        "--out": str(tmp_path / "new"),
        "--train_rows": "24",
        "--validation_rows": "12",
    }
    given |= dict(zip(flags[::2], flags[1::2], strict=True))
    try:
        status = main.main(["finetune", "--cpu", *(part for pair in given.items() for part in pair)])
    except SystemExit as stop:  # argparse's own refusal of a choice
        status = stop.code
    told = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and words in told[-1], told
    assert not (tmp_path / "new").exists(), "something was written"


def test_models_of_two_vocabularies_are_told_apart_before_the_first_is_trained(teacher_folder, tmp_path, capsys):
    other = tmp_path / "other"
    make_teacher(200).save_pretrained(other)
    AutoTokenizer.from_pretrained(teacher_folder).save_pretrained(other)
    given = f"finetune --task sst2 --model teacher={teacher_folder},other={other} --out {tmp_path / 'new'}"
    assert main.main([*given.split(), *FEW]) == 2
    assert "vocabular" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_the_head_of_another_task_is_replaced_told_and_trained(teacher, tokenizer, tmp_path, capsys, recwarn):
    model, _ = classifier(teacher, 3)
    model.save_pretrained(tmp_path / "mnli")
    tokenizer.save_pretrained(tmp_path / "mnli")
    flags = ["--task", "sst2", "--model", f"a={tmp_path / 'mnli'}", "--out", str(tmp_path / "runs"), *FEW]
    assert main.main(["finetune", *flags]) == 0
    assert [str(w.message) for w in recwarn if "head of" in str(w.message)]


@pytest.mark.parametrize("precision, probed", [("no", True), ("bf16", False)])
def test_the_settings_of_the_processor_are_recorded_and_probed_only_where_they_matter(
    precision, probed, teacher_folder, tmp_path, monkeypatch
):
    settings = {"matmul_precision": torch.get_float32_matmul_precision(), "keep_memory": False, "probed": {}}
    monkeypatch.setattr(device, "probe", lambda: settings)
    monkeypatch.delenv("DISTILNB_FLOAT32")
    given = f"finetune --task sst2 --model a={teacher_folder} --out {tmp_path / 'runs'} --precision {precision}"
    assert main.main([*given.split(), *FEW]) == 0
    (record,) = load_records(tmp_path / "runs")
    assert ("probed" in record["machine"]) == probed
    assert record["machine"]["matmul_precision"] == settings["matmul_precision"]


@pytest.mark.hub
def test_released_weights_that_this_hub_lacks_are_named_in_one_sentence(tmp_path, capsys):
    """`distilnb glue --scale base` where bert-base has a configuration and no weights."""
    if file_exists("google-bert/bert-base-uncased", "model.safetensors"):
        pytest.skip("this Hub has the weights")
    assert main.main(["glue", "--scale", "base", "--task", "rte", "--out", str(tmp_path / "new")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert "bert-base-uncased" in told[-1] and "give a local folder" in told[-1]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("scale,rate", [("toy", 3e-4), ("mini", 3e-4), ("base", 5e-5)])
def test_a_narrow_model_is_fine_tuned_at_a_rate_of_its_own(scale, rate):
    """The rate that BERT's authors give is for BERT's width."""
    _, _, config, *_ = parsing.read_settings(main.command_function("glue"), ["--scale", scale], "glue")
    assert config.learning_rate == rate


@pytest.mark.hub
def test_mnli_without_its_mismatched_split_has_a_table_without_that_cell(teacher_folder, tmp_path, capsys):
    given = f"finetune --scale mini --task mnli --model teacher={teacher_folder} --out {tmp_path / 'runs'}"
    status = main.main([*given.split(), *FEW])
    told = capsys.readouterr().out
    (record,) = load_records(tmp_path / "runs")
    assert status == 0 and "| mnli " in told
    if "validation_mismatched_accuracy" not in record["scores"]:
        assert "left out: task mnli has no split 'validation_mismatched'" in told
        assert "missing" in record["data"] and record["data"]["stand_in"]
