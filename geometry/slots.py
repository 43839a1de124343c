"""Which lane is which: the fixed slots that a network answers in, and back from slots to lanes in an image.

Shapes: B batch, N lanes in any order, L slots, P = 6 control points, R rows, 2 = (x, y).

Slots are counted outward from the camera: with three a side they are [left 3, left 2, left 1 | right 1,
right 2, right 3] from left to right. A lane's place is where it meets (or would meet) the bottom edge of the
image. The order in a label file plays no part: with file order the best answer that does not look at the image
is the average of all lanes, and a network is glad to give it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from geometry.bezier import sample_curve

CAMERA_X = 0.5  # the camera's own place at the bottom edge: the middle of the image
LANE_CHANGE = 0.05  # nearer than this to CAMERA_X (64 px of 1280) a line is as much left as right


class LaneTarget(NamedTuple):
    """Labels in slots: points (B, L, P, 2) in [0, 1], 0 where there is no lane; exists (B, L) bool."""

    points: Tensor
    exists: Tensor

    def to(self, device: torch.device) -> "LaneTarget":
        unwaited = torch.device(device).type != "mps"  # there the copy may read what has been freed meanwhile
        return LaneTarget(self.points.to(device, non_blocking=unwaited), self.exists.to(device, non_blocking=unwaited))


class RowLogits(NamedTuple):
    """What a network finds row by row, for training to teach: logits of which column, and of whether at all."""

    columns: Tensor  # (B, L, h, K)
    present: Tensor  # (B, L, h)
    centers: Tensor  # (K) x of the columns' middles, equally spaced
    rows: Tensor  # (h) y of the rows' middles


def bottom_x(points: Tensor) -> Tensor:
    """x (...) where curves points (..., P, 2) reach y = 1, along the chord of their near half."""
    middle, near = sample_curve(points, 3)[..., 1:, :].unbind(-2)
    height = (near[..., 1] - middle[..., 1]).clamp(min=1e-6)
    return near[..., 0] + (near[..., 0] - middle[..., 0]) / height * (1 - near[..., 1])


def slot_indices(points: Tensor, exists: Tensor, slots: int) -> Tensor:
    """Slot (..., N) of each lane points (..., N, P, 2); -1 where exists is False or its side is full."""
    x = bottom_x(points)
    left = x < CAMERA_X
    offset = (x - CAMERA_X).abs()
    same_side = (left.unsqueeze(-1) == left.unsqueeze(-2)) & exists.unsqueeze(-2)
    nearer = offset.unsqueeze(-2) < offset.unsqueeze(-1)  # [n, m]: lane m is nearer to the camera than lane n
    rank = (same_side & nearer).sum(-1)
    # Two lanes that meet the bottom edge in the same point would share a slot: the later one gives way.
    n = torch.arange(x.shape[-1], device=x.device)
    rank = rank + (same_side & (offset.unsqueeze(-2) == offset.unsqueeze(-1)) & (n < n.unsqueeze(-1))).sum(-1)
    half = slots // 2
    slot = torch.where(left, half - 1 - rank, half + rank)
    return torch.where(exists & (rank < half), slot, -1)


def assign_slots(points: Tensor, exists: Tensor, slots: int) -> LaneTarget:
    """Lanes points (B, N, P, 2), exists (B, N), moved to their slots; lanes that do not fit are left out."""
    numbers = slot_indices(points, exists, slots)
    chosen = numbers.unsqueeze(-1) == torch.arange(slots, device=points.device)  # (B, N, L)
    moved = torch.einsum("bnl,bnpc->blpc", chosen.to(points.dtype), points)
    return LaneTarget(moved, chosen.any(-2))


def shift_slots(target: LaneTarget, shift: Tensor) -> LaneTarget:
    """The same lanes counted from one line further: shift (B) of -1, 0 or +1 slots to the right."""
    slots = target.exists.shape[1]
    source = torch.arange(slots, device=shift.device) - shift.unsqueeze(-1)  # (B, L)
    inside = (source >= 0) & (source < slots)
    source = source.clamp(0, slots - 1)
    exists = target.exists.gather(1, source) & inside
    points = target.points.gather(1, source[:, :, None, None].expand_as(target.points))
    return LaneTarget(points * exists[:, :, None, None], exists)


def resolve_ambiguous_assignment(points: Tensor, logits: Tensor, target: LaneTarget) -> LaneTarget:
    """The target itself, or, where the camera stands on a line, the count that suits the prediction better.

    In a lane change the line under the camera is as much `left 1` as `right 1`, and the whole count hangs on a
    few pixels. Both counts are right, so training and scoring take whichever is nearer to the prediction
    (points (B, L, P, 2), logits (B, L)); nothing is differentiated through the choice.
    """
    slots = target.exists.shape[1]
    x = bottom_x(target.points)
    close = target.exists & ((x - CAMERA_X).abs() < LANE_CHANGE)
    inner_left, inner_right = slots // 2 - 1, slots // 2
    shift = close[:, inner_left].long() - (close[:, inner_right] & ~close[:, inner_left]).long()  # (B)
    other = shift_slots(target, shift)

    def distance(candidate: LaneTarget) -> Tensor:
        error = (points.detach() - candidate.points)[..., 0].abs().mean(2) * candidate.exists
        wrong = torch.nn.functional.softplus(torch.where(candidate.exists, -logits, logits).detach())
        return (64 * error + wrong).sum(1)  # 64: 20 px of 1280 count as much as one nat of existence

    # A line that the outermost slot cannot take would make the shorter count cheaper for being shorter.
    complete = other.exists.sum(1) == target.exists.sum(1)
    take = (complete & (shift != 0) & (distance(other) < distance(target)))[:, None]
    return LaneTarget(torch.where(take[..., None, None], other.points, target.points),
                      torch.where(take, other.exists, target.exists))
