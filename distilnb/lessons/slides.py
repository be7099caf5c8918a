"""Slides for the lesson plans, made from the committed notebooks: each section of a plan becomes a slide.

python -m distilnb.lessons.slides 60 slides.html

The plan's table links to the sections. Their cells come with their outputs; set-up is left out. The page
is one file that needs no network: formulas are MathML, keys or buttons turn the slides, and one that is higher than the
screen shrinks.
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
SHORT = 700  # letters of a text that fits below what is shown


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
    heading, _, goal, *_ = known[minutes].splitlines()
    title = nbformat.v4.new_markdown_cell(f"# {heading.removeprefix('## ').capitalize()}\n\n{goal}")
    title.metadata["slideshow"] = {"slide_type": "slide"}
    cells, shown = [title], set()
    for name, anchor in sections(known[minutes]):
        notebook = nbformat.read(folder() / f"{name}.ipynb", as_version=4)
        new = [cell for cell in section(notebook, name, anchor) if cell.source not in shown]
        shown |= {cell.source for cell in new}  # because a section may lie within an earlier one
        cells += as_slides([part for cell in new for part in parts_of(cell)])
    return nbformat.v4.new_notebook(cells=cells)


def section(notebook: "NotebookNode", name: str, anchor: str) -> Iterator["NotebookNode"]:
    """The cells from the heading of `anchor` to the next heading of its level; cells are cut at headings."""
    import nbformat

    level = None
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            if level:
                yield cell
            continue
        for part in re.split(r"(?m)^(?=#{1,4} )", cell.source):
            heading = HEADING.match(part)
            if heading and heading[2].strip().replace(" ", "-") == anchor:
                level = len(heading[1])
            elif heading and level and len(heading[1]) <= level:
                return
            if level and part.strip():
                yield nbformat.v4.new_markdown_cell(part.strip())
    if level is None:
        raise ValueError(f"{name} has no section '{anchor}', which a lesson plan opens")


def parts_of(cell: "NotebookNode") -> list["NotebookNode"]:
    """The cell; where it shows several tables, each but the first, and the pictures, apart for slides of their own."""
    import nbformat

    outputs = cell.get("outputs", [])
    tables, pictures = ([o for o in outputs if kind in o.get("data", {})] for kind in ("text/html", "image/png"))
    apart = [[output] for output in tables[1:]] + ([pictures] if pictures else [])
    if len(tables) < 2:
        return [cell]
    cell.outputs = [output for output in outputs if output not in tables[1:] + pictures]
    alone = {"transient": {"remove_source": True}}
    return [cell, *(nbformat.v4.new_code_cell(outputs=shown, metadata=alone) for shown in apart)]


def as_slides(cells: list["NotebookNode"]) -> list["NotebookNode"]:
    """The cells, marked: the first opens a slide, further text a slide below it unless it is the last and short word on
    what is shown, and code stays with its text."""
    for place, cell in enumerate(cells):
        last = place + 1 == len(cells) or cells[place + 1].source.startswith("#")
        apart = "transient" in cell.metadata
        kind = "slide" if place == 0 else "-" if cell.cell_type == "code" and not apart else "subslide"
        if kind == "subslide" and last and not apart and not cell.source.startswith("#") and len(cell.source) < SHORT:
            kind = "-"
        cell.metadata["slideshow"] = {"slide_type": kind}
    return cells


def unbroken(text: str) -> str:
    """The HTML of tables, with numbers and their intervals on one line."""
    return text.replace("text-align: right;", "text-align: right; white-space: nowrap;")


STYLE = """
body { margin: 0; background: #fff; color: #222; font: 1.4rem/1.4 system-ui, sans-serif }
section { display: none; box-sizing: border-box; height: 100vh; overflow: auto; padding: 4vh 6vw }
section.now { display: block } section > div { display: flow-root }
img { max-width: 100%; max-height: 70vh } pre { white-space: pre-wrap; font-size: .75em; margin: .4em 0 }
.highlight { background: #f5f5f5; padding: .2em .8em } table { border-collapse: collapse; font-size: .75em }
td, th { padding: .2em .6em; border-bottom: 1px solid #8886; text-align: right }
.anchor-link { display: none }
math { font-family: "Cambria Math", "STIX Two Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math }
msub > :nth-child(2), msubsup > :nth-child(2) { position: relative; top: .12em }
nav { position: fixed; right: 1rem; bottom: .5rem; font-size: .9rem }
@media print { section { display: block; height: auto; break-after: page } nav { display: none } }
"""
SCRIPT = """
const slides = [...document.querySelectorAll('section')]
let now = 1
function show(number) {
  now = Math.max(1, Math.min(number, slides.length))
  slides.forEach((slide, i) => slide.classList.toggle('now', i == now - 1))
  const slide = slides[now - 1], inner = slide.firstElementChild
  for (let zoom = 1; zoom > 0.59; zoom -= 0.05) {
    inner.style.zoom = zoom
    if (slide.scrollHeight <= slide.clientHeight && slide.scrollWidth <= slide.clientWidth) break
  }
  document.querySelector('output').value = `${now} / ${slides.length}`
  history.replaceState(null, '', `#${now}`)
}
const turns = { ArrowRight: 1, PageDown: 1, ' ': 1, ArrowLeft: -1, PageUp: -1, Home: -1e6, End: 1e6 }
addEventListener('keydown', event => event.key in turns && (event.preventDefault(), show(now + turns[event.key])))
document.querySelectorAll('nav button').forEach(button => button.onclick = () => show(now + +button.value))
addEventListener('load', () => show(+location.hash.slice(1) || 1))
"""


def write(minutes: str, target: Path) -> Path:
    """Write the slides of a plan as a page, and return its path."""
    import nbformat
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    notebook, formulas, groups = slides(minutes), [], []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = without_formulas(cell.source, formulas)
        if cell.metadata["slideshow"]["slide_type"] != "-":
            groups.append([])
        groups[-1].append(cell)
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    parts = [exporter.from_notebook_node(nbformat.v4.new_notebook(cells=cells))[0] for cells in groups]
    body = "\n".join(f"<section><div>{part}</div></section>" for part in parts)
    body = unbroken(re.sub(r"FORMULA(\d+)\.", lambda match: formulas[int(match[1])], body))
    target.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{minutes} minutes</title>'
        f"<style>{STYLE}{HtmlFormatter().get_style_defs('.highlight')}</style></head>\n<body>\n{body}\n"
        '<nav><button value="-1" aria-label="back">←</button> <output></output> '
        f'<button value="1" aria-label="on">→</button></nav>\n<script>{SCRIPT}</script></body></html>\n'
    )
    return target


def mathml(formula: str, display: str = "inline") -> str:
    """A formula as MathML, with the space after log and exp that TeX puts before an argument without brackets."""
    from latex2mathml.converter import convert

    written = convert(formula, display=display)
    return re.sub(r"(<mi>(?:log|exp)</mi>)(?!<mo)", r'\1<mspace width="0.167em" />', written)


def without_formulas(text: str, formulas: list[str]) -> str:
    """A Markdown text with a placeholder for each formula outside code, and the formulas as MathML in `formulas`."""

    def put(match: re.Match) -> str:
        formulas.append(mathml(match[1] or match[2], "block" if match[1] else "inline"))
        return f"FORMULA{len(formulas) - 1}."

    parts = re.split(r"(```.*?```|`[^`]*`)", text, flags=re.S)
    parts[::2] = [re.sub(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", put, part, flags=re.S) for part in parts[::2]]
    return "".join(parts)


if __name__ == "__main__":
    try:
        print(write(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else f"slides-{sys.argv[1]}.html")))
    except (IndexError, ValueError) as error:
        print(error if isinstance(error, ValueError) else f"name a plan by its minutes: {', '.join(plans())}")
        sys.exit(2)
