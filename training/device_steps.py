"""Steps whose images are all on the device; on a GPU one is recorded as a CUDA graph and the others are replayed.

A step launches a thousand small kernels. Launched one at a time they take many times as long as they run; a graph
launches all of them at once.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from config import ConfigError, TrainConfig
from dataset import LaneDataset
from preprocessing.augment import AugmentParams
from runtime import distributed
from runtime.cuda_graph import Recorder, Recording, cuda_recorder
from training.device_batches import DeviceBatches
from training.run_dir import TrainingError
from training.step import StepSetup, step


class DeviceSteps:
    """Runs the next step of an epoch when it is called with its number of images.

    With a recorder there is a recording for each number; batches of an epoch have at most two. One that fails is a
    line on stderr, and steps go on without it; where it is `required`, it ends the run.
    """

    def __init__(self, setup: StepSetup, dataset: LaneDataset, record: Recorder | None = None, required: bool = False):
        self.setup, self.batches = setup, DeviceBatches(dataset)
        self.record, self.required = record, required
        self.recordings: dict[int, Recording] = {}
        self.size: tuple[int, int] | None = None  # of the images that the network sees; None: as large as they are

    def begin(self, batch_indices: Sequence[Sequence[int]], params: AugmentParams, position: int,
              size: tuple[int, int]) -> None:
        """Take up an epoch, as DeviceBatches does; what was recorded at another size is let go."""
        if size != self.size:
            self.recordings.clear()
        self.size = size
        self.batches.begin(batch_indices, params, position)

    def __call__(self, num_images: int) -> None:
        if self.record and num_images not in self.recordings:
            self._record(num_images)
        if num_images in self.recordings:
            self.recordings[num_images].replay()
        else:
            self._run(num_images)

    def _run(self, num_images: int) -> Tensor:
        step(self.setup, *self.batches.take(num_images), num_images, self.size)
        return self.setup.losses.last

    def _record(self, num_images: int) -> None:
        """Record a step of so many images; nothing that a step changes is changed by it. Raises TrainingError."""
        try:
            with unchanged([*self.setup.tensors(), self.batches.position]):
                self.recordings[num_images] = self.record(lambda: self._run(num_images))
        except RuntimeError as error:  # of whatever driver, library or lack of memory
            reason = " ".join(str(error).split())[:200]
            if self.required:
                raise TrainingError(f"a step cannot be recorded as a CUDA graph ({reason}); "
                                    "set train.cuda_graph to auto or false") from None
            print(f"a step cannot be recorded as a CUDA graph ({reason}); training goes on without, and slower",
                  file=sys.stderr)
            self.record = None


@contextlib.contextmanager
def unchanged(tensors: Iterable[Tensor]) -> Iterator[None]:
    """The tensors have the values from before the block after it, in the same memory."""
    before = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)


def device_steps(setup: StepSetup, dataset: LaneDataset) -> DeviceSteps | None:
    """The steps of a run whose images are on the device of its only process, recorded as train.cuda_graph says."""
    if not dataset.preloaded or distributed.world_size() > 1:
        return None
    requested = setup.config.train.cuda_graph
    is_recorded = requested and not _graph_obstacle(setup.config.train, setup.device, dataset)
    return DeviceSteps(setup, dataset, cuda_recorder(setup.device) if is_recorded else None, requested is True)


def check_cuda_graph(train: TrainConfig, device: torch.device, dataset: LaneDataset | None = None) -> None:
    """Raise ConfigError where train.cuda_graph is true and steps cannot be recorded, as far as is known without data.
    """
    if train.cuda_graph is True and (obstacle := _graph_obstacle(train, device, dataset)):
        raise ConfigError(f"train.cuda_graph is true, but {obstacle}; set it to auto")


def _graph_obstacle(train: TrainConfig, device: torch.device, dataset: LaneDataset | None) -> str | None:
    """Why steps cannot be recorded; None where they can."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if distributed.world_size() > 1:
        return "there are several processes"
    if dataset is not None and not dataset.preloaded:
        return "the images are not on the device (data.cache, data.on_device)"
    return "train.compile is true" if train.compile else None
