"""Where results go besides the terminal: JSON lines, a TuSimple submission, pictures, annotated videos, a window.

Files appear under their names when the block that writes them ends well.
Shapes: L lane slots, P = 6 control points, 2 = (x, y) in [0, 1].
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TextIO

import cv2
import numpy as np
from torch import Tensor
from tqdm import tqdm

from formats import submission
from formats.base import Label, Sample
from formats.registry import read_label
from geometry.bezier import sample_curve
from inference.inputs import Frame, Source
from visualization.draw import write_image

CURVE_POINTS = 32  # sampled points of a lane in JSON
SHEET_IMAGES = 8
WINDOW = "lanes"
WINDOW_PX = 1280  # the longest side of what a window shows
QUIT_KEYS, NO_KEY = (ord("q"), 27), 0xFF  # 27: escape
OPEN_A_WINDOW = f"import cv2; cv2.namedWindow('{WINDOW}'); cv2.destroyAllWindows()"


class FrameResult(NamedTuple):
    """What the network says of one frame."""

    number: int  # of the frame among all that were given, from 1
    frame: Frame
    points: Tensor  # (L, P, 2)
    confidence: Tensor  # (L)
    keep: Tensor  # (L)


@contextlib.contextmanager
def atomic_text_file(path: Path) -> Iterator[TextIO]:
    """A text file that takes its name when the block ends well; what is no file (a pipe) is written as it is."""
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            yield file
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def json_line(result: FrameResult) -> str:
    """A result as one JSON object: control points in [0, 1], sampled points in pixels from the far end."""
    one, size_px = result.frame.input, np.array(result.frame.size_px)
    lanes = []
    for slot in result.keep.nonzero()[:, 0].tolist():
        points_px = sample_curve(result.points[slot], CURVE_POINTS).double().numpy() * size_px
        lanes.append({"slot": slot + 1, "confidence": round(float(result.confidence[slot]), 4),
                      "control_points": result.points[slot].double().numpy().round(5).tolist(),
                      "points_px": points_px.round(2).tolist()})
    frame = {} if one.kind == "image" else {"frame": result.frame.index}
    return json.dumps({"image": one.name} | frame | {"size": size_px.tolist(), "lanes": lanes})


def tusimple_line(result: FrameResult, labels: Mapping[str, Sample], tolerance: float) -> str:
    """A result as a line of a TuSimple submission.

    The rows are those of the image's label, where labels has one under the input's name, else TuSimple's usual ones.
    """
    one, size_px = result.frame.input, result.frame.size_px
    rows = submission.rows_of(read_label(labels[one.name]) if one.name in labels else Label([]), size_px)
    lanes = submission.tusimple_lanes(result.points[result.keep], rows, size_px, tolerance)
    name = one.below if one.kind == "image" else f"{one.below}/{result.frame.index}"
    return submission.tusimple_line(name, rows, lanes)


def sheet_frames(frames: int | None) -> set[int]:
    """Which of so many frames a contact sheet shows: eight, evenly spread; the first eight where nobody knows."""
    return {i + 1 if frames is None else frames * i // SHEET_IMAGES + 1 for i in range(SHEET_IMAGES)}


class Overlays:
    """A folder of images with their lanes drawn, and of annotated videos."""

    def __init__(self, folder: Path):
        self.folder, self.film, self.before = folder, None, time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Overlays":
        return self

    def add(self, result: FrameResult, drawn: np.ndarray) -> None:
        frame = result.frame
        if self.film and self.film.input != frame.input:
            self._finish_film()
        if frame.input.kind == "image":
            write_image(self.folder / f"{output_name(result)}.jpg", drawn)
        else:
            if self.film is None:
                self.film = VideoWriter(self.folder / f"{output_name(result)}.mp4", frame, self.before)
            self.film.write(drawn)
        self.before = time.perf_counter()

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.film and kind:
            self.film.discard()
        elif self.film:
            self._finish_film()

    def _finish_film(self) -> None:
        film, self.film = self.film, None
        film.finish()


def output_name(result: FrameResult) -> str:
    """A file name without its suffix; the number keeps files of the same name from each other."""
    stem = Path(result.frame.input.below).stem.encode("utf-8", "replace").decode()  # OpenCV dies of other names
    return f"{result.number:05}_{stem[:80]}"


class VideoWriter:
    """An annotated video; one that is given up leaves nothing. Raises OSError where it cannot be written."""

    def __init__(self, path: Path, frame: Frame, since: float):
        self.input: Source = frame.input
        self.path, self.unfinished = path, path.with_name(f"{path.stem}.part{path.suffix}")
        self.since, self.frames = since, 0
        fourcc = cv2.VideoWriter_fourcc(*"mp4v")  # the one codec for MP4 that every build of OpenCV has
        self.writer = cv2.VideoWriter(str(self.unfinished), fourcc, frame.input.fps, frame.size_px)
        if not self.writer.isOpened():
            raise OSError(f"{path}: OpenCV cannot write this video")

    def write(self, image: np.ndarray) -> None:
        self.writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def finish(self) -> None:
        """Give the file its name, and say on stderr what it is and how fast that went."""
        self.writer.release()
        check = cv2.VideoCapture(str(self.unfinished))
        written = int(check.get(cv2.CAP_PROP_FRAME_COUNT))
        check.release()
        if written != self.frames:  # the writer itself says nothing of a full disk
            self.unfinished.unlink(missing_ok=True)
            raise OSError(f"{self.path}: only {max(0, written)} of {self.frames} frames could be written (disk full?)")
        os.replace(self.unfinished, self.path)
        seconds = time.perf_counter() - self.since
        tqdm.write(f"{self.path}: {self.frames} frames in {seconds:.1f} s, {self.frames / seconds:.1f} frames/s",
                   file=sys.stderr)  # above the progress bar

    def discard(self) -> None:
        self.writer.release()
        self.unfinished.unlink(missing_ok=True)


def can_show() -> bool:
    """Whether a window can be opened: tried in a process of its own, since without a display Qt ends the process."""
    try:
        return not subprocess.run([sys.executable, "-c", OPEN_A_WINDOW], capture_output=True, timeout=30).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


class Window:
    """Shows images; `closed` once the user has closed it or pressed q."""

    def __init__(self):
        self.opened = self.closed = False

    def show(self, image: np.ndarray, wait: bool) -> None:
        """Show an image (height, width, 3), with wait until a key is pressed."""
        if not self.opened:
            cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)  # one that can be resized
        scale = min(1.0, WINDOW_PX / max(image.shape[:2]))
        size = [max(1, round(length * scale)) for length in image.shape[1::-1]]
        if not self.opened:
            cv2.resizeWindow(WINDOW, *size)
            self.opened = True
        # A window that shrinks a picture itself makes its lines jagged.
        cv2.imshow(WINDOW, cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR))
        key = NO_KEY
        while not self.closed:
            key = cv2.waitKey(20 if wait else 1) & 0xFF
            self.closed = key in QUIT_KEYS or cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) < 1
            if key != NO_KEY or not wait:
                break
