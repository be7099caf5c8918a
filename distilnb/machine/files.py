"""One run in a folder at a time: a lock that its owner's death takes away, however it died."""

import errno
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None
HELD = (errno.EACCES, errno.EAGAIN)


@contextmanager
def hold(folder: Path, waiting: str = "") -> Iterator[None]:
    """Keep every other process out of `folder` (made if it is missing) until the end of the `with` block.

    A record lock, which the kernel drops when its process ends and which child processes do not inherit, so that
    loader workers do not prolong it. Where a file system has no locks, nothing is locked.

    Raises ValueError when another process holds it, unless `waiting` begins the sentence that says it is waited for,
    and OSError when the folder cannot be written to.
    """
    while True:
        file = _lock(folder, waiting)
        try:
            if os.path.samestat(os.fstat(file.fileno()), (folder / ".lock").stat()):
                break
        except FileNotFoundError:  # the folder was moved or deleted by the one that was waited for
            pass
        file.close()
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _lock(folder: Path, waiting: str) -> TextIO:
    """The file `.lock` of a folder, locked; see `hold`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a+")
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error.strerror}); choose another output folder") from error
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            file.seek(0)
            owner = file.read().strip() or "another process"
            if not waiting:
                file.close()
                raise ValueError(
                    f"{folder} is in use by {owner}: a run of its own; wait until it ends, stop it, or "
                    "choose another output folder or name"
                ) from None
            print(f"{waiting} {owner}: waiting until it ends", flush=True)
            fcntl.lockf(file, fcntl.LOCK_EX)
    return file


def write_json(path: Path, content: Any) -> None:
    """Write a file of JSON whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1))
    sync(part)
    part.rename(path)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
