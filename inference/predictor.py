"""A trained model ready for images: lanes of one image, or raw answers for a batch.

    from dataset import read_image
    from detector import LaneDetector
    lanes = LaneDetector("checkpoints_fixed/best_model.pth")(read_image("road.jpg"))

Shapes: B images, L lane slots, P = 6 control points, H x W the network's input, 2 = (x, y) in [0, 1].
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geometry.decode import lane_nms
from inference.fuse_bn import fuse_batch_norms
from metrics import collapse
from model import LaneNet, LanePrediction
from preprocessing.images import preprocess
from runtime.checkpoint import input_grid, load_model, trained_steps, with_checkpoint
from runtime.device import autocast, pick_device, pick_precision


class Lane(NamedTuple):
    """One lane of one image."""

    slot: int  # 1 is the leftmost; the middle two are those of the camera's own lane
    confidence: float
    points: np.ndarray  # (P, 2) float32 control points, P0 far, P5 near


class Detections(NamedTuple):
    """What the network says of B images, on the CPU."""

    points: Tensor  # (B, L, P, 2) float32
    confidence: Tensor  # (B, L) in [0, 1]
    keep: Tensor  # (B, L) which of them to report


class LaneDetector:
    """The network of a checkpoint; threshold (default: the checkpoint's own) is the confidence of a lane to report.

    Raises CheckpointError or ConfigError for a checkpoint or a device that cannot be used.
    """

    def __init__(self, checkpoint: str | Path, device: str = "auto", threshold: float | None = None,
                 precision: str = "auto"):
        self.device = pick_device(device)
        self.dtype = pick_precision(precision, self.device)
        model, trained, payload = load_model(checkpoint, self.device)
        self.model = fuse_batch_norms(model, self.dtype)
        self.config = with_checkpoint(trained, payload)
        self.grid = input_grid(self.config)
        self.steps = trained_steps(payload)  # of its training
        self.threshold = self.config.inference.threshold if threshold is None else threshold

    def __call__(self, image: np.ndarray) -> list[Lane]:
        """Lanes from left to right of an image (height, width, 3), RGB uint8 of any size."""
        points, confidence, keep = (part[0] for part in self.batch([image]))
        return [Lane(slot + 1, float(confidence[slot]), points[slot].numpy()) for slot in keep.nonzero()[:, 0].tolist()]

    def batch(self, images: Sequence[np.ndarray]) -> Detections:
        """Answers for images (height, width, 3), RGB uint8 of any sizes."""
        return self.answers([self.pixels(image) for image in images])

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """An image as the network takes it, (H, W, 3) uint8; may be called in a thread. Raises ValueError."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"an image of {image.dtype} {image.shape}; expected RGB uint8 (height, width, 3)")
        return preprocess(image, self.grid)

    def sensitivity(self, pixels: Sequence[np.ndarray]) -> float:
        """How far lanes follow when these images, as `pixels` gives them, are moved sideways; see guard.py."""
        before, after = self.answers(pixels), self.answers(collapse.shift_images(_stacked(pixels)).permute(0, 2, 3, 1).numpy())
        return collapse.sensitivity(before[:2], after[:2], self.config.model.width)

    @torch.inference_mode()
    def answers(self, pixels: Sequence[np.ndarray]) -> Detections:
        """Answers for what `pixels` made of B images."""
        with autocast(self.device, self.dtype):
            points, logits = self.model(_stacked(pixels).to(self.device))
        points, confidence = points.float().cpu(), logits.float().sigmoid().cpu()
        return Detections(points, confidence, lane_nms(points, confidence, self.threshold))


def _stacked(pixels: Sequence[np.ndarray]) -> Tensor:
    """(B, 3, H, W) uint8 from B images (H, W, 3)."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


class Network(NamedTuple):
    """A model and how it is run."""

    model: LaneNet
    device: torch.device
    dtype: torch.dtype

    def __call__(self, images: Tensor) -> LanePrediction:
        """points (B, L, P, 2) and logits (B, L), float32 on the device, for uint8 images (B, 3, H, W)."""
        self.model.eval()
        with torch.inference_mode(), autocast(self.device, self.dtype):
            points, logits = self.model(images.to(self.device, non_blocking=self.device.type != "mps"))
        return LanePrediction(points.float(), logits.float())
