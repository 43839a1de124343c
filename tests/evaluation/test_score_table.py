"""Scores as people and programs read them."""

import json
import math

import pytest

from evaluation.score_table import print_table, sizes_text, with_unit, write_json
from formats.registry import METRICS


@pytest.mark.parametrize(("name", "value", "text"), [
    ("accuracy", 0.9512, "95.12 %"), ("f1@50", 0.5, "50.00 %"), ("mf1", 1.0, "100.00 %"),
    ("error_px", 12.345, "12.35 px"), ("diversity", 0.1234, "0.123"), ("val_loss", 1.0, "1.000")])
def test_each_score_has_its_unit(name, value, text):
    assert with_unit(name, value).strip() == text


def test_table_has_a_row_for_each_score_and_each_category(capsys):
    print_table({"f1@50": 0.5, "error_px": 3.0}, {"test0_normal": {"images": 2, "f1@50": 0.25, "mf1": 0.125},
                                                  "test7_cross": {"images": 1, "fp": 4}},
                [(1640, 590)] * 3, METRICS["culane"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 images of 1640x590, CULane metric"
    assert [line.split() for line in lines[1:]] == [
        ["f1@50", "50.00", "%"], ["error_px", "3.00", "px"],
        ["test0_normal", "2", "images", "f1@50", "25.00", "%", "mf1", "12.50", "%"],
        ["test7_cross", "1", "images", "fp", "4"]]


def test_the_first_four_sizes_are_named():
    assert sizes_text([(3, 1), (2, 1), (2, 1)]) == "2x1, 3x1"
    assert sizes_text([(n, 1) for n in range(5)]) == "0x1, 1x1, 2x1, 3x1 ..."


def test_what_is_not_finite_is_null_in_json(tmp_path):
    write_json(tmp_path / "out" / "scores.json", {"a": 0.5, "b": math.nan, "c": math.inf, "verdict": "learning"})
    text = (tmp_path / "out" / "scores.json").read_text()
    assert json.loads(text) == {"a": 0.5, "b": None, "c": None, "verdict": "learning"} and "NaN" not in text
    write_json(None, {"a": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
