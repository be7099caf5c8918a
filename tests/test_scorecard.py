"""The scorecard: verdicts follow from a stated rule, small scales fill no cell, what is not run or unsound is said."""

import re
from html.parser import HTMLParser

import pytest

from distilnb import paths
from distilnb.cli import main as main_module
from distilnb.evidence import paper
from distilnb.evidence.records import Stopwatch, load_records, new_record, save_record
from distilnb.lessons.generated import results_page
from distilnb.report import answer, figures, findings, pages, scorecard, tables
from distilnb.report.retention import LEARNED, STANDING, by_model
from distilnb.report.scorecard import EVIDENCE, VERDICTS, Measured, verdict
from distilnb.tasks import glue

CODE = {"commit": "1" * 40, "device": {"processor": "p", "gpu": None}, "versions": {"torch": "2", "transformers": "5"}}


def tuned(model: str, task: str, main: float, seed: int = 0, scale: str = "base", **more) -> dict:
    """A fine-tuning record with what the scorecard reads."""
    scores = {"main": main, "accuracy": main, "majority": 0.5, **more.pop("scores", {})}
    return {
        "kind": "finetuning",
        "name": f"{scale}-{model}-{task}-{seed}",
        "scale": scale,
        "model": model,
        "task": task,
        "seed": seed,
        "scores": scores,
        "config": {"epochs": 3, "seed": seed},
        "data": {"fingerprint": task, "stand_in": scale == "toy"},
        "model_record": f"distil-{model}",
        "precision": "no",
        "interval": [main - 0.01, main + 0.01],
        **CODE,
    } | more


def nine_tasks(model: str, values: list[float], scale: str = "base") -> list[dict]:
    """All nine tasks with seeds 0, 1, …, the same score on each."""
    return [tuned(model, task, main, seed, scale) for task in glue.GLUE for seed, main in enumerate(values)]


def benchmark(scale: str = "base", **scores: float) -> dict:
    """A benchmark record."""
    return {
        "kind": "benchmark",
        "name": "speed",
        "scale": scale,
        "model": "student",
        "task": "stsb",
        "seed": None,
        "scores": scores,
        **CODE,
    }


def line(records: list[dict], what: str, part: str = "") -> scorecard.Line:
    """The one line of the scorecard whose text starts so."""
    found = [x for x in scorecard.scorecard(records).lines if x.row.what.startswith(what) and part in x.row.part]
    assert len(found) == 1, [x.row.what for x in found]
    return found[0]


# the rule


@pytest.mark.parametrize(
    "value, low, high, direction, expected",
    [
        (50.5, 50.0, 51.0, "equal", "reproduced"),
        (50.5, 40.0, 61.0, "equal", "partly"),  # right on average, too wide to say
        (50.5, None, None, "equal", "partly"),  # run once
        (52.0, 50.5, 53.5, "equal", "partly"),  # outside, the interval reaches in
        (52.0, 51.5, 52.5, "equal", "not reproduced"),
        (52.0, None, None, "equal", "partly"),  # run once, it decides nothing
        (48.0, None, None, "least", "partly"),
        (58.0, 57.5, 58.5, "least", "exceeded"),  # the bound holds, the number was not found again
        (50.6, 50.2, 51.0, "least", "reproduced"),
        (58.0, 50.5, 65.5, "least", "partly"),
        (58.0, None, None, "least", "partly"),
        (58.0, 57.5, 58.5, "most", "not reproduced"),
        (48.0, 47.5, 48.5, "least", "not reproduced"),
        (42.0, 41.5, 42.5, "most", "exceeded"),
        (49.5, 49.2, 49.8, "most", "reproduced"),  # below the bound, by less than the tolerance
        (48.0, 46.5, 49.5, "equal", "partly"),  # below, the interval reaches in and not to the target
        (50.0, 47.0, 53.0, "equal", "reproduced"),  # three tolerances to either side are narrow enough
    ],
)
def test_verdicts_follow_the_rule(value, low, high, direction, expected):
    """The paper says 50, the tolerance is 1."""
    assert verdict(50.0, Measured(value, low, high), 1.0, direction) == expected


