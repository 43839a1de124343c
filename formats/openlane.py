"""OpenLane: one JSON file an image, lane3d_1000/PART/SEGMENT/X.json for images/PART/SEGMENT/X.jpg; only its 2-D lanes.

The layout is that of github.com/OpenDriveLab/OpenLane, data/README.md and anno_criterion/Lane/README.md. Its test/
names images of validation/ again, by their kind, and is not read.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from formats.base import DataError, Label, MissingFile, Sample
from formats.culane_metric import CULaneMetric
from formats.data_set import DataSet
from formats.parsing import json_file, list_of, numbers

FOLDERS = ("lane3d_1000", "lane3d_300")  # the second is a part of the first
PARTS = ("training", "validation")
CURBSIDES = {20: "left curbside", 21: "right curbside"}


class OpenLane(DataSet):
    """Its own benchmark also scores curbsides and categories; here lanes alone are read, and scored as CULane's."""

    name = "openlane"
    layout = "lane3d_300/ or lane3d_1000/ with training/*/X.json, and images/training/*/X.jpg (OpenLane)"
    metric = CULaneMetric()
    image_size_px = (1920, 1280)

    def detect(self, root: Path) -> bool:
        return any(next(root.glob(f"{folder}/{part}/*/*.json"), None) for folder in FOLDERS for part in PARTS)

    def list_samples(self, root: Path) -> Iterator[Sample | DataError]:
        folder = next((root / name for name in FOLDERS if (root / name).is_dir()), root)
        for path in (p for part in PARTS for segment in sorted((folder / part).glob("*"))
                     for p in sorted(segment.glob("*.json"))):
            name = path.relative_to(folder).with_suffix(".jpg")
            image = root / "images" / name
            sample = Sample(image, path, name.as_posix(), (name.parts[0],), self.name)
            yield sample if image.is_file() else MissingFile(f"{path}: its image {image} is missing", sample)

    def read_label(self, sample: Sample) -> Label:
        """{"lane_lines": [{"category": 1, "uv": [[x, ...], [y, ...]]}, ...]}."""
        path = sample.label
        lanes, left_out = [], []
        for i, lane in enumerate(list_of(json_file(path, '"lane_lines"').get("lane_lines"), f"{path}: 'lane_lines'"),
                                 start=1):
            where = f"{path}: lane {i}"
            uv = lane.get("uv") if isinstance(lane, dict) else None
            if not isinstance(uv, list) or len(uv) != 2:
                raise DataError(f"{where} has no uv: [[x, ...], [y, ...]]")
            x, y = numbers(uv[0], f"{where}: uv"), numbers(uv[1], f"{where}: uv")
            if len(x) != len(y):
                raise DataError(f"{where}: uv has {len(x)} x but {len(y)} y")
            category = lane.get("category")
            if isinstance(category, int) and category in CURBSIDES:
                left_out.append(CURBSIDES[category])
            else:
                lanes.append(np.stack((x, y), axis=1).astype(np.float32))
        return Label(lanes, left_out=tuple(left_out))
