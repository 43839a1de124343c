"""COCO: annotations of an image by its id, as keypoints, polylines or open segmentations."""

import json

import numpy as np
import pytest
from layouts import LANES, coco, label_error, write_image

from formats import registry, splits
from formats.coco import is_open

FLAT = [float(v) for point in LANES[0] for v in point]
AREA = [100, 170, 110, 170, 150, 80, 145, 80, 102, 160]


def written(root, annotations, categories=({"id": 1, "name": "lane"},), path="train.json"):
    write_image(root / "a.jpg")
    record = {"images": [{"id": 7, "file_name": "a.jpg", "width": 320, "height": 180}],
              "annotations": [{"image_id": 7, "category_id": 1} | a for a in annotations], "categories": categories}
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(json.dumps(record))
    return root


def only_label(root):
    sample, = registry.list_samples(root)
    return registry.read_label(sample)


def test_lanes_of_each_image(tmp_path):
    samples = registry.list_samples(coco(tmp_path))
    assert [sample.name for sample in samples] == ["images/a.jpg", "images/b.jpg"]
    for label in map(registry.read_label, samples):
        lanes = sorted((lane.tolist() for lane in label.lanes), key=lambda lane: lane[0])
        assert lanes == [[list(map(float, p)) for p in lane] for lane in LANES]
        assert label.left_out == ("car",) and label.size_px == (320, 180)


@pytest.mark.parametrize("fields", [
    {"keypoints": [100, 170, 2, 140, 120, 1, 0, 0, 0, 170, 80, 2]}, {"segmentation": [FLAT]}, {"segmentation": FLAT},
    {"segmentation": [LANES[0]]}, {"polyline": FLAT}, {"polyline": [FLAT]}, {"polyline": LANES[0]},
    {"polyline": [LANES[0]]}])
def test_ways_to_write_a_lane(tmp_path, fields):
    lane, = only_label(written(tmp_path, [fields])).lanes
    assert lane.tolist() == [[100, 170], [140, 120], [170, 80]] and lane.dtype == np.float32


@pytest.mark.parametrize("fields", [{"segmentation": [AREA]}, {"segmentation": {"counts": [1, 2], "size": [9, 9]}},
                                    {"bbox": [1, 2, 3, 4]}, {"segmentation": []}, {"keypoints": [0, 0, 0]}])
def test_areas_and_boxes_are_counted(tmp_path, fields):
    label = only_label(written(tmp_path, [fields]))
    assert label.lanes == [] and label.left_out == ("lane: an area or a box",)


def test_several_lines_in_one_annotation(tmp_path):
    label = only_label(written(tmp_path, [{"segmentation": [FLAT, AREA, [v + 50 for v in FLAT]]}]))
    assert [lane[0].tolist() for lane in label.lanes] == [[100, 170], [150, 220]]


@pytest.mark.parametrize(("names", "lanes", "left_out"), [
    (["white line", "car"], 1, ("car",)), (["1", "crosswalk"], 1, ("crosswalk",)), (["lane", "stop line"], 1,
                                                                                  ("stop line",)),
    (["left", "right"], 2, ())])
def test_which_categories_are_lanes(tmp_path, names, lanes, left_out):
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    root = written(tmp_path, [{"category_id": i, "polyline": FLAT} for i in (1, 2)], categories)
    sample, = registry.list_samples(root, "coco")
    label = registry.read_label(sample)
    assert len(label.lanes) == lanes and label.left_out == left_out


@pytest.mark.parametrize(("points", "expected"), [
    (LANES[0], True), ([(0, 0), (9, 9)], True), ([(5, 5)], False), ([(100, 170), (102, 80), (104, 170)], False),
    ([(100, 170), (150, 80), (155, 80), (110, 170)], False), ([(300, 170), (200, 90), (120, 60), (60, 50)], True),
    ([(100, 100), (200, 100)], True), ([(100, 100), (300, 110), (320, 130), (110, 160)], False),
    ([(100, 170), (150, 80), (200, 170)], False)])
def test_a_line_is_told_from_an_area(points, expected):
    assert is_open(np.float32(points)) is expected


def test_a_file_that_changes_is_read_again(tmp_path):
    root = written(tmp_path, [{"polyline": FLAT}])
    assert len(only_label(root).lanes) == 1
    written(root, [{"polyline": FLAT}, {"polyline": LANES[1]}])
    assert len(only_label(root).lanes) == 2


def test_parts_of_roboflow(tmp_path):
    for part in ("train", "valid", "test"):
        written(tmp_path / part, [{"polyline": FLAT}], path="_annotations.coco.json")
    samples = registry.list_samples(tmp_path)
    assert list(samples.names()) == ["test/a.jpg", "train/a.jpg", "valid/a.jpg"]
    train, val = splits.split(samples, "auto")
    assert (list(train.names()), list(val.names())) == (["train/a.jpg"], ["valid/a.jpg"])


def test_coco_without_lanes_is_not_claimed(tmp_path):
    root = written(tmp_path, [{"bbox": [1, 2, 3, 4]}], [{"id": 1, "name": "person"}])
    assert registry.detect(root) is None


@pytest.mark.parametrize(("change", "message"), [
    ({"images": [3]}, "an entry of images is no object"), ({"images": [{}]}, "an entry of images without its id"),
    ({"images": [{"id": 7}]}, "'None' is no name of an image"),
    ({"images": [{"id": 7, "file_name": "b.jpg"}]}, "the image 'b.jpg' is missing"),
    ({"images": [{"id": 7, "file_name": "a.jpg"}] * 2}, "a second image with the id 7"),
    ({"annotations": [{"image_id": 8}]}, "no image has the image_id 8"),
    ({"annotations": [{"image_id": 7, "category_id": 1, "keypoints": [1, 2]}]}, "keypoints is not a flat"),
    ({"annotations": [{"image_id": 7, "category_id": 1, "polyline": [1, 2, 3]}]}, "polyline is not a flat"),
    ({"annotations": [{"image_id": 7, "category_id": 1, "polyline": [1, "2"]}]}, "not a number"),
    ({"annotations": [{"image_id": 7, "category_id": 1, "polyline": FLAT}] * 65}, "at most 64 lanes")])
def test_a_broken_file_is_named(tmp_path, change, message):
    root = written(tmp_path, [])
    path = root / "train.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    error = label_error(root, "coco")
    assert "train.json" in error and message in error


def test_annotations_of_no_image_are_named_and_the_others_read(tmp_path):
    lane = {"image_id": 7, "category_id": 1, "polyline": FLAT}
    root = written(tmp_path, [lane, {**lane, "image_id": 9}, {**lane, "image_id": 8}])
    assert registry.detect(root) == "coco"
    listing = registry.list_folder(root, stop=False)
    error, = listing.errors
    assert "no image has the image_id 9, nor of 1 more annotations" in str(error)
    assert [len(registry.read_label(sample).lanes) for sample in listing.samples] == [1]


def test_a_file_that_breaks_off_is_named(tmp_path):
    root = written(tmp_path, [{"image_id": 7, "category_id": 1, "polyline": FLAT}])
    path = root / "train.json"
    path.write_text(path.read_text()[:-9])
    assert "train.json" in label_error(root) and "no known layout" not in label_error(root)
