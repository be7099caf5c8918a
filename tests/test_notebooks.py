"""Notebook hygiene, and the one list behind headers, badges, set-up cells and the README's table."""

import ast
import base64
import io
import json
import re
from collections import defaultdict
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import nbformat
import numpy as np
import pytest
from PIL import Image

from distilnb import paths, scales
from distilnb.distillation import losses, step
from distilnb.evidence import paper
from distilnb.lessons import generated, notebooks
from distilnb.lessons.notebooks import NOTEBOOKS, Notebook

ROOT = paths.PACKAGE.parent
REPO = generated.repository()
FILES = {"csv", "json", "jsonl", "md", "toml", "html", "py", "swift"}  # endings of files' names


@pytest.fixture(params=NOTEBOOKS, ids=lambda entry: entry.name)
def entry(request) -> Notebook:
    return request.param


@cache
def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


@pytest.fixture
def notebook(entry) -> nbformat.NotebookNode:
    return read(entry.name)


@pytest.fixture
def code(notebook) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_notebook_file_is_in_the_list():
    assert {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")} == {n.name for n in NOTEBOOKS}
    assert [n.number for n in NOTEBOOKS] == [f"{i:02}" for i in range(len(NOTEBOOKS))]


def test_it_was_executed_top_to_bottom_without_an_error(code):
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    noise = [o.text for o in outputs if o.get("name") == "stderr"]
    assert not noise, f"warnings are mended, not shown: {noise[0][:200]}"


def test_its_outputs_are_there_and_some_are_compared(notebook, code):
    """A stripped notebook would pass nbval while comparing nothing."""
    assert sum(bool(cell.outputs) for cell in code) >= 0.75 * len(code)
    compared = [cell for cell in code if "nbval-check-output" in cell.metadata.get("tags", [])]
    assert len(compared) >= 3 and all(cell.outputs for cell in compared)


def test_github_can_show_it(entry, notebook, code):
    assert "widgets" not in notebook.metadata, "metadata.widgets breaks GitHub's view"
    shown = [kind for cell in code for output in cell.outputs for kind in output.get("data", {})]
    assert "application/vnd.jupyter.widget-view+json" not in shown, "where no widget lives, this is an empty box"
    weight = (ROOT / "notebooks" / f"{entry.name}.ipynb").stat().st_size
    assert weight < 350 * 1024, "pictures weigh most"


def test_its_cells_are_short_and_explained(notebook, code):
    lengths = sorted(len(cell.source.splitlines()) for cell in code)
    assert lengths[-1] <= 25 and lengths[int(0.9 * (len(lengths) - 1))] <= 15 and median(lengths) <= 6
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in notebook.cells)
    assert "ccc" not in kinds, "at most two code cells in a row"


def test_it_says_what_it_teaches(notebook):
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for heading in ("What you will learn", "Summary", "Exercises", "References"):
        assert re.search(rf"^##+ .*{heading}", prose, re.M | re.I), f"no section '{heading}'"


def test_generated_parts_are_in_step_with_the_list():
    """Address, badges, navigation, set-up cells, tables: `make links` writes them, nobody else."""
    stale = [path.name for path, text in generated.generated(REPO) if path.read_text() != text]
    assert not stale, f"run `make links`: {stale}"


def test_a_new_address_reaches_every_place(monkeypatch):
    texts = {path.name: text for path, text in generated.generated("somebody/else")}
    assert texts.keys() >= {"pyproject.toml", "README.md", "CITATION.cff", *(f"{n.name}.ipynb" for n in NOTEBOOKS)}
    for name, text in texts.items():
        assert f"github.com/{REPO}" not in text and f"githubusercontent.com/{REPO}" not in text, name
        assert "somebody/else" in text or name == "RESULTS.md", name  # which has no address in it


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match="owner/name"):
        generated.write_links("not an address")


def test_the_losses_are_cited_by_the_section_in_which_the_errata_find_them():
    where, _, _ = paper.table("errata").set_index("id").loc["ce_sign", "where"].partition(",")
    (entry,) = [entry for entry in NOTEBOOKS if entry.modules == "losses"]
    assert entry.paper == where
    assert f"(paper {where})" in losses.__doc__ and f"(paper {where})" in step.__doc__
    assert f"version 4, {where}." in read(entry.name).cells[-2].source, "the references"
    (row,) = re.findall(rf"^\| \[{entry.number}\].*$", (ROOT / "docs" / "map.md").read_text(), re.M)
    assert f"| {where};" in row


def test_links_between_notebooks_lead_somewhere(notebook):
    for target in re.findall(r"\]\(([\w/.-]+\.ipynb)\)", "\n".join(cell.source for cell in notebook.cells)):
        assert (ROOT / "notebooks" / target).is_file(), target


