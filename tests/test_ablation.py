"""The ablation: one thing changes at a time, seeds are pairs, cells are taken up, unlike records are not compared."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_teacher, weights_of
from cutting import Job, run
from scipy import stats
from test_finetuning import QUICK, task_data
from test_own import questions, write
from transformers import GPT2Config, GPT2LMHeadModel, ModernBertConfig, ModernBertForMaskedLM

from distilnb.cli import main
from distilnb.cli.options import AblationOptions
from distilnb.distillation.loop import Run
from distilnb.distillation.recipe import PretrainingConfig
from distilnb.evidence import paper, statistics
from distilnb.evidence.records import KEYS, load_record
from distilnb.report import tables
from distilnb.studies import ablation
from distilnb.studies.ablation import VARIANTS, Ablation, Variant, along, compare, run_grid

TRIPLE = PretrainingConfig(
    tokens=600, seq_length=32, batch_size=4, micro_batch_size=4, learning_rate=1e-3, evaluate_every=9
)
PATIENCE = "distilnb.machine.processes.PATIENCE"


@pytest.fixture
def grid(tmp_path, teacher, tokenizer, packed, accelerator) -> Ablation:
    """Two small tasks, five updates a cell."""
    return Ablation(
        teacher,
        tokenizer,
        packed,
        [task_data("sst2"), task_data("stsb")],
        accelerator,
        TRIPLE,
        QUICK,
        records=tmp_path / "records",
        work=tmp_path / "work",
        name="trial",
    )


def some(*names: str) -> list[Variant]:
    """These variants."""
    return [VARIANTS[name] for name in names]


def never(*_, **__):
    raise AssertionError("this must not be run")


# which cells


def test_each_variant_changes_what_its_name_says_and_nothing_else(grid):
    cells = {cell.variant.name: cell for cell in grid.cells(VARIANTS.values(), [7])}
    weights = {name: (c.config.ce, c.config.mlm, c.config.cos) for name, c in cells.items()}
    assert weights == {
        "triple": (5, 2, 1),
        "no_ce": (0, 2, 1),
        "no_cos": (5, 2, 0),
        "no_mlm": (5, 0, 1),
        "random_init": (5, 2, 1),
        "mlm_only": (0, 2, 0),
        "mlm_random": (0, 2, 0),
        "untrained": (5, 2, 1),
    }
    assert {name for name, c in cells.items() if c.variant.init == "random"} == {"random_init", "mlm_random"}
    assert {name for name, c in cells.items() if not c.variant.trained} == {"untrained"}
    for cell in cells.values():
        assert replace(cell.config, ce=5.0, mlm=2.0, cos=1.0) == replace(TRIPLE, seed=7)


def test_the_rows_of_table_4_are_all_there():
    assert set(paper.table("table4_ablation")["variant"]) < set(VARIANTS)


def test_the_reference_is_always_among_them_and_whole_pairs_come_early(grid):
    names = [(c.variant.name, c.seed) for c in grid.cells(some("no_cos"), range(2))]
    assert names == [("triple", 0), ("no_cos", 0), ("triple", 1), ("no_cos", 1)]


def test_an_axis_leaves_out_the_triple_loss_itself(grid):
    """The reference has temperature 2, weights 5, 2, 1, smoothing 0.7 and, of 4 layers, 0 and 3."""
    layers = along("layers", ["original", "first", (0, 3), (0, 1, 2)])
    asked = [
        *along("temperature", [1.0, 2.0, 4.0]),
        *along("weights", [(5, 2, 1), (1, 1, 1)]),
        *along("positions", ["all", "masked"]),
        *along("smoothing", [0.0, 0.7]),
        *layers,
    ]
    cells = {cell.variant.name: cell for cell in grid.cells(asked, [0])}
    assert list(cells) == [
        "triple",
        "temperature_1",
        "temperature_4",
        "weights_1-1-1",
        "positions_masked",
        "smoothing_0",
        "layers_first",
        "layers_0-1-2",
    ]
    assert cells["temperature_4"].config.temperature == 4 and cells["positions_masked"].config.positions == "masked"
    assert cells["weights_1-1-1"].config.weights.mlm == 1 and cells["smoothing_0"].config.smoothing == 0
    assert AblationOptions(smoothing=[0.0]).chosen()[1:] == along("smoothing", [0.0])
    assert ablation.starting_student(grid, cells["layers_0-1-2"]).config.n_layers == 3


def test_width_is_an_axis_whose_students_start_narrower(grid):
    cells = {cell.variant.name: cell for cell in grid.cells(along("width", [16, 32]), [0])}
    assert list(cells) == ["triple", "width_16"], "32 is the teacher's own"
    assert ablation.starting_student(grid, cells["width_16"]).config.dim == 16
    (triple, narrow) = run_grid(grid, along("width", [16]), [0], quiet=True)
    assert narrow["config"]["changes"] == {"width": 16} and narrow["teacher"] == triple["teacher"]
    rows, _ = compare([triple, narrow])
    assert [row["title"] for row in rows] == ["triple loss", "triple loss, width 16"] and rows[1]["seeds"] == [0]
    with pytest.raises(ValueError, match="width"):
        grid.cells(along("width", [64]), [0])


def test_heads_are_an_axis_at_their_own_width_or_at_a_given_one(grid):
    asked = along("heads", [4, 2, (2, 16), (4, 16)])
    cells = {cell.variant.name: cell for cell in grid.cells(asked, [0])}
    assert list(cells) == ["triple", "heads_2", "heads_2-at-width-16", "heads_4-at-width-16"], "4 are the teacher's own"
    shapes = [(s.dim, s.n_heads) for s in (ablation.starting_student(grid, cell).config for cell in cells.values())]
    assert shapes == [(32, 4), (16, 2), (16, 2), (16, 4)]
    assert cells["heads_4-at-width-16"].variant.changes() == {"width": 16, "heads": 4}
    assert cells["heads_4-at-width-16"].variant.title == "triple loss, heads 4 at width 16"
    chosen = AblationOptions(width=[8, 16], heads=[1, 2]).chosen()[1:]
    assert [(v.width, v.heads) for v in chosen] == [(8, 1), (8, 2), (16, 1), (16, 2)]
    with pytest.raises(ValueError, match="heads"):
        grid.cells(along("heads", [(3, 16)]), [0])


def test_layers_that_a_family_excludes_are_refused_before_any_cell_runs(grid):
    shape = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24}
    config = ModernBertConfig(**shape, vocab_size=60, pad_token_id=0, bos_token_id=2, eos_token_id=3)
    with pytest.raises(ValueError, match="layer 0"):
        replace(grid, teacher=ModernBertForMaskedLM(config)).cells(along("layers", ["last"]), [0])


def test_an_ablation_of_a_causal_teacher_speaks_of_next_words(grid):
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": len(grid.tokenizer)}
    causal = replace(grid, teacher=GPT2LMHeadModel(GPT2Config(**shape, pad_token_id=0)).eval())
    records = run_grid(causal, some("no_mlm", "mlm_only"), [0], quiet=True)
    assert [record["title"] for record in records][1:] == ["without next words (L_clm)", "next words alone, same start"]
    assert all({"clm_loss", "clm_accuracy"} < record["scores"].keys() for record in records)
    rows, _ = compare(records, "clm_loss")
    assert [row["values"][0] for row in rows] == [record["scores"]["clm_loss"] for record in records]
    assert tables.ablation_rows(records)
    with pytest.raises(ValueError, match="without hidden words"):
        causal.cells(along("smoothing", [0.0]), [0])


@pytest.mark.parametrize(
    "variants, seeds, words",
    [
        ([], [], "seed"),
        ([Variant("nothing", "no loss at all", {"ce": 0.0, "mlm": 0.0, "cos": 0.0})], [0], "weights"),
        (along("layers", [(0, 9)]), [0], "layers"),
        (along("layers", ["best"]), [0], "choice"),
        (along("temperature", [0.0]), [0], "above 0"),
        ([Variant("a", "a", {"ce": 1.0}), Variant("a", "a", {"ce": 2.0})], [0], "variants"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(grid, variants, seeds, words, monkeypatch):
    monkeypatch.setattr(ablation, "run_cell", never)
    with pytest.raises(ValueError, match=words):
        run_grid(grid, variants, seeds, quiet=True)


def test_an_unknown_axis_is_named():
    with pytest.raises(ValueError, match="temperature"):
        along("colour", ["red"])


# running


def test_a_grid_leaves_one_record_for_each_cell(grid, teacher, capsys):
    before = weights_of(teacher)
    records = run_grid(grid, some("no_mlm", "random_init", "untrained"), range(2))
    told = capsys.readouterr().out
    assert "4 variants × 2 seeds = 8 cells" in told and "estimate: about" in told and "trial 8/8" in told
    assert sorted(path.stem for path in grid.records.iterdir()) == sorted(record["name"] for record in records)
    assert not list(grid.work.iterdir()), "checkpoints of finished cells are gone"
    for record in records:
        scores = record["scores"]
        assert record["kind"] == "ablation" and record["grid"] == "trial" and record["tasks"] == ["sst2", "stsb"]
        assert scores["macro"] == pytest.approx((scores["sst2"] + scores["stsb"]) / 2)
        assert scores["mlm_loss"] > 0 and 0 <= scores["agreement"] <= 1
        assert (record["tokens"], record["steps"]) == ((0, 0) if record["model"] == "untrained" else (640, 5))
        assert set(KEYS) <= set(record)
        assert (grid.records / f"{record['name']}.json").stat().st_size < 30_000
    by_name = {record["name"]: record for record in records}
    assert set(by_name["trial-no_mlm-seed0"]["curve"]["mlm"]) == {0.0}, "L_mlm is off, which the original cannot do"
    assert by_name["trial-triple-seed0"]["curve"]["ce"] != by_name["trial-triple-seed1"]["curve"]["ce"]
    after = weights_of(teacher)
    assert all((before[name] == after[name]).all() for name in before), "one teacher for all"


def test_variants_of_one_seed_are_a_pair(grid):
    """The untrained start is the triple loss's own: their first evaluations agree, and so do order and heads."""
    triple, untrained = run_grid(grid, some("untrained"), [3], quiet=True)
    assert triple["evaluations"]["mlm_loss"][0] == untrained["scores"]["mlm_loss"]
    assert triple["config"]["finetuning"] == untrained["config"]["finetuning"]
    assert triple["config"]["changes"] == {} and untrained["config"]["changes"] == {"trained": False}


