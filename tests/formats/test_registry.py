"""All data sets: each recognized by its layout, listed and read by its own object, scored by its own metric."""

import json
import re

import numpy as np
import pytest
import torch
from layouts import (
    LAYOUTS,
    bdd100k,
    coco,
    culane,
    curvelanes,
    label_error,
    labelme,
    llamas,
    tusimple,
    write_image,
)

from dataset import LaneDataset
from evaluation import evaluator
from formats import registry
from formats.base import DataError, Label, Sample
from formats.culane_metric import Canvas, CULaneMetric
from formats.data_set import DataSet
from formats.files import IMAGE_SUFFIXES
from formats.metric import Metric
from formats.parsing import json_file
from formats.registry import DATA_SETS, METRICS
from formats.tusimple_metric import TuSimpleMetric
from geometry.decode import DecodeSettings
from geometry.input_grid import InputGrid
from model import LanePrediction

METRIC_OF = dict.fromkeys(LAYOUTS, "culane") | {"tusimple": "tusimple"}


# The objects -------------------------------------------------------------------------------------------------


def test_a_name_that_is_no_data_set_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(DataError, match=r"data\.format is 'kitti'; expected auto or one of tusimple, culane"):
        registry.list_samples(tmp_path, "kitti")


def test_each_data_set_has_an_example_for_these_tests():
    assert list(DATA_SETS) == list(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_data_set_has_a_name_a_layout_and_a_metric(name):
    data_set = DATA_SETS[name]
    assert isinstance(data_set, DataSet) and data_set.name == name
    assert data_set.layout.endswith(")") and "\n" not in data_set.layout
    assert len({other.layout for other in DATA_SETS.values()}) == len(DATA_SETS)
    assert isinstance(data_set.metric, Metric) and data_set.metric.name == METRIC_OF[name]
    assert type(METRICS[METRIC_OF[name]]) is type(data_set.metric)
    assert data_set.metric.main_score in data_set.metric.score_names


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_data_set_detects_its_own_layout_and_no_other(tmp_path, name):
    """CULane's labels beside its images are a folder of one's own as well: the list decides, which is asked first."""
    root = LAYOUTS[name](tmp_path)
    assert [other for other, data_set in DATA_SETS.items() if data_set.detect(root)] == (
        ["culane", "folder"] if name == "culane" else [name])
    assert registry.detect(root) == name
    assert not any(data_set.detect(tmp_path / "absent") for data_set in DATA_SETS.values())


@pytest.mark.parametrize(("make", "file", "name"), [
    (coco, "annotations/train.json", "train_labels.json"), (coco, "annotations/train.json", "label_data.json"),
    (labelme, "day/a.json", "day/test_label.json"), (bdd100k, None, "train_labels.json")])
def test_a_file_of_another_tool_is_no_list_of_tusimple_whatever_its_name(tmp_path, make, file, name):
    root = make(tmp_path)
    path = root / file if file else next(root.rglob("*.json"))
    image = path.with_suffix(".jpg")
    path.rename(root / name)
    if image.exists():
        image.rename((root / name).with_suffix(".jpg"))
    assert registry.detect(root) == make.__name__
    assert len(registry.list_samples(root)) == 2


def test_a_list_of_tusimple_may_have_keys_of_other_tools(tmp_path):
    root = tusimple(tmp_path)
    path = root / "label_data_0313.json"
    records = [json.loads(line) | {"annotations": "by hand", "images": 1} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert registry.detect(root) == "tusimple" and len(registry.list_samples(root)) == len(records)


@pytest.mark.parametrize("name", LAYOUTS)
def test_samples_carry_the_name_of_their_data_set_and_are_read_by_it(tmp_path, name):
    root = LAYOUTS[name](tmp_path)
    samples = registry.list_samples(root)
    assert samples and {s.format for s in samples} == {name} and samples.formats() == [name]
    assert list(samples) == list(registry.list_samples(root, name))
    for s in samples:
        label, own = registry.read_label(s), DATA_SETS[name].read_label(s)
        assert any(len(lane) > 1 for lane in label.lanes)
        assert all(map(np.array_equal, label.lanes, own.lanes)) and len(label.lanes) == len(own.lanes)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_metric_is_that_of_the_data_set(tmp_path, name):
    samples = registry.list_samples(LAYOUTS[name](tmp_path))
    assert registry.own_metric(samples) is DATA_SETS[name].metric


def test_the_requested_format_decides_the_metric_whatever_the_folder_resembles(tmp_path):
    root = culane(tmp_path)
    assert registry.own_metric(registry.list_samples(root, "folder")) is DATA_SETS["folder"].metric


def test_each_data_set_is_drawn_on_its_own_canvas():
    size_px = (2560, 1440)
    canvases = {name: data_set.metric.canvas(size_px) for name, data_set in DATA_SETS.items()
                if isinstance(data_set.metric, CULaneMetric)}
    assert canvases == dict.fromkeys(set(LAYOUTS) - {"tusimple"}, Canvas(size_px, 47)) | {
        "curvelanes": Canvas((224, 224), 5)}
    assert isinstance(DATA_SETS["tusimple"].metric, TuSimpleMetric)


# Listing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "chosen", "likely"), [
    (culane, "tusimple", "culane"), (tusimple, "culane", "tusimple"), (tusimple, "folder", "tusimple"),
    (culane, "curvelanes", "culane"), (curvelanes, "llamas", "curvelanes"), (llamas, "culane", "llamas")])
