"""From labels to the targets of a network: fitted lanes assigned to slots.

Shapes: B images, L lane slots, P control points, 2 = (x, y) in [0, 1].
"""

from collections.abc import Sequence

import torch

from formats.base import Label
from geometry.curve_fit import CONTROL_POINTS
from geometry.slots import LaneTarget, assign_slots
from preprocessing.lane_fit import PROBLEMS, FittedLanes, LaneProblems, fit_lanes


def lanes_in_slots(labels: Sequence[Label], sizes_px: Sequence[tuple[int, int]], slots: int
                   ) -> tuple[LaneTarget, list[LaneProblems]]:
    """The targets of B images, points (B, L, P, 2) and exists (B, L), and the problems of each image's lanes.

    `sizes_px` are the (width, height) of the images in whose pixels the labels are. A lane that no curve of the network
    can be is left out, as one without a slot is: its slot is taught to be empty, and no wrong place is taught.
    """
    return curves_in_slots(fit_lanes(labels, sizes_px), slots)


def curves_in_slots(lanes: FittedLanes, slots: int) -> tuple[LaneTarget, list[LaneProblems]]:
    """As `lanes_in_slots`, of lanes that are fitted."""
    every = torch.zeros(len(lanes.per_image), max(lanes.per_image, default=0), CONTROL_POINTS, 2)
    exists = torch.zeros(every.shape[:2], dtype=torch.bool)
    every[lanes.image, lanes.number], exists[lanes.image, lanes.number] = torch.from_numpy(lanes.curves).float(), True
    target = assign_slots(every, exists, slots)
    counts = lanes.problems.copy()
    counts[:, PROBLEMS.unassigned] = (exists.sum(1) - target.exists.sum(1)).numpy()
    return target, [LaneProblems(*row) for row in counts.tolist()]