def test_a_finished_cell_is_not_run_again_and_a_missing_one_is(grid, monkeypatch, capsys):
    first = run_grid(grid, some("no_cos"), [0], quiet=True)
    (grid.records / "trial-no_cos-seed0.json").unlink()
    again = run_grid(grid, some("no_cos"), [0])
    assert "1 recorded already" in capsys.readouterr().out
    assert [r["scores"] for r in again] == [r["scores"] for r in first], "the same cell gives the same scores"
    monkeypatch.setattr(ablation, "run_cell", never)
    assert [r["name"] for r in run_grid(grid, some("no_cos"), [0])] == [r["name"] for r in first]


@pytest.mark.parametrize("damage", [lambda text: text[:200], lambda text: text.replace('"macro": ', '"macro": 1')])
def test_a_damaged_record_is_named_and_run_again(grid, damage, capsys):
    (first,) = run_grid(grid, [], [0], quiet=True)
    path = grid.records / "trial-triple-seed0.json"
    path.write_text(damage(path.read_text()))
    (again,) = run_grid(grid, [], [0])
    assert "trial-triple-seed0 is run again: record" in capsys.readouterr().out
    assert again["scores"] == first["scores"] and load_record(path)["scores"] == first["scores"]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda g: replace(g, pretraining=replace(TRIPLE, temperature=3.0)), "config.pretraining.temperature 2.0 ag"),
        (lambda g: replace(g, finetuning=replace(QUICK, epochs=2)), "config.finetuning.epochs 1 against 2"),
        (lambda g: replace(g, teacher=make_teacher(g.teacher.config.vocab_size, seed=1)), "teacher "),
        (lambda g: replace(g, data=[task_data("sst2", seed=1), task_data("stsb")]), "data.tasks.sst2.fingerprint"),
    ],
)
def test_a_record_of_other_settings_is_kept_and_named(grid, change, words, monkeypatch):
    run_grid(grid, [], [0], quiet=True)
    before = (grid.records / "trial-triple-seed0.json").read_bytes()
    monkeypatch.setattr(ablation, "run_cell", never)
    with pytest.raises(ValueError, match=f"trial-triple-seed0.json.*{words}"):
        run_grid(change(grid), some("no_ce"), [0], quiet=True)
    assert (grid.records / "trial-triple-seed0.json").read_bytes() == before


