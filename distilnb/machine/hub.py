"""The Hugging Face Hub: a question with a deadline before each download, and one sentence when there is no answer."""

import difflib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers.utils import logging

from .. import paths

DEADLINE = 15.0  # seconds until an unanswered question becomes an error
CONNECTING = 3.0  # seconds in which a connection that cannot be made is tried again
SILENCE = 60.0  # seconds without a byte until a download becomes an error
PAUSE = 1.0  # seconds between two tries
CONVERT_AT_MOST = 1800.0  # seconds that a conversion of weights may take
LARGEST_NUMBER = 10_000_000  # for any number in a configuration, because a larger network could not be built
DEPTH_FIELDS = "num_hidden_layers", "n_layers", "n_layer"
BINARY = "pytorch_model*.bin"
FOREIGN = "*.h5 *.msgpack *.ckpt* *.gguf *model*.ot *model*.pt *model*.pth *model*.bin *weights*.bin *.onnx".split()
TOKENIZERS = "tokenizer.json", "vocab*", "*.model", "*.spm"  # without one of them, the library makes an empty one
converting = False  # whether weights that exist only as pickled files may be converted (--convert)
OUR_FOLDERS = "runs/", "data/"  # no owner on the Hub is meant by these
REFUSED = {  # what the Hub answers, and the way out
    GatedRepoError: "it is there only for those who agreed to its terms: do so on its page, then `hf auth login`",
    RevisionNotFoundError: "it is there, but not at this revision: give one that its page lists",
}
ADVICE = "check the name{}, give a local folder, or use the offline scale (--scale toy)"
UNREACHED, UNKNOWN = (ADVICE.format(more) for more in (" and the network", " (a private one needs `hf auth login`)"))


class Explained(ValueError):
    """The error's own sentence already names the way out."""


def reach(path: str, kind: str, what: str) -> dict[str, bool]:
    """Make sure that `path` is a local folder or a repository of the Hub, and return arguments for `from_pretrained`.

    `kind` is "model" or "dataset". Transient errors (a 503, a dropped connection) are tried again for `DEADLINE`
    seconds. When the Hub does not answer, {"local_files_only": True} sends the caller to the local cache. Raises
    ValueError, naming `what` and the way out, when there is no such repository.
    """
    if Path(path).is_file() and kind == "model":
        raise ValueError(f"'{path}' is no model: give the folder that holds config.json and model.safetensors")
    if Path(path).exists():
        return {}
    if path.startswith(OUR_FOLDERS):
        raise ValueError(f"{what} does not exist: {advice(path)}")
    try:
        validate_repo_id(path)
    except HFValidationError:
        raise ValueError(
            f"{what} does not exist: there is no such folder, and no repository has such a name; give a local folder "
            "or OWNER/NAME"
        ) from None
    if constants.HF_HUB_OFFLINE:
        return {}
    answer: list[Exception | None] = []

    def ask() -> None:
        began = time.monotonic()
        while not answer:
            try:
                HfApi().repo_info(path, repo_type=kind, timeout=DEADLINE / 3)
                answer.append(None)
            except Exception as error:  # several HTTP libraries raise here; the kind of error is decided below
                connected = type(error).__name__ not in ("ConnectError", "ConnectTimeout")  # of httpx or its successor
                end = began + (DEADLINE if connected else min(DEADLINE, CONNECTING))
                if isinstance(error, RepositoryNotFoundError) or time.monotonic() + PAUSE > end:
                    answer.append(error)
                else:
                    time.sleep(PAUSE)

    # in a thread, because a server that accepts and stays silent can hold a connection beyond any timeout
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    if answer and isinstance(answer[0], GatedRepoError):
        raise ValueError(f"{what} cannot be fetched: {REFUSED[GatedRepoError]}")
    if answer and isinstance(answer[0], RepositoryNotFoundError):
        raise ValueError(f"{what} was found neither as a local path nor on the Hub; {advice(path)}")
    return {} if answer == [None] else {"local_files_only": True}


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer's words."""
    return any(file for pattern in TOKENIZERS for file in folder.glob(pattern))


