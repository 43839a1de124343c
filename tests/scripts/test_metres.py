"""inference_fixed.py with a camera: metres in text and JSON, mistakes in one line, and nothing without one."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from refusals import refusal
from road_views import LINES, seen
from roads import json_lines, picture, read_video, write_pictures, write_video

import inference_fixed
from config import ConfigError
from inference.predictor import Predictor
from preprocessing.images import read_image

pytestmark = pytest.mark.usefixtures("elsewhere")

POSITION = {"distance_left_m", "distance_right_m", "lateral_offset_m", "lane_width_m", "heading_deg",
            "curvature_1_per_m", "radius_m", "pitch_deg", "pitch_source", "time_to_line_crossing_s", "crossing_line",
            "std"}


@pytest.fixture
def camera():
    Path("camera.yaml").write_text("fov: 65\nheight: 1.4\npitch: 3\n")
    return "camera.yaml"


@pytest.fixture
def road(monkeypatch):
    """The network sees two straight lines of a flat road."""
    detections = seen({2: -1.9, 3: 1.6})
    monkeypatch.setattr(Predictor, "detect", lambda self, pixels: type(detections)(
        *(part.expand(len(pixels), *part.shape) for part in detections)))
    monkeypatch.setattr(Predictor, "sensitivity", lambda self, pixels: 0.8)


def test_metres_are_printed_and_written(run, road, camera):
    write_pictures(".", "a.png", "b.png")
    _, out, _ = run("a.png", "b.png", "--camera", camera, "--json", "lanes.jsonl", "camera.height=1.5")
    assert [line for line in out if "of the middle" in line and line.startswith("Sample 2: ") and "pitch 3" in line]
    first, second = json_lines("lanes.jsonl")
    assert first["position"].keys() == POSITION and first["position"]["pitch_source"] == "given"
    assert second["position"] == first["position"]
    higher = first["position"]["lane_width_m"]
    run("a.png", "--camera", camera, "--json", "lanes.jsonl")
    assert higher / json_lines("lanes.jsonl")[0]["position"]["lane_width_m"] == pytest.approx(1.5 / 1.4, rel=0.02)


def test_the_settings_have_a_camera_as_well(run, road, camera):
    write_pictures(".", "a.png")
    run("a.png", "--camera", camera, "--json", "file.jsonl")
    Path("own.yaml").write_text("camera: {fov: 65, height: 1.4, pitch: 3}\n")
    run("a.png", "--config", "own.yaml", "--json", "settings.jsonl")
    run("a.png", "camera.fov=65", "camera.height=1.4", "camera.pitch=3", "--json", "words.jsonl")
    assert json_lines("file.jsonl") == json_lines("settings.jsonl") == json_lines("words.jsonl")


def test_without_a_camera_nothing_changes(run, camera):
    write_pictures(".", "a.png")
    plain = run("a.png", "--threshold", "0", "--json", "plain.jsonl")
    with_camera = run("a.png", "--threshold", "0", "--json", "metres.jsonl", "--camera", camera)
    (record,), (metres,) = json_lines("plain.jsonl"), json_lines("metres.jsonl")
    assert record.keys() == {"image", "size", "lanes"} and "position" in metres
    assert record["lanes"] == metres["lanes"]
    assert [line for line in with_camera[1] if " position" not in line and ", pitch " not in line] == plain[1]


def test_a_video_warns_of_a_departure(run, monkeypatch, camera):
    moved = iter(0.4 * number / 12.5 for number in range(1000))

    def detect(self, pixels):
        frames = [seen({slot: offset - metres for slot, offset in LINES.items()})
                  for metres in (next(moved) for _ in pixels)]
        return type(frames[0])(*(torch.stack(parts) for parts in zip(*frames, strict=True)))

    monkeypatch.setattr(Predictor, "detect", detect)
    monkeypatch.setattr(Predictor, "sensitivity", lambda self, pixels: 0.8)
    monkeypatch.setattr("roads.picture", lambda seed, *size_px: picture(0, *size_px) + np.uint8(2 * seed))  # no cuts
    write_video("drive.avi", images=15, size_px=(160, 90))
    run("drive.avi", "--camera", camera, "--json", "lanes.jsonl")
    positions = [record["position"] for record in json_lines("lanes.jsonl")]
    assert positions[0]["crossing_line"] is None and positions[-1]["crossing_line"] == "right"
    gap = positions[-1]["distance_right_m"] - 0.9
    assert positions[-1]["time_to_line_crossing_s"] == pytest.approx(gap / 0.4, rel=0.2)
    assert np.diff([position["lateral_offset_m"] for position in positions]).mean() == pytest.approx(0.032, rel=0.1)


@pytest.mark.parametrize(("words", "message"), [
    (["camera.height=150", "camera.fov=60"], "camera.height is 150"), (["camera.fov=60"], "camera.height, metres"),
    (["--camera", "no.yaml"], "no.yaml: no such file"), (["camera.matrix=[1000, 1000, 640, 360]", "camera.height=1.4"],
                                                         "camera.matrix needs camera.size")])
def test_a_mistake_is_one_line_before_any_work(monkeypatch, words, message):
    monkeypatch.setattr(Predictor, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    refusal(lambda: inference_fixed.main(["a.png", *words]), (ConfigError, FileNotFoundError), message)


def test_a_view_from_above_is_beside_images_and_videos(run, road, camera):
    write_pictures(".", "a.png")
    write_video("drive.avi", images=3, size_px=(160, 90))
    run("a.png", "drive.avi", "--camera", camera, "--save-images", "plain")
    run("a.png", "drive.avi", "--camera", camera, "--save-images", "above", "--birds-eye", "--sheet", "sheet.jpg")
    for folder, width in (("plain", 160), ("above", 160 + 44)):
        assert read_image(f"{folder}/00001_a.jpg").shape == (90, width, 3)
        assert read_video(f"{folder}/00002_drive.mp4")[1][0].shape == (90, width, 3)
    assert read_image("sheet.jpg").shape[1] == 4 * 480


def test_a_position_is_drawn_only_with_a_camera(run, road, camera):
    write_pictures(".", "a.png")
    run("a.png", "--save-images", "plain")
    run("a.png", "--save-images", "metres", "--camera", camera)
    difference = cv2.absdiff(read_image("plain/00001_a.jpg"), read_image("metres/00001_a.jpg")).max(2)
    assert difference[:40].max() > 100 and difference[60:].max() < 30


@pytest.mark.parametrize(("words", "message"), [
    (["--save-images", "out"], "--birds-eye needs a camera"),
    (["camera.fov=60", "camera.height=1.4"], "--birds-eye is drawn beside images: give --save-images")])
def test_a_view_from_above_needs_a_camera_and_a_picture(words, message):
    refusal(lambda: inference_fixed.main(["a.png", "--birds-eye", *words]), ValueError, message)


def test_json_stays_json_where_there_is_no_position(run, camera):
    write_pictures(".", "a.png")
    _, out, _ = run("a.png", "--threshold", "1", "--camera", camera, "--json", "-")
    assert json.loads(out[0])["position"] is None and json.loads(out[0])["no_position"] == "no lane"
