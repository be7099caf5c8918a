"""The figures draw what they are given, and their files are the same bytes each time."""

import hashlib
import io

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.text import Text
from PIL import Image

from distilnb import paths
from distilnb.evidence import paper as paper_module
from distilnb.evidence.records import load_records
from distilnb.report import figures
from distilnb.studies.formats import fitting


def run_record(name: str, shift: float = 0.0, **more) -> dict:
    """A distillation record in small: three training rows, two evaluations, cos not measured at the end."""
    curve = {
        "step": [1, 2, 3],
        "tokens": [1e6, 2e6, 3e6],
        "loss": [9.0 + shift, 8.0, 7.0],
        "ce": [5.0, 4.0, 3.0],
        "mlm": [3.5, 3.0, 2.5],
        "cos": [0.5, 0.4, None],
    }
    return {
        "name": name,
        "curve": curve,
        **more,
        "evaluations": {"tokens": [1e6, 3e6], "mlm_loss": [4.0 + shift, 3.0], "agreement": [0.2, 0.4 + shift]},
    }


def benchmark_record(**more) -> dict:
    """A benchmark in small: the teacher takes 200 ms, the student 100, and 10 more go to neither."""
    timings = [
        (model, part, wall)
        for model, forward in (("teacher", 0.2), ("student", 0.1))
        for part, wall in (("tokenization", 0.006), ("collation", 0.004), ("forward", forward))
    ]
    sweeps = [
        {
            "knob": knob,
            "value": value,
            "teacher": 0.3 + 0.01 * turn,
            "student": 0.1,
            "teacher_cpu": 0.2 + 0.01 * turn,
            "student_cpu": 0.1,
        }
        for knob, values in (("sequence length", (8, 32)), ("threads", (1, 2)))
        for value in values
        for turn in (-1, 0, 1)
    ]
    formats = [
        {"model": model, "format": format, "bytes": size * 10**6, "ms": [ms - 1, ms, ms + 1]}
        for model, format, size, ms in (
            ("teacher", "float32", 438, 200),
            ("student", "float32", 268, 100),
            ("student", "bfloat16", 134, 40),
            ("student", "onnx_int8", 68, 20),
        )
    ]
    return {
        "name": "benchmark-toy-pairs",
        "kind": "benchmark",
        "scale": "toy",
        "sweeps": sweeps,
        "formats": formats,
        "timings": {
            key: list(column) for key, column in zip(("model", "part", "wall"), zip(*timings, strict=True), strict=True)
        },
        "scores": {"overhead_ms": 10.0, "overhead_ms_needed": 59.0},
        "intervals": {"ratio_forward": [1.9, 2.0, 2.1], "ratio_end_to_end": [1.85, 1.91, 1.95]},
        "accuracy": {"rows": [{"format": "float32", "lost": 0.0}, {"format": "onnx_int8", "lost": 0.4}]},
        **more,
    }


def score(task: str, model: str, seed: int, main: float, **more) -> dict:
    """A fine-tuning record with nothing but what the figure reads."""
    return {
        "kind": "finetuning",
        "task": task,
        "model": model,
        "seed": seed,
        "scores": {"main": main, **more},
        "scale": "toy",
        "data": {"stand_in": True},
        "interval": [main - 0.01, main + 0.01],
    }


def tuned(model: str, main: float, task: str = "rte", seed: int = 0) -> dict:
    """A fine-tuning record with its baseline."""
    return score(task, model, seed, main, majority=0.5)


def heldout(variant: str, losses: list[float] | None, seed: int = 0) -> dict:
    """An ablation record with its held-out losses."""
    evaluations = losses and {"tokens": [0, 1000], "mlm_loss": losses}
    return {"model": variant, "title": variant, "seed": seed, "evaluations": evaluations, "scores": {"mlm_loss": 2.5}}


def row(variant: str, values: dict[int, float], deltas: list[float], paper: float | None = None, **interval) -> dict:
    """A row of `ablation.compare`."""
    mean = sum(deltas) / len(deltas) if deltas else None
    return {
        "variant": variant,
        "title": variant,
        "values": values,
        "deltas": deltas,
        "mean": mean,
        "paper": paper,
        "low": None,
        "high": None,
    } | interval


def told(figure) -> str:
    """The finding of a figure of several panels, on one line."""
    return figure.get_suptitle().replace("\n", " ")


ROWS = [
    row("triple", {0: 60.0, 1: 62.0}, []),
    row("no_mlm", {0: 59.0, 1: 62.5}, [-1.0, 0.5], -0.31, low=-9.8, high=9.3),
    row("untrained", {1: 50.0}, [-12.0]),
]


@pytest.fixture(scope="module")
def drawings() -> dict:
    """One figure of every kind, from small data."""
    groups = {"teacher": {"embeddings": 4_000_000, "layers": 6_000_000}, "student": {"embeddings": 4_000_000}}
    return {
        "counts": figures.plot_parameter_counts(paper_module.table("figure1_parameters")),
        "map": figures.plot_layer_map([0, 2, 4, 7, 9, 11], 12),
        "kinds": figures.plot_layer_kinds(["full", "sliding"] * 6, [0, 3], {"naive copy": ["full"] * 2}),
        "temperature": figures.plot_temperature([3.0, 1.0, 2.0], ["a", "b", "c"]),
        "curve": figures.plot_curve(run_record("student")),
        "scores": figures.plot_scores([score("RTE", "student", 0, 0.6)]),
        "groups": figures.plot_parameter_groups(groups),
        "published": figures.plot_published({"BERT-base": {"RTE": 69.3}, "DistilBERT": {"RTE": 59.9}}),
        "seconds": figures.plot_seconds(paper_module.table("table3_speed")),
        "vintages": figures.plot_vintages(paper_module.table("table1_glue")),
        "ablation": figures.plot_ablation(ROWS, "toy"),
        "pairs": figures.plot_pairs(ROWS, "toy"),
        "heldout": figures.plot_heldout([heldout("triple", [3.0, 2.0]), heldout("untrained", None)]),
        "retention": figures.plot_retention([tuned("teacher", 0.8), tuned("student", 0.6)]),
        "spans": figures.plot_span_probabilities(["a", "b"], {"student": ([0.2, 0.8], [0.1, 0.9])}, answer=(1, 1)),
        "files": figures.plot_file_sizes(
            paper_module.table("device_files"), dict.fromkeys(("DistilBERT", "BERT-base"), {})
        ),
        "overhead": figures.plot_overhead(benchmark_record()),
        "sweeps": figures.plot_sweeps(benchmark_record()),
        "runtimes": figures.plot_runtimes(benchmark_record()),
        "formats": figures.plot_formats(benchmark_record(), megabytes=100),
        "guesses": figures.plot_guesses({"teacher": [("cat", 0.7), ("dog", 0.2)], "student": [("dog", 0.5)]}),
        "masking": figures.plot_masking(["a", "cat"], {"smoothing 0": [0.1, 0.2], "smoothing 0.7": [0.0, 0.3]}),
        "layers": figures.plot_layer_choice(np.eye(5), [0, 2], [1.0, 0.8], (60, 100)),
        "weights": figures.plot_loss_weights({"ce": 1.0, "mlm": 2.0}, np.eye(2), {"ce": 5, "mlm": 2}),
    }


