"""Reading images and resizing them to what the network takes. Images are RGB uint8."""

from pathlib import Path

import cv2
import numpy as np

from formats.base import DataError
from geometry.input_grid import InputGrid
from preprocessing.image_size import image_size

MAX_IMAGE_PIXELS = 100_000_000
MAX_IMAGE_BYTES = 4 * MAX_IMAGE_PIXELS  # of a file: none of that many pixels needs more


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
        whole = size_px and not is_truncated(data)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if whole else None
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except (OSError, cv2.error) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if image is None:
        raise DataError(f"{path}: not an image that can be decoded (JPEG, PNG, BMP or WebP; or is it truncated?)")
    return image


def is_truncated(data: bytes) -> bool:
    """Whether a file is a JPEG without its end, which OpenCV before 5 fills up with grey and says nothing of."""
    if data[:2] != b"\xff\xd8":
        return False
    at = 2
    while data[at:at + 1] == b"\xff" and data[at + 1:at + 2] != b"\xda":  # segments before the scan
        at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
    return data.rfind(b"\xff\xd9", at) < 0  # from behind, where it is


def preprocess(image: np.ndarray, grid: InputGrid) -> np.ndarray:
    """RGB uint8 (H, W, 3): what the network takes of an image. Training and inference both come through here."""
    return grid.resample(resize(image, grid.width, grid.fine_rows))


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The whole image at another size; a smaller one has the mean of what lies in the place of each pixel.

    OpenCV takes means of two by two several times as fast as any others, so those come first.
    """
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    shrinking = image.shape[1] >= width and image.shape[0] >= height
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
