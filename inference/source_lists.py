"""Lists of images: text with a name a line, as CULane's, or JSON lines with raw_file and h_samples, as TuSimple's.

TuSimple's test_tasks_0627.json has no labels, and its label files are lists as well.
"""

import os
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from formats.base import DataError
from formats.parsing import json_object, numbers, text_lines

PARENTS = 3  # folders above a list that its names may be below: CULane has list/test_split/test0_normal.txt


class Entry(NamedTuple):
    """A line of a list."""

    name: str  # with forward slashes
    path: Path | None = None  # of its image; None where there is none
    rows: tuple[float, ...] = ()  # at which its benchmark asks for the lanes
    error: str = ""


def is_text(head: bytes) -> bool:
    """Whether a file that begins so may be text."""
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else the last letter is cut
            return False
    return bool(head) and b"\0" not in head


def read_list(path: Path) -> Iterator[Entry]:
    """The entries of a list: its lines but for blank ones and those that begin with #.

    Names are below the list's folder, the working folder, or one above the list.
    """
    folder, above = path.parent, Path(os.path.abspath(path)).parent.parents
    folders = [folder, folder / "train_set", folder / "test_set", Path(), *list(above)[:PARENTS]]
    rows_of_files: dict[tuple[float, ...], tuple[float, ...]] = {}  # one tuple for the thousands that are equal
    try:
        for number, _, line in text_lines(path):
            where = f"{path}:{number}"
            try:
                if line.lstrip().startswith(b"{"):
                    name, rows = _json_entry(line, where)
                    entry = Entry(_normalized(name), _find(name, folders), rows_of_files.setdefault(rows, rows))
                else:
                    entry = _text_entry(os.fsdecode(line).lstrip("\ufeff").strip(), folders)
            except DataError as error:
                yield Entry("", error=str(error))
                continue
            if entry.path:
                yield entry
            elif not entry.name.startswith("#"):
                yield entry._replace(error=f"{where}: no image '{entry.name[:100]}'")
    except DataError as error:  # the list itself cannot be read
        yield Entry("", error=str(error))


def _json_entry(line: bytes, where: str) -> tuple[str, tuple[float, ...]]:
    """raw_file and h_samples of a line. Raises DataError."""
    record = json_object(line, where, "raw_file and h_samples")
    name = record.get("raw_file")
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where}: no 'raw_file' that names an image")
    rows = numbers(record["h_samples"], f"{where}: h_samples") if "h_samples" in record else ()
    return name, tuple(map(float, rows))


def _text_entry(line: str, folders: Sequence[Path]) -> Entry:
    """The entry of a line of text: a name, which columns may follow, as CULane's are by those of its masks."""
    for name in dict.fromkeys((line, line.split()[0], line.partition(",")[0], line.strip("\"'"))):
        if path := _find(name, folders):
            return Entry(_normalized(name), path)
    return Entry(line)


def _normalized(name: str) -> str:
    """a/b.jpg for ./a//b.jpg, /a/b.jpg and a\\b.jpg."""
    return posixpath.normpath(name.replace("\\", "/").lstrip("/"))


def _find(name: str, folders: Sequence[Path]) -> Path | None:
    """The file that a name means: an absolute path, or the first there is below the folders."""
    if os.path.isabs(name) and os.path.isfile(name):
        return Path(name)
    relative = name.replace("\\", "/").lstrip("/")
    return next((folder / relative for folder in folders if relative and os.path.isfile(folder / relative)), None)
