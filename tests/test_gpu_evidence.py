"""The prepared command for a GPU, at toy size on the processor: what it is given, what it leaves."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from conftest import bert_config
from transformers import BertModel

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
