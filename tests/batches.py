"""Batches of noise as images, and of lanes as labels, for the tests of the network."""

import torch

from geometry.slots import LaneTarget

HEIGHT, WIDTH = 96, 160


def pictures(count, seed=0, height=HEIGHT, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def some_target(count, slots=6):
    x = torch.linspace(0.1, 0.9, slots)[:, None].expand(slots, 6)
    y = torch.linspace(0.4, 0.9, 6).expand(slots, 6)
    points = torch.stack((x, y), dim=-1).expand(count, -1, -1, -1)
    exists = torch.zeros(count, slots, dtype=torch.bool)
    exists[:, 1:-1] = True
    return LaneTarget(points * exists[..., None, None], exists)
