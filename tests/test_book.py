"""The book: every source is a page, every link leads somewhere, and a browser has nothing to complain about."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from distilnb import paths
from distilnb.lessons import notebooks

ROOT = paths.PACKAGE.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

pytest.importorskip("myst_nb", reason='the book is rendered by Sphinx: pip install "distilnb[book]"')


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The whole book of this clone, as `make book` writes it; warnings are errors."""
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-c", "docs", ".", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (out / "demo").mkdir()  # what `distilnb demo` writes there has tests of its own
    (out / "demo" / "index.html").write_text("<title>demo</title>")
    return out


def pages(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.html")) if "_" not in path.relative_to(folder).parts[0][:1]]


def broken(folder: Path) -> list[str]:
    """Links and pictures of a built book that lead nowhere, anchors included: "page → link"."""
    texts = {path.resolve(): path.read_text() for path in pages(folder)}
    anchors = {path: set(map(html.unescape, re.findall(r'\sid="([^"]+)"', text))) for path, text in texts.items()}
    gone = []
    for path, text in texts.items():
        for link in map(html.unescape, re.findall(r'\s(?:href|src)="([^"]*)"', text)):
            name, _, anchor = link.partition("#")
            target = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path
            known = anchors.get(target, set())
            leads = re.match(r"[a-z]+:", name) or (
                target.exists() and (not anchor or anchor in known or unquote(anchor) in known or target not in texts)
            )
            gone += [] if leads else [f"{path.name} → {link}"]
    return gone


def test_every_source_is_a_page_and_no_link_is_broken(built):
    names = {str(path.relative_to(built)) for path in pages(built)}
    assert names >= {"index.html", "RESULTS.html", *(f"notebooks/{n.name}.html" for n in notebooks.NOTEBOOKS)}
    assert names >= {f"notebooks/solutions/{n.name}.html" for n in notebooks.NOTEBOOKS}
    assert not broken(built)


def test_tables_are_tables(built):
    assert [path.name for path in pages(built) if "<p>|" in path.read_text()] == []


def test_a_number_and_its_interval_stay_on_one_line(built):
    page = (built / "notebooks" / "04_glue_finetuning.html").read_text()
    assert page.count("text-align: right;") == page.count("text-align: right; white-space: nowrap;") > 10


def test_the_search_for_broken_links_finds_them(tmp_path):
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html"></a><a href="#y"></a><a href="#x"></a> <img src="c">')
    assert broken(tmp_path) == ["a.html → b.html", "a.html → #y", "a.html → c"]


def test_a_page_needs_nothing_from_elsewhere(built):
    """No script, font or picture from another server; formulas are MathML, not TeX that waits for a script."""
    for path in pages(built):
        text = path.read_text()
        assert not re.search(r'<(?:img|script|link rel="stylesheet")[^>]+(?:src|href)="(?:https?:)?//', text), path.name
    losses = (built / "notebooks" / "02_triple_loss.html").read_text()
    assert losses.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') >= 4
    assert not re.search(r"\\frac|\$\$", re.sub(r"<annotation.*?</annotation>", "", losses))


def test_pages_turn_in_reading_order(built):
    text = (built / "notebooks" / "02_triple_loss.html").read_text()
    before, after = (
        re.search(rf'class="{way}-prev|href="([^"]*)"[^>]*title="{way} page"', text) for way in ("previous", "next")
    )
    assert "01_student_initialization.html" in before[1] and "03_pretraining.html" in after[1]
    assert "colab.research.google.com" in text and "mybinder.org" in text


def test_pictures_carry_their_descriptions(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import book

    picture = {"output_type": "display_data", "data": {"image/png": ""}, "metadata": {"image/png": {"alt": "A rises."}}}
    text = json.dumps({"cells": [{"cell_type": "code", "metadata": {}, "source": "", "outputs": [picture]}]})
    (cell,) = json.loads(book.describe_pictures(text))["cells"]
    assert cell["metadata"]["mystnb"]["image"]["alt"] == "A rises."


def opened(page, which: str) -> bool:
    """Whether the pages or the contents of this page open at a click on their button."""
    page.reload()
    page.locator(f".{which}-toggle:visible").click()
    return page.evaluate(f"document.getElementById('pst-{which}-sidebar-modal').open")


@pytest.mark.browser
def test_a_browser_has_nothing_to_complain_about(built):
    """Offline, at the widths of a phone and a desk, in both colour schemes: pictures drawn, nothing wider than the
    page, no message on the console; a phone's two menus open; search finds a word without a server."""
    sync = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright: pip install it")
    said, asked = [], []
    with sync.sync_playwright() as driver:
        program = CHROMIUM or driver.chromium.executable_path
        if not Path(program).is_file():
            pytest.skip("no Chromium here to open the book in: playwright install chromium")
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        for width, scheme in ((390, "light"), (1280, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.on("console", lambda message: message.type == "error" and said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            for path in [built / "index.html", built / "RESULTS.html", *sorted((built / "notebooks").glob("*.html"))]:
                page.goto(path.as_uri())
                assert not page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.alt)"), path.name
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path.name, width)
                assert page.evaluate("document.documentElement.dataset.theme") == scheme
            if width == 390:
                assert [opened(page, which) for which in ("primary", "secondary")] == [True, True]
        page.goto((built / "search.html").as_uri() + "?q=temperature")
        page.get_by_role("link", name="02 ·").first.wait_for()
        browser.close()
    # the theme looks ahead at linked pages, which no browser allows among files
    assert not [text for text in said if not re.search("fetch|ERR_FAILED", text)]
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
