"""What labelling tools share: images that no label file names are counted."""

import pytest
from layouts import LAYOUTS, write_image

from formats import registry
from formats.annotations import lists_of


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
