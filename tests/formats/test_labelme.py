"""labelme: lines of shapes, the image by the label's name or by imagePath, and what is no lane."""

import json

import numpy as np
import pytest
from layouts import LANES, label_error, labelme, write_image

from formats import registry, splits
from formats.annotations import _path_and_suffixes
from formats.registry import DATA_SETS


def only_label(root):
    sample, = registry.list_samples(root)
    return registry.read_label(sample)


def change(root, **fields):
    path = root / "day" / "a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return root


def shape(kind="linestrip", label="lane", points=LANES[0]):
    return {"label": label, "points": points, "shape_type": kind}


def test_lines_are_lanes_and_areas_are_counted(tmp_path):
    samples = registry.list_samples(labelme(tmp_path))
    assert [sample.name for sample in samples] == ["day/a.jpg", "day/b.PNG"]
    label = registry.read_label(samples[0])
    assert [lane.tolist() for lane in label.lanes] == [[list(map(float, p)) for p in lane] for lane in LANES]
    assert label.left_out == ("polygon",) and label.size_px == (320, 180)


@pytest.mark.parametrize(("drawn", "count", "left_out"), [
    (shape("line"), 1, ()), (shape("linestrip", "l1"), 1, ()), (shape("linestrip", ""), 1, ()),
    (shape("polygon"), 0, ("polygon",)), (shape("point", points=[[1, 2]]), 0, ("point",)),
    ({"label": "lane", "points": LANES[0]}, 0, ("polygon",)), (shape(label="Crosswalk_2"), 0, ("Crosswalk_2",)),
    (shape(label="road curb"), 0, ("road curb",)), (shape(label="stop line"), 0, ("stop line",)),
    (shape(label="stopline\n left"), 0, ("stopline left",)), (shape(label="non-stop lane"), 1, ())])
def test_what_is_a_lane(tmp_path, drawn, count, left_out):
    root = change(labelme(tmp_path, ["day/a.jpg"]), shapes=[drawn])
    label = only_label(root)
    assert len(label.lanes) == count and label.left_out == left_out


def test_an_embedded_image_is_not_looked_at(tmp_path):
    root = change(labelme(tmp_path, ["day/a.jpg"]), imageData="A" * 20_000_000)
    assert len(only_label(root).lanes) == 2


@pytest.mark.parametrize(("image", "image_path"), [
    ("day/other.jpg", "other.jpg"), ("photos/a.jpg", "../photos/a.jpg"), ("photos/x.jpg", "..\\photos\\x.jpg"),
    ("day/x.jpg", "C:\\Users\\me\\x.jpg"), ("day/x.jpg", "/home/me/data/x.jpg"), ("images/a.jpg", "a.jpg"),
    ("images/x.JPG", "x"), ("day/images/a.jpg", "gone.jpg")])
def test_the_image_is_found(tmp_path, image, image_path):
    root = change(labelme(tmp_path, ["day/a.jpg"]), imagePath=image_path)
    (root / "day" / "a.jpg").unlink()
    write_image(root / image)
    assert [sample.name for sample in registry.list_samples(root)] == [image]


def test_labels_and_images_in_folders_of_their_own(tmp_path):
    root = labelme(tmp_path, ["labels/train/a.jpg", "labels/val/a.jpg"])
    for part in ("train", "val"):
        (root / "images" / part).mkdir(parents=True)
        (root / "labels" / part / "a.jpg").rename(root / "images" / part / "a.jpg")
    samples = registry.list_samples(root)
    assert list(samples.names()) == ["images/train/a.jpg", "images/val/a.jpg"]
    train, val = splits.split(samples, "auto")
    assert (list(train.names()), list(val.names())) == (["images/train/a.jpg"], ["images/val/a.jpg"])


def test_a_name_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    root = change(labelme(tmp_path / "root", ["day/a.jpg"]), imagePath="../../secret.jpg")
    (root / "day" / "a.jpg").rename(tmp_path / "secret.jpg")
    assert "a.json: the image '../../secret.jpg' is missing: not beside the label" in label_error(root)


def test_other_json_files_are_passed_over(tmp_path):
    root = labelme(tmp_path)
    for i in range(9):
        (root / f"aaa{i}.json").write_text('{"classes": ["lane"]}')
    assert len(registry.list_samples(root)) == 2


def test_a_folder_of_other_json_is_not_claimed(tmp_path):
    (tmp_path / "x.json").write_text('{"shapes": 3, "imagePath": "x.jpg"}')
    (tmp_path / "y.json").write_text("{")
    write_image(tmp_path / "x.jpg")
    assert registry.detect(tmp_path) is None