def fetch(load: Callable[..., Any], path: str, *arguments: Any, **keywords: Any) -> Any:
    """The result of `load(path, ...)`, which may download files; transient errors (a 503, a cut body) are tried again.

    Files are checked before they are loaded. Whatever a library raises becomes an OSError or ValueError: for a file
    that is not what its name says, and when nothing has arrived for `SILENCE` seconds. `cause` words the reason.
    """
    try:
        if Path(path).is_dir() and load.__name__ == "from_pretrained":
            check_folder(Path(path), bool(keywords.get("use_safetensors")))
            if load.__self__.__name__ == "AutoTokenizer" and not has_tokenizer(Path(path)):
                raise ValueError(f"{path} holds no tokenizer.json; copy the tokenizer's files of its teacher there")
        if Path(path).exists():
            return load(path, *arguments, **keywords)
        if constants.HF_HUB_OFFLINE or keywords.get("local_files_only"):
            made = _converted_before(path, keywords) if keywords.get("use_safetensors") else None
            return load(made or path, *arguments, **(_local(keywords) if made else keywords))
        return _fetch(load, path, *arguments, **keywords)
    except (OSError, ValueError):
        raise
    except Exception as error:  # a damaged file can make a library raise anything
        raise ValueError(f"{type(error).__name__}: {_first_line(error)}") from error


def fetch_or_say(told: str, load: Callable[..., Any], path: str, *arguments: Any, **keywords: Any) -> Any:
    """The result of `fetch`; where it fails, a ValueError: the sentence `told`, and its `cause`."""
    try:
        return fetch(load, path, *arguments, **keywords)
    except (OSError, ValueError) as error:
        raise ValueError(f"{told}{cause(path, error)}") from error


def cause(path: str, error: Exception) -> str:
    """The end of a sentence about a failed load: the reason, and a way out if the Hub was asked."""
    refused = next((told for one in _chain(error) for kind, told in REFUSED.items() if isinstance(one, kind)), None)
    settled = refused or Path(path).exists() or isinstance(error, Explained)
    bare = "" if "/" in path else f"no folder here is called {path}, so the Hub was asked: "
    return f" ({refused or _first_line(error)})" + ("" if settled else f"; {bare}{advice(path, error)}")


def advice(path: str, error: BaseException | None = None) -> str:
    """The way out for a name that is not here: the folder that was meant, or the network if that is what failed."""
    folder = Path(path).parent
    if folder == Path() or not (folder.is_dir() or path.startswith(OUR_FOLDERS)):
        offline = any(isinstance(one, LocalEntryNotFoundError | OfflineModeIsEnabled) for one in _chain(error))
        return UNREACHED if offline or _may_pass(error) else UNKNOWN
    inside = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    close = [folder / name for name in difflib.get_close_matches(Path(path).name, inside, 1)]
    close = [run / "model" if (run / "model").is_dir() else run for run in close]
    return f"there is no {path} here" + (f", did you mean {close[0]}?" if close else "")


def _first_line(error: Exception) -> str:
    if "ignore_mismatched_sizes" in str(error):
        return "its tensors have other sizes than config.json says"
    if "custom code" in str(error):
        return "it is of a kind whose code comes with it, and no such code is run here"
    line = next((line for line in map(str.strip, str(error).splitlines()) if line), type(error).__name__)
    return line.partition(". Checkout ")[0].rstrip(".:")[:300]