def words(figure) -> list[str]:
    """All text written into the axes of a figure, titles, ticks and legends aside."""
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def legend(ax) -> list[str]:
    """The labels of a legend, which stands in the axes or below all of them."""
    return [text.get_text() for text in (ax.get_legend() or ax.figure.legends[0]).get_texts()]


def test_files_are_the_same_bytes_each_time(drawings, tmp_path, monkeypatch):
    """Saved twice, a day apart and with other rcParams around, in all three formats."""
    digests = []
    for folder, epoch in (("first", "0"), ("second", "86400")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        with mpl.rc_context({"svg.hashsalt": folder, "svg.fonttype": "none", "savefig.dpi": 40 + int(epoch) // 8640}):
            saved = [p for name, drawn in drawings.items() for p in figures.save_figure(drawn, name, tmp_path / folder)]
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in saved])
    assert len(digests[0]) == 3 * len(drawings)
    assert digests[0] == digests[1]


def test_drawing_again_gives_the_same_bytes(tmp_path):
    first, second = (figures.plot_layer_map([0, 2], 4) for _ in range(2))
    for a, b in zip(figures.save_figure(first, "a", tmp_path), figures.save_figure(second, "b", tmp_path), strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_save_figure_returns_its_paths_and_defaults_to_the_figures_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path))
    saved = figures.save_figure(figures.plot_layer_map([0, 2], 4), "map", formats=("png", "svg"))
    assert saved == [tmp_path / "figures" / "map.png", tmp_path / "figures" / "map.svg"]
    assert [path.read_bytes()[:4] for path in saved] == [b"\x89PNG", b"<?xm"]


def test_unknown_format_raises_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="choose"):
        figures.save_figure(figures.plot_layer_map([0], 2), "map", tmp_path / "new", formats=("svg", "gif"))
    assert not (tmp_path / "new").exists()


def test_figures_are_not_left_with_pyplot_and_the_style_is_not_left_on(drawings):
    before = dict(mpl.rcParams)
    figures.plot_layer_map([0, 2], 4)
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_roles_have_distinct_colours():
    assert {"teacher", "student", "undistilled", "random", "paper"} <= set(figures.COLOURS)
    assert len(set(figures.COLOURS.values())) == len(figures.COLOURS)


def test_parameter_counts_shows_and_labels_each_model():
    table = paper_module.table("figure1_parameters")
    figure = figures.plot_parameter_counts(table)
    (points,) = figure.axes[0].collections
    assert sorted(points.get_offsets()[:, 1]) == sorted(table["parameters_millions"])
    assert sorted(words(figure)) == sorted(
        f"{m}, {n:,}" for m, n in zip(table["model"], table["parameters_millions"], strict=True)
    )
    bold = [text.get_text() for text in figure.axes[0].texts if text.get_weight() == "bold"]
    assert bold == ["DistilBERT, 66"]
    assert "8,300" in figure.axes[0].get_title("left") and "66 M" in figure.axes[0].get_title("left")


def test_parameter_count_labels_neither_overlap_nor_leave_the_figure():
    figure = figures.plot_parameter_counts(paper_module.table("figure1_parameters"))
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_layer_map_draws_one_arrow_per_student_layer():
    figure = figures.plot_layer_map([0, 2, 4, 7, 9, 11], 12)
    ax = figure.axes[0]
    arrows = [text for text in ax.texts if text.get_text() == ""]
    assert [arrow.xyann[1] for arrow in arrows] == [0, 2, 4, 7, 9, 11]
    assert [arrow.xy[1] for arrow in arrows] == sorted(arrow.xy[1] for arrow in arrows)
    assert len(ax.patches) == 12 + 6
    filled = [round(box.get_y() + 0.35) for box in ax.patches[:] if box.get_x() < 0 and box.get_facecolor()[3] > 0]
    assert sorted(filled) == [0, 2, 4, 7, 9, 11]
    assert {"teacher 11", "student 5"} <= set(words(figure))


@pytest.mark.parametrize("layers", [[0, 12], [-1, 3], []])
def test_layer_map_refuses_layers_that_the_teacher_lacks(layers):
    with pytest.raises(ValueError, match=r"0\.\.11"):
        figures.plot_layer_map(layers, 12)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, "array", "leaf"])
def test_temperature_bars_are_the_softened_probabilities(kind):
    values = [0.0, 3.0, 1.0, 2.0, -1.0]
    logits = {"array": np.array(values), "leaf": torch.tensor(values, requires_grad=True)}.get(kind)
    logits = torch.tensor(values, dtype=kind) if logits is None else logits
    figure = figures.plot_temperature(logits, list("abcde"), temperatures=(1, 4), k=3)
    for ax, temperature in zip(figure.axes, (1, 4), strict=True):
        expected = torch.softmax(torch.tensor(values) / temperature, 0)[[1, 3, 2]]
        assert [bar.get_width() for bar in ax.patches] == pytest.approx(expected.tolist(), abs=1e-6)
        assert ax.texts[0].get_text() == f"others {1 - expected.sum():.0%}"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "d", "c"]
    assert [ax.get_title("left")[:6] for ax in figure.axes] == ["T = 1\n", "T = 4\n"]
    spread = torch.softmax(torch.tensor(values) / 4, 0)
    entropy = float(-(spread * spread.log()).sum())
    assert f"{entropy:.2f} nats" in figure.axes[1].get_title("left")
    assert f"between {np.exp(entropy):,.0f} equal words" in figure.get_suptitle().replace("\n", " "), (
        "the title follows the temperature"
    )


