"""The README's findings follow from records: other records, other sentences; what was not run is not said."""

import copy

import pytest

from distilnb import paths
from distilnb.evidence.records import load_records
from distilnb.report import answer, findings
from distilnb.report.retention import by_model


@pytest.fixture(scope="module")
def published() -> list[dict]:
    return load_records(paths.data("runs"))


def altered(records: list[dict], name: str, **scores: float) -> list[dict]:
    """The same records, one run with other scores."""
    records = copy.deepcopy(records)
    for record in records:
        if record["name"] == name:
            record["scores"] |= scores
    return records


def test_without_records_only_the_papers_own_arithmetic_is_told():
    told = findings.findings([])
    assert told.count("\n") == 1 and "62.9 on RTE" in told and "207 MB is a file without attention" in told
    assert "not run" in findings.not_run([]) and findings.ablation_sentence([]) == ""


def test_each_published_finding_has_a_link_and_numbers_of_its_records(published):
    bullets = findings.findings(published).splitlines()
    assert len(bullets) == 6
    for bullet in bullets:
        for link in (part.split(")")[0] for part in bullet.split("](")[1:]):
            assert (paths.PACKAGE.parent / link).is_file(), link
    by_name = {record["name"]: record["scores"] for record in published}
    assert f"{by_name['benchmark-base-pairs']['smaller']:.1f} % fewer" in bullets[0]


def test_a_size_that_differs_is_said_to_differ(published):
    told = findings.about_size(altered(published, "benchmark-base-pairs", smaller=30.0))
    assert "does not hold" in told and "30.0 % fewer" in told


def test_a_ratio_like_the_papers_would_be_owned_up_to(published):
    assert "nothing of it gives" in findings.about_speed(published)
    assert "nothing of it gives" not in findings.about_speed(altered(published, "benchmark-base-qa", ratio_int8=1.5))


def test_a_teacher_that_costs_is_said_to_cost(published):
    told = findings.about_text(published)
    scale = told.split("(scale ")[1].split(",")[0]
    assert "pays on text" in told
    assert "does not pay on text" in findings.about_text(altered(published, f"distil-{scale}", mlm_loss=9.0))


def test_tasks_whose_runs_had_rows_of_like_length_are_named(published):
    fair = [r | {"config": r["config"] | {"group_by_length": False}} for r in published]
    assert "with rows of like length in a batch" in findings.about_tasks(published)
    assert "like length" not in findings.about_tasks(fair)


def test_text_is_told_at_the_most_telling_scale_and_tasks_at_each_that_was_run(published):
    without = [r for r in published if (r["kind"], r["scale"]) != ("finetuning", "small")]
    assert "at scale small (" in findings.about_tasks(published) and "at scale mini (" in findings.about_tasks(
        published
    )
    assert "on text** (scale small" in findings.about_text(without) and "small" not in findings.about_tasks(without)
    assert "on text** (scale mini" in findings.about_text([r for r in without if r["name"] != "undistilled-small"])


@pytest.mark.parametrize(
    "more, words, worth",
    [
        ([0.1] * 5, "ahead of its twin", "pays on tasks"),
        ([-0.1] * 5, "behind its twin", "no gain"),
        ([0.1, -0.1, 0, 0, 0], "level with its twin", "no gain"),
    ],
)
def test_the_worth_on_tasks_follows_from_pairs_of_student_and_twin(published, more, words, worth):
    """The student gets its twin's scores and a little more or less, seed by seed."""
    mini = copy.deepcopy([r for r in published if r["scale"] == "mini"])
    twin = {(r["task"], r["seed"]): r["scores"] for r in mini if r["model"] == "undistilled"}
    for record in (r for r in mini if (r["kind"], r["model"]) == ("finetuning", "student")):
        if scores := twin.get((record["task"], record["seed"])):
            record["scores"] = scores | {"main": scores["main"] + more[record["seed"]]}
    told = findings.about_tasks(mini)
    assert words in told and worth in told.split("**")[1] and "the twin 1" in told and "random weights" in told


def test_random_weights_with_fewer_seeds_are_told_beside_the_student(published):
    """Copies of the start at scale small, with what a network of random weights scores, and three seeds of five."""
    small = [r for r in published if (r["kind"], r["scale"]) == ("finetuning", "small") and r["model"] != "random"]
    scores = {"cola": 0.0, "sst2": 0.62, "mrpc": 0.75, "stsb": 0.08, "rte": 0.53, "wnli": 0.56}
    made = [
        copy.deepcopy(r) | {"model": "random", "scores": r["scores"] | {"main": scores[r["task"]] + r["seed"] / 200}}
        for r in small
        if r["model"] == "untrained" and r["seed"] < 3 and r["task"] in scores
    ]
    kept = by_model(small + made, "small")
    assert len(made) == 18 and kept["random"].seeds == 3
    before, told = findings.about_tasks(small), findings.about_tasks(small + made)
    assert f" %, random weights {kept['random']} (3 seeds) ([04]" in told and "random weights" not in before
    assert told.split("; for comparison")[0] == before.split("; for comparison")[0], (
        "the student's own stay as they are"
    )
    said = answer.answer(small + made)
    assert f"| random weights, not trained  {'':30}| {str(kept['random']).removesuffix(' %')} " in said
    assert "random weights, not trained" not in said.split("yet: ")[1].split(".")[0]


def test_text_held_out_of_one_source_is_told_until_the_runs_are_repeated(published):
    assert "reviews alone" in findings.about_held_out_text(published)
    mended = [r | {"data": (r.get("data") or {}) | {"held_out": "of each source"}} for r in published]
    assert findings.about_held_out_text(mended) == findings.about_held_out_text([]) == ""


