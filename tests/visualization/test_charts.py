"""The training's pictures: lines where the values are, gaps where there are none, and what is laid over images."""

import numpy as np
import pytest
import torch

from geometry.bezier import control_points_from_x
from visualization.charts import (
    BLUE,
    MARGIN_PX,
    ORANGE,
    PANEL_PX,
    Line,
    captioned_sheet,
    diagram,
    overlay,
    ticks,
    training_curve,
)

LEFT, TOP, RIGHT, BOTTOM = MARGIN_PX
WIDTH, HEIGHT = PANEL_PX
ONE = [Line("one", "one", BLUE)]


def records(count, **values):
    return [{"epoch": epoch, "train_loss": 2 / epoch, "val_loss": 1 / epoch, "error_px": 40.0, "f1": 0.8,
             "constant_error_px": 90.0, "accuracy": 0.9, "diversity": 0.7, **values} for epoch in range(1, count + 1)]


def places(image, color):
    """(N, 2) x, y of the pixels of exactly a color inside the axes."""
    y, x = np.nonzero((image == color).all(2))
    inside = (y >= TOP) & (y <= HEIGHT - BOTTOM) & (x >= LEFT) & (x <= WIDTH - RIGHT)
    return np.stack((x, y), 1)[inside]


@pytest.mark.parametrize(("low", "high", "about", "expected"), [
    (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    (0, 3.4, 5, [0, 1, 2, 3, 4]),
    (1, 1000, 8, [0, 200, 400, 600, 800, 1000]),
    (0, 0.3, 3, [0, 0.1, 0.2, 0.3]),
    (0, 7e6, 4, [0, 2e6, 4e6, 6e6, 8e6]),
])
def test_ticks_are_round_and_enclose_the_values(low, high, about, expected):
    assert ticks(low, high, about) == expected


@pytest.mark.parametrize("count", [1, 2, 11, 1000])
def test_a_curve_of_any_length_has_one_size_and_all_its_lines(count):
    image = training_curve(records(count))
    assert image.shape == (2 * HEIGHT, 2 * WIDTH, 3) and image.dtype == np.uint8
    assert len(places(image[:HEIGHT, :WIDTH], BLUE)) and len(places(image[:HEIGHT, :WIDTH], ORANGE))


def test_no_record_is_an_error():
    with pytest.raises(ValueError, match="no epoch to draw"):
        training_curve([])


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_line_lies_where_its_value_is(value):
    """The top tick is 1, that of the second line."""
    values = [{"epoch": epoch, "one": value, "top": 1.0} for epoch in range(1, 50)]
    found = diagram("", values, [*ONE, Line("top", "top", ORANGE)])
    expected = HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM)
    if value < 1:  # a line that is drawn later covers it there
        assert places(found, BLUE)[:, 1].mean() == pytest.approx(expected, abs=1)
    assert places(found, ORANGE)[:, 1].mean() == pytest.approx(TOP, abs=1)


def test_null_values_leave_a_gap():
    full = [{"epoch": e, "one": 0.5} for e in range(1, 101)]
    holed = [record | ({"one": None} if 40 < record["epoch"] < 60 else {}) for record in full]
    middle = LEFT + (WIDTH - LEFT - RIGHT) // 2

    def near_the_middle(image):
        return (abs(places(image, BLUE)[:, 0] - middle) < 40).any()

    assert near_the_middle(diagram("", full, ONE)) and not near_the_middle(diagram("", holed, ONE))


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_line_without_any_value_is_an_empty_diagram(value):
    image = diagram("", [{"epoch": 1, "one": value}, {"epoch": 2, "one": value}], ONE)
    assert image.shape == (HEIGHT, WIDTH, 3) and len(places(image, BLUE)) == 0


def test_a_single_epoch_is_a_dot_in_the_middle():
    x, y = places(diagram("", [{"epoch": 7, "one": 1.0}], ONE), BLUE).mean(0)
    assert (x, y) == (pytest.approx(LEFT + (WIDTH - LEFT - RIGHT) / 2, abs=1), pytest.approx(TOP, abs=3))


def test_an_overlay_shows_what_is_reported_and_what_is_labelled():
    """Grey stays where nothing is drawn; a lane not reported and a label that does not exist are not drawn."""
    image = np.full((360, 640, 3), 128, np.uint8)
    points = torch.stack([control_points_from_x(torch.full((6,), x), torch.tensor(0.4), torch.tensor(1.0)) for x in (0.2, 0.8)])
    drawn = overlay(image, points, torch.tensor([0.9, 0.9]), torch.tensor([True, False]), points.flip(0),
                    torch.tensor([False, False]), 320)
    assert drawn.shape == (180, 320, 3)
    changed = np.nonzero((drawn != 128).any((0, 2)))[0] / 320
    assert changed.min() > 0.05 and changed.max() < 0.4
    labelled = overlay(image, points, torch.tensor([0.9, 0.9]), torch.tensor([False, False]), points,
                       torch.tensor([False, True]), 320)
    assert (labelled[120, 250:262] > 200).all(1).any() and (labelled[:, :200] == 128).all()
    assert (image == 128).all(), "the image itself is left as it was"


def test_a_sheet_keeps_the_shape_of_every_image():
    """A portrait among landscapes gets borders, not another shape; captions may hold any letter."""
    images = [np.full((90, 160, 3), 200, np.uint8), np.full((160, 90, 3), 200, np.uint8)]
    sheet = captioned_sheet(images, ["first", "zweites Stra\u00dfenbild \u9053"], 2)
    assert sheet.shape == (120, 320, 3)
    bright = (sheet[30:] == 200).all(2)
    assert bright[:, :160].all() and bright[:, 160:].sum() == 90 * round(90 * 90 / 160)
