"""The renderer and the data sets it writes: repeatable, labelled where the paint is, never half done."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import dataset
import synthetic
from config import Config
from renderer import dataset_writer, scene
from renderer.scene import render_scene

WIDTH, HEIGHT = 160, 90  # small, so that the data sets here take seconds


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data set of three shards written in one go by one process."""
    root = tmp_path_factory.mktemp("whole")
    dataset_writer.write_dataset(root, 20, 3, seed=7, width=WIDTH, height=HEIGHT, workers=1)
    return root


def contents(root):
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def complete(root, train=20, val=3, seed=7):
    return dataset_writer.is_complete(root, train, val, seed, WIDTH, HEIGHT)


def labels(root, split):
    return [json.loads(line) for line in (root / f"label_data_{split}.json").read_text().splitlines()]


def test_a_seed_gives_its_scene_and_no_other():
    one, again, other = render_scene([3, 1]), render_scene([3, 1]), render_scene([3, 2])
    assert one.image.shape == (360, 640, 3) and one.image.dtype == np.uint8
    assert np.array_equal(one.image, again.image)
    assert len(one.lanes) == len(again.lanes)
    assert all(np.array_equal(a, b) for a, b in zip(one.lanes, again.lanes, strict=True))
    assert not np.array_equal(one.image, other.image)


def test_labels_lie_in_the_middle_of_paint(monkeypatch):
    """With every line drawn solid and nothing else, each label point halves its row's run of paint."""
    sample_road = scene.sample_road

    def solid_road(*arguments, **keywords):
        road = sample_road(*arguments, **keywords)
        return replace(road, lines=tuple(replace(line, kind="solid") for line in road.lines))

    monkeypatch.setattr(scene, "sample_road", solid_road)
    checked = 0
    for seed in range(40):
        clean = render_scene([5, seed], clean=True)
        grey = cv2.cvtColor(clean.image, cv2.COLOR_RGB2GRAY)
        for points in clean.lanes:
            for x, y in points[int(0.4 * len(points)) :: 7]:  # lines meet at the far end
                bright = np.flatnonzero(grey[int(y)] > 110)  # asphalt is 70, verge 65, paint 180 and more
                runs = np.split(bright, np.flatnonzero(np.diff(bright) > 1) + 1)
                left, right = min(((run[0], run[-1]) for run in runs), key=lambda run: abs(sum(run) / 2 - x))
                if left > 0 and right < 639:
                    assert abs((left + right) / 2 - x) < 1.5 + 0.05 * (right - left), (seed, x, y)
                    checked += 1
    assert checked > 1000


def test_labels_run_from_far_to_near_inside_the_image():
    counts = []
    for seed in range(60):
        lanes = render_scene([9, seed], WIDTH, HEIGHT).lanes
        counts.append(len(lanes))
        for points in lanes:
            assert points.dtype == np.float32 and points.shape[1] == 2
            assert points[:, 0].min() >= 0 and points[:, 0].max() <= WIDTH - 1
            assert points[:, 1].min() >= 0 and points[:, 1].max() <= HEIGHT - 1
            assert points[0, 1] < points[-1, 1]
    assert max(counts) <= 5
    assert {2, 3, 4} <= set(counts)


def test_some_scenes_have_no_lane():
    empty = [not render_scene([2, seed], WIDTH, HEIGHT, 0.3).lanes for seed in range(60)]
    assert 9 <= sum(empty) <= 29  # 18 are meant to be


def test_a_seed_means_the_same_scenes_for_ever():
    """As long as the version of the renderer is the same: x of the lanes' near ends of the default's first scenes."""
    assert dataset_writer.RENDERER_VERSION == 8
    for i, ends in enumerate(([91.6, 563.6], [113.8, 568.8, 636.9], [3.1, 2.5, 41.3, 567.6, 638.1])):
        lanes = dataset_writer._scene(0, "train", i, 640, 360).lanes
        assert [float(points[-1, 0]) for points in lanes] == pytest.approx(ends, abs=0.2)


def test_scenes_of_another_renderer_are_scored_with_a_word(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = Path(dataset.DEFAULT_ROOT)
    dataset_writer.write_dataset(root, 2, 2, seed=0, width=64, height=64, workers=1)
    dataset.split_from_config(Config(), training=False)
    assert capsys.readouterr().err.count("another version") == 0
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps(manifest | {"renderer": 1}))
    dataset.split_from_config(Config(), training=False)
    assert capsys.readouterr().err.count("another version of synthetic.py") == 1


def test_training_and_validation_scenes_come_from_one_distribution(tmp_path, monkeypatch):
    """All scenes are drawn by one call, whose arguments differ in the seed alone."""
    calls = {}

    def render(seed, *arguments, **keywords):
        calls[tuple(seed)] = (arguments, keywords)
        return render_scene(seed, *arguments, **keywords)

    monkeypatch.setattr(dataset_writer, "render_scene", render)
    dataset_writer.write_dataset(tmp_path, 2, 2, seed=7, width=WIDTH, height=HEIGHT, workers=1)
    assert list(calls) == [(7, 0, 0), (7, 0, 1), (7, 1, 0), (7, 1, 1)]
    assert all(call == ((WIDTH, HEIGHT, dataset_writer.EMPTY_SHARE), {}) for call in calls.values())


def test_rows_are_those_of_tusimple():
    assert dataset_writer.h_samples(720) == list(range(160, 720, 10))
    assert dataset_writer.h_samples(360) == list(range(80, 360, 5))
    slanted = np.array([[10.0, 100.0], [50.0, 140.0]], np.float32)  # x = y - 90
    rows = dict(zip(dataset_writer.h_samples(360), dataset_writer.lane_rows(slanted, 360), strict=True))
    assert rows[95] == -2 and rows[100] == 10 and rows[125] == 35 and rows[140] == 50 and rows[145] == -2


