"""The command line, as a newcomer meets it: help that teaches, bad input that gets one sentence, runs that resume."""

import gc
import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import pytest
import torch
from conftest import make_teacher
from safetensors import SafetensorError
from transformers import (
    AutoTokenizer,
    BertForMaskedLM,
    BertModel,
    DistilBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from distilnb import scales
from distilnb.cli import main, parsing, training
from distilnb.evidence.names import REHEARSAL
from distilnb.evidence.records import load_records
from distilnb.text import corpus, sources

SMALL = ["--seq_length", "32", "--batch_size", "8", "--micro_batch_size", "4", "--learning_rate", "0.003", "--cpu"]


@pytest.fixture
def distil(teacher_folder: Path, text_file: Path, tmp_path: Path):
    """Run `distilnb distil` on the small teacher; the exit status."""

    def run(*flags: str, out: str = "out", tokens: int = 4000) -> int:
        given = ["--teacher", str(teacher_folder), "--text", str(text_file), "--out", str(tmp_path / out), *SMALL]
        return main.main(["distil", *given, "--tokens", str(tokens), *flags])

    return run


def test_distil_leaves_a_model_that_plain_transformers_loads_and_a_record(distil, tmp_path, capsys):
    assert distil("--name", "first") == 0
    student = DistilBertForMaskedLM.from_pretrained(tmp_path / "out" / "model")
    assert student.config.n_layers == 2
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "model").mask_token == "[MASK]"
    (record,) = [r for r in load_records() if r["name"] == "first"]
    assert record["kind"] == "distillation" and record["made_from"]["layers"] == [0, 3]
    assert record["scores"].keys() == {"mlm_loss", "accuracy", "agreement"}
    told = capsys.readouterr().out
    assert "estimate: about" in told and "held-out MLM loss" in told and "model:" in told


def test_the_same_command_goes_on_and_another_is_refused(distil, tmp_path, capsys):
    assert distil("--name", "again") == 0
    before = (tmp_path / "out" / "model" / "model.safetensors").read_bytes()
    record = (tmp_path / "out" / "model" / "record.json").read_text()
    capsys.readouterr()
    assert distil("--name", "again") == 0, "a finished run is taken up, and there is nothing left to do"
    told, tokens = capsys.readouterr().out, json.loads(record)["tokens"]
    assert told.startswith(f"already done: {tmp_path / 'out' / 'model'}, {tokens:,} tokens") and told.count("\n") == 1
    assert (tmp_path / "out" / "model" / "model.safetensors").read_bytes() == before
    assert (tmp_path / "out" / "model" / "record.json").read_text() == record
    assert distil("--name", "again", "--learning_rate", "0.1", "--layers", "first") == 2
    told = capsys.readouterr().err
    assert "(--learning-rate 0.003 there, 0.1 now)" in told and "--name NAME" in told and "remove the folder" in told
    assert distil("--name", "again", "--layers", "first") == 2
    assert "(--layers 0,3 there, 0,1 now)" in capsys.readouterr().err
    assert (tmp_path / "out" / "model" / "model.safetensors").read_bytes() == before, "nothing was overwritten"


