"""Files written whole or not at all, and a lock between processes that work in one folder."""

import contextlib
import errno
import json
import math
import os
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # of some network file systems


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; the end of the block renames it to `path`, an error removes it.

    It is hidden and has the suffix of `path`, which may choose the format. The folder is made if need be. Of a link the
    target is replaced. A path that is no regular file (a pipe) or lies below /dev is given as it is. Raises OSError as
    the block does, but with the name of `path`.
    """
    name, path = str(path), Path(path)
    if (path.exists() and not path.is_file()) or path.is_relative_to("/dev"):
        yield path
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    short = f"{path.stem[:40]}.{zlib.crc32(os.fsencode(path.name)):08x}"  # file systems count 255 bytes
    temporary = path.with_name(f".{short}.{os.getpid()}-{threading.get_native_id()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename != str(temporary):
            raise
        raise OSError(error.errno, error.strerror, name) from None
    finally:
        temporary.unlink(missing_ok=True)


def check_written(written: Sequence[Path], read: Iterable[Path]) -> None:
    """Raise ValueError where two files that are to be written are one, or one that is there is among those read."""
    written = [path for path in written if path.is_file() or not path.exists()]  # devices and pipes take anything
    outputs = {os.path.realpath(path): path for path in written}
    if len(outputs) < len(written):
        twice = next(path for path in written if outputs[os.path.realpath(path)] is not path)
        raise ValueError(f"{twice}: two outputs would be written to this file; give each a name of its own")
    outputs = {real: path for real, path in outputs.items() if path.is_file()}
    if not outputs:
        return
    for path in read:
        if output := outputs.get(os.path.realpath(path)):
            raise ValueError(f"{output}: is read by this command, and would be replaced; write to another place")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, atomically. Raises OSError, which names the file."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically. Raises OSError, which names the file."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        error.filename = str(path)  # a full disk does not name it
        raise


def json_text(record: Mapping[str, Any], indent: int | None = None) -> str:
    """A record as JSON, in one line without an indent; numbers that are not finite become null."""
    return json.dumps(_finite(record), indent=indent)


def _finite(value: Any) -> Any:
    """A value of a record, or a record in it, with None for each number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def lock(folder: Path, work: str) -> Iterator[None]:
    """Lock a folder, which is made if need be, for the duration of the block; other processes wait for its end.

    `work` describes the block in the line that a waiting process prints on stderr. The operating system frees the lock
    when its process ends, however it ends. The empty file .lock stays in the folder. Where the file system has no
    locks, a line on stderr says so and the block runs without one. Raises OSError where no file can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    if not _has_locks(path):  # where filelock would wait for ever, warn or raise, as its version has it
        print(f"{folder}: this file system has no locks; start one process at a time here", file=sys.stderr)
        yield
        return
    file_lock = FileLock(path, mode=0o666)  # of a folder that several users share
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: another process is {work}; waiting for it", file=sys.stderr, flush=True)
        file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()


class FolderInUse(Exception):
    """Another process is the sole user of a folder."""


@contextlib.contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Keep other processes from being the folder's sole user too, for the duration of the block.

    The folder, which is made if need be, is locked itself, so that nothing is written into it. Where there are no such
    locks (Windows, some network file systems), and where it cannot be made, the block runs without one. Raises
    FolderInUse.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)  # which Windows refuses
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderInUse from None
        yield


def _has_locks(path: Path) -> bool:
    """Whether a file there can be locked; it is made if need be. Raises OSError where it cannot be written."""
    if fcntl is None:  # Windows locks files everywhere
        return True
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if is_new:  # whatever the umask: a folder may be that of several users
            with contextlib.suppress(PermissionError):  # another process, of another user, was first
                os.fchmod(descriptor, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:  # another process has it
        return True
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    finally:
        os.close(descriptor)
    return True
