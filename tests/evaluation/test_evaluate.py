"""Scores are those of the files written, on both benchmarks, and a file scored again gives the same numbers."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from paths import SHARED

import evaluate_fixed
import train_fixed
from config import load_config
from formats import scores, submission
from formats.base import DataError, Label, Sample
from formats.registry import list_samples
from metrics.culane import culane_score
from metrics.tusimple import tusimple_score
from runtime.checkpoint import build_model, save_checkpoint

SMALL = ["model.width=128", "model.height=96", "train.device=cpu", "train.precision=fp32"]
DATA = SHARED / "data"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network that learned nothing: at a low threshold it sees lanes everywhere."""
    path = tmp_path_factory.mktemp("checkpoint") / "best_model.pth"
    torch.manual_seed(0)
    config = load_config(None, SMALL)
    save_checkpoint(path, config, model=build_model(config).state_dict())
    return path


@pytest.fixture
def culane_root(tmp_path):
    """Eight images in CULane's layout, two of them crossroads without lanes, with lists of categories."""
    root, rng = tmp_path / "culane", np.random.default_rng(0)
    names = [f"driver/{i}.jpg" for i in range(8)]
    (root / "driver").mkdir(parents=True)
    (root / "list" / "test_split").mkdir(parents=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(root / name), rng.integers(0, 255, (118, 328, 3), np.uint8))
        rows = np.arange(118, 50, -4)
        lanes = [] if i >= 6 else [np.stack((x0 + (170 - x0) * (118 - rows) / 90, rows), 1) for x0 in (-20, 100, 230)]
        (root / name).with_suffix(".lines.txt").write_text(
            "".join(" ".join(f"{v:.4f}" for v in lane.ravel()) + "\n" for lane in lanes))
    for list_name, part in (("train.txt", names[:4]), ("val.txt", names[4:]), ("test.txt", names),
                            ("test_split/test0_normal.txt", names[:6]), ("test_split/test7_cross.txt", names[6:])):
        (root / "list" / list_name).write_text("".join(f"/{name}\n" for name in part))
    return root


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
    assert again == {name: first[name] for name in again}
    return first


def test_tusimple_files_scored_again(tmp_path, checkpoint, rendered, capsys):
    found = assert_scored_again(tmp_path, checkpoint, rendered, "out/pred.json")
    assert {"accuracy", "fp", "fn", "f1", "verdict"} <= set(found)
    lines = [json.loads(line) for line in (tmp_path / "out" / "pred.json").read_text().splitlines()]
    assert set(lines[0]) == {"raw_file", "lanes", "h_samples", "run_time"} and any(line["lanes"] for line in lines)
    labels = {}
    for line in (rendered / "label_data_val.json").read_text().splitlines():
        labels[json.loads(line)["raw_file"]] = json.loads(line)
    assert set(labels) == {line["raw_file"] for line in lines}
    sides = [(line, labels[line["raw_file"]]) for line in lines]
    pairs = [[np.array(side["lanes"]).reshape(-1, 56) * 4 for side in both] for both in sides]
    pairs = [(*both, np.array(line["h_samples"]) * 4) for both, line in zip(pairs, lines, strict=True)]
    assert tusimple_score(pairs) == pytest.approx({k: found[k] for k in ("accuracy", "fp", "fn", "f1")}), "scaled x4"
    assert "verdict" not in capsys.readouterr().err


def test_culane_files_scored_again_and_categories(tmp_path, checkpoint, culane_root, capsys):
    found = assert_scored_again(tmp_path, checkpoint, culane_root, "out", "data.split=test.txt")
    assert {"precision@50", "recall@50", "f1@50", "f1@75", "mf1"} <= set(found) and "accuracy" not in found
    assert found["categories"]["test0_normal"]["images"] == 6
    cross = found["categories"]["test7_cross"]
    written = [len((tmp_path / "out" / "driver" / f"{i}.lines.txt").read_text().splitlines()) for i in (6, 7)]
    assert cross == {"images": 2, "fp": sum(written)} and sum(written) > 0
    assert "test7_cross" in capsys.readouterr().out


@pytest.mark.parametrize("metric", ["tusimple", "culane"])
def test_either_metric_on_either_data(tmp_path, checkpoint, culane_root, rendered, metric):
    for number, root in enumerate((culane_root, rendered)):
        found = assert_scored_again(tmp_path, checkpoint, root, f"{number}", "data.split=all", "--metric", metric)
        assert ("accuracy" in found) == (metric == "tusimple")


def test_without_a_cache_the_scores_are_the_same(tmp_path, checkpoint, rendered):
    words = [f"data.root={rendered}", "inference.threshold=0.01", "--checkpoint", str(checkpoint)]
    with_cache = evaluate(tmp_path, *words)
    assert evaluate(tmp_path, *words, "data.cache=false", "data.workers=0") == pytest.approx(with_cache)


