"""Prints how well TuSimple's accuracy could do if every curve were perfect and only their ends had to be guessed.

    python benchmarks/label_guess.py LABELS [section.key=value ...]

LABELS is a folder with TuSimple's label files; no images are needed there. For each labelled lane of the validation
images, where it begins and ends is guessed from its own labelled curve and from the vanishing point of the image's
labels, by boosted trees (scikit-learn, requirements-dev.txt) that have learned from other labels: those of the same
roots' training images, and all of the same drives in LABELS. They know every curve, and see no picture.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GridSearchCV, GroupKFold

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root, from wherever it is run

from label_ends import refuse_falling_rows

import dataset
from formats.base import DataError, Entry, Label
from formats.registry import label, scan
from formats.scores import tusimple_scores
from metrics.tusimple import TUSIMPLE_SIZE
from runtime import cli

POINTS = 12  # at a lane's far end, and at its near one, through which a straight line is laid
FEWEST = 3  # points of a lane whose ends are guessed; one with less is left out
FOLDS = 5  # of the labels to learn from, by image, on which the size of the trees is chosen
SIZES = {"max_iter": (60, 300), "max_leaf_nodes": (6, 31)}
WIDTH_PX = TUSIMPLE_SIZE[0]


class Lane(NamedTuple):
    """A labelled lane at the R rows of its image, y and x in pixels."""

    shape: np.ndarray  # (7) vanishing point, lanes in the image, number from the left, both slopes, x at the bottom
    begins: float  # y of its first point and of its last one
    ends: float
    leaves: float  # y of the last row before it leaves the image, going straight on
    x: np.ndarray  # (R) going straight on beyond its ends


Ends = tuple[np.ndarray, np.ndarray]  # y (N) of where each of some lanes begins, and ends
Guess = Callable[[Sequence[Lane]], Ends]


def lanes_of(found: Label) -> list[Lane]:
    """The lanes of an image, but for those of hardly any points, which have no shape."""
    refuse_falling_rows(found.rows)
    rows, there = found.rows, found.x_at_rows >= 0
    shaped = there.sum(1) >= FEWEST
    far, near = (np.array([np.polyfit(rows[on][part], x[on][part], 1) for x, on in
                           zip(found.x_at_rows[shaped], there[shaped], strict=True)]).reshape(-1, 2)
                 for part in (slice(None, POINTS), slice(-POINTS, None)))
    # The vanishing point is nearest to all lines x = slope y + offset.
    point = np.linalg.lstsq(np.stack((np.ones(len(far)), -far[:, 0]), 1), far[:, 1], rcond=None)[0]
    at_bottom = near @ (rows[-1], 1)
    place = at_bottom.argsort().argsort()
    lanes = []
    for i, number in enumerate(np.flatnonzero(shaped)):
        on, x = there[number], found.x_at_rows[number]
        begins, ends = rows[on][[0, -1]]
        straight = np.where(rows < begins, far[i] @ (rows, np.ones_like(rows)), near[i] @ (rows, np.ones_like(rows)))
        extended = np.where(on, x, straight)
        beyond = (rows > begins) & ((extended < 0) | (extended >= WIDTH_PX))
        leaves = rows[max(beyond.argmax() - 1, 0)] if beyond.any() else rows[-1]
        shape = np.array([*point, len(far), place[i], far[i, 0], near[i, 0], at_bottom[i]])
        lanes.append(Lane(shape, begins, ends, leaves, extended))
    return lanes


def as_labelled(lanes: Sequence[Lane]) -> Ends:
    """Where the labels themselves begin and end."""
    return np.array([lane.begins for lane in lanes]), np.array([lane.ends for lane in lanes])


def middle(known: Sequence[Sequence[Lane]]) -> Guess:
    """The median row of known images for all; lanes end where they leave the image."""
    begins = np.median([lane.begins for here in known for lane in here])
    return lambda lanes: (np.full(len(lanes), begins), np.array([lane.leaves for lane in lanes]))


def learned(known: Sequence[Sequence[Lane]]) -> Guess:
    """A guess by boosted trees that know the lanes of these images; their size is the best on images held back."""
    lanes = [lane for here in known for lane in here]
    image = np.repeat(np.arange(len(known)), [len(here) for here in known])

    def trees(wanted: list[float]) -> GridSearchCV:
        model = HistGradientBoostingRegressor(loss="absolute_error", learning_rate=0.05, random_state=0)
        search = GridSearchCV(model, SIZES, scoring="neg_mean_absolute_error", cv=GroupKFold(FOLDS))
        return search.fit([lane.shape for lane in lanes], wanted, groups=image)

    begins, ends = trees([lane.begins for lane in lanes]), trees([lane.ends - lane.leaves for lane in lanes])

    def guess(lanes: Sequence[Lane]) -> Ends:
        shapes = [lane.shape for lane in lanes]
        return begins.predict(shapes), ends.predict(shapes) + [lane.leaves for lane in lanes]
    return guess


def predicted(labels: Sequence[Label], lanes: Sequence[Sequence[Lane]], begins: Guess, ends: Guess) -> list[np.ndarray]:
    """For each image the lanes (K, R) that TuSimple's metric scores: the labelled curves between guessed ends."""
    found = []
    for of_image, here in zip(labels, lanes, strict=True):
        if not here:
            found.append(np.zeros((0, len(of_image.rows))))
            continue
        step = (of_image.rows[1] - of_image.rows[0]) / 2
        first, last = begins(here)[0][:, None] - step, ends(here)[1][:, None] + step
        x = np.stack([lane.x for lane in here])
        inside = (of_image.rows > first) & (of_image.rows <= last) & (x >= 0) & (x < WIDTH_PX)
        found.append(np.where(inside, x, -2.0))
    return found


