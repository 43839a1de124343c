"""check_dataset.py: everything that is wrong with a data set, at once, and how well curves can stand for it."""

import json
import re

import cv2
import numpy as np
import pytest
from layouts import LAYOUTS, coco, curvelanes, labelme
from paths import SHARED

import check_dataset
from config import ConfigError
from formats.registry import WRITABLE

LABELS = SHARED / "data" / "tusimple_labels"
CULANE = LABELS.parent / "culane"


@pytest.fixture
def folder(tmp_path):
    """A folder of one's own: good images of two sizes, and one of every mistake."""
    root = tmp_path / "mine"
    root.mkdir()
    for name, text, size in (
        ("good", "30 170 60 120 90 70\n300 170 270 120 240 70\n", (320, 180)),
        ("large", "60 340 120 240 180 140\n", (640, 360)),
        ("odd", "30 170 60\n", (320, 180)),
        ("twice", "30 170 60 120 60 120 90 70\n", (320, 180)),
        ("point", "30 170\n", (320, 180)),
        ("outside", "3000 1700 2500 1200 2000 800\n", (320, 180)),
        ("crowded", "".join(f"{x} 170 {x / 2 + 40} 70\n" for x in range(5, 155, 30)), (320, 180)),
        ("unreadable", "30 170 60 120 90 70\n", None),
        ("alone", "30 170 60 120 90 70\n", None),
    ):
        (root / f"{name}.lines.txt").write_text(text)
        if size:
            cv2.imwrite(str(root / f"{name}.jpg"), np.full((size[1], size[0], 3), 80, np.uint8))
    (root / "unreadable.jpg").write_bytes(b"not an image")
    return root


def report_of(capsys, *words):
    """The exit status and what is printed."""
    status = check_dataset.main([*map(str, words)])
    return status, capsys.readouterr().out


def test_everything_wrong_is_reported_at_once(folder, tmp_path, capsys):
    status, out = report_of(capsys, folder, "--sheet", tmp_path / "out" / "sheet.jpg")
    assert status == 1
    for words in ("folder layout, 6 labelled images", "320x180: 5, 640x360: 1", "lanes per image: 1: 4, 2: 1, 5: 1",
                  "2 of 11 lanes do not fit the 6 slots", "2 of 11 lanes have fewer than two points",
                  "1 of 11 lanes lie outside the image", "1 of 11 lanes have the same point twice",
                  "3 images or labels cannot be used", "odd.lines.txt:1: 3 numbers", "unreadable.jpg: not an image",
                  "alone.lines.txt: no image alone.jpg", "crowded.lines.txt", "upper bound, CULane metric, 6 images"):
        assert words in out, words
    sheet = cv2.imread(str(tmp_path / "out" / "sheet.jpg"))
    assert sheet.shape == (2 * 225, 4 * 400, 3)


def test_a_jpeg_with_bytes_overwritten_is_named(tmp_path, capsys):
    """Training reads it, since looking so closely at every image would take as long as decoding it."""
    image = np.random.default_rng(0).integers(0, 256, (180, 320, 3), np.uint8)
    for name in ("good", "bad"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), image)
        (tmp_path / f"{name}.lines.txt").write_text("30 170 60 120 90 70\n")
    data = bytearray((tmp_path / "bad.jpg").read_bytes())
    data[20_000:20_600] = (b"<html>no such page" * 40)[:600]
    (tmp_path / "bad.jpg").write_bytes(data)
    status, out = report_of(capsys, tmp_path)
    assert status == 1 and "1 images or labels cannot be used" in out and "bad.jpg: a damaged JPEG" in out


