"""Sets that validate together: each by its own metric and canvas, their mean, and a collapse that their mix hides."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from layouts import culane, curvelanes, tusimple

from config import GuardConfig
from dataset import LaneDataset
from evaluation import collapse_detector, evaluator, validation_sets
from evaluation.collapse_detector import COLLAPSING, LEARNING, NOT_YET, UNKNOWN, CollapseStats, Diagnosis, worst
from evaluation.evaluator import GroundTruth
from evaluation.threshold import best_threshold
from evaluation.validation_sets import CollapseCheck, by_set, mean_score, selection_key, with_sets
from formats.base import Label
from formats.registry import DATA_SETS, METRICS, list_samples
from formats.sample_index import SampleIndex, concatenate
from geometry.bezier import control_points_from_x
from geometry.decode import DecodeSettings
from geometry.input_grid import InputGrid
from geometry.slots import LaneTarget
from losses_fixed import LaneLoss
from model import LanePrediction

SIZE_PX = (1280, 720)
CHECK = CollapseCheck(CollapseStats(), Diagnosis(LEARNING))
DIAGNOSE = partial(collapse_detector.diagnose, guard=GuardConfig())


def upright_curve(x_px):
    return control_points_from_x(torch.full((6,), x_px / SIZE_PX[0]), torch.tensor(0.3), torch.tensor(0.98))


def ground_truth_of(metric, images):
    """Images of 1280x720 with upright lanes at x_px, each in the slot of its number."""
    labels = [Label([np.float32([[x, 710], [x, 450], [x, 216]]) for x in image]) for image in images]
    points = torch.stack([torch.stack([upright_curve(x) for x in image]) for image in images])
    target = LaneTarget(points, torch.ones(points.shape[:2], dtype=torch.bool))
    count = len(images)
    return GroundTruth(list(range(count)), SampleIndex(), labels, [SIZE_PX] * count, target,
                       evaluator.constant_error_px(target), METRICS[metric])


def together(**sets):
    """The GroundTruth of several, end to end."""
    target = LaneTarget(*(torch.cat(parts) for parts in zip(*(gt.target for gt in sets.values()), strict=True)))
    labels = [label for gt in sets.values() for label in gt.labels]
    first = next(iter(sets.values()))
    return GroundTruth(list(range(len(labels))), SampleIndex(), labels, [SIZE_PX] * len(labels), target,
                       evaluator.constant_error_px(target), first.metric, sets)


def prediction_of(images, confidence):
    points = torch.stack([torch.stack([upright_curve(x) for x in image]) for image in images])
    return LanePrediction(points, torch.tensor(confidence).expand(points.shape[:2]).logit())


@pytest.fixture
def mixed():
    """A set of each metric, with a lane 15 px off in both: right for TuSimple's 20 px, wrong for CULane's IoU."""
    gt = together(a=ground_truth_of("tusimple", [[300, 900]]), b=ground_truth_of("culane", [[300, 900]]))
    return gt, prediction_of([[300, 915], [300, 915]], [0.9, 0.6])


# The sets ----------------------------------------------------------------------------------------------------


def test_sets_have_their_own_labels_metric_canvas_and_constant(tmp_path):
    parts = {"tusimple": tusimple(tmp_path / "a"), "curvelanes": curvelanes(tmp_path / "b"),
             "culane": culane(tmp_path / "c")}
    samples = {name: list_samples(root) for name, root in parts.items()}
    whole = LaneDataset(concatenate(samples.values()), InputGrid(96, 64), 6)
    gt = with_sets(evaluator.ground_truth(whole), {name: len(part) for name, part in samples.items()})
    assert list(gt.sets) == list(parts) and len(gt.indices) == 6
    for name, part in gt.sets.items():
        alone = evaluator.ground_truth(LaneDataset(samples[name], InputGrid(96, 64), 6))
        assert part.metric is DATA_SETS[name].metric and list(part.samples) == list(samples[name])
        assert part.sizes_px == alone.sizes_px and part.constant_error_px == alone.constant_error_px
        assert all(torch.equal(*pair) for pair in zip(part.target, alone.target, strict=True))
        assert [len(label.lanes) for label in part.labels] == [len(label.lanes) for label in alone.labels]
    assert [i for part in gt.sets.values() for i in part.indices] == gt.indices


def test_a_single_set_stays_as_it_is():
    gt = ground_truth_of("culane", [[300, 900], [310, 890]])
    assert with_sets(gt, {"culane": 2}).sets == {} and by_set(gt.target, gt) == {}


def test_predictions_are_parted_as_the_images(mixed):
    gt, prediction = mixed
    parts = by_set(prediction, gt)
    assert list(parts) == ["a", "b"]
    assert torch.equal(torch.cat([part.points for part in parts.values()]), prediction.points)
    with pytest.raises(RuntimeError):
        by_set(LanePrediction(prediction.points[:1], prediction.logits[:1]), gt)


# The threshold -----------------------------------------------------------------------------------------------


def test_auto_is_the_threshold_of_the_highest_mean_objective(mixed):
    """TuSimple's set wants both lanes, CULane's only the surer one."""
    gt, prediction = mixed
    decode, figures = validation_sets.choose_decode(prediction, gt, "auto", 0.007)
    curves = [part.metric.threshold_scores(*(p.points, p.logits.sigmoid()), part.labels, part.sizes_px, 0.007)
              for part, p in zip(gt.sets.values(), by_set(prediction, gt).values(), strict=True)]
    means = dict(zip(curves[0].thresholds.tolist(), (curves[0].objective + curves[1].objective) / 2, strict=True))
    assert means[decode.threshold] >= max(means.values()) - 0.002
    assert decode.threshold == 0.5 != best_threshold(curves[1]), "what CULane's would lose is less than what it gains"
    assert figures["a"]["f1"] == pytest.approx(1) and figures["b"]["f1@50"] == pytest.approx(0.5)
    weighed = validation_sets.choose_decode(
        prediction_of([[300, 940]] * 2, [0.9, 0.6]), gt, "auto", 0.007)[0]
    assert weighed.threshold == pytest.approx(0.62), "wrong by both metrics"


def test_a_threshold_that_is_given_stays(mixed):
    gt, prediction = mixed
    assert validation_sets.choose_decode(prediction, gt, 0.3, 0.01) == (DecodeSettings(0.3, 0.01), None)


# Scores and selection ----------------------------------------------------------------------------------------


def test_each_set_has_the_figures_of_its_metric(mixed):
    gt, prediction = mixed
    decode, figures = validation_sets.choose_decode(prediction, gt, "auto", 0.007)
    check = CHECK._replace(sets={"a": CHECK, "b": CHECK})
    for given in (None, figures):
        evaluation = validation_sets.evaluate(prediction, gt, decode, check, given)
        assert evaluation.scores == {} and list(evaluation.sets) == ["a", "b"]
        assert evaluation.sets["a"].scores["f1"] == 1 and "f1@50" not in evaluation.sets["a"].scores
        assert evaluation.sets["b"].scores["f1@50"] == 0.5 and "accuracy" not in evaluation.sets["b"].scores
    record = validation_sets.sets_record(evaluation, LaneLoss())
    assert record.keys() == {"mean_score", "sets"} and list(record["sets"]) == ["a", "b"]
    assert {"images", "verdict", "f1", "error_px", "val_loss", "diversity"} <= record["sets"]["a"].keys()
    assert record["sets"]["a"]["images"] == 1


def test_one_set_adds_nothing_to_the_record():
    gt = ground_truth_of("culane", [[300, 900]])
    evaluation = validation_sets.evaluate(prediction_of([[300, 900]], [0.9, 0.9]), gt, DecodeSettings(), CHECK)
    assert evaluation.scores["f1@50"] == 1 and validation_sets.sets_record(evaluation, LaneLoss()) == {}


def records_of(f1, at_50, errors_px=(8.0, 8.0), accuracy=1.0, mf1=0.1):
    sets = {"a": {"f1": f1, "accuracy": accuracy, "accuracy_with_lanes": accuracy, "error_px": errors_px[0]},
            "b": {"f1@50": at_50, "mf1": mf1, "error_px": errors_px[1]}}
    return {"sets": sets}


def key_of(record, images=(400, 400)):
    sets = {name: ground_truth_of(metric, [[300, 900]])._replace(indices=list(range(count)))
            for (name, metric), count in zip((("a", "tusimple"), ("b", "culane")), images, strict=True)}
    gt = ground_truth_of("tusimple", [[300, 900]])._replace(sets=sets)
    return selection_key(gt, record | {"mean_score": mean_score(gt, record["sets"])})


def test_the_best_model_has_the_highest_plain_mean():
    """Whatever a set's number of images is; a model that is good for one set alone does not win."""
    assert key_of(records_of(0.8, 0.6)) > key_of(records_of(0.95, 0.4)) > key_of(records_of(0.4, 0.9))
    assert key_of(records_of(0.8, 0.6), (900, 90)) > key_of(records_of(0.95, 0.4), (900, 90))
    assert key_of(records_of(0.9, 0.5, accuracy=0.2)) < key_of(records_of(0.6, 0.3)), "TuSimple's score is the lower"


