"""What a benchmark's metric does for training and evaluation, whichever benchmark it is.

Shapes: N images, L slots, K curves of one image, P = 6 control points, T thresholds, 2 = (x, y) in [0, 1].
A prediction is the lanes of one image in its own pixels, rounded as in the files written: what is scored is what is
written, so that a file scored again, here or by the official evaluator, gives the same number.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from formats.base import Label, Sample

if TYPE_CHECKING:  # processes that only read images and labels start without PyTorch, which takes a second
    from torch import Tensor

THRESHOLDS = np.linspace(0.02, 0.98, 49).round(2)
STANDARD_ERROR = 0.16  # of F1 on one image of three to four lanes, nine in ten right: a percent for 300 images
Size = tuple[int, int]  # width, height in pixels


class ThresholdCurve(NamedTuple):
    """Scores, fractions (T), of what is reported at each confidence threshold (T)."""

    thresholds: np.ndarray
    scores: dict[str, np.ndarray]  # by their names in messages, the metric's main score first
    objective: np.ndarray  # the threshold of its maximum is chosen
    figures: Sequence[dict[str, float]] | None = None  # all of Metric.score at each threshold, where they cost nothing


class Metric(ABC):
    """Lanes as a benchmark takes them, its scores, its files, and how a model is selected by it."""

    name: str  # on the command line
    title: str
    draws_lanes: bool = False  # for a score, which takes minutes for thousands of images
    predictions_suffix: str = ""  # of the file that its benchmark takes; none where that is a folder
    main_score: str  # key of the score that is quoted first
    quoted: ClassVar[Sequence[str]]  # keys of the scores that are quoted, the fewest that tell a model's worth
    score_names: ClassVar[Mapping[str, str]]  # key of a score: its name in the epoch line

    @abstractmethod
    def to_prediction(self, curves: Tensor, label: Label, size_px: Size, end_tolerance: float) -> Any:
        """The lanes of one image as the benchmark takes them, of reported curves (K, P, 2)."""

    @abstractmethod
    def score(self, predictions: Iterable[Any], samples: Sequence[Sample], labels: Sequence[Label],
              sizes_px: Sequence[Size], run_times_ms: Sequence[float] | None = None, workers: int | None = None
              ) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """The benchmark's figures as fractions, and those of each category where the data set has any.

        run_times_ms count where the benchmark times predictions. A metric that draws lanes does so in `workers`
        processes (default: as many as pay); with one it can be called where processes may be interrupted.
        """

    @abstractmethod
    def threshold_scores(self, points: Tensor, confidence: Tensor, labels: Sequence[Label],
                         sizes_px: Sequence[Size], end_tolerance: float, thresholds: np.ndarray = THRESHOLDS
                         ) -> ThresholdCurve:
        """Scores of the curves points (N, L, P, 2) with confidence (N, L) at every threshold (T)."""

    @abstractmethod
    def selection_scores(self, scores: Mapping[str, float]) -> tuple[float, float]:
        """What models are compared by, the higher the better: a fraction, and what decides among equals.

        scores are those of `score` and the "error_px" of metrics.collapse.mean_x_error.
        """

    @abstractmethod
    def prediction_files(self, path: Path, samples: Sequence[Sample]) -> list[Path]:
        """The files that `write_predictions` writes for the samples."""

    @abstractmethod
    def write_predictions(self, path: Path, samples: Sequence[Sample], labels: Sequence[Label],
                          sizes_px: Sequence[Size], predictions: Iterable[Any]) -> None:
        """Write the files that the benchmark's official evaluator reads. Raises OSError."""

    @abstractmethod
    def read_predictions(self, path: Path, samples: Sequence[Sample], labels: Sequence[Label],
                         sizes_px: Sequence[Size]) -> tuple[list[Any], list[float] | None]:
        """Predictions of each sample from such files, and run times in ms where the files have them.

        Raises DataError with file and line for what is broken, and where no prediction fits the samples.
        """

    def selection_key(self, scores: Mapping[str, float], num_images: int) -> tuple[float, float, float]:
        """What the best model is chosen by: the score as far as so many images can tell it, then what decides among
        equals, then the score to the digit.
        """
        step = STANDARD_ERROR / math.sqrt(num_images)
        score, tie_break = self.selection_scores(scores)
        return round(score / step) * step, tie_break, scores[self.main_score]

    def summary(self, scores: Mapping[str, float], short: bool = False) -> str:
        """The scores of an epoch in a few words, such as 'accuracy 95.1 % F1 92.7 %'; `short`: those to be quoted."""
        return " ".join(f"{name} {100 * scores[key]:.1f} %" for key, name in self.score_names.items()
                        if not short or key in self.quoted)
