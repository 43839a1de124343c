"""The benchmark that puts data sets side by side: its figures on images whose figures are known."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import looks

from formats.base import Entry

PAINT = "a line's brightest less the road's brightest"
SHOWN = "points of a line where that is over 12, %"


def road(folder, name, paint=200, road=100, gaps=False):
    """An image of 640x360 of an even road with two vertical lines of paint, 4 px wide, from row 120 to the bottom."""
    image = np.full((360, 640, 3), road, np.uint8)
    image[:120] = (0, 100, 255)
    on = np.arange(120, 360)
    if gaps:
        on = on[(on // 24) % 2 == 0]  # half of each line
    for x in (160, 480):
        image[np.ix_(on, np.arange(x - 2, x + 2))] = paint
    cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])
    (folder / f"{name}.lines.txt").write_text("160 360 160 240 160 120\n480 360 480 240 480 120\n")
    return Entry(folder / f"{name}.png", folder / f"{name}.lines.txt", name, ())


def test_an_even_road_with_bright_lines(tmp_path):
    found = looks.figures(road(tmp_path, "a"))
    assert found["brightness of the road beside lines"] == pytest.approx(100)
    assert found[PAINT] == pytest.approx(100)
    assert found[SHOWN] == 100
    assert found["its roughness (mean deviation)"] == pytest.approx(0, abs=0.1)
    assert found["its red less its blue"] == 0
    assert found["lanes"] == 2 and found["farthest from straight, px of 1280"] == pytest.approx(0, abs=0.01)
    assert found["a lane begins at, % of the height"] == pytest.approx(100 / 3)
    assert found["own lane at the bottom, % of the width"] == pytest.approx(50)
    sky = 0.587 * 100 + 0.114 * 255  # luminance by ITU-R BT.601
    assert found["brightness of its upper quarter"] == pytest.approx(sky, abs=1)


def test_broken_and_faint_lines_show_as_such(tmp_path):
    broken = looks.figures(road(tmp_path, "broken", gaps=True))[SHOWN]
    faint = looks.figures(road(tmp_path, "faint", paint=105))
    assert 35 < broken < 65
    assert faint[SHOWN] == 0
    assert faint[PAINT] == pytest.approx(5)


def test_a_rough_road_without_paint_has_none(tmp_path):
    entry = road(tmp_path, "rough", paint=100)
    noise = np.random.default_rng(0).normal(0, 12, (360, 640, 1))
    cv2.imwrite(str(entry.image), (cv2.imread(str(entry.image)) + noise).clip(0, 255).astype(np.uint8))
    found = looks.figures(entry)
    assert found["its roughness (mean deviation)"] == pytest.approx(12 * np.sqrt(2 / np.pi), abs=1)
    assert abs(found[PAINT]) < 4 and found[SHOWN] < 15


def test_more_lanes_than_a_model_has_slots_for_are_counted(tmp_path):
    entry = road(tmp_path, "wide")
    entry.label.write_text("".join(f"{x} 360 {x} 240 {x} 120\n" for x in range(340, 640, 40)))
    assert looks.figures(entry)["lanes"] == 8


def test_an_image_without_lanes_has_no_figures_of_them(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((360, 640, 3), 15, np.uint8))
    (tmp_path / "a.lines.txt").write_text("")
    found = looks.figures(Entry(tmp_path / "a.png", tmp_path / "a.lines.txt", "a", ()))
    assert found["lanes"] == 0 and found["nearly black pixels, %"] == 100
    assert "own lane at the bottom, % of the width" not in found and PAINT not in found


def test_images_without_lanes_count_where_they_have_a_figure(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((360, 640, 3), np.uint8))
    (tmp_path / "a.lines.txt").write_text("")
    road(tmp_path, "b")
    assert looks.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| lanes | 0.2, 1.0, 1.8 |" in lines and f"| {PAINT} | 100.0, 100.0, 100.0 |" in lines


def test_roots_are_columns_and_rows_of_the_sheet(tmp_path, capsys):
    for name, count in (("few", 2), ("many", 7)):
        (tmp_path / name).mkdir()
        for i in range(count):
            road(tmp_path / name, f"{i}", paint=100 + 20 * (i + 1))
    sheet = tmp_path / "sheet.png"
    assert looks.main([str(tmp_path / "few"), str(tmp_path / "many"), "--sheet", str(sheet)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"| {tmp_path / 'few'} (2) | {tmp_path / 'many'} (7) |")
    assert f"| {PAINT} | 22.0, 30.0, 38.0 | 32.0, 80.0, 128.0 |" in lines
    assert cv2.imread(str(sheet)).shape == (2 * 180, 5 * 320, 3)


def test_a_root_without_lanes_has_dashes(tmp_path, capsys):
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        entry = road(tmp_path / name, "a")
    entry.label.write_text("")
    assert looks.main([str(tmp_path / "with"), str(tmp_path / "without")]) == 0
    assert f"| {PAINT} | 100.0, 100.0, 100.0 | – |" in capsys.readouterr().out.splitlines()


def test_a_sheet_that_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.jpg or \.png"):
        looks.main([str(tmp_path), "--sheet", "sheet.tiff"])


def test_no_folder_is_an_error():
    with pytest.raises(ValueError, match="at least one folder"):
        looks.main([])
