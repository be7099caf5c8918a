"""The estimate before a run against what the run then takes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from distilnb.distillation import estimate
from distilnb.distillation.loop import Run
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.distillation.step import Distillation
from distilnb.machine import device
from distilnb.models.student import build_student

PROGRAM = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from accelerate import Accelerator
from conftest import make_teacher
from distilnb.distillation import loop
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.machine import device
from distilnb.models.student import build_student
from distilnb.text.corpus import TextSource, build_corpus
from distilnb.text.masking import Masker
from transformers import AutoTokenizer
text, folder, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
corpus = build_corpus([TextSource(text)], tokenizer, seq_length=32)
masker, accelerator = Masker.of(tokenizer, corpus.token_counts), Accelerator(cpu=True)
before, _ = device.memory_use(accelerator.device)
teacher = make_teacher(12000, layers=4, hidden_size=256, intermediate_size=512)
student = build_student(teacher)
found, real = [], loop.estimate_run
loop.estimate_run = lambda *a: found.append(real(*a)) or found[-1]
config = PretrainingConfig(tokens=3 * 16 * 32, seq_length=32, batch_size=16, micro_batch_size=16,
                          checkpoint_every=2)
loop.pretrain(student, corpus, masker, accelerator, config, teacher=teacher, out=Path(out))
size = sum(path.stat().st_size for path in Path(out).rglob("*") if path.is_file())
print(json.dumps({"memory": [found[0].memory_bytes - before, device.peak_memory() - before],
                  "disk": [found[0].disk_bytes, size]}))
"""


def test_memory_and_disk_are_within_half_again(text_file, teacher_folder, tmp_path):
    """A student of 4 M parameters, in a process of its own: what it holds at most, and what it leaves on disk."""
    arguments = [sys.executable, "-c", PROGRAM, str(text_file), str(teacher_folder), str(tmp_path / "out")]
    paths = [str(Path(device.__file__).parents[2]), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for what, (estimated, found) in json.loads(done.stdout.splitlines()[-1]).items():
        assert estimated / 1.5 < found < estimated * 1.5, f"{what}: {estimated / 1e6:.0f} MB, was {found / 1e6:.0f} MB"


@pytest.fixture
def costs(monkeypatch) -> None:
    """A clock by which every forward or backward pass, write and optimizer step takes what a test can add up."""
    clock = [0.0]
    monkeypatch.setattr(estimate, "now", lambda _: clock[0])
    forward = Distillation.forward

    def slow(self, *args):
        clock[0] += 3.0
        return forward(self, *args)

    monkeypatch.setattr(Distillation, "forward", slow)
    monkeypatch.setattr(estimate, "_optimizer_seconds", lambda *_: 0.5)
    monkeypatch.setattr(estimate, "write_rate", lambda *_: 1e3)


def test_time_is_that_of_passes_optimizer_evaluations_and_checkpoints(
    packed, masker, accelerator, teacher, tmp_path, costs
):
    """4 updates of two micro-batches: 8 passes of 3 s, 4 steps of 0.5 s, 3 evaluations, 1 + 2 checkpoints."""
    config = PretrainingConfig(
        tokens=4 * 8 * 32,
        seq_length=32,
        batch_size=8,
        micro_batch_size=4,
        evaluate_every=2,
        checkpoint_every=2,
        watts=100,
        kwh_price=0.5,
    )
    run = Run(build_student(teacher), packed, masker, accelerator, config, teacher, tmp_path)
    found = run.cost()
    training, judging = 8 * 3 + 4 * 0.5, 3 * 3.0 * min(256, len(packed.heldout)) / 4
    saving = (3 + training / 600) * 12 * sum(p.numel() for p in run.names) / 1e3
    assert found.seconds == pytest.approx(training + judging + saving)
    assert found.tokens_per_second == pytest.approx(1024 / training)
    assert found.kwh == pytest.approx(100 * found.seconds / 3.6e6)
    assert str(replace(found, seconds=72)).endswith("2 Wh (100 W assumed)")
    assert "2 kWh (100 W assumed), which costs 1 at 0.5 a kWh" in str(replace(found, seconds=72_000))


def test_without_a_folder_nothing_is_saved(packed, masker, accelerator, teacher, costs):
    config = PretrainingConfig(tokens=4 * 8 * 32, seq_length=32, batch_size=8, micro_batch_size=8)
    run = Run(build_student(teacher), packed, masker, accelerator, config, teacher, None)
    found = run.cost()
    assert found.disk_bytes == 0 and found.watts == 65  # what is assumed of a CPU
