"""Work done ahead of its use by threads; decoding and resizing images release the interpreter lock."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2

from runtime.processes import cores

Result = TypeVar("Result")


def prefetch(jobs: Iterable[Callable[[], Result]], threads: int | None = None, ahead: int | None = None,
             low_priority: bool = False) -> Iterator[Result]:
    """The results of the jobs, in order; at most `ahead` of them are begun before they are needed.

    By default one thread a core, and four jobs ahead for each. With low_priority the threads yield to all others (on
    Linux). An exception of a job is raised in its turn, and the jobs behind it are cancelled. Where there are several
    threads OpenCV has none of its own meanwhile: each job would wait for cores that the others use.
    """
    threads = threads or cores()
    of_opencv = cv2.getNumThreads()
    if threads > 1:
        cv2.setNumThreads(1)
    ahead = 4 * threads if ahead is None else ahead
    pool = ThreadPoolExecutor(threads, initializer=_lower_priority if low_priority else None)
    pending = deque()
    try:
        for job in jobs:
            pending.append(pool.submit(job))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(of_opencv)


def _lower_priority() -> None:
    """Lower this thread's priority; Linux alone has priorities of threads."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + 10))
