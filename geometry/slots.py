"""Slot assignment: which of the network's fixed slots a lane belongs to.

Shapes: B batch, N lanes in any order, L slots, P control points, h rows and K columns of the head's map, 2 = (x, y).

Slots are counted outward from the camera: with three a side they are [left 3, left 2, left 1 | right 1, right 2,
right 3] from left to right. A lane's position is its x at the bottom edge of the image, extrapolated where the lane
ends above it. The order of a label file is ignored: in that order slots would have nearly the same mean lane, which
is the best constant prediction, and training would end there.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from geometry.bezier import sample_curve

CAMERA_X = 0.5  # x of the camera at the bottom edge
LANE_CHANGE = 0.05  # a line nearer than this to CAMERA_X (64 px of 1280) may be counted to either side
ERROR_WEIGHT = 64  # 20 px of 1280 weigh as much as one nat of existence, when two assignments are compared


class LaneTarget(NamedTuple):
    """Labels in slots: points (B, L, P, 2) in [0, 1], 0 in an empty slot; exists (B, L) bool."""

    points: Tensor
    exists: Tensor

    def to(self, device: torch.device) -> "LaneTarget":
        """The target on a device."""
        non_blocking = torch.device(device).type != "mps"  # where the copy may read memory that has been freed
        return LaneTarget(*(part.to(device, non_blocking=non_blocking) for part in self))


class RowLogits(NamedTuple):
    """A network's row-wise output, for the auxiliary losses: logits over columns, and of a lane's presence."""

    columns: Tensor  # (B, L, h, K)
    present: Tensor  # (B, L, h)
    centers: Tensor  # (K) x of the columns' middles, equally spaced
    y: Tensor  # (h) of the rows' middles


def bottom_x_by_chord(points: Tensor) -> Tensor:
    """x (...) where curves points (..., P, 2) reach y = 1, along the chord of their near half."""
    middle, near = sample_curve(points, 3)[..., 1:, :].unbind(-2)
    height = (near[..., 1] - middle[..., 1]).clamp(min=1e-6)
    return near[..., 0] + (near[..., 0] - middle[..., 0]) / height * (1 - near[..., 1])


def slot_indices(points: Tensor, exists: Tensor, slots: int) -> Tensor:
    """Slot (..., N) of each lane points (..., N, P, 2); -1 where exists is False or its side is full."""
    x = bottom_x_by_chord(points)
    left = x < CAMERA_X
    offset = (x - CAMERA_X).abs()
    same_side = (left.unsqueeze(-1) == left.unsqueeze(-2)) & exists.unsqueeze(-2)
    nearer = offset.unsqueeze(-2) < offset.unsqueeze(-1)  # [n, m]: lane m is nearer to the camera than lane n
    rank = (same_side & nearer).sum(-1)
    # Two lanes at the same position would share a slot: the later one moves outward.
    n = torch.arange(x.shape[-1], device=x.device)
    rank = rank + (same_side & (offset.unsqueeze(-2) == offset.unsqueeze(-1)) & (n < n.unsqueeze(-1))).sum(-1)
    half = slots // 2
    slot = torch.where(left, half - 1 - rank, half + rank)
    return torch.where(exists & (rank < half), slot, -1)


def assign_slots(points: Tensor, exists: Tensor, slots: int) -> LaneTarget:
    """The target of lanes points (B, N, P, 2), exists (B, N); lanes whose side is full are left out."""
    indices = slot_indices(points, exists, slots)
    one_hot = indices.unsqueeze(-1) == torch.arange(slots, device=points.device)  # (B, N, L)
    in_slots = torch.einsum("bnl,bnpc->blpc", one_hot.to(points.dtype), points)
    return LaneTarget(in_slots, one_hot.any(-2))


def shift_slots(target: LaneTarget, shift: Tensor) -> LaneTarget:
    """The target with its lanes moved by shift (B) slots to the right, -1, 0 or +1; an outermost one may drop out."""
    slots = target.exists.shape[1]
    source = torch.arange(slots, device=shift.device) - shift.unsqueeze(-1)  # (B, L)
    inside = (source >= 0) & (source < slots)
    source = source.clamp(0, slots - 1)
    exists = target.exists.gather(1, source) & inside
    points = target.points.gather(1, source[:, :, None, None].expand_as(target.points))
    return LaneTarget(points * exists[:, :, None, None], exists)


def resolve_ambiguous_assignment(points: Tensor, logits: Tensor, target: LaneTarget) -> LaneTarget:
    """The target, or, where the camera is above a line, the one of both assignments that is nearer to the prediction.

    In a lane change the line under the camera is as much `left 1` as `right 1`, and a few pixels decide how all lanes
    are counted. Both assignments are right, so training and scoring take the one nearer to the prediction (points
    (B, L, P, 2), logits (B, L)). Nothing is differentiated through the choice.
    """
    slots = target.exists.shape[1]
    x = bottom_x_by_chord(target.points)
    ambiguous = target.exists & ((x - CAMERA_X).abs() < LANE_CHANGE)
    inner_left, inner_right = slots // 2 - 1, slots // 2
    shift = ambiguous[:, inner_left].long() - (ambiguous[:, inner_right] & ~ambiguous[:, inner_left]).long()  # (B)
    other = shift_slots(target, shift)

    def distance(candidate: LaneTarget) -> Tensor:
        error = (points.detach() - candidate.points)[..., 0].abs().mean(2) * candidate.exists
        existence_loss = torch.nn.functional.softplus(torch.where(candidate.exists, -logits, logits).detach())
        return (ERROR_WEIGHT * error + existence_loss).sum(1)

    # An assignment that drops its outermost line would be nearer for having fewer lanes.
    complete = other.exists.sum(1) == target.exists.sum(1)
    take = (complete & (shift != 0) & (distance(other) < distance(target)))[:, None]
    return LaneTarget(torch.where(take[..., None, None], other.points, target.points),
                      torch.where(take, other.exists, target.exists))
