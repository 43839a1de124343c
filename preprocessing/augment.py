"""Augmentation of a batch on the device that trains: images are warped and recolored, and their lanes warped alike.

Shapes: B batch, L lane slots, P control points, S samples, H x W the network's input, 2 = (x, y) in [0, 1].
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from config import AugmentConfig
from geometry.bezier import refit_clipped, sample_curve
from geometry.input_grid import RowWarp
from geometry.slots import LaneTarget, assign_slots

SAMPLES = 64  # a lane that leaves the image is cut at its last sample inside
HORIZON = 0.35  # of the height: about where the roads of TuSimple end


class AugmentParams(NamedTuple):
    """The random parameters of B images."""

    matrix: Tensor  # (B, 2, 3) moves points (x, y, 1) of an image to their new position
    gain: Tensor  # (B, 3, 1, 1) multiplies RGB values
    offset: Tensor  # (B, 3, 1, 1) is added afterwards
    blank: Tensor  # (B) bool: the image is one gray (its gain is 0), and has no lanes

    def to(self, device: torch.device) -> "AugmentParams":
        """The parameters on a device."""
        return AugmentParams(*(part.to(device, non_blocking=device.type != "mps") for part in self))


def sample_params(count: int, settings: AugmentConfig, aspect: float, generator: torch.Generator) -> AugmentParams:
    """Random parameters for `count` images of width / height = aspect, on the CPU.

    The generator is the CPU's whatever the device, so that a seed means the same everywhere.
    """
    matrix = sample_affine(count, settings, aspect, generator)
    gain, offset = sample_color(count, settings, generator)
    blank = torch.rand(count, generator=generator) < settings.blank
    gray = torch.randint(256, (count, 1, 1, 1), generator=generator).float()
    hidden = blank[:, None, None, None]
    return AugmentParams(matrix, gain.masked_fill(hidden, 0), torch.where(hidden, gray, offset), blank)


def augment(images: Tensor, params: AugmentParams, warp: RowWarp, size: tuple[int, int] | None = None) -> Tensor:
    """The images (B, 3, H, W) uint8, in rows of `warp`, under the parameters: float32 in [0, 255], (B, 3, *size), by
    default as large as before. `augment_lanes` moves their lanes alike.
    """
    matrix, gain, offset, _ = params.to(images.device)
    grid = _sampling_grid(_sampling_matrix(matrix), *(size or images.shape[2:]), warp)
    images = F.grid_sample(images.float(), grid, padding_mode="zeros", align_corners=False)
    return images.mul_(gain).add_(offset).clamp_(0, 255)


def augment_lanes(target: LaneTarget, params: AugmentParams) -> LaneTarget:
    """The target of the augmented images; one that is blank has no lanes."""
    matrix, _, _, blank = params.to(target.exists.device)
    target, visible = warp_lanes(target, matrix), ~blank[:, None]
    return LaneTarget(target.points * visible[..., None, None], target.exists & visible)


def sample_affine(count: int, settings: AugmentConfig, aspect: float, generator: torch.Generator) -> Tensor:
    """Random matrices (B, 2, 3) that move a point (x, y, 1) of the image to its position in the new one.

    The image is rotated and scaled about its center, in pixels (aspect = width / height), shifted, mirrored, and
    sheared along the horizon, as a flat road is for a camera further to one side.
    """
    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle = uniform(math.radians(settings.rotate))
    scale = torch.exp(uniform(math.log1p(settings.scale)))
    mirror = torch.where(torch.rand(count, generator=generator) < settings.flip, -1.0, 1.0)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    linear = torch.stack((mirror * cos, -mirror * sin / aspect, sin * aspect, cos), dim=1).view(-1, 2, 2)
    shift = torch.stack((uniform(settings.shift), uniform(settings.shift)), dim=1)
    center = torch.full((count, 2), 0.5)
    offset = center - (linear @ center.unsqueeze(-1)).squeeze(-1) + shift
    shear = uniform(settings.shear / (1 - HORIZON))
    linear[:, 0] += shear.unsqueeze(-1) * linear[:, 1]
    offset[:, 0] += shear * (offset[:, 1] - HORIZON)
    return torch.cat((linear, offset.unsqueeze(-1)), dim=2)


def sample_color(count: int, settings: AugmentConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random gain and offset (B, 3, 1, 1) for RGB values in [0, 255]: brightness, contrast about gray, and tint."""
    def uniform(limit: float, channels: int = 1) -> Tensor:
        return (torch.rand(count, channels, 1, 1, generator=generator) * 2 - 1) * limit

    brightness = torch.exp(uniform(math.log1p(settings.brightness)))
    contrast = torch.exp(uniform(math.log1p(settings.contrast)))
    tint = torch.exp(uniform(math.log1p(settings.color), channels=3))
    return brightness * contrast * tint, (127.5 * (1 - contrast)).expand(-1, 3, -1, -1)


def warp_lanes(target: LaneTarget, matrix: Tensor) -> LaneTarget:
    """The target under matrices (B, 2, 3): the part of each lane that stays in the image, refitted, in its new slot."""
    curves = sample_curve(target.points, SAMPLES)  # (B, L, S, 2)
    moved = curves @ matrix[:, None, :, :2].transpose(2, 3) + matrix[:, None, None, :, 2]
    inside = ((moved >= 0) & (moved <= 1)).all(-1)
    points, valid = refit_clipped(moved, inside)
    return assign_slots(points, target.exists & valid, target.exists.shape[1])


def _sampling_matrix(matrix: Tensor) -> Tensor:
    """The inverse of matrix (B, 2, 3), in the [-1, 1] coordinates of grid_sample: from the new image to the old."""
    linear, offset = matrix[:, :, :2], matrix[:, :, 2]
    (a, b), (c, d) = linear[:, 0].unbind(1), linear[:, 1].unbind(1)
    inverse = torch.stack((d, -b, -c, a), dim=1).view(-1, 2, 2) / (a * d - b * c)[:, None, None]
    # x01 = (x11 + 1) / 2 on both sides: x11_old = inverse (x11_new + 1 - 2 offset) - 1
    shift = (inverse @ (1 - 2 * offset).unsqueeze(-1)).squeeze(-1) - 1
    return torch.cat((inverse, shift.unsqueeze(-1)), dim=2)


def _sampling_grid(matrix: Tensor, height: int, width: int, warp: RowWarp) -> Tensor:
    """(B, H, W, 2): the point in [-1, 1] that each pixel is sampled at, as grid_sample takes it.

    It is a sum over rows and columns; affine_grid's product of matrices takes 8 times as long.
    """
    x = (2 * torch.arange(width, device=matrix.device) + 1) / width - 1
    y = 2 * warp.y((torch.arange(height, device=matrix.device) + 0.5) / height) - 1
    across = x * matrix[:, :, :1] + matrix[:, :, 2:]  # (B, 2, W)
    down = y * matrix[:, :, 1:2]  # (B, 2, H)
    y_across, y_down = across[:, 1] / 2, (down[:, 1] + 1) / 2  # of the image, in [0, 1]
    v = warp.v(y_across[:, None] + y_down[..., None]).mul_(2).sub_(1)  # (B, H, W)
    if warp.cut_top:
        v.clamp_(min=1 / height - 1)  # the top was not kept: the first row stands for it
    grid = torch.empty(*v.shape, 2, device=v.device)
    grid[..., 0] = across[:, :1] + down[:, 0, :, None]
    grid[..., 1] = v
    return grid
