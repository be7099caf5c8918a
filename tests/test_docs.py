"""The lesson plans: what they send a class to is there."""

import inspect
import re
import shlex
from urllib.parse import unquote

import nbformat
import pytest

from distilnb import paths
from distilnb.cli import main, parsing
from distilnb.evidence import records
from distilnb.lessons import notebooks
from distilnb.lessons.exercises import exercises

ROOT = paths.PACKAGE.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture(params=DOCS, ids=lambda path: path.stem)
def document(request) -> tuple:
    return request.param, request.param.read_text()


def headings(path) -> set[str]:
    """The anchors of a notebook or document: its headings, spaces as hyphens."""
    cells = nbformat.read(path, as_version=4).cells if path.suffix == ".ipynb" else []
    text = "\n\n".join(c.source for c in cells if c.cell_type == "markdown") if cells else path.read_text()
    return {line.strip().replace(" ", "-") for line in re.findall(r"^#+ (.+)$", text, re.M)}


def test_every_link_leads_to_a_file_and_a_heading(document):
    path, text = document
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve()
        assert target.is_file(), link
        assert not anchor or unquote(anchor) in headings(target), link


def printed(place: str) -> list[str]:
    """The lines with a command of ours in a document or notebook, or among the examples of a command's help."""
    if place in main.COMMANDS:
        examples = (main.command_function(place).__doc__ or "").partition("examples:")[2]
        lines = re.sub(r"\n +--", " --", examples).splitlines()
        return [re.split(r" {3,}", line.strip())[0] for line in lines if line.strip()]
    path = ROOT / place
    cells = nbformat.read(path, as_version=4).cells if path.suffix == ".ipynb" else []
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown") if cells else path.read_text()
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()]
    return [line for line in lines if re.search(r'(^|-m |" )distilnb [a-z]', line)]


PLACES = [*("docs/" + path.name for path in DOCS), *("notebooks/" + e.name + ".ipynb" for e in notebooks.NOTEBOOKS)]


@pytest.mark.parametrize("place", ["README.md", *PLACES, *main.COMMANDS])
def test_printed_commands_can_be_typed(place):
    for line in printed(place):
        words = shlex.split(line, comments=True)
        words = words[words.index("--") + 1 :] if "--" in words else words[words.index("distilnb") + 1 :]
        function = main.command_function(words[0])
        if "argv" not in inspect.signature(function).parameters:
            assert parsing.read_settings(function, words[1:], words[0]) is not None, line


def test_the_readme_leads_to_every_document_and_the_map_to_every_notebook():
    readme = (ROOT / "README.md").read_text()
    assert DOCS and all(f"(docs/{path.name})" in readme for path in DOCS)
    whole = (ROOT / "docs" / "map.md").read_text()
    assert all(f"notebooks/{entry.name}.ipynb)" in whole for entry in notebooks.NOTEBOOKS)


def test_minutes_run_on_without_a_gap():
    """In each plan a row begins where the one before it ends, and the last ends when the lesson does."""
    text = (ROOT / "docs" / "lesson_plans.md").read_text()
    for length, plan in re.findall(r"^## (\d+) minutes(.*?)(?=^## )", text, re.M | re.S):
        rows = [tuple(map(int, row)) for row in re.findall(r"^\| (\d+)–(\d+) \|", plan, re.M)]
        assert rows[0][0] == 0 and rows[-1][1] == int(length)
        assert [end for _, end in rows[:-1]] == [start for start, _ in rows[1:]], length


def test_what_a_row_asks_for_fits_into_its_minutes():
    """The minutes that it takes over from another plan, and its exercises by their stated minutes."""
    text = (ROOT / "docs" / "lesson_plans.md").read_text()
    rows = {
        length: [(int(a), int(b), row) for a, b, row in re.findall(r"^\| (\d+)–(\d+) \|(.*)", plan, re.M)]
        for length, plan in re.findall(r"^## (\d+) minutes(.*?)(?=^## )", text, re.M | re.S)
    }
    stated = {one.name: one.minutes for entry in notebooks.NOTEBOOKS for one in exercises(entry.number)}
    for length, plan in rows.items():
        for start, end, row in plan:
            asked, needed = set(stated) & set(re.findall(r"(?<![\d.])\d\d\.\d(?![\d.])", row)), 0
            for first, last, other in re.findall(r"Minutes (\d+)–(\d+) of the (\d+)-minute plan", row):
                taken = [one for one in rows[other] if int(first) <= one[0] and one[1] <= int(last)]
                needed += sum(b - a for a, b, _ in taken)
                assert needed == int(last) - int(first), f"{length}: rows of another plan are cut in two by {row}"
                asked -= {name for name in asked if any(name in words for _, _, words in taken)}
            assert needed + sum(stated[name] for name in asked) <= end - start, f"{length}, from minute {start}: {row}"


def test_named_views_are_views(document):
    widgets = pytest.importorskip("distilnb.lessons.widgets", reason="the views come with the notebooks' widgets")
    for name in set(re.findall(r"`(\w+_view)`", document[1])):
        assert callable(getattr(widgets, name)), name


@pytest.mark.parametrize("name", ["lesson_plans", "map"])
def test_named_exercises_are_exercises(name):
    text = (ROOT / "docs" / f"{name}.md").read_text()
    named = set(re.findall(r"(?<![\d.])(0\d\.\d)(?![\d.])", text))
    assert len(named) > 10
    ready = {path.stem[-2:] for path in (paths.PACKAGE / "lessons" / "exercises").glob("notebook_*.py")}
    for number in (number for number in named if number[:2] in ready):
        assert number in {entry.name for entry in exercises(number[:2])}, number


@pytest.mark.parametrize("shape", ["lines", "one-line"])
def test_what_is_told_of_a_gigabyte_of_text_is_recorded(shape):
    scores = records.load_record(paths.data("runs", f"benchmark-text-1000mb-{shape}-txt.json"))["scores"]
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    assert f"{scores['memory_mb']:.0f} MB" in text and f"{scores['ratio']:.2f}" in text
    assert scores["memory_mb"] < 1500 and scores["ratio"] > 0.6