def test_every_cell_and_claim_of_the_paper_has_a_row_and_a_rule():
    lines = scorecard.scorecard([]).lines
    counts = {part: len(rows) for part, rows in scorecard.tables(scorecard.Card(lines, [])).items()}
    assert counts == {"Table 1": 30, "Table 2": 8, "Table 3": 6, "Table 4": 4, "Claims": len(paper.table("claims"))}
    kinds = {x.row.rule["kind"] for x in lines}
    assert kinds == {"measured", "arithmetic", "protocol", "hardware", "quoted"}
    rules = set(paper.table("verdict_rules")["id"])
    assert set(paper.table("claims")["id"]) <= rules
    assert all(x.row.read for x in lines if x.row.rule["kind"] not in ("protocol", "quoted"))
    assert all(f"**{word}**" in scorecard.RULE for word in VERDICTS), "each verdict is explained"


def test_without_records_nothing_is_claimed():
    verdicts = {x.verdict for x in scorecard.scorecard([]).lines}
    assert verdicts == {"not run", "adds up", "does not add up", "how it was done", "quoted"}


def test_what_does_not_add_up_is_what_the_errata_say():
    wrong = [x.row.rule["id"] for x in scorecard.scorecard([]).lines if x.verdict == "does not add up"]
    assert wrong == ["squad_within", "over_elmo_stsb", "device_size"]
    assert {"squad_within", "stsb_gain"} <= set(paper.table("errata")["id"])


# reading records


def test_a_cell_is_filled_from_records_of_its_scale():
    records = [tuned("teacher", "rte", main, seed) for seed, main in enumerate((0.690, 0.693, 0.699))]
    found = line(records, "BERT-base, RTE")
    assert (found.verdict, found.scale, found.measured.value) == ("reproduced", "base", 69.3)
    shown = found.cells()
    assert (shown["paper"], shown["measured"], shown["delta"]) == ("69.3", "69.3", "0.0")
    assert shown["interval"].startswith("68.3 to 70.") and shown["scale"] == "base, 3 runs"


def test_the_misprint_is_shown_and_the_right_value_compared():
    shown = line([tuned("teacher", "mnli", 0.847)], "BERT-base, MNLI").cells()
    assert shown["paper"] == "86.7 (sic; 84.7)" and shown["delta"] == "0.0" and "reproduced" in shown["verdict"]


@pytest.mark.parametrize("scale", ["toy", "mini"])
def test_a_small_scale_stands_apart_and_decides_nothing(scale):
    found = line([tuned("teacher", "rte", 0.693, seed, scale) for seed in range(3)], "BERT-base, RTE")
    assert found.verdict == "not run" and found.measured is None
    shown = found.cells()
    assert (shown["measured"], shown["delta"], shown["scale"]) == ("–", "–", "–")
    assert shown["small scales: no verdict"].startswith(f"{scale} 69.3")


def test_the_paper_scale_goes_before_base():
    records = [tuned("student", "rte", 0.5), tuned("student", "rte", 0.599, scale="paper")]
    assert line(records, "DistilBERT, RTE").scale == "paper"
    records.append(tuned("released", "rte", 0.7, scale="paper"))
    assert "the released checkpoint" in line(records, "DistilBERT, RTE").cells()["scale"]


def test_the_share_is_taken_seed_by_seed_and_needs_all_nine_tasks():
    teacher, student = nine_tasks("teacher", [0.80, 0.78, 0.79]), nine_tasks("student", [0.776, 0.7566, 0.7663])
    found = line(teacher + student, "share of BERT-base")
    assert found.verdict == "reproduced" and found.measured.value == pytest.approx(97.0)
    missing = [record for record in student if record["task"] != "wnli"]
    assert line(teacher + missing, "share of BERT-base").verdict == "not run"
    small = nine_tasks("teacher", [0.8], "toy") + [
        record for record in nine_tasks("student", [0.4], "toy") if record["task"] in ("rte", "cola")
    ]
    assert line(small, "share of BERT-base").small == {"toy": "50.0 %, 2 of 9 tasks"}


