"""check_dataset.py: labels that are alike, in a second layout or without their image, and what is refused at once."""

import re

import cv2
import numpy as np
import pytest
from layouts import LAYOUTS

import check_dataset


def report_of(capsys, *words):
    """The exit status and what is printed."""
    status = check_dataset.main([*map(str, words)])
    return status, capsys.readouterr().out


def alike(root, count=4, move=0):
    """Images with the same two lanes each, or moved to the right by so many px an image."""
    root.mkdir()
    for i in range(count):
        cv2.imwrite(str(root / f"{i}.png"), np.full((180, 320, 3), 10 * i, np.uint8))
        (root / f"{i}.lines.txt").write_text(f"{30 + move * i} 170 {60 + move * i} 70\n200 170 180 70\n")
    return root


def test_labels_that_are_the_same_for_every_image_are_told(tmp_path, capsys):
    status, out = report_of(capsys, alike(tmp_path / "same"))
    assert status == 0 and "3 of 4 images have the very label of another one" in out
    assert "same for every image are 0.0 px off" in out and "nearly the same for every image: a model learns one" in out
    assert "3.lines.txt: that of 0.png" in out
    status, out = report_of(capsys, alike(tmp_path / "moved", move=10))
    # of 0, 10, 20, 30 px the median is 15: 10 px off in the mean, for one lane of two; 4 px of 1280 for each of 320
    assert "same for every image are 20.0 px off" in out and "nearly the same" not in out and "very label" not in out


def test_a_lane_that_is_alone_in_its_slot_says_nothing_of_the_spread(tmp_path, capsys):
    root = alike(tmp_path / "mine", 2)
    for i, x in enumerate((30, 290)):
        (root / f"{i}.lines.txt").write_text(f"{x} 170 {(x + 160) // 2} 70\n")
    assert "same for every image" not in report_of(capsys, root)[1]


def test_a_sheet_replaces_no_image(tmp_path):
    root = alike(tmp_path / "mine")
    before = (root / "0.png").read_bytes()
    with pytest.raises(ValueError, match=r"0\.png: is read by this command, and would be replaced"):
        check_dataset.main([str(root), "--sheet", str(root / "0.png")])
    assert (root / "0.png").read_bytes() == before


@pytest.mark.parametrize(("words", "message"), [
    (["data.split=bla"], "data.split is 'bla'"), (["--to", "culane"], "--to is the layout of --convert"),
    (["--convert", "full"], "full: is there and not empty"), (["--convert", "mine/out"], "lies in mine")])
def test_what_cannot_be_is_refused_before_an_image_is_read(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    alike(tmp_path / "mine")
    alike(tmp_path / "full")
    monkeypatch.setattr(check_dataset, "check", None)
    with pytest.raises(ValueError, match=message):
        check_dataset.main(["mine", *words])


def test_labels_in_a_second_layout_are_told(tmp_path, capsys):
    LAYOUTS["culane"](tmp_path)
    assert "more images" not in report_of(capsys, tmp_path)[1]
    alike(tmp_path / "own", 3)
    assert "3 more images here have labels in the folder layout, which are not read: give them" in report_of(
        capsys, tmp_path)[1]


def test_every_missing_image_is_named_with_its_label(tmp_path, capsys):
    root = alike(tmp_path / "mine")
    for i in (1, 2):
        (root / f"{i}.png").unlink()
    status, out = report_of(capsys, root)
    assert status == 1 and "1.lines.txt: no image" in out
    assert re.search(r"2\.lines\.txt: the image .*2\.\w+ is missing", out)
