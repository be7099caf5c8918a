"""Preparing text against `tokenizers` alone: characters per second and memory, for files of several shapes.

    python benchmarks/text_preparation.py --megabytes 100
    python benchmarks/text_preparation.py --text wikimedia/wikipedia:20231101.en     what was forecast, and what it took

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
from contextlib import suppress
from itertools import islice, repeat
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

    parts = repeat(texts, -(-size // sum(map(len, texts))))
    if path.suffix == ".parquet":
        schema = pyarrow.schema({"text": pyarrow.string()})
        with pyarrow.parquet.ParquetWriter(path, schema) as out:
            for part in parts:
                out.write_table(pyarrow.table({"text": part}, schema=schema), row_group_size=10**9)
        return
    with gzip.open(path, "wt", 1, newline="") if path.suffix == ".gz" else path.open("w") as out:
        if ".csv" in path.name:
            csv.writer(out).writerow(["text"])
        for part in parts:
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


def prepared(text: str, folder: Path) -> dict[str, float]:
    """What `build_corpus` needs for a text, beside what the forecast said: seconds, tokens and megabytes of disk.

    `mb` is the memory above the start.
    """
    from transformers import AutoTokenizer

    from distilnb.text.corpus import build_corpus
    from distilnb.text.forecast import forecast
    from distilnb.text.sources import parse_sources

    tokenizer, memory, sources = AutoTokenizer.from_pretrained(TOKENIZER), Memory(), parse_sources(text)
    told = forecast(sources, tokenizer)
    with tempfile.TemporaryDirectory(dir=folder) as folder:
        start, cpu, before = time.perf_counter(), cpu_seconds(), held()
        memory.start()
        built = build_corpus(sources, tokenizer, folder=Path(folder), allow_unknown=True)
        seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
        memory.ended.set()
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.arrow"))
    return {
        "seconds": seconds,
        "cpu": cpu,
        "memory_mb": (memory.peak - before) / 1e6,
        "tokens": built.info["tokens"],
        "disk_mb": size / 1e6,
        "forecast_seconds": told.seconds,
        "forecast_tokens": told.tokens,
        "forecast_disk_mb": told.disk_bytes / 1e6,
    }


def alone(texts: list[str], size: int) -> tuple[float, float]:
    """Seconds and CPU seconds in which the library tokenizes `size` characters of these texts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    start, cpu, done = time.perf_counter(), time.process_time(), 0
    while done < size:
        tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        done += sum(map(len, texts))
    return (time.perf_counter() - start) * size / done, (time.process_time() - cpu) * size / done


def measured(text: str, folder: Path) -> dict[str, float]:
    """`prepared` in a process of its own."""
    command = [sys.executable, __file__, "--text", text, "--here", str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def compared(path: Path, texts: list[str], size: int) -> dict[str, float]:
    """Megabytes a second of the library alone and of preparing a file of `size` characters, in turns; the rest too."""
    write(path, texts, size)
    packed = [text.replace(" ", "") for text in texts] if path.name == "no_space.txt" else texts
    sample = min(size, SAMPLE)
    first = alone(packed, sample)
    made = measured(str(path), path.parent)
    path.unlink()
    wall, cpu = ((one + two) / 2 * size / sample for one, two in zip(first, alone(packed, sample), strict=True))
    ratios = {"ratio": wall / made["seconds"], "cpu_ratio": cpu / made["cpu"]}
    return {"alone_mb_s": size / 1e6 / wall, "mb_s": size / 1e6 / made["seconds"]} | ratios | made


def main() -> None:
    """Print a line and leave a record of each shape: speeds, ratios in time and CPU time, memory above the start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--text", help="a text instead, as for --text of the commands, beside what was forecast of it")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(prepared(options.text, options.here)))
        return
    from distilnb.evidence.records import Stopwatch, new_record, save_record
    from distilnb.text import toyworld

    texts, size = list(islice(toyworld.documents(), 4000)), options.megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for shape in [options.text] if options.text else options.shapes:
            watch, config = Stopwatch(), {"text": shape, "tokenizer": "data/teachers/toy"}
            results = measured(shape, Path(folder)) if options.text else compared(Path(folder, shape), texts, size)
            print(shape, " · ".join(f"{key} {value:,.4g}" for key, value in results.items()), flush=True)
            part = "forecast" if options.text else f"{options.megabytes}mb-{shape.replace('_', '-').replace('.', '-')}"
            about = {"scale": "toy", "model": "none", "stopwatch": watch, "config": config}
            scores = {key: round(value, 4) for key, value in results.items()}
            record = new_record("benchmark", f"benchmark-text-{part}", **about, scores=scores)
            print(f"record: {save_record(record)}", flush=True)


if __name__ == "__main__":
    main()
