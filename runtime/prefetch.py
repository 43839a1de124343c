"""Work done ahead of its use, by threads: decoding images and resizing them release the interpreter lock."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def prefetch(jobs: Iterable[Callable[[], Result]], threads: int | None = None, ahead: int | None = None,
             low_priority: bool = False) -> Iterator[Result]:
    """Results of the jobs in order, at most `ahead` (default: four a thread) begun before they are asked for.

    `threads` is one a core by default. With low_priority they leave the cores to everything else first (on Linux).
    """
    threads = threads or os.cpu_count() or 1
    ahead = 4 * threads if ahead is None else ahead
    pool = ThreadPoolExecutor(threads, initializer=_lower_priority if low_priority else None)
    waiting = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _lower_priority() -> None:
    """Lower this thread's priority; Linux alone has priorities of threads."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + 10))
