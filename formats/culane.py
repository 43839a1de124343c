"""CULane: X.lines.txt beside X.jpg, a lane a line, 'x y x y ...', listed in list/*.txt."""

from collections.abc import Iterator
from pathlib import Path

from formats.base import DataError, Sample
from formats.parsing import IMAGE_SUFFIXES, decoded, image_path, text_lines


def read_culane(root: Path, images: bool) -> Iterator[Sample | DataError]:
    """CULane: list/**/*.txt name the images, with or without the columns of segmentation masks."""
    folder = root / "list"
    for path in sorted(folder.rglob("*.txt"), key=lambda p: (len(p.parts), p)):
        list_name, empty = path.relative_to(folder).as_posix(), True
        for line, _, text in text_lines(path):
            empty = False
            where = f"{path}:{line}"
            try:
                words = decoded(text, where).strip()
                first = (words.split() or [""])[0]
                name = (first if first.lower().endswith(IMAGE_SUFFIXES) else words).lstrip("/")
                image = image_path((root,), name, where, images)
                label_path = image.with_suffix(".lines.txt")
                if not label_path.is_file():
                    raise DataError(f"{where}: the label {label_path} is missing")
                yield Sample(image, label_path, name, (list_name,))
            except DataError as error:
                yield error
        if empty:
            yield DataError(f"{path}: the list is empty; expected one image a line")
