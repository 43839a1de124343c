"""BDD100K: its three layouts, curves, both edges of a marking, and what is no lane."""

import json
import pickle
import re

import numpy as np
import pytest
from layouts import LANES, bdd100k, bdd_label, label_error, write_image

from formats import registry, splits
from formats.bdd100k import BEZIER_POINTS

FAR_APART = [LANES[0], [(250, 170), (220, 120), (190, 80)]]


def written(root, labels, path="lane_train.json", wrap=lambda records: records):
    write_image(root / "a.jpg")
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(json.dumps(wrap([{"name": "a.jpg", "labels": labels}])))
    return root


def only_label(root, **options):
    sample, = registry.list_samples(root, **options)
    return registry.read_label(sample)


def test_the_list_of_all_images(tmp_path):
    samples = registry.list_samples(bdd100k(tmp_path))
    assert [sample.name for sample in samples] == [f"images/100k/train/{name}.jpg" for name in "ab"]
    for label in map(registry.read_label, samples):
        assert [lane.tolist() for lane in label.lanes] == [[list(map(float, p)) for p in lane] for lane in LANES]
        assert label.left_out == ("crosswalk",)


def test_one_file_an_image(tmp_path):
    for part in ("train", "val"):
        write_image(tmp_path / "images" / "100k" / part / "x1.jpg")
        path = tmp_path / "labels" / "100k" / part / "x1.json"
        path.parent.mkdir(parents=True)
        objects = [{"category": "car", "box2d": {"x1": 1}, "id": 1},
                   {"category": "area/drivable", "poly2d": [[1, 2, "L"], [9, 9, "L"], [5, 5, "L"]]},
                   {"category": "lane/road curb", "poly2d": [[1, 2, "L"], [9, 9, "L"]]},
                   *({"category": "lane/single white", "attributes": {"direction": "parallel", "style": "solid"},
                      "poly2d": [[*point, "L"] for point in lane]} for lane in FAR_APART)]
        path.write_text(json.dumps({"name": "x1", "frames": [{"timestamp": 10000, "objects": objects}]}))
    samples = registry.list_samples(tmp_path)
    assert [sample.name for sample in samples] == [f"images/100k/{part}/x1.jpg" for part in ("train", "val")]
    train, val = splits.split(samples, "auto")
    assert len(train) == len(val) == 1
    label = registry.read_label(samples[0])
    assert [lane[0].tolist() for lane in label.lanes] == [[100, 170], [250, 170]]
    assert label.left_out == ("closed outline", "road curb")


def test_scalabel_export_with_frames(tmp_path):
    root = written(tmp_path, [bdd_label(LANES[0], "lane")], wrap=lambda records: {"config": {}, "frames": records})
    assert len(only_label(root).lanes) == 1


@pytest.mark.parametrize(("label", "left_out"), [
    (bdd_label(LANES[0], "lane", laneDirection="parallel", laneType="single white"), ()),
    (bdd_label(LANES[0], "single yellow", laneDirection="parallel"), ()),
    (bdd_label(LANES[0], "lane", laneDirection="vertical", laneType="single white"), ("across the road",)),
    (bdd_label(LANES[0], "lane", laneType="road curb"), ("road curb",)),
    (bdd_label(LANES[0], "lane/crosswalk"), ("crosswalk",)),
    (bdd_label(LANES[0], "drivable area"), ("closed outline",)),
    (bdd_label(LANES[0], "lane") | {"poly2d": [{"vertices": LANES[0], "closed": True}]}, ("closed outline",)),
    ({"category": "car", "box2d": {}}, ()), ({"category": "lane", "poly2d": None}, ())])
def test_what_is_a_lane(tmp_path, label, left_out):
    read = only_label(written(tmp_path, [bdd_label([(1, 1), (9, 99)], "lane"), label]))
    assert read.left_out == left_out
    assert len(read.lanes) == 1 + (not left_out and bool(label.get("poly2d")))


@pytest.mark.parametrize(("types", "points"), [
    ("LCCC", [(0, 0), (0, 30), (30, 60), (60, 60)]), ("LCCL", [(0, 0), (0, 30), (30, 60), (60, 60)])])
