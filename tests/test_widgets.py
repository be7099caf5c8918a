"""The views: each control moves its picture, and whatever a reader types is answered in a line."""

import base64
import html
import io
from collections.abc import Callable

import nbformat
import numpy as np
import pytest
import torch
from conftest import make_teacher, story
from matplotlib.figure import Figure
from test_figures import benchmark_record
from transformers import BertForMaskedLM, BertTokenizer

from distilnb import paths
from distilnb.distillation import losses
from distilnb.distillation.batches import collate
from distilnb.evidence.records import load_records
from distilnb.lessons import notebooks, widgets
from distilnb.models import guessing
from distilnb.models.arithmetic import count_parameters
from distilnb.models.student import build_student
from distilnb.report import figures
from distilnb.tasks import finetuning, heads, squad
from distilnb.tasks.answers import Answer, find_answers
from distilnb.text.masking import Masker

SENTENCE = "anna sees the old [MASK] in the garden ."
ABLATED = load_records(paths.data("runs"), kind="ablation", grid="ablation-toy")
UNSPELT = {
    "an empty sentence": ("", "empty"),
    "blanks": ("  \n", "empty"),
    "an unknown word": ("anna sees the ☃ [MASK] .", "'☃'"),
    "600 words": ("[MASK] " + "cat " * 600, "603 tokens"),
}
UNMASKED = {"no mask": ("anna sees the cat .", "hides no words"), "two masks": ("[MASK] [MASK]", "hides 2 words")}


@pytest.fixture(scope="module")
def teacher(tokenizer: BertTokenizer) -> BertForMaskedLM:
    """One teacher for all tests of this file, none of which trains it."""
    return make_teacher(len(tokenizer))


@pytest.fixture(scope="module")
def student(teacher: BertForMaskedLM):
    return build_student(teacher).eval()


