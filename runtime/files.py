"""Files written whole or not at all, and a lock between processes that work in one folder."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to: it takes that name when the block ends well, and goes when it does not.

    The temporary name keeps the suffix, which may choose the format. Its folder is made if need be. What is no regular
    file (a pipe, /dev/stdout) is written as it is. Raises OSError as the block does.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically. Raises OSError, which names the file."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        error.filename = str(path)  # a full disk does not say where
        raise


@contextlib.contextmanager
def lock(folder: Path, work: str) -> Iterator[None]:
    """Hold the lock of a folder, which is made if need be, for the duration of the block.

    `work` says on stderr what the other process is at, where there is one to wait for. The lock ends with its process,
    however that ends. Raises OSError where no file can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    held = FileLock(path)
    try:
        try:
            held.acquire(timeout=0)
        except Timeout:
            print(f"{folder}: another process is {work}; waiting for it", file=sys.stderr, flush=True)
            held.acquire()
    except NotImplementedError:  # of some network file systems
        print(f"{path}: this file system has no locks; start one process at a time here", file=sys.stderr)
        yield
        return
    try:
        yield
    finally:
        held.release()
