"""Width and height of an image file from its header alone, so that nothing is allocated for an absurd one."""

import re

JPEG_MARKER = re.compile(rb"\xff[^\xff\x00]", re.DOTALL)
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # headers of a frame, which hold its size
JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
JPEG_END = {0xD9, 0xDA}
MAX_SEGMENTS = 4096  # before the frame of a JPEG; EXIF, color profile and previews take some dozens


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels of a JPEG, PNG, BMP or WebP file; None for anything else."""
    if len(data) < 30:
        return None
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith(b"BM"):
        if data[14] == 12:  # the header of OS/2
            return _little(data, 18, 2), _little(data, 20, 2)
        return _little(data, 18, 4), abs(int.from_bytes(data[22:26], "little", signed=True))  # < 0: upside down
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_size(data)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(MAX_SEGMENTS):
        marker = JPEG_MARKER.search(data, at)
        if not marker or marker[0][1] in JPEG_END:
            return None
        at = marker.end()
        if marker[0][1] in JPEG_FRAMES:
            return int.from_bytes(data[at + 5:at + 7], "big"), int.from_bytes(data[at + 3:at + 5], "big")
        if marker[0][1] not in JPEG_ALONE:
            at += int.from_bytes(data[at:at + 2], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8 ":
        return _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
    if kind == b"VP8L":
        bits = _little(data, 21, 4)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return (1 + _little(data, 24, 3), 1 + _little(data, 27, 3)) if kind == b"VP8X" else None


def _little(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at:at + count], "little")