def _fetch(load: Callable[..., Any], path: str, *arguments: Any, **keywords: Any) -> Any:
    answer: list[tuple[Any, Exception | None]] = []
    heard = time.monotonic()

    def work() -> None:
        while not answer:
            try:
                if load.__name__ == "from_pretrained":
                    # transformers takes a failed download for a missing file, and guesses another class
                    weights = ["model*.safetensors"] if keywords.get("use_safetensors") else []
                    copy = snapshot_download(
                        path, revision=keywords.get("revision"), allow_patterns=["*.json", "*.txt", *weights]
                    )
                    if weights:
                        made = _converted(Path(copy), path, keywords.get("revision"))
                        check_weights(made or Path(copy))
                        if made:
                            return answer.append((load(str(made), *arguments, **_local(keywords)), None))
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
        raise Explained(f"'{path}' could not be fetched: the Hub has sent nothing for {SILENCE:.0f} s; {UNREACHED}")
    loaded, error = answer[0]
    if error is None:
        return loaded
    if _may_pass(error):
        reason = str(error).strip().splitlines()[0][:150]
        raise Explained(
            f"'{path}' could not be fetched in {SILENCE:.0f} s of trying ({reason}); {UNREACHED}"
        ) from error
    raise error


def check_folder(folder: Path, weights: bool) -> None:
    """Raise ValueError for a model's folder whose configuration is missing or broken, and, with `weights`, whatever
    `check_weights` raises."""
    if not (folder / "config.json").is_file():
        inside = f": its model is in {folder / 'model'}" if (folder / "model" / "config.json").is_file() else ""
        adapter = (folder / "adapter_config.json").is_file()
        inside = inside or (": it is an adapter; merge it into its model and save that" if adapter else "")
        raise ValueError(f"{folder} holds no config.json{inside}")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        try:
            content = json.loads((folder / name).read_text("utf-8")) if (folder / name).exists() else {}
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{folder / name} is not valid JSON: {_first_line(error)}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{folder / name} holds no JSON object")
        if name == "config.json":
            config = content
    if weights:
        check_weights(folder)
    most = dict.fromkeys(DEPTH_FIELDS, _tensors(folder) or LARGEST_NUMBER) if weights else {}
    for setting, value in config.items():
        if isinstance(value, int) and abs(value) > most.get(setting, LARGEST_NUMBER):
            raise ValueError(f"{folder / 'config.json'} sets {setting} to {value:,}, which cannot be")


def _converted(folder: Path, name: str, revision: str | None) -> Path | None:
    """The folder of converted weights that replaces a snapshot with only pickled weights; None for other snapshots.

    The weights are converted now if `converting` allows it, or were converted earlier. Raises ValueError otherwise.
    """
    if list(folder.glob("*.safetensors")):
        return None
    made = _place(name, folder)
    if (made / "model.safetensors").is_file():
        return made
    files = HfApi().list_repo_files(name, revision=revision)
    binary = [file for file in files if Path(file).match(BINARY)]
    if not binary:
        return _refuse_others(f"'{name}'", files)
    if not converting:
        raise Explained(
            f"'{name}' has its weights only as {binary[0]}, a format that can run code when it is read; the same "
            "command with --convert fetches them and writes model.safetensors, in a process of its own"
        )
    snapshot_download(name, revision=revision, allow_patterns=binary)
    made.mkdir(parents=True, exist_ok=True)
    for file in (*folder.glob("*.json"), *folder.glob("*.txt")):
        shutil.copy(file, made)
    to_safetensors(sorted(folder.glob(BINARY)), made / "model.safetensors")
    return made


def _refuse_others(what: str, files: Iterable[str]) -> None:
    """Raise ValueError where the only weights among the names `files` are of a format that is not read."""
    if other := next((file for kind in FOREIGN for file in sorted(files) if Path(file).match(kind)), None):
        raise Explained(
            f"{what} has its weights only as {other}; model.safetensors is read, and with --convert pytorch_model.bin: "
            "write one of them with the library that reads this file (for .h5 and .msgpack transformers 4, by "
            "from_tf=True and from_flax=True)"
        )


def _place(name: str, snapshot: Path) -> Path:
    """The folder of a repository's converted weights, named after the commit of its snapshot."""
    return paths.cache("converted", name.replace("/", "--"), snapshot.name)


def _converted_before(name: str, keywords: dict[str, Any]) -> str | None:
    """The folder of weights converted earlier from a repository that cannot be reached; None if there is none."""
    try:
        revision = keywords.get("revision")
        made = _place(name, Path(snapshot_download(name, revision=revision, local_files_only=True)))
    except (OSError, ValueError):
        return None
    return str(made) if (made / "model.safetensors").is_file() else None


