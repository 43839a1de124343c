"""Labelled images as the network wants them: the preprocessing, the data set, and the order of an epoch.

Shapes: B batch, L lane slots, N lanes, P = 6 control points, H x W the network's input, 2 = (x, y) in [0, 1].
"""

import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bezier import fit
from entries import Entries
from formats import DataError, Entry, Label, label
from image_size import image_size
from lanes import LaneTarget, to_slots
from raster import Raster

MAX_IMAGE_PIXELS = 100_000_000
MAX_IMAGE_BYTES = 4 * MAX_IMAGE_PIXELS  # of a file: none of that many pixels needs more
HELD_AT_MOST = 0.25  # of a GPU's free memory: for a moment they need twice as much
STOPS = (signal.SIGINT, signal.SIGTERM)


class Item(NamedTuple):
    """One preprocessed image (H, W, 3) uint8 RGB with its lanes in slots, its size and what did not fit."""

    image: np.ndarray
    points: np.ndarray  # (L, P, 2) float32
    exists: np.ndarray  # (L) bool
    size_px: tuple[int, int]  # width, height of the file's image
    left_out: int  # lanes without a slot
    too_short: int  # lanes with fewer than two points inside the image


def read_image(path: str | Path) -> np.ndarray:
    """RGB uint8 (height, width, 3), upright by its EXIF tag. Raises DataError when it cannot be decoded."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise DataError(f"{path}: {path.stat().st_size / 1e6:.0f} MB is more than this reader takes")
        data = path.read_bytes()  # cv2.imread fails on non-ASCII names on Windows
        size_px = image_size(data)
        if size_px and size_px[0] * size_px[1] > MAX_IMAGE_PIXELS:  # before OpenCV allocates them
            raise DataError(f"{path}: {size_px[0]}x{size_px[1]} pixels is more than this reader takes")
        whole = size_px and not breaks_off(data)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if whole else None
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except (OSError, cv2.error) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if image is None:
        raise DataError(f"{path}: not an image that can be decoded (JPEG, PNG, BMP or WebP; or is it truncated?)")
    return image


def breaks_off(data: bytes) -> bool:
    """Whether a file is a JPEG without its end, which OpenCV before 5 fills up with grey and says nothing of."""
    if data[:2] != b"\xff\xd8":
        return False
    at = 2
    while data[at:at + 1] == b"\xff" and data[at + 1:at + 2] != b"\xda":  # segments before the scan
        at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
    return data.rfind(b"\xff\xd9", at) < 0  # from behind, where it is


def preprocess(image: np.ndarray, raster: Raster) -> np.ndarray:
    """RGB uint8 (H, W, 3): what the network takes of an image. Training and inference both come through here."""
    return raster.of(resized(image, raster.width, raster.fine))


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The whole image at another size; a smaller one has the mean of what lies in the place of each pixel.

    OpenCV takes means of two by two several times as fast as any others, so those come first.
    """
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    shrinking = image.shape[1] >= width and image.shape[0] >= height
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)


def inside_image(points: np.ndarray) -> np.ndarray:
    """The part of a polyline (N, 2) in [0, 1], cut where it crosses the border (Liang and Barsky 1984)."""
    start, step = points[:-1], np.diff(points, axis=0)  # of each segment
    with np.errstate(divide="ignore", invalid="ignore"):
        enters, leaves = np.sort(np.stack((-start / step, (1 - start) / step)), axis=0)  # (segments, 2) each
    level = step == 0  # runs along an axis: inside all the way or not at all
    outside = (level & ((start < 0) | (start > 1))).any(1)
    enters = np.where(level, 0, enters).max(1, initial=0)
    leaves = np.where(level, 1, leaves).min(1, initial=1)
    shown = (enters < leaves) & ~outside
    ends = np.stack((start + enters[:, None] * step, start + leaves[:, None] * step), axis=1)[shown].reshape(-1, 2)
    fresh = np.ones(len(ends), bool)
    fresh[1:] = (np.abs(np.diff(ends, axis=0)) > 1e-6).any(1)  # a segment begins where the one before it ended
    return ends[fresh].clip(0, 1).astype(np.float32)


def lanes_in_slots(found: Label, size_px: tuple[int, int], slots: int) -> tuple[LaneTarget, int, int]:
    """(L, P, 2) points and (L) exists of a label, how many lanes had no slot, and how many were too short."""
    curves = []
    for lane in found.lanes:
        points = lane[lane[:, 1].argsort(kind="stable")] / np.float32(size_px)
        points = inside_image(points)
        if len(points) >= 2 and points[-1, 1] - points[0, 1] >= 1e-3:
            curves.append(fit(torch.from_numpy(points)))
    if not curves:
        return LaneTarget(torch.zeros(slots, 6, 2), torch.zeros(slots, dtype=torch.bool)), 0, len(found.lanes)
    target = to_slots(torch.stack(curves)[None], torch.ones(1, len(curves), dtype=torch.bool), slots)
    target = LaneTarget(target.points[0], target.exists[0])
    return target, len(curves) - int(target.exists.sum()), len(found.lanes) - len(curves)


def read_item(entry: Entry, raster: Raster, slots: int) -> Item:
    """Read, decode, resize and fit one entry. Raises DataError naming the file."""
    image = read_image(entry.image)
    size_px = (image.shape[1], image.shape[0])
    target, left_out, too_short = lanes_in_slots(label(entry), size_px, slots)
    return Item(preprocess(image, raster), target.points.numpy(), target.exists.numpy(), size_px,
                left_out, too_short)


