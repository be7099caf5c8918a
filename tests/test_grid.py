"""A grid of runs: every cell once, later only what is missing, rates chosen on training rows, second teachers."""

import gc
import json
import shutil
from dataclasses import replace

import pytest
import torch
from test_finetuning import QUICK, task_data
from transformers import BertForMaskedLM

from distilnb.distillation import checkpoints
from distilnb.evidence.cells import run_missing
from distilnb.evidence.records import load_record, load_records
from distilnb.machine import device, processes
from distilnb.machine.device import forget_accelerator, make_accelerator
from distilnb.tasks import finetuning, grid, heads, squad
from distilnb.tasks.finetuning import Safety
from distilnb.tasks.glue import TaskData
from distilnb.tasks.grid import finetune_grid
from distilnb.tasks.heads import classifier


@pytest.fixture
def ran(monkeypatch) -> list[str]:
    """The names of the runs that were really made."""
    names = []
    real = finetuning.finetune

    def counted(*arguments, **settings):
        names.append(settings["name"])
        return real(*arguments, **settings)

    monkeypatch.setattr(finetuning, "finetune", counted)
    return names


def make_the_teacher_diverge(monkeypatch) -> None:
    real = finetuning.finetune

    def sometimes(model, *arguments, **more):
        if more["model_name"] == "teacher":
            raise FloatingPointError("the loss is nan at update 3")
        return real(model, *arguments, **more)

    monkeypatch.setattr(finetuning, "finetune", sometimes)


def test_a_grid_runs_every_cell_and_later_only_what_is_missing(teacher, student, tokenizer, accelerator, tmp_path, ran):
    def run_grid(data: list[TaskData], seeds: tuple[int, ...]) -> list[dict]:
        ran.clear()
        models = {"teacher": teacher, "student": student}
        return finetune_grid(
            models,
            data,
            seeds,
            tokenizer,
            accelerator,
            QUICK,
            folder=tmp_path,
            quiet=True,
            provenance={"student": {"model_record": "distil-toy"}},
        )

    tasks = [task_data("sst2"), task_data("stsb")]
    first = run_grid(tasks, (1,))
    assert (
        ran
        == [r["name"] for r in first]
        == [f"finetuning-toy-{m}-{t}-seed1" for t in ("sst2", "stsb") for m in ("teacher", "student")]
    )
    assert {path.stem for path in tmp_path.glob("*.json")} == set(ran)
    assert [r["model_record"] for r in first] == [None, "distil-toy"] * 2

    again = run_grid(tasks, (1,))
    assert ran == [] and [r["scores"] for r in again] == [r["scores"] for r in first]

    (tmp_path / "finetuning-toy-student-sst2-seed1.json").unlink()
    (tmp_path / "finetuning-toy-teacher-stsb-seed1.json").write_text("{")
    third = run_grid(tasks, (1, 2))
    assert sorted(ran) == [
        "finetuning-toy-student-sst2-seed1",
        "finetuning-toy-student-sst2-seed2",
        "finetuning-toy-student-stsb-seed2",
        "finetuning-toy-teacher-sst2-seed2",
        "finetuning-toy-teacher-stsb-seed1",
        "finetuning-toy-teacher-stsb-seed2",
    ]
    assert [r["scores"] for r in third if r["seed"] == 1] == [r["scores"] for r in first]


@pytest.mark.parametrize("epochs, told", [(1, False), (500, True)])
def test_an_estimate_is_made_where_it_costs_little_of_the_work(
    student, tokenizer, accelerator, tmp_path, monkeypatch, capsys, epochs, told
):
    """On micro-batches as asked for, and without checkpoints; the run itself ends before its first update."""
    read, real = [], finetuning.forward
    monkeypatch.setattr(finetuning, "forward", lambda m, batch: read.append(len(batch["labels"])) or real(m, batch))

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "finetune", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune_grid(
            {"student": student},
            [task_data("sst2")],
            (1,),
            tokenizer,
            accelerator,
            replace(QUICK, epochs=epochs),
            folder=tmp_path,
            safety=Safety(micro_batch_size=3, checkpoints=str(tmp_path / "unfinished")),
        )
    assert ("for 1 run that is not recorded yet" in capsys.readouterr().out) == told
    assert set(read) == ({3, 2} if told else set()) and not (tmp_path / "unfinished").exists()


