"""The folders of the project: the data we ship, the records and figures a run writes, and the cache."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def data(*parts: str) -> Path:
    """The shipped `data/` folder, inside an installed package or at the top of a clone."""
    installed = PACKAGE / "data"
    return (installed if installed.is_dir() else PACKAGE.parent / "data").joinpath(*parts)


def home() -> Path:
    """The parent folder of `runs/` and `figures/`: `$DISTILNB_HOME`, else the clone, else the working folder."""
    if "DISTILNB_HOME" in os.environ:
        return Path(os.environ["DISTILNB_HOME"])
    clone = PACKAGE.parent
    return clone if (clone / "pyproject.toml").is_file() else Path.cwd()


def cache(*parts: str) -> Path:
    """The folder of tokenized corpora: `$DISTILNB_CACHE`, else `~/.cache/distilnb`."""
    return Path(os.environ.get("DISTILNB_CACHE", Path.home() / ".cache" / "distilnb")).joinpath(*parts)
