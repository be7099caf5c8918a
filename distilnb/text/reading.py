"""Reading of documents from users' files: plain text, JSON, tables, Parquet and Arrow, compressed or not.

For every shape of file (one line of a gigabyte, a million short rows), a document is passed on in pieces of at most
`PIECE` characters, so that only a few pieces are held at once. Rows left out and characters replaced are counted in a
`Tally`; an unreadable file ends in a ValueError that names the file and the place.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import mmap
import os
import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

import pyarrow.parquet

PIECE = 20_000  # characters of text that are tokenized as one; longer documents are cut before a space
CHUNK = 1_000_000  # characters read at once
LONGEST_ROW = 100_000_000  # characters of one row of JSON or of a table, which has to be held in memory whole
SAMPLE = 100  # rows that are looked at to choose a column
TEXT_COLUMNS = "text content body document article passage story review sentence abstract description".split()
# control characters and lone surrogates, because BERT's normalizer deletes them and so joins the words around them
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
PARAGRAPH, LINE = re.compile(r"\n\s*\n"), re.compile(r"\n")
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, because its mark begins with UTF-16's
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
INSIDE = {  # how files begin that are no text, whatever their names say, and what to do
    b"\x1f\x8b": "packed by gzip: add .gz to its name",
    b"\x28\xb5\x2f\xfd": "packed by zstd: add .zst to its name",
    b"BZh91AY&SY": "packed by bzip2: add .bz2 to its name",
    b"\xfd7zXZ": "packed by xz: add .xz to its name",
    b"PK\x03\x04": "a zip archive, as documents of Office are: unpack it, or save it as plain text or .csv",
    b"%PDF": "a PDF: save it as plain text",
    b"PAR1": "a Parquet file: call it .parquet",
    b"ARROW1": "an Arrow file: call it .arrow",
}
UTF_8 = ("utf-8", "utf8", "utf-8-sig")
LIBRARY_FILES = ("dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json")  # datasets' own notes


class Piece(NamedTuple):
    """A stretch of a document; `ends` says whether the document ends with it. Most documents are one piece."""

    text: str
    ends: bool


@dataclass
class Tally:
    """Counts kept while reading: rows left out for lack of text, characters replaced by spaces, sentences printed."""

    rows_without_text: int = 0
    mended_characters: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Print a sentence for the user, once only."""
        if sentence not in self.notes:
            self.notes.append(sentence)
            print(sentence, flush=True)

    def sentence(self, documents: int) -> str:
        """The sentence for the user about what was read."""
        left, mended = self.rows_without_text, self.mended_characters
        return (
            f"documents read: {documents:,}"
            + (f"; rows left out because they have no text: {left:,}" if left else "")
            + (f"; control characters that became spaces: {mended:,}" if mended else "")
        )

    def mend(self, text: str) -> str:
        """`text` with each control character replaced by a space and counted."""
        mended, count = CONTROLS.subn(" ", text)
        self.mended_characters += count
        return mended