def test_curves_are_followed(tmp_path, types, points):
    line = {"vertices": points, "types": types, "closed": False}
    lane, = only_label(written(tmp_path, [{"category": "lane", "poly2d": [line]}])).lanes
    assert len(lane) == 1 + BEZIER_POINTS and lane[0].tolist() == [0, 0] and lane[-1].tolist() == [60, 60]
    assert lane[BEZIER_POINTS // 2].tolist() == pytest.approx([(0 + 0 + 90 + 60) / 8, (0 + 90 + 180 + 60) / 8])


def test_both_edges_of_a_marking_are_one_lane(tmp_path):
    left, right = [(600, 700), (640, 400)], [(645, 402), (630, 700)]
    other = [(1000, 700), (700, 400)]
    label = only_label(written(tmp_path, [bdd_label(line) for line in (left, other, right)]))
    assert [lane.round().tolist() for lane in label.lanes] == [[[615, 700], [642, 401]], [[1000, 700], [700, 400]]]
    assert label.left_out == ("other edge of a painted line",)


def test_edges_of_two_kinds_are_two_lanes(tmp_path):
    labels = [bdd_label([(600, 700), (640, 400)]), bdd_label([(630, 700), (645, 402)], "lane/single yellow")]
    assert len(only_label(written(tmp_path, labels)).lanes) == 2


def test_lists_of_boxes_and_areas_beside_it_are_passed_over(tmp_path):
    root = written(tmp_path, [bdd_label(LANES[0])], "labels/lane_train.json")
    written(root, [{"category": "car", "box2d": {}}], "labels/det_train.json")
    written(root, [bdd_label(LANES[0], "drivable area")], "labels/drivable_train.json")
    assert len(only_label(root, format_name="bdd100k").lanes) == 1
    assert len(only_label(root).lanes) == 1


def test_a_sample_costs_tens_of_bytes(tmp_path, monkeypatch):
    names = [f"{i:08x}-{i * 7919:08x}.jpg" for i in range(300)]
    (tmp_path / "lane_train.json").write_text(json.dumps(
        [{"name": name, "labels": [bdd_label(LANES[0])]} for name in names]))
    monkeypatch.setattr("os.path.isfile", lambda path: True)
    samples = registry.list_samples(tmp_path, "bdd100k")
    assert list(samples.names()) == names and len(pickle.dumps(samples)) < 100 * len(names)


def test_labels_that_are_null_are_an_image_without_lanes(tmp_path):
    root = written(tmp_path, [bdd_label(LANES[0])])
    write_image(root / "b.jpg")
    records = json.loads((root / "lane_train.json").read_text())
    (root / "lane_train.json").write_text(json.dumps([*records, {"name": "b.jpg", "labels": None}]))
    assert [len(registry.read_label(sample).lanes) for sample in registry.list_samples(root)] == [1, 0]


def test_other_json_is_not_claimed(tmp_path):
    for text in ("[1, 2]", "{}", '[{"name": "a", "labels": []}]', "3", '[{"name": "x", "labels": 3}]'):
        (tmp_path / "x.json").write_text(text)
        assert registry.detect(tmp_path) is None, text


@pytest.mark.parametrize(("label", "message"), [
    (3, "'labels' is not a list of objects"), ({"poly2d": 3}, "poly2d is not a list of lines"),
    ({"poly2d": [3]}, "not a list of lines with vertices"), ({"poly2d": [{}]}, "vertices is not a list of points"),
    ({"poly2d": [{"vertices": [[1, "x"]]}]}, "not a number"), ({"poly2d": [[1, "x", "L"]]}, "not a number"),
    (bdd_label([(1, 2), (3, 4)]) | {"poly2d": [{"vertices": [[1, 2]]}] * 200}, "at most 128 lanes"),
    ({"poly2d": [{"vertices": [[1, 2]], "types": "LC"}]}, "2 types for 1 vertices"),
    ({"poly2d": [{"vertices": [[1, 2], [3, 4]], "types": "LC"}]}, "a curve has two control points C and an end")])
def test_a_broken_label_is_named_with_its_byte(tmp_path, label, message):
    root = written(tmp_path, [bdd_label(LANES[0])])
    write_image(root / "b.jpg")
    records = [*json.loads((root / "lane_train.json").read_text()) * 100, {"name": "b.jpg", "labels": [label]}]
    (root / "lane_train.json").write_text(json.dumps(records))
    error = label_error(root)
    assert message in error and "lane_train.json at byte" in error


def test_a_missing_image_is_named(tmp_path):
    root = written(tmp_path, [bdd_label(LANES[0])])
    (root / "a.jpg").unlink()
    assert "lane_train.json at byte 1: the image 'a.jpg' is missing" in label_error(root)


def test_lines_that_are_empty_do_not_matter(tmp_path):
    label = only_label(written(tmp_path, [bdd_label(LANES[0]), bdd_label([])]))
    assert len(label.lanes) == 1 and np.isfinite(label.lanes[0]).all()


def test_one_list_of_the_images_of_all_parts(tmp_path):
    root = written(tmp_path, [bdd_label(LANES[0])], "labels.json")
    (root / "a.jpg").unlink()
    names = [("train", "a.jpg"), ("val", "b.jpg")]
    for part, name in names:
        write_image(root / "images" / "100k" / part / name)
    records = [{"name": name, "labels": [bdd_label(LANES[0])]} for _, name in names]
    (root / "labels.json").write_text(json.dumps(records))
    samples = registry.list_samples(root)
    assert list(samples.names()) == [f"images/100k/{part}/{name}" for part, name in names]
    assert [sample.lists for sample in samples] == [("labels.json", "train"), ("labels.json", "val")]
    write_image(root / "images" / "100k" / "val" / "a.jpg")
    assert re.search(r"the image 'a\.jpg' may be .*train.a\.jpg or .*val.a\.jpg; write its folder", label_error(root))


def test_a_list_of_one_part_takes_no_image_of_another(tmp_path):
    root = written(tmp_path, [bdd_label(LANES[0])], "lane_train.json")
    (root / "a.jpg").unlink()
    write_image(root / "val" / "a.jpg")
    assert "the image 'a.jpg' is missing" in label_error(root)


def test_lines_of_two_styles_beside_each_other_are_two(tmp_path):
    """A solid line beside a dashed one: no edges of one painted line."""
    labels = [bdd_label([(x, y) for x, y in LANES[0]], "lane", laneType="double white", laneStyle="solid"),
              bdd_label([(x + 4, y) for x, y in LANES[0]], "lane", laneType="double white", laneStyle="dashed")]
    assert len(only_label(written(tmp_path, labels)).lanes) == 2
    labels[1]["attributes"]["laneStyle"] = "solid"
    assert len(only_label(written(tmp_path, labels)).lanes) == 1
