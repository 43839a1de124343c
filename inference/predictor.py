"""The one forward path of validation, evaluation, inference, export checks and benchmarks.

    from inference.predictor import Predictor
    from preprocessing.images import read_image
    predictor = Predictor.load("checkpoints_fixed/best_model.pth")
    for slot, confidence, points in predictor(read_image("road.jpg")).lanes():
        ...

Shapes: B images, L lane slots, P = 6 control points, H x W the network's input, 2 = (x, y) in [0, 1].
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from config import ConfigError
from geometry.decode import DecodeSettings, lane_nms
from geometry.input_grid import InputGrid
from inference.batch_runner import BatchRunner, to_batch
from inference.fuse_bn import fuse_batch_norms
from metrics import collapse
from model import LaneNet, LanePrediction
from preprocessing.images import preprocess
from runtime.checkpoint import input_grid, load_model, steps_of_training, with_checkpoint
from runtime.cuda_graph import Recorder, cuda_recorder
from runtime.device import autocast, pick_device, pick_precision


class Detections(NamedTuple):
    """Lanes of B images, or of one image without the B, on the CPU."""

    points: Tensor  # (B, L, P, 2) float32
    confidence: Tensor  # (B, L) in [0, 1]
    keep: Tensor  # (B, L) which of them to report

    def lanes(self) -> Iterator[tuple[int, float, np.ndarray]]:
        """(slot from 1, confidence, points (P, 2) far to near) of each reported lane of one image, left to right."""
        points, confidence = self.points.numpy(), self.confidence.tolist()
        for slot, kept in enumerate(self.keep.tolist()):
            if kept:
                yield slot + 1, confidence[slot], points[slot]

    def per_image(self) -> Iterator["Detections"]:
        """The detections of each of the B images."""
        return (Detections(*parts) for parts in zip(*self, strict=True))

    def __reduce__(self) -> tuple:
        """Pickled as NumPy arrays: 50 times as fast as tensors, and a view leaves the rest of its batch behind."""
        return _from_arrays, tuple(part.numpy() for part in self)


def _from_arrays(*arrays: np.ndarray) -> Detections:
    return Detections(*map(torch.from_numpy, arrays))


class Predictor:
    """A copy of a network with its batch norms folded, on its device, in its precision.

    decode: which lanes `detect` reports. trained_steps: after how many steps of training the weights were saved.
    cuda_graphs: whether batches are recorded as CUDA graphs where there is CUDA. record: what records them.
    Threads may share it, as inference/batch_runner.py says.
    """

    def __init__(self, model: LaneNet, grid: InputGrid, device: torch.device, dtype: torch.dtype,
                 decode: DecodeSettings | None = None, trained_steps: float = math.inf, cuda_graphs: bool = True,
                 record: Recorder | None = None):
        self.grid, self.device, self.dtype = grid, device, dtype
        self.decode = decode or DecodeSettings()
        self.trained_steps = trained_steps
        self.model = fuse_batch_norms(model, dtype)
        if record is None and cuda_graphs and device.type == "cuda":
            record = cuda_recorder(device)
        network = partial(_predict, self.model, device, dtype)
        self.runner = BatchRunner(network, (grid.height, grid.width), device, record)

    @classmethod
    def load(cls, checkpoint: str | Path, device: str = "auto", threshold: float | None = None,
             precision: str = "auto", end_tolerance: float | None = None, cuda_graphs: bool = True,
             requested: Mapping[str, Any] = MappingProxyType({})) -> "Predictor":
        """The network of a checkpoint; threshold and end_tolerance (default: the checkpoint's own) are for its lanes.

        `requested`: see `runtime.checkpoint.load_model`. Raises CheckpointError or ConfigError for a checkpoint or a
        device that cannot be used, and ConfigError for a threshold outside 0 to 1.
        """
        if threshold is not None and not (isinstance(threshold, Real) and 0 <= threshold <= 1):
            raise ConfigError(f"threshold is {threshold!r}; expected a number from 0 to 1, or None")
        torch_device = pick_device(device)
        dtype = pick_precision(precision, torch_device)
        model, config, payload = load_model(checkpoint, torch_device, requested)
        own = with_checkpoint(config, payload).inference
        decode = DecodeSettings(own.threshold if threshold is None else threshold,
                                own.end_tolerance if end_tolerance is None else end_tolerance)
        return cls(model, input_grid(config), torch_device, dtype, decode, steps_of_training(payload), cuda_graphs)

    def load_weights(self, model: LaneNet) -> None:
        """Take over the weights of a network like the first one; what is recorded stays and reads them."""
        fused = fuse_batch_norms(model, self.dtype)
        if not self.runner.recorded:
            self.model = fused
            self.runner.network = partial(_predict, fused, self.device, self.dtype)
            return
        with torch.no_grad():
            own = self.model.state_dict(keep_vars=True)
            for name, value in fused.state_dict().items():
                own[name].copy_(value)

    def __call__(self, image: np.ndarray) -> Detections:
        """The detections of one image (height, width, 3), RGB uint8 of any size."""
        return next(self.detect([self.preprocess(image)]).per_image())

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """An image as the network takes it, (H, W, 3) uint8; may be called in a thread. Raises ValueError."""
        if not isinstance(image, np.ndarray):
            raise ValueError(f"an image is a {type(image).__name__}; expected a NumPy array, such as "
                             "preprocessing.images.read_image gives")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"an image of {image.dtype} {image.shape}; expected RGB uint8 (height, width, 3)")
        return preprocess(image, self.grid)

    def forward(self, images: Tensor) -> LanePrediction:
        """points (B, L, P, 2) and logits (B, L), float32 on the device, for uint8 images (B, 3, H, W)."""
        return _unpacked(self.runner.on_device(images))

    def predict(self, pixels: Sequence[np.ndarray]) -> LanePrediction:
        """points (B, L, P, 2) and logits (B, L), float32 on the CPU, for B images as `preprocess` gives them.

        Raises ValueError for others: lanes in an image of another size would be wrong without a word.
        """
        expected = self.grid.height, self.grid.width, 3
        if not len(pixels) or any(image.shape != expected or image.dtype != np.uint8 for image in pixels):
            got = ", ".join(sorted({f"{image.dtype} {image.shape}" for image in pixels})) or "no image"
            raise ValueError(f"got {got}; expected a sequence of uint8 {expected}, each of predictor.preprocess")
        return _unpacked(self.runner.on_host(pixels))

    def detect(self, pixels: Sequence[np.ndarray]) -> Detections:
        """The detections of B images as `preprocess` gives them."""
        points, logits = self.predict(pixels)
        confidence = logits.sigmoid()
        return Detections(points, confidence, lane_nms(points, confidence, self.decode.threshold))

    def sensitivity(self, pixels: Sequence[np.ndarray]) -> float:
        """How far lanes follow when these images, as `preprocess` gives them, are shifted; see metrics/collapse.py."""
        before = self.detect(pixels)
        shifted = collapse.shift_images(to_batch(pixels))
        after = self.detect(shifted.permute(0, 2, 3, 1).numpy())
        return collapse.sensitivity(before[:2], after[:2], self.grid.width)


def _predict(model: nn.Module, device: torch.device, dtype: torch.dtype, images: Tensor) -> Tensor:
    """Points and logits of images (B, 3, H, W) on the device, in one tensor (B, L, 2P + 1): one copy to the host.

    Nothing of the autocast outlives the call: the kernels are in dtype already, and others have no gradients.
    """
    with autocast(device, dtype):
        points, logits = model(images)
    return torch.cat((points.float().flatten(2), logits.float().unsqueeze(-1)), dim=-1)


def _unpacked(packed: Tensor) -> LanePrediction:
    """Points and logits of `_predict`'s tensor, as views of it."""
    batch, slots, columns = packed.shape
    return LanePrediction(packed[..., :-1].view(batch, slots, columns // 2, 2), packed[..., -1])
