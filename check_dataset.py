"""Reads a whole data set and says what is in it and what is wrong: python dataset.py --check ROOT [--sheet FILE.jpg]

Also: how many lanes the model's slots cannot take, and the ceiling: the official score of the labels themselves
after they went through slots and Bézier curves. No model can score higher.
"""

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from tqdm import tqdm

from config import Config
from formats import parsing, registry, scores, splits, submission
from formats.base import DataError, Label, Sample
from formats.llamas import LLAMAS_SIZE
from formats.sample_index import SampleIndex
from metrics.culane import CULANE_SIZE
from metrics.tusimple import TUSIMPLE_SIZE
from model import starts_above_cut
from preprocessing.images import read_image
from preprocessing.targets import lanes_in_slots
from runtime import cli
from runtime.prefetch import prefetch
from visualization import draw

SHOWN = 5  # examples of each kind of trouble
CEILING_IMAGES = 1000  # CULane's metric draws every lane: on more images than these it takes minutes
TILE_PX = (400, 225)
SHEET_TILES, SHEET_COLUMNS = 24, 4
ASSUMED_SIZE = {"tusimple": TUSIMPLE_SIZE, "culane": CULANE_SIZE, "folder": CULANE_SIZE, "llamas": LLAMAS_SIZE}


class CheckedSample(NamedTuple):
    """A labelled image that could be read: P = 6 control points, K lanes that found a slot."""

    sample: Sample
    label: Label
    size_px: tuple[int, int]
    curves: torch.Tensor  # (K, P, 2) in [0, 1]
    num_unassigned: int  # lanes without a slot
    num_too_short: int  # lanes with fewer than two points in the image
    repeated: int  # lanes with the same point twice in a row
    outside: int  # lanes with points, but none in the image


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; exit status 1 when an image or a label cannot be used."""
    arguments = cli.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    arguments.add_argument("--check", required=True, metavar="ROOT", help="folder of the data set")
    arguments.add_argument("--sheet", metavar="FILE.jpg", help="also write a contact sheet of labelled images")
    arguments.add_argument("--labels-only", action="store_true", help="there are no images: take their usual size")
    options, overrides = cli.parse(arguments, argv, inputs=False)
    if options.sheet and options.labels_only:
        raise ValueError("--sheet shows images; it cannot be written with --labels-only")
    if options.sheet:
        refuse_other_suffix(options.sheet)
    config = cli.load_settings(options, overrides)
    root = Path(options.check)
    format_name = config.data.format if config.data.format != "auto" or not root.is_dir() else registry.detect(root)
    assumed = None
    if options.labels_only and format_name is not None:
        if format_name not in ASSUMED_SIZE:
            raise ValueError(f"images of {format_name} have no usual size; run without --labels-only")
        assumed = ASSUMED_SIZE[format_name]

    found = list(registry.scan(root, format_name or "auto", images=not options.labels_only))
    broken = [str(error) for error in found if isinstance(error, DataError)]
    seen = []
    for result in read_all(SampleIndex(e for e in found if isinstance(e, Sample)), config.model.slots, assumed):
        (broken if isinstance(result, str) else seen).append(result)
    print(f"{root}: {format_name} layout, {len(seen)} labelled images")
    if seen:
        describe(seen, config)
        print_ceilings(seen, config)
    trouble("images or labels cannot be used", len(broken), broken)
    if options.sheet and seen:
        write_sheet(Path(options.sheet), seen)
        print(f"labelled images to look at: {options.sheet}")
    return 1 if broken else 0


def refuse_other_suffix(sheet: str) -> None:
    """Raise ValueError where a sheet's name is not one of an image, before the work that it is to show."""
    if Path(sheet).suffix.lower() not in parsing.IMAGE_SUFFIXES:
        raise ValueError(f"--sheet {sheet}: expected a file name that ends in .jpg or .png")


def read_all(samples: Sequence[Sample], slots: int, assumed_px: tuple[int, int] | None) -> Iterable[CheckedSample | str]:
    """What is in each sample, or why it cannot be read; in order, with a progress bar on stderr."""
    results = prefetch(partial(read, sample, slots, assumed_px) for sample in samples)
    yield from tqdm(results, "Checking", len(samples), unit="img", file=sys.stderr)


def read(sample: Sample, slots: int, assumed_px: tuple[int, int] | None) -> CheckedSample | str:
    try:
        found = registry.read_label(sample)
        size_px = assumed_px or read_image(sample.image).shape[1::-1]
    except DataError as error:
        return str(error)
    target, num_unassigned, num_too_short = lanes_in_slots(found, size_px, slots)
    repeated = sum(bool((np.diff(lane, axis=0) == 0).all(1).any()) for lane in found.lanes)
    outside = sum(len(lane) > 0 and not ((lane >= 0) & (lane <= size_px)).all(1).any() for lane in found.lanes)
    return CheckedSample(sample, found, size_px, target.points[target.exists], num_unassigned, num_too_short, repeated, outside)