def test_a_wrong_format_is_named_with_the_likely_one(tmp_path, make, chosen, likely):
    message = label_error(make(tmp_path), chosen)
    assert f"nothing in the {chosen} layout" in message and f"set data.format={likely} or auto" in message


def test_no_layout_and_no_folder(tmp_path):
    message = label_error(tmp_path)
    assert "no known layout" in message and all(data_set.layout in message for data_set in DATA_SETS.values())
    assert "no such folder" in label_error(tmp_path / "nowhere")


def test_of_a_folder_without_a_layout_it_is_said_what_is_there(tmp_path):
    assert "no known layout: there is no image. Expected" in label_error(tmp_path)
    for name in ("a.jpg", "b.JPG", "deep/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert "there are 3 images and no labels; draw lanes in labelme or CVAT, or let a model" in label_error(tmp_path)
    (tmp_path / "deep" / "c.txt").write_text("1 2 3 4\n")
    assert "there are 3 images and 1 files like c.txt of their names; if those are lanes, a line each as x y x y ... " \
           "in pixels, call them c.lines.txt" in label_error(tmp_path)


@pytest.mark.parametrize(("name", "words"), [
    ("labels/a.txt", "1 images and 1 files like a.txt of their names; if those are lanes"),
    ("a.json", "1 images, and 1 files like a.json, which are no labels of any layout"),
    ("notes.txt", "1 images, and 1 files like notes.txt, which are no labels of any layout")])
def test_what_may_be_labels_of_another_kind_is_said(tmp_path, name, words):
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    assert words in label_error(tmp_path)


def test_of_many_images_the_first_are_counted(tmp_path, monkeypatch):
    for name in "abc":
        write_image(tmp_path / f"{name}.jpg")
    monkeypatch.setattr(registry, "MAX_LOOKED_AT", 2)
    assert "there are at least 2 images and no labels" in label_error(tmp_path)


def test_listing_goes_on_after_what_is_broken(tmp_path):
    path = tusimple(tmp_path) / "label_data_0313.json"
    path.write_text("{\n" + path.read_text() + "3\n")
    listing = registry.list_folder(tmp_path, stop=False)
    assert [re.search(r"json:(\d+):", str(error))[1] for error in listing.errors] == ["1", "4"]
    assert len(listing.samples) == 2


def test_listing_without_images_takes_labels_alone(tmp_path):
    for image in (path for path in tusimple(tmp_path).rglob("*") if path.suffix in IMAGE_SUFFIXES):
        image.unlink()
    listing = registry.list_folder(tmp_path)
    assert len(listing.missing) == 2 and not listing.samples and not listing.errors
    listing = registry.list_folder(tmp_path, require_images=False)
    assert len(listing.samples) == 2 and not listing.missing


@pytest.mark.parametrize(("name", "list_name"), [("culane", "list/test.txt"), ("curvelanes", "train/train.txt")])
def test_a_name_of_no_image_and_no_label_is_missing_also_without_images(tmp_path, name, list_name):
    LAYOUTS[name](tmp_path)
    whole = registry.list_folder(tmp_path, require_images=False)
    with (tmp_path / list_name).open("a") as file:
        file.write("images/none.jpg\n")
    listing = registry.list_folder(tmp_path, require_images=False)
    assert list(listing.samples) == list(whole.samples)
    assert [sample.image.name for sample in listing.missing] == ["none.jpg"]


# A new data set ----------------------------------------------------------------------------------------------


class UprightLanes(DataSet):
    """upright.json: {image name: x of its upright lanes}."""

    name = "upright"
    layout = "upright.json (a data set of this test)"
    metric = TuSimpleMetric()

    def detect(self, root):
        return (root / "upright.json").is_file()

    def list_samples(self, root):
        for name in json_file(root / "upright.json", "names"):
            yield Sample(root / name, root / "upright.json", name, ("upright.json",), self.name)

    def read_label(self, sample):
        return Label([np.float32([[x, 170], [x, 60]]) for x in json_file(sample.label, "names")[sample.name]])


def test_a_new_data_set_is_one_class_and_its_line_in_the_table(tmp_path, monkeypatch):
    """Listed, read, and scored by its metric, through the same functions as every other."""
    monkeypatch.setitem(DATA_SETS, "upright", UprightLanes())
    (tmp_path / "upright.json").write_text(json.dumps({"a.jpg": [100, 200], "b.jpg": [150]}))
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / name)
    assert registry.detect(tmp_path) == "upright"
    samples = registry.list_samples(tmp_path)
    assert [(s.name, s.format) for s in samples] == [("a.jpg", "upright"), ("b.jpg", "upright")]

    gt = evaluator.ground_truth(LaneDataset(samples, InputGrid(96, 64), 6))
    assert gt.metric is UprightLanes.metric and [len(label.lanes) for label in gt.labels] == [2, 1]
    confident = LanePrediction(gt.target.points, torch.where(gt.target.exists, 20.0, -20.0))
    silent = confident._replace(logits=torch.full_like(confident.logits, -20.0))
    accuracy = [gt.metric.score(evaluator.to_benchmark(prediction, gt, DecodeSettings()), gt.samples, gt.labels,
                                gt.sizes_px)[0]["accuracy"] for prediction in (confident, silent)]
    assert accuracy[0] > 0.99 and accuracy[1] < 0.5