def test_equal_means_are_decided_by_the_error_in_px_which_all_metrics_share():
    near, far = records_of(0.800, 0.6, (6.0, 9.0)), records_of(0.801, 0.6, (9.0, 9.0))
    assert key_of(near) > key_of(far), "a thousandth is chance"
    assert key_of(records_of(0.9, 0.6, (9.0, 9.0))) > key_of(near)
    assert key_of(records_of(0.8, 0.6, (math.nan, 7.0)))[1] == -7.0, "a set without a lane has no error"
    assert key_of(records_of(0.8, 0.6, (math.nan, math.nan)))[1] == -math.inf


def test_more_images_tell_smaller_differences():
    better, worse = records_of(0.81, 0.6, (9.0, 9.0)), records_of(0.80, 0.6, (6.0, 6.0))
    assert key_of(better, (40, 40)) < key_of(worse, (40, 40))
    assert key_of(better, (9000, 9000)) > key_of(worse, (9000, 9000))
    better, worse = records_of(0.8, 0.606, (9.0, 9.0)), records_of(0.8, 0.594, (6.0, 6.0))
    assert key_of(better) > key_of(worse), "400 each: the mean is known to 0.6 %, a set alone to 0.8 %"


def test_one_set_is_selected_as_its_metric_does():
    gt = ground_truth_of("tusimple", [[300, 900]])._replace(indices=list(range(37)))
    record = records_of(0.8123, 0.6)["sets"]["a"]
    assert selection_key(gt, record) == gt.metric.selection_key(record, 37)


