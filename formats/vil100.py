"""VIL-100: one JSON file an image, Json/VIDEO/00000.jpg.json for JPEGImages/VIDEO/00000.jpg.

The layout is that of github.com/yujun0-0/MMA-Net, dataset/README.md. Its benchmark's metric is CULane's.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

from formats.annotations import pixel_size, points_of_pairs
from formats.base import DataError, Label, MissingFile, Sample
from formats.culane_metric import CULaneMetric
from formats.data_set import DataSet
from formats.parsing import json_file, list_of, whole_file


class Vil100(DataSet):
    """Videos as data/db_info.yaml divides them into train and test; without that file all are one part."""

    name = "vil100"
    layout = "Json/*/X.jpg.json and JPEGImages/*/X.jpg (VIL-100)"
    metric = CULaneMetric()

    def detect(self, root: Path) -> bool:
        return (root / "JPEGImages").is_dir() and next(root.glob("Json/*/*.json"), None) is not None

    def list_samples(self, root: Path) -> Iterator[Sample | DataError]:
        try:
            parts = _parts(root / "data" / "db_info.yaml")
        except DataError as error:
            yield error
            return
        for path in (p for video in sorted((root / "Json").glob("*")) for p in sorted(video.glob("*.json"))):
            name = f"JPEGImages/{path.parent.name}/{path.name.removesuffix('.json').removesuffix('.jpg')}.jpg"
            image = root / name
            sample = Sample(image, path, name, (parts.get(path.parent.name, "train"),), self.name)
            yield sample if image.is_file() else MissingFile(f"{path}: its image {image} is missing", sample)

    def read_label(self, sample: Sample) -> Label:
        """{"info": {"width": .., "height": ..}, "annotations": {"lane": [{"points": [[x, y], ...]}, ...]}}."""
        path = sample.label
        record = json_file(path, '"annotations"')
        annotations, info = record.get("annotations"), record.get("info")
        lanes = list_of(annotations.get("lane") if isinstance(annotations, dict) else None, f"{path}: 'lane'")
        size_px = pixel_size(info.get("width"), info.get("height")) if isinstance(info, dict) else None
        return Label([_points(lane, f"{path}: lane {i}") for i, lane in enumerate(lanes, start=1)], size_px=size_px)


def _points(lane: object, where: str):
    if not isinstance(lane, dict):
        raise DataError(f"{where} is not an object with points")
    return points_of_pairs(lane.get("points"), f"{where}: points")


def _parts(path: Path) -> dict[str, str]:
    """The part of each video; empty where there is no such file. Raises DataError for one that is broken."""
    if not path.is_file():
        return {}
    try:
        sequences = yaml.safe_load(whole_file(path))["sequences"]
        return {str(video["name"]): str(video["set"]) for video in sequences}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        raise DataError(f"{path}: expected 'sequences', a list of videos with name and set") from None