@pytest.mark.parametrize(
    "kind, error", [(PreTrainedModel, SafetensorError), (PreTrainedTokenizerBase, Exception), (shutil, OSError)]
)
def test_a_disk_that_is_full_at_the_end_is_a_sentence_and_the_same_command_ends_the_run(
    distil, tmp_path, capsys, monkeypatch, kind, error
):
    """safetensors and tokenizers raise errors of their own; what is half written is no finished run."""

    def full(*_: object, **__: object) -> None:
        raise error("No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "copyfile" if kind is shutil else "save_pretrained", full)
        assert distil("--name", "full") == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert f"could not be written to {tmp_path / 'out' / 'model'} (No space left" in said and "make room" in said
    assert distil("--name", "full") == 0
    told = capsys.readouterr().out
    assert "model:" in told and "estimate" not in told
    assert json.loads((tmp_path / "out" / "model" / "record.json").read_text())["name"] == "full"


def test_a_student_is_trained_further_and_its_budgets_add_up(distil, tmp_path, capsys):
    """Each run reads its own text again; the record says what was read before it, narrower students too."""
    shape = ["--width", "16", "--heads", "2"]
    for name, before in (("fresh", None), ("more", "fresh"), ("most", "more")):
        more = ["--student", str(tmp_path / before / "model")] if before else shape
        assert distil("--name", name, *more, out=name, tokens=1000) == 0
    one, two, three = (next(r for r in load_records() if r["name"] == name) for name in ("fresh", "more", "most"))
    assert two["made_from"]["tokens_before"] == one["tokens"]
    assert three["made_from"]["tokens_before"] == one["tokens"] + two["tokens"]
    assert three["made_from"]["student_record"] == "more" and three["made_from"]["layers"] == [0, 3]
    assert two["evaluations"]["mlm_loss"][0] == pytest.approx(one["scores"]["mlm_loss"], abs=1e-3)
    assert DistilBertForMaskedLM.from_pretrained(tmp_path / "most" / "model").config.dim == 16
    assert f"{one['tokens'] + two['tokens'] + three['tokens']:,} in all" in capsys.readouterr().out
    assert distil("--name", "x", "--student", str(tmp_path / "more" / "model"), *shape, out="x") == 2
    assert "leave out width, heads" in capsys.readouterr().err
    assert distil("--name", "x", "--student", str(tmp_path / "more" / "model"), "--layers", "0", out="x") == 2
    assert "leave out layers" in capsys.readouterr().err


def test_runs_in_two_folders_without_a_name_keep_two_records(distil, tmp_path, capsys):
    assert distil("--seed", "0", out="one", tokens=600) == distil("--seed", "1", out="two", tokens=600) == 0
    assert {r["name"]: r["seed"] for r in load_records() if r["name"] in ("one", "two")} == {"one": 0, "two": 1}
    told = capsys.readouterr().out
    assert f"try it: distilnb finetune --scale toy --task YOUR-FILE.csv --model student={tmp_path / 'one'}" in told


@pytest.mark.parametrize(
    "kind, scale, teacher, words",
    [
        ("teacher", "toy", None, "distilnb distil --scale toy --teacher"),
        ("distillation", "toy", "data/teachers/toy", "--scale toy --task sst2"),
        ("distillation", "base", "me/my-encoder", "--scale base --task YOUR-FILE.csv"),
        ("distillation", REHEARSAL, "random:base", "without random:"),
    ],
)
def test_the_next_command_fits_the_run(kind, scale, teacher, words):
    """sst2 is a task of the scale: a student of another encoder is taken to a file of one's own."""
    record = {"kind": kind, "scale": scale, "made_from": {"teacher": teacher}}
    assert words in training.next_command(record, Path("runs/x/model"))


def test_every_row_of_the_ablation_runs(distil):
    for weights in (["--ce", "0"], ["--mlm", "0"], ["--cos", "0"], ["--init", "random"]):
        assert distil("--name", "ablation", *weights, out="-".join(weights).strip("-"), tokens=600) == 0


def bad_input(tmp_path: Path, teacher_folder: Path) -> dict[str, tuple[list[str], str]]:
    """What a user can get wrong → (flags, words that the one sentence must hold)."""
    empty, short, full = tmp_path / "empty.txt", tmp_path / "short.txt", tmp_path / "full"
    empty.write_text("")
    short.write_text("anna sees the cat .")
    full.mkdir()
    (full / "thesis.docx").write_text("years of work")
    headless, other = tmp_path / "headless", tmp_path / "other-words"
    for folder in (headless, other):
        folder.mkdir()
        for file in teacher_folder.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    (headless / "config.json").write_text((headless / "config.json").read_text().replace('"bert"', '"roberta"'))
    shape = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(shape | {"vocab_size": shape["vocab_size"] + 1}))
    return {
        "unknown scale": (["--scale", "huge"], "small, base"),
        "unknown option": (["--temprature", "2"], "--help"),
        "layer out of range": (["--layers", "0,9"], "layers 0 to 3"),
        "negative layer": (["--layers=-1,2"], "layers 0 to 3"),
        "layers that are no numbers": (["--layers", "0;3"], "0,2,4"),
        "unknown layer choice": (["--layers", "best"], "original, every_other, first, last"),
        "wrong number of layers": (["--layers", "0,1,2", "--n_layers", "2"], "3 layers given for a student of 2"),
        "a student deeper than its teacher": (["--n_layers", "9"], "choose 1 to 4"),
        "no such teacher": (["--teacher", str(tmp_path / "nobody")], "give a local folder"),
        "a teacher whose weights are of another family": (["--teacher", str(headless)], "configuration"),
        "a teacher of other size than its vocabulary": (["--teacher", str(other)], "other sizes"),
        "no such text": (["--text", str(tmp_path / "nothing.txt")], "no such file"),
        "no text named": (["--text", "+"], "names no text"),
        "empty text": (["--text", str(empty)], "is empty"),
        "an empty text beside another": (["--text", f"{short}+{empty}"], f"'{empty.name}' is empty"),
        "text shorter than a block": (["--text", str(short)], "shorter than"),
        "temperature of zero": (["--temperature", "0"], "above 0"),
        "temperature below zero": (["--temperature", "-2"], "above 0"),
        "all weights zero": (["--ce", "0", "--mlm", "0", "--cos", "0"], "all three loss weights are zero"),
        "a negative weight": (["--cos", "-1"], "0 or more"),
        "a weight that is no number": (["--cos", "nan"], "0 or more"),
        "words for a whole number": (["--tokens", "abc"], "--tokens: 'abc' is no number"),
        "words for a number": (["--temperature", "warm"], "--temperature: 'warm' is no number"),
        "a part of a token": (["--tokens", "1.5"], "--tokens: 1.5 is no whole number"),
        "tokens without end": (["--tokens", "inf"], "--tokens: inf is no whole number"),
        "no tokens": (["--tokens", "0"], "must be above 0"),
        "warm-up in updates": (["--warmup", "500"], "share of the updates"),
        "masks in percent": (["--mask-probability", "15"], "share of the tokens"),
        "a seed below 0": (["--seed", "-1"], "whole number from 0"),
        "masking everything": (["--mask_probability", "1"], "between 0 and 1"),
        "an update that does not share out": (["--batch_size", "10"], "no multiple"),
        "blocks longer than the model reads": (["--seq_length", "4096"], "128 tokens"),
        "a precision that does not exist": (["--precision", "int3"], "auto, no, bf16 or fp16"),
        "a folder of something else": (["--out", str(full)], "holds no run"),
    }


