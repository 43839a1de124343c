"""Reading images and resizing them to what the network takes. Images are RGB uint8."""

import functools
import io
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from formats.base import DataError
from geometry.input_grid import InputGrid
from preprocessing import jpeg

KINDS = "JPEG, PNG, BMP, WebP or TIFF"
MAX_IMAGE_PIXELS = 100_000_000
MAX_IMAGE_BYTES = 4 * MAX_IMAGE_PIXELS  # of a file: none of that many pixels needs more
WEBP, PNG = b"RIFF", b"\x89PNG"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
HEADER_READERS = {jpeg.SOI: JpegImageFile, PNG: PngImageFile, b"BM": BmpImageFile, **dict.fromkeys(TIFF, TiffImageFile)}
DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras use


def read_image(path: str | Path, thorough: bool = False) -> np.ndarray:
    """RGB uint8 (height, width, 3), upright by its EXIF tag. Raises DataError when it cannot be decoded.

    A damaged JPEG is refused where the damage shows at a glance, or wherever it can be found if `thorough`, which takes
    twice as long.
    """
    try:
        data = file_content(path)
        size_px = image_size(data)
        if size_px and size_px[0] * size_px[1] > MAX_IMAGE_PIXELS:  # before OpenCV allocates them
            raise DataError(f"{path}: {size_px[0]}x{size_px[1]} pixels is more than this reader takes")
        image = _decoded(data, f"{path}", thorough) if size_px or not data.startswith(TIFF) else None
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except (OSError, cv2.error) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if image is None:
        raise DataError(f"{path}: not an image that can be decoded ({KINDS}; or is it truncated?)")
    return image


def file_content(path: str | Path) -> bytes:
    """The bytes of a file, by few calls of the system: at each of them a thread waits for the interpreter's lock anew.

    OpenCV does not read it, since it fails on non-ASCII names on Windows. Raises OSError and DataError.
    """
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_IMAGE_BYTES:
            raise DataError(f"{path}: {size / 1e6:.0f} MB is more than this reader takes")
        data = file.read(size)
        return data if 0 < len(data) == size else data + file.readall()  # a pipe has no size


def is_image(data: bytes) -> bool:
    """Whether a file begins as an image of one of the KINDS does."""
    return data.startswith(tuple(HEADER_READERS)) or (data.startswith(WEBP) and data[8:12] == b"WEBP")  # AVI is RIFF


def _decoded(data: bytes, name: str, thorough: bool) -> np.ndarray | None:
    """RGB uint8 (height, width, 3) of the bytes of a file; None where it is no image. Raises DataError."""
    if not is_image(data):
        return None
    quiet_decoders()
    is_jpeg = data.startswith(jpeg.SOI)
    start = jpeg.headers_end(data) if is_jpeg else 0
    last = jpeg.last_end(data, start) if is_jpeg else 0
    if last < 0:  # OpenCV before 5 fills the missing rows with gray, silently
        return None
    is_deep = data.startswith(TIFF) or (data.startswith(PNG) and data[24:25] == b"\x10")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if is_deep else cv2.IMREAD_COLOR_RGB  # which spoils 16-bit TIFF
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        return None
    if is_jpeg and (thorough or jpeg.looks_damaged(data, start, last, image)):
        if reason := jpeg.damage(data, *jpeg.pixel_data(data)):
            raise DataError(f"{name}: a damaged JPEG: {reason}; copy it anew, or take it out")
        return image
    if not is_deep:
        return image
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{name}: its pixels are {image.dtype}; save them in 8 or 16 bits")
    return cv2.cvtColor(image if image.dtype == np.uint8 else _to_8_bits(image), cv2.COLOR_BGR2RGB)


def _to_8_bits(image: np.ndarray) -> np.ndarray:
    """uint8 of uint16 pixels, which fill as many of the 16 bits as their camera has: the fewest that hold them all.

    The scale is one of five, so that images of one camera are scaled alike.
    """
    bits = next(depth for depth in DEPTHS if int(image.max()) < 1 << depth)
    return (image >> (bits - 8)).astype(np.uint8)


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels by the header of a file of one of the KINDS; None where it does not say.

    Pillow's readers are called themselves: Image.open has a limit of its own, and its error does not name the size.
    That of WebP is not, since it allocates the image.
    """
    if data.startswith(WEBP):
        return _webp_size(data)
    if data.startswith(jpeg.SOI) and (size_px := jpeg.size_px(data)):
        return size_px
    quiet_decoders()
    reader = next((reader for start, reader in HEADER_READERS.items() if data.startswith(start)), None)
    try:
        return reader(io.BytesIO(data)).size if reader else None
    except Exception:  # a damaged header can fail in any way, and the image may be readable all the same
        return None


@functools.cache
def quiet_decoders() -> None:
    """No lines of Pillow and OpenCV themselves: errors are ours, and name the file."""
    warnings.filterwarnings("ignore", module="PIL")
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)  # it moved in OpenCV 5


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


def preprocess(image: np.ndarray, grid: InputGrid) -> np.ndarray:
    """The network's input, uint8 (height, width, 3), from an RGB image of any size; alike in training and inference."""
    top = _rows_to_skip(image.shape[0], image.shape[1], grid)
    fine_rows = grid.fine_rows - (grid.rows_left_out if top else 0)
    return grid.resample(resize(image[top:], grid.width, fine_rows))


@functools.lru_cache(maxsize=16)
def _rows_to_skip(height: int, width: int, grid: InputGrid) -> int:
    """How many rows at the top of an image need not be resized, since the grid leaves them out.

    The others stay as they were where fine rows begin with whole rows, and halvings with every other.
    """
    step, rest = divmod(height, grid.fine_rows)
    top, halved = step * grid.rows_left_out, 1 << max(0, step.bit_length() - 1)
    return 0 if rest or width < grid.width or top % halved or height % halved else top


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The whole image (height, width, 3) uint8 at another size; pixels of a smaller one are means of those they cover.

    OpenCV averages two by two pixels several times as fast as any other number, so those steps come first.
    """
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if image.shape[1] == 2 * width and image.shape[0] == height:
        return _halve_width(image)
    smaller = min(image.shape[1], width), min(image.shape[0], height)  # what is enlarged one way may shrink the other
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _halve_width(image: np.ndarray) -> np.ndarray:
    """What INTER_AREA gives at half the width, in 40 % of its time: the means of pixels beside each other."""
    size = image.shape[1] // 2, image.shape[0]
    left = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    right = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST_EXACT)  # takes the second of two
    return cv2.addWeighted(left, 0.5, right, 0.5, 0)
