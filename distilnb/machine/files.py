"""Locks that keep a folder to one run and vanish with their owner; hashes of files; writes forced to the disk."""

import errno
import fcntl
import hashlib
import json
import os
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from safetensors import SafetensorError

HELD = (errno.EACCES, errno.EAGAIN)


@contextmanager
def hold(folder: Path, waiting: str = "") -> Iterator[None]:
    """Lock `folder` (made if it is missing) against other processes until the end of the `with` block.

    The kernel drops this record lock when its process ends. Child processes do not inherit it, so loader workers
    cannot prolong it. Where a file system has no locks, nothing is locked.

    Raises ValueError when another process holds the lock, unless `waiting` is given: the beginning of a line that says
    who is waited for. Raises OSError when the folder cannot be written to.
    """
    while True:
        file = _lock(folder, waiting)
        if _is_at(file, folder / ".lock"):
            break
        file.close()
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _lock(folder: Path, waiting: str) -> TextIO:
    """The file `.lock` of a folder, locked; see `hold`."""
    for again in (True, True, False):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(folder / ".lock", "a+")
            break
        except OSError as error:
            if again and isinstance(error, FileNotFoundError):  # another process deleted a folder in between
                continue
            raise OSError(f"{folder} cannot be written to ({error.strerror}); choose another output folder") from error
    if not _locked(file, fcntl.LOCK_NB):
        file.seek(0)
        owner = file.read().strip() or "another process"
        if not waiting:
            file.close()
            raise ValueError(
                f"{folder} is in use by {owner}: a run of its own; wait until it ends, stop it, or "
                "choose another output folder or name"
            )
        print(f"{waiting} {owner}: waiting until it ends", flush=True)
        _locked(file, 0)
    return file


@contextmanager
def claim(folder: Path, name: str, patient: bool = False) -> Iterator[bool]:
    """Whether `name`, one of many things in `folder` (made if it is missing), is this process's alone until the end of
    the `with` block; a `patient` caller waits until no other process has it.

    The names share the file `.claims`, in which each locks a byte, and which the last to leave deletes. The kernel
    drops a lock when its process ends, or closes the file: within a claim, no other is to be made in its folder. Every
    claim is granted where there are no locks, and where the folder cannot be written to.
    """
    path, wait = folder / ".claims", 0 if patient else fcntl.LOCK_NB
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+")
        except OSError:
            file = None
        if file is None:
            yield True
            return
        with file:
            if not _locked(file, wait, 1, zlib.crc32(name.encode())):
                yield False
                return
            if not _is_at(file, path):
                continue
            try:
                yield True
            finally:
                if _locked(file, fcntl.LOCK_NB):  # all of it
                    with suppress(OSError):
                        path.unlink()
            return


def _locked(file: TextIO, wait: int, *where: int) -> bool:
    """Whether `file`, or the bytes (number, first) of it, could be locked; also where there are no locks."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | wait, *where)
    except OSError as error:
        return error.errno not in HELD
    return True


def _is_at(file: TextIO, path: Path) -> bool:
    """Whether `file` is still what lies at `path`: while it was waited for, another may have moved or deleted it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def check_place(folder: Path) -> None:
    """Check that files could be written to `folder`, which is not made yet.

    Raises ValueError for a file in its place, and OSError where nothing can be written.
    """
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is no folder; choose another place for what is written, or move it away")
    try:
        with TemporaryDirectory(dir=nearest):
            pass
    except OSError as error:
        raise OSError(f"{nearest} cannot be written to ({error.strerror}); choose another output folder") from error


@contextmanager
def written(what: str, folder: Path) -> Iterator[None]:
    """Turn whatever a library raises inside, where `what` cannot be written to `folder`, into an OSError in a sentence.

    On a full disk safetensors raises an error of its own, and `tokenizers` a bare Exception.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, SafetensorError)) and type(error) is not Exception:
            raise
        raise OSError(
            f"{what} could not be written to {folder} ({error}): make room there, and the same command writes it again"
        ) from error


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