def test_bad_input_gets_one_sentence_a_status_and_no_traceback(
    tmp_path, teacher_folder, text_file, capsys, monkeypatch
):
    """One table for all: exit status 2, a single line on standard error, nothing written."""
    monkeypatch.setattr("distilnb.machine.hub.DEADLINE", 2.0)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("distilnb.machine.hub.HfApi", NoSuchRepository)
    for name, (flags, words) in bad_input(tmp_path, teacher_folder).items():
        given = ["--teacher", str(teacher_folder), "--out", str(tmp_path / "new"), *SMALL]
        given += [] if "--text" in flags else ["--text", str(text_file)]
        status = main.main(["distil", *given, "--tokens", "1000", *flags])
        told = capsys.readouterr().err.strip()
        assert status == 2, f"{name}: exit status {status}"
        assert words in told, f"{name}: {told}"
        assert told.startswith("distilnb: ") and "\n" not in told, f"{name}: not one sentence: {told}"
        assert not (tmp_path / "new").exists(), f"{name}: something was written"
    assert (tmp_path / "full" / "thesis.docx").read_text() == "years of work"


def test_a_list_of_numbers_names_the_one_that_is_none(capsys):
    assert main.main(["ablate", "--scale", "toy", "--width", "64", "x"]) == 2
    assert capsys.readouterr().err.startswith("distilnb: Invalid value for --width: 'x' is no number; ")


def output_places() -> list[tuple[str, str]]:
    """Each command with each of its flags that name a folder to write to, and those that only write below home."""
    places = []
    for name in (name for name in main.COMMANDS if name not in ("launch", "links")):
        kinds = [kind for key, kind in get_type_hints(main.command_function(name)).items() if key != "return"]
        flags = [field.name for kind in kinds for field in fields(kind) if "place" in field.metadata]
        places += [(name, f"--{flag}") for flag in flags] or [(name, "")]
    return places


@pytest.mark.parametrize("command,flag", output_places())
def test_a_file_in_the_place_of_an_output_folder_is_named_before_any_work(command, flag, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("years of work")
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path if flag else tmp_path / "file"))
    words = [command, *([flag, str(tmp_path / "file" / "new")] if flag else [])]
    assert main.main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"distilnb: {tmp_path / 'file'} is no folder; ") and said.err.count("\n") == 1
    assert not said.out and [path.name for path in tmp_path.iterdir()] == ["file"]


