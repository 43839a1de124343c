"""Memory: a data set costs an index of tens of bytes an image, which says what a list of samples would."""

import pickle
import random
import threading
import time
import tracemalloc
from functools import partial
from pathlib import Path

import pytest
import torch
from layouts import culane, curvelanes, llamas, tusimple, write_image

from dataset import LaneDataset, batches, epoch_order, loader
from formats import base, registry, sample_index, splits
from formats.base import Sample
from formats.sample_index import SampleIndex, concatenate
from geometry.input_grid import InputGrid
from runtime.prefetch import prefetch

MOST_BYTES = 100  # an image, its name included


def sample(name, lists=("train.txt",), root="/data/CULane", **where):
    image = Path(root, name)
    return Sample(image, where.pop("label", image.with_suffix(".lines.txt")), name, lists, **where)


def culane_entries(count):
    """As CULane names its images, from one list."""
    return (sample(f"driver_{n % 4}_30frame/{n // 100:08}_0419.MP4/{n % 100:05}.jpg") for n in range(count))


def tusimple_entries(count):
    label = Path("/data/TuSimple/label_data_0313.json")
    return (sample(f"clips/0313-1/{n}/20.jpg", (label.name,), "/data/TuSimple", label=label, offset=1500 * n, line=n + 1)
            for n in range(count))


def traced(build):
    """What build() gives, and the bytes that it holds and at most held.

    The less of two times: in one, Python's own table of names may grow.
    """
    found = []
    for _ in range(2):
        tracemalloc.start()
        try:
            result = build()
            found.append(tracemalloc.get_traced_memory())
        finally:
            tracemalloc.stop()
    return result, tuple(map(min, zip(*found, strict=True)))


ODD = [
    sample("a.jpg"), sample("/data/a.jpg"), sample("no suffix"), sample("x/.jpg"), sample("data.jpg"), sample("s.jpg"),
    sample("lines.txt.jpg"), sample("x/Straße 1.png", ("a", "b")), sample("x/\udcff.png", ()), sample("x.jpg/"),
    sample("clips\\1\\20.jpg")._replace(image=Path("/data/clips/1/20.jpg")), sample("./b.jpg"), sample("b//c.jpg"),
    sample("valid/images/x.jpg", label=Path("/data/CULane/valid/labels/x.lines.json")), sample("1.jpg", root="relative"),
    Sample(Path("/elsewhere/0.png"), Path("labels"), "unlike both", ("x",), offset=2**40, line=7),
]


def test_an_index_gives_back_every_entry():
    found = SampleIndex(ODD)
    assert list(found) == ODD and len(found) == len(ODD)
    assert list(pickle.loads(pickle.dumps(found))) == ODD
    assert found[-1] == ODD[-1] and list(found[1:-1:2]) == ODD[1:-1:2]
    assert list(found.names()) == [e.name for e in ODD]
    with pytest.raises(IndexError):
        found[len(ODD)]


@pytest.mark.parametrize("make", [culane_entries, tusimple_entries])
def test_an_entry_costs_tens_of_bytes(make):
    found, (held, _) = traced(lambda: SampleIndex(make(5000)))
    assert held / len(found) < MOST_BYTES and len(pickle.dumps(found)) / len(found) < MOST_BYTES
    sent = pickle.dumps(LaneDataset(found, InputGrid(32, 32), 6))
    assert len(sent) / len(found) < MOST_BYTES, "what a worker process is sent"
    assert found[4321] == list(make(5000))[4321]