def shown(path: str | Path) -> str:
    """The name of a file as one line that every terminal can print."""
    name = Path(path).name or str(path)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def kind_of(path: Path) -> str | None:
    """The key of `READERS` for a file name, in any letter case and under any compression; None for other files."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in READERS else None


def text_files(path: Path) -> list[Path]:
    """The files of a path: the file itself, or all readable files below a folder, sorted, without hidden ones.

    Raises ValueError when there is none.
    """
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"text '{shown(path)}' is neither a file nor a folder")
        if not kind_of(path):
            raise ValueError(
                f"text '{shown(path)}' is of no kind that can be read: {_kinds()}; rename plain text to .txt"
            )
        return [path]
    files, seen = [], {os.path.realpath(path)}
    for folder, folders, names in os.walk(path, followlinks=True):
        inside = {os.path.realpath(Path(folder, name)): name for name in sorted(folders) if not _hidden(name)}
        folders[:] = [name for real, name in inside.items() if real not in seen]  # links may go round
        seen.update(inside)
        files += [Path(folder, name) for name in names if not _hidden(name) and name not in LIBRARY_FILES]
    files = sorted(file for file in files if kind_of(file) and file.is_file())
    if not files:
        raise ValueError(f"text '{shown(path)}' holds no file that can be read: {_kinds()}")
    return files


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _kinds() -> str:
    return f"{', '.join(READERS)}, each also as {', '.join(OPENERS)}"


def _unzstd(packed: Path | BinaryIO) -> BinaryIO:
    return pyarrow.CompressedInputStream(packed.open("rb") if isinstance(packed, Path) else packed, "zstd")


OPENERS: dict[str, Callable[[Path | BinaryIO], BinaryIO]] = {
    ".gz": gzip.open,
    ".zst": _unzstd,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


class Stretch(NamedTuple):
    """A stretch of an uncompressed UTF-8 file, from byte `start` to before byte `stop`."""

    start: int
    stop: int


@contextmanager
def opened(path: Path, span: Stretch | None = None) -> Iterator[BinaryIO]:
    """The decompressed bytes of a file, or of a span of it; errors become a ValueError with a plain sentence."""

    def plain(path: Path) -> BinaryIO:
        if not span:
            return path.open("rb")
        return pyarrow.OSFile(str(path)).get_stream(span.start, span.stop - span.start)

    try:
        with OPENERS.get(path.suffix.lower(), plain)(path) as stream:
            yield stream
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pyarrow.ArrowException, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(f"'{shown(path)}' cannot be read: {_first_line(reason)}") from error


@contextmanager
def characters(
    path: Path, encoding: str | None = None, newline: str | None = None, span: Stretch | None = None
) -> Iterator[TextIO]:
    """The text of a file, or of a span of it, decoded by its byte order mark, else as `_without_mark` says.

    Bytes that are invalid in this encoding become a ValueError that names their place.
    """
    with opened(path) as stream:
        start = stream.read(1000)
    if inside := next((what for mark, what in INSIDE.items() if start.startswith(mark)), None):
        raise ValueError(f"'{shown(path)}' is {inside}")
    by_default = _without_mark(path, encoding or "utf-8")
    code = next((code for mark, code in BOMS.items() if start.startswith(mark)), by_default)
    if code == "utf-8" and start.count(0) > len(start) // 5:
        raise ValueError(
            f"'{shown(path)}' holds zero bytes, as UTF-16 without a byte order mark does; "
            "name the encoding, such as --encoding utf-16-le"
        )
    with opened(path, span) as stream, io.TextIOWrapper(stream, encoding=code, newline=newline) as text:
        try:
            yield text
        except UnicodeError as error:
            raise ValueError(_undecodable(path, code, error)) from error


def _without_mark(path: Path, encoding: str) -> str:
    """The encoding of a file without a byte order mark: UTF-8 where all of the file is that, else the one named.

    One that has ASCII's bytes mean other letters, as UTF-16 and ISO-2022 do, is taken at its word: its texts may look
    like UTF-8. The whole file decides, so that all spans of it are read alike.
    """
    try:
        if not codecs.lookup(encoding)._is_text_encoding:
            raise LookupError(encoding)
    except LookupError:
        told = f"--encoding {encoding} is no encoding of text; latin-1, cp1252 and utf-16-le are some"
        raise ValueError(told) from None
    alike = b"Aa 19\n".decode(encoding, "replace") == "Aa 19\n"
    others = "".join(map(chr, range(128, 1280))).encode(encoding, "ignore")
    if encoding.lower() in UTF_8 or not alike or max(others, default=0) < 128:
        return encoding
    now = path.stat()
    return "utf-8" if _is_utf_8(path, now.st_size, now.st_mtime_ns) else encoding


@lru_cache(10_000)
def _is_utf_8(path: Path, *_: int) -> bool:
    """Whether a file is UTF-8 from end to end; its size and time are given so that a change is noticed."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as stream:
        try:
            while chunk := stream.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _undecodable(path: Path, code: str, error: UnicodeError) -> str:
    """The place of the first byte that is invalid in this encoding, counted anew because decoders count per chunk."""
    decoder, before, line = codecs.getincrementaldecoder(code)(), 0, 1
    with opened(path) as stream:
        while chunk := stream.read(CHUNK):
            pending = len(decoder.getstate()[0])
            try:
                line += decoder.decode(chunk).count("\n")
            except UnicodeDecodeError as fault:
                at = before - pending + fault.start
                line += fault.object[: fault.start].count(b"\n")
                where = f"byte {at:,} ({fault.object[fault.start]:#04x}, line {line:,})"
                return (
                    f"'{shown(path)}' is not {code.upper()} at {where}; name its encoding, such as --encoding latin-1"
                )
            before += len(chunk)
    return f"'{shown(path)}' is not {code.upper()} ({error.args[-1]}); name its encoding with --encoding"