def test_temperature_shows_whole_words_only():
    figure = figures.plot_temperature([5.0, 4.0, 3.0, 2.0], ["##t", ".", "cat", "dog"], temperatures=(1,))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["cat", "dog"]


def test_temperature_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="positive"):
        figures.plot_temperature([1.0, 2.0], ["a", "b"], temperatures=(0, 1))
    with pytest.raises(ValueError, match="token"):
        figures.plot_temperature(torch.zeros(2, 3), ["a", "b", "c"])


def test_curve_of_one_record_shows_each_term_and_the_evaluations():
    loss, mlm_loss, agreement = figures.plot_curve(run_record("student")).axes
    assert legend(loss) == ["loss", "ce", "mlm", "cos"]
    assert list(loss.lines[0].get_xdata()) == [1, 2, 3]
    assert list(loss.lines[1].get_ydata()) == [5.0, 4.0, 3.0]
    assert np.isnan(loss.lines[3].get_ydata()[-1])
    assert (list(mlm_loss.lines[0].get_xdata()), list(mlm_loss.lines[0].get_ydata())) == ([1, 3], [4.0, 3.0])
    assert list(agreement.lines[0].get_ydata()) == [0.2, 0.4]


def test_curve_of_a_causal_model_speaks_of_the_next_word():
    record = run_record("student")
    for columns in (record["curve"], record["evaluations"]):
        for name in {"mlm", "mlm_loss"} & columns.keys():
            columns[name.replace("mlm", "clm")] = columns.pop(name)
    loss, held_out, _ = figures.plot_curve(record).axes
    assert "clm" in legend(loss) and "mlm" not in legend(loss)
    assert "next word" in held_out.get_title("left") and list(held_out.lines[0].get_ydata()) == [4.0, 3.0]


def test_curve_of_several_records_has_one_named_line_each():
    records = [run_record("one", model="student"), run_record("two", 0.1, model="undistilled"), run_record("three")]
    loss, mlm_loss, agreement = figures.plot_curve(records, term="mlm").axes
    assert legend(loss) == ["student", "twin without a teacher", "three"], "roles by their human names"
    assert [list(line.get_ydata()) for line in loss.lines] == [[3.5, 3.0, 2.5]] * 3
    assert [line.get_ydata()[0] for line in mlm_loss.lines] == [4.0, 4.1, 4.0]
    colours = [line.get_color() for line in agreement.lines]
    assert colours[:2] == [figures.COLOURS["student"], figures.COLOURS["undistilled"]]
    assert colours[2] not in figures.COLOURS.values()


def test_a_run_called_after_its_role_keeps_the_colour_of_the_role():
    records = [
        run_record("distil-mini", model="student"),
        run_record("scratch-mini", model="undistilled"),
        run_record("undistilled-mini", model="undistilled"),
    ]
    mine, scratch, twin = (line.get_color() for line in figures.plot_curve(records, "mlm").axes[0].lines)
    assert (mine, twin) == (figures.COLOURS["student"], figures.COLOURS["undistilled"]) and scratch not in (mine, twin)


def test_curve_tells_two_runs_of_one_model_apart():
    lines = figures.plot_curve([run_record("a", model="student"), run_record("b", model="student")]).axes[0].lines
    assert len({line.get_color() for line in lines}) == 2
    halved = [run_record(f"distil-small-short-{layers}", model="student") | {"scale": "small"} for layers in (3, 1)]
    assert legend(figures.plot_curve(halved).axes[0]) == ["student, short 3", "student, short 1"]


def test_curve_leaves_out_what_a_record_lacks():
    bare = {"name": "undistilled", "curve": {"tokens": [1e6], "loss": [2.0], "mlm": [2.0], "ce": [None]}}
    loss, mlm_loss, agreement = figures.plot_curve([bare]).axes
    assert legend(loss) == ["loss", "mlm"]
    assert not mlm_loss.lines and not agreement.lines
    with pytest.raises(ValueError, match="records"):
        figures.plot_curve([])


def test_curve_of_a_teacher_has_no_empty_panel_and_no_term_without_a_weight():
    alone = run_record("teacher")
    alone["curve"] |= {"ce": [0.0] * 3, "cos": [0.0] * 3}
    alone["evaluations"] |= {"agreement": [None, None]}
    loss, mlm_loss = figures.plot_curve(alone).axes
    assert legend(loss) == ["loss", "mlm"]
    assert list(mlm_loss.lines[0].get_ydata()) == [4.0, 3.0]


def test_scores_draw_medians_whiskers_and_majority():
    records = [score("RTE", "student", seed, main, majority=0.53) for seed, main in enumerate((0.5, 0.6, 0.9))]
    records += [score("SST-2", "student", 0, 0.8), score("RTE", "teacher", 0, 0.7), score("CoLA", "teacher", 0, 0.1)]
    ax = figures.plot_scores(records).axes[0]
    dots = {bars.get_label(): bars for bars in ax.containers}
    assert list(dots) == ["teacher", "student"]
    student, _, (whiskers,) = dots["student"]
    assert list(student.get_ydata()) == [60, 80], "points, as in every table"
    assert [list(segment[:, 1]) for segment in whiskers.get_segments()] == [[50, 90], [80, 80]]
    assert student.get_markerfacecolor() == figures.COLOURS["student"]
    (majority,) = [ticks for ticks in ax.collections if ticks.get_label() == "best constant answer"]
    assert [list(segment[:, 1]) for segment in majority.get_segments()] == [[53.0, 53.0]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["CoLA", "RTE", "SST-2"]


def test_scores_of_an_unknown_model_get_a_colour_of_their_own():
    models = ["teacher", "student", "undistilled", "random", "no_ce", "no_cos"]
    ax = figures.plot_scores([score("RTE", model, 0, 0.5) for model in models]).axes[0]
    assert len({bars.lines[0].get_color() for bars in ax.containers}) == len(models)
    with pytest.raises(ValueError, match="records"):
        figures.plot_scores([])


def test_parameter_groups_stack_to_the_totals():
    teacher, student = {"embeddings": 4_000_000, "layers": 6_000_000}, {"embeddings": 4_000_000, "head": 5}
    groups = {"teacher": teacher, "student": student}
    ax = figures.plot_parameter_groups(groups, published={"teacher": 11, "other": 99}).axes[0]
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in ax.containers}
    assert widths == {"embeddings": [4.0, 4.0], "layers": [6.0, 0.0]}, "a sliver that cannot be seen has no entry"
    assert [bar.get_x() for bar in ax.containers[1]] == [4.0, 4.0]
    assert [text.get_text() for text in ax.texts] == ["10.0 M", "4.0 M"]
    (hollow,) = ax.lines
    assert (list(hollow.get_xdata()), hollow.get_markerfacecolor()) == ([11], "white")


