"""Agreement with the answers of the official evaluators, kept beside the repository in ../shared/golden."""

import json

import numpy as np
import pytest
from paths import SHARED

from metrics import culane, tusimple

GOLDEN = SHARED / "golden"


def golden(name: str) -> str:
    path = GOLDEN / name
    if not path.is_file():
        pytest.skip(f"{path} is missing: the official evaluators' answers are not on this machine")
    return path.read_text()


@pytest.fixture(scope="module")
def culane_answers():
    return json.loads(golden("culane.json"))


def test_tusimple_agrees_on_every_image():
    for number, line in enumerate(golden("tusimple.jsonl").splitlines()):
        case = json.loads(line)
        score = tusimple.tusimple_image(case["pred"], case["gt"], case["h_samples"], run_time_ms=10)
        official = (case["accuracy"], case["fp"], case["fn"])
        assert score == pytest.approx(official, abs=1e-9, rel=0), f"line {number}"


def test_tusimple_means_agree():
    cases = [json.loads(line) for line in golden("tusimple.jsonl").splitlines()]
    score = tusimple.tusimple_score((case["pred"], case["gt"], case["h_samples"]) for case in cases)
    for key in ("accuracy", "fp", "fn"):
        assert score[key] == pytest.approx(np.mean([case[key] for case in cases]), abs=1e-9)


def test_culane_agrees_on_every_image(culane_answers):
    assert tuple(culane_answers["image_size"]) == culane.CULANE_SIZE
    assert culane_answers["lane_width"] == culane.CULANE_LANE_WIDTH
    for number, case in enumerate(culane_answers["cases"]):
        counts = culane.culane_counts(case["pred"], case["gt"], thresholds=(0.5, 0.75))
        official = [[case[f"iou{t}"][key] for key in ("tp", "fp", "fn")] for t in ("0.5", "0.75")]
        assert counts.tolist() == official, f"case {number}"


def test_culane_totals_agree_at_every_threshold(culane_answers):
    thresholds = [float(t) for t in culane_answers["totals"]]
    pairs = [(case["pred"], case["gt"]) for case in culane_answers["cases"]]
    counts = culane.culane_counts_many(pairs, workers=1, thresholds=thresholds).sum(0)
    official = [[total[key] for key in ("tp", "fp", "fn")] for total in culane_answers["totals"].values()]
    assert counts.tolist() == official


def test_culane_rates_agree(culane_answers):
    score = culane.culane_score([(case["pred"], case["gt"]) for case in culane_answers["cases"]])
    for threshold in (0.5, 0.6, 0.7, 0.75, 0.8, 0.9):
        official = culane_answers["totals"][str(threshold)]
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "Fmeasure")):
            # The evaluator prints six digits.
            assert score[ours][threshold] == pytest.approx(official[theirs], abs=1e-6)
