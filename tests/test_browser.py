"""Every view in a real browser: JupyterLab in headless Chromium runs the notebooks, and each control is moved.

Needs Chromium: `playwright install chromium`, or the system's own package. Screenshots are kept in $DISTILNB_ARTEFACTS
where it is set. The cells that carry the tag `browser` run, under `DISTILNB_SHORT`: the same views of smaller work.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from conftest import free_port
from nbconvert import HTMLExporter
from playwright.sync_api import Locator, Page, Route, expect

from distilnb import paths
from distilnb.lessons import notebooks, quiz

pytestmark = pytest.mark.browser
SETTINGS = {  # of JupyterLab: no network, and every cell in the page at once
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
FAILED = '.jp-OutputArea [data-mime-type$="jupyter.stderr"], .jp-OutputArea [data-mime-type$="jupyter.error"]'
# pictures in each notebook's header, from elsewhere
BADGES = {"colab.research.google.com", "img.shields.io", "kaggle.com", "mybinder.org", "studiolab.sagemaker.aws"}
PATIENCE = 60_000  # milliseconds for a picture to change on a busy machine
BAD = {"": "is empty", "a ☃ sees a [MASK]": "cannot spell", "word " * 600: "shorten it"}


# notebook → view → the label of a control → what is done: keys to press, or a text to type
VIEWS = {
    "01_student_initialization": {"layer_view": {"choice by name": "last", "layer 3": "Space"}},
    "02_triple_loss": {
        "temperature_view": {"temperature": "ArrowRight", "sentence": "The owl is a kind of [MASK]."},
        "loss_weights_view": {"weight of L_ce": "ArrowLeft", "weight of L_mlm": "End", "weight of L_cos": "ArrowRight"},
    },
    "03_pretraining": {
        "masking_view": {"sentence": "The owl is a kind of bird.", "smoothing": "Home", "draws": "PageUp"},
        "fill_mask_view": {"sentence": "The owl is a kind of [MASK].", "guesses": "ArrowLeft"},
    },
    "06_squad_finetuning": {
        "question_view": {"question": "Where?", "passage": "Nolea met Serina in the hallway. Serina had the hoop."}
    },
    "07_size_and_speed": {
        "format_view": {"points at most": "Home", "ms at most": "End", "MB at most": "Home"},
        "speed_view": {"overhead share": "PageUp", "picture": "settings"},
    },
    "08_ablation": {
        "ablation_view": {
            "score": "macro",
            "pairs of seeds": "ArrowLeft",
            "random starts too": "Space",
            "picture": "seeds",
        }
    },
}
SENTENCES = {
    "temperature_view": "sentence",
    "masking_view": "sentence",
    "fill_mask_view": "sentence",
    "question_view": "question",
}


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("DISTILNB_ARTEFACTS") or tmp_path_factory.mktemp("artefacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """JupyterLab on this machine alone, with folders of its own: its address and the folder of its notebooks."""
    root = tmp_path_factory.mktemp("lab")
    for name, values in SETTINGS.items():
        path = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    (root / "notebooks").mkdir()
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
        "DISTILNB_HOME": "home",
    }
    environment = (
        os.environ
        | {name: str(root / folder) for name, folder in own.items()}
        | {
            "DISTILNB_SCALE": "toy",
            "DISTILNB_SHORT": "1",
            "PYTHONPATH": os.pathsep.join([str(paths.PACKAGE.parent), *sys.path]),
        }
    )
    address = f"http://127.0.0.1:{(port := free_port())}"
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": root / "notebooks",
        "IdentityProvider.token": "",
        "ServerApp.disable_check_xsrf": True,
        "ServerApp.allow_root": True,
        "LabApp.extension_manager": "readonly",
        "LabApp.news_url": "None",
    }
    with (root / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", *(f"--{name}={x}" for name, x in options.items())],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(f"{address}/api/status", server, root / "log")
        yield address, root / "notebooks"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text()[-2000:]
            time.sleep(0.5)
    raise AssertionError(f"JupyterLab did not answer: {log.read_text()[-2000:]}")


def shortened() -> nbformat.NotebookNode:
    """The cells that the views of all lessons need, in one notebook, without outputs."""
    together = nbformat.v4.new_notebook()
    for lesson in VIEWS:
        notebook = nbformat.read(paths.PACKAGE.parent / "notebooks" / f"{lesson}.ipynb", as_version=4)
        together.metadata = notebook.metadata
        for cell in notebook.cells:
            if "browser" in cell.metadata.get("tags", []):
                cell.id, cell.outputs, cell.execution_count = f"{lesson[:2]}-{cell.id}", [], None
                together.cells.append(cell)
    return together


def run_all(page: Page) -> None:
    """Run > Run All Cells, as a reader does, and wait for the last number in the margin."""
    expect(page.get_by_title("Kernel Idle", exact=False).or_(page.get_by_text("| Idle")).first).to_be_visible(
        timeout=PATIENCE
    )
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(
        """failure => {
        const shown = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent.trim());
        return document.querySelector(failure) || (shown.length && shown.every(text => /^\\[\\d+\\]:$/.test(text)));
    }""",
        arg=FAILED,
        timeout=400_000,
    )
    failed = page.locator(FAILED)
    assert failed.count() == 0, failed.first.inner_text()[-2000:]


def view_of(page: Page, name: str) -> Locator:
    """The view that the cell with this call has put out."""
    cell = page.locator(".jp-CodeCell", has=page.locator(".jp-InputArea", has_text=f"widgets.{name}("))
    view = cell.locator(".jp-OutputArea .widget-vbox").first
    expect(view).to_be_visible(timeout=PATIENCE)
    return view


def move(view: Locator, label: str, what: str) -> None:
    """Give a control the focus and press a key, type a text, or press the button that is named."""
    row = view.locator(".lm-Widget", has=view.page.get_by_text(label, exact=True)).last
    handle, field, box = (
        row.locator(kind).first for kind in (".noUi-handle", "input[type=text], textarea", "input[type=checkbox]")
    )
    if handle.count():
        handle.focus()
        handle.press(what)
    elif field.count():
        field.fill(what)
        field.press("Tab")
    else:
        button = box if box.count() else row.get_by_role("button", name=what, exact=True)
        button.focus()
        button.press("Space")


def picture(view: Locator) -> Locator:
    return view.locator(":scope > .widget-html").last


def changed(view: Locator, before: str) -> float:
    """Wait until what is shown is no longer `before`: the seconds that it took."""
    began = time.monotonic()
    expect(picture(view).locator(".widget-html-content")).not_to_have_js_property("innerHTML", before, timeout=PATIENCE)
    return time.monotonic() - began


def elsewhere(route: Route, asked: set[str]) -> None:
    """Answer a request to another machine with an empty picture, and note whom it was for: no network is needed."""
    asked.add(urlsplit(route.request.url).hostname)
    route.fulfill(content_type="image/svg+xml", body='<svg xmlns="http://www.w3.org/2000/svg"/>')


def explore(page: Page, lesson: str, name: str, moves: dict[str, str], artefacts: Path) -> None:
    """A screenshot, every control of a view, what must not be typed, a screenshot."""
    view = view_of(page, name)
    view.scroll_into_view_if_needed()
    view.screenshot(path=artefacts / f"{lesson}-{name}-1.png")
    for label, what in moves.items():
        seen, inside = picture(view).screenshot(), picture(view).locator(".widget-html-content").inner_html()
        move(view, label, what)
        took = changed(view, inside)
        assert picture(view).screenshot() != seen, f"{name}: {label} changed nothing that can be seen"
        print(f"{lesson} {name} {label}: {took:.2f} s")
    view.screenshot(path=artefacts / f"{lesson}-{name}-2.png")
    for text, line in BAD.items() if name in SENTENCES else ():
        move(view, SENTENCES[name], text)
        expect(view.get_by_role("alert")).to_contain_text(line, timeout=PATIENCE)


@pytest.fixture(scope="module")
def page(lab, browser, artefacts) -> Iterator[Page]:
    """JupyterLab in which all cells have run; at the end, no error was shown and nobody else was asked for anything."""
    address, folder = lab
    nbformat.write(shortened(), folder / "lessons.ipynb")
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    asked: set[str] = set()
    page.route(lambda url: not url.startswith(address), lambda route: elsewhere(route, asked))
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/doc/tree/lessons.ipynb")
    try:
        run_all(page)
        yield page
    finally:
        page.screenshot(path=artefacts / "lessons.png")
        page.close()
    assert not errors and asked <= BADGES


@pytest.mark.parametrize("lesson", VIEWS)
def test_each_control_moves_its_picture_in_the_browser(lesson, page, artefacts):
    """For each view: a screenshot, every control, what must not be typed, a screenshot."""
    for name, moves in VIEWS[lesson].items():
        explore(page, lesson, name, moves, artefacts)
    assert page.locator(FAILED).count() == 0


def test_an_answer_of_the_quiz_opens_at_a_click_and_says_whether_it_is_right(browser, tmp_path):
    """All cells as nbconvert shows them, without a script: before the click nothing is given away."""
    numbers = [entry.number for entry in notebooks.NOTEBOOKS]
    cells = [nbformat.v4.new_markdown_cell(quiz.markdown(number)) for number in numbers]
    page_file = tmp_path / "quiz.html"
    page_file.write_text(HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=cells))[0])
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(page_file.as_uri(), wait_until="domcontentloaded")
    answers = [answer for number in numbers for question in quiz.questions(number) for answer in question.answers]
    shown = page.locator("details.quiz")
    assert shown.count() == len(answers)
    for place, answer in enumerate(answers):
        reply = shown.nth(place).locator("b")
        expect(reply).to_be_hidden()
        shown.nth(place).locator("summary").click()
        expect(reply).to_be_visible()
        assert reply.inner_text().startswith("✓" if answer.right else "✗")
    context.close()
