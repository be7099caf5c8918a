"""Slides of the lesson plans: every section that a plan opens is there, with its outputs, and nothing else."""

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


def test_a_section_ends_where_the_next_begins():
    made = slides.slides("60")
    text = "\n".join(cell.source for cell in made.cells)
    assert "## Why soft targets" in text and "### Temperature" in text
    assert "## Padding must not count" not in text


def test_a_plan_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="60, 90, 180"):
        slides.slides("45")
