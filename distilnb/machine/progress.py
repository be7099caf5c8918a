"""Progress of long work: a bar on a terminal, one changing line in a notebook, a few lines in a log."""

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm


class Progress:
    """A context manager that counts `total` steps; the arguments of `step` are printed beside the count."""

    def __init__(self, total: int, what: str, start: int = 0, lines: int = 10, quiet: bool = False):
        self.total, self.what, self.done, self.start = total, what, start, start
        self.began, self.every = time.monotonic(), max(1, total // lines)
        self.quiet, self.bar, self.line = quiet, None, None if quiet else _notebook_line()
        self.shown = 0.0
        if not quiet and not self.line and sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=start, desc=what, dynamic_ncols=True, mininterval=0.5)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def skip(self) -> None:
        """Count a step that an earlier run did; it is left out of the estimate of the time left."""
        self.done += 1
        self.start += 1
        if self.bar is not None:
            self.bar.update()

    def step(self, **show: str) -> None:
        """Count one finished step and print the values of `show` when a line is due."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix(show, refresh=False)
            self.bar.update()
        elif not self.quiet and self._is_due():
            took, ended = time.monotonic() - self.began, self.done == self.total
            left = took / (self.done - self.start) * (self.total - self.done)
            facts = " · ".join(f"{name} {value}" for name, value in show.items())
            time_said = f"in {duration(took)}" if self.line and ended else f"{duration(left)} left"
            line = f"{self.what} {self.done:,}/{self.total:,} · {facts} · {time_said}"
            self.line(line) if self.line else print(line, flush=True)

    def _is_due(self) -> bool:
        """Whether a line is due: in a notebook twice a second, in a log ten times in all; always at the end."""
        if not self.line or self.done == self.total:
            return self.done % self.every == 0 or self.done == self.total
        due = time.monotonic() - self.shown > 0.5
        if due:
            self.shown = time.monotonic()
        return due


def _notebook_line() -> Callable[[str], None] | None:
    """A function that overwrites the last line of output in a notebook's kernel; None elsewhere."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min 20 s, 2 h 5 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
