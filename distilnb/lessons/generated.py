"""What is generated into README, RESULTS.md, pyproject.toml and notebooks: address, badges, tables."""

import re
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

from .. import paths
from ..evidence.records import load_records
from ..machine.progress import duration
from ..report import scorecard, tables
from .notebooks import NOTEBOOKS, Notebook, folder


def repository() -> str:
    """owner/name on GitHub, from the one place where it stands: pyproject.toml, which the installed package repeats."""
    file = paths.PACKAGE.parent / "pyproject.toml"
    text = file.read_text() if file.is_file() else "\n".join(metadata("distilnb").get_all("Project-URL"))
    return re.search(r'Repository.*"?https://github.com/([^"\s]+)', text).group(1)


def badges(entry: Notebook, repo: str) -> str:
    """Links that open a notebook in Colab and on GitHub, as Markdown."""
    path = f"blob/main/notebooks/{entry.name}.ipynb"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/github/{repo}/{path}) "
        f"[![View on GitHub](https://img.shields.io/badge/view-GitHub-24292f?logo=github)]"
        f"(https://github.com/{repo}/{path})"
    )


def navigation(entry: Notebook) -> str:
    """← previous | next →"""
    place = NOTEBOOKS.index(entry)
    links = []
    if place:
        before = NOTEBOOKS[place - 1]
        links.append(f"← [{before.number} {before.title}]({before.name}.ipynb)")
    if place + 1 < len(NOTEBOOKS):
        after = NOTEBOOKS[place + 1]
        links.append(f"[{after.number} {after.title}]({after.name}.ipynb) →")
    return " | ".join(links)


def header(entry: Notebook, repo: str) -> str:
    """A notebook's first cell: title, claim, badges, navigation and a line of facts."""
    modules = ", ".join(f"`{name}`" for name in entry.modules.split(", "))
    return (
        f"# {entry.number} · {entry.title}\n\n**{entry.claim}.**\n\n{badges(entry, repo)}\n\n"
        f"{navigation(entry)}\n\n*Paper:* {entry.paper} · *Modules:* {modules} · *At toy scale:* about "
        f"{duration(60 * entry.minutes)} on two cores, offline, no GPU needed"
    )


def setup_cell(repo: str) -> str:
    """The first code cell, the same in every notebook: the dial, and on Colab the installation (torch is kept)."""
    return (
        "# The dial: toy runs anywhere in minutes; empty takes $DISTILNB_SCALE, else toy\n"
        'SCALE = ""  # @param ["", "toy", "mini", "base", "paper"]\n'
        'DRIVE = False  # @param {type: "boolean"}\n'
        'if "google.colab" in str(get_ipython()):\n'
        f"    %pip install -q git+https://github.com/{repo}\n"
        '    %run -m distilnb.lessons.colab "$SCALE" $DRIVE'
    )


def readme_table(repo: str) -> str:
    """The README's table of notebooks."""
    lines = ["| | notebook | paper | toy run | |", "|---|---|---|--:|---|"]
    for n in NOTEBOOKS:
        colab = badges(n, repo).split(" [![View")[0]
        lines.append(
            f"| {n.number} | [**{n.title}**](notebooks/{n.name}.ipynb)<br>{n.claim} | {n.paper} | "
            f"{duration(60 * n.minutes)} | {colab} |"
        )
    return "\n".join(lines)


def between(text: str, marker: str, new: str) -> str:
    """`text` with what stands between <!-- marker --> and <!-- /marker --> replaced; ValueError without them."""
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if start not in text or end not in text:
        raise ValueError(f"the file has no markers {start} … {end}")
    return text[: text.index(start) + len(start)] + f"\n{new}\n" + text[text.index(end) :]


def generated(repo: str) -> Iterator[tuple[Path, str]]:
    """Each file that holds generated parts, with the text that it should have for address `repo`."""
    import nbformat

    root, old = paths.PACKAGE.parent, repository()
    for name in ("pyproject.toml", "CITATION.cff", "CONTRIBUTING.md"):
        yield root / name, (root / name).read_text().replace(f"github.com/{old}", f"github.com/{repo}")
    readme = (root / "README.md").read_text().replace(f"github.com/{old}", f"github.com/{repo}")
    published = load_records(paths.data("runs"))
    card = scorecard.scorecard(published)
    for marker, text in (
        ("notebooks", readme_table(repo)),
        ("results", tables.summary(published, short=True)),
        ("scorecard", tables.table(scorecard.headlines(card)) + f"\n\n{scorecard.tally(card)}"),
    ):
        readme = between(readme, marker, text)
    yield root / "README.md", readme
    ours = [
        "## What our own runs found",
        *map(tables.table, tables.tables(published)),
        "## Time and energy",
        f"Energy is time times {tables.WATTS:.0f} W, with a GPU 300 W: assumptions. Time is the clock's, "
        "pauses and other work beside it too.",
        tables.table(tables.spent_rows(published)),
    ]
    yield root / "RESULTS.md", scorecard.markdown(card) + "\n" + "\n\n".join(ours) + "\n"
    for entry in NOTEBOOKS:
        path = folder() / f"{entry.name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].source = header(entry, repo)
        next(c for c in notebook.cells if c.cell_type == "code").source = setup_cell(repo)
        notebook.cells[-1].source = navigation(entry)
        yield path, nbformat.writes(notebook) + "\n"


def write_links(repo: str | None = None) -> list[Path]:
    """Bring every generated part up to date; the files that changed. ValueError unless repo is owner/name."""
    repo = repo or repository()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ValueError(f"'{repo}' is no owner/name; give REPO=owner/name")
    changed = [(path, text) for path, text in list(generated(repo)) if not path.is_file() or path.read_text() != text]
    for path, text in changed:
        path.write_text(text)
    return [path for path, _ in changed]