def test_published_scores_are_hollow():
    theirs = {"BERT-base": {"RTE": 69.3, "SQuAD F1": 88.5}, "DistilBERT": {"RTE": 59.9}}
    ax = figures.plot_published(theirs, title="a claim").axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == ["BERT-base, paper", "DistilBERT, paper"] and ax.get_title("left") == "a claim"
    assert [lines[name].get_markerfacecolor() for name in lines] == ["none", "none"]
    assert list(lines["DistilBERT, paper"].get_ydata()) == [59.9]
    assert lines["BERT-base, paper"].get_color() == figures.COLOURS["teacher"], "the roles' own colours"


def test_vintages_and_seconds_say_what_follows_from_the_tables():
    ax = figures.plot_vintages(paper_module.table("table1_glue")).axes[0]
    assert [list(line.get_ydata()) for line in ax.lines] == [[77.6, 74.9, 79.5], [76.8, 74.3, 77.0]]
    kept = ["keeps 99.0 %", "keeps 99.2 %", "keeps 96.9 %"]
    assert [text.get_text() for text in ax.texts] == ["BERT-base", "DistilBERT", *kept]
    ax = figures.plot_seconds(paper_module.table("table3_speed")).axes[0]
    assert "1.63" in ax.get_title("left") and [bar.get_width() for bar in ax.patches] == [895, 668, 410]
    assert not any(bar.get_fill() and bar.get_facecolor()[3] for bar in ax.patches), "the paper's are hollow"


def test_ablation_draws_the_papers_differences_beside_ours_not_over_them():
    left, right = figures.plot_ablation(ROWS, "toy").axes
    assert list(left.lines[0].get_xdata())[0] == -0.31 and left.lines[0].get_markerfacecolor() == "none"
    (interval,) = [line for line in right.lines if list(line.get_xdata()) == [-9.8, 9.3]]
    assert list(interval.get_ydata()) == [0, 0]
    means = [line.get_xdata()[0] for line in right.lines if line.get_marker() == "o"]
    assert means == [-0.25, -12.0] and "2 pairs" in right.get_title("left")
    assert "in our interval for 1 of 1" in left.figure.get_suptitle().replace("\n", " ")
    assert [label.get_text() for label in left.get_yticklabels()] == ["no_mlm", "untrained"]
    with pytest.raises(ValueError, match="differences"):
        figures.plot_ablation(ROWS[:1], "toy")


def test_signs_are_seen_where_all_differences_have_one():
    right = figures.plot_ablation([row("no_ce", {}, [1.0]), row("no_cos", {}, [3.0])], "small").axes[1]
    assert right.get_xlim()[0] < -0.5


def test_pairs_join_the_runs_of_a_seed_and_leave_gaps_open():
    ax = figures.plot_pairs(ROWS, "toy").axes[0]
    assert legend(ax) == ["seed 0", "seed 1"]
    assert list(ax.lines[1].get_ydata()) == [62.0, 62.5, 50.0] and np.isnan(ax.lines[0].get_ydata()[2])


def test_one_seed_says_nothing_of_seeds():
    one = [row | {"values": {seed: v for seed, v in row["values"].items() if seed == 1}} for row in ROWS]
    assert "one seed says nothing" in figures.plot_pairs(one, "toy").axes[0].get_title("left")
    assert "a seed changes" in figures.plot_pairs(ROWS, "toy").axes[0].get_title("left")


def test_heldout_losses_are_means_over_seeds_and_the_random_start_is_not_among_the_closer():
    records = [
        heldout("triple", [3.0, 2.0]),
        heldout("triple", [3.0, 1.0], 1),
        heldout("untrained", None),
        heldout("random_init", [8.0, 7.0]),
    ]
    every, closer = figures.plot_heldout(records).axes
    assert [list(line.get_ydata()) for line in every.lines] == [[3.0, 1.5], [8.0, 7.0], [2.5, 2.5]]
    assert [line.get_label() for line in closer.lines] == ["triple", "untrained"]
    assert closer.lines[1].get_linestyle() == "--"
    assert len(figures.plot_heldout(records[:3]).axes) == 1, "nothing that a second panel would leave out"


def test_values_of_further_axes_are_drawn_after_the_variants_while_there_are_colours():
    """Twelve variants, ten colours; what is not drawn is not called the best either."""
    records = [heldout("triple", [3.0, 2.0])]
    records += [heldout(f"axis_{n:02}", [3.0, 2.0 - n / 10]) | {"scores": {"mlm_loss": 2 - n / 10}} for n in range(11)]
    figure = figures.plot_heldout([*records, heldout("untrained", None)])
    names = [line.get_label() for line in figure.axes[0].lines]
    assert names == ["triple", "untrained", *(f"axis_{n:02}" for n in range(8))]
    assert "Reads best: axis_07" in told(figure)


def test_a_subset_of_a_real_task_is_marked_below_its_dots():
    records = [score("qqp", "student", 0, 0.6) | {"scale": "mini"}, score("rte", "student", 0, 0.6)]
    records += [record | {"model": "teacher"} for record in records]
    for drawn in (figures.plot_scores(records), figures.plot_retention(records)):
        assert [label.get_text() for label in drawn.axes[0].get_xticklabels()] == ["QQP\nsubset", "RTE"]


def test_retention_pairs_student_and_teacher_by_seed():
    records = [tuned("teacher", 0.8), tuned("student", 0.6), tuned("student", 0.9, "cola")]
    records += [tuned(model, 0.5, seed=1) for model in ("teacher", "student")]
    ax = figures.plot_retention(records, {"rte": 96.0}).axes[0]
    (ours,) = ax.containers
    assert list(ours[0].get_ydata()) == [87.5] and [list(s[:, 1]) for s in ours[2][0].get_segments()] == [[75.0, 100.0]]
    assert ax.lines[0].get_markerfacecolor() == "none" and list(ax.lines[0].get_ydata()) == [96.0]
    with pytest.raises(ValueError, match="teacher"):
        figures.plot_retention([tuned("student", 0.5)])


