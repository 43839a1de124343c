"""Checked parsing of label files: every error names file and line.

N points, 2 = (x, y) in pixels of the image that the label belongs to.
"""

import functools
import itertools
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from formats.base import DataError, MissingFile, Sample
from formats.files import reading

MAX_POINTS = 10_000  # in one lane; more is a broken file, not a road
MAX_LANES = 64
MAX_PIXEL = 1e5
MAX_BYTES = 16_000_000  # of a line of a list, or of a file with one image's lanes
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]")  # not what stands for bytes of other encodings
DRIVE = re.compile(r"[A-Za-z]:")
ABSOLUTE = ("home", "Users", "mnt", "media", "data", "tmp", "root", "content")  # where people keep data


def text_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Line number, byte offset and bytes of every line that is not blank. Raises DataError where unreadable."""
    offset = 0
    with reading(path), path.open("rb") as file:
        for number, text in enumerate(iter(lambda: file.readline(MAX_BYTES + 1), b""), start=1):
            if len(text) > MAX_BYTES:
                raise DataError(f"{path}:{number}: a line of more than {MAX_BYTES / 1e6:.0f} MB is no label")
            if text.strip():
                yield number, offset, text
            offset += len(text)


def line_at(path: Path, offset: int) -> bytes:
    """The line that begins at a byte offset. Raises DataError where unreadable."""
    with reading(path), path.open("rb") as file:
        file.seek(offset)
        return file.readline()


def whole_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a file with one image's lanes. Raises DataError where it is unreadable or absurdly large."""
    with reading(path), path.open("rb") as file:
        text = file.read(max_bytes + 1)
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
        try:
            record = json.loads(text)
        except UnicodeDecodeError:  # names in another encoding
            record = json.loads(text.decode("utf-8-sig", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: broken JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
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
    if not (set(map(type, values)) <= {int, float} and all(map(MAX_PIXEL.__ge__, map(abs, values)))):
        for value in values:  # which of them it is
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise DataError(f"{where} contains {str(value)[:40]!r}, which is not a number")
            if not abs(value) <= MAX_PIXEL:  # nor is not-a-number
                raise DataError(f"{where} contains {str(value)[:40]}, which is no pixel position")
    return np.asarray(values, float)


def number_table(rows: Sequence[object]) -> np.ndarray | None:
    """float64 (rows, N) of lists of N > 0 finite pixel positions each, at once; None where one is something else.

    What it is `numbers` says, a list at a time.
    """
    if set(map(type, rows)) != {list} or len(set(map(len, rows))) != 1 or not 0 < len(rows[0]) <= MAX_POINTS:
        return None
    flat = list(itertools.chain.from_iterable(rows))
    if not set(map(type, flat)) <= {int, float}:
        return None
    try:
        values = np.array(flat, float)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return values.reshape(len(rows), -1) if np.abs(values).max() <= MAX_PIXEL else None


def list_of(values: object, where: str, at_most: int = MAX_LANES) -> list:
    """A list of lanes, or of shapes that some of are lanes."""
    if not isinstance(values, list) or len(values) > at_most:
        raise DataError(f"{where} is not a list of at most {at_most} lanes")
    return values


def file_name(text: bytes) -> str:
    """The text of a line of a list that names files; bytes that are not UTF-8 are kept, as os.fsdecode does."""
    return text.decode("utf-8-sig", "surrogateescape").strip()


def image_name(text: str, where: str, root: Path) -> str:
    """The path of an image below the data folder, the same for all spellings: a/b.jpg for ./a//b.jpg and a\\b.jpg.

    A leading slash is left out, as CULane writes one; of an absolute path below the root, the root. Raises DataError
    for a name that leads out of the folder.
    """
    if CONTROL.search(text) or len(text) > 1000:
        raise DataError(f"{where}: {text[:40]!r} is no name of an image")
    written = text.replace("\\", "/")
    name = posixpath.normpath(written.lstrip("/"))
    if written.startswith("/") or DRIVE.match(name):
        absolute = name if DRIVE.match(name) else f"/{name}"
        own = next((folder for folder in _absolute(root) if os.path.normcase(absolute).startswith(folder)), "")
        name = absolute[len(own):].lstrip("/")
    if name in ("", ".") or name.split("/")[0] == ".." or DRIVE.match(name):
        raise DataError(f"{where}: the image name '{text}' leaves the data folder; use a path below it")
    return name


@functools.lru_cache(maxsize=64)
def _absolute(root: Path) -> tuple[str, ...]:
    """The absolute paths of a folder, as it is called and without links, as the start of paths in it."""
    return tuple(os.path.normcase(path(root)).rstrip("/\\") + os.sep for path in (os.path.abspath, os.path.realpath))


def image_path(folders: Iterable[Path], name: str) -> tuple[Path, bool]:
    """The file of that name in the first of the folders that has it, and True; else the first path, and False."""
    first = None
    for folder in folders:
        path = folder / name
        if os.path.isfile(path):  # pathlib's own raises for names that are too long
            return path, True
        first = first or path
    return first, False


def missing_image(where: str, sample: Sample, text: str) -> MissingFile:
    """The error for an image that is not there; `text` is its name as it is written in the file."""
    first = sample.name.split("/")[0]
    if text.startswith(("/", "\\")) and (first in ABSOLUTE or os.path.isdir(f"/{first}")):
        return MissingFile(f"{where}: the absolute path '{text}' leaves the data folder; use a path below it", sample)
    return MissingFile(f"{where}: the image {sample.image} is missing", sample)


def existing(sample: Sample, image_exists: bool, where: str, text: str) -> Sample:
    """The sample itself, named `text` where a list names it. Raises MissingFile where an image or a label is not there.
    """
    has_label = os.path.isfile(sample.label)
    if not image_exists:
        error = missing_image(where, sample, text)
        error.is_image = has_label
        raise error
    if not has_label:
        raise MissingFile(f"{where}: the label {sample.label} is missing", sample, is_image=False)
    return sample


def lanes_of_text(path: Path) -> list[np.ndarray]:
    """Lanes (N, 2) of a .lines.txt file: a lane a line, 'x y x y ...', in the file's order.

    A blank line is no lane, although CULane's evaluator counts it as one without points.
    """
    lines = whole_file(path).splitlines()
    if len(lines) > MAX_LANES:
        raise DataError(f"{path}: {len(lines)} lines; expected at most {MAX_LANES} lanes, one a line")
    lanes = []
    for line, text in enumerate(lines, start=1):
        where = f"{path}:{line}"
        words = decoded(text, where).split()
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise DataError(f"{where}: {str(error)[:80]}; expected numbers 'x y x y ...'") from None
        if len(values) % 2:
            raise DataError(f"{where}: {len(values)} numbers; expected pairs 'x y x y ...' (is the file cut short?)")
        if values:
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
