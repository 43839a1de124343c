"""Prints how much of TuSimple's accuracy hangs on where its annotators let a lane begin and end.

    python benchmarks/label_ends.py [--checkpoint FILE] [section.key=value ...]

The metric asks of every row whether the lane has a point there. Annotators begin where they please, so a part of the
accuracy cannot be read off from an image. Each line of the table tells the model a little more of where labels end, and
leaves its curves as they are; the last but one leaves its ends, and makes its curves perfect.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root, from wherever it is run

from dataset import validation_set
from evaluation import evaluator
from evaluation.evaluator import Reference
from formats.base import DataError
from formats.scores import label_at_rows, tusimple_scores
from formats.submission import rows_of, x_px_at_rows
from geometry.bezier import x_at_rows
from geometry.decode import keep_lanes
from inference.fuse_bn import fused
from inference.predictor import Network
from metrics import tusimple
from model import LanePrediction
from runtime import checkpoint, cli
from runtime.device import pick_device, pick_precision


class Image(NamedTuple):
    """The lanes of an image at the R rows of its label, x in its pixels, negative where there is no point."""

    size_px: tuple[int, int]
    rows: np.ndarray  # (R) y
    said: np.ndarray  # (K, R)
    extended: np.ndarray  # (K, R) as if the lanes went straight on beyond their ends
    label: np.ndarray  # (N, R)
    middle_y: float  # in which the labels of all images begin in the median

    @property
    def nearest(self) -> np.ndarray:
        """(K) the number of the label that each lane is most often right about."""
        scale_x, scale_y = np.array(tusimple.TUSIMPLE_SIZE) / self.size_px
        right = tusimple.tusimple_rows_right(self.extended * scale_x, self.label * scale_x, self.rows * scale_y)
        return right.argmax(0)


def as_said(image: Image) -> np.ndarray:
    """(K, R) x as the model says."""
    return image.said


def from_middle_row(image: Image) -> np.ndarray:
    """As the model says, but from the row on in which the labels of all images begin in the median."""
    return _between(image, np.searchsorted(image.rows, image.middle_y))


def from_usual_row(image: Image) -> np.ndarray:
    """As the model says, but from the row on in which the labels of this image begin in the median."""
    there = image.label >= 0
    return _between(image, np.median(there[there.any(1)].argmax(1)) if there.any() else 0)


def from_own_row(image: Image) -> np.ndarray:
    """As the model says, but from the row on in which the label of each lane begins."""
    return _between(image, (image.label >= 0).argmax(1)[image.nearest][:, None])


def _between(image: Image, first: float | np.ndarray) -> np.ndarray:
    """From the number of a first row to the last row that the model says, whatever first row it says."""
    numbers = np.arange(len(image.rows))
    last = np.where(image.said >= 0, numbers, -1).max(1, keepdims=True)
    return np.where((numbers >= first) & (numbers <= last), image.extended, -2.0)


def between_both_ends(image: Image) -> np.ndarray:
    """As the model says, but in the rows in which the label of each lane has a point."""
    return np.where((image.label >= 0)[image.nearest], image.extended, -2.0)


def on_the_label(image: Image) -> np.ndarray:
    """The x of each lane's label in all rows in which both have a point; the ends are the model's."""
    label = image.label[image.nearest]
    return np.where((image.said >= 0) & (label >= 0), label, image.said)


def the_label(image: Image) -> np.ndarray:
    """The label that each lane fits; what is wrong still is a label that no lane fits, and a lane that fits none."""
    return image.label[image.nearest]


TOLD: dict[str, Callable[[Image], np.ndarray]] = {
    "nothing": as_said,
    "one row for all lanes of all images, in which these labels begin in the median": from_middle_row,
    "the row in which this image's labels usually begin": from_usual_row,
    "the row in which each label begins": from_own_row,
    "the rows in which each label begins and ends": between_both_ends,
    "every x of the labels, but not where they begin and end": on_the_label,
    "all of that": the_label,
}


def images_of(prediction: LanePrediction, truth: Reference, threshold: float, tolerance: float
              ) -> list[Image]:
    """What the model says of all images of a reference beside their labels."""
    keep = keep_lanes(prediction.points, prediction.logits.sigmoid(), threshold)
    rows = [rows_of(label, size_px) for label, size_px in zip(truth.labels, truth.sizes_px, strict=True)]
    labels = [label_at_rows(label, size_px) for label, size_px in zip(truth.labels, truth.sizes_px, strict=True)]
    begins = [y[lane.argmax()] for y, label in zip(rows, labels, strict=True) for lane in label >= 0 if lane.any()]
    middle_y = float(np.median(begins)) if begins else 0.0
    found = []
    for points, kept, y, label, size_px in zip(prediction.points, keep, rows, labels, truth.sizes_px, strict=True):
        refuse_falling_rows(y)
        points = points[kept]
        x, _ = x_at_rows(points, torch.from_numpy(y / size_px[1]).float())
        found.append(Image(size_px, y, x_px_at_rows(points, y, size_px, tolerance), x.double().numpy() * size_px[0],
                           label, middle_y))
    return found


def refuse_falling_rows(rows: np.ndarray) -> None:
    """Raise DataError unless rows go from far to near, as in TuSimple's files: a first row is where a lane begins."""
    if (np.diff(rows) <= 0).any():
        raise DataError("h_samples of a label do not rise from row to row")


def lanes_in(told: Callable[[Image], np.ndarray], image: Image) -> np.ndarray:
    """(lanes, R) x of an image's lanes by one line of the table, as they are scored: none of fewer than two points."""
    x = told(image) if len(image.said) and len(image.label) else image.said
    return x[(x >= 0).sum(1) >= 2]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table."""
    arguments = cli.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    arguments.add_argument("--checkpoint", default="checkpoints_fixed/best_model.pth", metavar="FILE")
    options, overrides = cli.parse(arguments, argv)
    settings = cli.load_settings(options, overrides)
    device = pick_device(settings.train.device)
    model, _, payload = checkpoint.load_model(options.checkpoint, device)
    config = checkpoint.with_model(settings, payload)
    dataset = validation_set(config)
    truth = evaluator.reference(dataset)
    dtype = pick_precision(config.train.precision, device)
    network = Network(fused(model, dtype), device, dtype)
    prediction = evaluator.predict(network, dataset, truth.order, config.inference.batch_size, config.data.workers)
    images = images_of(prediction, truth, config.inference.threshold, config.inference.end_tolerance)

    print("| the model is told | accuracy | F1 |\n|---|---|---|")
    for name, told in TOLD.items():
        scores = tusimple_scores([lanes_in(told, image) for image in images], truth.labels, truth.sizes_px)
        print(f"| {name} | {100 * scores['accuracy']:.1f} % | {100 * scores['f1']:.1f} % |")
    return 0


if __name__ == "__main__":
    cli.run(main)
