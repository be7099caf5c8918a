"""The estimate before a run against what the run then takes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from conftest import make_teacher
from cutting import end, start_together
from transformers import AutoTokenizer

from distilnb.distillation import estimate, loop
from distilnb.distillation.loop import Run
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.distillation.step import Distillation
from distilnb.machine import device
from distilnb.models.student import build_student
from distilnb.text.corpus import build_corpus
from distilnb.text.masking import Masker
from distilnb.text.sources import TextSource


def measure(text: Path, folder: Path, out: Path, rank: int, port: int) -> None:
    """The life of a process that writes what it estimates of a run's memory and disk, and what the run took."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    corpus = build_corpus([TextSource(str(text))], tokenizer, seq_length=32)
    masker, accelerator = Masker.of(tokenizer, corpus.token_counts), Accelerator(cpu=True)
    before, _ = device.memory_use(accelerator.device)
    teacher = make_teacher(12000, layers=4, hidden_size=256, intermediate_size=512)
    student = build_student(teacher)
    costs, real = [], loop.estimate_run
    loop.estimate_run = lambda *a, **k: costs.append(real(*a, **k)) or costs[-1]
    shape = {"seq_length": 32, "batch_size": 16, "micro_batch_size": 16, "checkpoint_every": 2}
    config = PretrainingConfig(tokens=3 * 16 * 32, **shape)
    loop.pretrain(student, corpus, masker, accelerator, config, teacher=teacher, out=out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    memory = costs[0].memory_bytes - before, device.peak_memory() - before
    (out / "measured.json").write_text(json.dumps({"memory": memory, "disk": (costs[0].disk_bytes, size)}))


def test_memory_and_disk_are_within_half_again(text_file, teacher_folder, tmp_path):
    """A student of 4 M parameters, in a process of its own: what it holds at most, and what it leaves on disk."""
    assert end(start_together(1, measure, text_file, teacher_folder, tmp_path), 300) == [0]
    for what, (estimated, found) in json.loads((tmp_path / "measured.json").read_text()).items():
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
    monkeypatch.setattr(estimate, "reading_seconds", lambda model, *_: 1.0 * model.config.num_hidden_layers)
    monkeypatch.setattr(estimate, "optimizer_seconds", lambda *_: 0.5)
    monkeypatch.setattr(estimate, "write_rate", lambda *_: 1e3)


def test_time_is_that_of_passes_optimizer_evaluations_and_checkpoints(
    packed, masker, accelerator, teacher, tmp_path, costs
):
    """4 updates of two micro-batches: 8 passes of 3 s, 4 steps of 0.5 s, 3 evaluations by 2 layers after one by the
    teacher's 4, 1 + 2 checkpoints."""
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
    training, judging = 8 * 3 + 4 * 0.5, (3 * 2 + 4) * min(256, len(packed.heldout)) / 4
    saving = (3 + training / 600) * 12 * sum(p.numel() for p in run.names) / 1e3
    assert found.seconds == pytest.approx(training + judging + saving)
    assert found.tokens_per_second == pytest.approx(1024 / training)
    assert found.kwh == pytest.approx(100 * found.seconds / 3.6e6)
    assert str(replace(found, seconds=72)).endswith("2 Wh (100 W assumed)")
    assert "2 kWh (100 W assumed), which costs 1 at 0.5 a kWh" in str(replace(found, seconds=72_000))


def test_memory_is_that_of_the_highest_peak_with_the_optimizers_state_once(
    packed, masker, accelerator, teacher, tmp_path, costs, monkeypatch
):
    """A resumed run holds the state before its first pass; an evaluation may take more than a pass."""
    config = PretrainingConfig(tokens=4 * 8 * 32, seq_length=32, batch_size=8, micro_batch_size=8, evaluate_every=9)
    where = {"teacher": teacher, "out": tmp_path}
    peak, state = [10.0**9], 8 * sum(p.numel() for p in build_student(teacher).parameters())
    monkeypatch.setattr(estimate, "memory_use", lambda _: (0, peak[-1]))

    def cost() -> float:
        return Run(build_student(teacher), packed, masker, accelerator, config, **where).cost().memory_bytes

    assert cost() == 10**9 + state
    loop.pretrain(
        build_student(teacher), packed, masker, accelerator, config, teacher=teacher, out=tmp_path, stop_after=1
    )
    assert cost() == 10**9
    monkeypatch.setattr(estimate, "reading_seconds", lambda *_: peak.append(2 * 10**9) or 1.0)
    assert cost() == 2 * 10**9


def test_without_a_folder_nothing_is_saved(packed, masker, accelerator, teacher, costs):
    config = PretrainingConfig(tokens=4 * 8 * 32, seq_length=32, batch_size=8, micro_batch_size=8)
    run = Run(build_student(teacher), packed, masker, accelerator, config, teacher, None)
    found = run.cost()
    assert found.disk_bytes == 0 and found.watts == 65  # what is assumed of a CPU
