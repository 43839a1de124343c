"""Rendered data sets: TuSimple's layout, the same bytes however they are made, never half done."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from paths import ROOT

import dataset
from config import Config
from renderer import dataset_writer
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


def test_a_seed_gives_the_same_scenes_in_every_release():
    """As long as the version of the renderer is the same: x of the lanes' near ends of the default's first scenes."""
    assert dataset_writer.RENDERER_VERSION == 10
    for i, ends in enumerate(([1.9, 190.7, 638.1], [0.2, 107.5, 638.4], [2.5, 166.6, 443.3, 636.3, 635.0])):
        lanes = dataset_writer.render_split_scene(0, "train", i, 640, 360).lanes
        assert [float(points[-1, 0]) for points in lanes] == pytest.approx(ends, abs=0.2)


def test_scenes_of_another_version_are_scored_with_a_warning(tmp_path, monkeypatch, capsys):
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
    rows = dict(zip(dataset_writer.h_samples(360), dataset_writer.lane_to_xs(slanted, 360), strict=True))
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
    assert not list(whole.rglob("*.part*")) and not (whole / "unfinished").exists()


@pytest.mark.slow
@pytest.mark.process
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
    assert len(rendered) == 7  # the first shard, 16 of 23 scenes, is not rendered again
    assert complete(tmp_path)
    assert contents(tmp_path) == contents(whole)

    rendered.clear()
    dataset_writer.write_dataset(tmp_path, **arguments)
    assert not rendered


def test_a_missing_file_is_noticed_and_mended(whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for loss in ("clips/synthetic/000021/20.jpg", "label_data_val.json"):
        (tmp_path / loss).unlink()
        assert not complete(tmp_path)
        dataset_writer.write_dataset(tmp_path, 20, 3, seed=7, width=WIDTH, height=HEIGHT, workers=1)
        assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("name", ["label_data_val.json", "manifest.json", "unfinished/notes.txt",
                                  "clips/synthetic/a.jpg", "drives.json"])
def test_files_of_somebody_else_are_left_alone(tmp_path, name):
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"of": "another program"}')
    with pytest.raises(ValueError, match=r"mine: holds another data set \(.*\); move it away, or render into a folder"):
        dataset_writer.write_dataset(tmp_path / "mine", 1, 1, 0, WIDTH, HEIGHT, workers=1)
    assert path.read_text() == '{"of": "another program"}' and sorted(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("moment", range(4))
def test_a_folder_stays_known_as_rendered_whenever_its_change_is_cut_short(whole, tmp_path, monkeypatch, moment):
    """A process may be killed before each of the files that go, and before the request is written."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    arguments = {"train": 2, "val": 1, "width": WIDTH, "height": HEIGHT, "workers": 1}
    calls = iter(range(99))

    def killed_at(function):
        def call(*words, **options):
            if next(calls) == moment:
                raise KeyboardInterrupt
            return function(*words, **options)
        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed_at(Path.unlink))
        patch.setattr(shutil, "rmtree", killed_at(shutil.rmtree))
        patch.setattr(dataset_writer, "write_text", killed_at(dataset_writer.write_text))
        with pytest.raises(KeyboardInterrupt):
            dataset_writer.write_dataset(tmp_path, seed=3, **arguments)
    dataset_writer.write_dataset(tmp_path, seed=4, **arguments)
    assert complete(tmp_path, 2, 1, 4)


def test_another_request_renders_anew(tmp_path, capsys):
    def write(train, seed):
        dataset_writer.write_dataset(tmp_path, train, 1, seed, WIDTH, HEIGHT, workers=1)
        return contents(tmp_path)

    first, reseeded = write(3, seed=1), write(3, seed=2)
    assert "rendered anew, in place of what is there (seed 1 -> 2)" in capsys.readouterr().err
    smaller = write(2, seed=2)
    image = "clips/synthetic/000000/20.jpg"
    assert first[image] != reseeded[image]
    assert reseeded[image] == smaller[image]
    assert len(labels(tmp_path, "train")) == 2
    assert "clips/synthetic/000003/20.jpg" not in smaller  # nothing of the larger set is left
    assert complete(tmp_path, 2, 1, 2) and not complete(tmp_path, 3, 1, 2)


@pytest.mark.slow
@pytest.mark.process
def test_the_renderer_does_not_import_torch():
    code = "import sys, renderer.dataset_writer; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
@pytest.mark.process
def test_processes_that_render_do_not_import_the_script_that_started_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, pathlib\n"
        "from renderer import dataset_writer\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "(root / f'imported-{os.getpid()}').touch()\n"
        "if __name__ == '__main__':\n"
        "    dataset_writer.write_dataset(root, 20, 3, 7, 96, 64, workers=2)\n"
        "    assert __file__ == sys.argv[0]\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, script, tmp_path], env=environment, check=True)
    assert len(list(tmp_path.glob("imported-*"))) == 1
    assert dataset_writer.is_complete(tmp_path, 20, 3, 7, 96, 64)


def test_a_picture_keeps_its_colors():
    """A yellow line must not become a blue one."""
    image = np.full((16, 16, 3), (250, 200, 20), np.uint8)
    written = cv2.imdecode(np.frombuffer(dataset_writer.encode_jpeg(image, 95), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(written[..., ::-1].astype(int) - image).max() < 6