class NoSuchRepository:
    """A Hub that answers at once that it knows nothing of the kind."""

    def repo_info(self, path: str, **_: object) -> None:
        import httpx
        from huggingface_hub.errors import RepositoryNotFoundError

        raise RepositoryNotFoundError("404", response=httpx.Response(404, request=httpx.Request("GET", "http://hub")))


def test_a_traceback_is_there_for_those_who_ask(distil, capsys):
    assert distil("--temperature", "0", "--traceback") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_run_that_goes_wrong_is_status_1_and_ctrl_c_is_130(distil, capsys, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise FloatingPointError("the loss is nan at update 3")

    monkeypatch.setattr(training, "pretrain", broken)
    assert distil() == 1
    assert capsys.readouterr().err == "distilnb: the loss is nan at update 3\n"

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "pretrain", interrupted)
    assert distil() == 130
    assert "stopped; what came after the last checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("command", [c for c in main.COMMANDS])
def test_help_teaches(command, capsys):
    try:
        assert main.main([command, "--help"]) == 0
    except SystemExit as stop:  # of a command that starts others
        assert stop.code == 0
    told = capsys.readouterr().out
    first = main.command_function(command).__doc__.strip().splitlines()[0]
    assert first in " ".join(told.split()), "help starts with what the command does"
    if command in ("distil", "teacher", "run", "finetune"):
        assert f"distilnb {command}" in told, "help shows an example to type"


def test_the_teacher_command_grows_a_teacher_that_distil_can_use(tmp_path, monkeypatch, capsys):
    """The whole chain from nothing: vocabulary, teacher 1 → 2 layers, student."""
    tiny = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.05,
        "vocab_size": 600,
        "max_position_embeddings": 64,
    }
    toy = scales.get("toy")
    stages = (scales.Stage(1, 2e-3, 32, 16, 6_000), scales.Stage(2, 1e-3, 32, 8, 6_000))
    small = toy.__class__(
        **(
            toy.__dict__
            | {
                "teacher_shape": tiny,
                "teacher_stages": stages,
                "corpus_tokens": 20_000,
                "teacher_corpus_tokens": 20_000,
            }
        )
    )
    monkeypatch.setitem(scales.SCALES, "toy", small)
    out = tmp_path / "teacher"
    assert main.main(["teacher", "--out", str(out), "--name", "tiny-teacher", "--cpu"]) == 0
    (record,) = [r for r in load_records() if r["name"] == "tiny-teacher"]
    assert [s["name"] for s in record["stages"]] == ["tiny-teacher, 1 layers", "tiny-teacher, 2 layers"]
    assert record["tokens"] >= 12_000 and record["curve"]["tokens"] == sorted(record["curve"]["tokens"])
    more = ["teacher", "--out", str(tmp_path / "more"), "--name", "more", "--cpu", "--tokens", "3000"]
    assert main.main([*more, "--start", str(out / "model")]) == 0
    (longer,) = [r for r in load_records() if r["name"] == "more"]
    assert [s["tokens"] for s in longer["stages"][:2]] == [s["tokens"] for s in record["stages"]], "the past is kept"
    assert longer["stages"][2]["config"]["seed"] not in [s["config"]["seed"] for s in record["stages"]]
    assert longer["scores"]["mlm_loss"] < record["scores"]["mlm_loss"], "it went on from what was learned"
    assert longer["tokens"] >= record["tokens"] + 3000
    capsys.readouterr()
    given = f"distil --teacher {out / 'model'} --out {tmp_path / 'student'} --tokens 2000 --name tiny-student"
    assert main.main([*given.split(), *SMALL]) == 0, capsys.readouterr().err
    assert DistilBertForMaskedLM.from_pretrained(tmp_path / "student" / "model").config.n_layers == 1


def test_a_short_run_fetches_little_of_a_stream():
    streamed, whole, toy = (sources.parse_sources(text) for text in ("stream=a/b", "a/b", "toyworld"))
    assert corpus.corpus_budget(streamed, 20_000_000, 1_000_000) == 1_060_000
    assert corpus.corpus_budget(streamed, 20_000_000, 900_000_000) == 20_000_000
    assert corpus.corpus_budget(whole, 20_000_000, 1_000_000) is None
    assert corpus.corpus_budget(toy, 2_000_000, 1_000) == 2_000_000


