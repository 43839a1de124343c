"""Does the model use the image? One diagnosis, the same in training, evaluation and inference.

Shapes: N images, L lane slots, P = 6 control points, 2 = (x, y) in [0, 1].
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from config import GuardConfig
from metrics import collapse

LEARNING, NOT_YET, COLLAPSING, UNKNOWN = "learning", "not better than a constant yet", "collapsing", "cannot tell"
SEVERITY = (UNKNOWN, LEARNING, NOT_YET, COLLAPSING)
EQUAL_ERROR = 1.02  # an error that is larger by no more than this factor is no larger
ROUNDING_PX = 1e-3  # an error below it is none: a lane's distance from itself
CLEAR_IMPROVEMENT = 0.75  # of a constant's error: a model below it uses the image, however little lanes follow a shift
FEW_IMAGES = 4  # fewer may all be hard ones, whose lanes follow anything when the image moves
STILL = 0.02  # of the shift: lanes that follow by less do not move at all


class CollapseStats(NamedTuple):
    """What tells a model that uses the image from one that does not; NaN where images or labels cannot show it."""

    sensitivity: float = math.nan  # share of a sideways shift of the image that the lanes follow: 0 blind, 1 all of it
    diversity: float = math.nan  # spread of predictions over that of the labels: 0 all the same, 1 as varied
    error_px: float = math.nan
    constant_error_px: float = math.nan  # of the best prediction that is the same for all images
    shuffled_error_px: float = math.nan  # when each image gets the prediction of another
    gray_error_px: float = math.nan  # when each image gets the prediction for an empty gray one
    probes: float = math.inf  # images whose sensitivity was measured

    def record(self) -> dict[str, float]:
        """The statistics by the keys of log.jsonl and of evaluate_fixed.py --json."""
        return {"sensitivity": self.sensitivity, "diversity": self.diversity, "error_px": self.error_px,
                "constant_error_px": self.constant_error_px, "shuffled_error_px": self.shuffled_error_px,
                "grey_error_px": self.gray_error_px}


class Diagnosis(NamedTuple):
    """One of the four states above, and a sentence on why and what to do (empty when all is well)."""

    state: str
    reason: str = ""
    savable: bool = True  # whether it may be kept as the best model: not with the same lanes for all images

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state


def prediction_stats(points: np.ndarray, label_points: np.ndarray, exists: np.ndarray) -> CollapseStats:
    """The statistics of predictions beside labels: points and label_points (N, L, P, 2), exists (N, L)."""
    others = np.roll(points, len(points) // 2, axis=0)  # neighbours in a list are often neighbours on the road
    return CollapseStats(
        diversity=collapse.diversity(points, label_points, exists),
        error_px=collapse.mean_x_error(points, label_points, exists),
        shuffled_error_px=collapse.mean_x_error(others, label_points, exists) if len(points) > 1 else math.nan,
    )


def is_blind(stats: CollapseStats, guard: GuardConfig) -> bool:
    """Whether predictions do not depend on the image; statistics that are NaN speak for the model.

    Lanes that stay are no proof where the error is low: a globally pooled head may know the scene and not positions.
    """
    if stats.probes < FEW_IMAGES:
        stays = abs(stats.sensitivity) < min(STILL, guard.min_sensitivity)
    else:
        stays = stats.sensitivity < guard.min_sensitivity
    return stats.diversity < guard.min_diversity or (stays and not _is_clearly_better(stats))


def _is_clearly_better(stats: CollapseStats) -> bool:
    return stats.error_px < CLEAR_IMPROVEMENT * stats.constant_error_px


def diagnose(stats: CollapseStats, guard: GuardConfig, steps: float = math.inf,
             train_stats: CollapseStats | None = None, labelled: bool = True) -> Diagnosis:
    """The diagnosis of validation statistics after so many steps, with those on training images where given.

    A network learns the mean lane first, so in the first steps the same lanes for all images are no collapse yet.
    `labelled`: whether the images have labels; without any only the sensitivity is known.
    """
    if is_blind(stats, guard):
        is_same = stats.diversity < guard.min_diversity
        if is_same:
            symptom = f"the same lanes for every image (diversity {stats.diversity:.3f}, below {guard.min_diversity:g})"
        else:
            symptom = ("the lanes stay where they are when the image moves "
                       f"(sensitivity {stats.sensitivity:.3f}, below {guard.min_sensitivity:g})")
        if steps < guard.first_steps:
            return Diagnosis(NOT_YET, f"so far {symptom}, as is normal in the first steps", savable=not is_same)
        return Diagnosis(COLLAPSING, f"{symptom}; {_cause_of_blindness(train_stats, guard)}", savable=False)
    if math.isnan(stats.error_px if labelled else stats.sensitivity):
        return Diagnosis(UNKNOWN, "too few lanes are labelled or predicted in these images")
    if stats.probes < FEW_IMAGES and stats.sensitivity < guard.min_sensitivity and not _is_clearly_better(stats):
        moved = "the one image is" if stats.probes == 1 else f"the {stats.probes} images are"
        return Diagnosis(UNKNOWN, f"lanes hardly follow when {moved} moved (sensitivity {stats.sensitivity:.3f}), as "
                         f"those of hard images may; {FEW_IMAGES} or more can tell")
    # One image, or the same lane in all: the best constant prediction is the label itself; the gray image has to do.
    blind_error = stats.constant_error_px if stats.constant_error_px > ROUNDING_PX else stats.gray_error_px
    if stats.error_px >= blind_error:
        return Diagnosis(NOT_YET, _cause_of_error(stats, train_stats))
    return Diagnosis(LEARNING)


def worst(diagnoses: Mapping[str, Diagnosis]) -> Diagnosis:
    """The worst of the diagnoses of all images ("") and of each data set by its name, which its reason begins with.

    Lanes that are the same for all images of a set differ between sets: only the diagnosis of the set shows it.
    """
    name, diagnosis = max(diagnoses.items(), key=lambda item: SEVERITY.index(item[1].state))
    reason = ": ".join(filter(None, (f"on {name}" if name else "", diagnosis.reason)))
    return Diagnosis(diagnosis.state, reason, all(part.savable for part in diagnoses.values()))


def _cause_of_blindness(train_stats: CollapseStats | None, guard: GuardConfig) -> str:
    if train_stats is None or math.isnan(train_stats.diversity):
        return "train afresh, see QUICK_FIX.md"
    if train_stats.diversity >= guard.min_diversity:
        return (f"on training images they differ (diversity {train_stats.diversity:.2f}), so the validation images are "
                "of another kind: compare both with python check_dataset.py ROOT --sheet FILE")
    return ("on training images too: lower train.learning_rate, see that no loss weight drowns the others, and that "
            "each image has its own label: python check_dataset.py ROOT --sheet FILE")


def _cause_of_error(stats: CollapseStats, train_stats: CollapseStats | None) -> str:
    if train_stats is not None and train_stats.error_px < 0.5 * train_stats.constant_error_px:
        return (f"but better by far on training images (error {train_stats.error_px:.0f} px, constant "
                f"{train_stats.constant_error_px:.0f}), which is overfitting: take more images, stronger augment, or "
                "fewer epochs")
    if stats.shuffled_error_px <= EQUAL_ERROR * stats.error_px:
        return ("another image's lanes fit as well: if this stays, check that labels belong to their images: "
                "python check_dataset.py ROOT --sheet FILE")
    return ""
