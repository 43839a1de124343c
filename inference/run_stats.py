"""What a run keeps of its frames for its last line: how predictions differ between images, and follow a shifted one.

Shapes: N images, L lane slots, P = 6 control points, 2 = (x, y) in [0, 1].
"""

import math

import numpy as np
from torch import Tensor

from inference.inputs import Frame
from inference.predictor import Predictor
from inference.writers import FrameResult
from metrics.collapse import REFERENCE_WIDTH_PX

MAX_IMAGES = 100_000  # different images that count: the checksums of a camera's must not fill the memory
SENSITIVITY_IMAGES = 8  # that are shifted to measure whether the lanes follow


class RunStats:
    """Counts and keeps results, in the main process."""

    def __init__(self):
        self.unreadable = 0
        self.checksums: set[tuple[int, int]] = set()  # of images: the same one twice shows nothing
        self.sums: list[Tensor] = []  # over images: confidence (L), x (L, P) and its squares
        self.pixels: list[np.ndarray] = []  # of a few frames, (H, W, 3)

    def add(self, result: FrameResult) -> None:
        """Take in the result of one frame."""
        frame = result.frame
        if frame.error:
            self.unreadable += 1
            return
        if frame.pixels is not None and len(self.pixels) < SENSITIVITY_IMAGES:
            self.pixels.append(frame.pixels)
        if frame.checksum in self.checksums or len(self.checksums) == MAX_IMAGES:
            return
        self.checksums.add(frame.checksum)
        confidence, x = result.detections.confidence.double(), result.detections.points[..., 0].double()
        values = [confidence, x, x * x]
        self.sums = [total + value for total, value in zip(self.sums, values, strict=True)] if self.sums else values

    @property
    def images(self) -> int:
        """N, the number of different images."""
        return len(self.checksums)

    def spread_px(self) -> float:
        """Standard deviation of lanes over the images, weighted by confidence, in px of the reference width."""
        weight, mean, mean_square = (total / self.images for total in self.sums)
        spread = (mean_square - mean * mean).clamp(min=0).sqrt().mean(-1)  # (L)
        return float((spread * weight).sum() / weight.sum().clamp(min=1e-6) * REFERENCE_WIDTH_PX)

    def sensitivity(self, predictor: Predictor) -> float:
        """How far lanes follow when a few of the images are shifted; not a number where none was read."""
        return predictor.sensitivity(self.pixels) if self.pixels else math.nan


def without_spare_pixels(number: int, frame: Frame) -> Frame:
    """The frame, with its pixels only where its number is one of those that RunStats picks from: 1, 2, 3, 4, 8 ..."""
    return frame if number <= 3 or number.bit_count() == 1 else frame._replace(pixels=None)
