"""A chunk of the cache, by a process of its own: pixels into their place in the file, lanes fitted.

Without PyTorch, so that the process starts fast. Shapes: B images, H x W the network's input.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from formats.base import Sample
from geometry.input_grid import InputGrid
from preprocessing.lane_fit import FittedLanes, fit_lanes
from preprocessing.samples import read_images, why_unreadable
from runtime.processes import check_wanted

READ_CHUNK = 8  # images that are read at a time: few, since Ctrl-C waits for them
FIT_CHUNK = 128  # images whose lanes are fitted together: of a few at a time Python costs more than arithmetic


class ChunkTask(NamedTuple):
    """Samples to read, and where their pixels begin in a file that is there."""

    samples: Sequence[Sample]
    file: Path
    offset: int


class Chunk(NamedTuple):
    """What the cache keeps of B images besides their pixels."""

    sizes_px: np.ndarray  # (B, 2) int32 width, height of the original
    sums: list[int]  # CRC-32 of each image
    lanes: FittedLanes


def write_chunk(task: ChunkTask, grid: InputGrid) -> Chunk:
    """The chunk of a task, whose pixels are written. Raises DataError as read_images, OSError where the disk is full.

    They are written, not mapped: a mapped file that outgrows its disk ends in a bus error, not in an exception.
    """
    sizes_px, sums, labels = [], [], []
    with task.file.open("r+b") as file:
        file.seek(task.offset)
        for start in range(0, len(task.samples), READ_CHUNK):
            check_wanted()
            read = read_images(task.samples[start:start + READ_CHUNK], grid)
            file.write(read.images)
            sizes_px += read.sizes_px
            sums += map(zlib.crc32, read.images)
            labels += read.labels
    return Chunk(np.array(sizes_px, np.int32), sums, fit_lanes(labels, sizes_px))


def reasons(samples: Sequence[Sample]) -> list[str]:
    """What is wrong with each sample, as `why_unreadable` says it."""
    result = []
    for sample in samples:
        check_wanted()
        result.append(why_unreadable(sample))
    return result
