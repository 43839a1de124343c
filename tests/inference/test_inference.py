"""Looking at images with a trained model: what is printed, written and drawn, and what is not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT
from roads import json_lines, picture, pictures, video

import inference_fixed
from formats import submission
from formats.registry import list_samples
from geometry.bezier import sample_curve
from geometry.decode import lane_nms
from inference.predictor import LaneDetector
from preprocessing.images import preprocess, read_image
from runtime.checkpoint import input_grid, load_model
from visualization.draw import write_image

PAIR = r"\(-?\d\.\d{3}, -?\d\.\d{3}\)"
LINE = re.compile(rf"Sample \d+: Lane [1-6] \([01]\.\d\d\): P0={PAIR}"
                  + "".join(rf" P{i}={PAIR}" for i in range(1, 6)))
EXACT = ["train.device=cpu", "train.precision=fp32"]

pytestmark = pytest.mark.usefixtures("elsewhere")


# The detector ------------------------------------------------------------------------------------------------


def test_three_lines_of_python_give_lanes(checkpoint):
    write_image(Path("road.jpg"), picture())
    lanes = LaneDetector(checkpoint, device="cpu")(read_image("road.jpg"))
    assert [lane.slot for lane in lanes] == sorted({lane.slot for lane in lanes}) and lanes
    for lane in lanes:
        assert 0.5 <= lane.confidence <= 1
        assert isinstance(lane.points, np.ndarray) and lane.points.shape == (6, 2)
        assert np.all(np.diff(lane.points[:, 1]) > 0) and np.abs(lane.points).max() < 3


def test_the_detector_answers_as_the_network_itself_does(checkpoint):
    images = [picture(seed, *size) for seed, size in enumerate([(160, 96), (333, 77), (90, 160), (1, 1)])]
    found = LaneDetector(checkpoint, "cpu", threshold=0.96, precision="fp32").batch(images)
    model, config, _ = load_model(checkpoint, torch.device("cpu"))
    grid = input_grid(config)
    with torch.inference_mode():
        for i, image in enumerate(images):
            points, logits = model(torch.from_numpy(preprocess(image, grid)).permute(2, 0, 1)[None])
            torch.testing.assert_close(found.points[i:i + 1], points, atol=1e-4, rtol=0)
            torch.testing.assert_close(found.confidence[i:i + 1], logits.sigmoid(), atol=1e-4, rtol=0)
    assert torch.equal(found.keep, lane_nms(found.points, found.confidence, 0.96))
    assert found.keep.any() and not found.keep.all()


@pytest.mark.parametrize("image", [picture()[..., 0], picture() / 255, picture()[:0], np.zeros((9, 9, 4), np.uint8)],
                         ids=["grey", "float", "empty", "rgba"])
def test_what_is_no_rgb_image_is_refused(checkpoint, image):
    with pytest.raises(ValueError, match=r"expected RGB uint8 \(height, width, 3\)"):
        LaneDetector(checkpoint, "cpu")(image)


# What is printed ---------------------------------------------------------------------------------------------


def test_lanes_are_printed_in_their_form(rendered, run):
    status, out, err = run(f"data.root={rendered}", "--threshold", "0")
    lanes = [line for line in out if "Lane" in line]
    assert len(lanes) > 8 and all(LINE.fullmatch(line) for line in lanes), lanes[0]
    assert {int(line.split()[1].rstrip(":")) for line in lanes} == set(range(1, 9))
    slots = [int(line.split()[3]) for line in lanes if line.startswith("Sample 1:")]
    assert slots == sorted(slots)
    assert sum(line.endswith(".jpg") for line in out) == 8
    assert re.fullmatch(r"The predictions differ between the 8 images: .* \d+\.\d px .*", out[-1])
    assert (status, err) == (0, [])


def test_what_is_printed_is_what_the_detector_answers(checkpoint, run):
    pictures("a", "1.png", "2.png", "3.png")
    _, out, _ = run("a", "inference.batch_size=2", "--threshold", "0")
    expected = []
    for number, path in enumerate(sorted(Path("a").iterdir()), start=1):
        expected.append(str(path))
        for lane in LaneDetector(checkpoint, "cpu", 0, "fp32")(read_image(path)):
            points = " ".join(f"P{i}=({x:.3f}, {y:.3f})" for i, (x, y) in enumerate(lane.points))
            expected.append(f"Sample {number}: Lane {lane.slot} ({lane.confidence:.2f}): {points}")

    def numbers(lines):
        return [[float(v) for v in re.findall(r"-?\d\.\d+", line)] for line in lines]

    def words(lines):
        return [re.sub(r"-?\d\.\d+", "", line) for line in lines]

    assert words(out[:-1]) == words(expected)
    for found, wanted in zip(numbers(out[:-1]), numbers(expected), strict=True):
        assert found == pytest.approx(wanted, abs=0.0011)  # a batch sums in another order


def test_no_lane_is_said(run):
    pictures(".", "a.png")
    assert "Sample 1: no lane" in run("a.png", "--threshold", "1")[1]


def test_a_collapsed_model_is_called_that(checkpoint, rendered, capsys):
    payload = torch.load(checkpoint, weights_only=True)
    for name, value in payload["model"].items():
        if name.startswith("trunk.") and name.endswith("weight"):
            value.zero_()  # nothing of the image comes through
    payload["scores"]["steps"] = 1000
    torch.save(payload, "dead.pth")
    assert inference_fixed.main([f"data.root={rendered}", "--checkpoint", "dead.pth", *EXACT]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("The predictions hardly differ between the 8 images: lanes spread by 0.0 px")
    assert "follow 0 % of the way" in last and "verdict: collapsing: the lanes stay where they are" in last


def test_one_image_is_enough_to_see_a_collapse(checkpoint, run, capsys):
    """A new model's answers depend on the image, but its lanes do not follow: no collapse in its first steps only."""
    pictures(".", "a.png")
    assert run("a.png")[0] == 0
    payload = torch.load(checkpoint, weights_only=True)
    payload["model"]["head.columns.weight"].zero_()  # the same column for every image, in the middle
    payload["scores"]["steps"] = 1000
    torch.save(payload, "dead.pth")
    assert inference_fixed.main(["a.png", "--checkpoint", "dead.pth", *EXACT]) == 1
    assert "verdict: collapsing: " in capsys.readouterr().out.splitlines()[-1]


