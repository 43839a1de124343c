"""What labelling tools share: images that no label file names are counted."""

import pytest
from layouts import LAYOUTS, coco, cvat, label_error, labelme, write_image

from formats import registry
from formats.annotations import lists_of
from formats.base import DataError


@pytest.mark.parametrize("name", ["labelme", "cvat", "coco"])
def test_images_without_a_label_are_counted(tmp_path, name):
    root = LAYOUTS[name](tmp_path)
    assert registry.list_folder(root).notes() == []
    for image in ("images/new.jpg", "day/other.PNG", "day/.hidden/x.jpg"):
        write_image(root / image)
    listing = registry.list_folder(root)
    assert len(listing.samples) == 2
    assert listing.notes() == ["2 images have no label, such as day/other.PNG, images/new.jpg",
                               "1 files are hidden or the system's, such as day/.hidden"]
    roundabout = registry.list_folder(root / "images" / "..")
    assert len(roundabout.samples) == 2 and "2 images have no label" in roundabout.notes()[0]


@pytest.mark.parametrize(("own", "image", "expected"), [
    ("labels.json", "images/a.jpg", ()), ("labels.json", "images/Test/day/a.jpg", ("Test",)),
    ("labels.json", "val.jpg", ()), ("lane_train.json", "images/test/a.jpg", ()), ("val", "train/a.jpg", ())])
def test_a_list_without_a_purpose_has_those_of_its_folders(own, image, expected):
    assert lists_of(own, image) == (own, *expected)


@pytest.mark.parametrize("make", [coco, cvat])
def test_no_image_of_another_folder_stands_for_a_lost_one(tmp_path, make):
    root = make(tmp_path, ["drive/0001.jpg", "drive/0002.jpg"])
    lost, = root.rglob("drive/0002.jpg")
    lost.unlink()
    write_image(root / "0002.jpg")
    assert "the image 'drive/0002.jpg' is missing" in label_error(root)
    (lost.parent / "0001.jpg").unlink()  # no image of that folder is left: the paths are another machine's
    write_image(root / "0001.jpg")
    assert [sample.name for sample in registry.list_samples(root)] == ["0001.jpg", "0002.jpg"]


@pytest.mark.parametrize("root", [".", "..", "../labels"])
def test_images_outside_the_root_are_refused_however_it_is_named(tmp_path, monkeypatch, root):
    labelme(tmp_path / "set", ["images/a.jpg"])
    base = tmp_path / {".": "set/labels", "..": "set/labels/day", "../labels": "set/other"}[root]
    for folder in (base, tmp_path / "set/labels"):
        folder.mkdir(parents=True, exist_ok=True)
    label = (tmp_path / "set/images/a.json").rename(tmp_path / "set/labels/a.json")
    label.write_text(label.read_text().replace('"a.jpg"', '"../images/a.jpg"'))
    monkeypatch.chdir(base)
    with pytest.raises(DataError, match=r"the image .* is missing"):
        registry.list_samples(root)
