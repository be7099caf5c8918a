"""Sources of text and their names: local files, a data set of the Hub (whole or streamed), or toyworld."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import load_dataset

from ..machine import hub
from . import reading, toyworld
from .reading import Piece, Tally


@dataclass(frozen=True)
class TextSource:
    """One source of text.

    `name` is "toyworld", a local file or folder (see `reading`), or a data set of the Hub; with `stream`, only the part
    that is used is fetched. `column` names the column of the text (None: "text", or a guess that is printed);
    `encoding` applies to files without a byte order mark that are not UTF-8.
    """

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    stream: bool = False
    column: str | None = None
    encoding: str | None = None

    @property
    def path(self) -> Path | None:
        """The file or folder of a local source, else None; ValueError for a path that does not exist."""
        path = Path(self.name).expanduser()
        if self.name == "toyworld":
            return None
        if os.path.exists(path):
            return path
        if self.name.startswith((".", "~", os.sep)) or self.name.count("/") > 1 or reading.kind_of(path):
            raise ValueError(f"text '{reading.shown(self.name)}' does not exist: there is no such file or folder")
        return None

    @property
    def shown(self) -> str:
        """The source's name in messages and records, without the local folders."""
        return reading.shown(self.path.resolve()) if self.path else self.name


def parse_sources(text: str, column: str | None = None, encoding: str | None = None) -> tuple[TextSource, ...]:
    """The sources in `--text`: joined by "+", each NAME[:CONFIG[:SPLIT]][@REVISION], with `stream=` before to stream.

    Examples: "toyworld", "books/", "stream=wikimedia/wikipedia:20231101.en+stanfordnlp/imdb:plain_text:unsupervised".
    The name of an existing file or folder may hold any characters. `column` and `encoding` apply to all sources.
    Raises ValueError for an empty source, an empty file and a path that does not exist.
    """
    sources, parts = [], text.split("+")
    more = {"column": column or None, "encoding": encoding or None}
    while parts:
        local = ((count, "+".join(parts[:count])) for count in range(len(parts), 0, -1))
        local = ((count, name) for count, whole in local for name in (whole, whole.strip()) if _is_here(name))
        count, name = next(local, (1, ""))
        if not name:
            stream, name = parts[0].strip().startswith("stream="), parts[0].strip().removeprefix("stream=").strip()
            if not name:
                raise ValueError(f"'{text}' names no text; give 'toyworld', a file or folder, or a Hub data set")
        if _is_here(name):
            sources.append(TextSource(name, **more))
        else:
            address, _, revision = name.partition("@")
            address, config, split = (address.split(":") + ["", ""])[:3]
            sources.append(TextSource(address, config or None, split or "train", revision or None, stream, **more))
        del parts[:count]
    for source in sources:  # of which a wrong path raises
        if source.path and source.path.is_file() and not source.path.stat().st_size:
            raise ValueError(f"'{source.shown}' is empty; give a file that holds text, or leave it out of --text")
    return tuple(sources)


def _is_here(name: str) -> bool:
    return bool(name.strip()) and name.strip() != "toyworld" and os.path.exists(os.path.expanduser(name))


def read_pieces(source: TextSource, tally: Tally) -> Iterator[Piece]:
    """The documents of one source in pieces, in a fixed order; ValueError at once when there is no such text."""
    if source.name == "toyworld":
        return reading.cut((text, True) for text in toyworld.documents())
    if source.path:
        files = reading.text_files(source.path)
        texts = (reading.file_texts(file, source.column, source.encoding, tally) for file in files)
        return reading.cut(chain.from_iterable(texts))
    return row_pieces(text_column(from_hub(source), source), source, tally)


def text_column(rows: Any, source: TextSource) -> Any:
    """The rows with only their column of text, where its name is known."""
    names = rows.column_names or []  # a stream may not know them before its first row
    column = source.column or "text"
    return rows.select_columns([column]) if column in names else rows


def row_pieces(rows: Iterable[Any], source: TextSource, tally: Tally) -> Iterator[Piece]:
    """The documents in rows of a data set of the Hub, in pieces."""
    return reading.cut(reading.texts(rows, source.column, f"text '{source.name}'", tally))


def documents(source: TextSource) -> Iterator[str]:
    """The whole documents of one source, for readers to look at; raises as `read_pieces` does."""
    pieces = read_pieces(source, Tally())

    def joined() -> Iterator[str]:
        held = []
        for text, ends in pieces:
            held.append(text)
            if ends:
                yield "".join(held)
                held.clear()

    return joined()


def from_hub(source: TextSource) -> Any:
    """The rows of a data set of the Hub, as a stream if `stream`; ValueError, with the reason, when there are none."""
    unanswered = bool(hub.reach(source.name, "dataset", f"text '{source.name}'"))
    stream = source.stream and not unanswered
    try:
        with hub.only_cached(unanswered):
            return hub.fetch(
                load_dataset, source.name, source.config, split=source.split, revision=source.revision, streaming=stream
            )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).strip().splitlines()[:2])
        chosen = any(word in reason for word in ("Config name", "BuilderConfig", " split"))
        end = f" ({reason}); write it as {source.name}:CONFIG:SPLIT" if chosen else hub.cause(source.name, error)
        raise ValueError(f"text '{source.name}' could not be read{end}") from error


def stamp(source: TextSource) -> list | str:
    """The names, sizes and times of local files, by which a change is noticed; for toyworld, its text's version."""
    if source.name == "toyworld":
        return f"text {toyworld.TEXT_VERSION}"
    if not source.path:
        return source.revision or "main"
    stats = [(file.resolve(), file.stat()) for file in reading.text_files(source.path)]
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def take_turns(streams: list[Iterator[Piece]]) -> Iterator[Piece]:
    """The documents of all streams, one of each in turn, until all streams have ended."""
    while streams:
        for stream in list(streams):
            for piece in stream:
                yield piece
                if piece.ends:
                    break
            else:
                streams.remove(stream)
