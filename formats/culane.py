"""CULane: X.lines.txt beside X.jpg, a lane a line, 'x y x y ...', listed in list/*.txt."""

import re
from collections.abc import Iterator
from pathlib import Path

from formats.base import DataError, Label, Sample
from formats.culane_metric import CULaneMetric
from formats.data_set import DataSet, LabelledImage
from formats.files import IMAGE_SUFFIXES, PassedOver, Tree, file_head
from formats.parsing import (
    append_line,
    existing,
    file_name,
    image_name,
    image_path,
    lanes_of_text,
    text_lines,
    text_of_lanes,
)
from metrics.culane import CULANE_SIZE
from runtime.files import write_text

SUFFIX = re.compile(rf"(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))})(?=\s|$)", re.IGNORECASE)
LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".lst", ".json", ".list")
UNREAD = "files name images but are not read as lists: those are list/*.txt"


class CULane(DataSet):
    """list/**/*.txt name the images, with or without the columns of segmentation masks."""

    name = "culane"
    layout = "list/*.txt naming images with X.lines.txt beside X.jpg (CULane)"
    metric = CULaneMetric()
    image_size_px = CULANE_SIZE

    def detect(self, root: Path) -> bool:
        return any(map(_is_list, Tree(root / "list").files()))

    def list_samples(self, root: Path) -> Iterator[Sample | DataError | PassedOver]:
        folder = root / "list"
        for path in sorted(filter(_is_list, Tree(folder).files()), key=lambda p: (len(p.parts), p)):
            list_name, empty = path.relative_to(folder).as_posix(), True
            for line, _, text in text_lines(path):
                empty = False
                try:
                    yield self._sample(root, list_name, f"{path}:{line}", file_name(text))
                except DataError as error:
                    yield error
            if empty:
                yield DataError(f"{path}: the list is empty; expected one image a line")
        others = [path for path in Tree(folder).files() if not _is_list(path)]
        others += [child.path for child in Tree(root).children(root) if not child.is_folder]
        yield from (PassedOver(path, UNREAD) for path in others if _names_images(path))

    def _sample(self, root: Path, list_name: str, where: str, text: str) -> Sample:
        """The sample of one line of a list."""
        for written in _possible_names(text):
            name = image_name(written, where, root)
            image, exists = image_path((root,), name)
            if exists:
                break
        else:
            written = next(_possible_names(text))
            name = image_name(written, where, root)
            image = root / name
        sample = Sample(image, image.with_suffix(".lines.txt"), name, (list_name,), self.name)
        return existing(sample, exists, where, written)

    def read_label(self, sample: Sample) -> Label:
        return Label(lanes_of_text(sample.label))

    def write_label(self, root: Path, image: LabelledImage) -> int:
        """X.lines.txt beside the image, and its name in list/train.txt, val.txt or test.txt."""
        lanes = [lane for lane in image.lanes if len(lane)]
        write_text((root / image.name).with_suffix(".lines.txt"), text_of_lanes(lanes))
        append_line(root / "list" / f"{image.part}.txt", f"/{image.name}")
        return len(image.lanes) - len(lanes)


def _possible_names(text: str) -> Iterator[str]:
    """The names that a line may begin with: up to an image's suffix, the shortest first; columns of masks follow."""
    ends = [match.end() for match in SUFFIX.finditer(text)]
    yield from (text[:end] for end in ends)
    if len(text) not in ends:
        yield text


def _is_list(path: Path) -> bool:
    return path.suffix.lower() == ".txt"


def _names_images(path: Path) -> bool:
    """Whether a text file beside the lists could be one."""
    if path.suffix.lower() not in LIST_SUFFIXES or path.name.lower().endswith(".lines.txt"):
        return False
    head = file_head(path, 2000).lower()
    return any(suffix.encode() in head for suffix in IMAGE_SUFFIXES)