def test_trainings_whose_norms_lost_gradients_are_counted(published):
    told = findings.about_norms(published)
    assert int(told.split()[1]) > 100
    assert findings.about_norms([r | {"norm_gradients": "float32"} for r in published]) == ""


def test_whether_the_papers_differences_lie_in_our_intervals_is_computed(published):
    grid = [r for r in published if r["kind"] == "ablation" and r["scale"] in findings.REAL]
    assert findings.ablation_sentence(grid).count(" yes") + findings.ablation_sentence(grid).count(" no") >= 4


def cells(scale: str, deltas: dict[str, list[float]]) -> list[dict]:
    """An ablation in which each variant differs from the triple loss by so many points, pair by pair."""
    code = {"commit": None, "device": {"gpu": None, "processor": "p"}, "versions": {"torch": "2", "transformers": "5"}}
    named = {"triple": [0.0] * max(map(len, deltas.values()))} | deltas
    return [
        {"kind": "ablation", "scale": scale, "grid": f"ablation-{scale}", "name": f"{scale}-{variant}-{seed}", **code}
        | {"model": variant, "title": variant, "seed": seed, "scores": {"macro": 0.5 + points / 100}}
        | {"config": {"finetuning": {"group_by_length": scale == "mini"}}}
        for variant, all_ in named.items()
        for seed, points in enumerate(all_)
    ]


def test_one_seed_at_a_more_telling_scale_does_not_displace_intervals():
    mini = cells("mini", {"no_ce": [-3.0, -3.1, -2.9], "no_cos": [0.1, 0.2]})
    told = findings.ablation_sentence(cells("small", {"no_ce": [-3.0]}) + mini)
    assert "(scale mini, 2 to 3 pairs; with rows of like length in a batch)? no_ce yes, no_cos no." in told
    more = cells("small", {"no_ce": [-3.0, -3.1], "no_cos": [0.1]})
    assert "(scale small, 1 to 2 pairs)? no_ce yes, no_cos has no interval." in findings.ablation_sentence(more + mini)
    assert findings.ablation_sentence(cells("small", {"no_ce": [-3.0]})) == ""


def moved(records: list[dict], scale: str, points: list[float]) -> list[dict]:
    """Teacher, student and twin of a scale; the student is its twin and so many points, seed by seed."""
    kept = [r for r in records if r["scale"] == scale and r["kind"] == "finetuning" and r["seed"] < len(points)]
    kept = copy.deepcopy([r for r in kept if r["model"] in ("teacher", "student", "undistilled")])
    twin = {(r["task"], r["seed"]): r["scores"] for r in kept if r["model"] == "undistilled"}
    for r in (r for r in kept if r["model"] == "student" and (r["task"], r["seed"]) in twin):
        scores = twin[r["task"], r["seed"]]
        r["scores"] = scores | {"main": scores["main"] + points[r["seed"]] / 100}
    return kept


def test_scales_that_disagree_and_single_seeds_are_told_as_such(published):
    up, down = moved(published, "small", [10, 11, 10, 11, 10]), moved(published, "mini", [-10, -11, -10, -11, -10])
    assert findings.about_tasks(up + down).startswith("**It gives mixed results on tasks**: the student is ahead of")
    once = findings.about_tasks(moved(published, "small", [10]))
    assert once.startswith("**It says nothing on tasks yet**: the student is by one seed not to be told from its twin")
    assert ", 1 seed)" in once
    fewer = [r for r in up if r["model"] != "student" or r["seed"] < 3]
    assert by_model(fewer, "small")["undistilled"].seeds == 5 and ", 3 seeds)" in findings.about_tasks(fewer)
    assert "| 5 " in answer.answer(fewer) and "], 3 seeds" in answer.answer(fewer)


def test_the_phone_s_207_megabytes_are_looked_for_among_the_measured_formats():
    assert findings.format_of_the_phone([]) == ""
    form = {"model": "student", "format": "float32", "bytes": 265_000_000}
    run = {"kind": "benchmark", "scale": "base", "task": "squad", "weights": {}}
    run |= {"scores": {"parameters_student": 66.4e6}}
    told = findings.format_of_the_phone([run | {"formats": [form, form | {"model": "teacher", "bytes": 207_000_000}]}])
    assert told.startswith("Which format makes 66 million weights 207 MB? None of the 1 that were measured (in MB: Py")
    told = findings.format_of_the_phone(
        [run | {"formats": [form, form | {"format": "onnx_int8", "bytes": 207 * 2**20}]}]
    )
    assert "207 MB? ONNX int8 (in MB: ONNX int8 217, PyTorch float32 265)" in told
    other = run | {"task": "stsb", "formats": [form | {"bytes": 268e6}, form | {"format": "int8", "bytes": 138e6}]}
    for runs in ([run | {"formats": [form]}, other], [other, run | {"formats": [form]}]):
        told = findings.format_of_the_phone(runs)
        assert told.endswith("(in MB: PyTorch int8 138 with the head of STS-B, PyTorch float32 265).")


def test_a_ratio_above_all_of_ours_is_not_owned_up_to(published):
    slow = copy.deepcopy(published)
    for record in slow:
        record["scores"] |= {key: 1.2 for key in record["scores"] if key.startswith("ratio_")}
    assert "nothing of it gives" in findings.about_speed(slow)


def test_one_scale_of_one_seed_does_not_silence_the_other(published):
    level, once = moved(published, "small", [1, -1, 1, -1, 0]), moved(published, "mini", [10])
    assert findings.about_tasks(level + once).startswith("**It shows no gain on tasks**")