def test_a_macro_score_is_the_mean_of_the_tasks_medians_as_in_table_1():
    """Seeds fail on different tasks, each on one of three: the mean of a seed is 70, that of the medians 80."""
    tasks = [*glue.GLUE]
    records = [
        tuned("teacher", task, 0.5 if place % 3 == seed else 0.8, seed)
        for place, task in enumerate(tasks)
        for seed in range(3)
    ]
    found = line(records, "BERT-base, macro").measured
    assert (found.value, found.low, found.high, found.runs) == pytest.approx((80.0, 70.0, 70.0, 3))
    published = load_records(paths.data("runs"))
    for row in (row for row in tables.macro_rows(published) if row["scale"] == "toy" and row["model"] == "teacher"):
        assert line(published, "BERT-base, macro").small["toy"].startswith(f"{row['macro']} [")


def test_a_macro_score_is_of_one_model():
    """The released checkpoint on three tasks does not stand in for the student on these; on all, it is told."""
    every = nine_tasks("teacher", [0.9]) + nine_tasks("released", [0.9])
    for what in ("DistilBERT, macro", "share of BERT-base's GLUE macro score"):
        assert "the released checkpoint" in line(every, what).cells()["scale"]
    some = [record for record in nine_tasks("released", [0.9]) if record["task"] in ("rte", "cola", "wnli")]
    records = some + nine_tasks("student", [0.6]) + nine_tasks("teacher", [0.8])
    assert line(records, "DistilBERT, macro").measured.value == pytest.approx(60.0)
    assert line(records, "share of BERT-base").measured.value == pytest.approx(75.0)
    assert line(some, "DistilBERT, macro").verdict == "not run"


def test_beside_the_share_stands_what_a_student_without_a_teacher_keeps_of_the_same_tasks():
    two = ("rte", "cola")
    teacher, student, twin = (
        nine_tasks(model, [value], "mini")
        for model, value in (("teacher", 0.8), ("student", 0.4), ("undistilled", 0.6))
    )
    assert (
        line(teacher + student + twin, "share of BERT-base").small["mini"]
        == "50.0 %, 9 of 9 tasks, without a teacher 75.0 %"
    )
    teacher, student = ([r for r in records if r["task"] in two] for records in (teacher, student))
    told = line(teacher + student + twin, "share of BERT-base").small["mini"]
    assert told == "50.0 %, 2 of 9 tasks, without a teacher 75.0 %"
    fewer = [r for r in twin if r["task"] == "rte"]
    assert line(teacher + student + fewer, "share of BERT-base").small["mini"] == "50.0 %, 2 of 9 tasks"


def test_headlines_can_fail():
    """Less than 97 % of the teacher, less than 60 % faster: the verdict says so, and the table what it would take."""
    records = nine_tasks("teacher", [0.80, 0.78, 0.79]) + nine_tasks("student", [0.70, 0.69, 0.70])
    records.append(benchmark(ratio_end_to_end=1.4) | {"intervals": {"ratio_end_to_end": [1.38, 1.42]}})
    rows = {row["claim"]: row for row in scorecard.headlines(scorecard.scorecard(records))}
    kept = next(row for claim, row in rows.items() if claim.startswith("share of BERT"))
    faster = next(row for claim, row in rows.items() if "per unit of time" in claim)
    assert "not reproduced" in kept["verdict"] and kept["falsified by an interval"] == "below 96.5 %"
    assert "not reproduced" in faster["verdict"] and faster["measured"] == "40.0 %"


def test_sizes_and_speeds_come_from_benchmark_records():
    counts = {"parameters_teacher": 109_482_240, "parameters_student": 66_362_880}
    records = [benchmark(**counts, smaller=39.3848, seconds_teacher=12.0)]
    smaller = line(records, "DistilBERT has this much fewer")
    assert smaller.verdict == "reproduced" and smaller.measured.value == pytest.approx(39.385, abs=0.001)
    assert line(records, "BERT-base parameters").cells()["measured"] == "109.5 M"
    assert line(records, "BERT-base seconds").verdict == "other hardware"
    random = [record | {"weights": {"teacher": "random:base"}} for record in records]
    for what in ("DistilBERT has this much fewer", "BERT-base seconds"):
        assert line(random, what).cells()["scale"] == "base, random weights", "the paper's architecture alone"
    assert smaller.cells()["scale"] == "base"
    short = benchmark(seconds_teacher=0.5) | {"config": {"rows": 60}}
    assert line([records[0] | {"config": {"rows": 1500}}, short], "BERT-base seconds").measured.value == 12.0
    once = [benchmark(ratio_end_to_end=1.63)]
    assert line(once, "DistilBERT answers").verdict == "partly", "one run without an interval"


