"""Labelled images: the batches of an epoch, their order, and the images that a configuration names."""

import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from layouts import culane, tusimple, write_image
from paths import ROOT

import check_dataset
from config import ConfigError, load_config
from dataset import LaneDataset, all_rendered, batches, epoch_order, split_from_config
from formats import registry
from geometry.input_grid import InputGrid
from preprocessing.loader import loader


@pytest.fixture
def folder(tmp_path):
    """Seven images of the colors 10, 20, ... with one lane each."""
    return write_images(tmp_path, 7)


def write_images(root, count):
    root.mkdir(exist_ok=True)
    for i in range(count):
        cv2.imwrite(str(root / f"{i}.png"), np.full((36, 64, 3), 10 * (i + 1), np.uint8))
        (root / f"{i}.lines.txt").write_text("20 35 25 25 30 15\n")
    return root


def test_batches_come_in_the_order_of_their_indices(folder):
    dataset = LaneDataset(registry.list_samples(folder), InputGrid(32, 32), 6)
    batch_indices = [[6], [0, 3], [3, 1]]
    loaded = list(loader(dataset, batch_indices, 0, False))
    assert [images.shape for images, _ in loaded] == [(1, 3, 32, 32), (2, 3, 32, 32), (2, 3, 32, 32)]
    assert [int(v) for images, _ in loaded for v in images[:, 0, 0, 0]] == [
        10 * (i + 1) for part in batch_indices for i in part]
    assert all(images.dtype == torch.uint8 and target.exists.shape == (len(images), 6) for images, target in loaded)


@pytest.mark.parametrize(("second", "settings"), [
    ("", ["data.split=[none, auto]"]), ("sub", ["data.split=[0.1, 0.5]"]),
    ("sub", ["data.split=[none, auto]", "data.validate=all"])])
def test_no_image_validates_that_another_root_trains_on(folder, second, settings):
    write_images(folder / "sub", 3)
    words = [f"data.root=[{folder}, {folder / second}]", "data.cache=false", *settings]
    with pytest.raises(ConfigError, match=r"\d images validate in one folder and train in another, which lies in it"):
        split_from_config(load_config(None, words))
    assert split_from_config(load_config(None, words), training=False).val


def test_roots_beside_each_other_may_have_images_of_one_name(folder, tmp_path):
    for name in ("a", "b"):
        write_images(tmp_path / name, 3)
    split = split_from_config(load_config(None, [f"data.root=[{tmp_path / 'a'}, {tmp_path / 'b'}]"]))
    assert [len(part) for part in split.train] == [2, 2] and len(split.val) == 1


@pytest.mark.parametrize(("workers", "count", "taken"), [(-1, 3, 0), (-1, 40, 32), (-1, 20, 20), (6, 4, 4), (2, 9, 2)])
def test_no_more_processes_read_than_there_are_batches(folder, monkeypatch, workers, count, taken):
    """And none for a few, nor more than a disk can serve; each takes a second to start, and 0.6 GB."""
    found = []
    monkeypatch.setattr("preprocessing.loader._Loader", lambda *_, num_workers, **__: found.append(num_workers))
    monkeypatch.setattr("preprocessing.loader.cores", lambda: 64)
    loader(LaneDataset(registry.list_samples(folder), InputGrid(32, 32), 6), [[0]] * count, workers, False)
    assert found == [taken]


