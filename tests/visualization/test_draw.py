"""Drawing on images: lines and text that fit them, whatever their size and the curves; sheets of several."""

from pathlib import Path

import numpy as np
import pytest
import torch
from roads import picture

from geometry.bezier import control_points_from_x
from visualization.draw import (
    CAPTION_PX,
    COLORS,
    blank,
    captioned_sheet,
    contact_sheet,
    draw_lanes,
    draw_overlay,
    write_image,
)


def straight(x=0.5):
    return torch.stack((torch.full((6,), x), torch.linspace(0.2, 0.9, 6)), dim=-1)[None]


@pytest.mark.parametrize("size_px", [(640, 360), (1280, 720), (3840, 2160)])
def test_lines_and_text_grow_with_the_image(size_px):
    width, height = size_px
    gray = np.full((height, width, 3), 90, np.uint8)
    drawn = draw_lanes(gray, straight(0.3), torch.tensor([0.98]), torch.tensor([True]))
    assert not np.array_equal(drawn, gray) and (gray == 90).all()
    own = (np.abs(drawn - np.array(COLORS[0], np.int16)).max(-1) < 8)
    line = own[int(0.27 * height)]  # between the first two control points
    assert 0.0025 < line.sum() / width < 0.008 and line.sum() >= 2
    assert abs(line.nonzero()[0].mean() + 0.5 - 0.3 * width) < 1
    rows, columns = np.nonzero(own[:, int(0.32 * width):])  # the text is right of the curve
    assert np.ptp(rows) >= 14 and 0.02 < np.ptp(rows) / height < 0.06 and 0.03 < np.ptp(columns) / width < 0.15


def test_each_slot_has_its_color_and_texts_do_not_cover_each_other():
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


def test_an_overlay_shows_the_reported_and_the_labelled_lanes():
    """Gray stays where nothing is drawn; a lane not reported and a label that does not exist are not drawn."""
    image = np.full((360, 640, 3), 128, np.uint8)
    points = torch.stack([control_points_from_x(torch.full((6,), x), torch.tensor(0.4), torch.tensor(1.0))
                          for x in (0.2, 0.8)])
    drawn = draw_overlay(image, points, torch.tensor([0.9, 0.9]), torch.tensor([True, False]), points.flip(0),
                         torch.tensor([False, False]), 320)
    assert drawn.shape == (180, 320, 3)
    changed = np.nonzero((drawn != 128).any((0, 2)))[0] / 320
    assert changed.min() > 0.05 and changed.max() < 0.4
    labelled = draw_overlay(image, points, torch.tensor([0.9, 0.9]), torch.tensor([False, False]), points,
                            torch.tensor([False, True]), 320)
    assert (labelled[120, 250:262] > 200).all(1).any() and (labelled[:, :200] == 128).all()
    assert (image == 128).all(), "the image itself is left as it was"


def test_a_sheet_keeps_the_shape_of_every_image():
    """A portrait among landscapes gets borders, not another shape; captions may have any letter."""
    images = [np.full((90, 160, 3), 200, np.uint8), np.full((160, 90, 3), 200, np.uint8)]
    sheet = captioned_sheet(images, ["first", "zweites Stra\u00dfenbild \u9053"], 2)
    assert sheet.shape == (90 + CAPTION_PX, 320, 3)
    bright = (sheet[CAPTION_PX:] == 200).all(2)
    assert bright[:, :160].all() and bright[:, 160:].sum() == 90 * round(90 * 90 / 160)
    assert all((sheet[:CAPTION_PX, x:x + 160] > 200).all(2).any() for x in (0, 160)), "both have a caption"


def test_a_blank_image_has_one_color():
    image = blank(3, 2, (10, 20, 30))
    assert image.dtype == np.uint8 and image.shape == (2, 3, 3) and (image == (10, 20, 30)).all()


def test_a_picture_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("not a folder")
    with pytest.raises(OSError, match="cannot be written in this format"):
        write_image(Path("a.nix"), picture())
    with pytest.raises(OSError, match="file"):
        write_image(Path("file/a.png"), picture())
    assert [path.name for path in Path().iterdir()] == ["file"]
