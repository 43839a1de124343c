"""Memory: a data set costs an index of tens of bytes an image, with all that a list of samples would have."""

import gc
import pickle
import random
import tracemalloc
from pathlib import Path

import pytest
from layouts import LAYOUTS, culane, curvelanes, folder, llamas, sample, tusimple

from dataset import LaneDataset, epoch_order
from formats import registry, sample_index, splits
from formats.base import Sample
from formats.sample_index import SampleIndex, concatenate, evenly_spaced
from geometry.input_grid import InputGrid

MAX_BYTES = 100  # an image, its name included


def culane_samples(count):
    """As CULane names its images, from one list."""
    return (sample(f"driver_{n % 4}_30frame/{n // 100:08}_0419.MP4/{n % 100:05}.jpg", format="culane")
            for n in range(count))


def tusimple_samples(count):
    label = Path("/data/TuSimple/label_data_0313.json")
    return (sample(f"clips/0313-1/{n}/20.jpg", (label.name,), "/data/TuSimple", label=label, format="tusimple",
                   offset=1500 * n, line=n + 1) for n in range(count))


def traced(build):
    """What build() gives, the bytes that it occupies, and the most that were occupied at a time.

    The less of two times: in one, Python's own table of names may grow. What garbage is left occupies nothing.
    """
    sizes = []
    for _ in range(2):
        tracemalloc.start()
        try:
            result = build()
            _, peak = tracemalloc.get_traced_memory()
            gc.collect()
            sizes.append((tracemalloc.get_traced_memory()[0], peak))
        finally:
            tracemalloc.stop()
    return result, tuple(map(min, zip(*sizes, strict=True)))


ODD = [
    sample("a.jpg"), sample("/data/a.jpg"), sample("no suffix"), sample("x/.jpg"), sample("data.jpg"), sample("s.jpg"),
    sample("lines.txt.jpg"), sample("x/Straße 1.png", ("a", "b")), sample("x/\udcff.png", ()), sample("x.jpg/"),
    sample("clips\\1\\20.jpg")._replace(image=Path("/data/clips/1/20.jpg")), sample("./b.jpg"), sample("b//c.jpg"),
    sample("valid/images/x.jpg", label=Path("/data/CULane/valid/labels/x.lines.json")),
    sample("1.jpg", root="relative"),
    Sample(Path("/elsewhere/0.png"), Path("labels"), "unlike both", ("x",), offset=2**40, line=7),
    sample("a.jpg", format="culane"), sample("a.jpg", format="of a plugin"),
]


def test_an_index_gives_back_every_sample():
    index = SampleIndex(ODD)
    assert list(index) == ODD and len(index) == len(ODD)
    assert list(pickle.loads(pickle.dumps(index))) == ODD
    assert index[-1] == ODD[-1] and list(index[1:-1:2]) == ODD[1:-1:2]
    assert list(index.names()) == [s.name for s in ODD]
    with pytest.raises(IndexError):
        index[len(ODD)]


def test_the_format_of_each_sample_survives_copies():
    """However an index is copied, chosen from or joined, each sample is still of its own data set."""
    samples = [sample(f"{n}.jpg", format=list(LAYOUTS)[n % len(LAYOUTS)]) for n in range(40)]
    index = SampleIndex(samples)
    assert index.formats() == list(LAYOUTS)
    for copy in (index.take(range(40)), index[:], index.merge(range(40), [False] * 40),
                 concatenate([index[:7], index[7:]]),
                 pickle.loads(pickle.dumps(index))):
        assert {s.name: s.format for s in copy} == {s.name: s.format for s in samples}
    assert index.take([3, 3 + len(LAYOUTS)]).formats() == ["llamas"], "of the samples chosen, not of all listed"


@pytest.mark.parametrize("make", [culane_samples, tusimple_samples])
def test_a_sample_costs_tens_of_bytes(make):
    index, (size, _) = traced(lambda: SampleIndex(make(2000)))
    assert size / len(index) < MAX_BYTES and len(pickle.dumps(index)) / len(index) < MAX_BYTES
    pickled = pickle.dumps(LaneDataset(index, InputGrid(32, 32), 6))
    assert len(pickled) / len(index) < MAX_BYTES, "what a worker process is sent"
    assert index[1321] == list(make(2000))[1321]


def test_listing_and_splitting_never_occupy_much_more(tmp_path, monkeypatch):
    """The most memory at a time, from CULane's list files to an epoch's order."""
    names = [s.name for s in culane_samples(3000)]
    (tmp_path / "list").mkdir()
    for name, start, stop in (("train", 0, 2700), ("train_gt", 0, 2700), ("val", 2700, 3000)):
        (tmp_path / "list" / f"{name}.txt").write_text("".join(f"/{name}\n" for name in names[start:stop]))
    monkeypatch.setattr("os.path.isfile", lambda path: True)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    monkeypatch.setattr(sample_index, "SORT_CHUNK", 200)  # of so few images all would be

    def start_up():
        train, val = splits.split(registry.list_samples(tmp_path, "culane"), "auto")
        return train, val, epoch_order([len(train)], [], 0, 1)

    parts, (size, peak) = traced(start_up)
    assert [len(part) for part in parts] == [2700, 300, 2700]
    assert size / len(names) < MAX_BYTES
    assert peak / len(names) < 4 * MAX_BYTES, "most images are named twice, and then come two copies"