def test_lanes_that_no_curve_can_be_are_named_for_what_they_are(tmp_path, capsys):
    lanes = {"run level": "10 120 100 120 300 120", "turn back": "50 170 60 100 150 50 220 100 230 170",
             "are far from every": " ".join(f"{x} {y}" for y in range(60, 170, 30) for x in (60, 200)),
             "by a curve that misses": " ".join(f"{215 if y == 90 else 200} {y}" for y in range(60, 178, 3))}
    for number, text in enumerate(lanes.values()):
        (tmp_path / f"{number}.lines.txt").write_text(f"{text}\n30 170 60 120 90 70\n")
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), np.full((180, 320, 3), 80, np.uint8))
    status, out = report_of(capsys, tmp_path)
    assert status == 0 and "fewer than two points" not in out
    for number, words in enumerate(lanes):
        assert re.search(rf"\n  1 of 8 lanes [a-z ]*{words}[^\n]*\n +{tmp_path}/{number}\.lines\.txt\n", out), words


def test_many_mistakes_are_counted_and_the_first_shown(tmp_path, capsys):
    (tmp_path / "label_data_x.json").write_text("{\n" * 40)
    status, out = report_of(capsys, tmp_path)
    assert status == 1 and "40 images or labels cannot be used" in out and "... and 35 more" in out
    assert "label_data_x.json:1: broken JSON" in out and "label_data_x.json:9:" not in out


def test_rendered_scenes_are_sound(rendered, capsys):
    status, out = report_of(capsys, rendered)
    assert status == 0
    assert "tusimple layout, 32 labelled images" in out and "24 images to train on, 8 to validate on" in out
    assert "every image and label can be used" in out and "lanes: all fit the slots, and none is hidden" in out


def test_settings_apply(rendered, capsys):
    _, out = report_of(capsys, rendered, "model.slots=2", "data.split=all")
    assert "do not fit the 2 slots" in out and "0 images to train on, 32 to validate on" in out
    _, whole = report_of(capsys, rendered, "model.cut_top=0")
    _, half = report_of(capsys, rendered, "model.cut_top=0.5")
    assert "model.cut_top=0 hides" not in whole
    assert "label_data_" in half.split("model.cut_top=0.5 hides")[1].splitlines()[1]  # file and line of the first one


def test_labels_without_images(tmp_path, capsys):
    record = {"raw_file": "clips/1/20.jpg", "h_samples": [500, 600, 700], "lanes": [[600, 500, 400], [-2, -2, -2]]}
    (tmp_path / "test_label.json").write_text(json.dumps(record))
    status, out = report_of(capsys, tmp_path)
    assert status == 1 and "is missing" in out
    status, out = report_of(capsys, tmp_path, "--labels-only")
    assert status == 0 and "1280x720: 1" in out
    assert "1 labelled lanes have no point: the metric counts them as missed" in out


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_data_set_is_checked_by_its_own_metric(tmp_path, capsys, name):
    status, out = report_of(capsys, LAYOUTS[name](tmp_path))
    assert status == 0 and f"{tmp_path}: {name} layout" in out
    assert f"upper bound, {'TuSimple' if name == 'tusimple' else 'CULane'} metric" in out


def test_check_root_is_the_same_as_root(folder, capsys):
    assert report_of(capsys, "--check", folder) == report_of(capsys, folder)


@pytest.mark.parametrize(("words", "roots"), [
    ([], "none"), (["a", "b"], "a, b"), (["a", "--check", "b"], "a, b")], ids=["none", "two", "both ways"])
def test_one_root_is_expected(words, roots):
    with pytest.raises(ConfigError) as caught:
        check_dataset.main(words)
    assert str(caught.value) == (
        f"expected the folder of one data set, got {roots}; write: python check_dataset.py ROOT")


def test_images_of_differing_sizes_have_no_usual_one(tmp_path):
    with pytest.raises(ValueError, match="images of curvelanes have no usual size; run without --labels-only"):
        check_dataset.main([str(curvelanes(tmp_path)), "--labels-only"])


def test_folder_that_is_no_data_set(tmp_path):
    with pytest.raises(ValueError, match="no known layout"):
        check_dataset.main([str(tmp_path)])
    with pytest.raises(ValueError, match="no such folder"):
        check_dataset.main([str(tmp_path / "nowhere")])


