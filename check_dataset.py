"""Reads a whole data set, reports what is in it and what is wrong: python check_dataset.py ROOT [--sheet FILE.jpg]

Also: how many lanes the model's slots cannot take, and the upper bound: the official score of the labels themselves
after they went through slots and Bézier curves. No model can score higher.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from config import Config, ConfigError
from evaluation.dataset_report import (
    CheckedSample,
    print_contents,
    print_problem,
    print_problems,
    print_split,
    print_upper_bounds,
)
from formats import convert, splits
from formats.base import DataError, Sample
from formats.label_checks import size_hint
from formats.listing import Listing
from formats.registry import WRITABLE, data_set, detect, list_folder, other_layouts, read_label
from formats.sample_index import evenly_spaced
from preprocessing.images import read_image
from preprocessing.targets import lanes_in_slots
from runtime import cli
from runtime.files import check_written
from runtime.prefetch import prefetch
from visualization import draw

CHUNK = 64  # images whose lanes are fitted together
TILE_PX = (400, 225)
SHEET_TILES, SHEET_COLUMNS = 24, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; exit status 1 when an image or a label cannot be used."""
    options, config = parsed(argv)
    root = Path(options.root)
    name, *others = config.data.format or ["auto"]  # of several roots each has its own, and this may be any
    name = detect(root) if root.is_dir() and (others or name == "auto") else name
    usual_size_px = usual_size(name) if options.labels_only and name else None
    listing = list_folder(root, name or "auto", stop=False, require_images=not options.labels_only)
    check_request(options, listing, config.data.split[-1])
    unusable, checked = [str(error) for error in listing.errors], []
    for result in check_all(listing.samples, config.model.slots, usual_size_px):
        (unusable if isinstance(result, str) else checked).append(result)

    print(f"{root}: {name} layout, {len(checked)} labelled images")
    unusable += print_split(listing, config.data.split[-1])
    for line in [*listing.notes(), *other_layouts(root, listing)]:
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
    parser.add_argument("--to", choices=WRITABLE,
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
    if options.to and not options.convert:
        raise ValueError("--to is the layout of --convert; give --convert OUT as well")
    if options.sheet:
        draw.check_picture(options.sheet)
    return options, cli.load_settings(options, overrides)


def check_request(options: argparse.Namespace, listing: Listing, rule: str) -> None:
    """Raise ValueError, before any image is read, for a split that cannot be and outputs that must not be written."""
    if listing.samples or listing.missing:
        splits.used_samples(listing, rule)
    out, root = options.convert, Path(options.root)
    if out and out.resolve().is_relative_to(root.resolve()):
        raise DataError(f"--convert {out}: lies in {root}, where its images would be read again; name another folder")
    if out:
        convert.check_new(out)
    if options.sheet:
        read = ((sample.image, sample.label) for sample in listing.samples)
        check_written([options.sheet], itertools.chain.from_iterable(read))


def convert_data_set(options: argparse.Namespace, checked: Sequence[CheckedSample], rule: str) -> str:
    """Write what could be read in another layout; returns a line that says what was written."""
    items = [convert.Labelled(item.sample, item.label, item.size_px) for item in checked]
    layout = options.to or "folder"
    written = convert.write_data_set(items, data_set(layout), options.convert, rule)
    left_out = f"; {written.left_out} lanes cannot be written in this layout" if written.left_out else ""
    return (f"written to {options.convert} in the {layout} layout: {written.images} images, {written.lanes} lanes"
            f"{left_out}")


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
        fitted = (item._replace(curves=points[exists], slots=tuple(np.flatnonzero(exists).tolist()), problems=counts)
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