def test_the_set_up_cell_is_the_same_everywhere_and_leaves_torch_alone(code):
    setup = code[0].source
    assert setup == generated.setup_cell(REPO)
    assert "torch" not in re.sub(r"#.*", "", setup) and len(setup.splitlines()) <= 9
    ast.parse(re.sub(r"^(\s*)%.*", r"\1pass", setup, flags=re.M))


def test_no_function_of_the_package_is_written_again(code):
    """Lessons derive in a few lines and assert; a second definition would drift away from the first."""
    ours = signatures()
    mine = {signature(n) for n in ast.walk(tree_of(code)) if isinstance(n, ast.FunctionDef)}
    assert not mine & ours, f"{mine & ours} is defined in the package already"


def test_what_a_function_or_a_hint_names_is_not_made_something_else_later(notebook, code):
    """Who goes back and runs an earlier cell, or an exercise at the end, would meet another thing under that name."""
    trees = [tree_of([cell]) for cell in code]
    made = [assigned(tree) for tree in trees]
    for place, tree in enumerate(trees):
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
            own = {n.id for n in names if isinstance(n.ctx, ast.Store)} | {a.arg for a in function.args.args}
            known = set().union(*made[: place + 1]) & {n.id for n in names} - own
            assert not known & set().union(*made[place + 1 :]), f"`{function.name}` reads {known}"
    for hint in re.findall(r"Hint: (.*)", "\n".join(cell.source for cell in notebook.cells)):
        for name in re.findall(r"`(\w+)`", hint):
            assert sum(name in names for names in made) <= 1, name


def assigned(tree: ast.Module) -> set[str]:
    """The names to which a cell's statements, those in functions left out, assign something."""
    skipped = {n for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for n in ast.walk(function)}
    targets = [t for n in set(ast.walk(tree)) - skipped if isinstance(n, ast.Assign) for t in n.targets]
    names = [n for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def tree_of(code) -> ast.Module:
    """The syntax tree of all code cells, magics left out."""
    return ast.parse("\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", cell.source, flags=re.M) for cell in code))


def signature(function: ast.FunctionDef) -> tuple[str, ...]:
    """A function's name and those of its arguments."""
    return function.name, *(argument.arg for argument in function.args.args)


@cache
def signatures() -> set[tuple[str, ...]]:
    """Those of all functions of the package."""
    trees = [ast.parse(module.read_text()) for module in paths.PACKAGE.rglob("*.py")]
    return {signature(node) for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}


@cache
def contents() -> dict[str, set[str]]:
    """What each module and package of ours holds, by their last name."""
    held = defaultdict(set)
    for path in paths.PACKAGE.rglob("*.py"):
        place = path.parent if path.stem == "__init__" else path
        held[place.parent.name].add(place.stem)
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            held[place.stem] |= {name.id for name in targets if isinstance(name, ast.Name)}
            held[place.stem] |= {alias.asname or alias.name for alias in getattr(node, "names", [])}
            held[place.stem].add(getattr(node, "name", ""))
    return held


def test_the_names_in_its_text_exist(entry, notebook, code):
    """A hint that names what has moved sends its reader nowhere."""
    ours, tree = contents(), tree_of(code)
    imported = {alias.asname or alias.name for node in ast.walk(tree) for alias in getattr(node, "names", [])}
    variables = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - imported
    variables |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    told = re.search(r"\*Modules:\* (.*?) ·", notebook.cells[0].source)[1]
    assert set(re.findall(r"`(\w+)`", told)) <= ours.keys()
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    hints = (paths.PACKAGE / "lessons" / "exercises" / f"notebook_{entry.number}.py").read_text()
    for first, then in re.findall(r"`([A-Za-z_]\w*)\.(\w+)", prose + hints):
        if first in ours and first not in variables:
            assert then in ours[first], f"`{first}.{then}` is not there"
        elif f"`{first}.{then}" in prose and then not in FILES:
            assert first in variables | imported or find_spec(first), f"`{first}.{then}` is of no known module"


def test_its_outputs_are_short_and_name_no_folder_of_the_machine(code):
    for output in (output for cell in code for output in cell.outputs):
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert len(text.splitlines()) <= 20, text[:200]
        assert not re.search(r"^\|", text, re.M), "a table is shown by `table`"
        assert not re.search(r"(?<![\w…])/(home|root|Users|work)/", text), text[:200]


