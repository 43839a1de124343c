"""Whether labels fit their images: shares in place of pixels, and labels of another image size."""

import numpy as np
import pytest
from layouts import folder, text_of, tusimple, write_image

from formats import registry
from formats.base import DataError, Label
from formats.label_checks import no_lane_hint, normalized_range, size_hint, stated_size_hint


def lanes(*values):
    return [np.float32(lane).reshape(-1, 2) for lane in values]


@pytest.mark.parametrize(("label", "expected"), [
    (lanes([0.25, 0.9, 0.4, 0.3], [0.8, 1, 0.6, 0.3]), (0.25, 1)),
    (lanes([-0.25, 1.125, 0.5, 0.25]), (-0.25, 1.125)),  # lanes go on outside the image
    (lanes([0.25, 700, 0.5, 300], [0.75, 700, 0.5, 300]), (0.25, 0.75)),  # x alone
    (lanes([100, 0.75, 200, 0.5]), (0.5, 0.75)),  # y alone
    (lanes([0.5, 700, 1, 300]), None),  # one lane may run along the border
    (lanes([100, 700, 200, 300]), None), (lanes([1, 1, 2, 9]), None), (lanes([1, 1]), None), ([], None),
    (lanes([0, 0, 1, 1], [5, 9, 7, 3]), None)])
def test_shares_of_the_image_are_told_from_pixels(label, expected):
    assert normalized_range(label) == expected


def test_a_label_in_shares_of_the_image_is_refused_with_what_to_do(tmp_path):
    root = folder(tmp_path, ["a.jpg"])
    (root / "a.lines.txt").write_text(text_of([[(0.3, 0.95), (0.5, 0.4)]]))
    with pytest.raises(DataError, match=r"a\.lines\.txt: points from 0\.3 to 0\.95 are shares.*pixels are expected"):
        registry.read_label(registry.list_samples(root)[0])


@pytest.mark.parametrize(("end", "words"), [(0.66, "far above"), (1.5, "below the image"), (0.8, None), (1.0, None)])
def test_labels_of_another_image_size_are_noticed(end, words):
    labels = [Label(lanes([100, end * 1080, 200, 300])), Label([]), Label(lanes([1, end * 1080, 2, 400]))]
    hint = size_hint(labels, [(1920, 1080)] * 3)
    assert (hint is None) if words is None else (words in hint and "1920x1080" in hint)


def test_labels_without_lanes_give_no_hint():
    assert size_hint([Label([])], [(10, 10)]) is None and size_hint([], []) is None


def test_tusimples_rows_in_larger_images_are_noticed(tmp_path):
    root = tusimple(tmp_path)
    for image in (root / "clips").rglob("*.jpg"):
        write_image(image, 640, 360)
    labels = [registry.read_label(sample) for sample in registry.list_samples(root)]
    assert size_hint(labels, [(320, 180)] * 2) is None
    assert "at 47 % of its height" in size_hint(labels, [(640, 360)] * 2)


LANE = lanes([100, 700, 200, 300])


@pytest.mark.parametrize(("labels", "hint"), [
    ([], None), ([Label(LANE)], None), ([Label(LANE, left_out=("box",)), Label([])], None),
    ([Label([]), Label([])], "none of 2 labels that were looked at has a lane"),
    ([Label([], left_out=("polygon", "polygon")), Label([], left_out=("box",))],
     "none of 2 labels that were looked at has a lane, but shapes that are no lanes: polygon: 2, box: 1"),
    ([Label([], left_out=("polygon",)), Label(LANE, left_out=("box",))],
     "1 of 2 labels that were looked at have shapes but no lane; shapes that are no lanes: polygon: 1, box: 1")])
def test_labels_in_which_something_else_is_drawn_are_noticed(labels, hint):
    assert no_lane_hint(labels) == hint


def test_a_size_that_is_not_the_images_is_told():
    labels = [Label([]), Label([], size_px=(320, 180)), Label([], size_px=(180, 320)), Label([], size_px=(640, 360))]
    assert stated_size_hint(labels, [(320, 180)] * 4).startswith(
        "2 of 4 labels that were looked at are for images of another size, such as 180x320 for one of 320x180; ")
    assert stated_size_hint(labels[:2], [(320, 180)] * 2) is None
