"""Training on several data sets: each validates by its own metric, in the epoch line, the log, the files and after."""

import json
import re

import cv2
import pytest
from layouts import culane_with_categories, curvelanes
from trainings import SHORT, log

import evaluate_fixed
import train_fixed
from runtime.checkpoint import load_checkpoint
from training import epoch_pictures
from training.epoch_pictures import flat

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def roots(rendered, tmp_path_factory):
    """Rendered scenes in TuSimple's layout, noise in CULane's, and CurveLanes' two images."""
    folder = tmp_path_factory.mktemp("roots")
    return {"tusimple": rendered, "culane": culane_with_categories(folder / "culane"),
            "curvelanes": curvelanes(folder / "curvelanes")}


def words_of(roots, folder, *words):
    return [*SHORT, f"data.root=[{', '.join(map(str, roots.values()))}]", f"data.cache_dir={folder / 'cache'}", *words]


@pytest.fixture(scope="module")
def mixed(roots, tmp_path_factory):
    """The folder of a training of two epochs in which all three validate; with the lines that it printed."""
    folder = tmp_path_factory.mktemp("mixed")
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *texts, **_: lines.extend("".join(map(str, texts)).splitlines()))
        status = train_fixed.main(words_of(roots, folder, "data.validate=all", "data.weights=[0.5, 0.25, 0.25]",
                                           "train.epochs=2", f"train.checkpoint_dir={folder}"))
    assert status == 0
    return folder, lines


def test_the_opening_line_says_how_many_validate_of_each_set(mixed):
    _, lines = mixed
    assert lines[0].startswith("29 images to train on, 13 to validate on (tusimple 8, culane 4, curvelanes 1); ")


def test_the_epoch_line_has_the_figures_of_each_set(mixed):
    folder, lines = mixed
    epochs = [line for line in lines if line.startswith("epoch")]
    assert len(epochs) == 2
    for line, record in zip(epochs, log(folder), strict=True):
        tusimple, culane, curvelanes_ = (record["sets"][name] for name in ("tusimple", "culane", "curvelanes"))
        percent = "{:.1f} %".format
        assert (f"tusimple accuracy {percent(100 * tusimple['accuracy'])} F1 {percent(100 * tusimple['f1'])} | "
                f"culane F1@50 {percent(100 * culane['f1@50'])} | curvelanes F1@50 "
                f"{percent(100 * curvelanes_['f1@50'])} | mean {percent(100 * record['mean_score'])} | error ") in line
        assert "mF1" not in line


def test_the_log_has_the_figures_of_all_and_of_each_set(mixed):
    folder, _ = mixed
    for record in log(folder):
        assert not {"accuracy", "f1", "f1@50", "mf1"} & record.keys(), "there is no such figure of all"
        assert {"val_loss", "error_px", "diversity", "threshold", "verdict", "mean_score", "sets"} <= record.keys()
        sets = record["sets"]
        assert [(name, sets[name]["images"]) for name in sets] == [("tusimple", 8), ("culane", 4), ("curvelanes", 1)]
        assert {"accuracy", "f1", "fp", "fn", "val_loss", "error_px", "verdict"} <= sets["tusimple"].keys()
        assert {"f1@50", "f1@75", "mf1", "constant_error_px"} <= sets["culane"].keys() and "f1" not in sets["culane"]
        scores = [min(sets["tusimple"]["f1"], sets["tusimple"]["accuracy_with_lanes"]), sets["culane"]["f1@50"],
                  sets["curvelanes"]["f1@50"]]
        assert record["mean_score"] == pytest.approx(sum(scores) / 3)


def test_the_checkpoint_and_the_closing_line_have_the_same(mixed):
    folder, lines = mixed
    scores = load_checkpoint(folder / "best_model.pth")["scores"]
    logged = json.loads((folder / "log.jsonl").read_text().splitlines()[scores["epoch"] - 1])
    assert scores["sets"].keys() == logged["sets"].keys() and scores["mean_score"] == logged["mean_score"]
    assert scores["sets"]["culane"]["f1@50"] == logged["sets"]["culane"]["f1@50"]
    assert re.match(r"the best model has tusimple accuracy [\d.]+ % F1 [\d.]+ %( \(it counts .*\))?, "
                    r"culane F1@50 [\d.]+ % mF1 [\d.]+ %, curvelanes F1@50 [\d.]+ % mF1 [\d.]+ %, mean [\d.]+ % on "
                    r"validation; see its lanes with", lines[-1])


