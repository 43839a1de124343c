"""A data set written in the layout of another: read again, it has the same images, parts and lanes."""

import itertools
import json

import numpy as np
import pytest
from layouts import LANES, LAYOUTS, culane, folder, labelme, sample, tusimple, write_image

from formats import convert, registry
from formats.base import DataError, Label, Sample
from formats.convert import Labelled
from formats.data_set import LabelledImage
from formats.tusimple_metric import label_x_at_rows
from metrics.tusimple import TUSIMPLE_ROWS

TOLERANCE_PX = 0.5
SIZES_PX = {"llamas": (1276, 717)}


def items_of(root, size_px=(320, 180)):
    return [Labelled(sample, registry.read_label(sample), size_px) for sample in registry.list_samples(root)]


def distance_px(points, line):
    """The largest distance of points (N, 2) from a line, in a table of points 0.1 px apart along it."""
    dense = np.concatenate([np.linspace(a, b, max(2, int(10 * np.linalg.norm(b - a))))
                            for a, b in itertools.pairwise(line)])
    return np.linalg.norm(points[:, None] - dense, axis=2).min(1).max()


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "day/../../a.jpg"])
def test_nothing_is_written_outside_the_folder(tmp_path, name):
    item = Labelled(Sample(tmp_path / "a.jpg", tmp_path / "a.txt", name, ()), Label([]), (320, 180))
    with pytest.raises(DataError, match="leads out of the data set"):
        convert.write_data_set([item], registry.data_set("folder"), tmp_path / "out", "auto")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", registry.WRITABLE)
@pytest.mark.parametrize("source", LAYOUTS)
def test_every_data_set_in_every_layout_that_can_be_written(tmp_path, source, target):
    items = items_of(LAYOUTS[source](tmp_path / "in"), SIZES_PX.get(source, (320, 180)))
    lanes = [[lane for lane in item.label.lanes if len(lane)] for item in items]
    written = convert.write_data_set(items, registry.data_set(target), tmp_path / "out", "auto")
    assert written.images == len(items) and written.lanes == sum(map(len, lanes))

    samples = registry.list_samples(tmp_path / "out")
    assert samples.formats() == [target] and len(samples) == len(items)
    by_name = {sample.name.removeprefix("clips/"): sample for sample in samples}
    for item, original in zip(items, lanes, strict=True):
        sample = by_name[convert.written_name(item.sample).removeprefix("clips/")]
        assert sample.image.read_bytes() == item.sample.image.read_bytes()
        copies = registry.read_label(sample).lanes
        assert len(copies) == len(original)
        for copy, lane in zip(copies, original, strict=True):
            assert distance_px(copy, lane) <= TOLERANCE_PX
            if target != "tusimple":
                assert np.abs(copy - lane).max() <= TOLERANCE_PX and len(copy) == len(lane)
            else:  # between its rows a lane is cut off
                within = lane[(lane[:, 1] >= copy[:, 1].min()) & (lane[:, 1] <= copy[:, 1].max())]
                assert len(within) == 0 or distance_px(within, copy) <= 5


def test_tusimple_has_its_own_rows_in_images_of_any_size(tmp_path):
    target = registry.data_set("tusimple")
    lane = np.float32([[100, 1080], [500, 300]])
    left_out = target.write_label(tmp_path, LabelledImage("clips/a.jpg", [lane, lane[:1], lane * [1, 0.2],
                                                          lane * [1, 0] + [[0, 250], [0, 260]]], (1920, 1080), "val"))
    record = json.loads((tmp_path / "label_data_val.json").read_text())
    assert left_out == 3 and record["raw_file"] == "clips/a.jpg" and len(record["lanes"]) == 1
    assert record["h_samples"] == list(range(240, 1066, 15))
    assert record["lanes"][0][0] == -2, "above the far end"
    assert record["lanes"][0][-1] == pytest.approx(100 + 400 * 15 / 780, abs=0.01)


@pytest.mark.parametrize("height", [590, 1920, 480])
def test_a_lane_in_tusimples_layout_is_written_with_its_ends_again(tmp_path, height):
    """Of an image whose rows are no whole numbers, a lane begins and ends between two float32."""
    rows, size_px = np.array(TUSIMPLE_ROWS) * height / 720, (1640, height)
    label = Label([np.stack((np.linspace(500, 300, 40), rows[10:50]), -1).astype(np.float32)])
    x = label_x_at_rows(label, size_px)
    assert np.flatnonzero(x[0] >= 0).tolist() == list(range(10, 50))
    assert x[0, 10:50] == pytest.approx(np.linspace(500, 300, 40), abs=1e-3)


