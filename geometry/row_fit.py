"""A lane's x row by row, where rows without certainty follow the curve through those that have it.

Shapes: (..., R) lanes with R rows; x and y in [0, 1] of the image.
"""

import torch
from torch import Tensor

ITERATIONS = 3
OUTLIER = 0.03  # of the image's width: a row so far from the curve counts half of one that lies on it
FOLLOWED = 0.05  # a row with full certainty goes half way back to the curve from so far away
FULL_CERTAINTY = 0.6  # share of a row's probability near its maximum from which its x is its own
RIDGE = 1e-3  # keeps the curve of one or two rows straight
FLOOR = 1e-5  # weight of a row without certainty


def follow_curve(x: Tensor, y: Tensor, certainty: Tensor, present: Tensor) -> Tensor:
    """x (..., R) float32, where rows of little certainty and outliers are moved to the lane's own quadratic.

    y (R); certainty (..., R) in [0, 1], how sure the row is of its x; present (..., R) in [0, 1], that the row has the
    lane at all. The quadratic x(y) is fitted by iteratively reweighted least squares with Cauchy's weights (Holland and
    Welsch 1977, "Robust regression using iteratively reweighted least-squares").
    """
    t = (2 * y - y[:1] - y[-1:]) / (y[-1:] - y[:1])  # from -1 to 1
    square = t * t
    powers = torch.stack((torch.ones_like(t), t, square, square * t, square * square))  # (5, R)
    trust = certainty.square() * present + FLOOR
    trust = trust / trust.sum(-1, keepdim=True)
    weight = trust
    for _ in range(ITERATIONS):
        curve = _weighted_quadratic(x, powers, weight)
        weight = trust / (1 + ((x - curve) / OUTLIER).square())
    own = (certainty / FULL_CERTAINTY).clamp(max=1).square() / (1 + ((x - curve) / FOLLOWED).square())
    return curve + own * (x - curve)


def _weighted_quadratic(x: Tensor, powers: Tensor, weight: Tensor) -> Tensor:
    """(..., R): the quadratic in t nearest to x (..., R), by weighted least squares, at t, of which powers (5, R) are.

    By Cramer's rule: runtimes that read exported models have no solver.
    """
    s0, s1, s2, s3, s4 = (weight.unsqueeze(-2) * powers).sum(-1).unbind(-1)
    b0, b1, b2 = ((weight * x).unsqueeze(-2) * powers[:3]).sum(-1).unbind(-1)
    s0, s2_diagonal, s4 = s0 + FLOOR, s2 + RIDGE, s4 + RIDGE
    c00, c01, c02 = s2_diagonal * s4 - s3 * s3, s2 * s3 - s1 * s4, s1 * s3 - s2 * s2_diagonal
    c11, c12, c22 = s0 * s4 - s2 * s2, s1 * s2 - s0 * s3, s0 * s2_diagonal - s1 * s1
    determinant = s0 * c00 + s1 * c01 + s2 * c02
    constant = c00 * b0 + c01 * b1 + c02 * b2
    slope = c01 * b0 + c11 * b1 + c12 * b2
    bend = c02 * b0 + c12 * b1 + c22 * b2
    fitted = constant.unsqueeze(-1) + slope.unsqueeze(-1) * powers[1] + bend.unsqueeze(-1) * powers[2]
    return fitted / determinant.unsqueeze(-1)