def test_runs_with_micro_batches_are_recognised(student, tokenizer, accelerator, tmp_path, ran):
    """Also where a whole batch is smaller, and the trials for a learning rate; other micro-batches are another run."""
    for size, count in ((3, 3), (3, 0), (99, 3), (99, 0)):
        ran.clear()
        finetune_grid(
            {"student": student},
            [task_data("sst2", train=40, validation=8)],
            (1,),
            tokenizer,
            accelerator,
            QUICK,
            folder=tmp_path,
            learning_rates=(1e-3, 2e-3),
            safety=Safety(micro_batch_size=size),
            quiet=True,
        )
        assert len(ran) == count


def test_a_pair_among_tasks_that_keep_their_tail_is_told_before_any_is_run(student, tokenizer, accelerator, ran):
    """Which is no matter for passages, which are read in windows."""
    config = replace(QUICK, truncation="tail")
    with pytest.raises(ValueError, match="stsb"):
        tasks = [task_data("sst2"), squad.load_data("toyworld", 8, 8), task_data("stsb")]
        finetune_grid({"student": student}, tasks, (1,), tokenizer, accelerator, config, quiet=True)
    assert ran == []


def test_a_record_of_another_run_is_not_taken(student, tokenizer, accelerator, tmp_path, ran, capsys):
    """Other settings, other data or other starting weights under the same name: run again, and a line says why."""

    def run_grid(seed_of_data: int, rate: float) -> tuple[int, str]:
        ran.clear()
        data, config = [task_data("sst2", seed=seed_of_data)], replace(QUICK, learning_rate=rate)
        finetune_grid({"student": student}, data, [1], tokenizer, accelerator, config, folder=tmp_path)
        return len(ran), capsys.readouterr().out

    assert run_grid(0, 2e-3)[0] == 1
    for arguments, why in (
        ((0, 1e-4), "learning_rate was 0.002, is 0.0001"),
        ((5, 1e-4), "data was sst2-0, is sst2-5"),
    ):
        count, said = run_grid(*arguments)
        assert count == 1 and f"finetuning-toy-student-sst2-seed1 is run again: {why}\n" in said
    with torch.no_grad():
        student.distilbert.embeddings.word_embeddings.weight[7, 7] += 1e-3
    count, said = run_grid(5, 1e-4)
    assert count == 1 and "is run again: weights was" in said
    count, said = run_grid(5, 1e-4)
    assert count == 0 and said == f"fine-tuning: 1 of 1 runs are recorded in {tmp_path} already\n"


def test_the_learning_rate_is_chosen_on_carved_rows(student, tokenizer, accelerator, tmp_path, ran, monkeypatch):
    """Too small a rate learns nothing; the best is used for every seed, and no trial sees a validation row."""
    data = task_data("sst2", train=256, validation=16)
    settings = {"learning_rates": (1e-7, 2e-3), "folder": tmp_path, "quiet": True}
    config = replace(QUICK, epochs=3, batch_size=16)
    records = finetune_grid({"student": student}, [data], (1, 2), tokenizer, accelerator, config, **settings)
    assert ran == [
        "finetuning-toy-student-sst2-lr1e-07",
        "finetuning-toy-student-sst2-lr0.002",
        "finetuning-toy-student-sst2-seed1",
        "finetuning-toy-student-sst2-seed2",
    ]
    trials = [load_record(path) for path in sorted((tmp_path / "selection").glob("*.json"))]
    assert [list(t["data"]["rows"]) for t in trials] == [["train", "carved"]] * 2
    assert [t["data"]["rows"]["train"] for t in trials] == [230] * 2
    for record in records:
        assert record["config"]["learning_rate"] == 2e-3 == record["selection"]["chosen"]
        assert record["selection"]["scores"][0] < record["selection"]["scores"][1]
        assert record["data"]["rows"]["train"] == 256
    assert len(load_records(tmp_path)) == 2, "a trial must not be averaged into the results"

    ran.clear()
    shutil.rmtree(tmp_path / "selection")  # the choice also stands in the records
    *_, third = finetune_grid({"student": student}, [data], (1, 2, 3), tokenizer, accelerator, config, **settings)
    assert ran == ["finetuning-toy-student-sst2-seed3"] and third["selection"] == records[0]["selection"]

    ran.clear()
    fewer = {"trial_rows": 64, **settings}
    records = finetune_grid({"student": student}, [data], (1, 2), tokenizer, accelerator, config, **fewer)
    assert load_record(tmp_path / "selection" / f"{ran[0]}.json")["data"]["rows"]["train"] == 64
    assert [r["selection"]["rows"] for r in records] == [64, 64] and records[0]["data"]["rows"]["train"] == 256