def test_parts_are_kept(tmp_path):
    lists = {"train.txt": ["/a/0.jpg", "/a/1.jpg"], "val.txt": ["/a/2.jpg"], "test.txt": ["/a/3.jpg"]}
    items = items_of(culane(tmp_path / "in", [f"a/{i}.jpg" for i in range(4)], lists))
    for name in ("tusimple", "culane"):
        convert.write_data_set(items, registry.data_set(name), tmp_path / name, "auto")
        samples = registry.list_samples(tmp_path / name)
        assert {sample.name.removeprefix("clips/"): sample.lists[0] for sample in samples} == dict(zip(
            [f"a/{i}.jpg" for i in range(4)],
            ["train.txt", "train.txt", "val.txt", "test.txt"] if name == "culane" else
            ["label_data_train.json", "label_data_train.json", "label_data_val.json", "test_label.json"], strict=True))


def test_an_image_of_a_test_list_stays_one_whatever_else_names_it():
    lists = {"a": ("train.txt",), "b": ("train.txt", "test.txt"), "c": ("val.txt", "test.txt"), "d": ("test.txt",)}
    samples = [sample(f"{name}.jpg", names) for name, names in lists.items()]
    assert list(convert.part_of_names(samples, "auto").values()) == ["train", "test", "val", "test"]


def test_lanes_that_cannot_be_written_are_counted(tmp_path):
    write_image(tmp_path / "a.jpg")
    sample = Sample(tmp_path / "a.jpg", tmp_path / "a.lines.txt", "a.jpg", ("folder",))
    lanes = [np.float32(LANES[0]), np.float32([[1, 2]]), np.zeros((0, 2), np.float32)]
    item = Labelled(sample, Label(lanes), (320, 180))
    for name, count in (("folder", 1), ("culane", 1), ("labelme", 2), ("tusimple", 2)):
        written = convert.write_data_set([item], registry.data_set(name), tmp_path / name, "all")
        assert written == (1, 3 - count, count)


def test_work_that_is_there_is_not_overwritten(tmp_path):
    items = items_of(folder(tmp_path / "in"))
    (tmp_path / "out").mkdir()
    convert.write_data_set(items, registry.data_set("labelme"), tmp_path / "out", "auto")
    with pytest.raises(DataError, match=r"out: is there and not empty; name a new folder"):
        convert.write_data_set(items, registry.data_set("labelme"), tmp_path / "out", "auto")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file: is there and not empty"):
        convert.new_folder(tmp_path / "file")


def test_two_images_with_one_label_file_are_named_before_anything_is_written(tmp_path):
    root = tusimple(tmp_path / "in", ["clips/1/a.jpg", "clips/1/A.png"])
    with pytest.raises(DataError, match=r"A\.png: its label file would be that of .*a\.jpg; rename one of them"):
        convert.write_data_set(items_of(root), registry.data_set("culane"), tmp_path / "out", "auto")
    assert not (tmp_path / "out").exists()


def test_what_is_only_read_is_named(tmp_path):
    items = items_of(labelme(tmp_path / "in"))
    with pytest.raises(DataError, match="coco is only read; it cannot be written"):
        convert.write_data_set(items, registry.data_set("coco"), tmp_path / "out", "auto")


def test_labelme_reads_what_is_written(tmp_path):
    """The keys that labelme asks for, and the image by its path from the label file."""
    convert.write_data_set(items_of(folder(tmp_path / "in")), registry.data_set("labelme"), tmp_path / "out", "auto")
    record = json.loads((tmp_path / "out" / "day" / "one.json").read_text())
    assert set(record) == {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
    assert (record["imagePath"], record["imageData"]) == ("one.PNG", None)
    assert (record["imageWidth"], record["imageHeight"]) == (320, 180)
    assert record["shapes"][0] == {"label": "lane", "points": [[100, 170], [140, 120], [170, 80]], "group_id": None,
                                   "description": "", "shape_type": "linestrip", "flags": {}}
