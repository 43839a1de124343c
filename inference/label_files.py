"""Predicted lanes as label files of labelme, to be corrected by hand and trained on.

Shapes: K lanes of one image, P control points, M points of a lane, 2 = (x, y).
"""

import shutil
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from formats.base import DataError
from formats.culane_metric import sampled_lanes
from formats.files import inner_path
from formats.labelme import labelme_text
from geometry.polyline import inside_image
from inference.inputs import Frame
from visualization.draw import write_image

TOLERANCE_PX = 0.5  # of a lane from its curve: few points are easier to move than many
MAX_NAMES = 10_000


class LabelFiles:
    """A folder of images, each with X.json beside it. Image files are copied, frames of videos written as JPEG.

    Several processes may write into it.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, frame: Frame, curves: Tensor) -> None:
        """Write a frame, which has its image, with its reported curves (K, P, 2). Raises DataError, OSError."""
        source = frame.source
        relative = inner_path(Path(source.relative))  # of a file that is named by itself it is any path
        if source.kind != "image":
            relative = relative.with_suffix("") / f"{frame.index:06}.jpg"
        label = self._new_label(relative)
        image = label.with_suffix(relative.suffix)
        if source.kind == "image":
            shutil.copyfile(source.path, image)
        else:
            write_image(image, frame.image)
        label.write_text(labelme_text(image.name, frame.size_px, label_lanes(curves, frame.size_px)), "utf-8")

    def _new_label(self, relative: Path) -> Path:
        """A label file that nobody else has, made empty; of two images with one name the second gets a number."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in range(MAX_NAMES):
            label = path.with_name(f"{path.stem}_{number}.json" if number else f"{path.stem}.json")
            try:
                label.touch(exist_ok=False)
                return label
            except FileExistsError:
                continue
        raise DataError(f"{path}: more than {MAX_NAMES} images have this name")


def label_lanes(curves: Tensor, size_px: tuple[int, int]) -> list[np.ndarray]:
    """Lanes (M, 2) in pixels within the image, from the near end to the far one, of curves (K, P, 2).

    They have as few points as follow the curve. A lane that is not in the image is left out.
    """
    lanes = []
    for lane in sampled_lanes(curves, size_px):
        inner, _ = inside_image(lane / size_px, np.zeros(len(lane), int))
        inner = (inner * size_px).astype(np.float32)
        if len(inner) >= 2:
            lanes.append(cv2.approxPolyDP(inner.reshape(-1, 1, 2), TOLERANCE_PX, False).reshape(-1, 2))
    return lanes
