"""The entries of a whole data set, in tens of bytes each: a table of columns that makes an Entry when it is asked.

Most of what an entry says is the same for thousands: the root, the suffixes, the label file, the lists. That is its
kind, kept once. The rest is its key, the part of the name that image and label repeat, as driver_23/05151640/00000
of root/driver_23/05151640/00000.jpg; whatever the names are, nothing is lost. N entries.
"""

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from posixpath import splitext
from typing import NamedTuple

import numpy as np

from formats.base import Entry

KEY = "\0"  # stands for the key in a kind; no path can hold it
SORTED_AT_ONCE = 16_384  # names in memory while sorting


class Kind(NamedTuple):
    """What is left of entries without their keys, the same for many."""

    image: str
    label: str
    name: str
    lists: tuple[str, ...]


class Entries(Sequence[Entry]):
    """A list of entries in columns. It only grows; a choice or another order of entries is a copy."""

    def __init__(self, entries: Iterable[Entry] = ()):
        self.kinds: list[Kind] = []
        self._numbers: dict[Kind, int] = {}  # of each kind in that list
        self._keys, self._ends = bytearray(), array("q")  # all keys end to end in UTF-8, and where each of them ends
        self._kind, self._line, self._offset = array("i"), array("i"), array("q")
        for entry in entries:
            self.append(entry)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place):
        """An entry, or Entries for a slice."""
        if isinstance(place, slice):
            return self.take(range(len(self))[place])
        i = range(len(self))[place]  # counts from the end where negative; raises IndexError
        image, label, name, lists = self.kinds[self._kind[i]]
        key = self._key(i).decode("utf-8", "surrogatepass")
        return Entry(Path(image.replace(KEY, key)), Path(label.replace(KEY, key)), name.replace(KEY, key), lists,
                     self._offset[i], self._line[i])

    def append(self, entry: Entry) -> None:
        """Add an entry at the end."""
        image, label, name = entry.image.as_posix(), entry.label.as_posix(), entry.name
        key = splitext(name)[0]
        if entry.offset < 0 and key not in label:  # CurveLanes: valid/images/x.jpg has valid/labels/x.lines.json
            key = key.rpartition("/")[2] or key
        kind = Kind(*(KEY.join(text.rsplit(key, 1)) for text in (image, label, name)), entry.lists)
        self._add(key.encode("utf-8", "surrogatepass"), kind, entry.offset, entry.line)

    def take(self, rows: Iterable[int]) -> "Entries":
        """A copy of these rows, in their order."""
        copy = Entries()
        copy._extend(self, rows, self._kind)
        return copy

    def name(self, i: int) -> str:
        """The name of entry i."""
        return self.kinds[self._kind[i]].name.replace(KEY, self._key(i).decode("utf-8", "surrogatepass"))

    def names(self) -> Iterator[str]:
        """The names of all, one at a time."""
        return map(self.name, range(len(self)))

    def listed(self, holds: Callable[[tuple[str, ...]], bool]) -> np.ndarray:
        """(N) bool: for which entries `holds` is true of their lists."""
        return np.array([holds(kind.lists) for kind in self.kinds], bool)[np.asarray(self._kind)]

    def by_name(self) -> np.ndarray:
        """(N) rows in the order of their names; those of the same name keep their own."""
        starts = range(0, len(self), SORTED_AT_ONCE)
        parts = [array("q", sorted(range(len(self))[a:a + SORTED_AT_ONCE], key=self.name)) for a in starts]
        return np.fromiter(heapq.merge(*parts, key=self.name), np.int64, len(self))

    def once_each(self) -> "Entries":
        """A copy in which a name comes once: the first entry of that name, in the lists of all of them."""
        first, kind = np.zeros(len(self), bool), self._kind[:]
        for _, rows in groupby(self.by_name(), self.name):
            row, *others = rows
            first[row] = True
            if others:
                lists = [name for i in (row, *others) for name in self.kinds[self._kind[i]].lists]
                kind[row] = self._number(self.kinds[kind[row]]._replace(lists=tuple(lists)))
        copy = Entries()
        copy._extend(self, np.flatnonzero(first), kind)
        return copy

    def _key(self, i: int) -> bytes:
        return bytes(self._keys[self._ends[i - 1] if i else 0:self._ends[i]])

    def _number(self, kind: Kind) -> int:
        number = self._numbers.setdefault(kind, len(self.kinds))
        if number == len(self.kinds):
            self.kinds.append(kind)
        return number

    def _add(self, key: bytes, kind: Kind, offset: int, line: int) -> None:
        self._keys += key
        self._ends.append(len(self._keys))
        self._kind.append(self._number(kind))
        self._offset.append(offset)
        self._line.append(line)

    def _extend(self, other: "Entries", rows: Iterable[int], kind: Sequence[int]) -> None:
        for i in rows:
            self._add(other._key(i), other.kinds[kind[i]], other._offset[i], other._line[i])


def joined(parts: Iterable[Entries]) -> Entries:
    """A copy of several, end to end."""
    whole = Entries()
    for part in parts:
        whole._extend(part, range(len(part)), part._kind)
    return whole
