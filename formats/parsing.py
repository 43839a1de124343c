"""Checked parsing of label files: every error names file and line.

N points, 2 = (x, y) in pixels of the image that the label belongs to.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from formats.base import DataError
from formats.files import IMAGE_SUFFIXES  # noqa: F401 - others import it from here

MAX_POINTS = 10_000  # in one lane; more is a broken file, not a road
MAX_LANES = 64
MAX_PIXEL = 1e5
MAX_BYTES = 16_000_000  # of a line of a list, or of a file with one image's lanes
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def text_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Line number, byte offset and bytes of every line that is not blank. Raises DataError where unreadable."""
    offset = 0
    try:
        with path.open("rb") as file:
            for number, text in enumerate(iter(lambda: file.readline(MAX_BYTES + 1), b""), start=1):
                if len(text) > MAX_BYTES:
                    raise DataError(f"{path}:{number}: a line of more than {MAX_BYTES / 1e6:.0f} MB is no label")
                if text.strip():
                    yield number, offset, text
                offset += len(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def line_at(path: Path, offset: int) -> bytes:
    """The line that begins at a byte offset. Raises DataError where unreadable."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.readline()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def whole_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a file with one image's lanes. Raises DataError where it is unreadable or absurdly large."""
    try:
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if len(text) > max_bytes:
        raise DataError(f"{path}: more than {max_bytes / 1e6:.0f} MB are no label of one image")
    return text


def decoded(text: bytes, where: str) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{where}: not text in UTF-8") from None


def json_object(text: bytes, where: str, keys: str) -> dict:
    """A JSON object; `keys` names in the error what is expected in it."""
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: broken JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, brackets in brackets
        raise DataError(f"{where}: broken JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object with {keys}")
    return record


def json_file(path: Path, keys: str) -> dict:
    return json_object(whole_file(path), str(path), keys)


def numbers(values: object, where: str) -> np.ndarray:
    """(N) float64 of a list of finite pixel positions."""
    if not isinstance(values, list) or len(values) > MAX_POINTS:
        raise DataError(f"{where} is not a list of at most {MAX_POINTS} numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DataError(f"{where} contains {str(value)[:40]!r}, which is not a number")
        if not abs(value) <= MAX_PIXEL:  # nor is not-a-number
            raise DataError(f"{where} contains {str(value)[:40]}, which is no pixel position")
    return np.asarray(values, float)


def list_of(values: object, where: str, at_most: int = MAX_LANES) -> list:
    """A list of lanes, or of shapes that some of are lanes."""
    if not isinstance(values, list) or len(values) > at_most:
        raise DataError(f"{where} is not a list of at most {at_most} lanes")
    return values


def image_path(folders: Iterable[Path], name: str, where: str, must_exist: bool = True) -> Path:
    """The file that a label names, below one of the folders. Names that leave them are refused."""
    relative = PurePosixPath(name.replace("\\", "/"))
    parts = relative.parts
    if CONTROL.search(name) or len(name) > 1000:
        raise DataError(f"{where}: {name[:40]!r} is no name of an image")
    if not parts or relative.is_absolute() or ".." in parts or ":" in parts[0]:
        raise DataError(f"{where}: the image name '{name}' leaves the data folder; use a path below it")
    folders = list(folders)
    for folder in folders:
        if os.path.isfile(folder / relative):  # pathlib's own raises for names that are too long
            return folder / relative
    if must_exist:
        raise DataError(f"{where}: the image {folders[0] / relative} is missing")
    return folders[0] / relative


def lanes_of_text(path: Path) -> list[np.ndarray]:
    """Lanes (N, 2) of a .lines.txt file: a lane a line, 'x y x y ...', in the file's order.

    A blank line is a lane without points, because the CULane evaluator counts it as one.
    """
    lines = whole_file(path).splitlines()
    if len(lines) > MAX_LANES:
        raise DataError(f"{path}: {len(lines)} lines; expected at most {MAX_LANES} lanes, one a line")
    lanes = []
    for line, text in enumerate(lines, start=1):
        where = f"{path}:{line}"
        try:
            values = [float(v) for v in decoded(text, where).split()]
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{where}: {str(error)[:80]}; expected numbers 'x y x y ...'") from None
        if len(values) % 2:
            raise DataError(f"{where}: {len(values)} numbers; expected pairs 'x y x y ...' (is the file cut short?)")
        lanes.append(numbers(values, where).reshape(-1, 2).astype(np.float32))
    return lanes


def text_of_lanes(lanes: Iterable[np.ndarray]) -> str:
    """The content of a .lines.txt file: a lane (N, 2) a line, 'x y x y ...', to a thousandth of a pixel."""
    return "".join(" ".join(f"{value:.3f}" for value in lane.ravel()) + "\n" for lane in lanes)


def append_line(path: Path, line: str) -> None:
    """Add a line to a list, which is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(f"{line}\n".encode("utf-8", "surrogateescape"))
