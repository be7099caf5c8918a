"""Portions of a large text, which are tokenized independently and kept when finished.

The portions depend on the text alone, so that neither the number of processes nor a kill changes the result. A text
that is small, streamed or endless is one portion, in which its sources take turns.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from datasets import Dataset

from . import reading
from .reading import Piece, Stretch, Tally
from .sources import TextSource, from_hub, read_pieces, row_pieces, take_turns, text_column

PORTION = 32_000_000  # approximate bytes of text


@dataclass(frozen=True)
class Portion:
    """A part of the text: all of some sources, or a few files, a span of a file, or rows of one Hub data set."""

    sources: tuple[TextSource, ...]
    files: tuple[Path, ...] = ()
    span: Stretch | None = None
    between: re.Pattern | None = None
    rows: Dataset | None = None

    def pieces(self, tally: Tally) -> Iterator[Piece]:
        """The documents of this portion in pieces, in a fixed order; ValueError when they cannot be read."""
        source = self.sources[0]
        if self.rows is not None:
            rows = self.rows.select(range(*self.span)) if self.span else self.rows
            return row_pieces(rows, source, tally)
        if not self.files:
            return take_turns([read_pieces(each, tally) for each in self.sources])
        how = source.column, source.encoding, tally, self.span, self.between
        return reading.cut(chain.from_iterable(reading.file_texts(file, *how) for file in self.files))


def divided(sources: tuple[TextSource, ...], tokens: int | None, tally: Tally) -> list[Portion]:
    """The portions of a text, in order; a single one when only `tokens` of it are wanted."""
    whole = [Portion(sources)]
    if tokens or any(source.stream or source.name == "toyworld" for source in sources):
        return whole
    portions, size = [], 0
    for source in sources:
        if source.path:
            files = reading.text_files(source.path)
            size += sum(file.stat().st_size for file in files)
            portions += _of_files(files, source, tally)
        else:
            rows = text_column(from_hub(source), source)
            size += rows.data.nbytes
            portions += _of_rows(rows, source, tally)
    return portions if size > PORTION and len(portions) > 1 else whole


def _of_files(files: list[Path], source: TextSource, tally: Tally) -> Iterator[Portion]:
    """The portions of some files: small files together, and large ones in spans where they can be cut."""
    together, size = [], 0
    for file in files:
        own = file.stat().st_size
        large = own > 2 * PORTION and reading.can_be_cut(file, source.encoding)
        if together and (large or size > PORTION):
            yield Portion((source,), tuple(together))
            together, size = [], 0
        if large:
            yield from _of_file(file, source, tally)
        else:
            together.append(file)
            size += own
    if together:
        yield Portion((source,), tuple(together))


def _of_file(file: Path, source: TextSource, tally: Tally) -> Iterator[Portion]:
    lines = reading.kind_of(file) != ".txt"
    if lines:  # so that every stretch reads the column found at the beginning of the file
        source = replace(source, column=reading.file_column(file, source.column, source.encoding, tally))
    between = reading.LINE if lines else reading.separator(file, source.encoding)
    for span in reading.spans(file, PORTION, between):
        yield Portion((source,), (file,), span, between)


def _of_rows(rows: Dataset, source: TextSource, tally: Tally) -> Iterator[Portion]:
    what = f"text '{source.name}'"
    if len(rows):
        first = rows.select(range(min(reading.SAMPLE, len(rows))))
        source = replace(source, column=reading.choose_column(list(first), source.column, what, tally))
    step = max(1, PORTION * len(rows) // max(1, rows.data.nbytes))
    for start in range(0, len(rows), step):
        yield Portion((source,), (), Stretch(start, min(len(rows), start + step)), None, rows)
