"""A folder as its data set lists it: an image once whatever its name's spelling, and nothing lost in silence."""

import json
import os
import sys

import numpy as np
import pytest
from layouts import LANES, culane, folder, label_error, text_of, tusimple, write_image

from formats import registry, splits
from formats.base import DataError

ROWS = list(range(60, 180, 10))
links = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")


def x_at_rows(start):
    return [start + 5 * i for i in range(len(ROWS))]


def labelled(root, *records, name="label_data_1.json"):
    """A TuSimple label file of (raw_file, lanes), and the images a.jpg and b.jpg."""
    root.mkdir(exist_ok=True)
    lines = [json.dumps({"raw_file": raw_file, "lanes": lanes, "h_samples": ROWS}) for raw_file, lanes in records]
    (root / name).write_text("".join(f"{line}\n" for line in lines))
    for image in ("a.jpg", "b.jpg"):
        write_image(root / "clips" / image)
    return root


def notes(root):
    return registry.list_folder(root).notes()


# Names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", [
    "./clips/a.jpg", "clips//a.jpg", "clips\\a.jpg", "/clips/a.jpg", ".\\clips\\\\a.jpg", "clips/./a.jpg",
    "clips/x/../a.jpg", "{root}/clips/a.jpg"])
def test_an_image_has_one_name_however_lists_spell_it(tmp_path, spelling):
    lanes = [x_at_rows(100)]
    labelled(tmp_path, ("clips/a.jpg", lanes), ("clips/b.jpg", lanes), name="label_data_val.json")
    labelled(tmp_path, (spelling.format(root=tmp_path), lanes), name="label_data_train.json")
    samples = registry.list_samples(tmp_path)
    assert sorted(samples.names()) == ["clips/a.jpg", "clips/b.jpg"]
    train, val = splits.split(samples, "auto", training=False)
    assert len(train) == 0 and sorted(val.names()) == ["clips/a.jpg", "clips/b.jpg"], "not trained on and validated"


@pytest.mark.parametrize("spelling", ["drive/a.jpg", "./drive/a.jpg", "drive\\a.jpg", "{root}/drive/a.jpg",
                                      "/drive/a.jpg /mask/a.png 1 1 0 1", "drive/a.jpg 1 0 0 0"])
def test_culane_lists_spell_names_as_they_like(tmp_path, spelling):
    root = culane(tmp_path, lists={"train.txt": [spelling.format(root=tmp_path)]})
    assert list(registry.list_samples(root).names()) == ["drive/a.jpg"]


@pytest.mark.parametrize("name", ["my drive/a b.jpg", "a.jpg drive/b.jpg", "#1/a#2.jpg", "ü/ß.jpg", "a.b/c=d.jpg"])
def test_names_with_blanks_and_signs(tmp_path, name):
    root = culane(tmp_path, [name], {"train.txt": [f"/{name} /mask/a b.png 1 1 1 1"]})
    assert list(registry.list_samples(root).names()) == [name]


@pytest.mark.parametrize(("name", "words"), [
    ("/somewhere/else/a.jpg", "somewhere/else/a.jpg is missing"),
    ("/home/me/data/a.jpg", "the absolute path '/home/me/data/a.jpg' leaves the data folder")])
def test_an_absolute_path_elsewhere_is_named(tmp_path, name, words):
    assert words in label_error(labelled(tmp_path, (name, [])))


@pytest.mark.skipif(sys.platform != "linux", reason="file systems of other systems have names in Unicode alone")
def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"\xb3\xb5\xb5\xc0.jpg")
    root = folder(tmp_path / "folder", [name])
    assert list(registry.list_samples(root).names()) == [name]
    root = culane(tmp_path / "culane", [name], {"train.txt": ["x.jpg"]})
    write_image(root / "x.jpg")
    (root / "x.lines.txt").write_text("")
    (root / "list" / "train.txt").write_bytes(b"x.jpg\n/" + os.fsencode(name) + b"\n")
    assert list(registry.list_samples(root).names()) == ["x.jpg", name]


# An image once -----------------------------------------------------------------------------------------------


def test_one_line_a_lane_is_joined(tmp_path):
    lanes = [x_at_rows(start) for start in (50, 100, 150, 200)]
    records = [(name, [lane]) for lane in lanes for name in ("clips/a.jpg", "clips/b.jpg")]
    samples = registry.list_samples(labelled(tmp_path, *records, ("clips/a.jpg", [lanes[0]])))
    assert [sample.line for sample in samples] == [1, 2] and [len(sample.more) for sample in samples] == [3, 3]
    for index in (samples, samples.take([0, 1]), samples[:]):
        for sample in index:
            label = registry.read_label(sample)
            assert np.array_equal(label.x_at_rows, lanes) and len(label.lanes) == 4


