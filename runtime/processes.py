"""Work shared among processes that start fast, end with this one, and hand back their results in order.

They are spawned, which Windows and macOS have alone, and which is safe beside threads and a GPU in use.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import cv2

from runtime.memory import keep_freed_memory
from runtime.signals import leave_process_group, signals_blocked

THREADS_PAY = 4  # cores up to which threads of one process share its interpreter well enough
MIN_IMAGES = 1500  # with fewer to read, processes would be starting for half of the time
MAX_PROCESSES = 32  # a disk has no more to give, and each takes 100 MB
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # of Linux's control groups: microseconds of CPU, in so many of time
AHEAD = 2  # tasks for each process that are begun before their results are needed

Task, Result = TypeVar("Task"), TypeVar("Result")
_stop: Any = None  # in a process of `in_processes`: a byte that it shares with the one that started it


class ProcessKilled(ValueError):
    """A process of `in_processes` was killed from outside, most often since no memory was left."""


class Stopped(Exception):
    """The results of this process are no longer wanted."""


def cores() -> int:
    """How many cores this process may use, also in a container that has a share of a machine's."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(int, CPU_LIMIT.read_text().split())
    except (OSError, ValueError):  # no such file, or "max": no limit
        return count
    return max(1, min(count, round(quota / period)))


def processes_for(images: int) -> int:
    """How many processes read so many images faster than threads do; 0 where threads do as well."""
    return min(cores(), MAX_PROCESSES) if cores() > THREADS_PAY and images >= MIN_IMAGES else 0


def in_processes(job: Callable[[Task], Result], tasks: Iterable[Task], count: int, work: str) -> Iterator[Result]:
    """The results of the tasks, in order, by `count` processes; a few tasks for each are begun ahead.

    An exception of a task is raised in its turn. Then, or at the end of the iterator, the tasks behind it are
    cancelled and those that ask `check_wanted` end soon. Raises ProcessKilled; `work` is what its message says that
    the process does.
    """
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.RawValue(ctypes.c_byte, 0)  # without a lock, which a killed process would keep
    pool, pending = ProcessPoolExecutor(count, spawn, initializer=_start, initargs=(stop,)), deque()
    try:
        for task in tasks:
            with _quick_start():  # a pool starts its processes when it has work for them
                pending.append(pool.submit(job, task))
            if len(pending) > AHEAD * count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise ProcessKilled(f"a process that {work} was killed (no memory left?); close other programs and start "
                            "again") from None
    finally:
        stop.value = 1
        pool.shutdown(cancel_futures=True)


def check_wanted() -> None:
    """Raises Stopped in a process of `in_processes` whose results are no longer wanted; elsewhere nothing happens."""
    if _stop is not None and _stop.value:
        raise Stopped


@contextlib.contextmanager
def _quick_start() -> Iterator[None]:
    """Processes spawned in this block do not import the script that runs, whose PyTorch takes them seconds; have one
    thread for NumPy; and hear of no signal before `_start`.
    """
    script, kept = vars(sys.modules["__main__"]), {}
    threads = os.environ.get("OMP_NUM_THREADS")
    with signals_blocked():
        for name in ("__file__", "__spec__"):
            if name in script:
                kept[name], script[name] = script[name], None
        os.environ["OMP_NUM_THREADS"] = "1"
        try:
            yield
        finally:
            script |= kept
            os.environ.pop("OMP_NUM_THREADS")
            if threads is not None:
                os.environ["OMP_NUM_THREADS"] = threads


def _start(stop: Any) -> None:
    """One thread for OpenCV; an end with the parent, even a killed one, and not before it at Ctrl-C, or where a
    scheduler ends the group of the script.
    """
    global _stop
    _stop = stop
    keep_freed_memory()  # arrays of images are made and freed all the time
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_process_group()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
