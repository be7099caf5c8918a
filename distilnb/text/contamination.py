"""Contamination: which documents of a pre-training text contain a text that is scored later, found by content.

A document contains a scored text when all letters and digits of the text stand in it in the same order; case, spaces
and punctuation are ignored (GLUE spells "do n't" where the source has "don't"). Short texts, which anybody might
write, count only when they are the whole document.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

SHORT = 40  # letters and digits, about eight words; a shorter text must be the whole document
BASE = np.uint64(0x9E3779B97F4A7C15)  # of the hash; any large odd number would do
INVERSE = np.uint64(pow(int(BASE), -1, 2**64))


def squeezed(text: str) -> str:
    """The letters and digits of a text in lower case, without anything between them."""
    return "".join(re.findall(r"[^\W_]+", re.sub(r"<br */?>", " ", text).casefold()))


class Scored:
    """The texts that are scored later, by the names of their tasks, and the search for them in a document."""

    def __init__(self, texts: Mapping[str, Iterable[str]]):
        self.tasks, self._scored = list(texts), {}
        for task, some in texts.items():
            for text in filter(None, map(squeezed, some)):
                self._scored.setdefault(text, set()).add(task)
        self._starts: dict[int, list[str]] = {}
        for text in (text for text in self._scored if len(text) >= SHORT):
            self._starts.setdefault(int(_stretches(text[:SHORT])[0]), []).append(text)
        self._hashes = np.array(sorted(self._starts), dtype=np.uint64)

    @property
    def info(self) -> dict[str, Any]:
        """The entry for a record: the tasks, the number of texts, and a fingerprint of the texts."""
        texts = sorted(self._scored)
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
        return {"tasks": self.tasks, "texts": len(texts), "fingerprint": digest}

    def within(self, document: str) -> set[str]:
        """The tasks that have a text in this document; empty for a document that may be used for training."""
        text = squeezed(document)
        tasks = set(self._scored.get(text, ()))
        if len(text) < SHORT or not len(self._hashes):
            return tasks
        stretches = _stretches(text)
        places = np.searchsorted(self._hashes, stretches).clip(max=len(self._hashes) - 1)
        for at in np.flatnonzero(self._hashes[places] == stretches):
            for scored in self._starts[int(stretches[at])]:
                if text.startswith(scored, at):
                    tasks |= self._scored[scored]
        return tasks


def _stretches(text: str) -> np.ndarray:
    """The hashes of all stretches of SHORT characters: (len(text) - SHORT + 1,), equal for equal stretches.

    The hash of a stretch is the difference of two prefix sums of character × BASE^place, shifted back to place 0.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    sums = np.concatenate([[np.uint64(0)], np.cumsum(codes * _powers(BASE, len(codes)), dtype=np.uint64)])
    count = len(codes) - SHORT + 1
    return (sums[SHORT:] - sums[:count]) * _powers(INVERSE, count)


def _powers(base: np.uint64, count: int) -> np.ndarray:
    return np.concatenate([[np.uint64(1)], np.cumprod(np.full(count, base), dtype=np.uint64)])[:count]
