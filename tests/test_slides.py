"""Slides of the lesson plans: every section that a plan opens is there, with its outputs, and nothing else."""

import re

import nbformat
import pytest

from distilnb.lessons import slides


@pytest.mark.parametrize("minutes", ["60", "90", "180"])
def test_a_plan_becomes_slides(minutes):
    plan = slides.plans()[minutes]
    made = slides.slides(minutes)
    opened = slides.sections(plan)
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in made.cells]
    assert 5 < kinds.count("slide") <= len(opened) + 1 and kinds[0] == "slide"
    text = "\n".join(cell.source for cell in made.cells)
    assert all(anchor.replace("-", " ")[:12] in text.replace("-", " ") for _, anchor in opened)
    assert len({cell.id for cell in made.cells}) == len(made.cells), "a cell is shown twice"
    assert any(cell.get("outputs") for cell in made.cells), "slides without a result"
    assert not any("find_spec" in cell.source for cell in made.cells), "the set-up cell is no slide"


@pytest.mark.parametrize("minutes", ["60", "90", "180"])
def test_a_view_named_in_a_row_stands_in_a_section_that_the_row_opens(minutes):
    """Else the slides, which are made of the linked sections, lack it."""
    rows = [row for row in slides.plans()[minutes].splitlines() if row.startswith("| ") and "_view`" in row]
    assert rows
    for row in rows:
        shown = [
            cell.source
            for name, anchor in slides.sections(row)
            for cell in slides.section(nbformat.read(slides.folder() / f"{name}.ipynb", as_version=4), name, anchor)
            if cell.cell_type == "code"
        ]
        for view in re.findall(r"`(\w+_view)`", row):
            assert any(f"{view}(" in source for source in shown), f"{view}: {row}"


def test_a_section_ends_where_the_next_begins():
    made = slides.slides("60")
    text = "\n".join(cell.source for cell in made.cells)
    assert "## Why soft targets" in text and "### Temperature" in text
    assert "## Padding must not count" not in text


def test_a_plan_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="60, 90, 180"):
        slides.slides("45")


def test_a_section_within_another_is_shown_once():
    text = [cell.source for cell in slides.slides("60").cells]
    assert len([source for source in text if source.startswith("### Temperature")]) == 1


@pytest.fixture
def written(tmp_path):
    pytest.importorskip("latex2mathml", reason='formulas become MathML: pip install "distilnb[book]"')
    return slides.write("180", tmp_path / "slides.html")  # the longest


def test_the_page_needs_no_network_and_keeps_its_formulas(written):
    text = written.read_text()
    assert not re.search(r'<(?:script|link)[^>]+(?:src|href)="', text) and "FORMULA" not in text
    assert "<math" in text and "$$" not in text and "<img" in text
    assert text.count("<section>") > 20


def test_formulas_in_code_stay_as_they_are():
    found = []
    assert slides.without_formulas("`a $x$` and $y^2$", found) == "`a $x$` and FORMULA0." and "<math" in found[0]


def test_a_function_stands_apart_from_its_argument():
    pytest.importorskip("latex2mathml", reason='formulas become MathML: pip install "distilnb[book]"')
    assert "<mi>log</mi><mspace" in slides.mathml(r"\log t_i") and "<mspace" not in slides.mathml(r"\exp(x)")


def test_of_several_tables_each_gets_a_slide_and_so_does_the_picture_below():
    def output(kind: str, number: int = 0) -> dict:
        return nbformat.v4.new_output("display_data", {kind: f"… {number}"})

    cell = nbformat.v4.new_code_cell("show()", outputs=[*(output("text/html", i) for i in (1, 2)), output("image/png")])
    first, second, picture = slides.as_slides([nbformat.v4.new_markdown_cell("# Two"), *slides.parts_of(cell)])[1:]
    assert [part.outputs[0].data for part in (first, second)] == [{"text/html": "… 1"}, {"text/html": "… 2"}]
    assert [*picture.outputs[0].data] == ["image/png"] and len(first.outputs) == len(picture.outputs) == 1
    kinds = [part.metadata["slideshow"]["slide_type"] for part in (first, second, picture)]
    assert kinds == ["-", "subslide", "subslide"]
    one = nbformat.v4.new_code_cell("show()", outputs=[output("text/html"), output("image/png")])
    assert slides.parts_of(one) == [one]


def test_a_last_word_stays_with_what_is_shown_if_it_is_short():
    def kind(text: str) -> str:
        cells = [nbformat.v4.new_markdown_cell("# One"), nbformat.v4.new_code_cell("show()")]
        return slides.as_slides([*cells, nbformat.v4.new_markdown_cell(text)])[-1].metadata["slideshow"]["slide_type"]

    assert kind("so it is") == "-" and kind("so it is " * 100) == "subslide"


def test_a_number_and_its_interval_stay_on_one_line(written):
    text = written.read_text()
    assert text.count("text-align: right;") == text.count("text-align: right; white-space: nowrap;") > 5


@pytest.mark.browser
def test_keys_and_buttons_turn_the_slides_and_a_high_one_shrinks(written, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(written.as_uri())
    assert page.locator("section.now").count() == 1 and page.locator("output").inner_text().startswith("1 /")
    page.keyboard.press("ArrowRight")
    page.get_by_label("on").click()
    assert page.locator("output").inner_text().startswith("3 /")
    assert page.evaluate("slides.some((_, i) => (show(i + 1), slides[i].firstElementChild.style.zoom < 1))")
    over = (
        "(slide, i) => (show(i + 1), slide.scrollHeight > slide.clientHeight || slide.scrollWidth > slide.clientWidth)"
    )
    assert page.evaluate(f"slides.filter({over}).map(slide => slide.innerText.slice(0, 60))") == []
    page.close()