def cut(documents: Iterable[tuple[str, bool]]) -> Iterator[Piece]:
    """Pieces of at most `PIECE` characters, cut from stretches of text (each with whether its document ends there).

    Cuts are made before a space, because no tokenizer joins text across it; without a space, anywhere.
    """
    held = ""
    for text, ends in documents:
        held = held + text if held else text
        start = 0
        while len(held) - start > PIECE:
            end = _last_space(held, start)
            yield Piece(held[start:end], False)
            start = end
        held = held[start:] if start else held
        if ends:
            yield Piece(held, True)
            held = ""


def _last_space(text: str, start: int = 0) -> int:
    """The position, at most `PIECE` characters after `start`, at which to cut `text`."""
    end = max(text.rfind(space, start + PIECE // 2, start + PIECE) for space in " \n")
    while end > start + 1 and text[end - 1].isspace():
        end -= 1
    return end if end > start + 1 else start + PIECE


def _chunks(stream: TextIO, tally: Tally) -> Iterator[str]:
    while chunk := stream.read(CHUNK):
        yield tally.mend(chunk)


def _between(separator: re.Pattern, chunks: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """The non-blank documents between separators; a long one comes in stretches, of which only the last ends it."""
    held, begun = "", False
    for chunk in chunks:
        *whole, held = separator.split(held + chunk)
        for text in whole:
            if begun or (text and not text.isspace()):
                yield text, True
            begun = False
        while len(held) > 2 * PIECE:
            end = _last_space(held)
            if begun or not held[:end].isspace():
                yield held[:end], False
                begun = True
            held = held[end:]
    if begun or (held and not held.isspace()):
        yield held, True


def separator(path: Path, encoding: str | None = None) -> re.Pattern:
    """The pattern that separates documents of plain text: blank lines where there are any, else the ends of lines."""
    with characters(path, encoding) as stream:
        paragraphs = _between(PARAGRAPH, _chunks(stream, Tally()))
        parted = sum(1 for _ in islice((ends for _, ends in paragraphs if ends), 2)) == 2
    return PARAGRAPH if parted else LINE


def _text(
    path: Path, encoding: str | None, tally: Tally, span: Stretch | None = None, between: re.Pattern | None = None
) -> Iterator[tuple[str, bool]]:
    """Documents of plain text: paragraphs where blank lines part any, else lines."""
    between = between or separator(path, encoding)
    with characters(path, encoding, span=span) as stream:
        yield from _between(between, _chunks(stream, tally))


def spans(path: Path, size: int, between: re.Pattern) -> list[Stretch]:
    """Stretches of a file of about `size` bytes, each but the last ended by a separator of documents.

    Where there are no line feeds at all, it is one.
    """
    end, parting = path.stat().st_size, re.compile(between.pattern.encode())
    cuts = [0]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while cuts[-1] + size < end and (match := parting.search(content, cuts[-1] + size)):
            cuts.append(match.end())
    return [Stretch(*pair) for pair in pairwise(dict.fromkeys([*cuts, end]))]


def can_be_cut(path: Path, encoding: str | None) -> bool:
    """Whether stretches of a file can be read by themselves: a document a line or paragraph, in UTF-8, not packed."""
    if path.suffix.lower() not in (".txt", ".jsonl", ".ndjson") or (encoding or "utf-8").lower() not in UTF_8:
        return False
    with opened(path) as stream:
        start = stream.read(4)
    return not any(start.startswith(mark) for mark, code in BOMS.items() if code != "utf-8-sig")


def _no_json(place: str, error: Exception) -> ValueError:
    reason = f"{error.msg}, column {error.colno:,}" if isinstance(error, json.JSONDecodeError) else _first_line(error)
    return ValueError(f"{place} is not valid JSON ({reason})")


def _jsonl(
    path: Path, encoding: str | None, _: str | None = None, lines: list[int] | None = None, span: Stretch | None = None
) -> Iterator[Any]:
    """The rows of a JSON Lines file, or of a span of it, one per line."""

    def place(number: int) -> str:
        return f"'{shown(path)}', line {number + _lines_before(path, span):,}"

    with characters(path, encoding, span=span) as stream:
        for number, line in enumerate(iter(lambda: stream.readline(LONGEST_ROW), ""), start=1):
            if len(line) == LONGEST_ROW:
                raise ValueError(f"{place(number)} has more than {LONGEST_ROW:,} characters; give such texts as .txt")
            if line.isspace():
                continue
            try:
                row = json.loads(line.rstrip("\n"))
            except (ValueError, RecursionError) as error:
                raise _no_json(place(number), error) from None
            if lines is not None:
                lines.append(number)
            yield row


def _lines_before(path: Path, span: Stretch | None) -> int:
    """The number of lines of a file that end before `span`."""
    if not span or not span.start:
        return 0
    with opened(path, Stretch(0, span.start)) as stream:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(CHUNK), b""))


def _json(path: Path, encoding: str | None, column: str | None = None, *_: Any) -> Iterator[Any]:
    """The rows of a JSON array, of one object (columns, rows in a field, or a document), or of consecutive values."""
    values = _json_values(path, encoding)
    first = list(islice(values, 2))
    if len(first) == 1 and isinstance(first[0], dict):
        columns = {name: _column(value) for name, value in first[0].items() if isinstance(_column(value), list)}
        rows = [value for value in columns.values() if value and all(isinstance(row, dict) for row in value)]
        if len(rows) < len(columns) == len(first[0]) and len({len(value) for value in columns.values()}) == 1:
            return (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        if column and _is_document(first[0], rows, column):
            return iter(first)
        if len(rows) > 1:
            raise ValueError(
                f"'{shown(path)}' holds several tables ({', '.join(first[0])}); give each a file of its own"
            )
        if rows:
            return iter(rows[0])
    return chain(first, values)


def _is_document(value: dict[str, Any], tables: list[list[dict[str, Any]]], column: str) -> bool:
    """Whether an object is one document with its text, of which lists, such as its authors, are no rows."""

    def texts(row: dict[str, Any]) -> set[str]:
        filled = {name for name, cell in row.items() if isinstance(cell, str) and cell.strip()}
        return {name for name in filled if name == column or name.lower() in TEXT_COLUMNS}

    return column in texts(value) or bool(texts(value)) and not any(texts(row) for rows in tables for row in rows)


def _column(value: Any) -> Any:
    """The values of a column, also as pandas writes one: {"0": …, "1": …}."""
    return [*value.values()] if isinstance(value, dict) and all(key.isdigit() for key in value) else value


def _json_values(path: Path, encoding: str | None) -> Iterator[Any]:
    """The values of an array, else of the whole file, held one at a time."""
    decode, space = json.JSONDecoder().raw_decode, re.compile(r"\s*")
    with characters(path, encoding) as stream:
        buffer = stream.read(CHUNK).lstrip()
        array, position, number = buffer[:1] == "[", 0, 0
        while True:
            position = space.match(buffer, position).end()
            if array and buffer[position : position + 1] == ("," if number else "["):
                position = space.match(buffer, position + 1).end()
            if array and buffer[position : position + 1] == "]":
                if buffer[position + 1 :].strip() or stream.read().strip():
                    raise ValueError(f"'{shown(path)}' goes on after its array of {number:,} rows; see row {number:,}")
                return
            try:
                value, end = decode(buffer, position)
                fault = None
            except (ValueError, RecursionError) as error:
                value, end, fault = None, len(buffer), error
            if end == len(buffer):  # cut off by the end of the chunk or of the file
                more = stream.read(max(CHUNK, len(buffer) - position)) if len(buffer) - position < LONGEST_ROW else ""
                if more:
                    buffer, position = buffer[position:] + more, 0
                    continue
                if position == len(buffer) and not array:
                    return
            if fault:
                raise _no_json(f"'{shown(path)}', row {number + 1:,}", fault)
            yield value
            number, position = number + 1, end


def _table(
    path: Path, encoding: str | None, _: str | None = None, lines: list[int] | None = None
) -> Iterator[dict[str, str]]:
    """The rows of a table with a line of names: CSV as spreadsheets write it, or tab-separated without quoting rules.

    Raises ValueError for a row with more or fewer fields than names, because its text would be cut.
    """
    tabs = ".tsv" in path.name.lower()[-8:]
    csv.field_size_limit(LONGEST_ROW)
    with characters(path, encoding, newline="") as stream:
        head = stream.readline(CHUNK)
        told = re.fullmatch(r"sep=(.)\s*", head)  # a line for Excel
        head = stream.readline(CHUNK) if told else head
        delimiter = told[1] if told else "\t" if tabs else max(",;\t|", key=head.count)
        quoting = {"quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
        reader = csv.reader(chain([head], stream), delimiter=delimiter, **quoting)
        try:
            names = [(_unquoted(name) if tabs else name).strip() for name in next(reader, [])]
            if twice := [name for name in names if name and names.count(name) > 1]:
                raise csv.Error(f"two columns are called '{twice[0]}'; rename one")
            for fields in reader:
                if fields and len(fields) != len(names):
                    raise csv.Error(
                        f"{len(fields)} fields under {len(names)} names; put quotes around texts with separators"
                    )
                if fields:
                    if lines is not None:
                        lines.append(reader.line_num + bool(told))
                    yield dict(zip(names, map(_unquoted, fields) if tabs else fields, strict=True))
        except csv.Error as error:
            raise ValueError(f"'{shown(path)}', line {reader.line_num + bool(told):,}: {error}") from None


def _unquoted(text: str) -> str:
    """A field without the quotes that some programs put around it in tab-separated files."""
    whole = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('""', "")
    return text[1:-1].replace('""', '"') if whole else text


def _parquet(path: Path, _: str | None, column: str | None = None, *_lines: Any) -> Iterator[dict[str, Any]]:
    with _mapped(path) as source:
        file = pyarrow.parquet.ParquetFile(source)
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        only = {"columns": [column]} if column in file.schema_arrow.names else {}
        for batch in file.iter_batches(_rows_at_once(size, file.metadata.num_rows), **only):
            yield from batch.to_pylist()


def _arrow(path: Path, _: str | None, column: str | None = None, *_lines: Any) -> Iterator[dict[str, Any]]:
    with _mapped(path) as source:
        try:
            file = pyarrow.ipc.open_file(source)
            batches: Iterable = map(file.get_batch, range(file.num_record_batches))
        except pyarrow.ArrowInvalid:  # the stream layout, which `datasets` writes
            source.seek(0)
            batches = pyarrow.ipc.open_stream(source)
        for batch in batches:
            batch.validate(full=True)  # in a damaged file, offsets may lead anywhere
            batch = batch.select([column]) if column in batch.schema.names else batch
            rows = _rows_at_once(batch.nbytes, batch.num_rows)
            for start in range(0, batch.num_rows, rows):
                yield from batch.slice(start, rows).to_pylist()


def _rows_at_once(size: int, rows: int) -> int:
    """The number of rows of a table of `size` bytes that take about 16 MB."""
    return max(1, min(10_000, 16_000_000 * rows // max(1, size)))


@contextmanager
def _mapped(path: Path) -> Iterator[pyarrow.NativeFile]:
    """A file that allows random access: the file itself, or a decompressed temporary copy."""
    with ExitStack() as stack:
        source = stack.enter_context(opened(path))
        if path.suffix.lower() in OPENERS:
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            while chunk := source.read(CHUNK):
                unpacked.write(chunk)
            unpacked.seek(0)
            source = unpacked
        yield stack.enter_context(pyarrow.PythonFile(source, mode="r"))


READERS: dict[str, Callable[..., Iterator]] = {
    ".txt": _text,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _table,
    ".tsv": _table,
    ".parquet": _parquet,
    ".arrow": _arrow,
}


def rows(
    path: Path, encoding: str | None = None, column: str | None = None, lines: list[int] | None = None
) -> Iterator[Any]:
    """The rows of a file that is not plain text, mostly as dictionaries; ValueError names the file and the row.

    With `column`, a columnar format gives only that column, if it has it, and a JSON object with text there is one
    row. Where rows have lines, the line on which each ends is appended to `lines`.
    """
    reader = READERS.get(kind_of(path) or "", _text)
    if reader is _text:
        raise ValueError(f"'{shown(path)}' is no table; give one of {', '.join(k for k in READERS if k != '.txt')}")
    return reader(path, encoding, column, lines)


def texts(rows: Iterable[Any], column: str | None, what: str, tally: Tally) -> Iterator[tuple[str, bool]]:
    """The texts in a column of rows (see `choose_column`); rows without text are left out and counted.

    Raises ValueError when no row has text.
    """
    rows = ({"text": row} if isinstance(row, str) else row for row in rows)
    first: list[Any] = []
    rows = iter(rows)
    for row in rows:
        first.append(row)
        if len(first) == SAMPLE or len(str(row)) > CHUNK:
            break
    if not first:
        return
    column = choose_column(first, column, what, tally)
    read = 0
    for row in chain(first, rows):
        text = row.get(column) if isinstance(row, dict) else None
        if isinstance(text, str) and text and not text.isspace():
            read += 1
            yield tally.mend(text), True
        else:
            tally.rows_without_text += 1
    if not read:
        raise ValueError(f"{what} has no text in its column '{column}'; name another with --text-column")


def choose_column(rows: list[Any], column: str | None, what: str, tally: Tally) -> str:
    """The column that holds the text: the one asked for, or a guess from the first rows, which is printed.

    Raises ValueError, naming the columns, when the column is missing or the guess would be unsafe.
    """
    names = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))
    if not names:
        raise ValueError(f"{what} holds rows without columns; write them as JSON objects")
    if column and column not in names:
        raise ValueError(f"{what} has no column '{column}', only {', '.join(map(str, names))}; see --text-column")
    if column or "text" in names:
        return column or "text"
    length = Counter()
    for row in rows:
        for name, value in row.items() if isinstance(row, dict) else ():
            length[name] += len(value) if isinstance(value, str) else 0
    known = {str(name).lower(): name for name in reversed(names) if length[name]}
    guess = next((known[name] for name in TEXT_COLUMNS if name in known), None)
    if guess is None:
        (longest, size), *rest = length.most_common(2)
        guess = longest if size and (not rest or size > 3 * rest[0][1]) else None
    if guess is None:
        raise ValueError(
            f"{what} has the columns {', '.join(map(str, names))}; name the one with text by --text-column"
        )
    tally.note(f"{what}: reading the column '{guess}'" + (" (--text-column takes another)" if len(names) > 1 else ""))
    return guess


def file_texts(
    path: Path,
    column: str | None,
    encoding: str | None,
    tally: Tally,
    span: Stretch | None = None,
    between: re.Pattern | None = None,
) -> Iterator[tuple[str, bool]]:
    """The documents of one file, or of a span of it, as stretches of text with whether the document ends there."""
    if kind_of(path) == ".txt":
        return _text(path, encoding, tally, span, between)
    made = _jsonl(path, encoding, span=span) if span else rows(path, encoding, column or "text")
    return texts(made, column, f"'{shown(path)}'", tally)


def file_column(path: Path, column: str | None, encoding: str | None, tally: Tally) -> str:
    """The column of a file with rows that holds its text; see `choose_column`."""
    first = islice(rows(path, encoding), SAMPLE)
    return choose_column([{"text": r} if isinstance(r, str) else r for r in first], column, f"'{shown(path)}'", tally)


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
