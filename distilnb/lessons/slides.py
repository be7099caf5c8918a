"""Slides for the lesson plans, made from the committed notebooks: each section of a plan becomes a slide.

python -m distilnb.lessons.slides 60 slides.html

The plan's table links to the sections. Their cells come with their outputs; set-up and exercises are left out. The page
is nbconvert's, with reveal.js, which a browser fetches from the network.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .. import paths
from .notebooks import folder

if TYPE_CHECKING:
    from nbformat import NotebookNode

LINK = re.compile(r"\]\(\.\./notebooks/([\w-]+)\.ipynb#([^)\s]+)\)")
HEADING = re.compile(r"^(#{1,4}) (.+)$", re.M)


def plans() -> dict[str, str]:
    """The lesson plans in docs/lesson_plans.md as Markdown, by their minutes, such as "60"."""
    parts = re.split(
        r"^## (\d+) minutes: ", (paths.PACKAGE.parent / "docs" / "lesson_plans.md").read_text(), flags=re.M
    )
    return {minutes: "## " + plan.split("\n## ")[0] for minutes, plan in zip(parts[1::2], parts[2::2], strict=True)}


def sections(plan: str) -> list[tuple[str, str]]:
    """The (notebook, anchor) of each section in a plan, once and in order."""
    return list(dict.fromkeys((name, unquote(anchor)) for name, anchor in LINK.findall(plan)))


def slides(minutes: str) -> "NotebookNode":
    """One notebook with the cells of a plan, marked as slides; ValueError for an unknown plan or section."""
    import nbformat

    known = plans()
    if minutes not in known:
        raise ValueError(f"there is no plan of {minutes} minutes; there are {', '.join(known)}")
    title = nbformat.v4.new_markdown_cell("# " + known[minutes].splitlines()[0].removeprefix("## ").capitalize())
    title.metadata["slideshow"] = {"slide_type": "slide"}
    cells, shown = [title], set()
    for name, anchor in sections(known[minutes]):
        notebook = nbformat.read(folder() / f"{name}.ipynb", as_version=4)
        new = [cell for cell in _section(notebook, name, anchor) if cell.source not in shown]
        shown |= {cell.source for cell in new}  # because a section may lie within an earlier one
        cells += _marked(new)
    return nbformat.v4.new_notebook(cells=cells)


def _section(notebook: "NotebookNode", name: str, anchor: str) -> Iterator["NotebookNode"]:
    """The cells from the heading of `anchor` to the next heading of its level; cells are cut at headings."""
    level = None
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            if level:
                yield cell
            continue
        kept = []
        for part in re.split(r"(?m)^(?=#{1,4} )", cell.source):
            heading = HEADING.match(part)
            if heading and heading[2].strip().replace(" ", "-") == anchor:
                level = len(heading[1])
            elif heading and level and len(heading[1]) <= level:
                if kept:
                    yield _markdown(cell, kept)
                return
            if level:
                kept.append(part)
        if kept:
            yield _markdown(cell, kept)
    if level is None:
        raise ValueError(f"{name} has no section '{anchor}', which a lesson plan opens")


def _markdown(cell: "NotebookNode", parts: list[str]) -> "NotebookNode":
    import nbformat

    return nbformat.v4.new_markdown_cell("".join(parts).strip())


def _marked(cells: list["NotebookNode"]) -> list["NotebookNode"]:
    """The cells, marked: the first opens a slide, further text a slide below it, and code stays with its text."""
    marked = []
    for place, cell in enumerate(cells):
        kind = "slide" if place == 0 else "subslide" if cell.cell_type == "markdown" else "-"
        cell.metadata["slideshow"] = {"slide_type": kind}
        marked.append(cell)
    return marked


def write(minutes: str, target: Path) -> Path:
    """Write the slides of a plan as a page, and return its path."""
    from nbconvert import SlidesExporter

    page, _ = SlidesExporter(exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(slides(minutes))
    target.write_text(page)
    return target


if __name__ == "__main__":
    try:
        print(write(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else f"slides-{sys.argv[1]}.html")))
    except (IndexError, ValueError) as error:
        print(error if isinstance(error, ValueError) else f"name a plan by its minutes: {', '.join(plans())}")
        sys.exit(2)
