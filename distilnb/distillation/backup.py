"""Backups of checkpoints in a second place, such as a mounted Drive, for a machine that may vanish.

    place/step-00000200.tar    the four files of checkpoints/step-00000200

A backup is one file, because such places are slow with many. It is written locally, copied under another name and
renamed there, so that a file with a final name is always whole.
"""

import os
import shutil
import tarfile
import warnings
from pathlib import Path
from typing import Any

from . import checkpoints


def save(checkpoint: Path, place: Path, keep: int = 2) -> None:
    """Copy a checkpoint folder to `place` as one file, and clean up there as `checkpoints.publish` does.

    The `keep` - 1 backups before it stay. Later ones are deleted: this run did not start from them.
    """
    packed, part = checkpoint.with_name(f".{checkpoint.name}.tar"), place / f".{checkpoint.name}.part"
    made = place / f"{checkpoint.name}.tar"
    try:
        for killed in (*checkpoint.parent.glob(".step-*.tar"), *place.glob(".step-*.part")):  # remains of killed saves
            killed.unlink(missing_ok=True)
        with tarfile.open(packed, "w") as tar:
            for file in sorted(checkpoint.iterdir()):
                tar.add(file, file.name)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(packed, part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        part.rename(made)
    finally:
        packed.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    backups = sorted(place.glob("step-*.tar"), reverse=True)
    before = [path for path in backups if path < made]
    for path in backups:
        if path > made or path in before[keep - 1 :]:
            path.unlink(missing_ok=True)


def restore(folder: Path, place: Path, identity: dict[str, Any]) -> None:
    """Unpack the newest good backup in `place` into a `folder` that holds no checkpoint.

    A damaged backup is named in a warning and the one before it is used. Raises ValueError for backups of another run.
    """
    if any(folder.glob("step-*")):
        return
    for packed in sorted(place.glob("step-*.tar"), reverse=True):
        aside = folder / f".{packed.stem}.{os.getpid()}.writing"
        try:
            aside.mkdir(parents=True)
            with tarfile.open(packed, "r:") as tar:  # uncompressed only, as it was written
                files = [member for member in tar if member.isfile() and Path(member.name).name == member.name]
                tar.extractall(aside, files, filter="data")
            checkpoints.read_checkpoint(aside, identity)
            checkpoints.publish(aside)
            return
        except (checkpoints.Damaged, tarfile.TarError, EOFError) as damage:
            warnings.warn(f"backup {packed} is damaged ({damage}); taking the one before it", stacklevel=2)
        except ValueError as error:
            raise ValueError(f"the backup in {place} is of another run: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