def test_seeds_whose_teacher_scores_nothing_have_no_share_and_are_counted():
    records = [score("cola", "teacher", s, main) for s, main in enumerate((0.2, 0.2, 0.0))]
    records += [score("cola", "student", s, 0.1) for s in range(3)]
    records += [score("rte", model, s, 0.6) for model in ("teacher", "student") for s in range(3)]
    ax = figures.plot_retention(records).axes[0]
    names = {label.get_text().partition("\n")[0]: label.get_text() for label in ax.get_xticklabels()}
    assert "teacher at 0\nin 1 of 3" in names["CoLA"] and names["RTE"] == "RTE"


def test_every_table_and_figure_of_the_paper_is_drawn(monkeypatch):
    drawn = figures.drawings([])
    for wanted in ("figure1", "table1", "table2", "table3"):
        assert any(name.startswith(wanted) for name in drawn), wanted
    cells = [
        heldout(variant, [3.0, 2.0])
        | {
            "kind": "ablation",
            "name": variant,
            "grid": "ablation-toy",
            "scale": "toy",
            "task": None,
            "config": {},
            "commit": None,
            "device": {"gpu": "g"},
            "versions": {"torch": "2", "transformers": "5"},
            "scores": {"macro": 0.5, "mlm_loss": 2.0},
        }
        for variant in ("triple", "no_ce")
    ]
    assert "toy_ablation" in figures.drawings(cells)
    mini = [cell | {"scale": "mini", "grid": "ablation-mini"} for cell in cells]
    assert "ours, mini" in figures.drawings(mini)["mini_ablation"].axes[1].get_title(loc="left")


def spans(*starts: float) -> tuple[list[float], torch.Tensor]:
    """Start probabilities as given and the same from behind, as a tensor, for the end."""
    return list(starts), torch.tensor(starts[::-1])


