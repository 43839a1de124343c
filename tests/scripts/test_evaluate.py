"""evaluate_fixed.py: scores are those of the files written, and a file scored again gives the same numbers."""

import json

import cv2
import numpy as np
import pytest
import torch
from layouts import coco, culane_with_categories, curvelanes
from paths import SHARED

import evaluate_fixed
from config import load_config
from formats import registry
from formats.base import DataError
from formats.registry import list_samples
from metrics.culane import culane_counts, culane_score
from metrics.tusimple import tusimple_score
from renderer.drive_writer import write_drives
from runtime.checkpoint import build_model, save_checkpoint

SMALL = ["model.width=128", "model.height=96", "train.device=cpu", "train.precision=fp32"]
DATA = SHARED / "data"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network that learned nothing: at a low threshold it reports lanes everywhere."""
    path = tmp_path_factory.mktemp("checkpoint") / "best_model.pth"
    torch.manual_seed(0)
    config = load_config(None, SMALL)
    save_checkpoint(path, config, model=build_model(config).state_dict(), scores={"steps": 10})
    return path


@pytest.fixture
def culane_root(tmp_path):
    return culane_with_categories(tmp_path / "culane")


def evaluate(tmp_path, *words) -> dict:
    path = tmp_path / "scores.json"
    evaluate_fixed.main([*words, "--json", str(path), *SMALL[2:], f"data.cache_dir={tmp_path / 'cache'}"])
    return json.loads(path.read_text())


def assert_scored_again(tmp_path, checkpoint, root, name, *words) -> dict:
    """The scores of a network, which its prediction files must give without it."""
    files = str(tmp_path / name)
    words = (f"data.root={root}", "inference.threshold=0.01", *words)
    first = evaluate(tmp_path, *words, "--checkpoint", str(checkpoint), "--predictions", files)
    again = evaluate(tmp_path, *words, "--score", files)
    assert again == {name: first[name] for name in again} and len(again) >= 5
    return first


def test_tusimple_files_scored_again(tmp_path, checkpoint, rendered, capsys):
    scores = assert_scored_again(tmp_path, checkpoint, rendered, "out/pred.json")
    assert {"accuracy", "fp", "fn", "f1", "verdict"} <= set(scores)
    lines = [json.loads(line) for line in (tmp_path / "out" / "pred.json").read_text().splitlines()]
    assert set(lines[0]) == {"raw_file", "lanes", "h_samples", "run_time"} and any(line["lanes"] for line in lines)
    labels = {}
    for line in (rendered / "label_data_val.json").read_text().splitlines():
        labels[json.loads(line)["raw_file"]] = json.loads(line)
    assert set(labels) == {line["raw_file"] for line in lines}
    sides = [(line, labels[line["raw_file"]]) for line in lines]
    pairs = [[np.array(side["lanes"]).reshape(-1, 56) * 4 for side in both] for both in sides]
    pairs = [(*both, np.array(line["h_samples"]) * 4) for both, line in zip(pairs, lines, strict=True)]
    assert tusimple_score(pairs) == pytest.approx({k: scores[k] for k in ("accuracy", "fp", "fn", "f1")}), "scaled x4"
    assert "verdict" not in capsys.readouterr().err


def test_culane_files_scored_again_and_categories(tmp_path, checkpoint, culane_root, capsys):
    scores = assert_scored_again(tmp_path, checkpoint, culane_root, "out", "data.split=test.txt")
    assert {"precision@50", "recall@50", "f1@50", "f1@75", "mf1"} <= set(scores) and "accuracy" not in scores
    assert scores["categories"]["test0_normal"]["images"] == 6
    cross = scores["categories"]["test7_cross"]
    written = [len((tmp_path / "out" / "driver" / f"{i}.lines.txt").read_text().splitlines()) for i in (6, 7)]
    assert cross == {"images": 2, "fp": sum(written)} and sum(written) > 0
    assert "test7_cross" in capsys.readouterr().out


@pytest.mark.parametrize("metric", ["tusimple", "culane"])
def test_either_metric_on_either_data(tmp_path, checkpoint, culane_root, rendered, metric):
    for number, root in enumerate((culane_root, rendered)):
        scores = assert_scored_again(tmp_path, checkpoint, root, f"{number}", "data.split=all", "--metric", metric)
        assert ("accuracy" in scores) == (metric == "tusimple")


def test_without_a_cache_the_scores_are_the_same(tmp_path, checkpoint, rendered):
    words = [f"data.root={rendered}", "inference.threshold=0.01", "--checkpoint", str(checkpoint)]
    with_cache = evaluate(tmp_path, *words)
    assert evaluate(tmp_path, *words, "data.cache=false", "data.workers=0") == pytest.approx(with_cache)


def test_labels_as_predictions_are_perfect(tmp_path, culane_root):
    scores = evaluate(tmp_path, f"data.root={culane_root}", "data.split=test.txt", "--score", str(culane_root))
    assert scores["f1@50"] == scores["f1@75"] == scores["mf1"] == 1
    assert scores["categories"]["test7_cross"] == {"images": 2, "fp": 0}


def test_the_status_says_whether_the_model_has_collapsed(tmp_path, checkpoint, culane_root, capsys):
    """The same network, which has learned nothing: 0 in its first steps, 1 where it should have learned."""
    words = [f"data.root={culane_root}", f"data.cache_dir={tmp_path / 'cache'}", "--checkpoint", str(checkpoint),
             *SMALL[2:]]
    assert evaluate_fixed.main(words) == 0
    assert "\nnot better than a constant yet: so far the lanes stay where they are" in capsys.readouterr().out
    assert evaluate_fixed.main([*words, "guard.first_steps=0"]) == 1
    assert "\ncollapsing: the lanes stay where they are" in capsys.readouterr().out


def test_the_requested_metric_keeps_the_canvas_of_the_data_set(tmp_path):
    """CurveLanes' benchmark draws on 224x224, whether its metric is named or not."""
    samples = list_samples(curvelanes(tmp_path))
    own = registry.DATA_SETS["curvelanes"].metric
    assert evaluate_fixed.chosen_metric("auto", samples) is evaluate_fixed.chosen_metric("culane", samples) is own
    assert evaluate_fixed.chosen_metric("tusimple", samples) is registry.METRICS["tusimple"]