def test_a_rate_that_diverges_is_not_chosen(student, tokenizer, accelerator, tmp_path, monkeypatch, capsys):
    """Of three rates the middle one diverges; when all do, or a cell does, the grid says so after the other cells."""
    real, broken = finetuning.finetune, {2e-3}

    def sometimes(model, data, tokenizer, accelerator, config, **more):
        if config.learning_rate in broken:
            raise FloatingPointError("the loss is nan at update 3; use a smaller learning rate")
        return real(model, data, tokenizer, accelerator, config, **more)

    monkeypatch.setattr(finetuning, "finetune", sometimes)
    arguments = ({"student": student}, [task_data("sst2")], [1], tokenizer, accelerator, QUICK)
    record = finetune_grid(*arguments, folder=tmp_path / "a", learning_rates=(1e-3, 2e-3, 1e-7))[0]
    assert record["selection"]["scores"][1] is None and record["config"]["learning_rate"] != 2e-3
    assert "lr0.002: the loss is nan at update 3" in capsys.readouterr().out
    with pytest.raises(FloatingPointError, match="learning"):
        finetune_grid(*arguments, folder=tmp_path / "a", learning_rates=(2e-3,), quiet=True)
    with pytest.raises(FloatingPointError, match="diverged"):
        finetune_grid(*arguments, folder=tmp_path / "b", quiet=True)


def test_a_run_that_diverged_is_not_taken_up_again(student, tokenizer, accelerator, tmp_path, monkeypatch):
    """Its checkpoint is one after the last update: to go on from there would score weights that stopped learning."""
    real, few = finetuning.TaskRun.loss, replace(QUICK, epochs=1)

    def run_grid() -> list[dict]:
        models, settings = {"student": student}, {"folder": tmp_path, "quiet": True}
        return finetune_grid(models, [task_data("sst2")], [1], tokenizer, accelerator, few, **settings)

    monkeypatch.setattr(finetuning.TaskRun, "loss", lambda *some: tuple(x * torch.nan for x in real(*some)))
    with pytest.raises(FloatingPointError, match="diverged"):
        run_grid()
    monkeypatch.setattr(finetuning.TaskRun, "loss", real)
    with pytest.raises(FloatingPointError, match="diverged"):
        run_grid()
    assert not list(tmp_path.glob("*.json"))


def test_equal_rates_are_settled_by_their_order_and_several_trials_by_their_mean():
    def trials(*scores):
        return [score and {"scores": {"main": score}} for score in scores]

    assert grid.select((1, 2, 3), [trials(0.5), trials(0.7), trials(0.7)])["chosen"] == 2
    choice = grid.select((1, 2, 3), [trials(0.5, 0.9), trials(0.75, 0.75), trials(0.99, None)])
    assert choice == {"scores": [0.7, 0.75, None], "chosen": 2}


def test_several_trials_of_a_rate_have_seeds_of_their_own(student, tokenizer, accelerator, tmp_path, ran):
    """Those of a choice by one trial each are taken, the run that followed from that choice is not."""
    data = [task_data("sst2", train=64, validation=16)]
    settings = {"learning_rates": (1e-7, 2e-3), "folder": tmp_path, "quiet": True}
    (first,) = finetune_grid({"student": student}, data, (1,), tokenizer, accelerator, QUICK, **settings)
    more = ["finetuning-toy-student-sst2-lr1e-07-seed1", "finetuning-toy-student-sst2-lr0.002-seed1"]
    for made in ([*more, first["name"]], []):
        ran.clear()
        (record,) = finetune_grid(
            {"student": student}, data, (1,), tokenizer, accelerator, QUICK, **settings, trial_seeds=2
        )
        assert ran == made
    scores = {path.stem: load_record(path)["scores"]["main"] for path in (tmp_path / "selection").glob("*.json")}
    means = [(scores[name.removesuffix("-seed1")] + scores[name]) / 2 for name in more]
    seeds = {path.stem: load_record(path)["seed"] for path in (tmp_path / "selection").glob("*.json")}
    assert seeds == {name: 1 for name in more} | {name.removesuffix("-seed1"): 0 for name in more}
    assert record["selection"]["scores"] == pytest.approx(means) and record["selection"]["seeds"] == 2


def test_a_model_has_one_rate_whatever_seeds_are_asked_for(student, tokenizer, accelerator, tmp_path, ran):
    data = [task_data("sst2", train=64, validation=16)]
    settings = {"learning_rates": (1e-7, 2e-3), "folder": tmp_path, "quiet": True}
    for seeds in ((0,), (3,)):
        finetune_grid({"student": student}, data, seeds, tokenizer, accelerator, QUICK, **settings)
    assert [name.rpartition("-")[2] for name in ran] == ["07", "lr0.002", "seed0", "seed3"]


