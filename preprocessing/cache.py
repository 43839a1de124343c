"""A memory-mapped cache of preprocessed images and fitted lanes, so that no epoch decodes an image twice.

The name of a cache is a hash of everything that its content depends on: the settings, and path, size and time of
change of every image and label. Changed files or settings therefore have a cache of their own. It is built under a
temporary name and renamed when complete; deleting the folder is always safe. Every image and every other file has a
CRC-32: a cache that is damaged when it is opened is built again, damage that is noticed later ends the run.

Shapes: N images, H x W the network's input, L lane slots, P control points, 2 = (x, y).
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from formats.base import DataError, Sample
from formats.sample_index import SampleIndex
from geometry.curve_fit import CONTROL_POINTS
from geometry.input_grid import InputGrid
from preprocessing.chunks import FIT_CHUNK, READ_CHUNK, Chunk, ChunkTask, write_chunk
from preprocessing.lane_fit import PROBLEMS, LaneProblems, fit_lanes
from preprocessing.samples import ReadImages, read_images
from preprocessing.targets import curves_in_slots
from runtime import distributed
from runtime.device import torch_threads
from runtime.files import lock
from runtime.prefetch import prefetch
from runtime.processes import in_processes, processes_for

VERSION = 6  # raise when preprocessing, fitting or slots change what is stored
FILES = ("images", "points", "exists", "sizes", "sums", "counts")
ADVICE = "set data.cache_dir to a folder that can, or data.cache=false"


class PixelCache(NamedTuple):
    """Arrays over the images of a data set, and how many lanes of its labels are not in it as they were drawn."""

    images: np.ndarray  # (N, H, W, 3) uint8, mapped
    points: np.ndarray  # (N, L, P, 2) float32
    exists: np.ndarray  # (N, L) bool
    sizes_px: np.ndarray  # (N, 2) int32 width, height of the original
    sums: np.ndarray  # (N) uint32, CRC-32 of each image
    problems: LaneProblems  # of the lanes of all labels
    folder: Path
    checked: np.ndarray  # (N) bool: images whose sum this process has compared

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images, points and exists at indices, in memory. Raises DataError for a damaged image.

        An image is checked when it is first read; doing so in every epoch would keep a GPU waiting.
        """
        images = self.images[indices]
        for index, image in zip(indices, images, strict=True):
            if not self.checked[index]:
                if zlib.crc32(image) != self.sums[index]:
                    raise DataError(f"{self.folder}: image {index} of the cache is damaged; delete this folder, "
                                    "check the disk, and start again")
                self.checked[index] = True
        return images, self.points[indices], self.exists[indices]


def open_cache(samples: Sequence[Sample], grid: InputGrid, slots: int, folder: str | Path, limit_gb: float
               ) -> PixelCache | None:
    """The cache of these samples, built first where it is missing or damaged; None when it would exceed limit_gb.

    Of several processes one builds it and the others wait. Raises DataError for an image or label that cannot be
    read, or a folder that cannot be written.
    """
    shape = (len(samples), grid.height, grid.width, 3)
    if math.prod(shape) > limit_gb * 1e9:
        if distributed.rank() == 0:
            print(f"cache: {math.prod(shape) / 1e9:.1f} GB is over data.cache_gb={limit_gb:g}; images are decoded each "
                  "epoch", file=sys.stderr)
        return None
    folder = Path(folder)
    path = folder / _key(samples, grid, slots)
    pixels = _open(path, shape)
    if pixels is not None:
        return pixels
    try:
        with lock(folder, "filling the cache"):
            pixels = _open(path, shape)
            if pixels is None:
                if path.exists():
                    print(f"{path}: the cache is damaged; it is built again", file=sys.stderr)
                    shutil.rmtree(path)
                _build(samples, grid, slots, path)
                pixels = _open(path, shape)
    except OSError as error:
        raise DataError(f"{folder}: the cache cannot be written ({error.strerror or error}); {ADVICE}") from None
    if pixels is None:
        raise DataError(f"{path}: the cache cannot be read back as it was written; check the disk, or {ADVICE}")
    return pixels


def _key(samples: Sequence[Sample], grid: InputGrid, slots: int) -> str:
    """The name of the cache: its size and number of images, and a hash of what its content depends on."""
    return f"{grid.width}x{grid.height}-{len(samples)}-{files_digest(samples, (tuple(grid), grid.fine_rows, slots))}"


