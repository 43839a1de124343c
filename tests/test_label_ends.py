"""The benchmark on where labels begin and end: what the model is told of ends or of curves leaves the others alone."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import label_ends

import evaluate_fixed
from formats.base import Label
from formats.scores import tusimple_scores
from geometry.bezier import canonical
from metrics.tusimple import TUSIMPLE_ROWS
from model import LanePrediction

ROWS = np.array(TUSIMPLE_ROWS, float)
SIZE_PX = (1280, 720)


def straight(near_px, y_far, y_near):
    """Control points (P, 2) of a line from (640, 200) towards (near_px, 720), between two rows."""
    y = torch.tensor([y_far, y_near]) / 720
    x = (640 + (near_px - 640) * (y * 720 - 200) / 520) / 1280
    return canonical(torch.linspace(0, 1, 6) * (x[1] - x[0]) + x[0], y[0], y[1])


def label_of(*lanes):
    """A label of such lines, each (near_px, first row, last row)."""
    x = np.array([np.where((first <= ROWS) & (last >= ROWS), 640 + (near - 640) * (ROWS - 200) / 520, -2.0)
                  for near, first, last in lanes]).reshape(len(lanes), len(ROWS))
    points = [np.stack((lane, ROWS), 1)[lane >= 0].astype(np.float32) for lane in x]
    return Label(points, ROWS, x)


def accuracies(said, label):
    """Accuracy for each line of the benchmark's table, where the model says (near_px, first row, last row)."""
    points = torch.stack([straight(*lane) for lane in said] + [torch.zeros(6, 2)] * (6 - len(said)))[None]
    logits = torch.tensor([[9.0] * len(said) + [-9.0] * (6 - len(said))])
    truth = SimpleNamespace(labels=[label], sizes_px=[SIZE_PX])
    [image] = label_ends.images_of(LanePrediction(points, logits), truth, 0.5, 0.0)
    return {name: tusimple_scores([label_ends.lanes_in(told, image)], [label], [SIZE_PX])["accuracy"]
            for name, told in label_ends.TOLD.items()}


def test_who_is_told_the_rows_of_the_label_is_right_everywhere():
    told = accuracies([(300, 300, 650), (1000, 300, 650)], label_of((300, 250, 700), (1000, 270, 600)))
    nothing, middle, image, own, both, curves, everything = told.values()
    assert nothing == pytest.approx(1 - (5 + 5 + 3 + 5) / 2 / 56)
    assert image == middle == pytest.approx(1 - (1 + 5 + 1 + 5) / 2 / 56)  # both from row 260 on
    assert own == pytest.approx(1 - (5 + 5) / 2 / 56)
    assert both == everything == 1
    assert curves == nothing  # they were perfect already


def test_a_curve_that_is_off_stays_off_until_the_curves_are_told():
    told = accuracies([(300, 250, 700)], label_of((420, 250, 700)))
    curves = told.pop("every x of the labels, but not where they begin and end")
    assert told.pop("all of that") == 1
    assert len({round(value, 6) for value in told.values()}) == 1 and told["nothing"] < 0.8
    assert curves == 1


def test_who_is_told_the_curves_keeps_the_ends():
    told = accuracies([(300, 300, 650)], label_of((420, 250, 700)))
    assert told["every x of the labels, but not where they begin and end"] == pytest.approx(1 - (5 + 5) / 56)


def test_the_middle_row_is_that_of_all_images():
    labels = [label_of((300, 250, 700)), label_of((300, 290, 700)), label_of((300, 330, 700))]
    points = straight(300, 400, 700).repeat(3, 6, 1, 1)
    logits = torch.tensor([[9.0] + [-9.0] * 5] * 3)
    truth = SimpleNamespace(labels=labels, sizes_px=[SIZE_PX] * 3)
    images = label_ends.images_of(LanePrediction(points, logits), truth, 0.5, 0.0)
    x = [label_ends.lanes_in(label_ends.from_middle_row, image) for image in images]
    assert [ROWS[(lanes[0] >= 0).argmax()] for lanes in x] == [290, 290, 290]


def test_each_lane_gets_the_ends_of_the_label_that_it_fits():
    told = accuracies([(1000, 300, 700), (300, 300, 700)], label_of((300, 250, 700), (1000, 400, 700)))
    assert told["the row in which each label begins"] == 1


def test_rows_that_fall_are_refused():
    with pytest.raises(ValueError, match="do not rise"):
        label_ends.refuse_falling_rows(ROWS[::-1])


def test_the_first_line_is_what_evaluation_says(checkpoint, rendered, tmp_path, capsys):
    words = ["--checkpoint", str(checkpoint), f"data.root={rendered}", f"data.cache_dir={tmp_path / 'cache'}",
             "train.device=cpu", "train.precision=fp32"]
    evaluate_fixed.main([*words, "--json", str(tmp_path / "scores.json")])
    wanted = json.loads((tmp_path / "scores.json").read_text())
    capsys.readouterr()
    assert label_ends.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == f"| nothing | {100 * wanted['accuracy']:.1f} % | {100 * wanted['f1']:.1f} % |"
    assert len(lines) == 2 + len(label_ends.TOLD)