def test_a_model_that_diverges_at_every_rate_leaves_the_others_their_runs(
    teacher, student, tokenizer, accelerator, tmp_path, monkeypatch
):
    """Also where it was to teach them the task: they are trained, not taught."""
    make_the_teacher_diverge(monkeypatch)
    models, data = {"teacher": teacher, "student": student}, [task_data("sst2", train=64, validation=16)]
    settings = {"learning_rates": (1e-7, 2e-3), "task_teacher": "teacher", "quiet": True}
    with pytest.raises(FloatingPointError, match="teacher on sst2"):
        finetune_grid(models, data, [0], tokenizer, accelerator, QUICK, folder=tmp_path, **settings)
    assert [path.stem for path in tmp_path.glob("*.json")] == ["finetuning-toy-student-sst2-seed0"]


def test_hosts_need_one_folder_of_records(accelerator, tmp_path, monkeypatch):
    """Each looks there for what is done, and one without the records of another would not wait where that does."""
    processes.check_shared_folder(tmp_path, accelerator)
    monkeypatch.setattr(processes, "summed", lambda _, ours: ours + 1)  # on another host, a first one too
    with pytest.raises(ValueError, match="share"):
        processes.check_shared_folder(tmp_path, accelerator)


def test_a_run_searches_only_what_came_with_it_for_garbage(accelerator, tmp_path):
    """During runs all older objects, those of torch and transformers, are left out of collections; not afterwards."""

    class Cell:
        needs = ()

        def __init__(self, name: str, inner: list):
            self.name, self.inner = name, inner

        def run(self) -> dict:
            if self.inner:  # as an ablation holds grids
                run_missing(self.inner, tmp_path, "inner runs", accelerator, quiet=True)
            self.left_out = gc.get_freeze_count()
            return {"scores": {"main": 1.0}}

    gc.unfreeze()  # what conftest has left out already
    before, cell = gc.get_freeze_count(), Cell("outer", [Cell("inner", [])])
    run_missing([cell], tmp_path, "runs", accelerator, quiet=True)
    assert cell.left_out > before + 100_000 and gc.get_freeze_count() == before


def test_memory_is_returned_after_each_run(accelerator, tmp_path, monkeypatch):
    class Cell:
        needs = ()

        def __init__(self, name: str):
            self.name = name

        def run(self) -> dict:
            done.append(self.name)
            return {"scores": {"main": 1.0}}

    done = []
    monkeypatch.setattr(device, "release_memory", lambda: done.append("returned"))
    run_missing([Cell("one"), Cell("other")], tmp_path, "runs", accelerator, quiet=True)
    assert done == ["one", "returned", "other", "returned"]


@pytest.mark.parametrize("models, seeds", [({}, [1]), ({"student": None}, [])])
def test_an_empty_grid_is_refused(models, seeds, tokenizer, accelerator):
    with pytest.raises(ValueError, match="model"):
        finetune_grid(models, [], seeds, tokenizer, accelerator, QUICK)


def test_each_kind_of_head_is_tried_before_any_run(student, tokenizer, accelerator, tmp_path, ran, monkeypatch):
    def lacking(*_):
        raise ValueError("no head for spans")

    monkeypatch.setattr(heads, "question_answerer", lacking)
    data = [task_data("sst2"), squad.load_data(n_train=8, n_validation=4)]
    with pytest.raises(ValueError, match="spans"):
        finetune_grid({"student": student}, data, [0], tokenizer, accelerator, QUICK, folder=tmp_path)
    assert not ran


def test_a_grid_reads_folders(teacher_folder, tokenizer, accelerator, tmp_path):
    record = finetune_grid(
        {"teacher": teacher_folder},
        [task_data("sst2")],
        [1],
        tokenizer,
        accelerator,
        QUICK,
        folder=tmp_path,
        scale="mini",
        quiet=True,
    )[0]
    assert record["name"] == "finetuning-mini-teacher-sst2-seed1" and record["scale"] == "mini"
    source = BertForMaskedLM.from_pretrained(teacher_folder)
    assert record["started_from"] == checkpoints.fingerprint(classifier(source, 2, 1)[0])


