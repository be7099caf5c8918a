"""The chain of the whole reproduction: its commands, their order, what happens when one fails, what it would cost."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM

from distilnb import paths, scales
from distilnb.cli import main, parsing
from distilnb.evidence.names import finetuning_run
from distilnb.evidence.records import load_record
from distilnb.models import arithmetic
from distilnb.models.student import build_student, student_config
from distilnb.studies import chain as chain_module
from distilnb.studies.chain import Step
from distilnb.tasks import glue


@pytest.mark.parametrize("scale", scales.SCALES)
def test_every_step_is_a_command_that_understands_its_options(scale):
    """Each is read by the parser of its own command."""
    for step in chain_module.steps(scales.get(scale)):
        name, *flags = step.argv
        assert parsing.read_settings(main.command_function(name), flags, name)


@pytest.mark.parametrize("scale", scales.SCALES)
def test_steps_need_what_comes_before_them_and_use_what_it_makes(scale, tmp_path):
    before, files = set(), {}
    for step in chain_module.steps(scales.get(scale), tmp_path):
        assert set(step.needs) <= before
        for maker, file in files.items():
            if any(str(file.parent) in part for part in step.argv):
                assert maker in step.needs
        before.add(step.name)
        if step.makes and step.makes.name == "record.json":
            files[step.name] = step.makes


@pytest.mark.parametrize("there", [False, True])
def test_a_chain_without_a_shipped_teacher_begins_with_one(there, tmp_path, monkeypatch):
    monkeypatch.setattr(chain_module, "shipped_teacher", lambda scale: tmp_path / scale.name)
    if there:
        (tmp_path / "mini").mkdir()
        (tmp_path / "mini" / "model.safetensors").touch()
    chain = chain_module.steps(replace(scales.get("mini"), teacher=str(tmp_path / "mini")), tmp_path / "runs")
    assert (chain[0].name == "teacher") is not there
    assert all(("teacher" in step.needs) is not there for step in chain if step.name != "teacher")
    used = str(tmp_path / ("mini" if there else "runs/teacher-mini/model"))
    assert any(f"teacher={used}" in step.argv for step in chain)


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Steps are small Python programs here (their `command`); the names in the order in which they were started."""
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path))
    names = []

    def start(step, folder, jobs):
        names.append(step.name)
        with open(folder / f"{step.name}.log", "a") as log:
            return subprocess.Popen([sys.executable, "-u", "-c", step.command], stdout=log, stderr=log)

    monkeypatch.setattr(chain_module, "start_step", start)
    return names


def test_a_failure_stops_only_what_needs_it(started):
    said = []
    chain = [
        Step("a", "print('first'); raise SystemExit('out of luck')"),
        Step("b", "", needs=("a",)),
        Step("c", "", needs=("b",)),
        Step("d", ""),
    ]
    with pytest.raises(RuntimeError, match="failed"):
        chain_module.run_steps(chain, say=said.append)
    assert started == ["a", "d"]
    assert any(line.startswith("a: failed") and line.endswith("out of luck") for line in said)
    assert "c: left out, it needs b" in said


def test_what_is_done_is_not_done_again(started, tmp_path):
    (tmp_path / "there").touch()
    chain = [Step("a", "", makes=tmp_path / "there"), Step("b", "", needs=("a",), makes=tmp_path / "missing")]
    chain_module.run_steps(chain)
    assert started == ["b"]


def test_steps_run_side_by_side_and_measurements_alone(started, tmp_path):
    """Each notes how many others it meets: with two jobs one other, the measurement none, at the very end."""
    meet = (
        f"import os, time; folder = {str(tmp_path / 'here')!r}; os.makedirs(folder, exist_ok=True); me = folder + "
        f"'/' + str(os.getpid()); open(me, 'w').close(); time.sleep(1); print(len(os.listdir(folder))); "
        "time.sleep(0.2); os.remove(me)"
    )
    chain = [Step("alone", meet, alone=True), *(Step(name, meet) for name in "abcd")]
    chain_module.run_steps(chain, jobs=2)
    assert started[-1] == "alone"
    logs = {name: (tmp_path / "runs" / "evidence" / f"{name}.log").read_text().strip() for name in started}
    assert logs["alone"] == "1" and logs["a"] == logs["b"] == "2" and max(logs.values()) == "2"