def test_nothing_in_its_pictures_is_cut_off(code):
    """Ink at the edge of a picture is a label that goes on outside it."""
    for output in (output for cell in code for output in cell.outputs):
        if png := output.get("data", {}).get("image/png"):
            ink = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L"))
            edges = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
            assert edges.min() > 200, output.metadata["image/png"]["alt"]


SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_are_executed_small_and_lead_back(path):
    assert path.stem in {n.name for n in NOTEBOOKS}
    solved = nbformat.read(path, as_version=4)
    code = [cell for cell in solved.cells if cell.cell_type == "code"]
    test_it_was_executed_top_to_bottom_without_an_error(code)
    assert max(len(cell.source.splitlines()) for cell in code) <= 25
    assert "widgets" not in solved.metadata and path.stat().st_size < 100 * 1024
    assert f"](../{path.name})" in solved.cells[0].source, "a link back to the lesson"


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb")), ids=lambda path: path.stem)
def test_the_dial_reaches_a_teacher_that_can_be_loaded(path):
    """An encoder, which scale small halves, has no masked-word head: `ready_teacher` knows which model has."""
    for cell in nbformat.read(path, as_version=4).cells:
        assert "scale.teacher" not in cell.source, cell.id


def write(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_markdown_cell("# title"), *map(nbformat.v4.new_code_cell, sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
def test_running_writes_a_copy_and_leaves_the_original_alone(tmp_path, monkeypatch, capsys):
    """The kernel sees the dial; the executed copy lies in runs/notebooks."""
    original = write(tmp_path / "00_small.ipynb", "import os", "os.environ['DISTILNB_SCALE']")
    before = original.read_bytes()
    monkeypatch.setattr(notebooks, "NOTEBOOKS", (Notebook("00_small", "t", "c", "p", "m", 0.1),))
    monkeypatch.setattr(notebooks, "folder", lambda: tmp_path)
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path / "home"))
    (copy,) = notebooks.execute("mini")
    assert copy == tmp_path / "home" / "runs" / "notebooks" / "00_small.ipynb"
    assert "'mini'" in json.dumps(nbformat.read(copy, as_version=4).cells[-1].outputs)
    assert original.read_bytes() == before
    assert "[1/1] 00_small" in capsys.readouterr().out
    with pytest.raises(ValueError, match="numbers"):
        notebooks.execute("toy", ["42"])


@pytest.mark.slow
def test_solutions_run_from_a_folder_of_their_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "solutions").mkdir()
    solved = write(tmp_path / "solutions" / "00_small.ipynb", "'solved'")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", (Notebook("00_small", "t", "c", "p", "m", 0.1),))
    monkeypatch.setattr(notebooks, "folder", lambda: tmp_path)
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path / "home"))
    (copy,) = notebooks.execute("toy", solutions=True)
    assert copy == tmp_path / "home" / "runs" / "notebooks" / "solutions" / "00_small.ipynb"
    assert notebooks.execute("toy", in_place=True, solutions=True) == [solved]
    assert "'solved'" in json.dumps(nbformat.read(solved, as_version=4).cells[-1].outputs)
    assert "[1/1] 00_small: t (solutions)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_failing_notebook_is_named_and_never_overwrites_itself(tmp_path, monkeypatch):
    original = write(tmp_path / "00_broken.ipynb", "1 / 0")
    before = original.read_bytes()
    monkeypatch.setattr(notebooks, "NOTEBOOKS", (Notebook("00_broken", "t", "c", "p", "m", 0.1),))
    monkeypatch.setattr(notebooks, "folder", lambda: tmp_path)
    monkeypatch.setenv("DISTILNB_HOME", str(tmp_path / "home"))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        notebooks.execute("toy", in_place=True)
    assert original.read_bytes() == before
    assert (tmp_path / "00_broken.failed.ipynb").is_file()


def test_notebooks_are_unpacked_once_and_never_over_ones_own_work(tmp_path):
    copies = notebooks.unpack(tmp_path)
    assert {path.name for path in copies} == {f"{entry.name}.ipynb" for entry in notebooks.NOTEBOOKS}
    assert (tmp_path / "solutions" / copies[0].name).is_file()
    (tmp_path / copies[0].name).write_text("mine")
    with pytest.raises(ValueError, match="another"):
        notebooks.unpack(tmp_path)
    assert (tmp_path / copies[0].name).read_text() == "mine"


@pytest.mark.parametrize("name", scales.SCALES)
def test_short_lessons_change_nothing_but_the_work_of_notebooks(name, monkeypatch):
    scale = scales.get(name)
    monkeypatch.setenv("DISTILNB_SHORT", "1")
    short = scales.get(name)
    assert replace(short, lesson=scale.lesson) == scale
    assert all(short.lesson[key] < size for key, size in scale.lesson.items())
