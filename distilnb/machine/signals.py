"""Stopping on a signal: the first SIGTERM or Ctrl-C ends the run after its step, the second at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal ended the run, whose state was `saved` or not; `status`, 128 + the signal's number, is the exit status
    of its process."""

    def __init__(self, number: int, what: str = "", saved: bool = False):
        super().__init__(what)
        self.status, self.saved = 128 + number, saved


@contextmanager
def heard() -> Iterator[None]:
    """For the time inside, a first SIGTERM is raised as `Stopped`, as Ctrl-C is as KeyboardInterrupt, and a second ends
    the process at once, even what hangs outside Python. A process that is forked inside does not hear it so."""
    first = threading.current_thread() is threading.main_thread()
    if first and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        _unhear()


def _raise(number: int, frame: FrameType | None) -> None:
    _unhear()
    raise Stopped(number)


def _unhear() -> None:
    if signal.getsignal(signal.SIGTERM) is _raise:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_unhear)


class Interrupts:
    """A context manager that only notes a first signal, so that a loop can end its step and save.

    After the first signal the old handlers return, so a second Ctrl-C acts at once. A signal that the process already
    ignored (as under `nohup`) stays ignored. Outside the main thread, which alone receives signals, nothing is done.
    """

    def __init__(self, quiet: bool = False):
        self.quiet, self.caught = quiet, None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        self.__exit__()
        _unhear()
        if not self.quiet:  # print() may be what was interrupted, and cannot be entered twice
            os.write(2, b"\nstopping after this update, which is saved; once more to stop at once\n")

    @property
    def flags(self) -> tuple[bool, ...]:
        """For each of `SIGNALS`, whether it was caught, in a form on which processes can agree."""
        return tuple(self.caught == number for number in SIGNALS)


def leave_signals_to_the_main_process(_: int = 0) -> None:
    """Ignore the stop signals in a helper process, because a Ctrl-C reaches it too and its batches are still needed."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
