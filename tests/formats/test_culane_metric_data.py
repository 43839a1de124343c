"""CULane's metric on whole data sets: its scores at every threshold, which model it selects, what it writes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from formats import culane_metric
from formats.base import Label, Sample
from formats.culane_metric import Canvas, CULaneMetric, counts_of_pairs, scaled_canvas, scores_from_counts
from formats.registry import DATA_SETS
from geometry.bezier import control_points_from_x
from geometry.decode import lane_nms
from metrics.culane import CULANE_THRESHOLDS, culane_counts, culane_score

METRIC = CULaneMetric()
SIZE_PX = (1640, 590)
TOLERANCE = 0.007


def sample_of(*lists):
    return Sample(Path("x.jpg"), Path("x.lines.txt"), "x.jpg", lists, "culane")


def upright_lane(x_px, height_px=590):
    return np.stack((np.full(5, float(x_px)), np.linspace(height_px, 0.3 * height_px, 5)), 1).astype(np.float32)


# Scores ------------------------------------------------------------------------------------------------------


def test_every_threshold_scores_as_the_official_counts_do():
    """Random lanes and confidences, zero to five labels an image of two sizes, some curves that are one point."""
    generator = torch.Generator().manual_seed(0)

    def noise(scale):
        return float(scale * torch.randn(1, generator=generator))

    sizes_px = [((410, 148), (328, 118))[i % 2] for i in range(16)]
    positions = [sorted(torch.randperm(8, generator=generator)[:i % 6].tolist()) for i in range(16)]
    labels = [Label([upright_lane((0.1 + 0.1 * position) * width, height) for position in image])
              for image, (width, height) in zip(positions, sizes_px, strict=True)]
    points = torch.stack([torch.stack([
        control_points_from_x(torch.full((6,), 0.1 + 0.1 * position + noise(0.005)),
                              torch.tensor(0.98 if slot == i % 9 else 0.3), torch.tensor(0.98))
        for slot, position in enumerate((image + list(range(8)))[:6])]) for i, image in enumerate(positions)])
    confidence = torch.rand(16, 6, generator=generator)
    curve = METRIC.threshold_scores(points, confidence, labels, sizes_px, TOLERANCE)
    assert list(curve.scores) == ["F1@50", "F1@75"] and len(curve.thresholds) == 49
    for t, threshold in enumerate(curve.thresholds):
        keep = lane_nms(points, confidence, float(threshold))
        counts = []
        for i, size_px in enumerate(sizes_px):
            lanes = METRIC.to_prediction(points[i][keep[i]], labels[i], size_px, TOLERANCE)
            counts.append(culane_counts(lanes, labels[i].lanes, size=size_px, lane_width=round(30 * size_px[0] / 1640)))
        expected = culane_score(np.array(counts))
        assert curve.scores["F1@50"][t] == pytest.approx(expected["f1@50"])
        assert curve.scores["F1@75"][t] == pytest.approx(expected["f1@75"])
        assert curve.figures[t] == scores_from_counts(np.array(counts))
    assert np.array_equal(curve.objective, curve.scores["F1@50"])
    assert len(set(curve.scores["F1@50"].round(6))) > 15, "the thresholds must differ for this to show anything"
    assert (curve.scores["F1@75"] < curve.scores["F1@50"]).any()


def test_scores_are_those_of_the_official_counts():
    labels = [Label([upright_lane(300), upright_lane(900)]), Label([]), Label([upright_lane(500)])]
    lanes = [[upright_lane(300), upright_lane(1300)], [upright_lane(700)], [upright_lane(505)]]
    counts = METRIC.counts(lanes, labels, [SIZE_PX] * 3)
    assert counts[:, 0].tolist() == [[1, 1, 1], [0, 1, 0], [1, 0, 0]]
    scores, categories = METRIC.score(lanes, [sample_of("test.txt")] * 3, labels, [SIZE_PX] * 3)
    assert categories == {}
    assert scores["precision@50"] == pytest.approx(2 / 4) and scores["recall@50"] == pytest.approx(2 / 3)
    official = culane_score(counts)
    assert scores["f1@50"] == official["f1@50"] == pytest.approx(4 / 7) and scores["mf1"] == official["mf1"]


@pytest.mark.slow
@pytest.mark.process
def test_processes_count_the_same():
    pairs = [([upright_lane(300), upright_lane(900 + i)], [upright_lane(300 + i), upright_lane(900)])
             for i in range(40)]
    canvas = scaled_canvas(SIZE_PX)
    serial = counts_of_pairs(pairs, canvas, workers=1)
    assert np.array_equal(counts_of_pairs(pairs, canvas, workers=2), serial)
    assert serial.tolist() == [culane_counts(pred, gt).tolist() for pred, gt in pairs]
    assert (serial[0] != serial[-1]).any()


def test_categories_are_the_lists_of_test_split():
    """Of crossroads, which have no lanes, the number of false ones is taken."""
    samples = [sample_of("test.txt", f"test_split/{name}.txt") for name in ("test0_normal", "test5_cross")]
    lanes = [[upright_lane(300)], [upright_lane(300), upright_lane(900)]]
    _, categories = METRIC.score(lanes, samples, [Label([upright_lane(300)]), Label([])], [SIZE_PX] * 2)
    assert list(categories) == ["test0_normal", "test5_cross"]
    assert categories["test0_normal"]["images"] == 1 and categories["test0_normal"]["f1@50"] == 1
    assert categories["test5_cross"] == {"images": 1, "fp": 2}


# Canvases ----------------------------------------------------------------------------------------------------


def test_curvelanes_is_drawn_on_its_own_canvas():
    metric, lane = DATA_SETS["curvelanes"].metric, np.float32([[500, 600], [500, 400], [500, 200]])
    assert metric.canvas((2560, 1440)) == Canvas((224, 224), 5)
    shifted = lane + np.float32([20, 0])  # 1.75 px of the 224
    counts = metric.counts([[shifted]] * 2, [Label([lane])] * 2, [(2560, 1440), (800, 720)])
    assert counts[:, 0].tolist() == [[1, 0, 0], [0, 1, 1]], "the smaller image makes it the larger step"


def test_canvas_of_other_sizes_keeps_the_share_of_the_width():
    assert scaled_canvas((1640, 590)) == Canvas((1640, 590), 30)
    assert scaled_canvas((820, 295)) == Canvas((820, 295), 15)
    assert scaled_canvas((1280, 720)) == Canvas((1280, 720), 23)  # 30 of 1640, whatever the height
    assert scaled_canvas((16, 9)).lane_width_px == 1


# The best model ----------------------------------------------------------------------------------------------


def key(f1, mf1, images=300):
    return METRIC.selection_key({"f1@50": f1, "mf1": mf1}, images)


def test_f1_at_50_decides_and_among_equals_the_mean_over_all_thresholds():
    assert key(0.50, 0.20) > key(0.45, 0.30)
    assert key(0.452, 0.30) > key(0.454, 0.20), "within the step of 300 images"
    assert key(0.454, 0.20, 100_000) > key(0.452, 0.30, 100_000), "more images show smaller differences"
    assert key(0.454, 0.20) > key(0.452, 0.20), "at last the digits"


@pytest.mark.parametrize("images", [3, 10_000])
def test_a_model_that_reports_nothing_is_not_selected_over_one_that_detects_lanes(images):
    """However few lanes it detects among however many false ones: the silent model has no F1 at all."""
    label, false = Label([upright_lane(300)]), [upright_lane(x) for x in (600, 800, 1000, 1200, 1400)]
    samples, labels, sizes_px = [sample_of("val.txt")] * 20, [label] * 20, [SIZE_PX] * 20
    silent, _ = METRIC.score([[]] * 20, samples, labels, sizes_px)
    poor, _ = METRIC.score([[upright_lane(304), *false], *[false] * 19], samples, labels, sizes_px)
    assert silent["f1@50"] == 0 < poor["f1@50"] < 0.02
    assert METRIC.selection_key(poor, images) > METRIC.selection_key(silent, images)


# What is written ---------------------------------------------------------------------------------------------


def straight(x, y_far, y_near):
    """(1, 6, 2) a vertical curve."""
    return torch.stack((torch.full((6,), float(x)), torch.linspace(y_far, y_near, 6)), 1)[None]


def test_a_lane_of_one_point_is_left_out():
    assert METRIC.to_prediction(straight(0.5, 0.5, 0.5), Label([]), SIZE_PX, TOLERANCE) == []


def test_no_point_is_written_twice_in_a_row():
    lane, = METRIC.to_prediction(straight(0.5, 0.5, 0.5 + 1e-5), Label([]), SIZE_PX, TOLERANCE)
    assert 2 <= len(lane) < culane_metric.CURVE_POINTS and (np.diff(lane, axis=0) != 0).any(1).all()


def test_lanes_run_from_the_near_end_to_the_far_one():
    lane, = METRIC.to_prediction(straight(0.5, 0.3, 0.9), Label([]), SIZE_PX, TOLERANCE)
    assert len(lane) == culane_metric.CURVE_POINTS
    assert lane[0] == pytest.approx([820, 531]) and lane[-1] == pytest.approx([820, 177])


def test_predictions_written_are_read_again(tmp_path):
    """Scored again they give the same counts at every IoU threshold."""
    samples = [Sample(Path(name), Path(name), name, ("test.txt",), "culane") for name in ("a/1.jpg", "a/2.png")]
    labels, sizes_px = [Label([upright_lane(300)])] * 2, [SIZE_PX] * 2
    predictions = [METRIC.to_prediction(straight(0.2, 0.3, 0.98), labels[0], SIZE_PX, TOLERANCE), []]
    METRIC.write_predictions(tmp_path, samples, labels, sizes_px, predictions)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.txt")) == [
        "a/1.lines.txt", "a/2.lines.txt"]
    loaded, run_times_ms = METRIC.read_predictions(tmp_path, samples, labels, sizes_px)
    assert run_times_ms is None and [len(lanes) for lanes in loaded] == [1, 0]
    counts = [METRIC.counts(lanes, labels, sizes_px) for lanes in (predictions, loaded)]
    assert np.array_equal(*counts) and counts[0].shape == (2, len(CULANE_THRESHOLDS), 3)
