"""CULane: its lists, its labels, and what is refused."""

import pytest
from layouts import culane, label_error, write_image

from formats import registry, splits


def test_lists_with_masks_and_sub_folders_name_an_image_once(tmp_path):
    names = ["/drive/a.jpg", "/drive/b.jpg", "/drive/c.jpg"]
    root = culane(tmp_path, [name[1:] for name in names], {
        "train.txt": names[:1], "train_gt.txt": [f"{names[0]} /mask/a.png 1 1 0 1"],
        "val_gt.txt": [f"{names[1]} /mask/b.png 0 1 1 0"], "test.txt": names[2:],
        "test_split/test8_night.txt": names[2:]})
    samples = registry.list_samples(root)
    assert [sample.name for sample in samples] == ["drive/c.jpg", "drive/a.jpg", "drive/b.jpg"]
    assert samples[0].lists == ("test.txt", "test_split/test8_night.txt")

    def names_by_split(rule):
        return [list(part.names()) for part in splits.split(samples, rule)]

    assert names_by_split("auto") == [["drive/a.jpg"], ["drive/b.jpg"]]
    assert names_by_split("test8_night.txt")[1] == ["drive/c.jpg"]
    assert names_by_split("train_gt.txt")[1] == ["drive/a.jpg"]


def test_label_keeps_order_and_points_outside(tmp_path):
    root = culane(tmp_path)
    (root / "drive" / "a.lines.txt").write_text("-30.5 170 10 120 90 80\n")
    lane, = registry.read_label(registry.list_samples(root)[0]).lanes
    assert lane.tolist() == [[-30.5, 170], [10, 120], [90, 80]]


@pytest.mark.parametrize(("text", "count"), [("1 2 3 4\n\n", 1), ("\n1 2 3 4\n \t\n5 6 7 8", 2), ("\r\n\r\n", 0)])
def test_a_blank_line_is_no_lane(tmp_path, text, count):
    root = culane(tmp_path)
    (root / "drive" / "a.lines.txt").write_bytes(text.encode())
    assert len(registry.read_label(registry.list_samples(root)[0]).lanes) == count


def test_image_without_lanes(tmp_path):
    root = culane(tmp_path)
    (root / "drive" / "a.lines.txt").write_text("")
    assert registry.read_label(registry.list_samples(root)[0]).lanes == []


@pytest.mark.parametrize(("text", "words"), [
    ("1 2 3 4\n5 6 7\n", ["a.lines.txt:2", "3 numbers", "pairs"]),
    ("1 2 3 nan\n", ["a.lines.txt:1", "nan"]),
    ("1 2 inf 4\n", ["a.lines.txt:1", "inf"]),
    ("1 2 3 4\n1 2 three 4\n", ["a.lines.txt:2", "three"]),
    ("1 2 3 1e9\n", ["a.lines.txt:1", "pixel"]),
    (b"\xff\xfe1 2", ["a.lines.txt:1", "UTF-8"]),
    ("1 2 3 4\n" * 100, ["a.lines.txt", "100 lines"]),
], ids=["odd", "nan", "infinity", "word", "huge", "binary", "too many"])
def test_broken_label_is_named(tmp_path, text, words):
    root = culane(tmp_path)
    (root / "drive" / "a.lines.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    message = label_error(root)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("lines", "words"), [
    ("", ["test.txt", "empty"]),
    ("/drive/a.jpg\n\n/drive/gone.jpg\n", ["test.txt:3", "gone.jpg", "missing"]),
    ("/../secret.jpg\n", ["test.txt:1", "leaves the data folder"]),
    ("/drive/unlabelled.jpg\n", ["test.txt:1", "unlabelled.lines.txt", "missing"]),
], ids=["empty", "missing image", "escape", "missing label"])
def test_broken_list_is_named(tmp_path, lines, words):
    root = culane(tmp_path)
    write_image(root / "drive" / "unlabelled.jpg")
    (root / "list" / "test.txt").write_text(lines)
    message = label_error(root)
    assert all(word in message for word in words), message
