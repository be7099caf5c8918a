"""Asking the Hugging Face Hub: one quick, bounded question first, and one sentence when there is no answer."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers.utils import logging

MISSING = (RepositoryNotFoundError, HFValidationError)
DEADLINE = 15.0  # seconds until an unanswered question becomes a sentence
SILENCE = 60.0  # seconds without a byte after which a download becomes one
PAUSE = 1.0  # seconds between two tries
ADVICE = "check the name and the network, give a local folder, or use the offline scale (--scale toy)"


def reach(path: str, kind: str, what: str, deadline: float = DEADLINE) -> dict[str, bool]:
    """Make sure that `path` exists here or is a repository that the Hub knows; `kind` is "model" or "dataset".

    Retries what may pass (a 503, a dropped connection) for `deadline` seconds. {"local_files_only": True} when the
    Hub does not answer, so that the caller can still look into the local cache. Raises ValueError, naming `what` and
    the way out, when there is no such repository.
    """
    if Path(path).exists() or constants.HF_HUB_OFFLINE:
        return {}
    answer: list[Exception | None] = []

    def ask() -> None:
        end = time.monotonic() + deadline
        while not answer:
            try:
                HfApi().repo_info(path, repo_type=kind, timeout=deadline / 3)
                answer.append(None)
            except Exception as error:  # of several HTTP libraries; what it was is decided below
                if isinstance(error, MISSING) or time.monotonic() + 1 > end:
                    answer.append(error)
                else:
                    time.sleep(1)

    # in a thread, because a server that accepts and stays silent can hold a connection beyond any timeout
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(deadline)
    if answer and isinstance(answer[0], MISSING):
        raise ValueError(f"{what} was found neither as a local path nor on the Hub; {ADVICE}")
    return {} if answer == [None] else {"local_files_only": True}


def fetch(load: Callable[..., Any], path: str, *arguments: Any, **keywords: Any) -> Any:
    """`load(path, ...)`, which may ask the Hub for files; what may pass (a 503, a cut body) is tried again.

    Weights are looked at before they are loaded. Errors that will not pass are raised as they are. Raises ValueError
    when nothing has arrived for `SILENCE` seconds, and for a file that is not what its name says.
    """
    if Path(path).exists() or constants.HF_HUB_OFFLINE or keywords.get("local_files_only"):
        if Path(path).is_dir() and keywords.get("use_safetensors"):
            check_weights(Path(path))
        return load(path, *arguments, **keywords)
    answer: list[tuple[Any, Exception | None]] = []
    heard = time.monotonic()

    def work() -> None:
        while not answer:
            try:
                if load.__name__ == "from_pretrained":
                    # transformers takes a file that it cannot get for one that is not there, and guesses another class
                    weights = ["model*.safetensors"] if keywords.get("use_safetensors") else []
                    there = snapshot_download(
                        path, revision=keywords.get("revision"), allow_patterns=["*.json", "*.txt", *weights]
                    )
                    if weights:
                        check_weights(Path(there))
                answer.append((load(path, *arguments, **keywords), None))
            except Exception as error:  # raised again below, in the thread that asked
                if not _may_pass(error) or time.monotonic() - heard + PAUSE > SILENCE:
                    answer.append((None, error))
                time.sleep(PAUSE)

    thread, arrived = threading.Thread(target=work, daemon=True), _arrived()
    thread.start()
    while thread.is_alive() and not answer and time.monotonic() - heard < SILENCE:
        thread.join(PAUSE / 4)
        if (now := _arrived()) != arrived:
            heard, arrived = time.monotonic(), now
    if not answer:
        raise ValueError(f"'{path}' could not be fetched: the Hub has sent nothing for {SILENCE:.0f} s; {ADVICE}")
    found, error = answer[0]
    if error is None:
        return found
    if _may_pass(error):
        reason = str(error).strip().splitlines()[0][:150]
        raise ValueError(f"'{path}' could not be fetched in {SILENCE:.0f} s of trying ({reason}); {ADVICE}") from error
    raise error


def check_weights(folder: Path) -> None:
    """Raise ValueError unless every safetensors file is one, and every index names files beside it.

    transformers would try to unpickle, with restrictions, what it cannot read as safetensors.
    """
    for index in folder.glob("*.safetensors.index.json"):
        try:
            names = set(json.loads(index.read_text())["weight_map"].values())
            strange = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ValueError(f"{index} is no index of weights") from error
        if strange:
            raise ValueError(f"{index} names {strange[0]!r}, which is no safetensors file beside it")
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is no safetensors file ({str(error)[:100]})") from error


def _may_pass(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is trouble of network or server that another try may not meet."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return error.response.status_code in (408, 429) or error.response.status_code >= 500
        transport = type(error).__module__.startswith("httpx") or "Consistency check failed" in str(error)
        if transport or isinstance(error, (ConnectionError, TimeoutError)):
            return True
        if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is None and error.__context__ is None:
            return True
        error = error.__cause__ or error.__context__
    return False


def _arrived() -> int:
    """Bytes in the caches: they grow while something comes."""
    total = 0
    for root, pattern in (
        (constants.HF_HUB_CACHE, "*/blobs/*"),
        (datasets.config.HF_DATASETS_CACHE, "downloads/*"),
        (datasets.config.HF_DATASETS_CACHE, "*/*/*/*.incomplete/*"),
    ):
        for file in Path(root).glob(pattern):
            try:
                total += file.stat().st_size
            except OSError:  # moved to its place in between
                continue
    return total


@contextmanager
def only_cached(only: bool) -> Iterator[None]:
    """With `only`, what is loaded inside comes from the cache: an endpoint that has just not answered is not asked."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, only or constants.HF_HUB_OFFLINE
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def no_report() -> Iterator[None]:
    """Without the table of missing tensors that `transformers` prints, for callers that judge them themselves."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
