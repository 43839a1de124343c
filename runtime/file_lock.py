"""A lock between processes: one does a piece of work in a folder, those that come meanwhile wait for it.

The lock is the operating system's own, so it ends with its process, however that ends.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

POLL_SECONDS = 0.2
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of some network file systems


@contextlib.contextmanager
def lock(folder: Path, work: str) -> Iterator[None]:
    """Hold the lock of a folder, which is made if need be, for the duration of the block.

    `work` says on stderr what the other process is at, where there is one to wait for. Raises OSError where no
    file can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, waits = folder / ".lock", False
    while True:
        file = path.open("ab")
        if _locked(file) and _is_still(path, file):  # else the one before took its file away
            break
        file.close()
        if not waits:
            print(f"{folder}: another process is {work}; waiting for it", file=sys.stderr, flush=True)
            waits = True
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows takes no open file away; an empty file does no harm
            path.unlink()
        file.close()


def _locked(file: BinaryIO) -> bool:
    """Whether the lock could be had at once."""
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(f"{file.name}: this file system has no locks; start one process at a time here", file=sys.stderr)
    return True


def _is_still(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
