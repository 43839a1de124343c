"""Where results go: text, JSON lines, a TuSimple submission, overlays, annotated videos, a contact sheet, a window.

Files appear under their names when the block that writes them ends well.
Shapes: L lane slots, P = 6 control points, 2 = (x, y) in [0, 1].
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from tqdm import tqdm

from formats.base import Label, Sample
from formats.registry import read_label
from formats.sample_index import evenly_spaced
from formats.tusimple_metric import TuSimpleMetric, label_rows, submission_line
from geometry.bezier import CONTROL_POINTS, sample_curve
from inference.inputs import Frame
from inference.label_files import LabelFiles
from inference.lane_position import LanePosition, NoPosition
from inference.overlay import overlay
from inference.position_text import position_line, position_record
from inference.predictor import Detections
from inference.sources import Source
from inference.video import video_writer
from inference.window import Window, open_window
from runtime import distributed
from runtime.files import atomic_write
from visualization.draw import contact_sheet, write_image

CURVE_POINTS = 32  # sampled points of a lane in JSON
SHEET_IMAGES, SHEET_COLUMNS = 8, 4
STDOUT = "-"
CONTROLS = " ".join(f"P{i}=(%.3f, %.3f)" for i in range(CONTROL_POINTS))  # control points of a lane as text


class FrameResult(NamedTuple):
    """What is written of a frame."""

    number: int  # of the frame among all that were given, from 1
    frame: Frame
    detections: Detections | None = None  # of this image; None where it cannot be read
    ids: Sequence[int] = ()  # (L) of tracked lanes, one a slot
    position: LanePosition | NoPosition | None = None  # None where no camera is given
    lines: Sequence[str] = ()  # for each text file of the writers
    drawn: np.ndarray | None = None  # (height, width, 3) with its lanes, for the sheet and the window


LineFormatter = Callable[[FrameResult], str]


class Writers:
    """The outputs of a run: `render` in the process that has a frame, `write` in the main process.

    line_formatters: open text files, each with the text of a result for it. sheet_frames: numbers of the frames on the
    contact sheet. birds_eye: whether the road from above is drawn beside images.
    """

    def __init__(self, line_formatters: Sequence[tuple[TextIO, LineFormatter]], overlays: "Overlays | None",
                 sheet_frames: Sequence[int], window: Window | None, label_files: LabelFiles | None = None,
                 birds_eye: bool = False):
        self.line_formatters, self.overlays, self.window = line_formatters, overlays, window
        self.label_files, self.labelled = label_files, 0
        self.sheet_frames, self.tiles, self.birds_eye = frozenset(sheet_frames), [], birds_eye

    @property
    def draw(self) -> bool:
        """Whether images are drawn on or written, and to be kept for that."""
        return bool(self.overlays or self.sheet_frames or self.window or self.label_files)

    @property
    def closed(self) -> bool:
        """Whether the user has closed the window."""
        return bool(self.window and self.window.closed)

    def render(self, result: FrameResult) -> FrameResult:
        """The result with its lines and its drawn image, in place of its full-size one; writes overlay and label."""
        in_main_process = bool(self.window) or result.number in self.sheet_frames
        drawn = None
        if self.overlays or in_main_process:
            drawn = overlay(result.frame.image, result.detections, result.ids, result.position, self.birds_eye)
        if self.overlays:
            self.overlays.write(result, drawn)
        if self.label_files:
            self.label_files.write(result.frame, result.detections.points[result.detections.keep])
        lines = [format_lines(result) for _, format_lines in self.line_formatters]
        return result._replace(frame=result.frame._replace(image=None), lines=lines,
                               drawn=drawn if in_main_process else None)

    def write(self, result: FrameResult) -> None:
        """Write the lines of a rendered result; keep it for the sheet, show it in the window."""
        if result.frame.error:
            tqdm.write(f"error: {result.frame.error}", file=sys.stderr)
            return
        for (file, _), lines in zip(self.line_formatters, result.lines, strict=True):
            tqdm.write(lines, file=file)
        self.labelled += self.label_files is not None
        if result.number in self.sheet_frames:
            self.tiles.append(result.drawn)
        if self.window:
            self.window.show(result.drawn, wait=result.frame.source.kind == "image")


class Outputs(NamedTuple):
    """Which outputs a run has; None for those that it has not."""

    text: TextIO | None = None
    json: str | Path | None = None
    tusimple: Path | None = None
    overlays: Path | None = None  # a folder
    labels: Path | None = None  # a folder
    sheet: Path | None = None
    show: bool = False  # a window
    birds_eye: bool = False  # beside what is drawn


@contextlib.contextmanager
def open_writers(outputs: Outputs, total: int | None, labels: Mapping[str, Sample], end_tolerance: float
                 ) -> Iterator[Writers]:
    """Writers of the outputs; total is the number of frames, None where it is unknown.

    labels and end_tolerance: see `tusimple_line`.
    """
    with contextlib.ExitStack() as stack:
        line_formatters = [(outputs.text, text_lines)] if outputs.text else []
        if outputs.json:
            line_formatters.append((stack.enter_context(_text_file(outputs.json)), json_line))
        if outputs.tusimple:
            line_formatters.append((stack.enter_context(_text_file(outputs.tusimple)),
                                    partial(tusimple_line, labels=labels, end_tolerance=end_tolerance)))
        overlays = stack.enter_context(Overlays(outputs.overlays)) if outputs.overlays else None
        writers = Writers(line_formatters, overlays, sheet_frames(total) if outputs.sheet else (),
                          open_window() if outputs.show else None,
                          LabelFiles(outputs.labels) if outputs.labels else None, outputs.birds_eye)
        yield writers
        if writers.labelled:
            tqdm.write(f"{outputs.labels}: {writers.labelled} label files; correct them in labelme, then train with "
                       f"data.root={outputs.labels}", file=sys.stderr)
    if writers.tiles:  # the other files have their names: whatever becomes of this one, they are there
        write_image(outputs.sheet, contact_sheet(writers.tiles, SHEET_COLUMNS))


@contextlib.contextmanager
def _text_file(path: str | Path) -> Iterator[TextIO]:
    """A text file, which takes its name when the block ends well; stdout for "-"; only the main process has one."""
    if path == STDOUT:
        yield sys.stdout
        return
    with (atomic_write(Path(path if distributed.rank() == 0 else os.devnull)) as temporary,
          temporary.open("w", encoding="utf-8") as file):
        yield file


def text_lines(result: FrameResult) -> str:
    """The name of a frame, then a line per lane, numbered by slot from the left."""
    lines = [result.frame.name]
    for slot, confidence, points in result.detections.lanes():
        controls = CONTROLS % tuple(points.ravel().tolist())  # a third of the time of one format a number
        identity = f" id {result.ids[slot - 1]}" if result.ids else ""
        lines.append(f"Sample {result.number}: Lane {slot} ({confidence:.2f}){identity}: {controls}")
    if len(lines) == 1:
        lines.append(f"Sample {result.number}: no lane")
    if result.position:
        lines.append(f"Sample {result.number}: {position_line(result.position)}")
    return "\n".join(lines)


def json_line(result: FrameResult) -> str:
    """A result as one JSON object: control points in [0, 1], sampled points in pixels from the far end."""
    source, detections = result.frame.source, result.detections
    size_px = np.array(result.frame.size_px)
    lanes = []
    for slot, confidence, points in detections.lanes():
        points_px = sample_curve(detections.points[slot - 1], CURVE_POINTS).double().numpy() * size_px
        identity = {"id": result.ids[slot - 1]} if result.ids else {}
        lanes.append({"slot": slot, **identity, "confidence": round(confidence, 4),
                      "control_points": points.astype(np.float64).round(5).tolist(),
                      "points_px": points_px.round(2).tolist()})
    frame = {} if source.kind == "image" else {"frame": result.frame.index}
    position = position_record(result.position) if result.position else {}
    return json.dumps({"image": source.name} | frame | {"size": size_px.tolist(), "lanes": lanes} | position)


def tusimple_line(result: FrameResult, labels: Mapping[str, Sample], end_tolerance: float) -> str:
    """A result as a line of a TuSimple submission.

    The rows are those of the image's label, where labels has one under the source's name, or of the list that named
    it, else TuSimple's usual ones.
    """
    source, size_px = result.frame.source, result.frame.size_px
    label = read_label(labels[source.name]) if source.name in labels else Label([])
    if source.rows:
        label = label._replace(rows=np.array(source.rows))
    curves = result.detections.points[result.detections.keep]
    lanes = TuSimpleMetric().to_prediction(curves, label, size_px, end_tolerance)
    name = source.relative if source.kind == "image" else f"{source.relative}/{result.frame.index}"
    return submission_line(name, label_rows(label, size_px), lanes)


def check_names(sources: Sequence[Source]) -> None:
    """Raise ValueError where two sources would have the same name in a TuSimple submission."""
    first: dict[str, Source] = {}
    for source in sources:
        if source.kind != "missing" and first.setdefault(source.relative, source) is not source:
            other = first[source.relative]
            if other.path == source.path:
                raise ValueError(f"--tusimple: {source.name} is given twice")
            raise ValueError(f"--tusimple: {other.name} and {source.name} would both be '{source.relative}'; "
                             "give a folder or a pattern above both")


def sheet_frames(total: int | None) -> list[int]:
    """Numbers of the frames on a contact sheet: eight of all, evenly spaced; the first eight where total is unknown."""
    return evenly_spaced(range(1, (SHEET_IMAGES if total is None else total) + 1), SHEET_IMAGES)


class Overlays:
    """A folder of images with their lanes drawn, and of annotated videos."""

    def __init__(self, folder: Path):
        self.folder, self.started = folder, time.perf_counter()
        self.video, self.video_source, self.append = contextlib.ExitStack(), None, None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Overlays":
        return self

    def __exit__(self, *error: object) -> None:
        self.video.__exit__(*error)

    def write(self, result: FrameResult, drawn: np.ndarray) -> None:
        """Write a drawn image (height, width, 3) to a file of its own, or append it to the video of its source."""
        frame, path = result.frame, self.folder / output_name(result)
        if self.video_source not in (None, frame.source):
            self.video.close()
            self.video_source = None
        if frame.source.kind == "image":
            write_image(path.with_name(f"{path.name}.jpg"), drawn)
        else:
            if self.video_source is None:
                self.append = self.video.enter_context(video_writer(
                    path.with_name(f"{path.name}.mp4"), frame.source.fps, drawn.shape[1::-1], self.started))
                self.video_source = frame.source
            self.append(drawn)
        self.started = time.perf_counter()


def output_name(result: FrameResult) -> str:
    """A file name without its suffix; the number keeps files of the same name from each other."""
    stem = Path(result.frame.source.relative).stem.encode("utf-8", "replace").decode()  # OpenCV dies of other names
    return f"{result.number:05}_{stem[:80]}"
