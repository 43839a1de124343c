"""Readers: every layout gives the same lanes, and every broken input one clear line that names file and line."""


import numpy as np
import pytest
from layouts import LANES, culane, curvelanes, llamas, text_of, tusimple, write_image

from formats import registry, splits
from formats.base import DataError


def error_of(root, format_name="auto") -> str:
    with pytest.raises(DataError) as caught:
        for sample in registry.list_samples(root, format_name):
            registry.read_label(sample)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tusimple_layouts(tmp_path):
    for number, (list_name, images) in enumerate([
        ("label_data_0313.json", "."), ("train_set/label_data_0313.json", "train_set"), ("test_label.json", "test_set"),
        ("test_set/test_label.json", "test_set")]):
        root = tusimple(tmp_path / str(number), list_name=list_name, images=images)
        assert registry.detect(root) == "tusimple"
        found = registry.list_samples(root)
        assert len(found) == 2 and all(sample.image.is_file() for sample in found)
        label = registry.read_label(found[1])
        assert [len(lane) for lane in label.lanes] == [8, 0]
        assert label.lanes[0][0].tolist() == [100, 100] and label.x_at_rows.shape == (2, 12)


def test_a_label_file_copied_out_of_train_set_counts_once(tmp_path):
    tusimple(tmp_path)
    tusimple(tmp_path, list_name="train_set/label_data_0313.json")
    assert len(registry.list_samples(tmp_path)) == 2


def test_culane_lists_with_masks_and_sub_folders_name_an_image_once(tmp_path):
    names = ["/drive/a.jpg", "/drive/b.jpg", "/drive/c.jpg"]
    root = culane(tmp_path, [name[1:] for name in names], {
        "train.txt": names[:1], "train_gt.txt": [f"{names[0]} /mask/a.png 1 1 0 1"],
        "val_gt.txt": [f"{names[1]} /mask/b.png 0 1 1 0"], "test.txt": names[2:],
        "test_split/test8_night.txt": names[2:]})
    found = registry.list_samples(root)
    assert [sample.name for sample in found] == ["drive/c.jpg", "drive/a.jpg", "drive/b.jpg"]
    assert found[0].lists == ("test.txt", "test_split/test8_night.txt")
    train, val = splits.split(found, "auto")
    assert [e.name for e in train] == ["drive/a.jpg"] and [e.name for e in val] == ["drive/b.jpg"]
    assert [e.name for e in splits.split(found, "test8_night.txt")[1]] == ["drive/c.jpg"]
    assert [e.name for e in splits.split(found, "train_gt.txt")[1]] == ["drive/a.jpg"]


def test_culane_label_keeps_order_and_points_outside(tmp_path):
    root = culane(tmp_path)
    (root / "drive" / "a.lines.txt").write_text("-30.5 170 10 120 90 80\n\n")
    label = registry.read_label(registry.list_samples(root)[0])
    assert label.lanes[0].tolist() == [[-30.5, 170], [10, 120], [90, 80]]
    assert len(label.lanes[1]) == 0, "the official evaluator counts a blank line as a lane"


def test_image_without_lanes(tmp_path):
    root = culane(tmp_path)
    (root / "drive" / "a.lines.txt").write_text("")
    assert registry.read_label(registry.list_samples(root)[0]).lanes == []


def test_folder_of_ones_own(tmp_path):
    for name in ("day/one.PNG", "day/two words.jpg"):
        write_image(tmp_path / name)
        (tmp_path / name).with_suffix(".lines.txt").write_text(text_of(LANES))
    found = registry.list_samples(tmp_path)
    assert [sample.name for sample in found] == ["day/one.PNG", "day/two words.jpg"]
    assert len(registry.read_label(found[0]).lanes) == 2


def test_curvelanes(tmp_path):
    found = registry.list_samples(curvelanes(tmp_path))
    assert registry.detect(tmp_path) == "curvelanes"
    assert [sample.name for sample in found] == ["train/images/x.jpg", "valid/images/x.jpg"]
    assert registry.read_label(found[0]).lanes[0].tolist() == [[100, 170.5], [140, 120.5], [170, 80.5]]
    train, val = splits.split(found, "auto")
    assert [e.name for e in train] == ["train/images/x.jpg"] and [e.name for e in val] == ["valid/images/x.jpg"]
    assert len(registry.list_samples(tmp_path / "valid")) == 1, "one part alone"
    (tmp_path / "train" / "train.txt").unlink()
    assert len(registry.list_samples(tmp_path)) == 2, "without its list"


def test_llamas_markers_become_the_line_that_its_benchmark_scores(tmp_path):
    sample, = registry.list_samples(llamas(tmp_path))
    assert registry.detect(tmp_path) == "llamas" and sample.name == "valid/drive/1_2.json"
    lane, = registry.read_label(sample).lanes
    assert lane[0].tolist() == [600, 416] and lane[-1].tolist() == [300, 716], "prolonged to the bottom"
    assert np.array_equal(lane[:, 1], np.arange(416, 717)) and np.allclose(lane.sum(1), 1016), "gaps are filled"


@pytest.mark.parametrize("rule", ["sometimes", "0.0", "nowhere.txt"])
def test_unknown_split_names_the_lists(tmp_path, rule):
    with pytest.raises(DataError, match=r"expected auto, all, .*test\.txt"):
        splits.split(registry.list_samples(culane(tmp_path)), rule)


def test_split_by_clip_and_by_fraction(tmp_path):
    found = registry.list_samples(tusimple(tmp_path, [f"clips/{n}/20.jpg" for n in range(10, 20)]))
    assert [len(part) for part in splits.split(found, "clip>=17")] == [7, 3]
    assert [len(part) for part in splits.split(found, "0.2")] == [8, 2]
    assert [len(part) for part in splits.split(found, "all")] == [0, 10]


