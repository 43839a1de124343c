"""Frames of images, folders, patterns, videos and cameras: read in the background, handed over in order.

A frame is an image, or one of the images of a video or a camera ("film"). What cannot be read is a frame as well,
one that says why, so that the rest goes on.
"""

import contextlib
import glob
import itertools
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from formats.base import DataError
from formats.parsing import IMAGE_SUFFIXES
from preprocessing.images import read_image
from runtime import distributed
from runtime.prefetch import prefetch

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
DEFAULT_FPS = 25.0  # where a film does not say
FEWER_FRAMES = 0.01  # some containers only estimate how many frames they hold



class Source(NamedTuple):
    """Something to look at: an image, a video or a camera."""

    name: str  # as it is shown
    path: Path | int  # an int is the index of a camera
    kind: str = "image"  # image | video | camera | missing
    below: str = ""  # the path below the folder that was searched, with forward slashes
    frames: int | None = 1  # None: nobody knows
    fps: float = 0.0
    error: str = ""  # why it is missing


class Frame(NamedTuple):
    """One image of an input, or why there is none."""

    input: Source
    index: int = 1  # in its film
    size_px: tuple[int, int] = (0, 0)  # width, height
    pixels: np.ndarray | None = None  # (H, W, 3) as the network takes it; None where it cannot be read
    image: np.ndarray | None = None  # (height, width, 3) RGB uint8, where it was asked for
    content: tuple[int, int] = (0, 0)  # the same for the same pixels, in every process
    error: str = ""

    @property
    def name(self) -> str:
        return self.input.name if self.input.kind in ("image", "missing") else f"{self.input.name} frame {self.index}"


def list_sources(words: Iterable[str]) -> list[Source]:
    """What the words name: images, videos, folders of them, patterns such as a/*.jpg, and camera indices."""
    found = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            found += _folder(path)
        elif path.exists():
            found.append(_file(path, path.name))
        elif word.isdecimal():
            found.append(Source(f"camera {word}", int(word), "camera", f"camera{word}", None))
        elif glob.has_magic(word):  # a shell expands patterns, but not Windows', and not in quotes
            matches = [Path(match) for match in sorted(glob.glob(word, recursive=True))]
            for match in matches:
                found += _folder(match) if match.is_dir() else [_file(match, match.name)]
            if not matches:
                found.append(_missing(word, "no file fits this pattern"))
        else:
            found.append(_missing(word, "no such image or folder, video or camera"))
    return found


def _folder(folder: Path) -> list[Source]:
    known = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    inside = [path for path in sorted(folder.rglob("*"))
              if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file()]
    if not inside:
        return [_missing(str(folder), f"no image in this folder, and no video ({', '.join(known)})")]
    return [_file(path, path.relative_to(folder).as_posix()) for path in inside]


def _file(path: Path, below: str) -> Source:
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return Source(str(path), path, below=below)
    with contextlib.closing(VideoReader(path)) as film:
        return Source(str(path), path, "video", below, film.frames, film.fps)


def _missing(word: str, why: str) -> Source:
    return Source(word, Path(word), "missing", error=f"{word}: {why}")