def read_ahead(read: Callable[[Entry], Any], entries: Iterable[Entry]) -> Iterator[Any]:
    """read(entry) of all entries, in order, by threads that are a few ahead; decoding releases the interpreter lock."""
    threads, ahead = os.cpu_count() or 1, deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for entry in entries:
                ahead.append(pool.submit(read, entry))
                if len(ahead) > 4 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


class LaneDataset(Dataset):
    """Entries as (images (B, 3, H, W) uint8 in channels-last memory, LaneTarget), fetched a batch at a time.

    `pixels`, when given, is a cache of items opened by cache.py; without one every image is decoded each time.
    `held` are its images, points and exists on a device, once `hold` has put them there.
    """

    def __init__(self, entries: Entries, raster: Raster, slots: int, pixels=None):
        self.entries, self.raster, self.slots = entries, raster, slots
        self.pixels = pixels
        self.held: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, LaneTarget]:
        if self.held:
            device = self.held[0].device
            rows = torch.from_numpy(np.asarray(indices, np.int64)).to(device, non_blocking=device.type != "mps")
            images, points, exists = (part[rows] for part in self.held)
            return images.permute(0, 3, 1, 2), LaneTarget(points, exists)
        if self.pixels is not None:
            images, points, exists = self.pixels.batch(indices)
        else:
            items = [read_item(self.entries[i], self.raster, self.slots) for i in indices]
            images, points, exists = (np.stack([item[k] for item in items]) for k in range(3))
        target = LaneTarget(torch.from_numpy(points), torch.from_numpy(exists))
        return torch.from_numpy(images).permute(0, 3, 1, 2), target

    def hold(self, device: torch.device, wanted: bool | str) -> None:
        """Keep what the cache has on the device, so that no batch is copied there; without a cache nothing happens.

        "auto" does so on a GPU that has the room. Raises DataError for a damaged image.
        """
        if self.pixels is None or not wanted:
            return
        if wanted == "auto" and (device.type != "cuda"
                                 or self.pixels.images.nbytes > HELD_AT_MOST * torch.cuda.mem_get_info(device)[0]):
            return
        chunks = [[torch.from_numpy(part).to(device) for part in self.pixels.batch(rows)]
                  for rows in batches(range(len(self)), 1024)]
        self.held = tuple(map(torch.cat, zip(*chunks, strict=True)))


def batches(order: Sequence[int], size: int) -> list[Sequence[int]]:
    """An order cut into batches of at most `size`, as equal as can be: a last one of two would be all noise."""
    count = -(-len(order) // size)
    return [order[len(order) * i // count:len(order) * (i + 1) // count] for i in range(count)]


def loader(dataset: LaneDataset, plan: Sequence[Sequence[int]], workers: int, pin: bool) -> DataLoader:
    """The images and lanes of each batch in the plan.

    workers -1 takes a process a core to decode images; with a cache a batch is a plain copy and needs none.
    """
    if dataset.pixels is not None:
        workers = 0
    elif workers < 0:
        workers = os.cpu_count() or 1
    return _Loader(dataset, batch_sampler=plan, collate_fn=_as_is, num_workers=workers,
                   pin_memory=pin and not dataset.held, multiprocessing_context="spawn" if workers else None,
                   worker_init_fn=_leave_group)


class _Loader(DataLoader):
    """Signals to stop that go to a whole group, from a terminal or a scheduler, do not reach its processes.

    The script, which gets them too, finishes its step with their help and then ends them.
    """

    def __iter__(self) -> Iterator:
        with _stops_held() if self.num_workers else contextlib.nullcontext():
            return super().__iter__()


@contextlib.contextmanager
def _stops_held() -> Iterator[None]:
    """Signals to stop reach this thread after the block; a process started within begins with them held, too."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started by the first process, it would let them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_group(_worker: int) -> None:
    """Take a reading process out of the group of the script, and drop what the group was sent while it started."""
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return
    os.setpgrp()
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        for number in signal.sigpending():
            if signal.sigwaitinfo([number]).si_pid == os.getppid():  # the script itself has ended it
                os._exit(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def _as_is(batch: tuple[Tensor, LaneTarget]) -> tuple[Tensor, LaneTarget]:
    return batch


def epoch_order(parts: Sequence[int], weights: Sequence[float], seed: int, epoch: int) -> np.ndarray:
    """(N) int32: order of an epoch over data sets of `parts` images end to end, the same for the same seed and epoch.

    Without weights every image comes once. With weights the epoch keeps its length, and each data set fills
    its share: a small one by repeating its images evenly, a large one by a new choice each epoch.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    total = sum(parts)
    if not weights:
        return _shuffled(total, generator).numpy()
    order, start = [torch.empty(0, dtype=torch.int32)], 0
    whole = sum(weight for size, weight in zip(parts, weights, strict=True) if size)
    for size, weight in zip(parts, weights, strict=True):
        share = round(total * weight / whole) if size and whole else 0
        order += [start + _shuffled(size, generator)[:share - done] for done in range(0, share, size or 1)]
        start += size
    order = torch.cat(order)
    return order[_shuffled(len(order), generator)].numpy()


def _shuffled(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator, dtype=torch.int32)


if __name__ == "__main__":  # python dataset.py --check ROOT
    import check
    import runtime

    runtime.run(check.main)
