"""The confidence from which lanes are worth reporting, by the metric of the data set."""

import numpy as np

from formats.metric import ThresholdCurve

SLACK = 0.002  # of the objective: less is chance, and must not move the threshold


def best_threshold(curve: ThresholdCurve) -> float:
    """The threshold of the highest objective; of near equals (SLACK) the one nearest to 0.5."""
    ties = np.flatnonzero(curve.objective >= curve.objective.max() - SLACK)
    return float(curve.thresholds[ties[np.abs(curve.thresholds[ties] - 0.5).argmin()]])
