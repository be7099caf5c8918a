"""Asking the Hugging Face Hub: a quick, bounded question first, and one sentence when there is no answer."""

import threading
import time
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

DEADLINE = 25.0  # seconds until an unanswered question becomes a sentence
ADVICE = "check the name and the network, give a local folder, or use the offline scale (--scale toy)"


def reach(path: str, kind: str, what: str, deadline: float = DEADLINE) -> dict[str, bool]:
    """Make sure that `path` is a folder or a repository that the Hub knows; `kind` is "model" or "dataset".

    Answers within `deadline` seconds, retrying what may pass (a 503, a dropped connection). When the Hub cannot
    be reached, {"local_files_only": True} lets the caller try the local cache. Raises ValueError, naming `what`
    and what to do, when the repository does not exist.
    """
    if Path(path).exists() or constants.HF_HUB_OFFLINE:
        return {}
    answer: list[Exception | None] = []

    def ask() -> None:
        end = time.monotonic() + deadline
        while True:
            try:
                HfApi().repo_info(path, repo_type=kind, timeout=deadline / 3)
                return answer.append(None)
            except (RepositoryNotFoundError, HFValidationError) as error:
                return answer.append(error)
            except (HfHubHTTPError, OSError, RuntimeError) as error:
                if time.monotonic() + 2 > end:
                    return answer.append(error)
                time.sleep(1)

    # a thread, because a server that accepts and stays silent can hold a connection beyond any timeout
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(deadline)
    if not answer or (
        answer[0] is not None and not isinstance(answer[0], (RepositoryNotFoundError, HFValidationError))
    ):
        return {"local_files_only": True}
    if answer[0] is not None:
        raise ValueError(f"{what} was found neither as a local path nor on the Hub; {ADVICE}")
    return {}
