"""The confidence from which lanes are worth reporting, by the metric of the data set."""

from collections.abc import Iterable

import numpy as np

from formats.metric import ThresholdCurve

SLACK = 0.005  # of the objective: less is chance with 300 images, and must not move the threshold


def best_threshold(curve: ThresholdCurve) -> float:
    """The threshold of the highest objective; of near equals (SLACK) the one nearest to 0.5."""
    ties = np.flatnonzero(curve.objective >= curve.objective.max() - SLACK)
    return float(curve.thresholds[ties[np.abs(curve.thresholds[ties] - 0.5).argmin()]])


def mean_curve(curves: Iterable[ThresholdCurve]) -> ThresholdCurve:
    """The mean of the objectives of several data sets at the thresholds that they share."""
    curves = list(curves)
    assert all((curve.thresholds == curves[0].thresholds).all() for curve in curves)
    return ThresholdCurve(curves[0].thresholds, {}, np.mean([curve.objective for curve in curves], axis=0))


def figures_at(curve: ThresholdCurve, threshold: float) -> dict[str, float] | None:
    """All figures of the metric at one of the curve's thresholds, where the curve has them."""
    return curve.figures[curve.thresholds.tolist().index(threshold)] if curve.figures else None