def test_one_run_without_an_interval_refutes_nothing():
    """A student of one seed at 96 % of its teacher's macro score; three seeds that agree at as much refute the 97 %."""
    once, thrice = (nine_tasks("teacher", [0.8] * seeds) + nine_tasks("student", [0.768] * seeds) for seeds in (1, 3))
    assert [line(records, "share of BERT-base").verdict for records in (once, thrice)] == ["partly", "not reproduced"]


def test_a_device_s_speed_is_shown_in_both_readings():
    """Twice as fast is 100 % more answers and 50 % less time; the paper's 71 % may be either."""
    run = benchmark(ratio_forward=2.0) | {"task": "squad", "intervals": {"ratio_forward": [1.6, 2.0, 2.5]}}
    shown = line([run], "question answering on an iPhone").cells()
    assert shown["measured"] == "100.0 % more answers, 50.0 % less time"
    assert (shown["delta"], shown["interval"]) == ("+29.0 %, −21.0 %", "60.0 % to 150.0 %, 37.5 % to 60.0 %")
    rows = scorecard.headlines(scorecard.scorecard([run]))
    assert next(row for row in rows if "iPhone" in row["claim"])["measured"] == shown["measured"]
    small = line([run | {"scale": "mini"}], "question answering on an iPhone").small["mini"]
    assert small == "100.0 % more answers, 50.0 % less time [60.0 % to 150.0 %, 37.5 % to 60.0 %]"


def test_equal_seeds_have_an_interval_and_are_no_count():
    """Five seeds of WNLI at the majority: 56.3 to 56.3, in which 44.4 is not; parameters are a count."""
    records = [tuned("teacher", "wnli", 40 / 71, seed) for seed in range(5)]
    shown = line(records, "BERT-base, WNLI").cells()
    assert (shown["interval"], shown["paper inside"]) == ("56.3 to 56.3", "no")
    assert line([r | {"scale": "mini"} for r in records], "BERT-base, WNLI").small["mini"] == (
        "56.3 [56.3 to 56.3], 5 runs"
    )
    counted = line([benchmark(parameters_teacher=109_482_240)], "BERT-base parameters").cells()
    assert (counted["interval"], counted["paper inside"]) == ("a count", "–")


@pytest.mark.parametrize("right, stated, evaluated", [(796, True, False), (794, True, True), (793, False, True)])
def test_a_published_checkpoint_is_a_count_of_right_answers(right, stated, evaluated):
    """91.3 in print, ± 2 of 872 sentences, and 794 of them, ± 1: one evaluation suffices, rows and seeds are fixed."""
    records = [tuned("released_sst2", "sst2", right / 872)]
    for what, holds in (("SST-2 dev accuracy", stated), ("the same checkpoint scored", evaluated)):
        found = line(records, what)
        assert found.verdict == ("reproduced" if holds else "not reproduced"), what
        assert found.cells()["interval"] == "a count"


def test_the_standing_of_small_scales_is_one_sentence_everywhere():
    for text in (scorecard.RULE, tables.NAMES, answer.LIMITS):
        assert STANDING in text and text.count("evidence") == 1


