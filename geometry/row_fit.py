"""A lane's x row by row, where rows without certainty follow the curve through those that have it.

Shapes: (..., R) lanes with R rows; x and y in [0, 1] of the image.
"""

from typing import NamedTuple

import torch
from torch import Tensor

ITERATIONS = 3
OUTLIER = 0.03  # of the image's width: a row so far from the curve counts half of one that lies on it
FOLLOWED = 0.05  # a row with full certainty goes half way back to the curve from so far away
FULL_CERTAINTY = 0.6  # share of a row's probability near its maximum from which its x is its own
SLOPE_RIDGE, BEND_RIDGE = 2e-4, 2e-3  # keep the curve of one or two rows straight; more bias every curve
FLOOR = 1e-5  # weight of a row without certainty

# The normal equations by name: s is a sum of powers, d one with a ridge, b the right side.
MATRIX, RIGHT = (("s0", "s1", "s2"), ("s1", "d2", "s3"), ("s2", "s3", "d4")), ["b0", "b1", "b2"]
CELLS = [(row, column) for row in (0, 1, 2, 0) for column in range(3)]  # the first row once more: for the determinant
RIDGES = {"s0": FLOOR, "d2": SLOPE_RIDGE, "d4": BEND_RIDGE}


def _moved(down: int, right: int) -> list[str]:
    """The entry so far down and to the right of each cell, around the edges, which gives cofactors their sign."""
    return [MATRIX[(row + down) % 3][(column + right) % 3] for row, column in CELLS]


# A cofactor is the product of the first two, less that of the next two. The cofactors of a row times the right side
# are, over the determinant, an unknown; those of the first row times that row are the determinant.
NAMES = [*_moved(1, 1), *_moved(2, 2), *_moved(1, 2), *_moved(2, 1), *3 * RIGHT, *MATRIX[0]]  # of F sums


class RowBasis(NamedTuple):
    """What a quadratic through R rows is fitted with."""

    powers: Tensor  # (R, 3)
    of_weight: Tensor  # (F, R): the sums are of the weights times these
    of_x: Tensor  # (F, R): and times x and these
    ridge: Tensor  # (F) added to the sums
    pull: Tensor  # (F) added to them for each x that the lane lies to the right of 0


def row_basis(y: Tensor) -> RowBasis:
    """For rows at y (R)."""
    t = (2 * y - y[:1] - y[-1:]) / (y[-1:] - y[:1])  # from -1 to 1
    square = t * t
    powers = (torch.ones_like(t), t, square, square * t, square * square)
    nothing = torch.zeros_like(t)
    of_weight = torch.stack([nothing if name[0] == "b" else powers[int(name[1])] for name in NAMES])
    of_x = torch.stack([powers[int(name[1])] if name[0] == "b" else nothing for name in NAMES])
    ridge = torch.tensor([RIDGES.get(name, 0.0) for name in NAMES], device=y.device, dtype=y.dtype)
    pull = torch.tensor([-FLOOR if name == "b0" else 0.0 for name in NAMES], device=y.device, dtype=y.dtype)
    return RowBasis(torch.stack(powers[:3], dim=-1), of_weight, of_x, ridge, pull)


def follow_curve(x: Tensor, basis: RowBasis, certainty: Tensor, present: Tensor) -> Tensor:
    """x (..., R) float32, where rows of little certainty and outliers are moved to the lane's own quadratic.

    basis: of the rows; certainty (..., R) in [0, 1], how sure the row is of its x; present (..., R) in [0, 1], that the
    row has the lane at all. The quadratic x(y) is fitted by iteratively reweighted least squares with Cauchy's weights
    (Holland and Welsch 1977, "Robust regression using iteratively reweighted least-squares").
    """
    trust = certainty.square() * present + FLOOR
    trust = trust / trust.sum(-1, keepdim=True)
    # From the mean of x on, since 32 bits are few for the normal equations of a lane that few rows are sure of.
    mean = (trust * x).sum(-1, keepdim=True)
    x = x - mean
    terms = torch.addcmul(basis.of_weight, x.unsqueeze(-2), basis.of_x)  # (..., F, R)
    added = torch.addcmul(basis.ridge, mean, basis.pull)  # (..., F)
    weight, off = trust, None
    for _ in range(ITERATIONS):
        if off is not None:
            weight = trust / (1 + (off / OUTLIER).square())
        curve = _weighted_quadratic(terms, added, basis.powers, weight)
        off = x - curve
    own = (certainty / FULL_CERTAINTY).clamp(max=1).square() / (1 + (off / FOLLOWED).square())
    return mean + curve + own * off


def _weighted_quadratic(terms: Tensor, added: Tensor, powers: Tensor, weight: Tensor) -> Tensor:
    """(..., R): the quadratic nearest to x by least squares with weight (..., R); terms (..., F, R) and added (..., F).

    By Cramer's rule: runtimes that read exported models have no solver. All its sums are one product and one sum, since
    for one image the time goes into the number of operations.
    """
    sums = (weight.unsqueeze(-2) * terms).sum(-1) + added  # (..., F)
    first, second, third, fourth, multiplied = sums.chunk(5, dim=-1)  # (..., 12) each
    solution = ((first * second - third * fourth) * multiplied).unflatten(-1, (4, 3)).sum(-1)  # (..., 4)
    coefficients = solution[..., :3] / solution[..., 3:]
    return (coefficients.unsqueeze(-2) * powers).sum(-1)
