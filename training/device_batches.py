"""Batches that are put together on the device, out of images that are all there.

Shapes: N images of the data set, M of an epoch, B batch, H x W the network's input.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dataset import LaneDataset
from geometry.slots import LaneTarget
from preprocessing.augment import AugmentParams, augment_lanes

LANES_CHUNK = 1024  # images whose lanes are augmented together: 0.2 GB


class DeviceBatches:
    """The order, the views and the lanes of an epoch on the device, and the position in them, which it alone knows.

    Lanes are augmented before the epoch's first step, all together: of one batch at a time they are a hundred small
    kernels. The tensors stay the same over all epochs, so that what was recorded once reads those of the present one.
    """

    def __init__(self, dataset: LaneDataset):
        self.images, self.points, self.exists = dataset.preloaded
        self.position = torch.zeros(1, dtype=torch.long, device=self.images.device)
        self.order: Tensor | None = None  # (M)
        self.params: AugmentParams | None = None  # of M images
        self.target: LaneTarget | None = None  # of M augmented images

    def begin(self, batch_indices: Sequence[Sequence[int]], params: AugmentParams, position: int) -> None:
        """Take up an epoch of these batches and views, whose first `position` images are done.

        All epochs have as many images: a recorded step reads the memory of the first.
        """
        device = self.position.device
        order = torch.from_numpy(np.concatenate([np.asarray(batch, np.int64) for batch in batch_indices])).to(device)
        params = params.to(device)
        target = self._augmented(order, params)
        if self.order is None:
            self.order = torch.empty_like(order)
            self.params = AugmentParams(*map(torch.empty_like, params))
            self.target = LaneTarget(*map(torch.empty_like, target))
        for mine, new in zip((self.order, *self.params, *self.target), (order, *params, *target), strict=True):
            assert mine.shape == new.shape
            mine.copy_(new)
        self.position.fill_(position)

    def take(self, count: int) -> tuple[Tensor, LaneTarget, AugmentParams]:
        """The next images (B, 3, H, W), uint8 in channels-last memory, with their views and the target under these.

        After the last comes the first again: the steps before a recording may go on beyond an epoch's end.
        """
        rows = (self.position + torch.arange(count, device=self.position.device)) % len(self.order)  # (B)
        self.position += count
        target = LaneTarget(*(part[rows] for part in self.target))
        params = AugmentParams(*(part[rows] for part in self.params))
        return self.images[self.order[rows]].permute(0, 3, 1, 2), target, params

    def _augmented(self, order: Tensor, params: AugmentParams) -> LaneTarget:
        """The target of M images in their order, under their views."""
        chunks = zip(order.split(LANES_CHUNK), *(part.split(LANES_CHUNK) for part in params), strict=True)
        parts = [augment_lanes(LaneTarget(self.points[index], self.exists[index]), AugmentParams(*views))
                 for index, *views in chunks]
        return LaneTarget(*(torch.cat(part) for part in zip(*parts, strict=True)))