def files_digest(samples: Sequence[Sample], settings: tuple = ()) -> str:
    """A hash of settings, and of path, size and time of change of every image and label."""
    digest = hashlib.sha256(" ".join(map(str, (VERSION, *settings, cv2.__version__))).encode())
    label_stamp, real_folder = lru_cache(_stamp), lru_cache(os.path.realpath)  # the same for many images
    samples = samples if isinstance(samples, SampleIndex) else SampleIndex(samples)
    for image, label, offsets in samples.files():
        stamps = f"{_stamp(image)} {label_stamp(label)}"
        folder, name = os.path.split(image)
        path = os.path.realpath(image) if os.path.islink(image) else os.path.join(real_folder(folder), name)
        digest.update(f"{path} {stamps} {' '.join(map(str, offsets))}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _stamp(path: str) -> str:
    """Size and time of change of a file. Raises DataError where it cannot be read."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{Path(path)}: cannot be read ({error.strerror})") from None
    return f"{status.st_size} {status.st_mtime_ns}"


def _build(samples: Sequence[Sample], grid: InputGrid, slots: int, path: Path) -> None:
    """Write the cache to path, all of it or nothing. Raises DataError as read_images, OSError without room for it."""
    needed, free = len(samples) * grid.height * grid.width * 3, shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free{_deletable(path.parent)}")
    building = path.with_name(f"building-{path.name}")
    if building.exists():  # of a process that was killed
        shutil.rmtree(building)
    building.mkdir()
    try:
        arrays = _write_images(building / "images.npy", samples, grid, slots)
        for name, array in zip(FILES[1:], arrays, strict=True):
            np.save(building / f"{name}.npy", array)
        (building / "meta.json").write_text(json.dumps({name: _file_sum(building, name) for name in FILES[1:]}))
        building.rename(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _deletable(folder: Path) -> str:
    """Words on the caches in a folder, which is without the one that is asked for; none where there is none."""
    size = sum(file.stat().st_size for meta in folder.glob("*/meta.json") for file in meta.parent.iterdir())
    return f"; {size / 1e6:.0f} MB there are caches of other images or sizes, which may be deleted" if size else ""


def _write_images(path: Path, samples: Sequence[Sample], grid: InputGrid, slots: int) -> tuple[np.ndarray, ...]:
    """The arrays of all other FILES, in order; the pixels of the samples are written to images.npy at path."""
    count = len(samples)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, grid.height, grid.width, 3)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
    points, exists = np.empty((count, slots, CONTROL_POINTS, 2), np.float32), np.empty((count, slots), bool)
    sizes_px, sums = np.empty((count, 2), np.int32), np.empty(count, np.uint32)
    counts, stop = np.zeros(len(PROBLEMS), np.int64), 0
    # One thread of PyTorch: for a chunk's few curves more would wait for cores that read images.
    with (tqdm(total=count, desc="Reading images", unit="img", file=sys.stderr) as bar,
          contextlib.closing(_chunks(path, offset, samples, grid, bar)) as chunks, torch_threads(1)):
        for chunk in chunks:
            rows = slice(stop, stop := stop + len(chunk.sums))
            sizes_px[rows], sums[rows] = chunk.sizes_px, chunk.sums
            target, problems = curves_in_slots(chunk.lanes, slots)
            points[rows], exists[rows] = (part.numpy() for part in target)
            counts += np.sum(problems, axis=0)
    return points, exists, sizes_px, sums, counts


def _chunks(path: Path, offset: int, samples: Sequence[Sample], grid: InputGrid, bar: tqdm) -> Iterator[Chunk]:
    """The chunks of the samples, in order, whose pixels are written to the file at path from offset on.

    Processes read them where there are many cores and images: of more than a few threads each waits for the others'
    Python. The same images are fitted together either way, so that the result is the same to the bit.
    """
    starts, image_bytes = range(0, len(samples), FIT_CHUNK), math.prod((grid.height, grid.width, 3))
    tasks = (ChunkTask(samples[start:start + FIT_CHUNK], path, offset + start * image_bytes) for start in starts)
    count = min(processes_for(len(samples)), len(starts))
    if not count:
        yield from _chunks_by_threads(path, samples, grid, bar)
        return
    with contextlib.closing(in_processes(partial(write_chunk, grid=grid), tasks, count, "reads images")) as chunks:
        for chunk in chunks:
            bar.update(len(chunk.sums))
            yield chunk


def _chunks_by_threads(path: Path, samples: Sequence[Sample], grid: InputGrid, bar: tqdm) -> Iterator[Chunk]:
    """As `_chunks`, by threads that read READ_CHUNK images at a time; this one writes and fits."""
    starts, sizes_px, sums, labels = range(0, len(samples), READ_CHUNK), [], [], []
    with path.open("ab") as file:
        for read, checksums in prefetch(partial(_read, samples, start, grid) for start in starts):
            file.write(read.images)
            sizes_px, sums, labels = sizes_px + read.sizes_px, sums + checksums, labels + read.labels
            bar.update(len(checksums))
            if len(labels) >= FIT_CHUNK:
                yield Chunk(np.array(sizes_px, np.int32), sums, fit_lanes(labels, sizes_px))
                sizes_px, sums, labels = [], [], []
        if labels:
            yield Chunk(np.array(sizes_px, np.int32), sums, fit_lanes(labels, sizes_px))


def _read(samples: Sequence[Sample], start: int, grid: InputGrid) -> tuple[ReadImages, list[int]]:
    """READ_CHUNK samples from start on, and the CRC-32 of each image: the work of a thread."""
    read = read_images([samples[i] for i in range(start, min(start + READ_CHUNK, len(samples)))], grid)
    return read, [zlib.crc32(image) for image in read.images]


def _file_sum(folder: Path, name: str) -> int:
    """The CRC-32 of one of FILES. Raises OSError or ValueError where it is missing or empty."""
    return zlib.crc32(np.memmap(folder / f"{name}.npy", np.uint8, "r"))


def _open(path: Path, shape: tuple[int, int, int, int]) -> PixelCache | None:
    """The cache at path, or None where it is missing or damaged; the pixels are checked when they are read."""
    try:
        meta = json.loads((path / "meta.json").read_text())
        if any(meta[name] != _file_sum(path, name) for name in FILES[1:]):
            return None
        *arrays, counts = (np.load(path / f"{name}.npy", mmap_mode="r") for name in FILES)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    images = arrays[0]
    if (images.shape, images.dtype, images.flags.c_contiguous) != (shape, np.uint8, True):
        return None
    return PixelCache(*arrays, LaneProblems(*map(int, counts)), path, np.zeros(len(images), bool))
