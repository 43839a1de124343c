"""Samples read from their files: preprocessed images, labels, and why one cannot be read.

Shapes: B images, H x W the network's input. Without PyTorch: processes that read images import this and start fast.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from formats.base import DataError, Label, Sample
from formats.registry import read_label
from geometry.input_grid import InputGrid
from preprocessing.images import preprocess, read_image


class ReadImages(NamedTuple):
    """Preprocessed images with their labels, and the sizes in whose pixels the labels are."""

    images: np.ndarray  # (B, H, W, 3) uint8 RGB
    labels: list[Label]
    sizes_px: list[tuple[int, int]]  # width, height of each file's image


def read_images(samples: Sequence[Sample], grid: InputGrid) -> ReadImages:
    """Samples read from their files. Raises DataError, which names the file."""
    read = ReadImages(np.empty((len(samples), grid.height, grid.width, 3), np.uint8), [], [])
    for sample, pixels in zip(samples, read.images, strict=True):
        label, size_px = read_sample(sample, grid, pixels)
        read.labels.append(label)
        read.sizes_px.append(size_px)
    return read


def read_sample(sample: Sample, grid: InputGrid, pixels: np.ndarray) -> tuple[Label, tuple[int, int]]:
    """The label of one sample and the (width, height) of its image, which is written to pixels (H, W, 3).

    Raises DataError, which names the file.
    """
    label, image = read_label(sample), read_image(sample.image)
    pixels[:] = preprocess(image, grid)
    return label, (image.shape[1], image.shape[0])


def why_unreadable(sample: Sample) -> str:
    """What is wrong with an image or its label, in one line; empty where both can be read."""
    try:
        read_label(sample)
        read_image(sample.image)
    except DataError as error:
        return str(error)
    return ""
