"""The generated parts of README, RESULTS.md, pyproject.toml and the notebooks: address, badges, tables."""

import re
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

from .. import paths, scales
from ..evidence.records import Record, load_records
from ..machine.device import assumed_watts
from ..machine.progress import duration
from ..models.sources import shipped_teacher
from ..report import answer, figures, findings, grouping, scorecard, tables
from ..report.retention import by_model
from . import quiz
from .notebooks import NOTEBOOKS, Notebook, folder


def repository() -> str:
    """The repository's owner/name on GitHub, as stated in pyproject.toml and in the installed package's metadata."""
    file = paths.PACKAGE.parent / "pyproject.toml"
    text = file.read_text() if file.is_file() else "\n".join(metadata("distilnb").get_all("Project-URL"))
    return re.search(r'Repository.*"?https://github.com/([^"\s]+)', text).group(1)


# Where a notebook can be opened: name -> (badge, link for owner/name and the notebook's path in the repository).
HOSTS = {
    "Open in Colab": (
        "https://colab.research.google.com/assets/colab-badge.svg",
        "https://colab.research.google.com/github/{repo}/blob/main/{path}",
    ),
    "Open in Kaggle": (
        "https://kaggle.com/static/images/open-in-kaggle.svg",
        "https://kaggle.com/kernels/welcome?src=https://github.com/{repo}/blob/main/{path}",
    ),
    "Open in Studio Lab": (
        "https://studiolab.sagemaker.aws/studiolab.svg",
        "https://studiolab.sagemaker.aws/import/github/{repo}/blob/main/{path}",
    ),
    "Open in Binder": ("https://mybinder.org/badge_logo.svg", "https://mybinder.org/v2/gh/{repo}/main?labpath={path}"),
    "View on GitHub": (
        "https://img.shields.io/badge/view-GitHub-24292f?logo=github",
        "https://github.com/{repo}/blob/main/{path}",
    ),
}


def badge(entry: Notebook, repo: str, host: str) -> str:
    """The link that opens a notebook at one of `HOSTS`, as Markdown."""
    picture, link = HOSTS[host]
    return f"[![{host}]({picture})]({link.format(repo=repo, path=f'notebooks/{entry.name}.ipynb')})"


def badges(entry: Notebook, repo: str) -> str:
    """The links to all `HOSTS`, as Markdown."""
    return " ".join(badge(entry, repo, host) for host in HOSTS)


PLACEHOLDER = "OWNER/distilnb"  # the target of generated links until the address is known and `make links` is run


def front_badges(repo: str) -> str:
    """The README's badges, and a line about the placeholder address as long as there is one."""
    owner, name = repo.split("/")
    pictures = {
        "tests": (
            f"https://github.com/{repo}/actions/workflows/test.yml/badge.svg",
            f"https://github.com/{repo}/actions",
        ),
        "book": ("https://img.shields.io/badge/read-the_book-0b5cad", f"https://{owner}.github.io/{name}/"),
        "licence": ("https://img.shields.io/badge/licence-Apache--2.0-24292f", "LICENSE"),
    }
    line = " ".join(f"[![{text}]({picture})]({link})" for text, (picture, link) in pictures.items())
    note = (
        "*`OWNER` in links stands for an address that is not known yet: `make links REPO=owner/name` mends them all.*"
    )
    return f"{line}\n\n{note}" if repo == PLACEHOLDER else line


def navigation(entry: Notebook) -> str:
    """The line of links "← previous | next →"."""
    place = NOTEBOOKS.index(entry)
    before = [f"← [{n.number} {n.title}]({n.name}.ipynb)" for n in NOTEBOOKS[:place][-1:]]
    after = [f"[{n.number} {n.title}]({n.name}.ipynb) →" for n in NOTEBOOKS[place + 1 :][:1]]
    return " | ".join(before + after)


def header(entry: Notebook, repo: str) -> str:
    """The first cell of a notebook: title, claim, badges, navigation and a line of facts."""
    modules = ", ".join(f"`{name}`" for name in entry.modules.split(", "))
    return (
        f"# {entry.number} · {entry.title}\n\n**{entry.claim}.**\n\n{badges(entry, repo)}\n\n"
        f"{navigation(entry)}\n\n*Paper:* {entry.paper} · *Modules:* {modules} · *At toy scale:* about "
        f"{duration(60 * entry.minutes)} on two cores, offline, no GPU needed"
    )


def setup_cell(repo: str) -> str:
    """The first code cell, the same in every notebook: the dial, and the installation where it is missing."""
    names = ", ".join(f'"{name}"' for name in ("", *scales.SCALES))
    return (
        "from importlib.util import find_spec\n\n"
        "# The dial: toy runs anywhere in minutes; empty takes $DISTILNB_SCALE, else toy\n"
        f'SCALE = ""  # @param [{names}]\n'
        'DRIVE = False  # @param {type: "boolean"}\n'
        'if not find_spec("distilnb"):  # on Colab, Kaggle, Studio Lab, Binder; the torch that is there stays\n'
        f"    %pip install -q git+https://github.com/{repo}\n"
        '%run -m distilnb.lessons.runtime "$SCALE" $DRIVE'
    )


def readme_table(repo: str) -> str:
    """The README's table of notebooks."""
    lines = ["| | notebook | toy run | |", "|---|---|--:|---|"]
    for n in NOTEBOOKS:
        colab = badge(n, repo, "Open in Colab")
        lines.append(
            f"| {n.number} | [**{n.title}**](notebooks/{n.name}.ipynb)<br>{n.claim} | "
            f"{duration(60 * n.minutes)} | {colab} |"
        )
    return "\n".join(lines)


