"""What the tests share: a language small enough to know by heart, a teacher that fits in a cache line or two.

The cache and the records of a test session lie in temporary folders: paths are asked for when they are used, not when
modules are imported.
"""

import gc
import http.server
import itertools
import json
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from accelerate import Accelerator
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BertConfig, BertForMaskedLM, BertTokenizer, DistilBertForMaskedLM, PreTrainedTokenizerBase

from distilnb.machine.device import forget_accelerator
from distilnb.models.student import build_student
from distilnb.text.corpus import Corpus, TextSource, build_corpus
from distilnb.text.masking import Masker

SESSION = TemporaryDirectory(prefix="distilnb-tests-")
os.environ["DISTILNB_CACHE"] = str(Path(SESSION.name, "cache"))
os.environ["DISTILNB_HOME"] = str(Path(SESSION.name, "home"))
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DISTILNB_FLOAT32"] = "highest"  # else each command probes the processor for a second, by the clock

NAMES = ("anna", "boris", "clara", "david", "elena", "felix", "greta", "hugo")
ANIMALS = ("cat", "dog", "horse", "bird", "mouse", "goat", "hen", "fox")
PLACES = ("garden", "kitchen", "forest", "harbour", "market", "tower", "meadow", "cellar")
VERBS = ("sees", "feeds", "follows", "hears", "finds", "calls", "loves", "draws")
OTHER = ("the", "a", "in", "and", "then", "old", "young", "small", "big", "it", "not", "never", "again", "is", ".", ",")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; one thread, so that equal means equal to the last bit; no garbage among what is imported."""
    gc.disable()
    config.addinivalue_line("markers", "hub: needs a Hugging Face Hub at $HF_ENDPOINT")
    torch.set_num_threads(1)


# whole files of tests that start processes, browsers, notebooks or hosts, or train; single ones carry the marker. The
# longest are first: workers take files in this order, so that none is left alone with a long one at the end
SLOW = """browser families commands_of_families hosts demo cli_finetuning real_tasks cli resume figures gpu_evidence
    digests book widgets benchmark grid own runtime faults pretraining finetuning export ablation rounding
    resume_families checkpoints evidence exercises heads estimate shipped quiz signals slides step toyworld""".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real data run where a Hub was named, and say so elsewhere; `make check` leaves the slow ones out."""
    names = {item: item.path.stem.removeprefix("test_") for item in items}
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: SLOW.index(names[item]) if names[item] in SLOW else len(SLOW))
    for item in items:
        if names[item] in SLOW:
            item.add_marker(pytest.mark.slow)
    if not os.environ.get("HF_ENDPOINT"):
        skip = pytest.mark.skip(
            reason="real data: set HF_ENDPOINT to a Hugging Face Hub, such as https://huggingface.co"
        )
        for item in items:
            if item.get_closest_marker("hub"):
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Collect garbage again."""
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> None:
    """accelerate collects garbage after every run; what was there before this file need not be looked at each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps the first precision that a process asked for; no test inherits another's."""
    forget_accelerator()
    yield
    forget_accelerator()


def story(index: int, sentences: int = 4) -> str:
    """A document of the small language, a pure function of `index`; sentence length varies from 7 to 13 words."""
    draw = random.Random(index)
    hero, animal = draw.choice(NAMES), draw.choice(ANIMALS)
    lines = []
    for _ in range(sentences):
        verb, kind, place = draw.choice(VERBS), draw.choice(OTHER[5:9]), draw.choice(PLACES)
        tail = draw.choice(["", "and then hears it again", "and never finds it"])
        lines.append(f"{hero} {verb} the {kind} {animal} in the {place} {tail} .")
    return " ".join(" ".join(lines).split())


def stories(count: int, seed: int = 0) -> list[str]:
    """Documents of 1 to 8 sentences: unequal lengths on purpose."""
    return [story(1000 * seed + i, 1 + i * 5 % 8) for i in range(count)]


def make_tokenizer() -> BertTokenizer:
    """WordPiece over every word of the small language, and single letters for anything else: nothing is unknown."""
    words = [*SPECIAL, *NAMES, *ANIMALS, *PLACES, *VERBS, *OTHER, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    pieces = dict.fromkeys(words)
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True, model_max_length=128)


@cache
def _bytes() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of byte pairs of the small language, without special pieces."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(stories(200), trainer)
    learned = json.loads(learner.to_str())["model"]
    return learned["vocab"], [tuple(pair) for pair in learned["merges"]]


