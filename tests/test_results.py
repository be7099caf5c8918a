"""Records: complete, small, and refused when they are not what their run wrote."""

import json
import subprocess
import time
from contextlib import nullcontext

import pytest

from distilnb import paths
from distilnb.evidence.comparing import check_budgets, join_records
from distilnb.evidence.records import (
    CURVE_POINTS,
    KEYS,
    KINDS,
    Stopwatch,
    commit,
    load_record,
    load_records,
    new_record,
    save_record,
    thin,
)


def a_record(name: str = "run", **values) -> dict:
    """A distillation record with a score; `values` replace or add."""
    more = {"seed": 1, "scores": {"accuracy": 0.5}, "config": {"rate": 5e-4, "layers": (0, 2)}} | values
    return new_record("distillation", name, scale="toy", model="student", stopwatch=Stopwatch(), **more)


def test_new_record_has_every_key_and_its_provenance():
    record = a_record(task="sst2")
    assert list(record) == list(KEYS)
    assert (record["kind"], record["name"], record["scale"], record["model"]) == (
        "distillation",
        "run",
        "toy",
        "student",
    )
    assert (record["task"], record["seed"], record["model_record"], record["energy_wh"]) == ("sst2", 1, None, None)
    assert record["device"]["cores"] >= 1 and record["device"]["memory_gib"] > 0 and record["device"]["processor"]
    assert record["versions"]["torch"].split(".")[0].isdigit() and record["versions"]["python"].startswith("3.")
    assert record["wall_seconds"] >= 0 and record["started"].endswith("+00:00")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_the_design(kind):
    record = new_record(kind, "n", scale="toy", model="m", stopwatch=Stopwatch())
    assert record["kind"] == kind


def test_unknown_kind():
    with pytest.raises(ValueError, match="distillation"):
        new_record("trial", "n", scale="toy", model="m", stopwatch=Stopwatch())


def test_stopwatch_measures_waiting_and_working():
    watch = Stopwatch()
    time.sleep(0.1)
    read = watch.read()
    assert 0.1 <= read["wall_seconds"] < 5 and read["cpu_seconds"] < 0.09
    begin = time.process_time()
    while time.process_time() < begin + 0.1:
        pass
    assert watch.read()["cpu_seconds"] >= 0.1


def test_commit_is_that_of_the_clone_or_none(tmp_path, monkeypatch):
    """A repository made here: clean, changed, and no repository at all."""

    def git(*args: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *args], check=True, capture_output=True, text=True
        ).stdout

    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() is None
    git("init", "-q")
    (package / "a.py").write_text("1")
    git("add", "."), git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD").strip()
    assert len(head) == 40 and commit() == head
    (package / "a.py").write_text("2")
    assert commit() == f"{head}+changes"


# save and load


def test_what_was_saved_comes_back(tmp_path):
    record = a_record(curve={"step": [1, 2], "loss": [3.0, 2.5]})
    path = save_record(record, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "run.json" and [p.name for p in path.parent.iterdir()] == ["run.json"]
    loaded = load_record(path)
    assert len(loaded["sha256"]) == 64
    assert loaded | {"sha256": None} == json.loads(json.dumps(record))


def test_saving_goes_to_runs_of_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path))
    assert save_record(a_record()) == tmp_path / "runs" / "run.json"


def test_names_with_dots_keep_them(tmp_path):
    assert save_record(a_record("toy-lr0.05"), tmp_path).name == "toy-lr0.05.json"


def test_a_loaded_record_can_be_saved_again(tmp_path):
    first = load_record(save_record(a_record(), tmp_path))
    assert load_record(save_record(first, tmp_path)) == first


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"accuracy": 0.5', '"accuracy": 0.9'),
        lambda text: text.replace('"seed": 1', '"seed": 2'),
        lambda text: text.replace('"task": null', '"task": null, "extra": 1'),
    ],
    ids=["score", "seed", "key"],
)
def test_an_edited_record_is_refused(tmp_path, edit):
    path = save_record(a_record(), tmp_path)
    path.write_text(edit(path.read_text()))
    with pytest.raises(ValueError, match="changed"):
        load_record(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"kind": "disti', b"null", b"[]", b"{}", b"\xff\xfe\x00", b'{"format": 1, "x": NaN}']
)
def test_a_damaged_record_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="broken.json"):
        load_record(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_truncated_record_is_refused_by_name(tmp_path, share):
    path = save_record(a_record(), tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="read"):
        load_record(path)


def test_a_missing_record_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="read"):
        load_record(tmp_path / "absent.json")


