"""Asking the Hugging Face Hub: one quick, bounded question first, and one sentence when there is no answer."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

MISSING = (RepositoryNotFoundError, HFValidationError)
DEADLINE = 15.0  # seconds until an unanswered question becomes a sentence
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


@contextmanager
def only_cached(only: bool) -> Iterator[None]:
    """With `only`, what is loaded inside comes from the cache: an endpoint that has just not answered is not asked."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, only or constants.HF_HUB_OFFLINE
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
