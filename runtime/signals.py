"""SIGINT and SIGTERM, handled between steps."""

import contextlib
import os
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Records SIGINT or SIGTERM, so that the caller stops after its step; a second one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.signal = 0  # number of the signal that was received; 0 before

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


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Signals to stop reach this thread after the block; a process started within begins with them blocked, too."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started by the first process, it would let them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_process_group() -> None:
    """Take a reading process out of the group of the script, and drop what the group was sent while it started."""
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return
    os.setpgrp()
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        for number in signal.sigpending():
            if signal.sigwaitinfo([number]).si_pid == os.getppid():  # the script itself has ended it
                os._exit(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