def scale_table() -> str:
    """The README's table of the dial, from the scales themselves."""
    rows = []
    for scale in scales.SCALES.values():
        shipped = str(paths.data()) in scale.teacher
        width = f", width {dict(scale.teacher_shape)['hidden_size']}" if shipped else ""
        rows.append(
            {
                "scale": f"`{scale.name}`",
                "teacher": f"shipped{width}" if shipped else f"{_made_here(scale)}`{scale.teacher}`",
                "student's text": f"{scale.pretraining['tokens'] / 1e6:,.0f} million tokens of "
                + ("real text" if scale.source == "hub" else scale.text),
                "where": scale.hardware,
            }
        )
    return tables.table(rows)


def _made_here(scale: scales.Scale) -> str:
    """What stands before the name of an encoder of which a teacher has been made and shipped; "" for other teachers."""
    made = scale.encoder and (shipped_teacher(scale) / "model.safetensors").is_file()
    return "shipped, made from " if made else ""


def verdict_table(card: scorecard.Card) -> str:
    """The README's verdicts on the headline claims for which something was, or should be, run or computed."""
    kept = ("claim", "paper", "measured", "verdict")
    return tables.table([{key: row[key] for key in kept} for row in scorecard.headlines(card)[:5]])


def front_picture(records: list[Record]) -> str:
    """The README's picture, with its description computed from what it shows."""
    told = figures.describe(figures.teaching(records)).replace("[", "(").replace("]", ")")
    return f"![{told}](figures/teaching.png)"


def between(text: str, marker: str, new: str) -> str:
    """`text` with the part between <!-- marker --> and <!-- /marker --> replaced; ValueError without these marks."""
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if start not in text or end not in text:
        raise ValueError(f"the file has no markers {start} … {end}")
    return text[: text.index(start) + len(start)] + f"\n{new}\n" + text[text.index(end) :]


def results_page(card: scorecard.Card, records: list[Record]) -> str:
    """The text of RESULTS.md: the answer, the scorecard, our own results, and their cost."""
    former = grouping.former_records()
    runs = [*grouping.head_records(), *former, *records]
    batches = [grouping.told(records, former, runs), tables.table(grouping.rows(records, former))]
    under = {"int8 on tasks": grouping.about_heads(records, runs)}
    ours = [
        "## What our own runs found",
        findings.ablation_sentence(records),
        findings.format_of_the_phone(records),
        tables.NAMES,
        *filter(None, [findings.about_text_read_before(records), findings.about_held_out_text(records)]),
        *filter(None, [findings.about_norms(records)]),
        *(
            f"### {title}\n\n{tables.table(rows)}" + (f"\n\n{under[title]}" if under.get(title) else "")
            for title, rows in tables.tables(records).items()
        ),
        *([tables.AT_MOST] if tables.speed_rows(records) else []),
        *(["### Rows of like length in a batch, and rows as they come", *batches] if batches[0] else []),
        "## Time and energy",
        f"Energy is time times {assumed_watts(False):.0f} W, with a GPU {assumed_watts(True):.0f} W: assumptions. "
        "Time is the clock's, pauses and other work beside it too.",
        tables.table(tables.spent_rows(records)),
    ]
    small = answer.answer(records) if "student" in by_model(records, "small") else ""  # not an open one
    opening = "\n\n".join(filter(None, [findings.not_run(records), small]))
    return scorecard.markdown(card, opening) + "\n" + "\n\n".join(ours) + "\n"


def generated(repo: str) -> Iterator[tuple[Path, str]]:
    """The files with generated parts, each with its right text for the address `repo`."""
    import nbformat

    root, old = paths.PACKAGE.parent, repository()
    for name in ("pyproject.toml", "CITATION.cff", "CONTRIBUTING.md", "docs/install.md"):
        yield root / name, (root / name).read_text().replace(f"github.com/{old}", f"github.com/{repo}")
    published = load_records(paths.data("runs"))
    card = scorecard.scorecard(published)
    readme = (root / "README.md").read_text().replace(f"github.com/{old}", f"github.com/{repo}")
    for marker, text in (
        ("badges", front_badges(repo)),
        ("picture", front_picture(published)),
        ("findings", f"{findings.findings(published)}\n\n{findings.not_run(published)}"),
        ("notebooks", readme_table(repo)),
        ("verdicts", verdict_table(card)),
        ("scales", scale_table()),
    ):
        readme = between(readme, marker, text)
    yield root / "README.md", readme
    yield root / "RESULTS.md", results_page(card, published)
    for entry in NOTEBOOKS:
        path = folder() / f"{entry.name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].source = header(entry, repo)
        next(c for c in notebook.cells if c.cell_type == "code").source = setup_cell(repo)
        next(c for c in notebook.cells if c.id == f"{entry.number}-quiz").source = quiz.markdown(entry.number)
        notebook.cells[-1].source = navigation(entry)
        yield path, nbformat.writes(notebook) + "\n"


def write_links(repo: str | None = None) -> list[Path]:
    """Update every generated part, and return the changed files; ValueError unless `repo` is owner/name."""
    repo = repo or repository()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ValueError(f"'{repo}' is no owner/name; give REPO=owner/name")
    changed = [(path, text) for path, text in list(generated(repo)) if not path.is_file() or path.read_text() != text]
    for path, text in changed:
        path.write_text(text)
    return [path for path, _ in changed]
