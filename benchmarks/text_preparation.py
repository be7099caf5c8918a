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
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

SHAPES = ("paragraphs.txt", "lines.txt", "one_line.txt", "no_space.txt", "rows.jsonl", "rows.parquet", "rows.csv.gz")
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


def prepared(path: Path) -> dict[str, float]:
    """Seconds and megabytes above the start that `build_corpus` needs for a file."""
    import psutil
    from transformers import AutoTokenizer

    from distilnb.text.corpus import build_corpus, parse_sources

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    with tempfile.TemporaryDirectory() as folder:
        start, before = time.perf_counter(), psutil.Process().memory_info().rss
        built = build_corpus(parse_sources(str(path)), tokenizer, folder=Path(folder), allow_unknown=True)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "mb": (peak - before) / 1e6, "tokens": built.info["tokens"]}


def alone(texts: list[str], size: int) -> float:
    """Seconds in which the library tokenizes `size` characters of these texts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    start, done = time.perf_counter(), 0
    while done < size:
        tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        done += sum(map(len, texts))
    return (time.perf_counter() - start) * size / done


def main() -> None:
    """Print a line a shape: the speed of both, their ratio, and the memory above the start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(prepared(options.one)))
        return
    from distilnb.text import toyworld

    texts, size = list(islice(toyworld.documents(), 4000)), options.megabytes * 1_000_000
    print(f"{options.megabytes} MB; MB/s of the library alone, of preparation, their ratio; MB above the start")
    with tempfile.TemporaryDirectory() as folder:
        for shape in options.shapes:
            path = Path(folder, shape)
            write(path, texts, size)
            packed = [text.replace(" ", "") for text in texts] if shape == "no_space.txt" else texts
            sample = min(size, 20_000_000)
            first = alone(packed, sample)
            out = subprocess.run(
                [sys.executable, __file__, "--one", str(path)], check=True, capture_output=True, text=True
            ).stdout
            both = (first + alone(packed, sample)) / 2 * size / sample
            result = json.loads(out.splitlines()[-1])
            mb = size / 1e6
            print(
                f"{shape:15} {mb / both:6.2f} {mb / result['seconds']:6.2f} {both / result['seconds']:6.0%} "
                f"{result['mb']:7.0f} MB  ({result['tokens']:,} tokens)",
                flush=True,
            )
            path.unlink()


if __name__ == "__main__":
    main()
