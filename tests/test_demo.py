"""The page of `distilnb demo` in headless Chromium: it guesses as Python does, keeps time, and survives what breaks.

Needs Chromium, skipped with a message without; where npm is missing the runtime would come from a CDN, and these tests
are skipped too.
"""

import copy
import functools
import gzip
import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from conftest import BROWSER_FLAGS, executable, make_teacher
from playwright.sync_api import Browser, Page, expect

from distilnb import paths
from distilnb.cli import main
from distilnb.evidence.devices import read_device
from distilnb.evidence.records import load_records, save_record
from distilnb.models.guessing import best_guesses
from distilnb.models.sources import load_model, load_tokenizer
from distilnb.models.student import build_student
from distilnb.report import tables
from distilnb.studies import demo, formats
from distilnb.studies.rounding import ERROR

pytestmark = pytest.mark.browser
PATIENCE = 120_000
SENTENCES = (
    "He opened the ___ and went out.",
    "She was born in ___ and died in 1952.",
    "This is the ___ film I have ever seen.",
    "The king and the ___ ruled the land.",
    "___ is the capital of France.",
    "It was a cold winter ___",
    "“Where is my ___?” she asked, café in hand.",
    "In 1914 the ___ began; nobody knew it.",
    "The actors are good, but the story is ___!",
    "I don't ___ what you mean...",
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of static files that keeps its log to itself, and counts the bytes of files that it sent."""

    sent = 0

    def copyfile(self, source, outputfile) -> None:
        data = source.read()
        Quiet.sent += len(data)
        outputfile.write(data)

    def log_message(self, *_) -> None:
        pass


def served(folder: Path) -> Iterator[str]:
    """The address at which a folder is served, by Python's own server as a reader would start it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def models(tokenizer) -> dict:
    """A small teacher, its student and a twin, which has an outlier in each layer, as really pretrained models do."""
    teacher = make_teacher(len(tokenizer))
    twin = build_student(teacher, "first")
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name.endswith("sa_layer_norm.weight"):
                parameter[7] *= 30
    return {"teacher": teacher, "student": build_student(teacher), "undistilled": twin}


@pytest.fixture(scope="session")
def folder(models, tokenizer, tmp_path_factory) -> Path:
    """The page of these; the student's table has spare rows, which would win if they were words."""
    out, student = tmp_path_factory.mktemp("demo"), copy.deepcopy(models["student"])
    student.resize_token_embeddings(len(tokenizer) + 8)
    with torch.no_grad():
        student.vocab_projector.bias[len(tokenizer) :] = 9
    manifest = demo.build(models | {"student": student}, tokenizer, out, scale="own")
    if not manifest["vendor"]["wasm"]["ort"]["gzip"]:
        pytest.skip("onnxruntime-web: npm is missing or cannot fetch it")
    return out


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    yield from served(folder)


def opened(browser: Browser, address: str, width: int = 390, scheme: str = "light") -> tuple[Page, list[str]]:
    """The page, and what its console complains about."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page, errors = context.new_page(), []
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    return page, errors


def ready(page: Page) -> None:
    expect(page.locator("html[data-ready]")).to_have_count(1, timeout=PATIENCE)
    expect(page.locator("#cards")).to_have_attribute("aria-busy", "false", timeout=PATIENCE)


@pytest.fixture(scope="module")
def page(browser, address) -> Iterator[Page]:
    """The page, ready, for tests that leave it as it was."""
    page, errors = opened(browser, address)
    ready(page)
    yield page
    page.context.close()
    assert not errors


def guesses(page: Page, name: str, text: str) -> list[tuple[str, float]]:
    """What a card shows for a sentence: words with their percentages."""
    page.fill("#sentence", text)
    expect(page.locator("#cards")).to_have_attribute("aria-busy", "false", timeout=PATIENCE)
    rows = page.locator(f"#card-{name} li").evaluate_all(
        "items => items.map(i => [...i.children].map(c => c.innerText))"
    )
    return [(word, float(share.removesuffix(" %"))) for word, share in rows]


@functools.cache
def int8_logits(folder: Path, name: str) -> Callable[[dict], np.ndarray]:
    """ONNX Runtime's answers outside the browser, from the very files of the page."""
    with TemporaryDirectory() as aside:
        for part, target in (("int8-whole.onnx", f"{name}.onnx"), ("int8.bin", "weights")):
            Path(aside, target).write_bytes(gzip.decompress((folder / f"{name}-{part}.gz").read_bytes()))
        return formats.open_onnx(Path(aside, f"{name}.onnx"), only="logits")


def int8_guesses(folder: Path, name: str, tokenizer, text: str) -> list[tuple[str, float]]:
    """The same guesses by ONNX Runtime."""
    ids = tokenizer(text.replace("___", tokenizer.mask_token), return_tensors="pt")
    logits = int8_logits(folder, name)(dict(ids))
    at = ids["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    best = torch.from_numpy(logits)[0, at, : len(tokenizer)].softmax(-1).topk(5)
    return [
        (w, 100 * p) for w, p in zip(tokenizer.convert_ids_to_tokens(best.indices), best.values.tolist(), strict=True)
    ]


def agree(found: list[tuple[str, float]], expected: list[tuple[str, float]], points: float) -> None:
    """The best word, where it is one by more than `points`, and every percentage, to `points`."""
    assert len(found) == 5
    if expected[0][1] - expected[1][1] > 2 * points:
        assert found[0][0] == expected[0][0]
    np.testing.assert_allclose([share for _, share in found], [share for _, share in expected], atol=points)
    known = dict(expected)
    assert all(abs(share - known[word]) <= points for word, share in found if word in known)
    assert len(known.keys() & dict(found).keys()) >= 3


@pytest.mark.parametrize("width, scheme", [(390, "light"), (1280, "dark")])
def test_three_models_fill_the_blank_as_python_does(
    browser, address, folder, models, tokenizer, tmp_path, width, scheme
):
    page, errors = opened(browser, address, width, scheme)
    ready(page)
    page.click("#card-undistilled button")
    rounded = {name: about["int8"] for name, about in json.loads((folder / "demo.json").read_text())["models"].items()}
    assert rounded["teacher"]["rounding"] == "dynamic" and rounded["undistilled"]["rounding"] == "blocks"
    assert all(about["error"] <= ERROR for about in rounded.values())
    for precision, points in (("int8", 0.3), ("float32", 0.06)):
        page.check(f"input[value={precision}]")
        for text in ("anna sees the ___ cat in the garden", "the old ___ finds it"):
            for name, model in models.items():
                found = guesses(page, name, text)
                if precision == "int8":
                    expected = int8_guesses(folder, name, tokenizer, text)
                else:
                    expected = [(w, 100 * p) for w, p in best_guesses(model, tokenizer, text.replace("___", "[MASK]"))]
                agree(found, expected, points)
    assert not errors
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_a_hotter_teacher_is_less_sure_and_the_student_stays(page, models, tokenizer):
    deep = [f"of {models[name].config.num_hidden_layers} layers" for name in ("teacher", "student")]
    assert all(words in page.locator("header").inner_text() for words in deep)
    text = "anna sees the ___ cat in the garden"
    before, other = guesses(page, "teacher", text), guesses(page, "student", text)
    choices = [int(page.locator("#undecided").inner_text().replace(",", ""))]
    page.locator("#temperature").fill("8")
    expect(page.locator("#degrees")).to_have_text("8.0")
    expect(page.locator("#card-teacher li").first).not_to_contain_text(f"{before[0][1]}")
    after = [float(t.split()[-2]) for t in page.locator("#card-teacher li").all_inner_texts()]
    assert after[0] < before[0][1] and guesses(page, "student", text) == other
    choices.append(int(page.locator("#undecided").inner_text().replace(",", "")))
    assert 1 <= choices[0] < choices[1] <= len(tokenizer)
    page.locator("#temperature").fill("1")


@pytest.mark.parametrize(
    "text, told",
    [("no gap", "___"), ("___ and ___", "once"), ("the ___ " + "cat " * 200, "shorten"), ("☃ ___", "vocabulary")],
)
def test_what_cannot_be_read_gets_a_line(page, text, told):
    page.fill("#sentence", text)
    expect(page.locator("#say.bad")).to_contain_text(told)
    assert guesses(page, "student", "the old ___ finds it")


CLOCK = """async () => {
  const { inTurns } = await import("./stopwatch.js"), order = [];
  let clock = 0;
  performance.now = () => clock;
  const run = (name, ms) => async () => { order.push(name); clock += ms; };
  const taken = await inTurns({ teacher: run("teacher", 80), student: run("student", 10) }, 4, 30);
  return { taken, order: order.join(" ") };
}"""


def test_the_stopwatch_tells_known_delays_and_takes_turns(browser, address):
    page, _ = opened(browser, address)
    told = page.evaluate(CLOCK)
    assert told["taken"] == {"teacher": [80] * 4, "student": [10] * 4}
    first, second = "teacher student student student", "student student student teacher"
    assert told["order"].endswith(" ".join([first, second, first, second])), "the short one thrice, to fill 30 ms"
    page.context.close()


def test_it_works_with_the_network_cut_and_then_with_threads(browser, folder):
    server = served(folder)
    page, errors = opened(browser, next(server))
    ready(page)
    page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
    page.wait_for_function("navigator.serviceWorker.controller")
    before = guesses(page, "student", "the old ___ finds it")
    next(server, None)  # shut down
    page.reload()
    ready(page)
    assert guesses(page, "student", "the old ___ finds it") == before
    assert page.evaluate("crossOriginIsolated")
    several = page.evaluate("navigator.hardwareConcurrency") > 1
    assert page.locator("#runs").is_visible() == several
    if several:
        page.select_option("#runs", "2")
        ready(page)
        assert guesses(page, "student", "the old ___ finds it") == before
    assert not errors
    page.context.close()


SLOW = """
export async function inTurns(runs, rounds) {
  for (const run of Object.values(runs)) await run();
  return { teacher: Array(rounds).fill(1218.2), student: Array(rounds).fill(62) };
}"""


def test_a_graphics_processor_is_offered_and_answers_in_float32(browser, folder, models, tokenizer, tmp_path):
    """Chromium's own imitation of one: its runtime is fetched when it is chosen, and guesses as Python does.

    It is so slow that the times are made up.
    """
    stopwatch = Path(shutil.copytree(folder, tmp_path / "page")) / "stopwatch.js"
    stopwatch.write_text(
        stopwatch.read_text().replace("export async function inTurns(", "async function replaced(") + SLOW
    )
    server, asked = served(stopwatch.parent), []
    flags = [flag for flag in BROWSER_FLAGS if flag != "--disable-gpu"]
    flags += ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
    kind = browser.browser_type
    with kind.launch(executable_path=executable(kind), args=flags) as graphic:
        page, errors = opened(graphic, next(server))
        page.on("request", lambda request: asked.append(request.url))
        ready(page)
        if not page.evaluate("navigator.gpu?.requestAdapter().then(a => !!a)"):
            pytest.skip("this Chromium has no WebGPU, not even in software")
        assert not any("asyncify" in url for url in asked)
        page.select_option("#runs", "webgpu")
        ready(page)
        assert any("asyncify.wasm" in url for url in asked) and page.locator("#full").is_disabled()
        assert page.locator("input[value=float32]").is_checked() and page.locator("input[value=int8]").is_disabled()
        text = "the old ___ finds it"
        for name in ("teacher", "student"):
            expected = best_guesses(models[name], tokenizer, text.replace("___", "[MASK]"))
            agree(guesses(page, name, text), [(w, 100 * p) for w, p in expected], 0.06)
        page.click("#time")
        expect(page.locator("#where")).to_contain_text("float32, WebGPU", timeout=PATIENCE)
        assert "1218 ms 62.0 ms" in " ".join(page.locator("#rows").inner_text().split())
        page.select_option("#runs", "1")
        ready(page)
        assert page.locator("input[value=int8]").is_enabled() and not errors
    next(server, None)


@pytest.mark.parametrize("name,other", [("student", "teacher"), ("teacher", "student")])
def test_a_damaged_model_gets_a_friendly_line_and_the_other_guesses(browser, folder, tmp_path, name, other):
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    data = bytearray((broken / f"{name}-int8.bin.gz").read_bytes())
    data[len(data) // 2] ^= 255
    (broken / f"{name}-int8.bin.gz").write_bytes(bytes(data))
    server = served(broken)
    page, _ = opened(browser, next(server))
    expect(page.locator("#say.bad")).to_contain_text(f"The {name} did not arrive whole", timeout=PATIENCE)
    assert page.locator(f"#card-{other} li").count() == 5
    page.context.close()
    next(server, None)


@pytest.fixture(scope="module")
def result(browser, folder, tmp_path_factory) -> Path:
    """What the page saves after timing."""
    server = served(folder)
    page, errors = opened(browser, next(server))
    ready(page)
    expect(page.locator("#copy")).to_be_hidden()  # there is nothing to copy yet
    page.click("#time")
    expect(page.locator("#faster")).to_contain_text("The student is", timeout=PATIENCE)
    with page.expect_download() as download:
        page.click("#save")
    path = tmp_path_factory.mktemp("result") / "my-device.json"
    download.value.save_as(path)
    assert not errors and page.locator("#rows tr").count() == 4
    page.context.close()
    next(server, None)
    return path


def test_a_result_becomes_a_record_of_the_readers_own(result, tmp_path):
    record = read_device(result)
    told = json.loads(result.read_text())
    assert (record["kind"], record["own"], record["scale"]) == ("device", True, "own")
    slow, fast = (np.array(told["taken"]["128"][name]) for name in ("teacher", "student"))
    assert record["scores"]["faster"] == pytest.approx(100 * (np.median(slow / fast) - 1))
    save_record(record, tmp_path)
    (row,) = tables.device_rows(load_records(tmp_path))
    assert row["the paper's phone"] == "71 %" and "HeadlessChrome" in row["browser"]


@pytest.mark.parametrize(
    "change", [{"kind": "cake"}, {"taken": {}}, {"taken": {"16": {"teacher": [1], "student": [0]}}}]
)
def test_what_is_no_result_is_refused(tmp_path, change):
    good = {"kind": "device", "format": 1, "taken": {"16": {"teacher": [2.0], "student": [1.0]}}, "threads": 1}
    good |= dict.fromkeys(("build", "scale", "weights", "runtime", "backend", "precision", "browser", "made"), "x")
    good |= {"seconds": 1, "models": {"teacher": {"layers": 2}, "student": {"layers": 1}}}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(good))
    assert read_device(path)["scores"]["faster"] == 100
    path.write_text(json.dumps(good | change))
    with pytest.raises(ValueError, match="page"):
        read_device(path)


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "there is no file"),
        ("{", "it is no JSON, or not the whole of it"),
        ("[1]", "its parts have another form"),
        ("{}", "it has no 'kind'"),
        ('{"kind": "device", "format": 1, "taken": {}}', "nothing was timed"),
    ],
)
def test_a_file_of_something_else_is_told_without_pythons_own_words(tmp_path, capsys, text, words):
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)
    assert main.main(["report", "--add", str(path), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert str(path) in told and words in told and told.count("\n") == 1


def test_without_npm_the_runtime_comes_from_a_cdn_by_its_hash(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "npm_archive", lambda package: None)
    assert demo.vendor(tmp_path) is None and not any(tmp_path.iterdir())
    named = demo.at_cdn()
    assert {part: files.keys() for part, files in named.items()} == {p: f.keys() for p, (_, f) in demo.VENDOR.items()}
    for file in (file for files in named.values() for file in files.values()):
        assert file["url"].startswith("https://") and file["integrity"].startswith("sha384-")


def test_another_file_than_the_pinned_one_is_refused(monkeypatch, tmp_path, folder):
    monkeypatch.setitem(demo.PINNED, demo.VENDOR["tokenizers"][1]["code"], "0" * 64)
    with pytest.raises(ValueError, match="pinned"):
        demo.vendor(tmp_path)


def test_models_of_two_vocabularies_and_classifiers_are_refused(models, tokenizer, tmp_path):
    for odd in (make_teacher(len(tokenizer) - 8), formats_classifier(models["teacher"])):
        with pytest.raises(ValueError, match="vocabularies|language"):
            demo.build(models | {"student": odd}, tokenizer, tmp_path / "out", scale="own")
    assert not (tmp_path / "out").exists()


def test_a_student_that_numbers_its_words_otherwise_is_refused(models, tokenizer, tmp_path, capsys):
    for name in ("teacher", "student"):
        models[name].save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    file = tmp_path / "student" / "tokenizer.json"
    told = json.loads(file.read_text())
    words = told["model"]["vocab"]
    told["model"]["vocab"] = dict(zip(words, [*range(5), *reversed(range(5, len(words)))], strict=True))
    file.write_text(json.dumps(told))
    flags = [flag for name in ("teacher", "student") for flag in (f"--{name}", str(tmp_path / name))]
    assert main.main(["demo", *flags, "--out", str(tmp_path / "out"), "--twin", "none"]) == 2
    assert "the student" in (error := capsys.readouterr().err) and "other word pieces" in error
    assert not (tmp_path / "out").exists()


def formats_classifier(model):
    """The same encoder with a head for two labels."""
    from distilnb.tasks.heads import classifier

    return classifier(model, 2, seed=0)[0]


def test_the_shipped_pair_is_small_and_guesses_as_python_does(browser, tmp_path):
    """Ten sentences in float32 and int8; no more than 10 MB until the first guess, and nothing from elsewhere."""
    out = tmp_path / "page"
    assert main.main(["demo", "--out", str(out), "--twin", "none"]) == 0
    server, asked, before = served(out), [], Quiet.sent
    address = next(server)
    context = browser.new_context()
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.goto(address)
    ready(page)
    assert asked and all(url.startswith((address, f"blob:{address}", "data:")) for url in asked)
    assert 6e6 < Quiet.sent - before <= 10e6
    student, tokenizer = (load(str(paths.data("students", "mini"))) for load in (load_model, load_tokenizer))
    for text in SENTENCES:
        agree(guesses(page, "student", text), int8_guesses(out, "student", tokenizer, text), 0.3)
    page.check("input[value=float32]")
    for text in SENTENCES:
        expected = [(w, 100 * p) for w, p in best_guesses(student, tokenizer, text.replace("___", "[MASK]"))]
        agree(guesses(page, "student", text), expected, 0.06)
    context.close()
    next(server, None)
