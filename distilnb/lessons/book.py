"""Reading without running: notebooks, lesson plans and results as a small static site.

Pages lie as their sources do in the repository, so that links between them stay as they are but for their ending. A
page needs nothing from elsewhere: one style sheet, pictures inside or beside it, formulas as MathML, no script.
"""

import html
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from . import generated, notebooks

if TYPE_CHECKING:
    from nbformat import NotebookNode

MATH = re.compile(r"(`+).+?\1|\$\$(?P<block>.+?)\$\$|(?<![\w$\\])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?!\w)", re.S)
LIVE = "*A live control stands here: open the notebook to move it. The pictures around it show the idea.*"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><link rel="stylesheet" href="{root}book.css"></head>
<body><a class="jump" href="#contents">Contents</a>
<main>{body}
<nav class="turn">{turn}</nav></main>
<nav id="contents">{contents}</nav></body></html>
"""
STYLE = """
:root { --ink: #1f2328; --soft: #f5f6f8; --line: #d8dce2; --link: #0b5cad }
* { box-sizing: border-box }
body { margin: 0; color: var(--ink); background: #fff; font: 17px/1.6 system-ui, -apple-system, "Segoe UI", sans-serif }
main { max-width: 50rem; margin: 0 auto; padding: 1rem 1.2rem 4rem; overflow-wrap: break-word }
a { color: var(--link) } a.anchor-link { visibility: hidden; margin-left: .3em; text-decoration: none }
:is(h1, h2, h3):hover a.anchor-link { visibility: visible }
h1, h2, h3 { line-height: 1.25; margin: 2.2rem 0 .6rem } h1 { font-size: 1.9rem; margin-top: 1rem }
img, svg { max-width: 100%; height: auto } math[display=block] { overflow-x: auto; padding: .3rem 0; max-width: 100% }
code, pre { font: .86em/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }
code { background: var(--soft); padding: .1em .3em; border-radius: 4px }
pre { margin: 0; padding: .7rem .9rem; overflow-x: auto } pre code { padding: 0; background: none }
.input_area, .text_cell_render .highlight { background: var(--soft); border: 1px solid var(--line); border-radius: 6px }
.input { margin: 1rem 0 .5rem }
.output_wrapper { margin: 0 0 1.2rem; border-left: 3px solid var(--line); padding-left: .2rem }
.output_png { padding: .4rem }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .86rem; margin: .8rem 0 }
th, td { border: 0; border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; vertical-align: top }
blockquote { margin: 1rem 0; padding: .1rem 1rem; border-left: 3px solid var(--line) }
#contents, .jump { display: block; padding: .6rem 1.2rem; background: var(--soft) }
#contents ul { list-style: none; padding: 0; margin: .3rem 0 1rem } #contents b { font-size: .85rem }
#contents a { display: block; padding: .2rem 0; text-decoration: none }
#contents [aria-current] { font-weight: 700; color: var(--ink) }
.turn { display: flex; justify-content: space-between; gap: 1rem; margin-top: 3rem; padding-top: 1rem;
        border-top: 1px solid var(--line) }
@media (min-width: 70rem) {
  body { display: grid; grid-template-columns: 19rem 1fr } .jump { display: none }
  main { grid-area: 1 / 2; width: 100% }
  #contents { grid-area: 1 / 1; position: sticky; top: 0; height: 100vh; overflow-y: auto }
}
@media print { #contents, .jump, .turn { display: none } }
"""


@dataclass(frozen=True)
class Page:
    """One source of the book, by its path in the repository, with its title and the part of the contents it is in."""

    source: str
    title: str
    part: str

    @property
    def target(self) -> str:
        """Its path in the book: the README opens it."""
        return "index.html" if self.source == "README.md" else str(Path(self.source).with_suffix(".html"))


def pages(root: Path) -> list[Page]:
    """The pages in reading order: README, documents, notebooks, solutions, results."""
    found = [Page("README.md", "Start", "distilnb")]
    found += [Page(f"docs/{path.name}", _title(path), "distilnb") for path in sorted((root / "docs").glob("*.md"))]
    found.append(Page("RESULTS.md", "Results in full", "distilnb"))
    for folder, part in (("notebooks", "Notebooks"), ("notebooks/solutions", "Solutions")):
        found += [Page(f"{folder}/{path.name}", _title(path), part) for path in sorted((root / folder).glob("*.ipynb"))]
    return found


def _title(path: Path) -> str:
    import nbformat

    text = nbformat.read(path, as_version=4).cells[0].source if path.suffix == ".ipynb" else path.read_text()
    return next((line[2:].strip() for line in text.splitlines() if line.startswith("# ")), path.stem)


def build(out: Path) -> Path:
    """Write the book to `out`, in place of an earlier one; the folder.

    Raises ValueError outside a clone, for a folder that holds something else, and for a link that leads nowhere,
    naming page and link, before anything is written.
    """
    root = notebooks.folder().parent
    if out.is_dir() and any(out.iterdir()) and not (out / "book.css").is_file():
        raise ValueError(f"{out} holds something else than a book; give another folder as --out")
    chapters, pictures, written = pages(root), set(), {}
    for place, page in enumerate(chapters):
        body, needed = _linked(_body(root / page.source), page, chapters, root)
        pictures |= needed
        written[page.target] = _wrap(body, place, chapters)
    shutil.rmtree(out, ignore_errors=True)
    for target, text in written.items():
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        (out / target).write_text(text)
    for picture in pictures:
        (out / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / picture, out / picture)
    (out / "book.css").write_text(STYLE + _colours())
    return out


def _body(source: Path) -> str:
    """A source as HTML, formulas as MathML."""
    import nbformat
    from nbconvert import HTMLExporter

    if source.suffix == ".ipynb":
        notebook = nbformat.read(source, as_version=4)
    else:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source.read_text())])
    formulas: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _without_math(re.sub(r"!\[([^\]]*)\]\(https?://[^)]+\)", r"\1", cell.source), formulas)
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(_still(notebook))
    return re.sub(r"FORMULA(\d+)STANDS", lambda found: formulas[int(found[1])], body)


def _without_math(text: str, formulas: list[str]) -> str:
    """Markdown with a mark for each formula, whose MathML is added to `formulas`; code is left alone."""
    from latex2mathml.converter import convert

    def mark(found: re.Match[str]) -> str:
        tex = found["block"] or found["inline"]
        if tex is None:
            return found[0]
        formulas.append(convert(tex.strip(), display="block" if found["block"] else "inline"))
        return f"FORMULA{len(formulas) - 1}STANDS"

    parts = re.split(r"(^```.*?^```)", text, flags=re.S | re.M)
    return "".join(part if part.startswith("```") else MATH.sub(mark, part) for part in parts)


def _still(notebook: "NotebookNode") -> "NotebookNode":
    """Live controls replaced by their picture and a line, and pictures described by the start of their reading."""
    import nbformat

    cells = []
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        cells.append(cell)
        reading = after.source if after is not None and after.cell_type == "markdown" else "figure"
        outputs = cell.get("outputs", [])
        live = [o for o in outputs if o.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)]
        for output in outputs:
            if "image/png" in output.get("data", {}):
                output.metadata["image/png"] = {"alt": re.split(r"(?<=[.:])\s", _plain(reading))[0]}
        cell.outputs = [o for o in outputs if o not in live or {"image/png", "text/html"} & o.data.keys()]
        cells += [nbformat.v4.new_markdown_cell(LIVE)] if live else []
    notebook.cells = cells
    return notebook


def _plain(markdown: str) -> str:
    return html.escape(re.sub(r"FORMULA\d+STANDS|[`*#]", "", markdown).strip())


def _linked(body: str, page: Page, chapters: list[Page], root: Path) -> tuple[str, set[str]]:
    """The page with its links turned to the book's pages, and the pictures that it shows."""
    targets, pictures = {chapter.source: chapter.target for chapter in chapters}, set()
    here = os.path.dirname(page.source)

    def turn(found: re.Match[str]) -> str:
        attribute, link = found[1], html.unescape(found[2])
        path, mark, anchor = link.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return found[0]
        source = os.path.normpath(os.path.join(here, unquote(path)))
        if source in targets:
            path = os.path.relpath(targets[source], os.path.dirname(page.target) or ".")
        elif attribute == "src" and (root / source).is_file():
            pictures.add(source)
        elif (root / source).exists():
            path = f"https://github.com/{generated.repository()}/blob/main/{source}"
        else:
            raise ValueError(f"{page.source} points to {path}, which is not there; mend the link")
        return f'{attribute}="{html.escape(path + mark + anchor)}"'

    return re.sub(r'(?<=\s)(href|src)="([^"]*)"', turn, body), pictures


def _wrap(body: str, place: int, chapters: list[Page]) -> str:
    """A whole page: contents at the side or on top, the text, the pages before and after."""
    page = chapters[place]
    root = "../" * page.target.count("/")

    def link(other: Page, before: str = "", after: str = "") -> str:
        current = ' aria-current="page"' if other == page else ""
        return f'<a href="{root}{other.target}"{current}>{before}{html.escape(other.title)}{after}</a>'

    parts = {part: [p for p in chapters if p.part == part] for part in dict.fromkeys(p.part for p in chapters)}
    contents = "".join(
        f"<b>{part}</b><ul>{''.join(f'<li>{link(p)}</li>' for p in some)}</ul>" for part, some in parts.items()
    )
    turn = [link(chapters[place - 1], before="← ") if place else "<span></span>"]
    turn += [link(chapters[place + 1], after=" →")] if place + 1 < len(chapters) else []
    title = page.title if place else "distilnb"
    return PAGE.format(title=html.escape(title), root=root, contents=contents, body=body, turn="".join(turn))


def _colours() -> str:
    from pygments.formatters import HtmlFormatter

    return HtmlFormatter(style="default", nobackground=True).get_style_defs(".highlight")
