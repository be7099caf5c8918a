"""Progress that fits where it is read: a bar on a terminal, a few plain lines in a notebook, a log or a test."""

import sys
import time
from typing import Any

from tqdm import tqdm


class Progress:
    """Count `total` steps; `show` says what to print beside them. Use it as a context manager."""

    def __init__(self, total: int, what: str, start: int = 0, lines: int = 10, quiet: bool = False):
        self.total, self.what, self.done, self.start = total, what, start, start
        self.began, self.every = time.monotonic(), max(1, total // lines)
        self.quiet, self.bar = quiet, None
        if not quiet and sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=start, desc=what, dynamic_ncols=True, mininterval=0.5)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def skip(self) -> None:
        """One step was done in an earlier sitting: it counts, but says nothing about the time that is left."""
        self.done += 1
        self.start += 1
        if self.bar is not None:
            self.bar.update()

    def step(self, **show: str) -> None:
        """One more step is done."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix(show, refresh=False)
            self.bar.update()
        elif not self.quiet and (self.done % self.every == 0 or self.done == self.total):
            left = (time.monotonic() - self.began) / (self.done - self.start) * (self.total - self.done)
            facts = " · ".join(f"{name} {value}" for name, value in show.items())
            print(f"{self.what} {self.done:,}/{self.total:,} · {facts} · {duration(left)} left", flush=True)


def duration(seconds: float) -> str:
    """Seconds as a reader says them: 42 s, 3 min 20 s, 2 h 5 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