def test_missing_predictions(tmp_path, culane_root, rendered, capsys):
    with pytest.raises(DataError, match=r"none of the 8 predictions is here; expected files such as .*\.lines\.txt"):
        evaluate(tmp_path, f"data.root={culane_root}", "data.split=all", "--score", str(tmp_path / "nowhere"))
    (tmp_path / "some" / "driver").mkdir(parents=True)
    (tmp_path / "some" / "driver" / "0.lines.txt").write_text("")
    evaluate(tmp_path, f"data.root={culane_root}", "data.split=all", "--score", str(tmp_path / "some"))
    assert "7 of 8 images have no file" in capsys.readouterr().err
    (tmp_path / "pred.json").write_text("\n")
    with pytest.raises(DataError, match="no prediction for 8 of 8 images, such as clips/"):
        evaluate(tmp_path, f"data.root={rendered}", "--score", str(tmp_path / "pred.json"))
    (tmp_path / "pred.json").write_text('{"raw_file": "/home/me/1.jpg", "lanes": []}\n')
    with pytest.raises(DataError, match=r"such as clips/[^ ]*, but one for '/home/me/1\.jpg'; choose"):
        evaluate(tmp_path, f"data.root={rendered}", "--score", str(tmp_path / "pred.json"))


@pytest.mark.parametrize(("line", "words"), [
    ('{"raw_file": "RAW", "lanes": [[1, 2]], "run_time": 0}', "lane 1 has 2 points; the label has 56 rows"),
    ('{"raw_file": "RAW", "lanes": 1}', "not a list of at most"),
    ('{"raw_file": "RAW", "lanes": [], "run_time": "fast"}', "run_time contains 'fast'"),
    ('{"raw_file": "RAW", "lanes": []}\n{"raw_file": "RAW", "lanes": []}', "a second prediction"),
    ('{"raw_file"', "broken JSON"),
])
def test_broken_tusimple_predictions(tmp_path, rendered, line, words):
    name = json.loads((rendered / "label_data_val.json").read_text().splitlines()[0])["raw_file"]
    (tmp_path / "pred.json").write_text(line.replace("RAW", name))
    with pytest.raises(DataError, match=rf"pred\.json:[12].*{words}"):
        evaluate(tmp_path, f"data.root={rendered}", "--score", str(tmp_path / "pred.json"))


def test_slow_predictions_count_as_official(tmp_path, rendered):
    lines = [json.loads(line) for line in (rendered / "label_data_val.json").read_text().splitlines()]
    text = "\n".join(json.dumps(line | {"run_time": 10 if i else 201}) for i, line in enumerate(lines))
    (tmp_path / "pred.json").write_text(text)
    scores = evaluate(tmp_path, f"data.root={rendered}", "--score", str(tmp_path / "pred.json"))
    assert scores["accuracy"] < 1 and scores["fn"] == pytest.approx(1 / len(lines), abs=0.1)


def test_no_image_to_validate_on(tmp_path):
    with pytest.raises(ValueError, match="leaves no image to validate on"):
        evaluate(tmp_path, f"data.root={one_clip(tmp_path)}", "data.split=clip>=100", "--score", ".")


def one_clip(tmp_path):
    """A data set of one image, in clip 1."""
    path = tmp_path / "few" / "clips" / "1" / "20.jpg"
    path.parent.mkdir(parents=True)
    cv2.imwrite(str(path), np.zeros((90, 160, 3), np.uint8))
    line = {"raw_file": "clips/1/20.jpg", "lanes": [], "h_samples": [10]}
    (tmp_path / "few" / "label_data_1.json").write_text(json.dumps(line))
    return tmp_path / "few"


