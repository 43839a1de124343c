"""Agreement with the benchmarks' own evaluators, on what they gave for lanes of real labels.

fixtures/golden has a sample of 20 images of each benchmark; the whole set, 90 and 60 images, is not in the repository,
and its tests are skipped without it. The official programs are TuSimple's evaluate/lane.py, with a run time of 10 ms,
and CULane's C++ evaluator, with lanes 30 px wide.
"""

import json

import numpy as np
import pytest
from paths import ROOT, SHARED

from metrics import culane, tusimple

SAMPLE, WHOLE = ROOT / "tests" / "fixtures" / "golden", SHARED / "golden"


@pytest.fixture(scope="module", params=[SAMPLE, WHOLE], ids=["sample", "whole"])
def folder(request):
    if request.param == WHOLE and not WHOLE.is_dir():
        pytest.skip(f"{WHOLE} is missing: the whole set of the evaluators' results is not on this machine")
    return request.param


@pytest.fixture(scope="module")
def tusimple_cases(folder):
    return [json.loads(line) for line in (folder / "tusimple.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def culane_results(folder):
    return json.loads((folder / "culane.json").read_text())


def test_the_sets_have_the_sizes_that_are_claimed(folder, tusimple_cases, culane_results):
    assert (len(tusimple_cases), len(culane_results["cases"])) == ((20, 20) if folder == SAMPLE else (90, 60))


def test_the_sample_has_right_wrong_and_missing_lanes():
    scores = [json.loads(line) for line in (SAMPLE / "tusimple.jsonl").read_text().splitlines()]
    counts = [case["iou0.5"] for case in json.loads((SAMPLE / "culane.json").read_text())["cases"]]
    for key in ("accuracy", "fp", "fn"):
        assert len({score[key] for score in scores}) > 3
    for key in ("tp", "fp", "fn"):
        assert len({count[key] for count in counts}) > 2


def test_tusimple_agrees_on_every_image(tusimple_cases):
    for number, case in enumerate(tusimple_cases):
        score = tusimple.tusimple_image(case["pred"], case["gt"], case["h_samples"], run_time_ms=10)
        official = (case["accuracy"], case["fp"], case["fn"])
        assert score == pytest.approx(official, abs=1e-9, rel=0), f"case {number}"


def test_tusimple_means_agree(tusimple_cases):
    score = tusimple.tusimple_score((case["pred"], case["gt"], case["h_samples"]) for case in tusimple_cases)
    for key in ("accuracy", "fp", "fn"):
        assert score[key] == pytest.approx(np.mean([case[key] for case in tusimple_cases]), abs=1e-9)


def test_culane_agrees_on_every_image(culane_results):
    assert tuple(culane_results["image_size"]) == culane.CULANE_SIZE
    assert culane_results["lane_width"] == culane.CULANE_LANE_WIDTH
    for number, case in enumerate(culane_results["cases"]):
        counts = culane.culane_counts(case["pred"], case["gt"], thresholds=(0.5, 0.75))
        official = [[case[f"iou{t}"][key] for key in ("tp", "fp", "fn")] for t in ("0.5", "0.75")]
        assert counts.tolist() == official, f"case {number}"


@pytest.fixture(scope="module")
def culane_totals(culane_results):
    """The evaluator's counts and rates over all images, which only the whole set has."""
    if "totals" not in culane_results:
        pytest.skip("totals of a sample: the evaluator was run on the whole set")
    return culane_results["totals"]


def test_culane_totals_agree_at_every_threshold(culane_results, culane_totals):
    thresholds = [float(t) for t in culane_totals]
    counts = sum(culane.culane_counts(case["pred"], case["gt"], thresholds) for case in culane_results["cases"])
    assert counts.tolist() == [[total[key] for key in ("tp", "fp", "fn")] for total in culane_totals.values()]


def test_culane_rates_agree(culane_results, culane_totals):
    score = culane.culane_score(sum(culane.culane_counts(case["pred"], case["gt"]) for case in culane_results["cases"]))
    for threshold in (0.5, 0.6, 0.7, 0.75, 0.8, 0.9):
        official = culane_totals[str(threshold)]
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "Fmeasure")):
            # The evaluator prints six digits.
            assert score[ours][threshold] == pytest.approx(official[theirs], abs=1e-6)