def test_listing_and_splitting_never_hold_much_more(tmp_path, monkeypatch):
    """The most that is held at a time, from CULane's list files to an epoch's order."""
    names = [e.name for e in culane_entries(6000)]
    (tmp_path / "list").mkdir()
    for name, start, stop in (("train", 0, 5400), ("train_gt", 0, 5400), ("val", 5400, 6000)):
        (tmp_path / "list" / f"{name}.txt").write_text("".join(f"/{name}\n" for name in names[start:stop]))
    monkeypatch.setattr("os.path.isfile", lambda path: True)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    monkeypatch.setattr(sample_index, "SORTED_AT_ONCE", 500)  # of so few images all would be

    def start_up():
        train, val = splits.split(registry.list_samples(tmp_path, "culane"), "auto")
        return train, val, epoch_order([len(train)], [], 0, 1)

    parts, (held, peak) = traced(start_up)
    assert [len(part) for part in parts] == [5400, 600, 5400]
    assert held / len(names) < MOST_BYTES
    assert peak / len(names) < 4 * MOST_BYTES, "most images are named twice, and then come two copies"


def test_the_index_of_a_folder_says_what_its_reader_found(tmp_path):
    """All fields of an sample, format by format."""
    root = culane(tmp_path / "culane", lists={"train.txt": ["/drive/b.jpg"], "val.txt": ["/drive/a.jpg"],
                                              "val_gt.txt": ["/drive/a.jpg /mask.png 1 0", "/drive/b.jpg"]})
    a, b = (root / "drive" / name for name in ("a.jpg", "b.jpg"))
    assert list(registry.list_samples(root)) == [
        Sample(b, b.with_suffix(".lines.txt"), "drive/b.jpg", ("train.txt", "val_gt.txt")),
        Sample(a, a.with_suffix(".lines.txt"), "drive/a.jpg", ("val.txt", "val_gt.txt"))]
    assert list(registry.list_samples(root, "folder")) == [
        Sample(path, path.with_suffix(".lines.txt"), f"drive/{path.name}", ("folder",)) for path in (a, b)]

    root = tusimple(tmp_path / "tusimple", ["clips/1/20.jpg", "clips/2/20.jpg"])
    tusimple(root, ["clips/2/20.jpg", "clips/3/20.jpg"], "test_set/test_label.json", "test_set")
    first, second = root / "label_data_0313.json", root / "test_set" / "test_label.json"
    offset = len(first.read_bytes()) // 2
    assert list(registry.list_samples(root)) == [
        Sample(root / "clips/1/20.jpg", first, "clips/1/20.jpg", (first.name,), 0, 1),
        Sample(root / "clips/2/20.jpg", first, "clips/2/20.jpg", (first.name, second.name), offset, 2),
        Sample(root / "test_set/clips/3/20.jpg", second, "clips/3/20.jpg", (second.name,), offset, 2)]

    root = curvelanes(tmp_path / "curvelanes")
    assert list(registry.list_samples(root)) == [
        Sample(root / part / "images/x.jpg", root / part / "labels/x.lines.json", f"{part}/images/x.jpg",
              (f"{part}.txt",)) for part in ("train", "valid")]

    root = llamas(tmp_path / "llamas")
    assert list(registry.list_samples(root)) == [
        Sample(root / "color_images/valid/drive/1_2_color_rect.png", root / "labels/valid/drive/1_2.json",
              "valid/drive/1_2.json", ("valid",))]


def test_a_folder_is_listed_in_the_order_of_its_paths(tmp_path):
    for name in ("b.jpg", "a/x.jpg", "a-/x.jpg", "a.k.jpg", "a.jpg", "a/b/x.jpg", "A.jpg"):
        write_image(tmp_path / name)
        (tmp_path / name).with_suffix(".lines.txt").write_text("")
    found = [e.label for e in registry.list_samples(tmp_path)]
    assert found == sorted(tmp_path.rglob("*.lines.txt")) and len(found) == 7


