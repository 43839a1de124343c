"""Reads a whole data set, reports what is in it and what is wrong: python check_dataset.py ROOT [--sheet FILE.jpg]

Also: how many lanes the model's slots cannot take, and the upper bound: the official score of the labels themselves
after they went through slots and Bézier curves. No model can score higher.
"""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from tqdm import tqdm

from config import Config, ConfigError
from formats import convert, splits
from formats.base import DataError, Label, Sample
from formats.files import IMAGE_SUFFIXES
from formats.label_checks import size_hint
from formats.listing import Listing
from formats.registry import WRITABLE, data_set, detect, list_folder, read_label
from formats.sample_index import evenly_spaced
from model import starts_above_cut
from preprocessing.images import read_image
from preprocessing.lane_fit import LANE_PROBLEMS, LaneProblems
from preprocessing.targets import lanes_in_slots
from runtime import cli
from runtime.prefetch import prefetch
from visualization import draw

EXAMPLES = 5  # of each problem
CHUNK = 64  # images whose lanes are fitted together
MAX_DRAWN = 1000  # images for the upper bound by a metric that draws lanes: of more it takes minutes
TILE_PX = (400, 225)
SHEET_TILES, SHEET_COLUMNS = 24, 4


class CheckedSample(NamedTuple):
    """A labelled image that could be read: P = 6 control points, K lanes that have a slot."""

    sample: Sample
    label: Label
    size_px: tuple[int, int]
    num_repeated: int  # lanes with the same point twice in a row
    num_outside: int  # lanes with points, but none in the image
    curves: torch.Tensor = torch.zeros(0, 6, 2)  # (K, P, 2) in [0, 1]
    problems: LaneProblems = LaneProblems()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; exit status 1 when an image or a label cannot be used."""
    options, config = parsed(argv)
    root = Path(options.root)
    name, *others = config.data.format or ["auto"]  # of several roots each has its own, and this may be any
    name = detect(root) if root.is_dir() and (others or name == "auto") else name
    usual_size_px = usual_size(name) if options.labels_only and name else None
    listing = list_folder(root, name or "auto", stop=False, require_images=not options.labels_only)
    unusable, checked = [str(error) for error in listing.errors], []
    for result in check_all(listing.samples, config.model.slots, usual_size_px):
        (unusable if isinstance(result, str) else checked).append(result)

    print(f"{root}: {name} layout, {len(checked)} labelled images")
    unusable += print_split(listing, config.data.split[-1])
    for line in listing.notes():
        print(f"  {line}")
    if checked:
        print_contents(checked)
        print_problems(checked, config)
        if hint := size_hint([item.label for item in checked], [item.size_px for item in checked]):
            print(f"  {hint}")
        print_upper_bounds(checked, config)
    if not print_problem("images or labels cannot be used", unusable, len(unusable)):
        print("  every image and label can be used")
    if options.convert:
        print(convert_data_set(options, checked, config.data.split[-1]))
    if options.sheet and checked:
        write_sheet(options.sheet, checked)
        print(f"labelled images to look at: {options.sheet}")
    return 1 if unusable else 0


def parsed(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Config]:
    """The options, with `root`, and the settings. Raises ValueError for options that do not go together."""
    parser = cli.parser(__doc__)
    parser.add_argument("words", nargs="*", metavar="ROOT", help="the folder, and section.key=value settings")
    parser.add_argument("--check", metavar="ROOT", help="the same folder, as in: python dataset.py --check ROOT")
    parser.add_argument("--sheet", metavar="FILE.jpg", type=Path, help="also write a contact sheet of labelled images")
    parser.add_argument("--convert", metavar="OUT", type=Path,
                        help="also write the data set anew, with copies of its images, into this folder")
    parser.add_argument("--to", choices=WRITABLE, default="folder",
                        help="the layout of --convert (default: folder, X.lines.txt beside X.jpg)")
    parser.add_argument("--labels-only", action="store_true", help="without images: take their usual size")
    options, overrides = cli.parse(parser, argv)
    roots = options.words + ([options.check] if options.check else [])
    if len(roots) != 1:
        raise ConfigError(f"expected the folder of one data set, got {', '.join(roots) or 'none'}; write: "
                          "python check_dataset.py ROOT")
    options.root = roots[0]
    if options.sheet and options.labels_only:
        raise ValueError("--sheet shows images; it cannot be written with --labels-only")
    if options.convert and options.labels_only:
        raise ValueError("--convert copies images; it cannot be used with --labels-only")
    if options.sheet and options.sheet.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"--sheet {options.sheet}: expected a file name that ends in .jpg or .png")
    return options, cli.load_settings(options, overrides)


def convert_data_set(options: argparse.Namespace, checked: Sequence[CheckedSample], rule: str) -> str:
    """Write what could be read in another layout; returns a line that says what was written."""
    out, root = options.convert, Path(options.root)
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"--convert {out}: lies in {root}, where its images would be read again; name another folder")
    items = [convert.Labelled(item.sample, item.label, item.size_px) for item in checked]
    written = convert.write_data_set(items, data_set(options.to), out, rule)
    left_out = f"; {written.left_out} lanes cannot be written in this layout" if written.left_out else ""
    return f"written to {out} in the {options.to} layout: {written.images} images, {written.lanes} lanes{left_out}"


def usual_size(name: str) -> tuple[int, int]:
    """Width and height of the images of a data set. Raises ValueError where they differ."""
    size_px = data_set(name).image_size_px
    if size_px is None:
        raise ValueError(f"images of {name} have no usual size; run without --labels-only")
    return size_px


def check_all(samples: Sequence[Sample], slots: int, size_px: tuple[int, int] | None
              ) -> Iterator[CheckedSample | str]:
    """Each sample checked, or why it cannot be read; in order, with a progress bar on stderr."""
    results = iter(tqdm(prefetch(partial(check, sample, size_px) for sample in samples), "Checking", len(samples),
                        unit="img", file=sys.stderr))
    while chunk := list(itertools.islice(results, CHUNK)):  # lanes of many images are fitted at once
        readable = [item for item in chunk if isinstance(item, CheckedSample)]
        target, problems = lanes_in_slots([item.label for item in readable], [item.size_px for item in readable], slots)
        fitted = (item._replace(curves=points[exists], problems=counts)
                  for item, points, exists, counts in zip(readable, *target, problems, strict=True))
        yield from (next(fitted) if isinstance(item, CheckedSample) else item for item in chunk)


def check(sample: Sample, size_px: tuple[int, int] | None) -> CheckedSample | str:
    """The sample checked but for its curves, or why it cannot be read; with size_px its image is not needed."""
    try:
        label = read_label(sample)
        size_px = size_px or read_image(sample.image, thorough=True).shape[1::-1]
    except DataError as error:
        return str(error)
    num_repeated = sum(bool((np.diff(lane, axis=0) == 0).all(1).any()) for lane in label.lanes)
    num_outside = sum(len(lane) > 0 and not ((lane >= 0) & (lane <= size_px)).all(1).any() for lane in label.lanes)
    return CheckedSample(sample, label, size_px, num_repeated, num_outside)


def print_split(listing: Listing, rule: str) -> list[str]:
    """Print which images train and which validate, and by which lists; returns the errors for missing files."""
    if not (listing.samples or listing.missing):
        return []
    try:
        parts, missing = splits.used_samples(listing, rule)
    except DataError as error:
        print(f"  {error}")
        return []
    train, val = parts
    print(f"  data.split={rule}: {len(train)} images to train on, {len(val)} to validate on")
    counts = [Counter(name for sample in part for name in sample.lists) for part in (*parts, listing.samples)]
    counts[2] -= counts[0] + counts[1]
    if len(listing.samples.list_names()) > 1:
        for purpose, part in zip(("train", "validate", "test"), counts, strict=True):
            print_counts(f"lists that {purpose}", part)
    for line in splits.split_notes(listing, parts, len(missing)):
        print(f"  {line}")
    return [_missing_error(listing, sample) for sample in missing]


def _missing_error(listing: Listing, sample: Sample) -> str:
    """Why a sample without its image or label cannot be used: with the list's line where it is the first of its list.
    """
    error = next((error for name in sample.lists if (error := listing.missing_errors[name]).sample == sample), None)
    return str(error) if error else f"{sample.lists[0]}: the image {sample.image} or its label is missing"


def print_contents(checked: Sequence[CheckedSample]) -> None:
    """Print the sizes of the images, and their lanes."""
    print_counts("image sizes", Counter(f"{item.size_px[0]}x{item.size_px[1]}" for item in checked))
    per_image = Counter(len(item.label.lanes) for item in checked)
    print_counts("lanes per image", {count: per_image[count] for count in sorted(per_image)})


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


def write_sheet(path: Path, checked: Sequence[CheckedSample]) -> None:
    """Write labelled images side by side: labels thick, the curves that stand for them thin and white."""
    tiles = [tile(item) for item in evenly_spaced(checked, SHEET_TILES)]
    height = max(len(image) for image in tiles)
    tiles = [np.pad(t, ((0, height - len(t)), (0, TILE_PX[0] - t.shape[1]), (0, 0))) for t in tiles]
    draw.write_image(path, draw.contact_sheet(tiles, SHEET_COLUMNS, TILE_PX[0]))


def tile(item: CheckedSample) -> np.ndarray:
    """RGB uint8 of at most 400x225: the image with its lanes drawn on it."""
    image = read_image(item.sample.image)
    scale = min(TILE_PX[0] / image.shape[1], TILE_PX[1] / image.shape[0])
    size = (max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for lane, color in zip(filter(len, item.label.lanes), itertools.cycle(draw.COLORS)):
        pixels = np.round(lane / item.size_px * size).astype(np.int32)
        cv2.polylines(image, [pixels], False, color, 3, cv2.LINE_AA)
    return draw.draw_lanes(image, item.curves)


if __name__ == "__main__":
    cli.run(main)