def test_span_probabilities_are_drawn_by_token_and_model():
    both = {"teacher": spans(0.1, 0.2, 0.7), "student": spans(0.5, 0.0, 0.25)}
    figure = figures.plot_span_probabilities(["cost", "$", "5"], both, answer=(1, 2))
    start, end = figure.axes
    for ax, order in ((start, 1), (end, -1)):
        heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in ax.containers}
        assert heights == {
            "teacher": pytest.approx([0.1, 0.2, 0.7][::order]),
            "student": pytest.approx([0.5, 0.0, 0.25][::order]),
        }
        assert [bars[0].get_facecolor() for bars in ax.containers] == [
            mpl.colors.to_rgba(figures.COLOURS[model]) for model in both
        ]
        assert [text.get_text() for text in ax.texts] == ["elsewhere 25%"], "of the student alone"
        shade = next(patch for patch in ax.patches if patch.get_label() == "answer")
        assert (shade.get_x(), shade.get_x() + shade.get_width()) == (0.5, 2.5)
        assert ax.get_ylim()[1] > 0.7
    assert [label.get_text() for label in end.get_xticklabels()] == ["cost", r"\$", "5"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["answer", "teacher", "student"]
    centres = [[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in start.containers]
    assert np.mean(centres, axis=0) == pytest.approx([0, 1, 2])


@pytest.mark.parametrize(
    "probabilities, answer, says",
    [
        ({}, None, "values"),
        ({"student": spans(0.5, 0.5)}, None, "values"),
        ({"student": ([0.1, 0.2, 0.3],)}, None, "end"),
        ({"student": spans(0.9, -0.6, 0.5)}, None, "softmax"),
        ({"student": spans(0.6, 0.3, 0.2)}, None, "softmax"),
        ({"student": spans(0.1, 0.2, 0.7)}, (1, 3), "answer"),
        ({"student": spans(0.1, 0.2, 0.7)}, (2, 1), "answer"),
    ],
)
def test_span_probabilities_refuse_what_they_cannot_draw(probabilities, answer, says):
    with pytest.raises(ValueError, match=says):
        figures.plot_span_probabilities(["a", "b", "c"], probabilities, answer)


def test_file_sizes_stack_what_is_in_the_file_and_mark_what_it_weighs():
    groups = {"DistilBERT": {"word embeddings": 20_000_000, "attention": 10_000_000}, "BERT-base": {"attention": 9}}
    ax = figures.plot_file_sizes(paper_module.table("device_files"), groups).axes[0]
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in ax.containers}
    assert widths["word embeddings"][:4] == [80, 80, 80, 80]
    assert widths["attention"][:4] == [0, 0, 40, 20], "the first two files have no attention, the fourth has it halved"
    (diamonds,) = ax.lines
    assert list(diamonds.get_xdata()) == list(paper_module.table("device_files")["bytes"] / 1e6)
    assert diamonds.get_markerfacecolor() == "white"


def test_overhead_draws_the_curve_through_forward_times_and_the_papers_ratio_on_it():
    ax = figures.plot_overhead(benchmark_record()).axes[0]
    curve, *_ = ax.lines
    assert curve.get_ydata()[0] == 2 and all(np.diff(curve.get_ydata()) < 0)
    (paper_value,) = [line for line in ax.lines if "the paper" in str(line.get_label())]
    published = paper_module.speed("BERT-base") / paper_module.speed("DistilBERT")
    assert (list(paper_value.get_xdata()), list(paper_value.get_ydata())) == ([59.0], [published])
    assert paper_value.get_markerfacecolor() == "white"
    (forward, end) = ax.containers
    assert (forward.lines[0].get_ydata()[0], end.lines[0].get_xdata()[0]) == (2.0, 10.0)
    assert "59 ms" in ax.get_title("left")


def test_the_ratio_of_a_forward_pass_is_one_number_in_title_and_legend():
    """The median of the rounds' ratios, 2.03, though the median times stand as 2 to 1."""
    record = benchmark_record()
    record["intervals"] = record["intervals"] | {"ratio_forward": [1.9, 2.03, 2.1]}
    ax = figures.plot_overhead(record).axes[0]
    assert "turn 2.03 × into" in ax.get_title("left").replace("\n", " ")
    assert "measured, forward: 2.03 ×" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_times_of_a_format_are_those_of_the_tables():
    record = benchmark_record()
    record["formats"] = [row | {"speedup": 9.4} if row["format"] == "onnx_int8" else row for row in record["formats"]]
    for drawn in (figures.plot_formats(record).axes[0].get_title("left"), told(figures.plot_runtimes(record))):
        assert "9.4 times" in drawn.replace("\n", " ")


def test_sweeps_have_a_panel_for_each_knob_with_the_median_ratio_and_quartiles():
    figure = figures.plot_sweeps(benchmark_record())
    assert [ax.get_xlabel() for ax in figure.axes] == ["sequence length", "threads"]
    for ax in figure.axes:
        medians = [list(line.get_ydata()) for line in ax.lines]
        assert pytest.approx([2, 2]) in medians and pytest.approx([3, 3]) in medians, "processor time, and the wall"
        whiskers = np.concatenate([line.get_ydata() for line in ax.lines])
        assert any(np.isclose(whiskers, 2.05)) and any(np.isclose(whiskers, 1.95))
        assert any(line.get_markerfacecolor() == "white" for line in ax.lines), "the paper's ratio is hollow"
    with pytest.raises(ValueError, match="sweeps"):
        figures.plot_sweeps(benchmark_record(sweeps=[]))


@pytest.mark.parametrize(
    "limits, fits",
    [
        ({}, ["float32", "bfloat16", "onnx_int8"]),
        ({"megabytes": 207}, ["bfloat16", "onnx_int8"]),
        ({"megabytes": 134, "milliseconds": 40}, ["bfloat16", "onnx_int8"]),
        ({"milliseconds": 30}, ["onnx_int8"]),
        ({"points": 0.3}, ["float32"]),
        ({"points": 5}, ["float32", "onnx_int8"]),
        ({"megabytes": 1}, []),
    ],
)
def test_a_format_fits_within_all_limits_and_an_unknown_cost_only_where_any_is_allowed(limits, fits):
    rows = fitting(benchmark_record(), **limits)
    assert list(rows["format"][rows["fits"]]) == fits
    ax = figures.plot_formats(benchmark_record(), **limits).axes[0]
    filled = [colour[3] > 0 for colour in ax.collections[0].get_facecolors()]
    told = f"{len(fits)} of 3 formats" if limits else "ONNX int8: 25% of the student's size, 10.0 times as fast"
    assert sum(filled) == len(fits) and told in ax.get_title("left").replace("\n", " ")


def test_a_layer_that_changes_its_kind_is_framed_and_counted():
    kinds, ours = ["full_attention", *["sliding_attention"] * 2] * 2, ["full_attention", "full_attention"]
    figure = figures.plot_layer_kinds(kinds, [0, 3], {"naive copy": kinds[:2], "ours": ours})
    framed = [patch.get_linewidth() > 2 for patch in figure.axes[0].patches]
    assert framed == [False, False, False, True, False, False]
    assert "naive copy 1 of 2, ours 0 of 2" in figure.axes[0].get_title("left").replace("\n", " ")
    assert [text.get_text() for text in figure.axes[0].texts][:4] == [
        "0: full",
        "3: full",
        "0 → 0: full",
        "3 → 1: sliding",
    ]


def test_runtimes_show_teacher_and_student_by_length_and_task():
    record = benchmark_record()
    record["formats"].append({"model": "teacher", "format": "onnx_int8", "bytes": 99 * 10**6, "ms": [50, 60, 70]})
    record["formats"] = [
        row | {"lengths": {"32": [row["ms"][1] / 4, 1], "128": [row["ms"][1], 1]}} for row in record["formats"]
    ]
    lost = {"teacher": (0.5, 1.5), "student": (0.0, 0.5)}
    record["tasks"] = [
        {"of": of, "rows": [{"format": "onnx_int8", "lost": points}]} for of, both in lost.items() for points in both
    ]
    figure = figures.plot_runtimes(record)
    sizes, times, points = figure.axes
    assert sorted(bar.get_width() for bar in sizes.patches) == [68, 99, 134, 268, 438]
    assert [text.get_text() for text in sizes.get_yticklabels()] == ["PyTorch float32", "PyTorch bfloat16", "ONNX int8"]
    assert sorted(x for line in times.lines for x in line.get_xdata()) == [5, 10, 15, 20, 25, 40, 50, 60, 100, 200]
    assert sorted(x for line in points.lines[:2] for x in line.get_xdata()) == [-1.0, -0.25]
    assert "student: PyTorch float32 has 268, ONNX int8 68" in figures.describe(figure)
    assert set(legend(times)) == {f"{of}, {n} pieces" for of in lost for n in (32, 128)}
    told = figure.get_suptitle().replace("\n", " ")
    assert told.startswith("ONNX int8 is fastest (32 pieces): 10.0 times the teacher in float32, in 25% of the")
    assert told.endswith("student's bytes (scale toy)")
    unscored = figures.plot_runtimes(record | {"tasks": [], "accuracy": {"rows": []}}).axes[2]
    assert [text.get_text() for text in unscored.texts] == ["not scored"] and not len(unscored.get_xticks())
    with pytest.raises(ValueError, match="formats"):
        figures.plot_runtimes(benchmark_record(formats=[]))


def test_points_of_another_scale_s_student_are_told_as_its_own():
    lost = benchmark_record()["accuracy"]["rows"]
    for scale, label in (("toy", "points"), ("mini", "points\n(mini qnli)")):
        record = benchmark_record(accuracy={"scale": scale, "task": "qnli", "rows": lost})
        assert figures.plot_runtimes(record).axes[2].get_xlabel() == label


def test_times_close_together_have_more_than_one_tick():
    """From 20 to 200 ms, where 100 is the only power of ten, and from 0.2 to 200 ms, where 1, 10 and 100 are enough."""
    for least, ticks in ((20, [20, 50, 100, 200]), (0.2, [1, 10, 100])):
        record = benchmark_record()
        record["formats"] = [row | {"ms": [least] * 3} if row["ms"][1] == 20 else row for row in record["formats"]]
        times = figures.plot_runtimes(record).axes[1]
        left, right = times.get_xlim()
        assert [tick for tick in times.get_xticks() if left <= tick <= right] == pytest.approx(ticks)


def test_the_title_of_a_rounding_is_the_worst_of_each_model():
    def task(of: str, name: str, lost: float) -> dict:
        formats = (("onnx_float32", 0.0), ("onnx_int8", 0.5), ("onnx_wide", lost))
        scored = [{"format": form, "bytes": 4, "accuracy": 0.8, "lost": points} for form, points in formats]
        return {"of": of, "task": name, "rows_scored": 9, "chosen": "onnx_wide", "rows": scored}

    points = {("student", "rte"): 0.2, ("student", "cola"): -0.1, ("teacher", "rte"): 0.1, ("teacher", "cola"): 1.4}
    figure = figures.plot_rounding(benchmark_record(tasks=[task(*where, lost) for where, lost in points.items()]))
    assert "at most 0.20 points of the student (rte), 1.40 points of the teacher (cola)" in told(figure)


def test_a_figure_of_records_tells_their_scale():
    """Once in its finding, so that its description has it too; a record of many sizes has none."""
    names = ("distil-mini", "undistilled-mini")
    student, twin = (run_record(name, kind="distillation", scale="mini") for name in names)
    for figure in (figures.plot_teaching(student, twin), figures.plot_curve([student, twin])):
        assert figures.describe(figure).count("(scale mini)") == 1
    assert told(figures.plot_sweeps(benchmark_record())).endswith("(scale toy)")
    assert "scale" not in figures.describe(figures.plot_ablation(ROWS, "toy"))


def test_formats_are_written_with_what_they_cost():
    told = words(figures.plot_formats(benchmark_record()))
    assert {"PyTorch float32, +0.00", "ONNX int8, −0.40", "PyTorch bfloat16, not scored"} <= set(told)
    with pytest.raises(ValueError, match="compares"):
        figures.plot_formats(benchmark_record(formats=[]))


def test_growth_has_a_panel_for_each_knob_and_a_line_for_each_step():
    """Hollow is the obvious step, dashed the bound; a machine without bf16 has no line for it."""
    rows = [
        {"knob": knob, "value": value, "tokens": 8, "plain": 2.0 * value, "float32": value, "float32_bound": 0.5}
        for knob in ("sequences", "vocabulary")
        for value in (1, 2)
    ]
    for row in rows:
        row["bf16"] = 0.5 * row["value"]
    record = {"name": "benchmark-pretraining-growth", "kind": "benchmark", "scale": "toy", "growth": rows}
    figure = figures.drawings([record])["pretraining_growth"]
    assert "scale" not in told(figure), "its models are of many sizes"
    assert "up to 2.0 times in float32 and 4.0 times in bf16" in told(figure), "in bf16 not by the chunks alone"
    assert [ax.get_xlabel() for ax in figure.axes] == ["sequences", "vocabulary"]
    lines = figure.axes[1].get_lines()
    assert [line.get_ydata().tolist() for line in lines] == [[4, 2], [8, 4], [16, 16], [16, 8]]
    assert [line.get_linestyle() == "--" for line in lines] == [False, False, True, False]
    assert [line.get_markerfacecolor() == "white" for line in lines] == [True, False, False, False]
    for row in rows:
        del row["bf16"], row["float32_bound"]
    assert len(figures.plot_growth(record).axes[0].get_lines()) == 2


def test_a_smaller_picture_shows_the_same():
    """Few colours stay as they are, what was transparent is white, and a second time changes nothing."""
    rng = np.random.default_rng(0)
    pixels = rng.choice(np.array([[0, 114, 178, 255], [230, 159, 0, 255], [0, 0, 0, 0]], np.uint8), (200, 300))
    drawn = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(drawn, "png", compress_level=0)
    small = figures.reduce_png(drawn.getvalue())
    seen = np.asarray(Image.open(io.BytesIO(small)).convert("RGB"))
    expected = np.where(pixels[..., 3:] == 0, 255, pixels[..., :3])
    assert (seen == expected).all() and len(small) < len(drawn.getvalue()) / 4
    assert figures.reduce_png(small) == small


def test_nothing_is_wider_than_a_page(drawings, tmp_path):
    for name, drawn in drawings.items():
        (path,) = figures.save_figure(drawn, name, tmp_path, formats=("png",))
        assert Image.open(path).width <= 900, name


def test_every_word_is_on_the_picture_and_legible_on_a_phone(drawings):
    """11 pixels where a figure is as wide as a phone, 390 pixels; published records too, not the fixtures alone."""
    published = figures.drawings(load_records(paths.data("runs")))
    for name, drawn in (drawings | published).items():
        (width, height), drawn_on = drawn.get_size_inches(), drawn.get_tightbbox()
        assert min(drawn_on.x0, drawn_on.y0) > -0.03, f"{name}: something is cut off at the left or the bottom"
        assert drawn_on.x1 < width + 0.03 and drawn_on.y1 < height + 0.03, f"{name}: something is cut off"
        for text in drawn.findobj(Text):
            assert text.get_fontsize() * 390 / (72 * width) >= 11 or not text.get_text(), f"{name}: {text.get_text()}"


def test_a_long_passage_shows_its_likeliest_tokens_and_the_answer():
    """Of 60 tokens at most 25, in their order; the answer is there even where no model looks."""
    starts = np.full(60, 0.001)
    starts[[3, 40]] = 0.4
    figure = figures.plot_span_probabilities(
        [f"w{i}" for i in range(60)], {"student": (starts, starts)}, answer=(50, 51)
    )
    told = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert len(told) == 25 and {"w3", "w40", "w50", "w51"} <= set(told)
    assert told == sorted(told, key=lambda word: int(word[1:]))


def test_of_an_answer_longer_than_the_room_both_ends_are_shown():
    """40 tokens, on all of which a model looks but for the last; what lies elsewhere and is likely has room too."""
    starts = np.full(60, 0.01)
    starts[[1, 49]] = 0.3, 0.0
    probabilities = {"student": (starts, starts)}
    figure = figures.plot_span_probabilities([f"w{i}" for i in range(60)], probabilities, answer=(10, 49))
    told = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert len(told) == 25 and {"w1", "w10", "w49"} <= set(told)
    shade = next(patch for patch in figure.axes[0].patches if patch.get_label() == "answer")
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (told.index("w10") - 0.5, told.index("w49") + 0.5)


def test_an_outlier_does_not_squeeze_the_rest():
    """One quartile bar reaches 60: the axis follows the medians, and an arrow says what was cut."""
    record = benchmark_record()
    record["sweeps"] = [
        row | {"teacher": 6.0} if (i % 3, row["value"]) == (2, 8) else row for i, row in enumerate(record["sweeps"])
    ]
    middles = {round(v, 3) for ax in figures.plot_sweeps(record).axes for line in ax.lines for v in line.get_ydata()}
    for ax in figures.plot_sweeps(record).axes:
        if ax.axison:
            assert ax.get_ylim()[1] <= 3 * np.median(sorted(middles))


def test_retention_of_next_to_nothing_is_cut_with_an_arrow():
    records = [score("rte", model, s, 0.6) for model in ("teacher", "student") for s in range(3)]
    records += [score("cola", "teacher", s, 0.1) for s in range(3)]
    records += [score("cola", "student", s, main) for s, main in enumerate((0.1, 0.1, 2.0))]
    ax = figures.plot_retention(records).axes[0]
    assert ax.get_ylim()[1] < 200 and any("↑ 2000" in text.get_text() for text in ax.texts)


def test_only_tasks_that_the_teacher_has_learned_are_counted_in_titles():
    """On RTE the teacher is at the majority, so the student's lead and its 120 % there are none."""
    mains = {"cola": {"teacher": 0.9, "student": 0.8, "undistilled": 0.85}}
    mains |= {"rte": {"teacher": 0.5, "student": 0.6, "undistilled": 0.5}}
    records = [tuned(m, main, task, s) for task, by in mains.items() for m, main in by.items() for s in range(3)]
    title = figures.plot_scores(records).axes[0].get_title("left").replace("\n", " ")
    assert "does not lead its twin on CoLA, all that" in title
    ax = figures.plot_retention(records).axes[0]
    assert ax.get_title("left").replace("\n", " ").endswith("learned: 89 % (scale toy)")
    colours = {round(float(c[0].get_ydata()[0])): c[0].get_color() for c in ax.containers}
    assert colours == {89: figures.COLOURS["student"], 120: figures.GREY}


def test_the_teacher_is_worth_what_its_student_reads_better():
    student, twin = run_record("distil-mini", -0.5), run_record("undistilled-mini")
    student["evaluations"]["mlm_loss"][-1] = 2.7
    figure = figures.plot_teaching(student, twin)
    assert "worth 0.30 nats" in figure.axes[0].get_title("left")
    assert {"student", "twin without a teacher"} <= set(words(figure)), "labels at the lines"
    assert "costs 0.30 nats" in figures.plot_teaching(twin, student).axes[0].get_title("left").replace("\n", " ")


def test_a_projector_gets_larger_letters():
    with figures.style():
        usual = mpl.rcParams["axes.labelsize"]
    with figures.style(projector=True):
        assert mpl.rcParams["axes.labelsize"] > 1.3 * usual


def test_colours_of_roles_are_used_for_roles_alone(drawings):
    assert not set(figures.COLOURS.values()) & set(figures.MUTED)
    roles = {mpl.colors.to_hex(figures.COLOURS[role]) for role in ("teacher", "student", "undistilled")}
    for name in ("masking", "ablation", "heldout", "overhead", "sweeps"):
        drawn = [*drawings[name].findobj(mpl.lines.Line2D), *drawings[name].findobj(mpl.patches.Rectangle)]
        used = {
            mpl.colors.to_hex(one.get_color() if hasattr(one, "get_color") else one.get_facecolor()) for one in drawn
        }
        assert not used & roles, name


def test_the_best_reader_is_told_with_those_that_seeds_cannot_tell_from_it():
    records = [
        heldout(variant, [3.0, 2.0], seed) | {"scores": {"mlm_loss": loss + noise}}
        for variant, loss, noises in (("a", 1.4, (0, 0.1)), ("b", 1.41, (0.1, 0)), ("c", 2.0, (0, 0.1)))
        for seed, noise in enumerate(noises)
    ]
    assert told(figures.plot_heldout(records)).endswith("a, at a held-out loss of 1.45; 1 other cannot be told from it")
    assert told(figures.plot_heldout([r for r in records if r["title"] != "b"])).endswith("loss of 1.45")


def test_one_seed_of_each_is_no_reason_to_call_them_equal():
    once = [heldout(name, [3.0, 2.0]) | {"scores": {"mlm_loss": loss}} for name, loss in (("a", 1.0), ("b", 2.0))]
    assert told(figures.plot_heldout(once)).endswith("loss of 1.00; one pair each, no interval")


def test_unequal_numbers_of_pairs_are_told_as_such():
    rows = [row("no_ce", {}, [0.1, 0.2, 0.3], low=0.0, high=0.4), row("no_cos", {}, [0.1])]
    assert figures.plot_ablation(rows, "toy").axes[1].get_title("left") == "ours, toy: 1 to 3 pairs"


def test_intervals_are_counted_where_table_4_has_no_number():
    rows = [row("no_ce", {}, [0.1, 0.2], low=0.05, high=0.25), row("no_cos", {}, [-0.1, 0.2], low=-0.2, high=0.3)]
    assert told(figures.plot_ablation(rows, "toy", "the loss")) == "1 of 2 intervals leave out 0: change of the loss"
    assert "no interval" in told(figures.plot_ablation([row("no_ce", {}, [0.1])], "toy", "the loss"))


def test_the_lead_over_the_twin_is_told_with_its_seeds():
    """On CoLA every seed of the student is ahead, on RTE the medians alone."""
    mains = {"cola": {"teacher": 0.9, "student": 0.8, "undistilled": 0.7}}
    mains |= {"rte": {"teacher": 0.8, "student": 0.7, "undistilled": 0.69}}
    records = [tuned(m, main + s / 50, t, s) for t, by in mains.items() for m, main in by.items() for s in range(3)]
    title = figures.plot_scores(records).axes[0].get_title("left").replace("\n", " ")
    assert "above its twin's on 2 of the 2 tasks that its teacher learned, with every seed on 1 (scale" in title


def test_the_shares_of_the_right_start_and_end_are_told():
    both = {"teacher": spans(0.1, 0.2, 0.7), "student": spans(0.5, 0.0, 0.25)}
    figure = figures.plot_span_probabilities(["cost", "$", "5"], both, answer=(1, 2))
    title = figure.axes[0].get_title("left").replace("\n", " ")
    assert title.endswith("teacher 20% and 10%, student 0% and 50%")


def test_runs_on_fewer_rows_than_others_are_not_drawn_with_them():
    """In the folder's order the smaller runs come first; neither their scores nor their shares are mixed in."""
    parts = {30: {"teacher": 0.5, "student": 0.2}, 90: {"teacher": 0.8, "student": 0.72}}
    records = [
        score("rte", model, 0, main) | {"scale": "small", "data": {"stand_in": train < 90, "rows": {"train": train}}}
        for train, mains in (*parts.items(), *parts.items())
        for model, main in mains.items()
    ][:6]
    ax = figures.plot_scores(records).axes[0]
    assert [list(bars.lines[0].get_ydata()) for bars in ax.containers] == [[80], [72]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["RTE"]
    (share,) = figures.plot_retention(records).axes[0].containers
    assert list(share[0].get_ydata()) == [90]
