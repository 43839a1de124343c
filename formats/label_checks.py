"""Whether the labels of a data set fit its images."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from formats.base import Label

UNIT = (-1, 2)  # numbers of [0, 1] and a little outside, where lanes go on; in pixels no lane lies in there
USUAL_END = (0.75, 1.1)  # of the image's height: where the lanes of nearly all cameras end


def normalized_range(lanes: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The least and the largest x or y of lanes (N, 2) that are in shares of the image; None where they are in pixels.

    One lane that has x in that range, but not y, may run along the image's border.
    """
    if any(len(lane) and lane[-1].min() > UNIT[1] for lane in lanes):  # quick, for all labels that are right
        return None
    points = [lane for lane in lanes if len(lane) > 1]
    if not points:
        return None
    low, high = (combine([part(lane, axis=0) for lane in points], axis=0)
                 for part, combine in ((np.min, np.min), (np.max, np.max)))
    axes = [axis for axis in (0, 1) if low[axis] >= UNIT[0] and high[axis] <= UNIT[1]]
    if not axes or (axes == [0] and len(points) < 2):
        return None
    return float(low[axes].min()), float(high[axes].max())


def size_hint(labels: Sequence[Label], sizes_px: Sequence[tuple[int, int]]) -> str | None:
    """A line where the labels seem made for images of another size: most of them end far from the image's bottom.

    None where they do not, or have no lane.
    """
    ends = [max(lane[:, 1].max() for lane in label.lanes if len(lane)) / height
            for label, (_, height) in zip(labels, sizes_px, strict=True) if any(map(len, label.lanes))]
    end = float(np.median(ends)) if ends else 1.0
    if USUAL_END[0] <= end <= USUAL_END[1]:
        return None
    where = "below the image's bottom" if end > 1 else "far above the image's bottom"
    sizes = ", ".join(f"{width}x{height}" for width, height in sorted(set(sizes_px))[:3])
    return (f"most lanes end {where}, at {100 * end:.0f} % of its height: are the labels made for images of another "
            f"size than {sizes}?")


def stated_size_hint(labels: Sequence[Label], sizes_px: Sequence[tuple[int, int]]) -> str | None:
    """A line where labels say that their image has another size than it has; None where none does."""
    others = [(label.size_px, size_px) for label, size_px in zip(labels, sizes_px, strict=True)
              if label.size_px not in (None, tuple(size_px))]
    if not others:
        return None
    (stated, (width, height)) = others[0]
    return (f"{len(others)} of {len(labels)} labels that were looked at are for images of another size, such as "
            f"{stated[0]}x{stated[1]} for one of {width}x{height}; lanes are not scaled: were the images resized?")


def no_lane_hint(labels: Sequence[Label]) -> str | None:
    """A line where no label has a lane, or shapes were drawn and none of them is one; None where that is not so."""
    shapes = Counter(shape for label in labels for shape in label.left_out)
    if labels and not any(label.lanes for label in labels):
        drawn = f", but shapes that are no lanes: {_counts(shapes)}" if shapes else ""
        return f"none of {len(labels)} labels that were looked at has a lane{drawn}"
    empty = sum(bool(label.left_out) and not label.lanes for label in labels)
    if not empty:
        return None
    return (f"{empty} of {len(labels)} labels that were looked at have shapes but no lane; shapes that are no lanes: "
            f"{_counts(shapes)}")


def _counts(shapes: Counter[str]) -> str:
    return ", ".join(f"{shape}: {count}" for shape, count in shapes.most_common(5))
