"""A folder of one's own: X.lines.txt beside X.jpg in any sub-folders."""

import os
from collections.abc import Iterator
from pathlib import Path

from formats.base import DataError, Label, Sample
from formats.culane_metric import CULaneMetric
from formats.data_set import DataSet, LabelledImage
from formats.parsing import IMAGE_SUFFIXES, lanes_of_text, text_of_lanes
from runtime.files import write_text


class Folder(DataSet):
    """The folder is searched with its sub-folders; labels are those of CULane, a lane a line."""

    name = "folder"
    layout = "X.lines.txt beside X.jpg (a folder of your own)"
    metric = CULaneMetric()

    def detect(self, root: Path) -> bool:
        return next(root.rglob("*.lines.txt"), None) is not None

    def list_samples(self, root: Path, require_images: bool = True) -> Iterator[Sample | DataError]:
        for path in _files_below(root, ".lines.txt"):
            stem = path.name.removesuffix(".lines.txt")
            candidates = [path.with_name(stem + s) for suffix in IMAGE_SUFFIXES for s in (suffix, suffix.upper())]
            image = next((p for p in candidates if p.is_file()), None if require_images else candidates[0])
            if image is None:
                yield DataError(f"{path}: no image {stem}.jpg, .png, .bmp or .webp beside it")
            else:
                yield Sample(image, path, image.relative_to(root).as_posix(), ("folder",), self.name)

    def read_label(self, sample: Sample) -> Label:
        return Label(lanes_of_text(sample.label))

    def write_label(self, root: Path, image: LabelledImage) -> int:
        """X.lines.txt beside the image; a lane without points is none."""
        lanes = [lane for lane in image.lanes if len(lane)]
        write_text((root / image.name).with_suffix(".lines.txt"), text_of_lanes(lanes))
        return len(image.lanes) - len(lanes)


def _files_below(folder: Path, suffix: str) -> Iterator[Path]:
    """Files whose names end so, sorted as paths are, with the names of one folder a level in memory."""
    try:
        children = sorted(os.scandir(folder), key=lambda child: child.name)
    except PermissionError:  # such as lost+found: nobody's data
        return
    for child in children:
        if child.name.endswith(suffix):
            yield folder / child.name
        elif child.is_dir(follow_symlinks=False):
            yield from _files_below(folder / child.name, suffix)
