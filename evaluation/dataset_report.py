"""What check_dataset.py prints of a data set: its images, what is wrong with its lanes, and the best possible score."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from config import Config
from formats import splits
from formats.base import Label, Sample
from formats.listing import Listing
from formats.registry import data_set
from formats.sample_index import evenly_spaced
from geometry.bezier import CONTROL_POINTS
from metrics import collapse
from model import starts_above_cut
from preprocessing.lane_fit import LANE_PROBLEMS, LaneProblems

EXAMPLES = 5  # of each problem
MAX_DRAWN = 1000  # images for the upper bound by a metric that draws lanes: of more it takes minutes
MAX_COMPARED = 10_000  # images for the error of the same lanes for all
LEAST_SPREAD_PX = 5.0  # of labels around the best constant: no road is so much like itself (a single drive has 38)


class CheckedSample(NamedTuple):
    """A labelled image that could be read."""

    sample: Sample
    label: Label
    size_px: tuple[int, int]
    num_repeated: int  # lanes with the same point twice in a row
    num_outside: int  # lanes with points, but none in the image
    curves: torch.Tensor = torch.zeros(0, 6, 2)  # (K, P, 2) in [0, 1], of the lanes that have a slot
    slots: tuple[int, ...] = ()  # (K), from 0
    problems: LaneProblems = LaneProblems()


def print_split(listing: Listing, rule: str) -> list[str]:
    """Print which images train and which validate, and by which lists; returns the errors for missing files.

    Raises DataError for a rule that this data set cannot have.
    """
    if not (listing.samples or listing.missing):
        return []
    parts, missing = splits.used_samples(listing, rule)
    train, val = parts
    print(f"  data.split={rule}: {len(train)} images to train on, {len(val)} to validate on")
    counts = [Counter(name for sample in part for name in sample.lists) for part in (*parts, listing.samples)]
    counts[2] -= counts[0] + counts[1]
    if len(listing.samples.list_names()) > 1:
        for purpose, part in zip(("train", "validate", "test"), counts, strict=True):
            print_counts(f"lists that {purpose}", part)
    for line in splits.split_notes(listing, parts, missing, rule):
        print(f"  {line}")
    return [_missing_error(listing, sample) for sample in missing]


def _missing_error(listing: Listing, sample: Sample) -> str:
    """Why a sample without its image or label cannot be used: with the list's line where it is the first of its list.
    """
    error = next((error for name in sample.lists if (error := listing.missing_errors[name]).sample == sample), None)
    what = "its label" if sample.image.is_file() else f"the image {sample.image}"
    return str(error) if error else f"{sample.location()}: {what} is missing"


def print_contents(checked: Sequence[CheckedSample]) -> None:
    """Print the sizes of the images, their lanes, and by how much these differ from image to image."""
    print_counts("image sizes", Counter(f"{item.size_px[0]}x{item.size_px[1]}" for item in checked))
    per_image = Counter(len(item.label.lanes) for item in checked)
    print_counts("lanes per image", {count: per_image[count] for count in sorted(per_image)})
    with_lanes = [item for item in checked if any(map(len, item.label.lanes))]
    print_spread([item for item in with_lanes if len(item.slots)])
    first: dict[int, CheckedSample] = {}  # by the label's hash
    labels = [hash(b"/".join(np.asarray(lane, np.float32).tobytes() for lane in item.label.lanes))
              for item in with_lanes]
    copies = [f"{item.sample.location()}: that of {first[label].sample.name}"
              for item, label in zip(with_lanes, labels, strict=True) if first.setdefault(label, item) is not item]
    print_problem(f"of {len(checked)} images have the very label of another one", copies, len(copies))


def print_spread(checked: Sequence[CheckedSample]) -> None:
    """Print the error of the best prediction that is the same for all images; in words where there is nearly none."""
    checked = evenly_spaced(checked, MAX_COMPARED)
    slots = 1 + max((max(item.slots) for item in checked), default=0)
    points, exists = np.zeros((len(checked), slots, CONTROL_POINTS, 2)), np.zeros((len(checked), slots), bool)
    for number, item in enumerate(checked):
        points[number, list(item.slots)], exists[number, list(item.slots)] = item.curves.numpy(), True
    exists &= exists.sum(0) > 1  # a lane that is the only one of its slot is as good as the same for all
    if not exists.any():
        return
    constant = np.broadcast_to(collapse.constant_prediction(points, exists), points.shape)
    spread_px = collapse.mean_x_error(constant, points, exists)
    print(f"  the best lanes that are the same for every image are {spread_px:.1f} px off, of a "
          f"{collapse.REFERENCE_WIDTH_PX} px wide image: the error that a model has to beat")
    if spread_px < LEAST_SPREAD_PX:
        print("  the labels are nearly the same for every image: a model learns one prediction from them")


def print_problems(checked: Sequence[CheckedSample], config: Config) -> None:
    """Print the lanes that training does not get as they were drawn, with file and line of the first few."""
    lanes = sum(len(item.label.lanes) for item in checked)
    hidden = [int(starts_above_cut(item.curves, config.model.cut_top).sum()) for item in checked]
    problems = {
        f"of {lanes} lanes begin in what model.cut_top={config.model.cut_top:g} hides; lower it if they are many":
            hidden,
        **{f"of {lanes} lanes {text.format(slots=config.model.slots)}":
           [getattr(item.problems, name) for item in checked] for name, text in LANE_PROBLEMS.items()},
        f"of {lanes} lanes lie outside the image (labels of another image size?)":
            [item.num_outside for item in checked],
        f"of {lanes} lanes have the same point twice in a row, which breaks CULane's evaluator":
            [item.num_repeated for item in checked],
    }
    other_size = [item.label.size_px not in (None, item.size_px) for item in checked]
    problems["images have another size than their label says"] = list(map(int, other_size))
    lines = [print_problem(description, [item.sample.location() for item, count in zip(checked, counts, strict=True)
                                         if count], sum(counts)) for description, counts in problems.items()]
    if left_out := Counter(shape for item in checked for shape in item.label.left_out):
        print_counts("drawn shapes that are no lanes", left_out)
    if not any(line for line, text in zip(lines, problems, strict=True) if LANE_PROBLEMS["imprecise"] not in text):
        print(f"  {lanes} lanes: all fit the slots, and none is hidden, short, outside the image or has a point twice")


def print_counts(name: str, counts: dict) -> None:
    """Print counts in one line, the first dozen of them; nothing where there are none."""
    if not counts:
        return
    first = ", ".join(f"{key}: {count}" for key, count in list(counts.items())[:12])
    print(f"  {name}: {first}{' ...' if len(counts) > 12 else ''}")


def print_problem(description: str, examples: Sequence[str], count: int) -> bool:
    """Print how often a problem occurs, and the first few examples; nothing, and False, where it does not."""
    if not count:
        return False
    print(f"  {count} {description}")
    for example in examples[:EXAMPLES]:
        print(f"      {example}")
    if len(examples) > EXAMPLES:
        print(f"      ... and {len(examples) - EXAMPLES} more")
    return True


def print_upper_bounds(checked: Sequence[CheckedSample], config: Config) -> None:
    """Print the score of the labels after the round trip through slots and curves.

    Of each list; where the metric draws every lane, of evenly spaced images of all of them.
    """
    metric = data_set(checked[0].sample.format).metric
    if metric.draws_lanes:
        by_list = {"": evenly_spaced(checked, MAX_DRAWN)}
    else:
        by_list = {name: [item for item in checked if item.sample.lists[0] == name]
                   for name in dict.fromkeys(item.sample.lists[0] for item in checked)}
    for name, part in by_list.items():
        predictions = [metric.to_prediction(item.curves, item.label, item.size_px, config.inference.end_tolerance)
                       for item in part]
        samples, labels, sizes_px = ([item[k] for item in part] for k in range(3))
        scores, _ = metric.score(predictions, samples, labels, sizes_px)
        figures = ", ".join(f"{score} {100 * value:.2f} %" for score, value in scores.items())
        empty = sum(len(lane) == 0 for label in labels for lane in label.lanes)
        note = f" ({empty} labelled lanes have no point: the metric counts them as missed)" if empty and name else ""
        print(f"  upper bound, {metric.title} metric, {f'{name}, ' if name else ''}{len(part)} images: {figures}{note}")