@pytest.mark.parametrize("second", [
    [x_at_rows(100), x_at_rows(152)], [x_at_rows(103)], [], [x_at_rows(100), x_at_rows(300)]],
    ids=["a lane elsewhere", "a lane drawn again", "no lanes", "one lane of two"])
def test_two_lines_of_a_file_that_contradict_are_named(tmp_path, second):
    root = labelled(tmp_path, ("clips/a.jpg", [x_at_rows(100), x_at_rows(150)]), ("./clips/a.jpg", second))
    message = label_error(root)
    assert "label_data_1.json:2" in message and "than in" in message and "label_data_1.json:1" in message


def test_labels_of_two_files_that_differ_are_named_and_the_same_ones_joined(tmp_path):
    labelled(tmp_path, ("clips/a.jpg", [x_at_rows(100)]), ("clips/b.jpg", []))
    labelled(tmp_path, ("clips/b.jpg", []), name="label_data_2.json")
    assert len(registry.list_samples(tmp_path)) == 2
    labelled(tmp_path, ("clips/a.jpg", [x_at_rows(200)]), name="label_data_2.json")
    message = label_error(tmp_path)
    assert "label_data_2.json:1: another label of the image clips/a.jpg than in" in message
    listing = registry.list_folder(tmp_path, stop=False)
    assert list(listing.samples.names()) == ["clips/b.jpg"] and len(listing.errors) == 1


def test_many_lines_of_one_image_end_soon(tmp_path):
    root = labelled(tmp_path, *[("clips/a.jpg", [x_at_rows(100 * i)]) for i in range(100)])
    assert "at most 64 lanes" in label_error(root)
    assert len(registry.list_samples(labelled(tmp_path, *[("clips/a.jpg", [x_at_rows(100)])] * 2000))) == 1


def test_two_lines_30_px_apart_are_two_lanes(tmp_path):
    root = labelled(tmp_path, ("clips/a.jpg", [x_at_rows(100)]), ("clips/a.jpg", [x_at_rows(130)]))
    sample, = registry.list_samples(root)
    assert len(registry.read_label(sample).lanes) == 2


@links
@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_link_to_an_image_is_the_same_image(tmp_path, make):
    root = folder(tmp_path, ["a.jpg", "b.jpg"])
    make(root / "a.jpg", root / "c.jpg")
    (root / "c.lines.txt").write_text(text_of(LANES))
    assert list(registry.list_samples(root).names()) == ["a.jpg", "b.jpg"]
    assert notes(root) == ["1 images are read under another name: links to the same file, such as c.jpg"]
    (root / "c.lines.txt").write_text("1 2 300 400\n")
    assert "c.lines.txt: another label of the image a.jpg (also called c.jpg) than in" in label_error(root)


# What is passed over -----------------------------------------------------------------------------------------


def test_images_without_a_label_and_misnamed_labels_are_counted(tmp_path):
    root = folder(tmp_path, ["a.jpg", "d/b.jpg"])
    for name in ("c.jpg", "d/e.png", "f.jpg", "a.png", ".trash/g.jpg"):
        write_image(root / name)
    for name in ("c.line.txt", "d/e.Lines.txt", "f.txt", "readme.txt"):
        (root / name).write_text(text_of(LANES))
    assert len(registry.list_samples(root)) == 2
    lines = notes(root)
    assert "3 images have no label, such as d/e.png, c.jpg, f.jpg" in lines
    misnamed, = (line for line in lines if line.startswith("3 files may be labels under another name"))
    assert "d/e.Lines.txt" in misnamed
    assert any(line.startswith("1 images have the name of another one") and line.endswith("a.png") for line in lines)
    assert "1 files are hidden or the system's, such as .trash" in lines and len(lines) == 4


@pytest.mark.parametrize(("images", "labels"), [
    ("images", "labels"), ("Images", "Labels"), ("images/train", "labels/train"), ("drive/images/a", "drive/labels/a")])
def test_images_lie_in_a_folder_beside_that_of_the_labels(tmp_path, images, labels):
    write_image(tmp_path / images / "x.jpg")
    write_image(tmp_path / images / "y.jpg")
    (tmp_path / labels).mkdir(parents=True)
    (tmp_path / labels / "x.lines.txt").write_text(text_of(LANES))
    sample, = registry.list_samples(tmp_path)
    assert sample.name == f"{images}/x.jpg" and len(registry.read_label(sample).lanes) == 2
    assert notes(tmp_path) == [f"1 images have no label, such as {images}/y.jpg"]


