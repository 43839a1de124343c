"""Which images train and which validate."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from formats.base import DataError
from formats.list_names import TEST, VALIDATION, purpose
from formats.listing import Listing
from formats.registry import own_data_set
from formats.sample_index import SampleIndex, concatenate

FEW = 5  # images: the scores of fewer say little, and neither an epoch nor a threshold can be chosen by them


class Split(NamedTuple):
    """Samples for training and for validation, and what is to be said of those left out."""

    train: SampleIndex
    val: SampleIndex
    notes: list[str]


def split(samples: SampleIndex, rule: str, training: bool = True) -> tuple[SampleIndex, SampleIndex]:
    """Samples for training and for validation.

    rule: `auto` (the data set's own validation list, or else the last tenth, of few images up to a quarter; with
    validation lists or test lists alone, where nothing is trained, all of them), `all` (everything validates), `none`
    (everything trains), a fraction such as 0.1 (the last tenth; neighbours in a drive stay together), `clip>=N`
    (images whose folder has a number of at least N validate), or the name of the list that validates. Images of test
    lists train only with `none`, or where there are no others. Raises DataError for another rule.
    """
    return tuple(map(samples.take, _rows(samples, rule, training)))


def split_listing(listing: Listing, rule: str, training: bool = True, skip: bool = False) -> Split:
    """The samples of a folder for training and for validation, none of whose files is missing.

    Raises DataError for the first missing file of an image that is used, unless they are skipped, and as `split`.
    """
    parts, needed = used_samples(listing, rule, training)
    errors = list(listing.errors)
    if needed:
        error = listing.missing_errors[min(needed[0].lists, key=lambda name: purpose(name) == TEST)]
        if not skip:
            raise error
        errors.append(error)
    notes = listing.notes() + split_notes(listing, parts, needed, rule)
    if errors:
        notes.append(f"{len(listing.errors) + len(needed)} images or labels cannot be used and are left out, such as "
                     f"{errors[0]}")
    return Split(*parts, notes)


def used_samples(listing: Listing, rule: str, training: bool = True
                 ) -> tuple[tuple[SampleIndex, SampleIndex], SampleIndex]:
    """The samples of a folder for training and for validation, and those of both of which a file is missing."""
    whole = concatenate((listing.samples, listing.missing)) if listing.missing else listing.samples
    rows = _rows(whole, rule, training)
    present, used = len(listing.samples), np.concatenate(rows if training else rows[1:])
    train, val = (listing.samples.take(part[part < present]) for part in rows)
    return (train, val), listing.missing.take(used[used >= present] - present)


def _name_a_test(lists: tuple[str, ...]) -> bool:
    return TEST in map(purpose, lists)


def split_notes(listing: Listing, parts: tuple[SampleIndex, SampleIndex], needed: SampleIndex, rule: str) -> list[str]:
    """Lines on test images that train, on images that neither train nor validate, and on missing ones of those.

    needed: the missing ones that are used.
    """
    notes = []
    if leaked := int(parts[0].where_lists(_name_a_test).sum()):
        why = "data.split=none trains all" if rule == "none" else "there are no others"
        notes.append(f"{leaked} images to train on are in test lists: {why}")
    if count := len(listing.samples) - sum(map(len, parts)):
        notes.append(f"{count} images of test lists neither train nor validate")
    if num_missing := len(listing.missing) - len(needed):
        used = set(needed.names())
        others = dict.fromkeys(name for sample in listing.missing if sample.name not in used for name in sample.lists)
        lists = ", ".join(list(others)[:4])
        notes.append(f"{num_missing} images that are not needed here are missing, of the lists {lists}")
    return notes


def sizes_by_name(parts: Sequence[tuple[str, SampleIndex]]) -> dict[str, int]:
    """How many samples each (root, samples) has, by the name of its data set.

    Roots of one data set also have the names of their folders, and a number where those are the same.
    """
    formats = [own_data_set(samples).name for _, samples in parts]
    sizes: dict[str, int] = {}
    for (root, samples), name in zip(parts, formats, strict=True):
        full = name if formats.count(name) == 1 else f"{name}/{Path(root).resolve().name}"
        names = itertools.chain([full], (f"{full} {number}" for number in itertools.count(2)))
        sizes[next(name for name in names if name not in sizes)] = len(samples)
    return sizes


def _rows(samples: SampleIndex, rule: str, training: bool) -> tuple[np.ndarray, np.ndarray]:
    """The rows that train and those that validate."""
    everything, nothing = np.arange(len(samples)), np.arange(0)
    clip = re.fullmatch(r"clip\s*>=\s*(\d{1,30})", rule)
    if rule == "all":
        return nothing, everything
    if rule == "none":
        return everything, nothing
    only_test = samples.where_lists(lambda lists: all(purpose(name) == TEST for name in lists))
    if rule == "auto" and not training and only_test.all():
        return nothing, everything
    may_train = ~samples.where_lists(_name_a_test)
    if not may_train.any():  # test images are trained on only where the data set has no others
        may_train = ~only_test | only_test.all()
    if rule == "auto":
        return _auto_rows(samples, may_train, training)
    if clip:
        validates = np.fromiter((_clip_number(name, trains) >= int(clip[1])
                                 for name, trains in zip(samples.names(), may_train, strict=True)), bool, len(samples))
        return _partition(validates, may_train)
    if re.fullmatch(r"0?\.\d*[1-9]\d*", rule):
        return _last_part(samples, may_train, float(rule))
    lists = samples.list_names()
    named = {name for name in lists if rule in (name, PurePosixPath(name).name)}
    if named:
        return _partition(samples.where_lists(lambda lists: not named.isdisjoint(lists)), may_train)
    raise DataError(f"data.split is {rule[:100]!r}; expected auto, all, none, a fraction such as 0.1, clip>=N, "
                    f"or one of the lists {', '.join(lists)}")


def _auto_rows(samples: SampleIndex, may_train: np.ndarray, training: bool) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the lists whose names say that they validate; else of those that do by custom; else a tenth, and of
    few images more: up to FEW, as long as that is a quarter at most.
    """
    validates = samples.where_lists(lambda lists: VALIDATION in map(purpose, lists))
    for name in own_data_set(samples).validation_lists:
        if not validates.any():
            validates = samples.where_lists(lambda lists, name=name: name in lists)
    trains = may_train & ~validates
    if validates.any() and (trains.any() or not training):
        return _partition(validates, may_train)
    count = int(may_train.sum())
    return _last_part(samples, may_train, max(0.1, min(FEW, count // 4) / max(count, 1)))


def _partition(validates: np.ndarray, may_train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(may_train & ~validates), np.flatnonzero(validates)


def _last_part(samples: SampleIndex, may_train: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    rows = samples.order_by_name()
    rows = rows[may_train[rows]]
    cut = len(rows) - max(1, round(len(rows) * fraction))
    return rows[:cut], rows[cut:]


def _clip_number(name: str, is_needed: bool) -> int:
    """The number of an image's folder; -1 where it has none and needs none, as test images do not."""
    folder = PurePosixPath(name).parent.name
    if re.fullmatch(r"\d{1,30}", folder):  # a time in nanoseconds has 19
        return int(folder)
    if is_needed:
        raise DataError(f"{name}: its folder '{folder}' is not a number, so data.split=clip>=N cannot be used")
    return -1
