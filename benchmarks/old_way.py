"""The old way in its three parts: a loss that learns its own weights, a pooled head, lanes in the order of the file.

Shapes: B batch, L lane slots, P = 6 control points, 2 = (x, y) in [0, 1].

For benchmarks/collapse.py alone: nothing that trains a model for use imports this, and no setting leads here.
"""

import torch
from torch import Tensor, nn

from geometry.bezier import CONTROL_POINTS
from geometry.slots import LaneTarget, RowLogits
from losses_fixed import LossTerms, existence_loss
from model import LaneNet, LanePrediction

TERMS = ("regression", "existence", "curvature")  # the order of log_vars
OUTPUTS = 2 * CONTROL_POINTS + 1  # of a slot: its control points and its logit


class UncertaintyLoss(nn.Module):
    """total = sum of 1/2 (exp(-s) term + s), with one log-variance s for each term (Kendall, Gal and Cipolla 2018).

    With learned=False every s stays 0, and only the terms themselves are those of old. With curvature=False that term
    is measured and no part of the total.
    """

    def __init__(self, learned: bool = True, curvature: bool = True):
        super().__init__()
        self.counted = torch.tensor([1.0, 1.0, float(curvature)])
        self.log_vars = nn.Parameter(torch.zeros(len(TERMS)), requires_grad=learned)

    def forward(self, points: Tensor, logits: Tensor, target: LaneTarget, rows: RowLogits | None = None) -> LossTerms:
        """Terms as LaneLoss gives them, for points (B, L, P, 2) and logits (B, L); rows play no part."""
        terms = torch.stack((control_point_loss(points, target), existence_loss(logits, target),
                             bend_loss(points, target)))
        total = 0.5 * (self.counted * (torch.exp(-self.log_vars) * terms + self.log_vars)).sum()
        return LossTerms(total, *terms, columns=logits.new_zeros(()))


def control_point_loss(points: Tensor, target: LaneTarget) -> Tensor:
    """Mean absolute difference of the coordinates of control points of real lanes; 0 without any."""
    return _mean_over_lanes((points - target.points).abs().mean((2, 3)), target.exists)


def bend_loss(points: Tensor, target: LaneTarget) -> Tensor:
    """Mean |second difference| of the predicted control points of real lanes, whatever its label's bend."""
    bend = points[..., :-2, :] - 2 * points[..., 1:-1, :] + points[..., 2:, :]  # (B, L, P - 2, 2)
    return _mean_over_lanes(bend.abs().mean((2, 3)), target.exists)


def _mean_over_lanes(values: Tensor, exists: Tensor) -> Tensor:
    return (values * exists).sum() / exists.sum().clamp(min=1)


def blind_terms(points: Tensor, exists: Tensor, constant: Tensor) -> Tensor:
    """The three terms, unweighted, that one prediction for all images reaches on labels (N, L, P, 2) and (N, L).

    constant (L, P, 2) are its lanes; its confidence is each slot's frequency, the best that a constant can be.
    """
    target = LaneTarget(points, exists)
    frequency = exists.float().mean(0)
    entropy = (torch.special.entr(frequency) + torch.special.entr(1 - frequency)).mean()
    lanes = constant.expand_as(points)
    return torch.stack((control_point_loss(lanes, target), entropy, bend_loss(lanes, target)))


def best_total(terms: Tensor) -> Tensor:
    """The total for terms (3) with the best possible s, log term: sum of 1/2 (1 + log term), -inf for a term of 0."""
    return 0.5 * (1 + terms.log()).sum()


class PooledNet(LaneNet):
    """The trunk of LaneNet, averaged over the whole image, and a perceptron that has to regress lanes from that."""

    def __init__(self, slots: int = 6):
        super().__init__("compact", slots=slots)
        del self.neck, self.head
        self.pooled_head = nn.Sequential(nn.Linear(192, 256), nn.ReLU(), nn.Linear(256, slots * OUTPUTS))

    def forward(self, images: Tensor, with_rows: bool = False) -> LanePrediction | tuple[LanePrediction, None]:
        """A LanePrediction from images (B, 3, H, W); its control points are free, each a sigmoid."""
        x = self.normalize(images)
        for stage in self.trunk:
            x = stage(x)
        outputs = self.pooled_head(x.mean((2, 3))).unflatten(1, (self.slots, OUTPUTS))  # (B, L, 2 P + 1)
        points = outputs[..., :-1].sigmoid().unflatten(2, (CONTROL_POINTS, 2))
        prediction = LanePrediction(points, outputs[..., -1])
        return (prediction, None) if with_rows else prediction


def as_listed(target: LaneTarget, generator: torch.Generator | None = None) -> LaneTarget:
    """The same lanes (B, L, ...) in the first slots: from left to right, or shuffled when a generator is given.

    A label file lists lanes in whatever order the annotator drew them; each image keeps its order in all epochs.
    """
    key = torch.arange(target.exists.shape[1]).expand_as(target.exists).float()
    if generator is not None:
        key = torch.rand(target.exists.shape, generator=generator)
    order = (key + 100 * ~target.exists).argsort(1)  # (B, L), lanes that exist first
    points = target.points.gather(1, order[:, :, None, None].expand_as(target.points))
    return LaneTarget(points, target.exists.gather(1, order))
