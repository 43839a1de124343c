"""From files to what the network sees: reading, preprocessing, lanes in slots, and the order of an epoch."""

import signal

import cv2
import numpy as np
import pytest
import torch

from dataset import LaneDataset, batches, epoch_order, loader
from formats import registry
from formats.base import DataError, Label
from geometry.input_grid import InputGrid
from preprocessing.images import preprocess, read_image
from preprocessing.targets import inside_image, lanes_in_slots


@pytest.fixture
def folder(tmp_path):
    """Seven images of the colors 10, 20, ... with one lane each."""
    for i in range(7):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((36, 64, 3), 10 * (i + 1), np.uint8))
        (tmp_path / f"{i}.lines.txt").write_text("20 35 25 25 30 15\n")
    return tmp_path


def test_images_are_read_as_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 6, 3), (0, 0, 255), np.uint8))  # OpenCV writes BGR
    image = read_image(tmp_path / "red.png")
    assert image.shape == (4, 6, 3) and image.dtype == np.uint8
    assert image[0, 0].tolist() == [255, 0, 0]


def test_grey_images_and_names_beyond_ascii_are_read(tmp_path):
    path = tmp_path / "Straße 1.png"
    cv2.imwrite(str(path), np.full((4, 6), 90, np.uint8))
    assert read_image(path)[0, 0].tolist() == [90, 90, 90]


