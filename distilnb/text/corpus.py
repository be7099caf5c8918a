"""Token blocks on disk, made from local files, the Hub (map-style or streamed) or toyworld (notebook 03).

Documents are tokenized once, in batches, and written as rows of an Arrow file. Training reads it memory-mapped, so that
the corpus is never held in memory and processes share it. Every hundredth document is held out for evaluation.
"""

import hashlib
import json
import math
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
from datasets import Dataset, load_dataset
from tokenizers import Encoding, Tokenizer
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from .. import paths, scales
from ..machine import hub
from . import reading, toyworld
from .contamination import Scored
from .reading import Piece, Tally

HELD_OUT_EVERY = 100  # document i is held out when i % 100 == 99
RECORDED_KEYS = "tokens", "seq_length", "layout", "tokenizer", "fingerprint", "read", "left_out"  # for a record
FORMAT = 2  # version of the folder on disk; folders of another version are built again
GROUP = 1_000_000  # characters that are tokenized at once, on all cores
SHORTEST = 12  # the fewest tokens of a document that the grouped layout keeps
TOLD_UNKNOWN, MOST_UNKNOWN = 0.001, 0.1  # shares of [UNK] above which a warning is printed, and training refused


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
    Raises ValueError for an empty source and for a path that does not exist.
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
    for source in sources:
        source.path  # noqa: B018 raises now if it is wrong
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
    rows = _from_hub(source)
    names = rows.column_names or []  # a stream may not know them before its first row
    column = source.column or ("text" if "text" in names else None)
    rows = rows.select_columns([column]) if column in names else rows
    return reading.cut(reading.texts(rows, column, f"text '{source.name}'", tally))


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


def _from_hub(source: TextSource) -> Any:
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


@dataclass(frozen=True)
class Corpus:
    """Token blocks ready for training: rows of `input_ids` (seq,), their lengths, and the count of each word piece."""

    train: Dataset
    heldout: Dataset
    train_lengths: np.ndarray
    token_counts: np.ndarray
    info: dict

    @property
    def padded(self) -> bool:
        """Whether rows differ in length, so that batches contain padding."""
        return self.info["layout"] == "grouped"

    def provenance(self) -> dict[str, Any]:
        """A record's entry about the text: source, revision, amount, and that it is a stand-in for the paper's."""
        sources, names = self.info["sources"], self.info["shown"]
        toy = names == ["toyworld"]
        return {
            "id": " + ".join(names),
            "revision": [s["revision"] for s in sources],
            "rows": {"train": len(self.train), "heldout": len(self.heldout)},
            "stand_in": True,
            "stand_in_why": "toyworld, a made-up world" if toy else "not the paper's Wikipedia and Toronto Book Corpus",
        } | {key: self.info[key] for key in RECORDED_KEYS if key in self.info}


def build_corpus(
    sources: Iterable[TextSource],
    tokenizer: PreTrainedTokenizerBase,
    *,
    seq_length: int = 128,
    max_tokens: int | None = None,
    layout: str = "packed",
    folder: Path | None = None,
    without: Scored | None = None,
    allow_unknown: bool = False,
) -> Corpus:
    """Tokenize `sources` into blocks of at most `seq_length` tokens, [CLS] … [SEP] each, or reuse an earlier build.

    `packed` joins documents end to end, so that no token is padding; `grouped` keeps documents apart, splits long
    ones, drops those under 12 tokens or half unknown (as the original code does) and leaves rows of unequal
    length to be batched by length. Several sources take turns, a document each. `max_tokens` limits the text, also
    when streaming; toyworld is endless and needs it. Documents that hold a text of `without` are left out and counted.

    Raises ValueError for an unknown layout, for empty text, for text shorter than a block, and, unless
    `allow_unknown`, for text of which more than `MOST_UNKNOWN` of the tokens are unknown.
    """
    sources = tuple(sources)
    if layout not in ("packed", "grouped"):
        raise ValueError(f"corpus layout is '{layout}'; use 'packed' or 'grouped'")
    if not 8 <= seq_length <= tokenizer.model_max_length:
        raise ValueError(f"sequence length is {seq_length}; this tokenizer allows 8 to {tokenizer.model_max_length}")
    if max_tokens is None and any(s.name == "toyworld" for s in sources):
        raise ValueError("toyworld text is endless: say how many tokens to write (max_tokens)")
    encoder = whole_texts(tokenizer)
    info = {
        "format": FORMAT,
        "sources": [asdict(s) | {"files": _stamp(s)} for s in sources],
        "seq_length": seq_length,
        "max_tokens": max_tokens,
        "layout": layout,
        "tokenizer": vocabulary_hash(tokenizer),
        "encoder": hashlib.sha256(encoder.to_str().encode()).hexdigest()[:16],
    } | ({"without": without.info} if without else {})
    key = hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()[:16]
    folder = (folder or paths.cache("corpora")) / key
    if not (folder / "info.json").is_file():
        _write(folder, sources, tokenizer, encoder, info, without)
    corpus = _read(folder)
    _tell_unknown(corpus, allow_unknown)
    return corpus


