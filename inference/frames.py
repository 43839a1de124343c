"""A frame, one image of a source, and how it is read. What cannot be read has an error, so that the rest goes on.

Without PyTorch, so that processes that read images start fast.
"""

import functools
import os
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from formats.base import DataError
from inference.sources import Source
from preprocessing.images import read_image
from runtime.processes import check_wanted

READ_CHUNK = 8  # images that a process hands over at once

Preprocess = Callable[[np.ndarray], np.ndarray]  # an image (height, width, 3) to what the network takes (H, W, 3)


class Frame(NamedTuple):
    """One image of a source, or why there is none."""

    source: Source
    index: int = 1  # in its video
    size_px: tuple[int, int] = (0, 0)  # width, height
    pixels: np.ndarray | None = None  # (H, W, 3) as the network takes it; None where it cannot be read
    image: np.ndarray | None = None  # (height, width, 3) RGB uint8, where it was asked for
    checksum: tuple[int, int] = (0, 0)  # the same for the same pixels, in every process
    error: str = ""

    @property
    def name(self) -> str:
        """The source's name, with the number of the frame in a video."""
        is_single = self.source.kind in ("image", "missing")
        return self.source.name if is_single else f"{self.source.name} frame {self.index}"


def read_frame(source: Source, read: Callable[[], np.ndarray | None], preprocess: Preprocess, keep_images: bool
               ) -> Frame | None:
    """What `read` gives as a frame; None where that is None, the end of a video."""
    try:
        image = read()
        if image is None:
            return None
        size_px, pixels = (image.shape[1], image.shape[0]), preprocess(image)
        half = len(pixels) // 2
        checksum = zlib.crc32(pixels[:half]), zlib.crc32(pixels[half:])  # 64 bits, faster than a digest
        return Frame(source, 1, size_px, pixels, image if keep_images else None, checksum)
    except DataError as error:
        return Frame(source, error=str(error))
    except cv2.error as error:
        return Frame(source, error=f"{source.name}: cannot be read: {' '.join(str(error).split())}")


def read_chunk(sources: Sequence[Source], preprocess: Preprocess) -> list[Frame]:
    """The frames of image files, read in a process of its own."""
    _lower_priority()
    frames = []
    for source in sources:
        check_wanted()
        frames.append(read_frame(source, partial(read_image, source.path), preprocess, keep_images=False))
    return frames


@functools.cache
def _lower_priority() -> None:
    """Let the process that all others wait for go first; Windows has no such numbers."""
    if hasattr(os, "nice"):
        os.nice(10)
