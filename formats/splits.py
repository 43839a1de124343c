"""Which images train and which validate."""

import re
from pathlib import PurePosixPath

import numpy as np

from formats.base import DataError
from formats.registry import own_data_set
from formats.sample_index import SampleIndex


def split(samples: SampleIndex, rule: str, training: bool = True) -> tuple[SampleIndex, SampleIndex]:
    """Samples for training and for validation.

    rule: `auto` (the data set's own validation list, or else the last tenth; with test lists alone,
    where nothing is trained, all of them), `all` (everything validates), `none` (everything trains),
    a fraction such as 0.1 (the last tenth; neighbours in a drive stay together), `clip>=N` (images whose folder
    has a number of at least N validate), or the name of the list that validates. Raises DataError for another
    rule.
    """
    clip = re.fullmatch(r"clip\s*>=\s*(\d{1,18})", rule)
    if rule == "all":
        return SampleIndex(), samples
    if rule == "none":
        return samples, SampleIndex()
    if rule == "auto":
        return _auto_split(samples, training)
    if clip:
        return _partition(samples, np.fromiter((_clip_number(name) >= int(clip[1]) for name in samples.names()), bool))
    if re.fullmatch(r"0?\.\d*[1-9]\d*", rule):
        return _last_part(samples, float(rule))
    lists = samples.list_names()
    named = {name for name in lists if rule in (name, PurePosixPath(name).name)}
    if named:
        return _partition(samples, samples.where_lists(lambda lists: not named.isdisjoint(lists)))
    raise DataError(f"data.split is {rule[:100]!r}; expected auto, all, none, a fraction such as 0.1, clip>=N, "
                    f"or one of the lists {', '.join(lists)}")


def _auto_split(samples: SampleIndex, training: bool) -> tuple[SampleIndex, SampleIndex]:
    data_set = own_data_set(samples)
    is_test = samples.where_lists(lambda lists: all(map(data_set.is_test_list, lists)))
    if not training and is_test.all():
        return SampleIndex(), samples
    if not is_test.all():  # test images are trained on only where the data set has no others
        samples = samples.take(np.flatnonzero(~is_test))
    for name in data_set.validation_lists:
        validates = samples.where_lists(lambda lists, name=name: name in lists)
        if 0 < validates.sum() < len(samples):
            return _partition(samples, validates)
    return _last_part(samples, 0.1)


def _partition(samples: SampleIndex, validates: np.ndarray) -> tuple[SampleIndex, SampleIndex]:
    return samples.take(np.flatnonzero(~validates)), samples.take(np.flatnonzero(validates))


def _last_part(samples: SampleIndex, fraction: float) -> tuple[SampleIndex, SampleIndex]:
    cut = len(samples) - max(1, round(len(samples) * fraction))
    rows = samples.order_by_name()
    return samples.take(rows[:cut]), samples.take(rows[cut:])


def _clip_number(name: str) -> int:
    folder = PurePosixPath(name).parent.name
    if not re.fullmatch(r"\d{1,18}", folder):
        raise DataError(f"{name}: its folder '{folder}' is not a number, so data.split=clip>=N cannot be used")
    return int(folder)
