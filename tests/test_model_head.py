"""The head: a lane is where its rows and columns say, from its far end to its near one, in any rows."""

import math

import pytest
import torch
from batches import HEIGHT, WIDTH, pictures

from geometry.feature_grid import COLUMNS_PER_CELL, column_centers, feature_grid
from geometry.input_grid import RowWarp
from model import LaneNet, modal_x


def sure_of(net, monkeypatch, far_row, near_row, column_of_row=None):
    """Make the head certain of the rows where every lane begins and ends, and of its column in each row."""
    def ends(features):
        logits = torch.full((len(features), 4, *features.shape[2:]), -30.0)
        logits[:, 0, far_row] = logits[:, 1, near_row] = 30.0
        return logits

    def columns(features):
        logits = torch.full((len(features), net.slots, 2, features.shape[2], features.shape[3] + 2), -30.0)
        for row in range(logits.shape[3]):
            cell, part = divmod(column_of_row(row), 2)
            logits[:, :, part, row, cell] = 30.0
        return logits.flatten(1, 2)

    monkeypatch.setattr(net.head.ends, "forward", ends)
    if column_of_row:
        monkeypatch.setattr(net.head.columns, "forward", columns)


@pytest.mark.parametrize("warp", [RowWarp(), RowWarp(0.25), RowWarp(0.25, 3.5), RowWarp(0.5, 8.0)])
def test_lanes_lie_in_the_rows_that_the_network_has(warp):
    torch.manual_seed(0)
    model = LaneNet(warp=warp).eval()
    with torch.inference_mode():
        (points, _), rows = model(pictures(2), with_rows=True)
    y = points[..., 1]
    assert y.min() >= warp.cut_top - 1e-6 and y.max() <= 1 + 1e-6
    middles = (torch.arange(HEIGHT // 8) + 0.5) / (HEIGHT // 8)
    torch.testing.assert_close(rows.y, warp.y(middles))


@pytest.mark.parametrize("height", [96, 432])
@pytest.mark.parametrize("warp", [RowWarp(), RowWarp(0.25, 3.5)])
def test_a_lane_that_begins_and_ends_in_the_last_row_stays_in_the_image(warp, height):
    torch.manual_seed(0)
    model = LaneNet(warp=warp).eval()
    last = torch.full((2, 4, height // 8, 6), -1e4)
    last[:, :2, -1] = 1e4  # far and near
    model.head.ends.forward = lambda along: last
    with torch.inference_mode():
        (points, _), rows = model(pictures(2, height=height), with_rows=True)
    y = points[..., 1]
    assert y.max() <= 1 + 1e-6 and (y[..., -1] - y[..., 0] > 0.019).all()
    grid = feature_grid(height // 8, len(rows.centers), warp, rows.centers.device)
    x = modal_x(rows.columns.softmax(-1), grid, rows.present.sigmoid())[..., -2:]  # of the last rows
    apart = (x[..., 1] - x[..., 0]).abs().max()
    assert (points[..., 0] - x[..., 1:]).abs().max() <= apart + 1e-4


@pytest.mark.parametrize("warp", [RowWarp(), RowWarp(0.25, 3.5), RowWarp(0.5, 8.0)])
def test_a_straight_line_stays_straight_in_any_rows(warp):
    """The columns of all rows lie on one line of the image: so does the curve, beyond the rows' middles as well."""
    torch.manual_seed(0)
    model = LaneNet(warp=warp).eval()
    centers = column_centers(2 * (WIDTH // 8 + 2), torch.device("cpu"))
    middles = warp.y((torch.arange(HEIGHT // 8) + 0.5) / (HEIGHT // 8))
    expected_x = 0.2 + 0.5 * middles
    shares = (1 - (expected_x[:, None] - centers).abs() / (centers[1] - centers[0])).clamp(min=0)  # (h, K)
    cells = shares.clamp(min=1e-30).log().unflatten(1, (-1, COLUMNS_PER_CELL)).permute(2, 0, 1)  # (2, h, w + 2)
    model.head.columns.forward = lambda features: cells.repeat(6, 1, 1).expand(len(features), -1, -1, -1)
    ends = torch.full((2, 4, HEIGHT // 8, 6), -1e4)
    ends[:, 0, 0] = ends[:, 1, -1] = ends[:, 3] = 1e4  # from the upper edge of the first row to the lower of the last
    model.head.ends.forward = lambda along: ends
    with torch.inference_mode():
        points = model(pictures(2)).points
    torch.testing.assert_close(points[..., 0], 0.2 + 0.5 * points[..., 1], atol=1e-5, rtol=0)


def test_rows_are_shown_on_request_and_change_no_answer(net):
    with torch.inference_mode():
        prediction, rows = net(pictures(2), with_rows=True)
        assert torch.equal(prediction.points, net(pictures(2)).points)
    assert rows.columns.shape == (2, 6, HEIGHT // 8, 2 * (WIDTH // 8 + 2)) and rows.columns.dtype == torch.float32
    assert rows.present.shape == (2, 6, HEIGHT // 8) and rows.centers.shape == (2 * (WIDTH // 8 + 2),)


def test_a_lane_is_where_its_columns_are(net, monkeypatch):
    """Column logits that choose one column in every row give a straight upright lane there."""
    centers = column_centers(44, torch.device("cpu"))  # two a cell, and a cell more on each side
    assert centers[0].item() == pytest.approx(-0.0375) and centers[-1].item() == pytest.approx(1.0375)
    torch.testing.assert_close(centers.diff(), torch.full((43,), 0.025))
    sure_of(net, monkeypatch, 0, -1, lambda _row: 15)
    with torch.inference_mode():
        points, _ = net(pictures(1))
    torch.testing.assert_close(points[..., 0], torch.full_like(points[..., 0], 0.3375), atol=1e-4, rtol=0)


def test_a_slanted_lane_is_where_its_columns_are(net, monkeypatch):
    """One column further in each row: a straight line through the centers of those of 40 columns and 12 rows."""
    sure_of(net, monkeypatch, 2, 9, lambda row: 4 + row)
    with torch.inference_mode():
        points, _ = net(pictures(1))
    y = points[..., 1]
    assert y[..., 0].max() < 0.25 and y[..., -1].min() > 0.75
    x = (4 + 12 * y - 0.5 - 1.5) / 40  # the center of column k is at (k - 1.5) / 40, that of row r at (r + 0.5) / 12
    torch.testing.assert_close(points[..., 0], x, atol=1e-3, rtol=0)


def test_a_lane_can_begin_and_end_where_labels_do(net, monkeypatch):
    """TuSimple's lanes reach row 710 of 720: the head must be able to say so without help from a tolerance."""
    sure_of(net, monkeypatch, 0, -1)
    with torch.inference_mode():
        points, _ = net(pictures(1, height=192, width=320))
    assert points[..., 0, 1].max() <= 160 / 720
    assert points[..., -1, 1].min() >= 710 / 720


def test_evidence_for_two_lines_gives_one_of_them_and_not_their_mean(net, monkeypatch):
    """Columns 8 and 28 of 44 share a slot, the first with a little more; in training their mean keeps its gradient."""
    def columns(features):
        logits = torch.full((len(features), net.slots, 2, features.shape[2], features.shape[3] + 2), -30.0)
        logits[:, :, 0, :, 4], logits[:, :, 0, :, 14] = 5.2, 5.0
        return logits.flatten(1, 2)

    sure_of(net, monkeypatch, 0, -1)
    monkeypatch.setattr(net.head.columns, "forward", columns)
    centers = column_centers(44, torch.device("cpu"))
    with torch.inference_mode():
        points, _ = net(pictures(1))
        monkeypatch.setattr(net.head, "training", True)
        mean, _ = net(pictures(1))
    assert (points[..., 0] - centers[8]).abs().max() < 0.005
    share = 1 / (1 + math.exp(-0.2))
    expected = share * centers[8] + (1 - share) * centers[28]
    torch.testing.assert_close(mean[..., 0], expected.expand_as(mean[..., 0]), atol=1e-3, rtol=0)


def test_a_second_line_two_cells_beside_the_likelier_one_has_no_say():
    """Columns 20 and 24 of 44, a tenth of the image apart: their mean would be between both."""
    grid = feature_grid(12, 44, RowWarp(), torch.device("cpu"))
    weights = torch.zeros(12, 44)
    weights[:, 20], weights[:, 24] = 0.65, 0.35
    torch.testing.assert_close(modal_x(weights, grid, torch.ones(12)), grid.centers[20].expand(12), atol=1e-3, rtol=0)


def test_rows_without_the_lane_have_no_say_in_where_others_follow():
    """The first three rows cannot tell, the next three see another line where the lane is not, the last six the lane.
    """
    grid, weights, present = feature_grid(12, 44, RowWarp(), torch.device("cpu")), torch.zeros(12, 44), torch.ones(12)
    weights[:3], weights[3:6, 36], weights[6:, 20] = 1 / 44, 1.0, 1.0
    present[3:6] = 1e-4
    x = modal_x(weights, grid, present)
    assert (x[:3] - grid.centers[20]).abs().max() < 0.05


def test_rows_that_cannot_tell_follow_the_others(net, monkeypatch):
    """The lower half sees nothing, as under a bonnet: the line goes straight on."""
    def columns(features):
        logits = torch.full((len(features), net.slots, 2, features.shape[2], features.shape[3] + 2), -30.0)
        for row in range(logits.shape[3]):
            cell, part = divmod(12 + row, 2)
            logits[:, :, part, row, cell] = 30.0
        logits[:, :, :, logits.shape[3] // 2 :] = 0.0
        return logits.flatten(1, 2)

    def ends(features):
        logits = torch.full((len(features), 4, *features.shape[2:]), -30.0)
        logits[:, 0, 0] = logits[:, 1, -1] = logits[:, 3] = 30.0
        return logits

    monkeypatch.setattr(net.head.columns, "forward", columns)
    monkeypatch.setattr(net.head.ends, "forward", ends)
    with torch.inference_mode():
        points, _ = net(pictures(1))
    x = (12 + 12 * points[..., 1] - 0.5 - 1.5) / 40
    torch.testing.assert_close(points[..., 0], x, atol=0.03, rtol=0)
