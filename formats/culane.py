"""CULane: X.lines.txt beside X.jpg, a lane a line, 'x y x y ...', listed in list/*.txt."""

from collections.abc import Iterator
from pathlib import Path

from formats.base import DataError, Label, Sample
from formats.culane_metric import CULaneMetric
from formats.data_set import DataSet, LabelledImage
from formats.parsing import IMAGE_SUFFIXES, append_line, decoded, image_path, lanes_of_text, text_lines, text_of_lanes
from metrics.culane import CULANE_SIZE
from runtime.files import write_text


class CULane(DataSet):
    """list/**/*.txt name the images, with or without the columns of segmentation masks."""

    name = "culane"
    layout = "list/*.txt naming images with X.lines.txt beside X.jpg (CULane)"
    metric = CULaneMetric()
    image_size_px = CULANE_SIZE
    validation_lists = ("val.txt", "val_gt.txt", "valid.txt")
    test_lists = ("test.txt", "test_split/")

    def detect(self, root: Path) -> bool:
        return next((root / "list").rglob("*.txt"), None) is not None

    def list_samples(self, root: Path, require_images: bool = True) -> Iterator[Sample | DataError]:
        folder = root / "list"
        for path in sorted(folder.rglob("*.txt"), key=lambda p: (len(p.parts), p)):
            list_name, empty = path.relative_to(folder).as_posix(), True
            for line, _, text in text_lines(path):
                empty = False
                try:
                    yield self._sample(root, list_name, f"{path}:{line}", text, require_images)
                except DataError as error:
                    yield error
            if empty:
                yield DataError(f"{path}: the list is empty; expected one image a line")

    def _sample(self, root: Path, list_name: str, where: str, text: bytes, require_images: bool) -> Sample:
        """The sample of one line of a list."""
        words = decoded(text, where).strip()
        first = (words.split() or [""])[0]
        name = (first if first.lower().endswith(IMAGE_SUFFIXES) else words).lstrip("/")
        image = image_path((root,), name, where, require_images)
        label = image.with_suffix(".lines.txt")
        if not label.is_file():
            raise DataError(f"{where}: the label {label} is missing")
        return Sample(image, label, name, (list_name,), self.name)

    def read_label(self, sample: Sample) -> Label:
        return Label(lanes_of_text(sample.label))

    def write_label(self, root: Path, image: LabelledImage) -> int:
        """X.lines.txt beside the image, and its name in list/train.txt, val.txt or test.txt."""
        lanes = [lane for lane in image.lanes if len(lane)]
        write_text((root / image.name).with_suffix(".lines.txt"), text_of_lanes(lanes))
        append_line(root / "list" / f"{image.part}.txt", f"/{image.name}")
        return len(image.lanes) - len(lanes)
