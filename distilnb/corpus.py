"""Text → token blocks on disk: from local files, from the Hub (map-style or streamed) or from toyworld.

Documents are tokenized once, in batches, and written as rows of an Arrow file that training reads memory-mapped:
the corpus is never held in memory, and processes share it. Every hundredth document is held out for evaluation.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
from datasets import Dataset, Features, List, Value, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from transformers import BertTokenizer, PreTrainedTokenizerBase

from . import hub, paths, toyworld
from .contamination import Scored
from .masking import generator

HELD_OUT_EVERY = 100  # document i is held out when i % 100 == 99
KEPT = "tokens", "seq_length", "layout", "tokenizer", "fingerprint", "left_out"  # of `Corpus.info`, for a record
FORMAT = 1  # of the folder on disk; a change makes older ones be rebuilt


@dataclass(frozen=True)
class TextSource:
    """One place text comes from.

    `name` is "toyworld", a local file or folder (.txt, one document a paragraph; .parquet or .jsonl with a column
    `text`), or a Hub data set. `stream` fetches no more of it than is used.
    """

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    stream: bool = False
    column: str = "text"


def parse_sources(text: str) -> tuple[TextSource, ...]:
    """Read `--text`: sources joined by "+", each NAME[:CONFIG[:SPLIT]][@REVISION], `stream=` in front to stream.

    Examples: "toyworld", "books/", "stream=wikimedia/wikipedia:20231101.en+stanfordnlp/imdb:plain_text:unsupervised".
    Raises ValueError when a source is empty.
    """
    sources = []
    for part in text.split("+"):
        stream, name = part.startswith("stream="), part.removeprefix("stream=").strip()
        if not name:
            raise ValueError(f"'{text}' names no text; give 'toyworld', a file or folder, or a Hub data set")
        name, _, revision = name.partition("@") if not Path(name).exists() else (name, "", "")
        name, *rest = [name] if Path(name).exists() else name.split(":")
        config, split = (rest + [""] * 2)[:2]
        sources.append(TextSource(name, config or None, split or "train", revision or None, stream))
    return tuple(sources)


def documents(source: TextSource) -> Iterator[str]:
    """The documents of one source, in a fixed order; raises ValueError at once when there is no such text."""
    if source.name == "toyworld":
        return toyworld.documents()
    path = Path(source.name)
    rows = _local(path) if path.exists() else _from_hub(source)
    return _column(rows, source)


def _local(path: Path) -> Iterable[dict]:
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    found = {suffix: [str(f) for f in files if f.suffix == suffix] for suffix in (".parquet", ".jsonl", ".txt")}
    kinds = [suffix for suffix, there in found.items() if there]
    if len(kinds) != 1:
        holds = " and ".join(kinds) + " files; give one kind" if kinds else "no .txt, .jsonl or .parquet file"
        raise ValueError(f"text '{path}' holds {holds}")
    builder = {".parquet": "parquet", ".jsonl": "json", ".txt": "text"}[kinds[0]]
    more = {"sample_by": "paragraph"} if builder == "text" else {}
    return load_dataset(builder, data_files=found[kinds[0]], split="train", streaming=True, **more)


def _from_hub(source: TextSource) -> Iterable[dict]:
    unanswered = bool(hub.reach(source.name, "dataset", f"text '{source.name}'"))
    stream = source.stream and not unanswered
    try:
        with hub.only_cached(unanswered):
            return hub.fetch(
                load_dataset, source.name, source.config, split=source.split, revision=source.revision, streaming=stream
            )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"text '{source.name}' could not be read ({reason}); {hub.ADVICE}") from error


def _column(rows: Iterable[dict], source: TextSource) -> Iterator[str]:
    names = getattr(rows, "column_names", None)  # a stream may not know them before its first row
    if names and source.column not in names:
        raise ValueError(f"text '{source.name}' has no column '{source.column}', only {', '.join(names)}")
    return (row[source.column] for row in rows)


@dataclass(frozen=True)
class Corpus:
    """Token blocks ready for training: rows of `input_ids` (seq,), lengths, counts of every vocabulary entry."""

    train: Dataset
    heldout: Dataset
    train_lengths: np.ndarray
    token_counts: np.ndarray
    info: dict

    @property
    def padded(self) -> bool:
        """Whether rows differ in length, so that batches hold padding."""
        return self.info["layout"] == "grouped"

    def provenance(self) -> dict[str, Any]:
        """What a record says of the text: where from, which revision, how much, and that it is a stand-in."""
        sources = self.info["sources"]
        names = [Path(s["name"]).name if Path(s["name"]).exists() else s["name"] for s in sources]
        toy = names == ["toyworld"]
        return {
            "id": " + ".join(names),
            "revision": [s["revision"] for s in sources],
            "rows": {"train": len(self.train), "heldout": len(self.heldout)},
            "stand_in": True,
            "stand_in_why": "toyworld, a made-up world" if toy else "not the paper's Wikipedia and Toronto Book Corpus",
        } | {key: self.info[key] for key in KEPT if key in self.info}


def build_corpus(
    sources: Iterable[TextSource],
    tokenizer: PreTrainedTokenizerBase,
    *,
    seq_length: int = 128,
    max_tokens: int | None = None,
    layout: str = "packed",
    folder: Path | None = None,
    without: Scored | None = None,
) -> Corpus:
    """Tokenize `sources` into blocks of at most `seq_length` tokens, [CLS] … [SEP] each, or reuse an earlier build.

    `packed` joins documents end to end, so that no token is padding; `grouped` keeps documents apart, splits long
    ones, drops those under 12 tokens or half unknown (as the original code does) and leaves rows of unequal
    length to be batched by length. Several sources take turns, a document each. `max_tokens` stops early, also
    when streaming; toyworld is endless and needs it. Documents that hold a text of `without` are left out and counted.

    Raises ValueError for an unknown layout, for empty text and for text shorter than a block.
    """
    sources = tuple(sources)
    if layout not in ("packed", "grouped"):
        raise ValueError(f"corpus layout is '{layout}'; use 'packed' or 'grouped'")
    if not 8 <= seq_length <= tokenizer.model_max_length:
        raise ValueError(f"sequence length is {seq_length}; this tokenizer allows 8 to {tokenizer.model_max_length}")
    if max_tokens is None and any(s.name == "toyworld" for s in sources):
        raise ValueError("toyworld text is endless: say how many tokens to write (max_tokens)")
    info = {
        "format": FORMAT,
        "sources": [asdict(s) | {"files": _stamp(s)} for s in sources],
        "seq_length": seq_length,
        "max_tokens": max_tokens,
        "layout": layout,
        "tokenizer": vocabulary_hash(tokenizer),
    } | ({"without": without.info} if without else {})
    key = hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()[:16]
    folder = (folder or paths.cache("corpora")) / key
    if not (folder / "info.json").is_file():
        _write(folder, sources, tokenizer, info, without)
    return _read(folder)


def train_tokenizer(sources: Iterable[TextSource], pieces: int, characters: int = 50_000_000) -> BertTokenizer:
    """A lower-casing WordPiece tokenizer of `pieces` pieces from the first `characters` of the text.

    Trained by the `tokenizers` library; saves and loads as any BERT tokenizer.
    """

    def texts() -> Iterator[str]:
        seen = 0
        for text in _take_turns([documents(s) for s in sources]):
            yield text[:100_000]  # a novel gives its beginning, so that no source crowds out the others
            seen += min(len(text), 100_000)
            if seen > characters:
                return

    return BertTokenizer(do_lower_case=True, model_max_length=512).train_new_from_iterator(texts(), pieces)


def vocabulary_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A fingerprint of the vocabulary: equal when every piece has the same id."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()[:16]


def _stamp(source: TextSource) -> list | str:
    """What tells that local files changed: names, sizes and times; for toyworld, the version of its text."""
    if source.name == "toyworld":
        return f"text {toyworld.TEXT_VERSION}"
    path = Path(source.name)
    if not path.exists():
        return source.revision or "main"
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()]


def _take_turns(streams: list[Iterator[str]]) -> Iterator[str]:
    while streams:
        for stream in list(streams):
            text = next(stream, None)
            if text is None:
                streams.remove(stream)
            elif text.strip():
                yield text


def _clean(texts: Iterator[str], without: Scored, left_out: Counter) -> Iterator[str]:
    """The texts that hold nothing of `without`; the others are counted, in all and by task."""
    for text in texts:
        tasks = without.within(text)
        left_out.update(["documents", *tasks] if tasks else [])
        if not tasks:
            yield text


def _write(
    folder: Path,
    sources: tuple[TextSource, ...],
    tokenizer: PreTrainedTokenizerBase,
    info: dict,
    without: Scored | None = None,
) -> None:
    counts, digest, left_out = np.zeros(len(tokenizer), dtype=np.int64), hashlib.sha256(), Counter(documents=0)

    texts = _take_turns([documents(s) for s in sources])
    texts = _clean(texts, without, left_out) if without else texts
    where = " + ".join(Path(s.name).name if Path(s.name).exists() else s.name for s in sources)
    print(f"tokenizing {where} into blocks of {info['seq_length']} tokens (once: the result is kept)", flush=True)

    def rows() -> Iterator[dict]:
        seen = 0
        for row in _blocks(texts, tokenizer, info["seq_length"], info["layout"]):
            ids = np.asarray(row["input_ids"], dtype=np.int32)
            np.add.at(counts, ids, 1)
            digest.update(ids.tobytes())
            yield row
            seen += len(ids)
            if info["max_tokens"] and seen >= info["max_tokens"]:
                return

    building = folder.with_name(f"{folder.name}.{os.getpid()}.building")
    shutil.rmtree(building, ignore_errors=True)
    features = Features({"input_ids": List(Value("int32")), "heldout": Value("bool")})
    try:
        arrow = {"cache_dir": str(building / "arrow"), "fingerprint": folder.name}
        data = Dataset.from_generator(rows, features=features, **arrow)
    except (DatasetGenerationError, ValueError) as error:
        shutil.rmtree(building, ignore_errors=True)
        if counts.any():
            raise ValueError(f"reading {where} broke off ({error.__cause__ or error}); try again") from error
        raise ValueError(
            f"the text of {where} is empty, or shorter than a block of {info['seq_length']} tokens; "
            "give more text or a smaller sequence length"
        ) from error
    data.save_to_disk(str(building / "blocks"))
    np.save(building / "token_counts.npy", counts)
    info = info | ({"left_out": without.info | left_out} if without else {})
    info = info | {"tokens": int(counts.sum()), "rows": len(data), "fingerprint": digest.hexdigest()}
    (building / "info.json").write_text(json.dumps(info, indent=1))
    shutil.rmtree(building / "arrow", ignore_errors=True)
    try:
        building.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(building)


def _blocks(texts: Iterator[str], tokenizer: PreTrainedTokenizerBase, seq_length: int, layout: str) -> Iterator[dict]:
    """Rows {"input_ids", "heldout"}; training and held-out documents never share a block."""
    body, cls, sep = seq_length - 2, tokenizer.cls_token_id, tokenizer.sep_token_id
    carried: dict[bool, list[int]] = {False: [], True: []}
    number = 0
    while group := list(islice(texts, 500)):
        for ids in tokenizer(group, add_special_tokens=False, verbose=False)["input_ids"]:
            heldout = number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
            number += 1
            if layout == "grouped":
                for start in range(0, len(ids), body):
                    piece = ids[start : start + body]
                    if len(piece) >= 12 and piece.count(tokenizer.unk_token_id) < len(piece) / 2:
                        yield {"input_ids": [cls, *piece, sep], "heldout": heldout}
                continue
            stream = carried[heldout] + ids + [sep]
            whole = len(stream) // body * body
            for start in range(0, whole, body):
                yield {"input_ids": [cls, *stream[start : start + body], sep], "heldout": heldout}
            carried[heldout] = stream[whole:]


def _read(folder: Path) -> Corpus:
    data = load_from_disk(str(folder / "blocks"))
    info = json.loads((folder / "info.json").read_text())
    heldout = np.asarray(data["heldout"][:])
    if not heldout.any():  # a short text: its last tenth, at least one block
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


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int, group: bool = False) -> np.ndarray:
    """The order of samples in an epoch: (samples,) indices, a pure function of (seed, epoch).

    With `group`, stretches of up to 50 batches (a quarter of a small set) are sorted by length and the batches
    shuffled again, so that a batch holds sequences of like length and little padding.
    """
    draw = generator(seed, epoch)
    order = draw.permutation(len(lengths))
    if not group:
        return order
    stretch = batch_size * max(1, min(50, len(order) // (4 * batch_size)))
    stretches = np.split(order, range(stretch, len(order), stretch))
    order = np.concatenate([s[np.argsort(lengths[s], kind="stable")] for s in stretches])
    whole = len(order) // batch_size * batch_size
    batches = draw.permutation(order[:whole].reshape(-1, batch_size)) if whole else order[:0]
    return np.concatenate([batches.reshape(-1), order[whole:]])
