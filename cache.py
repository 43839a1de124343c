"""A memory-mapped cache of preprocessed images and fitted lanes, so that no epoch decodes an image twice.

The name of a cache is a hash of everything that its content depends on: the settings, and path, size and time of
change of every image and label. Changed files or settings therefore never meet stale pixels. It is built under a
temporary name and renamed when complete; deleting the folder is always safe.
"""

import errno
import hashlib
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from dataset import read_ahead, read_item
from formats import DataError, Entry

VERSION = 2  # raise when preprocessing, fitting or slots change what is stored
FILES = ("images", "points", "exists", "sizes")


class PixelCache(NamedTuple):
    """Arrays over the images of a data set, and the counts that its labels gave."""

    images: np.ndarray  # (N, H, W, 3) uint8, mapped
    points: np.ndarray  # (N, L, P, 2) float32
    exists: np.ndarray  # (N, L) bool
    sizes_px: np.ndarray  # (N, 2) int32 width, height of the original
    left_out: int
    too_short: int

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.images, self.points, self.exists


def open_cache(entries: Sequence[Entry], width: int, height: int, slots: int, folder: str | Path,
               limit_gb: float) -> PixelCache | None:
    """The cache of these entries, built first where it is missing; None when it would exceed limit_gb.

    Raises DataError for an image or label that cannot be read, or a folder that cannot be written.
    """
    needed = len(entries) * width * height * 3
    if needed > limit_gb * 1e9:
        print(f"cache: {needed / 1e9:.1f} GB is over data.cache_gb={limit_gb:g}; images are decoded each epoch",
              file=sys.stderr)
        return None
    folder = Path(folder)
    path = folder / _key(entries, width, height, slots)
    if not (path / "meta.json").is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(prefix="building-", dir=folder))
        except OSError as error:
            raise DataError(f"{folder}: the cache cannot be written ({error.strerror}); set data.cache_dir to a "
                            "folder that can, or data.cache=false") from None
        shutil.rmtree(path, ignore_errors=True)  # without meta.json it is what somebody left of a cache
        try:
            _build(entries, width, height, slots, building)
            building.rename(path)
        except OSError as error:
            if not (path / "meta.json").is_file():  # else another process was faster, and its cache is as good
                raise DataError(f"{building}: the cache cannot be written ({error.strerror})") from None
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return _open(path)


def _key(entries: Sequence[Entry], width: int, height: int, slots: int) -> str:
    digest = hashlib.sha256(f"{VERSION} {width} {height} {slots} {cv2.__version__}".encode())
    label_stamp = lru_cache(_stamp)  # a label file of many images is looked at once
    for entry in entries:
        stamps = f"{_stamp(entry.image)} {label_stamp(entry.label)}"
        digest.update(f"{entry.image.resolve()} {stamps} {entry.offset}\n".encode())
    return f"{width}x{height}-{len(entries)}-{digest.hexdigest()[:16]}"


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return f"{status.st_size} {status.st_mtime_ns}"


def _build(entries: Sequence[Entry], width: int, height: int, slots: int, folder: Path) -> None:
    count = len(entries)
    kinds = ((np.uint8, (height, width, 3)), (np.float32, (slots, 6, 2)), (bool, (slots,)), (np.int32, (2,)))
    needed = count * sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in kinds)
    free = shutil.disk_usage(folder).free
    if needed > free:  # a mapped file that outgrows its disk ends in a bus error, not in an exception
        raise OSError(errno.ENOSPC, f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free")
    arrays = [np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (count, *shape))
              for name, (dtype, shape) in zip(FILES, kinds, strict=True)]
    left_out = too_short = 0
    # Threads, not processes: decoding and resizing release the interpreter lock, and nothing has to be started.
    items = read_ahead(lambda entry: read_item(entry, width, height, slots), entries)
    for i, item in enumerate(tqdm(items, "Reading images", count, unit="img", file=sys.stderr)):
        for array, value in zip(arrays, item[:len(FILES)], strict=True):
            array[i] = value
        left_out, too_short = left_out + item.left_out, too_short + item.too_short
    for array in arrays:
        array.flush()
    (folder / "meta.json").write_text(json.dumps({"left_out": left_out, "too_short": too_short}))


def _open(path: Path) -> PixelCache:
    try:
        meta = json.loads((path / "meta.json").read_text())
        arrays = [np.load(path / f"{name}.npy", mmap_mode="r") for name in FILES]
        return PixelCache(*arrays, meta["left_out"], meta["too_short"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: the cache is damaged ({error}); delete this folder and start again") from None
