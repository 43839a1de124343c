"""Lane curves: quintic Béziers in one canonical form, as pure functions.

Shapes: P control points (6), S samples, R rows, L lanes, N points of all lanes, 2 = (x, y); `...` is any batch.
x grows to the right, y downwards, both in [0, 1] of the image. P0 is the far (upper) end, P5 the near one.

Canonical form: y is linear in t, that is, the control points are equally spaced in y. A lane then has one set of
control points and no other, and x at row y needs no root finding. With a free parametrisation the same lane has many
sets, and regression learns their average.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from geometry.curve_fit import CONTROL_POINTS, DEGREE, fit_polylines

MAX_RETURN = 0.01  # of the image's height that a turned curve may run back by and still have an x in each row


def bernstein(t: Tensor, degree: int = DEGREE) -> Tensor:
    """Bernstein basis at t (...), as (..., degree + 1): C(n, k) t^k (1 - t)^(n - k)."""
    k = torch.arange(degree + 1, device=t.device, dtype=t.dtype)
    t = t.unsqueeze(-1)
    return _binomials(degree, t.device, t.dtype) * t**k * (1 - t) ** (degree - k)


@functools.cache  # none is ever dropped: a CUDA graph reads it where it lies
def _binomials(degree: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """C(degree, k) as (degree + 1); cached, since a copy from the CPU makes a GPU wait."""
    with torch.inference_mode(False):  # as in sample_basis
        return torch.tensor([math.comb(degree, k) for k in range(degree + 1)], device=device, dtype=dtype)


@functools.cache  # none is ever dropped: a CUDA graph reads it where it lies
def sample_basis(samples: int, device: torch.device | None = None) -> Tensor:
    """Basis (S, P) at `samples` equally spaced t in [0, 1]."""
    with torch.inference_mode(False):  # a tensor made in inference mode could not be trained with later
        return bernstein(torch.linspace(0, 1, samples)).to(device)


@functools.cache  # none is ever dropped: a CUDA graph reads it where it lies
def fit_matrix(samples: int, device: torch.device | None = None) -> Tensor:
    """Least-squares matrix (P, S) from values at `samples` equally spaced t to control values."""
    with torch.inference_mode(False):  # as in sample_basis
        return torch.linalg.pinv(bernstein(torch.linspace(0, 1, samples, dtype=torch.float64))).float().to(device)


@functools.cache  # none is ever dropped: a CUDA graph reads it where it lies
def unit_steps(count: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """(count) equally spaced numbers from 0 to 1."""
    with torch.inference_mode(False):  # as in sample_basis
        return torch.linspace(0, 1, count, device=device, dtype=dtype)


def sample_curve(control: Tensor, samples: int) -> Tensor:
    """Points (..., S, 2) at equally spaced t on the curves control (..., P, 2)."""
    return sample_basis(samples, control.device).to(control.dtype) @ control


def x_at_rows(control: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """x (..., R) and t (..., R) of canonical curves control (..., P, 2) at rows (R) in [0, 1].

    A row lies on the curve where 0 <= t <= 1. Beyond its ends a curve continues along its end tangents, since an
    extrapolated quintic can go anywhere.
    """
    y_far, y_near = control[..., 0, 1, None], control[..., -1, 1, None]
    t = (rows - y_far) / (y_near - y_far).clamp(min=1e-6)
    inside = t.clamp(0, 1)
    x = control[..., 0]
    on_curve = (bernstein(inside) * x.unsqueeze(-2)).sum(-1)
    far_slope, near_slope = DEGREE * (x[..., 1:2] - x[..., :1]), DEGREE * (x[..., -1:] - x[..., -2:-1])
    return on_curve + torch.where(t < 0, far_slope, near_slope) * (t - inside), t


def control_points_from_x(x: Tensor, y_far: Tensor, y_near: Tensor) -> Tensor:
    """Canonical control points (..., P, 2) from their x (..., P) and the y of both ends, y_far and y_near (...)."""
    fraction = unit_steps(CONTROL_POINTS, x.device, x.dtype)
    y = y_far.unsqueeze(-1) + (y_near - y_far).unsqueeze(-1) * fraction
    return torch.stack((x, y), dim=-1)


def fit_bezier(points: Tensor) -> Tensor:
    """Canonical control points (P, 2) of the curve that stands for one polyline (N, 2), as `fit_polylines`."""
    control, _ = fit_polylines(points.double().numpy(), np.array([len(points)]))
    return torch.from_numpy(control[0]).float()


def refit_clipped(points: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Canonical curves (..., P, 2) through the inside part of sampled ones, and valid (...); batched, on any device.

    points (..., S, 2) run along each curve; inside (..., S) is True for those in the image, one piece. valid is False
    where fewer than two points are inside, where they have no height, and where the curve climbs and falls, so that no
    x belongs to a row. One that is turned so far that its far end is the lower one changes its ends.
    """
    steps = torch.where(inside[..., 1:] & inside[..., :-1], points[..., 1:, 1] - points[..., :-1, 1], 0.0)
    down, up = steps.clamp(min=0).sum(-1), -steps.clamp(max=0).sum(-1)  # of the way from the far end to the near one
    turned = (up > down)[..., None]
    points = torch.where(turned[..., None], points.flip(-2), points)
    inside = torch.where(turned, inside.flip(-1), inside)
    x, y = points.unbind(-1)
    inf = torch.inf
    y_far = torch.where(inside, y, inf).amin(-1)
    y_near = torch.where(inside, y, -inf).amax(-1)
    valid = (inside.sum(-1) >= 2) & (y_near - y_far > 0.02) & (torch.minimum(down, up) < MAX_RETURN)
    y_far, y_near = torch.where(valid, y_far, 0.0), torch.where(valid, y_near, 1.0)
    before = (inside.cumsum(-1) == 0)  # what is outside may turn back, and must not come between those inside
    beyond = torch.where(before, y.minimum(y_far[..., None] - 1e-5), y.maximum(y_near[..., None] + 1e-5))
    y = torch.where(inside, y, beyond)
    samples = points.shape[-2]
    rows = torch.linspace(0, 1, samples, device=x.device, dtype=x.dtype)
    rows = y_far.unsqueeze(-1) + (y_near - y_far).unsqueeze(-1) * rows  # (..., S)
    right = (y.unsqueeze(-2) < rows.unsqueeze(-1)).sum(-1).clamp(1, samples - 1)  # first sample below each row
    y0, y1 = y.gather(-1, right - 1), y.gather(-1, right)
    x0, x1 = x.gather(-1, right - 1), x.gather(-1, right)
    weight = ((rows - y0) / (y1 - y0).clamp(min=1e-6)).clamp(0, 1)
    control_x = (x0 + (x1 - x0) * weight) @ fit_matrix(samples, x.device).to(x.dtype).T
    return control_points_from_x(control_x, y_far, y_near), valid
