"""Asking the Hub: an answer in time or a sentence, against servers that misbehave on 127.0.0.1."""

import socket
import threading
import time

import pytest
from conftest import free_port
from huggingface_hub import constants

from distilnb import hub

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

    return point


def ask(kind: str = "model", deadline: float = 20) -> dict:
    """The question of these tests."""
    return hub.reach("owner/name", kind, "teacher 'owner/name'", deadline=deadline)


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
    with pytest.raises(ValueError, match="teacher 'owner/name' was found neither as a local path nor on the Hub"):
        ask(kind)
    assert serve.asked == 1  # there is no use in asking again


@pytest.mark.parametrize("path", ["a/b/c", "no such name!", "../up"])
def test_a_name_that_no_repository_can_have(hub_at, serve, path):
    hub_at(serve(FOUND))
    with pytest.raises(ValueError, match="it was found neither as a local path nor on the Hub"):
        hub.reach(path, "model", "it")
    assert serve.asked == 0


def test_a_busy_hub_is_asked_again(hub_at, serve):
    hub_at(serve(BUSY, BUSY, FOUND))
    assert ask(deadline=15) == {}
    assert serve.asked == 3


def test_a_hub_that_stays_busy_leaves_the_local_cache(hub_at, serve):
    hub_at(serve(BUSY))
    began = time.monotonic()
    assert ask(deadline=3) == LOCAL
    assert time.monotonic() - began < 5 and serve.asked > 1


def test_a_hub_that_accepts_and_says_nothing_leaves_the_local_cache(hub_at, silent_server):
    """huggingface_hub alone would wait for minutes."""
    hub_at(silent_server)
    began = time.monotonic()
    assert ask(deadline=2) == LOCAL
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
        assert ask(deadline=2) == LOCAL
        assert time.monotonic() - began < 4
        guard.cancel()
        over.set()
        thread.join(5)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_network_leaves_the_local_cache(hub_at):
    hub_at(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    assert ask(deadline=3) == LOCAL
    assert time.monotonic() - began < 5


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
    with pytest.raises(ValueError, match="GLEW was found neither"):
        hub.reach("nyu-mll/glew", "dataset", "GLEW")