def test_squad_and_imdb_records_are_understood():
    def squad(model: str, em: float, f1: float, seed: int) -> dict:
        return tuned(model, "squad", f1, seed, scores={"exact_match": em, "f1": f1})

    printed = (("teacher", 0.81, 0.885), ("student", 0.777, 0.858), ("student_d", 0.79, 0.869))
    records = [squad(model, em + seed / 1000, f1 + seed / 1000, seed) for seed in range(3) for model, em, f1 in printed]
    records += [tuned("teacher", "imdb", 0.9346), tuned("student", "imdb", 0.9282)]
    assert line(records, "DistilBERT (D), SQuAD f1").measured.value == pytest.approx(87.0)
    gain = "gain of the second distillation step on SQuAD, F1"
    assert line(records, gain).verdict == "reproduced"
    released = [squad("released", 0.9, 0.95, seed) for seed in range(3)]
    assert line(records + released, gain).measured == line(records, gain).measured, (
        "a step of our own student, not of the released one"
    )
    assert line(records, "distance to BERT-base on IMDb").measured.value == pytest.approx(0.64)
    once = [squad("student", 0.7, 0.8, 0), tuned("student", "imdb", 0.9)]
    bounds = {
        what: (found.low, found.high)
        for what in ("SQuAD f1", "SQuAD exact match", "IMDb accuracy")
        for found in [line(once, f"DistilBERT, {what}").measured]
    }
    assert bounds == {
        "SQuAD f1": pytest.approx((79, 81)),
        "IMDb accuracy": pytest.approx((89, 91)),
        "SQuAD exact match": (None, None),
    }, "a record's interval is that of its main score"


def cell(variant: str, seed: int, macro: float, scale: str = "base") -> dict:
    name = f"ablation-{scale}"
    return {
        "kind": "ablation",
        "name": f"{name}-{variant}-seed{seed}",
        "grid": name,
        "scale": scale,
        "model": variant,
        "title": variant,
        "task": None,
        "seed": seed,
        "scores": {"macro": macro, "mlm_loss": 2 - macro},
        "config": {"changes": {}},
        "tokens": 2_500_000,
        "tasks": list(glue.GLUE),
        "data": {"tasks": {task: {"stand_in": False} for task in glue.GLUE}},
        **CODE,
    }


def test_the_ablation_fills_table_4():
    records = [cell("triple", s, m) for s, m in enumerate((0.70, 0.71, 0.69))]
    records += [cell("no_ce", s, m) for s, m in enumerate((0.67, 0.6805, 0.6605))]
    found = line(records, "without: soft targets")
    assert found.verdict == "reproduced" and found.measured.value == pytest.approx(-2.967, abs=0.01)
    assert line(records, "without: cosine").verdict == "not run"
    toy = [r | {"scale": "toy", "grid": "ablation-toy"} for r in records]
    assert line(toy, "without: soft targets").small["toy"].startswith("−2.97")


@pytest.mark.parametrize("tasks, stand_in", [(["cola", "rte"], False), (list(glue.GLUE), True)])
def test_an_ablation_on_some_tasks_or_rows_is_no_evidence(tasks, stand_in):
    part = {"tasks": tasks, "data": {"tasks": {task: {"stand_in": stand_in} for task in tasks}}}
    records = [cell(variant, s, 0.7) | part for variant in ("triple", "no_ce") for s in range(3)]
    assert line(records, "without: soft targets").verdict == "not run"
    small = [r | {"scale": "mini", "grid": "ablation-mini"} for r in records]
    told = line(small, "without: soft targets").small["mini"]
    assert told.endswith(f"{len(tasks)} tasks, 2.5 M tokens")


# what must not be averaged over silently


@pytest.mark.parametrize(
    "odd, words",
    [
        (tuned("teacher", "rte", 0.9, 1, config={"epochs": 9, "seed": 1}), "different settings .config.epochs 3 again"),
        (tuned("teacher", "rte", 0.9, 0, name="copy"), "seed 0 stands twice, in base-teacher-rte-0 and copy"),
        (tuned("teacher", "rte", 0.9, 1, model_record="other"), "model_record distil-teacher against other"),
        (tuned("teacher", "rte", 0.9, 1, data={"fingerprint": "x"}), "data rte against x"),
    ],
)
def test_unsound_comparisons_are_refused_by_name(odd, words):
    records = [tuned("teacher", "rte", 0.693), odd]
    assert line(records, "BERT-base, RTE").verdict == "refused"
    card = scorecard.scorecard(records)
    assert any(re.search(words, note) for note in card.notes), card.notes
    assert re.search(words, scorecard.markdown(card))