def test_the_same_image_twice_says_nothing_of_collapse(run):
    pictures(".", "a.png")
    status, out, _ = run("a.png", "./a.png")
    assert out[-1].startswith("1 different image(s)") and status == 0


# What is written ---------------------------------------------------------------------------------------------


def test_json_says_what_is_printed_in_pixels_too(run, capsys):
    pictures(".", "a.png")
    video("drive.avi", 3, (320, 180))
    _, text, _ = run("a.png", "drive.avi", "--json", "a.json", "--threshold", "0.95")
    records = json_lines("a.json")
    assert [(r["image"], r.get("frame")) for r in records] == [("a.png", None), *(("drive.avi", i) for i in (1, 2, 3))]
    assert [r["size"] for r in records] == [[160, 90]] + [[320, 180]] * 3
    printed = [line for line in text if "Lane" in line]
    lanes = [(number, lane, r["size"]) for number, r in enumerate(records, start=1) for lane in r["lanes"]]
    assert len(lanes) == len(printed) > 0
    for line, (number, lane, size) in zip(printed, lanes, strict=True):
        assert line.startswith(f"Sample {number}: Lane {lane['slot']} ({lane['confidence']:.2f}): P0=(")
        points = re.findall(r"P\d=\(([-.\d]+), ([-.\d]+)\)", line)
        np.testing.assert_allclose(np.array(points, float), lane["control_points"], atol=0.00051)
        curve = sample_curve(torch.tensor(lane["control_points"]), len(lane["points_px"])).numpy() * size
        np.testing.assert_allclose(lane["points_px"], curve, atol=0.02)


def test_json_on_stdout_is_alone_there(run):
    pictures(".", "a.png", "b.png")
    _, out, err = run("a.png", "b.png", "--json", "-")
    assert [json.loads(line)["image"] for line in out] == ["a.png", "b.png"]
    assert len(err) == 1 and err[0].startswith("The predictions ")


def test_a_tusimple_submission_is_one_that_can_be_scored(rendered, run):
    run(f"data.root={rendered}", "--tusimple", "below/answer.json")
    listed = [e for e in list_samples(rendered) if "label_data_val.json" in e.lists]
    rows = [np.array(line["h_samples"]) for line in json_lines("below/answer.json")]
    lanes, _ = submission.read_tusimple(Path("below/answer.json"), listed, rows)
    assert len(lanes) == 8 and sum(map(len, lanes)) > 0
    labels = json_lines(rendered / "label_data_val.json")
    assert [list(r) for r in rows] == [label["h_samples"] for label in labels]


def test_a_submission_for_a_folder_names_images_below_it(run):
    pictures("set", "clips/1/20.jpg", "clips/2/20.jpg")
    run("set", "--tusimple", "answer.json")
    records = json_lines("answer.json")
    assert [r["raw_file"] for r in records] == ["clips/1/20.jpg", "clips/2/20.jpg"]
    assert all(len(r["h_samples"]) == 56 and max(r["h_samples"]) < 90 for r in records)


def test_overlays_of_files_with_one_name_do_not_overwrite_each_other(run):
    pictures(".", "a/20.jpg", "b/20.jpg", "b/20.png")
    run("a", "b", "--save-images", "out")
    assert sorted(p.name for p in Path("out").iterdir()) == ["00001_20.jpg", "00002_20.jpg", "00003_20.jpg"]
    assert len({path.read_bytes() for path in Path("out").iterdir()}) == 3


def test_what_is_no_file_is_not_replaced_by_one(run):
    pictures(".", "a.png")
    run("a.png", "--json", os.devnull)
    assert not Path(os.devnull).is_file()


# As a process ------------------------------------------------------------------------------------------------


def test_a_reader_that_stops_reading_gets_no_traceback(rendered, checkpoint):
    command = [sys.executable, str(ROOT / "inference_fixed.py"), *[str(rendered)] * 8, "--threshold", "0",
               "--checkpoint", str(checkpoint), *EXACT]  # more than a pipe holds
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        assert process.stdout.readline().endswith(".jpg\n")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