def describe(seen: Sequence[CheckedSample], config: Config) -> None:
    """Print counts, and the first few of what training will not see as it was meant."""
    lanes = sum(len(s.label.lanes) for s in seen)
    line("lists", Counter(name for s in seen for name in s.sample.lists))
    line("image sizes", Counter(f"{s.size_px[0]}x{s.size_px[1]}" for s in seen))
    per_image = Counter(len(s.label.lanes) for s in seen)
    line("lanes per image", {n: per_image[n] for n in sorted(per_image)})
    try:
        train, val = splits.split(SampleIndex(s.sample for s in seen), config.data.split[-1])
        print(f"  data.split={config.data.split[-1]}: {len(train)} images to train on, {len(val)} to validate on")
    except DataError as error:
        print(f"  {error}")
    above = [int(starts_above_cut(s.curves, config.model.cut_top).sum()) for s in seen]
    trouble(f"of {lanes} lanes begin in what model.cut_top={config.model.cut_top:g} hides; lower it if they are many",
            sum(above), [place(s.sample) for s, count in zip(seen, above, strict=True) if count])
    for what, field in (
        (f"of {lanes} lanes do not fit the {config.model.slots} slots (model.slots)", "num_unassigned"),
        (f"of {lanes} lanes have fewer than two points in the image", "num_too_short"),
        (f"of {lanes} lanes lie outside the image (labels of another image size?)", "outside"),
        (f"of {lanes} lanes have the same point twice in a row, which breaks CULane's evaluator", "repeated"),
    ):
        trouble(what, sum(getattr(s, field) for s in seen), [place(s.sample) for s in seen if getattr(s, field)])


def line(name: str, counts: dict) -> None:
    """Print counts in one line, the first dozen of them."""
    shown = ", ".join(f"{key}: {count}" for key, count in list(counts.items())[:12])
    print(f"  {name}: {shown}{' ...' if len(counts) > 12 else ''}")


def place(sample: Sample) -> str:
    return f"{sample.label}:{sample.line}" if sample.line else str(sample.label)


def trouble(what: str, count: int, examples: Sequence[str]) -> None:
    """Print how many there are of a trouble, and the first few places."""
    print(f"  {count} {what}")
    for example in examples[:SHOWN]:
        print(f"      {example}")
    if len(examples) > SHOWN:
        print(f"      ... and {len(examples) - SHOWN} more")


def print_ceilings(seen: Sequence[CheckedSample], config: Config) -> None:
    """Print the ceiling: of each label file for TuSimple, of an even choice of images where CULane's metric draws."""
    if all(s.label.rows is not None for s in seen):
        for name in dict.fromkeys(s.sample.lists[0] for s in seen):
            part = [s for s in seen if s.sample.lists[0] == name]
            empty = sum(len(lane) == 0 for s in part for lane in s.label.lanes)
            note = f" ({empty} labelled lanes have no point: the metric counts them as missed)" if empty else ""
            figures = percents(tusimple_ceiling(part, config))
            print(f"  ceiling, TuSimple metric, {name}, {len(part)} images: {figures}{note}")
    else:
        part = [seen[i] for i in spread(len(seen), CEILING_IMAGES)]
        print(f"  ceiling, CULane metric, {len(part)} images: {percents(culane_ceiling(part))}")


def percents(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.2f} %" for name, value in figures.items())


def tusimple_ceiling(seen: Sequence[CheckedSample], config: Config) -> dict[str, float]:
    """TuSimple's figures of the labels after the round trip through slots and curves."""
    tolerance = config.inference.end_tolerance
    lanes = [submission.tusimple_lanes(s.curves, s.label.rows, s.size_px, tolerance) for s in seen]
    return scores.tusimple_scores(lanes, [s.label for s in seen], [s.size_px for s in seen])


def culane_ceiling(seen: Sequence[CheckedSample]) -> dict[str, float]:
    """CULane's figures of the labels after the round trip through slots and curves."""
    lanes = [submission.culane_lanes(s.curves, s.size_px) for s in seen]
    samples, labels, sizes = ([s[k] for s in seen] for k in range(3))
    return scores.culane_scores(scores.culane_counts(lanes, samples, labels, sizes))


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below count, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def write_sheet(path: Path, seen: Sequence[CheckedSample]) -> None:
    """Write labelled images side by side: labels thick, the curves that stand for them thin and white."""
    tiles = [tile(seen[i]) for i in spread(len(seen), SHEET_TILES)]
    height = max(len(image) for image in tiles)
    tiles = [np.pad(t, ((0, height - len(t)), (0, TILE_PX[0] - t.shape[1]), (0, 0))) for t in tiles]
    path.parent.mkdir(parents=True, exist_ok=True)
    draw.write_image(path, draw.contact_sheet(tiles, SHEET_COLUMNS, TILE_PX[0]))


def tile(one: CheckedSample) -> np.ndarray:
    """RGB uint8 of at most 400x225: the image with its lanes drawn on it."""
    image = read_image(one.sample.image)
    scale = min(TILE_PX[0] / image.shape[1], TILE_PX[1] / image.shape[0])
    size = (max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for lane, color in zip(filter(len, one.label.lanes), itertools.cycle(draw.COLORS)):
        pixels = np.round(lane / one.size_px * size).astype(np.int32)
        cv2.polylines(image, [pixels], False, color, 3, cv2.LINE_AA)
    return draw.draw_lanes(image, one.curves)
