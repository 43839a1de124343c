"""Which files below a folder are data: hidden and system ones are passed over, linked folders are followed once each.

The one rule for training, the check and inference.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePath
from typing import NamedTuple

from formats.base import DataError

SYSTEM_NAMES = frozenset(("__macosx", "lost+found", "@eadir", "#recycle", "$recycle.bin", "system volume information",
                          "thumbs.db", "ehthumbs.db", "desktop.ini"))  # in lower case; of whatever system
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")
HIDDEN, UNREADABLE = "are hidden or the system's", "cannot be opened"
BROKEN_LINK, READ_ANYWAY = "are links that lead nowhere", "are linked folders that are read under another name"
MAX_COUNTED = 10_000  # files of a hidden folder that are looked at


class PassedOver(NamedTuple):
    """A file or a folder that is not read, and why: words that follow a number, such as 'have no label'."""

    path: Path
    reason: str
    count: int = 1


class Child(NamedTuple):
    """A file or a folder in a folder."""

    path: Path
    is_folder: bool


def is_hidden(name: str) -> bool:
    """Whether the name of a file or folder says that it is hidden, deleted, or a system's own."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def file_head(path: Path, count: int) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """In this block a file that cannot be read is a DataError, which names it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def inner_path(path: PurePath) -> PurePath:
    """A path without what leads out of a folder: its root or drive, and each '..'."""
    return type(path)(*(part for part in path.parts if part not in ("..", path.anchor)))


class Tree:
    """The files below a folder. `report` is told each thing that is passed over and could be data."""

    def __init__(self, root: Path, report: Callable[[PassedOver], None] = lambda passed_over: None,
                 suffixes: tuple[str, ...] = IMAGE_SUFFIXES):
        self.root, self.report, self.suffixes = root, report, suffixes
        self._real_root = os.path.realpath(root)
        self._links: set[Path] = set()  # that were followed
        self._entered: set[str] = set()  # real paths of the folders behind them

    def files(self, folder: Path | None = None) -> Iterator[Path]:
        """The files below a folder (default: the root), sorted as paths are, with a folder a level in memory."""
        for child in self.children(folder or self.root):
            if child.is_folder:
                yield from self.files(child.path)
            else:
                yield child.path

    def children(self, folder: Path) -> list[Child]:
        """The data files and folders in a folder, by name. Ask once for each folder: a link is followed once."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            self.report(PassedOver(folder, UNREADABLE))
            return []
        by_link = bool(self._links) and not self._links.isdisjoint((folder, *folder.parents))
        children = []
        for entry in entries:
            path = folder / entry.name
            if is_hidden(entry.name):
                self._report_hidden(entry, path)
            elif _is_link(entry):
                children += self._linked(path)
            elif entry.is_dir(follow_symlinks=False):
                if not by_link or self._is_new(path):
                    children.append(Child(path, True))
            elif entry.is_file(follow_symlinks=False):  # no pipe, which would never end
                children.append(Child(path, False))
        return children

    def _linked(self, path: Path) -> list[Child]:
        """What a link leads to, if it is to be read: a file, or a folder that nothing else leads to."""
        if os.path.isfile(path):
            return [Child(path, False)]
        if not os.path.isdir(path):
            self.report(PassedOver(path, BROKEN_LINK))
            return []
        if not self._is_new(path):
            return []
        self._links.add(path)
        return [Child(path, True)]

    def _is_new(self, folder: Path) -> bool:
        """Whether a folder that a link leads to is to be read: not one above the root, nor one that is read under
        its own name or was read before.
        """
        real = os.path.realpath(folder)
        below_root = _is_below(real, self._real_root)
        own_name = below_root and not any(map(is_hidden, Path(os.path.relpath(real, self._real_root)).parts))
        if _is_below(self._real_root, real) or own_name or real in self._entered:
            self.report(PassedOver(folder, READ_ANYWAY))
            return False
        self._entered.add(real)
        return True

    def _report_hidden(self, entry: os.DirEntry, path: Path) -> None:
        """Report a hidden file that could be data, and how many such files a hidden folder has."""
        names: Iterable[str] = [entry.name]
        if entry.is_dir(follow_symlinks=False):
            names = islice(_names_below(path), MAX_COUNTED)
        if count := sum(name.lower().endswith(self.suffixes) for name in names):
            self.report(PassedOver(path, HIDDEN, count))


def _names_below(folder: Path) -> Iterator[str]:
    """The names of all files below a folder, hidden ones as well; no link is followed."""
    return (name for _, _, names in os.walk(folder) for name in names)


def _is_below(path: str, folder: str) -> bool:
    """Whether a real path is a folder or something below it."""
    path, folder = os.path.normcase(path), os.path.normcase(folder)
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_link(entry: os.DirEntry) -> bool:
    """Whether an entry is a link; on Windows a junction as well."""
    if entry.is_symlink():
        return True
    tag = getattr(entry.stat(follow_symlinks=False), "st_reparse_tag", 0) if os.name == "nt" else 0
    return tag == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
