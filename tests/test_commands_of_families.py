"""One model of each family through all commands: distilled, asked, fine-tuned, exported, timed and described.

Students have one layer, because an export takes seconds for each.
"""

import copy
import json
from pathlib import Path

import pytest
from conftest import ANIMALS, NAMES, PLACES
from test_families import CONFIGS, make
from test_layout import TOKENIZERS

from distilnb.cli import main
from distilnb.evidence.records import load_records
from distilnb.models.families import FAMILIES
from distilnb.models.guessing import best_guesses
from distilnb.models.sources import load_model, load_tokenizer
from distilnb.tasks import finetuning

pytest.importorskip("onnxruntime", reason='ONNX needs: pip install "distilnb[export]"')
CPU = ["--cpu", "--precision", "no"]
SHORT = ["--layers", "0", "--tokens", "256", "--seq-length", "32", "--batch-size", "4", "--micro-batch-size", "4"]
ONE_ROUND = {"rows": 2, "rounds": 1, "warmup": 0, "threads": 1, "max_length": 32, "format_rows": 2, "sweep_rounds": 1}


def teacher_of(kind: str, folder: Path) -> Path:
    """A random teacher of the family with a tokenizer of its kind, as a folder; its tables are padded, as many are."""
    tokenizer = TOKENIZERS.get(kind, TOKENIZERS["bert"])()
    config = copy.deepcopy(CONFIGS[kind])
    config.vocab_size, config.pad_token_id = len(tokenizer) + 3, tokenizer.pad_token_id
    if kind in ("modernbert", "gpt2"):
        config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id or tokenizer.sep_token_id
    make(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tasks_in(folder: Path) -> tuple[Path, Path]:
    """Files of sentences with classes, and of questions."""
    classes, questions = folder / "classes.csv", folder / "questions.jsonl"
    lines = [f"{name} sees the {animal},{'xy'[i % 2]}" for i, animal in enumerate(ANIMALS) for name in NAMES[:3]]
    classes.write_text("text,label\n" + "\n".join(lines) + "\n")
    rows = []
    for name in NAMES:
        for place in PLACES[:3]:
            text = f"{name} is in the {place} again"
            gold = {"text": [place], "answer_start": [text.index(place)]}
            rows.append({"question": f"where is {name}", "context": text, "answers": gold})
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return classes, questions


def call(*words: object) -> None:
    """A command that must succeed."""
    assert main.main([str(word) for word in words]) == 0, words


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_passes_through_all_commands(kind, text_file, tmp_path, capsys):
    teacher, out = teacher_of(kind, tmp_path / "teacher"), tmp_path / "run"
    student = out / "model"
    call("distil", "--teacher", teacher, "--text", text_file, "--out", out, "--name", f"student-{kind}", *SHORT, *CPU)
    blank = "" if kind == "gpt2" else " [MASK]"
    assert len(best_guesses(load_model(str(student)), load_tokenizer(str(student)), f"anna sees the{blank}")) == 5
    classes, questions = tasks_in(tmp_path)
    once = ["--epochs", "1", "--batch-size", "8", "--max-length", "32", "--stride", "4", "--keep", *CPU]
    call("finetune", "--task", f"{classes},{questions}", "--model", f"student={student}", "--out", tmp_path, *once)
    answerer = tmp_path / "models" / "finetuning-toy-student-questions-seed0"
    reader, text = load_model(str(answerer)), "anna is in the garden again"
    assert finetuning.ask(reader, load_tokenizer(str(answerer)), "where is anna", text)[0].text in text
    for model in (student, answerer):  # classifiers are in `test_families`
        call("export", "--model", model, "--format", "onnx_float32", "--out", tmp_path / "onnx" / model.name)
    flags = [part for name, value in ONE_ROUND.items() for part in (f"--{name}", value)]
    pair = ["--teacher", teacher, "--student", student, "--scored-rows", 0, "--formats", "float32,int8"]
    call("benchmark", *pair, *flags, "--name", f"timed-{kind}")
    call("publish", "--model", student, "--out", tmp_path / "card", "--dry-run")
    card = (tmp_path / "card" / "README.md").read_text()
    assert FAMILIES[kind].name.split(" ")[0] in card and ("text-generation" if kind == "gpt2" else "fill-mask") in card
    (timed,) = [record for record in load_records() if record["name"] == f"timed-{kind}"]
    both = {(name, form) for name in ("teacher", "student") for form in ("float32", "int8")}
    assert timed["refused"] == [] and {(row["model"], row["format"]) for row in timed["formats"]} == both
    assert {row["value"] for row in timed["sweeps"] if row["knob"] == "batch size"} == {1, 4, 16}
