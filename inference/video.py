"""Videos, cameras and streams by OpenCV: frames read from them, and annotated videos written. Images are RGB uint8."""

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

from preprocessing.images import quiet_decoders
from runtime.files import atomic_write

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".m2v",
                  ".vob", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".ogm", ".ts", ".m2t", ".mts",
                  ".m2ts", ".tod", ".mxf", ".dv", ".mjpeg", ".mjpg", ".h264", ".hevc")
TIMEOUT_S = 10  # for a stream to answer, and for its next image
DEFAULT_FPS = 25.0  # where a video has no rate of its own
MAX_FPS = 1000
MAX_FRAMES = 1e9  # a stream reports nonsense
CODEC = "mp4v"  # the one for MP4 that every build of OpenCV has


class VideoReader:
    """OpenCV's reader of a video file, a camera or a stream; one that cannot be opened has no images."""

    def __init__(self, path: Path | int | str):
        """An int is the index of a camera, a str the address of a stream or the name of a camera's device."""
        quiet_decoders()
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # it says in many lines what the caller says in one
        self.capture = cv2.VideoCapture()
        # FFmpeg would take 12:30.mp4 for an address of the kind 12.
        name = str(path.absolute()) if isinstance(path, Path) else path
        with contextlib.suppress(cv2.error, UnicodeEncodeError):  # read() then has none
            if isinstance(name, str):
                name.encode()  # OpenCV dies of a name that is not text
            if isinstance(path, str) and "://" in path:
                self.capture.open(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1000 * TIMEOUT_S,
                                                         cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000 * TIMEOUT_S])
            else:
                self.capture.open(name)
            self.capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # of a camera: no queue of old images
        count, fps = self.capture.get(cv2.CAP_PROP_FRAME_COUNT), self.capture.get(cv2.CAP_PROP_FPS)
        self.frames = int(count) if 0 < count < MAX_FRAMES else None
        self.fps = fps if math.isfinite(fps) and 0 < fps <= MAX_FPS else DEFAULT_FPS

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

    An odd column or row is written twice. Its size and its rate since `started` (time.perf_counter) are reported on
    stderr. Raises OSError where the file cannot be written.
    """
    frames, (width, height) = 0, size_px

    def append(image: np.ndarray) -> None:
        nonlocal frames
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        frames += 1

    even_px = width + width % 2, height + height % 2  # the codec would cut off an odd column or row
    with atomic_write(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*CODEC), fps, even_px)
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