def test_a_second_teacher_teaches_with_its_own_seed(teacher, student, tokenizer, accelerator, tmp_path, ran, capsys):
    """student_d comes after the teacher that taught it, names it, and is made anew when that teacher is."""

    def run_grid(temperature: float = 2.0) -> list[dict]:
        ran.clear()
        config = replace(QUICK, temperature=temperature)
        return finetune_grid(
            {"student": student, "teacher": teacher},
            [task_data("sst2")],
            (1, 2),
            tokenizer,
            accelerator,
            config,
            folder=tmp_path,
            task_teacher="teacher",
        )

    records = run_grid()
    assert ran == [
        f"finetuning-toy-{model}-sst2-seed{seed}" for model in ("student", "teacher", "student_d") for seed in (1, 2)
    ]
    for seed, record in ((1, records[4]), (2, records[5])):
        assert record["model"] == "student_d" and record["seed"] == seed
        assert record["teacher_record"] == f"finetuning-toy-teacher-sst2-seed{seed}"
        assert record["taught_by"] == checkpoints.fingerprint(
            classifier(tmp_path / "models" / record["teacher_record"], 2)[0]
        )
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [r["name"] for r in records[2:4]]
    run_grid()
    assert ran == []
    run_grid(temperature=4.0)
    assert ran == ["finetuning-toy-student_d-sst2-seed1", "finetuning-toy-student_d-sst2-seed2"]
    (tmp_path / "models" / "finetuning-toy-teacher-sst2-seed1" / "model.safetensors").unlink()
    capsys.readouterr()
    run_grid(temperature=4.0)
    assert ran == ["finetuning-toy-teacher-sst2-seed1"], "made again to the last bit, its pupil stands"
    assert "teacher-sst2-seed1 is run again: its weights are not in" in capsys.readouterr().out


def test_a_second_teacher_must_be_one_of_the_models(teacher, student, tokenizer, accelerator):
    arguments = ([], [1], tokenizer, accelerator, QUICK)
    with pytest.raises(ValueError, match="teacher"):
        finetune_grid({"student": student}, *arguments, task_teacher="bert")
    with pytest.raises(ValueError, match="teacher"):
        finetune_grid({"teacher": teacher}, *arguments, task_teacher="teacher")


def test_a_pupil_of_a_diverged_teacher_is_not_trained(
    teacher, student, tokenizer, accelerator, tmp_path, monkeypatch, capsys
):
    make_the_teacher_diverge(monkeypatch)
    with pytest.raises(FloatingPointError, match="diverged"):
        finetune_grid(
            {"teacher": teacher, "student": student},
            [task_data("sst2")],
            [1],
            tokenizer,
            accelerator,
            QUICK,
            folder=tmp_path,
            task_teacher="teacher",
        )
    assert "student_d-sst2-seed1: its teacher, finetuning-toy-teacher-sst2-seed1, diverged" in capsys.readouterr().out
    assert [path.stem for path in tmp_path.glob("*.json")] == ["finetuning-toy-student-sst2-seed1"]


def test_kept_models_answer_as_their_record_says(student, tokenizer, accelerator, tmp_path):
    data = task_data("sst2", 64, 16)
    record = finetune_grid(
        {"student": student}, [data], [1], tokenizer, accelerator, QUICK, folder=tmp_path, keep=True, quiet=True
    )[0]
    model = grid.heads.fine_tuned(tmp_path / "models" / record["name"], data.task)
    encoded = finetuning.encode(data, tokenizer, QUICK)
    assert finetuning.evaluate(model, data, encoded, accelerator)["scores"] == record["scores"]
    kept = json.loads((tmp_path / "models" / record["name"] / "tokenizer.json").read_text())
    assert kept["truncation"] is None and kept["padding"] is None, "other readers of the file would cut long texts"


def test_a_record_of_another_precision_is_made_again(student, tokenizer, accelerator, tmp_path, ran, capsys):
    """Runs in float32 and in bf16 are never averaged unseen."""
    data, models = [task_data("sst2", 64, 16)], {"student": student}
    finetune_grid(models, data, [1], tokenizer, accelerator, QUICK, folder=tmp_path, quiet=True)
    forget_accelerator()
    finetune_grid(models, data, [1], tokenizer, make_accelerator("bf16", cpu=True), QUICK, folder=tmp_path)
    assert len(ran) == 2 and "is run again: precision was no, is bf16" in capsys.readouterr().out


def test_a_record_without_its_selection_is_made_again(student, tokenizer, accelerator, tmp_path, ran, capsys):
    """The rate may be the same; but the record must say from which list it was chosen."""
    config, data = replace(QUICK, learning_rate=2e-3), [task_data("sst2", 64, 16)]
    finetune_grid({"student": student}, data, [1], tokenizer, accelerator, config, folder=tmp_path, quiet=True)
    ran.clear()
    (record,) = finetune_grid(
        {"student": student}, data, [1], tokenizer, accelerator, config, folder=tmp_path, learning_rates=(2e-3,)
    )
    assert ran[-1] == "finetuning-toy-student-sst2-seed1" and record["selection"]["chosen"] == 2e-3
    assert "is run again: selection was None" in capsys.readouterr().out