def test_the_layout_is_tusimples(whole):
    for split, count in (("train", 20), ("val", 3)):
        assert len(labels(whole, split)) == count
        for label in labels(whole, split):
            image = cv2.imread(str(whole / label["raw_file"]))
            assert image.shape == (HEIGHT, WIDTH, 3)
            assert label["h_samples"] == dataset_writer.h_samples(HEIGHT)
            for xs in label["lanes"]:
                assert len(xs) == len(label["h_samples"])
                assert all(x == -2 or 0 <= x <= WIDTH - 1 for x in xs)
    files = [label["raw_file"] for split in ("train", "val") for label in labels(whole, split)]
    assert len(set(files)) == 23
    assert len({(whole / file).read_bytes() for file in files}) == 23  # splits share no scene
    assert not list(whole.rglob("*.tmp")) and not (whole / "unfinished").exists()


def test_two_processes_write_what_one_does(whole, tmp_path):
    dataset_writer.write_dataset(tmp_path, 20, 3, seed=7, width=WIDTH, height=HEIGHT, workers=2)
    assert contents(tmp_path) == contents(whole)


def test_a_run_cut_short_is_noticed_and_finished(whole, tmp_path, monkeypatch):
    rendered = []

    def render(seed, *size, **kind):
        if len(rendered) == 18:
            raise KeyboardInterrupt
        rendered.append(seed)
        return render_scene(seed, *size, **kind)

    arguments = {"train": 20, "val": 3, "seed": 7, "width": WIDTH, "height": HEIGHT, "workers": 1}
    monkeypatch.setattr(dataset_writer, "render_scene", render)
    with pytest.raises(KeyboardInterrupt):
        dataset_writer.write_dataset(tmp_path, **arguments)
    assert not complete(tmp_path)
    assert not list(tmp_path.glob("label_data_*")) and not (tmp_path / "manifest.json").exists()

    rendered.clear()
    dataset_writer.write_dataset(tmp_path, **arguments)
    assert len(rendered) == 7  # the first shard, 16 of 23 scenes, was kept
    assert complete(tmp_path)
    assert contents(tmp_path) == contents(whole)

    rendered.clear()
    dataset_writer.write_dataset(tmp_path, **arguments)
    assert not rendered


def test_a_missing_image_or_manifest_is_noticed_and_mended(whole, tmp_path):
    for loss in ("clips/synthetic/000021/20.jpg", "manifest.json", "label_data_val.json"):
        dataset_writer.write_dataset(tmp_path, 20, 3, seed=7, width=WIDTH, height=HEIGHT, workers=1)
        (tmp_path / loss).unlink()
        assert not complete(tmp_path)
    dataset_writer.write_dataset(tmp_path, 20, 3, seed=7, width=WIDTH, height=HEIGHT, workers=1)
    assert contents(tmp_path) == contents(whole)


def test_another_request_renders_anew(tmp_path):
    def write(train, seed):
        dataset_writer.write_dataset(tmp_path, train, 1, seed, WIDTH, HEIGHT, workers=1)
        return contents(tmp_path)

    first, reseeded, smaller = write(3, seed=1), write(3, seed=2), write(2, seed=2)
    image = "clips/synthetic/000000/20.jpg"
    assert first[image] != reseeded[image]
    assert reseeded[image] == smaller[image]
    assert len(labels(tmp_path, "train")) == 2
    assert "clips/synthetic/000003/20.jpg" not in smaller  # nothing of the larger set is left
    assert complete(tmp_path, 2, 1, 2) and not complete(tmp_path, 3, 1, 2)


def test_the_script_writes_a_sheet_and_a_data_set(tmp_path, capsys):
    sheet, root = tmp_path / "sheet.jpg", tmp_path / "set"
    counts = ["--train", "2", "--val", "1", "--width", "96", "--height", "64", "--workers", "1"]
    assert synthetic.main(["--root", str(root), "--sheet", str(sheet), *counts]) == 0
    assert cv2.imread(str(sheet)).shape[2] == 3
    assert dataset_writer.is_complete(root, 2, 1, 0, 96, 64)
    assert "2 training" in capsys.readouterr().out


def test_the_script_takes_the_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = "synthetic:\n  train: 2\n  val: 1\n  width: 160\n  height: 96\n  seed: 5\n"
    Path("config.yaml").write_text(settings)
    Path("mine.yaml").write_text(settings.replace("seed: 5", "seed: 6"))
    alone = ["--workers", "1"]
    assert synthetic.main(["--root", "a", *alone]) == 0
    assert dataset_writer.is_complete("a", 2, 1, 5, 160, 96)
    assert synthetic.main(["synthetic.val=2", "--root", "b", "--config", "mine.yaml", "--train", "1", *alone]) == 0
    assert dataset_writer.is_complete("b", 1, 2, 6, 160, 96)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--train", "-1"], 2, "train is -1"),
        (["--width", "10"], 2, "width is 10"),
        (["--height", "100"], 2, "width is 640, height 100; expected at most 5 times"),
        (["--root", "FILE"], 1, "FILE"),
        (["--config", "absent.yaml"], 2, "absent.yaml: no such configuration file"),
        (["synthetic.vall=3"], 2, "did you mean 'synthetic.val'"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, arguments, status, words):
    (tmp_path / "FILE").write_text("not a folder")
    arguments = [str(tmp_path / a / "set") if a == "FILE" else a for a in arguments]
    if "--root" not in arguments:
        arguments += ["--root", str(tmp_path / "set")]
    assert synthetic.main(arguments) == status
    message = capsys.readouterr().err.strip()
    assert words in message and "\n" not in message