def test_a_model_that_is_not_there_is_named_before_anything_is_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, words in (("nobody", "give a local folder"), (tmp_path / "nobody", "no such folder")):
        assert main.main(["finetune", "--task", "sst2", "--model", f"teacher={name}"]) == 2
        told = capsys.readouterr().err.strip()
        assert "nobody" in told and words in told and "\n" not in told


def test_what_a_command_imports_is_not_searched_for_garbage_again(capsys):
    gc.unfreeze()
    assert main.main(["teacher", "--scale", "base"]) == 2 and capsys.readouterr().err
    assert gc.isenabled() and gc.get_freeze_count() > 100_000


@pytest.fixture
def growing(monkeypatch, text_file, tmp_path):
    """Run `distilnb teacher` up to where its stages begin, by so many processes; (its status, what they are given)."""
    given = []

    def run(*flags: str, processes: int = 1) -> tuple[int, list]:
        accelerator = SimpleNamespace(num_processes=processes, is_main_process=True, device=torch.device("cpu"))
        monkeypatch.setattr(training, "make_accelerator", lambda *_: accelerator)
        monkeypatch.setattr(training, "check_hosts", lambda *_: None)
        monkeypatch.setattr(training, "grow_teacher", stop)
        return main.main(["teacher", "--out", str(tmp_path / "out"), "--text", str(text_file), *flags]), given

    def stop(model, stages, growth, accelerator):
        given.append(growth)
        raise ValueError("the stages begin")

    return run


def test_a_teacher_whose_updates_cannot_be_shared_out_is_refused_before_its_text(growing, monkeypatch, capsys):
    """The tokenizer of a teacher from nothing, too, is made of the text."""
    monkeypatch.setattr(training, "make_tokenizer", None)
    assert growing(processes=3) == (2, []) and "multiple" in capsys.readouterr().err


def test_a_teacher_that_reads_less_than_its_stages_is_refused_before_its_text(growing, tokenizer, tmp_path, capsys):
    for part in (make_teacher(len(tokenizer), max_position_embeddings=40), tokenizer):
        part.save_pretrained(tmp_path / "short")
    assert growing("--start", str(tmp_path / "short")) == (2, []) and "tokens at most" in capsys.readouterr().err


def test_a_teacher_is_trained_on_text_of_the_layout_that_its_record_states(growing, capsys):
    status, (growth,) = growing("--layout", "grouped")
    assert growth.config.layout == growth.text(32).info["layout"] == "grouped"


def test_only_scales_with_a_recipe_train_a_teacher(capsys):
    assert main.main(["teacher", "--scale", "base"]) == 2
    assert "small" in capsys.readouterr().err


def test_an_encoder_becomes_a_teacher_that_can_be_distilled(tmp_path, teacher, tokenizer, text_file, capsys):
    """First the head alone, then all weights; the record tells what was new and how each phase began and ended."""
    encoder, out = tmp_path / "encoder", tmp_path / "out"
    BertModel(teacher.config).save_pretrained(encoder), tokenizer.save_pretrained(encoder)
    text = ["--text", str(text_file), "--cpu"]
    given = ["--scale", "small", "--start", str(encoder), "--leave_out", "", "--tokens", "30000", *text]
    assert main.main(["distil", "--teacher", str(encoder), "--out", str(tmp_path / "x"), *SMALL, *text]) == 2
    assert "distilnb teacher" in capsys.readouterr().err and not (tmp_path / "x").exists()
    made = training.stages_of(4, True, scales.get("toy"))
    assert made == [scales.HEAD, scales.WHOLE], "a model of a depth that no stage has is trained as it is"
    assert main.main(["teacher", *given, "--out", str(out), "--name", "from-encoder"]) == 0, capsys.readouterr().err
    (record,) = [r for r in load_records() if r["name"] == "from-encoder"]
    assert len(record["made_from"]["new_tensors"]) == 5
    head, whole = record["stages"]
    assert "head alone" in head["name"] and head["tokens"] < whole["tokens"]
    assert whole["before"] == head["scores"] != head["before"]
    made = BertForMaskedLM.from_pretrained(out / "model", dtype="float32")
    types = made.bert.embeddings.token_type_embeddings.weight
    assert types.any(), "token types of an encoder that knows pairs are kept"
    given = f"distil --teacher {out / 'model'} --out {tmp_path / 'x'} --tokens 2000 --name of-encoder"
    assert main.main([*given.split(), *SMALL, *text]) == 0, capsys.readouterr().err


