"""What preparing a text will take, told before it starts: size from what files and the Hub say, speed from a sample."""

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
HEAD = 2_000_000  # bytes of a packed file that are unpacked to see how much there is in it
ROWS = 200  # rows that are looked at for how much of them is text


class Size(NamedTuple):
    """Bytes of text, and bytes on disk that the Hub's files take beside what is prepared."""

    text: float
    fetched: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """What a text will be once it is prepared, and what that takes on this machine."""

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
    """Time and disk of `corpus.build_corpus` with the same arguments, from a sample of some millions of characters.

    A data set of the Hub is streamed for the sample. Raises ValueError for text that cannot be read, and where its size
    is not known.
    """
    sizes = [_size(source) for source in sources]
    pieces = take_turns([read_pieces(_streamed(source), Tally()) for source in sources])
    encoder = whole_texts(tokenizer)
    encoder.encode_batch_fast(["warm", "up"])
    info = {"layout": layout, "seq_length": seq_length, "max_tokens": None}
    blocks, seen = Blocks(tokenizer, info), Counter()
    with tempfile.TemporaryDirectory() as folder:
        path, began = Path(folder, "sample.arrow"), time.perf_counter()
        rows = write_rows(path, _sample(pieces, seen), encoder, blocks, Counter())
        seconds, disk = time.perf_counter() - began, path.stat().st_size
    if not rows:
        raise ValueError(f"the text of {' + '.join(source.shown for source in sources)} {blocks.why_none()}")
    whole = sum(size.text for size in sizes)
    tokens = min(blocks.tokens * whole / seen["bytes"], max_tokens or math.inf)
    times = tokens / blocks.tokens
    return Forecast(whole, tokens, seconds * times, disk * times, sum(size.fetched for size in sizes))


def _streamed(source: TextSource) -> TextSource:
    return source if source.path or source.name == "toyworld" else replace(source, stream=True)


def _sample(pieces: Iterator[Piece], seen: Counter) -> Iterator[Piece]:
    """The first of these pieces; their characters and bytes are counted."""
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
    """What the card of a data set says of its size, less what is no text in its first rows."""
    rows = islice(from_hub(replace(source, stream=True)), ROWS)
    share = _share(rows, source.column, f"text '{source.name}'")
    info = hub.fetch(load_dataset_builder, source.name, source.config, revision=source.revision).info
    split = (info.splits or {}).get(source.split)
    if split is None or not split.num_bytes:
        raise ValueError(f"the Hub does not say how large text '{source.name}' is")
    fetched = 0 if source.stream else (info.download_size or 0) + (info.dataset_size or 0)
    return Size(split.num_bytes * share, fetched)


def _share(rows: Iterable[Any], column: str | None, what: str) -> float:
    """How much of some rows is text."""
    rows = [{"text": row} if isinstance(row, str) else row for row in rows]
    column = reading.choose_column(rows, column, what, Tally())
    text = sum(len(str(row.get(column) or "")) for row in rows)
    return text / max(1, sum(len(str(value)) for row in rows for value in row.values()))


def _size_of_file(file: Path, source: TextSource) -> float:
    """Bytes of text in a file, unpacked, about."""
    size, kind = float(file.stat().st_size), reading.kind_of(file)
    if file.suffix.lower() in reading.OPENERS:
        size *= _unpacked(file)
    if kind == ".txt" or not size:
        return size
    if kind == ".parquet" and file.suffix.lower() == kind:
        about = pyarrow.parquet.ParquetFile(file).metadata
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    first = islice(reading.rows(file, source.encoding), ROWS)
    return size * _share(first, source.column, f"'{reading.shown(file)}'")


def _unpacked(file: Path) -> float:
    """How many times larger a packed file is once it is unpacked, by its beginning."""
    with file.open("rb") as packed:
        head = packed.read(HEAD)
    made = 0
    try:
        with reading.OPENERS[file.suffix.lower()](io.BytesIO(head)) as stream:
            while part := stream.read(1000):  # of a longer part, all would be lost when the head ends in it
                made += len(part)
    except (OSError, EOFError):  # the end of the head, in the middle of the file
        pass
    return made / max(1, len(head))