@pytest.mark.parametrize("content", [None, b"", b"text", b"\xff\xd8\xff\xe0" + bytes(50)])
def test_what_is_no_image_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(640, 360), (160, 96), (80, 40), (640, 40)])
def test_preprocessing_keeps_places(size):
    """A bright spot stays where it is in [0, 1], whether the image shrinks, grows, or neither."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 4:height // 2, width // 2:3 * width // 4] = 200
    small = preprocess(image, InputGrid(160, 96))[..., 0].astype(float)
    assert small.shape == (96, 160)
    rows, columns = np.indices(small.shape) + 0.5
    assert abs((small * rows).sum() / small.sum() / 96 - 0.375) < 0.02
    assert abs((small * columns).sum() / small.sum() / 160 - 0.625) < 0.02


def lane(*points):
    return np.array(points, np.float32).reshape(-1, 2)


def test_labels_in_either_direction_give_the_same_curves():
    down, up = lane((500, 300), (400, 400), (300, 500)), lane((300, 500), (400, 400), (500, 300))
    a, b = (lanes_in_slots(Label([points]), (1280, 720), 6) for points in (down, up))
    assert torch.equal(a[0].points, b[0].points)
    assert a[0].exists.tolist() == [False, False, True, False, False, False]
    assert a[0].points[2, 0].tolist() == pytest.approx([500 / 1280, 300 / 720])
    assert a[0].points[2, 5].tolist() == pytest.approx([300 / 1280, 500 / 720])


def test_lanes_that_cannot_be_learned_are_counted():
    good = lane((500, 300), (300, 500))
    short = [lane(), lane((5, 5)), lane((5, 300), (900, 300)), lane((-50, 300), (-20, 400), (-10, 500))]
    target, num_unassigned, num_too_short = lanes_in_slots(Label([good, *short]), (1280, 720), 6)
    assert (int(target.exists.sum()), num_unassigned, num_too_short) == (1, 0, 4)
    many = [lane((640, 300), (x, 700)) for x in (100, 200, 300, 400, 700)]
    target, num_unassigned, num_too_short = lanes_in_slots(Label(many), (1280, 720), 6)
    assert (int(target.exists.sum()), num_unassigned, num_too_short) == (4, 1, 0)
    target, num_unassigned, num_too_short = lanes_in_slots(Label([]), (1280, 720), 4)
    assert target.points.shape == (4, 6, 2) and not target.exists.any() and (num_unassigned, num_too_short) == (0, 0)


def test_a_lane_that_leaves_the_image_ends_at_its_border():
    target, _, _ = lanes_in_slots(Label([lane((500, 300), (200, 500), (-100, 700))]), (1280, 720), 6)
    curve = target.points[target.exists][0]
    assert curve[-1].tolist() == pytest.approx([0, (500 + 200 * 2 / 3) / 720], abs=1e-5)
    target, _, num_too_short = lanes_in_slots(Label([lane((700, 400), (1500, 720))]), (1280, 720), 6)
    assert num_too_short == 0
    curve = target.points[target.exists][0]
    assert curve[[0, -1]].flatten().tolist() == pytest.approx([700 / 1280, 400 / 720, 1, 632 / 720], abs=1e-5)


INSIDE = [[(0.2, 0.3), (0.4, 0.5), (0.7, 0.9)], [(0.5, 0.2), (0.5, 0.8)], [(0.1, 0.4), (0.9, 0.4)]]
OUTSIDE = [[], [(0.5, 0.5)], [(-0.5, 0.2), (-0.1, 0.8)], [(-0.6, 0.5), (0.2, 1.6)], [(1.2, 0.1), (1.2, 0.9)]]


@pytest.mark.parametrize("points", INSIDE)
def test_a_polyline_inside_the_image_is_left_as_it_is(points):
    np.testing.assert_allclose(inside_image(np.float32(points)), np.float32(points), atol=1e-6)


@pytest.mark.parametrize("points", OUTSIDE)
def test_nothing_is_left_of_a_polyline_outside(points):
    assert inside_image(np.float32(points).reshape(-1, 2)).shape == (0, 2)


def test_batches_come_as_planned(folder):
    dataset = LaneDataset(registry.list_samples(folder), InputGrid(32, 32), 6)
    plan = [[6], [0, 3], [3, 1]]
    found = list(loader(dataset, plan, 0, False))
    assert [images.shape for images, _ in found] == [(1, 3, 32, 32), (2, 3, 32, 32), (2, 3, 32, 32)]
    assert [int(v) for images, _ in found for v in images[:, 0, 0, 0]] == [10 * (i + 1) for part in plan for i in part]
    assert all(images.dtype == torch.uint8 and target.exists.shape == (len(images), 6) for images, target in found)


@pytest.mark.parametrize(("count", "size"), [(1, 16), (16, 16), (17, 16), (3000, 16), (138, 16), (5, 2), (7, 1)])
def test_an_epoch_is_cut_into_as_few_batches_as_can_be_of_nearly_one_size(count, size):
    order = list(range(count, 0, -1))
    plan = batches(order, size)
    assert [i for batch in plan for i in batch] == order
    assert len(plan) == -(-count // size)
    lengths = [len(batch) for batch in plan]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


def test_an_epoch_shows_every_image_once_in_another_order():
    first, second = (epoch_order([5, 3], [], seed=0, epoch=e).tolist() for e in (1, 2))
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second
    assert epoch_order([5, 3], [], 0, 1).tolist() == first
    assert epoch_order([5, 3], [], 1, 1).tolist() != first


def test_weights_share_an_epoch_between_data_sets():
    order = epoch_order([90, 10], [0.5, 0.5], seed=0, epoch=1).tolist()
    assert len(order) == 100
    counts = [order.count(i) for i in range(90, 100)]
    assert counts == [5] * 10, "a small data set repeats its images evenly"
    large = [i for i in order if i < 90]
    assert len(large) == len(set(large)) == 50
    other = epoch_order([90, 10], [0.5, 0.5], seed=0, epoch=2)
    assert {i for i in other if i < 90} != set(large), "a large one is drawn anew each epoch"
    assert sorted(order) != list(order)


def test_a_data_set_of_no_weight_is_left_out():
    assert set(epoch_order([4, 4], [0, 1], 0, 1)) == {4, 5, 6, 7}


def test_a_weight_on_a_data_set_without_training_images_does_not_hang():
    """data.split=[auto, all] with weights: the second root only validates."""
    def too_long(*_):
        raise TimeoutError("epoch_order never ends")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(3)
    try:
        order = epoch_order([4, 0], [0.5, 0.5], 0, 1)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert set(order) <= set(range(4)) and len(order)