def train_tokenizer(sources: Iterable[TextSource], pieces: int, characters: int = 50_000_000) -> BertTokenizer:
    """A lower-casing WordPiece tokenizer of `pieces` pieces, trained on the first `characters` of the text.

    The `tokenizers` library trains it, and it is saved and loaded like any BERT tokenizer.
    """

    def texts() -> Iterator[str]:
        seen = inside = 0
        for text, ends in _take_turns([read_pieces(source, Tally()) for source in sources]):
            if inside < 100_000:  # of a novel only the beginning is taken, so that no source crowds out the others
                yield text[: 100_000 - inside]
                seen += min(len(text), 100_000 - inside)
            inside = 0 if ends else inside + len(text)
            if seen > characters:
                return

    return BertTokenizer(do_lower_case=True, model_max_length=512).train_new_from_iterator(texts(), pieces)


def vocabulary_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A fingerprint of the vocabulary, equal for tokenizers in which every piece has the same id."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()[:16]


def whole_texts(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """A copy of the inner tokenizer with truncation and padding off, because some tokenizer files switch them on.

    Raises ValueError for a tokenizer that is not from the `tokenizers` library.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__} has no tokenizer.json; a fast tokenizer is needed")
    encoder = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    encoder.no_truncation()
    encoder.no_padding()
    return encoder


def _stamp(source: TextSource) -> list | str:
    """The names, sizes and times of local files, by which a change is noticed; for toyworld, its text's version."""
    if source.name == "toyworld":
        return f"text {toyworld.TEXT_VERSION}"
    if not source.path:
        return source.revision or "main"
    stats = [(file.resolve(), file.stat()) for file in reading.text_files(source.path)]
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def _take_turns(streams: list[Iterator[Piece]]) -> Iterator[Piece]:
    """The documents of all streams, one of each in turn, until all streams have ended."""
    while streams:
        for stream in list(streams):
            for piece in stream:
                yield piece
                if piece.ends:
                    break
            else:
                streams.remove(stream)


def _clean(parts: Iterator[Piece], without: Scored, left_out: Counter) -> Iterator[Piece]:
    """The documents without a text of `without`; the others are counted in `left_out`, in all and by task."""
    document: list[Piece] = []
    for piece in parts:
        document.append(piece)
        if not piece.ends:
            continue
        stretches = (document[i : i + 50] for i in range(0, max(1, len(document) - 2), 48))  # overlapping ones
        tasks = set().union(*(without.within("".join(part.text for part in stretch)) for stretch in stretches))
        left_out.update(["documents", *tasks] if tasks else [])
        if not tasks:
            yield from document
        document = []


def _write(
    folder: Path,
    sources: tuple[TextSource, ...],
    tokenizer: PreTrainedTokenizerBase,
    encoder: Tokenizer,
    info: dict,
    without: Scored | None,
) -> None:
    where, tally, left_out = " + ".join(source.shown for source in sources), Tally(), Counter(documents=0)
    parts = _take_turns([read_pieces(source, tally) for source in sources])
    parts = _clean(parts, without, left_out) if without else parts
    print(f"tokenizing {where} into blocks of {info['seq_length']} tokens (once: the result is kept)", flush=True)
    blocks, offenders = _Blocks(tokenizer, info), Counter()
    building = folder.with_name(f"{folder.name}.{os.getpid()}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        rows = _write_rows(building / "blocks.arrow", parts, encoder, blocks, offenders)
        if not rows:
            raise ValueError(f"the text of {where} {blocks.why_none()}")
        np.save(building / "token_counts.npy", blocks.counts)
        read = {name: value for name, value in asdict(tally).items() if value != []} | {"documents": blocks.documents}
        info = (
            info
            | {
                "shown": [source.shown for source in sources],
                "tokens": blocks.tokens,
                "rows": rows,
                "fingerprint": blocks.digest.hexdigest(),
                "read": read | {"unknown": int(blocks.unknown)},
                "offenders": offenders.most_common(8),
            }
            | ({"left_out": without.info | left_out} if without else {})
        )
        (building / "info.json").write_text(json.dumps(info, indent=1))
        print(tally.sentence(blocks.documents), flush=True)
        try:
            building.rename(folder)
        except OSError:
            if not (folder / "info.json").is_file():  # otherwise another process was first
                raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped while text was being prepared, of which nothing is kept") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_rows(path: Path, parts: Iterator[Piece], encoder: Tokenizer, blocks: "_Blocks", offenders: Counter) -> int:
    """Tokenize and write the text group by group, and return the number of rows."""
    schema = pyarrow.schema({"input_ids": pyarrow.list_(pyarrow.int32()), "heldout": pyarrow.bool_()})
    written = 0
    with path.open("wb") as file, pyarrow.ipc.new_stream(file, schema) as out:
        for group, encodings in _encoded(_groups(parts, blocks), encoder):
            before = blocks.unknown
            ids, lengths, heldout = blocks.add([e.ids for e in encodings], [piece.ends for piece in group])
            if blocks.unknown > before and offenders.total() < 1000:
                offenders.update(_unknown_words(group, encodings, encoder, blocks.unk))
            rows = pyarrow.ListArray.from_arrays(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), ids)
            out.write_batch(pyarrow.record_batch([rows, pyarrow.array(heldout)], schema=schema))
            written += len(lengths)
            if blocks.full:
                break
    return written


def _groups(parts: Iterator[Piece], blocks: "_Blocks") -> Iterator[list[Piece]]:
    """The pieces in groups of about `GROUP` characters, smaller when few tokens are still missing."""
    group, size = [], 0
    for piece in parts:
        group.append(piece)
        size += len(piece.text) + 1
        if size >= min(GROUP, 4 * blocks.missing):
            yield group
            group, size = [], 0
    if group:
        yield group


def _encoded(groups: Iterator[list[Piece]], encoder: Tokenizer) -> Iterator[tuple[list[Piece], list[Encoding]]]:
    """The groups with their encodings; the next group is tokenized on all cores while one is being written."""
    with ThreadPoolExecutor(1) as worker:
        begun: deque = deque()
        for group in groups:
            texts = [piece.text for piece in group]
            begun.append((group, worker.submit(encoder.encode_batch_fast, texts, add_special_tokens=False)))
            if len(begun) > 1:
                group, encodings = begun.popleft()
                yield group, encodings.result()
        for group, encodings in begun:
            yield group, encodings.result()


def _unknown_words(group: list[Piece], encodings: list[Encoding], encoder: Tokenizer, unknown: int) -> Iterator[str]:
    """The words that became [UNK] in a few texts."""
    having = (piece.text for piece, encoding in zip(group, encodings, strict=True) if unknown in encoding.ids)
    for text in islice(having, 50):
        encoding = encoder.encode(text, add_special_tokens=False)
        yield from (text[slice(*at)][:30] for i, at in zip(encoding.ids, encoding.offsets, strict=True) if i == unknown)


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int], list[int]]:
    """The ids before each block, after each block, and after each document in it.

    They are the family's [CLS], [SEP] and [SEP]; for a causal model they are nothing, nothing and the end of text.
    """
    if tokenizer.cls_token_id is None:
        return [], [], [tokenizer.eos_token_id]
    return [tokenizer.cls_token_id], [tokenizer.sep_token_id], [tokenizer.sep_token_id]


