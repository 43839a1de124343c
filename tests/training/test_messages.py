"""What a training prints: the opening lines, and the epoch line as the README documents it."""

import re
import shlex

import cv2
import numpy as np
import pytest
import torch
from paths import ROOT

import inference_fixed
import train_fixed
from config import DataConfig, TrainConfig, load_config
from evaluation.collapse_detector import COLLAPSING, LEARNING, NOT_YET, Diagnosis
from evaluation.evaluator import GroundTruth
from formats.culane_metric import CULaneMetric
from formats.sample_index import SampleIndex
from formats.tusimple_metric import TuSimpleMetric
from model import LaneNet
from training.data import load_data, with_input_scale
from training.messages import best_scores, data_words, epoch_line, opening_lines
from training.schedule import COARSE_COST

CPU = torch.device("cpu")
RECORD = {"epoch": 7, "train_loss": 0.9031, "regression": 0.137, "existence": 0.0921, "curvature": 0.4339,
          "columns": 0.63, "val_loss": 0.282, "accuracy": 0.93, "f1": 0.916, "f1@50": 0.495, "mf1": 0.25,
          "error_px": 8.5, "constant_error_px": 88.8, "diversity": 1.02, "sensitivity": 0.95,
          "images_per_second": 97.2, "seconds": 437.0}


def gt_of(metric, images=1, **sets):
    """The GroundTruth of a set, or of several, as far as messages look at it."""
    return GroundTruth(list(range(images)), SampleIndex(), [], [], None, 100.0, metric, sets)