def test_a_record_of_another_format_is_refused(tmp_path):
    path = save_record(a_record() | {"format": 99}, tmp_path)
    with pytest.raises(ValueError, match="another"):
        load_record(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_never_written(tmp_path, value):
    old = save_record(a_record(), tmp_path).read_bytes()
    with pytest.raises(ValueError, match="written"):
        save_record(a_record(scores={"accuracy": value}), tmp_path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [old]


def test_numbers_as_keys_survive(tmp_path):
    """JSON has text keys only, and sorts 10 before 9."""
    record = a_record(scores={9: 0.1, 10: 0.2})
    assert load_record(save_record(record, tmp_path))["scores"] == {"9": 0.1, "10": 0.2}


# curves


@pytest.mark.parametrize("rows", [1, 2, 119, 120, 121, 1000, 12_345])
def test_thinning_keeps_the_first_and_the_last_row(rows):
    curve = {"step": list(range(1, rows + 1)), "loss": [float(rows - i) for i in range(rows)]}
    thinned = thin(curve)
    assert len(thinned["step"]) == len(thinned["loss"]) <= CURVE_POINTS + 1
    assert (thinned["step"][0], thinned["step"][-1]) == (1, rows)
    assert [rows + 1 - step for step in thinned["step"]] == thinned["loss"]
    if rows <= CURVE_POINTS:
        assert thinned == curve


def test_thinning_rounds_to_five_digits_and_leaves_the_rest():
    curve = {"loss": [1.23456789, 123456.789], "step": [1, 1234567], "cos": [None, 0.1]}
    assert thin(curve) == {"loss": [1.2346, 123460.0], "step": [1, 1234567], "cos": [None, 0.1]}
    assert thin({}) == {} and thin({"loss": []}) == {"loss": []}


def test_a_long_curve_makes_a_small_record(tmp_path):
    columns = ("step", "tokens", "loss", "ce", "mlm", "cos", "norm", "tokens_per_second")
    record = a_record(curve={name: [i * 1.23456789 for i in range(50_000)] for name in columns})
    assert save_record(record, tmp_path).stat().st_size < 30_000


# all of them


def test_load_all_prefers_your_own_and_filters(tmp_path):
    published, own = tmp_path / "published", tmp_path / "own"
    save_record(a_record("b", scores={"accuracy": 0.1}), published)
    save_record(a_record("a", scores={"accuracy": 0.2}, task="rte"), published)
    save_record(a_record("b", scores={"accuracy": 0.3}), own)
    found = load_records(published, own)
    assert [(r["name"], r["scores"]["accuracy"]) for r in found] == [("a", 0.2), ("b", 0.3)]
    assert [r["name"] for r in load_records(published, own, task="rte")] == ["a"]
    assert [r["name"] for r in load_records(published, own, kind="distillation", task=None)] == ["b"]
    assert load_records(published, own, kind="teacher") == []
    assert load_records(tmp_path / "absent") == []


def test_load_all_looks_at_published_records_and_your_own(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "data", lambda *parts: tmp_path.joinpath("data", *parts))
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path / "home"))
    save_record(a_record("published"), tmp_path / "data" / "runs")
    save_record(a_record("own"))
    assert [r["name"] for r in load_records()] == ["own", "published"]


def test_load_all_stops_at_a_damaged_record(tmp_path):
    save_record(a_record("good"), tmp_path)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="read"):
        load_records(tmp_path)


def test_published_records_are_whole():
    """All that the repository ships can be read; small ones, by their names."""
    for path in sorted(paths.data("runs").glob("*.json")):
        record = load_record(path)
        assert record["name"] == path.stem and set(KEYS) <= set(record)
        assert path.stat().st_size < 60_000, path  # a benchmark of six tasks


def test_stages_are_joined_into_one_run():
    """A teacher is grown in stages: steps and tokens go on counting, times add up."""

    def stage(name: str, loss: list[float], wall: float) -> dict:
        curve = {"step": [1, 2], "tokens": [10, 20], "loss": loss}
        evaluations = {"step": [0, 2], "tokens": [0, 20], "mlm_loss": [5.0, loss[-1]]}
        return a_record(name, curve=curve, evaluations=evaluations, tokens=20, steps=2) | {
            "wall_seconds": wall,
            "cpu_seconds": 2 * wall,
            "scores": {"mlm_loss": loss[-1]},
        }

    joined = join_records([stage("one", [4.0, 3.0], 1.5) | {"skipped": 2}, stage("two", [2.0, 1.0], 0.5)], "whole")
    assert joined["skipped"] == 2
    assert joined["curve"] == {"step": [1, 2, 3, 4], "tokens": [10, 20, 30, 40], "loss": [4.0, 3.0, 2.0, 1.0]}
    assert joined["evaluations"]["tokens"] == [0, 20, 20, 40]
    assert (joined["name"], joined["tokens"], joined["steps"]) == ("whole", 40, 4)
    assert (joined["wall_seconds"], joined["cpu_seconds"]) == (2.0, 4.0)
    assert joined["scores"] == {"mlm_loss": 1.0}
    assert [s["name"] for s in joined["stages"]] == ["one", "two"]


# budgets


def trained(tokens: int, kind: str = "distillation") -> dict:
    return {"name": f"run-{tokens}", "kind": kind, "tokens": tokens}


def test_students_of_unequal_budgets_are_refused_unless_told_otherwise():
    folders = {"teacher": "t", "student": "s", "undistilled": "u", "random": "random:t"}
    records = {"teacher": trained(10**8, "teacher"), "student": trained(100_000), "undistilled": trained(1_000_000)}
    with pytest.raises(ValueError, match="--allow-unequal"):
        check_budgets(folders, records)
    told = check_budgets(folders, records, allow_unequal=True)
    assert told[1] == "student: s (run-100000, 100,000 tokens)" and told[3] == "random: random:t"


def test_tokens_of_earlier_runs_count():
    went_on = trained(1_000_000) | {"made_from": {"tokens_before": 1_000_000}}
    with pytest.raises(ValueError, match="unequal"):
        check_budgets({}, {"student": went_on, "undistilled": trained(1_000_000)})
    told = check_budgets({"student": "s"}, {"student": went_on, "undistilled": trained(2_000_000)})
    assert told == ["student: s (run-1000000, 2,000,000 tokens)"]


def test_a_teacher_may_have_read_more_than_its_students():
    records = {"teacher": trained(10**8, "teacher"), "student": trained(1_001_000), "undistilled": trained(1_000_000)}
    assert len(check_budgets(dict.fromkeys(records, "f"), records)) == 3


def test_budgets_may_differ_by_a_hundredth():
    for tokens, refused in ((1_009_000, False), (1_020_000, True)):
        records = {"student": trained(tokens), "undistilled": trained(1_000_000)}
        with pytest.raises(ValueError, match="unequal") if refused else nullcontext():
            check_budgets({}, records)