# Collapse ----------------------------------------------------------------------------------------------------


class Blind:
    """A predictor that gives the images of each set the set's own constant, and the first one's to a gray image."""

    def __init__(self, prediction):
        self.prediction = prediction

    def forward(self, images):
        rows = images[:, 0, 0, 0].long().clamp(max=len(self.prediction.points) - 1)  # by their color, moved or not
        return LanePrediction(self.prediction.points[rows], self.prediction.logits[rows])


class Images:
    """A data set whose image i has the color i."""

    grid = InputGrid(96, 64)

    def __getitem__(self, indices):
        return torch.tensor(indices, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 64, 96), None


def check_of(gt, prediction):
    return validation_sets.check_collapse(Blind(prediction), Images(), gt, prediction, DIAGNOSE)


@pytest.fixture
def two_roads():
    """Lanes of one kind of roads 500 px to the right of the other's, each varying by a few px."""
    left = [[200 + 4 * i, 500 + 4 * i] for i in range(8)]
    right = [[700 + 4 * i, 1000 + 4 * i] for i in range(8)]
    return together(a=ground_truth_of("tusimple", left), b=ground_truth_of("culane", right))


def test_a_collapse_to_each_sets_own_constant_is_caught(two_roads):
    """All images together show a spread and an error far below that of one constant: the mix hides it."""
    prediction = prediction_of([[214, 514]] * 8 + [[714, 1014]] * 8, [0.9, 0.9])
    check = check_of(two_roads, prediction)
    assert DIAGNOSE(check.stats).state == LEARNING and check.stats.diversity > 0.9
    assert [part.stats.diversity for part in check.sets.values()] == pytest.approx([0, 0], abs=1e-6)
    assert check.diagnosis.state == COLLAPSING and not check.diagnosis.savable
    assert check.diagnosis.reason.startswith("on a: the same lanes for every image (diversity 0.000, below 0.05)")


def test_a_collapse_on_one_set_is_named(two_roads):
    follows = [[200 + 4 * i, 500 + 4 * i] for i in range(8)]
    check = check_of(two_roads, prediction_of(follows + [[714, 1014]] * 8, [0.9, 0.9]))
    assert check.sets["a"].diagnosis.state == LEARNING
    assert str(check.diagnosis).startswith("collapsing: on b: the same lanes for every image")


def test_a_model_that_follows_its_images_learns(two_roads):
    check = check_of(two_roads, LanePrediction(two_roads.target.points, torch.full((16, 2), 3.0)))
    assert check.diagnosis == Diagnosis(LEARNING)


def test_the_worst_diagnosis_counts():
    fine, early, blind = Diagnosis(LEARNING), Diagnosis(NOT_YET, "so far", savable=False), Diagnosis(COLLAPSING, "why")
    assert worst({"": fine, "a": fine}) == fine
    assert worst({"": fine, "a": fine, "b": early}) == Diagnosis(NOT_YET, "on b: so far", savable=False)
    assert worst({"": blind, "a": early, "b": blind}) == Diagnosis(COLLAPSING, "why", savable=False), "of all together"
    assert worst({"": fine, "a": Diagnosis(NOT_YET)}) == Diagnosis(NOT_YET, "on a")
    assert worst({"": fine, "a": Diagnosis(UNKNOWN, "none")}) == fine, "images without lanes speak against no model"
    assert worst({"": Diagnosis(UNKNOWN, "none")}) == Diagnosis(UNKNOWN, "none")