def documented_line():
    """The README's epoch line, unwrapped."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## The epoch line")[1]
    return re.sub(r"\n +", " ", section.split("```")[1].strip())


def with_any_numbers(line):
    """A regular expression of the lines that differ from this one in their digits and in spaces alone."""
    return r"\s+".join(re.escape(re.sub(r"\d+", "0", word)).replace("0", r"\d+") for word in line.split())


def test_the_epoch_line_is_the_documented_one_but_for_its_numbers():
    line = epoch_line(RECORD, Diagnosis(LEARNING), gt_of(TuSimpleMetric()), TrainConfig(epochs=7))
    assert re.fullmatch(with_any_numbers(documented_line()), line)
    assert re.findall(r"[\d.:]*\d", line) == [
        "7", "7", "0.903", "0.137", "0.092", "0.434", "0.630", "0.282", "93.0", "1", "91.6", "8.5", "88.8", "1.02",
        "0.95", "97", "0:00"]


def test_the_epoch_line_of_a_training_is_of_the_documented_form(settings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train_fixed.main([*settings, "train.epochs=1", "train.checkpoint_dir=run"]) == 0
    opening, *hints, line, closing = capsys.readouterr().out.splitlines()
    assert all("cannot be represented" in hint for hint in hints)
    assert opening.startswith("24 images to train on, 8 to validate on; 2.2 M weights on cpu in float32")
    verdict = "|".join(map(re.escape, (LEARNING, NOT_YET, COLLAPSING)))
    before, after = documented_line().split("| learning |")
    before = with_any_numbers(before).replace(r"sensitivity\s+", r"sensitivity\s+-?")  # after so few steps
    assert re.fullmatch(rf"{before}\s+\| ({verdict})(: .+)? \|\s+{with_any_numbers(after)}", line)
    assert re.fullmatch(r"the best model has accuracy \d+\.\d % F1 \d+\.\d %( \(it counts .*\))? on validation; "
                        r"see its lanes with: python inference_fixed\.py --checkpoint run/best_model\.pth( data\.\S+)*",
                        closing)
    command = closing.partition("python inference_fixed.py ")[2]
    assert inference_fixed.main(shlex.split(command)) == 0, "it names the images that validate"
    assert "Sample 8: " in capsys.readouterr().out


@pytest.mark.parametrize("settings", [
    DataConfig(), DataConfig(root=("mine",)), DataConfig(root=("my photos", "straße"), validate="all"),
    DataConfig(root=("[1]",), split=("none",)), DataConfig(root=("a,b", "c: d", "#", "0.5"), split=("clip>=3", "0.1",
                                                           "list/val.txt", "a?b"), format=("auto", "coco", "*", ""))])
def test_the_words_for_the_images_are_read_as_they_were(settings):
    assert load_config(None, data_words(settings)).data == settings


def test_the_scores_are_those_of_the_data_sets_metric():
    line = epoch_line(RECORD, Diagnosis(COLLAPSING, "the same lanes"), gt_of(CULaneMetric()), TrainConfig())
    assert "F1@50 49.5 % mF1 25.0 % | error" in line and "accuracy" not in line
    assert "| collapsing: the same lanes |" in line


@pytest.mark.parametrize(("epoch", "seconds", "left"), [(1, 10.0, "1:30"), (5, 3000.0, "50:00"), (9, 63.0, "0:07"),
                                                        (10, 100.0, "0:00")])
def test_the_time_left_is_that_of_the_epochs_left(epoch, seconds, left):
    record = RECORD | {"epoch": epoch, "seconds": seconds}
    settings = TrainConfig(epochs=10, coarse=0)
    assert epoch_line(record, Diagnosis(LEARNING), gt_of(TuSimpleMetric()), settings).endswith(f"97 img/s, {left} left")


def test_the_time_left_knows_that_coarse_epochs_take_less():
    record = RECORD | {"epoch": 4, "seconds": 10.0}
    line = epoch_line(record, Diagnosis(LEARNING), gt_of(TuSimpleMetric()), TrainConfig(epochs=8, coarse=0.5))
    assert line.endswith(f"{int(10 / COARSE_COST)} left".replace("25", "0:25"))


# The opening lines -------------------------------------------------------------------------------------------


def opening(settings, *overrides):
    config = with_input_scale(load_config(None, [*settings, *overrides]))
    return opening_lines(LaneNet(), load_data(config, CPU), config, CPU, torch.float32).splitlines()


def test_images_and_weights_are_counted(settings):
    first, *_ = opening(settings)
    assert first == "24 images to train on, 8 to validate on; 2.2 M weights on cpu in float32"
    smaller, *_ = opening(settings, "train.input_scale=0.87")
    assert smaller == f"{first}; trained at 96x56 for an input of 96x64"


@pytest.mark.parametrize(("cut_top", "hides"), [(0.1, False), (0.6, True)])
def test_lanes_that_begin_above_the_cut_are_counted(settings, cut_top, hides):
    _, *more = opening(settings, f"model.cut_top={cut_top}")
    hints = [line for line in more if f"begin in what model.cut_top={cut_top} hides: lower it" in line]
    assert len(hints) == (2 if hides else 0), "one each for training and validation"
    for line, images in zip(hints, (24, 8) if hides else (), strict=True):
        hidden, lanes = map(int, re.match(rf"(\d+) of (\d+) lanes in {images} images ", line).groups())
        assert 0 < hidden <= lanes


def test_lanes_that_do_not_fit_the_slots_are_counted(settings):
    assert not any("do not fit the slots" in line for line in opening(settings, "model.slots=8"))
    lines = [line for line in opening(settings, "model.slots=2") if "do not fit the slots" in line]
    unassigned, lanes = map(int, re.match(r"(\d+) of (\d+) lanes in 24 images do not fit the slots, 0 more have fewer",
                                          lines[0]).groups())
    assert 0 < unassigned < lanes


def test_lanes_that_no_curve_can_be_are_counted(tmp_path):
    u_turn = "50 170 60 100 90 60 150 50 200 60 220 100 230 170\n"
    level, good = "10 120 100 120 200 121\n", "30 170 60 120 90 70\n"
    jump = " ".join(f"{215 if row == 90 else 200} {row}" for row in range(60, 178, 3)) + "\n"
    for name in "abcd":
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.full((180, 320, 3), 80, np.uint8))
        (tmp_path / f"{name}.lines.txt").write_text(u_turn + level + good + jump)
    _, few, *more = opening([f"data.root={tmp_path}", f"data.cache_dir={tmp_path / 'cache'}", "data.split=0.5",
                             "model.width=96", "model.height=64", "model.cut_top=0"])
    expected = ["4 of 8 lanes in 2 images cannot be represented: 2 run level, 2 turn back, 0 are far from every curve: "
                "left out", "2 of 8 lanes in 2 images cannot be represented to within 8 px of 1280 at every point"]
    assert more == 2 * expected, "for training and for validation"
    assert few.startswith("2 images to validate on: chance decides")


def test_without_a_cache_the_check_is_named(settings):
    assert opening(settings, "data.cache=false")[1:] == [
        "without a cache, lanes that do not fit the slots or a curve are counted by: python check_dataset.py ROOT"]


@pytest.mark.parametrize(("scores", "words"), [
    ({"accuracy": 0.93, "accuracy_with_lanes": 0.95, "f1": 0.916}, "accuracy 93.0 % F1 91.6 %"),
    ({"accuracy": 0.0, "accuracy_with_lanes": 0.0, "f1": 2 / 3},
     "accuracy 0.0 % F1 66.7 % (it counts as 0.0 %: it finds hardly a lane)"),
    ({"accuracy": 0.946, "accuracy_with_lanes": 0.946, "f1": 4 / 3}, "accuracy 94.6 % F1 over 100 %"),
    ({"accuracy": 0.0, "accuracy_with_lanes": float("nan"), "f1": 1.0}, "accuracy 0.0 % F1 100.0 %"),
])
def test_the_best_models_scores_look_no_better_than_it_is(scores, words):
    assert best_scores({"error_px": 8.5} | scores, gt_of(TuSimpleMetric())) == words
