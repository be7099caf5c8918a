"""The prepared command for a GPU, at toy size on the processor: what it is given, what it leaves."""

import ast
import importlib
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from conftest import bert_config
from transformers import BertModel, DistilBertConfig

import distilnb

SCRIPT = Path(distilnb.__file__).parents[1] / "benchmarks" / "gpu_evidence.sh"


def environment(**more: str) -> dict[str, str]:
    """The tests' own Python first on the path, this tree's package, and settings of the script."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    tree = str(SCRIPT.parents[1])
    return os.environ | {"PATH": path, "PYTHONPATH": tree, "OMP_NUM_THREADS": "1", "FLAGS": "--cpu"} | more


def test_it_leaves_records_of_all_that_the_time_allows(tmp_path, tokenizer, text_file):
    """Teacher from an encoder, student, twin; the teacher on a task of toyworld. Nothing is fetched."""
    packed, out = tmp_path / "packed", tmp_path / "out"
    BertModel(bert_config(len(tokenizer))).save_pretrained(packed / "encoder")
    tokenizer.save_pretrained(packed / "encoder")
    (packed / "text.txt").write_text(text_file.read_text())
    subprocess.run(["tar", "-C", packed, "-cJf", tmp_path / "input.tar.xz", "."], check=True)
    settings = {"TEACHER_TOKENS": "8000", "TOKENS": "4000", "TASKS": "rte", "MODELS": "teacher", "SEEDS": "1"}
    rows = {"SOURCE": "toyworld", "RATES": "1e-3", "GLUE_FLAGS": "--train_rows 40 --validation_rows 20"}
    done = subprocess.run(
        [SCRIPT, "run", tmp_path / "input.tar.xz", out],
        env=environment(**settings, **rows),
        capture_output=True,
        text=True,
    )
    logs = "".join(path.read_text() for path in out.glob("work/logs/*.log"))
    assert done.returncode == 0 and "not finished" not in done.stdout, done.stdout + done.stderr + logs
    with tarfile.open(out / "records.tar.gz") as records:
        names = {Path(name).stem for name in records.getnames() if name.endswith(".json")}
    wanted = {"teacher-small", "distil-small", "undistilled-small", "finetuning-small-teacher-rte-seed0"}
    assert wanted <= names


def test_what_packs_the_input_uses_only_names_that_are_there():
    """It is run where the Hub is, on gigabytes of text: here, its imports and what it takes from each module."""
    (program,) = re.findall(r"<<'PYTHON'\n(.*?)\nPYTHON\n", SCRIPT.read_text(), re.S)
    tree, names = ast.parse(program), {}
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(ast.Module(imports, []), "imports", "exec"), names)
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    taken = [(node.value.id, node.attr) for node in used if isinstance(names.get(node.value.id), ModuleType)]
    assert ("glue", "load_split") in taken
    assert not [(module, name) for module, name in taken if not hasattr(names[module], name)]


def test_the_loop_that_fine_tuning_is_compared_with_runs_on_the_gpu_too(monkeypatch):
    """Torch's device without memory stands for the GPU, and a layer for the model, which looks at its masks."""

    def forward(model, batch):
        assert {value.device.type for value in batch.values()} == {"meta"}
        return model.classifier(torch.ones(len(batch["labels"]), 8, device="meta"))

    monkeypatch.syspath_prepend(SCRIPT.parent)
    step = importlib.import_module("finetuning_step")
    monkeypatch.setattr(step, "DEVICE", torch.device("meta"))
    monkeypatch.setattr(step, "forward", forward)
    config, rows = step.FinetuningConfig(batch_size=4), step.made_rows(np.array([5, 9, 7, 6]), 50)
    shape = DistilBertConfig(vocab_size=50, dim=8, hidden_dim=16, n_heads=2, n_layers=1)
    loop = step.Plain(step.DistilBertForSequenceClassification(shape), rows, config)
    loop.updates(loop.order(0))
    assert {parameter.device.type for parameter in loop.model.parameters()} == {"meta"}


def test_without_time_nothing_is_begun_and_that_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "empty", "-cJf", tmp_path / "input.tar.xz", "."], check=True)
    done = subprocess.run(
        [SCRIPT, "run", tmp_path / "input.tar.xz", tmp_path / "out"],
        env=environment(SECONDS_ALLOWED="5", TASKS="rte", MODELS="teacher"),
        capture_output=True,
        text=True,
    )
    assert "teacher: not finished" in done.stdout and "0 records" in done.stdout


def test_the_check_of_a_gpu_runs_on_the_processor(tmp_path):
    """Its commands exist, each step leaves a line, and its records come back in one file."""
    script = SCRIPT.with_name("gpu_check.sh")
    steps = "distil-bf16 nccl out-of-memory finetuning-step"
    done = subprocess.run([script, "--dry-run", tmp_path / "out"], env=environment(STEPS=steps), capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r": done in", (tmp_path / "out" / "summary.txt").read_text())) == 4
    with tarfile.open(tmp_path / "out" / "records.tar.gz") as records:
        names = {Path(name).stem for name in records.getnames() if name.endswith(".json")}
    assert {"gpu-bf16", "gpu-nccl", "gpu-out-of-memory", "benchmark-finetuning-toy"} <= names
