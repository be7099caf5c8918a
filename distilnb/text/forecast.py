"""Forecasts of preparing a text: its size from files and the Hub's cards, its speed from a sample."""

import io
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet
from datasets import load_dataset_builder
from transformers import PreTrainedTokenizerBase

from ..machine import hub
from ..machine.device import cores
from ..machine.progress import duration
from . import reading
from .blocks import Blocks, write_rows
from .corpus import whole_texts
from .reading import Piece, Tally
from .sources import TextSource, from_hub, read_pieces, take_turns

CHARACTERS = 4_000_000  # of the sample
HEAD = 2_000_000  # bytes of a compressed file that are decompressed to estimate its size
ROWS = 200  # rows that are read to estimate the share of text


class Size(NamedTuple):
    """The bytes of text, and the bytes on disk of the Hub's files, besides the prepared ones."""

    text: float
    fetched: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """The size of a text once it is prepared, and the cost of preparing it on this machine."""

    text_bytes: float
    tokens: float
    seconds: float
    disk_bytes: float
    fetched_bytes: float

    def __str__(self) -> str:
        known = "" if math.isinf(self.text_bytes) else f"{self.text_bytes / 1e6:,.0f} MB, "
        fetched = f", beside {self.fetched_bytes / 1e9:.2f} GB of the Hub's files" if self.fetched_bytes else ""
        return (
            f"text: {known}about {self.tokens / 1e6:,.1f} million tokens; to prepare it takes about "
            f"{duration(self.seconds)} on {cores()} cores, once, and {self.disk_bytes / 1e9:.2f} GB of disk{fetched}"
        )


def forecast(
    sources: tuple[TextSource, ...],
    tokenizer: PreTrainedTokenizerBase,
    *,
    seq_length: int = 128,
    max_tokens: int | None = None,
    layout: str = "packed",
) -> Forecast:
    """The time and disk of `corpus.build_corpus` with the same arguments, from a sample of some million characters.

    A data set of the Hub is streamed for the sample. Raises ValueError for unreadable text and for text of unknown
    size.
    """
    sizes = [_size(source) for source in sources]
    streamed = [each if each.path or each.name == "toyworld" else replace(each, stream=True) for each in sources]
    pieces = take_turns([read_pieces(source, Tally()) for source in streamed])
    encoder = whole_texts(tokenizer)
    encoder.encode_batch_fast(["warm", "up"])
    info = {"layout": layout, "seq_length": seq_length, "max_tokens": None, "sources": sources}
    blocks, seen = Blocks(tokenizer, info), Counter()
    with tempfile.TemporaryDirectory() as folder:
        path, began = Path(folder, "sample.arrow"), time.perf_counter()
        rows = write_rows(path, _sample(pieces, seen), encoder, blocks, Counter())
        seconds, disk = time.perf_counter() - began, path.stat().st_size
    if not rows:
        raise ValueError(f"the text of {' + '.join(source.shown for source in sources)} {blocks.why_none(left_out=0)}")
    whole = sum(size.text for size in sizes)
    tokens = min(blocks.tokens * whole / seen["bytes"], max_tokens or math.inf)
    times = tokens / blocks.tokens
    return Forecast(whole, tokens, seconds * times, disk * times, sum(size.fetched for size in sizes))


def _sample(pieces: Iterator[Piece], seen: Counter) -> Iterator[Piece]:
    """The first pieces, whose characters and bytes are counted in `seen`."""
    for piece in pieces:
        seen["characters"] += len(piece.text)
        seen["bytes"] += len(piece.text.encode("utf-8", "replace"))
        yield piece
        if seen["characters"] > CHARACTERS:
            return


def _size(source: TextSource) -> Size:
    if source.name == "toyworld":
        return Size(math.inf)
    if not source.path:
        return _size_at_hub(source)
    return Size(sum(_size_of_file(file, source) for file in reading.text_files(source.path)))


def _size_at_hub(source: TextSource) -> Size:
    """The size in a data set's card, less the share that is not text in its first rows."""
    rows = islice(from_hub(replace(source, stream=True)), ROWS)
    share = _share(rows, source.column, f"text '{source.name}'")
    info = hub.fetch(load_dataset_builder, source.name, source.config, revision=source.revision).info
    split = (info.splits or {}).get(source.split)
    if split is None or not split.num_bytes:
        raise ValueError(f"the Hub does not say how large text '{source.name}' is")
    fetched = 0 if source.stream else (info.download_size or 0) + (info.dataset_size or 0)
    return Size(split.num_bytes * share, fetched)


def _share(rows: Iterable[Any], column: str | None, what: str) -> float:
    """The share of text in some rows; those that have no columns are no text, as when they are read."""
    rows = [{"text": row} if isinstance(row, str) else row for row in rows]
    column = reading.choose_column(rows, column, what, Tally())
    told = [row for row in rows if isinstance(row, dict)]
    text = sum(len(str(row.get(column) or "")) for row in told)
    return text / max(1, sum(len(str(value)) for row in told for value in row.values()))


def _size_of_file(file: Path, source: TextSource) -> float:
    """The approximate bytes of text in a file, decompressed."""
    size, kind = float(file.stat().st_size), reading.kind_of(file)
    if file.suffix.lower() in reading.OPENERS:
        size *= _unpacked(file)
    if kind == ".txt" or not size:
        return size
    if kind == ".parquet" and file.suffix.lower() == kind:
        about = pyarrow.parquet.ParquetFile(file).metadata
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    column = (source.column or "text") if kind == ".json" else None  # a columnar file would give that column alone
    first = islice(reading.rows(file, source.encoding, column), ROWS)
    return size * _share(first, source.column, f"'{reading.shown(file)}'")


def _unpacked(file: Path) -> float:
    """The factor by which a compressed file grows when it is decompressed, estimated from its beginning."""
    with file.open("rb") as packed:
        head = packed.read(HEAD)
    made = 0
    try:
        with reading.OPENERS[file.suffix.lower()](io.BytesIO(head)) as stream:
            while part := stream.read(1000):  # short parts, because a part that the head cuts off is lost
                made += len(part)
    except (OSError, EOFError):  # the end of the head, in the middle of the file
        pass
    return made / max(1, len(head))