class _Blocks:
    """A cutter of documents' token ids into rows, with counts; training and held-out documents never share a row."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, info: dict):
        self.opening, self.closing, self.between = frame(tokenizer)
        self.unk = None if self.between == [tokenizer.unk_token_id] else tokenizer.unk_token_id  # bytes spell all words
        self.packed, self.wanted = info["layout"] == "packed", info["max_tokens"]
        self.seq_length, self.body = info["seq_length"], info["seq_length"] - len(self.opening) - len(self.closing)
        self.counts, self.digest = np.zeros(len(tokenizer), dtype=np.int64), hashlib.sha256()
        self.tokens = self.documents = 0
        self.carried: dict[bool, list[int]] = {False: [], True: []}  # ids that do not fill a block yet

    @property
    def missing(self) -> float:
        """The number of tokens still wanted."""
        return self.wanted - self.tokens if self.wanted else math.inf

    @property
    def full(self) -> bool:
        """Whether there are as many tokens as wanted."""
        return self.missing <= 0

    @property
    def unknown(self) -> int:
        """The number of [UNK] tokens."""
        return self.counts[self.unk] if self.unk is not None else 0

    def why_none(self) -> str:
        """The reason, as the end of a sentence, why the text gave no row."""
        if not self.documents:
            return "is empty"
        if self.packed:
            return f"is shorter than a block of {self.seq_length} tokens; give more text or a smaller sequence length"
        return f"has no document of {SHORTEST} known tokens; give longer documents or take --layout packed"

    def add(self, ids: list[list[int]], ends: list[bool]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows that the next pieces fill: their ids end to end, each row's length, and whether it is held out."""
        rows, start = [], 0
        while start < len(ids):
            heldout = self.documents % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
            stop = start
            stream = self.carried[heldout]
            while stop < len(ids) and (stop == start or not self._turns(heldout, ends[stop - 1])):
                stream += ids[stop]
                if ends[stop]:
                    self.documents += 1
                    stream += self.between if self.packed else []
                stop += 1
            rows += [(row, heldout) for row in self._cut(heldout, ends[stop - 1])]
            start = stop
        return self._count(rows)

    def _turns(self, heldout: bool, ended: bool) -> bool:
        """Whether the next piece cannot join the pieces before it."""
        return ended and (not self.packed or heldout or self.documents % HELD_OUT_EVERY == HELD_OUT_EVERY - 1)

    def _cut(self, heldout: bool, ended: bool) -> list[np.ndarray]:
        """The rows, without [CLS] and [SEP], that the carried ids fill; the rest stays carried."""
        stream = np.array(self.carried[heldout], dtype=np.int32)
        whole = len(stream) // self.body * self.body
        rows, rest = list(stream[:whole].reshape(-1, self.body)), stream[whole:]
        if self.packed:
            self.carried[heldout] = rest.tolist()
            return rows
        self.carried[heldout] = [] if ended else rest.tolist()
        rows += [rest] if ended else []
        return [row for row in rows if len(row) >= SHORTEST and 2 * np.count_nonzero(row == self.unk) < len(row)]

    def _count(self, rows: list[tuple[np.ndarray, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        opening, closing = (np.array(ids, dtype=np.int32) for ids in (self.opening, self.closing))
        lengths = np.array([len(opening) + len(row) + len(closing) for row, _ in rows], dtype=np.int64)
        kept = np.cumsum(lengths) - lengths < self.missing
        rows, lengths = rows[: kept.sum()], lengths[kept]
        parts = (part for row, _ in rows for part in (opening, row, closing))
        ids = np.concatenate([np.empty(0, np.int32), *parts])
        self.tokens += len(ids)
        self.digest.update(ids.tobytes())
        self.counts += np.bincount(ids, minlength=len(self.counts))
        return ids, lengths, np.array([heldout for _, heldout in rows], dtype=bool)


def _tell_unknown(corpus: Corpus, allowed: bool) -> None:
    """Print the share of unknown tokens; ValueError when it exceeds MOST_UNKNOWN and is not `allowed`."""
    share = corpus.info["read"]["unknown"] / corpus.info["tokens"]
    words = ", ".join(f"{word!r}" for word, _ in corpus.info["offenders"])
    what = (
        f"{100 * share:.2g} % of the tokens of {' + '.join(corpus.info['shown'])} are [UNK], unknown to the vocabulary"
    )
    what += f" (first of all {words})" if words else ""
    if share > MOST_UNKNOWN and not allowed:
        raise ValueError(f"{what}; take a tokenizer made for this text, or --allow_unknown to train on it as it is")
    if share > TOLD_UNKNOWN and os.environ.get("RANK", "0") == "0":
        print(what, flush=True)


def _read(folder: Path) -> Corpus:
    info = json.loads((folder / "info.json").read_text())
    data = Dataset.from_file(str(folder / "blocks.arrow"))
    heldout = data.data.column("heldout").to_numpy()
    if not heldout.any():  # a short text: hold out its last tenth, at least one block
        heldout = np.arange(len(data)) >= len(data) - max(1, len(data) // 10)
    if heldout.all():
        raise ValueError(
            f"the text holds {len(data)} block of {info['seq_length']} tokens; training and held-out "
            "evaluation need two; give more text or a smaller sequence length"
        )
    lengths = pyarrow.compute.list_value_length(data.data.column("input_ids")).to_numpy()
    data = data.select_columns(["input_ids"]).with_format("numpy")
    train = np.flatnonzero(~heldout)
    return Corpus(
        data.select(train),
        data.select(np.flatnonzero(heldout)),
        lengths[train],
        np.load(folder / "token_counts.npy"),
        info,
    )


def corpus_budget(sources: tuple[TextSource, ...], tokens: int | None, wanted: int | None = None) -> int | None:
    """The number of tokens to prepare: `tokens` for endless or streamed text, else None for the whole text.

    From a stream, no more is fetched than a run of `wanted` tokens reads once, plus the held-out part.
    """
    if any(s.stream for s in sources) and tokens and wanted:
        return min(tokens, wanted + wanted // 20 + 10_000)
    endless = any(s.name == "toyworld" or s.stream for s in sources)
    return (tokens or scales.get("toy").corpus_tokens) if endless else None


def make_tokenizer(folder: Path, sources: tuple[TextSource, ...], pieces: int) -> PreTrainedTokenizerBase:
    """The tokenizer that an earlier run left in `folder`, else a new WordPiece tokenizer trained on the text."""
    if not (folder / "tokenizer.json").is_file():
        toy = [s.name for s in sources] == ["toyworld"]
        made = toyworld.train_tokenizer(pieces) if toy else train_tokenizer(sources, pieces)
        made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)
