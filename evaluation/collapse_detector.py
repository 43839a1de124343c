"""Is the model looking at the image? One verdict, the same in training, evaluation and inference.

Shapes: N images, L lane slots, P = 6 control points, 2 = (x, y) in [0, 1].
"""

import math
from typing import NamedTuple

import numpy as np

from metrics import collapse

LEARNING, NOT_YET, COLLAPSING, UNKNOWN = "learning", "not better than a constant yet", "collapsing", "cannot tell"
FREE = 1.02  # an error this little larger is no larger: what was changed made no difference
CLEARLY = 0.75  # of a constant's error: whoever is below it has looked, however little lanes follow


class CollapseStats(NamedTuple):
    """What tells a model that looks from one that does not; not a number where images or labels cannot show it."""

    sensitivity: float = math.nan  # share of a sideways move of the image that the lanes follow: 0 blind, 1 all of it
    diversity: float = math.nan  # spread of predictions over that of the labels: 0 one answer, 1 as varied
    error_px: float = math.nan
    constant_error_px: float = math.nan  # of the best prediction that does not look
    shuffled_error_px: float = math.nan  # when each image gets the prediction of another
    grey_error_px: float = math.nan  # when each image gets the prediction for an empty grey one


class Diagnosis(NamedTuple):
    """One of the four states above, and a sentence on why and what to do (empty when all is well)."""

    state: str
    reason: str = ""
    looks: bool = True  # whether the model is worth keeping; False for one answer to all images, however early

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state


def prediction_stats(points: np.ndarray, label_points: np.ndarray, exists: np.ndarray) -> CollapseStats:
    """The signs that a prediction shows beside labels: points and label_points (N, L, P, 2), exists (N, L)."""
    others = np.roll(points, len(points) // 2, axis=0)  # neighbours in a list are often neighbours on the road
    return CollapseStats(
        diversity=collapse.diversity(points, label_points, exists),
        error_px=collapse.mean_x_error(points, label_points, exists),
        shuffled_error_px=collapse.mean_x_error(others, label_points, exists) if len(points) > 1 else math.nan,
    )


def is_blind(seen: CollapseStats, min_diversity: float, min_sensitivity: float) -> bool:
    """Whether a prediction does not depend on the image; unknown signs (not a number) speak for the model.

    Lanes that stay are no proof where the error is: a globally pooled head may know the scene and not the place.
    """
    stays = seen.sensitivity < min_sensitivity and not seen.error_px < CLEARLY * seen.constant_error_px
    return seen.diversity < min_diversity or stays


def diagnose(seen: CollapseStats, min_diversity: float, min_sensitivity: float, trained: CollapseStats | None = None,
            beginning: bool = False) -> Diagnosis:
    """Judge the signs on validation images, with those on training images where they are known.

    A network finds the mean lane first, so in the beginning one answer for all images is no collapse yet.
    """
    if is_blind(seen, min_diversity, min_sensitivity):
        if seen.diversity < min_diversity:
            found = f"the same lanes for every image (diversity {seen.diversity:.3f}, below {min_diversity:g})"
        else:
            found = (f"the lanes stay where they are when the image moves (sensitivity {seen.sensitivity:.3f}, below "
                     f"{min_sensitivity:g})")
        if beginning:
            return Diagnosis(NOT_YET, f"so far {found}, as is normal in the first steps",
                           looks=not seen.diversity < min_diversity)
        return Diagnosis(COLLAPSING, f"{found}; {_cause_of_blindness(trained, min_diversity)}", looks=False)
    if all(math.isnan(sign) for sign in seen):
        return Diagnosis(UNKNOWN, "too few lanes were labelled or found in these images")
    # One image, or the same lane in all: the best constant answer is the label itself, so grey has to do.
    blind_error = seen.constant_error_px if seen.constant_error_px > 0 else seen.grey_error_px
    if seen.error_px >= blind_error:
        return Diagnosis(NOT_YET, _cause_of_error(seen, trained))
    return Diagnosis(LEARNING)


def _cause_of_blindness(trained: CollapseStats | None, min_diversity: float) -> str:
    if trained is None:
        return "train afresh, see QUICK_FIX.md"
    if trained.diversity >= min_diversity:
        return (f"on training images they differ (diversity {trained.diversity:.2f}), so the validation images are "
                "of another kind: compare both with python dataset.py --check ROOT --sheet FILE")
    return ("on training images too: lower train.learning_rate, see that no loss weight drowns the others, and that "
            "each image has its own label: python dataset.py --check ROOT --sheet FILE")


def _cause_of_error(seen: CollapseStats, trained: CollapseStats | None) -> str:
    if trained is not None and trained.error_px < 0.5 * trained.constant_error_px:
        return (f"but training images are known by heart (error {trained.error_px:.0f} px, constant "
                f"{trained.constant_error_px:.0f}): more images, stronger augment, or fewer epochs")
    if seen.shuffled_error_px <= FREE * seen.error_px:
        return ("another image's lanes fit as well: if this stays, look whether labels belong to their images: "
                "python dataset.py --check ROOT --sheet FILE")
    return ""