def test_every_field_of_every_data_sets_samples(tmp_path):
    """Data set by data set, as its module lists them."""
    root = culane(tmp_path / "culane", lists={"train.txt": ["/drive/b.jpg"], "val.txt": ["/drive/a.jpg"],
                                              "val_gt.txt": ["/drive/a.jpg /mask.png 1 0", "/drive/b.jpg"]})
    a, b = (root / "drive" / name for name in ("a.jpg", "b.jpg"))
    assert list(registry.list_samples(root)) == [
        Sample(b, b.with_suffix(".lines.txt"), "drive/b.jpg", ("train.txt", "val_gt.txt"), "culane"),
        Sample(a, a.with_suffix(".lines.txt"), "drive/a.jpg", ("val.txt", "val_gt.txt"), "culane")]
    assert list(registry.list_samples(root, "folder")) == [
        Sample(path, path.with_suffix(".lines.txt"), f"drive/{path.name}", ("folder",), "folder") for path in (a, b)]

    root = folder(tmp_path / "folder", ["day/1.png"])
    assert list(registry.list_samples(root)) == [
        Sample(root / "day/1.png", root / "day/1.lines.txt", "day/1.png", ("folder",), "folder")]

    root = tusimple(tmp_path / "tusimple", ["clips/1/20.jpg", "clips/2/20.jpg"])
    tusimple(root, ["clips/2/20.jpg", "clips/3/20.jpg"], "test_set/test_label.json", "test_set")
    first, second = root / "label_data_0313.json", root / "test_set" / "test_label.json"
    offset = len(first.read_bytes()) // 2
    assert list(registry.list_samples(root)) == [
        Sample(root / "clips/1/20.jpg", first, "clips/1/20.jpg", (first.name,), "tusimple", 0, 1),
        Sample(root / "clips/2/20.jpg", first, "clips/2/20.jpg", (first.name, second.name), "tusimple", offset, 2),
        Sample(root / "test_set/clips/3/20.jpg", second, "clips/3/20.jpg", (second.name,), "tusimple", offset, 2)]

    root = curvelanes(tmp_path / "curvelanes")
    assert list(registry.list_samples(root)) == [
        Sample(root / part / "images/x.jpg", root / part / "labels/x.lines.json", f"{part}/images/x.jpg",
               (f"{part}.txt",), "curvelanes") for part in ("train", "valid")]

    root = llamas(tmp_path / "llamas")
    assert list(registry.list_samples(root)) == [
        Sample(root / "color_images/valid/drive/1_2_color_rect.png", root / "labels/valid/drive/1_2.json",
               "valid/drive/1_2.json", ("valid",), "llamas")]


def test_images_come_once_in_the_lists_of_all(monkeypatch):
    """Against a dictionary, with so few names sorted at a time that parts of the order have to be merged."""
    monkeypatch.setattr(sample_index, "SORT_CHUNK", 7)
    generator = random.Random(0)
    named = [sample(f"{generator.randrange(60)}/{generator.randrange(2)}.jpg", (f"list{n % 5}",), line=n)
             for n in range(200)]
    expected = {}
    for source in named:
        first = expected.setdefault(source.name, source._replace(lists=()))
        expected[source.name] = first._replace(lists=tuple(dict.fromkeys((*first.lists, *source.lists))))
    index = SampleIndex(named)
    rows = {}
    unique = index.merge([rows.setdefault(s.name, i) for i, s in enumerate(named)], [False] * len(named))
    assert list(unique) == list(expected.values()) and 50 < len(unique) < 150
    assert [named[i].line for i in index.order_by_name()] == [s.line for s in sorted(named, key=lambda s: s.name)]


def test_several_roots_are_laid_end_to_end():
    parts = [SampleIndex(culane_samples(5)), SampleIndex(), SampleIndex(tusimple_samples(4)), SampleIndex(ODD)]
    assert list(concatenate(parts)) == [s for part in parts for s in part]


@pytest.mark.parametrize(("count", "picks"), [(0, []), (1, [0]), (3, [0, 3, 6]), (4, [0, 2, 5, 7]), (99, range(10))])
def test_evenly_spaced_items_begin_with_the_first(count, picks):
    assert evenly_spaced(range(10), count) == list(picks)


def test_files_are_those_of_the_samples():
    samples = [Sample(Path("r/a/1.jpg"), Path("r/labels.json"), "a/1.jpg", (), "tusimple", 70, 2, ((140, 3), (9, 1))),
               Sample(Path("r/b ä/x.png"), Path("r/b ä/x.lines.txt"), "b ä/x.png", ())]
    files = [(sample.image.as_posix(), sample.label.as_posix(), (sample.offset, *(at for at, _ in sample.more)))
             for sample in samples]
    assert list(SampleIndex(samples).files()) == files