def test_a_signal_ends_the_running_step_gently(tmp_path):
    """The chain is told to stop while a step runs; the step is told too, and both end."""
    step = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), exit(0))); "
        "print('on', flush=True); time.sleep(60)"
    )
    program = f"""
import subprocess, sys
from distilnb.machine import signals
from distilnb.studies import chain
def start(step, folder, jobs):
    return subprocess.Popen([sys.executable, "-c", {step!r}], stdout=open(folder / "a.log", "w"))
chain.start_step = start
try:
    with signals.heard():
        chain.run_steps([chain.Step("a", "")])
except KeyboardInterrupt as stop:
    sys.exit(stop.status)
"""
    chain = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"DISTILNB_HOME": str(tmp_path)})
    log = tmp_path / "runs" / "evidence" / "a.log"
    for _ in range(600):
        if log.is_file() and "on" in log.read_text():
            break
        time.sleep(0.1)
    chain.send_signal(signal.SIGTERM)
    assert chain.wait(timeout=30) == 143
    assert log.read_text().split() == ["on", "saved"]


def test_an_unknown_step_is_refused(capsys):
    assert main.main(["evidence", "--only", "nothing"]) == 2
    assert "there is no step 'nothing'; use some of student, " in capsys.readouterr().err


def test_a_dry_run_prints_commands_and_hours_and_runs_nothing(started, capsys):
    assert main.main(["evidence", "--scale", "base", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "distilnb distil --scale base --name undistilled-base --ce 0 --cos 0" in out
    assert "| student, triple loss " in out and "A100" in out and "not measured" in out
    assert not started


# operations


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_operations_are_those_that_pytorch_counts(kind):
    """Against its own counter, which leaves out what is no matrix product, as we do."""
    teacher = BertConfig(
        vocab_size=200,
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=64,
        num_hidden_layers=4,
        attn_implementation="eager",
    )
    model = BertForMaskedLM(teacher)
    if kind == "student":
        model = build_student(model)
        model.set_attn_implementation("eager")
    ids = torch.randint(200, (3, 16))
    with FlopCounterMode(display=False) as counter:
        model(ids)
    expected = 48 * (arithmetic.encoder_flops(model.config, 16) + arithmetic.head_flops(model.config))
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-6)


def test_distillation_counts_the_student_thrice_and_the_teacher_once():
    teacher = BertConfig()
    student = student_config(teacher)
    both = arithmetic.distillation_flops(student, teacher, 10, 128)
    alone = arithmetic.distillation_flops(student, None, 10, 128)
    assert both - alone == 10 * (arithmetic.encoder_flops(teacher, 128) + arithmetic.head_flops(teacher))
    assert alone == 30 * (arithmetic.encoder_flops(student, 128) + arithmetic.head_flops(student))
    assert arithmetic.hours(arithmetic.UTILISATION * 65e12 * 7200, "T4") == 2.0


@pytest.mark.parametrize("scale", scales.SCALES)
def test_the_costs_add_up(scale):
    *parts, whole = chain_module.costs(scales.get(scale))
    assert sum(float(row["operations"]) for row in parts) == pytest.approx(float(whole["operations"]), rel=0.2)
    assert [row["part"] for row in parts][0] == (
        "teacher" if scales.get(scale).teacher_stages else "student, triple loss"
    )


def test_a_part_of_the_rows_costs_that_part(monkeypatch):
    """Half the training rows, half the operations."""

    def squad(rows):
        monkeypatch.setitem(chain_module.PLANS, "mini", chain_module.Plan(squad={"train_rows": rows}))
        costs = {row["part"]: float(row["operations"]) for row in chain_module.costs(scales.get("mini"))}
        return costs["SQuAD, with (D)"]

    assert squad(30_000) == pytest.approx(2 * squad(15_000), rel=0.05)


def test_starts_run_fewer_seeds_than_models_that_learned():
    """The commands of Table 1 at mini scale: five seeds, and three for the starts themselves."""
    seeds = {
        step.name: step.settings["seeds"]
        for step in chain_module.steps(scales.get("mini"))
        if step.name.startswith("glue-")
    }
    assert seeds == {
        "glue-teacher": 5,
        "glue-student": 5,
        "glue-undistilled": 5,
        "glue-scratch": 5,
        "glue-untrained": 3,
        "glue-random": 3,
    }


@pytest.mark.parametrize("shipped", [False, True])
def test_small_makes_its_teacher_of_an_encoder_and_scores_both(tmp_path, monkeypatch, shipped):
    """The encoder as published stands beside the teacher made of it or shipped; two students and twins, a seed each."""
    small, folder = scales.get("small"), tmp_path / "shipped"
    folder.mkdir()
    if shipped:
        (folder / "model.safetensors").touch()
    monkeypatch.setattr(chain_module, "shipped_teacher", lambda scale: folder)
    monkeypatch.setattr(chain_module, "shipped_student", lambda scale, role: tmp_path / role)
    chain = {step.name: step for step in chain_module.steps(small, tmp_path)}
    own = str(folder if shipped else tmp_path / "teacher-small" / "model")
    assert (next(iter(chain)) == "teacher") != shipped and own in chain["student"].argv
    assert f"published={small.teacher}@{small.revision}" in chain["glue-published"].argv
    assert f"teacher={own}" in chain["glue-teacher"].argv
    assert f"untrained=untrained:{own}" in chain["glue-untrained"].argv
    seeds = {
        name: step.settings["seed"] for name, step in chain.items() if "_2" in name[-2:] and "seed" in step.settings
    }
    assert set(seeds) == {"student_2", "undistilled_2"} and len(set(seeds.values())) == 1
    assert "suffix" in chain["squad-subset"].settings and "suffix" not in chain["squad"].settings
    assert chain["axes-1"].needs == (("ablation",) if shipped else ("ablation", "teacher"))


def test_a_shipped_student_of_an_encoder_is_scored_and_not_made_anew(tmp_path, monkeypatch):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "model.safetensors").touch()
    monkeypatch.setattr(chain_module, "shipped_student", lambda scale, role: tmp_path / role)
    chain = {step.name: step for step in chain_module.steps(scales.get("small"), tmp_path)}
    assert "student" not in chain and "undistilled" in chain and "student_2" in chain
    assert f"student={tmp_path / 'student'}" in chain["glue-student"].argv
    assert not {"student"} & {need for step in chain.values() for need in step.needs}