@pytest.fixture(scope="module")
def batch(tokenizer: BertTokenizer) -> dict[str, torch.Tensor]:
    """Four stories, masked; the last is shorter."""
    masker = Masker.of(tokenizer, np.ones(len(tokenizer)))
    rows = [np.array(tokenizer(story(i, 2 - i // 3))["input_ids"]) for i in range(4)]
    masked = [masker(ids, epoch=0, sample_id=i) for i, ids in enumerate(rows)]
    return collate([{"input_ids": ids, "labels": labels} for ids, labels in masked], tokenizer.pad_token_id)


@pytest.fixture(scope="module")
def make(teacher, student, tokenizer, batch) -> dict[str, Callable[[], widgets.View]]:
    """How each view is made, from small models and records."""
    both = {"teacher": teacher, "student": student}
    counts = np.arange(len(tokenizer))[::-1] ** 2
    stories = [story(i) for i in range(4)]
    answering = {name: heads.question_answerer(model)[0] for name, model in both.items()}
    benchmarks = [
        benchmark_record(),
        benchmark_record(name="benchmark-other", scores={"overhead_ms": 20.0, "overhead_ms_needed": 80.0}),
    ]
    return {
        "layer": lambda: widgets.layer_view(teacher, tokenizer, stories),
        "temperature": lambda: widgets.temperature_view(teacher, tokenizer, SENTENCE),
        "loss_weights": lambda: widgets.loss_weights_view(student, teacher, batch),
        "masking": lambda: widgets.masking_view(tokenizer, counts, "anna sees the old cat in the garden ."),
        "fill_mask": lambda: widgets.fill_mask_view(both, tokenizer, SENTENCE),
        "question": lambda: widgets.question_view(answering, tokenizer, story(1), "who sees the cat ."),
        "format": lambda: widgets.format_view(benchmarks[0]),
        "speed": lambda: widgets.speed_view(benchmarks),
        "ablation": lambda: widgets.ablation_view(ABLATED),
    }


MOVES = {  # one other value for each control of each view, made one after the other
    "layer": {"layers": (1, 2, 3)},
    "temperature": {"sentence": "the [MASK] sees anna .", "temperature": 8.0},
    "loss_weights": {"ce": 0.0, "mlm": 10.0, "cos": 10.0},
    "masking": {"sentence": "boris feeds a cat .", "smoothing": 0.2, "draws": 60},
    "fill_mask": {"sentence": "the [MASK] sees anna .", "guesses": 2},
    "question": {"question": "and the garden .", "context": story(2)},
    "format": {"megabytes": 90.0, "milliseconds": 30.0, "points": 0.1},
    "speed": {"run": "benchmark-other", "overhead": 1.2, "picture": "settings"},
    "ablation": {"score": "mlm_loss", "picture": "seeds", "pairs": 2, "random": False},
}
SENTENCES = {"temperature": "sentence", "masking": "sentence", "fill_mask": "sentence", "question": "question"}


def told(view: widgets.View) -> str | None:
    """The line in which a view says what is wrong; None when it shows its picture."""
    shown = view.shown.value
    return html.unescape(shown.split(">")[1].split("<")[0]) if 'role="alert"' in shown else None


@pytest.mark.parametrize("name", MOVES)
def test_every_control_moves_the_picture_and_reset_takes_everything_back(name, make):
    view = make[name]()
    assert told(view) is None
    assert MOVES[name].keys() == view.controls.keys(), "a control without a move here"
    first, values = view.shown.value, {control: view.controls[control].value for control in view.controls}
    for control, value in MOVES[name].items():
        before = view.shown.value
        view.controls[control].value = value
        assert told(view) is None
        assert view.shown.value != before, control
    assert view.shown.value != first
    view.back.click()
    assert view.shown.value == first and {c: view.controls[c].value for c in view.controls} == values


@pytest.mark.parametrize("name", MOVES)
def test_every_control_has_a_label_and_fires_once_per_move(name, make):
    for control in make[name]().controls.values():
        labelled = [control.preset, *control.boxes] if isinstance(control, widgets.LayerPicker) else [control]
        assert all(part.description for part in labelled)
        assert not getattr(control, "continuous_update", False)


@pytest.mark.parametrize("name", SENTENCES)
def test_a_sentence_that_makes_no_sense_is_told_in_a_line(name, make):
    """And the next one that does is drawn as if nothing had been."""
    view = make[name]()
    control = view.controls[SENTENCES[name]]
    before, good = view.shown.value, control.value
    for text, expected in (UNSPELT | (UNMASKED if name in ("temperature", "fill_mask") else {})).values():
        control.value = text
        assert expected in told(view) and "\n" not in told(view) and "Error" not in told(view), text
    control.value = good
    assert view.shown.value == before


@pytest.mark.parametrize(
    ("name", "wrong", "expected"),
    [
        ("layer", {"layers": ()}, "tick at least one"),
        ("loss_weights", {"ce": 0.0, "mlm": 0.0, "cos": 0.0}, "nothing would be learned"),
        ("question", {"context": " "}, "passage is empty"),
        ("question", {"context": "鳥は木にいる。 the"}, "cannot spell most of this passage"),
        ("masking", {"sentence": "[MASK]"}, "never hidden"),
    ],
)
def test_settings_that_make_no_sense_are_told_in_a_line(name, wrong, expected, make):
    view = make[name]()
    for control, value in wrong.items():
        view.controls[control].value = value
    assert expected in told(view)


def test_a_long_word_that_cannot_be_spelled_is_named_by_its_beginning(make):
    view = make["masking"]()
    view.controls["sentence"].value = "ß" * 5000
    assert len(told(view)) < 120 and "ß…'" in told(view)


def test_the_mask_may_be_written_in_small_letters(make):
    view = make["fill_mask"]()
    before = view.shown.value
    view.controls["sentence"].value = SENTENCE.replace("[MASK]", "[mask]")
    assert told(view) is None and view.shown.value == before


def test_benchmarks_are_chosen_by_the_names_that_people_read():
    runs = [benchmark_record(name=f"benchmark-base-{shape}") for shape in ("pairs", "qa")]
    labels = [label for label, _ in widgets.speed_view(runs).controls["run"].options]
    assert labels == ["base, pairs", "base, questions"]


def test_views_without_records_say_what_to_run():
    with pytest.raises(ValueError, match="benchmark"):
        widgets.speed_view(ABLATED)
    with pytest.raises(ValueError, match="distilnb"):
        widgets.ablation_view([benchmark_record()])


def test_any_other_error_is_one_line_too_and_is_not_read_as_html():
    def draw(size: int) -> str:
        raise KeyError("<b>\nsecond line")

    view = widgets.View(draw, size=widgets.ipywidgets.IntSlider(1, description="size"))
    assert told(view) == r"KeyError: '<b>\nsecond line'"
    assert "<b>" not in view.shown.value


@pytest.mark.parametrize("name", MOVES)
def test_what_is_left_where_no_widget_lives(name, make):
    """A picture or the text, and for programs without either a line that says how to get the rest."""
    bundle, metadata = make[name]()._repr_mimebundle_()
    assert ("image/png" in bundle) == bool(metadata.get("image/png", {}).get("alt")), "a picture without a description"
    assert "Run this notebook" in bundle["text/plain"] and next(iter(MOVES[name])) in bundle["text/plain"]
    if name == "question":
        assert "<b>teacher</b>" in bundle["text/html"]
    else:
        picture = base64.b64decode(bundle["image/png"])
        assert picture.startswith(b"\x89PNG") and len(picture) < 25_000 and "text/html" not in bundle


def test_an_executed_notebook_keeps_the_picture_and_not_the_widget():
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}, "image/png": "", "text/plain": "a line"}
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data)])
    (cell,) = notebooks.tidy(nbformat.v4.new_notebook(cells=[cell])).cells
    assert cell.outputs[0].data.keys() == {"image/png", "text/plain"}


