"""A run of inference_fixed.py: what is printed, the verdict of its last line, and how it ends."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT
from roads import json_lines, write_pictures, write_video

import inference_fixed
from geometry.bezier import CONTROL_POINTS
from inference.predictor import Predictor
from preprocessing.images import read_image
from visualization.draw import COLORS, draw_lanes

PAIR = r"\(-?\d\.\d{3}, -?\d\.\d{3}\)"
LINE = re.compile(rf"Sample \d+: Lane [1-6] \([01]\.\d\d\): P0={PAIR}"
                  + "".join(rf" P{i}={PAIR}" for i in range(1, CONTROL_POINTS)))
EXACT = ["train.device=cpu", "train.precision=fp32"]

pytestmark = pytest.mark.usefixtures("elsewhere")


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


def test_what_is_printed_is_what_the_predictor_gives(checkpoint, run):
    write_pictures("a", "1.png", "2.png", "3.png")
    _, out, _ = run("a", "inference.batch_size=2", "--threshold", "0")
    expected, predictor = [], Predictor.load(checkpoint, "cpu", 0, "fp32")
    for number, path in enumerate(sorted(Path("a").iterdir()), start=1):
        expected.append(str(path))
        for slot, confidence, points in predictor(read_image(path)).lanes():
            controls = " ".join(f"P{i}=({x:.3f}, {y:.3f})" for i, (x, y) in enumerate(points))
            expected.append(f"Sample {number}: Lane {slot} ({confidence:.2f}): {controls}")

    def numbers(lines):
        return [[float(v) for v in re.findall(r"-?\d\.\d+", line)] for line in lines]

    def words(lines):
        return [re.sub(r"-?\d\.\d+", "", line) for line in lines]

    assert words(out[:-1]) == words(expected)
    assert len(expected) > 3
    for printed, values in zip(numbers(out[:-1]), numbers(expected), strict=True):
        assert printed == pytest.approx(values, abs=0.0011)  # a batch sums in another order


def test_an_image_without_lanes_has_a_line(run):
    write_pictures(".", "a.png")
    assert "Sample 1: no lane" in run("a.png", "--threshold", "1")[1]


# The last line -----------------------------------------------------------------------------------------------


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


def test_one_image_is_enough_to_detect_a_collapse(checkpoint, run, capsys):
    """A new model's output depends on the image, but its lanes do not follow: no collapse in its first steps only."""
    write_pictures(".", "a.png")
    assert run("a.png")[0] == 0
    payload = torch.load(checkpoint, weights_only=True)
    payload["model"]["head.columns.weight"].zero_()  # the same column for every image, in the middle
    payload["scores"]["steps"] = 1000
    torch.save(payload, "dead.pth")
    assert inference_fixed.main(["a.png", "--checkpoint", "dead.pth", *EXACT]) == 1
    assert "verdict: collapsing: " in capsys.readouterr().out.splitlines()[-1]


def test_the_same_image_twice_counts_once(run):
    write_pictures(".", "a.png")
    status, out, _ = run("a.png", "./a.png")
    assert out[-1].startswith("One image alone: whether predictions differ shows from two on") and status == 0


# Its end -----------------------------------------------------------------------------------------------------


def test_an_interrupted_run_leaves_nothing_half_written(run, monkeypatch):
    write_video("drive.avi", 30)
    calls, detect = [], Predictor.detect

    def interrupted(self, pixels):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return detect(self, pixels)

    monkeypatch.setattr(Predictor, "detect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("drive.avi", "--save-images", "out", "--json", "a.json", "--tusimple", "b.json", "--sheet", "c.png")
    assert len(calls) == 3 and list(Path("out").iterdir()) == []
    assert [path.name for path in Path().iterdir() if path.is_file()] == ["drive.avi"]


def test_threads_are_given_back(run):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        write_pictures(".", "a.png")
        run("a.png")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.process
def test_a_reader_that_stops_reading_gets_no_traceback(rendered, checkpoint):
    command = [sys.executable, str(ROOT / "inference_fixed.py"), *[str(rendered / "clips")] * 8, "--threshold", "0",
               "--checkpoint", str(checkpoint), *EXACT]  # more than a pipe holds
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        assert process.stdout.readline().endswith(".jpg\n")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


# Videos ------------------------------------------------------------------------------------------------------


def test_lanes_of_a_video_are_tracked_unless_it_is_told_not_to(run):
    write_video("drive.avi", 6)
    write_pictures(".", "a.png")
    words = ("a.png", "drive.avi", "--threshold", "0.9", "--json")
    run(*words, "tracked.json")
    run(*words, "plain.json", "--no-track")
    tracked, plain = json_lines("tracked.json"), json_lines("plain.json")
    assert tracked[0] == plain[0] and not any("id" in lane for lane in plain[1]["lanes"])
    ids = [lane["id"] for lane in tracked[1]["lanes"]]
    assert ids == sorted(set(ids)) and min(ids) > 0
    assert tracked[3]["lanes"] != plain[3]["lanes"]


def test_the_colors_of_an_overlay_follow_identities():
    """Not the slots; six colors serve all identities."""
    points = torch.stack((torch.full((2, 6), 0.5), torch.linspace(0.4, 1, 6).expand(2, 6)), -1)
    points[1, :, 0] = 0.8
    drawn = [draw_lanes(np.zeros((360, 640, 3), np.uint8), points, torch.ones(2), torch.ones(2, dtype=bool), ids)
             for ids in ((1, 2), (7, 8), (2, 1))]
    places = [[np.median(np.nonzero((image[:250] == color).all(-1))[1]) for color in COLORS[:2]] for image in drawn]
    assert places[0] == places[1] == places[2][::-1] and places[0][0] < places[0][1]