def test_python_dash_m_works_in_a_process_of_its_own():
    told = subprocess.run([sys.executable, "-m", "distilnb", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("distilnb ")


@pytest.mark.hub
def test_a_teacher_without_weights_is_named_in_one_sentence(tmp_path, capsys):
    """At this Hub, bert-base-uncased may have a configuration and no weights; then the user reads why."""
    from huggingface_hub import file_exists

    if file_exists("google-bert/bert-base-uncased", "model.safetensors"):
        pytest.skip("this Hub has the weights")
    assert main.main(["distil", "--scale", "base", "--out", str(tmp_path / "x")]) == 2
    told = capsys.readouterr().err
    assert "weights (model.safetensors) cannot be read" in told.splitlines()[-1]


@pytest.mark.hub
def test_the_dial_at_mini_distils_from_real_text(teacher_folder, tmp_path, capsys):
    """`--scale mini` reads Wikipedia, streamed, and IMDb; the teacher is the small one of these tests."""
    given = f"distil --scale mini --teacher {teacher_folder} --out {tmp_path / 'mini'} --tokens 6000 --name mini-demo"
    assert main.main([*given.split(), *SMALL]) == 0, capsys.readouterr().err
    (record,) = [r for r in load_records() if r["name"] == "mini-demo"]
    assert record["scale"] == "mini" and record["data"]["id"] == "wikimedia/wikipedia + stanfordnlp/imdb"
    assert record["curve"]["loss"][-1] < record["curve"]["loss"][0]


@pytest.mark.hub
@pytest.mark.parametrize(
    "command, start, noun",
    [
        ("teacher", ["--start", f"{scales.MINILM}@{'0' * 40}"], "revision"),
        ("teacher", ["--start", "nobody/nothing"], "nobody/nothing"),
        ("distil", ["--teacher", scales.MINILM, "--revision", scales.MINILM_REVISION], "head"),
    ],
)
def test_a_teacher_that_cannot_be_used_is_named_before_anything_is_prepared(command, start, noun, tmp_path, capsys):
    assert main.main([command, "--scale", "small", *start, "--out", str(tmp_path / "out"), "--cpu"]) == 2
    *_, told = capsys.readouterr().err.splitlines()
    assert told.startswith("distilnb: ") and noun in told and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flag", "field", "joined"),
    [("--model", "model", "a=x,b=y,c=z"), ("--task", "task", "a=x,b=y,c=z"), ("--seeds", "seeds", None)],
)
def test_a_flag_given_twice_adds_what_can_be_several_and_the_last_number_counts(flag, field, joined):
    words = [flag, "a=x,b=y", flag, "c=z"] if joined else [flag, "3", flag, "5"]
    _, what, *_ = parsing.read_settings(main.command_function("glue"), words, "glue")
    assert getattr(what, field) == (joined or 5)


def test_a_scale_given_twice_is_the_last_one_in_all_that_depends_on_it():
    where, what, *_ = parsing.read_settings(
        main.command_function("glue"), ["--scale", "toy", "--scale", "mini"], "glue"
    )
    assert (where.scale, what.source) == ("mini", "hub")


def test_only_folders_that_are_written_to_are_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(parsing.paths, "home", lambda: Path("/proc/nowhere"))

    def tried(command, *words):
        parsing.check_places(parsing.read_settings(main.command_function(command), words, command))

    tried("glue", "--out", str(tmp_path))
    for words in (("glue",), ("glue", "--submission", str(tmp_path)), ("distil", "--out", str(tmp_path))):
        with pytest.raises(OSError, match="written"):
            tried(*words)


def test_text_given_twice_is_read_from_both_places():
    settings = parsing.read_settings(main.command_function("distil"), ["--text", "a.txt", "--text=b.txt"], "distil")
    assert [one.text for one in settings if hasattr(one, "text")] == ["a.txt+b.txt"]