def test_gaps_and_mixed_code_are_named():
    records = [tuned("teacher", "rte", 0.69, 0), tuned("teacher", "rte", 0.70, 1), tuned("student", "rte", 0.6, 0)]
    records.append(tuned("student", "cola", 0.5, 0, commit="2" * 40))
    notes = scorecard.scorecard(records).notes
    assert "base, fine-tuning: student on rte, cola has no record of seed 1" in notes, "one line for a model"
    assert "base, fine-tuning: the records come from 2 commits of the code: 1111111111 (3), 2222222222 (1)" in notes


def test_a_record_under_another_name_is_refused(tmp_path):
    """A copy would be counted twice."""
    record = new_record("distillation", "a", scale="toy", model="student", stopwatch=Stopwatch())
    path = save_record(record, tmp_path)
    (tmp_path / "b.json").write_text(path.read_text())
    with pytest.raises(ValueError, match="record"):
        load_records(tmp_path)


# the documents


class Tags(HTMLParser):
    """Opening and closing tags, and whatever the page would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.ids, self.cells = [], [], [], 0

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag != "meta":
            self.open.append(tag)
        self.cells += tag == "td"
        self.ids += [attrs["id"]] if "id" in attrs else []
        links = [attrs.get(key, "") for key in ("src", "href", "xlink:href")]
        self.fetched += [link for link in links if link and not link.startswith("#")]
        self.fetched += [tag] if tag in ("script", "link", "iframe", "img") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    """The page of two small records, with two figures that share their ids."""
    records = [tuned("teacher", "rte", 0.693, scale="toy"), tuned("student", "rte", 0.6, scale="toy")]
    svg = figures.to_svg(figures.plot_layer_map([0, 2], 4))
    return scorecard.page(scorecard.scorecard(records), tables.tables(records), {"a map": svg, "again": svg})


def test_the_page_is_one_whole_file_that_fetches_nothing(page):
    tags = Tags()
    tags.feed(page)
    assert not tags.open and not tags.fetched and tags.cells > 500
    assert len(set(tags.ids)) == len(tags.ids), "ids of the two figures do not clash"
    assert "url(http" not in page and "@import" not in page


def test_the_page_can_be_read_on_a_phone_and_without_seeing_colours(page):
    assert 'name="viewport"' in page and "@media (max-width" in page and 'data-label="paper"' in page
    assert page.count('role="img"') == page.count("aria-label=") == 2
    assert "○ not run" in page and "≠ does not add up" in page, "verdicts are words with a sign, not colours"


def test_one_section_is_open_and_what_is_not_known_takes_no_room_on_a_phone(page):
    assert page.count("<details open>") == 1 and page.index("<details open>") < page.index("<details>")
    assert page.count("<details>") == page.count("<summary>") - 1 == page.count("</details>") - 1 > 5
    wide, narrow = page.split("@media (max-width")
    assert "td.none { display: none }" in narrow and "td.none" not in wide
    assert set(re.findall(r'class="none">(.*?)</td>', page)) == {"–"}


def test_text_becomes_html_without_loose_ends():
    assert pages.html_text("a *b* `c`\n\n- **d** < e\n- f") == (
        "<p>a <i>b</i> <code>c</code></p>\n<ul>\n<li><b>d</b> &lt; e</li>\n<li>f</li></ul>\n"
    )


def test_an_opening_comes_before_the_count():
    text = scorecard.markdown(scorecard.scorecard([]), "The answer.")
    assert text.index("The answer.") < text.index(scorecard.tally(scorecard.scorecard([])))


def test_the_committed_scorecard_is_that_of_the_published_records():
    records = load_records(paths.data("runs"))
    page = results_page(scorecard.scorecard(records), records)
    assert (paths.PACKAGE.parent / "RESULTS.md").read_text() == page, "run `make links`"


def test_published_claims_at_the_scales_that_count_are_not_toy_results():
    published = load_records(paths.data("runs"))
    for found in scorecard.scorecard(published).lines:
        assert found.measured is None or found.scale in (*EVIDENCE, "arithmetic")


def test_the_command_writes_both_documents(tmp_path, capsys, monkeypatch):
    drawn, updated = {"map": figures.plot_layer_map([0, 2], 4)}, []
    monkeypatch.setattr("distilnb.report.figures.drawings", lambda _: drawn)
    monkeypatch.setattr("distilnb.lessons.generated.write_links", lambda: updated)  # not those of this clone
    assert main_module.main(["report", "--out", str(tmp_path / "here")]) == 0
    assert (tmp_path / "here" / "scorecard.md").read_text().startswith("# Does the paper hold?")
    assert (tmp_path / "here" / "scorecard.html").read_text().startswith("<!doctype html>")
    assert "cells and claims" in capsys.readouterr().out


# subsets


def test_a_run_on_a_subset_fills_no_cell_and_is_named():
    part = {"data": {"fingerprint": "x", "stand_in": True, "stand_in_why": "train has 10 of 2,490 rows"}}
    card = scorecard.scorecard([tuned("teacher", "rte", 0.7) | part])
    assert line([tuned("teacher", "rte", 0.7)], "BERT-base, RTE").verdict != "not run"
    assert next(x for x in card.lines if x.row.what == "BERT-base, RTE").verdict == "not run"
    assert any("left out" in note and "10 of 2,490" in note for note in card.notes)


def test_subsets_at_small_scale_are_remarked():
    records = nine_tasks("teacher", [0.8, 0.82], "mini") + nine_tasks("student", [0.6, 0.7], "mini")
    for record in (r for r in records if r["task"] == "qqp"):
        record["data"] = {"fingerprint": "x", "stand_in": True, "stand_in_why": "a part"}
    assert "a subset" in line(records, "DistilBERT, QQP").small["mini"]
    part = {"data": {"fingerprint": "x", "stand_in": True, "stand_in_why": "a part"}}
    some = [tuned(model, "imdb", 0.8, scale="mini") | part for model in ("teacher", "student")]
    assert "a subset" in line(some, "distance to BERT-base on IMDb").small["mini"]
    shares = line(records, "share of BERT-base's GLUE macro score")
    assert shares.verdict == "not run" and "8 of 9 tasks" in shares.small["mini"], "a subset is another task"


# in short


def test_what_held_and_what_was_not_run_is_told_in_short():
    grid = [
        {
            "kind": "ablation",
            "name": f"{variant}-{seed}",
            "grid": "ablation-mini",
            "scale": "mini",
            "model": variant,
            "title": variant,
            "task": None,
            "seed": seed,
            "scores": {"macro": macro},
            "config": {},
            "tokens": 2_500_000,
            "tasks": ["rte"],
            "data": {"tasks": {"rte": {"stand_in": False}}},
            **CODE,
        }
        for variant, macro in (("triple", 0.6), ("no_ce", 0.5))
        for seed in (0, 1)
    ]
    card = scorecard.scorecard(nine_tasks("teacher", [0.4, 0.4]) + nine_tasks("student", [0.3, 0.3]) + grid)
    by_word = {line.split("**")[1]: line for line in scorecard.in_short(card).splitlines()}
    assert "none" in by_word["reproduced"] and "DistilBERT keeps (paper 97 %, here 75.0 %)" in by_word["not reproduced"]
    assert "8 of Table 2" in by_word["not run"] and "Table 1" not in by_word["not run"]
    (row,) = scorecard.small_rows(card)
    assert row["paper"] == "−2.96" and row["mini: no verdict"].startswith("−10.00"), "small scales stand apart"
    assert "mini" not in scorecard.in_short(card) and scorecard.small_rows(scorecard.scorecard([])) == []


def test_what_small_scales_keep_is_one_number_wherever_it_stands():
    """In scorecard, results table, findings and answer: over the tasks that the teacher has learned, no subsets."""
    published = load_records(paths.data("runs"))
    share = str(by_model(published, "mini")["student"]).split()[0]
    assert line(published, "share of BERT-base").small["mini"].startswith(f"{share} %")
    row = next(r for r in tables.retention_rows(published) if r["scale"] == "mini" and LEARNED in r["tasks"])
    assert row["student"].startswith(share) and f"**{share} [" in answer.answer(published, "mini")
    mini = [r for r in published if r["scale"] != "small"]
    assert f"it keeps {share} [" in findings.about_tasks(mini)


def test_whether_the_papers_value_lies_in_our_interval_is_said():
    """Table 4's −2.96, and −1.46: pairs that average −2.97 hold the first; pairs at 0 do not hold the second."""
    records = [cell("triple", s, m) for s, m in enumerate((0.70, 0.71, 0.69))]
    records += [cell("no_ce", s, m) for s, m in enumerate((0.67, 0.6805, 0.6605))]
    records += [cell("no_cos", s, m) for s, m in enumerate((0.7001, 0.7098, 0.69))]
    assert line(records, "without: soft targets").cells()["paper inside"] == "yes"
    assert line(records, "without: cosine").cells()["paper inside"] == "no"
    assert line(records, "without: masked").cells()["paper inside"] == "–"


