"""A network's calls for batches of any size, on a GPU as CUDA graphs: one launch a batch in place of 200.

Shapes: B images, N >= B those of the recording that they are padded to, H x W the network's input, ... its output's.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from runtime.cuda_graph import Recorder, Recording

MAX_RECORDINGS = 8  # sizes; each keeps its input and output, and all share the memory in between
MULTIPLE = 8  # above it batches are padded to a multiple, below it to a power of two

Network = Callable[[Tensor], Tensor]  # images (B, 3, H, W) uint8 on the device to (B, ...) on the device


class RecordedBatch(NamedTuple):
    """A recording for N images."""

    host_pixels: Tensor  # (N, H, W, 3) uint8 on the CPU, pinned where there is CUDA
    pixels: Tensor  # (N, H, W, 3) uint8 on the device, which the recording reads
    recording: Recording  # whose output is (N, ...)


class BatchRunner:
    """Runs a network on batches; with a recorder it records each size of batch when it first comes.

    Outputs are the caller's own: no later batch overwrites them. Threads may share a runner if all use one stream;
    where it replays recordings they take turns. A recording that fails is reported in one line, and from then on sizes
    that are not recorded are run as they come, as are those beyond MAX_RECORDINGS.
    """

    def __init__(self, network: Network, size: tuple[int, int], device: torch.device, record: Recorder | None):
        self.network, self.device, self.record = network, device, record
        self.height, self.width = size
        self.recorded: dict[int, RecordedBatch] = {}  # by N
        self.lock = threading.Lock()

    @torch.inference_mode()
    def on_device(self, images: Tensor) -> Tensor:
        """The output (B, ...), on the device, for images (B, 3, H, W) uint8 on any device."""
        if images.dtype == torch.uint8 and images.shape[1:] == (3, self.height, self.width):
            with self.lock:
                if batch := self._recorded(len(images)):
                    batch.pixels[:len(images)].copy_(images.permute(0, 2, 3, 1), non_blocking=True)
                    batch.recording.replay()
                    return batch.recording.output[:len(images)].clone()
        return self.network(images.to(self.device, non_blocking=self.device.type != "mps"))

    @torch.inference_mode()
    def on_host(self, pixels: Sequence[np.ndarray]) -> Tensor:
        """The output (B, ...), on the CPU, for B images (H, W, 3) uint8; the device is waited for once."""
        count = len(pixels)
        with self.lock:
            if batch := self._recorded(count):
                np.stack(pixels, out=batch.host_pixels[:count].numpy())
                batch.pixels[:count].copy_(batch.host_pixels[:count], non_blocking=True)
                batch.recording.replay()
                return batch.recording.output[:count].to("cpu", copy=True)
        return self.network(to_batch(pixels).to(self.device)).cpu()

    def _recorded(self, count: int) -> RecordedBatch | None:
        """The recording for so many images, made where there is none yet; None where they are run as they come."""
        size = padded_size(count)
        if self.record and size not in self.recorded and len(self.recorded) < MAX_RECORDINGS:
            shape = (size, self.height, self.width, 3)
            try:
                host_pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
                pixels = torch.zeros(shape, dtype=torch.uint8, device=self.device)
                recording = self.record(lambda: self.network(pixels.permute(0, 3, 1, 2)))
                self.recorded[size] = RecordedBatch(host_pixels, pixels, recording)
            except RuntimeError as error:
                self.record = None
                print(f"batches of {count} cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}); they are "
                      "run without, which is slower", file=sys.stderr)
        return self.recorded.get(size)


def padded_size(count: int) -> int:
    """N for a batch of `count` images: few sizes serve all batches, and a GPU takes little longer for a few more."""
    if count > MULTIPLE:
        return -(-count // MULTIPLE) * MULTIPLE
    return 1 << (count - 1).bit_length()


def to_batch(pixels: Sequence[np.ndarray]) -> Tensor:
    """(B, 3, H, W) uint8 from B images (H, W, 3)."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
