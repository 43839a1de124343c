"""The samples of a whole data set, in tens of bytes each: a table of columns that makes an Sample when it is asked.

Most of what an sample says is the same for thousands: the root, the suffixes, the label file, the lists. That is its
kind, kept once. The rest is its key, the part of the name that image and label repeat, as driver_23/05151640/00000
of root/driver_23/05151640/00000.jpg; whatever the names are, nothing is lost. N samples.
"""

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from posixpath import splitext
from typing import NamedTuple

import numpy as np

from formats.base import Sample

KEY = "\0"  # stands for the key in a kind; no path can hold it
SORTED_AT_ONCE = 16_384  # names in memory while sorting


class Kind(NamedTuple):
    """What is left of samples without their keys, the same for many."""

    image: str
    label: str
    name: str
    lists: tuple[str, ...]


class SampleIndex(Sequence[Sample]):
    """A list of samples in columns. It only grows; a choice or another order of samples is a copy."""

    def __init__(self, samples: Iterable[Sample] = ()):
        self.kinds: list[Kind] = []
        self._numbers: dict[Kind, int] = {}  # of each kind in that list
        self._keys, self._ends = bytearray(), array("q")  # all keys end to end in UTF-8, and where each of them ends
        self._kind, self._line, self._offset = array("i"), array("i"), array("q")
        for sample in samples:
            self.append(sample)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place):
        """An sample, or SampleIndex for a slice."""
        if isinstance(place, slice):
            return self.take(range(len(self))[place])
        i = range(len(self))[place]  # counts from the end where negative; raises IndexError
        image, label, name, lists = self.kinds[self._kind[i]]
        key = self._key(i).decode("utf-8", "surrogatepass")
        return Sample(Path(image.replace(KEY, key)), Path(label.replace(KEY, key)), name.replace(KEY, key), lists,
                     self._offset[i], self._line[i])

    def append(self, sample: Sample) -> None:
        """Add an sample at the end."""
        image, label, name = sample.image.as_posix(), sample.label.as_posix(), sample.name
        key = splitext(name)[0]
        if sample.offset < 0 and key not in label:  # CurveLanes: valid/images/x.jpg has valid/labels/x.lines.json
            key = key.rpartition("/")[2] or key
        kind = Kind(*(KEY.join(text.rsplit(key, 1)) for text in (image, label, name)), sample.lists)
        self._add(key.encode("utf-8", "surrogatepass"), kind, sample.offset, sample.line)

    def take(self, rows: Iterable[int]) -> "SampleIndex":
        """A copy of these rows, in their order."""
        copy = SampleIndex()
        copy._extend(self, rows, self._kind)
        return copy

    def name(self, i: int) -> str:
        """The name of sample i."""
        return self.kinds[self._kind[i]].name.replace(KEY, self._key(i).decode("utf-8", "surrogatepass"))

    def names(self) -> Iterator[str]:
        """The names of all, one at a time."""
        return map(self.name, range(len(self)))

    def listed(self, holds: Callable[[tuple[str, ...]], bool]) -> np.ndarray:
        """(N) bool: for which samples `holds` is true of their lists."""
        return np.array([holds(kind.lists) for kind in self.kinds], bool)[np.asarray(self._kind)]

    def by_name(self) -> np.ndarray:
        """(N) rows in the order of their names; those of the same name keep their own."""
        starts = range(0, len(self), SORTED_AT_ONCE)
        parts = [array("q", sorted(range(len(self))[a:a + SORTED_AT_ONCE], key=self.name)) for a in starts]
        return np.fromiter(heapq.merge(*parts, key=self.name), np.int64, len(self))

    def once_each(self) -> "SampleIndex":
        """A copy in which a name comes once: the first sample of that name, in the lists of all of them."""
        first, kind = np.zeros(len(self), bool), self._kind[:]
        for _, rows in groupby(self.by_name(), self.name):
            row, *others = rows
            first[row] = True
            if others:
                lists = [name for i in (row, *others) for name in self.kinds[self._kind[i]].lists]
                kind[row] = self._number(self.kinds[kind[row]]._replace(lists=tuple(lists)))
        copy = SampleIndex()
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

    def _extend(self, other: "SampleIndex", rows: Iterable[int], kind: Sequence[int]) -> None:
        for i in rows:
            self._add(other._key(i), other.kinds[kind[i]], other._offset[i], other._line[i])


def concatenate(parts: Iterable[SampleIndex]) -> SampleIndex:
    """A copy of several, end to end."""
    whole = SampleIndex()
    for part in parts:
        whole._extend(part, range(len(part)), part._kind)
    return whole