def test_pictures_of_an_executed_notebook_are_made_smaller():
    figure = figures.plot_layer_map([0, 2], 4)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    data = {"image/png": base64.b64encode(drawn.getvalue()).decode(), "text/plain": "a line"}
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data)])
    (cell,) = notebooks.reduce_pictures(nbformat.v4.new_notebook(cells=[cell])).cells
    small = base64.b64decode(cell.outputs[0].data["image/png"])
    assert small == figures.reduce_png(drawn.getvalue()) and len(small) < len(drawn.getvalue())


def test_pictures_have_their_title_as_alternative_text(make):
    shown = make["layer"]().shown.value
    assert shown.startswith('<img alt="2 of 4 layers: ') and "fewer than the teacher&#x27;s" in shown


# ------------------------------------------------------------------------------- layers


def test_a_choice_by_name_ticks_its_layers_in_one_move():
    picker, moves = widgets.LayerPicker(12), []
    assert picker.value == (0, 2, 4, 7, 9, 11) and picker.preset.value == "original"
    picker.observe(moves.append, "value")
    picker.preset.value = "last"
    assert [move.new for move in moves] == [(6, 7, 8, 9, 10, 11)]
    assert [box.value for box in picker.boxes] == [False] * 6 + [True] * 6


def test_ticking_names_the_choice_where_it_has_a_name():
    picker = widgets.LayerPicker(12)
    for layer, tick in ((7, False), (9, False), (11, False), (6, True), (8, True), (10, True)):
        picker.boxes[layer].value = tick
        assert (picker.preset.value == "every_other") == (layer == 10)
    assert picker.value == (0, 2, 4, 6, 8, 10)
    picker.boxes[1].value = True
    assert picker.value == (0, 1, 2, 4, 6, 8, 10) and picker.preset.value == widgets.OWN


def test_the_layer_view_counts_parameters_and_finds_the_lowest_layers_unharmed(make, teacher):
    """Nothing below the lowest layers was removed, so they do what they did in the teacher."""
    figure = make["layer"]().draw((0, 1, 3))
    parameters = count_parameters(build_student(teacher, (0, 1, 3)))
    assert f"3 of 4 layers: {parameters:,} parameters" in figure.get_suptitle()
    widths = [bar.get_width() for bar in figure.axes[1].patches]
    assert widths[:2] == pytest.approx([1, 1], abs=1e-5) and widths[2] < 0.999


def test_ticked_layers_are_ringed(make):
    (rings,) = make["layer"]().draw((0, 3)).axes[0].lines
    assert [tuple(place) for place in rings.get_xydata()] == [(1, 1), (4, 4)]  # after the embeddings


# ------------------------------------------------------------------------------- guesses and losses


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_guesses_are_those_of_the_whole_model(which, teacher, student, tokenizer):
    """Against the model's own forward pass; a model in training is asked without dropout and goes on training."""
    model = {"teacher": teacher, "student": student}[which]
    inputs = tokenizer(SENTENCE, return_tensors="pt")
    with torch.no_grad():
        logits = model(inputs["input_ids"]).logits[0, inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)]
    model.train()
    found = guessing.best_guesses(model, tokenizer, SENTENCE, k=4)
    assert model.training and not model.eval().training
    torch.testing.assert_close(guessing.mask_logits(model, tokenizer, SENTENCE), logits)
    best = logits.softmax(-1).topk(4)
    assert [guess.word for guess in found] == tokenizer.convert_ids_to_tokens(best.indices)
    assert [guess.probability for guess in found] == pytest.approx(best.values.tolist())


def test_a_long_sentence_is_refused_by_the_model_that_cannot_read_it(teacher, tokenizer):
    """126 words fit between [CLS] and [SEP], 127 do not."""
    guessing.mask_logits(teacher, tokenizer, "[MASK]" + " cat" * 125)
    with pytest.raises(ValueError, match="129 tokens"):
        guessing.mask_logits(teacher, tokenizer, "[MASK]" + " cat" * 126)


def test_the_gradient_of_any_mix_follows_from_the_dot_products(student, teacher, batch):
    """|5 ∇ce + 2 ∇mlm + ∇cos|² = wᵀ G w, with the left side from autograd on the sum itself."""
    values, gram = widgets.loss_pulls(student, teacher, batch)
    read = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "output_hidden_states": True}
    ours, theirs = student(**read), teacher(**read)
    loss, terms = losses.triple_loss(
        (ours.logits, ours.hidden_states[-1]),
        (theirs.logits.detach(), theirs.hidden_states[-1].detach()),
        batch["labels"],
        batch["attention_mask"],
        losses.LossWeights(5, 2, 1),
    )
    pulls = torch.autograd.grad(loss, list(student.parameters()))
    assert values == pytest.approx({name: term.item() for name, term in terms.items()})
    w = np.array([5, 2, 1])
    assert w @ gram @ w == pytest.approx(sum(float((pull**2).sum()) for pull in pulls), rel=1e-4)


