"""JPEG files that are damaged in their middle: OpenCV fills what is missing with gray and returns an image.

libjpeg counts the damage, but no reader hands that on. It shows in how much of the pixel data a decoder needs: that of
a good file ends with the last row, neither before nor after. Pillow's decoder tells where it stops.
"""

import io
import re
from collections.abc import Iterable, Iterator

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SOS, DHT, DRI, PROGRESSIVE = 0xDA, 0xC4, 0xDD, 0xC2  # markers of segments
FRAMES = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}  # markers of headers that have the size
PROGRESSIVE_FRAME = bytes((0xFF, PROGRESSIVE))
HOLE = bytes(32)  # with the usual Huffman tables more than a block of all waves, which no picture has
GRAY = [128] * 3  # what libjpeg fills with
SPARE = 16  # bytes that a decoder may read ahead of what it needs
ONES = b"\xff\x00" * 10  # bits that are no Huffman code


def pixel_data(data: bytes) -> tuple[int, int]:
    """Where the pixel data of a JPEG file start and stop; stop is -1 without an end marker."""
    start = headers_end(data)
    return start, data.find(EOI, start)  # more may follow: some phones append a second picture


def headers_end(data: bytes) -> int:
    """Where the pixel data of a JPEG file start."""
    return max((stop for _, _, stop in _segments(data)), default=2)


def last_end(data: bytes, start: int) -> int:
    """Where the last end marker behind `start` is, -1 without one: found at once, unlike where the pixel data stop."""
    return data.rfind(EOI, start)


def size_px(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels by the header of a frame; None without one. Pillow's reader takes five times as long.

    Bits of a sample come first, in one byte, then height and width in two each.
    """
    start = next((start for marker, start, _ in _segments(data) if marker in FRAMES), len(data))
    height, width = data[start + 1:start + 3], data[start + 3:start + 5]
    return (int.from_bytes(width, "big"), int.from_bytes(height, "big")) if len(width) == 2 else None


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and stop of the content of each segment before the pixel data.

    Bytes FF may come before a marker in any number.
    """
    stop, end = 2, len(data) - 3
    while stop < end and data[stop] == 0xFF:
        marker = data[stop + 1]
        if marker == 0xFF:
            stop += 1
            continue
        start, stop = stop + 4, stop + 2 + (data[stop + 2] << 8 | data[stop + 3])
        yield marker, start, stop
        if marker == SOS:
            return


def looks_damaged(data: bytes, start: int, stop: int, image: np.ndarray) -> bool:
    """Whether a cheap look at the pixel data and the image (height, width, 3) asks for `damage`.

    stop is where they stop or the last end of the file, behind which more pictures may be.
    Where data end early the rest is gray, down to a corner: the last one, before the image was turned upright.
    """
    return (image[-1, -1].tolist() == GRAY or image[0, 0].tolist() == GRAY or image[0, -1].tolist() == GRAY
            or image[-1, 0].tolist() == GRAY or data.find(HOLE, start, stop) >= 0
            or data.find(PROGRESSIVE_FRAME, 2, start) >= 0)


def damage(data: bytes, start: int, stop: int) -> str:
    """What is wrong with the pixel data, in a few words; empty where nothing shows. Costs as much as decoding.

    Of a progressive file only missing scans show.
    """
    contents = [(marker, data[start:stop]) for marker, start, stop in _segments(data)]
    if any(marker == PROGRESSIVE for marker, _ in contents):
        return "its last scans are missing" if _scans_are_missing(data[:stop]) else ""
    used = start + len(data[start:stop].rstrip(b"\0\xff"))  # a camera may have padded the rest
    if data.find(HOLE, start, used) >= 0 and not _zeros_are_flat([c for marker, c in contents if marker == DHT]):
        return "its pixel data have a hole of zeros"
    if any(marker == DRI and any(c) for marker, c in contents) and _restarts_are_missing(data[start:stop]):
        return "a part of its pixel data is missing"
    if not _fills_all_rows(data[:stop] + ONES):
        return "its pixel data end early"
    if _fills_all_rows(data[:max(start, used - SPARE)]):
        return "its pixel data do not fit its size"
    return ""


def _scans_are_missing(data: bytes) -> bool:
    """Whether some waves of a progressive file lack their lowest bit, which comes in its last scans.

    The header of a scan has its components, two bytes each, the first and the last wave, and in four bits the lowest
    bit of them.
    """
    lowest_bit = {}  # of each component and wave
    for match in re.finditer(rb"\xff\xda..([\1-\4])", data, re.DOTALL):
        start, count = match.end(), match[1][0]
        first, last, bits = data[start + 2 * count:start + 2 * count + 3].ljust(3, b"\0")
        for component in data[start:start + 2 * count:2]:
            lowest_bit |= {(component, wave): bits & 15 for wave in range(first, min(last, 63) + 1)}
    components = {component for component, _ in lowest_bit}
    return any(lowest_bit.get((component, wave), 1) for component in components for wave in range(64))


def _zeros_are_flat(segments: Iterable[bytes]) -> bool:
    """Whether zero bits may stand for blocks of one color: in all Huffman tables of waves they end a block."""
    for tables in segments:
        while len(tables) > 17:
            if tables[0] >> 4 and tables[17] != 0:
                return False
            tables = tables[17 + sum(tables[1:17]):]
    return True


def _restarts_are_missing(pixels: bytes) -> bool:
    """Whether the restart markers do not count from 0 to 7, again and again."""
    numbers = [marker[1] & 7 for marker in re.findall(rb"\xff[\xd0-\xd7]", pixels)]
    return numbers != [i % 8 for i in range(len(numbers))]


def _fills_all_rows(data: bytes) -> bool:
    """Whether a decoder comes to the last row without another byte. It decodes to an eighth, which is faster."""
    image = JpegImageFile(io.BytesIO(data))
    image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
    try:
        image.load()
    except OSError:
        return False
    return True