def test_answers_no_better_than_matching_words_are_remarked():
    """A distance to a teacher that has not learned to answer says nothing; toyworld's questions have another floor."""
    low, high = ({"scores": dict.fromkeys(("main", "f1", "exact_match"), value)} for value in (0.12, 0.2))
    floor = tuned("none", "none", 0.0) | {"kind": "data", "name": "ceilings"}
    floor["scores"] = {"squad_matching_words_f1": 0.18}
    distance = "distance to BERT-base on SQuAD by Table 2, F1"
    for scale, told in (("mini", True), ("toy", False)):
        runs = [tuned(model, "squad", 0.0, scale=scale) | own for model, own in (("teacher", low), ("student", high))]
        for what, remarked in (("BERT-base, SQuAD f1", told), ("DistilBERT, SQuAD f1", False), (distance, told)):
            assert ("below matching words" in line([*runs, floor], what).small[scale]) == remarked, (scale, what)
    both = [tuned(model, "squad", 0.0, scale="mini") | low for model in ("teacher", "student")]
    assert "one is" not in line([*both, floor], distance).small["mini"]


def test_of_two_runs_of_a_task_that_on_most_rows_fills_the_cells():
    """SQuAD on all rows once, and on 30,000 of them three times, which is told in a note."""
    rows = {True: {"train": 30_000, "validation": 10}, False: {"train": 87_599, "validation": 10}}
    records = [
        tuned(model, "squad", main, seed, "small", scores={"f1": main, "exact_match": main})
        | {
            "name": f"{model}-{part}-{seed}",
            "data": {"fingerprint": str(part), "stand_in": part, "stand_in_why": "a part", "rows": rows[part]},
        }
        for part, seeds, shift in ((True, 3, -0.3), (False, 1, 0.0))
        for model, main in (("teacher", 0.8 + shift), ("student", 0.7 + shift / 2))
        for seed in range(seeds)
    ]
    assert line(records, "DistilBERT, SQuAD f1").small["small"] == "70.0 [69.0 to 71.0]"
    assert line(records, "distance to BERT-base on SQuAD by Table 2, F1").small["small"] == "10.0"
    more = [tuned("random", "rte", 0.5, seed, "small") for seed in range(3)]
    told = [note for note in scorecard.scorecard(records + more).notes if note.startswith("small, ")]
    assert told == [
        "small, left out because other runs had more rows, squad on 30,000 rows",
        "small, fine-tuning: teacher on squad has no record of seed 1, 2",
        "small, fine-tuning: student on squad has no record of seed 1, 2",
    ]


def test_the_interval_of_a_macro_score_is_over_the_seeds_that_have_all_tasks():
    """Seed 2 lacks the lowest task; the mean of its others would be another score."""
    records = [
        tuned("teacher", task, 0.5 + place / 20 + seed / 100, seed)
        for place, task in enumerate(glue.GLUE)
        for seed in range(3)
        if (place, seed) != (0, 2)
    ]
    assert line(records, "BERT-base, macro").measured.runs == 2


def test_inside_is_to_half_of_the_last_digit_that_the_paper_prints():
    """Table 4's −2.96 is what −2.964 is rounded to, and −2.967 is not."""
    for lost, said in ((0.02964, "yes"), (0.02967, "no")):
        records = [cell(who, seed, 0.7 - less) for who, less in (("triple", 0), ("no_ce", lost)) for seed in range(3)]
        assert line(records, "without: soft targets").cells()["paper inside"] == said
