"""Videos and cameras by OpenCV: frames read from them, and annotated videos written. Images are RGB uint8."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from runtime.files import atomic_write

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
DEFAULT_FPS = 25.0  # where a video has no rate of its own
MAX_FPS = 1000
MAX_FRAMES = 1e9  # a stream reports nonsense
CODEC = "mp4v"  # the one for MP4 that every build of OpenCV has


class VideoReader:
    """OpenCV's reader of a video file or a camera; one that cannot be opened has no images."""

    def __init__(self, path: Path | int):
        # OpenCV and FFmpeg report in many lines what the caller reports in one.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        getattr(cv2.utils, "logging", cv2).setLogLevel(0)  # it moved in OpenCV 5
        self.capture = cv2.VideoCapture()
        name = path if isinstance(path, int) else str(path)
        with contextlib.suppress(cv2.error, UnicodeEncodeError):  # read() then has none
            if isinstance(name, str):
                name.encode()  # OpenCV dies of a name that is not text
            self.capture.open(name)
            self.capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # of a camera: no queue of old images
        count, fps = self.capture.get(cv2.CAP_PROP_FRAME_COUNT), self.capture.get(cv2.CAP_PROP_FPS)
        self.frames = int(count) if 0 < count < MAX_FRAMES else None
        self.fps = fps if math.isfinite(fps) and 1 <= fps <= MAX_FPS else DEFAULT_FPS

    def read(self) -> np.ndarray | None:
        """The next image (height, width, 3), upright by the video's own rotation; None at the end."""
        try:
            ok, image = self.capture.read()
        except cv2.error:
            return None
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if ok else None

    def close(self) -> None:
        self.capture.release()


@contextlib.contextmanager
def video_writer(path: Path, fps: float, size_px: tuple[int, int], started: float
                 ) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that appends images of size_px (width, height) to an MP4 file, which is written whole or not at all.

    Its size and its rate since `started` (time.perf_counter) are reported on stderr. Raises OSError where the file
    cannot be written.
    """
    frames = 0

    def append(image: np.ndarray) -> None:
        nonlocal frames
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        frames += 1

    with atomic_write(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*CODEC), fps, size_px)
        if not writer.isOpened():
            raise OSError(f"{path}: OpenCV cannot write this video")
        try:
            yield append
        finally:
            writer.release()
        written = _frame_count(temporary)
        if written != frames:  # the writer itself reports nothing of a full disk
            raise OSError(f"{path}: only {max(0, written)} of {frames} frames could be written (disk full?)")
    seconds = time.perf_counter() - started
    tqdm.write(f"{path}: {frames} frames in {seconds:.1f} s, {frames / seconds:.1f} frames/s",
               file=sys.stderr)  # above the progress bar


def _frame_count(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count
