"""The loss: four terms with fixed weights, each at least zero, none of them learned.

Shapes: B batch, L lane slots, P = 6 control points, S samples, 2 = (x, y) in [0, 1].

There is nothing here that an optimizer can lower without predicting better lanes: no parameters, no logarithm of
a weight, no term that a prediction without regard to the image brings to zero.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from geometry.bezier import sample_curve, x_at_rows
from geometry.slots import LaneTarget, RowLogits

UNIT = 0.1  # of the image: an error of that size costs 1; in a smaller unit regression drowns the other terms
SAMPLES = 24  # points at which two curves are compared
ROWS_BEYOND_ENDS = 2  # in which its column is supervised too

ReduceCount = Callable[[Tensor], Tensor]


def identity(count: Tensor) -> Tensor:
    """The count itself: what a term divides by where one process has the whole batch."""
    return count


class LossTerms(NamedTuple):
    """The weighted total and the unweighted terms, all scalars."""

    total: Tensor
    regression: Tensor
    existence: Tensor
    curvature: Tensor
    columns: Tensor  # 0 where no row logits were given


class LaneLoss:
    """total = the sum of weight x term over regression, existence, curvature and, in training, columns.

    Not a module: it has no parameters. Raises ValueError for a weight that is negative or not finite, and when
    all of them are zero.
    """

    def __init__(self, regression: float = 1.0, existence: float = 1.0, curvature: float = 0.1, columns: float = 1.0):
        self.weights = {"regression": regression, "existence": existence, "curvature": curvature, "columns": columns}
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"loss.{name} is {weight}; a weight is a finite number of at least 0")
        if not any(self.weights.values()):
            raise ValueError("loss: all weights are 0, so there is nothing to learn; set one above 0")

    def __call__(self, points: Tensor, logits: Tensor, target: LaneTarget, row_logits: RowLogits | None = None,
                 reduce_count: ReduceCount = identity) -> LossTerms:
        """Terms for predicted points (B, L, P, 2) and logits (B, L) against a target of the same shapes.

        row_logits are the head's, which exist in training only; without them the `columns` term is 0.
        Where several processes have a part of the batch each, `reduce_count` gives the mean of a count over them: the
        mean of their terms is then the term of the whole batch.
        """
        terms = {
            "regression": regression_loss(points, target, reduce_count),
            "existence": existence_loss(logits, target, reduce_count),
            "curvature": curvature_loss(points, target, reduce_count),
            "columns": logits.new_zeros(()) if row_logits is None else columns_loss(row_logits, target, reduce_count),
        }
        total = sum(self.weights[name] * term for name, term in terms.items() if self.weights[name] > 0)
        return LossTerms(total, **terms)


def regression_loss(points: Tensor, target: LaneTarget, reduce_count: ReduceCount = identity) -> Tensor:
    """Mean distance |dx| + |dy| along the curves of real lanes, in tenths of the image; 0 if none.

    The curves are compared, not only their control points: a control point may be far off where the curve
    hardly moves, and the other way round (Feng et al. 2022, "Rethinking efficient lane detection via curve
    modeling", where the same change is worth 5 F1 on CULane).
    """
    difference = sample_curve(points, SAMPLES) - sample_curve(target.points, SAMPLES)  # (B, L, S, 2)
    return _masked_mean(difference.abs().sum(-1).mean(-1) / UNIT, target.exists, reduce_count)


def existence_loss(logits: Tensor, target: LaneTarget, reduce_count: ReduceCount = identity) -> Tensor:
    """Mean binary cross-entropy over all slots, in nats."""
    entropy = F.binary_cross_entropy_with_logits(logits, target.exists.to(logits.dtype), reduction="none")
    return _masked_mean(entropy, torch.ones_like(target.exists), reduce_count)


def curvature_loss(points: Tensor, target: LaneTarget, reduce_count: ReduceCount = identity) -> Tensor:
    """Mean difference of the bends of real lanes, in tenths of the image; 0 if there are none.

    The bend at a control point is its second difference P[i-1] - 2 P[i] + P[i+1]. It is compared with the
    label's: a penalty on the bend itself is cheapest for straight lanes, whatever the image shows.
    """
    difference = _second_difference(points) - _second_difference(target.points)  # (B, L, P - 2, 2)
    return _masked_mean(difference.abs().sum(-1).mean(-1) / UNIT, target.exists, reduce_count)


def columns_loss(row_logits: RowLogits, target: LaneTarget, reduce_count: ReduceCount = identity) -> Tensor:
    """Row by row (nats): divergence of the column distribution from the label's, over the rows of real lanes and a few
    beyond their ends, plus the cross-entropy of "this row has a lane", over all rows.

    The first supervises the column long before the mean over all columns comes near the lane (Qin et al. 2020, "Ultra
    fast structure-aware deep lane detection", choose columns by classification), the second the appearance of a lane
    where there is one. The label's x falls between two columns, which share its weight, so that their mean is x. The
    divergence from that (cross-entropy less the entropy of the label) is 0 for a perfect prediction. Beyond its ends a
    lane goes on straight: an end that is off by a row must not bend it.
    """
    columns, present, centers, y = row_logits
    count = columns.shape[3]
    x, t = x_at_rows(target.points, y)  # (B, L, h)
    exists = target.exists.unsqueeze(-1)
    on_lane = exists & (t >= 0) & (t <= 1)
    first, last = target.points[..., :1, 1], target.points[..., -1:, 1]  # (B, L, 1)
    infinity = y.new_full((ROWS_BEYOND_ENDS,), torch.inf)
    above = torch.cat((-infinity, y[:-ROWS_BEYOND_ENDS]))  # (h): y of the row so many rows up,
    below = torch.cat((y[ROWS_BEYOND_ENDS:], infinity))  # and down
    supervised = exists & (below >= first) & (above <= last)
    position = ((x - centers[0]) / (centers[1] - centers[0])).clamp(0, count - 1)  # in columns
    index = torch.arange(count, device=columns.device, dtype=torch.float32)
    distribution = (1 - (position.unsqueeze(-1) - index).abs()).clamp(min=0)  # (B, L, h, K)
    divergence = F.kl_div(columns.log_softmax(-1), distribution, reduction="none").sum(-1).clamp(min=0)  # not -1e-9
    entropy = F.binary_cross_entropy_with_logits(present, on_lane.to(present.dtype), reduction="none")
    return (_masked_mean(divergence, supervised, reduce_count)
            + _masked_mean(entropy, torch.ones_like(on_lane), reduce_count))


def _second_difference(points: Tensor) -> Tensor:
    return points[..., :-2, :] - 2 * points[..., 1:-1, :] + points[..., 2:, :]


def _masked_mean(values: Tensor, mask: Tensor, reduce_count: ReduceCount) -> Tensor:
    """Mean of values (B, L, ...) where mask (B, L, ...); 0 with a gradient of 0 where the mask is empty."""
    mask = mask.to(values.dtype)
    count = reduce_count(mask.sum())
    return (values * mask).sum() / torch.where(count > 0, count, 1)
