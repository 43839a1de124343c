"""Charts of drives: where lanes and labels are, by slot and by identity, and the page that shows them."""

import numpy as np
import pytest
import torch

from dataset import LaneDataset
from evaluation import evaluator
from evaluation.collapse_detector import CollapseStats, Diagnosis
from evaluation.drive_charts import ROW, drive_charts, label_places, lines, places
from evaluation.drive_scores import detections_of, track_clips
from evaluation.report import write_report
from formats.base import Label
from formats.registry import list_samples
from geometry.decode import DecodeSettings
from geometry.input_grid import InputGrid
from inference.predictor import Detections
from model import LanePrediction
from renderer.drive_writer import write_drives
from visualization.shapes import Lines

DECODE = DecodeSettings(0.5, 0.007)
SETTINGS = {"checkpoint": {"file": "best_model.pth"}, "data": {"root": ["data/drives"]}}


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    """Two drives of five frames whose predictions are their labels."""
    root = tmp_path_factory.mktemp("drives")
    write_drives(root, 2, 5, seed=1, width=160, height=90, workers=1)
    gt = evaluator.ground_truth(LaneDataset(list_samples(root, "tusimple"), InputGrid(160, 96), 6))
    return LanePrediction(gt.target.points, torch.where(gt.target.exists, 9.0, -9.0)), gt


def straight(**bottoms):
    """Detections of straight lanes from the middle down to x at the bottom edge, by slot."""
    points, exists = torch.zeros(6, 6, 2), torch.zeros(6)
    points[..., 1] = torch.linspace(0.5, 1, 6)
    for slot, bottom in bottoms.items():
        points[int(slot[1:]), :, 0] = torch.linspace(0.5, bottom, 6)
        exists[int(slot[1:])] = 1.0
    return Detections(points, exists, exists > 0.5)


def test_a_lane_is_where_it_crosses_the_row():
    share = (ROW - 0.5) / 0.5  # of the way down
    found = places(straight(s2=0.2, s3=0.9), (1, 2, 30, 4, 5, 6))
    assert found == pytest.approx({30: 1280 * (0.5 - 0.3 * share), 4: 1280 * (0.5 + 0.4 * share)})


def test_a_label_is_where_it_crosses_the_row_and_nowhere_where_it_does_not():
    lanes = [np.float32([[320, 180], [64, 360]]), np.float32([[320, 100], [300, 200]])]
    found = label_places(Label(lanes, lane_ids=(4, 2)), (640, 360))
    assert found == pytest.approx({4: 2 * (320 - 256 * (ROW - 0.5) / 0.5)})


def test_a_number_has_gaps_where_it_is_not_in_the_image():
    found = lines([{1: 5.0, 2: 3.0}, {1: -4.0}, {1: 7.0, 9: 1300.0}])
    assert list(found) == [1, 2, 9]
    assert np.array_equal(found[1][0], [1, 2, 3])
    assert np.array_equal(found[1][1], [5, np.nan, 7], equal_nan=True)
    assert np.array_equal(found[2][1], [3, np.nan, np.nan], equal_nan=True) and np.isnan(found[9][1]).all()


def test_each_drive_has_a_chart_of_slots_and_one_of_identities(drives):
    charts = drive_charts(*drives, DECODE)
    assert list(charts) == ["clips/drive_000", "clips/drive_001"]
    for pair in charts.values():
        assert [chart.title for chart in pair] == ["Each frame alone", "Tracked"]
        for chart in pair:
            curves = [shape for shape in chart.shapes if isinstance(shape, Lines) and shape.color not in
                      ("soft", "grid")]
            assert any(curve.color == "gray" for curve in curves) and any(curve.color != "gray" for curve in curves)


def test_a_prediction_like_the_label_covers_it(drives):
    """Frame by frame, what is drawn in color lies on what is drawn in gray."""
    (prediction, gt), count = drives, 0
    for detections, label, size in zip(detections_of(prediction, DECODE), gt.labels, gt.sizes_px, strict=True):
        lanes, labels = places(detections, range(1, 7)), label_places(label, size)
        count += len(labels)
        assert all(min(abs(x - other) for other in lanes.values()) < 8 for x in labels.values())
    assert count >= 5


def test_drives_are_tracked_apart(drives):
    prediction, gt = drives
    _, ids = track_clips(detections_of(prediction, DECODE), gt, DECODE.threshold)
    assert all(min(set(ids[i]) - {0}) == 1 for i in (0, 5)), "each begins with identity 1"


def test_the_report_shows_drives_and_nothing_of_images_that_are_none(drives, tmp_path):
    prediction, gt = drives
    evaluation = evaluator.score(prediction, gt, DECODE, CollapseStats(), Diagnosis("learning"))
    page = write_report(tmp_path, evaluation, SETTINGS).read_text(encoding="utf-8")
    assert page.count('aria-label="Tracked"') == page.count('aria-label="Each frame alone"') == 2
    assert "clips/drive_001" in page and "80 % of the image height" in page and "The first" not in page
    labels = [label._replace(lane_ids=None) for label in gt.labels]
    plain = evaluation._replace(gt=gt._replace(labels=labels))
    assert "Drives over time" not in write_report(tmp_path, plain, SETTINGS).read_text(encoding="utf-8")


def test_a_report_says_of_how_many_drives_it_shows_the_first(drives, tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.report.MAX_DRIVES", 1)
    evaluation = evaluator.score(*drives, DECODE, CollapseStats(), Diagnosis("learning"))
    page = write_report(tmp_path, evaluation, SETTINGS).read_text(encoding="utf-8")
    assert "The first 1 of 2 drives." in page and page.count('aria-label="Tracked"') == 1