@pytest.mark.skipif(not (DATA / "culane").is_dir(), reason=f"{DATA / 'culane'} is not on this machine")
def test_real_culane_images(tmp_path, checkpoint):
    root = DATA / "culane"
    scores = assert_scored_again(tmp_path, checkpoint, root, "out", "data.split=all")
    counts = []
    for sample in list_samples(root):  # as the official evaluator: file against file
        files = (tmp_path / "out" / sample.name, root / sample.name)
        counts.append(culane_counts(*([np.float32(line.split()).reshape(-1, 2) for line in
                                       file.with_suffix(".lines.txt").read_text().splitlines()] for file in files)))
    assert culane_score(np.array(counts))["mf1"] == scores["mf1"]


@pytest.mark.skipif(not (DATA / "tusimple").is_dir(), reason=f"{DATA / 'tusimple'} is not on this machine")
def test_real_tusimple_images(tmp_path, checkpoint):
    scores = assert_scored_again(tmp_path, checkpoint, DATA / "tusimple", "pred.json", "data.split=clip>=42000")
    lines = [json.loads(line) for line in (tmp_path / "pred.json").read_text().splitlines()]
    labels = map(json.loads, (DATA / "tusimple" / "label_data_0313.json").read_text().splitlines())
    labels = {line["raw_file"]: line for line in labels}
    gt = [labels[line["raw_file"]] for line in lines]
    pairs = [(line["lanes"], label["lanes"], label["h_samples"]) for line, label in zip(lines, gt, strict=True)]
    assert len(lines) == 32
    assert tusimple_score(pairs) == {name: scores[name] for name in ("accuracy", "fp", "fn", "f1")}


# Drives ------------------------------------------------------------------------------------------------------


def test_drives_are_scored_before_and_after_tracking(tmp_path, checkpoint, capsys):
    root = tmp_path / "drives"
    write_drives(root, 2, 4, seed=1, width=160, height=90, workers=1)
    scores = evaluate(tmp_path, f"data.root={root}", "inference.threshold=0.01", "--checkpoint", str(checkpoint))
    table = scores["drives"]
    assert list(table) == ["each frame alone", "tracked", "labels"]
    assert table["each frame alone"]["f1"] == scores["f1"]  # by the same lanes
    assert table["tracked"]["jitter_px"] < table["each frame alone"]["jitter_px"]
    assert table["tracked"]["ms"] > 0 and list(table["labels"]) == ["jitter_px"]
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in ("switches", "jitter_px", "mota")) and "8 images" in out


def test_other_data_have_no_drives(tmp_path, checkpoint, rendered):
    assert "drives" not in evaluate(tmp_path, f"data.root={rendered}", "--checkpoint", str(checkpoint))


@pytest.mark.parametrize("link", [False, True])
def test_predictions_never_replace_labels(tmp_path, checkpoint, culane_root, rendered, link):
    for root, path in ((culane_root, culane_root), (rendered, rendered / "label_data_val.json")):
        before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
        if link:
            (tmp_path / path.name).with_suffix(".link").symlink_to(path)
            path = (tmp_path / path.name).with_suffix(".link")
        with pytest.raises(ValueError, match=r"is read by this command, and would be replaced; write to another place"):
            evaluate(tmp_path, f"data.root={root}", "--checkpoint", str(checkpoint), "--predictions", str(path))
        assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before


def test_a_report_has_the_settings_that_the_network_has_learned_with(tmp_path, checkpoint, culane_root, monkeypatch):
    seen = []
    monkeypatch.setattr(evaluate_fixed, "write_report", lambda folder, part, settings, name: seen.append(settings))
    evaluate(tmp_path, f"data.root={culane_root}", "data.split=all", "--checkpoint", str(checkpoint), "--report",
             str(tmp_path / "report"), "train.epochs=77", "augment.flip=0.1", "inference.batch_size=3")
    settings, = seen
    assert settings["train"]["epochs"] == load_config(None).train.epochs and settings["augment"]["flip"] == 0.5
    assert settings["inference"]["batch_size"] == 3 and settings["data"]["root"] == [str(culane_root)]
    assert settings["model"]["width"] == 128


def test_two_images_that_would_have_one_prediction_file_are_named(tmp_path, checkpoint):
    root = coco(tmp_path / "set", names=("a.jpg", "a.png"))
    with pytest.raises(ValueError, match=r"a\.jpg and images/a\.png would have one prediction file; rename one of"):
        evaluate(tmp_path, f"data.root={root}", "data.split=all", "--checkpoint", str(checkpoint), "--predictions",
                 str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--score", "--checkpoint"])
def test_scores_never_replace_labels(checkpoint, rendered, option):
    label = rendered / "label_data_val.json"
    before = label.read_bytes()
    with pytest.raises(ValueError, match=r"label_data_val\.json: is read by this command, and would be replaced"):
        evaluate_fixed.main([f"data.root={rendered}", option, str(label if option == "--score" else checkpoint),
                             "--json", str(label), *SMALL[2:], "data.cache=false"])
    assert label.read_bytes() == before