def _local(keywords: dict[str, Any]) -> dict[str, Any]:
    """The arguments for a repository that also apply to a folder."""
    return {key: value for key, value in keywords.items() if key not in ("revision", "local_files_only")}


def check_weights(folder: Path) -> None:
    """Raise ValueError unless the folder has weights, every safetensors file is valid, and every indexed file exists.

    The check is needed because transformers would try to unpickle, with restrictions, what it cannot read as
    safetensors. Where only pickled weights exist, they are converted if `converting` allows it.
    """
    binary = sorted(folder.glob(BINARY))
    if not list(folder.glob("*.safetensors")) and binary:
        if not converting:
            raise ValueError(
                f"{folder} holds its weights only as {binary[0].name}, a format that can run code when it is read; the "
                "same command with --convert writes model.safetensors beside it, in a process of its own"
            )
        to_safetensors(binary, folder / "model.safetensors")
    if not list(folder.glob("*.safetensors")):
        _refuse_others(str(folder), [file.name for file in folder.iterdir()])
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


# in a process of its own, because a damaged file can crash its reader
CONVERSION = """
import sys, torch
from safetensors.torch import save_file
tensors = {}
for file in sys.argv[2:]:
    tensors |= torch.load(file, map_location="cpu", weights_only=True)
other = [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
if other:
    sys.exit(f"{other[0]} is no tensor, so this is no file of weights alone")
save_file({name: value.clone().contiguous() for name, value in tensors.items()}, sys.argv[1], {"format": "pt"})
"""


def _tensors(folder: Path) -> int:
    """The number of tensors in a folder's weights."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            count += len(weights.keys())
    return count


def to_safetensors(binary: list[Path], target: Path) -> None:
    """Write the weights of pickled files to one safetensors file; only tensors are unpickled.

    Raises ValueError when the files hold anything else or cannot be read.
    """
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    command = [sys.executable, "-c", CONVERSION, str(part), *map(str, binary)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CONVERT_AT_MOST)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            reason = next((line for line in lines if "WeightsUnpickler error" in line), lines[-1])
            raise ValueError(f"{binary[0]} could not be converted ({reason.strip()[:200]})")
        part.rename(target)
        print(f"converted {', '.join(file.name for file in binary)} to {target}", flush=True)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{binary[0]} could not be converted in {CONVERT_AT_MOST:.0f} s") from error
    finally:
        part.unlink(missing_ok=True)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _may_pass(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is a transient one of network or server, so that another try may help."""
    for one in _chain(error):
        if isinstance(one, HfHubHTTPError):
            return one.response.status_code in (408, 429) or one.response.status_code >= 500
        transport = type(one).__module__.startswith("httpx") or "Consistency check failed" in str(one)
        if transport or isinstance(one, (ConnectionError, TimeoutError)):
            return True
        if isinstance(one, LocalEntryNotFoundError) and one.__cause__ is None and one.__context__ is None:
            return True
    return False


def _arrived() -> int:
    """The bytes in the library's caches, which grow during a download."""
    total = 0
    for root, pattern in (
        (constants.HF_HUB_CACHE, "*/blobs/*"),
        (datasets.config.HF_DATASETS_CACHE, "downloads/*"),
        (datasets.config.HF_DATASETS_CACHE, "*/*/*/*.incomplete/*"),
    ):
        for file in Path(root).glob(pattern):
            try:
                total += file.stat().st_size
            except OSError:  # the library has moved the file to its place meanwhile
                continue
    return total


@contextmanager
def only_cached(only: bool) -> Iterator[None]:
    """Load from the cache alone inside the `with` block if `only`, because the endpoint has just not answered."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, only or constants.HF_HUB_OFFLINE
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def no_report() -> Iterator[None]:
    """Silence the table of missing tensors that `transformers` prints, for callers that check tensors themselves."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
