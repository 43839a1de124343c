"""The samples of a whole data set, in tens of bytes each: a table of columns that makes a Sample on request.

Most fields of a sample are the same for thousands: the root, the suffixes, the label file, the lists. They are its
template, kept once. The rest is its key, the part of the name that image and label repeat, as driver_23/05151640/00000
of root/driver_23/05151640/00000.jpg; whatever the names are, nothing is lost. N samples.
"""

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from posixpath import splitext
from typing import Any, NamedTuple

import numpy as np

from formats.base import Sample

KEY = "\0"  # stands for the key in a template; no path can contain it
SORT_CHUNK = 16_384  # names in memory while sorting


class Template(NamedTuple):
    """A sample without its key, the same for many."""

    image: str
    label: str
    name: str
    lists: tuple[str, ...]
    format: str


class SampleIndex(Sequence[Sample]):
    """A list of samples in columns. It only grows; a choice or another order of samples is a copy."""

    def __init__(self, samples: Iterable[Sample] = ()):
        self.templates: list[Template] = []
        self._numbers: dict[Template, int] = {}  # the position of each in that list
        self._keys, self._ends = bytearray(), array("q")  # all keys end to end in UTF-8, and where each of them ends
        self._template, self._line, self._offset = array("i"), array("i"), array("q")
        self._more, self._more_ends = array("q"), array("i")  # offset, line, offset, line ...; where each row's end
        for sample in samples:
            self.append(sample)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index):
        """A sample, or a SampleIndex for a slice."""
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        i = range(len(self))[index]  # counts from the end where negative; raises IndexError
        image, label, name, lists, format_name = self.templates[self._template[i]]
        key = self._key(i).decode("utf-8", "surrogatepass")
        return Sample(Path(image.replace(KEY, key)), Path(label.replace(KEY, key)), name.replace(KEY, key), lists,
                      format_name, self._offset[i], self._line[i], self._more_of(i))

    def append(self, sample: Sample) -> None:
        """Add a sample at the end."""
        image, label, name = sample.image.as_posix(), sample.label.as_posix(), sample.name
        key = splitext(name)[0]
        if sample.offset < 0 and key not in label:  # CurveLanes: valid/images/x.jpg has valid/labels/x.lines.json
            key = key.rpartition("/")[2] or key
        texts = (KEY.join(text.rsplit(key, 1)) for text in (image, label, name))
        template = Template(*texts, sample.lists, sample.format)
        self._add(key.encode("utf-8", "surrogatepass"), self._number(template), sample.offset, sample.line,
                  sample.more)

    def take(self, rows: Iterable[int]) -> "SampleIndex":
        """A copy of these rows, in their order."""
        copy = SampleIndex()
        copy._extend(self, rows)
        return copy

    def merge(self, first: Sequence[int], is_part: Sequence[bool]) -> "SampleIndex":
        """A copy in which the rows of one image are one sample: the first of them, in the lists of all.

        first: (N) the first row of the same image, the row itself where it is the first, or -1 where it is left out.
        is_part: (N) whether the row's label is a part of that image's, to be joined to that of its first row.
        """
        whole = self.take(())
        templates, more = self._template[:], array("i", [-1]) * len(self)  # more: the next row of the same image
        last = array("i", range(len(self)))
        for i, row in enumerate(first):
            if 0 <= row < i:
                old = self.templates[templates[row]]
                lists = tuple(dict.fromkeys((*old.lists, *self.lists(i))))
                templates[row] = self._number(old._replace(lists=lists))
                if is_part[i]:
                    more[last[row]] = last[row] = i
        whole._extend(self, (i for i, row in enumerate(first) if row == i), templates, more)
        return whole

    def has_same_label(self, i: int, j: int) -> bool:
        """Whether two samples have the same label by its place."""
        one, other = (self.templates[self._template[k]].label.replace(KEY, "") for k in (i, j))
        return one == other and self._offset[i] == self._offset[j] and self._key(i) == self._key(j)

    def lists(self, i: int) -> tuple[str, ...]:
        """The lists that name sample i."""
        return self.templates[self._template[i]].lists

    def name(self, i: int) -> str:
        """The name of sample i."""
        return self.templates[self._template[i]].name.replace(KEY, self._key(i).decode("utf-8", "surrogatepass"))

    def names(self) -> Iterator[str]:
        """The names of all, one at a time."""
        return map(self.name, range(len(self)))

    def files(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Of each sample the paths of image and label, with slashes, and the offsets of its lines in the label."""
        for i in range(len(self)):
            template, key = self.templates[self._template[i]], self._key(i).decode("utf-8", "surrogatepass")
            offsets = (self._offset[i], *(offset for offset, _ in self._more_of(i)))
            yield template.image.replace(KEY, key), template.label.replace(KEY, key), offsets

    def formats(self) -> list[str]:
        """The names of the data sets that the samples belong to."""
        return list(dict.fromkeys(self.templates[number].format for number in dict.fromkeys(self._template)))

    def list_names(self) -> list[str]:
        """The names of all lists, sorted."""
        return sorted({name for template in self.templates for name in template.lists})

    def where_lists(self, condition: Callable[[tuple[str, ...]], bool]) -> np.ndarray:
        """(N) bool: for which samples the condition is true of their lists."""
        return np.array([condition(template.lists) for template in self.templates], bool)[np.asarray(self._template)]

    def order_by_name(self) -> np.ndarray:
        """(N) rows in the order of their names; those of the same name keep their own."""
        starts = range(0, len(self), SORT_CHUNK)
        parts = [array("q", sorted(range(len(self))[a:a + SORT_CHUNK], key=self.name)) for a in starts]
        return np.fromiter(heapq.merge(*parts, key=self.name), np.int64, len(self))

    def _more_of(self, i: int) -> tuple[tuple[int, int], ...]:
        if not self._more:
            return ()
        flat = self._more[self._more_ends[i - 1] if i else 0:self._more_ends[i]]
        return tuple(zip(flat[::2], flat[1::2], strict=True))

    def _key(self, i: int) -> bytes:
        return bytes(self._keys[self._ends[i - 1] if i else 0:self._ends[i]])

    def _number(self, template: Template) -> int:
        number = self._numbers.setdefault(template, len(self.templates))
        if number == len(self.templates):
            self.templates.append(template)
        return number

    def _add(self, key: bytes, template: int, offset: int, line: int, more: Iterable[tuple[int, int]]) -> None:
        self._keys += key
        self._ends.append(len(self._keys))
        self._template.append(template)
        self._offset.append(offset)
        self._line.append(line)
        for pair in more:
            self._more.extend(pair)
        self._more_ends.append(len(self._more))

    def _extend(self, other: "SampleIndex", rows: Iterable[int], templates: Sequence[int] | None = None,
                more: Sequence[int] = ()) -> None:
        """Add rows of another index; `templates` and `more` as in merge, where they are not those of the index."""
        templates, numbers = other._template if templates is None else templates, {}
        for i in rows:
            number = templates[i]
            if number not in numbers:
                numbers[number] = self._number(other.templates[number])
            pairs, row = list(other._more_of(i)), i
            while more and (row := more[row]) >= 0:
                pairs += ((other._offset[row], other._line[row]), *other._more_of(row))
            self._add(other._key(i), numbers[number], other._offset[i], other._line[i], pairs)


def evenly_spaced(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of a sequence, evenly spaced, the first among them."""
    count = min(count, len(items))
    return [items[len(items) * i // count] for i in range(count)]


def concatenate(parts: Iterable[SampleIndex]) -> SampleIndex:
    """A copy of several, end to end."""
    whole = SampleIndex()
    for part in parts:
        whole._extend(part, range(len(part)))
    return whole
