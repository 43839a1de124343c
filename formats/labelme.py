"""labelme: one JSON file an image, X.json beside X.jpg or in another folder, each lane a line of points.

N points, 2 = (x, y) in pixels.
"""

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from formats.annotations import (
    AnnotationFiles,
    ImageFinder,
    is_no_lane,
    label_files,
    pixel_size,
    points_of_pairs,
    shape_name,
)
from formats.base import DataError, Label, Sample
from formats.data_set import LabelledImage
from formats.files import IMAGE_SUFFIXES
from formats.list_names import folder_purpose
from formats.parsing import json_object, list_of, whole_file
from runtime.files import write_text

MAX_BYTES = 200_000_000  # of a file that has its image in it, too
IMAGE_PATH = re.compile(rb'"imagePath"\s*:\s*("(?:[^"\\]|\\.)*")')
LINES = ("linestrip", "line")  # shape_type of what is a lane; others enclose an area, or are single points


class Labelme(AnnotationFiles):
    """Every .json file below the root that has `shapes`; its image has its name, or else the one in `imagePath`.

    An image below a folder called train, val or test is in a list of that name; the others are in "labelme".
    Shapes of the types linestrip and line are lanes, unless their label says crosswalk, curb or stop line. Others
    are left out and counted, and so is what encloses an area.
    """

    name = "labelme"
    layout = "X.json with shapes beside X.jpg (labelme)"
    suffix = ".json"
    sniffed = 50

    def has_labels(self, path: Path) -> bool:
        """Whether a file has the keys of labelme; a large one of another tool is searched for them, and not parsed."""
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(b'"shapes"') < 0 or content.find(b'"imagePath"') < 0:
                    return False
            record = _record(path)
        except (DataError, OSError, ValueError):  # ValueError: an empty file cannot be mapped
            return False
        return isinstance(record.get("shapes"), list) and "imagePath" in record

    def list_labelled(self, root: Path) -> Iterator[Sample | DataError]:
        finder, folder = None, None
        for path in label_files(root, self.suffix):
            if folder != path.parent:
                finder, folder = ImageFinder(root, path, is_list=False), path.parent
            try:
                image, name = _image(finder, path)
            except DataError as error:
                yield error
                continue
            if image is not None:
                own = finder.name(image)
                parts = [part for part in own.split("/")[:-1] if folder_purpose(part)]
                sample = Sample(image, path, own, tuple(parts[:1]) or ("labelme",), self.name)
                yield finder.checked(sample, name, str(path))

    def read_label(self, sample: Sample) -> Label:
        """{"shapes": [{"label": .., "points": [[x, y], ...], "shape_type": "linestrip"}, ...], "imageWidth": ..}."""
        record = _record(sample.label)
        lanes, left_out = [], []
        for i, shape in enumerate(list_of(record.get("shapes"), f"{sample.label}: 'shapes'", 10_000), start=1):
            where = f"{sample.label}: shape {i}"
            if not isinstance(shape, dict):
                raise DataError(f"{where} is not an object with label, points and shape_type")
            kind = shape_name(shape.get("shape_type"), "polygon")  # which the first versions had alone
            if kind not in LINES:
                left_out.append(kind)
            elif is_no_lane(shape.get("label")):
                left_out.append(shape_name(shape.get("label"), kind))
            else:
                lanes.append(points_of_pairs(shape.get("points"), f"{where}: points"))
        size_px = pixel_size(record.get("imageWidth"), record.get("imageHeight"))
        return Label(list_of(lanes, f"{sample.label}: 'shapes'"), left_out=tuple(left_out), size_px=size_px)

    def write_label(self, root: Path, image: LabelledImage) -> int:
        """X.json beside the image, each lane a linestrip; a lane of fewer than two points is none."""
        lanes = [lane for lane in image.lanes if len(lane) >= 2]
        path = root / image.name
        write_text(path.with_suffix(".json"), labelme_text(path.name, image.size_px, lanes))
        return len(image.lanes) - len(lanes)


def labelme_text(image_path: str, size_px: tuple[int, int], lanes: list[np.ndarray]) -> str:
    """The file that labelme reads for an image, with its path from there, and lanes (N, 2)."""
    shapes = [{"label": "lane", "points": lane.astype(float).round(3).tolist(), "group_id": None, "description": "",
               "shape_type": "linestrip", "flags": {}} for lane in lanes]
    return json.dumps({"version": "5.0.1", "flags": {}, "shapes": shapes, "imagePath": image_path, "imageData": None,
                       "imageHeight": size_px[1], "imageWidth": size_px[0]}, indent=1)


def _record(path: Path) -> dict:
    return json_object(whole_file(path, MAX_BYTES), str(path), '"shapes" (labelme)')


def _image(finder: ImageFinder, path: Path) -> tuple[Path | None, object]:
    """The image of a label file, and what the file calls it; None where it is no label.

    It is the one beside it of its name, or else the one that `imagePath` leads to. Else it is missing where labels have
    their images beside them, and where they have not it is one of its own name, or of that one's, elsewhere.
    """
    if image := finder.beside(path.stem):  # so that most files, which may have their image in them, need not be read
        return image, path.stem
    name, has_shapes = _named_image(path)
    if not has_shapes:
        return None, name
    if image := finder.beside(name):
        return image, name
    if finder.labels_are_beside:
        return finder.own / f"{path.stem}{IMAGE_SUFFIXES[0]}", name
    image = finder.find(path.stem, str(path))
    return (image, path.stem) if image.is_file() else (finder.find(name, str(path)), name)


def _named_image(path: Path) -> tuple[object, bool]:
    """`imagePath` of a file, and whether it has shapes. They are searched for: the file may have its image in it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if (match := IMAGE_PATH.search(content)) and content.find(b'"shapes"') >= 0:
                return json.loads(match[1]), True
    except (OSError, ValueError):  # an empty file cannot be mapped
        pass
    record = _record(path)
    return record.get("imagePath"), "shapes" in record
