"""Pieces of documents → rows of token ids in an Arrow file, which training reads memory-mapped."""

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

HELD_OUT_EVERY = 100  # document i is held out when i % 100 == 99
GROUP = 1_000_000  # characters that are tokenized at once, on all cores
SHORTEST = 12  # tokens of a document that the grouped layout keeps


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int], list[int]]:
    """The ids before and after each block, and after each document in it.

    They are [CLS], [SEP] and [SEP], by whatever name, or nothing, nothing and the end of text for a causal model.
    """
    if tokenizer.cls_token_id is None:
        return [], [], [tokenizer.eos_token_id]
    return [tokenizer.cls_token_id], [tokenizer.sep_token_id], [tokenizer.sep_token_id]


class Blocks:
    """Token ids of documents → rows of ids, counted; training and held-out documents never share a row."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, info: dict):
        self.opening, self.closing, self.between = frame(tokenizer)
        self.unk = None if self.between == [tokenizer.unk_token_id] else tokenizer.unk_token_id  # bytes know all words
        self.packed, self.wanted = info["layout"] == "packed", info["max_tokens"]
        self.seq_length, self.body = info["seq_length"], info["seq_length"] - len(self.opening) - len(self.closing)
        self.counts, self.digest = np.zeros(len(tokenizer), dtype=np.int64), hashlib.sha256()
        self.tokens = self.documents = 0
        self.carried: dict[bool, list[int]] = {False: [], True: []}  # what does not fill a block yet

    @property
    def missing(self) -> float:
        """Tokens that are still asked for."""
        return self.wanted - self.tokens if self.wanted else math.inf

    @property
    def full(self) -> bool:
        """Whether there are as many tokens as were asked for."""
        return self.missing <= 0

    @property
    def unknown(self) -> int:
        """How many tokens are [UNK]."""
        return self.counts[self.unk] if self.unk is not None else 0

    def why_none(self) -> str:
        """The end of a sentence about text that gave no row."""
        if not self.documents:
            return "is empty"
        if self.packed:
            return f"is shorter than a block of {self.seq_length} tokens; give more text or a smaller sequence length"
        return f"has no document of {SHORTEST} known tokens; give longer documents or take --layout packed"

    def add(self, ids: list[list[int]], ends: list[bool]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The next pieces of documents → the rows that they fill: ids end to end, length of each row, held out?"""
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
        """Whether the next piece cannot join the ones before."""
        return ended and (not self.packed or heldout or self.documents % HELD_OUT_EVERY == HELD_OUT_EVERY - 1)

    def _cut(self, heldout: bool, ended: bool) -> list[np.ndarray]:
        """Rows without [CLS] and [SEP] out of what is carried; the rest is carried on."""
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
    """How many rows were written to the Arrow file `path`: pieces are tokenized, `group` characters at once.

    `blocks` counts them; the first words that became [UNK] are counted in `offenders`.
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
    """Pieces of so many characters together, of fewer where few tokens are still to come."""
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
    """Groups with their encodings; while one is being written, the next is tokenized on all cores."""
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
    """The words of a few texts that became [UNK]."""
    having = (piece.text for piece, encoding in zip(group, encodings, strict=True) if unknown in encoding.ids)
    for text in islice(having, 50):
        encoding = encoder.encode(text, add_special_tokens=False)
        yield from (text[slice(*at)][:30] for i, at in zip(encoding.ids, encoding.offsets, strict=True) if i == unknown)
