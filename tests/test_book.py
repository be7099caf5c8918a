"""The book: every source is a page, every link leads somewhere, and a browser has nothing to complain about."""

import html
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from distilnb import paths
from distilnb.cli import main
from distilnb.lessons import book, notebooks

ROOT = paths.PACKAGE.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The whole book of this clone, as `distilnb book` writes it."""
    out = tmp_path_factory.mktemp("book") / "book"
    assert main.main(["book", "--out", str(out)]) == 0
    return out


def broken(folder: Path) -> list[str]:
    """Links and pictures of a built book that lead nowhere, anchors included: "page → link"."""
    texts = {path.resolve(): path.read_text() for path in folder.rglob("*.html")}
    anchors = {
        path: set(map(unquote, map(html.unescape, re.findall(r'\sid="([^"]+)"', text)))) for path, text in texts.items()
    }
    found = []
    for path, text in texts.items():
        for link in map(html.unescape, re.findall(r'\s(?:href|src)="([^"]*)"', text)):
            name, _, anchor = link.partition("#")
            target = (path.parent / unquote(name)).resolve() if name else path
            leads = re.match(r"[a-z]+:", name) or (
                target.is_file() and (not anchor or unquote(anchor) in anchors.get(target, ()))
            )
            found += [] if leads else [f"{path.name} → {link}"]
    return found


def test_every_source_is_a_page_and_no_link_is_broken(built):
    pages = {str(path.relative_to(built)) for path in built.rglob("*.html")}
    assert pages >= {"index.html", "RESULTS.html", *(f"notebooks/{n.name}.html" for n in notebooks.NOTEBOOKS)}
    assert len(pages) == len(book.pages(ROOT))
    assert not broken(built)


def test_the_search_for_broken_links_finds_them(tmp_path):
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html"></a><a href="#y"></a><a href="#x"></a> <img src="c">')
    assert broken(tmp_path) == ["a.html → b.html", "a.html → #y", "a.html → c"]


def test_a_page_needs_nothing_from_elsewhere(built):
    """No script, no font and no picture from another server; formulas are MathML, not TeX that waits for a script."""
    for path in built.rglob("*.html"):
        text = path.read_text()
        assert "<script" not in text and not re.search(r'<(?:img|link)[^>]+(?:src|href)="https?:', text), path.name
        assert not re.search(r"FORMULA\d|\\frac|\$\$", text), path.name
    losses = (built / "notebooks" / "02_triple_loss.html").read_text()
    assert losses.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') >= 4
    assert 'alt="No description' not in losses


def test_pages_turn_in_reading_order(built):
    text = (built / "notebooks" / "02_triple_loss.html").read_text()
    before, after = re.search(r'<nav class="turn">(.*?)</nav>', text, re.S)[1].split("</a>")[:2]
    assert "01_student_initialization.html" in before and "03_pretraining.html" in after
    assert 'href="../notebooks/02_triple_loss.html" aria-current="page"' in text


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A small clone: a README and one notebook, to be changed at will."""
    (tmp_path / "clone" / "notebooks").mkdir(parents=True)
    (tmp_path / "clone" / "README.md").write_text("# small\n\nSee [one](notebooks/00_one.ipynb#two).\n")
    (tmp_path / "clone" / "RESULTS.md").write_text("# results\n")
    write(tmp_path / "clone", "# one\n\n## two\n\n[back](../README.md)")
    monkeypatch.setattr(notebooks, "folder", lambda: tmp_path / "clone" / "notebooks")
    return tmp_path / "clone"


def write(clone: Path, text: str, *code: nbformat.NotebookNode) -> None:
    cells = [nbformat.v4.new_markdown_cell(text), *code]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), clone / "notebooks" / "00_one.ipynb")


def test_links_between_sources_become_links_between_pages(clone, tmp_path):
    book.build(tmp_path / "out")
    assert 'href="notebooks/00_one.html#two"' in (tmp_path / "out" / "index.html").read_text()
    assert 'href="../index.html"' in (tmp_path / "out" / "notebooks" / "00_one.html").read_text()
    assert not broken(tmp_path / "out")


def test_a_dead_link_stops_the_book_before_anything_is_written(clone, tmp_path, capsys):
    write(clone, "# one\n\n[gone](02_gone.ipynb) ![gone](../figures/gone.png)")
    assert main.main(["book", "--out", str(tmp_path / "out")]) == 2
    assert "notebooks/00_one.ipynb points to 02_gone.ipynb" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_dollars_in_code_are_no_formulas_and_live_controls_are_announced(clone, tmp_path):
    live = nbformat.v4.new_code_cell(
        "slider",
        outputs=[
            nbformat.v4.new_output(
                "display_data",
                {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "interactive("},
            )
        ],
    )
    shown = nbformat.v4.new_code_cell(
        "view",
        outputs=[
            nbformat.v4.new_output(
                "display_data", live.outputs[0].data | {"text/html": "<p>how the view was first drawn</p>"}
            )
        ],
    )
    write(clone, "# one\n\n`$HOME` and `$A$` cost 5 $ or 6 $, but $T^2$\n\n```bash\necho $A $B\n```\n", live, shown)
    book.build(tmp_path / "out")
    text = (tmp_path / "out" / "notebooks" / "00_one.html").read_text()
    assert text.count("<math") == 1 and "$HOME" in text and "5 $ or 6 $" in text and "$A" in re.sub("<[^>]+>", "", text)
    assert text.count("A live control stands here") == 2 and "interactive(" not in text
    assert "how the view was first drawn" in text


def test_a_folder_with_something_else_in_it_is_left_alone(clone, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds something else"):
        book.build(tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").is_file()
    (tmp_path / "out" / "thesis.tex").unlink()
    book.build(tmp_path / "out")
    (tmp_path / "out" / "old.html").write_text("a page of yesterday")
    book.build(tmp_path / "out")
    assert not (tmp_path / "out" / "old.html").exists()


def test_a_browser_has_nothing_to_complain_about(built):
    """Every page, offline and as wide as a phone: no console message, every picture drawn, nothing wider than it."""
    sync = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright: pip install it")
    said, asked = [], []
    with sync.sync_playwright() as driver:
        program = CHROMIUM or driver.chromium.executable_path
        if not Path(program).is_file():
            pytest.skip("no Chromium here to open the book in: playwright install chromium")
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda message: said.append((page.url, message.text)))
        page.on("pageerror", lambda error: said.append((page.url, str(error))))
        page.on("request", lambda request: asked.append(request.url))
        for path in sorted(built.rglob("*.html")):
            page.goto(path.as_uri())
            assert not page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.alt)"), path.name
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path.name
        page.goto((built / "index.html").as_uri())
        page.get_by_role("navigation").get_by_role("link", name="02 ·").first.click()
        assert page.title().startswith("02 ·")
        browser.close()
    assert not said
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