def test_images_come_once_in_the_lists_of_all(monkeypatch):
    """Against a dictionary, with so few names sorted at once that parts of the order have to be merged."""
    monkeypatch.setattr(sample_index, "SORTED_AT_ONCE", 7)
    generator = random.Random(0)
    named = [sample(f"{generator.randrange(60)}/{generator.randrange(2)}.jpg", (f"list{n % 5}",), line=n)
             for n in range(200)]
    expected = {}
    for one in named:
        first = expected.setdefault(one.name, one._replace(lists=()))
        expected[one.name] = first._replace(lists=(*first.lists, *one.lists))
    found = SampleIndex(named).once_each()
    assert list(found) == list(expected.values()) and 50 < len(found) < 150
    assert [named[i].line for i in SampleIndex(named).by_name()] == [e.line for e in sorted(named, key=lambda e: e.name)]


def test_the_split_rules_divide_as_they_say():
    lists = [("train.txt",), ("val.txt",), ("test.txt", "test_split/test0_normal.txt"), ("train.txt", "val.txt")]
    listed = [sample(f"drive{n * 7 % 5}/{n * 13 % 20:02}/x.jpg", lists[n % 4]) for n in range(20)]
    by_name = sorted(listed, key=lambda e: e.name)

    def parts(rule, training=True):
        return tuple(map(list, splits.split(SampleIndex(listed), rule, training)))

    assert parts("all") == ([], listed) and parts("none") == (listed, [])
    assert parts("0.25") == (by_name[:15], by_name[15:])
    untested = [e for e in listed if "test.txt" not in e.lists]
    assert parts("auto") == parts("auto", False) == (
        [e for e in untested if "val.txt" not in e.lists], [e for e in untested if "val.txt" in e.lists])
    assert parts("clip>=7") == tuple([e for e in listed if (int(e.image.parent.name) >= 7) is v] for v in (False, True))
    assert parts("test0_normal.txt") == parts("test.txt") == (
        untested, [e for e in listed if "test.txt" in e.lists])
    tests = [e for e in listed if "test.txt" in e.lists]
    assert tuple(map(list, splits.split(SampleIndex(tests), "auto", False))) == ([], tests)
    assert tuple(map(list, splits.split(SampleIndex(tests), "auto"))) == (sorted(tests)[:-1], sorted(tests)[-1:])
    with pytest.raises(base.DataError, match=r"one of the lists test\.txt, test_split/test0_normal\.txt$"):
        splits.split(SampleIndex(listed).take([2, 6]), "train.txt")


def test_several_roots_are_laid_end_to_end():
    parts = [SampleIndex(culane_entries(5)), SampleIndex(), SampleIndex(tusimple_entries(4)), SampleIndex(ODD)]
    assert list(concatenate(parts)) == [one for part in parts for one in part]


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
    found = epoch_order(parts, weights, seed=3, epoch=2)
    assert found.tolist() == order and found.itemsize == 4


def test_worker_processes_read_from_an_index(tmp_path):
    for i in range(3):
        write_image(tmp_path / f"{i}.png", 64, 36)
        (tmp_path / f"{i}.lines.txt").write_text("20 35 25 25 30 15\n" * (i > 0))
    dataset = LaneDataset(registry.list_samples(tmp_path), InputGrid(32, 32), 6)
    read = list(loader(dataset, batches(epoch_order([3], [], 0, 1), 2), 1, False))
    assert sorted(len(images) for images, _ in read) == [1, 2]
    assert sum(target.exists.any(1).sum().item() for _, target in read) == 2


def test_threads_read_in_order_and_only_a_few_ahead():
    lock, begun, most = threading.Lock(), [], []

    def read(i):
        with lock:
            begun.append(i)
        time.sleep(0.001 * (i % 3))
        return i

    for done, i in enumerate(prefetch(partial(read, i) for i in range(400))):
        assert i == done
        most.append(len(begun) - done)
    assert max(most) < 200, "results would pile up where reading is faster than what takes them"


def test_threads_stop_at_the_first_that_cannot_be_read():
    begun = []

    def read(i):
        begun.append(i)
        if i == 5:
            raise base.DataError("5: broken")
        return i

    with pytest.raises(base.DataError, match="5: broken"):
        list(prefetch(partial(read, i) for i in range(10_000)))
    assert len(begun) < 1000