def test_shares_and_cosines_of_a_mix():
    """Two orthogonal gradients of lengths 3 and 4 with weights 1: cosines 3/5 and 4/5; the third has weight 0."""
    gram = np.diag([9.0, 16.0, 1.0])
    figure = figures.plot_loss_weights({"ce": 1.0, "mlm": 3.0, "cos": 9.0}, gram, {"ce": 1, "mlm": 1, "cos": 0})
    left, right = figure.axes
    widths = np.array([bar.get_width() for bar in left.patches]).reshape(3, 2)  # terms by (sum, gradients)
    np.testing.assert_allclose(widths, [[1 / 4, 3 / 7], [3 / 4, 4 / 7], [0, 0]])
    assert [bar.get_width() for bar in right.patches] == pytest.approx([0.6, 0.8, 0])
    assert figure.get_suptitle().startswith("L_mlm pulls hardest") and left.get_title("left") == "L = 4.00"


def test_smoothing_hides_rare_words_more_often(tokenizer):
    """15 % of the tokens either way, [CLS] and [SEP] never; at 0 all alike, at 0.7 the rare one most."""
    ids = tokenizer("the the the cat the the the the")["input_ids"]
    counts = np.ones(len(tokenizer))
    counts[tokenizer.convert_tokens_to_ids("the")] = 1000
    alike, smoothed = (widgets.masking_shares(tokenizer, counts, ids, value, draws=400) for value in (0.0, 0.7))
    for shares in (alike, smoothed):
        assert shares.sum() == pytest.approx(0.15 * len(ids), abs=0.15) and shares[0] == shares[-1] == 0
    assert np.ptp(alike[1:-1]) < 0.15 and smoothed[4] > 0.9 > 0.3 > max(smoothed[1:4])


# ------------------------------------------------------------------------------- questions


def test_a_question_is_answered_as_in_an_evaluation(teacher, tokenizer, accelerator):
    """In several windows; against `predict` and `answers` on a row of a data set."""
    model, _ = heads.question_answerer(teacher, seed=1)
    context, question = story(3, 9), "who sees the cat ."
    rows = squad.Dataset.from_dict(
        {"question": [question], "context": [context], "answers": [{"text": [context[:4]], "answer_start": [0]}]}
    )
    windows = squad.features(rows, tokenizer, 48, 16)
    assert len(windows) > 1
    logits, _ = finetuning.predict(model, windows, accelerator)
    expected = find_answers(logits, windows, rows, 3)[0]
    found = finetuning.ask(model, tokenizer, question, context, max_length=48, stride=16)
    assert [answer.text for answer in found] == [answer.text for answer in expected]
    assert found[0].probability == pytest.approx(expected[0].probability, rel=1e-4)
    assert context[found[0].start : found[0].end] == found[0].text


def test_answers_are_set_off_in_the_passage_and_nothing_is_read_as_html():
    first, second = Answer("<b>", 2.0, 0.7, 2, 5), Answer("a", 1.0, 0.2, 0, 1)
    shown = widgets.answers_html({"teacher": [first, second]}, "a <b> c")
    assert "<b>teacher</b>: “&lt;b&gt;” (70%), then “a” (20%)" in shown
    assert "a <b><u>&lt;b&gt;</u></b> c" in shown
    assert figures.COLOURS["teacher"] in shown


# ------------------------------------------------------------------------------- records


def test_fewer_pairs_are_really_fewer(make):
    """With one pair there is no interval to draw, with three there is one for each difference."""
    intervals = {}
    for pairs in (1, 3):
        figure = make["ablation"]().draw("macro", "differences", pairs, True)
        assert isinstance(figure, Figure)
        intervals[pairs] = sum(len(line.get_xdata()) == 2 and line.get_lw() == 2 for line in figure.axes[1].lines)
    assert intervals == {1: 0, 3: 7}


def test_without_random_starts_their_variants_are_gone(make):
    labels = [
        label.get_text()
        for label in make["ablation"]().draw("mlm_loss", "differences", 3, False).axes[0].get_yticklabels()
    ]
    assert len(labels) == 5 and not [label for label in labels if "random" in label]


def test_the_overhead_slider_reaches_the_papers_ratio(make):
    """At the whole of the overhead that the record says is needed, the supposed ratio is the paper's 1.63."""
    figure = make["speed"]().draw("benchmark-toy-pairs", "overhead", 1.0)
    assert "supposed, 59.0 ms: 1.63 ×" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
