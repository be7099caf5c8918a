"""Asking the Hub: an answer in time or a sentence, against servers that misbehave on 127.0.0.1."""

import http.server
import re
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import free_port
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoTokenizer

from distilnb.machine import hub

FOUND = (200, {"Content-Type": "application/json"}, b'{"id": "owner/name", "modelId": "owner/name", "sha": "0"}')
BUSY = (503, {}, b"busy")
MISSING = (404, {"X-Error-Code": "RepoNotFound"}, b'{"error": "Repository not found"}')
LOCAL = {"local_files_only": True}


@pytest.fixture
def hub_at(monkeypatch):
    """Let huggingface_hub ask this address."""

    def point(address: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return point


def ask(kind: str = "model", deadline: float = 20) -> dict:
    """The question of these tests, asked again sooner than a user's."""
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in (("DEADLINE", deadline), ("CONNECTING", 1.0), ("PAUSE", 0.2)):
            patch.setattr(hub, name, seconds)
        return hub.reach("owner/name", kind, "teacher 'owner/name'")


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_repository_that_is_there(hub_at, serve, kind):
    hub_at(serve(FOUND))
    assert ask(kind) == {}
    assert serve.asked == 1


def test_a_local_path_is_not_asked_for(hub_at, serve, tmp_path):
    hub_at(serve(MISSING))
    assert hub.reach(str(tmp_path), "model", "it") == {}
    assert serve.asked == 0


def test_offline_nothing_is_asked(hub_at, serve, monkeypatch):
    hub_at(serve(MISSING))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert ask() == {} and serve.asked == 0


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_repository_that_does_not_exist(hub_at, serve, kind):
    hub_at(serve(MISSING))
    with pytest.raises(ValueError, match="teacher"):
        ask(kind)
    assert serve.asked == 1  # there is no use in asking again


@pytest.mark.parametrize("path", ["a/b/c", "no such name!", "../up"])
def test_a_name_that_no_repository_can_have(hub_at, serve, path):
    hub_at(serve(FOUND))
    for offline in (False, True):
        with pytest.raises(ValueError, match="OWNER.NAME"), hub.only_cached(offline):
            hub.reach(path, "model", "it")
    assert serve.asked == 0


def test_a_busy_hub_is_asked_again(hub_at, serve):
    hub_at(serve(BUSY, BUSY, FOUND))
    assert ask(deadline=15) == {}
    assert serve.asked == 3


def test_a_hub_that_stays_busy_leaves_the_local_cache(hub_at, serve):
    hub_at(serve(BUSY))
    began = time.monotonic()
    assert ask(deadline=1.5) == LOCAL
    assert time.monotonic() - began < 4 and serve.asked > 1


def test_a_hub_that_accepts_and_says_nothing_leaves_the_local_cache(hub_at, silent_server):
    """huggingface_hub alone would wait for minutes."""
    hub_at(silent_server)
    began = time.monotonic()
    assert ask(deadline=1) == LOCAL
    assert time.monotonic() - began < 4


def test_a_hub_that_answers_a_byte_at_a_time_leaves_the_local_cache(hub_at):
    """No timeout of a connection sees it, because something always comes."""
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not over.wait(0.2):
            connection.sendall(b"a")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        hub_at(f"http://127.0.0.1:{listener.getsockname()[1]}")
        guard = threading.Timer(8, over.set)  # ends a test that waits for ever
        guard.start()
        began = time.monotonic()
        assert ask(deadline=1) == LOCAL
        assert time.monotonic() - began < 4
        guard.cancel()
        over.set()
        thread.join(5)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_network_leaves_the_local_cache(hub_at):
    hub_at(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    assert ask(deadline=1.5) == LOCAL
    assert time.monotonic() - began < 5


def test_a_connection_that_cannot_be_made_is_not_waited_for(hub_at):
    hub_at(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    assert ask() == LOCAL
    assert time.monotonic() - began < 6


def test_what_looks_like_a_folder_is_no_matter_of_the_network(hub_at, serve, tmp_path, monkeypatch):
    """Below runs/ and data/ nothing is asked; below another folder that is here, an owner may be meant."""
    hub_at(serve(MISSING))
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/distil-toy/model", "owner/names"):
        Path(folder).mkdir(parents=True)
    for name, meant, asked in (("runs/distil-typo", "runs/distil-toy/model", 0), ("owner/name", "owner/names", 1)):
        with pytest.raises(ValueError, match=meant) as error:
            hub.reach(name, "model", f"model '{name}'")
        assert "network" not in str(error.value) and serve.asked == asked
    for name, kind in (("data/mine", "dataset"), ("data/students/toi", "model")):
        with pytest.raises(ValueError, match=name) as error:
            hub.reach(name, kind, f"{kind} '{name}'")
        assert "mean" not in str(error.value), "nothing there has a name like it"
    assert "network" not in hub.cause("owner/name", OSError("no"))
    assert "no folder here is called mine, so the Hub was asked: check" in hub.cause("mine", OSError("no"))
    assert "no folder here" not in hub.cause("an-owner/name", OSError("no"))


def answered(kind: type[Exception], status: int) -> Exception:
    """What huggingface_hub raises for an answer of this status."""
    response = SimpleNamespace(status_code=status, headers={}, request=None, url="http://hub")
    error = kind.__new__(kind)
    error.response, error.args = response, (f"{status} Client Error",)
    return error


WAYS_OUT = [
    (answered(RevisionNotFoundError, 404), "not at this revision"),
    (answered(GatedRepoError, 403), "agreed to its terms"),
    (answered(RepositoryNotFoundError, 401), "check the name .a private one needs `hf auth login`"),
    (OSError("owner/name does not appear to have a file named model.safetensors"), "check the name"),
    (LocalEntryNotFoundError("not in the cache"), "and the network"),
    (ConnectionError("Name or service not known"), "and the network"),
]


@pytest.mark.parametrize("error, words", WAYS_OUT, ids=lambda value: type(value).__name__)
def test_the_network_is_named_where_it_failed_and_only_there(error, words):
    """Also where a library has wrapped what the Hub answered."""
    wrapped = OSError("owner/name cannot be loaded")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        told = hub.cause("owner/name", one)
        assert re.search(words, told) and ("network" in told) == ("network" in words)


def test_a_repository_with_terms_is_told_from_one_that_is_not_there(hub_at, serve):
    hub_at(serve((403, {"X-Error-Code": "GatedRepo"}, b'{"error": "agree first"}')))
    with pytest.raises(ValueError, match="terms"):
        ask()
    assert serve.asked == 1


# fetching files


@pytest.fixture
def impatient(monkeypatch, tmp_path):
    """Seconds instead of minutes, and an empty cache."""
    monkeypatch.setattr(hub, "SILENCE", 1.5)
    monkeypatch.setattr(hub, "PAUSE", 0.05)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def download(path: str) -> bytes:
    """One file of a repository, as transformers and datasets get it."""
    return Path(hf_hub_download(path, "config.json", cache_dir=constants.HF_HUB_CACHE)).read_bytes()


FILE = (200, {"ETag": '"0123"', "X-Repo-Commit": "0" * 40}, b'{"model_type": "bert"}')


def test_a_file_request_that_is_answered_503_is_repeated(hub_at, serve, impatient, monkeypatch):
    """huggingface_hub alone gives up at the first."""
    monkeypatch.setattr(hub, "SILENCE", 30.0)
    hub_at(serve(BUSY, FILE, BUSY, FILE))
    assert hub.fetch(download, "owner/name") == FILE[2]
    assert serve.asked >= 4


def test_a_body_that_is_cut_is_fetched_again(hub_at, impatient, monkeypatch):
    """The first two answers promise more than they send."""
    monkeypatch.setattr(hub, "SILENCE", 30.0)
    cut = iter([True, True])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
            body = FILE[2][start:]
            self.send_response(206 if start else 200)
            for key, value in (FILE[1] | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.send_header("Content-Range", f"bytes {start}-{len(FILE[2]) - 1}/{len(FILE[2])}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: len(body) // 2] if next(cut, False) else body)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        hub_at(f"http://127.0.0.1:{server.server_address[1]}")
        assert hub.fetch(download, "owner/name") == FILE[2]
        server.shutdown()
    assert next(cut, None) is None


def test_files_that_stay_unavailable_are_a_sentence(hub_at, serve, impatient):
    hub_at(serve(BUSY))
    with pytest.raises(ValueError, match="network"):
        hub.fetch(download, "owner/name")
    assert serve.asked > 1


def test_silence_is_a_sentence(hub_at, silent_server, impatient):
    hub_at(silent_server)
    with pytest.raises(ValueError, match="fetched"):
        hub.fetch(download, "owner/name")


def test_what_will_not_pass_is_raised_at_once(impatient):
    calls = []

    def load(path):
        calls.append(path)
        raise OSError(f"{path} does not appear to have a file named model.safetensors")

    with pytest.raises(OSError, match="appear"):
        hub.fetch(load, "owner/name")
    assert calls == ["owner/name"]


def test_a_slow_download_is_no_silence(impatient, monkeypatch):
    """Something arrives every fifth of a second; all in all it takes longer than a silence may."""
    cache = Path(constants.HF_HUB_CACHE) / "models--owner--name" / "blobs"
    cache.mkdir(parents=True)
    monkeypatch.setattr(hub, "SILENCE", 1.0)

    def load(path):
        for count in range(7):
            (cache / "file.incomplete").write_bytes(b"x" * (count + 1))
            time.sleep(0.2)
        return "done"

    assert hub.fetch(load, "owner/name") == "done"


def test_a_tokenizer_behind_a_busy_hub_is_no_guess(hub_at, serve, impatient):
    """Where config.json cannot be had, transformers takes another class, without a word: better an error."""
    hub_at(serve(BUSY))
    with pytest.raises(ValueError, match="fetched"):
        hub.fetch(AutoTokenizer.from_pretrained, "owner/name")


def test_local_folders_are_loaded_as_they_are(tmp_path):
    assert hub.fetch(lambda path, more: (path, more), str(tmp_path), more=1) == (str(tmp_path), 1)


def test_only_cached_is_over_when_it_is_over(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub.only_cached(False):
        assert not constants.HF_HUB_OFFLINE
    with pytest.raises(KeyError), hub.only_cached(True):
        assert constants.HF_HUB_OFFLINE
        raise KeyError
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.hub
def test_the_real_protocol():
    assert hub.reach("nyu-mll/glue", "dataset", "GLUE") == {}
    with pytest.raises(ValueError, match="neither"):
        hub.reach("nyu-mll/glew", "dataset", "GLEW")
