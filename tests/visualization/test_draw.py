"""Drawing: lines and text that fit the image, whatever its size and the curves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from roads import picture

from visualization.draw import COLORS, contact_sheet, draw_lanes, write_image


def straight(x=0.5):
    return torch.stack((torch.full((6,), x), torch.linspace(0.2, 0.9, 6)), dim=-1)[None]


@pytest.mark.parametrize("size_px", [(640, 360), (1280, 720), (3840, 2160)])
def test_lines_and_text_grow_with_the_image(size_px):
    width, height = size_px
    grey = np.full((height, width, 3), 90, np.uint8)
    drawn = draw_lanes(grey, straight(0.3), torch.tensor([0.98]), torch.tensor([True]))
    assert not np.array_equal(drawn, grey) and np.array_equal(grey, np.full_like(grey, 90))
    own = (np.abs(drawn.astype(int) - COLORS[0]).max(-1) < 8)
    line = own[int(0.27 * height)]  # between the first two control points
    assert 0.0025 < line.sum() / width < 0.008 and line.sum() >= 2
    assert abs(line.nonzero()[0].mean() + 0.5 - 0.3 * width) < 1
    rows, columns = np.nonzero(own[:, int(0.32 * width):])  # the label is right of the curve
    assert np.ptp(rows) >= 14 and 0.02 < np.ptp(rows) / height < 0.06 and 0.03 < np.ptp(columns) / width < 0.15


def test_each_slot_has_its_color_and_labels_do_not_cover_each_other():
    image = np.full((360, 640, 3), 90, np.uint8)
    points = torch.cat([straight(0.5 + 0.005 * i) for i in range(6)])
    drawn = draw_lanes(image, points, torch.full((6,), 0.5), torch.ones(6, dtype=torch.bool))
    areas = [(np.abs(drawn.astype(int) - color).max(-1) < 8)[:, 345:].sum() for color in COLORS]
    assert len(set(COLORS)) == 6
    assert min(areas) > 0.5 * max(areas) > 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2)])
def test_drawing_survives_any_size_and_any_curve(shape):
    image = np.zeros((*shape, 3), np.uint8)
    points = torch.cat([straight(x) for x in (-50.0, 0.5, 1e6)])
    assert draw_lanes(image, points, torch.ones(3), torch.ones(3, dtype=torch.bool)).shape == image.shape
    assert contact_sheet([image], 2).shape[1] == 960


def test_a_picture_that_cannot_be_encoded_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="cannot be written in this format"):
        write_image(Path("a.nix"), picture())
    with pytest.raises(OSError):
        write_image(Path("absent/a.png"), picture())
    assert list(Path().iterdir()) == []
