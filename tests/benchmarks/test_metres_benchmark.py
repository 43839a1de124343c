"""The benchmark of metres: the truth is the renderer's, and labels reach it."""

import metres
import numpy as np
import pytest

from inference.inputs import Frame
from inference.lane_position import LanePositions
from renderer.drive import sample_drive


@pytest.fixture(scope="module")
def drives():
    return [sample_drive(0, number, metres.FRAMES, *metres.SIZE) for number in range(6)]


@pytest.mark.parametrize("kind", metres.GROUNDS)
def test_labels_give_the_truth_of_the_renderer(drives, kind):
    views = [metres.label_view(metres.on_ground(drive, kind, number), number) for number, drive in enumerate(drives)]
    assert sum(view is not None for view in views) >= 4
    for view in filter(None, views):
        positions = LanePositions(metres.settings_of(view.camera, False))
        position = positions.update(Frame(metres.IMAGE, 1, metres.SIZE), view.detections)
        assert position.left.value == pytest.approx(view.gt.left, abs=0.08)
        assert position.right.value == pytest.approx(view.gt.right, abs=0.08)
        assert position.heading.value == pytest.approx(view.gt.heading, abs=0.004)
        if kind == "bends":
            assert position.curvature.value == pytest.approx(view.gt.curvature, rel=0.15)


def test_a_wrong_height_shows_in_the_table(drives):
    views = [metres.label_view(metres.on_ground(drive, "flat", number), number) for number, drive in enumerate(drives)]
    right, wrong = (metres.row(views, True, metres.WRONG[name]).split(" | ") for name in ("nothing", "height, 5 %"))
    assert len(right) == len(wrong) == len(metres.COLUMNS) and right[0] == "0"
    width = metres.COLUMNS.index("width, cm")
    assert float(right[width].split(" / ")[0]) < 1 and float(wrong[width].split(" / ")[0]) == pytest.approx(17, abs=4)


def test_medians_and_tails():
    assert metres.middle_and_tail(np.arange(101.0), 1) == "50.0 / 90.0"
    assert metres.middle_and_tail(np.zeros(0), 1) == "none"


def test_noise_moves_lanes_across_by_its_pixels(drives):
    view = metres.label_view(drives[0], 0)
    moved = metres.shaken(view, 3.0, 0).detections.points - view.detections.points
    assert (moved[..., 1] == 0).all()
    lanes = view.detections.points[view.detections.keep].numpy()
    run, rise = ((lanes[:, -1] - lanes[:, 0]) * metres.SIZE).T
    along = (metres.sample_basis(48) @ moved[view.detections.keep][..., :1]).numpy()[..., 0]
    across = along / np.hypot(1, run / rise)[:, None]
    assert 1280 * np.sqrt(np.square(across).mean()) == pytest.approx(3.0, rel=0.4)  # some of the lanes that were drawn


def test_curvature_is_counted_by_radius(drives):
    views = [metres.label_view(metres.on_ground(drive, "bends", number), number) for number, drive in enumerate(drives)]
    row = metres.row(views, True, metres.WRONG["nothing"]).split(" | ")
    counted = [int(cell.split(" of ")[1]) for cell in row if " of " in cell]
    assert sum(counted) == sum(view is not None for view in views) and len(counted) == 2