def others_of_the_drives(root: Path, images: Sequence[Entry]) -> list[Entry]:
    """What root labels of the drives that these images are of, but for these. Raises DataError."""
    held_out = {entry.name for entry in images}
    drives = {_drive(entry) for entry in images}
    found = []
    for entry in scan(root, "tusimple", images=False):
        if isinstance(entry, DataError):
            raise entry
        if entry.name not in held_out and _drive(entry) in drives:
            found.append(entry)
    if not found:
        raise DataError(f"{root}: no other label of {', '.join(sorted(map(str, drives)))}")
    return found


def lanes_to_learn_from(whose: str, entries: Sequence[Entry]) -> list[list[Lane]]:
    """The lanes of each labelled image that has any. Raises DataError where there are too few to learn from."""
    known = [here for here in (lanes_of(label(entry)) for entry in entries) if here]
    if len(known) < FOLDS:
        raise DataError(f"{whose}: {len(known)} with a lane of {FEWEST} points; {FOLDS} are the least to learn from")
    return known


def _drive(entry: Entry) -> PurePosixPath:
    """clips/0313-1 for the image clips/0313-1/60/20.jpg."""
    return PurePosixPath(entry.name).parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Print a Markdown table."""
    arguments = cli.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="LABELS", help="folder of TuSimple's label files, and settings")
    options, overrides = cli.parse(arguments, argv)
    if len(options.words) != 1:
        raise ValueError("give one folder of TuSimple's label files")
    if not Path(options.words[0]).is_dir():
        raise DataError(f"{options.words[0]}: no such folder; give one with TuSimple's label files")
    settings = cli.load_settings(options, overrides)
    found = dataset.find(settings)
    images, labels = list(found.val), [label(entry) for entry in found.val]
    if any(of_image.x_at_rows is None for of_image in labels):
        raise DataError("the validation images are not in TuSimple's layout, and only its metric asks for ends")
    lanes = [lanes_of(of_image) for of_image in labels]
    if not any(lanes):
        raise DataError(f"no lane of the {len(labels)} validation images has {FEWEST} points")
    others = {"the training images": found.all_train(),
              "all others of the drive": others_of_the_drives(Path(options.words[0]), images)}
    known = {f"the labels of {whose} ({len(entries)})": lanes_to_learn_from(whose, entries)
             for whose, entries in others.items()}

    print(f"{len(images)} images\n\n| perfect curves that | accuracy | F1 |\n|---|---|---|")

    def say(name: str, begins: Guess, ends: Guess) -> None:
        scores = tusimple_scores(predicted(labels, lanes, begins, ends), labels, [TUSIMPLE_SIZE] * len(labels))
        print(f"| {name} | {100 * scores['accuracy']:.1f} % | {100 * scores['f1']:.1f} % |")

    say("begin and end as labelled", as_labelled, as_labelled)
    for whose, here in known.items():
        one_row, trees = middle(here), learned(here)
        say(f"begin in one row, the median of {whose}", one_row, as_labelled)
        say("begin in that row and end where they leave the image", one_row, one_row)
        say(f"begin where trees guess from {whose}", trees, as_labelled)
        say("begin and end where those guess", trees, trees)
    return 0


if __name__ == "__main__":
    cli.run(main)
