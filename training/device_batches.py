"""Batches that are put together on the device, out of images that are all there.

Shapes: N images of the data set, M of an epoch, B batch, H x W the network's input.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dataset import LaneDataset
from geometry.slots import LaneTarget
from preprocessing.augment import AugmentParams


class DeviceBatches:
    """The order and the views of an epoch on the device, and the position in them, which only the device knows.

    The tensors stay the same over all epochs, so that what was recorded once reads those of the present one.
    """

    def __init__(self, dataset: LaneDataset):
        self.images, self.points, self.exists = dataset.preloaded
        self.position = torch.zeros(1, dtype=torch.long, device=self.images.device)
        self.order: Tensor | None = None  # (M)
        self.params: AugmentParams | None = None  # of M images

    def begin(self, batch_indices: Sequence[Sequence[int]], params: AugmentParams, position: int) -> None:
        """Take up an epoch of these batches and views, whose first `position` images are done.

        All epochs have as many images: a recorded step reads the memory of the first.
        """
        order = torch.from_numpy(np.concatenate([np.asarray(batch, np.int64) for batch in batch_indices]))
        if self.order is None:
            self.order = torch.empty_like(order, device=self.position.device)
            self.params = AugmentParams(*(torch.empty_like(part, device=self.position.device) for part in params))
        for mine, new in zip((self.order, *self.params), (order, *params), strict=True):
            assert mine.shape == new.shape
            mine.copy_(new)
        self.position.fill_(position)

    def take(self, count: int) -> tuple[Tensor, LaneTarget, AugmentParams]:
        """The next images (B, 3, H, W), uint8 in channels-last memory, with their target and views.

        After the last comes the first again: the steps before a recording may go on beyond an epoch's end.
        """
        rows = (self.position + torch.arange(count, device=self.position.device)) % len(self.order)  # (B)
        self.position += count
        index = self.order[rows]
        target = LaneTarget(self.points[index], self.exists[index])
        return self.images[index].permute(0, 3, 1, 2), target, AugmentParams(*(part[rows] for part in self.params))
