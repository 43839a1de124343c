"""CVAT: one XML file for many images, in the form `CVAT for images 1.1`; each lane a polyline.

The form for videos names tracks and frame numbers, but no image, and is not read.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.parsers import expat

from formats.annotations import (
    AnnotationFiles,
    ImageFinder,
    is_no_lane,
    label_files,
    lists_of,
    pixel_size,
    points_of_pairs,
    shape_name,
)
from formats.base import DataError, Label, Sample
from formats.files import file_head, reading
from formats.parsing import list_of

CHUNK = 1 << 16
SNIFFED_BYTES = 4096  # of a file that are looked into to recognize it
SHAPES = ("polyline", "polygon", "box", "mask", "points", "ellipse", "cuboid", "skeleton")


class Cvat(AnnotationFiles):
    """Every .xml file below the root whose outermost element is `annotations`.

    A sample knows the byte at which its image element begins, so that nothing is read twice. Polylines are lanes,
    unless their label says crosswalk, curb or stop line. Other shapes are left out and counted.
    """

    name = "cvat"
    layout = "annotations.xml with <image> and <polyline> (CVAT for images 1.1)"
    suffix = ".xml"
    sniffed = 10

    def has_labels(self, path: Path) -> bool:
        return re.search(rb"<annotations[\s>]", file_head(path, SNIFFED_BYTES)) is not None

    def list_labelled(self, root: Path) -> Iterator[Sample | DataError]:
        for path in filter(self.has_labels, label_files(root, self.suffix)):
            finder, tracks, images = ImageFinder(root, path), 0, 0
            try:
                for name, attributes, offset, line in _elements(path):
                    tracks += name == "track"
                    if name == "image":
                        images += 1
                        yield self._sample(finder, path, attributes, offset, line)
            except DataError as error:
                yield error
            if tracks:
                yield DataError(f"{path}: {tracks} tracks of a video, which name no image, cannot be read; export the "
                                "task as 'CVAT for images 1.1'")
            elif not images:
                yield DataError(f"{path}: no image in it; export the task as 'CVAT for images 1.1'")

    def _sample(self, finder: ImageFinder, path: Path, attributes: dict[str, str], offset: int, line: int
                ) -> Sample | DataError:
        """The sample of one image element."""
        name, subset, where = attributes.get("name"), attributes.get("subset"), f"{path}:{line}"
        try:
            image = finder.find(name, where, subset)
        except DataError as error:
            return error
        own = finder.name(image)
        lists = lists_of(subset or path.name, own)
        return finder.checked(Sample(image, path, own, lists, self.name, offset, line), name, where)

    def read_label(self, sample: Sample) -> Label:
        """<image name width height><polyline label=".." points="x,y;x,y"/>...</image>."""
        where = f"{sample.label}:{sample.line}"
        lanes, left_out, size_px = [], [], None
        for name, attributes in _image_element(sample.label, sample.offset, where):
            if name == "image":
                size_px = pixel_size(*(_whole(attributes.get(key)) for key in ("width", "height")))
            elif name == "polyline" and not is_no_lane(attributes.get("label")):
                lanes.append(points_of_pairs(_pairs(attributes.get("points", ""), where), f"{where}: a polyline"))
            elif name in SHAPES:
                left_out.append(shape_name(attributes.get("label"), name) if name == "polyline" else name)
        return Label(list_of(lanes, f"{where}: the polylines"), left_out=tuple(left_out), size_px=size_px)


def _elements(path: Path) -> Iterator[tuple[str, dict[str, str], int, int]]:
    """Name, attributes, byte offset and line of the elements image and track. Raises DataError for broken XML."""
    elements: list = []
    parser = _parser(lambda name, attributes: name in ("image", "track") and elements.append(
        (name, attributes, parser.CurrentByteIndex, parser.CurrentLineNumber)))
    for chunk in _chunks(path, 0):
        try:
            _feed(parser, chunk, str(path), parser.CurrentLineNumber)
        finally:  # images before a fault are there
            yield from elements
        elements.clear()


def _image_element(path: Path, offset: int, where: str) -> list[tuple[str, dict[str, str]]]:
    """Name and attributes of the image element that begins there, and of all in it."""
    elements: list = []
    open_elements: list[str] = []
    parser = _parser(lambda name, attributes: (open_elements.append(name), elements.append((name, attributes))))

    def end(name: str) -> None:
        open_elements.pop()
        if not open_elements:
            raise _Complete

    parser.EndElementHandler = end
    with contextlib.suppress(_Complete):
        for chunk in _chunks(path, offset):
            _feed(parser, chunk, where, 0)
    return elements


class _Complete(Exception):
    """The element that is read has ended."""


def _parser(start: Callable[[str, dict[str, str]], object]) -> expat.XMLParserType:
    """A parser of UTF-8 that calls `start` for each element; it takes no document types, which can grow without end."""
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = _refuse_doctype
    return parser


def _refuse_doctype(*_: object) -> None:
    raise DataError("a document type")


def _feed(parser: expat.XMLParserType, chunk: bytes, where: str, line: int) -> None:
    try:
        parser.Parse(chunk, not chunk)
    except expat.ExpatError as error:
        raise DataError(f"{where}: broken XML: {expat.ErrorString(error.code)}"
                        + (f" in line {error.lineno}" if line else "")) from None
    except DataError as error:
        raise DataError(f"{where}: {error}, which a file of CVAT does not have") from None


def _chunks(path: Path, offset: int) -> Iterator[bytes]:
    """The bytes from the offset on, and last an empty chunk, at which expat 2.6 reports what it has put off."""
    with reading(path), path.open("rb") as file:
        file.seek(offset)
        yield from iter(lambda: file.read(CHUNK), b"")
        yield b""


def _pairs(points: str, where: str) -> list[list[float]]:
    """[[x, y], ...] of "x,y;x,y"."""
    try:
        return [[float(value) for value in pair.split(",")] for pair in points.split(";") if pair.strip()]
    except ValueError as error:
        raise DataError(f"{where}: a polyline: {str(error)[:80]}; expected points 'x,y;x,y'") from None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 7 else None