def test_a_sheet_needs_images(tmp_path):
    with pytest.raises(ValueError, match="labels-only"):
        check_dataset.main([str(tmp_path), "--labels-only", "--sheet", "x.jpg"])


# Conversion --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", WRITABLE)
def test_a_data_set_is_written_in_another_layout(tmp_path, capsys, to):
    """And that, read again, in labelme's, in which its lanes can be corrected by hand."""
    status, out = report_of(capsys, labelme(tmp_path / "mine"), "--convert", tmp_path / "out", "--to", to)
    assert status == 0 and f"written to {tmp_path / 'out'} in the {to} layout: 2 images, 4 lanes" in out
    status, out = report_of(capsys, tmp_path / "out", "--convert", tmp_path / "back", "--to", "labelme")
    assert status == 0 and f"{to} layout, 2 labelled images" in out and "lanes per image: 2: 2" in out
    assert len(list((tmp_path / "back").rglob("*.json"))) == 2


def test_what_cannot_be_read_is_not_written(folder, tmp_path, capsys):
    status, out = report_of(capsys, folder, "--convert", tmp_path / "out")
    assert status == 1 and "in the folder layout: 6 images, 11 lanes" in out
    status, out = report_of(capsys, folder, "--convert", tmp_path / "rows", "--to", "tusimple")
    assert "6 images, 9 lanes; 2 lanes cannot be written in this layout" in out


@pytest.mark.parametrize(("out", "message"), [
    (".", "lies in"), ("sub/out", "lies in"), ("../full", "is there and not empty; name a new folder")])
def test_where_a_conversion_is_refused(folder, out, message):
    (folder.parent / "full").mkdir()
    (folder.parent / "full" / "mine.txt").write_text("")
    with pytest.raises(ValueError, match=message):
        check_dataset.main([str(folder), "--convert", str(folder / out)])


def test_a_conversion_needs_images(tmp_path):
    with pytest.raises(ValueError, match="--convert copies images; it cannot be used with --labels-only"):
        check_dataset.main([str(tmp_path), "--labels-only", "--convert", "out"])


def test_shapes_that_are_no_lanes_and_labels_of_another_size_are_reported(tmp_path, capsys):
    root = labelme(tmp_path)
    path = root / "day" / "a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"imageWidth": 640}))
    _, out = report_of(capsys, root)
    assert "drawn shapes that are no lanes: polygon: 2" in out
    assert f"1 images have another size than their label says\n      {path}" in out


@pytest.mark.slow
@pytest.mark.skipif(not LABELS.is_dir(), reason=f"{LABELS} is missing: the official labels are not on this machine")
def test_upper_bounds_of_the_official_tusimple_labels(capsys):
    _, out = report_of(capsys, LABELS, "--labels-only")
    bounds = dict(re.findall(r"upper bound, TuSimple metric, (\S+), \d+ images: accuracy ([\d.]+)", out))
    accuracy = {name: float(bound) for name, bound in bounds.items()}
    assert accuracy["test_label.json"] >= 99.9
    assert accuracy["label_data_0531.json"] >= 99.9 and accuracy["label_data_0601.json"] >= 99.9
    assert accuracy["label_data_0313.json"] >= 98.3, "537 of its lanes have no point"


@pytest.mark.skipif(not CULANE.is_dir(), reason=f"{CULANE} is missing: the real images are not on this machine")
def test_upper_bound_of_real_culane_labels(capsys):
    status, out = report_of(capsys, CULANE)
    assert status == 0 and "mf1 100.00 %" in out


def test_images_of_one_label_file_are_named(tmp_path, capsys):
    path = coco(tmp_path) / "annotations" / "train.json"
    path.write_text(path.read_text().replace('"width": 320', '"width": 640'))
    _, out = report_of(capsys, tmp_path)
    assert (f"2 images have another size than their label says\n      {path}: images/a.jpg\n"
            f"      {path}: images/b.jpg") in out
