"""Which images train and which validate."""

import re
from pathlib import PurePosixPath

import numpy as np

from formats.base import DataError
from formats.sample_index import SampleIndex

VALIDATION_LISTS = ("label_data_val.json", "val.txt", "val_gt.txt", "valid.txt", "valid", "label_data_0531.json")
TEST_LISTS = ("test_label.json", "test.txt", "test")


def split(found: SampleIndex, rule: str, training: bool = True) -> tuple[SampleIndex, SampleIndex]:
    """SampleIndex for training and for validation.

    rule: `auto` (the data set's own validation list, or else the last tenth; where there are test lists alone and
    nothing is trained, all of them), `all` (everything validates), `none` (everything trains),
    a fraction such as 0.1 (the last tenth; neighbours in a drive stay together), `clip>=N` (images whose folder
    has a number of at least N validate), or the name of the list that validates. Raises DataError for another
    rule.
    """
    clip = re.fullmatch(r"clip\s*>=\s*(\d{1,18})", rule)
    if rule == "all":
        return SampleIndex(), found
    if rule == "none":
        return found, SampleIndex()
    if rule == "auto":
        return _auto_split(found, training)
    if clip:
        return _partition(found, np.fromiter((_clip_number(name) >= int(clip[1]) for name in found.names()), bool))
    if re.fullmatch(r"0?\.\d*[1-9]\d*", rule):
        return _last_part(found, float(rule))
    lists = sorted({name for kind in found.kinds for name in kind.lists})
    named = {name for name in lists if rule in (name, PurePosixPath(name).name)}
    if named:
        return _partition(found, found.listed(lambda lists: not named.isdisjoint(lists)))
    raise DataError(f"data.split is {rule[:100]!r}; expected auto, all, none, a fraction such as 0.1, clip>=N, "
                    f"or one of the lists {', '.join(lists)}")


def _auto_split(found: SampleIndex, training: bool) -> tuple[SampleIndex, SampleIndex]:
    is_test = found.listed(lambda lists: all(name in TEST_LISTS or name.startswith("test_split/") for name in lists))
    if not training and is_test.all():
        return SampleIndex(), found
    if not is_test.all():  # tests are trained on only where there is nothing else
        found = found.take(np.flatnonzero(~is_test))
    for name in VALIDATION_LISTS:
        validates = found.listed(lambda lists, name=name: name in lists)
        if 0 < validates.sum() < len(found):
            return _partition(found, validates)
    return _last_part(found, 0.1)


def _partition(found: SampleIndex, validates: np.ndarray) -> tuple[SampleIndex, SampleIndex]:
    return found.take(np.flatnonzero(~validates)), found.take(np.flatnonzero(validates))


def _last_part(found: SampleIndex, fraction: float) -> tuple[SampleIndex, SampleIndex]:
    cut = len(found) - max(1, round(len(found) * fraction))
    rows = found.by_name()
    return found.take(rows[:cut]), found.take(rows[cut:])


def _clip_number(name: str) -> int:
    folder = PurePosixPath(name).parent.name
    if not re.fullmatch(r"\d{1,18}", folder):
        raise DataError(f"{name}: its folder '{folder}' is not a number, so data.split=clip>=N cannot be used")
    return int(folder)