@pytest.mark.parametrize(("content", "message"), [
    ("{", "broken JSON"), ("[]", "expected a JSON object"), ("{}", "'shapes' is not a list"),
    ('{"shapes": [3]}', "shape 1 is not an object"),
    ('{"shapes": [{"shape_type": "line"}]}', r"shape 1: points is not a list of points"),
    ('{"shapes": [{"shape_type": "line", "points": [[1, "2"]]}]}', "which is not a number"),
    ('{"shapes": [{"shape_type": "line", "points": [[1, NaN]]}]}', "no pixel position"),
    (json.dumps({"shapes": [shape()] * 65}), "at most 64 lanes")])
def test_a_broken_file_is_named(tmp_path, content, message):
    root = labelme(tmp_path)
    (root / "day" / "b.json").write_text(content)
    error = label_error(root, "labelme")
    assert "b.json" in error and message in error


def test_a_label_without_an_image_is_named(tmp_path):
    root = labelme(tmp_path)
    (root / "day" / "a.jpg").unlink()
    listing = registry.list_folder(root)
    error, = listing.missing_errors.values()
    assert "a.json: the image 'a.jpg' is missing" in str(error) and len(listing.samples) == 1
    assert len(registry.list_folder(root, require_images=False).samples) == 2


def test_a_name_with_dots_keeps_them(tmp_path):
    root = labelme(tmp_path, ["day/1682315089.487194.jpg"])
    sample, = registry.list_samples(root)
    assert sample.label.name == "1682315089.487194.json" and np.isfinite(registry.read_label(sample).lanes[0]).all()


def test_a_root_that_is_written_in_a_roundabout_way(tmp_path):
    root = labelme(tmp_path / "data", ["labels/a.jpg"])
    (root / "images").mkdir()
    (root / "labels" / "a.jpg").rename(root / "images" / "a.jpg")
    sample, = registry.list_samples(root / ".." / "data" / "labels" / "..")
    assert sample.name == "images/a.jpg" and sample.image.is_file()


def test_the_image_that_a_label_names_goes_before_one_of_its_own_name_elsewhere(tmp_path):
    labelme(tmp_path, ["images/0001.jpg", "night/json/0001.jpg"])
    (tmp_path / "night" / "pics").mkdir()
    (tmp_path / "night" / "json" / "0001.jpg").rename(tmp_path / "night" / "pics" / "0001.jpg")
    label = tmp_path / "night" / "json" / "0001.json"
    label.write_text(json.dumps(json.loads(label.read_text()) | {"imagePath": "..\\pics\\0001.jpg"}))
    samples = {sample.name: sample.label for sample in registry.list_samples(tmp_path)}
    assert samples == {"images/0001.jpg": tmp_path / "images" / "0001.json", "night/pics/0001.jpg": label}


def test_no_other_image_of_that_name_stands_for_a_lost_one(tmp_path):
    labelme(tmp_path, ["drive/0001.jpg", "drive/0002.jpg"])
    (tmp_path / "drive" / "0002.jpg").unlink()
    write_image(tmp_path / "images" / "0002.jpg")
    for root in (tmp_path, tmp_path / "drive" / "..", tmp_path / "images" / ".." / "."):
        assert "the image '0002.jpg' is missing" in label_error(root)
    write_image(tmp_path / "drive" / "other.jpg")
    label = tmp_path / "drive" / "0002.json"
    label.write_text(json.dumps(json.loads(label.read_text()) | {"imagePath": "/home/me/other.jpg"}))
    assert [sample.name for sample in registry.list_samples(tmp_path)] == ["drive/0001.jpg", "drive/other.jpg"]


def test_a_file_with_its_image_in_it_is_not_parsed_to_find_another(tmp_path, monkeypatch):
    labelme(tmp_path, ["images/a.jpg"])
    (tmp_path / "labels").mkdir()
    label = (tmp_path / "images" / "a.json").rename(tmp_path / "labels" / "a.json")
    label.write_text(label.read_text().replace('"a.jpg"', '"../images/\\u0061.jpg"'))
    monkeypatch.setattr("formats.labelme._record", None)
    assert [sample.name for sample in DATA_SETS["labelme"].list_labelled(tmp_path)] == ["images/a.jpg"]


@pytest.mark.parametrize("name", [r"C:\Users\me\images\a.jpg", "C:/Users/me/images/a.jpg", r"\\server\share\a.jpg"])
def test_a_path_of_windows_has_no_drive_below_another_folder(name):
    path, _ = _path_and_suffixes(name)
    assert path.is_absolute() and path.name == "a.jpg" and not any(":" in part for part in path.parts)

