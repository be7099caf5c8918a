"""Preparing a text: its portions are tokenized in parallel, one process per core, and joined at the end."""

import hashlib
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from ..machine import files
from ..machine.device import cores
from ..machine.processes import mortal_children
from ..machine.progress import duration
from .blocks import GROUP, Blocks, write_rows
from .contamination import Scored
from .portions import Portion, divided
from .reading import Piece, Tally
from .sources import TextSource


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


@dataclass(frozen=True)
class Preparation:
    """A corpus that is being built: its portions, its tokenizer, and the folder that keeps finished portions.

    `info` holds what is known about the corpus beforehand.
    """

    portions: list[Portion]
    tokenizer: PreTrainedTokenizerBase
    encoder: Tokenizer
    info: dict[str, Any]
    without: Scored | None
    building: Path

    def part(self, number: int, processes: int = 1) -> dict[str, Any]:
        """A summary of one portion, which is tokenized now unless an earlier run has done so."""
        path, tally, left_out = self._path(number), Tally(), Counter(documents=0)
        if path.with_suffix(".json").is_file():
            return json.loads(path.with_suffix(".json").read_text())
        pieces = self.portions[number].pieces(tally)
        pieces = _clean(pieces, self.without, left_out) if self.without else pieces
        blocks, offenders = Blocks(self.tokenizer, self.info), Counter()
        rows = write_rows(path, pieces, self.encoder, blocks, offenders, max(GROUP // processes, GROUP // 10))
        np.save(path.with_suffix(".npy"), blocks.counts)
        told = {
            "tokens": blocks.tokens,
            "rows": rows,
            "fingerprint": blocks.digest.hexdigest(),
            "read": asdict(tally) | {"documents": blocks.documents, "unknown": int(blocks.unknown)},
            "offenders": offenders,
            "left_out": left_out,
            "why_none": blocks.why_none(left_out["documents"]),
        }
        files.write_json(path.with_suffix(".json"), told)  # written last and atomically, to mark the portion as done
        return told

    def one_of_many(self, number: int, processes: int, began: float, before: int) -> dict[str, int]:
        """The number of rows of one portion, prepared by one of several processes."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each process takes one core
        rows = self.part(number, processes)["rows"]
        done, wanted = _done(self.building), len(self.portions)
        if done * 10 // wanted > (done - 1) * 10 // wanted:
            left = (time.monotonic() - began) / max(1, done - before) * (wanted - done)
            print(f"text {done:,}/{wanted:,} · {duration(left)} left", flush=True)
        return {"rows": rows}

    def parts(self) -> list[dict[str, Any]]:
        """The summaries of all portions, after the missing ones have been prepared."""
        numbers = range(len(self.portions))
        missing = [number for number in numbers if not self._path(number).with_suffix(".json").is_file()]
        if len(missing) > 1 and cores() > 1:
            self._together(missing, min(cores(), len(missing)))
        return [self.part(number) for number in numbers]

    def _together(self, missing: list[int], processes: int) -> None:
        """Prepare the missing portions in several processes."""
        before, wanted = len(self.portions) - len(missing), len(self.portions)
        print(f"text {before:,}/{wanted:,} · in {processes} processes", flush=True)
        about = {"processes": processes, "began": time.monotonic(), "before": before}
        how = {"num_proc": processes, "new_fingerprint": "parts", "load_from_cache_file": False}
        try:
            with mortal_children():
                numbers = Dataset.from_dict({"number": missing})
                numbers.map(self.one_of_many, input_columns="number", fn_kwargs=about, **how)
        except RuntimeError as error:
            if "died" not in str(error):
                raise
            raise RuntimeError(
                "a process that prepared text was killed, often for want of memory; the same command goes on with "
                "what is missing"
            ) from error

    def finish(self, parts: list[dict[str, Any]]) -> tuple[dict[str, Any], np.ndarray]:
        """The info of the whole corpus, and the count of each word piece, summed over the portions."""
        if not any(part["rows"] for part in parts):
            raise ValueError(f"the text of {' + '.join(self.info['shown'])} {parts[0]['why_none']}")
        prints = [part["fingerprint"] for part in parts]
        read = {key: sum((part["read"][key] for part in parts), type(one)()) for key, one in parts[0]["read"].items()}
        told = {
            "tokens": sum(part["tokens"] for part in parts),
            "rows": sum(part["rows"] for part in parts),
            "parts": [part["rows"] for part in parts],
            "fingerprint": prints[0] if len(prints) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest(),
            "read": {key: value for key, value in read.items() if value != []},
            "offenders": sum((Counter(part["offenders"]) for part in parts), Counter()).most_common(8),
        }
        if self.without:
            left_out = sum((Counter(part["left_out"]) for part in parts), Counter())
            told["left_out"] = self.without.info | {"documents": 0} | left_out
        counts = sum(np.load(self._path(number).with_suffix(".npy")) for number in range(len(parts)))
        return self.info | told, counts

    def _path(self, number: int) -> Path:
        return self.building / f"part-{number:05d}.arrow"


def prepare(
    folder: Path,
    sources: tuple[TextSource, ...],
    tokenizer: PreTrainedTokenizerBase,
    encoder: Tokenizer,
    info: dict[str, Any],
    without: Scored | None,
) -> None:
    """Write a corpus to `folder`, reusing the portions that an earlier run finished before it was killed.

    One process at a time prepares a corpus; others wait. Raises ValueError for text that is unreadable or gives no row.
    """
    building = folder.with_name(f"{folder.name}.building")
    info = info | {"shown": [source.shown for source in sources]}
    with files.hold(building, waiting="the text is being prepared by"):
        if (folder / "info.json").is_file():  # another process has finished the corpus meanwhile
            shutil.rmtree(building)
            return
        try:
            portions = divided(sources, info["max_tokens"], Tally())
            work = Preparation(portions, tokenizer, encoder, info, without, building)
            where = f"{' + '.join(info['shown'])} into blocks of {info['seq_length']} tokens"
            print(f"tokenizing {where} (once: the result is kept)", flush=True)
            info, counts = work.finish(work.parts())
            np.save(building / "token_counts.npy", counts)
            files.write_json(building / "info.json", info)
            building.rename(folder)
        except KeyboardInterrupt as stop:
            kept = f"{_done(building)} portions are kept" if _done(building) else "nothing is kept"
            stop.args = (f"stopped while text was being prepared, of which {kept}",)
            raise
        finally:
            if not _done(building):
                shutil.rmtree(building, ignore_errors=True)
    told = info["read"]
    print(Tally(told["rows_without_text"], told["mended_characters"]).sentence(told["documents"]), flush=True)


def _done(building: Path) -> int:
    """The number of finished portions."""
    return len(list(building.glob("part-*.json")))
