"""Reading images and resizing them to what the network takes. Images are RGB uint8."""

import functools
import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from formats.base import DataError
from geometry.input_grid import InputGrid

MAX_IMAGE_PIXELS = 100_000_000
MAX_IMAGE_BYTES = 4 * MAX_IMAGE_PIXELS  # of a file: none of that many pixels needs more
HEADER_READERS = {b"\xff\xd8": JpegImageFile, b"\x89PNG": PngImageFile, b"BM": BmpImageFile}
WEBP = b"RIFF"


def read_image(path: str | Path) -> np.ndarray:
    """RGB uint8 (height, width, 3), upright by its EXIF tag. Raises DataError when it cannot be decoded."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise DataError(f"{path}: {path.stat().st_size / 1e6:.0f} MB is more than this reader takes")
        data = path.read_bytes()  # cv2.imread fails on non-ASCII names on Windows
        size_px = image_size(data)
        if size_px and size_px[0] * size_px[1] > MAX_IMAGE_PIXELS:  # before OpenCV allocates them
            raise DataError(f"{path}: {size_px[0]}x{size_px[1]} pixels is more than this reader takes")
        readable = data.startswith((*HEADER_READERS, WEBP)) and not is_truncated(data)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if readable else None
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except (OSError, cv2.error) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if image is None:
        raise DataError(f"{path}: not an image that can be decoded (JPEG, PNG, BMP or WebP; or is it truncated?)")
    return image


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels by the header of a JPEG, PNG, BMP or WebP file; None where it does not say.

    Pillow's readers are called themselves: Image.open has a limit of its own, and its error does not name the size.
    That of WebP is not, since it allocates the image.
    """
    if data.startswith(WEBP):
        return _webp_size(data)
    _silence_pillow()
    reader = next((reader for start, reader in HEADER_READERS.items() if data.startswith(start)), None)
    try:
        return reader(io.BytesIO(data)).size if reader else None
    except Exception:  # a damaged header can fail in any way, and the image may be readable all the same
        return None


@functools.cache
def _silence_pillow() -> None:
    """No warnings of damaged EXIF data, which is not read here."""
    warnings.filterwarnings("ignore", module="PIL")


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a WebP file by its first chunk (developers.google.com/speed/webp/docs/riff_container)."""
    if len(data) < 30:
        return None

    def little(start: int, stop: int) -> int:
        return int.from_bytes(data[start:stop], "little")

    if data[12:16] == b"VP8 ":
        return little(26, 28) & 0x3FFF, little(28, 30) & 0x3FFF
    if data[12:16] == b"VP8L":
        return 1 + (little(21, 25) & 0x3FFF), 1 + (little(21, 25) >> 14 & 0x3FFF)
    return (1 + little(24, 27), 1 + little(27, 30)) if data[12:16] == b"VP8X" else None


def is_truncated(data: bytes) -> bool:
    """Whether a file is a JPEG without its end marker; OpenCV before 5 fills its missing rows with gray, silently."""
    if data[:2] != b"\xff\xd8":
        return False
    position = 2
    while data[position:position + 1] == b"\xff" and data[position + 1:position + 2] != b"\xda":  # before the scan
        position += 2 + int.from_bytes(data[position + 2:position + 4], "big")
    return data.rfind(b"\xff\xd9", position) < 0  # from behind, where it usually is


def preprocess(image: np.ndarray, grid: InputGrid) -> np.ndarray:
    """The network's input, uint8 (height, width, 3), from an RGB image of any size; alike in training and inference."""
    return grid.resample(resize(image, grid.width, grid.fine_rows))


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The whole image (height, width, 3) uint8 at another size; pixels of a smaller one are means of those they cover.

    OpenCV averages two by two pixels several times as fast as any other number, so those steps come first.
    """
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    shrinking = image.shape[1] >= width and image.shape[0] >= height
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
