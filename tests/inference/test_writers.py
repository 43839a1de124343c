"""What is written of results: JSON lines, a TuSimple submission, overlays and a contact sheet."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from roads import json_lines, write_pictures, write_video

from formats.registry import list_samples, read_label
from formats.tusimple_metric import TuSimpleMetric
from geometry.bezier import sample_curve
from inference.writers import SHEET_IMAGES, sheet_frames
from preprocessing.images import read_image

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_json_has_what_is_printed_and_pixels(run, capsys):
    write_pictures(".", "a.png")
    write_video("drive.avi", 3, (320, 180))
    _, text, _ = run("a.png", "drive.avi", "--json", "a.json", "--threshold", "0.95")
    records = json_lines("a.json")
    assert [(r["image"], r.get("frame")) for r in records] == [("a.png", None), *(("drive.avi", i) for i in (1, 2, 3))]
    assert [r["size"] for r in records] == [[160, 90]] + [[320, 180]] * 3
    printed = [line for line in text if "Lane" in line]
    lanes = [(number, lane, r["size"]) for number, r in enumerate(records, start=1) for lane in r["lanes"]]
    assert len(lanes) == len(printed) > 0
    for line, (number, lane, size) in zip(printed, lanes, strict=True):
        identity = f" id {lane['id']}" if number > 1 else ""  # of the video's frames
        assert line.startswith(f"Sample {number}: Lane {lane['slot']} ({lane['confidence']:.2f}){identity}: P0=(")
        points = re.findall(r"P\d=\(([-.\d]+), ([-.\d]+)\)", line)
        np.testing.assert_allclose(np.array(points, float), lane["control_points"], atol=0.00051)
        curve = sample_curve(torch.tensor(lane["control_points"]), len(lane["points_px"])).numpy() * size
        np.testing.assert_allclose(lane["points_px"], curve, atol=0.02)


def test_json_on_stdout_is_alone_there(run):
    write_pictures(".", "a.png", "b.png")
    _, out, err = run("a.png", "b.png", "--json", "-")
    assert [json.loads(line)["image"] for line in out] == ["a.png", "b.png"]
    assert len(err) == 1 and err[0].startswith("The predictions ")


def test_a_tusimple_submission_is_one_that_can_be_scored(rendered, run):
    run(f"data.root={rendered}", "--tusimple", "below/submission.json")
    samples = [sample for sample in list_samples(rendered) if "label_data_val.json" in sample.lists]
    labels, sizes_px, metric = [read_label(sample) for sample in samples], [(320, 180)] * len(samples), TuSimpleMetric()
    lanes, _ = metric.read_predictions(Path("below/submission.json"), samples, labels, sizes_px)
    assert len(lanes) == 8 and sum(map(len, lanes)) > 0
    assert metric.score(lanes, samples, labels, sizes_px)[0].keys() >= {"accuracy", "f1"}
    rows = [record["h_samples"] for record in json_lines("below/submission.json")]
    assert rows == [label["h_samples"] for label in json_lines(rendered / "label_data_val.json")]


def test_a_submission_has_the_lanes_that_are_reported_alone(run):
    write_pictures(".", "a.png")
    run("a.png", "--json", "a.json", "--tusimple", "submission.json", "--threshold", "0.955")
    (record,), (line,) = json_lines("a.json"), json_lines("submission.json")
    assert 0 < len(line["lanes"]) <= len(record["lanes"]) < 6


def test_frames_of_a_video_have_names_of_their_own_in_a_submission(run):
    write_video("drive.avi", 3, (320, 180))
    run("drive.avi", "--tusimple", "submission.json")
    assert [r["raw_file"] for r in json_lines("submission.json")] == [f"drive.avi/{i}" for i in (1, 2, 3)]


def test_a_submission_for_a_folder_names_images_below_it(run):
    write_pictures("set", "clips/1/20.jpg", "clips/2/20.jpg")
    run("set", "--tusimple", "submission.json")
    records = json_lines("submission.json")
    assert [r["raw_file"] for r in records] == ["clips/1/20.jpg", "clips/2/20.jpg"]
    assert all(len(r["h_samples"]) == 56 and max(r["h_samples"]) < 90 for r in records)


def test_overlays_of_files_with_one_name_do_not_overwrite_each_other(run):
    write_pictures(".", "a/20.jpg", "b/20.jpg", "b/20.png")
    run("a", "b", "--save-images", "out")
    assert sorted(p.name for p in Path("out").iterdir()) == ["00001_20.jpg", "00002_20.jpg", "00003_20.jpg"]
    assert len({path.read_bytes() for path in Path("out").iterdir()}) == 3


def test_what_is_no_file_is_not_replaced_by_one(run):
    write_pictures(".", "a.png")
    run("a.png", "--json", os.devnull)
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize(("total", "frames"), [
    (80, [1, 11, 21, 31, 41, 51, 61, 71]), (3, [1, 2, 3]), (None, [1, 2, 3, 4, 5, 6, 7, 8]), (0, []),
])
def test_a_sheet_shows_eight_frames_evenly_spaced(total, frames):
    assert sheet_frames(total) == frames and len(frames) <= SHEET_IMAGES


def test_a_sheet_has_four_columns(run):
    write_pictures("a", *(f"{i}.png" for i in range(5)))
    run("a", "--sheet", "below/sheet.png")
    assert read_image("below/sheet.png").shape == (2 * 270, 4 * 480, 3)
