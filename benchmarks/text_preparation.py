"""Preparing text against `tokenizers` alone: characters per second and memory, for files of several shapes.

    python benchmarks/text_preparation.py --megabytes 100

The same characters are written as paragraphs, as a document a line, as one single line, as JSON lines and as Parquet.
Each shape is prepared (read, tokenized, cut into blocks, written) in a process of its own, between two measurements of
the library alone, which tokenizes the same documents from memory on all cores and throws the result away.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

SHAPES = ("paragraphs.txt", "lines.txt", "one_line.txt", "no_space.txt", "rows.jsonl", "rows.parquet", "rows.csv.gz")
SAMPLE = 20_000_000  # characters that the library alone is timed on, before and after
TOKENIZER = Path(__file__).parents[1] / "data" / "teachers" / "toy"


def write(path: Path, texts: list[str], size: int) -> None:
    """A file of this shape with at least `size` characters, the texts again and again."""
    import csv
    import gzip

    import pyarrow
    import pyarrow.parquet

    def enough() -> Iterator[list[str]]:
        for _ in range(-(-size // sum(map(len, texts)))):
            yield texts

    if path.suffix == ".parquet":
        schema = pyarrow.schema({"text": pyarrow.string()})
        with pyarrow.parquet.ParquetWriter(path, schema) as out:
            for part in enough():
                out.write_table(pyarrow.table({"text": part}, schema=schema), row_group_size=10**9)
        return
    with gzip.open(path, "wt", 1, newline="") if path.suffix == ".gz" else path.open("w") as out:
        if ".csv" in path.name:
            csv.writer(out).writerow(["text"])
        for part in enough():
            if ".csv" in path.name:
                csv.writer(out).writerows([text] for text in part)
            elif path.suffix == ".jsonl":
                out.writelines(json.dumps({"text": text}) + "\n" for text in part)
            else:
                ends = {"paragraphs.txt": "\n\n", "lines.txt": "\n", "one_line.txt": " ", "no_space.txt": ""}[path.name]
                out.writelines((text.replace(" ", "") if not ends else text) + ends for text in part)


class Memory(threading.Thread):
    """Watches the memory of this process and of those that it starts, pages that they share counted once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.ended = 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.2):
            self.peak = max(self.peak, held())


def held() -> int:
    """Bytes of memory of this process and its children."""
    import psutil

    own, total = psutil.Process(), 0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has started and waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def prepared(path: Path) -> dict[str, float]:
    """Seconds, CPU seconds and megabytes above the start that `build_corpus` needs for a file."""
    from transformers import AutoTokenizer

    from distilnb.text.corpus import build_corpus
    from distilnb.text.sources import parse_sources

    tokenizer, memory = AutoTokenizer.from_pretrained(TOKENIZER), Memory()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        start, cpu, before = time.perf_counter(), cpu_seconds(), held()
        memory.start()
        built = build_corpus(parse_sources(str(path)), tokenizer, folder=Path(folder), allow_unknown=True)
        seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
        memory.ended.set()
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    mb = (memory.peak - before) / 1e6
    return {"seconds": seconds, "cpu": cpu, "mb": mb, "tokens": built.info["tokens"], "disk_mb": size / 1e6}


def alone(texts: list[str], size: int) -> tuple[float, float]:
    """Seconds and CPU seconds in which the library tokenizes `size` characters of these texts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    start, cpu, done = time.perf_counter(), time.process_time(), 0
    while done < size:
        tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        done += sum(map(len, texts))
    return (time.perf_counter() - start) * size / done, (time.process_time() - cpu) * size / done


def compared(path: Path, texts: list[str], size: int) -> dict[str, float]:
    """Megabytes a second of the library alone and of preparing a file of `size` characters, in turns; memory, disk."""
    write(path, texts, size)
    packed = [text.replace(" ", "") for text in texts] if path.name == "no_space.txt" else texts
    sample = min(size, SAMPLE)
    first = alone(packed, sample)
    command = [sys.executable, __file__, "--one", str(path)]
    made = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    path.unlink()
    wall, cpu = ((one + two) / 2 * size / sample for one, two in zip(first, alone(packed, sample), strict=True))
    return {
        "alone_mb_s": size / 1e6 / wall,
        "mb_s": size / 1e6 / made["seconds"],
        "ratio": wall / made["seconds"],
        "cpu_ratio": cpu / made["cpu"],
        "memory_mb": made["mb"],
        "disk_mb": made["disk_mb"],
        "tokens": made["tokens"],
    }


def main() -> None:
    """Print a line a shape, and leave a record: speeds, their ratio in time and in CPU time, memory above the start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(prepared(options.one)))
        return
    from distilnb.evidence.records import Stopwatch, new_record, save_record
    from distilnb.text import toyworld

    watch, scores = Stopwatch(), {}
    texts, size = list(islice(toyworld.documents(), 4000)), options.megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for shape in options.shapes:
            found = compared(Path(folder, shape), texts, size)
            print(shape, " · ".join(f"{name} {value:,.4g}" for name, value in found.items()), flush=True)
            scores |= {f"{shape.replace('.', '_')}_{name}": round(value, 4) for name, value in found.items()}
    record = new_record(
        "benchmark",
        f"benchmark-text-{options.megabytes}mb",
        scale="toy",
        model="none",
        stopwatch=watch,
        scores=scores,
        config={"megabytes": options.megabytes, "shapes": options.shapes, "tokenizer": "data/teachers/toy"},
    )
    print(f"record: {save_record(record)}")


if __name__ == "__main__":
    main()