def shard_batches(found: Iterable[Source], prepare: Callable[[np.ndarray], np.ndarray], keep_images: bool, size: int
          ) -> Iterator[tuple[int, Sequence[Frame]]]:
    """Batches of at most `size` frames for this process to look at, each with the number of its first frame, from 1.

    Several processes take them in turn, and get an empty one where nothing is left for them. A single one would look
    at the same batches: what a network says depends on its batch, if only in the last digit. What is no image is for
    the first process, since the frames of a film have to be decoded one after the other.
    """
    number, rank, world = 1, distributed.rank(), distributed.world_size()
    for are_images, group in itertools.groupby(found, key=lambda one: one.kind == "image"):
        mine = [one for i, one in enumerate(group) if rank == (i // size % world if are_images else 0)]
        with contextlib.closing(read_frames(mine, prepare, keep_images, 2 * size)) as stream:
            left = batches(stream, size)
            while count := distributed.all_reduce_sum(len(batch := next(left, []))):
                yield number + size * rank, batch
                number += count


def read_frames(found: Iterable[Source], prepare: Callable[[np.ndarray], np.ndarray], keep_images: bool, ahead: int
           ) -> Iterator[Frame]:
    """All frames of all inputs in order, read and prepared in the background, at most `ahead` in advance.

    prepare makes the pixels for the network of an image. keep_images hands the image over as well.
    """
    for kind, group in itertools.groupby(found, key=lambda one: one.kind):
        if kind == "missing":
            yield from (Frame(one, error=one.error) for one in group)
        elif kind == "image":  # threads, not processes: decoding and resizing release the interpreter lock
            jobs = (partial(_frame, one, partial(read_image, one.path), prepare, keep_images) for one in group)
            yield from prefetch(jobs, ahead=ahead, low_priority=True)
        else:
            for one in group:
                yield from _video_frames(one, prepare, keep_images, ahead)


def _video_frames(one: Source, prepare: Callable, keep_images: bool, ahead: int) -> Iterator[Frame]:
    """The frames of a film, and one that says why where it ends early or never begins."""
    with contextlib.closing(VideoReader(one.path)) as film:
        one = one._replace(fps=film.fps)
        read = partial(_frame, one, film.image, prepare, keep_images)
        depth = 0 if one.kind == "camera" else ahead  # a frame that has waited shows the road as it was
        count = 0
        with contextlib.closing(prefetch(itertools.repeat(read), 1, depth, low_priority=True)) as found:
            for count, frame in enumerate(iter(found.__next__, None), start=1):
                yield frame._replace(index=count)
        if not count:
            what = "no camera that answers" if one.kind == "camera" else "not a video that OpenCV can decode, or empty"
            yield Frame(one, error=f"{one.name}: {what}")
        elif one.kind == "camera" or count < (film.frames or 0) * (1 - FEWER_FRAMES) - 1:
            known = f" of {film.frames}" if film.frames else ""
            yield Frame(one, count, error=f"{one.name}: breaks off after frame {count}{known}")


def _frame(one: Source, read: Callable[[], np.ndarray | None], prepare: Callable, keep_images: bool) -> Frame | None:
    """What `read` gives as a frame; None where that is None, the end of a film."""
    try:
        image = read()
        if image is None:
            return None
        size_px, pixels = (image.shape[1], image.shape[0]), prepare(image)
        content = tuple(map(zlib.crc32, np.array_split(pixels, 2)))  # 64 bits, faster than a digest
        return Frame(one, 1, size_px, pixels, image if keep_images else None, content)
    except DataError as error:
        return Frame(one, error=str(error))
    except cv2.error as error:
        return Frame(one, error=f"{one.name}: cannot be read: {' '.join(str(error).split())}")


class VideoReader:
    """OpenCV's reader of a video file or a camera; one that cannot be opened has no images."""

    def __init__(self, path: Path | int):
        # OpenCV and FFmpeg say in many lines what the caller says in one.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        getattr(cv2.utils, "logging", cv2).setLogLevel(0)  # it moved in OpenCV 5
        self.capture = cv2.VideoCapture()
        name = path if isinstance(path, int) else str(path)
        with contextlib.suppress(cv2.error, UnicodeEncodeError):  # image() then has none
            if isinstance(name, str):
                name.encode()  # OpenCV dies of a name that is not text
            self.capture.open(name)
            self.capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # of a camera: no queue of old images
        count, fps = self.capture.get(cv2.CAP_PROP_FRAME_COUNT), self.capture.get(cv2.CAP_PROP_FPS)
        self.frames = int(count) if 0 < count < 1e9 else None
        self.fps = fps if math.isfinite(fps) and 1 <= fps <= 1000 else DEFAULT_FPS

    def image(self) -> np.ndarray | None:
        """The next image, RGB uint8, turned as the film says; None at the end."""
        try:
            there, image = self.capture.read()
        except cv2.error:
            return None
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if there else None

    def close(self) -> None:
        self.capture.release()


def batches(found: Iterable[Frame], size: int) -> Iterator[Sequence[Frame]]:
    """Frames in lists of `size`; that of a camera comes at once, alone or as the last of its list."""
    batch = []
    for frame in found:
        batch.append(frame)
        if len(batch) == size or frame.input.kind == "camera":
            yield batch
            batch = []
    if batch:
        yield batch