@pytest.mark.parametrize(("count", "size"), [(1, 16), (16, 16), (17, 16), (3000, 16), (138, 16), (5, 2), (7, 1)])
def test_an_epoch_is_cut_into_as_few_batches_as_can_be_of_nearly_one_size(count, size):
    order = list(range(count, 0, -1))
    batch_indices = batches(order, size)
    assert [i for batch in batch_indices for i in batch] == order
    assert len(batch_indices) == -(-count // size)
    lengths = [len(batch) for batch in batch_indices]
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
    assert sorted(order) != order


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


@pytest.mark.parametrize(("parts", "weights"), [([50], []), ([5, 30], []), ([90, 10], [0.5, 0.5]),
                                                ([7, 0, 40], [0.2, 0.1, 0.7])])
def test_the_order_of_an_epoch_is_that_of_plain_lists(parts, weights):
    generator = torch.Generator().manual_seed(3 * 1_000_003 + 2)

    def shuffled(count):
        return torch.randperm(count, generator=generator).tolist()

    total, order, start = sum(parts), [], 0
    if weights:
        whole = sum(weight for size, weight in zip(parts, weights, strict=True) if size)
        for size, weight in zip(parts, weights, strict=True):
            share, mine = round(total * weight / whole) if size else 0, []
            while len(mine) < share:
                mine += [start + i for i in shuffled(size)][:share - len(mine)]
            order, start = order + mine, start + size
        order = [order[i] for i in shuffled(len(order))]
    else:
        order = shuffled(total)
    drawn = epoch_order(parts, weights, seed=3, epoch=2)
    assert drawn.tolist() == order and drawn.itemsize == 4


@pytest.mark.slow
@pytest.mark.process
def test_worker_processes_read_from_an_index(tmp_path):
    for i in range(3):
        write_image(tmp_path / f"{i}.png", 64, 36)
        (tmp_path / f"{i}.lines.txt").write_text("20 35 25 25 30 15\n" * (i > 0))
    dataset = LaneDataset(registry.list_samples(tmp_path), InputGrid(32, 32), 6)
    loaded = list(loader(dataset, batches(epoch_order([3], [], 0, 1), 2), 1, False))
    assert sorted(len(images) for images, _ in loaded) == [1, 2]
    assert sum(target.exists.any(1).sum().item() for _, target in loaded) == 2


def test_the_last_root_validates(tmp_path):
    """Each root is split by its own rule; only the last one's validation images are kept."""
    roots = [tusimple(tmp_path / str(n), [f"clips/{n}/{i}.jpg" for i in range(10)]) for n in range(2)]
    names = "[" + ", ".join(map(str, roots)) + "]"
    split = split_from_config(load_config(None, [f"data.root={names}", "data.split=[none, 0.2]"]))
    assert [len(part) for part in split.train] == [10, 8]
    assert list(split.val.names()) == ["clips/1/8.jpg", "clips/1/9.jpg"]
    assert [s.name for s in split.all_train()] == [s.name for part in split.train for s in part]


def roots_of(tmp_path, *names):
    roots = [tusimple(tmp_path / name, [f"clips/{n}/{i}.jpg" for i in range(10)]) for n, name in enumerate(names)]
    return f"data.root=[{', '.join(map(str, roots))}]"


def test_what_a_rule_holds_back_of_other_roots_than_the_last_is_left_out_and_said(tmp_path):
    split = split_from_config(load_config(None, [roots_of(tmp_path, "a", "b"), "data.split=0.3"]))
    assert ([len(part) for part in split.train], len(split.val), split.val_sizes) == ([7, 7], 3, {"tusimple": 3})
    assert split.notes == [f"{tmp_path / 'a'}: 3 images that data.split holds back are left out: the last root "
                           "validates, and all do with data.validate=all"]


def test_each_root_validates_of_which_its_rule_holds_images_back(tmp_path):
    split = split_from_config(load_config(None, [roots_of(tmp_path, "a", "b", "c"), "data.split=[0.1, none, 0.2]",
                                                 "data.validate=all"]))
    assert ([len(part) for part in split.train], split.notes) == ([9, 10, 8], [])
    assert list(split.val.names()) == ["clips/0/9.jpg", "clips/2/8.jpg", "clips/2/9.jpg"]
    assert split.val_sizes == {"tusimple/a": 1, "tusimple/c": 2}, "in the order of their images"


def test_sets_are_called_by_their_data_set_and_where_several_are_of_one_by_their_folder(tmp_path):
    words = [roots_of(tmp_path, "a", "deep/a").replace("]", f", {culane(tmp_path / 'c')}]"), "data.validate=all",
             "data.split=[0.1, 0.2, all]"]
    split = split_from_config(load_config(None, words), training=False)
    assert split.val_sizes == {"tusimple/a": 1, "tusimple/a 2": 2, "culane": 2}


def test_a_root_may_validate_alone_after_one_that_trains(tmp_path):
    words = roots_of(tmp_path, "a", "b")
    split = split_from_config(load_config(None, [words, "data.split=[none, all]"]))
    assert [len(part) > 0 for part in split.train] == [True, False] and len(split.val) == 10
    scenes = load_config(None, [words, "data.split=[none, all]"]).data
    for root, rendered in (("a", False), ("b", False), ("a", True)):
        if rendered:
            (tmp_path / root / "manifest.json").write_text('{"renderer": 1}')
        assert all_rendered(scenes) == rendered, "the root that validates does not count"
    with pytest.raises(ConfigError, match=r"leaves no image of .*a to train on"):
        split_from_config(load_config(None, [words, "data.split=[all, none]"]))


def test_weights_that_give_nothing_to_what_trains_are_an_error(tmp_path):
    roots = [tusimple(tmp_path / name) for name in "ab"]
    words = [f"data.root=[{roots[0]}, {roots[1]}]", "data.split=[auto, all]", "data.validate=all"]
    with pytest.raises(ConfigError, match="gives nothing to the folders"):
        split_from_config(load_config(None, [*words, "data.weights=[0, 1]"]))
    assert split_from_config(load_config(None, [*words, "data.weights=[1, 0]"])).train[0]


@pytest.mark.parametrize(("words", "message"), [
    (["data.root=[]"], "data.root is empty"),
    (["data.split=[auto, auto]"], "data.split has 2 entries for 1 roots"),
    (["data.format=[auto, coco]"], "data.format has 2 entries for 1 roots"),
    (["data.weights=[1, 2]"], "data.weights .* does not fit 1 roots"),
    (["data.split=all"], "leaves no image of .* to train on"),
])
def test_roots_splits_and_weights_must_fit_each_other(tmp_path, words, message):
    config = load_config(None, [f"data.root={tusimple(tmp_path)}", *words])
    with pytest.raises(ConfigError, match=message):
        split_from_config(config)


@pytest.mark.slow
@pytest.mark.process
def test_dataset_py_check_is_check_dataset_py(tmp_path, capsys):
    """python dataset.py --check ROOT, as the user's own notes have it, gives the same report and status."""
    root = tusimple(tmp_path)
    (root / "clips" / "1" / "20.jpg").unlink()
    status = check_dataset.main([str(root)])
    report = capsys.readouterr().out
    done = subprocess.run([sys.executable, str(ROOT / "dataset.py"), "--check", str(root)], capture_output=True,
                          text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stdout) == (status, report)
    assert status == 1 and "1 images or labels cannot be used" in report