def test_an_interrupted_cell_goes_on_where_it_stopped(grid, monkeypatch):
    """Cut between distillation and fine-tuning: the second sitting makes no update of the first again."""
    updates, real = [], Run.update
    monkeypatch.setattr(Run, "update", lambda run, batches: updates.append(run.step) or real(run, batches))
    with monkeypatch.context() as cut:
        cut.setattr(ablation, "finetune_grid", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_grid(grid, [], [0], quiet=True)
    assert updates == [0, 1, 2, 3, 4] and not list(grid.records.glob("*"))
    (taken_up,) = run_grid(grid, [], [0], quiet=True)
    assert updates == [0, 1, 2, 3, 4]
    (whole,) = run_grid(replace(grid, records=grid.records / "other", work=grid.work / "other"), [], [0], quiet=True)
    assert len(updates) == 10 and taken_up["scores"] == whole["scores"]


def test_a_cell_that_diverges_is_named_and_the_others_are_kept(grid, monkeypatch):
    real = ablation.run_cell

    def breaking(grid, cell, quiet):
        if cell.variant.name == "no_ce":
            raise FloatingPointError("the loss is nan")
        return real(grid, cell, quiet)

    monkeypatch.setattr(ablation, "run_cell", breaking)
    with pytest.raises(FloatingPointError, match="cells"):
        run_grid(grid, some("no_ce", "untrained"), [0], quiet=True)
    assert {path.stem for path in grid.records.iterdir()} == {"trial-triple-seed0", "trial-untrained-seed0"}


def test_memory_that_runs_out_in_the_estimate_does_not_end_an_ablation(grid, monkeypatch, capsys):
    def lacking(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(ablation, "estimate_passes", lacking)
    run_grid(grid, [], [0])
    told = capsys.readouterr().out
    assert "no estimate: 4 sequences at once do not fit" in told and "trial 1/1" in told


# comparing records


def cell(variant: str, seed: int, macro: float, **more) -> dict:
    """A record with what a comparison reads."""
    config = {"pretraining": {"tokens": 600}, "changes": {}, "finetuning": {"epochs": 1}}
    return {
        "kind": "ablation",
        "name": f"trial-{variant}-seed{seed}",
        "grid": "trial",
        "scale": "toy",
        "model": variant,
        "title": variant,
        "task": None,
        "seed": seed,
        "scores": {"macro": macro, "sst2": macro, "mlm_loss": 2.0},
        "tasks": ["sst2"],
        "config": config,
        "data": {"id": "toyworld"},
        "teacher": "abc",
        "precision": "no",
        "commit": "1" * 40,
        "device": {"processor": "p", "gpu": None},
        "versions": {"torch": "2", "transformers": "5"},
    } | more


PAIRS = [cell("triple", s, m) for s, m in enumerate((0.70, 0.60, 0.65))] + [
    cell("no_mlm", s, m) for s, m in enumerate((0.69, 0.58, 0.645))
]


def test_differences_are_taken_within_pairs():
    rows, notes = compare(PAIRS[::-1])
    assert [row["variant"] for row in rows] == ["triple", "no_mlm"] and notes == []
    row = rows[1]
    theirs = stats.ttest_rel((69, 58, 64.5), (70, 60, 65))
    assert row["deltas"] == pytest.approx([-1, -2, -0.5]) and row["seeds"] == [0, 1, 2]
    assert (row["mean"], row["p"], row["paper"]) == pytest.approx((-3.5 / 3, theirs.pvalue, -0.31))
    assert row["low"] < row["mean"] < row["high"] and rows[0]["mean"] is None


def test_other_scores_are_compared_in_their_own_unit():
    rows, _ = compare([r | {"scores": r["scores"] | {"mlm_loss": 1 + r["scores"]["macro"]}} for r in PAIRS], "mlm_loss")
    assert rows[1]["deltas"] == pytest.approx([-0.01, -0.02, -0.005]) and rows[1]["paper"] is None


def test_significance_is_said_of_each_row_of_table_4():
    """−1, −2, −0.5 spread by 0.76: the interval reaches 1.9, far beyond Table 4's 0.31."""
    (said,) = ablation.significance(compare(PAIRS))
    assert "3 pairs average −1.17 points and spread by 0.76" in said and "reaches 1.90 to either side" in said
    assert "cannot be told from the triple loss" in said
    assert "-0.31 lies inside the interval" in said
    assert f"{statistics.pairs_needed(np.std([-1, -2, -0.5], ddof=1), 0.31)} pairs in 80 %" in said
    sure = [cell("triple", s, 0.7) for s in range(3)] + [cell("no_ce", s, 0.6 + s / 10000) for s in range(3)]
    (said,) = ablation.significance(compare(sure))
    assert "differ from the triple loss" in said and "lies outside the interval" in said and "in 100% of rep" in said
    assert ablation.significance(compare(PAIRS[::3])) == [], "one pair says nothing of noise"


def test_a_missing_seed_is_named_and_its_pair_left_out():
    rows, notes = compare([record for record in PAIRS if record["name"] != "trial-triple-seed1"])
    assert rows[1]["seeds"] == [0, 2] and rows[1]["deltas"] == pytest.approx([-1, -0.5])
    assert notes == ["triple has no record of seed 1"]


def test_other_code_and_other_machines_are_named():
    rest = [
        cell("no_cos", s, 0.5, commit="2" * 40 + "+changes", versions={"torch": "3", "transformers": "5"})
        for s in range(3)
    ]
    notes = compare(PAIRS + rest).notes
    assert notes == [
        "the records come from 2 commits of the code: 1111111111 (6), 2222222222 with changes (3)",
        "the records come from 2 versions of torch: 2 (6), 3 (3)",
    ]


@pytest.mark.parametrize(
    "odd, words",
    [
        (cell("no_ce", 0, 0.5, scale="mini"), "scales"),
        (cell("no_ce", 0, 0.5, tasks=["rte"]), "tasks"),
        (cell("no_ce", 0, 0.5, config={"pretraining": {"tokens": 999}}), "pretraining.tokens"),
        (cell("no_ce", 0, 0.5, teacher="other"), "teacher"),
        (cell("no_mlm", 1, 0.9, name="copy"), "twice"),
    ],
)
def test_records_that_must_not_be_compared_are_refused_by_name(odd, words):
    with pytest.raises(ValueError, match=words):
        compare([*PAIRS, odd])


def test_without_the_reference_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="record"):
        compare(PAIRS[3:])


# the command


def words(teacher_folder: Path, text_file: Path, tmp_path: Path, *flags: str) -> list[str]:
    """Flags of a small `distilnb ablate` on the small teacher."""
    small = ["--tokens", "300", "--rows", "16", "--validation_rows", "8", "--epochs", "1", "--cpu"]
    small += [] if "--task" in flags else ["--task", "sst2"]
    places = f"--teacher {teacher_folder} --text {text_file} --records {tmp_path / 'records'}"
    return ["--scale", "toy", *places.split(), *small, *flags]


def ablate(teacher_folder: Path, text_file: Path, tmp_path: Path, *flags: str) -> int:
    """Run it; the exit status."""
    return main.main(["ablate", "--out", str(tmp_path / "work"), *words(teacher_folder, text_file, tmp_path, *flags)])


def test_two_processes_estimate_and_run_the_cells_together(teacher_folder, text_file, tmp_path):
    """What is measured for the estimate waits for the other process, which must measure too."""
    given = words(teacher_folder, text_file, tmp_path, "--seeds", "1", "--variants", "untrained", "--precision", "no")
    job = Job(tmp_path / "work", tuple(given), 2, patches={PATIENCE: 15.0}, command="ablate")
    assert run(job) == [0, 0], job.said(1)
    assert "estimate: about" in job.said(0) and "estimate" not in job.said(1)
    assert len(list((tmp_path / "records").glob("*.json"))) == 2


def test_the_command_runs_a_grid_and_prints_its_table(teacher_folder, text_file, tmp_path, capsys):
    assert ablate(teacher_folder, text_file, tmp_path, "--seeds", "1", "--variants", "no_mlm", "--name", "try") == 0
    assert {p.stem for p in (tmp_path / "records").iterdir()} == {"try-triple-seed0", "try-no_mlm-seed0"}
    told = capsys.readouterr().out
    assert "without masked words (L_mlm)" in told and "−0.31" in told
    record = json.loads((tmp_path / "records" / "try-no_mlm-seed0.json").read_text())
    assert record["made_from"]["teacher"] == teacher_folder.name and record["scale"] == "toy"
    assert "matmul_precision" in record["machine"]
    assert ablate(teacher_folder, text_file, tmp_path, "--seeds", "1", "--temperature", "1", "--name", "try") == 0
    told = capsys.readouterr().out
    assert "1 recorded already" in told and "temperature 1" in told


def test_own_tasks_make_up_the_macro_score(teacher_folder, text_file, tmp_path, capsys):
    marks = write(tmp_path / "marks.csv", [{"text": f"w {i}", "a": i % 2, "b": i // 2 % 2} for i in range(40)])
    tasks = f"{marks},{write(tmp_path / 'q.jsonl', questions())}"
    flags = ("--seeds", "1", "--variants", "untrained", "--name", "own", "--task", tasks)
    assert ablate(teacher_folder, text_file, tmp_path, *flags) == 0
    assert "marks: labels: a, b, each 0 or 1" in capsys.readouterr().out
    for variant in ("triple", "untrained"):
        record = json.loads((tmp_path / "records" / f"own-{variant}-seed0.json").read_text())
        assert record["tasks"] == ["marks", "q"] and "NoAns_f1" in record["finetuning"]["q"]
        assert record["scores"]["macro"] == pytest.approx((record["scores"]["marks"] + record["scores"]["q"]) / 2)
    (tmp_path / "moved").mkdir()
    moved = ",".join(str(shutil.copy(task, tmp_path / "moved")) for task in tasks.split(","))
    assert ablate(teacher_folder, text_file, tmp_path, *flags[:-1], moved) == 0, "the same rows at another place"


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--variants", "no_loss"), "unknown variant 'no_loss'; use some of triple, no_ce"),
        (("--seeds", "0"), "at least one task and one seed"),
        (("--weights", "1,2"), "no three numbers"),
        (("--weights", "0,0,0"), "all three loss weights are zero"),
        (("--layers", "0;1"), "no indices"),
        (("--temperature", "-1"), "above 0"),
        (("--ce_positions", "some"), "'all' or 'masked'"),
        (("--task", "sst3"), "unknown task 'sst3'"),
        (("--epochs", "0"), "epochs is 0"),
    ],
)
def test_bad_input_gets_one_sentence(teacher_folder, text_file, tmp_path, capsys, flags, words):
    assert ablate(teacher_folder, text_file, tmp_path, *flags) == 2
    told = capsys.readouterr().err.strip()
    assert words in told and "\n" not in told and not (tmp_path / "records").exists()
