"""How far an exported file is from the checkpoint, and how far it may be.

Shapes: B batch, N images, L lane slots, P = 6 control points, S samples, F x W the whole image as the file takes it,
2 = (x, y) in [0, 1].
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from geometry.bezier import sample_curve
from inference.export import ExportOptions, Run
from inference.predictor import Predictor
from metrics.collapse import REFERENCE_WIDTH_PX

MEAN_SAMPLES = 16  # points of a lane of which the mean is taken
NUMPY_TYPES = {"uint8": np.uint8, "float": np.float32}


class Errors(NamedTuple):
    """How far a file is off; px are those of an image of the reference width."""

    worst_px: float  # of any number of any lane that is at least half as sure as a reported one
    mean_px: float  # of the points of the lanes that the checkpoint reports
    confidence: float  # the worst

    def within(self, limits: "Errors") -> bool:
        """Whether no error is as large as its limit, nor not a number."""
        return all(error < limit for error, limit in zip(self, limits, strict=True))

    def __str__(self) -> str:
        worst = f"{self.worst_px:.{2 if self.worst_px < 10 else 3}g}"
        return (f"lanes within {worst} px of a {REFERENCE_WIDTH_PX} px wide image, "
                f"{self.mean_px:.2g} px in the mean, confidence within {self.confidence:.2g}")


LIMITS = {  # some times what was measured: see docs/DEPLOYMENT.md
    "fp32": Errors(2.0, 0.02, 0.001),
    "fp16": Errors(20.0, 0.2, 0.01),
    "int8": Errors(math.inf, 4.0, 0.3),
    "half": Errors(20.0, 1.0, 0.01),  # a checkpoint of float16 weights; trained ones are 0.05 px off
}


def errors(predictor: Predictor, run: Run, images: np.ndarray, options: ExportOptions) -> Errors:
    """The errors of a file on images (N, F, W, 3), which go through the predictor one by one."""
    detections = [predictor.detect([predictor.grid.resample(image)]) for image in images]
    points, confidence, keep = map(torch.cat, zip(*detections, strict=True))
    possible = confidence >= predictor.decode.threshold / 2  # others may lie anywhere, and are never reported
    if not possible.any():
        possible = torch.ones_like(possible)
    outputs = dict(zip(options.outputs, map(torch.from_numpy, outputs_of(run, images, options)), strict=True))
    offsets = [outputs["points"] - points]
    if options.curves:
        offsets.append(outputs["curves"] - sample_curve(points, options.curves))
    along = (sample_curve(offsets[0], MEAN_SAMPLES)).abs().amax(-1)  # (N, L, S): curves are linear in their points
    return Errors(REFERENCE_WIDTH_PX * float(torch.stack([part[possible].abs().max() for part in offsets]).max()),
                  REFERENCE_WIDTH_PX * float(along[keep].mean() if keep.any() else along.mean()),
                  float((outputs["confidence"] - confidence).abs().max()))


def outputs_of(run: Run, images: np.ndarray, options: ExportOptions) -> list[np.ndarray]:
    """The outputs for images (N, F, W, 3), in batches of the file's size; where that is dynamic, one and the others."""
    count, size = len(images), options.batch
    batches = [np.arange(i, i + size) % count for i in range(0, count, size)] if size else [
        np.arange(1), np.arange(1, count)]
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(NUMPY_TYPES[options.pixels])
    parts = [run(pixels[rows]) for rows in batches if len(rows)]
    return [np.concatenate(part)[:count] for part in zip(*parts, strict=True)]
