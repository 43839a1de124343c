"""The benchmark that guesses where labels begin and end: it finds what a lane's shape says, and nothing else."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is in requirements-dev.txt")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import label_guess

from formats.base import Label
from formats.scores import tusimple_scores
from metrics.tusimple import TUSIMPLE_ROWS

ROWS = np.array(TUSIMPLE_ROWS, float)
SIZE_PX = (1280, 720)
VANISHING_Y = 200


def label_of(*lanes):
    """A label of straight lines from (640, 200), each (x at the bottom edge, first row, last row)."""
    x = np.array([640 + (near - 640) * (ROWS - VANISHING_Y) / (720 - VANISHING_Y) for near, _, _ in lanes])
    there = np.array([(first <= ROWS) & (last >= ROWS) for _, first, last in lanes]) & (x >= 0) & (x < 1280)
    x = np.where(there, x, -2.0)
    return Label([np.stack((lane, ROWS), 1)[lane >= 0].astype(np.float32) for lane in x], ROWS, x)


def known(count, begins, seed=0):
    """The lanes of images with a line on the left and one on the right, which begin in a row that `begins` chooses."""
    generator = np.random.default_rng(seed)
    near = generator.uniform((100, 700), (580, 1200), (count, 2))
    return [label_guess.lanes_of(label_of(*((x, begins(x, generator), 700) for x in both))) for both in near]


def accuracy(labels, begins, ends):
    lanes = [label_guess.lanes_of(of_image) for of_image in labels]
    found = label_guess.predicted(labels, lanes, begins, ends)
    return tusimple_scores(found, labels, [SIZE_PX] * len(labels))["accuracy"]


def test_perfect_curves_with_their_own_ends_are_right_everywhere():
    labels = [label_of((300, 250, 700), (1000, 270, 600)), label_of((-400, 240, 710)), label_of((100, 300, 710))]
    assert accuracy(labels, label_guess.as_labelled, label_guess.as_labelled) == 1


def test_a_lane_of_hardly_any_points_is_left_out_and_an_image_of_none_stays():
    [lane] = label_guess.lanes_of(label_of((300, 250, 260), (1000, 270, 600)))
    assert (lane.begins, lane.ends) == (270, 600)
    assert label_guess.lanes_of(label_of((300, 720, 0))) == []
    [found] = label_guess.predicted([label_of((300, 720, 0))], [[]], label_guess.as_labelled, label_guess.as_labelled)
    assert found.shape == (0, 56)


def test_a_lane_knows_the_row_in_which_it_leaves_the_image():
    left, right = label_guess.lanes_of(label_of((-400, 250, 350), (1000, 250, 350)))
    # x = 640 - 1040 (y - 200) / 520 is 0 in row 520, which is inside the image still
    assert left.leaves == 520 and right.leaves == 710


def test_what_the_shape_says_is_guessed():
    def by_place(x, generator):
        return 250 if x < 640 else 330

    labels = [label_of((200, 250, 700), (1100, 330, 700)), label_of((500, 250, 700), (800, 330, 700))]
    guess, middle = (make(known(100, by_place)) for make in (label_guess.learned, label_guess.middle))
    assert accuracy(labels, guess, label_guess.as_labelled) == 1
    assert accuracy(labels, middle, label_guess.as_labelled) < 0.95
    assert accuracy(labels, label_guess.as_labelled, guess) == 1  # lanes stop a row before they leave the image


def test_what_only_the_annotator_knows_is_not_guessed():
    def at_random(x, generator):
        return generator.choice((240, 300, 360))

    generator = np.random.default_rng(1)
    labels = [label_of((x, at_random(x, generator), 700)) for x in generator.uniform(100, 1200, 60)]
    guessed = accuracy(labels, label_guess.learned(known(150, at_random)), label_guess.as_labelled)
    assert guessed < 0.95  # 4 rows of 56 off on average for who always says 300


def write_labels(folder, name, labels, drive):
    """A label file of TuSimple's."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"raw_file": f"clips/{drive}/{i}/20.jpg", "h_samples": ROWS.astype(int).tolist(),
                         "lanes": of_image.x_at_rows.tolist()}) for i, of_image in enumerate(labels)]
    (folder / name).write_text("\n".join(lines) + "\n")


def test_the_table_counts_other_labels_of_the_same_drive_alone(tmp_path, capsys):
    labels = [label_of((200 + 5 * i, 250, 700), (1100 - 5 * i, 330, 700)) for i in range(60)]
    root, others = tmp_path / "root", tmp_path / "labels"
    write_labels(root, "label_data_a.json", labels[:30], "a")
    for i in range(30):
        image = root / "clips" / "a" / str(i) / "20.jpg"
        image.parent.mkdir(parents=True)
        cv2.imwrite(str(image), np.zeros((72, 128, 3), np.uint8))
    write_labels(others, "label_data_a.json", labels, "a")  # the 10 that validate are among them, and are left out
    write_labels(others, "label_data_b.json", labels, "b")
    assert label_guess.main([str(others), f"data.root={root}", "data.split=clip>=20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10 images" and lines[4] == "| begin and end as labelled | 100.0 % | 100.0 % |"
    assert len(lines) == 13 and "(20)" in lines[5] and "(50)" in lines[9]
    assert lines[11].endswith("| 100.0 % | 100.0 % |")


def test_a_folder_without_other_labels_of_the_drive_is_refused(tmp_path):
    write_labels(tmp_path / "labels", "label_data_b.json", [label_of((200, 250, 700))], "b")
    image = label_guess.Entry(tmp_path, tmp_path, "clips/a/1/20.jpg", ())
    with pytest.raises(ValueError, match="no other label of clips/a"):
        label_guess.others_of_the_drives(tmp_path / "labels", [image])
    with pytest.raises(ValueError, match="no such folder; give one with"):
        label_guess.main([str(tmp_path / "none")])


def test_labels_that_nothing_can_be_learned_from_are_refused(tmp_path):
    write_labels(tmp_path, "label_data_b.json", [label_of((200, 720, 0))] * 9, "b")
    entries = list(label_guess.scan(tmp_path, "tusimple", images=False))
    with pytest.raises(ValueError, match="those: 0 with a lane of 3 points"):
        label_guess.lanes_to_learn_from("those", entries)


def test_labels_without_rows_are_refused(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), np.zeros((72, 128, 3), np.uint8))
        (tmp_path / f"{i}.lines.txt").write_text("10 70 40 20\n")
    with pytest.raises(ValueError, match="not in TuSimple's layout"):
        label_guess.main([str(tmp_path), f"data.root={tmp_path}"])
