"""Token blocks on disk, made from local files, the Hub (map-style or streamed) or toyworld (notebook 03).

Documents are tokenized once, in batches, and written as rows of an Arrow file. Training reads it memory-mapped, so that
the corpus is never held in memory and processes share it. Every hundredth document is held out for evaluation.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.compute
from datasets import Dataset, concatenate_datasets
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from .. import paths, scales
from ..machine import files
from . import toyworld
from .contamination import Scored
from .preparing import prepare
from .reading import Tally
from .sources import TextSource, read_pieces, stamp, take_turns

RECORDED_KEYS = "tokens", "seq_length", "layout", "tokenizer", "fingerprint", "read", "left_out"  # for a record
FORMAT = 3  # version of the folder on disk; folders of another version are built again
MIXED = 4  # of several sources; in 3, what was held out of them could be of one alone
ENCODED = 5  # with an encoding; before, files of UTF-8 were read in it too
TOLD_UNKNOWN, MOST_UNKNOWN = 0.001, 0.1  # shares of [UNK] above which a warning is printed, and training refused


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
            **({"held_out": "of each source"} if len(sources) > 1 else {}),
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
    encoded = any(source.encoding for source in sources)
    info = {
        "format": ENCODED if encoded else FORMAT if len(sources) == 1 else MIXED,
        "sources": [asdict(s) | {"files": stamp(s)} for s in sources],
        "seq_length": seq_length,
        "max_tokens": max_tokens,
        "layout": layout,
        "tokenizer": vocabulary_hash(tokenizer),
        "encoder": hashlib.sha256(encoder.to_str().encode()).hexdigest()[:16],
    } | ({"without": without.info} if without else {})
    key = hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()[:16]
    folder = (folder or paths.cache("corpora")) / key
    if not (folder / "info.json").is_file():
        prepare(folder, sources, tokenizer, encoder, info, without)
    corpus = _read(folder)
    _tell_unknown(corpus, allow_unknown)
    return corpus


def train_tokenizer(sources: Iterable[TextSource], pieces: int) -> BertTokenizer:
    """A lower-casing WordPiece tokenizer of `pieces` pieces, trained on the first 50 million characters of the text.

    The `tokenizers` library trains it, and it is saved and loaded like any BERT tokenizer.
    """

    def texts() -> Iterator[str]:
        seen = inside = 0
        for text, ends in take_turns([read_pieces(source, Tally()) for source in sources]):
            if inside < 100_000:  # of a novel only the beginning is taken, so that no source crowds out the others
                yield text[: 100_000 - inside]
                seen += min(len(text), 100_000 - inside)
            inside = 0 if ends else inside + len(text)
            if seen > 50_000_000:
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


def _tell_unknown(corpus: Corpus, allowed: bool) -> None:
    """Print the share of unknown tokens; ValueError when it exceeds MOST_UNKNOWN and is not `allowed`."""
    share = corpus.info["read"]["unknown"] / corpus.info["tokens"]
    words = ", ".join(f"{word!r}" for word, _ in corpus.info["offenders"])
    what = (
        f"{100 * share:.2g} % of the tokens of {' + '.join(corpus.info['shown'])} are [UNK], unknown to the vocabulary"
    )
    what += f" (first of all {words})" if words else ""
    if share > MOST_UNKNOWN and not allowed:
        raise ValueError(f"{what}; take a tokenizer made for this text, or --allow-unknown to train on it as it is")
    if share > TOLD_UNKNOWN and os.environ.get("RANK", "0") == "0":
        print(what, flush=True)


def _read(folder: Path) -> Corpus:
    info = json.loads((folder / "info.json").read_text())
    files = (folder / f"part-{number:05d}.arrow" for number, rows in enumerate(info["parts"]) if rows)
    data = concatenate_datasets([Dataset.from_file(str(file)) for file in files])
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
        with files.written("the tokenizer", folder):
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder) as whole:
                made.save_pretrained(whole)
                for file in sorted(Path(whole).iterdir(), reverse=True):  # tokenizer.json last: it marks the end
                    files.sync(file)
                    file.replace(folder / file.name)
    return AutoTokenizer.from_pretrained(folder)