def test_labels_as_predictions_are_perfect(tmp_path, culane_root):
    found = evaluate(tmp_path, f"data.root={culane_root}", "data.split=test.txt", "--score", str(culane_root))
    assert found["f1@50"] == found["f1@75"] == found["mf1"] == 1
    assert found["categories"]["test7_cross"] == {"images": 2, "fp": 0}


def test_training_and_evaluating_in_culanes_layout(tmp_path, culane_root):
    settings = [*SMALL, f"data.root={culane_root}", f"data.cache_dir={tmp_path / 'cache'}"]
    assert train_fixed.main([*settings, "train.epochs=1", "train.batch_size=2",
                             f"train.checkpoint_dir={tmp_path / 'run'}"]) == 0
    assert evaluate_fixed.main([*settings, "--checkpoint", str(tmp_path / "run" / "last.pth")]) in (0, 1)


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


@pytest.mark.parametrize(("line", "words"), [
    ('{"raw_file": "RAW", "lanes": [[1, 2]], "run_time": 0}', "lane 1 has 2 points; the label has 56 rows"),
    ('{"raw_file": "RAW", "lanes": 1}', "not a list of at most"),
    ('{"raw_file": "RAW", "lanes": [], "run_time": "fast"}', "run_time holds 'fast'"),
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
    found = evaluate(tmp_path, f"data.root={rendered}", "--score", str(tmp_path / "pred.json"))
    assert found["accuracy"] < 1 and found["fn"] == pytest.approx(1 / len(lines), abs=0.1)


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


def straight(x, y_far, y_near):
    """(1, 6, 2) a vertical curve."""
    return torch.stack((torch.full((6,), float(x)), torch.linspace(y_far, y_near, 6)), 1)[None]


def test_lanes_of_too_few_points_are_not_submitted():
    rows = np.arange(160, 720, 10)
    assert submission.tusimple_lanes(straight(0.5, 0.001, 0.01), rows, (1280, 720), 0.007).shape == (0, 56)
    assert submission.tusimple_lanes(straight(1.5, 0.3, 0.9), rows, (1280, 720), 0.007).shape == (0, 56)
    assert submission.culane_lanes(straight(0.5, 0.5, 0.5), (1640, 590)) == []


def test_no_point_is_written_twice_in_a_row():
    lane, = submission.culane_lanes(straight(0.5, 0.5, 0.5 + 1e-5), (1640, 590))
    assert 2 <= len(lane) < submission.CURVE_POINTS and (np.diff(lane, axis=0) != 0).any(1).all()


def test_curvelanes_is_scored_in_its_own_frame(tmp_path):
    lane = np.float32([[500, 600], [500, 400], [500, 200]])
    sample = Sample(tmp_path, Path("x.lines.json"), "x.jpg", ("valid.txt",))
    assert scores.culane_frame(sample, (2560, 1440)) == ((224, 224), 5)
    shifted = lane + np.float32([20, 0])  # 1.75 px of the 224
    counts = scores.culane_counts([[shifted]] * 2, [sample] * 2, [Label([lane])] * 2, [(2560, 1440), (800, 720)])
    assert counts[:, 0].tolist() == [[1, 0, 0], [0, 1, 1]], "the smaller image makes it the larger step"


def test_culane_frame_of_other_sizes_keeps_the_share_of_the_width(tmp_path):
    sample = Sample(tmp_path, Path("x.lines.txt"), "x.jpg", ("folder",))
    assert scores.culane_frame(sample, (1640, 590)) == ((1640, 590), 30)
    assert scores.culane_frame(sample, (820, 295)) == ((820, 295), 15)


@pytest.mark.skipif(not (DATA / "culane").is_dir(), reason=f"{DATA / 'culane'} is not on this machine")
def test_real_culane_images(tmp_path, checkpoint):
    root = DATA / "culane"
    found = assert_scored_again(tmp_path, checkpoint, root, "out", "data.split=all")
    pairs = []
    for sample in list_samples(root):  # as the official evaluator: file against file
        files = (tmp_path / "out" / sample.name, root / sample.name)
        pairs.append([[np.float32(line.split()).reshape(-1, 2) for line in file.with_suffix(".lines.txt").read_text()
                       .splitlines()] for file in files])
    assert culane_score(pairs)["mf1"] == found["mf1"]


@pytest.mark.skipif(not (DATA / "tusimple").is_dir(), reason=f"{DATA / 'tusimple'} is not on this machine")
def test_real_tusimple_images(tmp_path, checkpoint):
    found = assert_scored_again(tmp_path, checkpoint, DATA / "tusimple", "pred.json", "data.split=clip>=42000")
    lines = [json.loads(line) for line in (tmp_path / "pred.json").read_text().splitlines()]
    labels = map(json.loads, (DATA / "tusimple" / "label_data_0313.json").read_text().splitlines())
    labels = {line["raw_file"]: line for line in labels}
    truth = [labels[line["raw_file"]] for line in lines]
    pairs = [(line["lanes"], t["lanes"], t["h_samples"]) for line, t in zip(lines, truth, strict=True)]
    assert len(lines) == 32
    assert tusimple_score(pairs) == {name: found[name] for name in ("accuracy", "fp", "fn", "f1")}