def test_the_long_tasks_compare_the_same_models(tmp_path):
    """Else a table's cells of one row would come from different students."""
    chain = [step.name for step in chain_module.steps(scales.get("base"), tmp_path)]
    for label in ("undistilled", "released"):
        assert {f"imdb-{label}", f"squad-{label}"} <= set(chain)
    assert "squad" in chain and not {"squad-teacher", "squad-student"} & set(chain)  # one step, because of (D)


def test_lengths_of_rows_are_there_for_every_task():
    rows = Path(paths.data("task_lengths.csv")).read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {*glue.TASKS, "squad"}


def test_the_ablation_at_small_fine_tunes_at_the_rate_that_trials_on_training_rows_prefer():
    """The mean over tasks and models of the scores on held-out training rows, from the published records."""
    ablation, students = scales.get("small").ablation, ("student", "undistilled", "untrained")
    runs = [
        paths.data("runs") / f"{finetuning_run('small', model, task, 'seed0')}.json"
        for model, task in product(students, ablation["task"].split(","))
    ]
    tried = [load_record(run)["selection"] for run in runs]
    (rates,) = {tuple(one["learning_rates"]) for one in tried}
    means = dict(zip(rates, np.mean([one["scores"] for one in tried], axis=0), strict=True))
    assert ablation["finetuning_rate"] == max(means, key=means.get)