def byte_level(kind: str) -> PreTrainedTokenizerBase:
    """A RobertaTokenizer or GPT2Tokenizer of the small language: bytes are paired, nothing is unknown."""
    special = ["<|endoftext|>"] if kind == "GPT2Tokenizer" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces, merges = _bytes()
    vocabulary = {piece: i for i, piece in enumerate([*special, *pieces])}
    return getattr(transformers, kind)(vocab=vocabulary, merges=merges, model_max_length=128)


@pytest.fixture(scope="session")
def tokenizer() -> BertTokenizer:
    """The same for all tests; not to be changed."""
    return make_tokenizer()


def bert_config(vocab_size: int, layers: int = 4, **more) -> BertConfig:
    """A BERT of width 32; wide initialization, so that an untrained model already has opinions."""
    shape = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }
    return BertConfig(vocab_size=vocab_size, num_hidden_layers=layers, **(shape | more))


def make_teacher(vocab_size: int, layers: int = 4, seed: int = 0, **more) -> BertForMaskedLM:
    """A random teacher whose biases and LayerNorms are random too: zeros and ones would hide a wrong copy."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = BertForMaskedLM(bert_config(vocab_size, layers, **more))
        with torch.no_grad():
            for name, parameter in teacher.named_parameters():
                if "bias" in name or "LayerNorm" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return teacher.eval()


@pytest.fixture
def teacher(tokenizer: BertTokenizer) -> BertForMaskedLM:
    """A fresh 4-layer teacher of the small language; the same weights in every test."""
    return make_teacher(len(tokenizer))


@pytest.fixture
def student(teacher: BertForMaskedLM) -> DistilBertForMaskedLM:
    """A 2-layer student of the 4-layer teacher."""
    return build_student(teacher)


@pytest.fixture(scope="session")
def teacher_folder(tokenizer: BertTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher and its tokenizer as a folder on disk; not to be written to."""
    folder = tmp_path_factory.mktemp("teacher")
    make_teacher(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def still_teacher_folder(tokenizer: BertTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without dropout."""
    folder = tmp_path_factory.mktemp("still")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    make_teacher(len(tokenizer), **still).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 documents, a paragraph each."""
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("\n\n".join(stories(400)) + "\n")
    return path


@pytest.fixture(scope="session")
def packed(text_file: Path, tokenizer: BertTokenizer) -> Corpus:
    """Blocks of exactly 32 tokens."""
    return build_corpus([TextSource(str(text_file))], tokenizer, seq_length=32)


@pytest.fixture(scope="session")
def grouped(text_file: Path, tokenizer: BertTokenizer) -> Corpus:
    """Documents apart, 14 to 48 tokens each."""
    return build_corpus([TextSource(str(text_file))], tokenizer, seq_length=48, layout="grouped")


@pytest.fixture
def masker(packed: Corpus, tokenizer: BertTokenizer) -> Masker:
    """The recipe's masks, smoothed by the counts of the small corpus."""
    return Masker.of(tokenizer, packed.token_counts)


@pytest.fixture
def accelerator() -> Accelerator:
    """One process on the CPU."""
    return Accelerator(cpu=True)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A single thread also where another test changed it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a web server that answers with the given (status, headers, body) in turn, the last for ever: its address.

    `asked` of the returned function counts the requests.
    """
    servers = []

    def start(*answers: tuple[int, dict[str, str], bytes]) -> str:
        replies = itertools.chain(answers, itertools.repeat(answers[-1]))

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                start.asked += 1
                status, headers, body = next(replies)
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    start.asked = 0
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and never says a word."""
    listener = socket.create_server(("127.0.0.1", 0))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def weights_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Parameters by name, copied."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether every parameter is equal to the last bit."""
    mine, theirs = weights_of(one), weights_of(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
BROWSER_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def executable(kind: Any) -> str | None:
    """The path of Playwright's own Chromium, else of the system's; None without either."""
    own = kind.executable_path
    return own if Path(own).is_file() else next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: Playwright's own, or the one of the system."""
    sync = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright: pip install it")
    with sync.sync_playwright() as playwright:
        found = executable(playwright.chromium)
        if found is None:
            pytest.skip("no Chromium: run `playwright install chromium`, or install your system's package")
        started = playwright.chromium.launch(executable_path=found, args=list(BROWSER_FLAGS))
        yield started
        started.close()
