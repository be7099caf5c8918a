"""What lessons show: tables as HTML and as text, pictures with a description, progress in one changing line."""

import base64
import io
import re
import sys

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from PIL import Image

from distilnb.lessons import display
from distilnb.report import figures

ROWS = [
    {"task": "cola <b>", "score": "38.3 [25.9–42.3]", "rows": 12_000, "share": 0.123456, "paper": None},
    {"task": "rte", "score": "52.2", "rows": 277, "share": 2.0, "paper": 59.9},
]

STYLED = re.compile(r"((?:#\w+,? ?)+)\{\s*text-align: (\w+)")


def test_a_table_is_html_with_numbers_to_the_right_and_words_to_the_left():
    html = display.table(ROWS, "two tasks")._repr_html_()
    assert "cola &lt;b&gt;" in html and "cola <b>" not in html
    assert "two tasks" in html and "12,000" in html and "0.123<" in html and ">–<" in html
    sides = {side: set(re.findall(r"row0_col(\d)", cells)) for cells, side in STYLED.findall(html)}
    assert sides == {"left": {"0"}, "right": {"1", "2", "3", "4"}}, "the words alone stand on the left"
    assert "overflow-x: auto" in html


def test_the_same_table_is_the_same_html_and_its_text_is_aligned():
    first, second = (display.table(ROWS) for _ in range(2))
    assert first._repr_html_() == second._repr_html_()
    lines = repr(first).splitlines()
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1
    assert "0  cola" not in repr(first), "a number of no meaning is no index"
    assert repr(display.table(pd.Series({"a": 1.5}).to_frame("x"))).splitlines()[-1].startswith("a")


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="rows"):
        display.table([])


@pytest.fixture
def drawn():
    with figures.style():
        figure, (bars, curve, chart) = plt.subplots(1, 3, figsize=(24, 3))
        bars.barh(["teacher", "student"], [3.0, 1.5], label="loss")
        bars.set(title="The student is half as long", xlabel="seconds")
        curve.plot([0, 1, 2], [9.0, 5.0, 2.0], label="held out")
        curve.set(ylabel="loss")
        chart.imshow(np.eye(3))
        figure.draw_without_rendering()
    yield figure
    plt.close(figure)


def test_a_picture_is_described_by_its_title_and_what_was_drawn(drawn):
    shown = display.picture(drawn)
    for fact in (
        "The student is half as long",
        "teacher has 3, student 1.5",
        "held out goes from 9 to 2",
        "3 by 3 values from 0.00 to 1.00",
    ):
        assert fact in shown.description, shown.description
    assert "_child" not in shown.description
    data, metadata = shown._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == shown.description and shown.description in data["text/plain"]


@pytest.mark.parametrize(("look", "told"), [("o-", "ours goes from 2 to 1"), ("o", "ours lies between 1 and 4")])
def test_points_with_error_bars_are_described_by_their_middles(look, told):
    figure, ax = plt.subplots()
    ax.errorbar([0, 1, 2], [2, 4, 1], [0.1, 0.2, 0.3], fmt=look, label="ours")
    assert told in figures.describe(figure)
    plt.close(figure)


def test_a_figure_on_a_page_says_what_it_shows(drawn):
    assert 'role="img" aria-label="The student is half as long. ' in figures.to_svg(drawn)


def width_of(picture: display.Picture) -> int:
    data, _ = picture._repr_mimebundle_()
    return Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width


def test_no_picture_is_wider_than_a_page(drawn):
    assert width_of(display.picture(drawn)) <= display.WIDEST


def test_a_picture_for_a_projector_is_half_as_large_again():
    usual = width_of(display.picture(figures.plot_layer_map([0, 2], 4)))
    with figures.style(projector=True):
        large = display.picture(figures.plot_layer_map([0, 2], 4))
    assert width_of(large) == 1.5 * usual == display.WIDEST
    assert width_of(display.picture(figures.plot_layer_map([0, 2], 4))) == usual


PROGRESS = """
from distilnb.machine.progress import Progress
with Progress(300, "walking") as progress:
    for step in range(300):
        progress.step(loss=f"{step}")
"""


def test_progress_in_a_notebook_is_one_line_that_changes(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PROGRESS)])
    NotebookClient(notebook, kernel_name="python3", extra_arguments=["--log-level=40"]).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data" and list(output.data) == ["text/plain"]
    assert output.data["text/plain"].startswith("walking 300/300 · loss 299 · in ")


def test_progress_elsewhere_stays_a_few_lines(capsys, monkeypatch):
    from distilnb.machine.progress import Progress

    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with Progress(300, "walking") as progress:
        for _ in range(300):
            progress.step()
    assert 5 < len(capsys.readouterr().out.splitlines()) < 15


def test_a_wide_figure_of_a_lesson_is_made_legible():
    with figures.style():
        drawn, ax = plt.subplots(figsize=(9, 3))
        ax.set_title("a finding that is far too long for a single line of a figure that fits on a phone")
    shown = display.picture(drawn)
    assert drawn.get_figwidth() == 6 and "\n" in ax.get_title("left")
    assert drawn.get_tightbbox().x1 <= 6 and "a single line of a figure" in shown.description