def test_an_interrupted_run_knows_the_best_mean_so_far(mixed):
    folder, _ = mixed
    best = load_checkpoint(folder / "last.pth")["progress"]["best"]
    assert best[0] == pytest.approx(max(record["mean_score"] for record in log(folder)), abs=0.1)
    assert all(type(value) is float for value in best)


def test_the_curve_shows_each_set_and_their_mean(mixed):
    folder, _ = mixed
    assert cv2.imread(str(folder / "training_curve.png")).shape == (840, 1520, 3)
    assert cv2.imread(str(folder / "validation.jpg")) is not None
    records = log(folder)
    curves = epoch_pictures._curves_of_sets(records[-1]["sets"])
    names = [series.name for series in epoch_pictures._series(list(map(flat, records)), curves)]
    assert [re.sub(r" [\d.e+-]+$", "", name) for name in names] == [
        "tusimple F1", "culane F1@50", "curvelanes F1@50", "mean"]
    assert len({curve.color for curve in curves}) == 4


def test_scalars_of_a_set_stand_under_its_name():
    record = {"epoch": 2, "val_loss": 1.0, "sets": {"culane": {"f1@50": 0.5, "verdict": "learning"}}}
    assert flat(record) == {"epoch": 2, "val_loss": 1.0, "culane/f1@50": 0.5, "culane/verdict": "learning"}
    assert flat({"epoch": 1, "f1": 0.5}) == {"epoch": 1, "f1": 0.5}


# Evaluation --------------------------------------------------------------------------------------------------


def evaluate(folder, words, *more):
    path = folder / "scores.json"
    evaluate_fixed.main([*words, *more, "--json", str(path)])
    return json.loads(path.read_text())


def test_evaluation_has_a_table_for_each_set_and_the_figures_of_the_training(mixed, roots, tmp_path, capsys):
    folder, _ = mixed
    words = words_of(roots, folder, "--checkpoint", str(folder / "best_model.pth"), "data.validate=all")
    scores = evaluate(tmp_path, words, "--predictions", "out", "--report", "report")
    out = capsys.readouterr().out
    for line in ("tusimple: 8 images of 320x180, TuSimple metric", "culane: 4 images of 328x118, CULane metric",
                 "curvelanes: 1 images of 256x144, CULane metric", "all 13 images of 3 sets: mean score "):
        assert f"\n{line}" in f"\n{out}"
    best = load_checkpoint(folder / "best_model.pth")["scores"]
    assert scores["mean_score"] == pytest.approx(best["mean_score"])
    assert scores["sets"]["culane"]["f1@50"] == pytest.approx(best["sets"]["culane"]["f1@50"])
    assert scores["sets"]["culane"]["categories"]["test7_cross"]["images"] == 2
    assert {"verdict", "error_px", "val_loss"} <= scores.keys() and "f1" not in scores

    for name, root in roots.items():
        alone = evaluate(tmp_path, [*words[:-1], f"data.root={root}"])
        both = [{key: value for key, value in figures.items() if isinstance(value, float)}
                for figures in (alone, scores["sets"][name])]
        assert both[0] == pytest.approx(both[1], rel=1e-4, abs=1e-4) and len(both[0]) > 10
        assert alone["verdict"] == scores["sets"][name]["verdict"]

    again = evaluate(tmp_path, words, "--score", "out")
    assert list(again) == ["sets"]
    for name, figures in again["sets"].items():
        assert figures == {key: scores["sets"][name][key] for key in figures} and len(figures) >= 5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"tusimple.json", "culane", "curvelanes"}
    page = (tmp_path / "report" / "curvelanes" / "report.html").read_text(encoding="utf-8")
    assert "on 1 images of curvelanes, of " in page and str(roots["curvelanes"]) in page
    assert (tmp_path / "report" / "tusimple" / "report.html").is_file()


def test_a_metric_that_is_named_scores_all_sets(mixed, roots, tmp_path):
    folder, _ = mixed
    words = words_of(roots, folder, "--checkpoint", str(folder / "best_model.pth"), "data.validate=all")
    sets = evaluate(tmp_path, words, "--metric", "tusimple")["sets"]
    assert all("accuracy" in figures and "f1@50" not in figures for figures in sets.values())


def test_a_collapse_on_one_set_ends_the_evaluation_with_status_1(mixed, roots, capsys):
    folder, _ = mixed
    words = words_of(roots, folder, "--checkpoint", str(folder / "best_model.pth"), "data.validate=all")
    assert evaluate_fixed.main(words) == 0, "in its first steps"
    assert evaluate_fixed.main([*words, "guard.first_steps=0", "guard.min_sensitivity=1"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("collapsing: ")
