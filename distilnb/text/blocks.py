"""Rows of token ids, cut from pieces of documents and written to an Arrow file that training reads memory-mapped."""

import hashlib
import math
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from .reading import Piece

HELD_OUT_EVERY = 100  # of each source, document i is held out when i % 100 == 99
GROUP = 1_000_000  # characters that are tokenized at once, on all cores
SHORTEST = 12  # the fewest tokens of a document that the grouped layout keeps


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int], list[int]]:
    """The ids before each block, after each block, and after each document in it.

    They are the family's [CLS], [SEP] and [SEP]; for a causal model they are nothing, nothing and the end of text.
    """
    if tokenizer.cls_token_id is None:
        return [], [], [tokenizer.eos_token_id]
    return [tokenizer.cls_token_id], [tokenizer.sep_token_id], [tokenizer.sep_token_id]


class Blocks:
    """A cutter of documents' token ids into rows, with counts; training and held-out documents never share a row."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, info: dict):
        self.opening, self.closing, self.between = frame(tokenizer)
        self.unk = None if self.between == [tokenizer.unk_token_id] else tokenizer.unk_token_id  # bytes spell all words
        self.packed, self.wanted = info["layout"] == "packed", info["max_tokens"]
        self.seq_length, self.body = info["seq_length"], info["seq_length"] - len(self.opening) - len(self.closing)
        ids = 1 + max(tokenizer.get_vocab().values())  # more than there are pieces, where the numbers have a gap
        self.counts, self.digest = np.zeros(ids, dtype=np.int64), hashlib.sha256()
        self.tokens = self.documents = 0
        self.sources = len(info["sources"])  # which take turns
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

    def why_none(self, left_out: int) -> str:
        """The reason, as the end of a sentence, why the text gave no row."""
        if not self.documents:
            return "holds no document but those that are left out" if left_out else "is empty"
        if self.packed:
            return f"is shorter than a block of {self.seq_length} tokens; give more text or a smaller sequence length"
        return f"has no document of {SHORTEST} known tokens; give longer documents or take --layout packed"

    def add(self, ids: list[list[int]], ends: list[bool]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows that the next pieces fill: their ids end to end, each row's length, and whether it is held out."""
        rows, start = [], 0
        while start < len(ids):
            heldout = self._next_is_held_out()
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
        return ended and (not self.packed or heldout or self._next_is_held_out())

    def _next_is_held_out(self) -> bool:
        """Whether the next document is: one of each source in a row, as every 100th of all might be of one alone."""
        return self.documents // self.sources % HELD_OUT_EVERY == HELD_OUT_EVERY - 1

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


def write_rows(
    path: Path, parts: Iterator[Piece], encoder: Tokenizer, blocks: Blocks, offenders: Counter, group: int = 0
) -> int:
    """Tokenize and write the text to the Arrow file `path`, `group` characters at once, and return the number of rows.

    `blocks` cuts and counts; the first words that became [UNK] are counted in `offenders`.
    """
    schema = pyarrow.schema({"input_ids": pyarrow.list_(pyarrow.int32()), "heldout": pyarrow.bool_()})
    written = 0
    with path.open("wb") as file, pyarrow.ipc.new_stream(file, schema) as out:
        for pieces, encodings in _encoded(_groups(parts, blocks, group or GROUP), encoder):
            before = blocks.unknown
            ids, lengths, heldout = blocks.add([e.ids for e in encodings], [piece.ends for piece in pieces])
            if blocks.unknown > before and offenders.total() < 1000:
                offenders.update(_unknown_words(pieces, encodings, encoder, blocks.unk))
            rows = pyarrow.ListArray.from_arrays(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), ids)
            out.write_batch(pyarrow.record_batch([rows, pyarrow.array(heldout)], schema=schema))
            written += len(lengths)
            if blocks.full:
                break
    return written


def _groups(parts: Iterator[Piece], blocks: Blocks, characters: int) -> Iterator[list[Piece]]:
    """The pieces in groups of about `characters` characters, smaller when few tokens are still missing."""
    group, size = [], 0
    for piece in parts:
        group.append(piece)
        size += len(piece.text) + 1
        if size >= min(characters, 4 * blocks.missing):
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
