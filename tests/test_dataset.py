"""The data set: the batches of an epoch and their order."""

import signal

import cv2
import numpy as np
import pytest
import torch

from dataset import LaneDataset, batches, epoch_order, loader
from formats import registry
from geometry.input_grid import InputGrid


@pytest.fixture
def folder(tmp_path):
    """Seven images of the colors 10, 20, ... with one lane each."""
    for i in range(7):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((36, 64, 3), 10 * (i + 1), np.uint8))
        (tmp_path / f"{i}.lines.txt").write_text("20 35 25 25 30 15\n")
    return tmp_path


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
