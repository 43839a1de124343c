"""Is the model looking at the image? One verdict, the same in training and evaluation."""

import math
from typing import NamedTuple

LEARNING, NOT_YET, COLLAPSING = "learning", "not better than a constant yet", "collapsing"


class Verdict(NamedTuple):
    """One of the three states above, and a sentence on why and what to do (empty when all is well)."""

    state: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state


def verdict(diversity: float, error_px: float, constant_error_px: float, min_diversity: float) -> Verdict:
    """Judge predictions by how much they vary over images and by what a constant answer would reach.

    diversity is the spread of predictions over that of the labels; it is not a number where there is nothing
    to compare (one image, no lanes, roads that are all alike), and then nothing is said against the model.
    """
    if diversity < min_diversity:
        return Verdict(COLLAPSING, f"the same lanes for every image (diversity {diversity:.3f} is below "
                                   f"{min_diversity:g}); look at the labels, the learning rate and loss.regression")
    if math.isfinite(error_px) and error_px >= constant_error_px:
        return Verdict(NOT_YET)
    return Verdict(LEARNING)
