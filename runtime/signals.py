"""Signals to stop, taken as a wish to stop after the current step."""

import contextlib
import signal
from collections.abc import Iterator


class Interrupt:
    """Turns SIGINT and SIGTERM into a wish to stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self.signal = 0

    @property
    def status(self) -> int:
        """Exit status by convention: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + self.signal

    @contextlib.contextmanager
    def caught(self) -> Iterator["Interrupt"]:
        """Install the handlers for the duration of the block."""
        def handle(number: int, _frame: object) -> None:
            if self.signal:
                raise KeyboardInterrupt
            self.signal = number

        before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
