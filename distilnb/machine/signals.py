"""Being asked to stop: the first SIGTERM or Ctrl-C is obeyed after the step, the second one at once."""

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A run ended because a signal asked for it; `status` is what its process should exit with: 128 + the signal."""

    def __init__(self, number: int, what: str):
        super().__init__(what)
        self.status = 128 + number


class Interrupts:
    """While it is entered, a first signal is only noted, so that a loop can end its step and save.

    It also gives the signals back their meaning, for a second one. A signal that the process ignored before (as those
    started with `nohup` do) is ignored further, and outside the main thread nothing is done: only that one is told.
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
        if not self.quiet:  # print() may be what was interrupted, and cannot be entered twice
            os.write(2, b"\nstopping after this update, which is saved; once more to stop at once\n")

    @property
    def flags(self) -> tuple[bool, ...]:
        """Which of `SIGNALS` was caught: what processes can agree on."""
        return tuple(self.caught == number for number in SIGNALS)


def leave_signals_to_the_main_process(_: int = 0) -> None:
    """For processes that only help: a Ctrl-C goes to all of a group, and their batches are needed to end the step."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