@pytest.mark.parametrize(("text", "words"), [
    ("1 2 3 4\n5 6 7\n", ["a.lines.txt:2", "3 numbers", "pairs"]),
    ("1 2 3 nan\n", ["a.lines.txt:1", "nan"]),
    ("1 2 inf 4\n", ["a.lines.txt:1", "inf"]),
    ("1 2 3 4\n1 2 three 4\n", ["a.lines.txt:2", "three"]),
    ("1 2 3 1e9\n", ["a.lines.txt:1", "pixel"]),
    (b"\xff\xfe1 2", ["a.lines.txt:1", "UTF-8"]),
    ("1 2 3 4\n" * 100, ["a.lines.txt", "100 lines"]),
], ids=["odd", "nan", "infinity", "word", "huge", "binary", "too many"])
def test_broken_lines_file(tmp_path, text, words):
    root = culane(tmp_path)
    (root / "drive" / "a.lines.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert all(word in error_of(root) for word in words)


@pytest.mark.parametrize(("lines", "words"), [
    ("", ["test.txt", "empty"]),
    ("/drive/a.jpg\n\n/drive/gone.jpg\n", ["test.txt:3", "gone.jpg", "missing"]),
    ("/../secret.jpg\n", ["test.txt:1", "leaves the data folder"]),
    ("/drive/unlabelled.jpg\n", ["test.txt:1", "unlabelled.lines.txt", "missing"]),
], ids=["empty", "missing image", "escape", "missing label"])
def test_broken_culane_list(tmp_path, lines, words):
    root = culane(tmp_path)
    write_image(root / "drive" / "unlabelled.jpg")
    (root / "list" / "test.txt").write_text(lines)
    assert all(word in error_of(root) for word in words)


@pytest.mark.parametrize(("line", "words"), [
    ('{"raw_file": "clips/1/20.jpg", "lanes": [[1, 2', [":3", "broken JSON", "at character"]),
    ("[1]", [":3", "expected a JSON object"]),
    ('{"lanes": [], "h_samples": [1]}', [":3", "raw_file"]),
    ('{"raw_file": "clips/1/20.jpg", "lanes": [[1, 2]], "h_samples": [1]}', [":3", "lane 1 has 2 points"]),
    ('{"raw_file": "clips/1/20.jpg", "lanes": [[NaN]], "h_samples": [1]}', [":3", "nan"]),
    ('{"raw_file": "clips/1/20.jpg", "lanes": [["1"]], "h_samples": [1]}', [":3", "not a number"]),
    ('{"raw_file": "clips/1/20.jpg", "lanes": [], "h_samples": []}', [":3", "h_samples is empty"]),
    ('{"raw_file": "clips/9/20.jpg", "lanes": [], "h_samples": [1]}', [":3", "missing"]),
    ('{"raw_file": "/etc/hosts.jpg", "lanes": [], "h_samples": [1]}', [":3", "leaves the data folder"]),
    ('{"raw_file": "clips/../../x.jpg", "lanes": [], "h_samples": [1]}', [":3", "leaves the data folder"]),
    ('{"raw_file": "C:/x.jpg", "lanes": [], "h_samples": [1]}', [":3", "leaves the data folder"]),
])
def test_broken_tusimple_line(tmp_path, line, words):
    path = tusimple(tmp_path) / "label_data_0313.json"
    path.write_text(path.read_text() + line + "\n")
    assert all(word in error_of(tmp_path) for word in ["label_data_0313.json", *words])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"Lines": 3}', '{"Lines": [3]}', '{"Lines": [[{"x": "1"}]]}',
                                     '{"Lines": [[{"x": "1", "y": "nan"}]]}', '{"Lines": [[{"x": "1", "y": "?"}]]}'])
def test_broken_curvelanes_label(tmp_path, content):
    (curvelanes(tmp_path) / "train" / "labels" / "x.lines.json").write_text(content)
    assert "x.lines.json" in error_of(tmp_path)


@pytest.mark.parametrize("content", ["{", '{"lanes": 1}', '{"lanes": [{"markers": []}]}',
                                     '{"lanes": [{"lane_id": "l0", "markers": [{}]}]}',
                                     '{"lanes": [{"lane_id": "l0", "markers": [{"pixel_start": {"x": 1, "y": 900}, '
                                     '"pixel_end": {"x": 1, "y": 1}, "world_start": {"z": 1}}]}]}'])
def test_broken_llamas_label(tmp_path, content):
    (llamas(tmp_path) / "labels" / "valid" / "drive" / "1_2.json").write_text(content)
    assert "1_2.json" in error_of(tmp_path)


@pytest.mark.parametrize(("make", "chosen", "likely"), [
    (culane, "tusimple", "culane"), (tusimple, "culane", "tusimple"), (tusimple, "folder", "tusimple"),
    (culane, "curvelanes", "culane"), (curvelanes, "llamas", "curvelanes"), (llamas, "culane", "llamas")])
def test_wrong_format_chosen(tmp_path, make, chosen, likely):
    message = error_of(make(tmp_path), chosen)
    assert f"nothing in the {chosen} layout" in message and f"looks like {likely}" in message


def test_no_layout_and_no_folder(tmp_path):
    assert "no known layout" in error_of(tmp_path)
    assert "no such folder" in error_of(tmp_path / "nowhere")


def test_scan_goes_on_after_what_is_broken(tmp_path):
    path = tusimple(tmp_path) / "label_data_0313.json"
    path.write_text("{\n" + path.read_text() + "3\n")
    found = list(registry.scan(tmp_path))
    assert [isinstance(sample, DataError) for sample in found] == [True, True, False, False]
