"""synthetic.py: its data set, its sheet, its settings, its errors."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import synthetic
from renderer import dataset_writer
from runtime import cli

SMALL = ["--train", "2", "--val", "1", "--width", "96", "--height", "64", "--workers", "1"]


def test_it_writes_a_sheet_and_a_data_set(tmp_path, capsys):
    sheet, root = tmp_path / "sheet.jpg", tmp_path / "set"
    assert synthetic.main(["--root", str(root), "--sheet", str(sheet), *SMALL]) == 0
    assert cv2.imread(str(sheet)).shape == (32, 48 * synthetic.SHEET_COLUMNS, 3), "two scenes, all that there are"
    assert dataset_writer.is_complete(root, 2, 1, 0, 96, 64)
    assert capsys.readouterr().out == f"{root}: 2 training and 1 validation scenes\n"


def test_the_sheet_shows_scenes_with_their_labels():
    sheet = synthetic.scene_sheet(0, 640, 360)
    scene = dataset_writer.render_split_scene(0, "train", 1, 640, 360)
    tile, plain = sheet[:180, 320:640], cv2.resize(scene.image, (320, 180), interpolation=cv2.INTER_AREA)
    changed = np.abs(tile.astype(int) - plain).max(-1) > 8
    x, y = (np.concatenate(scene.lanes) / 2).astype(int).T
    assert len(scene.lanes) == 3 and changed[y, x].mean() > 0.9 and changed.mean() < 0.1


def test_settings_come_from_the_file_then_from_overrides_then_from_options(tmp_path, monkeypatch):
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
    ("arguments", "message"),
    [
        (["--train", "-1"], "train is -1, expected at least 1"),
        (["--width", "10"], "width is 10, expected at least 64"),
        (["--height", "100"], "width is 640, height 100; expected at most 5 times as wide as high"),
        (["--root", "FILE"], "FILE"),
        (["--config", "absent.yaml"], "absent.yaml: no such configuration file"),
        (["synthetic.vall=3"], "did you mean 'synthetic.val'"),
        (["elsewhere"], "'elsewhere' is not an override"),
        (["--sheet", "sheet.xyz"], "sheet.xyz"),
        (["--drive", "1", "--train", "5"], "--train is not for drives; leave it out"),
        (["--frames", "7"], "--frames is for drives; give --drive N as well"),
    ],
)
def test_errors_are_one_line_and_status_1(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("not a folder")
    arguments = [str(Path(a) / "set") if a == "FILE" else a for a in arguments]
    if "--root" not in arguments:
        arguments += ["--root", "set"]
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: synthetic.main(arguments))
    error = capsys.readouterr().err
    assert stop.value.code == 1
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not Path("set").exists()


def test_an_interrupted_run_tells_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "write_dataset", interrupted)
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: synthetic.main(["--root", str(tmp_path / "set"), *SMALL]))
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted; run again to finish the data set\n"


def test_drives_are_written_and_their_sheet(tmp_path, capsys):
    root, sheet = tmp_path / "drives", tmp_path / "sheet.png"
    assert synthetic.main(["--drive", "2", "--frames", "3", "--width", "160", "--height", "90", "--workers", "1",
                           "--root", str(root), "--sheet", str(sheet)]) == 0
    assert len(list(root.rglob("*.jpg"))) == 6 and sheet.is_file()
    assert f"evaluate_fixed.py data.root={root}" in capsys.readouterr().out


def test_no_drives_are_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="drives is 0, expected at least 1"):
        synthetic.main(["--drive", "0", "--root", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["mine.lines.txt", "mine.json"])
def test_labelled_images_are_not_hidden_by_scenes(tmp_path, name):
    cv2.imwrite(str(tmp_path / "mine.jpg"), np.zeros((9, 9, 3), np.uint8))
    (tmp_path / name).write_text('{"shapes": [], "imagePath": "mine.jpg"}' if name.endswith("json") else "1 8 1 2\n")
    for words in (SMALL, ["--drive", "1", "--frames", "3"]):
        with pytest.raises(ValueError, match=r"holds labelled images in the \w+ layout, which nothing would read"):
            synthetic.main(["--root", str(tmp_path), *words])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.jpg", name]


def test_other_scenes_in_the_default_folder_come_with_the_words_to_train_on_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert synthetic.main(["synthetic.seed=3", *SMALL]) == 0
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line == (
        "train on them with: python train_fixed.py synthetic.train=2 synthetic.val=1 synthetic.seed=3 "
        "synthetic.width=96 synthetic.height=64; without these words others replace them")
    Path("mine.yaml").write_text("synthetic:\n  train: 2\n  val: 1\n  width: 160\n  height: 96\n")
    assert synthetic.main(["--config", "mine.yaml", "--workers", "1"]) == 0
    assert "train_fixed.py synthetic.train=2 synthetic.val=1 synthetic.width=160 synthetic.height=96; without" in (
        capsys.readouterr().out)