def test_folders_called_train_val_and_test_are_lists(tmp_path):
    root = folder(tmp_path, [f"{part}/{i}.jpg" for part in ("train", "Val", "test") for i in range(2)])
    train, val = splits.split(registry.list_samples(root), "auto")
    assert list(train.names()) == ["train/0.jpg", "train/1.jpg"] and list(val.names()) == ["Val/0.jpg", "Val/1.jpg"]


def test_lists_that_nobody_reads_are_counted(tmp_path):
    root = culane(tmp_path / "culane")
    (root / "train.txt").write_text("/drive/a.jpg\n")
    (root / "list" / "train.csv").write_text("/drive/a.jpg,1\n")
    (root / "notes.txt").write_text("of no image\n")
    line, = notes(root)
    assert line.startswith("2 files name images but are not read") and "list/train.csv, train.txt" in line
    root = tusimple(tmp_path / "tusimple")
    (root / "pred.json").write_text((root / "label_data_0313.json").read_text())
    line, = notes(root)
    assert line.startswith("1 files name images but are not read") and "pred.json" in line


# Missing files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffixes", [(".jpg",), (".lines.txt",), (".jpg", ".lines.txt")],
                         ids=["image", "label", "both"])
def test_lists_that_are_not_used_need_no_files(tmp_path, suffixes):
    names = [f"drive/{i}.jpg" for i in range(6)]
    root = culane(tmp_path, names, {"train.txt": names[:3], "val.txt": names[3:4], "test.txt": names[4:],
                                    "test_split/test0_normal.txt": names[5:]})
    for suffix in suffixes:
        (root / "drive" / f"5{suffix}").unlink()
    split = splits.split_listing(registry.list_folder(root), "auto")
    assert (len(split.train), len(split.val)) == (3, 1)
    lists = "test.txt, test_split/test0_normal.txt"
    assert f"1 images that are not needed here are missing, of the lists {lists}" in split.notes
    for rule in ("test.txt", "all", "none"):
        with pytest.raises(DataError, match=r"list/test\.txt:2: the .* is missing"):
            splits.split_listing(registry.list_folder(root), rule)
    (root / "drive" / "0.jpg").unlink()
    with pytest.raises(DataError, match=r"list/train\.txt:1: the image .* is missing"):
        splits.split_listing(registry.list_folder(root), "auto")
    assert len(splits.split_listing(registry.list_folder(root), "auto", training=False).val) == 1, "train needs none"
    skipped = splits.split_listing(registry.list_folder(root, stop=False), "auto", skip=True)
    assert len(skipped.train) == 2 and "1 images or labels cannot be used and are left out" in skipped.notes[-1]


def test_test_lists_never_train_and_val_lists_validate(tmp_path):
    names = [f"drive/{i}.jpg" for i in range(8)]
    root = culane(tmp_path, names, {"train_gt.txt": names[:5], "val_gt.txt": names[5:6],
                                    "Test_img.txt": names[4:5] + names[6:]})
    samples = registry.list_samples(root)
    for rule in ("auto", "val_gt.txt"):
        train, val = splits.split(samples, rule)
        assert list(train.names()) == names[:4] and list(val.names()) == names[5:6], "nor the one in both lists"


# JSON files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("in_array", [True, False])
def test_a_file_that_is_not_of_json_lines_is_one_error(tmp_path, indent, in_array):
    records = [{"raw_file": "clips/a.jpg", "lanes": [x_at_rows(1)], "h_samples": ROWS}] * 3
    root = labelled(tmp_path)
    text = json.dumps(records, indent=indent) if in_array else "\n".join(json.dumps(r, indent=1) for r in records)
    (root / "label_data_1.json").write_text(text)
    error, = registry.list_folder(root, stop=False).errors
    assert "expected one JSON object a line" in str(error) and "label_data_1.json" in str(error)


@pytest.mark.parametrize("key", ["h_samples", "lanes"])
def test_a_missing_key_is_named(tmp_path, key):
    root = labelled(tmp_path, ("clips/a.jpg", []))
    record = json.loads((root / "label_data_1.json").read_text())
    del record[key]
    (root / "label_data_1.json").write_text(json.dumps(record))
    assert f"label_data_1.json:1: no '{key}'" in label_error(root)
